import { TillsyncError } from '../errors.ts'
import { type ProofOptions, readRegisters, type WhichToAudit } from './audit-book.ts'
import { kindOf } from './mapping.ts'
import { type Reconciliation, reconcile } from './reconcile.ts'
import { dateOf } from './sums.ts'

/** Which day of which registers is to be reconciled. */
export interface WhichDay extends WhichToAudit {
  /** ISO 8601, `2026-11-21`. */
  readonly businessDate: string
}

const HINT = "central.reconcile({ location: 'BA01', register: 'POS3', businessDate: '2026-11-21' })"

/** Reconciles what was posted. */
export class ReconcileBook {
  private readonly options: ProofOptions

  constructor(options: ProofOptions) {
    this.options = options
  }

  async reconcile(which: WhichDay): Promise<Reconciliation> {
    const { location, register, signal } = readRegisters(which, ['businessDate'])
    const { businessDate } = which
    if (businessDate === undefined || dateOf(businessDate) !== businessDate) {
      throw new TillsyncError('ERR_OPTION', `Expected \`businessDate\` to be an ISO 8601 date, '2026-11-21', got ${kindOf(businessDate)}`, {
        hint: HINT,
        context: { option: 'businessDate' },
      })
    }
    const { database, handlers, ready } = this.options
    await ready()
    return database.read(() => reconcile(database, { location, register, businessDate, handlers, signal }), { signal })
  }
}
