import type { Database } from 'better-sqlite3'
import type { AnyDocument, AnyTables, Closing, ClosingLine, PublishRules, SubscribeRules } from '../../src/index.ts'
import { pluClosings } from '../../src/index.ts'
import type { Shop } from './shop.ts'

/** A till that numbers its receipts by series and closes: with lines that it has made itself, or by ranges of receipts. */
export const CLOSING_TILL = `
  CREATE TABLE receipts (
    id INTEGER PRIMARY KEY, series TEXT NOT NULL, number INTEGER NOT NULL, business_date TEXT NOT NULL, customer_no TEXT, status TEXT NOT NULL DEFAULT 'posted', UNIQUE (series, number));
  CREATE TABLE receipt_lines (
    id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL REFERENCES receipts ON DELETE CASCADE, item_no TEXT NOT NULL, location TEXT, vat_code TEXT NOT NULL, vat_rate TEXT NOT NULL,
    quantity TEXT NOT NULL, discount_amount TEXT NOT NULL DEFAULT '0', net_amount TEXT NOT NULL, vat_amount TEXT NOT NULL);
  CREATE INDEX receipt_lines_receipt_id ON receipt_lines (receipt_id);
  CREATE TABLE plu_closings (
    id INTEGER PRIMARY KEY, closing_no TEXT NOT NULL, business_date TEXT NOT NULL, status TEXT NOT NULL DEFAULT 'posted', first_sale INTEGER, last_sale INTEGER, first_return INTEGER, last_return INTEGER,
    net_amount TEXT);
  CREATE TABLE plu_closing_lines (
    id INTEGER PRIMARY KEY, closing_id INTEGER NOT NULL REFERENCES plu_closings ON DELETE CASCADE, item_no TEXT NOT NULL, location TEXT, vat_code TEXT NOT NULL, vat_rate TEXT NOT NULL, customer_no TEXT,
    quantity TEXT NOT NULL, return_quantity TEXT, discount_amount TEXT NOT NULL DEFAULT '0', net_amount TEXT NOT NULL, vat_amount TEXT NOT NULL);
  CREATE INDEX plu_closing_lines_closing_id ON plu_closing_lines (closing_id);
`

export const CLOSING_PUBLISH: PublishRules<AnyTables> = {
  receipts: { where: (eb) => eb('status', '<>', 'open') },
  receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
  plu_closings: {},
  plu_closing_lines: { partOf: { plu_closings: { closing_id: 'id' } } },
}

export function closingOf(closing: AnyDocument, origin: { readonly location: string }): Closing | null {
  if (closing.status === 'voided') return null
  const { business_date, closing_no, net_amount } = closing
  return { location: origin.location, businessDate: business_date, document: closing_no, ...(net_amount !== null && { netAmount: net_amount }) }
}

export function lineOf(line: Readonly<Record<string, string | null>>): ClosingLine {
  const { item_no, location, vat_code, vat_rate, customer_no, quantity, return_quantity, discount_amount, net_amount, vat_amount } = line as Record<
    string,
    string
  >
  return {
    item: item_no as string,
    location: location ?? null,
    vatCode: vat_code ?? null,
    vatRate: vat_rate ?? null,
    customer: customer_no ?? null,
    quantity: quantity as string,
    ...(return_quantity && { returnQuantity: return_quantity }),
    discountAmount: discount_amount ?? '0',
    netAmount: net_amount as string,
    vatAmount: vat_amount ?? '0',
  }
}

/** The ranges of series that a closing names. */
export function rangesOf(closing: AnyDocument): NonNullable<Closing['ranges']> {
  const { first_sale, last_sale, first_return, last_return } = closing
  return [
    ...(first_sale === null ? [] : [{ series: 'sale', from: first_sale, through: last_sale }]),
    ...(first_return === null ? [] : [{ series: 'return', from: first_return, through: last_return }]),
  ]
}

export function receiptLines(receipt: AnyDocument): ClosingLine[] {
  if (receipt.status === 'voided') return []
  return (receipt.parts.receipt_lines ?? []).map((line) => lineOf({ ...line, customer_no: receipt.customer_no, return_quantity: null }))
}

export const READY_MADE: SubscribeRules<AnyTables> = { plu_closings: pluClosings({ closing: closingOf, line: lineOf }) }

export function computed(moveStock = false, lines = receiptLines): SubscribeRules<AnyTables> {
  return {
    plu_closings: pluClosings({
      closing: (closing, origin) => {
        const known = closingOf(closing, origin)
        return known && { ...known, ranges: rangesOf(closing) }
      },
      receipts: { table: 'receipts', number: 'number', series: 'series', lines },
      moveStock,
    }),
  }
}

export interface TestLine {
  readonly item: string
  readonly quantity: string
  readonly net: string
  readonly vat?: string
  readonly code?: string
  readonly rate?: string
  readonly location?: string | null
  readonly customer?: string | null
  readonly discount?: string
}

/** The till's own application. */
export class ClosingCashier {
  readonly db: Database

  constructor(db: Database) {
    this.db = db
  }

  sell(
    series: 'sale' | 'return',
    number: number,
    lines: readonly TestLine[],
    { customer = null as string | null, date = '2026-11-21', status = 'posted' } = {},
  ): number {
    return this.db
      .transaction(() => {
        const { lastInsertRowid } = this.db
          .prepare('INSERT INTO receipts (series, number, business_date, customer_no, status) VALUES (?, ?, ?, ?, ?)')
          .run(series, number, date, customer, status)
        for (const line of lines) this.addLine(Number(lastInsertRowid), line)
        return Number(lastInsertRowid)
      })
      .immediate()
  }

  addLine(receipt: number, { item, quantity, net, vat = '0', code = 'A', rate = '20', location = null, discount = '0' }: TestLine): void {
    this.db
      .prepare(
        'INSERT INTO receipt_lines (receipt_id, item_no, location, vat_code, vat_rate, quantity, discount_amount, net_amount, vat_amount) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)',
      )
      .run(receipt, item, location, code, rate, quantity, discount, net, vat)
  }

  /** With lines that the till has made itself. */
  close(no: string, lines: readonly TestLine[], { date = '2026-11-21', net = null as string | null } = {}): number {
    return this.db
      .transaction(() => {
        const { lastInsertRowid } = this.db
          .prepare('INSERT INTO plu_closings (closing_no, business_date, net_amount) VALUES (?, ?, ?)')
          .run(no, date, net)
        for (const { item, quantity, net, vat = '0', code = 'A', rate = '20', location = null, customer = null, discount = '0' } of lines) {
          this.db
            .prepare(
              'INSERT INTO plu_closing_lines (closing_id, item_no, location, vat_code, vat_rate, customer_no, quantity, discount_amount, net_amount, vat_amount) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)',
            )
            .run(lastInsertRowid, item, location, code, rate, customer, quantity, discount, net, vat)
        }
        return Number(lastInsertRowid)
      })
      .immediate()
  }

  /** By the range of receipts. */
  closeRange(
    no: string,
    sales: readonly [number, number] | null,
    returns: readonly [number, number] | null = null,
    { date = '2026-11-21', net = null as string | null } = {},
  ): number {
    const { lastInsertRowid } = this.db
      .prepare(
        'INSERT INTO plu_closings (closing_no, business_date, first_sale, last_sale, first_return, last_return, net_amount) VALUES (?, ?, ?, ?, ?, ?, ?)',
      )
      .run(no, date, sales?.[0] ?? null, sales?.[1] ?? null, returns?.[0] ?? null, returns?.[1] ?? null, net)
    return Number(lastInsertRowid)
  }
}

/** What is posted, shortly: 'warehouse number (supplements) date document: item VAT customer quantity net, …'. */
export async function postedClosings(shop: Pick<Shop, 'pool'>): Promise<string[]> {
  const { rows } = await shop.pool.query<{ text: string }>(`
    SELECT location || ' ' || closing_no || coalesce(' adds to ' || supplements || ' as ' || supplement_no, '') || ' ' || business_date || ' ' || coalesce(document_no, '-') || ': ' ||
      coalesce((SELECT string_agg(concat_ws(' ', item_no, vat_code, coalesce(customer_no, '-'), trim_scale(quantity), trim_scale(net_amount)), ', ' ORDER BY line_no)
                FROM posted_plu_closing_lines l WHERE l.location = c.location AND l.closing_no = c.closing_no), 'nothing') AS text
    FROM posted_plu_closings c ORDER BY location, closing_no`)
  return rows.map(({ text }) => text)
}

/** All that was ever posted, to the byte. */
export async function postedRows(shop: Pick<Shop, 'pool'>): Promise<string[]> {
  const { rows } = await shop.pool.query<{ text: string }>(`
    SELECT c::text AS text FROM posted_plu_closings c UNION ALL SELECT l::text FROM posted_plu_closing_lines l
    UNION ALL SELECT p::text FROM sync_postings p ORDER BY 1`)
  return rows.map(({ text }) => text)
}
