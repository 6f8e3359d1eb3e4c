import type { Database, Statement } from 'better-sqlite3'
import Big from 'big.js'
import { netAmount, type Sale } from './sales.ts'
import type { Correction } from './story.ts'
import { TILL_SCHEMA } from './tables.ts'

const VAT_RATE = '0.20'
const HALF_UP = 1

/** How a sale ends: 'open': the customer has not paid yet; 'wrong total': there is a bug in the POS. */
export type Outcome = 'posted' | 'open' | 'wrong total'

/** The POS application: plain SQL into its own tables. It knows nothing of tillsync, and tillsync is not asked. */
export class PointOfSale {
  readonly sell: (sale: Sale, outcome: Outcome) => void
  /** Sums up the receipts since the last closing: says by their numbers which ones. */
  readonly close: () => void
  readonly correct: (correction: Correction) => void
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
      INSERT INTO receipts (receipt_no, series, number, business_date, posted_at, customer_no, status, net_amount, vat_amount, gross_amount)
      SELECT :receiptNo, :series, coalesce(max(number), 0) + 1, :date, :soldAt, :customerNo, :status, :net, :vat, :gross
      FROM receipts WHERE series = :series`)
    this.line = database.prepare(`
      INSERT INTO receipt_lines (receipt_id, line_no, item_no, description, quantity, unit_price, vat_rate, net_amount, vat_amount, gross_amount)
      VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
    this.tender = database.prepare('INSERT INTO tender_lines (receipt_id, line_no, tender, amount) VALUES (?, 1, ?, ?)')
    this.sell = database.transaction((sale: Sale, outcome: Outcome) => this.write(sale, outcome))
    this.close = database.transaction(() => this.writeClosing())
    this.correct = database.transaction((correction: Correction) => this.rewrite(correction))
  }

  /** The receipts that were committed: where a till that was killed goes on. */
  committed(): ReadonlySet<string> {
    return new Set(this.database.prepare('SELECT receipt_no FROM receipts').pluck().all() as string[])
  }

  count(): number {
    return this.database.prepare('SELECT count(*) FROM receipts').pluck().get() as number
  }

  takePayment(receiptNo: string): void {
    this.database.prepare(`UPDATE receipts SET status = 'posted' WHERE receipt_no = ?`).run(receiptNo)
  }

  /** Puts the right total into the header. */
  mend(receiptNo: string): void {
    this.database
      .prepare('UPDATE receipts SET gross_amount = (SELECT amount FROM tender_lines WHERE receipt_id = receipts.id) WHERE receipt_no = ?')
      .run(receiptNo)
  }

  private write(sale: Sale, outcome: Outcome): void {
    const amounts = sale.lines.map((line) => amountsOf(netAmount(line)))
    const total = amountsOf(sum(amounts.map(({ net }) => net)), sum(amounts.map(({ vat }) => vat)))
    const { receiptNo, series, soldAt, customerNo } = sale
    const header = outcome === 'wrong total' ? { ...total, gross: total.gross.plus(1) } : total
    const { lastInsertRowid: id } = this.receipt.run({
      ...{ receiptNo, series, soldAt, customerNo },
      date: soldAt.slice(0, 10),
      status: outcome === 'open' ? 'open' : 'posted',
      ...textOf(header),
    })
    for (const [n, line] of sale.lines.entries()) {
      const { net, vat, gross } = textOf(amounts[n] ?? total)
      this.line.run(id, n + 1, line.itemNo, line.description, line.quantity, line.unitPrice, VAT_RATE, net, vat, gross)
    }
    this.tender.run(id, sale.customerNo === null ? 'cash' : 'card', total.gross.toFixed())
  }

  private writeClosing(): void {
    const { lastInsertRowid: closingNo } = this.database
      .prepare('INSERT INTO plu_closings (business_date) SELECT max(business_date) FROM receipts')
      .run()
    this.database
      .prepare(
        `INSERT INTO plu_closing_ranges (closing_no, series, first_no, last_no)
         SELECT ?, series, min(number), max(number) FROM receipts r
         WHERE number > coalesce((SELECT max(last_no) FROM plu_closing_ranges c WHERE c.series = r.series), 0) GROUP BY series`,
      )
      .run(closingNo)
  }

  private rewrite({ receiptNo, lineNo, quantity }: Correction): void {
    const { id } = this.database.prepare('SELECT id FROM receipts WHERE receipt_no = ?').get(receiptNo) as { id: number }
    const price = this.database.prepare('SELECT unit_price FROM receipt_lines WHERE receipt_id = ? AND line_no = ?').pluck().get(id, lineNo) as string
    const { net, vat, gross } = textOf(amountsOf(netAmount({ quantity, unitPrice: price })))
    this.database
      .prepare('UPDATE receipt_lines SET quantity = ?, net_amount = ?, vat_amount = ?, gross_amount = ? WHERE receipt_id = ? AND line_no = ?')
      .run(quantity, net, vat, gross, id, lineNo)
    const lines = this.database.prepare('SELECT net_amount AS net, vat_amount AS vat FROM receipt_lines WHERE receipt_id = ?').all(id)
    const total = textOf(amountsOf(sum(lines.map((line) => new Big((line as Texts).net))), sum(lines.map((line) => new Big((line as Texts).vat)))))
    this.database
      .prepare('UPDATE receipts SET net_amount = ?, vat_amount = ?, gross_amount = ? WHERE id = ?')
      .run(total.net, total.vat, total.gross, id)
    this.database.prepare('UPDATE tender_lines SET amount = ? WHERE receipt_id = ?').run(total.gross, id)
  }
}

interface Amounts {
  readonly net: Big
  readonly vat: Big
  readonly gross: Big
}

type Texts = Readonly<Record<keyof Amounts, string>>

function amountsOf(net: Big, vat = net.times(VAT_RATE).round(2, HALF_UP)): Amounts {
  return { net, vat, gross: net.plus(vat) }
}

function textOf({ net, vat, gross }: Amounts): Texts {
  return { net: net.toFixed(), vat: vat.toFixed(), gross: gross.toFixed() }
}

function sum(amounts: readonly Big[]): Big {
  return amounts.reduce((total, amount) => total.plus(amount), new Big(0))
}
