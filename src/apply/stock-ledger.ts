import { insert } from '../ports.ts'
import { MOVEMENT_MEASURES } from './movements.ts'
import type { Ledger } from './postings.ts'
import { STOCK_MOVEMENTS } from './tables.ts'

/** The library's own ledger of stock: a row for each posting, and the levels, which are written at the end of the batch. */
export const STOCK_LEDGER: Ledger = {
  name: STOCK_MOVEMENTS.name,
  measures: MOVEMENT_MEASURES,
  *deliver(postings, { origin, levels }) {
    const rows = postings.map(({ dimension, values, table, recordId, incarnation, revision, entryNo }) => {
      const { item, location, businessDate, document, customer, ...others } = dimension
      const further = Object.keys(others).length === 0 ? null : JSON.stringify(others)
      const [quantity, amount] = values as [string, string]
      levels.add(item as string, location as string, quantity)
      const source = [origin.registerId, table, recordId, incarnation, revision, origin.epochNo, entryNo]
      return [item, location, businessDate ?? null, document ?? null, customer ?? null, further, quantity, amount, ...source]
    })
    yield* insert(STOCK_MOVEMENTS, rows)
  },
}
