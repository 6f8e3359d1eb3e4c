import t, { type Test } from 'tap'
import { type AnyTables, type AudienceRules, mirror } from '../../src/index.ts'
import { startServer } from '../support/postgres.ts'
import { argument, budgetOfRun, Random, roundsOfRun, seedOfRun } from '../support/random.ts'
import { openShop, type Shop, type Till } from '../support/shop.ts'

// Head office and tills change the same rows at once, offline for a while, with restarts: once it is calm, all have the same, and where each side has columns of its own, its
// values.

const ROUNDS = Number(argument('rounds') ?? 3)
const STEPS = Number(argument('steps') ?? 25)
t.setTimeout(budgetOfRun(60_000) + 120_000)
const server = await startServer(t)
const seed = seedOfRun()

const OFFICE = `
  CREATE TABLE contacts (id bigint PRIMARY KEY, name text, phone text, credit numeric(10, 2));
  CREATE TABLE addresses (id bigint PRIMARY KEY, contact_id bigint NOT NULL, street text);
  CREATE INDEX ON addresses (contact_id);
  CREATE TABLE internal_orders (location text, register text, id bigint, note text, status text DEFAULT 'new', PRIMARY KEY (location, register, id));
  CREATE TABLE internal_order_lines (location text, register text, id bigint, order_id bigint NOT NULL, quantity integer, confirmed integer, PRIMARY KEY (location, register, id));
  CREATE INDEX ON internal_order_lines (location, register, order_id)`
const TILL = `
  CREATE TABLE contacts (id INTEGER PRIMARY KEY, name TEXT, phone TEXT, credit NUMERIC);
  CREATE TABLE addresses (id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL, street TEXT);
  CREATE INDEX addresses_contact ON addresses (contact_id);
  CREATE TABLE internal_orders (id INTEGER PRIMARY KEY, note TEXT, status TEXT DEFAULT 'new');
  CREATE TABLE internal_order_lines (id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL, quantity INTEGER, confirmed INTEGER);
  CREATE INDEX internal_order_lines_order ON internal_order_lines (order_id)`
const JOINED = { location: 'location', register: 'register', order_id: 'id' }
const PUBLISH: AudienceRules<AnyTables> = {
  contacts: {},
  addresses: { partOf: { contacts: { contact_id: 'id' } } },
  internal_orders: { only: ['status'], origin: ['location', 'register'] },
  internal_order_lines: { partOf: { internal_orders: JOINED }, only: ['confirmed'] },
}
const SUBSCRIBE = {
  contacts: mirror({ except: ['credit'], removals: 'apply' }),
  addresses: mirror(),
  internal_orders: mirror({ except: ['status'], origin: ['location', 'register'], removals: 'apply' }),
  internal_order_lines: mirror({ except: ['confirmed'] }),
}

async function addTill(t: Test, shop: Shop, register: string, pull: boolean): Promise<Till> {
  const till = await shop.addTill(register, {
    schema: TILL,
    pull,
    publish: {
      contacts: { existing: 'all', except: ['credit'] },
      addresses: { partOf: { contacts: { contact_id: 'id' } } },
      internal_orders: { existing: 'all', except: ['status'] },
      internal_order_lines: { partOf: { internal_orders: { order_id: 'id' } }, except: ['confirmed'] },
    },
    subscribe: {
      contacts: mirror(),
      addresses: mirror(),
      internal_orders: mirror({ only: ['status'], rows: 'update' }),
      internal_order_lines: mirror({ only: ['confirmed'], rows: 'update' }),
    },
  })
  t.teardown(() => till.replica.stop())
  return till
}

/** Statements that both dialects take. */
function contactChange(random: Random, who: string, credit: boolean): string[] {
  const id = random.int(1, 6)
  const value = `'${who}${random.int(1, 999)}'`
  const address = random.int(1, 8)
  return random.pick([
    () => [`INSERT INTO contacts (id, name) VALUES (${id}, ${value}) ON CONFLICT (id) DO UPDATE SET name = excluded.name`],
    () => [`UPDATE contacts SET phone = ${value} WHERE id = ${id}`],
    () => [`UPDATE contacts SET name = ${value} WHERE id <= ${id}`],
    () => [`UPDATE contacts SET phone = ${value} WHERE id = ${id}`, `UPDATE contacts SET phone = NULL WHERE id = ${id}`],
    () => [`DELETE FROM addresses WHERE contact_id = ${id}`, `DELETE FROM contacts WHERE id = ${id}`],
    () => [
      `INSERT INTO addresses (id, contact_id, street) SELECT ${address}, id, ${value} FROM contacts WHERE id = ${id} ON CONFLICT (id) DO UPDATE SET street = excluded.street`,
    ],
    () => [`DELETE FROM addresses WHERE id = ${address}`],
    () => (credit ? [`UPDATE contacts SET credit = ${random.int(1, 99)} WHERE id = ${id}`] : []),
  ])()
}

function orderChange(random: Random): string[] {
  const id = random.int(1, 4)
  const line = random.int(1, 8)
  const quantity = random.int(1, 99)
  return random.pick([
    () => [`INSERT INTO internal_orders (id, note) VALUES (${id}, 'n${quantity}') ON CONFLICT (id) DO UPDATE SET note = excluded.note`],
    () => [`DELETE FROM internal_order_lines WHERE order_id = ${id}`, `DELETE FROM internal_orders WHERE id = ${id}`],
    () => [
      `INSERT INTO internal_order_lines (id, order_id, quantity) SELECT ${line}, id, ${quantity} FROM internal_orders WHERE id = ${id} ON CONFLICT (id) DO UPDATE SET quantity = excluded.quantity`,
    ],
    () => [`DELETE FROM internal_order_lines WHERE id = ${line}`],
  ])()
}

async function play(t: Test, random: Random): Promise<void> {
  const shop = await openShop(t, server, { schema: OFFICE, publish: PUBLISH, subscribe: SUBSCRIBE })
  const tills = [await addTill(t, shop, 'POS1', false), await addTill(t, shop, 'POS2', random.chance(0.5))]
  const replicas = tills.map((till) => till.replica)
  const exchange = async (n: number): Promise<void> => {
    const till = tills[n] as Till
    if (till.url !== undefined) await shop.central.synchronize(till)
    else await replicas[n]?.synchronize()
  }
  for (let step = 0; step < STEPS; step++) {
    for (let changes = random.int(0, 3); changes > 0; changes--) {
      for (const sql of contactChange(random, 'hq', true)) await shop.pool.query(sql)
      if (random.chance(0.3)) await shop.pool.query(`UPDATE internal_orders SET status = 's${random.int(1, 9)}' WHERE id = ${random.int(1, 4)}`)
      if (random.chance(0.3)) await shop.pool.query(`UPDATE internal_order_lines SET confirmed = ${random.int(1, 99)} WHERE id = ${random.int(1, 8)}`)
    }
    for (const [n, { db }] of tills.entries()) {
      for (let changes = random.int(0, 2); changes > 0; changes--)
        db.transaction(() => {
          for (const sql of [...contactChange(random, `t${n}`, false), ...orderChange(random)]) db.exec(sql)
        })()
      if (random.chance(0.3)) await replicas[n]?.seal()
      if (random.chance(0.5)) await exchange(n)
      if (!random.chance(0.1)) continue
      await replicas[n]?.stop()
      replicas[n] = (tills[n] as Till).again()
    }
  }
  for (let rounds = 0; rounds < 4; rounds++) for (const n of tills.keys()) await exchange(n)
  const office = async (sql: string) =>
    (await shop.pool.query({ text: sql, rowMode: 'array' })).rows.map((row) => row.map((value: unknown) => (value === null ? null : String(value))))
  const at = ({ db }: Till, sql: string) =>
    db
      .prepare(sql)
      .raw()
      .all()
      .map((row) => (row as unknown[]).map((value) => (value === null ? null : String(value))))
  const ORDERS = 'SELECT id, note, status FROM internal_orders'
  const LINES = 'SELECT id, order_id, quantity, confirmed FROM internal_order_lines'
  for (const till of tills) {
    const own = `WHERE register = '${till.register}' ORDER BY 1`
    t.same(
      at(till, 'SELECT id, name, phone, CAST(credit AS INTEGER) FROM contacts ORDER BY 1'),
      await office('SELECT id, name, phone, credit::int FROM contacts ORDER BY 1'),
      `${till.register}: contacts`,
    )
    t.same(at(till, 'SELECT * FROM addresses ORDER BY 1'), await office('SELECT * FROM addresses ORDER BY 1'), `${till.register}: addresses`)
    t.same(at(till, `${ORDERS} ORDER BY 1`), await office(`${ORDERS} ${own}`), `${till.register}: orders`)
    t.same(at(till, `${LINES} ORDER BY 1`), await office(`${LINES} ${own}`), `${till.register}: order lines`)
  }
  for (const replica of replicas) {
    const { subscriptions, unapplied, parked } = await replica.status()
    t.same(
      subscriptions.map(({ waiting }) => waiting),
      subscriptions.map(() => 0),
    )
    t.same([...unapplied, ...parked], [])
  }
  await shop.central.stop()
}

t.test('whatever both sides change at once, in the end all have the same', async (t) => {
  for (const round of roundsOfRun(ROUNDS)) {
    t.comment(`--seed=${seed + round}`)
    await t.test(`seed ${seed + round}`, (t) => play(t, new Random(seed + round)))
    if (!t.passing()) return
  }
})
