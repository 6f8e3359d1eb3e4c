import { type SqlBool, sql } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { eventually } from '../support/eventually.ts'
import { oneByOne } from '../support/interposed.ts'
import { startServer } from '../support/postgres.ts'
import { openTill, type PostgresTill, PUBLISH, TABLES } from '../support/postgres-till.ts'
import { openShop } from '../support/shop.ts'

const server = await startServer(t)

/** The filter of a receipt takes as long as somebody holds the advisory lock 1. */
const SLOW = `${TABLES};
  CREATE FUNCTION held() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
    WHILE NOT pg_try_advisory_lock_shared(1) LOOP PERFORM pg_sleep(0.005); END LOOP;
    PERFORM pg_advisory_unlock_shared(1); RETURN true; END $$`
const SALE = `INSERT INTO receipts VALUES (1, 'posted', 1); INSERT INTO receipt_lines VALUES (1, 1, 'A')`

async function session(t: Test, { pool }: Pick<PostgresTill, 'pool'>): Promise<pg.Client> {
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
    await till.replica.seal()
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

t.test('a host that has a partition for itself is waited for by nobody, and not ended by a deadlock', { timeout: 30_000 }, async (t) => {
  const tables = `CREATE TABLE receipts (id bigint PRIMARY KEY, status text NOT NULL DEFAULT 'posted') PARTITION BY RANGE (id);
    CREATE TABLE lower_ids PARTITION OF receipts FOR VALUES FROM (0) TO (10); CREATE TABLE upper_ids PARTITION OF receipts FOR VALUES FROM (10) TO (20)`
  const till = await openTill(t, server, { tables, publish: { receipts: {} } })
  await till.pool.query(`ALTER SYSTEM SET deadlock_timeout = '100ms'`)
  await till.pool.query('SELECT pg_reload_conf()')
  const host = await session(t, till)
  await host.query('INSERT INTO receipts VALUES (1), (11)')
  t.same(await till.sealed(), ['upsert receipts[1]', 'upsert receipts[11]'])
  await host.query('BEGIN; TRUNCATE upper_ids')
  const sealing = till.sealed()
  await host.query('SELECT pg_sleep(0.3)')
  await host.query('TRUNCATE lower_ids; COMMIT')
  t.same([...(await sealing), ...(await till.sealed())].sort(), ['remove receipts[11]', 'remove receipts[1]'])
})

t.test(
  "head office's own transaction is not ended by a deadlock with a batch: that gives way, and is applied behind it",
  { timeout: 30_000 },
  async (t) => {
    const shop = await openShop(t, server)
    const till = await shop.addTill('POS1')
    till.cashier.sell('R-1', [{ item: 'A', quantity: '1', amount: '1' }])
    await till.deliver()
    // Of whose look for deadlocks comes first, it is the host's.
    await shop.pool.query(`ALTER SYSTEM SET deadlock_timeout = '1min'`)
    await shop.pool.query('SELECT pg_reload_conf()')
    const host = await session(t, shop)
    await host.query(`SET deadlock_timeout = '3s'; BEGIN; UPDATE receipt_lines SET item_no = 'B'`)
    till.db.exec(`UPDATE receipts SET net_amount = '2'; UPDATE receipt_lines SET quantity = '2'`)
    const delivered = till.deliver()
    await eventually('the batch waits for the line', async () => (await host.query('SELECT FROM pg_locks WHERE NOT granted')).rowCount)
    await host.query(`UPDATE receipts SET customer_no = 'C'; COMMIT`)
    await delivered
    t.same((await host.query('SELECT net_amount::int AS total, customer_no FROM receipts')).rows, [{ total: 2, customer_no: null }])
    t.same((await host.query('SELECT quantity::int AS quantity, item_no FROM receipt_lines')).rows, [{ quantity: 2, item_no: 'A' }])
    await shop.balances(t, till)
  },
)

/** Calls the host once, between two statements of the library's, until it is told to stop. */
function interrupt(pool: pg.Pool, after: number, host: () => Promise<unknown>): () => void {
  let statements = 0
  const acquired = (client: pg.PoolClient): void => {
    const query = client.query.bind(client) as (...all: unknown[]) => Promise<unknown>
    const interrupted = async (...all: unknown[]) => {
      const result = await query(...all)
      if (++statements === after) await host()
      return result
    }
    oneByOne(client)
    Object.assign(client, { query: interrupted })
  }
  const released = (_error: Error, client: pg.PoolClient): void => {
    for (const own of ['query', 'constructor']) Reflect.deleteProperty(client, own)
  }
  pool.on('acquire', acquired).on('release', released)
  return () => pool.off('acquire', acquired).off('release', released)
}

t.test('a column that is added at any moment of planning and sealing is published', async (t) => {
  const till = await openTill(t, server, { publish: { receipts: {} } })
  const host = await session(t, till)
  await host.query(`${SALE}; SET lock_timeout = '10ms'`)
  await till.sealed()
  for (let after = 1; after <= 40; after++) {
    const add = `ALTER TABLE receipts ADD COLUMN c${after} integer; UPDATE receipts SET c${after} = 1`
    const again = till.again({ receipts: {} })
    await again.install()
    let added = false
    const stop = interrupt(till.pool, after, async () => {
      added = await host.query(add).then(
        () => true,
        () => false,
      )
    })
    await again.seal()
    stop()
    if (!added) await host.query(add)
    await again.seal()
    const [last] = (await again.entries({ limit: 1_000 })).slice(-1)
    await again.stop()
    if (!t.match(last?.record, { [`c${after}`]: 1 }, `after ${after} statements`)) break
  }
})

t.test('triggers of another table go while the library waits for the first: both are mended', { timeout: 20_000 }, async (t) => {
  const till = await openTill(t, server)
  const [host, other] = [await session(t, till), await session(t, till)]
  await host.query(`${SALE}; DROP TRIGGER sync_touch ON receipt_lines`)
  await other.query('BEGIN; UPDATE receipt_lines SET item_no = NULL')
  const sealing = till.sealed()
  await eventually('the library waits', async () => (await host.query('SELECT FROM pg_locks WHERE NOT granted')).rowCount)
  await host.query('ALTER TABLE receipts DISABLE TRIGGER sync_truncate')
  await other.query('COMMIT')
  t.same(await sealing, ['upsert receipts[1]', 'upsert receipt_lines[1]'])
  t.same(await till.replica.check().then((findings) => findings.filter(({ code }) => code === 'DRIFT')), [])
})

t.test('while it waits to drop a trigger the library keeps no host waiting at another table', { timeout: 30_000 }, async (t) => {
  const till = await openTill(t, server)
  const [host, other] = [await session(t, till), await session(t, till)]
  // One table is out of the rules, the other one is to get its trigger back; somebody reads the first.
  await host.query('DROP TRIGGER sync_touch ON receipts')
  await host.query('BEGIN; SELECT FROM receipt_lines')
  const installing = till.again({ receipts: {} }).install()
  const waiting = `
    SELECT a.query FROM pg_stat_activity a WHERE a.wait_event_type = 'Lock' AND a.datname = current_database()
    AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND NOT l.granted AND l.relation = 'receipt_lines'::regclass)`
  const waited: string[] = []
  await eventually('it has waited several times', async () => {
    for (const { query } of (await other.query<{ query: string }>(waiting)).rows) waited.push(query)
    return waited.length >= 10
  })
  t.same(
    waited.filter((sql) => !sql.includes('LOCK TABLE')),
    [],
    'it waits before it has read or made anything',
  )
  await host.query('COMMIT')
  await installing
  t.same((await other.query("SELECT tgrelid::regclass::text AS name FROM pg_trigger WHERE tgname = 'sync_touch'")).rows, [{ name: 'receipts' }])
})
