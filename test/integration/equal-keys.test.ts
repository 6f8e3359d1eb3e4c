import t from 'tap'
import { mirror } from '../../src/index.ts'
import { startServer } from '../support/postgres.ts'
import { openShop } from '../support/shop.ts'

const server = await startServer(t)

const OFFICE =
  'CREATE TABLE items (item_no text PRIMARY KEY, name text); CREATE TABLE item_barcodes (id bigint PRIMARY KEY, item_no text, barcode text)'
const TILL = `
  CREATE TABLE items (item_no TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, name TEXT);
  CREATE TABLE item_barcodes (id INTEGER PRIMARY KEY, item_no TEXT COLLATE NOCASE REFERENCES items ON DELETE CASCADE, barcode TEXT)`

for (const recordsPerRun of [1, 500]) {
  t.test(`an article whose number changes its case stays at a till that takes both for equal; ${recordsPerRun} records at once`, async (t) => {
    const publish = { items: {}, item_barcodes: { partOf: { items: { item_no: 'item_no' } } } }
    const shop = await openShop(t, server, { schema: OFFICE, publish, subscribe: {} })
    const till = await shop.addTill('POS1', {
      schema: TILL,
      publish: {},
      subscribe: { items: mirror(), item_barcodes: mirror() },
      transfer: { recordsPerRun },
    })
    const change = async (sql: string) => {
      await shop.pool.query(sql)
      await till.replica.synchronize()
      return till.db.prepare('SELECT i.item_no, name, b.item_no, barcode FROM items i LEFT JOIN item_barcodes b USING (item_no)').raw().all()
    }
    t.same(await change("INSERT INTO items VALUES ('abc', 'Apple'); INSERT INTO item_barcodes VALUES (1, 'abc', '40')"), [
      ['abc', 'Apple', 'abc', '40'],
    ])
    for (const no of ['ABC', 'abc', 'Abc'])
      t.same(await change(`UPDATE items SET item_no = '${no}'; UPDATE item_barcodes SET item_no = '${no}'`), [[no, 'Apple', no, '40']])
    t.same(await change('DELETE FROM item_barcodes; DELETE FROM items'), [], 'it goes when it is gone')
    till.db.exec('CREATE TRIGGER upper AFTER INSERT ON items BEGIN UPDATE items SET item_no = upper(item_no) WHERE item_no = new.item_no; END')
    t.same(await change("INSERT INTO items VALUES ('def', 'Bread')"), [['DEF', 'Bread', null, null]])
    t.same(await change('DELETE FROM items'), [], 'also where the till itself has written its key otherwise')
  })

  t.test(`the same at head office, where removals are passed on; ${recordsPerRun} records at once`, async (t) => {
    const loose = `CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
      CREATE TABLE contacts (location text, register text, group_no bigint, contact_no text COLLATE loose, name text, PRIMARY KEY (location, register, group_no, contact_no))`
    const shop = await openShop(t, server, {
      schema: loose,
      subscribe: { contacts: mirror({ removals: 'apply', origin: ['location', 'register'] }) },
    })
    const till = await shop.addTill('POS1', {
      schema: 'CREATE TABLE contacts (contact_no TEXT NOT NULL, group_no INTEGER NOT NULL, name TEXT, PRIMARY KEY (contact_no, group_no))',
      publish: { contacts: {} },
      transfer: { recordsPerRun },
    })
    const change = async (sql: string) => {
      till.db.exec(sql)
      await till.replica.synchronize()
      return (await shop.pool.query('SELECT contact_no, group_no::int, name FROM contacts ORDER BY name')).rows.map((row) => Object.values(row))
    }
    t.same(await change("INSERT INTO contacts VALUES ('a', 1, 'Ann'), ('a', 2, 'Bob')"), [
      ['a', 1, 'Ann'],
      ['a', 2, 'Bob'],
    ])
    t.same(await change("INSERT INTO contacts VALUES ('A', 1, 'Ann again')"), [
      ['A', 1, 'Ann again'],
      ['a', 2, 'Bob'],
    ])
    t.same(await change("DELETE FROM contacts WHERE contact_no = 'a'"), [['A', 1, 'Ann again']], 'the row is the other one’s by now')
    t.same(await change('DELETE FROM contacts'), [])
  })
}

const ORDERS = (collation: string, further = '') => `
  CREATE TABLE orders (order_no VARCHAR(10) ${collation} PRIMARY KEY NOT NULL, note VARCHAR(10)${further});
  CREATE TABLE order_lines (order_no VARCHAR(10) ${collation} NOT NULL REFERENCES orders, line_no INTEGER NOT NULL, quantity INTEGER, PRIMARY KEY (order_no, line_no));
  CREATE TABLE line_notes (id INTEGER PRIMARY KEY, order_no VARCHAR(10) ${collation} NOT NULL, line_no INTEGER NOT NULL, note VARCHAR(10), FOREIGN KEY (order_no, line_no) REFERENCES order_lines);
  CREATE INDEX line_notes_by_line ON line_notes (order_no, line_no)`
const ORDER_RULES = {
  orders: {},
  order_lines: { partOf: { orders: { order_no: 'order_no' } } },
  line_notes: { partOf: { order_lines: { order_no: 'order_no', line_no: 'line_no' } } },
}
const ORDER_MIRRORS = { orders: mirror({ removals: 'apply' }), order_lines: mirror(), line_notes: mirror() }
const ALL =
  'SELECT o.order_no AS a, l.order_no AS b, l.line_no AS c, quantity, n.order_no AS d, n.note AS e FROM orders o LEFT JOIN order_lines l USING (order_no) LEFT JOIN line_notes n USING (order_no, line_no) ORDER BY 3'
const FILL = `INSERT INTO orders VALUES ('ab', 'n'); INSERT INTO order_lines VALUES ('AB', 1, 5), ('ab', 2, 6); INSERT INTO line_notes VALUES (1, 'Ab', 1, 'x')`
const FILLED = [
  ['ab', 'ab', 1, 5, 'ab', 'x'],
  ['ab', 'ab', 2, 6, null, null],
]
const CHANGE = "DELETE FROM line_notes; DELETE FROM order_lines WHERE order_no = 'AB' AND line_no = 1; UPDATE orders SET note = 'm'"
const CHANGED = [['ab', 'ab', 2, 6, null, null]]

t.test('parts that a till writes with the key otherwise than their header hang together at head office, that tells them apart', async (t) => {
  const shop = await openShop(t, server, { schema: ORDERS(''), subscribe: ORDER_MIRRORS })
  const till = await shop.addTill('POS1', { schema: ORDERS('COLLATE NOCASE'), publish: ORDER_RULES })
  const after = async (sql: string) => {
    till.db.exec(sql)
    await till.deliver()
    return (await shop.pool.query({ text: ALL, rowMode: 'array' })).rows
  }
  t.same(await after(FILL), FILLED)
  t.same(await after(CHANGE), CHANGED, 'and go with it')
  t.same(await after("UPDATE orders SET order_no = 'aB'"), [['aB', 'aB', 2, 6, null, null]])
  t.same(await after('DELETE FROM order_lines; DELETE FROM orders'), [])
})

t.test('the same from head office to a till', async (t) => {
  const loose = "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);"
  const shop = await openShop(t, server, { schema: `${loose}${ORDERS('COLLATE loose')}`, publish: ORDER_RULES, subscribe: {} })
  const till = await shop.addTill('POS1', { schema: ORDERS(''), publish: {}, subscribe: ORDER_MIRRORS })
  const after = async (sql: string) => {
    await shop.pool.query(sql)
    await till.replica.synchronize()
    t.same((await till.replica.status()).unapplied, [])
    return till.db.prepare(ALL).raw().all()
  }
  t.same(await after(FILL), FILLED)
  t.same(await after(CHANGE), CHANGED, 'and go with it')
  t.same(await after('DELETE FROM order_lines; DELETE FROM orders'), [])
})
