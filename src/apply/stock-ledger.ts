import { type Insert, insertAll, type Work } from '../work.ts'
import { MOVEMENT_MEASURES } from './movements.ts'
import type { Ledger, Posting } from './postings.ts'
import type { StockLevels } from './stock-levels.ts'
import { STOCK_MOVEMENTS } from './tables.ts'

/** Of which register and epoch the documents are, and where levels are collected. */
interface DeliveryContext {
  readonly origin: { readonly registerId: number; readonly epochNo: number }
  readonly levels: StockLevels
}

/** The library's own ledger of stock: a row for each posting, and the levels, which are written at the end of the batch. */
export const STOCK_LEDGER = {
  name: STOCK_MOVEMENTS.name,
  measures: MOVEMENT_MEASURES,
  insertOf,
  *deliver(postings: readonly Posting[], context: DeliveryContext): Work<void> {
    yield* insertAll([insertOf(postings, context)])
  },
} satisfies Ledger

function insertOf(postings: readonly Posting[], { origin, levels }: DeliveryContext): Insert {
  const rows = postings.map(({ dimension, values, table, recordId, incarnation, revision, entryNo }) => {
    const { item, location, businessDate, document, customer, ...others } = dimension
    const further = Object.keys(others).length === 0 ? null : JSON.stringify(others)
    const [quantity, amount] = values as [string, string]
    levels.add(item as string, location as string, quantity)
    const source = [origin.registerId, table, recordId, incarnation, revision, origin.epochNo, entryNo]
    return [item, location, businessDate ?? null, document ?? null, customer ?? null, further, quantity, amount, ...source]
  })
  return { table: STOCK_MOVEMENTS, rows }
}
