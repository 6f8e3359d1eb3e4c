import type { Database } from 'better-sqlite3'
import type { OrderLine } from './messages.ts'

/** Where the cashier orders from the warehouse: plain SQL, as the rest of the POS. What head office writes into an order is none of its business. */
export class OrderPad {
  readonly place: (lines: readonly OrderLine[], day: string) => void
  readonly change: (line: OrderLine) => void

  constructor(database: Database) {
    const order = database.prepare('INSERT INTO internal_orders (ordered_on) VALUES (?)')
    const line = database.prepare('INSERT INTO internal_order_lines (order_id, line_no, item_no, quantity) VALUES (?, ?, ?, ?)')
    const change = database.prepare('UPDATE internal_order_lines SET quantity = :quantity WHERE line_no = :lineNo AND item_no = :itemNo')
    this.place = database.transaction((lines: readonly OrderLine[], day: string) => {
      const { lastInsertRowid: id } = order.run(day)
      for (const { lineNo, itemNo, quantity } of lines) line.run(id, lineNo, itemNo, quantity)
    })
    this.change = (changed) => void change.run(changed)
  }
}
