import { grandTotal } from '../decimal.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { send, type Work } from '../work.ts'
import { STOCK_LEVELS } from './tables.ts'

/**
 * Changes of stock collected over a batch and written last, once, in key order: two batches that touch the same articles
 * wait for each other there, shortly, and can't deadlock.
 */
export class StockLevels {
  private readonly changes = new Map<string, Map<string, string[]>>()

  add(item: string, location: string, quantity: string): void {
    const items = this.changes.get(location) ?? new Map<string, string[]>()
    if (items.size === 0) this.changes.set(location, items)
    const quantities = items.get(item)
    if (quantities === undefined) items.set(item, [quantity])
    else quantities.push(quantity)
  }

  /** What was collected apart. */
  addAll(other: StockLevels): void {
    for (const [location, items] of other.changes) for (const [item, quantities] of items) for (const one of quantities) this.add(item, location, one)
  }

  *write(database: ApplyingDatabase): Work<void> {
    const changes = [...this.changes]
      .flatMap(([location, items]) => [...items].map(([item, quantities]) => ({ item, location, quantity: grandTotal(quantities) })))
      .filter((change) => change.quantity !== '0')
    if (changes.length === 0) return
    yield* send({
      sql: `INSERT INTO ${database.qualify(STOCK_LEVELS.name)} AS l (item_no, location, quantity)
            SELECT * FROM unnest($1::text[], $2::text[], $3::numeric[]) AS c(item_no, location, quantity) ORDER BY c.item_no COLLATE "C", c.location COLLATE "C"
            ON CONFLICT (item_no, location) DO UPDATE SET quantity = l.quantity + excluded.quantity`,
      parameters: [changes.map((c) => c.item), changes.map((c) => c.location), changes.map((c) => c.quantity)],
      keepsPlan: true,
    })
  }
}
