import { DatabaseSync } from 'node:sqlite'
import Database from 'better-sqlite3'
import { type SqlBool, sql } from 'kysely'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister } from '../../src/index.ts'
import { sealedBy } from '../support/each-database.ts'
import { eventually } from '../support/eventually.ts'
import { createPool, openPool, startServer } from '../support/postgres.ts'
import { openTill } from '../support/postgres-till.ts'
import { openDatabase } from '../support/shop.ts'
import { snapshotOf } from '../support/snapshots.ts'

// A table that the library can't read as it is connected, while the host goes on with it and with others.

const server = await startServer(t)
const PUBLISH = { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } }, items: {} }
const TABLES = `
  CREATE TABLE receipts (id INTEGER PRIMARY KEY, total INTEGER); CREATE TABLE items (id INTEGER PRIMARY KEY);
  CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER, net INTEGER); CREATE INDEX by_receipt ON receipt_lines (receipt_id)`
const vat = (net: unknown) => Number(net) / 4

t.test('SQLite: a column by a function that our connection lacks is refused by install(), and nothing is changed', async (t) => {
  for (const column of ['receipts ADD COLUMN vat AS (vat(total))', 'receipt_lines ADD COLUMN vat AS (vat(net))']) {
    const { db, file } = openDatabase(t, TABLES)
    db.function('vat', { deterministic: true }, vat)
    db.exec(`ALTER TABLE ${column}`)
    const open = () => new Database(file)
    const [till, able] = [open, () => open().function('vat', { deterministic: true }, vat)].map((connect) => {
      const till = createRegister({ location: 'A', register: '1', database: sqlite(connect), publish: PUBLISH })
      t.teardown(() => till.stop())
      return till
    }) as [ReturnType<typeof createRegister>, ReturnType<typeof createRegister>]
    const before = snapshotOf(db)
    await t.rejects(till.install(), { code: 'ERR_DATABASE', message: /receipts.*vat/, hint: /sqlite\(/ })
    t.equal(snapshotOf(db), before)
    await able.install()
    db.exec('INSERT INTO receipts (id, total) VALUES (1, 8)')
    t.same(await sealedBy(able)(), ['upsert receipts[1]'])
  }
})

t.test('SQLite: where such a column comes later, its table waits, with what goes meanwhile, and no other does', async (t) => {
  const { db, file } = openDatabase(t, TABLES)
  const open = () => new Database(file)
  const till = createRegister({ location: 'A', register: '1', database: sqlite(open), publish: PUBLISH })
  await till.install()
  const sealed = sealedBy(till)
  db.exec('INSERT INTO receipts VALUES (1, 8), (2, 8), (3, 8); INSERT INTO receipt_lines VALUES (1, 1, 8), (2, 2, 4); INSERT INTO items VALUES (1)')
  t.equal((await sealed()).length, 6)
  const host = new DatabaseSync(file) // knows the function, as another program may
  t.teardown(() => host.close())
  host.function('vat', { deterministic: true }, vat)
  host.exec('ALTER TABLE receipt_lines ADD COLUMN vat AS (vat(net))')
  host.exec(
    'DELETE FROM receipts WHERE id = 2; UPDATE receipt_lines SET net = 12 WHERE id = 1; INSERT INTO receipts VALUES (4, 1); INSERT INTO items VALUES (2)',
  )
  t.same(await sealed(), ['upsert items[2]'])
  t.match((await till.status()).problems, [{ table: 'receipts', error: { code: 'ERR_DATABASE', hint: /sqlite\(/ } }])
  await t.rejects(till.export('receipts', { id: 1 }), { code: 'ERR_DATABASE', message: /vat/ })
  t.match(
    (await till.check()).find(({ code }) => code === 'DRIFT'),
    { table: 'receipts', hint: /sqlite\(/ },
  )
  await till.start()
  host.exec('INSERT INTO receipts VALUES (5, 1); INSERT INTO receipt_lines (id, receipt_id) VALUES (5, 5)')
  await till.stop()
  const able = createRegister({
    location: 'A',
    register: '1',
    database: sqlite(() => open().function('vat', { deterministic: true }, vat)),
    publish: PUBLISH,
  })
  t.teardown(() => able.stop())
  host.exec('DELETE FROM receipts WHERE id = 3')
  await able.seal()
  t.same((await sealedBy(able)()).slice(7).sort(), [
    'remove receipts[2]',
    'remove receipts[3]',
    'upsert receipt_lines[1]',
    'upsert receipt_lines[5]',
    'upsert receipts[1]',
    'upsert receipts[4]',
    'upsert receipts[5]',
  ])
  t.match(await able.status(), { problems: [], resealing: [], unsealed: 0 })
})

t.test('SQLite: check() goes on where an index has a function that our connection lacks', async (t) => {
  const { db, file } = openDatabase(t, TABLES)
  db.function('vat', { deterministic: true }, vat)
  db.exec('CREATE UNIQUE INDEX large ON receipts (total) WHERE vat(total) > 100; INSERT INTO receipts VALUES (1, 1000)')
  const till = createRegister({ location: 'A', register: '1', database: sqlite(() => new Database(file)), publish: PUBLISH })
  t.teardown(() => till.stop())
  await till.install()
  await till.seal()
  t.match(
    (await till.check()).filter(({ code }) => code === 'NO_INDEX'),
    [{ table: 'receipts', message: /can't tell.*vat/, hint: /sqlite\(/ }],
  )
  db.exec('REPLACE INTO receipts VALUES (2, 1000)')
  t.same((await sealedBy(till)()).sort(), ['upsert receipts[2]'], 'what it replaced had been withheld')
})

t.test('SQLite: a connection that lacks a function of an index goes on writing what that does not concern', async (t) => {
  const { db, file } = openDatabase(t, TABLES)
  const host = new Database(file)
  t.teardown(() => host.close())
  db.function('vat', { deterministic: true }, vat)
  db.exec('ALTER TABLE receipts ADD COLUMN note; CREATE UNIQUE INDEX large ON receipts (total) WHERE vat(total) > 100')
  const till = createRegister({ location: 'A', register: '1', database: sqlite(() => new Database(file)), publish: PUBLISH })
  t.teardown(() => till.stop())
  await till.install()
  db.exec('INSERT INTO receipts (id, total) VALUES (1, 4)')
  const sealed = sealedBy(till)
  await sealed()
  host.exec(`UPDATE receipts SET note = 'late' WHERE id = 1`)
  t.same(await sealed(), ['upsert receipts[1]'])
  t.throws(() => host.exec('UPDATE receipts SET total = 5'), /vat/, 'as without us')
  db.exec('UPDATE OR REPLACE receipts SET rowid = 7, total = 1000')
  t.same((await sealed()).sort(), ['remove receipts[1]', 'upsert receipts[7]'])
})

/** A till by the role `clerk`, which owns the tables that there are now, and a pool of the role that may do everything. */
async function openAsClerk(t: Test) {
  const everything = await createPool(t, server)
  await everything.query(
    `DO $$ BEGIN CREATE ROLE clerk LOGIN PASSWORD 'x'; EXCEPTION WHEN duplicate_object THEN NULL; END $$; GRANT ALL ON SCHEMA public TO clerk`,
  )
  const { host, port, database } = everything.options
  const pool = openPool(t, { host, port, database, user: 'clerk', password: 'x' })
  await pool.query(TABLES)
  const till = createRegister({ location: 'A', register: '1', database: postgres(pool), publish: PUBLISH })
  t.teardown(() => till.stop())
  await till.install()
  return { everything, till }
}

t.test('PostgreSQL: a table whose rows the library may not read any more waits, with what goes meanwhile, and no other does', async (t) => {
  const { everything, till } = await openAsClerk(t)
  const sealed = sealedBy(till)
  await everything.query('INSERT INTO receipts VALUES (1, 8), (2, 8), (3, 8); INSERT INTO receipt_lines VALUES (1, 1, 8)')
  t.equal((await sealed()).length, 4)
  for (const [denied, granted, id] of [
    ['REVOKE SELECT ON receipts FROM clerk', 'GRANT SELECT ON receipts TO clerk', 10],
    ['REVOKE SELECT ON receipt_lines FROM clerk', 'GRANT SELECT ON receipt_lines TO clerk', 20],
    [
      'ALTER TABLE receipts ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY few ON receipts USING (id > 1)',
      'ALTER TABLE receipts DISABLE ROW LEVEL SECURITY',
      30,
    ],
  ] as const) {
    await everything.query(`${denied}; INSERT INTO items VALUES (${id}); INSERT INTO receipts VALUES (${id}, 1), (${id + 1}, 1)`)
    t.same(await sealed(), [`upsert items[${id}]`], denied)
    t.match((await till.status()).problems, [{ table: 'receipts', error: { code: 'ERR_DATABASE', hint: /role/ } }])
    await everything.query(`DELETE FROM receipts WHERE id = ${id + 1}; UPDATE receipt_lines SET net = ${id}`)
    t.same(await sealed(), [])
    await everything.query(granted)
    t.same((await sealed()).sort(), ['upsert receipt_lines[1]', 'upsert receipts[1]', `upsert receipts[${id}]`].sort(), granted)
    t.match(await till.status(), { problems: [], resealing: [], unsealed: 0 })
  }
})

t.test('PostgreSQL: a table that another role has made anew, so that we may make no triggers there, waits, and no other does', async (t) => {
  const { everything, till } = await openAsClerk(t)
  const sealed = sealedBy(till)
  await everything.query('INSERT INTO items VALUES (1); INSERT INTO receipts VALUES (1, 8)')
  t.equal((await sealed()).length, 2)
  for (const [id, change] of [
    [10, 'DROP TABLE items; CREATE TABLE items (id INTEGER PRIMARY KEY)'],
    [20, 'DROP TABLE items; CREATE TABLE items (id INTEGER PRIMARY KEY); GRANT SELECT ON items TO clerk'],
    [30, 'ALTER TABLE items OWNER TO CURRENT_USER; DROP TRIGGER sync_touch ON items'],
    [40, 'ALTER TABLE items OWNER TO CURRENT_USER, DISABLE TRIGGER ALL'],
  ] as const) {
    await everything.query(`${change}; INSERT INTO items VALUES (${id}); INSERT INTO receipts VALUES (${id}, 1)`)
    t.same(await sealed(), [`upsert receipts[${id}]`], change)
    t.match((await till.status()).problems, [{ table: 'items', error: { code: 'ERR_DATABASE', hint: /must own/ } }])
    t.match(await till.check(), [{ code: 'DRIFT', table: 'items' }])
    await t.rejects(till.install(), { code: 'ERR_DATABASE', hint: /role/ })
    await everything.query('ALTER TABLE items OWNER TO clerk')
    t.ok((await sealed()).includes(`upsert items[${id}]`), 'what was not noticed meanwhile is found')
    t.match(await till.status(), { problems: [], resealing: [], unsealed: 0 })
  }
  await everything.query('ALTER TABLE items OWNER TO CURRENT_USER; INSERT INTO items VALUES (50)')
  t.same(await sealed(), [], 'where it has triggers it may not be read')
  await everything.query('GRANT SELECT ON items TO clerk')
  t.same(await sealed(), ['upsert items[50]'], 'where it has triggers, and may be read, it need not be ours')
  await everything.query('GRANT UPDATE ON items TO clerk; ALTER TABLE items RENAME id TO no; INSERT INTO items VALUES (60)')
  t.ok((await sealed()).includes('upsert items[60]'), 'nor where only what they run has to be another')
})

t.test('PostgreSQL: where a trigger on DDL lets none be made, other tables go on, and what was not noticed meanwhile is found', async (t) => {
  const pool = await createPool(t, server)
  await pool.query('CREATE TABLE items (id INTEGER PRIMARY KEY); CREATE TABLE receipts (id INTEGER PRIMARY KEY)')
  const till = createRegister({ location: 'A', register: '1', database: postgres(pool), publish: { items: {}, receipts: {} } })
  t.teardown(() => till.stop())
  await till.install()
  const sealed = sealedBy(till)
  await pool.query(`ALTER TABLE items DISABLE TRIGGER ALL; INSERT INTO items VALUES (1); INSERT INTO receipts VALUES (1);
    CREATE FUNCTION frozen() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'frozen until Monday'; END $$;
    CREATE EVENT TRIGGER frozen ON ddl_command_start EXECUTE FUNCTION frozen()`)
  t.same(await sealed(), ['upsert receipts[1]'])
  const refused = { code: 'ERR_DATABASE', message: /items.*frozen until Monday/, hint: /except the role/ }
  t.match((await till.status()).problems, [{ table: 'items', error: refused }])
  t.match(await till.check(), [{ code: 'DRIFT', table: 'items' }])
  await t.rejects(till.install(), refused)
  await pool.query('INSERT INTO receipts VALUES (2)')
  t.same(await sealed(), ['upsert receipts[2]'])
  await pool.query('DROP EVENT TRIGGER frozen')
  t.same(await sealed(), ['upsert items[1]'])
  t.match(await till.status(), { problems: [], resealing: [], unsealed: 0 })
})

t.test('PostgreSQL: a partition that another role has made holds nothing up, and what is sold there is sealed', async (t) => {
  const everything = await createPool(t, server)
  await everything.query('GRANT ALL ON SCHEMA public TO clerk')
  const { host, port, database } = everything.options
  const pool = openPool(t, { host, port, database, user: 'clerk', password: 'x' })
  await pool.query(`CREATE TABLE receipts (id INTEGER PRIMARY KEY, total INTEGER) PARTITION BY RANGE (id);
    CREATE TABLE receipts_1 PARTITION OF receipts FOR VALUES FROM (1) TO (10)`)
  const till = createRegister({ location: 'A', register: '1', database: postgres(pool), publish: { receipts: {} } })
  t.teardown(() => till.stop())
  await till.install()
  const sealed = sealedBy(till)
  await everything.query('CREATE TABLE receipts_2 PARTITION OF receipts FOR VALUES FROM (10) TO (20); INSERT INTO receipts VALUES (1, 8), (11, 8)')
  t.same(await sealed(), ['upsert receipts[1]', 'upsert receipts[11]'])
  await everything.query(
    'UPDATE receipts SET total = 9; INSERT INTO receipts_2 VALUES (12, 8); SET session_replication_role = replica; INSERT INTO receipts_2 VALUES (13, 8); RESET ALL',
  )
  t.same((await sealed()).sort(), ['upsert receipts[11]', 'upsert receipts[12]', 'upsert receipts[13]', 'upsert receipts[1]'])
  await everything.query('ALTER TABLE receipts DETACH PARTITION receipts_2')
  t.same((await sealed()).sort(), ['remove receipts[11]', 'remove receipts[12]', 'remove receipts[13]'])
  await everything.query('ALTER TABLE receipts ATTACH PARTITION receipts_2 FOR VALUES FROM (10) TO (20); DELETE FROM receipts WHERE id = 12')
  t.same((await sealed()).sort(), ['upsert receipts[11]', 'upsert receipts[13]'])
  t.match(await till.status(), { problems: [], unsealed: 0 })
  t.same(
    (await till.check()).filter(({ code }) => code === 'DRIFT'),
    [],
  )
  await till.install()
})

t.test('PostgreSQL: a register that may read none of its tables starts, says so, and goes on by itself when it may', async (t) => {
  const everything = await createPool(t, server)
  await everything.query(
    `DO $$ BEGIN CREATE ROLE clerk LOGIN PASSWORD 'x'; EXCEPTION WHEN duplicate_object THEN NULL; END $$; GRANT ALL ON SCHEMA public TO clerk`,
  )
  const { host, port, database } = everything.options
  const pool = openPool(t, { host, port, database, user: 'clerk', password: 'x' })
  await pool.query('CREATE TABLE items (id integer PRIMARY KEY)')
  const till = createRegister({ location: 'A', register: '1', database: postgres(pool), publish: { items: {} } })
  t.teardown(() => till.stop())
  await till.install()
  await everything.query('REVOKE SELECT ON items FROM clerk; INSERT INTO items VALUES (1), (2); DELETE FROM items WHERE id = 2')
  await t.rejects(till.seal(), { code: 'ERR_DATABASE', hint: /role/ })
  await till.start()
  await eventually('it says so', async () => (await till.status()).lastError?.code === 'ERR_DATABASE')
  await everything.query('GRANT SELECT ON items TO clerk')
  await eventually('it is sealed', async () => (await till.entries()).length === 1)
  await eventually('and all is well', async () => (await till.status()).lastError === undefined)
})

t.test('PostgreSQL: a filter whose function fails keeps its own documents waiting, and no others', async (t) => {
  const { pool, replica, sealed } = await openTill(t, server, {
    tables: `${TABLES}; CREATE TABLE limits (least integer NOT NULL); INSERT INTO limits VALUES (5);
      CREATE FUNCTION is_large(integer) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN $1 > (SELECT least FROM limits); END'`,
    publish: { ...PUBLISH, receipts: { where: () => sql<SqlBool>`is_large(total)` } },
  })
  await pool.query('INSERT INTO receipts VALUES (1, 8); INSERT INTO items VALUES (1)')
  t.same((await sealed()).sort(), ['upsert items[1]', 'upsert receipts[1]'])
  await pool.query('ALTER TABLE limits RENAME TO bounds; INSERT INTO receipts VALUES (2, 8), (3, 1); INSERT INTO items VALUES (2)')
  t.same(await sealed(), ['upsert items[2]'])
  t.match(await replica.status(), { unsealed: 0, parked: [{ recordId: [2], code: 'ERR_FILTER', message: /limits/ }, { recordId: [3] }] })
  await pool.query('ALTER TABLE bounds RENAME TO limits')
  await replica.reseal('receipts')
  t.same(await sealed(), ['upsert receipts[2]'])
  t.same((await replica.status()).parked, [])
})

t.test('PostgreSQL: a filter whose function is gone keeps its own table waiting, until the function is back', async (t) => {
  const { pool, replica, sealed } = await openTill(t, server, {
    tables: `${TABLES}; CREATE FUNCTION is_large(integer) RETURNS boolean LANGUAGE sql AS 'SELECT $1 > 5'`,
    publish: { ...PUBLISH, receipts: { where: () => sql<SqlBool>`is_large(total)` } },
  })
  const events: unknown[] = []
  replica.on('schema', ({ problems }) => events.push(problems.map(({ table, error }) => `${table} ${error.code}`)))
  await pool.query('INSERT INTO receipts VALUES (1, 8), (2, 8), (3, 1); INSERT INTO items VALUES (1)')
  t.same((await sealed()).sort(), ['upsert items[1]', 'upsert receipts[1]', 'upsert receipts[2]'])
  await pool.query('DROP FUNCTION is_large; DELETE FROM receipts WHERE id = 1; UPDATE receipts SET total = 9; INSERT INTO items VALUES (2)')
  t.same(await sealed(), ['upsert items[2]'])
  t.match(await replica.status(), { problems: [{ table: 'receipts', error: { code: 'ERR_FILTER', message: /is_large/ } }], resealing: ['receipts'] })
  await pool.query('INSERT INTO receipts VALUES (4, 1), (5, 9); INSERT INTO items VALUES (3)')
  t.same(await sealed(), ['upsert items[3]'])
  await pool.query(`CREATE FUNCTION is_large(integer) RETURNS boolean LANGUAGE sql AS 'SELECT $1 > 5'`)
  t.same((await sealed()).sort(), ['remove receipts[1]', 'upsert receipts[2]', 'upsert receipts[3]', 'upsert receipts[5]'])
  t.match(await replica.status(), { problems: [], resealing: [], unsealed: 0 })
  t.same(events, [['receipts ERR_FILTER'], []], 'said once')
})
