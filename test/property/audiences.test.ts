import type { Pool } from 'pg'
import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type AnyTables, type AudienceRules, type Central, createCentral } from '../../src/index.ts'
import type { Attributes } from '../../src/model.ts'
import { Listener } from '../support/listener.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { argument, Random, seedOfRun } from '../support/random.ts'

// Whatever changes at central, in whatever order registers ask, restart, are restored or added: after it calms down each has exactly what its filter selects, and
// nothing else was ever said to it.

const server = await startServer(t)
const seed = seedOfRun()
const budgetMs = Number(argument('ms') || 3_000)
t.comment(`--seed=${seed} --ms=${budgetMs}`)

const TABLES = `
  CREATE TABLE items (item_no text PRIMARY KEY, name text, unit_price numeric(12, 2), blocked boolean NOT NULL DEFAULT false);
  CREATE TABLE assortments (location text, item_no text, PRIMARY KEY (location, item_no));
  CREATE INDEX ON assortments (item_no);
  CREATE TABLE price_lists (id bigint PRIMARY KEY, price_group text);
  CREATE TABLE price_list_lines (list_id bigint, line_no int, item_no text, unit_price numeric(12, 2), PRIMARY KEY (list_id, line_no));
  CREATE TABLE internal_orders (location text, register text, id bigint, status text, PRIMARY KEY (location, register, id));
  CREATE TABLE internal_order_lines (location text, register text, order_id bigint, line_no int, quantity numeric, PRIMARY KEY (location, register, order_id, line_no))`

const PUBLISH: AudienceRules<AnyTables> = {
  items: {
    where: (eb, register) =>
      eb.and([
        eb('blocked', '=', false),
        eb.exists(
          eb
            .selectFrom('assortments')
            .select('assortments.item_no')
            .whereRef('assortments.item_no', '=', 'items.item_no')
            .where('assortments.location', '=', register.location),
        ),
      ]),
    dependsOn: { assortments: { item_no: 'item_no' } },
  },
  price_lists: { where: (eb, { attributes }) => eb('price_group', '=', attributes.priceGroup) },
  price_list_lines: { partOf: { price_lists: { list_id: 'id' } } },
  internal_orders: { origin: ['location', 'register'] },
  internal_order_lines: { partOf: { internal_orders: { location: 'location', register: 'register', order_id: 'id' } } },
}
const ROOTS = ['items', 'price_lists', 'internal_orders']
const LOCATIONS = ['BA01', 'BA02']
const GROUPS = ['A', 'B', 'C']

/** What a register should have, by tables: written by hand, apart from the rules. */
async function wanted(pool: Pool, { location, register }: Listener['name'], { priceGroup }: Attributes): Promise<Record<string, string[]>> {
  const rows = async (sql: string) =>
    (await pool.query(sql)).rows
      .map((row) => JSON.stringify(Object.fromEntries(Object.entries(row).map(([k, v]) => [k, k === 'id' || k.endsWith('_id') ? Number(v) : v]))))
      .sort()
  const own = `location = '${location}' AND register = '${register}'`
  return {
    items: await rows(
      `SELECT item_no, name, unit_price, blocked FROM items WHERE NOT blocked AND item_no IN (SELECT item_no FROM assortments WHERE location = '${location}')`,
    ),
    price_lists: await rows(`SELECT * FROM price_lists WHERE price_group = '${priceGroup}'`),
    price_list_lines: await rows(`SELECT l.* FROM price_list_lines l JOIN price_lists p ON p.id = l.list_id WHERE price_group = '${priceGroup}'`),
    internal_orders: await rows(`SELECT id, status FROM internal_orders WHERE ${own}`),
    internal_order_lines: await rows(
      `SELECT order_id, line_no, quantity FROM internal_order_lines l WHERE ${own} AND EXISTS (SELECT FROM internal_orders o WHERE o.location = l.location AND o.register = l.register AND o.id = l.order_id)`,
    ),
  }
}

/** A statement of head office's people. */
function statement(random: Random): string {
  const [item, list, order] = [`'I${random.int(0, 11)}'`, random.int(0, 4), random.int(0, 3)]
  const location = `'${random.pick(LOCATIONS)}'`
  const register = `'POS${random.int(0, 1)}'`
  return random.pick([
    `INSERT INTO items VALUES (${item}, 'n', ${random.int(0, 8)}) ON CONFLICT (item_no) DO UPDATE SET unit_price = excluded.unit_price`,
    `UPDATE items SET unit_price = ${random.int(0, 8)} WHERE item_no >= ${item}`,
    `UPDATE items SET blocked = NOT blocked WHERE item_no = ${item}`,
    `DELETE FROM items WHERE item_no = ${item}`,
    `INSERT INTO assortments VALUES (${location}, ${item}) ON CONFLICT DO NOTHING`,
    `DELETE FROM assortments WHERE location = ${location} AND item_no <= ${item}`,
    `UPDATE assortments SET location = 'BA09' WHERE item_no = ${item} AND location = ${location}; DELETE FROM assortments WHERE location = 'BA09'`,
    'TRUNCATE assortments',
    `INSERT INTO assortments SELECT ${location}, item_no FROM items ON CONFLICT DO NOTHING`,
    `INSERT INTO price_lists VALUES (${list}, '${random.pick(GROUPS)}') ON CONFLICT (id) DO UPDATE SET price_group = excluded.price_group`,
    `INSERT INTO price_list_lines VALUES (${list}, ${random.int(0, 3)}, ${item}, ${random.int(0, 8)}) ON CONFLICT (list_id, line_no) DO UPDATE SET unit_price = excluded.unit_price`,
    `UPDATE price_list_lines SET list_id = ${list} WHERE (list_id, line_no) IN (SELECT max(list_id), line_no FROM price_list_lines WHERE line_no = ${random.int(0, 3)} GROUP BY line_no)
      AND NOT EXISTS (SELECT FROM price_list_lines x WHERE x.list_id = ${list})`,
    `DELETE FROM price_lists WHERE id = ${list}`,
    `DELETE FROM price_list_lines WHERE line_no = ${random.int(0, 3)}`,
    `INSERT INTO internal_orders VALUES (${location}, ${register}, ${order}, 's${random.int(0, 2)}') ON CONFLICT (location, register, id) DO UPDATE SET status = excluded.status`,
    `INSERT INTO internal_order_lines VALUES (${location}, ${register}, ${order}, ${random.int(0, 2)}, ${random.int(0, 8)}) ON CONFLICT DO NOTHING`,
    `DELETE FROM internal_orders WHERE id = ${order} AND register = ${register}`,
    `UPDATE internal_orders SET register = 'POS9' WHERE id = ${order} AND register = ${register} AND NOT EXISTS (SELECT FROM internal_orders x WHERE x.register = 'POS9')`,
  ])
}

interface Seat {
  listener: Listener
  attributes: Attributes
  backup: unknown
  /** The documents that were ever meant for it, by table and record id. */
  meant: Set<string>
}

/** Notes which documents are meant for whom now. */
async function note(pool: Pool, seats: readonly Seat[]): Promise<void> {
  for (const { listener, attributes, meant } of seats) {
    const right = await wanted(pool, listener.name, attributes)
    for (const table of ROOTS)
      for (const row of right[table] ?? [])
        meant.add(`${table} ${JSON.stringify([table === 'items' ? JSON.parse(row).item_no : JSON.parse(row).id])}`)
  }
}

async function run(random: Random, steps: number): Promise<readonly string[]> {
  const pool = await createPool(t, server)
  await pool.query(TABLES)
  const open = () => createCentral({ database: postgres(pool), subscribe: {}, publish: PUBLISH, pull: { token: () => '' } })
  const centrals: Central[] = [open(), open()]
  await (centrals[0] as Central).install()
  const fetch = (request: Request) => (random.pick(centrals) as Central).fetch(request)
  const seats: Seat[] = []
  const add = async () => {
    const name = { location: random.pick(LOCATIONS), register: `POS${seats.length}` }
    const attributes = { priceGroup: random.pick(GROUPS) }
    const { token } = await (centrals[0] as Central).registers.add({ ...name, attributes })
    const listener = new Listener(fetch, name, token, ROOTS)
    listener.records = random.int(1, 6)
    seats.push({ listener, attributes, backup: listener.backup(), meant: new Set() })
    await note(pool, seats)
  }
  const errors: string[] = []
  await add()
  for (let step = 0; step < steps; step++) {
    const seat = random.pick(seats)
    const dice = random.int(0, 99)
    if (dice < 45) {
      await pool.query(
        `BEGIN; ${statement(random)}; ${random.int(0, 2) === 0 ? statement(random) : ''}; ${random.int(0, 7) === 0 ? 'ROLLBACK' : 'COMMIT'}`,
      )
      await note(pool, seats)
    } else if (dice < 80) errors.push(...(await hear(pool, seat, random.int(0, 5) > 0)))
    else if (dice < 85) seat.backup = seat.listener.backup()
    else if (dice < 89) seat.listener.restore(seat.backup)
    else if (dice < 93 && seats.length < 5) await add()
    else if (dice < 96) {
      seat.attributes = { priceGroup: random.pick(GROUPS) }
      await (centrals[0] as Central).registers.change(seat.listener.name, { attributes: seat.attributes })
      await note(pool, seats)
    } else if (dice < 98) {
      const n = random.int(0, centrals.length - 1)
      await (centrals[n] as Central).stop()
      centrals[n] = open()
    } else await pool.query(random.pick(['ALTER TABLE items ADD COLUMN IF NOT EXISTS size text', 'ALTER TABLE items DROP COLUMN IF EXISTS size']))
  }
  await (centrals[0] as Central).synchronize() // what another process has left to be resealed
  for (const seat of seats) {
    const { listener, attributes } = seat
    await listener.drain()
    const found = Object.fromEntries(
      [...ROOTS, 'price_list_lines', 'internal_order_lines'].map((table) => [table, listener.rows(table).map(withoutAdded).sort()]),
    )
    const right = await wanted(pool, listener.name, attributes)
    for (const table of Object.keys(right))
      if (JSON.stringify(found[table]) !== JSON.stringify(right[table]))
        errors.push(`${listener.name.register} has of ${table} ${JSON.stringify(found[table])} instead of ${JSON.stringify(right[table])}`)
    if ((await listener.exchange()).batches.length > 0) errors.push(`${listener.name.register} is not told that there is nothing more`)
  }
  for (const central of centrals) await central.stop()
  return errors
}

/** A column that is added comes with whatever changes next: nothing is sent for its sake. */
function withoutAdded(record: string): string {
  return record.replace(',"size":null', '')
}

/** One exchange. Nothing that is said may be of another's: each record is one that this register is to have now, each removal of one that was once meant for it. */
async function hear(pool: Pool, { listener, attributes, meant }: Seat, kept: boolean): Promise<readonly string[]> {
  const { batches } = await listener.exchange(kept)
  const right = await wanted(pool, listener.name, attributes)
  const errors: string[] = []
  for (const { table, documents } of batches) {
    for (const { recordId, records } of documents) {
      if (records.length === 0 && !meant.has(`${table} ${recordId}`))
        errors.push(`${listener.name.register} hears of ${table} ${recordId}, which was never meant for it`)
      for (const one of records)
        if (!right[one.table]?.includes(withoutAdded(one.record)))
          errors.push(`${listener.name.register} hears ${one.record} of ${one.table}, which is not its`)
    }
  }
  return errors
}

t.test('each register has what its filter selects, and hears of nothing else', async (t) => {
  const end = performance.now() + budgetMs
  let runs = 0
  for (const random = new Random(seed); runs === 0 || performance.now() < end; runs++) {
    const errors = await run(random, 60)
    t.same(errors, [], `run ${runs}`)
    if (errors.length > 0) break
  }
  t.comment(`${runs} runs`)
})
