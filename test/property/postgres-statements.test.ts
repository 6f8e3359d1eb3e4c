import t from 'tap'
import type { AnyTables, PublishRules } from '../../src/index.ts'
import { startServer } from '../support/postgres.ts'
import { isComplete, openTill, TABLES } from '../support/postgres-till.ts'
import { argument, budgetOfRun, Random, roundsOfRun, seedOfRun } from '../support/random.ts'

const seed = seedOfRun()
const transactions = Number(argument('transactions') ?? 80)
t.setTimeout(budgetOfRun(60_000) + 120_000)
t.comment(`--seed=${seed}`)
const server = await startServer(t)

/** The column that comes and goes is not published, so that tables and entries can be compared. */
const PUBLISHED: PublishRules<AnyTables> = {
  receipts: { where: (eb) => eb('status', '=', 'posted'), only: ['status', 'total'] },
  receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
}

const SCHEMAS: Readonly<Record<string, string>> = {
  'plain tables': TABLES,
  'foreign keys that cascade': `${TABLES}; ALTER TABLE receipt_lines ADD FOREIGN KEY (receipt_id) REFERENCES receipts ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED`,
  partitions: `
    CREATE TABLE receipts (id bigint PRIMARY KEY, status text NOT NULL DEFAULT 'posted', total numeric) PARTITION BY RANGE (id);
    CREATE TABLE receipts_1 PARTITION OF receipts FOR VALUES FROM (0) TO (10); CREATE TABLE receipts_2 PARTITION OF receipts FOR VALUES FROM (10) TO (100000);
    CREATE TABLE receipt_lines (id bigint PRIMARY KEY, receipt_id bigint NOT NULL, item_no text) PARTITION BY HASH (id);
    CREATE TABLE lines_0 PARTITION OF receipt_lines FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE lines_1 PARTITION OF receipt_lines FOR VALUES WITH (MODULUS 2, REMAINDER 1)`,
  'triggers of the host': `${TABLES};
    CREATE FUNCTION sum_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      UPDATE receipts SET total = (SELECT count(*) FROM receipt_lines WHERE receipt_id = receipts.id) WHERE id IN (NEW.receipt_id, OLD.receipt_id); RETURN NULL; END $$;
    CREATE TRIGGER z_sum AFTER INSERT OR UPDATE OR DELETE ON receipt_lines FOR EACH ROW EXECUTE FUNCTION sum_up()`,
}

/** A statement; one that breaks a constraint ends its transaction, as it would the host's. */
function statement(random: Random): string {
  const [a, b] = [random.int(1, 20), random.int(1, 20)]
  return random.pick([
    `INSERT INTO receipts VALUES (${a}, '${random.pick(['open', 'posted'])}', ${b}) ON CONFLICT (id) DO UPDATE SET total = excluded.total`,
    `INSERT INTO receipts SELECT n, 'posted', ${b} FROM generate_series(${a}, ${a + 5}) n ON CONFLICT DO NOTHING`,
    `UPDATE receipts SET status = CASE status WHEN 'open' THEN 'posted' ELSE 'open' END WHERE id % 3 = ${a % 3}`,
    `UPDATE receipts SET id = ${a} WHERE id = ${b}`,
    `UPDATE receipts SET id = id + 20000 WHERE id < ${a}`,
    `DELETE FROM receipts WHERE id = ${a}`,
    `DELETE FROM receipts WHERE id > 20`,
    `INSERT INTO receipt_lines VALUES (${a * 20 + b}, ${a}, 'A') ON CONFLICT (id) DO UPDATE SET item_no = receipt_lines.item_no || 'x'`,
    `UPDATE receipt_lines SET receipt_id = ${a} WHERE receipt_id = ${b}`,
    `UPDATE receipt_lines SET id = id + 1 WHERE id = ${a * 20 + b}`,
    `DELETE FROM receipt_lines WHERE id % 5 = ${a % 5}`,
    `WITH gone AS (DELETE FROM receipts WHERE id = ${a} RETURNING *) INSERT INTO receipts SELECT id + 1, status, total FROM gone ON CONFLICT DO NOTHING`,
    ...(random.chance(0.3) ? ['TRUNCATE receipt_lines', 'TRUNCATE receipts CASCADE'] : []),
    ...(random.chance(0.1) ? ['ALTER TABLE receipts ADD COLUMN IF NOT EXISTS note text', 'ALTER TABLE receipts DROP COLUMN IF EXISTS note'] : []),
  ])
}

for (const [name, tables] of Object.entries(SCHEMAS)) {
  t.test(`random statements on ${name}: the entries add up to the tables`, { timeout: budgetOfRun(60_000) + 60_000 }, async (t) => {
    const till = await openTill(t, server, { tables, publish: PUBLISHED })
    const random = new Random(seed)
    let [begun, committed] = [0, 0]
    for (const n of roundsOfRun(transactions, 1 / Object.keys(SCHEMAS).length)) {
      begun = n + 1
      const statements = Array.from({ length: random.int(1, 4) }, () => statement(random))
      const story = `BEGIN; ${statements.join('; ')}; ${random.chance(0.85) ? 'COMMIT' : 'ROLLBACK'}`
      const client = await till.pool.connect()
      await client.query(story).then(
        () => committed++,
        () => client.query('ROLLBACK'),
      )
      client.release()
      if (!random.chance(0.4)) continue
      await till.replica.seal()
      if (!(await isComplete(t, till, `${n}: ${story}`))) return t.comment(`--seed=${seed} --transactions=${begun}`)
    }
    await till.replica.seal()
    if (!(await isComplete(t, till, 'at the end'))) t.comment(`--seed=${seed} --transactions=${begun}`)
    t.ok(committed > begun / 3 || begun < 50, `${committed} of ${begun} were no errors`)
  })
}
