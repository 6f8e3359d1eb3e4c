import Database from 'better-sqlite3'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { type AnyTables, createRegister, type Filter } from '../../src/index.ts'
import { openDatabase } from '../support/shop.ts'

const TABLE = 'CREATE TABLE receipts (id INTEGER PRIMARY KEY, posted INTEGER, note TEXT)'

function create(t: Test, file: string, where: Filter<AnyTables, string>) {
  const till = createRegister({ location: 'A', register: '1', database: sqlite(() => new Database(file)), publish: { receipts: { where } } })
  t.teardown(() => till.stop())
  return till
}

function shop(t: Test, where: Filter<AnyTables, string>) {
  const { db, file } = openDatabase(t, TABLE)
  const till = create(t, file, where)
  const sealed = async () => {
    await till.seal()
    return (await till.entries()).map(({ operation, recordId }) => [operation, ...recordId])
  }
  return { till, db, sealed }
}

t.test('a filter may compare with a boolean', async (t) => {
  const { till, db, sealed } = shop(t, (eb) => eb('posted', '=', true))
  await till.install()
  db.exec('INSERT INTO receipts VALUES (1, 1, NULL), (2, 0, NULL)')
  t.same(await sealed(), [['upsert', 1]])
  t.same(await till.export('receipts', (eb) => eb.and([eb.val(true), eb('posted', 'in', [true, false])])), { documents: 1, entries: 1 })
})

t.test('a filter that cannot run is refused at the latest by install(), and the database is as it was', async (t) => {
  const filters: Filter<AnyTables, string>[] = [
    (eb) => eb('state', '=', 'posted'),
    (eb) => eb('posted', '=', new Date()),
    () => sql<boolean>`no_such_function(note)`,
    () => sql<boolean>`note =`,
    () => {
      throw new Error('of the host')
    },
    (eb) => eb.exists(eb.selectFrom('items').select('item_no')),
  ]
  for (const where of filters) {
    const { db, file } = openDatabase(t, TABLE)
    const before = db.prepare('SELECT * FROM sqlite_schema').all()
    await t.rejects(async () => create(t, file, where).install(), { code: 'ERR_FILTER', hint: /./ })
    t.same(db.prepare('SELECT * FROM sqlite_schema').all(), before)
  }
})

t.test('a filter that raises on one document parks it alone, until the document is mended', async (t) => {
  const { till, db, sealed } = shop(t, () => sql<boolean>`json_extract(note, '$.posted') = 1`)
  await till.install()
  db.exec(`INSERT INTO receipts VALUES (1, 1, '{"posted":1}'), (2, 1, 'no json'), (3, 1, '{"posted":1}')`)
  t.same(await sealed(), [
    ['upsert', 1],
    ['upsert', 3],
  ])
  t.match((await till.status()).parked, [{ table: 'receipts', recordId: [2], code: 'ERR_FILTER' }])
  db.exec(`UPDATE receipts SET note = '{"posted":1}' WHERE id = 2`)
  t.same((await sealed()).at(-1), ['upsert', 2])
  t.same((await till.status()).parked, [])
})

t.test('a document for which a function of the host’s throws waits alone, whatever it throws', async (t) => {
  const { db, file } = openDatabase(t, 'CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT)')
  const open = () =>
    new Database(file).function('is_open', (status) => {
      if (status === 'bad') throw new Error('no')
      if (status === 'worse') throw Object.assign(new TypeError('no'), { code: 'ERR_HOST' })
      return status === 'open' ? 1 : 0
    })
  const till = createRegister<AnyTables>({
    location: 'BA01',
    register: 'POS1',
    database: sqlite(open),
    publish: { orders: { where: (eb) => eb.fn('is_open', ['status']) } },
  })
  t.teardown(() => till.stop())
  await till.install()
  db.exec(`INSERT INTO orders (status) VALUES ('open'), ('bad'), ('shut'), ('worse'), ('open')`)
  t.same(await till.seal(), { documents: 2, entries: 2 })
  t.same(
    (await till.status()).parked.map(({ recordId, code }) => [...recordId, code]),
    [
      [2, 'ERR_FILTER'],
      [4, 'ERR_FILTER'],
    ],
  )
  db.exec(`UPDATE orders SET status = 'open' WHERE id = 4`)
  t.same(await till.seal(), { documents: 1, entries: 1 })
})
