import pg from 'pg'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createRegister } from '../../src/index.ts'
import { query } from '../../src/work.ts'
import { eventually } from '../support/eventually.ts'
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

t.test("the host's statements keep their results", async (t) => {
  const till = await openTill(t, server, { tables: TABLES.replaceAll('id bigint PRIMARY KEY', 'id bigserial PRIMARY KEY') })
  const host = await session(t, till.pool)
  const inserted = await host.query('INSERT INTO receipts (total) VALUES (1), (2) RETURNING id')
  t.same(inserted.rows, [{ id: '1' }, { id: '2' }])
  t.equal(inserted.rowCount, 2)
  t.same((await host.query(`SELECT lastval(), currval('receipts_id_seq')`)).rows, [{ lastval: '2', currval: '2' }])
  t.equal((await host.query('UPDATE receipts SET total = 3')).rowCount, 2)
  t.equal((await host.query('DELETE FROM receipts WHERE id = 1')).rowCount, 1)
  await isComplete(t, till, 'and all is captured')
})

t.test('a row that would leave the same touch as the one before it leaves none, unless that one was taken back, or more was seen', async (t) => {
  const till = await openTill(t, server)
  const host = await session(t, till.pool)
  const other = await session(t, till.pool)
  const touches = async () => Number((await host.query('SELECT count(*) FROM sync_touches')).rows[0].count)
  const line = (id: number) => `INSERT INTO receipt_lines VALUES (${id}, 1, 'A')`
  await host.query(`CREATE FUNCTION scan(id bigint) RETURNS void LANGUAGE plpgsql SET search_path = public SET work_mem = '1MB' AS $$
    BEGIN
      INSERT INTO receipt_lines VALUES (id, 1, 'A');
      BEGIN
        INSERT INTO receipts VALUES (id, 'posted', 1);
        RAISE 'no such item';
      EXCEPTION WHEN OTHERS THEN NULL;
      END;
      INSERT INTO receipt_lines VALUES (id + 1, 1, 'A');
    END $$`)
  // Nobody else begins a transaction meanwhile, but for an autovacuum: what it shows of that is another touch.
  await host.query(`BEGIN; INSERT INTO receipts VALUES (1, 'posted', 1); ${[1, 2, 3, 4, 5].map(line).join(';')}`)
  const few = await touches()
  t.ok(few < 6, `${few} touches of six rows`)
  await host.query(`SELECT scan(10); UPDATE receipt_lines SET item_no = 'B' WHERE id = 10`)
  const some = await touches()
  t.ok(some - few < 3, `${some - few} of three rows, and two that a function took back`)
  await other.query(`INSERT INTO receipts VALUES (99, 'posted', 1)`)
  await host.query(line(6))
  t.equal(await touches(), some + 2, 'the receipt of another till is seen by now: it goes before this one')
  await host.query('COMMIT')
  t.same(
    new Set(await till.sealed()),
    new Set(['upsert receipts[99]', 'upsert receipts[1]', ...[1, 2, 3, 4, 5, 6, 10, 11].map((id) => `upsert receipt_lines[${id}]`)]),
  )

  await host.query(`BEGIN; SAVEPOINT one; ${line(7)}; ROLLBACK TO one; ${line(8)}; SAVEPOINT two; ${line(9)}; RELEASE two; COMMIT`)
  t.same(await till.sealed(), ['upsert receipts[1]', ...[1, 2, 3, 4, 5, 6, 8, 9, 10, 11].map((id) => `upsert receipt_lines[${id}]`)])
  await host.query(`BEGIN; ${line(12)}; ROLLBACK; BEGIN; ${line(13)}; COMMIT; ${line(14)}`)
  t.equal((await till.sealed()).length, 13)
  await host.query(`BEGIN; ${line(15)}; DROP TABLE sync_touches; ${line(16)}; COMMIT; ${line(17)}`)
  await till.replica.install()
  await isComplete(t, till, 'our table was dropped behind a touch')
})

t.test('however transactions and settings end, what they have written is touched', async (t) => {
  const own = await startServer(t, { settings: ['max_prepared_transactions=5'] })
  const till = await openTill(t, own)
  const host = await session(t, till.pool)
  let id = 0
  const line = (receipt: number) => `INSERT INTO receipt_lines VALUES (${++id}, ${receipt}, 'A')`
  await host.query(`INSERT INTO receipts SELECT n, 'posted', n FROM generate_series(1, 20) n;
    CREATE FUNCTION scan(id bigint, receipt bigint) RETURNS void LANGUAGE plpgsql SET tillsync.touched = '' AS $$ BEGIN
      INSERT INTO receipt_lines VALUES (id, receipt, 'A');
    END $$;
    CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE receipts SET total = total + 1 WHERE id = NEW.receipt_id; RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON receipt_lines DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.receipt_id = 7) EXECUTE FUNCTION late()`)
  const transactions: readonly (readonly string[])[] = [
    [`BEGIN; ${line(1)}; COMMIT AND CHAIN; ${line(1)}; ROLLBACK AND CHAIN; ${line(1)}; COMMIT`],
    [`BEGIN; ${line(2)}; RESET ALL; ${line(2)}; SAVEPOINT a; ${line(3)}; RESET ALL; ROLLBACK TO a; ${line(3)}; COMMIT`],
    [`BEGIN; SAVEPOINT a; ${line(4)}; SAVEPOINT b; ${line(5)}; RELEASE b; ROLLBACK TO a; ${line(4)}; ${line(5)}; COMMIT`],
    [
      `BEGIN; ${line(6)}; SET LOCAL ROLE NONE; PREPARE TRANSACTION 'one'`,
      `BEGIN; ${line(6)}; PREPARE TRANSACTION 'two'`,
      `ROLLBACK PREPARED 'one'`,
      `COMMIT PREPARED 'two'`,
    ],
    [`BEGIN ISOLATION LEVEL SERIALIZABLE; ${line(7)}; ${line(7)}; COMMIT`],
    [`BEGIN; SELECT scan(1001, 8), scan(1002, 9); ${line(9)}; SAVEPOINT a; SELECT scan(1003, 10); ROLLBACK TO a; SELECT scan(1004, 10); COMMIT`],
    [
      `DO $$ BEGIN FOR n IN 11..14 LOOP INSERT INTO receipt_lines VALUES (2000 + n, n, 'A'); IF n % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF; END LOOP; END $$`,
    ],
    [
      `BEGIN; DECLARE c CURSOR FOR SELECT * FROM receipts WHERE id > 14 ORDER BY id FOR UPDATE; FETCH 1 FROM c; UPDATE receipts SET total = 0 WHERE CURRENT OF c;
      FETCH 2 FROM c; DELETE FROM receipts WHERE CURRENT OF c; COMMIT`,
    ],
    ['DISCARD ALL', line(18)],
  ]
  for (const statements of transactions) {
    for (const sql of statements) await host.query(sql)
    await isComplete(t, till, statements.join('; '))
  }
})

t.test('a transaction that writes the same keys into two schemas, each with a register of its own, is noted in both', async (t) => {
  const pool = await createPool(t, server)
  const tills = []
  for (const schema of ['pos1', 'POS 2']) {
    await pool.query(`CREATE SCHEMA "${schema}"; CREATE TABLE "${schema}".items (id integer PRIMARY KEY)`)
    const till = createRegister({ location: 'BA01', register: schema, database: postgres(pool, { schema }), publish: { items: {} } })
    t.teardown(() => till.stop())
    await till.install()
    tills.push(till)
  }
  await pool.query('BEGIN; INSERT INTO pos1.items VALUES (1), (2); INSERT INTO "POS 2".items VALUES (2), (1); COMMIT')
  for (const till of tills) t.match(await till.seal(), { documents: 2 })
})

t.test('what a transaction takes of its own touches it touches again', async (t) => {
  const till = await openTill(t, server)
  const database = postgres(till.pool)
  t.teardown(() => database.close())
  await database.open()
  const taken = await database.write(function* () {
    const found: number[] = []
    for (const id of [1, 2, 3]) {
      yield* query({ sql: `INSERT INTO receipt_lines VALUES (${id}, 1, 'A')`, parameters: [] })
      found.push((yield* database.capture.takeTouches(100)).touches.length)
    }
    return found
  })
  t.same(taken, [1, 1, 1])
})

t.test('a cashier without rights on our tables, on another search path, can sell', async (t) => {
  const till = await openTill(t, server, {
    tables: `CREATE SCHEMA pos; SET search_path = pos; ${TABLES}; RESET search_path;
      DO $$ BEGIN CREATE ROLE cashier LOGIN PASSWORD 'x'; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
      GRANT USAGE ON SCHEMA pos TO cashier; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA pos TO cashier`,
    schema: 'pos',
  })
  const cashier = await session(t, till.pool, { user: 'cashier', password: 'x' })
  await cashier.query('CREATE TEMP TABLE sync_touches (xid int); SET search_path = pg_temp')
  await cashier.query(`INSERT INTO pos.receipts VALUES (1, 'posted', 1); INSERT INTO pos.receipt_lines VALUES (1, 1, 'A')`)
  t.same(await till.sealed(), ['upsert receipts[1]', 'upsert receipt_lines[1]'])
  await cashier.query('TRUNCATE pos.receipt_lines; UPDATE pos.receipts SET total = 2')
  t.same(await till.sealed(), ['upsert receipts[1]'])
  await t.rejects(cashier.query('SELECT FROM pos.sync_touches'), { code: '42501' })
})

for (const key of ['bigint', 'uuid', 'date']) {
  t.test(`what a session puts before pg_catalog is not what triggers on keys of type ${key} run`, async (t) => {
    const tables = TABLES.replace('id bigint PRIMARY KEY', `id ${key} PRIMARY KEY`).replace('receipt_id bigint', `receipt_id ${key}`)
    const till = await openTill(t, server, { tables })
    const host = await session(t, till.pool)
    const [one, two] = {
      bigint: ['1', '2'],
      uuid: [`${'0'.repeat(8)}-0000-0000-0000-${'0'.repeat(11)}1`, `${'0'.repeat(8)}-0000-0000-0000-${'0'.repeat(11)}2`],
      date: ['2026-11-21', '2026-11-22'],
    }[key] as [string, string]
    await host.query(`
      CREATE SCHEMA evil; CREATE DOMAIN evil.text AS bytea; CREATE DOMAIN evil.uuid AS pg_catalog.text;
      CREATE FUNCTION evil.raise(pg_catalog.anyarray, pg_catalog.anyarray) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
      CREATE FUNCTION evil.raise(pg_catalog.text, pg_catalog.text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
      CREATE FUNCTION evil.to_regclass(pg_catalog.text) RETURNS regclass LANGUAGE plpgsql AS $$ BEGIN RAISE 'evil'; END $$;
      CREATE FUNCTION evil.format(pg_catalog.text, VARIADIC "any") RETURNS pg_catalog.text LANGUAGE internal AS 'pg_get_keywords';
      CREATE OPERATOR evil.= (FUNCTION = evil.raise, LEFTARG = pg_catalog.anyarray, RIGHTARG = pg_catalog.anyarray);
      CREATE OPERATOR evil.<> (FUNCTION = evil.raise, LEFTARG = pg_catalog.anyarray, RIGHTARG = pg_catalog.anyarray);
      CREATE OPERATOR evil.= (FUNCTION = evil.raise, LEFTARG = pg_catalog.text, RIGHTARG = pg_catalog.text);
      SET search_path = evil, pg_catalog`)
    await host.query(`INSERT INTO public.receipts VALUES ('${one}', 'posted', 1); INSERT INTO public.receipt_lines VALUES (1, '${one}', 'A')`)
    const id = (value: string) => (key === 'bigint' ? value : `"${value}"`)
    t.same(await till.sealed(), [`upsert receipts[${id(one)}]`, 'upsert receipt_lines[1]'])
    await host.query(`UPDATE public.receipts SET total = 2; UPDATE public.receipts SET id = '${two}'; DELETE FROM public.receipt_lines`)
    t.same((await till.sealed()).toSorted(), [`remove receipts[${id(one)}]`, `upsert receipts[${id(two)}]`])
    await host.query('TRUNCATE public.receipts CASCADE')
    t.same(await till.sealed(), [`remove receipts[${id(two)}]`])
  })
}

t.test('rows that a policy hides from the library are an error, never deletions', async (t) => {
  const till = await openTill(t, server)
  const { pool } = till
  await pool.query(`
    DO $$ BEGIN CREATE ROLE library LOGIN PASSWORD 'x'; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
    INSERT INTO receipts VALUES (1, 'posted', 1); GRANT ALL ON ALL TABLES IN SCHEMA public TO library;
    ALTER TABLE receipts ENABLE ROW LEVEL SECURITY; CREATE POLICY nothing ON receipts TO library USING (false)`)
  const { host, port, database } = pool.options
  const restricted = openPool(t, { host, port, database, user: 'library', password: 'x' })
  const replica = createRegister({ location: 'A', register: '1', database: postgres(restricted), publish: PUBLISH })
  t.teardown(() => replica.stop())
  await t.rejects(replica.seal(), { code: 'ERR_DATABASE' })
  t.same(await till.sealed(), ['upsert receipts[1]'], 'the owner is not restricted')
})

t.test('a transaction that began earlier and commits last is not lost', async (t) => {
  const till = await openTill(t, server)
  const [early, late] = [await session(t, till.pool), await session(t, till.pool)]
  await early.query(`BEGIN; INSERT INTO receipts VALUES (1, 'posted', 1)`)
  await late.query(`INSERT INTO receipts VALUES (2, 'posted', 2)`)
  t.same(await till.sealed(), ['upsert receipts[2]'])
  t.same(await till.sealed(), [])
  await early.query('COMMIT')
  t.same(await till.sealed(), ['upsert receipts[1]'])
  await early.query(`BEGIN; INSERT INTO receipts VALUES (3, 'posted', 1)`)
  await late.query(`INSERT INTO receipts VALUES (4, 'posted', 2)`)
  t.same(await till.sealed(), ['upsert receipts[4]'])
  await early.query('ROLLBACK')
  t.same(await till.sealed(), [])
})

t.test('in a database whose transactions are serializable by default no look of ours ends a sale', async (t) => {
  const { config } = await server.createDatabase()
  const admin = openPool(t, config)
  await admin.query(
    `${TABLES}; CREATE TABLE prices (id integer PRIMARY KEY, price integer); INSERT INTO prices SELECT n, 1 FROM generate_series(1, 20) n`,
  )
  await admin.query(`ALTER DATABASE "${config.database}" SET default_transaction_isolation = 'serializable'`)
  // With one connection it is asked at each look, with more the server looks.
  const pools = [1, 4].map((max) => openPool(t, { ...config, max, application_name: `till ${max}` }))
  const replicas = pools.map((pool) => createRegister({ location: 'BA01', register: 'POS1', database: postgres(pool), publish: PUBLISH }))
  for (const replica of replicas) await replica.install()
  t.teardown(() => Promise.all(replicas.map((replica) => replica.stop())))
  await replicas[0]?.start()
  const sells = openPool(t, config)
  const host = await session(t, sells)
  const other = await session(t, sells)
  const looked = `SELECT FROM pg_stat_activity WHERE application_name = 'till 1' AND query LIKE '%sync_touches%' AND query_start > $1`
  for (let id = 1; id <= 10; id++) {
    await host.query(`BEGIN; SELECT price FROM prices WHERE id = ${id}`)
    const { rows } = await other.query(`UPDATE prices SET price = 2 WHERE id = ${id} RETURNING clock_timestamp() AS at`)
    await replicas[1]?.seal()
    await eventually('it has looked', async () => (await admin.query(looked, [rows[0].at])).rowCount)
    await host.query(`INSERT INTO receipts VALUES (${id}, 'posted', 1)`)
    await host.query('COMMIT')
  }
})

t.test('a header posted and a line added at the same time, each blind to the other, both arrive', async (t) => {
  const till = await openTill(t, server)
  await till.pool.query(`INSERT INTO receipts VALUES (1, 'open', 1)`)
  const [header, line] = [await session(t, till.pool), await session(t, till.pool)]
  for (const order of [
    [header, line],
    [line, header],
  ]) {
    await header.query(`BEGIN; UPDATE receipts SET status = 'posted', total = total + 1 WHERE id = 1`)
    await line.query('BEGIN; INSERT INTO receipt_lines SELECT count(*) + 1, 1 FROM receipt_lines')
    for (const one of order) {
      await one.query('COMMIT')
      await till.replica.seal()
    }
    await isComplete(t, till, 'both')
  }
})

t.test('what was caused by another transaction is sealed after it, however full a slice is', async (t) => {
  const till = await openTill(t, server)
  const [effect, cause] = [await session(t, till.pool), await session(t, till.pool)]
  for (let round = 0; round < 120; round++) {
    // The effect has the lower transaction id: it wrote something else first.
    await effect.query(`BEGIN; INSERT INTO receipts VALUES (${round * 10 + 1}, 'posted', 1)`)
    await cause.query(`INSERT INTO receipts VALUES (${round * 10 + 2}, 'posted', 1)`)
    await effect.query(`INSERT INTO receipts SELECT id + 1, status, total FROM receipts WHERE id = ${round * 10 + 2}; COMMIT`)
  }
  const order = (await till.sealed()).map((entry) => Number(/\d+/.exec(entry)?.[0]))
  t.equal(order.length, 360)
  for (let round = 0; round < 120; round++) t.ok(order.indexOf(round * 10 + 2) < order.indexOf(round * 10 + 3), `round ${round}`)
})

t.test('a prepared transaction is captured when it is committed', async (t) => {
  const own = await startServer(t)
  const { config } = await own.createDatabase()
  const admin = openPool(t, config)
  await admin.query('ALTER SYSTEM SET max_prepared_transactions = 5')
  await own.restart()
  const till = await openTill(t, own)
  await till.pool.query(`BEGIN; INSERT INTO receipts VALUES (1, 'posted', 1); PREPARE TRANSACTION 'p'`)
  await till.pool.query(`INSERT INTO receipts VALUES (2, 'posted', 1)`)
  t.same(await till.sealed(), ['upsert receipts[2]'])
  await till.pool.query(`COMMIT PREPARED 'p'`)
  t.same(await till.sealed(), ['upsert receipts[1]'])
})

t.test('installing while a sale is open makes no other sale wait', async (t) => {
  const pool = await createPool(t, server)
  await pool.query(TABLES)
  const replica = createRegister({ location: 'A', register: '1', database: postgres(pool), publish: { ...PUBLISH, receipts: { existing: 'all' } } })
  t.teardown(() => replica.stop())
  const [open, other] = [await session(t, pool), await session(t, pool)]
  await open.query(`BEGIN; INSERT INTO receipts VALUES (1, 'posted', 1); INSERT INTO receipt_lines VALUES (1, 1, 'A')`)
  let installed = false
  const installing = replica.install().then(() => {
    installed = true
  })
  // By the server's clock: what else the machine does meanwhile is no wait for us.
  await other.query("SET lock_timeout = '250ms'")
  const until = Date.now() + 1_000
  for (let id = 2; Date.now() < until; id++) await other.query(`INSERT INTO receipts VALUES (${id}, 'posted', 1)`)
  t.notOk(installed)
  await open.query('COMMIT')
  await installing
  await replica.seal()
  const count = Number((await pool.query('SELECT count(*) FROM receipts')).rows[0].count)
  t.equal(Number((await pool.query(`SELECT count(*) FROM sync_members`)).rows[0].count), count, 'what was written until then is there')
  await open.query(`BEGIN; INSERT INTO receipts VALUES (-1, 'posted', 1)`)
  await replica.install()
  t.pass('installing again waits for nobody: there is nothing to change')
  await open.query('COMMIT')
})

t.test('uninstall leaves nothing', async (t) => {
  const till = await openTill(t, server)
  const objects = async () =>
    (
      await till.pool.query(`SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace UNION ALL
        SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace UNION ALL SELECT tgname FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1`)
    ).rows.map((row) => row.name)
  await till.replica.uninstall()
  t.same(await objects(), ['receipt_lines', 'receipt_lines_pkey', 'receipt_lines_receipt_id_idx', 'receipts', 'receipts_pkey'])
  await till.replica.install()
  await till.pool.query('INSERT INTO receipts VALUES (1)')
  await isComplete(t, till, 'and it can come back')
})

t.test('a filter that raises parks one document, and nothing else waits', async (t) => {
  const till = await openTill(t, server, {
    publish: { receipts: { where: (eb) => eb(eb.val(100), '>', eb(eb.val(10), '/', eb.ref('total'))) } },
  })
  await till.pool.query(`INSERT INTO receipts SELECT n, 'posted', n FROM generate_series(1, 40) n; UPDATE receipts SET total = 0 WHERE id = 7`)
  t.equal((await till.sealed()).length, 39)
  t.match((await till.replica.status()).parked, [{ table: 'receipts', recordId: [7], code: 'ERR_FILTER' }])
  await till.pool.query('UPDATE receipts SET total = 1 WHERE id = 7')
  t.same(await till.sealed(), ['upsert receipts[7]'])
  t.same((await till.replica.status()).parked, [])
})

t.test('a renamed key column fails no sale, then or later, and nothing is lost', async (t) => {
  const till = await openTill(t, server, { publish: { receipts: {} } })
  const host = await session(t, till.pool)
  await host.query(`INSERT INTO receipts VALUES (1, 'posted', 1)`)
  await host.query('ALTER TABLE receipts RENAME COLUMN id TO number')
  await host.query(`INSERT INTO receipts VALUES (2, 'posted', 2); UPDATE receipts SET total = 3 WHERE number = 1`)
  await till.replica.seal()
  await till.replica.seal()
  const rows = async () => (await till.pool.query('SELECT record_id FROM sync_members ORDER BY 1')).rows.map((row) => row.record_id)
  t.same(await rows(), ['[1]', '[2]'])
  await host.query('ALTER TABLE receipts ALTER COLUMN number TYPE integer')
  await host.query(`INSERT INTO receipts VALUES (3, 'posted', 2)`)
  await till.replica.seal()
  await till.replica.seal()
  t.same(await rows(), ['[1]', '[2]', '[3]'])
})
