import { randomBytes } from 'node:crypto'
import { chainDigest } from '../src/digest.ts'
import { type Batch, type Entry, type Point, type RegisterName, START } from '../src/model.ts'
import { encodeBatch, encodeMessage } from '../src/transport/codec.ts'
import { ITEMS } from './shop.ts'

const SEALED_AT = '2026-11-21T10:00:00.000Z'
const part = (table: string) => ({ table, columns: { receipt_id: 'id' }, parts: [] })
const SHAPES = { receipts: [part('receipt_lines'), part('tender_lines')] }

/** The letters of a register that has sold so much, as its outbox would hold them: each the next batch of its stream. */
export async function lettersOf(
  register: RegisterName,
  { letters, receipts, lines }: { letters: number; receipts: number; lines: number },
): Promise<Uint8Array[]> {
  const epoch = randomBytes(12).toString('base64url')
  const head = letters * receipts * (lines + 2)
  const written: Uint8Array[] = []
  let after = START
  let no = 0
  for (let letter = 0; letter < letters; letter++) {
    const entries: Entry[] = []
    for (let receipt = 0; receipt < receipts; receipt++) entries.push(...saleOf(++no, lines, after.entryNo + entries.length))
    const through: Point = {
      entryNo: after.entryNo + entries.length,
      digest: entries.reduce((digest, entry) => chainDigest(digest, entry), after.digest),
    }
    const batch: Batch = { epoch, after, through, entries, shapes: SHAPES, identities: {}, keys: { receipts: ['id'] } }
    written.push(
      await encodeMessage({ from: register, id: randomBytes(9).toString('base64url'), publish: { epoch, head }, batch: await encodeBatch(batch) }),
    )
    after = through
  }
  return written
}

/** A receipt with its lines and its tender, as a till of `shop.ts` seals it. */
function saleOf(no: number, lines: number, before: number): Entry[] {
  const document = { table: 'receipts', recordId: `[${no}]` }
  const records: [string, number, object][] = [
    [
      'receipts',
      no,
      { receipt_no: `R-${no}`, series: 'A', business_date: '2026-11-21', status: 'posted', net_amount: '62.50', gross_amount: '74.38' },
    ],
    ...Array.from({ length: lines }, (_, line): [string, number, object] => {
      const item = (no * 31 + line * 7) % ITEMS
      const item_no = `40063813${String(item).padStart(5, '0')}`
      const amounts = { quantity: 1 + (line % 3), unit_price: '12.50', vat_code: 'S', net_amount: '12.50', vat_amount: '2.38' }
      return ['receipt_lines', no * lines + line, { receipt_id: no, line_no: line + 1, item_no, description: `Article number ${item}`, ...amounts }]
    }),
    ['tender_lines', no, { receipt_id: no, tender: no % 2 === 0 ? 'cash' : 'card', amount: '74.38' }],
  ]
  return records.map(([table, id, record], at) => ({
    entryNo: before + at + 1,
    table,
    operation: 'upsert',
    recordId: `[${id}]`,
    record: JSON.stringify({ id, ...record }),
    document,
    sealedAt: SEALED_AT,
  }))
}
