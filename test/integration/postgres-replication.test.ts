import t from 'tap'
import { eventually } from '../support/eventually.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { isComplete, openTill, TABLES } from '../support/postgres-till.ts'

// Logical replication writes a register's tables: its workers apply other databases' changes with `session_replication_role = replica`.

const server = await startServer(t, { settings: ['wal_level=logical', 'logical_decoding_work_mem=64kB'] })

/** Whose tables they are: the subscription's owner's, or another's, whom the worker then acts for. */
for (const [owner, streaming] of [
  ['the same', 'off'],
  ['another', 'on'],
] as const) {
  t.test(`what a subscription applies is captured; its owner is ${owner} as the tables', streaming is ${streaming}`, async (t) => {
    const source = await createPool(t, server)
    const till = await openTill(t, server, {
      tables: `${TABLES}; DO $$ BEGIN CREATE ROLE shopkeeper; EXCEPTION WHEN duplicate_object THEN NULL; END $$; GRANT ALL ON SCHEMA public TO shopkeeper;
        ${owner === 'another' ? 'ALTER TABLE receipts OWNER TO shopkeeper; ALTER TABLE receipt_lines OWNER TO shopkeeper' : ''}`,
    })
    await source.query(`${TABLES}; CREATE PUBLICATION sales FOR ALL TABLES;
      INSERT INTO receipts SELECT n, 'posted', n FROM generate_series(1, 9) n; INSERT INTO receipt_lines SELECT n, n, 'A' FROM generate_series(1, 9) n`)
    const slot = `till_${source.options.database}`
    await source.query(`SELECT pg_create_logical_replication_slot('${slot}', 'pgoutput')`)
    const { host, port, user, password, database } = source.options
    await till.pool.query(`CREATE SUBSCRIPTION sales CONNECTION 'host=${host} port=${port} user=${user} password=${password} dbname=${database}'
      PUBLICATION sales WITH (create_slot = false, slot_name = '${slot}', streaming = ${streaming})`)
    const arrived = async (sql: string) => {
      await source.query(sql)
      const all =
        'SELECT string_agg(r::text, $$;$$ ORDER BY r) AS r, (SELECT string_agg(l::text, $$;$$ ORDER BY l) FROM receipt_lines l) AS l FROM receipts r'
      const { rows: wanted } = await source.query(all)
      await eventually('it arrives', async () => JSON.stringify((await till.pool.query(all)).rows) === JSON.stringify(wanted))
      await isComplete(t, till, sql)
    }
    await arrived('SELECT')
    await arrived(
      `UPDATE receipts SET total = 5 WHERE id < 4; DELETE FROM receipt_lines WHERE id = 2; UPDATE receipts SET status = 'open' WHERE id = 9`,
    )
    await arrived(`BEGIN; INSERT INTO receipts SELECT n, 'posted', n FROM generate_series(100, 1500) n; SAVEPOINT s; DELETE FROM receipts WHERE id < 5; ROLLBACK TO s;
      INSERT INTO receipt_lines SELECT n, n, 'B' FROM generate_series(100, 1500) n; UPDATE receipts SET id = 2000 WHERE id = 1; COMMIT`)
    await arrived('TRUNCATE receipt_lines')
    await arrived(
      `BEGIN; TRUNCATE receipts, receipt_lines; INSERT INTO receipts VALUES (3, 'posted', 1); INSERT INTO receipt_lines VALUES (3, 3, 'C'); COMMIT`,
    )
    await till.pool.query('ALTER SUBSCRIPTION sales DISABLE; ALTER SUBSCRIPTION sales SET (slot_name = NONE)')
    await till.pool.query('DROP SUBSCRIPTION sales')
  })
}
