import t from 'tap'
import type { AnyTables, PublishRules, Register } from '../../src/index.ts'
import { type Host, onEachDatabase, sealedBy } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'

const server = await startServer(t)

/** More than one slice of a reseal takes. */
const MANY = 1_200
const rows = (from: number, value: (n: number) => string) => Array.from({ length: MANY }, (_, n) => value(from + n)).join()

async function published(host: Host): Promise<{ till: Register; sealed: () => Promise<string[]> }> {
  const till = host.create({ items: {}, item_barcodes: { partOf: { items: { item_id: 'id' } } } })
  await till.install()
  const sealed = sealedBy(till)
  return {
    till,
    sealed: async () => {
      const all = await sealed()
      return [...all, ...(await sealed())].sort()
    },
  }
}

const TABLES = `
  CREATE TABLE items (id bigint NOT NULL PRIMARY KEY, pack integer NOT NULL DEFAULT 1, name text, UNIQUE (id, pack));
  CREATE TABLE item_barcodes (no integer PRIMARY KEY, item_id bigint); CREATE INDEX by_item ON item_barcodes (item_id)`

/** The table is made anew with another key. */
const anew = (columns: string, values: string) => `
  CREATE TABLE other (${columns}); INSERT INTO other (id, pack, name) SELECT ${values} FROM items; DROP TABLE items; ALTER TABLE other RENAME TO items`

onEachDatabase(t, server, 'a key that gets a column, and loses it: what had the former key is removed', TABLES, async (t, host) => {
  const { till, sealed } = await published(host)
  await host.exec(`INSERT INTO items (id, name) VALUES (1, 'a'), (2, 'b'); INSERT INTO item_barcodes VALUES (7, 1)`)
  t.same(await sealed(), ['upsert item_barcodes[7]', 'upsert items[1]', 'upsert items[2]'])
  await host.exec(anew('id bigint NOT NULL UNIQUE, pack integer NOT NULL, name text, PRIMARY KEY (id, pack)', 'id, pack, name'))
  t.same(await sealed(), ['remove items[1]', 'remove items[2]', 'upsert item_barcodes[7]', 'upsert items[1,1]', 'upsert items[2,1]'])
  await host.exec(`UPDATE items SET name = 'x' WHERE id = 2; DELETE FROM items WHERE id = 1`)
  t.same(await sealed(), ['remove items[1,1]', 'upsert items[2,1]'])
  await host.exec(anew('id bigint NOT NULL PRIMARY KEY, pack integer, name text', 'id, pack, name'))
  t.same(await sealed(), ['remove items[2,1]', 'upsert items[2]'])
  t.match(await till.status(), { unsealed: 0, parked: [], resealing: [] })
  t.same(await till.reseal('items'), { documents: 0, entries: 0 })
})

onEachDatabase(t, server, 'keys that the column’s type does not hold any more are removed, and wait for nothing', TABLES, async (t, host) => {
  const { till, sealed } = await published(host)
  await host.exec(`INSERT INTO items (id, name) VALUES (1, 'a'), (5000000000, 'b')`)
  await sealed()
  await host.exec(`UPDATE items SET name = 'c' WHERE id = 5000000000; DELETE FROM items WHERE id = 5000000000;
    ${anew('id integer NOT NULL PRIMARY KEY, pack integer DEFAULT 1, name text', 'id, pack, name')}`)
  t.same(await sealed(), ['remove items[5000000000]'])
  await host.exec(`INSERT INTO items (id, name) VALUES (2, 'd')`)
  t.same(await sealed(), ['upsert items[2]'])
  t.match(await till.status(), { unsealed: 0, parked: [], resealing: [] })
})

onEachDatabase(t, server, 'a reseal that was under way when the key became another begins anew', TABLES, async (t, host) => {
  const { till, sealed } = await published(host)
  await host.exec(`INSERT INTO items (id) VALUES ${rows(5_000_000_000, (n) => `(${n})`)}`)
  await till.seal()
  await host.exec(`UPDATE sync_state SET value = '{"phase":"records","all":false,"after":"[5000000500]"}' WHERE key = 'reseal.items'`)
  await host.exec(`INSERT INTO sync_state (key, value) SELECT 'reseal.items', '{"phase":"records","all":false,"after":"[5000000500]"}'
    WHERE NOT EXISTS (SELECT 1 FROM sync_state WHERE key = 'reseal.items')`)
  await host.exec(anew('id integer NOT NULL UNIQUE, pack integer NOT NULL, name text, PRIMARY KEY (id, pack)', 'id - 5000000000, pack, name'))
  await sealed()
  t.same(await till.reseal('items'), { documents: 0, entries: 0 })
  t.match(await till.status(), { unsealed: 0, parked: [], resealing: [] })
  const [{ given }] = (await host.query(`SELECT count(*) AS given FROM sync_members WHERE table_name = 'items'`)) as [{ given: number | string }]
  t.equal(Number(given), MANY)
})

onEachDatabase(t, server, 'a key whose type is changed: what had the former one is removed, and known no more', TABLES, async (t, host) => {
  const { till, sealed } = await published(host)
  await host.exec(`INSERT INTO items (id, name) VALUES (1, 'a'), (2, 'b')`)
  await sealed()
  await host.exec(`${anew('id text NOT NULL PRIMARY KEY, pack integer DEFAULT 1, name text', 'id, pack, name')}; DELETE FROM items WHERE id = '2'`)
  t.same(await sealed(), ['remove items[1]', 'remove items[2]', 'upsert items["1"]'])
  t.same(await host.query(`SELECT record_id FROM sync_members`), [{ record_id: '["1"]' }])
  t.same(await till.reseal('items'), { documents: 0, entries: 0 })
})

const HISTORY = `
  CREATE TABLE receipts (id integer NOT NULL PRIMARY KEY, receipt_no text NOT NULL UNIQUE, gross integer);
  CREATE TABLE receipt_lines (line integer PRIMARY KEY, receipt_id integer, item_no text); CREATE INDEX by_receipt ON receipt_lines (receipt_id);
  INSERT INTO receipts VALUES (1, 'R1', 10), (2, 'R2', 20), (3, 'R3', 30), (4, 'R4', 40); INSERT INTO receipt_lines VALUES (1, 1, 'A'), (2, 2, 'B')`
const receipts = (columns: string, values: string) => `
  CREATE TABLE other (${columns}); INSERT INTO other SELECT ${values} FROM receipts; DROP TABLE receipts; ALTER TABLE other RENAME TO receipts`
const ANOTHER_KEY = {
  'another column': receipts('id integer NOT NULL UNIQUE, receipt_no text NOT NULL PRIMARY KEY, gross integer', 'id, receipt_no, gross'),
  'one more column': receipts(
    'id integer NOT NULL UNIQUE, receipt_no text NOT NULL UNIQUE, gross integer, PRIMARY KEY (id, receipt_no)',
    'id, receipt_no, gross',
  ),
  'a column that comes with it': receipts(
    'shop text NOT NULL, id integer NOT NULL UNIQUE, receipt_no text NOT NULL UNIQUE, gross integer, PRIMARY KEY (shop, id)',
    "'BA01', id, receipt_no, gross",
  ),
  'a column of another type': `${receipts('id text NOT NULL PRIMARY KEY, receipt_no text NOT NULL UNIQUE, gross integer', 'id, receipt_no, gross')};
    ALTER TABLE receipt_lines RENAME TO former; CREATE TABLE receipt_lines (line integer PRIMARY KEY, receipt_id text, item_no text);
    INSERT INTO receipt_lines SELECT line, receipt_id, item_no FROM former; DROP TABLE former; CREATE INDEX by_receipt ON receipt_lines (receipt_id)`,
}

for (const [key, migration] of Object.entries(ANOTHER_KEY)) {
  onEachDatabase(t, server, `what is withheld is so under another key (${key}), and counts as before when it changes`, HISTORY, async (t, host) => {
    const till = host.create({ receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } })
    await till.install()
    let after = 0
    const sealed = async () => {
      await till.seal()
      for (const table of (await till.status()).resealing) await till.reseal(table)
      const entries = await till.entries({ after, limit: 100 })
      after = entries.at(-1)?.entryNo ?? after
      return entries.filter(({ table }) => table === 'receipts').map(({ operation, record }) => [operation, record?.receipt_no, record?.gross])
    }
    t.same(await sealed(), [])
    await host.exec(migration)
    const shop = migration.includes('shop') ? "'BA01', " : ''
    await host.exec(
      `UPDATE receipts SET gross = 21 WHERE receipt_no = 'R2'; DELETE FROM receipts WHERE receipt_no = 'R4'; INSERT INTO receipts VALUES (${shop}5, 'R5', 50)`,
    )
    t.same((await sealed()).toSorted(), [
      ['baseline', 'R2', 20],
      ['upsert', 'R2', 21],
      ['upsert', 'R5', 50],
    ])
    const known = await host.query(`SELECT count(*) AS all_of_them FROM sync_members UNION ALL SELECT count(*) FROM sync_withheld`)
    t.same(
      (known as { all_of_them: unknown }[]).map(({ all_of_them }) => Number(all_of_them)),
      [4, 2],
    )
    await host.exec(`UPDATE receipts SET gross = 31 WHERE receipt_no = 'R3'; UPDATE receipt_lines SET item_no = 'C' WHERE line = 1`)
    t.same((await sealed()).toSorted(), [
      ['baseline', 'R1', 10],
      ['baseline', 'R3', 30],
      ['upsert', 'R1', 10],
      ['upsert', 'R3', 31],
    ])
    t.same(await till.reseal('receipts'), { documents: 0, entries: 0 })
  })
}

onEachDatabase(t, server, 'a receipt that takes the former key of a withheld one is another by its identity', HISTORY, async (t, host) => {
  const till = host.create({ receipts: { identity: ['receipt_no'] } })
  await till.install()
  const sealed = sealedBy(till)
  await sealed()
  await host.exec(ANOTHER_KEY['one more column'])
  await host.exec(`DELETE FROM receipts WHERE id = 2; INSERT INTO receipts VALUES (2, 'R9', 90)`)
  await sealed()
  for (const table of (await till.status()).resealing) await till.reseal(table)
  t.same(
    (await till.entries({ limit: 10 })).map(({ operation, recordId }) => [operation, recordId]),
    [['upsert', [2, 'R9']]],
  )
})

const ASSORTED = `
  CREATE TABLE assortments (no integer PRIMARY KEY, active integer); INSERT INTO assortments VALUES (1, 1), (2, 0);
  CREATE TABLE items (id integer PRIMARY KEY, assortment_no integer, shelf integer UNIQUE, name text); CREATE INDEX by_assortment ON items (assortment_no);
  INSERT INTO items VALUES (1, 1, 101, 'Milk'), (2, 1, 2, 'Bread');
  CREATE TABLE labels (no integer PRIMARY KEY, shelf integer, text text); CREATE INDEX by_shelf ON labels (shelf)`

onEachDatabase(t, server, 'what a filter or a part refers by is no former key, whatever its values are', ASSORTED, async (t, host) => {
  const publish = (least: number): PublishRules<AnyTables> => ({
    items: {
      where: (eb) =>
        eb('id', '<', least).and(
          eb.exists(eb.selectFrom('assortments').select('no').whereRef('no', '=', 'items.assortment_no').where('active', '=', 1)),
        ),
      dependsOn: { assortments: { assortment_no: 'no' } },
    },
    labels: { partOf: { items: { shelf: 'shelf' } } },
  })
  const first = host.create(publish(8))
  await first.install()
  await first.seal()
  // Others have what is the key of one that is withheld, in another column.
  await host.exec(`UPDATE items SET shelf = 102 WHERE id = 2; INSERT INTO items VALUES (8, 1, 2, 'Tea'), (9, 2, 109, 'Rice')`)
  await first.stop()
  const till = host.create(publish(100))
  await till.install()
  const sealed = sealedBy(till)
  for (const table of (await till.status()).resealing) await till.reseal(table)
  t.same(await sealed(), ['baseline items[2]', 'upsert items[2]', 'upsert items[8]'])
  await host.exec('UPDATE assortments SET active = 1 WHERE no = 2')
  t.same(await sealed(), ['upsert items[9]'])
  await host.exec(`UPDATE items SET name = 'Whole milk' WHERE id = 1`)
  t.same(await sealed(), ['baseline items[1]', 'upsert items[1]'])
})
