import type { RegisterName } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { pause, type Work } from '../work.ts'
import { registersAt, throwIfAborted } from './audit.ts'
import { CLOSING_MEASURES } from './closings.ts'
import { Cursor } from './cursor.ts'
import type { HandlersByTable } from './handler.ts'
import { beginningOf, type CandidateRow, candidates } from './reconcile-candidates.ts'
import { reconcileClosing } from './reconcile-closings.ts'
import { ReconciledDay } from './reconcile-day.ts'
import type { DifferingDocument } from './reconcile-differences.ts'
import { reconcileLedger, reconcileMovements } from './reconcile-movements.ts'
import { type ReconciledDocument, readPage } from './reconcile-page.ts'
import { planOf } from './reconcile-plan.ts'
import { reconcileWaiting } from './reconcile-quarantine.ts'
import { reconcileUnclosed } from './reconcile-receipts.ts'
import { Summed } from './reconcile-summed.ts'
import { type Balance, touches } from './reconcile-sums.ts'
import type { Dimension, SumsByDimension } from './sums.ts'
import { STOCK_MOVEMENTS } from './tables.ts'
import type { WantsMovements } from './wants.ts'

/** Decimal texts: what was sold less what came back, and what of it came back. */
export interface ReconciledSums {
  readonly quantity: string
  readonly returnQuantity: string
  readonly discountAmount: string
  readonly netAmount: string
  readonly vatAmount: string
  readonly grossAmount: string
}

/** What was sold of an item on the day, to one customer or to anonymous ones, by VAT. */
export interface ReconciledItem {
  /** The warehouse. */
  readonly location: string
  readonly item: string
  readonly vatCode: string | null
  readonly vatRate: string | null
  /** Null: anonymous customers. */
  readonly customer: string | null
  /** What the receipts bring that are closed on the day, or are of the day and not closed; null where nobody says how to read receipts. */
  readonly receipts: ReconciledSums | null
  /** What was posted. */
  readonly closings: ReconciledSums
}

/** What of an item moved on the day. */
export interface ReconciledMovement {
  /** `stock_movements`, or the host's own by its name. */
  readonly ledger: string
  readonly location: string
  readonly item: string
  /** Null: anonymous customers. */
  readonly customer: string | null
  /** What the documents should have moved. */
  readonly wanted: { readonly quantity: string; readonly amount: string }
  /** What the ledger has; of the host's own, what was delivered to it. */
  readonly posted: { readonly quantity: string; readonly amount: string }
}

export interface Reconciliation {
  /** Whether there is no difference. */
  readonly clean: boolean
  readonly location: string
  /** Undefined: all of the location. */
  readonly register: string | undefined
  readonly businessDate: string
  /** Receipts and closing lines, by warehouse, item, VAT and customer. */
  readonly items: readonly ReconciledItem[]
  /** Movements, by ledger, warehouse, item and customer. */
  readonly movements: readonly ReconciledMovement[]
  /** Documents that cause a difference; at most 1,000. */
  readonly differences: readonly DifferingDocument[]
  /** How many there are. */
  readonly differing: number
}

export interface WhatToReconcile {
  readonly location: string
  readonly register: string | undefined
  readonly businessDate: string
  readonly handlers: HandlersByTable
  readonly signal: AbortSignal | undefined
}

/** Documents that are read at once. */
const PAGE = 200

/** Reconciles a day, inside the caller's snapshot. @throws ERR_REGISTER, ERR_OPTION where no handler posts anything, ERR_ABORTED */
export function* reconcile(database: ApplyingDatabase, what: WhatToReconcile): Work<Reconciliation> {
  const { location, register, businessDate, handlers } = what
  const plan = planOf(handlers)
  const known = yield* registersAt(database, what)
  const registers = new Map<number, RegisterName>(known.map((one) => [one.register_id, { location: one.location, register: one.register }]))
  const day = new ReconciledDay(database, plan, businessDate, registers)
  yield* new Reconciler(day, what).run()
  const { differences } = day
  return {
    clean: differences.total === 0,
    location,
    register,
    businessDate,
    items: itemsOf(day),
    movements: movementsOf(day),
    differences: differences.listed,
    differing: differences.total,
  }
}

class Reconciler {
  private readonly day: ReconciledDay
  private readonly what: WhatToReconcile
  /** By table of the closings. */
  private readonly summed: ReadonlyMap<string, Summed>

  constructor(day: ReconciledDay, what: WhatToReconcile) {
    this.day = day
    this.what = what
    this.summed = new Map([...day.plan.compared].map(([table, compares]) => [table, new Summed(day, compares)]))
  }

  /** Closings first: which receipts came behind them is to be known. */
  *run(): Work<void> {
    const { day } = this
    const registerIds = [...day.registers.keys()]
    const behind = yield* beginningOf(day.database, registerIds, day.businessDate)
    for (const closings of day.plan.closingTables.length > 0 ? [true, false] : [false]) {
      throwIfAborted(this.what.signal)
      const cursor = new Cursor<CandidateRow>('sync_candidates', PAGE)
      yield* cursor.open(candidates(day.database, day.plan, { registerIds, businessDate: day.businessDate, behind, closings }))
      for (;;) {
        const rows = yield* cursor.next()
        if (rows.length === 0) break
        const documents = yield* readPage(day.database, rows, day.registers)
        yield* closings ? this.closings(documents) : this.others(documents)
        yield* reconcileWaiting(day, documents)
        throwIfAborted(this.what.signal)
        yield* pause()
      }
      yield* cursor.close()
    }
    for (const summed of this.summed.values()) summed.compare()
  }

  private *closings(documents: readonly ReconciledDocument[]): Work<void> {
    const { day } = this
    for (const document of documents) {
      const { table } = document.life
      reconcileMovements(day, document, this.movementsOf(table))
      const wants = day.plan.closings.get(table)
      if (wants === undefined) continue
      const closing = yield* reconcileClosing(day, document, wants, this.removalsOf(table, wants))
      if (closing !== undefined) this.summed.get(table)?.addClosing(closing)
    }
  }

  private *others(documents: readonly ReconciledDocument[]): Work<void> {
    const { day } = this
    const byTable = new Map<string, { document: ReconciledDocument; isOfDay: boolean }[]>()
    for (const document of documents) {
      const { table } = document.life
      const wanted = reconcileMovements(day, document, this.movementsOf(table))
      if (day.plan.hasStock) reconcileLedger(day, document, document.postedTo(STOCK_MOVEMENTS.name).delivered)
      for (const summed of this.summed.values()) if (summed.table === table) summed.addReceipt(document, wanted)
      byTable.set(table, [...(byTable.get(table) ?? []), { document, isOfDay: isOfDay(wanted, day) }])
    }
    for (const [table, all] of byTable) {
      const receipts = day.plan.computed.get(table)
      if (receipts !== undefined) yield* reconcileUnclosed(day, receipts, all)
    }
  }

  private movementsOf(table: string): readonly { readonly wants: WantsMovements; readonly removals: 'ignore' | 'apply' | undefined }[] {
    return (this.day.plan.movements.get(table) ?? []).map((wants) => ({ wants, removals: this.removalsOf(table, wants) }))
  }

  private removalsOf(table: string, wants: unknown): 'ignore' | 'apply' | undefined {
    return this.what.handlers.get(table)?.find((handler) => handler.wants === wants)?.removals
  }
}

function isOfDay(wanted: ReadonlyMap<string, SumsByDimension>, day: ReconciledDay): boolean {
  return [...wanted.values()].some((sums) => touches(sums, day.isOn))
}

function itemsOf({ receipts, closings, plan }: ReconciledDay): readonly ReconciledItem[] {
  const isRead = [...plan.closings.values()].some((wants) => wants.receipts !== undefined)
  return pairsOf(receipts, closings, CLOSING_MEASURES).map(({ dimension, a, b }) => {
    const { location, item, vatCode, vatRate, customer } = dimension as Record<string, string>
    const key = { location: location ?? '', item: item ?? '', vatCode: vatCode ?? null, vatRate: vatRate ?? null, customer: customer ?? null }
    return { ...key, receipts: isRead ? (a as unknown as ReconciledSums) : null, closings: b as unknown as ReconciledSums }
  })
}

function movementsOf({ wanted, posted }: ReconciledDay): readonly ReconciledMovement[] {
  return pairsOf(wanted, posted, ['quantity', 'amount']).map(({ dimension, a, b }) => {
    const { ledger, location, item, customer } = dimension as Record<string, string>
    const key = { ledger: ledger ?? '', location: location ?? '', item: item ?? '', customer: customer ?? null }
    return { ...key, wanted: a as ReconciledMovement['wanted'], posted: b as ReconciledMovement['posted'] }
  })
}

/** Both sides by dimension, in its order; where both are nothing there is none. */
function pairsOf(
  a: Balance,
  b: Balance,
  measures: readonly string[],
): readonly { readonly dimension: Dimension; readonly a: Readonly<Record<string, string>>; readonly b: Readonly<Record<string, string>> }[] {
  const [left, right] = [a.byDimension, b.byDimension]
  const byMeasure = (sums: SumsByDimension, name: string) =>
    Object.fromEntries(measures.map((measure, n) => [measure, sums.get(name)?.values[n] ?? '0']))
  const names = [...new Map([...left, ...right]).values()].toSorted((x, y) => (x.name < y.name ? -1 : 1))
  return names.flatMap(({ name, dimension }) => {
    const pair = { dimension, a: byMeasure(left, name), b: byMeasure(right, name) }
    return [...Object.values(pair.a), ...Object.values(pair.b)].some((value) => value !== '0') ? [pair] : []
  })
}
