import t, { type Test } from 'tap'
import { type Link, mirror } from '../../src/index.ts'
import { startServer } from '../support/postgres.ts'
import { count, line, poisoned } from '../support/quarantine.ts'
import { openShop } from '../support/shop.ts'

const server = await startServer(t)

/** A till that sends one document a batch; `between` is called after each. */
async function openTill(t: Test) {
  const { handler, state } = poisoned()
  const shop = await openShop(t, server, { subscribe: { receipts: [mirror({ origin: ['location', 'register'] }), handler] } })
  const on: { between?: (() => Promise<void>) | undefined } = {}
  const link = (inner: Link): Link => ({
    async exchange(message, options) {
      const answer = await inner.exchange(message, options)
      await on.between?.()
      return answer
    },
  })
  const till = await shop.addTill('POS1', { transfer: { recordsPerRun: 1 }, link })
  /** Moves a line in a transaction that touches the receipts in this order. */
  const move = (item: string, to: number, touched: readonly number[]) =>
    till.db
      .transaction(() => {
        for (const id of touched) till.db.prepare("UPDATE receipts SET customer_no = 'C1' WHERE id = ?").run(id)
        till.db.prepare('UPDATE receipt_lines SET receipt_id = ? WHERE item_no = ?').run(to, item)
      })
      .immediate()
  const has = (id: number, item: string) => count(shop.pool, 'receipt_lines', `receipt_id = ${id} AND item_no = '${item}'`)
  return { shop, till, state, on, move, has }
}

t.test('a version that waits takes no part back from a document that has it since, whose newer version has come before its own', async (t) => {
  const { shop, till, state, on, move, has } = await openTill(t)
  const from = till.cashier.sell('R-1', [line('A'), line('POISON')])
  const to = till.cashier.sell('R-2', [line('B')])
  await till.replica.synchronize()
  const [held] = await shop.central.quarantine.list()
  t.match(held, { recordId: `[${from}]`, code: 'ERR_HANDLER' })
  move('A', to, [to, from])
  state.mended = true
  let tries = 0
  on.between = async () => {
    if ((await has(to, 'A')) === 0 || (await shop.central.quarantine.list()).length === 0) return
    tries++
    t.same(await shop.central.quarantine.retry(held?.id as number), { released: 0, waiting: 1 })
    t.match(await shop.central.quarantine.list(), [{ id: held?.id, code: 'ERR_KEY_TAKEN' }])
    t.equal(await has(to, 'A'), 1)
  }
  await till.replica.synchronize()
  t.equal(tries, 1, 'it was tried in between')
  t.same(await shop.central.quarantine.list(), [], 'its own newer version has cleared it')
  await shop.balances(t, till)
})

t.test('a version that waits has the parts that it took from a document of which an older version stands', async (t) => {
  const { shop, till, state, on, move } = await openTill(t)
  const from = till.cashier.sell('R-1', [line('A'), line('B')])
  const to = till.cashier.sell('R-2', [line('POISON')])
  await till.replica.synchronize()
  move('A', to, [to, from])
  let released = 0
  on.between = async () => {
    if ((await count(shop.pool, 'sync_archive', "table_name = 'receipt_lines' AND record_id = '[1]'")) < 2) return
    state.mended = true
    released += (await shop.central.quarantine.retry({})).released
  }
  await till.replica.synchronize()
  t.equal(released, 1, 'it was tried before the other one came')
  await shop.balances(t, till)
})

t.test('a receipt that waited until it was purged at the till takes no line back that another one has', async (t) => {
  const { shop, till, state, move, has } = await openTill(t)
  const from = till.cashier.sell('R-1', [line('A'), line('POISON')])
  const to = till.cashier.sell('R-2', [line('B')])
  await till.replica.synchronize()
  move('A', to, [to])
  till.db.pragma('foreign_keys = ON')
  till.db.prepare('DELETE FROM receipts WHERE id = ?').run(from)
  state.mended = true
  await till.replica.synchronize()
  t.same(await shop.central.quarantine.list(), [])
  t.equal(await has(to, 'A'), 1)
  t.equal(await shop.stock('POISON'), -1, 'it is posted all the same')
})

t.test('a replay that ends between two receipts leaves a line with the one that took it', async (t) => {
  const { shop, till, state, move, has } = await openTill(t)
  state.mended = true
  const from = till.cashier.sell('R-1', [line('A'), line('B')])
  till.replica.stop()
  for (let n = 2; n <= 253; n++) till.cashier.sell(`R-${n}`, [line('C')])
  const again = till.again({ transfer: { recordsPerRun: 500 } })
  await again.synchronize()
  state.mended = false
  till.cashier.addLine(from, line('POISON'))
  move('A', from + 1, [])
  await again.synchronize()
  t.equal(await has(from + 1, 'A'), 1)
  t.match(await shop.central.quarantine.list(), [{ recordId: `[${from}]`, applied: true }], 'what stands of it is the version that had the line')
  const end = new AbortController()
  await t.rejects(shop.central.replay({ table: 'receipts' }, { signal: end.signal, onProgress: () => end.abort() }), { code: 'ERR_ABORTED' })
  t.equal(await has(from + 1, 'A'), 1)
  await shop.central.replay({ table: 'receipts' })
  t.equal(await has(from + 1, 'A'), 1)
  state.mended = true
  t.match(await shop.central.quarantine.retry({}), { released: 1 })
  await shop.balances(t, till)
})

t.test('a line that moves between two orders keeps what head office wrote to it: no batch is cut between them where it need not be', async (t) => {
  const shop = await openShop(t, server, {
    schema: `CREATE TABLE orders (id bigint PRIMARY KEY, note text);
      CREATE TABLE order_lines (id bigint PRIMARY KEY, order_id bigint REFERENCES orders, confirmed int)`,
    subscribe: { orders: mirror(), order_lines: mirror({ except: ['confirmed'] }) },
  })
  const till = await shop.addTill('POS1', {
    schema: `CREATE TABLE orders (id INTEGER PRIMARY KEY, note TEXT); CREATE TABLE order_lines (id INTEGER PRIMARY KEY, order_id INTEGER);
      CREATE INDEX order_lines_order_id ON order_lines (order_id)`,
    publish: { orders: {}, order_lines: { partOf: { orders: { order_id: 'id' } } } },
    transfer: { recordsPerRun: 8 },
  })
  const { db, replica } = till
  db.exec('INSERT INTO orders (id) VALUES (1), (2); INSERT INTO order_lines VALUES (1, 1), (2, 1), (3, 2)')
  await replica.synchronize()
  await shop.pool.query('UPDATE order_lines SET confirmed = id')
  db.exec('INSERT INTO orders (id) VALUES (3), (4), (5), (6), (7)')
  await replica.seal()
  db.exec('UPDATE order_lines SET order_id = 2 WHERE id = 1')
  // One that a slow machine has held up seals less at a time.
  await till.again().seal()
  await replica.synchronize()
  t.same(
    (await shop.pool.query('SELECT id::int, order_id::int, confirmed FROM order_lines ORDER BY id')).rows.map((row) => Object.values(row)),
    [
      [1, 2, 1],
      [2, 1, 2],
      [3, 2, 3],
    ],
  )
})
