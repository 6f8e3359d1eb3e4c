import type { Pool } from 'pg'
import t, { type Test } from 'tap'
import { type AnyTables, mirror, type PublishRules, type SubscribeRules, stockMovements } from '../../src/index.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { openShop, type Shop, type Till } from '../support/shop.ts'

const server = await startServer(t)

interface Scene {
  readonly shop: Shop
  readonly till: Till
  readonly office: Pool
  /** Statements at the till, one transaction, and then everything to head office. */
  sell(sql: string): Promise<void>
  rows(sql: string): Promise<unknown[]>
}

interface Setting {
  readonly till: string
  readonly office: string
  readonly publish: PublishRules<AnyTables>
  readonly subscribe: SubscribeRules<AnyTables>
}

async function open(t: Test, { till, office, publish, subscribe }: Setting): Promise<Scene> {
  const pool = await createPool(t, server)
  await pool.query(office)
  const shop = await openShop(t, server, { pool, subscribe })
  const one = await shop.addTill('POS1', { schema: till, publish })
  return {
    shop,
    till: one,
    office: pool,
    async sell(sql) {
      one.db.exec(`BEGIN; ${sql}; COMMIT`)
      await one.deliver()
    },
    rows: async (sql) => (await pool.query({ text: sql, rowMode: 'array' })).rows,
  }
}

const ORDERS = `CREATE TABLE orders (id INTEGER PRIMARY KEY, order_no TEXT, status TEXT, note TEXT);
  CREATE TABLE order_lines (id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL, item_no TEXT, quantity TEXT, confirmed TEXT);
  CREATE INDEX order_lines_order_id ON order_lines (order_id)`
const OFFICE_ORDERS = `CREATE TABLE orders (id bigint PRIMARY KEY, order_no text NOT NULL, status text NOT NULL DEFAULT 'new', note text);
  CREATE TABLE order_lines (id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders, item_no text, quantity numeric, confirmed numeric DEFAULT 0)`
const PUBLISH: PublishRules<AnyTables> = { orders: {}, order_lines: { partOf: { orders: { order_id: 'id' } } } }
/** Counts how often rows are written. */
const COUNTING = `CREATE TABLE counted (what text, n bigint DEFAULT 0, PRIMARY KEY (what));
  CREATE FUNCTION count_it() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO counted VALUES (TG_TABLE_NAME || ' ' || TG_WHEN || ' ' || TG_OP, 1) ON CONFLICT (what) DO UPDATE SET n = counted.n + 1; RETURN coalesce(NEW, OLD); END $$;
  CREATE TRIGGER before_all BEFORE INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION count_it();
  CREATE TRIGGER before_all BEFORE INSERT OR UPDATE OR DELETE ON order_lines FOR EACH ROW EXECUTE FUNCTION count_it()`

t.test("central's own columns keep what central writes, get their defaults with a new row, and a part has options of its own", async (t) => {
  const { sell, rows, office } = await open(t, {
    till: ORDERS,
    office: OFFICE_ORDERS,
    publish: PUBLISH,
    subscribe: { orders: mirror({ except: ['status'] }), order_lines: mirror({ only: ['item_no', 'quantity'] }) },
  })
  await sell("INSERT INTO orders VALUES (1, 'B-1', 'draft', 'a'); INSERT INTO order_lines VALUES (1, 1, 'tea', '2', '99')")
  t.same(await rows('SELECT status, note FROM orders'), [['new', 'a']])
  t.same(await rows('SELECT order_id, item_no, quantity::text, confirmed::text FROM order_lines'), [['1', 'tea', '2', '0']])
  await office.query("UPDATE orders SET status = 'confirmed'; UPDATE order_lines SET confirmed = 1")
  await sell("UPDATE orders SET note = 'b', status = 'draft 2'; UPDATE order_lines SET quantity = '3', confirmed = '98'")
  t.same(await rows('SELECT status, note FROM orders'), [['confirmed', 'b']])
  t.same(await rows('SELECT order_id, item_no, quantity::text, confirmed::text FROM order_lines'), [['1', 'tea', '3', '1']])
})

t.test("with rows: 'update' nothing is inserted and nothing removed, parts included", async (t) => {
  const { sell, rows, office } = await open(t, {
    till: ORDERS,
    office: OFFICE_ORDERS,
    publish: PUBLISH,
    subscribe: { orders: mirror({ only: ['note'], rows: 'update' }), order_lines: mirror({ only: ['quantity'] }) },
  })
  await office.query(
    `INSERT INTO orders VALUES (1, 'C-1', 'open', NULL), (2, 'C-2', 'open', NULL); INSERT INTO order_lines VALUES (1, 1, 'tea', 1, 0), (2, 1, 'rum', 1, 0)`,
  )
  await sell(`INSERT INTO orders VALUES (1, 'B-1', 'draft', 'a'), (3, 'B-3', 'draft', 'c');
    INSERT INTO order_lines VALUES (1, 1, 'milk', '5', '9'), (7, 1, 'ham', '5', '9'), (8, 3, 'ham', '5', '9')`)
  await sell('DELETE FROM order_lines WHERE id = 1; DELETE FROM orders WHERE id = 3; DELETE FROM order_lines WHERE id = 8')
  t.same(await rows('SELECT * FROM orders ORDER BY id'), [
    ['1', 'C-1', 'open', 'a'],
    ['2', 'C-2', 'open', null],
  ])
  t.same(await rows('SELECT id, item_no, quantity::text FROM order_lines ORDER BY id'), [
    ['1', 'tea', '5'],
    ['2', 'rum', '1'],
  ])
})

t.test(
  'what has not changed is not written: no trigger of the host fires for a re-export, or for the lines of a receipt whose header changed',
  async (t) => {
    const { sell, rows, till } = await open(t, {
      till: ORDERS,
      office: `${OFFICE_ORDERS}; ${COUNTING}`,
      publish: PUBLISH,
      subscribe: { orders: mirror() },
    })
    const counted = async () => Object.fromEntries((await rows('SELECT what, n::integer FROM counted ORDER BY 1')) as [string, number][])
    await sell(
      "INSERT INTO orders VALUES (1, 'B-1', 'draft', 'a'); INSERT INTO order_lines VALUES (1, 1, 'tea', '2.50', NULL), (2, 1, 'rum', '1', '0.0')",
    )
    const first = { 'orders BEFORE INSERT': 1, 'order_lines BEFORE INSERT': 2 }
    t.same(await counted(), first)
    await till.replica.export('orders', { id: 1 })
    await till.deliver()
    t.same(await counted(), first, 're-export')
    await sell(
      "UPDATE orders SET note = 'b'; UPDATE order_lines SET quantity = '1.5' WHERE id = 2; INSERT INTO order_lines VALUES (3, 1, 'ham', '1', NULL)",
    )
    t.same(await counted(), { 'orders BEFORE INSERT': 1, 'orders BEFORE UPDATE': 1, 'order_lines BEFORE INSERT': 3, 'order_lines BEFORE UPDATE': 1 })
    await sell('DELETE FROM order_lines WHERE id = 1')
    t.match(await counted(), { 'orders BEFORE UPDATE': 1, 'order_lines BEFORE DELETE': 1, 'order_lines BEFORE UPDATE': 1 })
  },
)

t.test('tables and columns may have other names at head office', async (t) => {
  const { sell, rows } = await open(t, {
    till: ORDERS,
    office: `CREATE TABLE "Purchase Orders" (location text, register text, "Order" bigint, "order_no" text, "select" text, note text, PRIMARY KEY ("Order", register, location));
      CREATE TABLE "Lines" (location text, register text, line bigint, "of Order" bigint, item_no text, quantity numeric, confirmed text, PRIMARY KEY (location, register, line),
        FOREIGN KEY ("of Order", register, location) REFERENCES "Purchase Orders")`,
    publish: PUBLISH,
    subscribe: {
      orders: mirror({
        origin: ['location', 'register'],
        removals: 'apply',
        rename: { table: 'Purchase Orders', columns: { id: 'Order', status: 'select' } },
      }),
      order_lines: mirror({ rename: { table: 'Lines', columns: { id: 'line', order_id: 'of Order' } } }),
    },
  })
  await sell(
    `INSERT INTO orders VALUES (1, 'B-1', 'draft', 'a'), (2, 'B-2', 'draft', NULL); INSERT INTO order_lines VALUES (1, 1, 'tea', '2', NULL), (2, 1, 'rum', '1', NULL), (3, 2, 'ham', '1', NULL)`,
  )
  await sell('DELETE FROM order_lines WHERE id = 1; UPDATE order_lines SET order_id = 2 WHERE id = 2; DELETE FROM order_lines WHERE id = 3')
  t.same(await rows('SELECT location, register, "Order", "select" FROM "Purchase Orders" ORDER BY 3'), [
    ['BA01', 'POS1', '1', 'draft'],
    ['BA01', 'POS1', '2', 'draft'],
  ])
  t.same(await rows('SELECT line, "of Order", item_no FROM "Lines"'), [['2', '2', 'rum']])
  await sell('DELETE FROM orders WHERE id = 2')
  t.same(await rows('SELECT "Order" FROM "Purchase Orders"'), [['1']])
  t.same(await rows('SELECT line FROM "Lines"'), [])
})

t.test("a removal is ignored, or with removals: 'apply' passed on; parts go first, keys of several columns in any order", async (t) => {
  const publish: PublishRules<AnyTables> = { shelves: {}, places: { partOf: { shelves: { aisle: 'aisle', shelf: 'no' } } }, orders: {} }
  const { sell, rows } = await open(t, {
    till: `CREATE TABLE shelves (aisle INTEGER, no INTEGER, name TEXT, PRIMARY KEY (aisle, no)) WITHOUT ROWID;
      CREATE TABLE places (id INTEGER PRIMARY KEY, aisle INTEGER, shelf INTEGER); CREATE INDEX p ON places (aisle, shelf); CREATE TABLE orders (id INTEGER PRIMARY KEY)`,
    office: `CREATE TABLE shelves (no bigint, aisle bigint, name text, PRIMARY KEY (no, aisle));
      CREATE TABLE places (id bigint PRIMARY KEY, shelf bigint, aisle bigint, FOREIGN KEY (shelf, aisle) REFERENCES shelves); CREATE TABLE orders (id bigint PRIMARY KEY)`,
    publish,
    subscribe: { orders: mirror(), shelves: mirror({ removals: 'apply' }) },
  })
  await sell(`INSERT INTO shelves VALUES (1, 2, 'a'), (2, 1, 'b'); INSERT INTO places VALUES (1, 1, 2), (2, 2, 1); INSERT INTO orders VALUES (1)`)
  await sell('DELETE FROM places WHERE id = 1; DELETE FROM shelves WHERE aisle = 1; DELETE FROM orders')
  t.same(await rows('SELECT aisle, no, name FROM shelves'), [['2', '1', 'b']])
  t.same(await rows('SELECT id FROM places'), [['2']])
  t.same(await rows('SELECT id FROM orders'), [['1']], 'ignored where nobody says otherwise')
  await sell(`INSERT INTO shelves VALUES (1, 2, 'again')`)
  t.same(await rows('SELECT name FROM shelves ORDER BY aisle'), [['again'], ['b']])
})

t.test('`map` makes another row of each, is told from whom, and may not change what says which row it is', async (t) => {
  const { sell, rows, till, office } = await open(t, {
    till: ORDERS,
    office:
      'CREATE TABLE orders (id bigint PRIMARY KEY, "No" text, status integer, note bytea, from_register text); CREATE TABLE order_lines (id bigint PRIMARY KEY, order_id bigint, item_no text)',
    publish: PUBLISH,
    subscribe: {
      orders: mirror({
        except: ['status'],
        rename: { columns: { order_no: 'No' } },
        map: (row, { location, register }) => {
          if (row.note === 'throw') throw new Error(`secret ${row.order_no}`)
          if (row.note === 'list') return [] as never
          if (row.note === 'date') return { ...row, note: new Date() as never }
          if (row.note === 'key') return { ...row, id: 7 }
          if (row.note === 'status') return { ...row, status: 5 }
          if (row.note === 'stranger') return { ...row, stranger: 5 }
          return { ...row, note: Buffer.from('ä'), order_no: `${row.order_no}!`, from_register: `${location}/${register}` }
        },
      }),
      order_lines: mirror({
        map: ({ confirmed, quantity, ...row }) => (confirmed === null ? { ...row, item_no: `${quantity} ${row.item_no}` } : row),
      }),
    },
  })
  await sell("INSERT INTO orders VALUES (1, 'B-1', 'draft', 'a'); INSERT INTO order_lines VALUES (1, 1, 'tea', '2', NULL), (2, 1, 'rum', '2', '1')")
  t.same(await rows(`SELECT id, "No", status, convert_from(note, 'UTF8'), from_register FROM orders`), [['1', 'B-1!', null, 'ä', 'BA01/POS1']])
  t.same(await rows('SELECT id, item_no FROM order_lines ORDER BY 1'), [
    ['1', '2 tea'],
    ['2', 'rum'],
  ])
  for (const [note, code] of Object.entries({
    throw: 'ERR_HANDLER',
    list: 'ERR_MIRROR',
    date: 'ERR_MIRROR',
    key: 'ERR_MIRROR',
    status: 'ERR_MIRROR',
    stranger: 'ERR_MIRROR',
  })) {
    till.db.exec(`UPDATE orders SET note = '${note}'`)
    const error = await till.deliver().then(
      () => undefined,
      (error) => error,
    )
    t.equal(error?.code, code, note)
    t.notMatch(JSON.stringify(await till.replica.status()), /secret|B-1/, 'the till hears no value of the row')
  }
  t.same(await office.query('SELECT "No" FROM orders').then(({ rows }) => rows), [{ No: 'B-1!' }])
  await sell("UPDATE orders SET note = 'fine'")
})

t.test('options that are none, contradict each other or do not fit the tables are refused', async (t) => {
  const bad: [unknown, RegExp][] = [
    [null, /object/],
    [{ onlyy: [] }, /onlyy/],
    [{ only: 'status' }, /list of columns/],
    [{ except: [5] }, /list of columns/],
    [{ only: ['a'], except: ['b'] }, /not both/],
    [{ rename: 'x' }, /object/],
    [{ rename: { name: 'x' } }, /name/],
    [{ rename: { table: '' } }, /name/],
    [{ rename: { columns: { a: 'x', b: 'x' } } }, /one name/],
    [{ origin: ['register'] }, /location/],
    [{ rows: 'none' }, /update/],
    [{ removals: true }, /apply/],
    [{ removals: 'apply', rows: 'update' }, /ignore/],
    [{ map: {} }, /function/],
    [{ notify: 'a' }, /notify/],
    [{ notify: ['a'], validity: ['from'] }, /validity/],
    [{ validity: false }, /validity/],
  ]
  for (const [options, text] of bad) t.throws(() => mirror(options as never), { code: 'ERR_OPTION', message: text })
  const pool = await createPool(t, server)
  await pool.query(`${OFFICE_ORDERS}; CREATE TABLE nokey (id bigint)`)
  const install = (subscribe: SubscribeRules<AnyTables>) => openShop(t, server, { pool, subscribe })
  await t.rejects(install({ orders: mirror({ only: ['statuss'] }) }), { code: 'ERR_UNKNOWN_COLUMN' })
  await t.rejects(install({ orders: mirror({ rename: { columns: { status: 'statuss' } } }) }), { code: 'ERR_UNKNOWN_COLUMN' })
  await t.rejects(install({ orders: mirror({ rename: { table: 'nothing' } }) }), { code: 'ERR_UNKNOWN_TABLE' })
  await t.rejects(install({ orders: mirror({ except: ['id'] }) }), { code: 'ERR_RULE' })
  await t.rejects(install({ nokey: mirror() }), { code: 'ERR_NO_KEY' })
  await t.rejects(install({ orders: mirror({ origin: ['location', 'register'] }) }), { code: 'ERR_UNKNOWN_COLUMN' })
  await t.rejects(install({ orders: [mirror(), mirror({ rename: { table: 'order_lines' } })] }), { code: 'ERR_RULE' })
  await t.rejects(install({ orders: mirror(), returns: mirror({ rename: { table: 'orders' } }) }), { code: 'ERR_RULE', message: /orders.*returns/ })
})

t.test('a target that is altered while central runs is seen with the next batch', async (t) => {
  const { sell, rows, office, till } = await open(t, {
    till: ORDERS,
    office:
      'CREATE TABLE orders (id bigint PRIMARY KEY, order_no varchar(3), status text, note text); CREATE TABLE order_lines (id bigint PRIMARY KEY, order_id bigint, item_no text, quantity numeric(8, 1), confirmed text)',
    publish: PUBLISH,
    subscribe: { orders: mirror() },
  })
  await sell("INSERT INTO orders VALUES (1, 'B-1', 'draft', 'a'); INSERT INTO order_lines VALUES (1, 1, 'tea', '2.5', NULL)")
  await office.query('ALTER TABLE order_lines ALTER quantity TYPE numeric(8, 3)')
  await sell("UPDATE order_lines SET quantity = '2.125'")
  t.same(await rows('SELECT quantity::text FROM order_lines'), [['2.125']], 'not rounded to what the column was')
  await office.query('ALTER TABLE orders DROP COLUMN note')
  till.db.exec("UPDATE orders SET note = 'b'")
  await t.rejects(till.deliver(), { code: 'ERR_MIRROR', message: /`orders` has no column `note`/ })
  await office.query("ALTER TABLE orders ADD COLUMN note text NOT NULL DEFAULT 'x'")
  await sell("UPDATE orders SET note = 'c'")
  t.same(await rows('SELECT note FROM orders'), [['c']])
  till.db.exec("UPDATE orders SET order_no = 'B-10'")
  await t.rejects(till.deliver(), { code: 'ERR_MIRROR', message: /`orders` does not take a record: value too long/ }, 'refused, not cut')
  await office.query('ALTER TABLE orders ALTER order_no TYPE varchar(10)')
  await sell('SELECT 1')
  t.same(await rows('SELECT order_no FROM orders'), [['B-10']])
  await office.query(
    'ALTER TABLE orders DROP CONSTRAINT orders_pkey; ALTER TABLE orders RENAME TO former; CREATE TABLE orders (id bigint PRIMARY KEY, order_no text, status text, note text)',
  )
  await sell("INSERT INTO orders VALUES (2, 'B-2', 'draft', 'new table')")
  t.same(await rows('SELECT id FROM orders'), [['2']])
  await office.query('DROP TABLE orders')
  till.db.exec("UPDATE orders SET note = 'd'")
  await t.rejects(till.deliver(), { code: 'ERR_UNKNOWN_TABLE' })
  await office.query('CREATE TABLE orders (id bigint PRIMARY KEY, order_no text, status text, note text)')
  await sell('SELECT 1')
  t.equal((await rows('SELECT id FROM orders')).length, 2)
})

t.test('a mapping that spoils the document it got spoils nothing of the mirror before it and behind it', async (t) => {
  const spoil = stockMovements((order) => {
    for (const row of [...(order.parts.order_lines ?? []), order]) for (const name of Object.keys(row)) Reflect.deleteProperty(row, name)
    return []
  })
  for (const orders of [
    [spoil, mirror()],
    [mirror(), spoil],
  ]) {
    const { sell, rows } = await open(t, { till: ORDERS, office: OFFICE_ORDERS, publish: PUBLISH, subscribe: { orders } })
    await sell("INSERT INTO orders VALUES (1, 'O1', 'sent', NULL); INSERT INTO order_lines VALUES (10, 1, 'tea', '2', '1')")
    await sell("UPDATE order_lines SET quantity = '3'")
    t.same(await rows('SELECT order_no, status, item_no, quantity::text, confirmed::text FROM orders JOIN order_lines ON order_id = orders.id'), [
      ['O1', 'sent', 'tea', '3', '1'],
    ])
  }
})
