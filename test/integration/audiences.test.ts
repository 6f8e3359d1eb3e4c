import { setTimeout as sleep } from 'node:timers/promises'
import type { Pool } from 'pg'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type AnyTables, type AudienceRules, type Central, createCentral } from '../../src/index.ts'
import type { Attributes } from '../../src/model.ts'
import { eventually } from '../support/eventually.ts'
import { Listener } from '../support/listener.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { refused } from '../support/refused.ts'

const server = await startServer(t)

const TABLES = `
  CREATE TABLE items (item_no text PRIMARY KEY, name text NOT NULL, unit_price numeric(12, 2), secret text);
  CREATE TABLE assortments (location text, item_no text, PRIMARY KEY (location, item_no));
  CREATE INDEX ON assortments (item_no);
  CREATE TABLE price_lists (id bigint PRIMARY KEY, price_group text);
  CREATE TABLE price_list_lines (list_id bigint REFERENCES price_lists, item_no text, unit_price numeric(12, 2), PRIMARY KEY (list_id, item_no));
  CREATE TABLE internal_orders (location text, register text, id bigint, status text, note text, PRIMARY KEY (location, register, id));
  CREATE TABLE internal_order_lines (location text, register text, order_id bigint, line_no int, confirmed_quantity numeric, PRIMARY KEY (location, register, order_id, line_no),
    FOREIGN KEY (location, register, order_id) REFERENCES internal_orders)`

const PUBLISH: AudienceRules<AnyTables> = {
  items: {
    except: ['secret'],
    where: (eb, register) =>
      eb.exists(
        eb
          .selectFrom('assortments')
          .select('assortments.item_no')
          .whereRef('assortments.item_no', '=', 'items.item_no')
          .where('assortments.location', '=', register.location),
      ),
    dependsOn: { assortments: { item_no: 'item_no' } },
  },
  price_lists: { where: (eb, { attributes }) => eb('price_group', '=', attributes.priceGroup) },
  price_list_lines: { partOf: { price_lists: { list_id: 'id' } } },
  internal_orders: { only: ['status'], origin: ['location', 'register'] },
  internal_order_lines: {
    partOf: { internal_orders: { location: 'location', register: 'register', order_id: 'id' } },
    only: ['confirmed_quantity'],
  },
}

interface Office {
  readonly pool: Pool
  readonly central: Central
  again(publish?: AudienceRules<AnyTables>): Central
  listener(location: string, register?: string, attributes?: Attributes): Promise<Listener>
}

async function openOffice(t: Test, publish: AudienceRules<AnyTables> = PUBLISH, tables = TABLES): Promise<Office> {
  const pool = await createPool(t, server)
  await pool.query(tables)
  const again = (rules = publish) => {
    const central = createCentral({ database: postgres(pool), subscribe: {}, publish: rules })
    t.teardown(() => central.stop())
    return central
  }
  const central = again()
  await central.install()
  return {
    pool,
    central,
    again,
    async listener(location, register = 'POS1', attributes = { priceGroup: 'A' }) {
      const { token } = await central.registers.add({ location, register, attributes })
      return new Listener(
        central.fetch,
        { location, register },
        token,
        Object.keys(publish).filter((table) => !table.endsWith('_lines')),
      )
    },
  }
}

t.test('each register gets what is meant for it, and what changes', async (t) => {
  const { pool, listener } = await openOffice(t)
  await pool.query(`INSERT INTO items SELECT 'I' || n, 'Item ' || n, n, 'x' FROM generate_series(1, 10) n;
    INSERT INTO assortments SELECT 'BA01', 'I' || n FROM generate_series(1, 6) n; INSERT INTO assortments SELECT 'BA02', 'I' || n FROM generate_series(5, 10) n`)
  const first = await listener('BA01')
  const sibling = await listener('BA01', 'POS2')
  const second = await listener('BA02')
  t.equal(await first.drain(), 6)
  t.equal(await sibling.drain(), 6)
  t.equal(await second.drain(), 6)
  t.equal(first.rows('items')[0], '{"item_no":"I1","name":"Item 1","unit_price":"1.00"}')
  t.equal(await first.drain(), 0)

  await pool.query(
    `UPDATE items SET unit_price = 99 WHERE item_no = 'I5'; UPDATE items SET unit_price = 98 WHERE item_no = 'I5'; UPDATE items SET secret = 'y'`,
  )
  t.equal(await first.drain(), 1, 'repeated changes come once, unpublished columns not at all')
  t.equal(await second.drain(), 1)
  t.match(first.rows('items').join(), '"unit_price":"98.00"')

  await pool.query(
    `DELETE FROM assortments WHERE location = 'BA01' AND item_no = 'I1'; INSERT INTO assortments VALUES ('BA01', 'I9'); DELETE FROM items WHERE item_no = 'I6'`,
  )
  t.equal(await first.drain(), 3)
  t.equal(await second.drain(), 1)
  t.same(
    first.rows('items').map((row) => JSON.parse(row).item_no),
    ['I2', 'I3', 'I4', 'I5', 'I9'],
  )
  t.same(
    second.rows('items').map((row) => JSON.parse(row).item_no),
    ['I10', 'I5', 'I7', 'I8', 'I9'],
  )
  await pool.query("UPDATE items SET unit_price = 1 WHERE item_no = 'I1'")
  t.equal(await first.drain(), 0, 'what is not meant for it is not heard of')
})

t.test('a register whose attributes change gets the difference', async (t) => {
  const { pool, central, listener } = await openOffice(t)
  await pool.query(
    `INSERT INTO price_lists VALUES (1, 'A'), (2, 'B'), (3, 'A'); INSERT INTO price_list_lines VALUES (1, 'I1', 1), (1, 'I2', 2), (2, 'I1', 3)`,
  )
  const till = await listener('BA01')
  await till.drain()
  t.same(till.rows('price_lists'), ['{"id":1,"price_group":"A"}', '{"id":3,"price_group":"A"}'])
  t.equal(till.rows('price_list_lines').length, 2)
  await central.registers.change(till.name, { attributes: { priceGroup: 'B' } })
  t.match(await central.registers.list(), [{ attributes: { priceGroup: 'B' } }])
  await till.drain()
  t.same(till.rows('price_lists'), ['{"id":2,"price_group":"B"}'])
  t.same(till.rows('price_list_lines'), ['{"list_id":2,"item_no":"I1","unit_price":"3.00"}'])
  await pool.query("UPDATE price_list_lines SET unit_price = 4 WHERE list_id = 2; UPDATE price_lists SET price_group = 'B' WHERE id = 1")
  await till.drain()
  t.equal(till.rows('price_lists').length, 2)
  t.equal(till.rows('price_list_lines').length, 3)
  await refused(t, () => central.registers.change(till.name, { attributes: {} }), 'ERR_FILTER')
  t.match(await central.registers.list(), [{ attributes: { priceGroup: 'B' } }])
})

t.test('with `origin` a register gets its own documents only, without the columns that say so', async (t) => {
  const { pool, listener } = await openOffice(t)
  const [one, two] = [await listener('BA01', 'POS1'), await listener('BA01', 'POS2')]
  await pool.query(
    `INSERT INTO internal_orders VALUES ('BA01', 'POS1', 7, 'new', 'n'), ('BA01', 'POS2', 7, 'done', 'n'); INSERT INTO internal_order_lines VALUES ('BA01', 'POS1', 7, 1, 5)`,
  )
  await one.drain()
  await two.drain()
  t.same(one.rows('internal_orders'), ['{"id":7,"status":"new"}'])
  t.same(one.rows('internal_order_lines'), ['{"order_id":7,"line_no":1,"confirmed_quantity":"5"}'])
  t.same(two.rows('internal_orders'), ['{"id":7,"status":"done"}'])
  await pool.query("DELETE FROM internal_order_lines; DELETE FROM internal_orders WHERE register = 'POS1'")
  await one.drain()
  await two.drain()
  t.same(one.rows('internal_orders'), [])
  t.same(two.rows('internal_orders').length, 1)
  const batch = one.heard.find(({ table }) => table === 'internal_orders')
  t.same([batch?.keyColumns, batch?.shape], [['id'], [{ table: 'internal_order_lines', columns: { order_id: 'id' }, parts: [] }]])
})

t.test('a restored register gets what it has lost; after a restore of central it begins anew', async (t) => {
  const { pool, listener } = await openOffice(t)
  await pool.query(
    `INSERT INTO items SELECT 'I' || n, 'Item ' || n, n FROM generate_series(1, 20) n; INSERT INTO assortments SELECT 'BA01', item_no FROM items`,
  )
  const till = await listener('BA01')
  await till.drain()
  const backup = till.backup()
  await pool.query("UPDATE items SET unit_price = 50 WHERE item_no < 'I15'; DELETE FROM items WHERE item_no = 'I2'")
  await till.drain()
  const rows = till.rows('items')
  till.restore(backup)
  t.ok((await till.drain()) < 20, 'only what has changed since')
  t.same(till.rows('items'), rows)

  // Central loses its last slice, as a backup would, and goes on with other changes up to the same number.
  const tables = ['items', 'sync_audiences', 'sync_audience_members', 'sync_audience_points', 'sync_members', 'sync_touches']
  for (const table of tables) await pool.query(`CREATE TABLE saved_${table} AS TABLE ${table}`)
  await pool.query("UPDATE items SET unit_price = 60 WHERE item_no = 'I3'; DELETE FROM items WHERE item_no = 'I4'")
  await till.drain()
  const before = till.standing('items')
  for (const table of tables) {
    const columns = (
      await pool.query(`SELECT string_agg(quote_ident(column_name), ',') AS c FROM information_schema.columns WHERE table_name = '${table}'`)
    ).rows[0].c
    await pool.query(
      `ALTER TABLE ${table} DISABLE TRIGGER ALL; DELETE FROM ${table}; INSERT INTO ${table} (${columns}) OVERRIDING SYSTEM VALUE SELECT ${columns} FROM saved_${table}; ALTER TABLE ${table} ENABLE TRIGGER ALL`,
    )
  }
  await pool.query("UPDATE items SET unit_price = 70 WHERE item_no IN ('I5', 'I7')")
  await till.drain()
  t.equal(till.standing('items').entryNo, before.entryNo, 'the same number in another history')
  t.not(till.standing('items').mark, before.mark)
  const { rows: now } = await pool.query('SELECT item_no, name, unit_price FROM items ORDER BY item_no')
  t.same(
    till.rows('items').map((row) => JSON.parse(row)),
    now.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)),
  )
})

t.test('a filter that fails for one document holds up that one only', async (t) => {
  const { pool, central, listener } = await openOffice(t, {
    items: { where: (eb) => eb(eb('unit_price', '/', eb.ref('unit_price')), '=', 1) },
  })
  await pool.query("INSERT INTO items VALUES ('A', 'a', 1), ('B', 'b', 0), ('C', 'c', 3)")
  const till = await listener('BA01')
  await till.drain()
  t.same(till.rows('items').length, 2)
  await pool.query("UPDATE items SET name = name || '!'")
  await till.drain()
  t.equal(till.rows('items').filter((row) => row.includes('!')).length, 2)
  t.match((await central.status()).parked, [{ table: 'items', recordId: ['B'], code: 'ERR_FILTER' }])
  await pool.query("UPDATE items SET unit_price = 2 WHERE item_no = 'B'")
  await till.drain()
  t.equal(till.rows('items').length, 3)
  t.same((await central.status()).parked, [])
})

t.test('where a filter fails for one of many, all others are given to who begins', async (t) => {
  const { pool, listener } = await openOffice(t, { items: { where: (eb) => eb(eb('unit_price', '/', eb.ref('unit_price')), '=', 1) } })
  await pool.query("INSERT INTO items SELECT 'I' || lpad(n::text, 4, '0'), 'Item', (n <> 1200)::int FROM generate_series(1, 2200) n")
  const till = await listener('BA01')
  t.equal(await till.drain(), 2_199)
})

t.test('a document that could not be read while a register began comes to it, though it is what it was before', async (t) => {
  const { pool, central, listener } = await openOffice(
    t,
    { promotions: {} },
    'CREATE TABLE promotions (id int PRIMARY KEY, price int, each int GENERATED ALWAYS AS (100 / price) VIRTUAL)',
  )
  await pool.query('INSERT INTO promotions VALUES (1, 5), (2, 10)')
  const till = await listener('BA01')
  t.equal(await till.drain(), 2)
  await pool.query('UPDATE promotions SET price = 0 WHERE id = 2')
  const other = await listener('BA01', 'POS2')
  other.records = 100 // so that it is not told what was cut for the first
  t.equal(await other.drain(), 1)
  t.match((await central.status()).parked, [{ table: 'promotions', recordId: [2] }])
  await pool.query('UPDATE promotions SET price = 10 WHERE id = 2')
  await till.drain()
  await other.drain()
  t.same(other.rows('promotions'), till.rows('promotions'))
  t.equal(other.rows('promotions').length, 2)
})

t.test('what nobody needs any more is forgotten: removals that all have, and audiences that nobody asks for', async (t) => {
  const { pool, central, listener } = await openOffice(t)
  await pool.query(
    `INSERT INTO items SELECT 'I' || n, 'Item ' || n, n FROM generate_series(1, 20) n; INSERT INTO assortments SELECT 'BA01', item_no FROM items`,
  )
  const till = await listener('BA01')
  const other = await listener('BA02')
  const late = await listener('BA01', 'POS2')
  const silent = await listener('BA01', 'POS3')
  for (const one of [till, other, late, silent]) await one.drain()
  const old = till.backup()
  await pool.query("DELETE FROM items WHERE item_no <> 'I1'")
  await till.drain()
  const age = "'40 days'"
  await pool.query(
    `UPDATE sync_audience_points SET sealed_at = sealed_at - interval ${age}; UPDATE sync_audiences SET asked_at = asked_at - interval ${age} WHERE filter LIKE '%BA02%';
     UPDATE sync_audience_registers SET heard_at = heard_at - interval ${age} WHERE register_id = (SELECT register_id FROM sync_registers WHERE register = 'POS3')`,
  )
  const members = async () =>
    (await pool.query('SELECT count(*)::int AS all, count(*) FILTER (WHERE removed)::int AS removed FROM sync_audience_members')).rows[0]
  await central.prune()
  t.same(await members(), { all: 20, removed: 19 }, 'one has not heard of them')
  t.equal((await pool.query("SELECT FROM sync_audiences WHERE filter LIKE '%BA02%'")).rowCount, 0)
  await late.drain()
  await central.prune()
  t.same(await members(), { all: 1, removed: 0 })
  till.restore(old)
  t.equal(till.rows('items').length, 20)
  for (const one of [till, other, late, silent]) await one.drain()
  t.same(
    [till, other, late, silent].map((one) => one.rows('items').length),
    [1, 0, 1, 1],
  )
})

t.test('a register for which a filter can not be asked keeps what it has; it is said once', async (t) => {
  const { pool, central, again, listener } = await openOffice(t, { items: {}, price_lists: {} })
  await pool.query("INSERT INTO items VALUES ('A', 'a', 1); INSERT INTO price_lists VALUES (1, 'A')")
  const till = await listener('BA01', 'POS1', {})
  await till.drain()
  await central.stop()
  // The next release asks for an attribute that nobody has set yet.
  const next = again({ items: {}, price_lists: { where: (eb, { attributes }) => eb('price_group', '=', attributes.priceGroup) } })
  await next.install()
  const failures: string[] = []
  next.on('failed', ({ error }) => failures.push(error.code))
  till.fetch = next.fetch
  await pool.query("INSERT INTO items VALUES ('B', 'b', 1); DELETE FROM price_lists")
  for (let n = 0; n < 3; n++) await till.drain()
  t.equal(till.rows('items').length, 2)
  t.equal(till.rows('price_lists').length, 1)
  t.same(failures, ['ERR_FILTER'])
  t.match((await next.status()).problems, [{ table: 'price_lists', error: { code: 'ERR_FILTER', hint: /attribute/ } }])
  await next.registers.change(till.name, { attributes: { priceGroup: 'A' } })
  await till.drain()
  t.same(till.rows('price_lists'), [])
  t.same((await next.status()).problems, [])
})

t.test('where nothing is published any more nothing is noted, and what is published again is found', async (t) => {
  const { pool, central, again, listener } = await openOffice(t, { items: {} })
  await pool.query("INSERT INTO items VALUES ('A', 'a', 1), ('B', 'b', 1)")
  const till = await listener('BA01')
  await till.drain()
  await central.stop()
  const silent = createCentral({ database: postgres(pool), subscribe: {} })
  await silent.install()
  await silent.stop()
  await pool.query(
    "UPDATE items SET unit_price = 9 WHERE item_no = 'A'; DELETE FROM items WHERE item_no = 'B'; INSERT INTO items VALUES ('C', 'c', 1)",
  )
  t.equal((await pool.query("SELECT FROM pg_trigger WHERE tgname LIKE '%sync%'")).rowCount, 0)
  const next = again({ items: {} })
  await next.install()
  await next.start()
  till.fetch = next.fetch
  await eventually('what has changed meanwhile is there', async () => {
    await till.drain()
    return till.rows('items').join().includes('9.00') && till.rows('items').length === 2 && till.rows('items').join().includes('"C"')
  })
})

t.test('what a register asks for is bounded, and what can not be told of it keeps no sale from being acknowledged', async (t) => {
  const { pool, central, listener } = await openOffice(t, { items: {} })
  await pool.query("INSERT INTO items SELECT 'I' || n, repeat('x', 100), n FROM generate_series(1, 12000) n")
  const till = await listener('BA01')
  till.records = Number.MAX_SAFE_INTEGER
  till.bytes = Number.MAX_SAFE_INTEGER
  till.message = Number.MAX_SAFE_INTEGER
  const [first] = (await till.exchange(false)).batches
  t.ok((first?.documents.length ?? 0) <= 10_000, `${first?.documents.length} at once`)
  const refused: string[] = []
  central.on('refused', ({ error }) => refused.push(error.code))
  till.message = 1_000
  t.same(await till.exchange(), { batches: [], more: false })
  till.message = 8_000_000
  till.unapplied = [1, 1].map(() => ({ table: 'items', recordId: '["I1"]', code: 'ERR_MIRROR', message: 'm' }))
  t.same(await till.exchange(), { batches: [], more: false })
  t.same(refused, ['ERR_MESSAGE', 'ERR_MESSAGE'])
  till.unapplied = [
    { table: 'items', recordId: '["I1"]', code: 'ERR_MIRROR', message: '' },
    { table: 'items', recordId: '["I2"]', code: 'ERR_MIRROR', message: 'a\0b' },
  ]
  await till.exchange()
  t.same(
    (await central.status()).subscribed[0]?.unapplied.map(({ message }) => message),
    ['ERR_MIRROR', 'a\ufffdb'],
  )
  const failures: string[] = []
  central.on('failed', ({ error }) => failures.push(error.code))
  await pool.query('DROP TABLE sync_audience_members')
  await pool.query("UPDATE items SET unit_price = 5 WHERE item_no = 'I1'")
  t.same(await till.exchange(), { batches: [], more: false }, 'the exchange goes well')
  t.ok(failures.length > 0)
})

t.test('what a register could not apply is listed as it last said, whichever process of central it said it to', async (t) => {
  const { pool, central, again, listener } = await openOffice(t, { items: {} })
  await pool.query("INSERT INTO items VALUES ('I1', 'Item', 1)")
  const till = await listener('BA01')
  await till.drain()
  const told: string[] = []
  const processes = [central, again()]
  for (const one of processes) one.on('unapplied', ({ documents }) => told.push(documents.map(({ message }) => message).join()))
  const say = async (process: number, ...messages: string[]) => {
    till.fetch = (processes[process] as Central).fetch
    till.unapplied = messages.map((message, n) => ({ table: 'items', recordId: `["I${n + 1}"]`, code: 'ERR_MIRROR', message }))
    await till.exchange()
    return (await central.status()).subscribed[0]?.unapplied.map(({ message }) => message)
  }
  t.same(await say(0, 'a'), ['a'])
  t.same(await say(0, 'a'), ['a'])
  t.same(await say(1), [])
  t.same(await say(0, 'a'), ['a'], 'it waits again')
  t.same(await say(0), [])
  t.same(await say(1, 'b', 'c'), ['b', 'c'])
  t.same(await say(0), [], 'it does not wait any more')
  t.same(told, ['a', 'a', 'b,c'], 'said once each time')
})

t.test('a document that fits into no message is left out, and central says so for as long as the register lacks it', async (t) => {
  const { pool, central, listener } = await openOffice(t, { items: {} })
  await pool.query("INSERT INTO items VALUES ('A', 'a', 1), ('B', repeat('x', 100000), 2), ('C', 'c', 3)")
  const till = await listener('BA01')
  till.message = 65_536
  await till.drain()
  t.equal(till.rows('items').length, 2)
  const lacks = { table: 'items', error: { code: 'ERR_TOO_LARGE', context: { recordId: '["B"]' } } }
  t.match((await central.status()).problems, [lacks])
  await pool.query("UPDATE items SET unit_price = 5 WHERE item_no = 'A'")
  await till.drain()
  t.match((await central.status()).problems, [lacks], 'whatever else it gets')
  await pool.query("UPDATE items SET name = 'b' WHERE item_no = 'B'")
  await till.drain()
  t.equal(till.rows('items').length, 3)
  t.same((await central.status()).problems, [])
})

t.test('what comes next is cut while the register applies; what has changed until it asks is told as it is then', async (t) => {
  const { pool, central, listener } = await openOffice(t)
  await pool.query(`INSERT INTO items SELECT 'I' || n, 'Item ' || n, n FROM generate_series(1, 60) n;
    INSERT INTO assortments SELECT 'BA01', item_no FROM items`)
  const till = await listener('BA01')
  till.records = 10
  const names = ({ batches }: Awaited<ReturnType<typeof till.exchange>>) =>
    batches.flatMap(({ documents }) => documents.map(({ records }) => JSON.parse(records[0]?.record ?? '{}').name))
  const told = names(await till.exchange())
  // What is read ahead begins as the answer leaves, and has a connection a moment later.
  const isIdle = () => sleep(500).then(() => eventually('nothing is read any more', async () => pool.idleCount === pool.totalCount))
  await isIdle()
  const locking = await pool.connect()
  await locking.query('BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE')
  told.push(...names(await till.exchange()))
  t.equal(told.length, 20, 'the second page is there, though nobody can read the table')
  await locking.query('ROLLBACK')
  locking.release()
  await isIdle()
  await pool.query("UPDATE items SET name = 'Changed'; DELETE FROM assortments WHERE item_no IN ('I35', 'I36')")
  for (let page = 3; page <= 6; page++) told.push(...names(await till.exchange()))
  t.notOk(told.includes('Item 35'), 'what has left by then is not told')
  t.ok(told.filter((name) => name === 'Changed').length >= 28, 'nor what was cut before it changed')
  await till.drain()
  const { rows } = await pool.query(
    'SELECT item_no FROM items JOIN assortments USING (item_no) WHERE name = \'Changed\' ORDER BY item_no COLLATE "C"',
  )
  const has = till.rows('items').map((row) => JSON.parse(row))
  t.same(
    has.map(({ item_no }) => item_no).sort(),
    rows.map(({ item_no }) => item_no),
  )
  t.ok(has.every(({ name }) => name === 'Changed'))
  await central.stop()
  t.equal(pool.idleCount, pool.totalCount, 'nothing is read once it is stopped')
})

t.test('a column that is dropped while nothing is sealed keeps no register from the table', async (t) => {
  const { pool, listener } = await openOffice(t, { items: {} })
  await pool.query("INSERT INTO items SELECT 'I' || n, 'Item ' || n, n FROM generate_series(1, 3) n")
  await (await listener('BA01')).drain()
  await pool.query('ALTER TABLE items DROP COLUMN secret')
  const till = await listener('BA01', 'POS2')
  till.records = 2 // so that nothing is told that was read for another one
  t.equal(await till.drain(), 3)
  t.equal(till.rows('items')[0], '{"item_no":"I1","name":"Item 1","unit_price":"1.00"}')
})

t.test('check() asks of what central publishes for nothing that its rules do not take', async (t) => {
  const pool = await createPool(t, server)
  await pool.query(`${TABLES}; CREATE INDEX ON internal_order_lines (location, register, order_id)`)
  const central = createCentral({ database: postgres(pool), subscribe: {}, publish: PUBLISH })
  t.teardown(() => central.stop())
  await central.install()
  t.same(
    (await central.check()).map(({ code, table }) => [code, table]),
    [['NOT_DURABLE', undefined]],
  )
})

t.test('rules that can not work are refused', async (t) => {
  const pool = await createPool(t, server)
  await pool.query(TABLES)
  const central = (publish: AudienceRules<AnyTables>) => createCentral({ database: postgres(pool), subscribe: {}, publish })
  await refused(t, async () => central({ items: { where: 'x' } as never }), 'ERR_OPTION')
  await refused(t, async () => central({ items: { existing: 'all' } as never }), 'ERR_OPTION')
  await refused(t, async () => central({ items: { origin: ['location'] } as never }), 'ERR_OPTION')
  await refused(t, async () => central({ items: { where: (eb) => eb.exists(eb.selectFrom('assortments').select('item_no')) } }), 'ERR_FILTER')
  await refused(t, () => central({ nowhere: {} }).install(), 'ERR_UNKNOWN_TABLE')
  await refused(t, () => central({ items: { only: ['nothing'] } }).install(), 'ERR_UNKNOWN_COLUMN')
  const odd = central({ items: { where: (eb, { location }) => eb('no_column', '=', location) } })
  await odd.install()
  await refused(t, () => odd.registers.add({ location: 'BA01', register: 'POS1' }), 'ERR_FILTER')
  t.same(await odd.registers.list(), [])
  await odd.stop()
})
