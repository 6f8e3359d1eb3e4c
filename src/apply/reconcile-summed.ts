import { POSTED_CLOSINGS } from './closing-tables.ts'
import type { ReconciledClosing } from './reconcile-closings.ts'
import type { ReconciledDay } from './reconcile-day.ts'
import type { ReconciledDocument } from './reconcile-page.ts'
import type { Compares } from './reconcile-plan.ts'
import { located } from './reconcile-receipts.ts'
import { type Addends, Balance, byItem, reduced, unequal } from './reconcile-sums.ts'
import { NO_SUMS, type SumsByDimension } from './sums.ts'

/** A receipt with what it brings. */
interface Brought {
  readonly document: ReconciledDocument
  readonly lines: Addends
}

/** Receipts that are kept in memory because they came behind the day's last closing. */
const MOST_LATE = 10_000

/** The day's closings of one register that the till has made itself, beside the receipts that they should sum up. */
class OfRegister {
  readonly closings: ReconciledClosing[] = []
  readonly receipts = new Balance()
  readonly late: Brought[] = []

  /** Whether it came behind the last of the closings. */
  isLate({ standing: { epochNo, entryNo } }: ReconciledDocument): boolean {
    return this.closings.every(
      ({ document: { standing } }) => standing.epochNo < epochNo || (standing.epochNo === epochNo && standing.entryNo < entryNo),
    )
  }
}

/** Compares closings of the till's own with their receipts, when all of both are known. */
export class Summed {
  private readonly day: ReconciledDay
  private readonly compares: Compares
  private readonly registers = new Map<number, OfRegister>()
  /** Where movements name no customer, nothing is said of them. */
  private namesCustomers = false

  constructor(day: ReconciledDay, compares: Compares) {
    this.day = day
    this.compares = compares
  }

  /** The table of the receipts. */
  get table(): string {
    return this.compares.by === 'lines' ? this.compares.receipts.table : this.compares.table
  }

  addClosing(closing: ReconciledClosing): void {
    this.of(closing.document).closings.push(closing)
  }

  /** @param wanted what it should move, by ledger, where that is known */
  addReceipt(document: ReconciledDocument, wanted: ReadonlyMap<string, SumsByDimension>): void {
    const lines = this.linesOf(document, wanted)
    if (lines.length === 0) return
    const own = this.of(document)
    own.receipts.addAll(lines)
    if (own.isLate(document) && own.late.length < MOST_LATE) own.late.push({ document, lines })
  }

  compare(): void {
    for (const own of this.registers.values()) this.compareOne(own)
  }

  private compareOne(own: OfRegister): void {
    const { day } = this
    const closed = new Balance()
    for (const { wanted } of own.closings) closed.addAll(this.kept(this.compares.by === 'lines' ? byItem(wanted) : quantities(wanted)))
    const receipts = new Balance()
    receipts.addAll(this.kept([...own.receipts.byDimension.values()]))
    const differing = unequal(receipts.byDimension, closed.byDimension)
    if (differing.length === 0) return
    const names = new Set(differing.map(({ dimension }) => JSON.stringify(dimension)))
    const late = own.late.flatMap(({ document, lines }) => {
      const all = this.kept(lines).filter(({ dimension }) => names.has(JSON.stringify(dimension)))
      return all.length === 0 ? [] : [{ document, lines: all }]
    })
    for (const { document, lines } of late)
      day.differs(document, { why: own.closings.length === 0 ? 'unclosed' : 'late', ledger: POSTED_CLOSINGS.name }, unequal(asSums(lines), NO_SUMS))
    if (late.length > 0) return
    for (const { document } of own.closings) day.differs(document, { why: 'unequal', ledger: POSTED_CLOSINGS.name }, differing)
  }

  private linesOf(document: ReconciledDocument, wanted: ReadonlyMap<string, SumsByDimension>): Addends {
    const { day, compares } = this
    if (compares.by === 'movements') {
      const moved = [...(wanted.get(compares.ledger)?.values() ?? [])].filter(({ dimension }) => day.isOn(dimension))
      this.namesCustomers ||= moved.some(({ dimension }) => dimension.customer !== undefined)
      return moved.map(({ dimension, values }) => ({
        dimension: reduced(dimension, ['location', 'item', 'customer']),
        values: [turned(values[0] as string)],
      }))
    }
    const { receipts } = compares
    const { standing, origin } = document
    if (standing.document === undefined || (receipts.removals === 'apply' && standing.isRemoved)) return []
    if (receipts.dateOf(standing.document) !== day.businessDate) return []
    try {
      const lines = byItem(located(receipts.lines(standing.document.again(), origin), origin.location))
      day.receipts.addAll(lines)
      return lines
    } catch (thrown) {
      day.unmapped(document, POSTED_CLOSINGS.name, thrown)
      return []
    }
  }

  /** By movements quantities are compared, by customers only where those are named. */
  private kept(lines: Addends): Addends {
    if (this.compares.by === 'lines' || this.namesCustomers) return lines
    return lines.map(({ dimension, values }) => ({ dimension: reduced(dimension, ['location', 'item']), values }))
  }

  private of({ life: { registerId } }: ReconciledDocument): OfRegister {
    const own = this.registers.get(registerId) ?? new OfRegister()
    this.registers.set(registerId, own)
    return own
  }
}

function quantities(lines: Addends): Addends {
  return lines.map(({ dimension, values }) => ({ dimension: reduced(dimension, ['location', 'item', 'customer']), values: [values[0] as string] }))
}

function turned(value: string): string {
  return value === '0' ? value : value.startsWith('-') ? value.slice(1) : `-${value}`
}

function asSums(lines: Addends): SumsByDimension {
  const balance = new Balance()
  balance.addAll(lines)
  return balance.byDimension
}
