import t, { type Test } from 'tap'
import { type AnyTables, type Change, mirror, openPeriod, pluClosings, type SubscribeRules, stockMovements } from '../../src/index.ts'
import { isLedgerSound } from '../support/books.ts'
import { CLOSING_PUBLISH, CLOSING_TILL, ClosingCashier, closingOf, postedClosings, postedRows, rangesOf, receiptLines } from '../support/closings.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { count, eventsOf, line } from '../support/quarantine.ts'
import { idle, mendable, stocks, written } from '../support/replay.ts'
import { movementsAt, openShop, type ShopOptions } from '../support/shop.ts'
import { CENTRAL_SCHEMA } from '../support/tables.ts'
import { Machine } from '../support/world.ts'

const server = await startServer(t)
const MIRROR = mirror({ origin: ['location', 'register'] })
const RECEIPTS = { table: 'receipts' }

async function scene(t: Test, options: ShopOptions = {}) {
  const { state, handler, mapping } = mendable()
  const shop = await openShop(t, server, { subscribe: { receipts: [MIRROR, handler] }, ...options })
  const machine = new Machine(t, await shop.addTill('POS1'))
  const change = async (sql: string) => {
    machine.db.exec(sql)
    await machine.replica.synchronize()
  }
  const sell = async (receiptNo: string, ...items: readonly string[]) => {
    machine.cashier.sell(
      receiptNo,
      items.map((item) => line(item)),
    )
    await machine.replica.synchronize()
  }
  const codes = async () =>
    (await shop.central.quarantine.list()).map(({ recordId, code, applied }) => `${recordId} ${code}${applied ? ' applied' : ''}`)
  return { shop, central: shop.central, pool: shop.pool, machine, state, mapping, sell, change, codes }
}

const mirrored = async (pool: { query(sql: string): Promise<{ rows: unknown[] }> }) => {
  const all = [
    'SELECT * FROM receipts ORDER BY location, register, id',
    'SELECT * FROM receipt_lines ORDER BY location, register, id',
    'SELECT * FROM tender_lines ORDER BY location, register, id',
  ]
  return Promise.all(all.map(async (sql) => (await pool.query(sql)).rows))
}

t.test('tables that were emptied are filled again: with what was purged at the till, and each line where it belongs', async (t) => {
  const { shop, central, pool, machine, sell, change } = await scene(t)
  const other = new Machine(t, await shop.addTill('POS2'))
  await sell('R-1', 'A', 'B')
  await sell('R-2', 'C', 'D')
  await sell('R-3', 'E')
  // A line moves to another receipt, and the one that it left is purged in the same moment.
  await change("UPDATE receipt_lines SET receipt_id = 1 WHERE item_no = 'C'; DELETE FROM receipts WHERE id = 2")
  await change("UPDATE receipt_lines SET quantity = '7' WHERE item_no = 'E'; DELETE FROM receipt_lines WHERE item_no = 'B'")
  await change("UPDATE receipts SET status = 'voided' WHERE id = 1; DELETE FROM receipts WHERE id = 3")
  await sell('R-4', 'F')
  other.cashier.sell('R-1', [line('X')])
  await other.replica.synchronize()
  t.equal(machine.db.prepare('SELECT count(*) FROM receipts').pluck().get(), 2)
  const before = await mirrored(pool)
  await pool.query('TRUNCATE receipts, receipt_lines, tender_lines')
  t.match(await central.replay(RECEIPTS), { documents: 5, postings: 0, quarantined: 0 })
  t.same(await mirrored(pool), before)
  await pool.query(
    "DELETE FROM receipt_lines WHERE item_no IN ('A', 'X'); UPDATE receipts SET receipt_no = 'spoilt' WHERE id = 1; DELETE FROM tender_lines",
  )
  await central.replay({ ...RECEIPTS, registers: [{ location: 'BA01', register: 'POS1' }] })
  t.equal(await count(pool, 'receipt_lines', "item_no = 'X'"), 0, 'the other register was not asked for')
  await central.replay(RECEIPTS)
  t.same(await mirrored(pool), before)
})

t.test('documents that refer to others of their table, whose latest version came later', async (t) => {
  const schema = `
    CREATE TABLE internal_orders (location text, register text, id bigint, follows bigint, status text, PRIMARY KEY (location, register, id),
      FOREIGN KEY (location, register, follows) REFERENCES internal_orders)`
  const shop = await openShop(t, server, { schema, subscribe: { internal_orders: MIRROR } })
  const till = await shop.addTill('POS1', {
    schema: 'CREATE TABLE internal_orders (id INTEGER PRIMARY KEY, follows INTEGER, status TEXT)',
    publish: { internal_orders: {} },
  })
  const insert = till.db.prepare('INSERT INTO internal_orders VALUES (?, ?, ?)')
  till.db.transaction(() => {
    for (let id = 1; id <= 600; id++) insert.run(id, id % 40 === 4 ? id - 3 : id % 40 === 5 ? 1 : null, 'new')
  })()
  await till.replica.synchronize()
  // The first ones are changed, so that they stand behind those that refer to them.
  for (let id = 1; id <= 3; id++) {
    till.db.prepare("UPDATE internal_orders SET status = 'sent' WHERE id = ?").run(id)
    await till.replica.synchronize()
  }
  await shop.pool.query('TRUNCATE internal_orders')
  t.match(await shop.central.replay({ table: 'internal_orders' }), { documents: 600 })
  t.same(await shop.central.quarantine.list(), [])
  t.equal(await count(shop.pool, 'internal_orders'), 600)
  t.equal(await count(shop.pool, 'internal_orders', "status = 'sent'"), 3)
})

t.test('one bad document holds up itself: what it has posted stays, and it waits in quarantine', async (t) => {
  const { shop, central, pool, state, sell, change, codes } = await scene(t)
  const events = eventsOf(shop)
  for (let n = 1; n <= 20; n++) await sell(`R-${n}`, n % 7 === 0 ? 'POISON' : 'A')
  await change('DELETE FROM receipts WHERE id = 14')
  state.isStrict = true
  state.factor = 2
  t.same(await central.replay(RECEIPTS), { ...idle(20), postings: 18, quarantined: 2 })
  t.same(await codes(), ['[14] ERR_HANDLER applied', '[7] ERR_HANDLER applied'], 'what is purged is gone through first')
  t.match(events.quarantined, [{ register: { location: 'BA01', register: 'POS1' }, documents: [{ recordId: '[14]' }, { recordId: '[7]' }] }])
  t.same(await stocks(shop), { A: -36, POISON: -2 })
  t.same(await central.replay(RECEIPTS), idle(18), 'it waits, and is tried again with the others')
  await central.quarantine.discard((await central.quarantine.list())[0]?.id as number, { reason: 'as it was' })
  state.isStrict = false
  t.same(await central.replay(RECEIPTS), { ...idle(19), postings: 1, released: 1 }, 'what was given up is left as it was')
  t.same(await stocks(shop), { A: -36, POISON: -3 })
  t.match(events.released, [{ documents: [{ recordId: '[7]' }] }])
  t.equal(await count(pool, 'receipts'), 20, 'the copy of the one that was purged among them')
  await change("UPDATE receipt_lines SET quantity = '5' WHERE receipt_id = 7")
  t.same(await stocks(shop), { A: -36, POISON: -11 })
  t.same(await central.replay(RECEIPTS), idle(19))
  t.ok(await isLedgerSound(pool))
})

t.test('what waits is tried, and where it waits on, the version that was applied before counts by the mended mapping', async (t) => {
  const { shop, central, state, sell, change, codes } = await scene(t)
  state.isStrict = true
  await sell('R-1', 'A')
  await sell('R-2', 'POISON')
  await sell('R-3', 'B')
  await change("UPDATE receipt_lines SET item_no = 'POISON' WHERE receipt_id IN (1, 3)")
  t.same(await stocks(shop), { A: -1, B: -1 })
  state.factor = 2
  t.same(await central.replay(RECEIPTS), { ...idle(2), postings: 2 })
  t.same(await stocks(shop), { A: -2, B: -2 })
  t.same(await codes(), ['[2] ERR_HANDLER', '[1] ERR_HANDLER applied', '[3] ERR_HANDLER applied'])
  const third = (await central.quarantine.list()).find(({ recordId }) => recordId === '[3]')
  await central.quarantine.discard(third?.id as number, { reason: 'a mistake' })
  state.factor = 3
  t.same(await central.replay(RECEIPTS), { ...idle(2), postings: 2 })
  t.same(await stocks(shop), { A: -3, B: -3 })
  state.isStrict = false
  t.same(await central.replay(RECEIPTS), { ...idle(3), postings: 2, released: 2 })
  t.same(await stocks(shop), { B: -3, POISON: -6 })
  t.same(await codes(), [])
})

t.test('a removal that came behind a version that a replay refuses waits with it', async (t) => {
  const { mapping, state } = mendable()
  const seen: string[] = []
  const note = (changes: readonly Change[]) => void seen.push(...changes.map(({ operation }) => operation))
  const { shop, central, pool, sell, change, codes } = await scene(t, {
    subscribe: { receipts: [mirror({ origin: ['location', 'register'], removals: 'apply' }), stockMovements(mapping), note] },
  })
  await sell('R-1', 'POISON')
  await change('DELETE FROM receipts')
  await sell('R-2', 'A')
  await change('DELETE FROM receipts')
  state.isStrict = true
  state.factor = 2
  seen.length = 0
  t.same(await central.replay(RECEIPTS), { ...idle(2), postings: 1, quarantined: 1 })
  t.match(await central.quarantine.list(), [{ recordId: '[1]', removed: true, applied: true, document: { receipt_no: 'R-1' } }])
  t.same(seen, ['upsert', 'remove'], 'the key is the second one’s: of the first one only the ledger is asked')
  state.isStrict = false
  t.same(await central.quarantine.retry({}), { released: 1, waiting: 0 })
  t.same(await stocks(shop), { A: -2, POISON: -2 })
  t.equal(await count(pool, 'receipts'), 0)
  t.same(await codes(), [])
})

t.test("the host's own handler is called again, and its effects come once", async (t) => {
  const printed: string[] = []
  const seen: string[] = []
  const handle = async (changes: readonly Change[], context: { once(key: string, effect: (key: string) => void): void }) => {
    for (const { operation, document } of changes) {
      seen.push(`${operation} ${document?.receipt_no ?? ''}`.trim())
      if (document) context.once(`print ${document.receipt_no}`, (key) => void printed.push(key))
    }
  }
  const { central, pool, machine, sell, change } = await scene(t, { subscribe: { receipts: handle } })
  await sell('R-1', 'A')
  await sell('R-2', 'A')
  await sell('R-3', 'A')
  await change("DELETE FROM receipts WHERE receipt_no = 'R-3'")
  await sell('R-4', 'A')
  await change("DELETE FROM receipts WHERE receipt_no = 'R-2'")
  t.equal(machine.db.prepare('SELECT id FROM receipts ORDER BY id DESC').pluck().get(), 3, 'R-4 has the key of R-3')
  await eventually('printed', () => printed.length === 4)
  seen.length = 0
  t.same(await central.replay(RECEIPTS), idle(4))
  t.same(seen, ['upsert R-2', 'upsert R-1', 'upsert R-4', 'remove'])
  await eventually('done', async () => (await count(pool, 'sync_once', "state = 'done'")) === 4)
  t.same(printed.sort(), ['print R-1', 'print R-2', 'print R-3', 'print R-4'])
})

t.test("differences go into the host's own ledger, each once", async (t) => {
  const { mapping, state } = mendable()
  const post = {
    table: 'entries',
    row: ({ key, item, quantity }: { key: string; item: string; quantity: string }) => ({ till_key: key, item_no: item, quantity }),
  }
  const { central, pool, sell } = await scene(t, {
    schema: 'CREATE TABLE entries (till_key text UNIQUE, item_no text, quantity numeric)',
    subscribe: { receipts: stockMovements(mapping, { post }) },
  })
  await sell('R-1', 'A', 'B')
  await sell('R-2', 'A')
  state.factor = 4
  t.match(await central.replay(RECEIPTS), { postings: 2 })
  t.match(await central.replay(RECEIPTS), { postings: 0 })
  const { rows } = await pool.query('SELECT item_no, sum(quantity)::int AS quantity, count(*)::int AS n FROM entries GROUP BY 1 ORDER BY 1')
  t.same(rows, [
    { item_no: 'A', quantity: -8, n: 4 },
    { item_no: 'B', quantity: -4, n: 2 },
  ])
})

t.test('what a check refuses now stays as it is; where it would be posted otherwise it waits', async (t) => {
  const { mapping, state } = mendable()
  const called: number[] = []
  const own = (changes: readonly Change[]) => void called.push(...changes.map(({ entryNo }) => entryNo))
  const schema = `${CENTRAL_SCHEMA}; CREATE TABLE closed_periods (starts_on date, ends_on date)`
  const { shop, central, pool, sell, codes } = await scene(t, {
    schema,
    subscribe: { receipts: [MIRROR, stockMovements(mapping), own] },
    validate: { receipts: openPeriod({ date: 'business_date', closed: { table: 'closed_periods', from: 'starts_on', through: 'ends_on' } }) },
  })
  await sell('R-1', 'A')
  await sell('R-2', 'B')
  await pool.query("INSERT INTO closed_periods VALUES ('2026-01-01', '2026-12-31')")
  await sell('R-3', 'C')
  t.same(await codes(), ['[3] ERR_CLOSED_PERIOD'])
  const before = await mirrored(pool)
  await pool.query('TRUNCATE receipts, receipt_lines, tender_lines')
  called.length = 0
  t.same(await central.replay(RECEIPTS), { ...idle(2), refused: 2 })
  t.same(called, [])
  t.same(await mirrored(pool), before, 'the copy is filled all the same')
  t.same(await codes(), ['[3] ERR_CLOSED_PERIOD'])
  state.factor = 2
  t.same(await central.replay(RECEIPTS), { ...idle(2), quarantined: 2 })
  t.same(await stocks(shop), { A: -1, B: -1 }, 'nothing is posted into a closed period')
  t.same((await codes()).sort(), ['[1] ERR_CLOSED_PERIOD applied', '[2] ERR_CLOSED_PERIOD applied', '[3] ERR_CLOSED_PERIOD'])
  await pool.query('DELETE FROM closed_periods')
  t.same(await central.replay(RECEIPTS), { ...idle(3), postings: 3, released: 3 })
  t.same(await stocks(shop), { A: -2, B: -2, C: -2 })
})

t.test('posted closings are immutable: where the difference is real there is one supplementary closing', async (t) => {
  const state = { factor: 1 }
  const subscribe: SubscribeRules<AnyTables> = {
    receipts: stockMovements((receipt) =>
      (receipt.parts.receipt_lines ?? []).map((one) => ({ item: one.item_no, location: 'BA01', quantity: BigInt(-one.quantity) })),
    ),
    plu_closings: pluClosings({
      closing: (closing, origin) => {
        const known = closingOf(closing, origin)
        return known && { ...known, ranges: rangesOf(closing) }
      },
      receipts: {
        table: 'receipts',
        number: 'number',
        series: 'series',
        lines: (receipt) =>
          receiptLines(receipt).map((one) => (one.item === 'A' ? { ...one, netAmount: `${Number(one.netAmount) * state.factor}` } : one)),
      },
    }),
  }
  const shop = await openShop(t, server, { schema: '', subscribe })
  const till = await shop.addTill('POS1', { schema: CLOSING_TILL, publish: CLOSING_PUBLISH })
  const cashier = new ClosingCashier(till.db)
  let number = 0
  // More receipts than one transaction takes.
  for (let n = 0; n < 700; n++) cashier.sell('sale', ++number, [{ item: 'A', quantity: '1', net: '2' }])
  cashier.closeRange('Z-1', [1, number])
  cashier.sell('sale', ++number, [{ item: 'B', quantity: '1', net: '3' }])
  cashier.closeRange('Z-2', [number, number])
  await till.replica.synchronize()
  // Purged since: it counts on.
  till.db.exec('DELETE FROM receipts WHERE number = 1')
  await till.replica.synchronize()
  const first = ['BA01 1 2026-11-21 Z-1: A A - 700 1400', 'BA01 2 2026-11-21 Z-2: B A - 1 3']
  t.same(await postedClosings(shop), first)
  const before = await written(shop.pool)
  for (const table of ['receipts', 'plu_closings']) t.match(await shop.central.replay({ table }), { postings: 0 })
  t.same(await written(shop.pool), before)
  const rows = await postedRows(shop)
  state.factor = 2
  t.same(await shop.central.replay({ table: 'plu_closings' }), { ...idle(703), postings: 1 }, 'its receipts are gone through with it')
  t.same(await postedClosings(shop), [...first, 'BA01 3 adds to 1 as 1 2026-11-21 Z-1: A A - 0 1400'])
  const now = new Set(await postedRows(shop))
  t.ok(
    rows.every((row) => now.has(row)),
    'posted rows never change',
  )
  t.match(await shop.central.replay({ table: 'receipts' }), { documents: 701, postings: 0 })
  state.factor = 1
  t.match(await shop.central.replay({ table: 'receipts' }), { documents: 701, postings: 1 })
  t.equal((await postedClosings(shop)).at(-1), 'BA01 4 adds to 1 as 2 2026-11-21 Z-1: A A - 0 -1400')
  t.same(await shop.central.waitingClosings(), [])
})

t.test('closings that are subscribed later are posted by a replay, one after another', async (t) => {
  const shop = await openShop(t, server, { schema: '', subscribe: { receipts: stockMovements(movementsAt('BA01')) } })
  const till = await shop.addTill('POS1', { schema: CLOSING_TILL, publish: CLOSING_PUBLISH })
  const cashier = new ClosingCashier(till.db)
  for (let n = 1; n <= 3; n++) {
    cashier.sell('sale', n, [{ item: 'A', quantity: `${n}`, net: '2' }])
    cashier.closeRange(`Z-${n}`, [n, n])
  }
  await till.replica.synchronize()
  const closings = pluClosings({
    closing: (closing, origin) => ({ ...closingOf(closing, origin), ranges: rangesOf(closing) }) as never,
    receipts: { table: 'receipts', number: 'number', series: 'series', lines: receiptLines },
  })
  const later = await openShop(t, server, { pool: shop.pool, subscribe: { plu_closings: closings } })
  t.match(await later.central.replay({ table: 'plu_closings' }), { documents: 6, postings: 3 })
  t.same(
    await postedClosings(shop),
    [1, 2, 3].map((n) => `BA01 ${n} 2026-11-21 Z-${n}: A A - ${n} 2`),
  )
})
