import { randomUUID } from 'node:crypto'
import { chainLines, documentLine } from '../src/digest.ts'
import type { Batch, DocumentName, Entry, PartShape, Point, RegisterName } from '../src/model.ts'
import { encodeBatch, encodeMessage } from '../src/transport/codec.ts'
import { ITEMS, LINES, ROWS } from './shop.ts'

/** Sales of a till's day; a closing sums them up. */
export const SALES_A_DAY = 500
/** Entries of a closing: itself and its range. */
const CLOSING_ROWS = 2

const RECEIPT: readonly PartShape[] = [
  { table: 'receipt_lines', columns: { receipt_id: 'id' }, parts: [] },
  { table: 'tender_lines', columns: { receipt_id: 'id' }, parts: [] },
]
const CLOSING: readonly PartShape[] = [{ table: 'plu_closing_ranges', columns: { closing_no: 'closing_no' }, parts: [] }]
const SEALED_AT = '2026-11-21T10:00:00.000Z'

/** What a till has sold: sales of the demo's tables, and with `closings` one at the end of each day. */
export interface Sold {
  /** The number of the first sale, from 1. */
  readonly from: number
  readonly sales: number
  readonly closings: boolean
}

export function entriesIn({ from, sales, closings }: Sold): number {
  const days = Math.floor((from + sales - 1) / SALES_A_DAY) - Math.floor((from - 1) / SALES_A_DAY)
  return sales * ROWS + (closings ? days * CLOSING_ROWS : 0)
}

/** A register's stream, as it would have sealed it behind a point, cut into batches of about so many entries. */
export function* batchesOf(epoch: string, sold: Sold, most: number, start: Point): Generator<Batch> {
  let after = start
  let entries: Entry[] = []
  let digest = start.digest
  const shapes = { receipts: RECEIPT, ...(sold.closings && { plu_closings: CLOSING }) }
  const keys = { receipts: ['id'], ...(sold.closings && { plu_closings: ['closing_no'] }) }
  for (const document of documentsOf(sold)) {
    if (entries.length + document.records.length > most) {
      yield { epoch, after, through: { entryNo: after.entryNo + entries.length, digest }, entries, shapes, identities: {}, keys }
      after = { entryNo: after.entryNo + entries.length, digest }
      entries = []
    }
    for (const [table, recordId, record] of document.records) {
      const entryNo = after.entryNo + entries.length + 1
      const entry = { entryNo, table, operation: 'upsert', recordId, record, document: document.name, sealedAt: SEALED_AT } as const
      digest = chainLines(digest, entry, document.line)
      entries.push(entry)
    }
  }
  if (entries.length > 0) yield { epoch, after, through: { entryNo: after.entryNo + entries.length, digest }, entries, shapes, identities: {}, keys }
}

interface SoldDocument {
  readonly name: DocumentName
  readonly line: string
  readonly records: readonly (readonly [table: string, recordId: string, record: string])[]
}

function* documentsOf({ from, sales, closings }: Sold): Generator<SoldDocument> {
  for (let no = from; no < from + sales; no++) {
    yield toDocument(saleOf(no))
    if (closings && no % SALES_A_DAY === 0) yield toDocument(closingOf(no / SALES_A_DAY))
  }
}

function toDocument(records: SoldDocument['records']): SoldDocument {
  const [table, recordId] = records[0] as readonly [string, string, string]
  const name = { table, recordId }
  return { name, line: documentLine(name), records }
}

function saleOf(no: number): SoldDocument['records'] {
  const businessDate = dayOf(Math.floor((no - 1) / SALES_A_DAY))
  const lines = Array.from({ length: LINES }, (_, n) => {
    const item = (no * 31 + n * 7) % ITEMS
    const quantity = (no + n) % 10 === 0 ? -1 : 1 + (n % 3)
    const cents = 99 + ((item * 37) % 2_000)
    const [net, vat] = [quantity * cents, Math.round(quantity * cents * 0.2)]
    const id = (no - 1) * LINES + n + 1
    const amounts = { net_amount: decimal(net), vat_amount: decimal(vat), gross_amount: decimal(net + vat) }
    const article = { item_no: `40063813${String(item).padStart(5, '0')}`, description: `Article number ${item}` }
    const record = {
      id,
      receipt_id: no,
      line_no: n + 1,
      ...article,
      quantity: `${quantity}`,
      unit_price: decimal(cents),
      vat_rate: '20.0',
      ...amounts,
    }
    return { net, vat, row: ['receipt_lines', `[${id}]`, JSON.stringify(record)] as const }
  })
  const [net, vat] = [lines.reduce((sum, line) => sum + line.net, 0), lines.reduce((sum, line) => sum + line.vat, 0)]
  const amounts = { net_amount: decimal(net), vat_amount: decimal(vat), gross_amount: decimal(net + vat) }
  const customer = no % 3 === 0 ? `C${no % 997}` : null
  const posted = `${businessDate}T10:${String(no % 60).padStart(2, '0')}:00.000Z`
  const names = { id: no, receipt_no: `R-${no}`, series: 'A', number: no }
  const receipt = { ...names, business_date: businessDate, posted_at: posted, customer_no: customer, status: 'posted', ...amounts }
  const tender = { id: no, receipt_id: no, line_no: 1, tender: no % 2 === 0 ? 'cash' : 'card', amount: decimal(net + vat) }
  return [['receipts', `[${no}]`, JSON.stringify(receipt)], ...lines.map(({ row }) => row), ['tender_lines', `[${no}]`, JSON.stringify(tender)]]
}

function closingOf(day: number): SoldDocument['records'] {
  const range = { closing_no: day, series: 'A', first_no: (day - 1) * SALES_A_DAY + 1, last_no: day * SALES_A_DAY }
  return [
    ['plu_closings', `[${day}]`, JSON.stringify({ closing_no: day, business_date: dayOf(day - 1) })],
    ['plu_closing_ranges', `[${day},"A"]`, JSON.stringify(range)],
  ]
}

function dayOf(number: number): string {
  return new Date(Date.UTC(2026, 0, 1) + number * 86_400_000).toISOString().slice(0, 10)
}

function decimal(cents: number): string {
  return (cents / 100).toFixed(2)
}

/** A packed batch, which any register may send. */
export interface PackedBatch {
  readonly through: number
  readonly body: Uint8Array
}

export async function packed(batch: Batch): Promise<PackedBatch> {
  return { through: batch.through.entryNo, body: await encodeBatch(batch) }
}

/** The message with which a register sends it. */
export function messageWith({ body }: PackedBatch, from: RegisterName, epoch: string, head: number): Promise<Uint8Array> {
  return encodeMessage({ from, id: randomUUID(), publish: { epoch, head }, batch: body })
}
