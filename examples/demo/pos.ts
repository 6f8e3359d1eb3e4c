import type { Database, Statement } from 'better-sqlite3'
import Big from 'big.js'
import { netAmount, type Sale } from './sales.ts'
import { TILL_SCHEMA } from './tables.ts'

const VAT_RATE = '0.20'
const HALF_UP = 1

/** The POS application: plain SQL into its own tables. It knows nothing of tillsync, and tillsync is not asked. */
export class PointOfSale {
  readonly sell: (sale: Sale) => void
  private readonly database: Database
  private readonly receipt: Statement
  private readonly line: Statement
  private readonly tender: Statement

  constructor(database: Database) {
    database.pragma('journal_mode = WAL')
    database.pragma('synchronous = FULL')
    database.exec(TILL_SCHEMA)
    this.database = database
    this.receipt = database.prepare(`
      INSERT INTO receipts (receipt_no, series, business_date, posted_at, customer_no, status, net_amount, vat_amount, gross_amount)
      VALUES (?, ?, ?, ?, ?, 'posted', ?, ?, ?)`)
    this.line = database.prepare(`
      INSERT INTO receipt_lines (receipt_id, line_no, item_no, description, quantity, unit_price, vat_rate, net_amount, vat_amount, gross_amount)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
    this.tender = database.prepare('INSERT INTO tender_lines (receipt_id, line_no, tender, amount) VALUES (?, 1, ?, ?)')
    this.sell = database.transaction((sale: Sale) => this.write(sale))
  }

  /** The receipts that were committed: where a till that was killed goes on. */
  committed(): ReadonlySet<string> {
    return new Set(this.database.prepare('SELECT receipt_no FROM receipts').pluck().all() as string[])
  }

  count(): number {
    return this.database.prepare('SELECT count(*) FROM receipts').pluck().get() as number
  }

  private write(sale: Sale): void {
    const amounts = sale.lines.map((line) => amountsOf(netAmount(line)))
    const total = amountsOf(sum(amounts.map(({ net }) => net)), sum(amounts.map(({ vat }) => vat)))
    const header = [sale.receiptNo, sale.series, sale.soldAt.slice(0, 10), sale.soldAt, sale.customerNo, ...textOf(total)]
    const { lastInsertRowid: id } = this.receipt.run(header)
    for (const [n, line] of sale.lines.entries()) {
      const amount = textOf(amounts[n] ?? total)
      this.line.run(id, n + 1, line.itemNo, line.description, line.quantity, line.unitPrice, VAT_RATE, ...amount)
    }
    this.tender.run(id, sale.customerNo === null ? 'cash' : 'card', total.gross.toFixed())
  }
}

interface Amounts {
  readonly net: Big
  readonly vat: Big
  readonly gross: Big
}

function amountsOf(net: Big, vat = net.times(VAT_RATE).round(2, HALF_UP)): Amounts {
  return { net, vat, gross: net.plus(vat) }
}

function textOf({ net, vat, gross }: Amounts): [string, string, string] {
  return [net.toFixed(), vat.toFixed(), gross.toFixed()]
}

function sum(amounts: readonly Big[]): Big {
  return amounts.reduce((total, amount) => total.plus(amount), new Big(0))
}
