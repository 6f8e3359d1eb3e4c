import t from 'tap'
import type { Register } from '../../src/index.ts'
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
      for (const table of (await till.status()).resealing) await till.reseal(table)
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
