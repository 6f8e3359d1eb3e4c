import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { balanced, createCentral, knownItems, mirror, openPeriod, type Problem, stockMovements } from '../../src/index.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { count, line } from '../support/quarantine.ts'
import { movementsAt, openShop, type ShopOptions } from '../support/shop.ts'
import { CENTRAL_SCHEMA } from '../support/tables.ts'

const server = await startServer(t)
const MIRROR = mirror({ origin: ['location', 'register'] })

async function scene(t: Test, validate: NonNullable<ShopOptions['validate']>, more: ShopOptions = {}) {
  const shop = await openShop(t, server, { subscribe: { receipts: [MIRROR, stockMovements(movementsAt('BA01'))] }, validate, ...more })
  const till = await shop.addTill()
  const codes = async () => (await shop.central.quarantine.list()).map(({ recordId, code }) => `${recordId} ${code}`)
  return { shop, till, codes }
}

t.test('a document with which something is wrong waits before anything of it is posted', async (t) => {
  const { shop, till, codes } = await scene(t, {
    receipts: [
      (receipt, origin) => {
        if (receipt.receipt_no === 'R-3') return { message: `not from ${origin.location}/${origin.register}`, hint: 'ask the shop' }
        return undefined
      },
      (receipt) => (receipt.receipt_no === 'R-5' ? { code: 'TOO_CHEAP', message: 'too cheap' } : null),
    ],
  })
  for (let n = 1; n <= 6; n++) till.cashier.sell(`R-${n}`, [line('A')])
  t.match(await till.replica.synchronize(), { sent: 18, quarantined: 2 })
  t.same(await codes(), ['[3] ERR_INVALID', '[5] TOO_CHEAP'])
  t.match(await shop.central.quarantine.list(), [{ message: 'not from BA01/POS1', hint: 'ask the shop' }, { message: 'too cheap' }])
  t.equal(await shop.stock('A'), -4)
  t.equal(await count(shop.pool, 'receipts'), 4)
  till.db.exec("UPDATE receipts SET receipt_no = 'R-3a' WHERE id = 3")
  await till.replica.synchronize()
  t.same(await codes(), ['[5] TOO_CHEAP'])
  t.same(await shop.central.quarantine.retry({}), { released: 0, waiting: 1 }, 'it is asked again')
})

t.test('a check that throws or returns nonsense', async (t) => {
  const odd = [() => true, () => 'text', () => ({ code: 'X' }), () => Promise.reject(new Error('later')), () => 7]
  const { till, codes, shop } = await scene(t, {
    receipts: (receipt) => {
      const n = Number(String(receipt.receipt_no).slice(2))
      if (n === 9) throw new Error('no idea')
      return odd[n]?.() as unknown as Problem
    },
  })
  for (let n = 0; n <= 9; n++) till.cashier.sell(`R-${n}`, [line('A')])
  await till.replica.synchronize()
  t.same(
    await codes(),
    [1, 2, 3, 4, 5, 10].map((id) => `[${id}] ERR_HANDLER`),
  )
  t.equal(await shop.stock('A'), -4)
})

t.test('a check that changes the document changes nothing', async (t) => {
  const { till, shop } = await scene(t, {
    receipts: (receipt) => {
      ;(receipt.parts.receipt_lines as unknown[]).length = 0
      return undefined
    },
  })
  till.cashier.sell('R-1', [line('A')])
  await till.replica.synchronize()
  await shop.balances(t, till)
})

t.test('header = lines = tenders, exactly, or within a tolerance', async (t) => {
  const check = { header: 'net_amount', lines: { receipt_lines: 'net_amount' }, tenders: { tender_lines: ['amount'] } } as const
  const { till, codes, shop } = await scene(t, { receipts: balanced({ ...check, when: (receipt) => receipt.status === 'posted' }) })
  for (let n = 1; n <= 6; n++) till.cashier.sell(`R-${n}`, [line('A', '1', '0.1'), line('A', '1', '0.2')])
  till.db.exec("UPDATE receipts SET net_amount = '0.30000000000000004' WHERE id = 2")
  till.db.exec("UPDATE receipts SET net_amount = '0.31' WHERE id IN (3, 6)")
  till.db.exec("UPDATE receipts SET status = 'voided' WHERE id = 6")
  till.db.exec("UPDATE tender_lines SET amount = 'no' WHERE receipt_id = 4")
  till.db.exec('DELETE FROM tender_lines WHERE receipt_id = 5')
  await till.replica.synchronize()
  const held = await codes()
  t.ok(
    ['[3]', '[4]', '[5]'].every((id) => held.includes(`${id} ERR_UNBALANCED`)),
    held.join(),
  )
  t.notOk(held.some((text) => text.startsWith('[1]') || text.startsWith('[6]')))
  t.match(
    (await shop.central.quarantine.list()).find(({ recordId }) => recordId === '[3]'),
    { message: /header 0.31, lines 0.3, tenders 0.3/ },
  )
  const lax = await scene(t, { receipts: balanced({ ...check, tolerance: '0.01' }) })
  lax.till.cashier.sell('R-1', [line('A', '1', '0.30')])
  lax.till.cashier.sell('R-2', [line('A', '1', '0.30')])
  lax.till.db.exec("UPDATE receipts SET net_amount = '0.31' WHERE id = 1; UPDATE receipts SET net_amount = '0.310001' WHERE id = 2")
  await lax.till.replica.synchronize()
  t.same(await lax.codes(), ['[2] ERR_UNBALANCED'])
})

const ITEMS = `${CENTRAL_SCHEMA}
  CREATE TABLE items (item_no text PRIMARY KEY, plu integer UNIQUE);
  INSERT INTO items VALUES ('A', 1), ('B', 2);
  CREATE TABLE closed_periods (starts_on date, ends_on date, location text);
  INSERT INTO closed_periods VALUES ('2026-01-01', '2026-01-31', NULL), ('2026-02-01', '2026-02-28', 'ZH01')`

t.test('an unknown item waits until it is there', async (t) => {
  const items = { receipt_lines: 'item_no' }
  const check = knownItems({ items, in: { table: 'items', column: 'item_no' } })
  const { till, codes, shop } = await scene(t, { receipts: check }, { schema: ITEMS, retry: { minMs: 50, maxMs: 100 } })
  for (const [n, item] of ['A', 'C', 'B', "D'; --", 'C'].entries()) till.cashier.sell(`R-${n}`, [line(item), line('A')])
  await till.replica.synchronize()
  t.same(
    await codes(),
    [2, 4, 5].map((id) => `[${id}] ERR_UNKNOWN_ITEM`),
  )
  await shop.pool.query("INSERT INTO items VALUES ('C', 3)")
  till.cashier.sell('R-more', [line('A')])
  await till.replica.synchronize()
  t.same(await codes(), ['[4] ERR_UNKNOWN_ITEM'], 'tried again with what came next')
  await shop.pool.query('INSERT INTO items VALUES ($1, 4)', ["D'; --"])
  await shop.central.start()
  await eventually('and by itself', async () => (await codes()).length === 0)
  await shop.balances(t, till)
  const byNumber = await scene(t, { receipts: knownItems({ items, in: { table: 'items', column: 'plu' } }) }, { schema: ITEMS })
  for (const [n, item] of ['1', 'abc', '2', '3', '99999999999', '', '1.0'].entries()) byNumber.till.cashier.sell(`R-${n}`, [line(item)])
  await byNumber.till.replica.synchronize()
  t.same(
    await byNumber.codes(),
    [2, 4, 5, 6, 7].map((id) => `[${id}] ERR_UNKNOWN_ITEM`),
    'of another type',
  )
})

t.test('an item is compared whole, whatever the length and type of the column', async (t) => {
  const uuid = '5f3c1c1e-8a1b-4c1d-9e1f-0a1b2c3d4e5f'
  const cases = {
    'short varchar(5)': ["'ABCDE'", ['ABCDE', 'ABCDEFGH', 'ABC']],
    'short char(5)': ["'ABCDE'", ['ABCDE', 'ABCDEFGH']],
    'short numeric(6, 0)': ['13', ['13', '12.5', 'abc', '13.0.0']],
    'short uuid': [`'${uuid}'`, [uuid, 'abc', `${uuid}0`]],
    'short few': ["'ABC'", ['ABC', 'ABCD']],
  } as const
  for (const [column, [known, sold]] of Object.entries(cases)) {
    const check = knownItems({ items: { receipt_lines: 'item_no' }, in: { table: 'goods', column: 'short' } })
    const schema = `${ITEMS}; CREATE DOMAIN few AS varchar(3); CREATE TABLE goods (${column}); INSERT INTO goods VALUES (${known})`
    const { till, codes } = await scene(t, { receipts: check }, { schema })
    for (const [n, item] of sold.entries()) till.cashier.sell(`R-${n}`, [line(item)])
    await till.replica.synchronize()
    t.same(
      await codes(),
      sold.slice(1).map((_, n) => `[${n + 2}] ERR_UNKNOWN_ITEM`),
      column,
    )
  }
})

t.test('a closed period, by a function or a table', async (t) => {
  const dates = ['2026-01-31', '2026-02-15', '2026-03-01', 'yesterday', '2026-02-31', '2026-01-15T23:00:00Z']
  const sell = (till: Awaited<ReturnType<typeof scene>>['till']) => {
    for (const [n, date] of dates.entries()) {
      till.cashier.sell(`R-${n}`, [line('A')])
      till.db.prepare('UPDATE receipts SET business_date = ? WHERE receipt_no = ?').run(date, `R-${n}`)
    }
  }
  const asked = new Set<string>()
  const closed = (date: string, { location }: { location: string }) => {
    asked.add(`${location} ${date}`)
    return date < '2026-02-01'
  }
  const byFunction = await scene(t, { receipts: openPeriod({ date: 'business_date', closed }) }, { schema: ITEMS })
  sell(byFunction.till)
  await byFunction.till.replica.synchronize()
  t.same(
    await byFunction.codes(),
    [1, 4, 5, 6].map((id) => `[${id}] ERR_CLOSED_PERIOD`),
  )
  t.ok(asked.has('BA01 2026-02-15'))
  const table = { table: 'closed_periods', from: 'starts_on', through: 'ends_on' } as const
  const byTable = await scene(t, { receipts: openPeriod({ date: 'business_date', closed: { ...table, location: 'location' } }) }, { schema: ITEMS })
  sell(byTable.till)
  await byTable.till.replica.synchronize()
  t.same(
    await byTable.codes(),
    [1, 4, 5, 6].map((id) => `[${id}] ERR_CLOSED_PERIOD`),
    'another shop is open',
  )
  await byTable.shop.pool.query("DELETE FROM closed_periods WHERE starts_on = '2026-01-01'")
  t.same(await byTable.shop.central.quarantine.retry({}), { released: 2, waiting: 2 })
  await byTable.shop.pool.query("INSERT INTO closed_periods VALUES (NULL, '2026-01-31', NULL), ('2027-01-01', NULL, NULL)")
  for (const [no, date] of Object.entries({ early: '1999-12-31', open: '2026-05-01', late: '2030-01-01' })) {
    const id = byTable.till.cashier.sell(no, [line('A')])
    byTable.till.db.prepare('UPDATE receipts SET business_date = ? WHERE id = ?').run(date, id)
    await byTable.till.replica.synchronize()
    t.equal((await byTable.codes()).includes(`[${id}] ERR_CLOSED_PERIOD`), no !== 'open', `${no}: a bound that is NULL is none`)
  }
  const everywhere = await scene(t, { receipts: openPeriod({ date: 'business_date', closed: table }) }, { schema: ITEMS })
  sell(everywhere.till)
  await everywhere.till.replica.synchronize()
  t.equal((await everywhere.codes()).length, 5)
})

t.test('what is no check is refused, and tables and columns that are not there', async (t) => {
  const database = postgres({ connect() {}, query() {} } as never)
  const make = (options: object) => () => createCentral({ database, subscribe: { receipts: MIRROR }, ...options } as never)
  for (const [what, options, code] of [
    ['no object', { validate: 7 }, 'ERR_OPTION'],
    ['no check', { validate: { receipts: 'x' } }, 'ERR_OPTION'],
    ['null in a list', { validate: { receipts: [null] } }, 'ERR_OPTION'],
    ['a table without handler', { validate: { orders: () => undefined } }, 'ERR_RULE'],
    ['a limit of nothing', { handlerTimeoutMs: 0 }, 'ERR_OPTION'],
    ['retry', { retry: { minMs: 100, maxMs: 50 } }, 'ERR_OPTION'],
    ['retry that nobody reads', { retry: { everyMs: 100 } }, 'ERR_OPTION'],
  ] as const)
    t.throws(make(options), { code }, what)
  t.throws(() => balanced({ header: 'a' }), { code: 'ERR_OPTION' })
  t.throws(() => balanced({ header: 'a', lines: {} }), { code: 'ERR_OPTION' })
  t.throws(() => balanced({ header: 'a', lines: { b: 'c' }, tolerance: '-1' }), { code: 'ERR_OPTION' })
  t.throws(() => balanced({ header: 'a', lines: { b: 'c' }, tolerance: 0.01 as never }), { code: 'ERR_OPTION' })
  t.throws(() => balanced({ header: 'a', lines: { b: 'c' }, round: 2 } as never), { code: 'ERR_OPTION' })
  t.throws(() => knownItems({ items: {}, in: { table: 'a', column: 'b' } }), { code: 'ERR_OPTION' })
  t.throws(() => knownItems({ items: { a: 'b' } } as never), { code: 'ERR_OPTION' })
  t.throws(() => openPeriod({ date: '', closed: () => true }), { code: 'ERR_OPTION' })
  t.throws(() => openPeriod({ date: 'd', closed: { table: 'x' } as never }), { code: 'ERR_OPTION' })
  const items = { receipt_lines: 'item_no' }
  for (const [check, code] of [
    [knownItems({ items, in: { table: 'nothing', column: 'item_no' } }), 'ERR_UNKNOWN_TABLE'],
    [knownItems({ items, in: { table: 'receipts', column: 'nothing' } }), 'ERR_UNKNOWN_COLUMN'],
    [openPeriod({ date: 'd', closed: { table: 'nothing', from: 'a', through: 'b' } }), 'ERR_UNKNOWN_TABLE'],
    [openPeriod({ date: 'd', closed: { table: 'receipts', from: 'id', through: 'b' } }), 'ERR_UNKNOWN_COLUMN'],
  ] as const)
    await t.rejects(openShop(t, server, { validate: { receipts: check } }), { code }, code)
})
