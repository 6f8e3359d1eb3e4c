import t from 'tap'
import type { Batch } from '../../src/model.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { openShop, type Shop, type ShopOptions } from '../support/shop.ts'
import { tablesOf } from '../support/snapshots.ts'
import { framesOf, message, post, receiptsBatch, spoilt } from '../support/wire.ts'

const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const random = new Random(seed)
const name = { location: 'BA01', register: 'POS1' }

async function opened(t: Parameters<typeof openShop>[0], options: ShopOptions = {}) {
  const shop = await openShop(t, server, options)
  const { token } = await shop.central.registers.add(name)
  const send = async (batch?: Batch) => post(shop.url, token, await message(name, batch))
  return { shop, token, send }
}

async function mirrored(shop: Shop): Promise<Readonly<Record<string, number>>> {
  const { rows } = await shop.pool.query(
    'SELECT (SELECT count(*) FROM receipts)::int AS receipts, (SELECT count(*) FROM receipt_lines)::int AS lines',
  )
  return rows[0]
}

const [first, second, third, ...more] = framesOf(1, 40, 9) as [Batch, Batch, Batch, ...Batch[]]
const last = more.at(-1) as Batch

t.test('frames that come twice, out of order, or again from the beginning', async (t) => {
  const { shop, send } = await opened(t)
  t.match(await send(second), { code: 'ERR_NOT_NEXT' }, 'what central knows nothing of begins at its beginning')
  t.match(await send(first), { code: undefined, message: { subscribe: { standing: { entryNo: 0 }, staged: first.through } } })
  t.match(await send(third), { code: 'ERR_NOT_NEXT', message: { subscribe: { staged: first.through } } }, 'one that is missing is asked for')
  t.match(await send(second), { code: undefined, message: { subscribe: { staged: second.through } } })
  for (const again of [first, second]) t.match(await send(again), { code: undefined, message: { subscribe: { staged: second.through } } }, 'twice')
  t.match(await send(), { message: { subscribe: { staged: second.through } } }, 'it says so to whoever asks')
  t.same(await mirrored(shop), { receipts: 0, lines: 0 })
  for (const frame of [third, ...more]) t.match(await send(frame), { code: undefined })
  t.same(await mirrored(shop), { receipts: 1, lines: 40 })
  const { rows } = await shop.pool.query('SELECT count(*)::int AS frames FROM sync_frames')
  t.same(rows, [{ frames: 0 }])
  const before = await tablesOf(shop.pool)
  for (const frame of [last, first, second]) {
    const { code, message } = await send(frame)
    t.equal(code, frame === last ? undefined : 'ERR_NOT_NEXT')
    t.match(message?.subscribe, { standing: last.through, staged: undefined })
  }
  t.same(await tablesOf(shop.pool), before, 'what is there already changes nothing')
})

t.test('frames of two versions mixed: the digest tells them apart, and the later beginning counts', async (t) => {
  const { shop, send } = await opened(t)
  const other = framesOf(1, 40, 9, undefined, '2')
  await send(first)
  await send(second)
  t.match(await send(other[2]), { code: 'ERR_NOT_NEXT', message: { subscribe: { staged: second.through } } })
  t.match(await send(other[0]), { code: undefined, message: { subscribe: { staged: other[0]?.through } } })
  t.match(await send(third), { code: 'ERR_NOT_NEXT' })
  for (const frame of other.slice(1)) t.match(await send(frame), { code: undefined })
  t.same(await mirrored(shop), { receipts: 1, lines: 40 })
  t.equal(await shop.stock('HOSTILE'), -40)
})

t.test('another batch in the place of a document that never ended', async (t) => {
  const { shop, send } = await opened(t)
  await send(first)
  const batch = receiptsBatch([7, 8])
  t.match(await send(batch), { code: undefined, message: { subscribe: { standing: batch.through, staged: undefined } } })
  t.match(await send(second), { code: 'ERR_NOT_NEXT' })
  t.same((await shop.pool.query('SELECT count(*)::int AS frames FROM sync_frames')).rows, [{ frames: 0 }])
  for (const frame of framesOf(9, 40, 5, batch.through)) t.match(await send(frame), { code: undefined })
  t.same(await mirrored(shop), { receipts: 3, lines: 42 })
})

t.test('frames that are not as they say change nothing', async (t) => {
  const { shop, token, send } = await opened(t)
  await send(first)
  const before = await tablesOf(shop.pool)
  const [, foreign] = framesOf(2, 40, 9)
  const document = { table: 'receipts', recordId: '[2]' }
  const stolen = { ...second, entries: second.entries.map((entry) => ({ ...entry, document })) }
  const wrong: readonly (readonly [string, Batch, string])[] = [
    ['another digest', { ...second, through: { ...second.through, digest: 'ab'.repeat(32) } }, 'ERR_DIGEST'],
    ['of another document', stolen, 'ERR_DIGEST'],
    ['of another document, rightly chained', foreign as Batch, 'ERR_NOT_NEXT'],
    ['from another place', { ...second, frame: { base: { entryNo: 0, digest: 'cd'.repeat(32) }, isLast: false } }, 'ERR_NOT_NEXT'],
    ['no frame at all', { ...second, frame: undefined }, 'ERR_NOT_NEXT'],
  ]
  for (const [what, batch, code] of wrong) t.match(await send(batch), { code }, what)
  const malformed: readonly (readonly [string, unknown])[] = [
    ['nothing', null],
    ['too short', [[0, Buffer.alloc(32)], true]],
    ['no answer', [[0, Buffer.alloc(32)], 'yes', 'receipts', '[1]']],
    ['from behind itself', [[99, Buffer.alloc(32)], true, 'receipts', '[1]']],
    ['a number out of bounds', [[2 ** 53, Buffer.alloc(32)], true, 'receipts', '[1]']],
    ['no table', [[0, Buffer.alloc(32)], true, '', '[1]']],
    ['another beginning', [[0, Buffer.alloc(32)], true, 'receipts', '[2]']],
  ]
  for (const [what, frame] of malformed) {
    const body = spoilt(name, first, (_, wire) => {
      wire.frame = frame
    })
    t.match(await post(shop.url, token, body), { status: 400, code: 'ERR_MESSAGE' }, what)
  }
  for (const [what, spoil] of [
    ['two documents', { documents: [1, 8] }],
    ['a removal', { remove: [0] }],
  ] as const) {
    const body = spoilt(name, first, (_, wire) => void Object.assign(wire, spoil))
    t.match(await post(shop.url, token, body), { status: 400, code: 'ERR_MESSAGE' }, what)
  }
  t.same(await tablesOf(shop.pool), before)
  for (const frame of [second, third, ...more]) t.match(await send(frame), { code: undefined })
  t.same(await mirrored(shop), { receipts: 1, lines: 40 })
})

t.test('a document that never ends costs bounded room, and nobody else anything', async (t) => {
  const { shop, send } = await opened(t, { maxDocumentBytes: 65_536 })
  const frames = framesOf(1, 900, 50)
  const codes = new Set<string | undefined>()
  for (const frame of frames) codes.add((await send(frame)).code)
  t.same([...codes], [undefined, 'ERR_TOO_LARGE', 'ERR_NOT_NEXT'])
  const bytes = async () => (await shop.pool.query('SELECT sum(bytes)::int AS bytes FROM sync_frames')).rows[0].bytes
  t.ok((await bytes()) <= 65_536)
  // Begun again and again, each time another one.
  for (let n = 0; n < 20; n++) for (const frame of framesOf(2 + n, 300, 100).slice(0, 3)) await send(frame)
  t.ok((await bytes()) <= 65_536)
  const batch = receiptsBatch([7])
  t.match(await send(batch), { code: undefined })
  t.same(await bytes(), null)
})

t.test('frames in any order, many of them twice: the document is applied once', async (t) => {
  const { shop, send } = await opened(t)
  const frames = framesOf(1, 60, 7)
  for (let n = 0; n < 200 && (await mirrored(shop)).receipts === 0; n++) await send(random.pick(frames))
  for (const frame of frames) await send(frame)
  t.same(await mirrored(shop), { receipts: 1, lines: 60 })
  t.equal(await shop.stock('HOSTILE'), -60)
})
