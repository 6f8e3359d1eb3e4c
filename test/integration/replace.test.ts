import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { type AnyTables, createRegister, type PublishRules } from '../../src/index.ts'
import { sealedBy } from '../support/each-database.ts'
import { openDatabase } from '../support/shop.ts'

/** What is sealed after each of the host's statements. */
async function till(t: Test, tables: string, publish: PublishRules<AnyTables>) {
  const { db, file } = openDatabase(t, tables)
  const register = createRegister({ location: 'BA01', register: 'POS1', database: sqlite(() => new Database(file)), publish })
  t.teardown(() => register.stop())
  await register.install()
  const sealed = sealedBy(register)
  return async (sql: string) => {
    db.exec(sql)
    return (await sealed()).sort()
  }
}

t.test('REPLACE by a key that is equal and written otherwise removes the former document', async (t) => {
  const after = await till(
    t,
    `CREATE TABLE receipts (no TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, status TEXT) WITHOUT ROWID;
     CREATE TABLE items (no NOT NULL PRIMARY KEY, name TEXT);
     CREATE TABLE orders (a TEXT, b INTEGER, PRIMARY KEY (a COLLATE RTRIM, b))`,
    { receipts: {}, items: {}, orders: {} },
  )
  await after(`INSERT INTO receipts VALUES ('r1', 'a'), ('r2', 'a'); INSERT INTO items VALUES (1, 'x'); INSERT INTO orders VALUES ('a', 1)`)
  t.same(await after(`INSERT OR REPLACE INTO receipts VALUES ('R1', 'b')`), ['remove receipts["r1"]', 'upsert receipts["R1"]'])
  t.same(await after(`UPDATE OR REPLACE receipts SET no = 'R2' WHERE no = 'r1'`), [
    'remove receipts["R1"]',
    'remove receipts["r2"]',
    'upsert receipts["R2"]',
  ])
  t.same(await after('REPLACE INTO items VALUES (1.0, 5)'), ['remove items[1]', 'upsert items[1]'], 'another storage class')
  t.same(await after(`REPLACE INTO orders VALUES ('a ', 1)`), ['remove orders["a",1]', 'upsert orders["a ",1]'], "by the index's own collation")
})

t.test('REPLACE puts a default in the place of NULL: the row that is in its way is noticed', async (t) => {
  const after = await till(
    t,
    `CREATE TABLE receipts (id INTEGER PRIMARY KEY, slot INTEGER NOT NULL DEFAULT 4 UNIQUE);
     CREATE TABLE receipt_lines (no INT NOT NULL DEFAULT 7, receipt_id INTEGER, PRIMARY KEY (no))`,
    { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
  )
  await after('INSERT INTO receipts VALUES (1, 4), (2, 5); INSERT INTO receipt_lines VALUES (7, 2)')
  t.same(await after('INSERT OR REPLACE INTO receipts VALUES (3, NULL)'), ['remove receipts[1]', 'upsert receipts[3]'])
  t.same(await after('UPDATE OR REPLACE receipts SET slot = NULL WHERE id = 2'), [
    'remove receipts[3]',
    'upsert receipt_lines[7]',
    'upsert receipts[2]',
  ])
  await after('INSERT INTO receipts VALUES (9, 9)')
  t.same(await after('REPLACE INTO receipt_lines VALUES (NULL, 9)'), ['upsert receipt_lines[7]', 'upsert receipts[2]', 'upsert receipts[9]'])
})

t.test('REPLACE puts a default in the place of NULL: the row that is in the way of what is computed from it is noticed', async (t) => {
  const after = await till(
    t,
    `CREATE TABLE receipts (id INTEGER PRIMARY KEY, slot INTEGER NOT NULL DEFAULT 4, place AS (coalesce(slot, 5) * 10) UNIQUE);
     CREATE TABLE receipt_lines (no INTEGER PRIMARY KEY, receipt_id INTEGER, part TEXT NOT NULL DEFAULT 'a', name AS (upper(part)) STORED);
     CREATE UNIQUE INDEX by_name ON receipt_lines (name)`,
    { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
  )
  await after(`INSERT INTO receipts VALUES (1, 4), (2, 5), (3, 6); INSERT INTO receipt_lines VALUES (1, 1, 'b'), (2, 3, 'a')`)
  t.same(await after('REPLACE INTO receipts VALUES (9, NULL)'), ['remove receipts[1]', 'upsert receipts[9]'])
  t.same(await after('UPDATE OR REPLACE receipts SET slot = NULL WHERE id = 2'), ['remove receipts[9]', 'upsert receipts[2]'])
  t.same(await after('REPLACE INTO receipt_lines VALUES (3, 2, NULL)'), ['upsert receipt_lines[3]', 'upsert receipts[2]', 'upsert receipts[3]'])
})

t.test('in a table whose name is that of the row which a statement brings, only the rows in its way are noticed', async (t) => {
  for (const name of ['new', 'NEW']) {
    const { db, file } = openDatabase(
      t,
      `CREATE TABLE "${name}" (id INTEGER PRIMARY KEY AUTOINCREMENT, no TEXT COLLATE NOCASE UNIQUE, slot INTEGER NOT NULL DEFAULT 4, state TEXT);
       CREATE UNIQUE INDEX open_slot ON "${name}" (slot) WHERE "${name}".state = 'open'`,
    )
    const register = createRegister({ location: 'BA01', register: 'POS1', database: sqlite(() => new Database(file)), publish: { [name]: {} } })
    t.teardown(() => register.stop())
    await register.install()
    const sealed = sealedBy(register)
    const after = async (sql: string) => {
      db.exec(sql)
      const [{ touches }] = db.prepare('SELECT count(*) AS touches FROM sync_touches').all() as [{ touches: number }]
      return [...(await sealed()).sort(), touches]
    }
    await after(`INSERT INTO "${name}" VALUES (1, 'a', 4, 'open'), (2, 'b', 5, 'open'), (3, 'c', 4, 'done')`)
    t.same(await after(`INSERT INTO "${name}" VALUES (4, 'd', 6, 'open')`), [`upsert ${name}[4]`, 1])
    t.same(await after(`REPLACE INTO "${name}" VALUES (5, 'B', 7, 'open')`), [`remove ${name}[2]`, `upsert ${name}[5]`, 2])
    t.same(await after(`REPLACE INTO "${name}" VALUES (6, 'f', NULL, 'open')`), [`remove ${name}[1]`, `upsert ${name}[6]`, 2])
    t.same(
      await after(`UPDATE OR REPLACE "${name}" SET state = 'open' WHERE id = 3`),
      [`remove ${name}[6]`, `upsert ${name}[3]`, 3],
      'and itself, by its number',
    )
    t.same(await register.check(), [], 'by their indexes')
  }
})

t.test('the condition of a partial index is found, whatever its names, texts and comments hold', async (t) => {
  const after = await till(
    t,
    `CREATE TABLE "a where (b" (id INTEGER PRIMARY KEY, "x) where" TEXT, status TEXT);
     CREATE UNIQUE INDEX "by ( [it" /* where ( */ ON "a where (b" ("x) where" COLLATE NOCASE) -- where
       WHERE status <> 'where (' /* ) */ AND "x) where" <> ''`,
    { 'a where (b': {} },
  )
  await after(`INSERT INTO "a where (b" VALUES (1, 'a', 'open'), (2, 'A', 'where ('), (3, '', 'open')`)
  t.same(await after(`INSERT OR REPLACE INTO "a where (b" VALUES (4, 'A', 'open'), (5, '', 'open')`), [
    'remove a where (b[1]',
    'upsert a where (b[4]',
    'upsert a where (b[5]',
  ])
})

t.test('REPLACE by a row that comes into a partial index, though its unique columns stay, removes the row that is in its way', async (t) => {
  const after = await till(
    t,
    `CREATE TABLE receipts (id INTEGER PRIMARY KEY, slot TEXT, "state ""x""" TEXT, other INTEGER, state TEXT, open TEXT);
     CREATE UNIQUE INDEX open_slot ON receipts (slot) WHERE [state "x"] = 'open';
     CREATE UNIQUE INDEX late ON receipts (other) WHERE rowid > 10`,
    { receipts: {} },
  )
  await after('ALTER TABLE receipts DROP COLUMN state; ALTER TABLE receipts DROP COLUMN open') // which no trigger names
  await after(`INSERT INTO receipts VALUES (1, 'a', 'open', NULL), (2, 'a', 'void', NULL), (3, NULL, NULL, 7), (11, NULL, NULL, 7)`)
  t.same(await after(`UPDATE OR REPLACE receipts SET "state ""x""" = 'open' WHERE id = 2`), ['remove receipts[1]', 'upsert receipts[2]'])
  t.same(await after('UPDATE OR REPLACE receipts SET id = 12 WHERE id = 3'), ['remove receipts[11]', 'remove receipts[3]', 'upsert receipts[12]'])
})

t.test('a partial index that was made with a text in double quotes fails no sale where they are for names only', async (t) => {
  const { db, file } = openDatabase(
    t,
    `CREATE TABLE receipts (id INTEGER PRIMARY KEY, slot TEXT, "state" TEXT);
     CREATE UNIQUE INDEX open_slot ON receipts (slot) WHERE "state" = 'it''s open' AND lower("slot") <> 'x'`,
  )
  // As a program left it whose SQLite takes it for a text.
  db.unsafeMode(true)
  db.exec(`PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '''it''''s open''', '"it''s open"') WHERE name = 'open_slot'`)
  db.close()
  const host = new Database(file)
  t.teardown(() => host.close())
  const register = createRegister<AnyTables>({
    location: 'BA01',
    register: 'POS1',
    database: sqlite(() => new Database(file)),
    publish: { receipts: { identity: ['slot'] } },
  })
  t.teardown(() => register.stop())
  await register.install()
  const sealed = sealedBy(register)
  host.exec(`INSERT INTO receipts VALUES (1, 'a', 'it''s open')`)
  t.same(await sealed(), ['upsert receipts[1]'])
  host.exec(`REPLACE INTO receipts VALUES (2, 'a', 'it''s open')`)
  t.same((await sealed()).sort(), ['remove receipts[1]', 'upsert receipts[2]'])
  t.same(await register.check(), [])
})
