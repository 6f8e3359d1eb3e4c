import t, { type Test } from 'tap'
import {
  type AnyDocument,
  type AnyTables,
  type Movement,
  mirror,
  negate,
  pluClosings,
  type RegisterName,
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
  READY_MADE,
  rangesOf,
  receiptLines,
  type TestLine,
} from '../support/closings.ts'
import { startServer } from '../support/postgres.ts'
import { differing } from '../support/proofs.ts'
import { refused } from '../support/refused.ts'
import { openShop } from '../support/shop.ts'
import { backupOf, Machine, restoreFrom } from '../support/world.ts'

const server = await startServer(t)
const DAY = '2026-11-21'

/** What receipts move, on their own date. */
const moved: SubscribeRules<AnyTables> = {
  receipts: stockMovements((receipt, { location }) =>
    receiptLines(receipt).map(({ item, location: at, customer, quantity, netAmount }) => ({
      item,
      location: at ?? location,
      businessDate: receipt.business_date,
      document: `${receipt.number}`,
      customer: customer ?? null,
      quantity: negate(quantity),
      amount: netAmount,
    })),
  ),
}
const computedByDate: SubscribeRules<AnyTables> = {
  plu_closings: pluClosings({
    closing: (closing, origin) => {
      const known = closingOf(closing, origin)
      return known && { ...known, ranges: rangesOf(closing) }
    },
    receipts: { table: 'receipts', number: 'number', series: 'series', date: 'business_date', lines: receiptLines },
    moveStock: true,
  }),
}
const summed: SubscribeRules<AnyTables> = {
  plu_closings: pluClosings({ closing: closingOf, line: lineOf, receipts: { table: 'receipts', date: 'business_date', lines: receiptLines } }),
}

async function scene(t: Test, subscribe: SubscribeRules<AnyTables>) {
  const shop = await openShop(t, server, { schema: 'CREATE TABLE nothing (id int)', subscribe })
  const options = {
    schema: CLOSING_TILL,
    publish: { ...CLOSING_PUBLISH, plu_closings: { identity: ['closing_no'] } },
    transfer: { recordsPerRun: 7 },
  }
  const machine = new Machine(t, await shop.addTill('POS1', options))
  const cashier = () => new ClosingCashier(machine.db)
  const day = (businessDate = DAY, register?: string) => shop.central.reconcile({ location: 'BA01', businessDate, ...(register && { register }) })
  const found = async (...which: Parameters<typeof day>) => differing(await day(...which))
  return { shop, machine, cashier, day, found, options, send: () => machine.replica.synchronize() }
}

const one = (item: string, quantity = '1', net = '10', more: Partial<TestLine> = {}): TestLine => ({ item, quantity, net, vat: '2', ...more })

for (const [name, subscribe] of [
  ['closings that move the stock', computedByDate],
  ['receipts that move it', { ...moved, ...computed() }],
] as const) {
  t.test(`receipts = closing lines = movements, closings computed, ${name}`, async (t) => {
    const { cashier, day, found, send } = await scene(t, subscribe)
    t.match(await day(), { clean: true, items: [], movements: [], differences: [], differing: 0 }, 'nothing was sold')
    cashier().sell('sale', 1, [one('A', '2', '20'), one('B', '1', '5', { location: 'WH' })])
    cashier().sell('sale', 2, [one('A', '1', '10', { code: 'B' })], { customer: 'C1' })
    cashier().sell('return', 1, [one('A', '-1', '-10')])
    cashier().sell('sale', 3, [one('A')], { status: 'voided' })
    await send()
    t.same(
      await found(),
      [
        'unclosed receipts [1] posted_plu_closings: A 2 / 0, B 1 / 0',
        'unclosed receipts [2] posted_plu_closings: A 1 / 0',
        'unclosed receipts [3] posted_plu_closings: A -1 / 0',
      ],
      'the day is not closed',
    )
    t.same(await found('2026-11-20'), [], 'that of the day before is')
    cashier().closeRange('Z1', [1, 3], [1, 1])
    await send()
    const closed = await day()
    t.same(differing(closed), [])
    t.ok(closed.clean)
    t.same(
      closed.items.map(({ location, item, vatCode, customer, receipts, closings }) =>
        [
          location,
          item,
          vatCode,
          customer ?? '-',
          receipts?.quantity,
          closings.quantity,
          receipts?.netAmount,
          closings.netAmount,
          closings.returnQuantity,
        ].join(' '),
      ),
      ['BA01 A A - 1 1 10 10 1', 'BA01 A B C1 1 1 10 10 0', 'WH B A - 1 1 5 5 0'],
    )
    t.same(
      closed.movements.map(({ location, item, customer, wanted, posted }) =>
        [location, item, customer ?? '-', wanted.quantity, posted.quantity, posted.amount].join(' '),
      ),
      ['BA01 A C1 -1 -1 10', 'BA01 A - -1 -1 10', 'WH B - -1 -1 5'],
    )
  })
}

t.test('it is clean whatever comes late, is corrected, moved, purged or entered again', async (t) => {
  const { shop, machine, cashier, day, found, options, send } = await scene(t, { ...moved, ...computed() })
  const clean = async (message: string) => {
    for (const date of [DAY, '2026-11-22', '2026-11-23']) t.same(await found(date), [], `${message}: ${date}`)
  }
  for (const n of [1, 2, 4, 5])
    cashier().sell('sale', n, [one('A', `${n}`, `${n * 10}`), one('B', '1', '5', { location: 'WH' })], { customer: n === 4 ? 'C1' : null })
  cashier().closeRange('Z1', [1, 5])
  await send()
  await clean('closed')
  cashier().sell('sale', 3, [one('C')])
  await send()
  await clean('a late receipt, in a supplementary closing')
  machine.db.exec(
    "UPDATE receipts SET customer_no = 'C2' WHERE number = 1; UPDATE receipt_lines SET quantity = '7', item_no = 'D' WHERE receipt_id = 2; UPDATE receipts SET status = 'voided' WHERE number = 5",
  )
  await send()
  await clean('corrected and voided')
  machine.db.exec("UPDATE receipts SET business_date = '2026-11-22' WHERE number IN (1, 3)")
  await send()
  await clean('receipts of another date in the closing')
  machine.db.exec("UPDATE plu_closings SET business_date = '2026-11-23'")
  await send()
  await clean('a closing of another date')
  t.equal((await day('2026-11-23')).items.length, 7)
  t.same((await day()).items, [], 'taken back under the former date')
  await machine.replica.export('receipts', (eb) => eb('id', '>', 0))
  await send()
  await shop.central.replay({ table: 'receipts' })
  await clean('exported and replayed')
  machine.db.exec('DELETE FROM receipts WHERE number IN (1, 5); DELETE FROM plu_closings')
  await send()
  await clean('purged')
  machine.db.exec("INSERT INTO receipts (id, series, number, business_date) VALUES (1, 'sale', 6, '2026-11-23')")
  cashier().addLine(1, one('A', '3', '30'))
  cashier().closeRange('Z2', [6, 6], null, { date: '2026-11-23' })
  await send()
  await clean('keys that are used again')
  const other = await shop.addTill('POS2', options)
  new ClosingCashier(other.db).sell('return', 1, [one('A', '-1', '-10')], { customer: 'C1' })
  new ClosingCashier(other.db).closeRange('Z1', null, [1, 1])
  await other.replica.synchronize()
  await clean('a return at another till')
  t.match((await day(DAY, 'POS2')).items, [
    { item: 'A', customer: 'C1', receipts: { quantity: '-1', returnQuantity: '1' }, closings: { quantity: '-1' } },
  ])
  t.same((await day(DAY, 'POS1')).items, [])
})

t.test('what waits is named until it is settled, and what was lost by a restore counts until it is withdrawn', async (t) => {
  let poison = true
  const movements = (receipt: AnyDocument, { location }: RegisterName): Movement[] => {
    if (poison && receipt.parts.receipt_lines?.some((line) => line.item_no === 'POISON')) throw new Error('the item is poison')
    return receiptLines(receipt).map(({ item, quantity }) => ({ item, location, businessDate: receipt.business_date, quantity: negate(quantity) }))
  }
  const checked = { receipts: stockMovements(movements), ...computed() }
  const { shop, machine, cashier, found, send } = await scene(t, checked)
  cashier().sell('sale', 1, [one('A')])
  cashier().sell('sale', 2, [one('POISON')])
  cashier().closeRange('Z1', [1, 2])
  await send()
  t.same(await found(), ['waiting plu_closings [1] posted_plu_closings quarantined: A 1 / 0', 'quarantined receipts [2]'])
  t.same(await found('2026-11-22'), [])
  poison = false
  await shop.central.quarantine.retry({ table: 'receipts' })
  t.same(await found(), [])
  poison = true
  machine.db.exec("UPDATE receipt_lines SET quantity = '2' WHERE receipt_id = 2")
  await send()
  t.same(await found(), ['unmapped receipts [2] stock_movements', 'quarantined receipts [2]'])
  machine.db.exec("UPDATE receipt_lines SET item_no = 'B' WHERE receipt_id = 2")
  await send()
  t.same(await found(), [], 'corrected at the till')
  const backup = machine.backup()
  cashier().sell('sale', 3, [one('C')])
  cashier().sell('sale', 4, [one('D')])
  cashier().closeRange('Z2', [3, 4])
  await send()
  await machine.restore(backup)
  cashier().sell('sale', 3, [one('C')])
  cashier().closeRange('Z2', [3, 3])
  await send()
  t.same(await found(), ['unclosed receipts [4] posted_plu_closings: D 1 / 0'], 'the closing was entered again without it')
  for (const orphan of await shop.central.orphans.list()) await shop.central.orphans.withdraw(orphan.id, { reason: 'entered again' })
  t.same(await found(), [])
})

t.test('what was done to the books by hand is found, and nothing else', async (t) => {
  const { shop, cashier, found, day, send } = await scene(t, { ...moved, ...computed() })
  const { pool } = shop
  for (const n of [1, 2, 3]) cashier().sell('sale', n, [one('A', `${n}`, `${n * 10}`), one('B')], { customer: n === 3 ? 'C1' : null })
  cashier().closeRange('Z1', [1, 3])
  cashier().closeRange('Z2', null)
  await send()
  cashier().sell('sale', 4, [one('A')], { date: '2026-11-22' })
  cashier().closeRange('Z3', [4, 4], null, { date: '2026-11-22' })
  await send()
  t.same(await found(), [])
  await backupOf(pool, 'whole')
  const damages: readonly (readonly [sql: string, found: readonly string[]])[] = [
    ["DELETE FROM stock_movements WHERE record_id = '[2]' AND item_no = 'A'", ['ledger receipts [2] stock_movements: A -2 / 0']],
    ["DELETE FROM stock_movements WHERE record_id = '[2]'", ['ledger receipts [2] stock_movements: A -2 / 0, B -1 / 0']],
    ["UPDATE stock_movements SET quantity = -9 WHERE record_id = '[3]' AND item_no = 'A'", ['ledger receipts [3] stock_movements: A -3 / -9']],
    ["UPDATE stock_movements SET amount = 1 WHERE record_id = '[3]' AND item_no = 'A'", ['ledger receipts [3] stock_movements: A -3 / -3']],
    [
      "UPDATE stock_movements SET customer_no = 'C9' WHERE record_id = '[1]' AND item_no = 'B'",
      ['ledger receipts [1] stock_movements: B 0 / -1, B -1 / 0'],
    ],
    // Of the next day now.
    [
      "UPDATE stock_movements SET business_date = '2026-11-22' WHERE record_id = '[1]' AND item_no = 'B'",
      ['ledger receipts [1] stock_movements: B -1 / 0'],
    ],
    [
      `INSERT INTO stock_movements (item_no, location, business_date, quantity, amount, register_id, table_name, record_id, incarnation, revision, epoch_no, entry_no)
       VALUES ('A', 'BA01', '2026-11-21', 5, 0, 1, 'receipts', '[77]', 1, 1, 1, 1)`,
      ['ledger receipts [77] stock_movements: A 0 / 5'],
    ],
    [
      `INSERT INTO stock_movements (item_no, location, business_date, quantity, amount, register_id, table_name, record_id, incarnation, revision, epoch_no, entry_no)
       SELECT item_no, location, business_date, quantity, amount, register_id, table_name, record_id, incarnation, revision, epoch_no, entry_no FROM stock_movements
       WHERE record_id = '[1]' AND item_no = 'A'`,
      ['ledger receipts [1] stock_movements: A 0 / -1'],
    ],
    [
      "DELETE FROM sync_postings WHERE table_name = 'receipts' AND record_id = '[2]'",
      ['posted receipts [2] stock_movements: A -2 / 0, B -1 / 0', 'ledger receipts [2] stock_movements: A 0 / -2, B 0 / -1'],
    ],
    [
      "DELETE FROM sync_postings WHERE table_name = 'receipts' AND record_id = '[2]'; DELETE FROM stock_movements WHERE record_id = '[2]'",
      ['posted receipts [2] stock_movements: A -2 / 0, B -1 / 0'],
    ],
    [
      "UPDATE posted_plu_closing_lines SET quantity = 7 WHERE item_no = 'A' AND customer_no = 'C1'",
      ['ledger plu_closings [1] posted_plu_closings: A 3 / 7, 1 13 / 9'],
    ],
    [
      "DELETE FROM posted_plu_closing_lines WHERE item_no = 'B' AND customer_no IS NULL",
      ['ledger plu_closings [1] posted_plu_closings: B 2 / 0, 1 7 / 9'],
    ],
    ['UPDATE posted_plu_closings SET net_amount = 0 WHERE closing_no = 1', ['ledger plu_closings [1] posted_plu_closings: 1 9 / 9']],
    ['DELETE FROM posted_plu_closings WHERE closing_no = 2', ['ledger plu_closings [2] posted_plu_closings']],
    ["DELETE FROM sync_postings WHERE table_name = 'plu_closings' AND record_id = '[2]'", ['posted plu_closings [2] posted_plu_closings']],
    [
      `UPDATE sync_closing_receipts SET lines = replace(lines::text, '"quantity":"2"', '"quantity":"5"')::json WHERE record_id = '[2]'`,
      ['posted receipts [2] posted_plu_closings: A 2 / 5'],
    ],
    [
      `UPDATE sync_archive SET record = replace(record, '"quantity":"2"', '"quantity":"3"') WHERE table_name = 'receipt_lines' AND record_id = '[3]'`,
      [
        'posted receipts [2] posted_plu_closings: A 3 / 2',
        'posted plu_closings [1] posted_plu_closings: A 4 / 3',
        'posted receipts [2] stock_movements: A -3 / -2',
      ],
    ],
    [
      "DELETE FROM sync_archive WHERE table_name = 'receipt_lines' AND record_id = '[3]'",
      ['missing receipts [2] posted_plu_closings', 'missing receipts [2] stock_movements'],
    ],
    ...[
      "UPDATE sync_archive SET record = 'nonsense' WHERE table_name = 'receipts' AND record_id = '[2]'",
      "UPDATE sync_archive SET record = NULL WHERE table_name = 'receipt_lines' AND record_id = '[3]'",
      "UPDATE sync_archive SET operation = 'remove' WHERE table_name = 'receipt_lines' AND record_id = '[3]'",
      "UPDATE sync_archive SET record_id = '[99]' WHERE table_name = 'receipts' AND record_id = '[2]'",
    ].map((sql) => [sql, ['missing receipts [2] posted_plu_closings', 'missing receipts [2] stock_movements']] as const),
    ...['{"quantity":"-2"}', '[{"item":"A","quantity":"x"}]'].map(
      (json) =>
        [
          `UPDATE sync_postings SET postings = '${json}' WHERE table_name = 'receipts' AND record_id = '[2]'`,
          ['posted receipts [2] stock_movements: A -2 / 0, B -1 / 0', 'ledger receipts [2] stock_movements: A 0 / -2, B 0 / -1'],
        ] as const,
    ),
    [`UPDATE stock_movements SET quantity = 'NaN' WHERE record_id = '[2]' AND item_no = 'A'`, ['ledger receipts [2] stock_movements: A -2 / NaN']],
    ["UPDATE posted_plu_closings SET net_amount = 'NaN' WHERE closing_no = 1", ['ledger plu_closings [1] posted_plu_closings: 1 9 / 9']],
    [
      "UPDATE sync_closing_ranges SET last_no = 2 WHERE record_id = '[1]'",
      ['posted plu_closings [1] posted_plu_closings: A 0 / 3, B 0 / 1', 'unclosed receipts [3] posted_plu_closings: A 3 / 0, B 1 / 0'],
    ],
  ]
  for (const [sql, wanted] of damages) {
    await pool.query(sql)
    t.same(await found(), wanted, sql)
    if (!sql.includes('2026-11-22')) t.same(await found('2026-11-22'), [], 'not on the next day')
    await restoreFrom(pool, 'whole')
  }
  t.same(await found(), [])
  await pool.query("DELETE FROM stock_movements WHERE record_id = '[2]' AND item_no = 'A'")
  t.match(
    (await day()).movements.filter(({ item, customer }) => item === 'A' && customer === null),
    [{ wanted: { quantity: '-3', amount: '30' }, posted: { quantity: '-1', amount: '10' } }],
  )
})

for (const [name, subscribe] of [
  ['by what receipts bring', summed],
  ['by what receipts move', { ...moved, ...READY_MADE }],
] as const) {
  t.test(`a closing that the till has made itself is compared with its receipts, ${name}`, async (t) => {
    const { machine, cashier, day, found, send } = await scene(t, subscribe)
    cashier().sell('sale', 1, [one('A', '2', '20'), one('B', '1', '5', { location: 'WH' })])
    cashier().sell('sale', 2, [one('A', '1', '10')], { customer: 'C1' })
    await send()
    t.same(await found(), ['unclosed receipts [1] posted_plu_closings: A 2 / 0, B 1 / 0', 'unclosed receipts [2] posted_plu_closings: A 1 / 0'])
    cashier().close('Z1', [one('A', '2', '20'), one('B', '1', '5', { location: 'WH' }), one('A', '1', '10', { customer: 'C1' })])
    await send()
    t.same(await found(), [])
    t.equal((await day()).items[0]?.receipts === null, name === 'by what receipts move')
    cashier().sell('sale', 3, [one('A', '1', '10')])
    await send()
    t.same(await found(), ['late receipts [3] posted_plu_closings: A 1 / 0'])
    cashier().close('Z2', [one('A', '1', '10')])
    await send()
    t.same(await found(), [], 'two closings a day')
    machine.db.exec("UPDATE plu_closing_lines SET quantity = '5' WHERE item_no = 'B'")
    await send()
    t.same(await found(), ['unequal plu_closings [1] posted_plu_closings: B 1 / 5', 'unequal plu_closings [2] posted_plu_closings: B 1 / 5'])
    machine.db.exec(
      "UPDATE plu_closing_lines SET quantity = '1' WHERE item_no = 'B'; UPDATE receipts SET business_date = '2026-11-22' WHERE number = 3",
    )
    await send()
    t.same(await found(), ['unequal plu_closings [1] posted_plu_closings: A 2 / 3', 'unequal plu_closings [2] posted_plu_closings: A 2 / 3'])
    t.same(await found('2026-11-22'), ['unclosed receipts [3] posted_plu_closings: A 1 / 0'])
  })
}

t.test('a ledger of the host’s own, removals that are applied, and dates that the till writes in its own way', async (t) => {
  const delivered: string[] = []
  const movements = (receipt: AnyDocument): Movement[] =>
    receiptLines(receipt).map(({ item, quantity }) => {
      const [day, month, year] = receipt.business_date.split('.')
      return { item, location: 'BA01', businessDate: `${year}-${month}-${day}`, quantity: negate(quantity) }
    })
  const { shop, machine, cashier, day, found, send } = await scene(t, {
    receipts: [
      stockMovements(movements, { removals: 'apply' }),
      stockMovements(movements, {
        post: async (postings) => void delivered.push(...postings.map(({ item, quantity }) => `${item} ${quantity}`)),
        ledger: 'erp',
      }),
    ],
  })
  for (const n of [1, 2, 3]) cashier().sell('sale', n, [one('A', `${n}`)], { date: '21.11.2026' })
  await send()
  machine.db.exec('DELETE FROM receipts WHERE number = 3')
  await send()
  t.same(await found(), [], 'the removal is taken back in the one, and ignored in the other')
  t.same(
    (await day()).movements.map(({ ledger, wanted, posted }) => [ledger, wanted.quantity, posted.quantity]),
    [
      ['erp', '-6', '-6'],
      ['stock_movements', '-3', '-3'],
    ],
  )
  t.same(delivered, ['A -1', 'A -2', 'A -3'])
  await backupOf(shop.pool, 'whole')
  await shop.pool.query("DELETE FROM sync_postings WHERE record_id = '[2]'; DELETE FROM stock_movements WHERE record_id = '[2]'")
  t.same(
    await found(),
    ['posted receipts [2] stock_movements: A -2 / 0', 'posted receipts [2] erp: A -2 / 0'],
    'nothing is posted of it, and no record names the day',
  )
  await restoreFrom(shop.pool, 'whole')
  await shop.pool.query(
    "DELETE FROM stock_movements WHERE record_id = '[3]' AND quantity > 0; DELETE FROM sync_postings WHERE record_id = '[3]' AND revision = 2",
  )
  t.same(await found(), ['posted receipts [3] stock_movements: A 0 / -3'], 'a removal that was not taken back')
})

t.test('what can’t be reconciled is refused', async (t) => {
  const { shop, day } = await scene(t, moved)
  const bad = (which: unknown) => () => shop.central.reconcile(which as never)
  await refused(t, bad({ location: 'BA09', businessDate: DAY }), 'ERR_REGISTER')
  await refused(t, bad({ location: 'BA01', register: 'POS9', businessDate: DAY }), 'ERR_REGISTER')
  const wrong: unknown[] = [undefined, null, {}, { location: 'BA01' }, { location: 'BA01', businessDate: '21.11.2026' }, { businessDate: DAY }]
  wrong.push(
    { location: 'BA01', businessDate: `${DAY}T10:00:00Z` },
    { location: 'BA01', businessDate: '2026-02-30' },
    { location: 'BA01', businessDate: new Date() },
  )
  wrong.push(
    { location: 'BA01', businessDate: DAY, closings: true },
    { location: 'BA\0', businessDate: DAY },
    { location: 'BA01', businessDate: DAY, signal: {} },
  )
  for (const which of wrong) await refused(t, bad(which), 'ERR_OPTION')
  await t.rejects(shop.central.reconcile({ location: 'BA01', businessDate: DAY, signal: AbortSignal.abort() }), { code: 'ERR_ABORTED' })
  t.ok((await day('0001-01-01')).clean)
  t.ok((await day('9999-12-31')).clean)
  const archive = await openShop(t, server, { subscribe: { receipts: mirror({ origin: ['location', 'register'] }) } })
  await refused(t, () => archive.central.reconcile({ location: 'BA01', businessDate: DAY }), 'ERR_OPTION')
})
