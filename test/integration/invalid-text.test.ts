import t from 'tap'
import { mirror } from '../../src/index.ts'
import { startServer } from '../support/postgres.ts'
import { openShop } from '../support/shop.ts'

const server = await startServer(t)

const TABLES = `
  CREATE TABLE items (item_no TEXT NOT NULL PRIMARY KEY, name TEXT, raw BLOB);
  CREATE TABLE barcodes (code TEXT NOT NULL PRIMARY KEY, item_no TEXT NOT NULL); CREATE INDEX barcodes_item_no ON barcodes (item_no)`
const PUBLISH = { items: { existing: 'all' as const }, barcodes: { partOf: { items: { item_no: 'item_no' } } } }

const tag = (latin1: string) => `{"$text":"${Buffer.from(latin1, 'latin1').toString('base64')}"}`
const MULLER = `CAST(x'4dfc6c6c6572' AS TEXT)` // 'Müller' as Latin-1 has it

t.test('text that is not UTF-8 goes through entry, wire and archive with its bytes; handlers see replacement characters', async (t) => {
  const shop = await openShop(t, server, {
    schema: 'CREATE TABLE items (item_no text PRIMARY KEY, name text, raw bytea); CREATE TABLE barcodes (code text PRIMARY KEY, item_no text)',
    subscribe: { items: mirror() },
  })
  const { db, replica } = await shop.addTill('POS1', { schema: TABLES, publish: PUBLISH })
  db.exec(`INSERT INTO items VALUES ('A', ${MULLER}, x'4dfc'), ('B', 'M\ufffdller', NULL); INSERT INTO barcodes VALUES (${MULLER}, 'A')`)
  await replica.synchronize()
  const sealed = db.prepare('SELECT record FROM sync_entries ORDER BY entry_no').pluck().all() as string[]
  t.same(sealed, [
    `{"item_no":"A","name":${tag('M\xfcller')},"raw":{"$blob":"Tfw="}}`,
    `{"code":${tag('M\xfcller')},"item_no":"A"}`,
    `{"item_no":"B","name":"M\ufffdller","raw":null}`,
  ])
  t.same(
    (await shop.pool.query('SELECT record FROM sync_archive ORDER BY entry_no')).rows.map(({ record }) => record),
    sealed,
  )
  t.same((await shop.pool.query('SELECT item_no, name FROM items ORDER BY 1')).rows, [
    { item_no: 'A', name: 'M\ufffdller' },
    { item_no: 'B', name: 'M\ufffdller' },
  ])
  t.same(await replica.seal(), { documents: 0, entries: 0 })
  db.exec(`UPDATE items SET name = CAST(x'4dfd6c6c6572' AS TEXT) WHERE item_no = 'A'`)
  t.same(await replica.seal(), { documents: 1, entries: 2 }, 'another byte that shows as the same is another name')
})

t.test('keys that are not UTF-8 are keys like others', async (t) => {
  const shop = await openShop(t, server)
  const { db, replica } = await shop.addTill('POS1', { schema: TABLES, publish: PUBLISH })
  const other = `CAST(x'4dfd6c6c6572' AS TEXT)` // shows as the same
  db.exec(`INSERT INTO items VALUES (${MULLER}, 'one', NULL), (${other}, 'two', NULL); INSERT INTO barcodes VALUES ('1', ${MULLER})`)
  t.same(await replica.seal(), { documents: 2, entries: 3 })
  const last = () => db.prepare('SELECT operation, record_id FROM sync_entries ORDER BY entry_no DESC LIMIT 1').get()
  db.exec(`UPDATE items SET name = 'three' WHERE item_no = ${other}`)
  t.same(await replica.seal(), { documents: 1, entries: 1 })
  t.same(last(), { operation: 'upsert', record_id: `[${tag('M\xfdller')}]` })
  db.exec(`DELETE FROM barcodes; DELETE FROM items WHERE item_no = ${MULLER}`)
  t.same(await replica.seal(), { documents: 1, entries: 1 })
  t.same(last(), { operation: 'remove', record_id: `[${tag('M\xfcller')}]` })
  t.same(await replica.reseal('items'), { documents: 0, entries: 0 })
  db.exec(`DROP TRIGGER sync_items_delete; DELETE FROM items`)
  await replica.reseal('items')
  t.same(last(), { operation: 'remove', record_id: `[${tag('M\xfdller')}]` }, 'a reseal finds its removal')
  t.same((await replica.status()).parked, [])
})

t.test('many keys that are not UTF-8 are resealed and exported slice by slice', async (t) => {
  const shop = await openShop(t, server)
  const { db, replica } = await shop.addTill('POS1', { schema: TABLES, publish: PUBLISH })
  const add = db.prepare('INSERT INTO items (item_no) VALUES (CAST(? AS TEXT))')
  db.transaction(() => {
    for (let n = 0; n < 1_100; n++) add.run(Buffer.from(`\xff${n}`, 'latin1'))
  })()
  t.same(await replica.seal(), { documents: 1_100, entries: 1_100 })
  t.same(await replica.reseal('items'), { documents: 0, entries: 0 })
  t.same(await replica.export('items', (eb) => eb.lit(true)), { documents: 1_100, entries: 1_100 })
})

t.test('in a database in UTF-16 a replacement character is one, and what stands beside it is text', async (t) => {
  const shop = await openShop(t, server)
  const { db, replica } = await shop.addTill('POS1', { schema: `PRAGMA encoding = 'UTF-16le'; ${TABLES}`, publish: PUBLISH })
  db.exec(`INSERT INTO items VALUES ('A', 'M\ufffdller', x'4dfc')`)
  await replica.seal()
  t.match((await replica.entries()).at(-1), { recordId: ['A'], record: { item_no: 'A', name: 'M\ufffdller', raw: Buffer.of(0x4d, 0xfc) } })
})
