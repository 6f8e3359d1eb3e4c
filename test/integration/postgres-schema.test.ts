import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createRegister } from '../../src/index.ts'
import { eventually } from '../support/eventually.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { isComplete, openTill, PUBLISH, TABLES } from '../support/postgres-till.ts'

const server = await startServer(t)
const SALES = `INSERT INTO receipts SELECT n, 'posted', n FROM generate_series(1, 9) n; INSERT INTO receipt_lines SELECT n, n, 'A' FROM generate_series(1, 9) n`

t.test('columns that are added resend nothing, with a default or without', async (t) => {
  const till = await openTill(t, server)
  await till.pool.query(SALES)
  await till.sealed()
  await till.pool.query(
    `ALTER TABLE receipts ADD note text, ADD points integer NOT NULL DEFAULT 7, ADD at timestamptz DEFAULT now(), ADD state text DEFAULT 'it''s', ADD sizes integer[] DEFAULT '{1,NULL,3}',
       ADD codes text[] DEFAULT ARRAY['a'] || 'b'::text`,
  )
  await till.replica.seal()
  await till.replica.seal()
  t.same(await till.sealed(), [])
  await till.pool.query('UPDATE receipts SET points = 8 WHERE id = 1')
  t.same(await till.sealed(), ['upsert receipts[1]', 'upsert receipt_lines[1]'])
  t.match((await till.replica.entries({ after: 18 }))[0]?.record, { points: 8, state: "it's", note: null })
})

t.test('a type that is changed, so that its values are written otherwise, is published anew', async (t) => {
  const till = await openTill(t, server)
  await till.pool.query(`ALTER TABLE receipts ALTER total TYPE numeric(10, 2); INSERT INTO receipts VALUES (1, 'posted', 1.5)`)
  await till.replica.seal()
  await till.replica.seal()
  await till.sealed()
  await till.pool.query('ALTER TABLE receipts ALTER total TYPE numeric(12, 3)')
  await till.replica.seal()
  t.same(await till.sealed(), ['upsert receipts[1]'])
  t.match((await till.replica.entries()).at(-1)?.record, { total: '1.500' })
})

t.test('triggers that somebody switched off are switched on again, and what they missed is found', async (t) => {
  const till = await openTill(t, server)
  await till.pool.query(SALES)
  await till.replica.seal()
  for (const how of ['DISABLE TRIGGER ALL', 'DISABLE TRIGGER USER', 'ENABLE REPLICA TRIGGER sync_touch']) {
    await till.pool.query(`ALTER TABLE receipt_lines ${how}; SET session_replication_role = origin`)
    await till.pool.query(`UPDATE receipt_lines SET item_no = item_no || 'x' WHERE id = 3; DELETE FROM receipt_lines WHERE id = 4`)
    await till.replica.seal()
    await isComplete(t, till, how)
    await till.pool.query(`INSERT INTO receipt_lines VALUES (4, 4, 'again')`)
    t.same(await till.sealed().then((entries) => entries.slice(-2)), ['upsert receipts[4]', 'upsert receipt_lines[4]'], `${how}: captured again`)
  }
})

t.test('a table dropped and made anew, and one without its function, are captured on', async (t) => {
  const till = await openTill(t, server)
  await till.pool.query(SALES)
  await till.replica.seal()
  await till.pool.query('DROP TABLE receipt_lines; CREATE TABLE receipt_lines (id bigint PRIMARY KEY, item_no text, receipt_id bigint NOT NULL)')
  await till.pool.query(`INSERT INTO receipt_lines VALUES (1, 'B', 1)`)
  await till.replica.seal()
  await isComplete(t, till, 'made anew')
  await till.pool.query('DROP FUNCTION sync_touch_receipt_lines() CASCADE')
  await till.pool.query(`INSERT INTO receipt_lines VALUES (2, 'C', 2)`)
  await till.replica.seal()
  await isComplete(t, till, 'without its function')
})

t.test('a missing table of ours fails no sale, and what was sold meanwhile is found', async (t) => {
  const till = await openTill(t, server)
  await till.pool.query(SALES)
  await till.replica.seal()
  await till.pool.query('DROP TABLE sync_touches')
  await till.pool.query(`INSERT INTO receipts VALUES (10, 'posted', 1)`)
  await t.rejects(till.replica.seal(), { code: 'ERR_NOT_INSTALLED' })
  await till.replica.install()
  await till.replica.seal()
  await isComplete(t, till, 'found')
})

t.test("the host's own migration runs without our triggers, and nothing is lost or resent", async (t) => {
  const till = await openTill(t, server)
  await till.pool.query(SALES)
  await till.sealed()
  await till.replica.migrate(async () => {
    t.same((await till.pool.query('SELECT FROM pg_trigger WHERE NOT tgisinternal')).rowCount, 0)
    await till.pool.query(`UPDATE receipts SET total = -1 WHERE id = 5`)
    for (const one of [till.replica, till.again()]) await one.seal()
    t.same((await till.pool.query('SELECT FROM pg_trigger WHERE NOT tgisinternal')).rowCount, 0, 'who looks at the tables meanwhile makes none')
  })
  t.same(await till.sealed(), ['upsert receipts[5]', 'upsert receipt_lines[5]'])
})

t.test('a change of the schema that leaves no touch is noticed by itself', async (t) => {
  const till = await openTill(t, server)
  await till.pool.query(SALES)
  await till.replica.start()
  await eventually('sealed', async () => (await till.replica.status()).head.entryNo === 18)
  await till.pool.query('DROP TABLE receipt_lines')
  await eventually('the problem is named', async () => (await till.replica.status()).problems.some(({ table }) => table === 'receipts'))
  await till.pool.query('CREATE TABLE receipt_lines (id bigint PRIMARY KEY, receipt_id bigint NOT NULL, item_no text)')
  await eventually('it goes on', async () => (await till.replica.status()).head.entryNo === 27)
  await isComplete(t, till, 'documents without lines')
})

t.test('keys that name something else of the database hold up nothing when that is renamed or dropped before they are sealed', async (t) => {
  const tables = `
    CREATE TYPE size AS ENUM ('S'); CREATE TABLE shelf (); CREATE TABLE items (id int PRIMARY KEY);
    CREATE TABLE sizes (of regtype PRIMARY KEY, n int); CREATE TABLE shelves (of regclass PRIMARY KEY, n int); CREATE TABLE marks (id int PRIMARY KEY, of regclass)`
  const till = await openTill(t, server, { tables, publish: { items: {}, sizes: {}, shelves: {}, marks: { partOf: { shelves: { of: 'of' } } } } })
  await till.pool.query(
    `INSERT INTO sizes VALUES ('size'), ('integer'); INSERT INTO shelves VALUES ('shelf'), ('items'); INSERT INTO marks VALUES (1, 'shelf')`,
  )
  await till.sealed()
  await till.pool.query(
    `UPDATE sizes SET n = 1; UPDATE shelves SET n = 1; UPDATE marks SET id = 2; INSERT INTO items VALUES (1);
     DELETE FROM shelves WHERE of = 'shelf'::regclass; DELETE FROM marks; ALTER TYPE size RENAME TO old_size; DROP TABLE shelf`,
  )
  t.same((await till.sealed()).sort(), ['upsert items[1]', 'upsert shelves["items"]', 'upsert sizes["integer"]'])
  for (const table of ['shelves', 'sizes']) await till.replica.reseal(table)
  t.same((await till.sealed()).sort(), ['remove shelves["shelf"]', 'remove sizes["size"]', 'upsert sizes["old_size"]'])
  t.match(await till.replica.status(), { unsealed: 0, parked: [] })
})

t.test('a trigger of the host that is called as ours is refused, and left as it is', async (t) => {
  const till = await openTill(t, server)
  await till.pool.query(
    `CREATE TABLE items (id int PRIMARY KEY, n int); CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.n := 7; RETURN NEW; END';
     CREATE TRIGGER sync_touch BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION own()`,
  )
  const next = till.again({ ...PUBLISH, items: {} })
  for (const refused of [() => next.install(), () => next.install({ dryRun: true })])
    await t.rejects(refused(), { code: 'ERR_RULE', hint: /ALTER TRIGGER sync_touch/, context: { table: 'items' } })
  await till.pool.query(`INSERT INTO items VALUES (1); ${SALES}`)
  t.same((await till.pool.query('SELECT n FROM items')).rows, [{ n: 7 }])
  t.equal((await next.seal()).documents, 9, 'what is published beside it goes on')
  t.match((await next.status()).problems, [{ table: 'items', error: { code: 'ERR_RULE' } }])
  await till.pool.query('ALTER TRIGGER sync_touch ON items RENAME TO own')
  await next.install()
  await till.pool.query('INSERT INTO items VALUES (2)')
  await next.seal()
  t.match((await next.entries({ table: 'items' })).at(-1), { record: { id: 2, n: 7 } })
})

t.test('a filter that names what is not there is refused at install, and the database is as it was', async (t) => {
  const pool = await createPool(t, server)
  await pool.query(TABLES)
  const publish = { ...PUBLISH, receipts: { where: (eb: never) => (eb as (...args: unknown[]) => never)('nothing', '=', 1) } } as never
  const replica = createRegister({ location: 'A', register: '1', database: postgres(pool), publish })
  t.teardown(() => replica.stop())
  await t.rejects(replica.install(), { code: 'ERR_FILTER' })
  t.same((await pool.query(`SELECT relname FROM pg_class WHERE relname LIKE 'sync%'`)).rows, [])
})
