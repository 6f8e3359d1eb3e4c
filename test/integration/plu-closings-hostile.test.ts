import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import {
  type AnyDocument,
  type AnyTables,
  type PluClosingsOptions,
  type PublishRules,
  pluClosings,
  type SubscribeRules,
  stockMovements,
} from '../../src/index.ts'
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
  rangesOf,
  receiptLines,
} from '../support/closings.ts'
import { held, tryAgain, waiting } from '../support/held.ts'
import { startServer } from '../support/postgres.ts'
import { refused } from '../support/refused.ts'
import { openShop, type Shop, type TillOptions } from '../support/shop.ts'
import { Machine } from '../support/world.ts'

t.setTimeout(180_000)
const server = await startServer(t)
const line = (item: string, quantity: string, net: string, more: object = {}) => ({ item, quantity, net, ...more })

async function openOffice(t: Parameters<typeof openShop>[0], subscribe: object = computed(), options: TillOptions = {}) {
  const shop = await openShop(t, server, { schema: '', subscribe: subscribe as SubscribeRules<AnyDocument> })
  const addTill = async (register = 'POS1', location = 'BA01') => {
    const till = await shop.addTill(register, { location, schema: CLOSING_TILL, publish: CLOSING_PUBLISH, ...options })
    return { till, cashier: new ClosingCashier(till.db), sync: () => till.replica.synchronize() }
  }
  return { shop, addTill, ...(await addTill()) }
}

/** Puts a document that was applied there, as if it could not be. */
function quarantine({ pool }: Pick<Shop, 'pool'>, recordId: string) {
  return pool.query(
    `INSERT INTO sync_quarantine (register_id, table_name, record_id, incarnation, epoch_no, entry_no, entries, state, code, message, cause, attempts, quarantined_at, tried_at, retry_at)
     SELECT register_id, table_name, record_id, incarnation, epoch_no, entry_no, entries, 'waiting', 'ERR_HANDLER', 'x', 'other', 1, now(), now(), 'infinity'
     FROM sync_documents WHERE table_name = 'receipts' AND record_id = $1`,
    [recordId],
  )
}

t.test('a closing waits for a receipt of its range that is in quarantine, and is posted by what comes next', async (t) => {
  const { shop, cashier, sync } = await openOffice(t)
  const id = cashier.sell('sale', 1, [line('A', '3', '30')])
  cashier.sell('sale', 2, [line('B', '1', '5')])
  cashier.sell('return', 2, [line('B', '-1', '-5')])
  await sync()
  await quarantine(shop, `[${id}]`)
  cashier.closeRange('Z-1', [1, 1], [1, 1])
  cashier.closeRange('Z-2', [2, 2], [2, 2])
  await sync()
  t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-2: B A - 0 0'], 'the other one is posted')
  t.match(await shop.central.waitingClosings(), [
    {
      location: 'BA01',
      register: 'POS1',
      table: 'plu_closings',
      recordId: '[1]',
      businessDate: '2026-11-21',
      document: 'Z-1',
      waits: { why: 'quarantined', receipts: ['[1]'] },
    },
  ])
  t.same(await shop.central.waitingClosings({ register: 'POS9' }), [])
  for (const { id } of await shop.central.quarantine.list()) await shop.central.quarantine.discard(id, { reason: 'a test' })
  t.same((await postedClosings(shop))[1], 'BA01 2 2026-11-21 Z-1: A A - 3 30', 'though nothing else comes')
  t.same(await shop.central.waitingClosings(), [])
})

t.test('a closing that was left open by who tried many receipts again, and ended, is posted when central starts', async (t) => {
  const { shop, cashier, sync } = await openOffice(t)
  const id = cashier.sell('sale', 1, [line('A', '3', '30')])
  await sync()
  await quarantine(shop, `[${id}]`)
  cashier.closeRange('Z-1', [1, 1])
  await sync()
  t.match(await shop.central.waitingClosings(), [{ document: 'Z-1', waits: { why: 'quarantined' } }])
  // As it stands between two turns.
  await shop.pool.query('DELETE FROM sync_quarantine; UPDATE sync_open_closings SET waits = NULL')
  await shop.central.start()
  const deadline = Date.now() + 20_000
  while ((await postedClosings(shop)).length === 0 && Date.now() < deadline) await sleep(20)
  t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-1: A A - 3 30'])
})

t.test('a closing waits for a receipt that the till can’t read, and is posted when it can, or it is gone', async (t) => {
  // abs() raises where there is no such positive integer.
  const where: NonNullable<PublishRules<AnyTables>['receipts']>['where'] = (eb) => eb(eb.fn('abs', ['number']), '>=', 0)
  for (const mend of ['UPDATE receipts SET number = 2 WHERE number < 0', 'DELETE FROM receipts WHERE number < 0']) {
    const { shop, till, cashier, sync } = await openOffice(t, computed(), { publish: { ...CLOSING_PUBLISH, receipts: { where } } })
    cashier.sell('sale', 1, [line('A', '1', '10')])
    till.db.exec("INSERT INTO receipts (series, number, business_date) VALUES ('sale', -9223372036854775808, '2026-11-21')")
    cashier.closeRange('Z-1', [1, 2])
    await sync()
    t.match((await till.replica.status()).parked, [{ table: 'receipts', code: 'ERR_FILTER' }])
    t.same(await postedClosings(shop), [])
    t.match(await shop.central.waitingClosings(), [{ document: 'Z-1', waits: { why: 'parked', receipts: ['[2]'] } }])
    till.db.exec(mend)
    await sync()
    t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-1: A A - 1 10'], mend)
    t.same(await shop.central.waitingClosings(), [])
  }
})

t.test('a receipt of which nobody can say where it belongs holds every closing', async (t) => {
  const { shop, till, cashier, sync } = await openOffice(t)
  cashier.sell('sale', 1, [line('A', '3', '30')])
  till.db.exec("INSERT INTO receipts (series, number, business_date) VALUES ('sale', 2.5, '2026-11-21')")
  await held(t, shop, till, 'ERR_CLOSING', 'no integer')
  cashier.closeRange('Z-1', [1, 1])
  await sync().catch(() => undefined)
  t.same(await postedClosings(shop), [])
  till.db.exec('UPDATE receipts SET number = 2 WHERE number = 2.5')
  await sync()
  t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-1: A A - 3 30'])
})

t.test('numbers and series are columns of a kind: text, doubles and times are refused', async (t) => {
  const wrong: Record<string, object> = {
    'text in a range': { ranges: [{ series: 'sale', from: '1', through: '9' }] },
    'a double in a range': { ranges: [{ series: 'sale', from: 1.5, through: 9 }] },
    'a date in a range': { ranges: [{ series: 'sale', from: new Date(0), through: new Date(1) }] },
    'a range that ends before it begins': { ranges: [{ series: 'sale', from: 9, through: 1 }] },
    'a range without an end': { ranges: [{ series: 'sale', from: 1, through: null }] },
    'no ranges': { ranges: undefined },
    'ranges that overlap': {
      ranges: [
        { series: 'sale', from: 1, through: 5 },
        { series: 'sale', from: 5, through: 9 },
      ],
    },
    'a number of 65 bits': { ranges: [{ from: 1, through: 2n ** 63n }] },
    'a field that nobody reads': { range: [] },
    'no date': { businessDate: null },
    'no day': { businessDate: '2026-02-30' },
    'no warehouse': { location: '' },
    'a total that is no decimal': { netAmount: '1,00' },
    'a number that is an object': { document: {} },
  }
  let other: object = {}
  const { shop, till, cashier } = await openOffice(t, {
    plu_closings: pluClosings({
      closing: (closing: AnyDocument) => ({
        location: 'BA01',
        businessDate: closing.business_date,
        ranges: [{ series: 'sale', from: 1, through: 9 }],
        ...other,
      }),
      receipts: { table: 'receipts', number: 'number', series: 'series', lines: receiptLines },
    }),
  })
  for (const [name, wrongOne] of Object.entries(wrong)) {
    other = wrongOne
    const id = cashier.closeRange(name, [1, 1])
    await held(t, shop, till, 'ERR_CLOSING', name)
    t.equal((await waiting(shop))[0], `[${id}]`, `${name}: it is this one that waits`)
    t.same(await postedClosings(shop), [], name)
  }
})

t.test('lines that are none are refused with a code', async (t) => {
  const good = { item: 'A', quantity: '1', netAmount: '1' }
  const wrong: Record<string, unknown> = {
    'a promise': Promise.resolve(good),
    'a list': [good],
    'no item': { ...good, item: null },
    'no quantity': { item: 'A', netAmount: '1' },
    'no net amount': { item: 'A', quantity: '1' },
    'a quantity that is no decimal': { ...good, quantity: '١' },
    'a rate that is no decimal': { ...good, vatRate: '20 %' },
    'seven places': { ...good, vatAmount: '0.0000001' },
    'a misspelt field': { ...good, vat: '1' },
    'an empty warehouse': { ...good, location: '' },
    'NUL in a name': { ...good, customer: 'a\0b' },
    'a throw': () => {
      throw new Error('secret')
    },
  }
  let value: unknown
  const { shop, till, cashier } = await openOffice(t, {
    plu_closings: pluClosings({ closing: closingOf, line: () => (typeof value === 'function' ? value() : value) as never }),
  })
  cashier.close('Z-1', [line('A', '1', '1')])
  for (const [name, wrongOne] of Object.entries(wrong)) {
    value = wrongOne
    await held(t, shop, till, name === 'a throw' ? 'ERR_HANDLER' : 'ERR_CLOSING', name)
    till.db.exec("UPDATE plu_closings SET closing_no = closing_no || 'x'")
  }
  t.same(await postedClosings(shop), [])
  value = null
  await tryAgain(shop, till)
  t.match(await postedClosings(shop), [/: nothing$/], 'null is no line')
})

t.test('each receipt belongs to one closing: a closing whose receipts another one has waits for them', async (t) => {
  const { shop, till, cashier, sync } = await openOffice(t)
  for (let n = 1; n <= 6; n++) cashier.sell('sale', n, [line('A', '1', '10')])
  const first = cashier.closeRange('Z-1', [1, 4])
  await sync()
  const second = cashier.closeRange('Z-2', [4, 6])
  await sync()
  t.match(await shop.central.waitingClosings(), [{ document: 'Z-2', waits: { why: 'taken', table: 'plu_closings', recordId: `[${first}]` } }])
  t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-1: A A - 4 40'])
  till.db.exec(`UPDATE plu_closings SET first_sale = 5 WHERE id = ${second}`)
  await sync()
  // Receipt 4 moves from the one to the other, both ways, in one batch.
  till.db.exec(`UPDATE plu_closings SET first_sale = 4 WHERE id = ${second}`)
  till.db.exec(`UPDATE plu_closings SET last_sale = 3 WHERE id = ${first}`)
  await sync()
  t.same(await postedClosings(shop), [
    'BA01 1 2026-11-21 Z-1: A A - 4 40',
    'BA01 2 2026-11-21 Z-2: A A - 2 20',
    'BA01 3 adds to 2 as 1 2026-11-21 Z-2: A A - 1 10',
    'BA01 4 adds to 1 as 1 2026-11-21 Z-1: A A - -1 -10',
  ])
  till.db.exec(`UPDATE plu_closings SET status = 'voided' WHERE id = ${first}`)
  await sync()
  cashier.closeRange('Z-3', [1, 3])
  await sync()
  t.same(await shop.central.waitingClosings(), [])
  t.same((await postedClosings(shop)).slice(4), ['BA01 5 adds to 1 as 2 2026-11-21 Z-1: A A - -3 -30', 'BA01 6 2026-11-21 Z-3: A A - 3 30'])
})

t.test('a closing that can’t have what it wants keeps what it had: nobody else posts that meanwhile', async (t) => {
  const { shop, till, cashier, sync } = await openOffice(t)
  for (let n = 1; n <= 6; n++) cashier.sell('sale', n, [line('A', '1', '10')])
  const first = cashier.closeRange('Z-1', [1, 2])
  const second = cashier.closeRange('Z-2', [3, 4])
  await sync()
  const posted = ['BA01 1 2026-11-21 Z-1: A A - 2 20', 'BA01 2 2026-11-21 Z-2: A A - 2 20']
  const waits = async () =>
    (await shop.central.waitingClosings()).map(({ document, waits }) => [document, waits.why, 'recordId' in waits && waits.recordId])
  till.db.exec(`UPDATE plu_closings SET first_sale = 3, last_sale = 4 WHERE id = ${first}`)
  cashier.closeRange('Z-3', [1, 2])
  await sync()
  t.same(await postedClosings(shop), posted)
  t.same(await waits(), [
    ['Z-1', 'taken', `[${second}]`],
    ['Z-3', 'taken', `[${first}]`],
  ])
  till.db.exec(`UPDATE plu_closings SET first_sale = 5, last_sale = 6 WHERE id = ${second}`)
  await sync()
  t.same(await waits(), [])
  t.same(await postedClosings(shop), [...posted, 'BA01 3 2026-11-21 Z-3: A A - 2 20'], 'of the others the sums are the same')
  await t.test('as one that waits for a receipt in quarantine does', async (t) => {
    till.db.exec(`UPDATE receipt_lines SET quantity = 'x' WHERE receipt_id = 3`)
    await sync()
    till.db.exec(`UPDATE plu_closings SET last_sale = 3 WHERE id = ${first}`)
    cashier.closeRange('Z-4', [4, 4])
    await sync()
    t.same(await waits(), [
      ['Z-1', 'quarantined', false],
      ['Z-4', 'taken', `[${first}]`],
    ])
    t.equal((await postedClosings(shop)).length, 3)
    till.db.exec(`UPDATE receipt_lines SET quantity = '1' WHERE receipt_id = 3`)
    await sync()
    t.same(await waits(), [])
    t.same((await postedClosings(shop)).slice(3), ['BA01 4 adds to 1 as 1 2026-11-21 Z-1: A A - -1 -10', 'BA01 5 2026-11-21 Z-4: A A - 1 10'])
  })
})

t.test('totals of the till are a control of what is computed: it waits for what is missing', async (t) => {
  const { shop, till, cashier, sync } = await openOffice(t)
  cashier.sell('sale', 1, [line('A', '1', '10')])
  const open = cashier.sell('sale', 2, [line('A', '1', '10')], { status: 'open' })
  cashier.closeRange('Z-1', [1, 2], null, { net: '20' })
  await sync()
  t.same(await postedClosings(shop), [])
  t.match(await shop.central.waitingClosings(), [{ waits: { why: 'totals', totals: ['netAmount'] } }])
  till.db.exec(`UPDATE receipts SET status = 'posted' WHERE id = ${open}`)
  await sync()
  t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-1: A A - 2 20'])
  till.db.exec(`UPDATE receipts SET status = 'voided' WHERE id = ${open}`)
  await sync()
  t.same((await postedClosings(shop))[1], 'BA01 2 adds to 1 as 1 2026-11-21 Z-1: A A - -1 -10', 'once it is posted, corrections are posted')
})

t.test('removals are ignored, or taken back where that is asked for; a key used again is another document', async (t) => {
  for (const removals of ['ignore', 'apply'] as const) {
    const rule = (computed() as { plu_closings: unknown }).plu_closings
    const subscribe =
      removals === 'ignore'
        ? { plu_closings: rule }
        : {
            plu_closings: pluClosings({
              closing: (closing: AnyDocument, origin) => ({
                ...(closingOf(closing, origin) as NonNullable<ReturnType<typeof closingOf>>),
                ranges: rangesOf(closing),
              }),
              receipts: { table: 'receipts', number: 'number', series: 'series', lines: receiptLines },
              removals,
            }),
          }
    const { shop, till, cashier, sync } = await openOffice(t, subscribe)
    const receipt = cashier.sell('sale', 1, [line('A', '1', '10')])
    cashier.sell('sale', 2, [line('B', '1', '5')])
    const closing = cashier.closeRange('Z-1', [1, 2])
    await sync()
    till.db.exec(`DELETE FROM receipts WHERE id = ${receipt}`)
    await sync()
    till.db.exec(`DELETE FROM receipts; DELETE FROM plu_closings WHERE id = ${closing}`)
    await sync()
    const first = ['BA01 1 2026-11-21 Z-1: A A - 1 10, B A - 1 5']
    const back = ['BA01 2 adds to 1 as 1 2026-11-21 Z-1: A A - -1 -10', 'BA01 3 adds to 1 as 2 2026-11-21 Z-1: B A - -1 -5']
    t.same(await postedClosings(shop), removals === 'ignore' ? first : [...first, ...back], removals)
    t.equal(cashier.sell('sale', 3, [line('C', '1', '1')]), receipt, 'the till hands out its keys again')
    t.equal(cashier.closeRange('Z-2', [3, 3]), closing)
    await sync()
    t.same((await postedClosings(shop)).at(-1), `BA01 ${removals === 'ignore' ? 2 : 4} 2026-11-21 Z-2: C A - 1 1`, removals)
  }
})

t.test('a till that is restored from a backup closes again, and nothing is doubled', async (t) => {
  const { shop, till, cashier, sync } = await openOffice(t, computed(true), {
    publish: { ...CLOSING_PUBLISH, receipts: { identity: ['series', 'number', 'customer_no'] }, plu_closings: { identity: ['closing_no'] } } as never,
  })
  const machine = new Machine(t, till)
  cashier.sell('sale', 1, [line('A', '1', '10')])
  await sync()
  const backup = machine.backup()
  cashier.sell('sale', 2, [line('A', '2', '20')])
  cashier.closeRange('Z-1', [1, 2])
  await sync()
  const before = await postedRows(shop)
  await machine.restore(backup)
  const again = new ClosingCashier(machine.db)
  again.sell('sale', 2, [line('A', '2', '20')])
  again.sell('sale', 3, [line('A', '5', '50')])
  again.closeRange('Z-1', [1, 3])
  await machine.replica.synchronize()
  t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-1: A A - 3 30', 'BA01 2 adds to 1 as 1 2026-11-21 Z-1: A A - 5 50'])
  const after = await postedRows(shop)
  t.ok(before.every((row) => after.includes(row)))
  t.same((await shop.pool.query('SELECT quantity::int FROM stock_levels')).rows, [{ quantity: -8 }])
})

t.test('an orphaned receipt stays in its closing until it is withdrawn; an orphaned closing frees its range', async (t) => {
  const { shop, till, cashier, sync } = await openOffice(t, computed(true), {
    publish: { ...CLOSING_PUBLISH, receipts: { identity: ['number', 'series'] }, plu_closings: { identity: ['closing_no'] } } as never,
  })
  const machine = new Machine(t, till)
  cashier.sell('sale', 1, [line('A', '1', '10')])
  await sync()
  const backup = machine.backup()
  cashier.sell('sale', 2, [line('A', '2', '20')])
  cashier.closeRange('Z-1', [1, 2])
  await sync()
  await machine.restore(backup)
  await machine.replica.synchronize()
  const orphans = await shop.central.orphans.list()
  t.same(orphans.map(({ table }) => table).sort(), ['plu_closings', 'receipts'])
  t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-1: A A - 3 30'], 'it stays posted')
  const idOf = (table: string) => orphans.find((orphan) => orphan.table === table)?.id as number
  await shop.central.orphans.withdraw(idOf('receipts'), { reason: 'never handed over' })
  t.same((await postedClosings(shop))[1], 'BA01 2 adds to 1 as 1 2026-11-21 Z-1: A A - -2 -20')
  await shop.central.orphans.withdraw(idOf('plu_closings'), { reason: 'closed again as Z-2' })
  t.same((await postedClosings(shop))[2], 'BA01 3 adds to 1 as 2 2026-11-21 Z-1: A A - -1 -10')
  new ClosingCashier(machine.db).closeRange('Z-2', [1, 1])
  await machine.replica.synchronize()
  t.same((await postedClosings(shop))[3], 'BA01 4 2026-11-21 Z-2: A A - 1 10')
  t.same((await shop.pool.query('SELECT quantity::int FROM stock_levels')).rows, [{ quantity: -1 }])
})

t.test('what the host had closed before the register published counts as posted', async (t) => {
  for (const subscribe of [READY_MADE, computed()]) {
    const { shop, addTill } = await openOffice(t, subscribe)
    const fill = `${CLOSING_TILL}; INSERT INTO receipts (series, number, business_date) VALUES ('sale', 1, '2026-11-20');
      INSERT INTO receipt_lines (receipt_id, item_no, vat_code, vat_rate, quantity, net_amount, vat_amount) VALUES (1, 'A', 'A', '20', '3', '30', '6');
      INSERT INTO plu_closings (closing_no, business_date, first_sale, last_sale) VALUES ('Z-0', '2026-11-20', 1, 1);
      INSERT INTO plu_closing_lines (closing_id, item_no, vat_code, vat_rate, quantity, net_amount, vat_amount) VALUES (1, 'A', 'A', '20', '3', '30', '6')`
    const till = await shop.addTill('POS2', { schema: fill, publish: CLOSING_PUBLISH })
    await till.replica.synchronize()
    t.same(await postedClosings(shop), [])
    till.db.exec("UPDATE receipt_lines SET quantity = '4', net_amount = '40'; UPDATE plu_closing_lines SET quantity = '4', net_amount = '40'")
    till.db.exec("UPDATE plu_closings SET status = 'corrected'")
    await till.replica.synchronize()
    const { rows } = await shop.pool.query('SELECT closing_no::int, supplements, supplement_no::int FROM posted_plu_closings')
    t.same(rows, [{ closing_no: 1, supplements: null, supplement_no: 1 }], 'it adds to what has no number here')
    t.match(await postedClosings(shop), [/ 2026-11-20 Z-0: A A - 1 10$/])
    t.ok(addTill)
  }
})

t.test('registers of one warehouse close side by side: numbers without a gap', async (t) => {
  const { shop, till, addTill } = await openOffice(t, computed(true))
  await shop.pool.query(
    `ALTER DATABASE ${(await shop.pool.query('SELECT current_database() AS name')).rows[0].name} SET default_transaction_isolation = 'repeatable read'`,
  )
  const tills = [{ till, cashier: new ClosingCashier(till.db) }]
  for (let n = 2; n <= 5; n++) tills.push(await addTill(`POS${n}`))
  for (let day = 1; day <= 4; day++) {
    for (const { cashier } of tills) {
      for (let n = 1; n <= 5; n++)
        cashier.sell('sale', day * 10 + n, [line('A', '1', '10', { location: n % 2 ? 'BA01' : 'WH' }), line('B', '1', '1')], {
          date: `2026-11-0${day}`,
        })
      cashier.closeRange(`Z-${day}`, [day * 10 + 1, day * 10 + 5], null, { date: `2026-11-0${day}` })
    }
    await Promise.all(tills.map(({ till }) => till.replica.synchronize()))
  }
  const { rows } = await shop.pool.query(
    'SELECT location, count(*)::int, min(closing_no)::int, max(closing_no)::int, sum(quantity)::int AS quantity FROM posted_plu_closings GROUP BY 1 ORDER BY 1',
  )
  t.same(rows, [
    { location: 'BA01', count: 20, min: 1, max: 20, quantity: 20 * 8 },
    { location: 'WH', count: 20, min: 1, max: 20, quantity: 20 * 2 },
  ])
  t.same((await shop.pool.query('SELECT sum(quantity)::int FROM stock_levels')).rows, [{ sum: -200 }])
})

t.test('posted closings are recalled by number, date and register, with totals of all', async (t) => {
  const { shop, cashier, sync, addTill } = await openOffice(t)
  const other = await addTill('POS2')
  const away = await addTill('POS1', 'BA02')
  for (let day = 1; day <= 3; day++) {
    cashier.sell('sale', day, [line('A', '1.5', '10', { vat: '2' })], { date: `2026-11-0${day}` })
    cashier.closeRange(`Z-${day}`, [day, day], null, { date: `2026-11-0${day}T20:00:00` })
  }
  await sync()
  other.cashier.sell('return', 1, [line('B', '-1', '-3')])
  other.cashier.closeRange('X-1', null, [1, 1])
  await other.sync()
  away.cashier.sell('sale', 1, [line('B', '1', '3', { location: 'BA01' })])
  away.cashier.closeRange('Y-1', [1, 1])
  await away.sync()
  const numbers = async (which: object) => (await shop.central.closings({ location: 'BA01', ...which })).closings.map(({ closingNo }) => closingNo)
  t.same(await numbers({}), [1, 2, 3, 4, 5])
  t.same(await numbers({ businessDate: '2026-11-02' }), [2])
  t.same(await numbers({ businessDate: { from: '2026-11-02', through: '2026-11-03' } }), [2, 3])
  t.same(await numbers({ closingNo: { from: 4 } }), [4, 5])
  t.same(await numbers({ closingNo: 3 }), [3])
  t.same(await numbers({ register: 'POS2' }), [4])
  t.same(await numbers({ register: { location: 'BA02', register: 'POS1' } }), [5])
  t.same(await numbers({ after: 1, limit: 2 }), [2, 3])
  const { closings, totals } = await shop.central.closings({ location: 'BA01', limit: 1 })
  t.match(closings, [
    {
      location: 'BA01',
      closingNo: 1,
      businessDate: '2026-11-01',
      document: 'Z-1',
      supplements: null,
      supplementNo: 0,
      ranges: [{ series: 'sale', from: 1, through: 1 }],
      register: { location: 'BA01', register: 'POS1' },
      table: 'plu_closings',
      recordId: '[1]',
      quantity: '1.500000',
      grossAmount: '12.000000',
      postedAt: /^\d{4}-\d\d-\d\dT/,
      lines: [
        {
          lineNo: 1,
          item: 'A',
          vatCode: 'A',
          vatRate: '20.000000',
          customer: null,
          quantity: '1.500000',
          netAmount: '10.000000',
          vatAmount: '2.000000',
        },
      ],
    },
  ])
  t.same(totals, {
    closings: 5,
    quantity: '4.500000',
    returnQuantity: '1.000000',
    discountAmount: '0.000000',
    netAmount: '30.000000',
    vatAmount: '6.000000',
    grossAmount: '36.000000',
  })
  t.same(await shop.central.closings({ location: 'nowhere' }).then((found) => [found.closings, found.totals.closings]), [[], 0])
  for (const wrong of [
    {},
    { location: 5 },
    { location: 'x', date: 1 },
    { location: 'x', businessDate: '21.11.2026' },
    { location: 'x', businessDate: { to: 'x' } },
    { location: 'x', closingNo: 0 },
    { location: 'x', limit: 0 },
    { location: 'x', register: 5 },
  ])
    await refused(t, () => shop.central.closings(wrong as never), 'ERR_OPTION', JSON.stringify(wrong))
  const plain = await openShop(t, server, { schema: '', subscribe: {} })
  await refused(t, () => plain.central.closings({ location: 'BA01' }), 'ERR_OPTION', 'where nothing posts closings')
})

t.test('options that are none are refused', async (t) => {
  const closing = { closing: closingOf, line: lineOf }
  const receipts = { table: 'receipts', number: 'number', lines: receiptLines }
  const wrong: object[] = [
    {},
    { closing: closingOf },
    { line: lineOf },
    { ...closing, receipts },
    { closing: closingOf, receipts: 'receipts' },
    { closing: closingOf, receipts: null },
    { closing: closingOf, receipts: { ...receipts, number: 5 } },
    { closing: closingOf, receipts: { ...receipts, series: '' } },
    { closing: closingOf, receipts: { ...receipts, lines: undefined } },
    { closing: closingOf, receipts: { ...receipts, from: 1 } },
    { closing: closingOf, receipts, lines: 'plu_closing_lines' },
    { ...closing, lines: 5 },
    { ...closing, moveStock: 'yes' },
    { ...closing, removals: 'keep' },
    { ...closing, scale: { net: 2 } },
    { ...closing, more: 1 },
  ]
  for (const options of wrong)
    t.throws(() => pluClosings(options as PluClosingsOptions<AnyDocument>), { code: 'ERR_OPTION' }, JSON.stringify(options))
  t.throws(() => pluClosings(undefined as never), { code: 'ERR_OPTION' })
})

t.test('a closing with several part tables names the one with its lines', async (t) => {
  const publish = { ...CLOSING_PUBLISH, receipts: { partOf: { plu_closings: { id: 'id' } } }, receipt_lines: undefined } as never
  const { shop, till, cashier } = await openOffice(t, READY_MADE, { publish })
  cashier.close('Z-1', [line('A', '1', '1')])
  await held(t, shop, till, 'ERR_CLOSING')
  const named = await openOffice(t, { plu_closings: pluClosings({ closing: closingOf, line: lineOf, lines: 'plu_closing_lines' }) }, { publish })
  named.cashier.close('Z-1', [line('A', '1', '1')])
  await named.sync()
  t.same(await postedClosings(named.shop), ['BA01 1 2026-11-21 Z-1: A A - 1 1'])
})

t.test('with a scale, gross is net and VAT as they are posted, whatever the digits of the till', async (t) => {
  const { shop, cashier, sync } = await openOffice(t, { plu_closings: pluClosings({ closing: closingOf, line: lineOf, scale: 2 }) })
  cashier.close('Z-1', [
    line('A', '1', '1.005', { vat: '0.205' }),
    line('B', '1', '1.12345678', { vat: '0.2246913560' }),
    line('C', '-0.00500000049', '-1.015', { vat: '-0.215' }),
  ])
  await sync()
  t.same(await waiting(shop), [], 'nothing is refused')
  const { closings } = await shop.central.closings({ location: 'BA01' })
  const lines = closings[0]?.lines.map(({ item, quantity, returnQuantity, netAmount, vatAmount, grossAmount }) =>
    [item, ...[quantity, returnQuantity, netAmount, vatAmount, grossAmount].map(Number)].join(' '),
  )
  t.same(lines, ['A 1 0 1 0.2 1.2', 'B 1 0 1.12 0.22 1.34', 'C -0.01 0.01 -1.02 -0.22 -1.24'])
})

t.test('ranges of numbers that no double holds are told as they are', async (t) => {
  const { shop, cashier, sync } = await openOffice(t)
  const [first, last] = [2n ** 53n + 1n, 2n ** 63n - 1n]
  cashier.db.exec(
    `INSERT INTO receipts (id, series, number, business_date) VALUES (1, 'sale', ${first}, '2026-11-21'), (2, 'sale', ${last}, '2026-11-21')`,
  )
  for (const receipt of [1, 2]) cashier.addLine(receipt, line('A', '1', '10'))
  cashier.db.exec(`INSERT INTO plu_closings (closing_no, business_date, first_sale, last_sale) VALUES ('Z-1', '2026-11-21', ${first}, ${last})`)
  await sync()
  t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-1: A A - 2 20'])
  const { closings } = await shop.central.closings({ location: 'BA01' })
  t.same(closings[0]?.ranges, [{ series: 'sale', from: first, through: last }])
})

t.test('a removal in quarantine holds the closing of its receipt, and no other', async (t) => {
  let isRefused = false
  const post = async () => {
    if (isRefused) throw new Error('the ledger is closed')
  }
  const closing = (one: AnyDocument, origin: { readonly location: string }) => {
    const known = closingOf(one, origin)
    return known && { ...known, ranges: rangesOf(one) }
  }
  const { shop, cashier, sync } = await openOffice(t, {
    receipts: stockMovements((receipt: AnyDocument) => [{ item: 'A', location: 'BA01', quantity: '-1', document: String(receipt.number) }], {
      removals: 'apply',
      post,
    }),
    plu_closings: pluClosings({
      closing,
      receipts: { table: 'receipts', number: 'number', series: 'series', lines: receiptLines },
      removals: 'apply',
    }),
  })
  const ids = [1, 2].map((number) => cashier.sell('sale', number, [line('A', '1', '10')]))
  cashier.closeRange('Z-1', [1, 1])
  await sync()
  isRefused = true
  cashier.db.prepare('DELETE FROM receipts WHERE id = ?').run(ids[0])
  await sync()
  t.same(await waiting(shop), [`[${ids[0]}]`])
  isRefused = false
  cashier.closeRange('Z-2', [2, 2])
  cashier.db.exec("UPDATE plu_closings SET business_date = '2026-11-22' WHERE closing_no = 'Z-1'")
  await sync()
  const waits = (await shop.central.waitingClosings()).map(({ document, waits }) => [document, waits])
  t.same(waits, [['Z-1', { why: 'quarantined', receipts: [`[${ids[0]}]`] }]])
})

t.test('names that no index holds keep their closing or receipt in quarantine, and nothing else', async (t) => {
  const long = Array.from({ length: 4_000 }, (_, n) => String.fromCodePoint(0x4e00 + ((n * 7_919) % 20_000))).join('')
  const closing = (one: AnyDocument, origin: { readonly location: string }) => {
    const known = closingOf(one, origin)
    const ranges = one.closing_no === 'series' ? [{ series: long, from: 1, through: 2 }] : rangesOf(one)
    return known && { ...known, ranges, ...(one.closing_no === 'location' && { location: long }) }
  }
  const lines = (receipt: AnyDocument) => receiptLines(receipt).map((one) => ({ ...one, ...(one.item === 'long' && { item: long }) }))
  const receipts = { table: 'receipts', number: 'number', series: 'series', lines }
  const { shop, cashier, sync } = await openOffice(t, { plu_closings: pluClosings({ closing, receipts, moveStock: true }) })
  for (const [n, item] of ['A', 'long', 'B'].entries()) cashier.sell('sale', n + 1, [line(item, '1', '10')])
  cashier.sell('sale', 4, [line('C', '1', '10', { location: long })])
  for (const no of ['series', 'location']) cashier.closeRange(no, [1, 1])
  cashier.closeRange('Z-1', [1, 1])
  await sync()
  cashier.closeRange('Z-2', [3, 3])
  await sync()
  t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-1: A A - 1 10', 'BA01 2 2026-11-21 Z-2: B A - 1 10'])
  const held = (await shop.central.quarantine.list()).map(({ table, recordId, code }) => `${table} ${recordId} ${code}`).sort()
  t.same(held, ['plu_closings [1] ERR_CLOSING', 'plu_closings [2] ERR_CLOSING', 'receipts [2] ERR_CLOSING', 'receipts [4] ERR_CLOSING'])
})

t.test("a closing that the host's own constraints refuse waits alone, and is posted when they do not any more", async (t) => {
  for (const rule of ['made', 'computed'] as const) {
    const subscribe = rule === 'made' ? { plu_closings: pluClosings({ closing: closingOf, line: lineOf, moveStock: true }) } : computed(true)
    const { shop, cashier, sync } = await openOffice(t, subscribe)
    const close = (no: string, item: string, number: number) => {
      cashier.sell('sale', number, [line(item, '1', '10')])
      return rule === 'made' ? cashier.close(no, [line(item, '1', '10')]) : cashier.closeRange(no, [number, number])
    }
    await shop.pool.query(`
      CREATE TABLE items (item_no text PRIMARY KEY);
      INSERT INTO items VALUES ('A'), ('B'), ('C');
      ALTER TABLE posted_plu_closing_lines ADD CONSTRAINT known_item FOREIGN KEY (item_no) REFERENCES items ${rule === 'made' ? '' : 'DEFERRABLE INITIALLY DEFERRED'}`)
    for (const [n, item] of ['A', 'X', 'B'].entries()) close(`Z-${item}`, item, n + 1)
    await sync()
    t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-A: A A - 1 10', 'BA01 2 2026-11-21 Z-B: B A - 1 10'], `${rule}: numbers without a gap`)
    t.match(await shop.central.waitingClosings(), [{ document: 'Z-X', waits: { why: 'refused', code: 'ERR_HANDLER', message: /known_item/ } }])
    t.equal(await shop.stock('X'), 0, 'and nothing of it is moved')
    await shop.pool.query("INSERT INTO items VALUES ('X')")
    close('Z-C', 'C', 4)
    await sync()
    t.same((await postedClosings(shop)).slice(2), ['BA01 3 2026-11-21 Z-X: X A - 1 10', 'BA01 4 2026-11-21 Z-C: C A - 1 10'])
    t.same(await shop.central.waitingClosings(), [])
    t.equal(await shop.stock('X'), -1)
    t.ok((await shop.central.reconcile({ location: 'BA01', businessDate: '2026-11-21' })).clean)
  }
})

t.test('a closing that the levels of stock refuse waits alone', async (t) => {
  const { shop, cashier, sync } = await openOffice(t, computed(true))
  await shop.pool.query('ALTER TABLE stock_levels ADD CONSTRAINT in_stock CHECK (quantity > -5)')
  for (const [n, quantity] of ['1', '10', '2'].entries()) {
    cashier.sell('sale', n + 1, [line('A', quantity, '10')])
    cashier.closeRange(`Z-${n + 1}`, [n + 1, n + 1])
  }
  await sync()
  t.same(await postedClosings(shop), ['BA01 1 2026-11-21 Z-1: A A - 1 10', 'BA01 2 2026-11-21 Z-3: A A - 2 10'])
  t.match(await shop.central.waitingClosings(), [{ document: 'Z-2', waits: { why: 'refused', message: /in_stock/ } }])
  t.equal(await shop.stock('A'), -3)
  await shop.pool.query('ALTER TABLE stock_levels DROP CONSTRAINT in_stock')
  cashier.closeRange('Z-4', null)
  await sync()
  t.same((await postedClosings(shop)).slice(2), ['BA01 3 2026-11-21 Z-2: A A - 10 10', 'BA01 4 2026-11-21 Z-4: nothing'])
  t.equal(await shop.stock('A'), -13)
  const { rows } = await shop.pool.query("SELECT quantity::int AS quantity FROM stock_levels WHERE item_no = 'A'")
  t.same(rows, [{ quantity: -13 }])
})
