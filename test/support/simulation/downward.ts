import { Break } from '../differential/break.ts'
import type { Machine } from './machine.ts'
import type { Seat, World } from './world.ts'

/** What a till holds of each table that head office publishes, and what its filter selects there. */
const SELECTED = {
  items: `SELECT item_no, name, price FROM items WHERE item_no IN (SELECT item_no FROM assortments WHERE register = $1)`,
  item_barcodes: `SELECT barcode, item_no FROM item_barcodes WHERE item_no IN (SELECT item_no FROM assortments WHERE register = $1)`,
  offers: `SELECT id, price_group, price FROM offers
    WHERE price_group = (SELECT attributes::json ->> 'group' FROM sync_registers WHERE register = $1)`,
}

/** Each till that subscribes has what its filter selects, and nothing else; nothing waits there. */
export async function checkSubscribed({ office }: World, { name }: Seat, { host, replica }: Machine): Promise<void> {
  for (const [table, sql] of Object.entries(SELECTED)) {
    const { rows } = await office.pool.query(sql, [name.register])
    const held = await host.query<Readonly<Record<string, unknown>>>(`SELECT * FROM ${table}`)
    if (textOf(held) !== textOf(rows)) throw new Break('subscribed', `${table}: the till has ${textOf(held)}, central ${textOf(rows)}`)
  }
  const { subscriptions, unapplied, problems } = await replica.status()
  const isComplete = subscriptions.length === 3 && subscriptions.every((table) => table.isComplete && table.waiting === 0)
  if (!isComplete || unapplied.length > 0 || problems.length > 0)
    throw new Break('incomplete', JSON.stringify({ subscriptions, unapplied, problems }))
}

/** Each order of a till is at head office, with what both sides write of it; no other is, but what a former database of the till had sent. */
export async function checkOrders({ office }: World, { name, isReset }: Seat, { host }: Machine): Promise<void> {
  for (const [table, columns] of Object.entries(ORDERS)) {
    const { rows } = await office.pool.query(`SELECT ${columns} FROM ${table} WHERE register = $1`, [name.register])
    const held = await host.query<Readonly<Record<string, unknown>>>(`SELECT ${columns} FROM ${table}`)
    const [here, there] = [JSON.parse(textOf(held)), JSON.parse(textOf(rows))] as string[][]
    const isAlike = isReset ? here?.every((row) => there?.some((other) => String(other) === String(row))) : String(here) === String(there)
    if (!isAlike) throw new Break('orders', `${table}: the till has ${textOf(held)}, central ${textOf(rows)}`)
  }
}

const ORDERS = { internal_orders: 'id, note, status', internal_order_lines: 'id, order_id, quantity, confirmed' }

function textOf(rows: readonly Readonly<Record<string, unknown>>[]): string {
  return JSON.stringify(rows.map((row) => Object.values(row).map(String)).sort())
}
