import { once } from 'node:events'
import { rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type SqlBool, sql } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { accountForPostgres } from '../../examples/support/postgres-programs.ts'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { classify } from '../../src/adapters/postgres/errors.ts'
import { createRegister } from '../../src/index.ts'
import { settled } from '../support/copy.ts'
import { isDocumented } from '../support/documented.ts'
import { eventually } from '../support/eventually.ts'
import { openPool, startServer } from '../support/postgres.ts'
import { openTill, PUBLISH, TABLES } from '../support/postgres-till.ts'
import { contentsOf, HOST_PUBLISH, HOST_STATEMENTS, openTwins, outcomeOf, type Twins } from '../support/postgres-twin.ts'
import { openShop } from '../support/shop.ts'
import { tinyDisk } from '../support/tiny-disk.ts'

const server = await startServer(t)
const twins = await openTwins(t, server)

/** The host does all that it does, on both; the same comes of it. */
async function sell(t: Test, { own, twin }: Pick<Twins, 'own' | 'twin'>): Promise<void> {
  const outcomes = []
  for (const client of [own, twin]) {
    const all = []
    for (const sql of Object.values(HOST_STATEMENTS).flat()) all.push([sql, await outcomeOf(client, sql)])
    outcomes.push(all)
  }
  t.same(outcomes[0], outcomes[1])
  t.same(await contentsOf(own), await contentsOf(twin))
}

/** Every receipt that stands there was given, nothing else, and nothing waits. */
async function isSealed(t: Test, { own, admin, replica }: Pick<Twins, 'own' | 'admin' | 'replica'>): Promise<void> {
  await settled(replica)
  t.match(await replica.status(), { unsealed: 0, parked: [], lastError: undefined })
  const [receipts = []] = await contentsOf(own)
  const { rows } = await admin.query('SELECT record_id FROM sync_members')
  t.same(rows.map((row) => row.record_id).sort(), receipts.map(({ id }) => `[${id}]`).sort())
  t.same(await replica.reseal('receipts'), { documents: 0, entries: 0 }, 'nothing is missing')
}

t.test('sync_touches locked: a sale waits, as long as its own timeouts let it, and goes on when the lock is gone', async (t) => {
  const till = await twins(t)
  const { own, twin, admin } = till
  isDocumented(t, 'wait, up to their own timeouts')
  await admin.query('BEGIN; LOCK TABLE sync_touches')
  const sale = `INSERT INTO receipts (id, receipt_no) VALUES (7, 'waits')`
  for (const setting of ['lock_timeout', 'statement_timeout']) {
    await own.query(`SET ${setting} = '100ms'`)
    t.match(await outcomeOf(own, sale), { code: setting === 'lock_timeout' ? '55P03' : '57014' })
    await own.query(`RESET ${setting}`)
  }
  t.match(await outcomeOf(own, `INSERT INTO drawer (opened_at) VALUES ('now')`), { rowCount: 1 }, 'what is not published does not wait')
  await twin.query(`INSERT INTO drawer (opened_at) VALUES ('now')`)
  for (const client of [own, twin]) await client.query(`SELECT setval('receipts_id_seq', 10)`)
  const waiting = outcomeOf(own, sale)
  await eventually('the sale waits', async () => (await till.library.query(`SELECT FROM pg_locks WHERE NOT granted`)).rowCount)
  await admin.query('COMMIT')
  t.match(await waiting, { rowCount: 1 })
  await twin.query(sale)
  await sell(t, till)
  await isSealed(t, till)
})

t.test('other tables of ours locked: sales do not wait, sealing does', async (t) => {
  const till = await twins(t)
  await till.admin.query('BEGIN; LOCK TABLE sync_entries, sync_members, sync_state, sync_sources, sync_parked')
  let sealed = false
  const sealing = till.replica.seal().then(() => {
    sealed = true
  })
  await sell(t, till)
  t.notOk(sealed)
  await till.admin.query('COMMIT')
  await sealing
  await isSealed(t, till)
})

t.test('timeouts of the role end no sealing: not one of a slow filter, nor one of a busy host', async (t) => {
  isDocumented(t, 'sets `statement_timeout`, `idle_in_transaction_session_timeout` and `transaction_timeout` to 0 in its own transactions')
  const { pool } = await openTill(t, server, { publish: { receipts: {} } })
  await pool.query(`CREATE FUNCTION slow(id bigint) RETURNS boolean LANGUAGE sql AS 'SELECT pg_sleep(0.8) IS NOT NULL'`)
  const since17 = Number((await pool.query('SHOW server_version_num')).rows[0].server_version_num) >= 170_000
  const limits = ['statement_timeout', 'idle_in_transaction_session_timeout', 'lock_timeout', ...(since17 ? ['transaction_timeout'] : [])]
  const options = `${limits.map((name) => `-c ${name}=500ms`).join(' ')} -c application_name=library`
  const limited = openPool(t, { ...server.database(String(pool.options.database)).config, options })
  const publish = { receipts: { where: () => sql<SqlBool>`slow(id)` } }
  const replica = createRegister({ location: 'A', register: '1', database: postgres(limited), publish })
  t.teardown(() => replica.stop())
  await replica.install()
  await pool.query(`INSERT INTO receipts VALUES (1)`)
  const sealing = replica.seal()
  await eventually(
    'the filter runs',
    async () => (await pool.query(`SELECT FROM pg_stat_activity WHERE application_name = 'library' AND wait_event = 'PgSleep'`)).rowCount,
  )
  for (const until = performance.now() + 2_000; performance.now() < until; ); // the host has something else to do
  t.same(await sealing, { documents: 1, entries: 1 })
})

t.test('a transaction that the server ended because it was idle is tried again', async (t) => {
  const client = new pg.Client({ ...server.database('postgres').config, options: '-c idle_in_transaction_session_timeout=10ms' })
  await client.connect()
  client.on('error', () => undefined) // it hears of its end twice
  const ended = once(client, 'error')
  await client.query('BEGIN')
  t.match(classify((await ended)[0], 'test'), { code: 'ERR_DATABASE', retryable: true, context: { sqlState: '25P03' } })
})

t.test('`array_nulls` off in the sessions of the library makes no NULL a word', async (t) => {
  const till = await twins(t)
  const { host, port, database } = till.admin.options
  const pool = openPool(t, { host, port, database, user: 'library', password: 'x', options: '-c array_nulls=off' })
  const replica = createRegister({ location: 'A', register: '1', database: postgres(pool, { schema: till.schema }), publish: { receipts: {} } })
  t.teardown(() => replica.stop())
  await till.admin.query(`INSERT INTO receipts (id, receipt_no) VALUES (7, 'R-7')`)
  await replica.seal()
  await till.admin.query('UPDATE receipts SET total = 1 WHERE id = 7')
  t.same(await replica.seal(), { documents: 1, entries: 1 }, 'not a removal and another document')
})

t.test('a role whose transactions only read where nothing else is said seals all the same', async (t) => {
  const till = await twins(t)
  isDocumented(t, '`quote_all_identifiers`, `default_transaction_read_only`, `default_transaction_isolation` …) changes nothing.')
  await till.admin.query('ALTER ROLE library SET default_transaction_read_only = on')
  const { host, port, database } = till.admin.options
  const pool = openPool(t, { host, port, database, user: 'library', password: 'x' })
  const replica = createRegister({ location: 'A', register: '1', database: postgres(pool, { schema: till.schema }), publish: HOST_PUBLISH })
  t.teardown(() => replica.stop())
  await sell(t, till)
  await replica.install()
  t.match(await replica.seal(), { documents: Number })
  await till.admin.query('ALTER ROLE library RESET default_transaction_read_only')
  await isSealed(t, till)
})

t.test('a running register notices what is done to its triggers, functions and touches, and mends it by itself', async (t) => {
  const till = await twins(t)
  const { admin, own, replica } = till
  await replica.start()
  for (const [n, sql] of [
    'ALTER TABLE sync_touches ADD CHECK (kind = 99) NOT VALID',
    `CREATE OR REPLACE FUNCTION sync_touch_receipts() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
    'ALTER FUNCTION sync_touch_receipts() SECURITY INVOKER',
    `CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER own BEFORE INSERT ON sync_touches FOR EACH ROW EXECUTE FUNCTION own()`,
  ].entries()) {
    await admin.query(sql)
    await replica.seal() // what it does by itself after five seconds, or after any sale of another table
    t.match(await outcomeOf(own, `INSERT INTO receipts (id, receipt_no) VALUES (${1_000 + n}, 'after ${n}')`), { rowCount: 1 }, sql)
    await eventually('captured', async () => (await admin.query(`SELECT FROM sync_members WHERE record_id = '[${1_000 + n}]'`)).rowCount)
  }
})

t.test('a sale that was open while sync_touches was missing is found, although it commits after install()', async (t) => {
  const till = await twins(t)
  const { admin, own, replica } = till
  await admin.query('DROP TABLE sync_touches')
  await own.query(`BEGIN; INSERT INTO receipts (id, receipt_no) VALUES (7, 'late')`)
  const installing = replica.install()
  await eventually('it waits for the sale', async () => (await till.library.query(`SELECT FROM pg_locks WHERE NOT granted`)).rowCount)
  await own.query('COMMIT')
  await installing
  await isSealed(t, till)
})

t.test('touches whose key is of no type that the column has any more hold nothing up, and what stands there is sealed', async (t) => {
  const { pool, replica } = await openTill(t, server, { tables: 'CREATE TABLE receipts (id text PRIMARY KEY, total int)', publish: { receipts: {} } })
  await pool.query(
    `INSERT INTO receipts VALUES ('R1', 1), ('2', 2); UPDATE receipts SET id = '1' WHERE id = 'R1'; ALTER TABLE receipts ALTER id TYPE bigint USING id::bigint`,
  )
  await replica.seal()
  t.same((await replica.status()).parked, [], 'it stands for no record')
  await settled(replica)
  t.same((await pool.query('SELECT record_id FROM sync_members ORDER BY 1')).rows, [{ record_id: '[1]' }, { record_id: '[2]' }])
})

t.test('a till that lost its entries or its state is noticed at the next exchange, and goes on', async (t) => {
  isDocumented(t, '`sync_entries`, `sync_state`: the next exchange notices, and the till goes on in a new epoch')
  const shop = await openShop(t, server)
  for (const [n, table] of ['sync_entries', 'sync_state'].entries()) {
    const till = await shop.addTill(`POS${n}`)
    for (const receipt of ['R-1', 'R-2']) till.cashier.sell(receipt, [{ item: 'A', quantity: '1', amount: '1' }])
    await till.replica.synchronize()
    await till.replica.stop()
    till.db.exec(`DROP TABLE ${table}`)
    const again = till.again()
    await again.install()
    await again.synchronize()
    till.cashier.sell('R-3', [{ item: 'A', quantity: '1', amount: '1' }])
    await again.synchronize()
    await shop.balances(t, till, table)
    t.same(await shop.central.orphans.list(), [])
  }
})

t.test('a disk that is full: sales fail as without us, and when there is room again nothing is missing', async (t) => {
  const disk = await tinyDisk(t, 40_000_000, await accountForPostgres())
  if (disk === undefined) return
  const admin = openPool(t, { ...server.database('postgres').config, max: 1 })
  await admin.query(`CREATE TABLESPACE tiny LOCATION '${disk}'`)
  await admin.query('CREATE DATABASE full_till TABLESPACE tiny')
  t.teardown(async () => {
    const last = new pg.Client(server.database('postgres').config)
    await last.connect()
    await last.query('DROP DATABASE full_till WITH (FORCE)')
    await last.query('DROP TABLESPACE tiny')
    await last.end()
  })
  const pool = openPool(t, { ...server.database('full_till').config, max: 4 })
  await pool.query(`${TABLES}; CREATE SCHEMA bare; SET search_path = bare; ${TABLES}; RESET search_path`)
  const replica = createRegister({ location: 'A', register: '1', database: postgres(pool), publish: PUBLISH })
  t.teardown(() => replica.stop())
  await replica.install()
  await replica.start()
  const { bavail, bsize } = await statfs(disk)
  const ballast = join(disk, 'ballast')
  await writeFile(ballast, Buffer.alloc(bavail * bsize - 1_000_000))
  const sold = { own: 0, bare: 0 }
  for (const [who, schema] of [
    ['own', 'public'],
    ['bare', 'bare'],
  ] as const) {
    const sale = () => pool.query(`INSERT INTO ${schema}.receipts SELECT n FROM generate_series($1::int, $1 + 99) n`, [sold[who] * 100])
    let failure: unknown
    for (; failure === undefined; )
      await sale().then(
        () => sold[who]++,
        (error) => {
          failure = error
        },
      )
    t.match(failure, { code: '53100' }, `without us: ${who === 'bare'}`)
  }
  t.comment(`${sold.own} hundred receipts, then ${sold.bare} without us in what was left`)
  await eventually('it says so', async () => (await replica.status()).lastError?.retryable)
  await rm(ballast)
  await pool.query(`INSERT INTO receipts VALUES (-1, 'posted', 1)`)
  const count = async (sql: string) => Number((await pool.query(sql)).rows[0].count)
  await eventually(
    'all is sealed',
    async () => (await count('SELECT count(*) FROM sync_members')) === (await count('SELECT count(*) FROM receipts')),
    30_000,
  )
  await replica.stop()
})

t.test("the library's connections are ended, and the server: sales fail only while there is none, and all is sealed", async (t) => {
  const till = await twins(t)
  const { admin, library, replica } = till
  await replica.start()
  for (let n = 0; n < 10; n++) {
    await admin.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'library'`)
    t.match(await outcomeOf(till.own, `INSERT INTO receipts (id, receipt_no) VALUES (${2_000 + n}, 'while ${n}')`), { rowCount: 1 })
    await till.twin.query(`INSERT INTO receipts (id, receipt_no) VALUES (${2_000 + n}, 'while ${n}')`)
  }
  await sell(t, till)
  await eventually('all is sealed', async () => (await replica.status().catch(() => undefined))?.unsealed === 0)
  await server.kill()
  // A process of the server may answer once more before it notices.
  const isAway = () =>
    library.query('SELECT 1').then(
      () => false,
      () => true,
    )
  await eventually('it is away', isAway)
  await t.rejects(replica.seal(), { code: 'ERR_DATABASE', retryable: true })
  await server.restart()
  const pool = openPool(t, { ...server.database(String(admin.options.database)).config, max: 1, options: `-c search_path=${till.schema}` })
  await pool.query(`INSERT INTO receipts (id, receipt_no) VALUES (3000, 'after')`)
  await eventually('it goes on', async () => (await pool.query(`SELECT FROM sync_members WHERE record_id = '[3000]'`)).rowCount)
  await eventually('nothing fails any more', async () => (await replica.status()).lastError === undefined)
})
