import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import { checkName, known } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { type Audit, audit } from './audit.ts'
import type { HandlersByTable } from './handler.ts'
import { kindOf } from './mapping.ts'
import type { Numbering } from './numbering.ts'
import { isPostable } from './sums.ts'

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
    const { location, register, signal } = readRegisters(which, [], "central.audit({ location: 'BA01', register: 'POS3' })")
    const { database, handlers, ready } = this.options
    await ready()
    return database.read(() => audit(database, { location, register, numbering: this.numbering, handlers, signal }), { signal })
  }
}

/** @throws ERR_OPTION */
export function readRegisters(
  which: WhichToAudit,
  others: readonly string[],
  hint: string,
): Pick<RegisterName, 'location'> & { readonly register: string | undefined; readonly signal: AbortSignal | undefined } {
  if (typeof which !== 'object' || which === null) {
    throw new TillsyncError('ERR_OPTION', `Expected which registers, as an object with \`location\`, got ${kindOf(which)}`, { hint })
  }
  known('which', which, ['location', 'register', 'signal', ...others])
  const { location, register, signal } = which
  for (const [option, name] of Object.entries({ location, ...(register !== undefined && { register }) })) {
    checkName(option, name)
    if (!isPostable(name)) throw new TillsyncError('ERR_OPTION', `\`${option}\` holds a character that is none`, { hint, context: { option } })
  }
  if (signal !== undefined && !(signal instanceof AbortSignal))
    throw new TillsyncError('ERR_OPTION', `Expected \`signal\` to be an AbortSignal, got ${kindOf(signal)}`, { hint, context: { option: 'signal' } })
  return { location, register, signal }
}
