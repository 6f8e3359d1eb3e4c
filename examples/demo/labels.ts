import type { Database } from 'better-sqlite3'
import type { Notice } from '../../src/index.ts'
import type { Label } from './messages.ts'

/** The shelf labels to print: of each item that a notice is about, with the price that counts on the day. One that is gone has none. */
export function labelsOf(database: Database, notices: readonly Notice[], day: string): readonly Label[] {
  const item = database.prepare(`
    SELECT item_no AS itemNo, description,
           coalesce((SELECT unit_price FROM price_list_lines l WHERE l.item_no = i.item_no AND :day BETWEEN valid_from AND valid_to), unit_price) AS unitPrice
    FROM items i WHERE item_no = :itemNo`)
  const items = new Set(notices.filter(({ table }) => table !== 'internal_orders').map(({ recordId }) => recordId.at(-1)))
  return [...items].map((itemNo) => item.get({ itemNo, day }) as Label | undefined).filter((label) => label !== undefined)
}
