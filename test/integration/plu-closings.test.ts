import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type AnyDocument, createCentral, mirror, negate, pluClosings, stockMovements } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import {
  CLOSING_PUBLISH,
  CLOSING_TILL,
  ClosingCashier,
  closingOf,
  computed,
  lineOf,
  postedClosings,
  postedRows,
  READY_MADE,
  receiptLines,
} from '../support/closings.ts'
import { held } from '../support/held.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { openShop, type ShopOptions, type Till } from '../support/shop.ts'

t.setTimeout(180_000)
const server = await startServer(t)
const line = (item: string, quantity: string, net: string, more: object = {}) => ({ item, quantity, net, ...more })

async function openOffice(t: Parameters<typeof openShop>[0], subscribe: ShopOptions['subscribe'] = READY_MADE) {
  const shop = await openShop(t, server, { schema: '', subscribe: subscribe as NonNullable<ShopOptions['subscribe']> })
  const addTill = async (register = 'POS1', location = 'BA01') => {
    const till = await shop.addTill(register, { location, schema: CLOSING_TILL, publish: CLOSING_PUBLISH })
    return { till, cashier: new ClosingCashier(till.db) }
  }
  return { shop, addTill, ...(await addTill()) }
}

const sync = (till: Till) => till.replica.synchronize()

t.test('a closing that the till has made is posted with its lines, customers and anonymous apart', async (t) => {
  const { shop, till, cashier } = await openOffice(t)
  cashier.close(
    'Z-1',
    [
      line('A', '3', '30', { vat: '6' }),
      line('A', '1', '9', { customer: 'C1', vat: '1.80', discount: '1' }),
      line('A', '1', '10', { code: 'B', rate: '10', vat: '1' }),
      line('B', '-2', '-5', { vat: '-1' }),
      line('A', '2', '20', { vat: '4' }),
    ],
    { net: '64' },
  )
  await sync(till)
  t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-1: A A - 5 50, A A C1 1 9, A B - 1 10, B A - -2 -5'])
  const { rows } = await shop.pool.query(
    'SELECT quantity::text, return_quantity::text, discount_amount::text, net_amount::text, vat_amount::text, gross_amount::text FROM posted_plu_closings',
  )
  t.same(rows, [
    {
      quantity: '5.000000',
      return_quantity: '2.000000',
      discount_amount: '1.000000',
      net_amount: '64.000000',
      vat_amount: '11.800000',
      gross_amount: '75.800000',
    },
  ])
  const before = await postedRows(shop)
  await till.replica.export('plu_closings', (eb) => eb('id', '>', 0))
  await sync(till)
  t.same(await postedRows(shop), before, 're-exported, it posts nothing')
})

t.test('a changed closing adds a supplementary one with the difference, numbered, and the posted one stays', async (t) => {
  const { shop, till, cashier } = await openOffice(t)
  const id = cashier.close('Z-1', [line('A', '3', '30'), line('B', '1', '5')])
  cashier.close('Z-2', [line('A', '1', '10')])
  await sync(till)
  const before = await postedRows(shop)
  till.db.exec(
    `UPDATE plu_closing_lines SET quantity = '4', net_amount = '40' WHERE item_no = 'A' AND closing_id = ${id}; DELETE FROM plu_closing_lines WHERE item_no = 'B'`,
  )
  await sync(till)
  till.db.exec(`UPDATE plu_closings SET business_date = '2026-11-20' WHERE id = ${id}`)
  await sync(till)
  till.db.exec(`UPDATE plu_closings SET status = 'voided' WHERE id = ${id}`)
  await sync(till)
  t.same(await postedClosings(shop), [
    'BA01 1 2026-11-21 Z-1: A A - 3 30, B A - 1 5',
    'BA01 2 2026-11-21 Z-2: A A - 1 10',
    'BA01 3 adds to 1 as 1 2026-11-21 Z-1: A A - 1 10, B A - -1 -5',
    'BA01 4 adds to 1 as 2 2026-11-20 Z-1: A A - 4 40',
    'BA01 5 adds to 1 as 3 2026-11-21 Z-1: A A - -4 -40',
    'BA01 6 adds to 1 as 4 2026-11-20 Z-1: A A - -4 -40',
  ])
  const after = await postedRows(shop)
  t.ok(
    before.every((row) => after.includes(row)),
    'what was posted never changes',
  )
})

t.test('a till that sells from two warehouses has a closing in each, numbered by each', async (t) => {
  const { shop, till, cashier, addTill } = await openOffice(t)
  const other = await addTill('POS1', 'BA02')
  cashier.close('Z-1', [line('A', '3', '30'), line('B', '1', '5', { location: 'BA02' })])
  await sync(till)
  other.cashier.close('Z-1', [line('A', '1', '10')])
  await sync(other.till)
  cashier.close('Z-2', [line('B', '1', '5', { location: 'BA02' })])
  cashier.close('Z-3', [])
  await sync(till)
  t.same(await postedClosings(shop), [
    'BA01 1 2026-11-21 Z-1: A A - 3 30',
    'BA01 2 2026-11-21 Z-3: nothing',
    'BA02 1 2026-11-21 Z-1: B A - 1 5',
    'BA02 2 2026-11-21 Z-1: A A - 1 10',
    'BA02 3 2026-11-21 Z-2: B A - 1 5',
  ])
})

t.test('a closing whose lines do not sum up is held with a code, and others go on', async (t) => {
  const { shop, till, cashier } = await openOffice(t)
  const id = cashier.close('Z-1', [line('A', '3', '30')], { net: '31' })
  await held(t, shop, till, 'ERR_CLOSING')
  t.same(await postedClosings(shop), [])
  till.db.exec(`UPDATE plu_closings SET net_amount = '30.00' WHERE id = ${id}`)
  await sync(till)
  t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-1: A A - 3 30'])
})

t.test('with moveStock its lines move stock: closing quantity = − movements', async (t) => {
  const { shop, till, cashier } = await openOffice(t, { plu_closings: pluClosings({ closing: closingOf, line: lineOf, moveStock: true }) })
  const id = cashier.close('Z-1', [
    line('A', '3', '30'),
    line('A', '1', '8', { code: 'B' }),
    line('A', '1', '9', { customer: 'C1' }),
    line('B', '-2', '-5', { location: 'WH' }),
  ])
  await sync(till)
  till.db.exec(`UPDATE plu_closing_lines SET quantity = '2' WHERE net_amount = '30' AND closing_id = ${id}`)
  await sync(till)
  const { rows } = await shop.pool.query({
    text: 'SELECT item_no, location, business_date::text, document_no, customer_no, quantity::int, amount::int, table_name, revision::int FROM stock_movements ORDER BY movement_no',
    rowMode: 'array',
  })
  t.same(rows, [
    ['A', 'BA01', '2026-11-21', 'Z-1', null, -4, 38, 'plu_closings', 1],
    ['A', 'BA01', '2026-11-21', 'Z-1', 'C1', -1, 9, 'plu_closings', 1],
    ['B', 'WH', '2026-11-21', 'Z-1', null, 2, -5, 'plu_closings', 1],
    ['A', 'BA01', '2026-11-21', 'Z-1', null, 1, 0, 'plu_closings', 2],
  ])
  t.same((await shop.pool.query('SELECT item_no, location, quantity::int FROM stock_levels ORDER BY 1')).rows, [
    { item_no: 'A', location: 'BA01', quantity: -4 },
    { item_no: 'B', location: 'WH', quantity: 2 },
  ])
})

t.test('a closing is computed from the receipts of its range, by series, several a day', async (t) => {
  const { shop, till, cashier } = await openOffice(t, computed())
  cashier.sell('sale', 1, [line('A', '3', '30'), line('B', '1', '5')])
  cashier.sell('sale', 2, [line('A', '1', '10')], { customer: 'C1' })
  cashier.sell('return', 1, [line('A', '-1', '-10')])
  cashier.sell('sale', 3, [line('A', '9', '90')], { status: 'voided' })
  cashier.closeRange('Z-1', [1, 3], [1, 1])
  cashier.sell('sale', 4, [line('A', '1', '10')])
  cashier.closeRange('Z-2', [4, 4])
  cashier.closeRange('Z-3', null)
  await sync(till)
  t.same(await postedClosings(shop), [
    'BA01 1 2026-11-21 Z-1: A A - 2 20, A A C1 1 10, B A - 1 5',
    'BA01 2 2026-11-21 Z-2: A A - 1 10',
    'BA01 3 2026-11-21 Z-3: nothing',
  ])
  const { rows } = await shop.pool.query('SELECT ranges FROM posted_plu_closings ORDER BY closing_no')
  t.same(rows[0].ranges, [
    { series: 'sale', from: 1, through: 3 },
    { series: 'return', from: 1, through: 1 },
  ])
})

t.test('a late receipt, a corrected and a voided one add supplementary closings of the same date', async (t) => {
  const { shop, till, cashier } = await openOffice(t, computed(true))
  const first = cashier.sell('sale', 1, [line('A', '3', '30')])
  cashier.closeRange('Z-1', [1, 3])
  await sync(till)
  const before = await postedRows(shop)
  cashier.sell('sale', 2, [line('B', '1', '5')])
  await sync(till)
  till.db.exec(`UPDATE receipt_lines SET quantity = '4', net_amount = '40' WHERE receipt_id = ${first}`)
  await sync(till)
  till.db.exec(`UPDATE receipts SET status = 'voided' WHERE id = ${first}`)
  await sync(till)
  till.db.exec('UPDATE receipts SET number = 99 WHERE number = 2')
  await sync(till)
  await till.replica.export('receipts', (eb) => eb('id', '>', 0))
  await till.replica.export('plu_closings', (eb) => eb('id', '>', 0))
  await sync(till)
  t.same(await postedClosings(shop), [
    'BA01 1 2026-11-21 Z-1: A A - 3 30',
    'BA01 2 adds to 1 as 1 2026-11-21 Z-1: B A - 1 5',
    'BA01 3 adds to 1 as 2 2026-11-21 Z-1: A A - 1 10',
    'BA01 4 adds to 1 as 3 2026-11-21 Z-1: A A - -4 -40',
    'BA01 5 adds to 1 as 4 2026-11-21 Z-1: B A - -1 -5',
  ])
  const after = await postedRows(shop)
  t.ok(before.every((row) => after.includes(row)))
  t.same((await shop.pool.query('SELECT item_no, quantity::int FROM stock_levels ORDER BY 1')).rows, [
    { item_no: 'A', quantity: 0 },
    { item_no: 'B', quantity: 0 },
  ])
})

t.test('goods move once, however often moveStock is switched off and on', async (t) => {
  const made = (moveStock: boolean) => ({ plu_closings: pluClosings({ closing: closingOf, line: lineOf, moveStock }) })
  const receipts = stockMovements((receipt: AnyDocument, { location }) =>
    receiptLines(receipt).map(({ item, quantity }) => ({ item, location, businessDate: receipt.business_date, quantity: negate(quantity) })),
  )
  for (const rules of [made, computed]) {
    const office = await openOffice(t, rules(true))
    const { till, cashier } = office
    const { pool } = office.shop
    const at = async (subscribe: NonNullable<ShopOptions['subscribe']>) => {
      const { central, url } = await openShop(t, server, { pool, subscribe })
      const replica = till.again({ link: () => httpLink({ url, token: till.token }) })
      const clean = async () => (await central.reconcile({ location: 'BA01', businessDate: '2026-11-21' })).clean
      return { clean, replay: (table = 'plu_closings') => central.replay({ table }), send: () => replica.synchronize() }
    }
    const [on, off] = [await at(rules(true)), await at(rules(false))]
    const change = (quantity: string) =>
      till.db.exec(`UPDATE receipt_lines SET quantity = '${quantity}'; UPDATE plu_closing_lines SET quantity = '${quantity}'`)
    cashier.sell('sale', 1, [line('A', '3', '30')])
    if (rules === made) cashier.close('Z-1', [line('A', '3', '30')])
    else cashier.closeRange('Z-1', [1, 9])
    await on.send()
    t.equal(await office.shop.stock('A'), -3)
    t.match(await on.replay(), { postings: 0 })
    for (const quantity of ['4', '0', '3']) {
      change(quantity)
      await off.send()
      t.equal(await office.shop.stock('A'), 0, 'what does not move any more is taken back')
    }
    t.ok(await off.clean())
    t.notOk(await on.clean(), 'what should have moved is named')
    t.match(await on.replay(), { postings: 1, quarantined: 0 })
    t.match(await on.replay(), { postings: 0 })
    t.equal(await office.shop.stock('A'), -3)
    t.ok(await on.clean())
    t.notOk(await off.clean())
    t.match(await off.replay(), { postings: 1 })
    t.equal(await office.shop.stock('A'), 0)
    const byReceipts = await at({ ...rules(false), receipts })
    t.match(await byReceipts.replay('receipts'), { postings: 1 })
    t.match(await byReceipts.replay(), { postings: 0 }, 'closings leave alone what others have moved')
    t.ok(await byReceipts.clean())
    const byTwo = await at({
      plu_closings: [rules(false).plu_closings, stockMovements(() => [{ item: 'B', location: 'BA01', quantity: '1' }])] as never,
    })
    await byTwo.replay()
    t.match(await byTwo.replay(), { postings: 0 })
    t.equal(await office.shop.stock('B'), 1)
    await on.replay()
    t.equal(await office.shop.stock('B'), 0, 'what their other handler has moved is theirs')
    t.same((await postedClosings(office.shop)).length, 4, 'of closings nothing was posted by that')
    const { rows } = await pool.query(
      'SELECT item_no, quantity FROM stock_levels WHERE quantity <> (SELECT sum(quantity) FROM stock_movements m WHERE m.item_no = stock_levels.item_no)',
    )
    t.same(rows, [])
  }
})

t.test('goods move once: by receipts, or by closings', async (t) => {
  const database = postgres(await createPool(t, server))
  const moves = stockMovements(() => [])
  const closing = { closing: closingOf, line: lineOf }
  const make = (subscribe: object) => () => createCentral({ database, subscribe: subscribe as never })
  t.throws(make({ receipts: moves, plu_closings: pluClosings({ ...closing, moveStock: true }) }), { code: 'ERR_POSTED_TWICE' })
  t.throws(make({ plu_closings: pluClosings({ ...closing, moveStock: true }), receipts: [mirror(), moves] }), { code: 'ERR_POSTED_TWICE' })
  t.throws(make({ plu_closings: [pluClosings({ ...closing, moveStock: true }), moves] }), { code: 'ERR_POSTED_TWICE' })
  t.throws(make({ receipts: moves, ...computed(true) }), { code: 'ERR_POSTED_TWICE' })
  t.throws(make({ receipts: moves, plu_closings: pluClosings({ ...closing, receipts: 'receipts', moveStock: true }) }), { code: 'ERR_POSTED_TWICE' })
  t.doesNotThrow(make({ receipts: moves, ...computed(false) }))
  t.doesNotThrow(make({ deliveries: moves, ...computed(true) }))
  t.doesNotThrow(make({ deliveries: moves, plu_closings: pluClosings({ ...closing, receipts: 'receipts', moveStock: true }) }))
  t.doesNotThrow(
    make({
      receipts: stockMovements(() => [], { post: { table: 'x', row: () => ({}) } }),
      plu_closings: pluClosings({ ...closing, moveStock: true }),
    }),
  )
})
