import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { type AnyTables, createRegister, type PublishRules } from '../../src/index.ts'
import { openDatabase } from '../support/shop.ts'

async function till(t: Test, tables: string, publish: PublishRules<AnyTables>) {
  const { db, file } = openDatabase(t, tables)
  const register = createRegister({ location: 'BA01', register: 'POS1', database: sqlite(() => new Database(file)), publish })
  t.teardown(() => register.stop())
  await register.install()
  let after = 0
  /** What was sealed since, with the record ids as they are kept. */
  const sealed = async () => {
    await register.seal()
    const rows = db.prepare('SELECT entry_no, operation, table_name, record_id FROM sync_entries WHERE entry_no > ? ORDER BY 1').all(after)
    return (rows as { entry_no: number; operation: string; table_name: string; record_id: string }[]).map((row) => {
      after = row.entry_no
      return `${row.operation} ${row.table_name}${row.record_id}`
    })
  }
  return { db, register, sealed }
}

t.test('0.0 and -0.0 are two record ids, though SQLite finds them equal: the former one goes', async (t) => {
  const { db, sealed } = await till(t, 'CREATE TABLE items (id NOT NULL PRIMARY KEY, name TEXT)', { items: {} })
  const move = db.prepare('UPDATE items SET id = ?')
  db.exec(`INSERT INTO items VALUES (0.5, 'a'); UPDATE items SET id = id - 0.5`)
  t.same(await sealed(), ['upsert items[0.0]'])
  move.run(-0)
  t.same((await sealed()).sort(), ['remove items[0.0]', 'upsert items[{"$real":"-0.0"}]'])
  move.run(0.1)
  t.same((await sealed()).sort(), ['remove items[{"$real":"-0.0"}]', 'upsert items[0.1]'])
})

const REFERENCES = (receipt: string, line: string) => `
  CREATE TABLE receipts (receipt_no TEXT NOT NULL ${receipt} PRIMARY KEY);
  CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_no TEXT ${line} REFERENCES receipts);
  CREATE TABLE discounts (id INTEGER PRIMARY KEY, line_id INTEGER)`
const PUBLISH = {
  receipts: {},
  receipt_lines: { partOf: { receipts: { receipt_no: 'receipt_no' } } },
  discounts: { partOf: { receipt_lines: { line_id: 'id' } } },
}

t.test('which receipt a line belongs to says the collation of what it refers to, as for a foreign key: no line is in two', async (t) => {
  const { db, sealed } = await till(t, REFERENCES('', 'COLLATE NOCASE'), PUBLISH)
  db.exec(`PRAGMA foreign_keys = ON; INSERT INTO receipts VALUES ('a'), ('A'); INSERT INTO receipt_lines VALUES (1, 'a'), (2, 'A')`)
  t.same(await sealed(), ['upsert receipts["a"]', 'upsert receipt_lines[1]', 'upsert receipts["A"]', 'upsert receipt_lines[2]'])
})

t.test('a line that refers to its receipt in another case, which that column does not tell apart, is a part of it', async (t) => {
  const { db, register, sealed } = await till(t, `${REFERENCES('COLLATE NOCASE', '')}; CREATE INDEX by_no ON receipt_lines (receipt_no)`, PUBLISH)
  db.exec(`PRAGMA foreign_keys = ON; INSERT INTO receipts VALUES ('a'); INSERT INTO receipt_lines VALUES (1, 'a'), (2, 'A')`)
  t.same(await sealed(), ['upsert receipts["a"]', 'upsert receipt_lines[1]', 'upsert receipt_lines[2]'])
  db.exec('INSERT INTO discounts VALUES (7, 2)')
  t.same((await sealed()).at(-1), 'upsert discounts[7]')
  const unindexed = async () => (await register.check()).flatMap(({ code, table }) => (code === 'NO_INDEX' ? [table] : []))
  t.same(await unindexed(), ['receipt_lines', 'discounts'], 'its index has another collation')
  db.exec('DROP INDEX by_no; CREATE INDEX by_no ON receipt_lines (receipt_no COLLATE NOCASE)')
  t.same(await unindexed(), ['discounts'])
})

t.test('a shared connection whose integers the host has made bigints captures and checks like any other', async (t) => {
  const db = new Database(':memory:').defaultSafeIntegers(true)
  t.teardown(() => db.close())
  db.exec('CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT UNIQUE, price INTEGER)')
  const register = createRegister<AnyTables>({
    location: 'BA01',
    register: 'POS1',
    database: sqlite(db),
    publish: { items: { where: (eb) => eb('price', '>', 0), identity: ['name'] } },
  })
  t.teardown(() => register.stop())
  await register.install()
  db.exec(`INSERT INTO items VALUES (1, 'a', 5), (9007199254740993, 'b', 6), (3, 'c', 0)`)
  t.same(await register.seal(), { documents: 2, entries: 2 })
  t.same((await register.entries()).at(-1)?.recordId, [9007199254740993n])
  t.same(await register.reseal('items'), { documents: 0, entries: 0 })
  t.same(
    (await register.check()).map(({ code }) => code),
    [],
  )
})
