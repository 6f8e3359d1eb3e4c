import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { systemClock } from '../../src/clock.ts'
import { type AnyTables, type AudienceRules, createCentral, createRegister, type Link, mirror, type Notice, TillsyncError } from '../../src/index.ts'
import { decodeMessage } from '../../src/transport/codec.ts'
import { memoryLink } from '../../src/transport/memory.ts'
import { eventually } from '../support/eventually.ts'
import { createPool, openPool, startServer } from '../support/postgres.ts'
import { refused } from '../support/refused.ts'
import { listen, openShop, type Shop, type Till } from '../support/shop.ts'

const server = await startServer(t)

const OFFICE = `
  CREATE TABLE items (item_no text PRIMARY KEY, name text NOT NULL, unit_price numeric(12, 2) NOT NULL, active boolean NOT NULL DEFAULT true);
  CREATE TABLE item_barcodes (barcode text PRIMARY KEY, item_no text NOT NULL REFERENCES items);
  CREATE INDEX ON item_barcodes (item_no);
  CREATE TABLE assortments (location text, item_no text, PRIMARY KEY (location, item_no));
  CREATE INDEX ON assortments (item_no);
  CREATE TABLE price_lists (id bigint PRIMARY KEY, price_group text NOT NULL);
  CREATE TABLE price_list_lines (list_id bigint REFERENCES price_lists, item_no text REFERENCES items, unit_price numeric(12, 2), valid_from date, valid_to date, PRIMARY KEY (list_id, item_no));
  CREATE TABLE internal_orders (location text, register text, id bigint, quantity numeric, status text DEFAULT 'new', PRIMARY KEY (location, register, id));
  CREATE TABLE contacts (contact_no text PRIMARY KEY, name text)`
const TILL = `
  CREATE TABLE items (item_no TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, unit_price NUMERIC NOT NULL, active INTEGER NOT NULL);
  CREATE TABLE item_barcodes (barcode TEXT PRIMARY KEY NOT NULL, item_no TEXT NOT NULL REFERENCES items);
  CREATE TABLE price_lists (id INTEGER PRIMARY KEY, price_group TEXT NOT NULL);
  CREATE TABLE price_list_lines (list_id INTEGER REFERENCES price_lists, item_no TEXT REFERENCES items, unit_price TEXT, valid_from TEXT, valid_to TEXT, PRIMARY KEY (list_id, item_no)) WITHOUT ROWID;
  CREATE TABLE internal_orders (id INTEGER PRIMARY KEY, quantity INTEGER, status TEXT);
  CREATE TABLE contacts (contact_no TEXT PRIMARY KEY NOT NULL, name TEXT)`

const PUBLISH: AudienceRules<AnyTables> = {
  price_lists: { where: (eb, { attributes }) => eb('price_group', '=', attributes.priceGroup) },
  price_list_lines: { partOf: { price_lists: { list_id: 'id' } } },
  items: {
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
  item_barcodes: { partOf: { items: { item_no: 'item_no' } } },
  internal_orders: { only: ['status'], origin: ['location', 'register'] },
  contacts: {},
}
const SUBSCRIBE = {
  internal_orders: mirror({ except: ['status'], origin: ['location', 'register'], removals: 'apply' }),
  contacts: mirror({ removals: 'apply' }),
}

async function openOffice(t: Test): Promise<Shop> {
  return openShop(t, server, { schema: OFFICE, publish: PUBLISH, subscribe: SUBSCRIBE, longPollMs: 1_000 })
}

async function till(t: Test, shop: Shop, register = 'POS1', options: Parameters<Shop['addTill']>[1] = {}): Promise<Till> {
  const added = await shop.addTill(register, {
    schema: TILL,
    publish: { internal_orders: { except: ['status'], existing: 'all' }, contacts: { existing: 'all' } },
    subscribe: {
      items: mirror({ notify: ['name', 'unit_price'] }),
      item_barcodes: mirror(),
      price_lists: mirror(),
      price_list_lines: mirror({ notify: ['unit_price'] }),
      internal_orders: mirror({ only: ['status'], rows: 'update', notify: ['status'] }),
      contacts: mirror(),
    },
    attributes: { priceGroup: 'A' },
    ...options,
  })
  t.teardown(() => added.replica.stop())
  return added
}

const rows = (of: Till, sql: string) => of.db.prepare(sql).raw().all() as unknown[][]

for (const pull of [false, true]) {
  t.test(`what head office changes is at the till after the next exchange, ${pull ? 'pulled' : 'pushed'}`, async (t) => {
    const shop = await openOffice(t)
    const one = await till(t, shop, 'POS1', { pull })
    const other = await till(t, shop, 'POS9', { pull, location: 'BA02', attributes: { priceGroup: 'B' } })
    const sync = () => Promise.all([one, other].map((each) => (pull ? shop.central.synchronize(each) : each.replica.synchronize())))
    await shop.pool.query(`INSERT INTO items VALUES ('A', 'Apple', 1.00), ('B', 'Bread', 2.50), ('C', 'Coffee', 6.99);
      INSERT INTO item_barcodes VALUES ('401', 'A'), ('402', 'A'), ('403', 'C');
      INSERT INTO assortments VALUES ('BA01', 'A'), ('BA01', 'B'), ('BA02', 'C');
      INSERT INTO price_lists VALUES (1, 'A'), (2, 'B'); INSERT INTO price_list_lines VALUES (1, 'A', 0.80, NULL, NULL), (2, 'C', 5.99, NULL, NULL)`)
    await sync()
    t.same(rows(one, 'SELECT item_no, name, unit_price, active FROM items ORDER BY 1'), [
      ['A', 'Apple', 1, 1],
      ['B', 'Bread', 2.5, 1],
    ])
    t.same(rows(one, 'SELECT barcode FROM item_barcodes ORDER BY 1'), [['401'], ['402']])
    t.same(rows(one, 'SELECT list_id, item_no, unit_price FROM price_list_lines'), [[1, 'A', '0.80']])
    t.same(rows(other, 'SELECT item_no FROM items'), [['C']])
    t.same(rows(other, 'SELECT list_id FROM price_list_lines'), [[2]])
    await shop.pool.query(`UPDATE items SET unit_price = 1.20, active = false WHERE item_no = 'A'; DELETE FROM item_barcodes WHERE barcode = '402'; INSERT INTO assortments VALUES ('BA02', 'A');
      DELETE FROM assortments WHERE item_no = 'B'; UPDATE price_list_lines SET unit_price = 0.70 WHERE list_id = 1`)
    await sync()
    t.same(rows(one, 'SELECT item_no, unit_price, active FROM items ORDER BY 1'), [['A', 1.2, 0]])
    t.same(rows(one, 'SELECT barcode FROM item_barcodes ORDER BY 1'), [['401']])
    t.same(rows(one, 'SELECT unit_price FROM price_list_lines'), [['0.70']])
    t.same(rows(other, 'SELECT item_no FROM items ORDER BY 1'), [['A'], ['C']])
    await shop.central.registers.change(other, { attributes: { priceGroup: 'A' } })
    await sync()
    t.same(rows(other, 'SELECT id FROM price_lists'), [[1]])
    t.match(
      (await one.replica.status()).subscriptions
        .map(({ table, isComplete, waiting }) => ({ table, isComplete, waiting }))
        .find(({ table }) => table === 'items'),
      { isComplete: true, waiting: 0 },
    )
    t.match(
      (await shop.central.status()).subscribed
        .filter(({ table }) => table === 'items')
        .map(({ register, entryNo, head }) => [register, entryNo === head]),
      [
        ['POS1', true],
        ['POS9', true],
      ],
    )
  })
}

t.test('a started till has a price at once: the answer that it waits for is ended', async (t) => {
  const shop = await openOffice(t)
  const one = await till(t, shop, 'POS1', { transfer: { everyMs: 60_000 } })
  await shop.pool.query("INSERT INTO items VALUES ('A', 'Apple', 1.00); INSERT INTO assortments VALUES ('BA01', 'A')")
  await shop.central.start()
  await one.replica.start()
  await eventually('the item is there', () => rows(one, 'SELECT item_no FROM items').length === 1)
  await shop.pool.query('UPDATE items SET unit_price = 2')
  await eventually('the price is there', () => rows(one, 'SELECT unit_price FROM items')[0]?.[0] === 2)
})

t.test('synchronize says what came and what was applied, the book how much a till still had', async (t) => {
  const shop = await openOffice(t)
  const one = await till(t, shop, 'POS1', { transfer: { recordsPerRun: 2 } })
  await shop.pool.query(`INSERT INTO items VALUES ('A', 'Apple', 1.00), ('B', 'Bread', 2.50);
    INSERT INTO assortments VALUES ('BA01', 'A'), ('BA01', 'B'); INSERT INTO price_lists VALUES (1, 'A'); INSERT INTO price_list_lines VALUES (1, 'A', 0.80, NULL, NULL)`)
  t.same(await one.replica.synchronize(), { sent: 0, quarantined: 0, received: 3, applied: 3 })
  t.same(await one.replica.synchronize(), { sent: 0, quarantined: 0, received: 0, applied: 0 })
  one.db.exec("CREATE TRIGGER no_bread BEFORE UPDATE ON items WHEN new.item_no = 'B' BEGIN SELECT RAISE(ABORT, 'no bread'); END")
  await shop.pool.query('UPDATE items SET unit_price = 3; DELETE FROM price_list_lines; DELETE FROM price_lists')
  const told: unknown[] = []
  t.match(await one.replica.synchronize({ onProgress: ({ received, applied }) => told.push([received, applied]) }), { received: 3, applied: 2 })
  t.same(told.at(-1), [3, 2])
  one.db.exec('DROP TRIGGER no_bread')
  await shop.pool.query("UPDATE items SET name = 'Rye' WHERE item_no = 'B'")
  t.match(await one.replica.synchronize(), { received: 1, applied: 1 })

  const add = one.db.prepare('INSERT INTO internal_orders VALUES (?, 1, NULL)')
  for (let n = 1; n <= 5; n++) add.run(n)
  const ending = new AbortController()
  await t.rejects(one.replica.synchronize({ signal: ending.signal, onProgress: () => ending.abort() }), { code: 'ERR_ABORTED' })
  t.match(await shop.central.registers.list(), [{ entryNo: 2, pending: 3 }])
  await one.replica.synchronize()
  t.match(await shop.central.registers.list(), [{ entryNo: 5, pending: 0 }])
})

t.test('an internal order: the till owns that it exists and its quantity, head office its status', async (t) => {
  const shop = await openOffice(t)
  const one = await till(t, shop)
  const sibling = await till(t, shop, 'POS2')
  one.db.exec("INSERT INTO internal_orders VALUES (7, 5, 'new'), (8, 1, 'new')")
  await one.replica.synchronize()
  await sibling.replica.synchronize()
  await shop.pool.query("UPDATE internal_orders SET status = 'confirmed' WHERE id = 7")
  // Both at once: the quantity is not sealed when the status comes.
  one.db.exec('UPDATE internal_orders SET quantity = 6 WHERE id = 7; DELETE FROM internal_orders WHERE id = 8')
  await one.replica.synchronize()
  await sibling.replica.synchronize()
  t.same(rows(one, 'SELECT * FROM internal_orders'), [[7, 6, 'confirmed']])
  t.same((await shop.pool.query('SELECT id, quantity::int, status FROM internal_orders')).rows, [{ id: '7', quantity: 6, status: 'confirmed' }])
  t.same(rows(sibling, 'SELECT * FROM internal_orders'), [])
  t.same(
    (await one.replica.notices.list({ table: 'internal_orders' })).map(({ column, old, new: now }) => [column, old, now]),
    [['status', 'new', 'confirmed']],
  )
})

t.test('a contact goes up, and to the shop’s other tills, and not round in circles', async (t) => {
  const shop = await openOffice(t)
  const one = await till(t, shop)
  const other = await till(t, shop, 'POS2')
  const sync = async () => {
    for (let n = 0; n < 2; n++) for (const each of [one, other]) await each.replica.synchronize()
  }
  one.db.exec("INSERT INTO contacts VALUES ('10', 'Anna')")
  await sync()
  t.same(rows(other, 'SELECT * FROM contacts'), [['10', 'Anna']])
  const heads = async () => Promise.all([one, other].map(async ({ replica }) => (await replica.status()).head.entryNo))
  const before = await heads()
  await shop.pool.query("UPDATE contacts SET name = 'Anna B.'; INSERT INTO contacts VALUES ('11', 'Bert')")
  await sync()
  for (const each of [one, other]) t.same(rows(each, 'SELECT name FROM contacts ORDER BY contact_no'), [['Anna B.'], ['Bert']])
  t.same(await heads(), before, 'what came from head office is not sent back')
  other.db.exec("UPDATE contacts SET name = 'Berta' WHERE contact_no = '11'; DELETE FROM contacts WHERE contact_no = '10'")
  await sync()
  for (const each of [one, other]) t.same(rows(each, 'SELECT name FROM contacts'), [['Berta']])
  t.same((await shop.pool.query('SELECT name FROM contacts')).rows, [{ name: 'Berta' }])
})

t.test('a table that a till has dropped and made anew empty is filled again, and head office loses nothing by it', async (t) => {
  const shop = await openOffice(t)
  let own = await till(t, shop)
  const names = () => rows(own, 'SELECT contact_no, name FROM contacts ORDER BY 1')
  const anew = 'DROP TABLE contacts; CREATE TABLE contacts (contact_no TEXT PRIMARY KEY NOT NULL, name TEXT, phone TEXT)'
  await own.replica.synchronize()
  own.db.exec("INSERT INTO contacts VALUES ('X', 'own'), ('Y', 'own, too')")
  await own.replica.synchronize()
  own.db.exec(anew)
  await own.replica.synchronize()
  t.same(
    names(),
    [
      ['X', 'own'],
      ['Y', 'own, too'],
    ],
    'what came from here alone is there again',
  )
  await shop.pool.query("INSERT INTO contacts SELECT 'C' || n, 'Cy' FROM generate_series(1, 18) n")
  await own.replica.synchronize()
  const before = names()
  t.equal(before.length, 20)
  own.db.exec(`DELETE FROM contacts WHERE name = 'Cy'; ${anew}`)
  await own.replica.synchronize()
  t.same(names(), before)
  await own.replica.stop()
  own.db.exec(anew)
  own = { ...own, replica: own.again() }
  await own.replica.install()
  await own.replica.synchronize()
  t.same(names(), before, 'nor while nothing runs')
  t.equal((await shop.pool.query('SELECT FROM contacts')).rowCount, 20)
  own.db.exec("DELETE FROM contacts WHERE contact_no = 'X'; ALTER TABLE contacts ADD COLUMN mail TEXT")
  await own.replica.synchronize()
  t.equal((await shop.pool.query('SELECT FROM contacts')).rowCount, 19, 'what is deleted is')
  t.same((await own.replica.status()).unapplied, [])
  await own.replica.stop()
})

t.test('what a till has entered and others have removed goes there with a snapshot too, be it that it never came back', async (t) => {
  const shop = await openOffice(t)
  const told: string[] = []
  let [isCut, isCutNext] = [false, false]
  const link = (inner: Link): Link => ({
    async exchange(message, options) {
      if (isCut) throw new TillsyncError('ERR_LINK', 'The line is down', { retryable: true })
      const answer = await inner.exchange(message, options)
      const { published } = await decodeMessage(answer, 1e9)
      for (const { table, documents } of published?.batches ?? []) for (const { recordId } of documents) told.push(`${table}${recordId}`)
      isCut = isCutNext
      return answer
    },
  })
  const own = await till(t, shop, 'POS1', { link, transfer: { recordsPerRun: 2 } })
  const other = await till(t, shop, 'POS2')
  const names = (of: Till) => of.db.prepare('SELECT contact_no FROM contacts ORDER BY 1').pluck().all()
  await shop.pool.query("INSERT INTO contacts VALUES ('A', 'Ann'), ('B', 'Bob')")
  await own.replica.synchronize()
  await shop.pool.query("INSERT INTO contacts SELECT 'C' || n, 'Cy' FROM generate_series(1, 4) n")
  await other.replica.synchronize()
  own.db.exec("INSERT INTO contacts VALUES ('X', 'taken'), ('Y', 'too')")
  isCutNext = true
  await t.rejects(own.replica.synchronize(), { code: 'ERR_LINK' })
  t.notOk(told.includes('contacts["X"]'), 'it did not come back')
  own.db.exec("INSERT INTO contacts VALUES ('Z', 'not sent yet')")
  other.db.exec("INSERT INTO contacts VALUES ('D', 'Di')")
  await other.replica.synchronize()
  await shop.pool.query("DELETE FROM contacts WHERE contact_no IN ('X', 'D')")
  await other.replica.synchronize()
  ;[isCut, isCutNext] = [false, false]
  await own.replica.stop()
  const again = own.again({ subscribe: { contacts: mirror({ map: (row) => row }) } })
  await again.install()
  await again.synchronize()
  t.ok(told.includes('contacts["X"]'))
  t.notOk(told.includes('contacts["D"]'), "of another's nothing is said")
  told.length = 0
  const third = await till(t, shop, 'POS3', { link, transfer: { recordsPerRun: 2 } })
  await third.replica.synchronize()
  t.notOk(told.includes('contacts["X"]'), 'neither to who asks for the same a moment later')
  await other.replica.synchronize()
  t.same(names(own), ['A', 'B', 'C1', 'C2', 'C3', 'C4', 'Y', 'Z'])
  t.same([names(other), names(third)], [names(own), names(own)])
  t.same((await again.status()).unapplied, [])
})

t.test('a part of what head office sent is taken away at a till, which never sent that document before', async (t) => {
  const contacts = 'CREATE TABLE contacts (id integer PRIMARY KEY, name text)'
  const addresses = 'CREATE TABLE addresses (id integer PRIMARY KEY, contact_id integer NOT NULL, street text)'
  const schema = `${contacts}; ${addresses}; CREATE INDEX addresses_contact ON addresses (contact_id)`
  const publish = { contacts: {}, addresses: { partOf: { contacts: { contact_id: 'id' } } } } as const
  const subscribe = { contacts: mirror(), addresses: mirror() }
  const shop = await openShop(t, server, { schema, publish, subscribe })
  const [one, other] = [await till(t, shop, 'POS1', { schema, publish, subscribe }), await till(t, shop, 'POS2', { schema, publish, subscribe })]
  await shop.pool.query(`INSERT INTO contacts VALUES (1, 'Ann'); INSERT INTO addresses VALUES (1, 1, 'High Street'), (2, 1, 'Mill Lane')`)
  await one.replica.synchronize()
  await other.replica.synchronize()
  one.db.exec('DELETE FROM addresses WHERE id = 2')
  await one.replica.synchronize()
  await other.replica.synchronize()
  t.same((await shop.pool.query('SELECT id FROM addresses')).rows, [{ id: 1 }])
  for (const each of [one, other]) t.same(rows(each, 'SELECT id FROM addresses'), [[1]])
})

t.test('a trigger at the till that makes something of each change of head office has its say each time', async (t) => {
  const contacts = 'CREATE TABLE contacts (id integer PRIMARY KEY, name text, initial text)'
  const schema = `${contacts}; CREATE TRIGGER first_letter AFTER UPDATE OF name ON contacts BEGIN UPDATE contacts SET initial = substr(NEW.name, 1, 1) WHERE id = NEW.id; END`
  const both = { publish: { contacts: {} }, subscribe: { contacts: mirror() } }
  const shop = await openShop(t, server, { schema: contacts, ...both })
  const one = await till(t, shop, 'POS1', { schema, ...both })
  await shop.pool.query(`INSERT INTO contacts (id, name) VALUES (1, 'A')`)
  for (let letter = 66; letter < 91; letter++) {
    await one.replica.synchronize()
    await shop.pool.query('UPDATE contacts SET name = $1', [String.fromCharCode(letter)])
  }
  for (let times = 0; times < 3; times++) await one.replica.synchronize()
  t.same((await shop.pool.query('SELECT initial FROM contacts')).rows, [{ initial: 'Z' }])
  t.same((await one.replica.status()).parked, [])
})

t.test('notices: one for each followed column that is not as the operator was last told', async (t) => {
  const shop = await openOffice(t)
  const one = await till(t, shop)
  const heard: Notice[] = []
  one.replica.on('notice', ({ notices }) => heard.push(...notices))
  await shop.pool.query(
    "INSERT INTO items VALUES ('A', 'Apple', 1.00), ('B', 'Bread', 2.50); INSERT INTO assortments VALUES ('BA01', 'A'), ('BA01', 'B')",
  )
  const change = async (sql: string) => {
    await shop.pool.query(sql)
    await one.replica.synchronize()
    return one.replica.notices.list({ table: 'items' })
  }
  const said = (notices: readonly Notice[]) => notices.map(({ recordId, kind, column, old, new: now }) => [recordId[0], kind, column, old, now])
  const first = await change('SELECT 1')
  t.same(said(first), [
    ['A', 'new', undefined, null, { name: 'Apple', unit_price: 1 }],
    ['B', 'new', undefined, null, { name: 'Bread', unit_price: 2.5 }],
  ])
  t.same(said(heard), said(first))
  t.same(await one.replica.notices.acknowledge(first.map(({ id }) => id)), { acknowledged: 2 })
  t.same(said(await change("UPDATE items SET unit_price = 1.10, active = false WHERE item_no = 'A'")), [['A', 'changed', 'unit_price', 1, 1.1]])
  const second = await change("UPDATE items SET unit_price = 1.30, name = 'Apples' WHERE item_no = 'A'")
  t.same(said(second), [
    ['A', 'changed', 'name', 'Apple', 'Apples'],
    ['A', 'changed', 'unit_price', 1, 1.3],
  ])
  t.same(said(await change("UPDATE items SET unit_price = 1.00, name = 'Apple' WHERE item_no = 'A'")), [], 'there and back leaves none')
  const third = await change("UPDATE items SET unit_price = 3 WHERE item_no = 'B'")
  await change("UPDATE items SET unit_price = 4 WHERE item_no = 'B'")
  t.same(await one.replica.notices.acknowledge(third.map(({ id }) => id)), { acknowledged: 0 }, 'what was not seen is not acknowledged')
  t.same(said(await one.replica.notices.list()), [['B', 'changed', 'unit_price', 2.5, 4]])
  t.same(said(await change("DELETE FROM assortments WHERE item_no = 'B'")), [['B', 'removed', undefined, { name: 'Bread', unit_price: 2.5 }, null]])
  t.same(said(await change("INSERT INTO assortments VALUES ('BA01', 'B')")), [['B', 'changed', 'unit_price', 2.5, 4]])
  await refused(t, () => one.replica.notices.acknowledge(['x'] as never), 'ERR_OPTION')
  await refused(t, () => one.replica.notices.list({ table: 7 } as never), 'ERR_OPTION')
})

t.test('a price that starts or ends by its dates is noticed on that day, with no row changed, also after days asleep', async (t) => {
  const shop = await openOffice(t)
  let now = Date.parse('2026-11-20T12:00:00')
  const clock = { now: () => now, ticks: () => now, random: () => 0.5, sleep: () => new Promise<void>(() => undefined) }
  const one = await till(t, shop, 'POS1', { clock })
  await shop.pool.query(`INSERT INTO items VALUES ('A', 'Apple', 1.00), ('B', 'Bread', 2.50), ('C', 'Coffee', 7); INSERT INTO assortments SELECT 'BA01', item_no FROM items;
    INSERT INTO price_lists VALUES (1, 'A');
    INSERT INTO price_list_lines VALUES (1, 'A', 0.80, '2026-11-21', '2026-11-22'), (1, 'B', 2.00, '2026-11-25', '2026-11-26'), (1, 'C', 6, '2026-11-01', '2026-11-30')`)
  const list = async (table = 'price_list_lines') => {
    await one.replica.synchronize()
    const notices = await one.replica.notices.list({ table })
    return { said: notices.map(({ recordId, kind, old, new: value }) => [recordId[1], kind, old, value]), ids: notices.map(({ id }) => id) }
  }
  const first = await list()
  t.same(first.said, [['C', 'new', null, { unit_price: '6.00' }]], 'what does not count yet is not told')
  await one.replica.notices.acknowledge(first.ids)
  now += 86_400_000
  const second = await list()
  t.same(second.said, [['A', 'starts', null, { unit_price: '0.80' }]])
  await one.replica.notices.acknowledge(second.ids)
  await one.replica.stop()
  now += 9 * 86_400_000 // 30 November: B has started and ended meanwhile
  const third = await list()
  t.same(third.said, [['A', 'ends', { unit_price: '0.80' }, null]])
  await one.replica.notices.acknowledge(third.ids)
  now += 86_400_000
  t.same((await list()).said, [['C', 'ends', { unit_price: '6.00' }, null]])
})

t.test('tables and columns may be called as what every object has', async (t) => {
  const schema = `CREATE TABLE "__proto__" ("constructor" INTEGER PRIMARY KEY NOT NULL, "toString" TEXT);
    CREATE TABLE "valueOf" ("then" INTEGER PRIMARY KEY NOT NULL, "__proto__" INTEGER)`
  const named = <T>(root: T, part: T) =>
    Object.fromEntries([
      ['__proto__', root],
      ['valueOf', part],
    ])
  const parts = { partOf: Object.fromEntries([['__proto__', Object.fromEntries([['__proto__', 'constructor']])]]) }
  const shop = await openShop(t, server, {
    schema,
    publish: named<object>({ where: sayable }, parts),
    subscribe: {},
  })
  function sayable(eb: never, { attributes }: { attributes: Record<string, string> }) {
    return (eb as (...of: unknown[]) => never)('toString', '=', attributes.hasOwnProperty ?? '')
  }
  const of = { location: '__proto__', schema, publish: {}, attributes: Object.fromEntries([['hasOwnProperty', 'A']]) }
  const own = await shop.addTill('toString', { ...of, subscribe: named(mirror({ notify: ['toString'] }), mirror()) })
  await shop.pool.query(`INSERT INTO "__proto__" VALUES (1, 'A'), (2, 'B'); INSERT INTO "valueOf" VALUES (7, 1), (8, 2)`)
  await own.replica.synchronize()
  t.same([rows(own, 'SELECT * FROM "__proto__"'), rows(own, 'SELECT * FROM "valueOf"')], [[[1, 'A']], [[7, 1]]])
  await own.replica.stop()
})

t.test('what comes in or leaves by a row that names none of its items is found by an export', async (t) => {
  const items = 'CREATE TABLE items (item_no text PRIMARY KEY, name text)'
  const shop = await openShop(t, server, {
    schema: `${items}; CREATE TABLE assortments (id integer PRIMARY KEY, location text, item_no text); CREATE INDEX ON assortments (item_no)`,
    publish: {
      items: {
        where: (eb, { location }) =>
          eb.exists(
            eb
              .selectFrom('assortments')
              .select('assortments.id')
              .where('assortments.location', '=', location)
              .where((of) => of.or([of('assortments.item_no', '=', of.ref('items.item_no')), of('assortments.item_no', 'is', null)])),
          ),
        dependsOn: { assortments: { item_no: 'item_no' } },
      },
    },
    subscribe: {},
  })
  const own = await till(t, shop, 'POS1', { schema: items, publish: {}, subscribe: { items: mirror() } })
  const names = () => rows(own, 'SELECT item_no FROM items ORDER BY 1').flat().join('')
  await shop.pool.query("INSERT INTO items VALUES ('A', 'a'), ('B', 'b'), ('C', 'c'); INSERT INTO assortments VALUES (1, 'BA01', 'A')")
  await own.replica.synchronize()
  t.equal(names(), 'A')
  for (const [change, found] of [
    ["INSERT INTO assortments VALUES (2, 'BA01', NULL)", 'ABC'],
    ["UPDATE assortments SET item_no = 'B' WHERE id = 2", 'AB'],
  ] as const) {
    await shop.pool.query(change)
    t.same(await shop.central.export('items', (eb) => eb('name', '<>', ''), { to: { location: own.location, register: own.register } }), {
      documents: found.length,
    })
    await own.replica.synchronize()
    t.equal(names(), found)
  }
})

t.test('a till that subscribes to parts without their root gets none, and head office says why', async (t) => {
  const shop = await openOffice(t)
  const failures: TillsyncError[] = []
  shop.central.on('failed', ({ error }) => failures.push(error))
  const own = await till(t, shop, 'POS1', { subscribe: { price_list_lines: mirror(), contacts: mirror() } })
  await shop.pool.query("INSERT INTO contacts VALUES ('1', 'Ann')")
  await own.replica.synchronize()
  t.same(rows(own, 'SELECT name FROM contacts'), [['Ann']])
  t.match(failures, [{ code: 'ERR_RULE', message: /price_list_lines.*price_lists/, context: { register: 'POS1' } }])
  t.match((await shop.central.status()).problems, [{ table: 'price_list_lines', error: { code: 'ERR_RULE', hint: /price_lists: mirror/ } }])
  await own.replica.stop()
  const again = own.again({ subscribe: { price_lists: mirror(), price_list_lines: mirror() } })
  await again.install()
  await again.synchronize()
  t.same([failures.length, (await shop.central.status()).problems], [1, []])
})

t.test('an answer that is lost, or comes twice, does no harm', async (t) => {
  const shop = await openOffice(t)
  let lost = 0
  const link = (inner: Link): Link => ({
    async exchange(message, options) {
      const answer = await inner.exchange(message, options)
      if (lost-- > 0) throw Object.assign(new Error('cut'), { code: 'ERR_LINK' })
      return answer
    },
  })
  const one = await till(t, shop, 'POS1', { link, transfer: { recordsPerRun: 3 } })
  await shop.pool.query(
    "INSERT INTO items SELECT 'I' || n, 'Item ' || n, n FROM generate_series(1, 20) n; INSERT INTO assortments SELECT 'BA01', item_no FROM items",
  )
  for (let n = 0; n < 12; n++) {
    lost = n % 3 === 2 ? 0 : 1
    await one.replica.synchronize().catch(() => undefined)
  }
  lost = 0
  await one.replica.synchronize()
  t.equal(rows(one, 'SELECT 1 FROM items').length, 20)
})

t.test('a filter that takes too long is cancelled and said, keeps no sale from head office, and is asked again', async (t) => {
  let later = 0
  const clock = { ...systemClock, ticks: () => systemClock.ticks() + later }
  const contacts = 'CREATE TABLE contacts (id integer PRIMARY KEY, name text)'
  const items = 'CREATE TABLE items (id integer PRIMARY KEY, name text)'
  const slow = `CREATE TABLE pauses (seconds float8); INSERT INTO pauses VALUES (0);
    CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(seconds) FROM pauses; RETURN true; END $$`
  const shop = await openShop(t, server, {
    schema: `${contacts}; ${items}; ${slow}`,
    publish: { items: { where: () => sql<boolean>`slow()` } },
    subscribe: { contacts: mirror() },
    filterTimeoutMs: 200,
    clock,
  })
  const one = await till(t, shop, 'POS1', { schema: `${contacts}; ${items}`, publish: { contacts: {} }, subscribe: { items: mirror() } })
  await shop.central.start()
  const failures: string[] = []
  shop.central.on('failed', ({ error }) => failures.push(error.code))
  await shop.pool.query(`INSERT INTO items VALUES (1, 'A')`)
  await one.replica.synchronize()
  t.same(rows(one, 'SELECT name FROM items'), [['A']])
  await shop.pool.query(`UPDATE pauses SET seconds = 2; UPDATE items SET name = 'B'`)
  one.db.exec(`INSERT INTO contacts VALUES (1, 'Ann')`)
  await one.replica.synchronize()
  await eventually('it is said', async () => failures.includes('ERR_FILTER') && (await shop.central.status()).lastError?.code === 'ERR_FILTER')
  t.same((await shop.pool.query('SELECT name FROM contacts')).rows, [{ name: 'Ann' }])
  t.equal((await one.replica.status()).pending, 0)
  t.same(rows(one, 'SELECT name FROM items'), [['A']])
  await shop.pool.query('UPDATE pauses SET seconds = 0')
  later = 120_000
  await eventually('it has come', async () => {
    await one.replica.synchronize()
    return rows(one, 'SELECT name FROM items')[0]?.[0] === 'B'
  })
})

t.test('a filter that takes too long holds up its own table only; one that does for many is asked for fewer', async (t) => {
  let later = 0
  const clock = { ...systemClock, ticks: () => systemClock.ticks() + later }
  const tables = (key: string) => `CREATE TABLE items (id ${key}, name text); CREATE TABLE contacts (id ${key}, name text)`
  const shop = await openShop(t, server, {
    schema: `${tables('integer PRIMARY KEY')}; CREATE TABLE pauses (seconds float8); INSERT INTO pauses VALUES (0);
      CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(seconds) FROM pauses; RETURN true; END $$`,
    // By location: two audiences of each table.
    publish: {
      items: { where: (eb, { location }) => eb.or([sql<boolean>`${location} = 'BA02'`, sql<boolean>`slow()`]) },
      contacts: {},
    },
    subscribe: {},
    filterTimeoutMs: 500,
    clock,
  })
  const options = { schema: tables('INTEGER PRIMARY KEY'), publish: {}, subscribe: { items: mirror(), contacts: mirror() } }
  const one = await till(t, shop, 'POS1', options)
  const other = await till(t, shop, 'POS2', { ...options, location: 'BA02' })
  const failures: string[] = []
  shop.central.on('failed', ({ error }) => failures.push(error.message))
  const names = (of: Till, table: string) => rows(of, `SELECT DISTINCT name FROM ${table}`).flat()
  await shop.pool.query(`INSERT INTO items SELECT n, 'A' FROM generate_series(1, 300) n; INSERT INTO contacts VALUES (1, 'A')`)
  for (const each of [one, other]) t.match(await each.replica.synchronize(), { applied: 301 })

  await shop.pool.query(`UPDATE pauses SET seconds = 0.003; UPDATE items SET name = 'B'; UPDATE contacts SET name = 'B'`)
  await eventually('fewer at a time are soon enough', async () => {
    await one.replica.synchronize()
    return names(one, 'items').join() === 'B'
  })
  t.same(names(one, 'contacts'), ['B'])
  t.same(failures, [])

  await shop.pool.query(`UPDATE pauses SET seconds = 5; UPDATE items SET name = 'C'; UPDATE contacts SET name = 'C'`)
  await eventually('the others go on', async () => {
    for (const each of [one, other]) await each.replica.synchronize()
    return [...names(one, 'contacts'), ...names(other, 'contacts')].join() === 'C,C'
  })
  t.same(names(one, 'items'), ['B'])
  t.match(failures, [/The filter of `items` was cancelled/])
  t.match((await shop.central.status()).lastError, { code: 'ERR_FILTER' })
  t.equal((await shop.central.status()).unsealed, 0)

  await shop.pool.query('UPDATE pauses SET seconds = 0; DELETE FROM items WHERE id > 100')
  later = 120_000
  await eventually('its own registers have it when it is mended', async () => {
    for (const each of [one, other]) await each.replica.synchronize()
    return [one, other].every((each) => names(each, 'items').join() === 'C' && rows(each, 'SELECT id FROM items').length === 100)
  })
  t.equal((await shop.central.status()).lastError, undefined)
})

t.test('of many audiences with the same slow filter a few are asked', async (t) => {
  let later = 0
  const clock = { ...systemClock, ticks: () => systemClock.ticks() + later }
  const tables = (key: string) => `CREATE TABLE items (id ${key}, name text); CREATE TABLE contacts (id ${key}, name text)`
  const shop = await openShop(t, server, {
    schema: `${tables('integer PRIMARY KEY')}; CREATE TABLE pauses (seconds float8); INSERT INTO pauses VALUES (0); CREATE SEQUENCE asked;
      CREATE FUNCTION slow(location text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        IF current_setting('transaction_read_only') = 'off' THEN PERFORM nextval('asked'); END IF; PERFORM pg_sleep(seconds) FROM pauses; RETURN true;
      END $$`,
    publish: { items: { where: (_, { location }) => sql<boolean>`slow(${location})` }, contacts: {} },
    subscribe: {},
    filterTimeoutMs: 500,
    clock,
  })
  const tills: Till[] = []
  for (let n = 0; n < 8; n++)
    tills.push(
      await till(t, shop, 'POS1', {
        location: `BA${n}`,
        schema: tables('INTEGER PRIMARY KEY'),
        publish: {},
        subscribe: { items: mirror(), contacts: mirror() },
      }),
    )
  const failures: string[] = []
  shop.central.on('failed', ({ error }) => failures.push(error.code))
  await shop.pool.query(`INSERT INTO items VALUES (1, 'A'); INSERT INTO contacts VALUES (1, 'A')`)
  for (const each of tills) await each.replica.synchronize()
  await shop.pool.query(`UPDATE pauses SET seconds = 5; UPDATE items SET name = 'B'; UPDATE contacts SET name = 'B'`)
  const asked = async () => Number((await shop.pool.query('SELECT last_value FROM asked')).rows[0].last_value)
  const before = await asked()
  await shop.central.start()
  await eventually('all is sealed', async () => (await shop.central.status()).unsealed === 0)
  t.equal((await asked()) - before, 6, 'three of them, twice')
  t.same(failures, ['ERR_FILTER'])
  for (const each of tills) await each.replica.synchronize()
  t.ok(tills.every((each) => rows(each, 'SELECT name FROM contacts')[0]?.[0] === 'B'))
  await shop.pool.query('UPDATE pauses SET seconds = 0')
  later = 120_000
  for (const each of tills) await each.replica.synchronize()
  t.ok(tills.every((each) => rows(each, 'SELECT name FROM items')[0]?.[0] === 'B'))
})

t.test('a filter that takes too long is asked once in an exchange, and then left alone', async (t) => {
  let later = 0
  const clock = { ...systemClock, ticks: () => systemClock.ticks() + later }
  const tables = (key: string) => `CREATE TABLE items (id ${key}, name text); CREATE TABLE contacts (id ${key}, name text)`
  const shop = await openShop(t, server, {
    schema: `${tables('integer PRIMARY KEY')}; CREATE TABLE pauses (seconds float8); INSERT INTO pauses VALUES (5); CREATE SEQUENCE asked;
      CREATE FUNCTION slow() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        IF current_setting('transaction_read_only') = 'off' THEN PERFORM nextval('asked'); END IF; PERFORM pg_sleep(seconds) FROM pauses; RETURN true;
      END $$`,
    publish: { items: { where: () => sql<boolean>`slow()` }, contacts: {} },
    subscribe: {},
    filterTimeoutMs: 500,
    clock,
  })
  const options = { schema: tables('INTEGER PRIMARY KEY'), publish: {}, subscribe: { items: mirror(), contacts: mirror() } }
  const one = await till(t, shop, 'POS1', options)
  const other = await till(t, shop, 'POS2', options)
  const failures: string[] = []
  shop.central.on('failed', ({ error }) => failures.push(error.code))
  const asked = async () => Number((await shop.pool.query('SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END AS n FROM asked')).rows[0].n)
  // What is not sealed has it cut more than once.
  await shop.pool.query(`INSERT INTO items VALUES (1, 'A'); INSERT INTO contacts VALUES (1, 'A')`)
  for (const each of [one, other]) await each.replica.synchronize()
  t.equal(await asked(), 1)
  t.same(failures, ['ERR_FILTER'])
  t.ok([one, other].every((each) => rows(each, 'SELECT name FROM contacts')[0]?.[0] === 'A'))
  await shop.pool.query('UPDATE pauses SET seconds = 0')
  later = 120_000
  for (const each of [one, other]) await each.replica.synchronize()
  t.ok([one, other].every((each) => rows(each, 'SELECT name FROM items')[0]?.[0] === 'A'))
})

for (const type of ['push', 'pull'] as const) {
  t.test(`${type}: a mirrored table that can not be read at the till keeps no sale there, is said, and goes on when it can`, async (t) => {
    const office = await createPool(t, server)
    await office.query(`CREATE TABLE items (item_no text PRIMARY KEY, name text); INSERT INTO items VALUES ('I1', 'One');
      CREATE TABLE receipts (location text, register text, id bigint, PRIMARY KEY (location, register, id))`)
    const token = 'A'.repeat(43)
    const central = createCentral<AnyTables, AnyTables>({
      database: postgres(office),
      publish: { items: {} },
      subscribe: { receipts: mirror({ origin: ['location', 'register'] }) },
      pull: { token: () => token },
    })
    t.teardown(() => central.stop())
    await central.install()
    const { config } = await server.createDatabase()
    await openPool(t, config).query(`CREATE ROLE seller_${type} LOGIN PASSWORD 'secret'; GRANT ALL ON SCHEMA public TO seller_${type}`)
    const pool = openPool(t, { ...config, user: `seller_${type}`, password: 'secret' })
    await pool.query('CREATE TABLE items (item_no text PRIMARY KEY, name text); CREATE TABLE receipts (id bigint PRIMARY KEY)')
    const name = { location: 'BA01', register: 'POS1' }
    const url = await listen(t, (...args) => till.fetch(...args))
    await central.registers.add({ ...name, ...(type === 'pull' && { pull: { url } }) })
    const till = createRegister<AnyTables>({
      ...name,
      database: postgres(pool),
      publish: { receipts: {} },
      subscribe: { items: mirror() },
      transfer: type === 'pull' ? { type, token } : { type, link: memoryLink(central, name) },
    })
    t.teardown(() => till.stop())
    await till.install()
    const exchange = async () => {
      await till.seal()
      await (type === 'pull' ? central.synchronize(name) : till.synchronize())
    }
    const said: string[] = []
    till.on('failed', ({ error }) => said.push(error.message))
    await exchange()
    await pool.query(`ALTER TABLE items ENABLE ROW LEVEL SECURITY; ALTER TABLE items FORCE ROW LEVEL SECURITY; INSERT INTO receipts VALUES (1), (2)`)
    await office.query(`UPDATE items SET name = 'Uno'`)
    await exchange()
    t.same((await office.query('SELECT id FROM receipts ORDER BY id')).rows, [{ id: '1' }, { id: '2' }])
    t.match(said[0], /row-level security/)
    t.match(await till.status(), { pending: 0, lastError: { message: /row-level security/ } }, 'and so says its status')
    await pool.query('ALTER TABLE items DISABLE ROW LEVEL SECURITY')
    await exchange()
    t.same((await pool.query('SELECT name FROM items')).rows, [{ name: 'Uno' }])
  })
}
