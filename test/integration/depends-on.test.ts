import { sql } from 'kysely'
import t, { type Test } from 'tap'
import type { AnyTables, Filter, PublishRules } from '../../src/index.ts'
import { type Host, onEachDatabase, sealedBy } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'

const server = await startServer(t)

const TABLES = `
  CREATE TABLE items (id INTEGER PRIMARY KEY, item_no TEXT NOT NULL, kind TEXT, parent INTEGER);
  CREATE INDEX items_item_no ON items (item_no); CREATE INDEX items_kind ON items (kind); CREATE INDEX items_parent ON items (parent);
  CREATE TABLE barcodes (id INTEGER PRIMARY KEY, item_id INTEGER NOT NULL, symbology TEXT NOT NULL);
  CREATE INDEX barcodes_item_id ON barcodes (item_id); CREATE INDEX barcodes_symbology ON barcodes (symbology);
  CREATE TABLE assortments (location TEXT NOT NULL, item_no TEXT NOT NULL, PRIMARY KEY (location, item_no));
  CREATE TABLE kinds (name TEXT, sold INTEGER);
  CREATE TABLE symbologies (name TEXT PRIMARY KEY, scanned INTEGER);
  CREATE VIEW sold_kinds AS SELECT name FROM kinds WHERE sold = 1`

const each = (name: string, test: (t: Test, host: Host) => Promise<void>) => onEachDatabase(t, server, name, TABLES, test)

const assorted: Filter<AnyTables, 'items'> = (eb) =>
  eb.exists(eb.selectFrom('assortments as a').select('a.item_no').whereRef('a.item_no', '=', 'items.item_no').where('a.location', '=', 'BA01'))
const ofSoldKind = () => sql<boolean>`EXISTS (SELECT 1 FROM kinds WHERE kinds.name = items.kind AND kinds.sold = 1)`

async function installed(host: Host, publish: PublishRules<AnyTables>) {
  const till = host.create(publish)
  await till.install()
  return { till, sealed: sealedBy(till) }
}

each('a change in a table that the filter depends on looks again at the documents with its values', async (t, host) => {
  const { sealed } = await installed(host, { items: { where: assorted, dependsOn: { assortments: { item_no: 'item_no' } } } })
  await host.exec(`INSERT INTO items VALUES (1, 'A', 'x', NULL), (2, 'B', 'x', NULL), (3, 'A', 'x', NULL)`)
  t.same(await sealed(), [], 'none of them is in the assortment')
  await host.exec(`INSERT INTO assortments VALUES ('BA01', 'A'), ('KE02', 'B')`)
  t.same(await sealed(), ['upsert items[1]', 'upsert items[3]'])
  await host.exec(`UPDATE assortments SET item_no = 'B' WHERE location = 'BA01'`)
  t.same((await sealed()).sort(), ['remove items[1]', 'remove items[3]', 'upsert items[2]'], 'both values count, the old and the new')
  await host.exec(`DELETE FROM assortments`)
  t.same(await sealed(), ['remove items[2]'])
})

each('a part may depend on another table too', async (t, host) => {
  const scanned = () =>
    sql<boolean>`EXISTS (SELECT 1 FROM barcodes JOIN symbologies ON symbologies.name = barcodes.symbology WHERE barcodes.item_id = items.id AND scanned = 1)`
  const { sealed } = await installed(host, {
    items: { where: scanned },
    barcodes: { partOf: { items: { item_id: 'id' } }, dependsOn: { symbologies: { symbology: 'name' } } },
  })
  await host.exec(`INSERT INTO items VALUES (1, 'A', 'x', NULL), (2, 'B', 'x', NULL); INSERT INTO barcodes VALUES (10, 1, 'EAN'), (20, 2, 'QR')`)
  t.same(await sealed(), [])
  await host.exec(`INSERT INTO symbologies VALUES ('EAN', 1)`)
  t.same(await sealed(), ['upsert items[1]', 'upsert barcodes[10]'])
  await host.exec(`UPDATE symbologies SET scanned = 0`)
  t.same(await sealed(), ['remove items[1]'])
})

each('a table that is used and not named is refused, by whatever text', async (t, host) => {
  t.throws(
    () => host.create({ items: { where: assorted } }),
    { code: 'ERR_FILTER', context: { reads: 'assortments' } },
    'named to Kysely: at construction',
  )
  t.throws(
    () => host.create({ items: { where: assorted, dependsOn: { kinds: { kind: 'name' } } } }),
    { code: 'ERR_FILTER', context: { reads: 'assortments' } },
    'another one is named',
  )
  const ofSoldView = () => sql<boolean>`EXISTS (SELECT 1 FROM sold_kinds WHERE name = items.kind)`
  for (const where of [ofSoldKind, ofSoldView])
    await t.rejects(
      host.create({ items: { where } }).install(),
      { code: 'ERR_FILTER', context: { reads: 'kinds' } },
      'in a text, through a view: at install()',
    )
  for (const where of [ofSoldKind, ofSoldView])
    await t.resolves(host.create({ items: { where, dependsOn: { kinds: { kind: 'name' } } } }).install(), 'and named it may be used so')
  const hasNoChild: Filter<AnyTables, 'items'> = (eb) =>
    eb.not(eb.exists(eb.selectFrom('items as child').select('child.id').whereRef('child.parent', '=', 'items.id')))
  t.throws(() => host.create({ items: { where: hasNoChild } }), { code: 'ERR_FILTER', context: { reads: 'items' } }, 'other rows of the table itself')
})

each('a filter may depend on other rows of its own table', async (t, host) => {
  const { sealed } = await installed(host, {
    items: {
      where: (eb) => eb.not(eb.exists(eb.selectFrom('items as child').select('child.id').whereRef('child.parent', '=', 'items.id'))),
      dependsOn: { items: { id: 'parent' } },
    },
  })
  await host.exec(`INSERT INTO items VALUES (1, 'A', 'x', NULL)`)
  t.same(await sealed(), ['upsert items[1]'])
  await host.exec(`INSERT INTO items VALUES (2, 'B', 'x', 1)`)
  t.same((await sealed()).sort(), ['remove items[1]', 'upsert items[2]'])
  await host.exec('DELETE FROM items WHERE id = 2')
  t.same((await sealed()).sort(), ['remove items[2]', 'upsert items[1]'])
})

each('a change on which thousands depend is found by comparing their table, in slices', async (t, host) => {
  const { till, sealed } = await installed(host, { items: { where: ofSoldKind, dependsOn: { kinds: { kind: 'name' } } } })
  await host.exec(
    `INSERT INTO items (id, item_no, kind) WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2500) SELECT n, 'I' || n, 'x' FROM n`,
  )
  t.same(await sealed(), [])
  await host.exec(`INSERT INTO kinds VALUES ('x', 1)`)
  t.same(await till.seal(), { documents: 2_500, entries: 2_500 })
  t.same((await till.status()).resealing, [])
})

each('what a rule depends on must be there', async (t, host) => {
  const bad: readonly (readonly [string, string, unknown])[] = [
    ['a table that is not there', 'ERR_UNKNOWN_TABLE', { nowhere: { kind: 'name' } }],
    ['a view', 'ERR_UNKNOWN_TABLE', { sold_kinds: { kind: 'name' } }],
    ['a column of its own that is not there', 'ERR_UNKNOWN_COLUMN', { kinds: { knid: 'name' } }],
    ['a column of the other that is not there', 'ERR_UNKNOWN_COLUMN', { kinds: { kind: 'nmae' } }],
    ['no columns', 'ERR_OPTION', { kinds: {} }],
    ['a list', 'ERR_OPTION', { kinds: ['kind'] }],
    ['text', 'ERR_OPTION', 'kinds'],
  ]
  for (const [what, code, dependsOn] of bad)
    await t.rejects(async () => host.create({ items: { dependsOn } } as never).install(), { code, hint: /./ }, what)
})

each('a filter reads the same table after it was rebuilt', async (t, host) => {
  const { till, sealed } = await installed(host, { items: { where: (eb) => eb('kind', '=', 'x') } })
  await host.exec(`INSERT INTO items VALUES (1, 'A', 'x', NULL), (2, 'B', 'y', NULL)`)
  t.same(await sealed(), ['upsert items[1]'])
  for (let n = 0; n < 3; n++) {
    await host.exec(`
      CREATE TABLE made_anew (id INTEGER PRIMARY KEY, item_no TEXT NOT NULL, kind TEXT, parent INTEGER);
      INSERT INTO made_anew SELECT * FROM items; DROP TABLE items; ALTER TABLE made_anew RENAME TO items`)
    t.same(await sealed(), [], 'it holds what it held')
    t.same((await till.status()).problems, [])
  }
  await host.exec(`UPDATE items SET kind = 'x'`)
  t.same(await sealed(), ['upsert items[2]'])
})
