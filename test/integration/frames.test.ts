import t, { type Test } from 'tap'
import type { TillsyncError } from '../../src/errors.ts'
import type { Link } from '../../src/index.ts'
import { decodeMessage } from '../../src/transport/codec.ts'
import type { Message } from '../../src/transport/message.ts'
import { KINDS, openSeat, settles } from '../support/fault/seat.ts'
import { recording } from '../support/links.ts'
import { startServer } from '../support/postgres.ts'
import { openShop, type Shop, type Till } from '../support/shop.ts'

const server = await startServer(t)
/** The least that central may take in one message. */
const LEAST = 65_536

const lines = (count: number, amount = '1') => Array.from({ length: count }, (_, n) => ({ item: `I${n % 7}`, quantity: '1', amount }))

/** A till whose every message is kept. */
async function opened(
  t: Test,
  options: { readonly bytesPerRun?: number; readonly maxMessageBytes?: number; readonly maxDocumentBytes?: number } = {},
) {
  const { bytesPerRun, ...limits } = options
  const shop = await openShop(t, server, { maxMessageBytes: LEAST, ...limits })
  let line: ReturnType<typeof recording> | undefined
  const link = (inner: Link) => {
    line = recording(inner)
    return line
  }
  const till = await shop.addTill('POS1', { link, ...(bytesPerRun && { transfer: { bytesPerRun } }) })
  const sent = (): Promise<Message[]> => Promise.all((line?.sent ?? []).map((bytes) => decodeMessage(bytes, 1e9)))
  return { shop, till, sent }
}

async function staged(shop: Shop): Promise<number> {
  return Number((await shop.pool.query('SELECT count(*) AS frames FROM sync_frames')).rows[0].frames)
}

async function isDone(t: Test, shop: Shop, till: Till, message: string): Promise<void> {
  t.match(await till.replica.status(), { pending: 0, unsealed: 0, parked: [] }, message)
  t.equal(await staged(shop), 0, `${message}: nothing is staged any more`)
  await shop.balances(t, till, message)
}

t.test('a document that no message holds comes in frames, and is applied once it is whole', async (t) => {
  const { shop, till, sent } = await opened(t)
  till.cashier.sell('R-1', lines(2))
  till.cashier.sell('R-2', lines(4_000))
  till.cashier.sell('R-3', lines(2))
  const applied: unknown[] = []
  shop.central.on('applied', ({ documents, entries }) => applied.push([documents, entries]))
  await till.replica.synchronize()
  await isDone(t, shop, till, 'in frames')
  t.same(
    applied,
    [
      [1, 4],
      [1, 4_002],
      [1, 4],
    ],
    'as a whole',
  )
  const frames = (await sent()).flatMap(({ batch }) => batch?.frame ?? [])
  t.ok(frames.length > 5, `${frames.length} frames`)
  // It is known by now what central takes: no message is refused any more.
  till.db.exec("UPDATE receipts SET status = 'voided' WHERE receipt_no = 'R-2'")
  const before = (await sent()).length
  const refused: TillsyncError[] = []
  shop.central.on('refused', ({ error }) => refused.push(error))
  await till.replica.synchronize()
  await isDone(t, shop, till, 'another version')
  t.same(refused, [])
  t.ok((await sent()).length - before > 5)
})

t.test('the same where the till is pulled', async (t) => {
  const shop = await openShop(t, server, { maxMessageBytes: LEAST })
  const till = await shop.addTill('POS1', { pull: { bytesPerRun: 1_024 } })
  till.cashier.sell('R-1', lines(2))
  // More frames than central takes fruitless answers.
  till.cashier.sell('R-2', lines(1_500))
  till.cashier.sell('R-3', lines(2))
  await till.replica.seal()
  await shop.central.synchronize(till)
  await isDone(t, shop, till, 'pulled')
})

for (const kind of KINDS) {
  t.test(`${kind}: large and small documents in any order, with small batches`, async (t) => {
    const shop = await openShop(t, server, { maxMessageBytes: LEAST })
    const seat = await openSeat(t, kind, server, shop)
    const replica = seat.replica(shop.url, { bytesPerRun: 2_000 })
    await replica.install()
    for (const count of [1, 300, 2, 40, 41, 1_000, 3]) await seat.sell(seat.large(count))
    await replica.synchronize()
    await seat.sell(seat.sales(1)[0] as string)
    await settles(t, shop, seat, replica, kind)
    t.equal(await staged(shop), 0)
  })
}

for (const kind of KINDS) {
  t.test(`${kind}: what stood there before and changes: its baseline comes in frames too, and only the difference is posted`, async (t) => {
    const shop = await openShop(t, server, { maxMessageBytes: LEAST })
    const seat = await openSeat(t, kind, server, shop)
    // Of all sizes, half of them on either kind, so that the end of a frame falls on every place, that between baseline and change among them.
    const counts = Array.from({ length: 20 }, (_, n) => 2 * n + 1 + KINDS.indexOf(kind))
    for (const count of counts) await seat.sell(seat.large(count))
    const replica = seat.replica(shop.url, { bytesPerRun: 1_024 })
    await replica.install()
    await replica.synchronize()
    t.equal((await replica.status()).head.entryNo, 0, 'all is withheld')
    await seat.sell("UPDATE receipt_lines SET quantity = '5' WHERE id % 100000 = 0")
    await replica.synchronize()
    t.match(await replica.status(), { pending: 0, parked: [] })
    const { rows } = await shop.pool.query(
      'SELECT (SELECT count(*) FROM receipt_lines)::int AS lines, (SELECT sum(quantity) FROM stock_movements)::int AS moved',
    )
    t.same(rows, [{ lines: counts.reduce((sum, count) => sum + count), moved: -4 * counts.length }])
    t.equal(await staged(shop), 0)
  })
}

t.test('the process at either side ends between two frames: what has come is not sent again', async (t) => {
  const { shop, till, sent } = await opened(t)
  till.cashier.sell('R-1', lines(4_000))
  const ending = new AbortController()
  let exchanges = 0
  await t.rejects(
    till.replica.synchronize({
      signal: ending.signal,
      onProgress() {
        if (++exchanges === 5) ending.abort()
      },
    }),
    { code: 'ERR_ABORTED' },
  )
  await till.replica.stop()
  const before = await staged(shop)
  t.ok(before >= 3, `${before} frames staged`)
  t.equal(await shop.stock('I1'), 0, 'nothing is posted')
  const again = till.again()
  await again.install()
  await again.synchronize()
  await isDone(t, shop, { ...till, replica: again }, 'after a restart')
  const frames = (await sent()).flatMap(({ batch }) => (batch?.frame ? [batch.after.entryNo] : []))
  t.equal(frames[0], 0, 'the first, by which central says what it has')
  t.ok((frames[1] ?? 0) > 500, `and then from entry ${frames[1]} on`)
})

t.test('a newer version, or a till that was restored, takes the place of what was staged', async (t) => {
  const { shop, till } = await opened(t)
  const stop = async (replica = till.replica) => {
    const ending = new AbortController()
    let exchanges = 0
    const onProgress = () => {
      if (++exchanges === 4) ending.abort()
    }
    await replica.synchronize({ signal: ending.signal, onProgress }).catch(() => undefined)
    t.ok((await staged(shop)) > 0)
  }
  till.cashier.sell('R-0', lines(3))
  await till.replica.synchronize()
  const backup = till.db.serialize()
  till.cashier.sell('R-1', lines(3_000))
  await stop()
  await till.replica.stop()
  till.db.close()
  const { rmSync, writeFileSync } = await import('node:fs')
  for (const suffix of ['-wal', '-shm']) rmSync(till.file + suffix, { force: true })
  writeFileSync(till.file, backup)
  const { default: Database } = await import('better-sqlite3')
  const { Cashier } = await import('../support/sales.ts')
  const db = new Database(till.file)
  t.teardown(() => db.close())
  const cashier = new Cashier(db, till.location)
  cashier.sell('R-1', lines(3_000, '2'))
  cashier.sell('R-2', lines(1))
  const again = till.again()
  await again.install()
  await again.synchronize()
  await isDone(t, shop, { ...till, db, replica: again }, 'restored')
})

t.test('a record that no message holds parks its document, until it is changed; nothing else waits', async (t) => {
  const { shop, till } = await opened(t)
  till.cashier.sell('R-0', lines(1))
  await till.replica.synchronize()
  const id = till.cashier.sell('R-1', lines(1))
  till.db.prepare('UPDATE receipts SET customer_no = ? WHERE id = ?').run('x'.repeat(60_000), id)
  till.cashier.sell('R-2', lines(1))
  await till.replica.synchronize()
  const { parked, pending } = await till.replica.status()
  t.match(parked, [{ table: 'receipts', recordId: [id], code: 'ERR_TOO_LARGE', message: /60,?\d+ bytes.*maxMessageBytes/ }])
  t.equal(pending, 0)
  const mirrored = async () => (await shop.pool.query('SELECT receipt_no FROM receipts ORDER BY 1')).rows.map(({ receipt_no }) => receipt_no)
  t.same(await mirrored(), ['R-0', 'R-2'])
  till.db.prepare('UPDATE receipts SET customer_no = NULL WHERE id = ?').run(id)
  await till.replica.synchronize()
  await isDone(t, shop, till, 'mended')
})

t.test('a document over `maxDocumentBytes` parks too; one that was sealed before is refused, and said', async (t) => {
  const { shop, till } = await opened(t, { maxDocumentBytes: 100_000 })
  const id = till.cashier.sell('R-1', lines(3_000))
  await t.rejects(till.replica.synchronize(), { code: 'ERR_TOO_LARGE', retryable: false })
  const before = await staged(shop)
  await t.rejects(till.replica.synchronize(), { code: 'ERR_TOO_LARGE' })
  t.equal(await staged(shop), before, 'no more is kept')
  t.ok(before > 0 && (await shop.pool.query('SELECT sum(bytes)::int AS bytes FROM sync_frames')).rows[0].bytes <= 100_000)
  t.match(await till.replica.status(), { lastError: { code: 'ERR_TOO_LARGE' } })
  const other = await shop.addTill('POS2')
  await other.replica.synchronize()
  other.cashier.sell('R-1', lines(3_000))
  other.cashier.sell('R-2', lines(3))
  await other.replica.synchronize()
  t.match(await other.replica.status(), { pending: 0, parked: [{ code: 'ERR_TOO_LARGE', message: /maxDocumentBytes/ }] })
  t.ok(id > 0)
})
