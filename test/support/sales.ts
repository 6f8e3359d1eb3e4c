import type { Database } from 'better-sqlite3'
import Big from 'big.js'
import type { Random } from './random.ts'

export interface Line {
  readonly item: string
  readonly quantity: string
  readonly amount: string
}

const ITEMS = Array.from({ length: 12 }, (_, n) => `40063813${String(n).padStart(5, '0')}`)
const TENDERS = ['cash', 'card', 'voucher']

export function randomLine(random: Random): Line {
  const weighed = random.chance(0.2)
  const quantity = weighed ? new Big(random.int(1, 4_000)).div(1_000) : new Big(random.chance(0.1) ? -random.int(1, 3) : random.int(1, 9))
  const price = new Big(random.int(1, 9_999)).div(100)
  return { item: random.pick(ITEMS), quantity: quantity.toFixed(), amount: quantity.times(price).round(2).toFixed() }
}

/** The POS application: plain SQL, one transaction a sale. */
export class Cashier {
  private readonly db: Database
  private readonly location: string

  constructor(db: Database, location: string) {
    this.db = db
    this.location = location
  }

  /** Returns the receipt's id. */
  sell(
    receiptNo: string,
    lines: readonly Line[],
    { status = 'posted', customer = null as string | null, process = null as number | null } = {},
  ): number {
    return this.db
      .transaction(() => {
        const total = lines.reduce((sum, line) => sum.plus(line.amount), new Big(0)).toFixed()
        const { lastInsertRowid } = this.db
          .prepare(
            `INSERT INTO receipts (process_id, receipt_no, location, business_date, posted_at, customer_no, status, net_amount, cashier_pin)
             VALUES (?, ?, ?, '2026-11-21', '2026-11-21T09:30:00Z', ?, ?, ?, '1234')`,
          )
          .run(process, receiptNo, this.location, customer, status, total)
        const id = Number(lastInsertRowid)
        for (const line of lines) this.addLine(id, line)
        this.db.prepare('INSERT INTO tender_lines (receipt_id, tender, amount) VALUES (?, ?, ?)').run(id, 'cash', total)
        return id
      })
      .immediate()
  }

  addLine(receiptId: number, { item, quantity, amount }: Line): number {
    const { lastInsertRowid } = this.db
      .prepare('INSERT INTO receipt_lines (receipt_id, item_no, quantity, net_amount) VALUES (?, ?, ?, ?)')
      .run(receiptId, item, quantity, amount)
    return Number(lastInsertRowid)
  }

  sellAnything(random: Random, receiptNo: string): number {
    const lines = Array.from({ length: random.int(1, 6) }, () => randomLine(random))
    const status = random.chance(0.1) ? 'open' : 'posted'
    return this.sell(receiptNo, lines, { status, customer: random.chance(0.3) ? `C${random.int(1, 5)}` : null })
  }

  /** What cashiers do to a receipt that stands there already. */
  changeSomething(random: Random): void {
    const ids = this.db.prepare('SELECT id FROM receipts').pluck().all() as number[]
    if (ids.length === 0) return
    const id = random.pick(ids)
    this.db
      .transaction(() => {
        const line = this.db.prepare('SELECT id FROM receipt_lines WHERE receipt_id = ? LIMIT 1').pluck().get(id) as number | undefined
        switch (random.int(0, 5)) {
          case 0:
            return void this.db.prepare("UPDATE receipts SET status = 'voided' WHERE id = ?").run(id)
          case 1:
            return void this.db.prepare("UPDATE receipts SET status = 'posted', customer_no = ? WHERE id = ?").run(`C${random.int(1, 5)}`, id)
          case 2:
            return void this.addLine(id, randomLine(random))
          case 3:
            return void this.db
              .prepare('UPDATE receipt_lines SET quantity = ?, net_amount = ? WHERE id = ?')
              .run(`${random.int(1, 20)}`, '7.77', line)
          case 4:
            return void this.db.prepare('DELETE FROM receipt_lines WHERE id = ?').run(line)
          default:
            return void this.db.prepare('UPDATE tender_lines SET tender = ? WHERE receipt_id = ?').run(random.pick(TENDERS), id)
        }
      })
      .immediate()
  }
}
