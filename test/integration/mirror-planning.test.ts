import { sql } from 'kysely'
import t from 'tap'
import { type HostHandler, mirror } from '../../src/index.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { openShop } from '../support/shop.ts'

const server = await startServer(t)
const TILL = `CREATE TABLE receipts (id INTEGER PRIMARY KEY, name TEXT);
  CREATE TABLE lines (id INTEGER PRIMARY KEY, receipt INTEGER); CREATE INDEX lines_receipt ON lines (receipt)`
const OFFICE = (deferrable: string) => `CREATE TABLE receipts (id bigint PRIMARY KEY, name text);
  CREATE TABLE lines (id bigint PRIMARY KEY, receipt bigint NOT NULL REFERENCES receipts ${deferrable}); CREATE INDEX ON lines (receipt)`
const PUBLISH = { receipts: {}, lines: { partOf: { receipts: { receipt: 'id' } } } }
const RECEIPTS = 400

for (const deferrable of ['', 'DEFERRABLE']) {
  t.test(`a mirror that was emptied, and known to be empty, is filled by indexes${deferrable && ', its foreign keys DEFERRABLE'}`, async (t) => {
    // One connection: it keeps the plans by which it checks foreign keys.
    const pool = await createPool(t, server, { max: 1 })
    await pool.query(OFFICE(deferrable))
    const shop = await openShop(t, server, { pool, subscribe: { receipts: mirror() } })
    const till = await shop.addTill('POS1', { schema: TILL, publish: PUBLISH, transfer: { recordsPerRun: 20 } })
    till.db.exec(`WITH RECURSIVE n (no) AS (VALUES (1) UNION ALL SELECT no + 1 FROM n WHERE no < ${RECEIPTS}) INSERT INTO receipts SELECT no, 'a' FROM n;
      INSERT INTO lines SELECT id, id FROM receipts`)
    await till.deliver()
    await pool.query('TRUNCATE receipts, lines; ANALYZE receipts, lines')
    const read = async () => {
      await pool.query('SELECT pg_stat_force_next_flush()').catch(() => undefined)
      const { rows } = await pool.query("SELECT sum(seq_tup_read)::int AS read FROM pg_stat_user_tables WHERE relname IN ('receipts', 'lines')")
      return rows[0].read
    }
    const before = await read()
    till.db.exec("UPDATE receipts SET name = 'b'")
    await till.deliver()
    const during = (await read()) - before
    t.equal((await pool.query('SELECT count(*)::int AS n FROM lines')).rows[0].n, RECEIPTS)
    t.equal(during, 0, 'rows that were read without an index')
  })
}

t.test('few documents are looked up one by one among thousands', async (t) => {
  const pool = await createPool(t, server, { max: 1 })
  await pool.query(`CREATE TABLE receipts (id text PRIMARY KEY, name text); CREATE TABLE lines (id text PRIMARY KEY, receipt text NOT NULL REFERENCES receipts);
    CREATE INDEX ON lines (receipt); INSERT INTO receipts SELECT n, 'a' FROM generate_series(1, 1000) n; INSERT INTO lines SELECT n, n FROM generate_series(1, 1000) n`)
  const shop = await openShop(t, server, { pool, subscribe: { receipts: mirror({ removals: 'apply' }) } })
  const till = await shop.addTill('POS1', { schema: TILL, publish: PUBLISH })
  const read = async () => {
    await pool.query('SELECT pg_stat_force_next_flush()').catch(() => undefined)
    const { rows } = await pool.query("SELECT sum(idx_tup_read)::int AS read FROM pg_stat_user_indexes WHERE relname IN ('receipts', 'lines')")
    return rows[0].read
  }
  const before = await read()
  for (const change of [
    "INSERT INTO receipts VALUES (5, 'b'); INSERT INTO lines VALUES (5, 5)",
    "UPDATE receipts SET name = 'c'",
    'DELETE FROM lines',
    'DELETE FROM receipts',
  ]) {
    till.db.exec(change)
    await till.deliver()
  }
  t.equal((await pool.query('SELECT FROM receipts')).rowCount, 999)
  const reads = (await read()) - before
  t.ok(reads < 100, `${reads} rows were read`)
})

t.test("the host's own statements are planned as they are elsewhere, before the mirror and behind it", async (t) => {
  const pool = await createPool(t, server)
  await pool.query(OFFICE(''))
  const seen: unknown[] = []
  const look: HostHandler = async (_, { trx }) => {
    const { rows } = await sql`SELECT current_setting('enable_seqscan') AS seqscan, current_setting('jit') AS jit`.execute(trx)
    seen.push(rows[0])
  }
  const elsewhere = (await pool.query("SELECT current_setting('enable_seqscan') AS seqscan, current_setting('jit') AS jit")).rows[0]
  const shop = await openShop(t, server, { pool, subscribe: { receipts: [look, mirror(), look] } })
  const till = await shop.addTill('POS1', { schema: TILL, publish: PUBLISH })
  till.db.exec("INSERT INTO receipts VALUES (1, 'a'); INSERT INTO lines VALUES (1, 1)")
  await till.deliver()
  t.same(seen, [elsewhere, elsewhere])
})
