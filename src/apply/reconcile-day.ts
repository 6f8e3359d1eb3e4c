import { asTillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import type { AppliedDocument } from './document-set.ts'
import { Differences, type DifferingDocument, linesOf } from './reconcile-differences.ts'
import { measuresOf, type ReconciledDocument } from './reconcile-page.ts'
import type { ReconcilePlan } from './reconcile-plan.ts'
import { Balance, touches, type Unequal } from './reconcile-sums.ts'
import type { Dimension } from './sums.ts'

/** A document by its name. */
export type Named = Pick<ReconciledDocument, 'life' | 'origin'>

/** What of a document differs, beside its name. */
type Found = Pick<DifferingDocument, 'why'> & Partial<Pick<DifferingDocument, 'ledger' | 'waits' | 'quarantineId' | 'error'>>

/** The day of some registers that is reconciled, and what was found. */
export class ReconciledDay {
  readonly database: ApplyingDatabase
  readonly plan: ReconcilePlan
  readonly businessDate: string
  readonly registers: ReadonlyMap<number, RegisterName>
  readonly differences = new Differences()
  /** By warehouse, item, VAT and customer: what receipts bring, and what was posted. */
  readonly receipts = new Balance()
  readonly closings = new Balance()
  /** By ledger, warehouse, item and customer: what documents want, and what was posted. */
  readonly wanted = new Balance()
  readonly posted = new Balance()

  constructor(database: ApplyingDatabase, plan: ReconcilePlan, businessDate: string, registers: ReadonlyMap<number, RegisterName>) {
    this.database = database
    this.plan = plan
    this.businessDate = businessDate
    this.registers = registers
  }

  readonly isOn = (dimension: Dimension): boolean => dimension.businessDate === this.businessDate

  differs({ life, origin }: Named, found: Found, lines: readonly Unequal[]): void {
    const { table, recordId, incarnation } = life
    const { location, register } = origin
    const measures = measuresOf(found.ledger ?? '')
    this.differences.add({ location, register, table, recordId, incarnation, ...found, lines: linesOf(lines, measures) })
  }

  /** Names a document of which nobody can say what it should have posted, where something of it is of the day. */
  cannotSay(document: ReconciledDocument, ledger: string, thrown: unknown): void {
    const { standing, moved } = document
    const { all } = document.postedTo(ledger)
    const isOfDay = touches(all, this.isOn) || touches(moved, this.isOn) || namesDay(standing.document, this.businessDate)
    if (!isOfDay) return
    if (standing.document === undefined) this.differs(document, { why: 'missing', ledger }, [])
    else this.unmapped(document, ledger, thrown)
  }

  unmapped(document: Named, ledger: string, thrown: unknown): void {
    this.differs(document, { why: 'unmapped', ledger, error: asTillsyncError(thrown, 'ERR_HANDLER', 'The function threw').code }, [])
  }
}

/** Whether the root record of a document names a day: of one of which nothing else can be said. */
export function namesDay(document: AppliedDocument | undefined, businessDate: string): boolean {
  return document?.entries[0]?.record?.includes(businessDate) ?? false
}
