import { Packr } from 'msgpackr'
import { chainDigest } from '../../src/digest.ts'
import type { Batch, Entry, Point, RegisterName } from '../../src/model.ts'
import { START } from '../../src/model.ts'
import { batchToWire } from '../../src/transport/batch-wire.ts'
import { decodeMessage, encodeBatch, encodeMessage } from '../../src/transport/codec.ts'
import { CONTENT_TYPE } from '../../src/transport/http-client.ts'
import type { Message } from '../../src/transport/message.ts'

const packr = new Packr({ useRecords: false, variableMapSize: true, moreTypes: false, mapsAsObjects: true })

/** Anything as an uncompressed frame of the protocol. */
export function frame(wire: unknown): Uint8Array {
  return Buffer.concat([Buffer.of(1), packr.pack(wire)])
}

export const EPOCH = 'epoch-of-a-hand'

/** A batch of one receipt each, properly chained; `change` spoils the entries before they are chained. */
export function receiptsBatch(ids: readonly number[], after: Point = START, change: (entry: Entry) => Entry = (entry) => entry): Batch {
  const entries = ids.flatMap((id) => {
    const document = { table: 'receipts', recordId: `[${id}]` }
    const root = {
      id,
      process_id: null,
      receipt_no: `H-${id}`,
      business_date: '2026-11-21',
      posted_at: '2026-11-21T09:00:00Z',
      customer_no: null,
      status: 'posted',
      net_amount: '1',
    }
    const line = { id: id * 10, receipt_id: id, item_no: 'HOSTILE', quantity: '1', net_amount: '1' }
    const entry = (table: string, recordId: string, record: unknown) => ({
      table,
      operation: 'upsert' as const,
      recordId,
      record: JSON.stringify(record),
      document,
    })
    return [entry('receipts', `[${id}]`, root), entry('receipt_lines', `[${id * 10}]`, line)]
  })
  const numbered = entries.map((entry, n): Entry => change({ ...entry, entryNo: after.entryNo + n + 1, sealedAt: '2026-11-21T10:00:00.000Z' }))
  const digest = numbered.reduce(chainDigest, after.digest)
  const shapes = { receipts: [{ table: 'receipt_lines', columns: { receipt_id: 'id' }, parts: [] }] }
  return { epoch: EPOCH, after, through: { entryNo: after.entryNo + numbered.length, digest }, entries: numbered, shapes, identities: {}, keys: {} }
}

/** One receipt with so many lines, cut into frames of so many entries. */
export function framesOf(id: number, lines: number, entriesEach: number, after: Point = START, amount = '1'): readonly Batch[] {
  const whole = receiptsBatch([id], after)
  const document = { table: 'receipts', recordId: `[${id}]` }
  const [root, line] = whole.entries as [Entry, Entry]
  const more = Array.from({ length: lines }, (_, n): Entry => {
    const record = JSON.stringify({ ...JSON.parse(line.record as string), id: id * 1_000 + n, net_amount: amount })
    return { ...line, document, entryNo: root.entryNo + n + 1, recordId: `[${id * 1_000 + n}]`, record }
  })
  const entries = [{ ...root, document }, ...more]
  const frames: Batch[] = []
  let from = after
  for (let at = 0; at < entries.length; at += entriesEach) {
    const part = entries.slice(at, at + entriesEach)
    const through = { entryNo: from.entryNo + part.length, digest: part.reduce(chainDigest, from.digest) }
    frames.push({ ...whole, after: from, through, entries: part, frame: { base: after, isLast: at + entriesEach >= entries.length } })
    from = through
  }
  return frames
}

/** A message of a register, as its bytes. */
export async function message(from: RegisterName, batch?: Batch): Promise<Uint8Array> {
  const head = {
    from: { location: from.location, register: from.register },
    id: 'hand',
    publish: { epoch: batch?.epoch ?? EPOCH, head: batch?.through.entryNo ?? 0 },
  }
  return encodeMessage({ ...head, ...(batch && { batch: await encodeBatch(batch) }) })
}

/** The same as plain values, to be spoilt by hand: the batch is packed by `spoil` itself where it returns an object. */
export function spoilt(from: RegisterName, batch: Batch, spoil: (wire: Wire, batch: Wire) => void): Uint8Array {
  const packed = structuredClone(batchToWire(batch)) as Wire
  const publish = { epoch: EPOCH, head: batch.through.entryNo }
  const wire: Wire = { v: 1, from: { location: from.location, register: from.register }, id: 'hand', publish }
  spoil(wire, packed)
  return frame({ batch: frame(packed), ...wire })
}

// biome-ignore lint/suspicious/noExplicitAny: it is wrong on purpose
export type Wire = Record<string, any>

export interface Answer {
  readonly status: number
  readonly code: string | undefined
  readonly retryAfter: string | null
  readonly message: Message | undefined
}

type Body = string | Uint8Array | ReadableStream

/** Posts bytes as a register would; a body that is no message comes back as `message: undefined`. */
export async function post(url: string, token: string | undefined, body: Body | undefined, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { ...(token !== undefined && { authorization: `Bearer ${token}` }), 'content-type': CONTENT_TYPE, ...headers },
    ...(body !== undefined && { body: body as string, duplex: 'half' }),
  } as RequestInit)
  const bytes = new Uint8Array(await response.arrayBuffer())
  const answer = bytes.length === 0 ? undefined : await decodeMessage(bytes, 1_000_000)
  return { status: response.status, code: answer?.error?.code, retryAfter: response.headers.get('retry-after'), message: answer }
}
