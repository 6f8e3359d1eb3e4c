import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import type { PostgresCapture } from '../../src/adapters/postgres/capture.ts'
import { createCentral, createRegister, mirror, negate, stockMovements } from '../../src/index.ts'
import { RegisterReplica } from '../../src/register.ts'
import { httpLink, toNodeHandler } from '../../src/transport/http.ts'
import { ScriptedClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { endingLine } from '../support/fault/ending-line.ts'
import { createPool, openPool, startServer } from '../support/postgres.ts'
import { isComplete, openTill, PUBLISH, TABLES } from '../support/postgres-till.ts'

const server = await startServer(t)

/** Another connection of the POS application's. */
async function session(t: Test, pool: pg.Pool, settings: pg.ClientConfig = {}): Promise<pg.Client> {
  const { host, port, user, password, database } = pool.options
  const client = new pg.Client({ host, port, user, password: password as string, database, ...settings })
  await client.connect()
  t.teardown(() => client.end())
  return client
}

t.test('two collectors at once give numbers without a gap', async (t) => {
  const till = await openTill(t, server)
  const other = till.again()
  await till.replica.start()
  await other.start()
  const host = await session(t, till.pool)
  for (let id = 1; id <= 200; id++) await host.query(`INSERT INTO receipts VALUES (${id}, 'posted', 1)`)
  await eventually('all is sealed', async () => (await till.replica.status()).head.entryNo === 200)
  const entries = await till.replica.entries({ limit: 1_000 })
  t.same(
    entries.map((entry) => entry.entryNo),
    Array.from({ length: 200 }, (_, n) => n + 1),
  )
  await isComplete(t, till, 'nothing twice, nothing lost')
  t.equal((await till.replica.status()).lastError, undefined)
})

t.test('a collector whose connections are cut again and again loses nothing', async (t) => {
  const till = await openTill(t, server)
  await till.replica.start()
  const host = await session(t, till.pool)
  for (let id = 1; id <= 300; id++) {
    await host.query(`INSERT INTO receipts VALUES (${id}, 'posted', 1); INSERT INTO receipt_lines VALUES (${id}, ${id}, 'A')`)
    if (id % 20 === 0)
      await host.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()')
  }
  await eventually('all is sealed', async () => (await host.query('SELECT count(*)::int FROM sync_members')).rows[0].count === 300)
  await isComplete(t, till, 'after the cuts')
})

t.test('touches of long ago that a backup brings back while a till runs are taken', async (t) => {
  const { pool, sealed } = await openTill(t, server)
  await pool.query('INSERT INTO receipts VALUES (1)')
  await pool.query('CREATE TABLE backup AS SELECT * FROM sync_touches')
  t.same(await sealed(), ['upsert receipts[1]'])
  await pool.query('INSERT INTO receipts VALUES (2)')
  t.same(await sealed(), ['upsert receipts[2]'])
  await pool.query('UPDATE receipts SET total = 5 WHERE id = 1; TRUNCATE sync_touches; INSERT INTO sync_touches SELECT * FROM backup')
  t.same(await sealed(), ['upsert receipts[1]'])
  await pool.query('UPDATE receipts SET total = 6 WHERE id = 1; DELETE FROM sync_touches; INSERT INTO sync_touches SELECT * FROM backup')
  t.same(await sealed(), ['upsert receipts[1]'], 'row by row, too')
})

t.test('a till that runs looks for touches of long ago every 30 seconds', async (t) => {
  const { pool, replica: other } = await openTill(t, server)
  const clock = new ScriptedClock()
  const till = new RegisterReplica({ location: 'BA01', register: 'POS1', database: postgres(pool), publish: PUBLISH }, clock)
  t.teardown(() => till.stop())
  await pool.query('INSERT INTO receipts VALUES (1); CREATE TABLE backup AS SELECT * FROM sync_touches')
  await till.start()
  const sealed = async () => (await other.entries()).map(({ recordId, record }) => [...recordId, record?.total])
  const sold = async (id: number) => {
    await pool.query(`INSERT INTO receipts VALUES (${id})`)
    await eventually(`receipt ${id} is sealed`, async () => (await sealed()).some(([one]) => one === id))
  }
  await sold(2)
  await pool.query(
    'BEGIN; UPDATE receipts SET total = 5 WHERE id = 1; DELETE FROM sync_touches; INSERT INTO sync_touches SELECT * FROM backup; COMMIT',
  )
  await sold(3)
  clock.advance(29_000)
  await sold(4)
  const before = [
    [1, null],
    [2, null],
    [3, null],
    [4, null],
  ]
  t.same(await sealed(), before)
  clock.advance(1_000)
  await sold(5)
  t.same((await sealed()).slice(before.length).sort(), [
    [1, '5'],
    [5, null],
  ])
})

t.test('a connection that is ended in the moment in which the pool hands it on ends nothing but itself', async (t) => {
  const till = await openTill(t, server)
  const line = await endingLine(t, server)
  // Two connections for all: each is handed on as soon as it is given back.
  const pool = openPool(t, { ...till.pool.options, password: server.password, port: line.port, max: 2 })
  const replica = createRegister({ location: 'BA01', register: 'POS1', database: postgres(pool), publish: PUBLISH })
  t.teardown(() => replica.stop())
  await replica.start()
  for (let id = 1; id <= 60; id++) {
    await till.pool.query(`INSERT INTO receipts VALUES (${id}, 'posted', 1)`)
    line.endBehind((id % 20) + 1)
    await Promise.allSettled([replica.seal(), replica.status(), replica.entries({ limit: 1 }), replica.check()])
  }
  t.ok(line.ended > 30, `${line.ended} connections were ended`)
  await isComplete(t, till, 'after the ends')
})

t.test('a till on PostgreSQL brings its sales to a head office on PostgreSQL', async (t) => {
  const office = await createPool(t, server)
  await office.query(
    'CREATE TABLE receipts (id bigint PRIMARY KEY, status text, total numeric); CREATE TABLE receipt_lines (id bigint PRIMARY KEY, receipt_id bigint, item_no text)',
  )
  const central = createCentral({
    database: postgres(office),
    subscribe: {
      receipts: [
        mirror(),
        stockMovements(
          (receipt) => receipt.parts.receipt_lines?.map((line) => ({ item: line.item_no, location: 'BA01', quantity: negate('1') })) ?? [],
        ),
      ],
    },
  })
  await central.install()
  const { token } = await central.registers.add({ location: 'BA01', register: 'POS1' })
  const http = createServer(toNodeHandler(central.fetch)).listen(0, '127.0.0.1')
  await new Promise((resolve) => http.once('listening', resolve))
  const pool = await createPool(t, server)
  await pool.query(TABLES)
  const link = httpLink({ url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`, token })
  const till = createRegister({ location: 'BA01', register: 'POS1', database: postgres(pool), publish: PUBLISH, transfer: { type: 'push', link } })
  t.teardown(async () => {
    await till.stop()
    await central.stop()
    http.close()
    http.closeAllConnections()
  })
  await till.install()
  await till.start()
  await pool.query(`BEGIN; INSERT INTO receipts VALUES (1, 'posted', 9.90); INSERT INTO receipt_lines VALUES (1, 1, 'A'), (2, 1, 'B'); COMMIT`)
  await eventually('the sale is there', async () => (await office.query('SELECT FROM stock_movements')).rowCount === 2)
  await pool.query(`BEGIN; UPDATE receipts SET total = 4.95; DELETE FROM receipt_lines WHERE id = 2; COMMIT`)
  await eventually('the correction is there', async () => (await office.query('SELECT FROM stock_movements')).rowCount === 3)
  t.same((await office.query('SELECT * FROM receipts')).rows, [{ id: '1', status: 'posted', total: '4.95' }])
  t.same((await office.query('SELECT item_no, quantity::int FROM stock_levels WHERE quantity <> 0')).rows, [{ item_no: 'A', quantity: -1 }])
})

t.test('a transaction is sealed whole, in one go, and one beyond all bounds arrives too', async (t) => {
  const till = await openTill(t, server)
  const slices: number[] = []
  till.replica.on('sealed', ({ documents }) => slices.push(documents))
  await till.pool.query(`INSERT INTO receipts SELECT n, 'posted', n FROM generate_series(1, 900) n`)
  await till.replica.seal()
  t.same(slices, [900])
  await till.pool.query(`INSERT INTO receipts SELECT n, 'posted', n FROM generate_series(1001, 13000) n`)
  await till.replica.seal()
  t.same(slices.slice(1), [5_000, 5_000, 2_000])
  await isComplete(t, till, 'all')
})

t.test('an idle poll stays cheap over a hundred thousand dead touches, though a transaction that writes is open for long', async (t) => {
  const till = await openTill(t, server, { publish: { receipts: {} } })
  const old = await session(t, till.pool)
  await old.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT pg_current_xact_id()') // no vacuum can remove what is deleted from now on
  await till.pool.query('INSERT INTO receipts VALUES (1)')
  // As many statements on it would leave; it takes a tenth of the time.
  const { rowCount } = await till.pool.query(
    'INSERT INTO sync_touches (source, kind, key) SELECT source, kind, key FROM sync_touches, generate_series(1, 100000)',
  )
  t.equal(rowCount, 100_000)
  await till.replica.seal()
  t.equal((await till.pool.query('SELECT FROM sync_touches')).rowCount, 0)
  await till.pool.query('INSERT INTO receipts VALUES (0)')
  await till.replica.seal()
  const { capture } = (till.replica as unknown as { readonly database: { readonly capture: PostgresCapture } }).database
  const { sql, parameters } = capture.poll()
  const { rows } = await till.pool.query(`EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${sql}`, [...parameters])
  const [{ Plan: plan }] = rows[0]['QUERY PLAN']
  t.ok(plan['Shared Hit Blocks'] + plan['Shared Read Blocks'] < 20, `${plan['Shared Hit Blocks']} blocks`)
  await old.query(`ROLLBACK; BEGIN; INSERT INTO receipts VALUES (2)`)
  await till.pool.query('INSERT INTO receipts VALUES (3)')
  t.same(await till.sealed(), ['upsert receipts[1]', 'upsert receipts[0]', 'upsert receipts[3]'])
  await old.query('COMMIT')
  t.same(await till.sealed(), ['upsert receipts[2]'], 'what was open is taken when it is over')
})
