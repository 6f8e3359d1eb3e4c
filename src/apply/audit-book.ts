import type { RegisterName } from '../model.ts'
import { checkName, checkNames, known } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { type Audit, audit } from './audit.ts'
import type { HandlersByTable } from './handler.ts'
import type { Numbering } from './numbering.ts'

/** Which registers are to be audited. */
export interface WhichToAudit {
  /** Where they stand. */
  readonly location: string
  /** One of them. Default: all, revoked ones too. */
  readonly register?: string
  readonly signal?: AbortSignal
}

/** What the book needs of central. */
export interface ProofOptions {
  readonly database: ApplyingDatabase
  readonly handlers: HandlersByTable
  ready(): Promise<void>
}

/** Proves what was received. */
export class AuditBook {
  private readonly options: ProofOptions
  private readonly numbering: readonly Numbering[]

  constructor(options: ProofOptions, numbering: readonly Numbering[]) {
    this.options = options
    this.numbering = numbering
  }

  async audit(which: WhichToAudit): Promise<Audit> {
    const { location, register, signal } = readRegisters(which, [])
    const { database, handlers, ready } = this.options
    await ready()
    return database.read(() => audit(database, { location, register, numbering: this.numbering, handlers, signal }), { signal })
  }
}

/** @throws ERR_OPTION */
export function readRegisters(
  which: WhichToAudit,
  others: readonly string[],
): Pick<RegisterName, 'location'> & { readonly register: string | undefined; readonly signal: AbortSignal | undefined } {
  known('which', which, ['location', 'register', 'signal', ...others])
  const { location, register, signal } = which
  checkName('location', location)
  checkNames({ register })
  return { location, register, signal }
}
