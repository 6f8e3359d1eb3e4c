import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createRegister } from '../../src/index.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { isComplete, openTill, PUBLISH, TABLES } from '../support/postgres-till.ts'

const server = await startServer(t)

t.test('a sale is sealed whole: header first, then its lines', async (t) => {
  const { pool, sealed, replica } = await openTill(t, server)
  await pool.query(`INSERT INTO receipts VALUES (1, 'posted', 1.50); INSERT INTO receipt_lines VALUES (1, 1, 'A'), (2, 1, 'B')`)
  t.same(await sealed(), ['upsert receipts[1]', 'upsert receipt_lines[1]', 'upsert receipt_lines[2]'])
  t.same((await replica.entries())[0]?.record, { id: 1, status: 'posted', total: '1.50' })
  await pool.query(`DELETE FROM receipt_lines WHERE id = 2`)
  t.same(await sealed(), ['upsert receipts[1]', 'upsert receipt_lines[1]'])
  await pool.query(`UPDATE receipts SET status = 'void' WHERE id = 1`)
  t.same(await sealed(), ['remove receipts[1]'])
  t.same(await sealed(), [])
})

t.test('every form of data change is captured', async (t) => {
  const till = await openTill(t, server)
  const { pool } = till
  const changes: Record<string, string> = {
    'many rows': `INSERT INTO receipts SELECT n, 'posted', n FROM generate_series(1, 50) n; INSERT INTO receipt_lines SELECT n, (n + 1) / 2, 'A' || n FROM generate_series(1, 100) n`,
    upsert: `INSERT INTO receipts VALUES (1, 'posted', 7), (51, 'posted', 8) ON CONFLICT (id) DO UPDATE SET total = excluded.total + 1`,
    'upsert that does nothing': `INSERT INTO receipts VALUES (1, 'posted', 99) ON CONFLICT DO NOTHING`,
    merge: `MERGE INTO receipts r USING (VALUES (2), (60)) v(id) ON r.id = v.id WHEN MATCHED THEN UPDATE SET total = -1 WHEN NOT MATCHED THEN INSERT (id, total) VALUES (v.id, 3)`,
    'keys that change': `UPDATE receipts SET id = 1000 WHERE id = 3; UPDATE receipt_lines SET receipt_id = 1000 WHERE receipt_id = 3`,
    'lines that move': `UPDATE receipt_lines SET receipt_id = 5 WHERE receipt_id = 4`,
    'data changed in WITH': `WITH gone AS (DELETE FROM receipt_lines WHERE receipt_id = 5 RETURNING *) INSERT INTO receipt_lines SELECT id + 1000, 6, item_no FROM gone`,
    'a savepoint taken back': `BEGIN; UPDATE receipts SET total = 1 WHERE id = 7; SAVEPOINT s; UPDATE receipts SET total = 1 WHERE id = 8; ROLLBACK TO s; DELETE FROM receipts WHERE id = 9; COMMIT`,
    'a transaction taken back': 'BEGIN; DELETE FROM receipts; ROLLBACK',
    'deletes by condition': 'DELETE FROM receipts WHERE id BETWEEN 20 AND 30',
    'a procedure that commits': `DO $$ BEGIN UPDATE receipts SET total = 11 WHERE id = 11; COMMIT; UPDATE receipts SET total = 12 WHERE id = 12; END $$`,
    'replication of another kind': `SET session_replication_role = replica; UPDATE receipts SET total = 13 WHERE id = 13; RESET session_replication_role`,
    'a table emptied and filled again': `TRUNCATE receipts; INSERT INTO receipts VALUES (1, 'posted', 5), (500, 'posted', 6)`,
    'parts emptied': 'TRUNCATE receipt_lines',
  }
  const version = Number((await pool.query('SHOW server_version_num')).rows[0].server_version_num)
  for (const [form, sql] of Object.entries(changes)) {
    if (form === 'merge' && version < 150_000) continue
    await pool.query(sql)
    await isComplete(t, till, form)
  }
  t.same(await till.sealed().then(() => till.sealed()), [], 'and nothing twice')
})

t.test('COPY, prepared transactions and cascades are captured', async (t) => {
  const till = await openTill(t, server, {
    tables: `${TABLES}; ALTER TABLE receipt_lines ADD FOREIGN KEY (receipt_id) REFERENCES receipts ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE`,
  })
  const { pool } = till
  await pool.query(
    `COPY receipts (id) FROM PROGRAM 'seq 1 20'; COPY receipt_lines (id, receipt_id) FROM PROGRAM 'for n in $(seq 1 20); do printf "%s\\t%s\\n" $n $n; done'`,
  )
  await isComplete(t, till, 'COPY')
  await pool.query('UPDATE receipts SET id = id + 100 WHERE id < 5')
  await isComplete(t, till, 'ON UPDATE CASCADE')
  await pool.query('DELETE FROM receipts WHERE id > 100')
  await isComplete(t, till, 'ON DELETE CASCADE')
  await pool.query('TRUNCATE receipts CASCADE')
  await isComplete(t, till, 'TRUNCATE CASCADE')
})

t.test('keys shifted in one statement, by a deferrable key, lose nothing', async (t) => {
  const till = await openTill(t, server, { tables: TABLES.replace('id bigint PRIMARY KEY,', 'id bigint PRIMARY KEY DEFERRABLE INITIALLY DEFERRED,') })
  await till.pool.query(`INSERT INTO receipts SELECT n, 'posted', n FROM generate_series(1, 9) n`)
  await till.replica.seal()
  await till.pool.query('BEGIN; UPDATE receipts SET id = id + 1; UPDATE receipts SET id = 1 WHERE id = 10; COMMIT')
  await isComplete(t, till, 'shifted')
})

t.test("the host's own triggers, before or after ours, have the last word on what is sealed", async (t) => {
  const till = await openTill(t, server, {
    tables: `${TABLES};
      CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF pg_trigger_depth() = 1 THEN UPDATE receipts SET total = total * 2 WHERE id = NEW.id; END IF; RETURN NULL; END $$;
      CREATE TRIGGER a_first AFTER INSERT ON receipts FOR EACH ROW EXECUTE FUNCTION tidy();
      CREATE TRIGGER z_last AFTER UPDATE OF status ON receipts FOR EACH ROW EXECUTE FUNCTION tidy()`,
  })
  await till.pool.query(`INSERT INTO receipts VALUES (1, 'posted', 1)`)
  await isComplete(t, till, 'created before')
  await till.pool.query(`UPDATE receipts SET status = 'posted' WHERE id = 1`)
  await isComplete(t, till, 'fires after')
  t.match((await till.replica.entries()).at(-1), { record: { total: '4' } })
})

t.test('partitions: row movement, truncated, attached and detached ones', async (t) => {
  const till = await openTill(t, server, {
    tables: `CREATE TABLE receipts (id bigint PRIMARY KEY, status text NOT NULL DEFAULT 'posted', total numeric) PARTITION BY RANGE (id);
      CREATE TABLE receipts_low PARTITION OF receipts FOR VALUES FROM (0) TO (100);
      CREATE TABLE receipts_high PARTITION OF receipts FOR VALUES FROM (100) TO (1000) PARTITION BY RANGE (id);
      CREATE TABLE receipts_high_1 PARTITION OF receipts_high FOR VALUES FROM (100) TO (500);
      CREATE TABLE receipt_lines (id bigint PRIMARY KEY, receipt_id bigint NOT NULL, item_no text)`,
  })
  const { pool } = till
  await pool.query(
    `INSERT INTO receipts SELECT n, 'posted', n FROM generate_series(1, 10) n; INSERT INTO receipts VALUES (200, 'posted', 1); INSERT INTO receipts_low VALUES (11)`,
  )
  await isComplete(t, till, 'inserted')
  await pool.query('UPDATE receipts SET id = id + 300 WHERE id = 1')
  await isComplete(t, till, 'moved to another partition')
  await pool.query('TRUNCATE receipts_low')
  await isComplete(t, till, 'a partition truncated')
  await pool.query(
    "CREATE TABLE receipts_more (id bigint PRIMARY KEY, status text NOT NULL, total numeric); INSERT INTO receipts_more VALUES (1500, 'posted', 15)",
  )
  await pool.query('ALTER TABLE receipts ATTACH PARTITION receipts_more FOR VALUES FROM (1000) TO (2000)')
  await pool.query(`INSERT INTO receipts VALUES (1600, 'posted', 16)`)
  await till.replica.seal()
  await isComplete(t, till, 'attached')
  await pool.query('TRUNCATE receipts_more')
  await isComplete(t, till, 'the attached one truncated')
  await pool.query("ALTER TABLE receipts DETACH PARTITION receipts_high; INSERT INTO receipts VALUES (1, 'posted', 1)")
  await till.replica.seal()
  await isComplete(t, till, 'detached')
  await pool.query('DROP TABLE receipts_high')
  await pool.query('DROP TABLE receipts_more; CREATE TABLE receipts_even_more PARTITION OF receipts FOR VALUES FROM (1000) TO (2000)')
  await till.replica.seal()
  await isComplete(t, till, 'dropped')
  await pool.query('TRUNCATE receipts')
  await isComplete(t, till, 'all truncated')
})

t.test('tables that others inherit from are refused, and nothing is changed', async (t) => {
  const pool = await createPool(t, server)
  await pool.query(`${TABLES}; CREATE TABLE old_receipts () INHERITS (receipts)`)
  const replica = createRegister({ location: 'A', register: '1', database: postgres(pool), publish: PUBLISH })
  t.teardown(() => replica.stop())
  await t.rejects(replica.install(), { code: 'ERR_INHERITANCE' })
  t.same((await pool.query(`SELECT relname FROM pg_class WHERE relname LIKE 'sync%'`)).rows, [])
})

t.test('a table that others inherit from one day is named, and holds up no other', async (t) => {
  const { pool, replica, sealed } = await openTill(t, server, {
    tables: `${TABLES}; CREATE TABLE items (id integer PRIMARY KEY)`,
    publish: { ...PUBLISH, items: {} },
  })
  await pool.query(
    'CREATE TABLE old_receipts () INHERITS (receipts); ALTER TABLE receipts ADD COLUMN note text; INSERT INTO items VALUES (1); INSERT INTO receipts VALUES (1)',
  )
  t.same(await sealed(), ['upsert items[1]'])
  t.match((await replica.status()).problems, [{ table: 'receipts', error: { code: 'ERR_INHERITANCE' } }])
  t.match(
    (await replica.check()).filter(({ code }) => code === 'DRIFT'),
    [{ table: 'receipts' }],
  )
  await pool.query('INSERT INTO receipts VALUES (2); DROP TABLE old_receipts; ALTER TABLE receipts ADD COLUMN other text')
  await replica.seal()
  t.same(await sealed(), ['upsert receipts[1]', 'upsert receipts[2]'])
  t.same((await replica.status()).problems, [])
})

t.test('a partition beside its table is refused, and nothing is changed', async (t) => {
  const pool = await createPool(t, server)
  await pool.query(
    `CREATE TABLE receipts (id bigint PRIMARY KEY) PARTITION BY HASH (id); CREATE TABLE receipts_0 PARTITION OF receipts FOR VALUES WITH (MODULUS 1, REMAINDER 0)`,
  )
  const replica = createRegister({ location: 'A', register: '1', database: postgres(pool), publish: { receipts: {}, receipts_0: {} } })
  t.teardown(() => replica.stop())
  await t.rejects(replica.install(), { code: 'ERR_INHERITANCE' })
  t.same((await pool.query(`SELECT relname FROM pg_class WHERE relname LIKE 'sync%'`)).rows, [])
})

t.test('documents are exported by values, by list and with what is related to them; a key used again is another document', async (t) => {
  const { pool, replica, sealed } = await openTill(t, server, {
    tables: `CREATE TABLE pos_processes (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), opened date NOT NULL DEFAULT '2026-11-21');
      CREATE TABLE receipts (id bigint PRIMARY KEY, process_id uuid REFERENCES pos_processes, posted_at timestamptz DEFAULT clock_timestamp())`,
    publish: {
      pos_processes: {},
      receipts: { relatedTo: { pos_processes: { process_id: 'id' } }, identity: ['posted_at'] },
    },
  })
  await pool.query(
    `WITH p AS (INSERT INTO pos_processes VALUES (DEFAULT) RETURNING id) INSERT INTO receipts SELECT n, id FROM p, generate_series(1, 3) n`,
  )
  t.equal((await sealed()).length, 4)
  const { id } = (await pool.query('SELECT id FROM pos_processes')).rows[0]
  t.same(await replica.export('receipts', [{ id: 1 }, { id: 3 }]), { documents: 2, entries: 2 })
  t.same(await replica.export('pos_processes', { id }, { related: true }), { documents: 4, entries: 4 })
  t.same(await replica.export('pos_processes', { opened: '2026-11-21' }), { documents: 1, entries: 1 })
  await sealed()
  await pool.query('BEGIN; DELETE FROM receipts WHERE id = 2; INSERT INTO receipts VALUES (2, NULL); COMMIT')
  t.same(await sealed(), ['remove receipts[2]', 'upsert receipts[2]'])
})

t.test("'existing' withholds, sends all, or what a filter says; what is withheld and changes has its former state as baseline", async (t) => {
  const tables = `${TABLES}; INSERT INTO receipts SELECT n, 'posted', n FROM generate_series(1, 3) n`
  const none = await openTill(t, server, { tables })
  t.same(await none.sealed(), [])
  await none.pool.query('UPDATE receipts SET total = 5 WHERE id = 2')
  t.same(await none.sealed(), ['baseline receipts[2]', 'upsert receipts[2]'])
  const all = await openTill(t, server, { tables, publish: { receipts: { existing: 'all' } } })
  t.equal((await all.sealed()).length, 3)
  const some = await openTill(t, server, { tables, publish: { receipts: { existing: (eb) => eb('total', '>', 1) } } })
  t.same((await some.sealed()).sort(), ['upsert receipts[2]', 'upsert receipts[3]'])
})

t.test('parts of parts and parts by another unique key bring their document', async (t) => {
  const { pool, sealed } = await openTill(t, server, {
    tables: `CREATE TABLE receipts (id bigint PRIMARY KEY, no text NOT NULL UNIQUE); CREATE TABLE lines (id int PRIMARY KEY, receipt_no text);
      CREATE TABLE discounts (id int PRIMARY KEY, line_id int); CREATE TABLE reasons (id int PRIMARY KEY, discount_id int)`,
    publish: {
      receipts: {},
      lines: { partOf: { receipts: { receipt_no: 'no' } } },
      discounts: { partOf: { lines: { line_id: 'id' } } },
      reasons: { partOf: { discounts: { discount_id: 'id' } } },
    },
  })
  await pool.query(
    `INSERT INTO receipts VALUES (1, 'R-1'), (2, 'R-2'); INSERT INTO lines VALUES (1, 'R-1'), (2, 'R-2'); INSERT INTO discounts VALUES (1, 1), (2, 2)`,
  )
  await sealed()
  await pool.query('INSERT INTO reasons VALUES (1, 2), (2, NULL), (3, 77)')
  t.same(await sealed(), ['upsert receipts[2]', 'upsert lines[2]', 'upsert discounts[2]', 'upsert reasons[1]'])
  await pool.query('UPDATE discounts SET line_id = 1 WHERE id = 2')
  t.same((await sealed()).filter((entry) => entry.includes('receipts')).sort(), ['upsert receipts[1]', 'upsert receipts[2]'])
  await pool.query('TRUNCATE reasons')
  t.equal((await sealed()).filter((entry) => entry.includes('receipts')).length, 1)
})

t.test('a part that writes its reference otherwise than its document writes its key brings it', async (t) => {
  for (const [key, reference, value, written] of [
    ['bigint', 'numeric', '1', '1.00'],
    ['numeric(10,2)', 'numeric', '1.00', '1'],
    ['text', 'character(5)', `'R'`, `'R'`],
    ['character(5)', 'character(9)', `'R'`, `'R'`],
    ['timestamptz', 'timestamp', `'2026-11-21 12:00Z'`, `'2026-11-21 12:00'`],
    ['integer', 'text', '7', `'7'`],
  ] as const) {
    const { pool, sealed } = await openTill(t, server, {
      tables: `CREATE TABLE receipts (id ${key} PRIMARY KEY, total int); CREATE TABLE receipt_lines (id int PRIMARY KEY, receipt_id ${reference})`,
      publish: { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
    })
    await pool.query(`INSERT INTO receipts VALUES (${value}, 1)`)
    await sealed()
    await pool.query(`INSERT INTO receipt_lines VALUES (1, ${written})`)
    t.equal((await sealed())[1], 'upsert receipt_lines[1]', `${reference} → ${key}`)
    await pool.query('DELETE FROM receipt_lines')
    t.equal((await sealed()).length, 1, `${reference} → ${key}: deleted`)
  }
})
