import Database from 'better-sqlite3'
import t from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister, mirror } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { ScriptedClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { Random } from '../support/random.ts'
import { openShop, PUBLISH } from '../support/shop.ts'
import { CENTRAL_SCHEMA } from '../support/tables.ts'
import { backupOf, restoreFrom } from '../support/world.ts'

const server = await startServer(t)
const YEAR_MS = 365 * 86_400_000

t.test('central that was silent for too long is not waited for, and gets all anew when it is back', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  for (let n = 1; n <= 20; n++) till.cashier.sell(`R-${n}`, [{ item: 'A', quantity: '1', amount: '1' }])
  await till.replica.synchronize()
  for (let n = 21; n <= 40; n++) till.cashier.sell(`R-${n}`, [{ item: 'A', quantity: '1', amount: '1' }])
  till.db.exec("UPDATE receipts SET customer_no = 'C1' WHERE id = 3")
  const patient = till.again({ retainMs: 0 })
  await patient.seal()
  const { pending } = await patient.status()
  await patient.prune()
  t.equal((await patient.status()).pending, pending)
  t.equal((await patient.entries({ after: 0, limit: 1_000 })).length, pending, 'what is pending is kept')
  await patient.stop()
  till.db.exec("UPDATE sync_peers SET contact_at = '2026-01-01T00:00:00.000Z'")
  const forgetful = till.again({ retainMs: 0, forgetAfterMs: 3_600_000 })
  await forgetful.prune()
  t.equal((await forgetful.entries()).length, 1, 'all but the last')
  till.cashier.sell('R-41', [{ item: 'A', quantity: '1', amount: '1' }])
  await forgetful.synchronize()
  await forgetful.synchronize()
  await shop.balances(t, till)
  t.equal(await shop.stock('A'), -41)
  t.same(await shop.central.orphans.list(), [])
  await forgetful.stop()
})

t.test('what central has of entries that were forgotten is known, though its acknowledgement was lost', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill('POS1', { transfer: { recordsPerRun: 1 } })
  const sell = (no: number) => till.cashier.sell(`R-${no}`, [{ item: 'A', quantity: '1', amount: '1' }])
  for (let n = 1; n <= 3; n++) sell(n)
  await till.replica.synchronize()
  const peer = till.db.prepare('SELECT * FROM sync_peers').get() as Record<string, unknown>
  for (let n = 4; n <= 6; n++) sell(n)
  await till.replica.synchronize()
  const { standing } = await till.replica.status()
  await till.replica.stop()
  const columns = Object.keys(peer)
  till.db.prepare(`UPDATE sync_peers SET ${columns.map((name) => `${name} = ?`).join(', ')}`).run(...Object.values(peer))
  till.db.exec("UPDATE sync_peers SET contact_at = '2026-01-01T00:00:00.000Z'; DELETE FROM receipts WHERE id = 5")
  const forgetful = till.again({ retainMs: 0, forgetAfterMs: 3_600_000 })
  t.teardown(() => forgetful.stop())
  sell(7)
  await forgetful.seal()
  await new Promise((resolve) => setTimeout(resolve, 2))
  await forgetful.prune()
  sell(8)
  const forks: unknown[] = []
  forgetful.on('forked', ({ common, anew }) => forks.push({ entryNo: common.entryNo, anew }))
  for (let run = 0; run < 2; run++) await forgetful.synchronize()
  t.same(forks, [{ entryNo: standing?.entryNo, anew: true }])
  t.same(await shop.central.orphans.list(), [], 'what was deleted meanwhile it never hears of')
  t.equal(await shop.stock('A'), -8)
})

t.test('an epoch that tells all anew is pruned too, be it that it began where a digest is kept', async (t) => {
  const shop = await openShop(t, server, {
    schema: `${CENTRAL_SCHEMA}; CREATE TABLE items (item_no text PRIMARY KEY, name text)`,
    subscribe: { items: mirror() },
  })
  const till = await shop.addTill('POS1', {
    schema: 'CREATE TABLE items (item_no TEXT PRIMARY KEY NOT NULL, name TEXT)',
    publish: { items: {} },
    transfer: { recordsPerRun: 1_000 },
  })
  await backupOf(shop.pool, 'backup')
  till.db.exec("WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 1000) INSERT INTO items SELECT 'I' || n, 'Item' FROM n")
  await till.replica.synchronize()
  const pruning = till.again({ retainMs: 0 })
  t.equal((await pruning.status()).head.entryNo, 1_000)
  t.same(await pruning.prune(), { entries: 999 })
  await restoreFrom(shop.pool, 'backup')
  for (let run = 0; run < 2; run++) await pruning.synchronize()
  t.equal((await shop.pool.query('SELECT FROM items')).rowCount, 1_000)
  t.same(await pruning.prune(), { entries: 1_000 })
  t.equal((await pruning.entries()).length, 1)
  await pruning.stop()
})

t.test('of entries that were pruned long ago one digest in a thousand is kept, and those with which epochs began', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const { db } = till
  const pruning = till.again({ retainMs: 0 })
  t.teardown(() => pruning.stop())
  const sell = (no: number) => till.cashier.sell(`R-${no}`, [{ item: 'A', quantity: '1', amount: '1' }])
  const kept = () => (db.prepare('SELECT entry_no FROM sync_digests ORDER BY entry_no').all() as { entry_no: number }[]).map((row) => row.entry_no)
  await till.replica.synchronize()
  await backupOf(shop.pool, 'empty')
  for (let n = 1; n <= 3; n++) sell(n)
  await pruning.synchronize()
  const { head } = await pruning.status()
  await pruning.prune()
  await restoreFrom(shop.pool, 'empty')
  for (let run = 0; run < 2; run++) await pruning.synchronize()
  await pruning.prune()
  const ends = kept()
  t.ok(ends.length === 5 && ends.includes(head.entryNo), 'of documents, and where the epoch began that told all anew')
  // As if so many had been sealed meanwhile.
  const later = 200_000
  db.exec(`UPDATE sync_entries SET entry_no = entry_no + ${later}; UPDATE sync_peers SET entry_no = entry_no + ${later}`)
  db.exec(`UPDATE sync_state SET value = json_set(value, '$.through', json_extract(value, '$.through') + ${later}) WHERE key = 'ends'`)
  db.exec("INSERT INTO sync_digests VALUES (1000, x'00')")
  db.exec(
    `INSERT INTO sync_entries SELECT entry_no + 1, table_name, operation, record_id, record, document, sealed_at, digest FROM sync_entries; UPDATE sync_peers SET entry_no = entry_no + 1`,
  )
  t.same(await pruning.prune(), { entries: 1 })
  const last = (db.prepare("SELECT json_extract(value, '$.through') AS n FROM sync_state WHERE key = 'ends'").get() as { n: number }).n
  t.same(
    kept().filter((n) => n <= 1_000),
    [...ends.filter((n) => n > last - later || n === head.entryNo), 1_000],
  )
})

t.test('what was sealed while the clock was years ahead keeps nothing behind it from being pruned', async (t) => {
  const shop = await openShop(t, server)
  const clock = new ScriptedClock()
  const till = await shop.addTill('POS1', { clock })
  clock.set(10 * YEAR_MS)
  till.cashier.sell('R-1', [{ item: 'A', quantity: '1', amount: '1' }])
  await till.replica.synchronize()
  clock.set(-10 * YEAR_MS)
  till.cashier.sell('R-2', [{ item: 'A', quantity: '1', amount: '1' }])
  await till.replica.synchronize()
  const { head } = await till.replica.status()
  t.same(await till.again({ clock, retainMs: Number.MAX_SAFE_INTEGER }).prune(), { entries: 0 }, 'for ever')
  clock.set(YEAR_MS / 2)
  t.same(await till.again({ clock }).prune(), { entries: head.entryNo - 1 }, 'all but the last one')
  await shop.balances(t, till)
})

t.test('what central has acknowledged is pruned when it is old, and nothing else', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const open = (retainMs: number) =>
    createRegister({
      location: till.location,
      register: till.register,
      database: sqlite(() => new Database(till.file)),
      publish: PUBLISH,
      transfer: { type: 'push', link: httpLink({ url: shop.url, token: till.token }) },
      retainMs,
    })
  const random = new Random(1)
  const [patient, eager] = [open(60_000), open(0)]
  t.teardown(() => Promise.all([patient.stop(), eager.stop()]))
  const rows = (table: string) => (till.db.prepare(`SELECT count(*) AS n FROM ${table}`).get() as { n: number }).n
  for (let n = 1; n <= 300; n++) till.cashier.sellAnything(random, `R-${n}`)
  await eager.seal()
  t.same(await eager.prune(), { entries: 0 }, 'nothing before it is acknowledged')
  await eager.synchronize()
  t.same(await patient.prune(), { entries: 0 }, 'nothing before its time')
  const sealed = rows('sync_entries')
  const documents = (till.db.prepare("SELECT count(*) AS n FROM sync_entries WHERE table_name = 'receipts'").get() as { n: number }).n
  await new Promise((resolve) => setTimeout(resolve, 2))
  t.same(await eager.prune(), { entries: sealed - 1 }, 'all but the last one')
  const digests = rows('sync_digests')
  t.ok(
    digests >= documents - 1 && digests <= documents - 1 + Math.floor(sealed / 1_000),
    'a digest is kept where each document ended, and of every thousand',
  )
  till.cashier.sellAnything(random, 'R-301')
  await eager.synchronize()
  await shop.balances(t, till)
  t.match((await eager.entries()).at(0), { entryNo: sealed }, 'numbers go on')
  await eager.start()
  await eventually('it prunes by itself', async () => rows('sync_entries') === 1)
})
