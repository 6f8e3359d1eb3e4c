import { gzipSync } from 'node:zlib'
import { Packr } from 'msgpackr'
import t from 'tap'
import { chainDigest } from '../../src/digest.ts'
import { type AudienceAnswer, type Batch, type Entry, START } from '../../src/model.ts'
import { batchToWire } from '../../src/transport/batch-wire.ts'
import { decodeMessage, encodeBatch, encodeMessage, encodePublished } from '../../src/transport/codec.ts'
import type { Message } from '../../src/transport/message.ts'

const MAX = 1_000_000
const packr = new Packr({ useRecords: false })
const document = { table: 'receipts', recordId: '[1]' }
const entry = (entryNo: number, table: string, recordId: string, record: string | null, of = document): Entry => ({
  entryNo,
  table,
  operation: record === null ? 'remove' : 'upsert',
  recordId,
  record,
  document: of,
  sealedAt: entryNo < 3 ? '2026-11-21T10:00:00.000Z' : '2026-11-21T10:00:01.000Z',
})
const gone = { table: 'receipts', recordId: '[2]' }
const entries = [
  entry(1, 'receipts', '[1]', '{"id":1}'),
  entry(2, 'receipt_lines', '[7]', '{"id":7,"text":"ä\\u0000"}'),
  entry(3, 'receipts', '[2]', null, gone),
]
const batch: Batch = {
  epoch: 'e1',
  after: START,
  through: { entryNo: 3, digest: entries.reduce(chainDigest, START.digest) },
  entries,
  shapes: { receipts: [{ table: 'receipt_lines', columns: { receipt_id: 'id' }, parts: [] }] },
  identities: { receipts: ['receipt_no'] },
  keys: { receipts: ['id'] },
}
const published: AudienceAnswer = {
  more: true,
  batches: [
    {
      table: 'price_lists',
      stream: 's',
      after: 0,
      through: 9,
      mark: 'm',
      isEnd: false,
      documents: [
        {
          recordId: '[1]',
          records: [
            { table: 'price_lists', recordId: '[1]', record: '{"id":1}' },
            { table: 'price_list_lines', recordId: '[7]', record: '{"id":7}' },
          ],
        },
        { recordId: '[2]', records: [] },
        { recordId: '[3]', records: [{ table: 'price_lists', recordId: '[3]', record: '{"id":3}' }] },
      ],
      shape: [{ table: 'price_list_lines', columns: { list_id: 'id' }, parts: [] }],
      keyColumns: ['id'],
    },
  ],
}
const head = { from: { location: 'A', register: '1' }, id: 'n', publish: { epoch: 'e1', head: 3 } }

const frame = (wire: unknown): Uint8Array => Buffer.concat([Buffer.from([1]), packr.pack(wire)])

t.test('a message comes back as it was sent', async (t) => {
  const more: Omit<Message, 'from' | 'id' | 'batch' | 'published'> = {
    answers: 'm',
    publish: { epoch: 'e1', head: 3, version: '1.2.3', parent: batch.through, start: START, seek: [1, 9], cloned: true, parked: [document] },
    subscribe: {
      standing: { epoch: 'e1', ...START },
      staged: batch.through,
      known: true,
      superseded: START,
      points: [START, batch.through],
      again: [document],
    },
    takes: { message: 65_536, document: 9_000_000 },
    audiences: {
      records: 500,
      bytes: 1_000,
      message: 65_536,
      standings: [
        { table: 'items', stream: undefined, entryNo: 0, mark: '' },
        { table: 'contacts', stream: 's', entryNo: 7, mark: 'm' },
      ],
      unapplied: [{ table: 'items', recordId: '["A"]', code: 'ERR_MIRROR', message: 'text' }],
    },
    error: { code: 'ERR_NOT_NEXT', message: 'text', retryable: true },
  }
  const bytes = await encodeMessage({ ...head, ...more, batch: await encodeBatch(batch), published: await encodePublished(published) })
  const { batch: received, published: receivedToo, ...message } = await decodeMessage(bytes, MAX)
  t.same(message, { ...head, ...more })
  t.same(receivedToo, published)
  t.same(received, batch)
  t.equal(received?.entries.reduce(chainDigest, START.digest), batch.through.digest)
})

t.test('a frame comes back as it was sent, wherever in its document it lies', async (t) => {
  const part = entries.slice(0, 2)
  for (const { frame, of } of [
    { frame: { base: START, isLast: false }, of: part },
    { frame: { base: START, isLast: true }, of: part.slice(1) },
  ]) {
    const entryNo = of[0]?.entryNo ?? 0
    const after = { ...batch.through, entryNo: entryNo - 1 }
    const sent = { ...batch, after, through: { ...batch.through, entryNo: 2 }, entries: of, frame }
    const { batch: received } = await decodeMessage(await encodeMessage({ ...head, batch: await encodeBatch(sent) }), MAX)
    t.same(received, sent)
  }
})

t.test('who takes less than can be set says nonsense', async (t) => {
  for (const takes of [[65_535, 1e9], [1e9, 0], [1e9], [1e9, -1], ['x', 1e9], {}]) {
    await t.rejects(decodeMessage(frame({ v: 1, ...head, takes }), MAX), { code: 'ERR_MESSAGE' }, JSON.stringify(takes))
  }
})

t.test('an idle message takes tens of bytes', async (t) => {
  const bytes = await encodeMessage(head)
  t.ok(bytes.length < 100, `${bytes.length} bytes`)
})

const withBatch = (change: object): Uint8Array => frame({ v: 1, ...head, batch: frame({ ...(batchToWire(batch) as object), ...change }) })

t.test('bytes that are no message are refused', async (t) => {
  const whole = await encodeMessage({ ...head, batch: await encodeBatch(batch) })
  const bad = [
    new Uint8Array(),
    Buffer.from('<html>'),
    Buffer.from([9, 1, 2]),
    whole.subarray(0, whole.length - 3),
    Buffer.from([1]),
    Buffer.from([2, 31, 139, 8]),
  ]
  for (const bytes of bad) await t.rejects(decodeMessage(bytes, MAX), { code: 'ERR_MESSAGE' })
  for (const given of [undefined, null, 'text', [1], 5, {}, new ArrayBuffer(3), new DataView(new ArrayBuffer(3))])
    await t.rejects(decodeMessage(given as never, MAX), { code: 'ERR_MESSAGE', hint: /bytes/ }, 'as a link of the host may answer')
  const deep = Buffer.concat([Buffer.from([1]), Buffer.alloc(100_000, 0x91)])
  await t.rejects(decodeMessage(deep, MAX), { code: 'ERR_MESSAGE' }, 'nested deeply')
})

t.test('a small body cannot grow into a large one', async (t) => {
  const bomb = Buffer.concat([Buffer.from([2]), gzipSync(Buffer.alloc(50_000_000))])
  await t.rejects(decodeMessage(bomb, MAX), { code: 'ERR_TOO_LARGE' })
  await t.rejects(decodeMessage(frame({ v: 1, ...head, batch: bomb }), MAX), { code: 'ERR_TOO_LARGE' })
})

t.test('another version of the protocol is named as such', async (t) => {
  await t.rejects(decodeMessage(frame({ v: 2, ...head }), MAX), { code: 'ERR_VERSION' })
})

t.test('every field of a message is checked', async (t) => {
  const bad = [
    { from: 'till' },
    { from: { location: 'A' } },
    { from: { location: '', register: '1' } },
    { id: '' },
    { id: 'x'.repeat(65) },
    { id: 7 },
    { answers: null },
    { publish: null },
    { publish: { epoch: '', head: 3 } },
    { publish: { epoch: 'e', head: -1 } },
    { publish: { epoch: 'e', head: 1.5 } },
    { publish: { epoch: 'e', head: 3, parent: [1] } },
    { publish: { epoch: 'e', head: 3, parent: [1, 'x'.repeat(32)] } },
    { publish: { epoch: 'e', head: 3, start: [1, Buffer.alloc(31)] } },
    { publish: { epoch: 'e', head: 3, seek: [1] } },
    { publish: { epoch: 'e', head: 3, seek: [1, -2] } },
    { publish: { epoch: 'e', head: 3, cloned: false } },
    { subscribe: [] },
    { subscribe: { standing: ['e', 1] } },
    { subscribe: { standing: ['e', 1, 'ff'] } },
    { subscribe: { points: [[1, 'ff']] } },
    { subscribe: { points: Array(501).fill([1, Buffer.alloc(32)]) } },
    { error: { code: 1, message: '' } },
    { batch: {} },
    { batch: 'x' },
  ]
  for (const change of bad) await t.rejects(decodeMessage(frame({ v: 1, ...head, ...change }), MAX), { code: 'ERR_MESSAGE' }, JSON.stringify(change))
})

t.test('what is said beside a stream is left out where it can’t be read', async (t) => {
  const bad = [
    { publish: { ...head.publish, version: 1 } },
    { publish: { ...head.publish, version: 'x'.repeat(65) } },
    { publish: { ...head.publish, parked: [['receipts']] } },
    { publish: { ...head.publish, parked: Array(201).fill(['receipts', '[1]']) } },
    { publish: { ...head.publish, compared: { id: 'q', codec: 1, tables: [], parts: [['x', 1, 1, Buffer.alloc(31)]] } } },
    { publish: { ...head.publish, back: [] } },
    { subscribe: { again: [['receipts']] } },
    { subscribe: { again: Array(201).fill(['receipts', '[1]']) } },
    { subscribe: { quarantined: -1 } },
    { subscribe: { compare: 'everything' } },
    { subscribe: { back: { id: 1 } } },
    { audiences: { limits: [1, 1, 65_536], standings: [['items'], ['items']] } },
    { published: Buffer.from([9]) },
    { published: await encodeMessage(head) },
  ]
  for (const change of bad) {
    const { unread, publish } = await decodeMessage(frame({ v: 1, ...head, ...change }), MAX)
    t.match(unread, [{ code: 'ERR_MESSAGE' }], JSON.stringify(change))
    t.match(publish, { epoch: 'e1', head: 3 })
  }
  t.match((await decodeMessage(frame({ v: 1, ...head, publish: { ...head.publish, parked: 7 } }), MAX)).publish?.unread, new Set(['parked']))
})

t.test('every field of a batch is checked', async (t) => {
  t.ok((await decodeMessage(withBatch({}), MAX)).batch, 'unchanged, it is taken')
  const bad = [
    { epoch: '' },
    { epoch: 'another than that of which the message speaks' },
    { after: [0] },
    { through: [0, Buffer.alloc(32)] },
    { through: [9_000_000_000, Buffer.alloc(32)] },
    { through: [3, 'x'] },
    { tables: ['receipts'] },
    { tables: [1, 2] },
    { table: [0, 1, 9] },
    { table: [0, 1] },
    { recordId: ['[1]', '[7]'] },
    { recordId: ['[1]', '[7]', 5] },
    { record: ['{}', null, null] },
    { record: ['{}', '{}', '{}'] },
    { remove: [1] },
    { remove: [] },
    { documents: [3, 1] },
    { documents: [0, 2, 1] },
    { documents: [2] },
    { sealed: [['t', 2]] },
    { sealed: [['t', 9]] },
    { shapes: [] },
    { shapes: { receipts: [{ table: 'x', columns: { a: 1 }, parts: [] }] } },
  ]
  for (const change of bad) await t.rejects(decodeMessage(withBatch(change), MAX), { code: 'ERR_MESSAGE' }, JSON.stringify(change))
})
