import { readFileSync } from 'node:fs'
import { CsvError, parse } from 'csv-parse/sync'
import type { Sale, SaleLine } from './sales.ts'

/** What is wrong with the file, for the person who passed it. */
export class SalesFileError extends Error {
  override readonly name = 'SalesFileError'
}

const COLUMNS = ['InvoiceNo', 'StockCode', 'Description', 'Quantity', 'InvoiceDate', 'UnitPrice', 'CustomerID', 'Country'] as const
type Fields = Readonly<Record<(typeof COLUMNS)[number], string>>
type Refuse = (why: string) => SalesFileError
const DECIMAL = /^-?\d{1,9}(\.\d{1,3})?$/

/**
 * Reads invoices in the columns of UCI Online Retail (https://archive.ics.uci.edu/dataset/352/online+retail), in the order of
 * their first lines.
 *
 * @throws SalesFileError with file and line
 */
export function readSales(file: string): readonly Sale[] {
  const invoices = new Map<string, { -readonly [K in keyof Sale]: Sale[K] } & { lines: SaleLine[] }>()
  for (const { record, info } of parseFile(file)) {
    const refuse: Refuse = (why) => new SalesFileError(`${file}, line ${info.lines}: ${why}`)
    const receiptNo = record.InvoiceNo.trim()
    if (receiptNo === '') throw refuse('InvoiceNo is empty')
    const invoice = invoices.get(receiptNo) ?? {
      receiptNo,
      series: receiptNo.startsWith('C') ? 'return' : 'sale',
      soldAt: readDate(record.InvoiceDate.trim(), refuse),
      customerNo: record.CustomerID.trim() || null,
      lines: [],
    }
    invoice.lines.push(readLine(record, refuse))
    invoices.set(receiptNo, invoice)
  }
  if (invoices.size === 0) throw new SalesFileError(`${file} holds no invoices`)
  return [...invoices.values()]
}

function parseFile(file: string): readonly { readonly record: Fields; readonly info: { readonly lines: number } }[] {
  try {
    return parse(readFileSync(file), { bom: true, columns: (header: string[]) => checkHeader(file, header), info: true, skip_empty_lines: true })
  } catch (error) {
    if (error instanceof SalesFileError) throw error
    if (error instanceof CsvError) throw new SalesFileError(`${file}, line ${error.lines ?? '?'}: ${error.message}`)
    throw new SalesFileError(`${file} can't be read: ${(error as Error).message}`)
  }
}

function checkHeader(file: string, header: readonly string[]): string[] {
  const names = header.map((name) => name.trim())
  const missing = COLUMNS.filter((name) => !names.includes(name))
  if (missing.length === 0) return names
  throw new SalesFileError(`${file}, line 1: no column ${missing.join(', ')}; expected ${COLUMNS.join(', ')}`)
}

function readLine(record: Fields, refuse: Refuse): SaleLine {
  const itemNo = record.StockCode.trim()
  if (itemNo === '') throw refuse('StockCode is empty')
  const quantity = readDecimal('Quantity', record.Quantity.trim(), refuse)
  if (Number(quantity) === 0) throw refuse('Quantity is 0')
  return { itemNo, description: record.Description.trim(), quantity, unitPrice: readDecimal('UnitPrice', record.UnitPrice.trim(), refuse) }
}

function readDecimal(column: string, value: string, refuse: Refuse): string {
  if (DECIMAL.test(value)) return value
  throw refuse(`${column} is '${value}', expected a number with up to 3 decimals such as 2.55`)
}

const DATES = [
  /^(?<day>\d{1,2})-(?<month>\d{1,2})-(?<year>\d{2})\s+(?<hour>\d{1,2}):(?<minute>\d{2})$/,
  /^(?<month>\d{1,2})\/(?<day>\d{1,2})\/(?<year>\d{4})\s+(?<hour>\d{1,2}):(?<minute>\d{2})$/,
  /^(?<year>\d{4})-(?<month>\d{1,2})-(?<day>\d{1,2})[T ](?<hour>\d{1,2}):(?<minute>\d{2})(?::\d{2})?$/,
]

function readDate(value: string, refuse: Refuse): string {
  const found = DATES.map((form) => form.exec(value)?.groups).find((groups) => groups !== undefined)
  if (found) {
    const { year = '', month = '', day = '', hour = '', minute = '' } = found
    const text = `${year.padStart(4, '20')}-${month.padStart(2, '0')}-${day.padStart(2, '0')}T${hour.padStart(2, '0')}:${minute}:00`
    const date = new Date(`${text}Z`)
    if (!Number.isNaN(date.getTime()) && date.toISOString().startsWith(text)) return text
  }
  throw refuse(`InvoiceDate is '${value}', expected 12/1/2010 8:26 (month first), 01-12-10 8:26 (day first) or 2010-12-01 08:26`)
}
