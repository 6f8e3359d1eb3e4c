import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { type AnyTables, createCentral, createRegister, type Filter, mirror, negate, stockMovements } from '../../src/index.ts'
import { httpLink, toNodeHandler } from '../../src/transport/http.ts'
import { onEachDatabase, sealedBy } from '../support/each-database.ts'
import { createPool, startServer } from '../support/postgres.ts'

const server = await startServer(t)

/** A till with history that was never sent, and a head office. */
async function shop(t: Test, existing: 'none' | 'all' | Filter<AnyTables, string> | undefined) {
  const pool = await createPool(t, server)
  await pool.query(`
    CREATE TABLE receipts (id bigint PRIMARY KEY, status text);
    CREATE TABLE receipt_lines (id bigint PRIMARY KEY, receipt_id bigint, item_no text, quantity numeric)`)
  const central = createCentral({
    database: postgres(pool),
    subscribe: {
      receipts: [
        mirror(),
        stockMovements((receipt) =>
          (receipt.parts.receipt_lines ?? []).map((line) => ({ item: line.item_no, location: 'A', quantity: negate(line.quantity) })),
        ),
      ],
    },
  })
  await central.install()
  const { token } = await central.registers.add({ location: 'A', register: '1' })
  const http = createServer(toNodeHandler(central.fetch)).listen(0, '127.0.0.1')
  await new Promise((resolve) => http.once('listening', resolve))
  const file = join(t.testdir(), 'till.sqlite')
  const db = new Database(file)
  db.pragma('journal_mode = WAL')
  db.exec(`
    CREATE TABLE receipts (id INTEGER PRIMARY KEY, status TEXT);
    CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER, item_no TEXT, quantity INTEGER);
    CREATE INDEX receipt_lines_receipt_id ON receipt_lines (receipt_id)`)
  for (let id = 1; id <= 9; id++) {
    db.exec(`INSERT INTO receipts VALUES (${id}, '${id === 9 ? 'open' : 'posted'}'); INSERT INTO receipt_lines VALUES (${id}, ${id}, 'X', 10)`)
  }
  const till = createRegister({
    location: 'A',
    register: '1',
    database: sqlite(() => new Database(file)),
    publish: {
      receipts: { where: (eb) => eb('status', '=', 'posted'), ...(existing !== undefined && { existing }) },
      receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
    },
    transfer: { type: 'push', link: httpLink({ url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`, token }) },
  })
  t.teardown(async () => {
    await till.stop()
    await central.stop()
    http.close()
    http.closeAllConnections()
  })
  await till.install()
  const stock = async () => Number((await pool.query('SELECT coalesce(sum(quantity), 0) AS quantity FROM stock_movements')).rows[0].quantity)
  const mirrored = async () => (await pool.query('SELECT id::int FROM receipts ORDER BY id')).rows.map((row) => row.id)
  return { till, db, stock, mirrored }
}

t.test('what stood there before is withheld, and only what changes in it is posted', async (t) => {
  const { till, db, stock, mirrored } = await shop(t, undefined)
  await till.synchronize()
  t.same(await mirrored(), [], 'history is not sent')
  db.exec('UPDATE receipt_lines SET quantity = 12 WHERE id = 1')
  await till.synchronize()
  t.same(await mirrored(), [1])
  t.equal(await stock(), -2, 'ten of the twelve were booked before our time')
  t.same(
    (await till.entries()).map(({ operation, table }) => [operation, table]),
    ['baseline', 'upsert'].flatMap((operation) => [
      [operation, 'receipts'],
      [operation, 'receipt_lines'],
    ]),
  )
  db.exec('UPDATE receipt_lines SET quantity = 15 WHERE id = 1; UPDATE receipt_lines SET quantity = 11 WHERE id = 2')
  await till.seal()
  db.exec('UPDATE receipt_lines SET quantity = 13 WHERE id = 2')
  await till.synchronize()
  t.equal(await stock(), -5 - 3, 'a baseline holds for all later versions')
  await till.export('receipts', [{ id: 1 }, { id: 3 }])
  await till.synchronize()
  t.same(await mirrored(), [1, 2, 3])
  t.equal(await stock(), -8, 'an export of history books nothing')
})

t.test('a document that was outside the filter is new when it comes inside', async (t) => {
  const { till, db, stock, mirrored } = await shop(t, 'none')
  await till.synchronize()
  db.exec(`UPDATE receipts SET status = 'posted' WHERE id = 9`)
  await till.synchronize()
  t.same(await mirrored(), [9])
  t.equal(await stock(), -10)
})

t.test('a withheld document that goes is not heard of, and its key is free for another', async (t) => {
  const { till, db, stock, mirrored } = await shop(t, 'none')
  await till.seal()
  db.exec('DELETE FROM receipt_lines WHERE receipt_id = 4; DELETE FROM receipts WHERE id = 4')
  t.same(await till.seal(), { documents: 0, entries: 0 })
  db.exec(`INSERT INTO receipts VALUES (4, 'posted'); INSERT INTO receipt_lines VALUES (40, 4, 'X', 3)`)
  await till.synchronize()
  t.same(await mirrored(), [4])
  t.equal(await stock(), -3)
})

t.test("'all' sends what stands there, a filter what is inside", async (t) => {
  const all = await shop(t, 'all')
  await all.till.synchronize()
  t.same(await all.mirrored(), [1, 2, 3, 4, 5, 6, 7, 8])
  t.equal(await all.stock(), -80)
  const some = await shop(t, (eb) => eb('id', '>', 6))
  await some.till.synchronize()
  t.same(await some.mirrored(), [7, 8])
  t.equal(await some.stock(), -20)
  some.db.exec('UPDATE receipt_lines SET quantity = 11 WHERE id = 1')
  await some.till.synchronize()
  t.equal(await some.stock(), -21)
})

t.test('installing again activates nothing twice', async (t) => {
  const { till, db, stock } = await shop(t, 'all')
  await till.synchronize()
  db.exec(`INSERT INTO receipts VALUES (20, 'posted'); INSERT INTO receipt_lines VALUES (20, 20, 'X', 1)`)
  await till.install()
  await till.synchronize()
  t.equal(await stock(), -81)
  t.equal((await till.entries({ limit: 1000 })).length, 18)
})

const SALES = 'CREATE TABLE sales (id INTEGER PRIMARY KEY, sale_no VARCHAR(20), amount INTEGER)'

onEachDatabase(t, server, 'what was withheld under a key is nothing of the sale that has the key by now', SALES, async (t, host) => {
  await host.exec("INSERT INTO sales VALUES (1, 'S-1', 10), (2, 'S-2', 20)")
  const till = host.create({ sales: { identity: ['sale_no'] } })
  await till.install()
  const sealed = sealedBy(till)
  t.same(await sealed(), [])
  await host.exec("DELETE FROM sales WHERE id = 1; INSERT INTO sales VALUES (1, 'S-3', 10); UPDATE sales SET amount = 21 WHERE id = 2")
  t.same((await sealed()).toSorted(), ['baseline sales[2]', 'upsert sales[1]', 'upsert sales[2]'])
})

onEachDatabase(t, server, 'what stood there before is exported, also where nothing was sealed yet', SALES, async (t, host) => {
  await host.exec("INSERT INTO sales VALUES (1, 'S-1', 10), (2, 'S-2', 20)")
  const till = host.create({ sales: {} })
  await till.install()
  const sealed = sealedBy(till)
  t.same(await till.export('sales', { sale_no: 'S-2' }), { documents: 1, entries: 1 })
  t.same(await sealed(), ['upsert sales[2]'])
})
