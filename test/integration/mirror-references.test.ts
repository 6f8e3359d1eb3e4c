import type { Pool } from 'pg'
import t, { type Test } from 'tap'
import { type AnyTables, mirror, type PublishRules, type SubscribeRules } from '../../src/index.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { openShop, type Till } from '../support/shop.ts'

const server = await startServer(t)

interface Scene {
  readonly till: Till
  readonly office: Pool
  /** One transaction at the till, sealed by itself. */
  seal(sql: string): Promise<void>
  sell(sql: string): Promise<void>
  rows(sql: string): Promise<unknown[]>
}

async function open(t: Test, till: string, office: string, publish: PublishRules<AnyTables>, subscribe: SubscribeRules<AnyTables>): Promise<Scene> {
  const pool = await createPool(t, server)
  await pool.query(office)
  const shop = await openShop(t, server, { pool, subscribe })
  const one = await shop.addTill('POS1', { schema: till, publish })
  // By a register that has not sealed before: one that a slow machine has held up seals less at a time.
  const seal = async (sql: string): Promise<void> => {
    one.db.exec(`BEGIN; ${sql}; COMMIT`)
    const sealing = one.again()
    await sealing.seal()
    await sealing.stop()
  }
  return {
    till: one,
    office: pool,
    seal,
    async sell(sql) {
      await seal(sql)
      await one.deliver()
    },
    rows: async (sql) => (await pool.query({ text: sql, rowMode: 'array' })).rows,
  }
}

const TILL = `CREATE TABLE contacts (id INTEGER PRIMARY KEY, name TEXT, last_receipt INTEGER);
  CREATE TABLE items (id INTEGER PRIMARY KEY, parent INTEGER, name TEXT);
  CREATE TABLE receipts (id INTEGER PRIMARY KEY, contact INTEGER, first_line INTEGER);
  CREATE TABLE lines (id INTEGER PRIMARY KEY, receipt INTEGER, item INTEGER, returned_line INTEGER); CREATE INDEX lines_receipt ON lines (receipt)`
const PUBLISH: PublishRules<AnyTables> = { contacts: {}, items: {}, receipts: {}, lines: { partOf: { receipts: { receipt: 'id' } } } }
/** Children are subscribed first: not the order here, the foreign keys decide. */
const SUBSCRIBE: SubscribeRules<AnyTables> = {
  receipts: mirror({ removals: 'apply' }),
  items: mirror({ removals: 'apply' }),
  contacts: mirror({ removals: 'apply' }),
}
const KEYS = (deferrable: string) => `CREATE TABLE contacts (id bigint PRIMARY KEY, name text, last_receipt bigint);
  CREATE TABLE items (id bigint PRIMARY KEY, parent bigint REFERENCES items ${deferrable}, name text);
  CREATE TABLE receipts (id bigint PRIMARY KEY, contact bigint NOT NULL REFERENCES contacts ${deferrable}, first_line bigint);
  CREATE TABLE lines (id bigint PRIMARY KEY, receipt bigint NOT NULL REFERENCES receipts ${deferrable}, item bigint NOT NULL REFERENCES items ${deferrable},
    returned_line bigint REFERENCES lines ${deferrable});
  ALTER TABLE contacts ADD FOREIGN KEY (last_receipt) REFERENCES receipts ${deferrable};
  ALTER TABLE receipts ADD FOREIGN KEY (first_line) REFERENCES lines ${deferrable}`

for (const deferrable of ['', 'DEFERRABLE', 'DEFERRABLE INITIALLY DEFERRED']) {
  const named = `foreign keys ${deferrable === '' ? 'that are not deferrable' : deferrable}`
  t.test(`${named}: rows that refer to each other in circles arrive whatever their order, and go`, async (t) => {
    const { sell, seal, rows } = await open(t, TILL, KEYS(deferrable), PUBLISH, SUBSCRIBE)
    // Receipts are sealed before what they refer to, all in one batch.
    await seal('INSERT INTO receipts VALUES (1, 7, 12); INSERT INTO lines VALUES (11, 1, 101, 12), (12, 1, 102, NULL)')
    await seal("INSERT INTO items VALUES (102, 101, 'b'), (101, 103, 'a'), (103, 101, 'c')")
    await sell("INSERT INTO contacts VALUES (7, 'Ada', 1)")
    t.same(await rows('SELECT id, contact, first_line FROM receipts'), [['1', '7', '12']])
    t.same(await rows('SELECT id, item, returned_line FROM lines ORDER BY id'), [
      ['11', '101', '12'],
      ['12', '102', null],
    ])
    t.same(await rows('SELECT id, last_receipt FROM contacts'), [['7', '1']])
    t.same(await rows('SELECT id, parent FROM items ORDER BY id'), [
      ['101', '103'],
      ['102', '101'],
      ['103', '101'],
    ])

    await seal(
      'UPDATE receipts SET contact = 8; UPDATE lines SET item = 104, returned_line = 13 WHERE id = 11; DELETE FROM lines WHERE id = 12; INSERT INTO lines VALUES (13, 1, 104, NULL); UPDATE receipts SET first_line = 13',
    )
    await seal("DELETE FROM items WHERE id IN (101, 102, 103); INSERT INTO items VALUES (104, NULL, 'd')")
    await sell("DELETE FROM contacts WHERE id = 7; INSERT INTO contacts VALUES (8, 'Bob', NULL)")
    t.same(await rows('SELECT id, contact, first_line FROM receipts'), [['1', '8', '13']])
    t.same(await rows('SELECT id, item, returned_line FROM lines ORDER BY id'), [
      ['11', '104', '13'],
      ['13', '104', null],
    ])
    t.same(await rows('SELECT id FROM items UNION ALL SELECT id FROM contacts ORDER BY 1'), [['8'], ['104']])

    await seal('DELETE FROM contacts; DELETE FROM items')
    await sell('UPDATE receipts SET first_line = NULL; UPDATE lines SET returned_line = NULL; DELETE FROM lines; DELETE FROM receipts')
    t.same(await rows('SELECT id FROM receipts UNION ALL SELECT id FROM lines UNION ALL SELECT id FROM items UNION ALL SELECT id FROM contacts'), [])
  })

  t.test(`${named}: what is not there is said with table and constraint, and is taken when it has come`, async (t) => {
    const { till, office, sell, rows } = await open(t, TILL, KEYS(deferrable), PUBLISH, SUBSCRIBE)
    till.db.exec('INSERT INTO receipts VALUES (1, 7, NULL); INSERT INTO lines VALUES (11, 1, 101, NULL)')
    await t.rejects(till.deliver(), { code: 'ERR_REFERENCE', message: /`(receipts_contact_fkey|lines_item_fkey)` of `(receipts|lines)`/ })
    await office.query("INSERT INTO items VALUES (101, NULL, 'a'); INSERT INTO contacts VALUES (7, 'Ada', NULL)")
    await sell('SELECT 1')
    t.same(await rows('SELECT receipt, item FROM lines'), [['1', '101']])
    await office.query('UPDATE contacts SET last_receipt = 1')
    till.db.exec('DELETE FROM lines; DELETE FROM receipts')
    await t.rejects(till.deliver(), { code: 'ERR_REFERENCE', message: /`contacts_last_receipt_fkey` of `contacts`/ }, 'still referred to')
    t.same(await rows('SELECT receipt, item FROM lines'), [['1', '101']])
    await office.query('UPDATE contacts SET last_receipt = NULL')
    await sell('SELECT 1')
    t.same(await rows('SELECT id FROM receipts UNION ALL SELECT id FROM lines'), [])
  })
}

t.test('rows of two tables that need each other go together, and one that came first waits for the other', async (t) => {
  const till = `CREATE TABLE orders (id INTEGER PRIMARY KEY, name TEXT);
    CREATE TABLE order_lines (id INTEGER PRIMARY KEY, order_id INTEGER, contract_id INTEGER); CREATE INDEX order_lines_order ON order_lines (order_id);
    CREATE TABLE contracts (id INTEGER PRIMARY KEY, order_id INTEGER);
    CREATE TABLE contract_terms (id INTEGER PRIMARY KEY, contract_id INTEGER, order_id INTEGER); CREATE INDEX contract_terms_contract ON contract_terms (contract_id)`
  const office = `CREATE TABLE orders (id bigint PRIMARY KEY, name text);
    CREATE TABLE contracts (id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders);
    CREATE TABLE order_lines (id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders, contract_id bigint REFERENCES contracts);
    CREATE TABLE contract_terms (id bigint PRIMARY KEY, contract_id bigint NOT NULL REFERENCES contracts, order_id bigint NOT NULL REFERENCES orders)`
  const publish: PublishRules<AnyTables> = {
    orders: {},
    order_lines: { partOf: { orders: { order_id: 'id' } } },
    contracts: {},
    contract_terms: { partOf: { contracts: { contract_id: 'id' } } },
  }
  const apply = mirror({ removals: 'apply' })
  for (const subscribe of [
    { orders: apply, contracts: apply },
    { contracts: apply, orders: apply },
  ] satisfies SubscribeRules<AnyTables>[]) {
    const { sell, seal, rows, till: shop, office: pool } = await open(t, till, office, publish, subscribe)
    const all = () =>
      rows(
        "SELECT 'o', id FROM orders UNION ALL SELECT 'l', id FROM order_lines UNION ALL SELECT 'c', id FROM contracts UNION ALL SELECT 't', id FROM contract_terms",
      )
    const enter = async (id: number) => {
      await seal(
        `INSERT INTO orders VALUES (${id}, 'a'); INSERT INTO contracts VALUES (${id}, ${id}); INSERT INTO contract_terms VALUES (${id}, ${id}, ${id})`,
      )
      await sell(`INSERT INTO order_lines VALUES (${id}, ${id}, ${id})`)
    }
    await enter(1)
    await enter(2)
    t.equal((await all()).length, 8)
    // From now on a line can't do without its contract.
    await pool.query('ALTER TABLE order_lines ALTER COLUMN contract_id SET NOT NULL')
    await sell(
      'DELETE FROM order_lines WHERE id = 1; DELETE FROM contract_terms WHERE id = 1; DELETE FROM contracts WHERE id = 1; DELETE FROM orders WHERE id = 1',
    )
    t.equal((await all()).length, 4, 'at once')
    shop.db.exec('DELETE FROM order_lines; DELETE FROM orders')
    await t.rejects(shop.deliver(), { code: 'ERR_REFERENCE' })
    t.equal((await all()).length, 4)
    await sell('DELETE FROM contract_terms; DELETE FROM contracts')
    t.same(await all(), [], 'in two batches')
  }
})

t.test('rows that exchange unique values, or take those of rows that go, in one batch', async (t) => {
  const { sell, seal, rows, till } = await open(
    t,
    `CREATE TABLE items (id INTEGER PRIMARY KEY, barcode TEXT, plu INTEGER, rank INTEGER, flag INTEGER); CREATE TABLE codes (id INTEGER PRIMARY KEY, item INTEGER, no INTEGER);
      CREATE INDEX codes_item ON codes (item)`,
    `CREATE TABLE items (id bigint PRIMARY KEY, barcode text, plu integer NOT NULL UNIQUE, rank integer CHECK (rank > 0), flag boolean NOT NULL UNIQUE);
      CREATE UNIQUE INDEX items_barcode ON items (lower(barcode)) WHERE barcode <> '';
      CREATE TABLE codes (id bigint PRIMARY KEY, item bigint REFERENCES items, no integer NOT NULL, CHECK (no > 0), UNIQUE (item, no));
      CREATE TABLE written (n bigint); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO written VALUES (1); RETURN NEW; END';
      CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON items FOR EACH ROW EXECUTE FUNCTION note();
      ALTER TABLE items DROP CONSTRAINT items_flag_key`,
    { items: {}, codes: { partOf: { items: { item: 'id' } } } },
    { items: mirror({ removals: 'apply' }) },
  )
  await sell(
    "INSERT INTO items VALUES (1, 'a', 10, 1, 0), (2, 'b', 20, 2, 1), (3, 'c', 30, 3, 1); INSERT INTO codes VALUES (1, 1, 1), (2, 1, 2), (3, 1, 3)",
  )
  t.same(await rows('SELECT count(*)::integer FROM written'), [[3]])
  await sell(
    "UPDATE items SET barcode = CASE id WHEN 1 THEN 'B' WHEN 2 THEN 'C' ELSE 'A' END, plu = CASE id WHEN 1 THEN 20 WHEN 2 THEN 30 ELSE 10 END",
  )
  t.same(await rows('SELECT id, barcode, plu FROM items ORDER BY id'), [
    ['1', 'B', 20],
    ['2', 'C', 30],
    ['3', 'A', 10],
  ])
  await sell("DELETE FROM items WHERE id = 3; INSERT INTO items VALUES (4, 'A', 10, 1, 0)")
  t.same(await rows('SELECT id, barcode, plu FROM items ORDER BY id'), [
    ['1', 'B', 20],
    ['2', 'C', 30],
    ['4', 'A', 10],
  ])
  await sell("UPDATE items SET plu = 40, barcode = 'x' WHERE id = 4; INSERT INTO items VALUES (5, 'A', 10, 1, 0)")
  t.same(await rows('SELECT id, barcode, plu FROM items WHERE id > 3 ORDER BY id'), [
    ['4', 'x', 40],
    ['5', 'A', 10],
  ])
  await seal('UPDATE items SET id = 50 WHERE id = 1')
  await sell('UPDATE codes SET item = 50')
  t.same(await rows('SELECT id, plu FROM items WHERE id IN (1, 50)'), [['50', 20]], 'a key that changed')
  t.same(await rows('SELECT id, item, no FROM codes ORDER BY id'), [
    ['1', '50', 1],
    ['2', '50', 2],
    ['3', '50', 3],
  ])
  await sell('UPDATE codes SET no = 4 - no')
  t.same(await rows('SELECT id, no FROM codes ORDER BY id'), [
    ['1', 3],
    ['2', 2],
    ['3', 1],
  ])
  await sell('DELETE FROM codes WHERE id = 1; INSERT INTO codes VALUES (9, 50, 3)')
  t.same(await rows('SELECT id, no FROM codes ORDER BY id'), [
    ['2', 2],
    ['3', 1],
    ['9', 3],
  ])
  till.db.exec("UPDATE items SET barcode = 'c' WHERE id = 5")
  await t.rejects(till.deliver(), { code: 'ERR_MIRROR', message: /`items_barcode`/ }, 'a value that another row has and keeps')
  await sell("UPDATE items SET barcode = 'd' WHERE id = 5")
  t.same(await rows('SELECT barcode FROM items WHERE id = 5'), [['d']])
})

t.test('rows take from rows that go what belongs to their key, and periods that must not overlap change together', async (t) => {
  const till = `CREATE TABLE barcodes (item INTEGER NOT NULL, barcode TEXT NOT NULL, PRIMARY KEY (item, barcode), UNIQUE (barcode)) WITHOUT ROWID;
    CREATE TABLE prices (id INTEGER PRIMARY KEY, days TEXT NOT NULL); CREATE TABLE terms (shop TEXT NOT NULL, days TEXT NOT NULL, price INTEGER, PRIMARY KEY (shop, days))`
  const office = `CREATE TABLE barcodes (item bigint, barcode text UNIQUE, PRIMARY KEY (item, barcode));
    CREATE TABLE prices (id bigint PRIMARY KEY, days daterange NOT NULL, EXCLUDE USING gist (days WITH &&));
    CREATE TABLE terms (shop int4range, days daterange, price integer);
    DO $$ BEGIN
      IF current_setting('server_version_num')::integer >= 180000 THEN EXECUTE 'ALTER TABLE terms ADD PRIMARY KEY (shop, days WITHOUT OVERLAPS)';
      ELSE ALTER TABLE terms ADD PRIMARY KEY (shop, days), ADD EXCLUDE USING gist (shop WITH =, days WITH &&); END IF; END $$`
  const {
    sell,
    rows,
    till: one,
  } = await open(
    t,
    till,
    office,
    { barcodes: {}, prices: {}, terms: {} },
    {
      barcodes: mirror({ removals: 'apply' }),
      prices: mirror({ removals: 'apply' }),
      terms: mirror({ removals: 'apply' }),
    },
  )
  await sell(`INSERT INTO barcodes VALUES (1, '40'), (2, '41'); INSERT INTO prices VALUES (1, '[2026-01-01,2026-02-01)'), (2, '[2026-02-01,2026-03-01)');
    INSERT INTO terms VALUES ('[1,2)', '[2026-01-01,2026-02-01)', 5), ('[1,2)', '[2026-02-01,2026-03-01)', 6)`)
  await sell(`UPDATE barcodes SET item = 3 WHERE barcode = '40'; UPDATE terms SET days = '[2026-01-01,2026-01-11)' WHERE price = 5; UPDATE terms SET price = 7 WHERE price = 6;
    UPDATE prices SET days = CASE id WHEN 1 THEN '[2026-01-01,2026-02-11)' ELSE '[2026-02-11,2026-03-01)' END`)
  await sell("UPDATE prices SET days = CASE id WHEN 2 THEN '[2026-01-01,2026-02-11)' ELSE '[2026-02-11,2026-03-01)' END")
  t.same(await rows('SELECT item, barcode FROM barcodes ORDER BY barcode'), [
    ['3', '40'],
    ['2', '41'],
  ])
  t.same(await rows('SELECT id, days FROM prices ORDER BY id'), [
    ['1', '[2026-02-11,2026-03-01)'],
    ['2', '[2026-01-01,2026-02-11)'],
  ])
  t.same(await rows('SELECT days, price FROM terms ORDER BY days'), [
    ['[2026-01-01,2026-01-11)', 5],
    ['[2026-02-01,2026-03-01)', 7],
  ])
  one.db.exec("INSERT INTO prices VALUES (3, '[2026-01-05,2026-01-06)')")
  await t.rejects(one.deliver(), { code: 'ERR_MIRROR', message: /`prices_days_excl`/ }, 'a period that another row has and keeps')

  const pool = await createPool(t, server)
  await pool.query(office)
  const shop = await openShop(t, server, { pool, subscribe: {}, publish: { barcodes: {} } })
  const { db, replica } = await shop.addTill('POS2', { schema: till, publish: {}, subscribe: { barcodes: mirror() } })
  const arrive = async (sql: string) => {
    await pool.query(sql)
    await replica.synchronize()
    return db.prepare('SELECT * FROM barcodes ORDER BY barcode').raw().all()
  }
  t.same(await arrive("INSERT INTO barcodes VALUES (1, '40'), (2, '41')"), [
    [1, '40'],
    [2, '41'],
  ])
  t.same(
    await arrive("UPDATE barcodes SET item = 3 WHERE barcode = '40'"),
    [
      [3, '40'],
      [2, '41'],
    ],
    'on SQLite too',
  )
})

t.test('a part that moves to another document whose former one is removed keeps what central wrote to it', async (t) => {
  const { sell, office, rows } = await open(
    t,
    'CREATE TABLE orders (id INTEGER PRIMARY KEY, no TEXT); CREATE TABLE order_lines (id INTEGER PRIMARY KEY, order_id INTEGER REFERENCES orders ON UPDATE CASCADE); CREATE INDEX l ON order_lines (order_id)',
    `CREATE TABLE orders (id bigint PRIMARY KEY, no text NOT NULL UNIQUE);
      CREATE TABLE order_lines (id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE, confirmed integer)`,
    { orders: {}, order_lines: { partOf: { orders: { order_id: 'id' } } } },
    { orders: mirror({ removals: 'apply' }) },
  )
  await sell("INSERT INTO orders VALUES (1, 'B-1'); INSERT INTO order_lines VALUES (1, 1), (2, 1)")
  await office.query('UPDATE order_lines SET confirmed = id')
  await sell('UPDATE orders SET id = 2; UPDATE order_lines SET order_id = 2; DELETE FROM order_lines WHERE id = 2')
  t.same(await rows('SELECT id, no FROM orders'), [['2', 'B-1']])
  t.same(await rows('SELECT id, order_id, confirmed FROM order_lines'), [['1', '2', 1]])
})

t.test('what was sealed together, and a batch holds, is not cut apart by what was sealed before it', async (t) => {
  const { till, office, seal, rows } = await open(
    t,
    'CREATE TABLE orders (id INTEGER PRIMARY KEY); CREATE TABLE order_lines (id INTEGER PRIMARY KEY, order_id INTEGER); CREATE INDEX l ON order_lines (order_id)',
    `CREATE TABLE orders (id bigint PRIMARY KEY);
      CREATE TABLE order_lines (id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE, confirmed integer)`,
    { orders: {}, order_lines: { partOf: { orders: { order_id: 'id' } } } },
    { orders: mirror({ removals: 'apply' }) },
  )
  const replica = till.again({ transfer: { recordsPerRun: 7 } })
  await seal('INSERT INTO orders VALUES (1), (2), (5); INSERT INTO order_lines VALUES (1, 1), (2, 1), (3, 2), (4, 5)')
  await replica.synchronize()
  await office.query('UPDATE order_lines SET confirmed = id')
  await seal('INSERT INTO orders VALUES (9)')
  await seal('DELETE FROM orders WHERE id IN (1, 5); UPDATE order_lines SET order_id = 2')
  t.equal((await till.replica.status()).pending, 8)
  await replica.synchronize()
  t.same(
    await rows('SELECT id, order_id, confirmed FROM order_lines ORDER BY id'),
    [1, 2, 3, 4].map((id) => [String(id), '2', id]),
  )
})

t.test('a document whose key only changes its case keeps its row where that is the same to head office', async (t) => {
  const { sell, rows } = await open(
    t,
    'CREATE TABLE orders (id TEXT PRIMARY KEY NOT NULL, note TEXT); CREATE TABLE order_lines (id INTEGER PRIMARY KEY, order_id TEXT); CREATE INDEX l ON order_lines (order_id)',
    `CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
      CREATE TABLE orders (id text COLLATE loose PRIMARY KEY, note text); CREATE TABLE order_lines (id bigint PRIMARY KEY, order_id text COLLATE loose REFERENCES orders)`,
    { orders: {}, order_lines: { partOf: { orders: { order_id: 'id' } } } },
    { orders: mirror({ removals: 'apply' }) },
  )
  await sell("INSERT INTO orders VALUES ('a', 'x'), ('b', 'y'); INSERT INTO order_lines VALUES (1, 'a'), (2, 'a'), (3, 'b')")
  await sell(
    "UPDATE orders SET id = 'A' WHERE id = 'a'; UPDATE order_lines SET order_id = 'A' WHERE id = 1; DELETE FROM order_lines WHERE id = 2; DELETE FROM orders WHERE id = 'b'; DELETE FROM order_lines WHERE id = 3",
  )
  t.same(await rows('SELECT o.id, note, l.id, order_id FROM orders o JOIN order_lines l ON l.order_id = o.id'), [['A', 'x', '1', 'A']])
})
