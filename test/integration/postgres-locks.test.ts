import { type SqlBool, sql } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { openTill, type PostgresTill, PUBLISH, resealed, TABLES } from '../support/postgres-till.ts'

const server = await startServer(t)

/** The filter of a receipt takes as long as somebody holds the advisory lock 1. */
const SLOW = `${TABLES};
  CREATE FUNCTION held() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    WHILE NOT pg_try_advisory_lock_shared(1) LOOP PERFORM pg_sleep(0.005); END LOOP;
    PERFORM pg_advisory_unlock_shared(1); RETURN true; END $$`
const SALE = `INSERT INTO receipts VALUES (1, 'posted', 1); INSERT INTO receipt_lines VALUES (1, 1, 'A')`

async function session(t: Test, { pool }: PostgresTill): Promise<pg.Client> {
  const { host, port, user, password, database } = pool.options
  const client = new pg.Client({ host, port, user, password: password as string, database })
  await client.connect()
  t.teardown(() => client.end())
  return client
}

for (const [name, change] of Object.entries({
  'a table that is rewritten': 'ALTER TABLE receipt_lines ALTER COLUMN item_no TYPE varchar(10)',
  'a table with a column that is renamed': 'ALTER TABLE receipt_lines RENAME COLUMN item_no TO item',
  'a table that is emptied': 'TRUNCATE receipt_lines',
})) {
  t.test(`${name} while a document is read: the document is sealed as it was before, and then as it is`, async (t) => {
    const publish = { ...PUBLISH, receipts: { where: () => sql<SqlBool>`held()` } }
    const till = await openTill(t, server, { tables: SLOW, publish })
    const [host, other] = [await session(t, till), await session(t, till)]
    await host.query(SALE)
    await host.query('SELECT pg_advisory_lock(1)')
    const sealing = till.sealed()
    await eventually('the filter waits', async () => (await host.query(`SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'`)).rowCount)
    let isChanged = false
    const changing = other.query(change).then(() => {
      isChanged = true
    })
    await eventually('the host changes it, or waits', async () => isChanged || (await host.query('SELECT FROM pg_locks WHERE NOT granted')).rowCount)
    await host.query('SELECT pg_advisory_unlock(1)')
    await changing
    const sealed = await sealing
    t.same(sealed.slice(0, 2), ['upsert receipts[1]', 'upsert receipt_lines[1]'])
    await resealed(till)
    const { rows } = await host.query('SELECT count(*)::int AS lines FROM receipt_lines')
    t.equal((await till.replay.tables()).receipt_lines?.length, rows[0].lines)
  })
}

t.test('a host that changes several tables in one transaction is not ended by a deadlock with the collector', async (t) => {
  const till = await openTill(t, server)
  await till.pool.query(`ALTER SYSTEM SET deadlock_timeout = '100ms'`)
  await till.pool.query('SELECT pg_reload_conf()')
  const host = await session(t, till)
  await host.query(SALE)
  await host.query('BEGIN; ALTER TABLE receipt_lines ADD COLUMN note text')
  const sealing = till.sealed()
  await host.query('SELECT pg_sleep(0.3)')
  await host.query('ALTER TABLE receipts ADD COLUMN note text; COMMIT')
  t.same(await sealing, ['upsert receipts[1]', 'upsert receipt_lines[1]'])
})
