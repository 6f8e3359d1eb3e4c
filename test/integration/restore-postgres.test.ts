import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createCentral, createRegister, mirror } from '../../src/index.ts'
import { memoryLink } from '../../src/testing.ts'
import { eventually } from '../support/eventually.ts'
import { createPool, openPool, startServer } from '../support/postgres.ts'
import { PUBLISH, TABLES } from '../support/postgres-till.ts'
import { openStage } from '../support/simulation/stage.ts'
import type { Schedule, Step } from '../support/simulation/steps.ts'

const server = await startServer(t)
const stage = await openStage(t, server)

const at = (copy = 0) => ({ register: 0, copy })
const sell = (copy = 0): Step => ({ do: 'sell', ...at(copy), seed: 11 })
const exchange = (copy = 0): Step => ({ do: 'exchange', ...at(copy), fates: [] })
const onPostgres = (steps: readonly Step[]): Schedule => ({ registers: ['postgres'], identity: false, recordsPerRun: 20, steps, last: 0 })

/** The receipts that are listed as orphans, once all has calmed down and before they are withdrawn; the audit does the rest. */
async function orphansOf(steps: readonly Step[]): Promise<readonly unknown[]> {
  let found: readonly unknown[] = []
  await stage.run(onPostgres(steps), async () => {
    found = (await stage.office.central.orphans.list()).map(({ document }) => document.receipt_no)
  })
  return found
}

t.test('a till on PostgreSQL that was restored from a backup: what it lost is listed, what it sells is posted', async (t) => {
  const restored: readonly Step[] = [sell(), exchange(), { do: 'backup', ...at() }, sell(), sell(), exchange(), { do: 'restore', ...at(), backup: 0 }]
  t.same(await orphansOf([...restored, sell(), exchange()]), ['R-2', 'R-3'], 'with another sale under an old key')
  t.same(await orphansOf(restored), ['R-2', 'R-3'], 'without a new sale')
  t.same(await orphansOf([...restored, { do: 'enter again', ...at(), seed: 1 }]), ['R-2'], 'one of them entered again alike')
})

t.test('a central that was restored gets again what it has lost of a till on PostgreSQL', async (t) => {
  const restored: readonly Step[] = [sell(), exchange(), { do: 'central backup' }, sell(), exchange(), { do: 'central restore', backup: 1 }, sell()]
  t.same(await orphansOf([...restored, exchange()]), [])
})

t.test('a central that was restored to before what a till on PostgreSQL has pruned gets all that it has, anew', async (t) => {
  const restored: readonly Step[] = [sell(), sell(), exchange(), { do: 'prune', ...at() }, { do: 'central restore', backup: 0 }, sell()]
  t.same(await orphansOf([...restored, exchange()]), [])
})

t.test('of two copies of a till on PostgreSQL one goes on, and what the other has sent is listed', async (t) => {
  const cloned: readonly Step[] = [sell(), exchange(), { do: 'clone', ...at() }, sell(), exchange(), sell(1), sell(1), exchange(1), exchange()]
  t.same((await orphansOf(cloned)).toSorted(), ['R-2', 'R-3'])
})

t.test('a document that is sent back never ends the transaction of a host that wants the same rows', async (t) => {
  const office = await createPool(t, server)
  await office.query(TABLES)
  const central = createCentral({ database: postgres(office), subscribe: { receipts: mirror() } })
  await central.install()
  await central.registers.add({ location: 'BA01', register: 'POS1' })
  const before = await createPool(t, server)
  const open = (pool: typeof before) => {
    const link = memoryLink(central, { location: 'BA01', register: 'POS1' })
    const till = createRegister({ location: 'BA01', register: 'POS1', database: postgres(pool), publish: PUBLISH, transfer: { type: 'push', link } })
    t.teardown(() => till.stop())
    return till
  }
  await before.query(`${TABLES}; CREATE TABLE stock (item_no text PRIMARY KEY, quantity integer); INSERT INTO stock VALUES ('A', 9), ('B', 9);
    CREATE FUNCTION move() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      UPDATE stock SET quantity = quantity - 1 WHERE item_no = NEW.item_no;
      PERFORM pg_sleep(0.2);
      RETURN NULL;
    END $$;
    CREATE TRIGGER move AFTER INSERT ON receipt_lines FOR EACH ROW EXECUTE FUNCTION move()`)
  await office.query("ALTER SYSTEM SET deadlock_timeout = '400ms'")
  await office.query('SELECT pg_reload_conf()')
  const lost = open(before)
  await lost.install()
  await lost.stop()
  const { database } = before.options
  const backup = `${database}_backup`
  await office.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${database}'`)
  await office.query(`CREATE DATABASE "${backup}" TEMPLATE "${database}"`)
  await before.query(`INSERT INTO receipts VALUES (1, 'posted', 2); INSERT INTO receipt_lines VALUES (1, 1, 'A'), (2, 1, 'B')`)
  await lost.install()
  await lost.synchronize()
  await lost.stop()

  const { host: address, port, user, password } = office.options
  const pool = openPool(t, { host: address, port, user, password: password as string, database: backup })
  const till = open(pool)
  await till.install()
  await till.synchronize()
  const [orphan] = await central.orphans.list()
  await central.orphans.sendBack(orphan?.id as number)
  const host = await pool.connect()
  t.teardown(() => host.release())
  await host.query(`BEGIN; UPDATE stock SET quantity = 5 WHERE item_no = 'B'`)
  const sending = till.synchronize()
  await eventually('ours has written A', async () => (await host.query(`SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep'`)).rowCount)
  await host.query(`UPDATE stock SET quantity = 5 WHERE item_no = 'A'; COMMIT`)
  await sending
  await eventually('it is back', async () => {
    await till.synchronize()
    return (await central.orphans.list({ state: 'returned' })).length
  })
  t.same((await pool.query('SELECT item_no, quantity FROM stock ORDER BY 1')).rows, [
    { item_no: 'A', quantity: 4 },
    { item_no: 'B', quantity: 4 },
  ])
})
