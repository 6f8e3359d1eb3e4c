import t, { type Test } from 'tap'
import { type AnyTables, mirror, type StockPosting, type SubscribeRules, stockMovements } from '../../src/index.ts'
import { isLedgerSound } from '../support/books.ts'
import { startServer } from '../support/postgres.ts'
import { count, line } from '../support/quarantine.ts'
import { refused } from '../support/refused.ts'
import { idle, mendable, stocks, written } from '../support/replay.ts'
import { movementsAt, openShop, type ShopOptions } from '../support/shop.ts'
import { TILL_SCHEMA } from '../support/tables.ts'
import { Machine } from '../support/world.ts'

const server = await startServer(t)
const MIRROR = mirror({ origin: ['location', 'register'] })
const RECEIPTS = { table: 'receipts' }

async function scene(t: Test, options: ShopOptions = {}) {
  const { state, handler } = mendable()
  const shop = await openShop(t, server, { subscribe: { receipts: [MIRROR, handler] }, ...options })
  const machine = new Machine(t, await shop.addTill('POS1'))
  const sell = async (receiptNo: string, ...items: readonly string[]) => {
    machine.cashier.sell(
      receiptNo,
      items.map((item) => line(item)),
    )
    await machine.replica.synchronize()
  }
  const change = async (sql: string) => {
    machine.db.exec(sql)
    await machine.replica.synchronize()
  }
  return { shop, central: shop.central, pool: shop.pool, machine, state, sell, change }
}

t.test('where nothing was mended a replay writes nothing', async (t) => {
  const { central, pool, machine, state, sell, change } = await scene(t)
  await sell('R-1', 'A', 'B')
  await sell('R-2', 'A')
  await sell('R-3', 'C')
  await change("UPDATE receipts SET status = 'voided' WHERE receipt_no = 'R-2'; DELETE FROM receipts WHERE receipt_no = 'R-3'")
  await sell('R-4', 'D')
  machine.db.exec("DELETE FROM receipts WHERE receipt_no = 'R-4'")
  await machine.replica.synchronize()
  const before = await written(pool)
  const calls = state.calls
  t.same(await central.replay(RECEIPTS), idle(4))
  t.equal(state.calls, calls + 4, 'each was mapped again')
  t.same(await written(pool), before)
  t.same(await central.replay(RECEIPTS), idle(4), 'nor the second time')
  t.same(await written(pool), before)
})

t.test(
  'where the mapping was mended exactly the difference is posted: of what was sold, corrected, voided, purged, and of former lives of a key',
  async (t) => {
    const { shop, central, pool, state, sell, change } = await scene(t)
    await sell('R-1', 'SOLD', 'SOLD')
    await sell('R-2', 'WRONG')
    await change("UPDATE receipt_lines SET item_no = 'RIGHT' WHERE item_no = 'WRONG'")
    await sell('R-3', 'VOID')
    await change("UPDATE receipts SET status = 'voided' WHERE receipt_no = 'R-3'")
    for (const life of [1, 2, 3]) {
      await sell(`R-9${life}`, `LIFE${life}`)
      await change(`DELETE FROM receipts WHERE receipt_no = 'R-9${life}'`)
    }
    await sell('R-94', 'LIFE4')
    t.equal(await count(pool, 'sync_documents'), 4, 'one key for four receipts')
    const kept = (await pool.query('SELECT m::text AS row FROM stock_movements m')).rows
    state.factor = 3
    t.same(await central.replay(RECEIPTS), { ...idle(7), postings: 6 })
    t.same(await stocks(shop), { LIFE1: -3, LIFE2: -3, LIFE3: -3, LIFE4: -3, RIGHT: -3, SOLD: -6 })
    const now = new Set((await pool.query('SELECT m::text AS row FROM stock_movements m')).rows.map(({ row }) => row))
    t.ok(
      kept.every(({ row }) => now.has(row)),
      'posted rows never change',
    )
    t.ok(await isLedgerSound(pool))
    t.same(
      (await pool.query('SELECT receipt_no FROM receipts ORDER BY id')).rows.map((row) => row.receipt_no),
      ['R-1', 'R-2', 'R-3', 'R-94'],
    )
    const before = await written(pool)
    t.same(await central.replay(RECEIPTS), idle(7))
    t.same(await written(pool), before)
    state.factor = 1
    await central.replay(RECEIPTS)
    t.same(await stocks(shop), { LIFE1: -1, LIFE2: -1, LIFE3: -1, LIFE4: -1, RIGHT: -1, SOLD: -2 }, 'and back')
  },
)

t.test('what a register has lost counts on and is mended too, what was withdrawn does not', async (t) => {
  const { shop, central, pool, machine, state, sell } = await scene(t)
  await sell('R-1', 'KEPT')
  const backup = machine.backup()
  await sell('R-2', 'LOST')
  await sell('R-3', 'GIVEN UP')
  await sell('R-4', 'AGAIN')
  machine.db.exec("UPDATE receipts SET status = 'voided' WHERE receipt_no = 'R-1'")
  await machine.replica.synchronize()
  await machine.restore(backup)
  await sell('R-new', 'NEW')
  const orphans = await central.orphans.list()
  t.same(orphans.map(({ document }) => document.receipt_no).sort(), ['R-2', 'R-3', 'R-4'])
  const idOf = (receiptNo: string) => orphans.find(({ document }) => document.receipt_no === receiptNo)?.id as number
  await central.orphans.withdraw(idOf('R-3'), { reason: 'entered again' })
  state.factor = 2
  t.same(await central.replay(RECEIPTS), { ...idle(4), postings: 4 })
  t.same(await stocks(shop), { AGAIN: -2, KEPT: -2, LOST: -2, NEW: -2 })
  await central.orphans.withdraw(idOf('R-2'), { reason: 'entered again' })
  t.same(await stocks(shop), { AGAIN: -2, KEPT: -2, NEW: -2 }, 'what the mended mapping has posted is withdrawn with it')
  t.same(await central.replay(RECEIPTS), idle(3))
  t.ok(await isLedgerSound(pool))
})

t.test('a document of which a version was lost, and that is never sent again, counts as it was applied last', async (t) => {
  const { shop, central, machine, state, sell, change } = await scene(t)
  await sell('R-1', 'CORRECTED')
  await sell('R-2', 'REMOVED')
  await sell('R-3', 'FOLLOWED')
  const backup = machine.backup()
  await change("UPDATE receipt_lines SET quantity = '5' WHERE item_no = 'CORRECTED'; DELETE FROM receipts WHERE id > 1")
  machine.db.exec(
    "INSERT INTO receipts SELECT 3, process_id, 'R-9', location, business_date, posted_at, customer_no, status, net_amount, cashier_pin FROM receipts",
  )
  await change("INSERT INTO receipt_lines VALUES (3, 3, 'FOLLOWER', '1', '1')")
  const posted = { CORRECTED: -5, FOLLOWED: -1, FOLLOWER: -1, REMOVED: -1 }
  t.same(await stocks(shop), posted)
  await machine.restore(backup)
  // What is asked for is gone by then.
  machine.db.exec('DELETE FROM receipts')
  await machine.replica.synchronize()
  t.same(await stocks(shop), posted)
  t.match(await central.replay(RECEIPTS), { postings: 0 })
  state.factor = 2
  t.match(await central.replay(RECEIPTS), { documents: 4, postings: 4 })
  t.same(await stocks(shop), { CORRECTED: -10, FOLLOWED: -2, FOLLOWER: -2, REMOVED: -2 })
})

/** A receipt that stands there before the till is installed: ten pieces, which the host has booked itself. */
const OLD = `${TILL_SCHEMA}
  INSERT INTO receipts (id, receipt_no, location, business_date, posted_at, status, net_amount) VALUES (7, 'R-7', 'BA01', '2026-11-01', '2026-11-01T09:00:00Z', 'posted', '1'),
    (8, 'R-8', 'BA01', '2026-11-01', '2026-11-01T09:00:00Z', 'posted', '1');
  INSERT INTO receipt_lines (receipt_id, item_no, quantity, net_amount) VALUES (7, 'OLD', '10', '1'), (8, 'OTHER', '10', '1')`

t.test('what the host had booked before it was published is taken by the mended mapping too', async (t) => {
  const { shop, central, pool, state } = await scene(t)
  const machine = new Machine(t, await shop.addTill('POS2', { schema: OLD }))
  await machine.replica.synchronize()
  machine.db.exec("UPDATE receipt_lines SET quantity = '12' WHERE item_no = 'OLD'")
  await machine.replica.synchronize()
  t.same(await stocks(shop), { OLD: -2 })
  const before = await written(pool)
  t.same(await central.replay(RECEIPTS), idle(1))
  t.same(await written(pool), before)
  state.factor = 3
  t.same(await central.replay(RECEIPTS), { ...idle(1), postings: 1 })
  t.same(await stocks(shop), { OLD: -6 }, 'three times the two that were added')
  t.same(await central.replay(RECEIPTS), idle(1))
  machine.db.exec("UPDATE receipt_lines SET quantity = '11' WHERE item_no = 'OLD'; DELETE FROM receipts WHERE id = 8")
  await machine.replica.synchronize()
  t.same(await stocks(shop), { OLD: -3 })
  state.factor = 2
  await central.replay(RECEIPTS)
  t.same(await stocks(shop), { OLD: -2 })
  t.ok(await isLedgerSound(pool))
  const ledger = 'CREATE TABLE entries (till_key text UNIQUE, item_no text, quantity numeric)'
  await pool.query(ledger)
  const post = { table: 'entries', row: ({ key, item, quantity }: StockPosting) => ({ till_key: key, item_no: item, quantity }) }
  const other = await openShop(t, server, { pool, subscribe: { receipts: stockMovements(movementsAt('BA01'), { post }) } })
  await other.central.replay(RECEIPTS)
  t.same(
    (await pool.query('SELECT item_no, quantity FROM entries')).rows,
    [{ item_no: 'OLD', quantity: '-1' }],
    'a ledger that begins later has the change only',
  )
  t.match(await other.central.replay(RECEIPTS), { postings: 0 })
})

t.test('a handler that is subscribed later gets what came before', async (t) => {
  const { shop, central, pool, sell, change } = await scene(t, { subscribe: { pos_processes: MIRROR } })
  await sell('R-1', 'A')
  await sell('R-2', 'B')
  await change("DELETE FROM receipts WHERE receipt_no = 'R-2'")
  await sell('R-3', 'C')
  await refused(t, () => central.replay(RECEIPTS), 'ERR_RULE')
  t.equal(await count(pool, 'sync_documents'), 2)
  const later = await openShop(t, server, { pool, subscribe: { receipts: [MIRROR, stockMovements(movementsAt('BA01'))] } })
  t.same(await later.central.replay(RECEIPTS), { ...idle(3), postings: 3 })
  t.same(await stocks(shop), { A: -1, B: -1, C: -1 })
  t.same((await pool.query('SELECT receipt_no FROM receipts ORDER BY id')).rows, [{ receipt_no: 'R-1' }, { receipt_no: 'R-3' }])
})

t.test('removals: what a removal took back stays taken back, and the option may be changed', async (t) => {
  const { mapping, state } = mendable()
  const subscribe = (removals: 'apply' | 'ignore'): SubscribeRules<AnyTables> => ({
    receipts: [mirror({ origin: ['location', 'register'], removals }), stockMovements(mapping, { removals })],
  })
  const { shop, central, pool, sell, change } = await scene(t, { subscribe: subscribe('apply') })
  await sell('R-1', 'A')
  await sell('R-2', 'B')
  await change("DELETE FROM receipts WHERE receipt_no = 'R-2'")
  await sell('R-3', 'C')
  await change("DELETE FROM receipts WHERE receipt_no = 'R-3'")
  const before = await written(pool)
  await central.replay(RECEIPTS)
  t.same(await written(pool), before)
  state.factor = 2
  t.match(await central.replay(RECEIPTS), { postings: 1 })
  t.same(await stocks(shop), { A: -2 })
  const ignoring = (await openShop(t, server, { pool, subscribe: subscribe('ignore') })).central
  t.match(await ignoring.replay(RECEIPTS), { postings: 2 })
  t.same(await stocks(shop), { A: -2, B: -2, C: -2 }, 'purged receipts count after all')
  t.equal(await count(pool, 'receipts'), 2, 'and stand in the mirror, where their key is theirs')
  t.match(await central.replay(RECEIPTS), { postings: 2 })
  t.same(await stocks(shop), { A: -2 }, 'and are taken back again')
  t.same((await pool.query('SELECT receipt_no FROM receipts')).rows, [{ receipt_no: 'R-1' }])
  t.ok(await isLedgerSound(pool))
})

t.test('a mirror that takes removals beside a ledger that does not', async (t) => {
  const { handler, state } = mendable()
  const log = `CREATE TABLE log (what text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log VALUES (TG_OP); RETURN NULL; END $$`
  const { shop, central, pool, sell, change } = await scene(t, {
    subscribe: { receipts: [mirror({ origin: ['location', 'register'], removals: 'apply' }), handler] },
  })
  await sell('R-1', 'A')
  await change('DELETE FROM receipts')
  await pool.query(`${log}; CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON receipts FOR EACH ROW EXECUTE FUNCTION note()`)
  state.factor = 2
  t.same(await central.replay(RECEIPTS), { ...idle(1), postings: 1 })
  t.same(await stocks(shop), { A: -2 })
  t.equal(await count(pool, 'receipts'), 0)
  t.equal(await count(pool, 'log'), 0, 'it is not written and removed again')
})

t.test('a version that somebody has changed into none keeps nobody else’s from being replayed', async (t) => {
  const { shop, central, pool, state, sell } = await scene(t)
  for (const n of [1, 2, 3]) await sell(`R-${n}`, `I${n}`)
  await pool.query("UPDATE sync_archive SET operation = 'remove' WHERE table_name = 'tender_lines' AND record_id = '[2]'")
  state.factor = 2
  t.same(await central.replay(RECEIPTS), { ...idle(2), postings: 2 })
  t.same(await stocks(shop), { I1: -2, I2: -1, I3: -2 }, 'of the other two the difference was posted')
})
