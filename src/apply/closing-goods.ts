import { negate } from '../decimal.ts'
import { insertAll, type Work } from '../work.ts'
import type { OpenClosing } from './closing-settlement.ts'
import type { WantedClosing } from './closing-state.ts'
import { POSTED_CLOSINGS } from './closing-tables.ts'
import { CLOSING_MEASURES } from './closings.ts'
import type { FinishContext } from './finish.ts'
import type { ApplyContext, Subscribed } from './handler.ts'
import { MOVEMENT_MEASURES } from './movements.ts'
import { deliveredOf, type Ledger, nameOf, type Posted, type PostedBy, type PostedDocument, postedToEach } from './postings.ts'
import { STOCK_LEDGER } from './stock-ledger.ts'
import { type Dimension, differences, NO_SUMS, type Sums, type SumsByDimension, sumsToJson, Totals, total } from './sums.ts'
import { POSTINGS, STOCK_MOVEMENTS } from './tables.ts'

/** Closings are posted when everything that came with them is applied, see `settleClosings`. */
export const CLOSINGS_LEDGER: Ledger = { name: POSTED_CLOSINGS.name, measures: CLOSING_MEASURES, *deliver() {} }

/** Whether the lines of a table's closings move goods. 'elsewhere': another handler of the table says what its documents move. */
export type MovesGoods = 'yes' | 'no' | 'elsewhere'

export function movesGoods(table: string, moveStock: boolean, subscribed: Subscribed): MovesGoods {
  if (moveStock) return 'yes'
  return subscribed.get(table)?.some(({ movesStock }) => movesStock === STOCK_LEDGER.name) ? 'elsewhere' : 'no'
}

/** What a closing is still to move, and the how manieth time that is. */
export interface Goods {
  readonly revision: number
  readonly sums: readonly Sums[]
}

/**
 * What its posted lines should have moved, less what was moved for it. So `moveStock` may be switched on and off: goods move once.
 *
 * @throws ERR_VALUE where a sum is no quantity any more
 */
export function goodsToMove(moves: MovesGoods, posted: SumsByDimension, before: Posted | undefined): Goods {
  const revision = (before?.revision ?? 0) + 1
  if (moves === 'elsewhere') return { revision, sums: [] }
  return { revision, sums: differences(moves === 'yes' ? movementsOf(posted) : NO_SUMS, deliveredOf(before)) }
}

/** What was sold leaves the warehouse. */
function movementsOf(sums: SumsByDimension): SumsByDimension {
  const totals = new Totals()
  for (const { dimension, values } of sums.values()) {
    const { vatCode: _code, vatRate: _rate, item, location, ...header } = dimension
    const [quantity, , , net] = values as [string, string, string, string]
    totals.add({ item, location, ...header } as Dimension, [negate(quantity), net])
  }
  return totals.sums([], MOVEMENT_MEASURES)
}

/** What was posted of closings, and what was moved for them. */
export function* postedAndMoved(
  closings: readonly PostedDocument[],
  context: PostedBy,
): Work<{ readonly posted: ReadonlyMap<string, Posted>; readonly moved: ReadonlyMap<string, Posted> }> {
  const [posted, moved] = yield* postedToEach(closings, [CLOSINGS_LEDGER, STOCK_LEDGER], context)
  return { posted: posted as ReadonlyMap<string, Posted>, moved: moved as ReadonlyMap<string, Posted> }
}

/** Of closings that are kept as they are to be, those that have moved other goods than they should have: `moveStock` is another one since. */
export function* movedOtherwise(
  all: readonly WantedClosing[],
  changed: ReadonlySet<WantedClosing>,
  movesOf: (table: string) => MovesGoods,
  context: ApplyContext,
): Work<ReadonlySet<WantedClosing>> {
  const kept = all.filter((one) => !changed.has(one) && movesOf(one.document.table) !== 'elsewhere')
  const { posted, moved } = yield* postedAndMoved(
    kept.map(({ document }) => document),
    context,
  )
  const isOther = ({ document }: WantedClosing): boolean => {
    const name = nameOf(document)
    try {
      return goodsToMove(movesOf(document.table), deliveredOf(posted.get(name)), moved.get(name)).sums.length > 0
    } catch {
      // What they should move is no quantity: when it is settled, it says so.
      return true
    }
  }
  return new Set(kept.filter(isOther))
}

/** Moves goods, and remembers what was moved. */
export function* moveGoods(
  all: readonly { readonly closing: OpenClosing; readonly goods: Goods }[],
  { registerId, levels }: FinishContext,
): Work<void> {
  const moving = all.filter(({ goods }) => goods.sums.length > 0)
  const rows = moving.map(({ closing: { table, recordId, incarnation, epochNo, entryNo }, goods: { revision, sums } }) => {
    const postings = sumsToJson(sums, STOCK_LEDGER.measures)
    return [registerId, table, recordId, incarnation, STOCK_LEDGER.name, revision, true, epochNo, entryNo, postings]
  })
  const movements = moving.flatMap(({ closing: { table, recordId, incarnation, epochNo, entryNo }, goods: { revision, sums } }) => {
    const postings = sums.map((one) => ({ ...one, table, recordId, incarnation, revision, entryNo }))
    return STOCK_LEDGER.insertOf(postings, { levels, origin: { registerId, epochNo } }).rows
  })
  yield* insertAll([
    { table: POSTINGS, rows },
    { table: STOCK_MOVEMENTS, rows: movements },
  ])
}

/** What of a closing went into its ledger, once these are added. */
export function deliveredWith(before: Posted | undefined, sums: readonly Sums[]): SumsByDimension {
  return total([...deliveredOf(before).values(), ...sums])
}
