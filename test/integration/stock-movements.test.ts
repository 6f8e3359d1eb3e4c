import type { Kysely } from 'kysely'
import t, { type Test } from 'tap'
import {
  type AnyDocument,
  type Movement,
  type StockMovementsOptions,
  type StockPosting,
  stockMovements,
  type TillsyncErrorCode,
} from '../../src/index.ts'
import { held, tryAgain, waiting } from '../support/held.ts'
import { startServer } from '../support/postgres.ts'
import { refused } from '../support/refused.ts'
import { openShop, type ShopOptions, type Till } from '../support/shop.ts'

t.setTimeout(120_000)
const server = await startServer(t)
const line = (item: string, quantity: string, amount = '1.10') => ({ item, quantity, amount })

/** What a receipt moves: minus what it sold, at its own location; a void moves nothing. */
function moved(receipt: AnyDocument): Movement[] {
  if (receipt.status === 'voided') return []
  return (receipt.parts.receipt_lines ?? []).map((one) => ({
    item: one.item_no,
    location: receipt.location,
    businessDate: receipt.business_date,
    document: receipt.receipt_no,
    customer: receipt.customer_no,
    quantity: -Number(one.quantity),
    amount: one.net_amount,
  }))
}

const LEDGER = `CREATE TABLE item_ledger (
  no bigint GENERATED ALWAYS AS IDENTITY, item varchar(20) NOT NULL, site char(4) NOT NULL, posted_on date, document_no text, customer text, quantity numeric(12, 3) NOT NULL, amount numeric(12, 2) NOT NULL,
  source jsonb NOT NULL, key text NOT NULL UNIQUE, entry_no integer NOT NULL, revision smallint NOT NULL, reversal boolean NOT NULL, note text DEFAULT 'by sync')`
const row = (posting: StockPosting) => ({
  item: posting.item,
  site: posting.location,
  posted_on: posting.businessDate,
  document_no: posting.document,
  customer: posting.customer,
  quantity: posting.quantity,
  amount: posting.amount,
  source: { register: posting.origin.register, table: posting.table, id: posting.recordId, life: posting.incarnation },
  key: posting.key,
  entry_no: posting.entryNo,
  revision: posting.revision,
  reversal: posting.revision > 1,
  note: undefined,
})

function withMovements(options: StockMovementsOptions, movements = moved): ShopOptions {
  return { subscribe: { receipts: stockMovements(movements, options) } }
}

async function rows(shop: Awaited<ReturnType<typeof openShop>>, sql: string): Promise<unknown[]> {
  return (await shop.pool.query({ text: sql, rowMode: 'array' })).rows
}

async function openOffice(t: Test, options: StockMovementsOptions, schema = '', movements = moved) {
  const shop = await openShop(t, server, { ...withMovements(options, movements), schema })
  return { shop, till: await shop.addTill() }
}

t.test('removals: "apply" reverses what a removed document has posted, and its key used again is another document', async (t) => {
  const { shop, till } = await openOffice(t, { removals: 'apply' })
  const id = till.cashier.sell('R-1', [line('A', '3'), line('B', '1')])
  await till.replica.synchronize()
  till.db.prepare('DELETE FROM receipts WHERE id = ?').run(id)
  await till.replica.synchronize()
  t.equal(await shop.stock('A'), 0)
  t.equal(await shop.stock('B'), 0)
  t.equal(till.cashier.sell('R-2', [line('A', '5')]), id)
  await till.replica.seal()
  till.db.prepare('DELETE FROM receipts WHERE id = ?').run(id)
  await till.replica.seal()
  t.equal(till.cashier.sell('R-3', [line('A', '7')]), id)
  await till.replica.synchronize()
  t.equal(await shop.stock('A'), -7, 'two lives more in one batch')
  t.same(await rows(shop, 'SELECT DISTINCT incarnation::int, revision::int FROM stock_movements ORDER BY 1, 2'), [
    [1, 1],
    [1, 2],
    [2, 1],
    [2, 2],
    [3, 1],
  ])
  t.same(await rows(shop, 'SELECT sum(quantity)::int FROM stock_levels'), [[-7]])
})

t.test('by default a removed document stays posted', async (t) => {
  for (const options of [{}, { removals: 'ignore' as const }]) {
    const { shop, till } = await openOffice(t, options)
    till.db.prepare('DELETE FROM receipts WHERE id = ?').run(till.cashier.sell('R-1', [line('A', '3')]))
    const id = till.cashier.sell('R-1', [line('A', '3')])
    await till.replica.synchronize()
    till.db.prepare('DELETE FROM receipts WHERE id = ?').run(id)
    await till.replica.synchronize()
    t.equal(await shop.stock('A'), -3)
  }
})

t.test(
  'a receipt that leaves the filter and comes back is another one: taken back before where removals are applied, posted once more where not',
  async (t) => {
    for (const [removals, quantity] of [
      ['apply', -5],
      ['ignore', -8],
    ] as const) {
      const { shop, till } = await openOffice(t, { removals })
      const id = till.cashier.sell('R-1', [line('A', '3')])
      await till.replica.synchronize()
      till.db.prepare("UPDATE receipts SET status = 'open' WHERE id = ?").run(id)
      await till.replica.synchronize()
      till.db.exec("UPDATE receipt_lines SET quantity = '5'; UPDATE receipts SET status = 'posted'")
      await till.replica.synchronize()
      t.equal(await shop.stock('A'), quantity, removals)
    }
  },
)

t.test("postings go into the host's own ledger, set by set, and the library's own stays away", async (t) => {
  const { shop, till } = await openOffice(t, { post: { table: 'item_ledger', row } }, LEDGER)
  const id = till.cashier.sell('R-1', [line('A', '3', '29.70'), line('B', '0.125', '1.00')], { customer: 'C1' })
  for (let n = 2; n <= 120; n++) till.cashier.sell(`R-${n}`, [line('A', '1')])
  await till.replica.synchronize()
  t.same(
    await rows(
      shop,
      "SELECT item, site, posted_on::text, document_no, customer, quantity::text, amount::text, source, entry_no, revision, reversal, note FROM item_ledger WHERE document_no = 'R-1' ORDER BY no",
    ),
    [
      [
        'A',
        'BA01',
        '2026-11-21',
        'R-1',
        'C1',
        '-3.000',
        '29.70',
        { register: 'POS1', table: 'receipts', id: '[1]', life: 1 },
        1,
        1,
        false,
        'by sync',
      ],
      ['B', 'BA01', '2026-11-21', 'R-1', 'C1', '-0.125', '1.00', { register: 'POS1', table: 'receipts', id: '[1]', life: 1 }, 1, 1, false, 'by sync'],
    ],
  )
  t.same(await rows(shop, 'SELECT count(*)::int, sum(quantity)::text FROM item_ledger'), [[121, '-122.125']])
  t.same(await rows(shop, "SELECT to_regclass('stock_movements'), to_regclass('stock_levels')"), [[null, null]])
  const before = await rows(shop, 'SELECT * FROM item_ledger ORDER BY no')
  await till.replica.export('receipts', (eb) => eb('id', '>', 0))
  await till.replica.synchronize()
  t.same(await rows(shop, 'SELECT * FROM item_ledger ORDER BY no'), before, 'a re-export posts nothing')
  till.db.prepare("UPDATE receipts SET status = 'voided' WHERE id = ?").run(id)
  await till.replica.synchronize()
  t.same(await rows(shop, "SELECT item, quantity::text, amount::text, revision, reversal FROM item_ledger WHERE document_no = 'R-1' ORDER BY no"), [
    ['A', '-3.000', '29.70', 1, false],
    ['B', '-0.125', '1.00', 1, false],
    ['A', '3.000', '-29.70', 2, true],
    ['B', '0.125', '-1.00', 2, true],
  ])
  t.same((await rows(shop, 'SELECT * FROM item_ledger ORDER BY no')).slice(0, before.length), before, 'what is posted never changes')
  t.same(await rows(shop, 'SELECT DISTINCT ledger FROM sync_postings'), [['item_ledger']])
})

t.test("a function of the host's posts inside the transaction of the batch", async (t) => {
  const got: StockPosting[] = []
  const post = async (postings: readonly StockPosting[], trx: Kysely<{ totals: { item: string; quantity: string } }>) => {
    got.push(...postings)
    for (const { item, quantity } of postings) {
      await trx
        .insertInto('totals')
        .values({ item, quantity })
        .onConflict((oc) => oc.column('item').doUpdateSet((eb) => ({ quantity: eb('totals.quantity', '+', eb.ref('excluded.quantity')) })))
        .execute()
    }
    if (postings.some(({ item }) => item === 'BAD')) throw new Error('the ledger is closed')
  }
  const { shop, till } = await openOffice(t, { post }, 'CREATE TABLE totals (item text PRIMARY KEY, quantity numeric NOT NULL)')
  till.cashier.sell('R-1', [line('A', '3'), line('A', '1')])
  await till.replica.synchronize()
  t.match(got, [
    {
      item: 'A',
      quantity: '-4',
      amount: '2.2',
      origin: { location: 'BA01', register: 'POS1' },
      table: 'receipts',
      recordId: '[1]',
      incarnation: 1,
      revision: 1,
      entryNo: 1,
    },
  ])
  till.cashier.sell('R-2', [line('A', '5')])
  const bad = till.cashier.sell('R-3', [line('BAD', '1')])
  await held(t, shop, till, 'ERR_HANDLER')
  t.notMatch(await rows(shop, 'SELECT item FROM totals'), [['BAD']], 'a failing post leaves nothing behind')
  t.same(await rows(shop, `SELECT record_id FROM sync_postings WHERE record_id = '[${bad}]'`), [])
  till.db.prepare("UPDATE receipt_lines SET item_no = 'GOOD' WHERE receipt_id = ?").run(bad)
  await till.replica.synchronize()
  t.same(await rows(shop, 'SELECT item, quantity::int FROM totals ORDER BY 1'), [
    ['A', -9],
    ['GOOD', -1],
  ])
  t.equal(new Set(got.map(({ key }) => key)).size, 4, 'each posting has a key of its own; what was refused comes again by its own')
})

t.test('what a function of the host’s has begun and not awaited is in the batch’s transaction all the same', async (t) => {
  const post = async (postings: readonly StockPosting[], trx: Kysely<{ ledger: { item: string; quantity: string } }>) => {
    for (const { item, quantity } of postings) {
      const begun = trx.insertInto('ledger').values({ item, quantity }).execute()
      void begun.then(() => trx.insertInto('ledger').values({ item, quantity: '0' }).execute())
    }
  }
  const { shop, till } = await openOffice(t, { post }, 'CREATE TABLE ledger (item text, quantity numeric NOT NULL)')
  till.cashier.sell('R-1', [line('A', '3'), line('B', '1')])
  await till.replica.synchronize()
  t.same(await rows(shop, 'SELECT item, quantity::int FROM ledger ORDER BY 1, 2'), [
    ['A', -3],
    ['A', 0],
    ['B', -1],
    ['B', 0],
  ])
})

t.test('a post that does not fit its table is refused at install', async (t) => {
  const cases = {
    'a table that is not there': [{ table: 'nowhere', row }, 'ERR_UNKNOWN_TABLE'],
    'a column that is not there': [
      { table: 'item_ledger', row: (posting: StockPosting) => ({ ...row(posting), colour: 'red' }) },
      'ERR_UNKNOWN_COLUMN',
    ],
    'a view': [{ table: 'ledger_view', row }, 'ERR_UNKNOWN_TABLE'],
    'no row': [{ table: 'item_ledger', row: () => 5 as never }, 'ERR_LEDGER'],
    'a promise of a row': [{ table: 'item_ledger', row: (async () => ({})) as never }, 'ERR_LEDGER'],
  } as const
  for (const [name, [post, code]] of Object.entries(cases))
    await refused(
      t,
      () => openShop(t, server, { ...withMovements({ post }), schema: `${LEDGER}; CREATE VIEW ledger_view AS SELECT * FROM item_ledger` }),
      code,
      name,
    )
})

t.test('what the ledger would cut, round or refuse is refused whole', async (t) => {
  const cases: Record<string, [object, TillsyncErrorCode]> = {
    'a text too long': [{ item: 'x'.repeat(21) }, 'ERR_HANDLER'],
    'a char too long': [{ site: 'BA001' }, 'ERR_HANDLER'],
    'more places than the column': [{ quantity: '0.1234' }, 'ERR_LEDGER'],
    NaN: [{ quantity: Number.NaN }, 'ERR_LEDGER'],
    'a number too big': [{ revision: 70_000 }, 'ERR_HANDLER'],
    'no value where one must be': [{ source: undefined }, 'ERR_HANDLER'],
    'null where one must be': [{ key: null }, 'ERR_HANDLER'],
    'an object in a text column': [{ note: {} }, 'ERR_LEDGER'],
    'a broken date': [{ posted_on: new Date('x') }, 'ERR_LEDGER'],
    'no date': [{ posted_on: 'yesterday-ish' }, 'ERR_HANDLER'],
    'a key that is there': [{ key: 'same' }, 'ERR_HANDLER'],
    'a generated column': [{ no: 5 }, 'ERR_HANDLER'],
    'a function': [{ note: () => 1 }, 'ERR_LEDGER'],
    'a column that was not there at install': [{ colour: 'red' }, 'ERR_UNKNOWN_COLUMN'],
  }
  let other: object = {}
  const { shop, till } = await openOffice(
    t,
    { post: { table: 'item_ledger', row: (posting: StockPosting) => ({ ...row(posting), ...other }) } },
    LEDGER,
  )
  const posted = () => rows(shop, 'SELECT (SELECT count(*) FROM item_ledger)::int, (SELECT count(*) FROM sync_postings)::int')
  for (const [name, [wrong, code]] of Object.entries(cases)) {
    const before = await posted()
    other = wrong
    const id = till.cashier.sell(name, [line('A', '3'), line('B', '3')])
    await held(t, shop, till, code, name)
    t.same(await waiting(shop), [`[${id}]`], `${name}: it is this one that waits`)
    t.same(await posted(), before, `${name}: nothing stays`)
    other = {}
    await tryAgain(shop, till)
    t.same(
      (await shop.pool.query('SELECT item FROM item_ledger WHERE document_no = $1 ORDER BY 1', [name])).rows,
      [{ item: 'A' }, { item: 'B' }],
      `${name}: mended`,
    )
  }
})

t.test('what only PostgreSQL knows that a column would not keep is refused too, and what it keeps is taken', async (t) => {
  const cases: readonly (readonly [column: string, lost: unknown, kept: unknown])[] = [
    ['n numeric(18, 6)', 1e-7, 1e-6],
    ['n numeric(18, 2)', '1e-3', '1e-2'],
    ['n hundredths', '1.257', '1.250'],
    ['n numeric(5, 1)[]', '{1.25}', '{1.20}'],
    ['n real', '0.123456789', '0.1'],
    ['n double precision', '123456789012.123456', 0.1 + 0.2],
    ['n money', '1.005', '1.01'],
    ['d date', '2026-11-21 23:59', '2026-11-21'],
    ['d date', new Date('2026-11-20T23:00:00Z'), new Date('2026-11-21T00:00:00Z')],
    ['d timestamp(0)', '2026-11-21 10:00:00.6', '2026-11-21 10:00:00.0'],
    ['d interval(0)', '1.5 seconds', '2 seconds'],
    ['v short', 'abcd', 'abc'],
    ['v varchar(3)', 'abcd', 'abc'],
  ]
  let value: unknown
  const columns = cases.map(([column], n) => `${column.replace(/^\w+/, `c${n}`)}`)
  let at = 0
  const post = { table: 'ledger', row: ({ key }: StockPosting) => ({ key, [`c${at}`]: value }) as Record<string, string> }
  const { shop, till } = await openOffice(
    t,
    { post },
    `CREATE DOMAIN hundredths AS numeric(10, 2); CREATE DOMAIN short AS varchar(3); CREATE TABLE ledger (key text, ${columns.join(', ')})`,
  )
  for (const [n, [column, lost, kept]] of cases.entries()) {
    at = n
    value = lost
    const id = till.cashier.sell(`R-${n}`, [line('A', '3')])
    await held(t, shop, till, column.startsWith('v varchar') ? 'ERR_HANDLER' : 'ERR_LEDGER', `${column} ${lost}`)
    t.same(await waiting(shop), [`[${id}]`], column)
    value = kept
    await tryAgain(shop, till)
    t.same(await rows(shop, `SELECT count(*)::int FROM ledger WHERE c${n} IS NOT NULL`), [[1]], `${column} ${kept}`)
    t.same(await waiting(shop), [], column)
  }
})

t.test('a column that is added to the ledger later is known', async (t) => {
  let colour = false
  const post = {
    table: 'item_ledger',
    row: (posting: StockPosting) => ({ ...row(posting), ...(colour && { colour: 'red', size: Buffer.from([1, 2]) }) }),
  }
  const { shop, till } = await openOffice(t, { post }, LEDGER)
  till.cashier.sell('R-1', [line('A', '3')])
  await till.replica.synchronize()
  await shop.pool.query('ALTER TABLE item_ledger ADD colour text, ADD size bytea')
  colour = true
  till.cashier.sell('R-2', [line('A', '3')])
  await till.replica.synchronize()
  t.same(await rows(shop, 'SELECT colour, size FROM item_ledger ORDER BY no'), [
    [null, null],
    ['red', Buffer.from([1, 2])],
  ])
})

t.test('several ledgers of one table, and one ledger of several tables', async (t) => {
  const post = { table: 'item_ledger', row }
  const openings = (process: AnyDocument): Movement[] => [{ item: 'P', location: 'BA01', quantity: 1, document: `P${process.id}` }]
  const shop = await openShop(t, server, {
    schema: LEDGER,
    subscribe: { receipts: [stockMovements(moved), stockMovements(moved, { post })], pos_processes: stockMovements(openings, { post }) },
  })
  const till = await shop.addTill()
  till.db.exec("INSERT INTO pos_processes VALUES (1, '2026-11-21T08:00:00Z')")
  const id = till.cashier.sell('R-1', [line('A', '3')], { process: 1 })
  await till.replica.synchronize()
  till.db.prepare("UPDATE receipt_lines SET quantity = '4' WHERE receipt_id = ?").run(id)
  await till.replica.synchronize()
  const both = [
    ['A', -3],
    ['A', -1],
  ]
  t.same(await rows(shop, 'SELECT item_no, quantity::int FROM stock_movements ORDER BY movement_no'), both)
  t.same(await rows(shop, "SELECT item, quantity::int FROM item_ledger WHERE item = 'A' ORDER BY no"), both)
  t.same(await rows(shop, "SELECT item, quantity::int, source ->> 'table' FROM item_ledger WHERE item = 'P'"), [['P', 1, 'pos_processes']])
})

t.test('dimensions that change are reversed and posted anew: date, warehouse, customer, article, further ones', async (t) => {
  const movements = (receipt: AnyDocument): Movement[] =>
    (receipt.parts.receipt_lines ?? []).map((one) => ({
      item: one.item_no,
      location: one.item_no.startsWith('W') ? 'WH02' : receipt.location,
      businessDate: receipt.business_date,
      customer: receipt.customer_no,
      status: receipt.status,
      quantity: `-${one.quantity}`,
      amount: one.net_amount,
    }))
  const { shop, till } = await openOffice(t, {}, '', movements)
  const id = till.cashier.sell('R-1', [line('A', '3'), line('W-B', '2')])
  await till.replica.synchronize()
  const change = async (sql: string) => {
    till.db.exec(sql)
    await till.replica.synchronize()
    return rows(
      shop,
      `SELECT item_no, location, business_date::text, customer_no, dimensions ->> 'status', sum(quantity)::int, sum(amount)::text FROM stock_movements
       GROUP BY 1, 2, 3, 4, 5 HAVING sum(quantity) <> 0 OR sum(amount) <> 0 ORDER BY 1`,
    )
  }
  t.same(await change("UPDATE receipts SET business_date = '2026-11-20T23:59:59'"), [
    ['A', 'BA01', '2026-11-20', null, 'posted', -3, '1.100000'],
    ['W-B', 'WH02', '2026-11-20', null, 'posted', -2, '1.100000'],
  ])
  t.same(await change("UPDATE receipts SET customer_no = 'C1', status = 'paid'"), [
    ['A', 'BA01', '2026-11-20', 'C1', 'paid', -3, '1.100000'],
    ['W-B', 'WH02', '2026-11-20', 'C1', 'paid', -2, '1.100000'],
  ])
  t.same(await change("UPDATE receipt_lines SET item_no = 'W-A' WHERE item_no = 'A'"), [
    ['W-A', 'WH02', '2026-11-20', 'C1', 'paid', -3, '1.100000'],
    ['W-B', 'WH02', '2026-11-20', 'C1', 'paid', -2, '1.100000'],
  ])
  t.same(await change("UPDATE receipt_lines SET net_amount = '0.90' WHERE item_no = 'W-A'"), [
    ['W-A', 'WH02', '2026-11-20', 'C1', 'paid', -3, '0.900000'],
    ['W-B', 'WH02', '2026-11-20', 'C1', 'paid', -2, '1.100000'],
  ])
  t.same(await change("UPDATE receipt_lines SET quantity = '0', net_amount = '0'"), [])
  t.same(await rows(shop, 'SELECT location, sum(quantity)::int FROM stock_levels GROUP BY 1 ORDER BY 1'), [
    ['BA01', 0],
    ['WH02', 0],
  ])
  t.equal(id, 1)
})

t.test('a set of articles moves its parts: one line, several movements', async (t) => {
  const parts: Record<string, readonly [string, number][]> = {
    BASKET: [
      ['WINE', 2],
      ['CHEESE', 1],
    ],
  }
  const movements = (receipt: AnyDocument): Movement[] =>
    (receipt.parts.receipt_lines ?? []).flatMap((one) =>
      (parts[one.item_no] ?? [[one.item_no, 1]]).map(([item, times], n) => ({
        item,
        location: 'BA01',
        quantity: BigInt(-times) * BigInt(one.quantity),
        amount: n === 0 ? one.net_amount : '0',
      })),
    )
  const { shop, till } = await openOffice(t, {}, '', movements)
  till.cashier.sell('R-1', [line('BASKET', '3', '60'), line('WINE', '1', '9')])
  await till.replica.synchronize()
  t.same(await rows(shop, 'SELECT item_no, quantity::int, amount::int FROM stock_movements ORDER BY item_no'), [
    ['CHEESE', -3, 0],
    ['WINE', -7, 69],
  ])
})

t.test('a REAL column of the till is rounded to its declared scale, and what is exact is not', async (t) => {
  const { shop, till } = await openOffice(t, { scale: { quantity: 3, amount: 2 } }, '', (receipt) =>
    (receipt.parts.receipt_lines ?? []).map((one) => ({
      item: one.item_no,
      location: 'BA01',
      quantity: Number(one.quantity),
      amount: Number(one.net_amount),
    })),
  )
  till.cashier.sell('R-1', [line('A', '0.1', '0.125'), line('A', '0.2', '0.125'), line('B', '1.0005', '2.675'), line('C', '-0.00049', '-0.005')])
  await till.replica.synchronize()
  t.same(await rows(shop, 'SELECT item_no, quantity::text, amount::text FROM stock_movements ORDER BY item_no'), [
    ['A', '0.300000', '0.240000'],
    ['B', '1.000000', '2.680000'],
  ])
})

t.test('what is no movement is refused with a code and the document, and central goes on', async (t) => {
  let movements: unknown
  const { shop, till } = await openOffice(t, {}, '', () => (typeof movements === 'function' ? movements() : movements) as Movement[])
  const good = { item: 'A', location: 'BA01', quantity: 1 }
  const wrong: Record<string, unknown> = {
    nothing: undefined,
    null: null,
    'a promise': () => Promise.resolve([good]),
    'a promise that rejects': async () => {
      throw new Error('too late')
    },
    'an object': good,
    'a list of nothing': [undefined],
    'a list of promises': () => [Promise.reject(new Error('too late'))],
    'no item': [{ ...good, item: undefined }],
    'an empty item': [{ ...good, item: '' }],
    'an item that is NaN': [{ ...good, item: Number.NaN }],
    'no location': [{ ...good, location: null }],
    'no quantity': [{ item: 'A', location: 'BA01' }],
    NaN: [{ ...good, quantity: Number.NaN }],
    '1e21': [{ ...good, quantity: 1e21 }],
    'another script’s digit': [{ ...good, quantity: '١' }],
    'a quantity with a space': [{ ...good, quantity: ' 1' }],
    'seven places': [{ ...good, amount: '0.0000001' }],
    'an object for a quantity': [{ ...good, quantity: { toString: () => '1' } }],
    'no date': [{ ...good, businessDate: '21.11.2026' }],
    'a day that is not': [{ ...good, businessDate: '2026-02-30' }],
    'the year 0': [{ ...good, businessDate: '0000-01-01' }],
    'a Date': [{ ...good, businessDate: new Date(0) }],
    'NUL in a text': [{ ...good, item: 'A\0B' }],
    'half a surrogate pair': [{ ...good, document: '\ud800' }],
    'a dimension that is an object': [{ ...good, lot: {} }],
    'a dimension that is Infinity': [{ ...good, lot: Number.POSITIVE_INFINITY }],
    'a dimension named __proto__': [JSON.parse('{"item":"A","location":"BA01","quantity":1,"__proto__":"x"}')],
    'a getter that throws': [
      {
        ...good,
        get customer() {
          throw new Error('secret')
        },
      },
    ],
    'a throw of nothing': () => {
      throw undefined
    },
  }
  till.cashier.sell('R-1', [line('A', '3')])
  for (const [name, value] of Object.entries(wrong)) {
    movements = value
    const message = await held(t, shop, till, /getter|throw of/.test(name) ? 'ERR_HANDLER' : 'ERR_MOVEMENT', name)
    t.notMatch(message, /too late/, name)
    if (/quantity|places/.test(name)) t.match(message, /`(quantity|amount)`/, `${name}: the field is named`)
    till.db.exec("UPDATE receipts SET customer_no = coalesce(customer_no, '') || 'x'")
  }
  t.same(await rows(shop, 'SELECT count(*)::int FROM stock_movements'), [[0]])
  movements = [good]
  await tryAgain(shop, till)
  t.equal(await shop.stock('A'), 1)
})

t.test('stock that adds up to more than a quantity can be is still counted', async (t) => {
  const { shop, till } = await openOffice(t, {}, '', (receipt) => [
    { item: 'A', location: 'BA01', document: receipt.receipt_no, quantity: '999999999999.999999' },
  ])
  for (let n = 1; n <= 3; n++) till.cashier.sell(`R-${n}`, [line('A', '1')])
  await till.replica.synchronize()
  till.cashier.sell('R-4', [line('A', '1')])
  await till.replica.synchronize()
  t.same(await rows(shop, 'SELECT quantity::text FROM stock_levels'), [['3999999999999.999996']])
})

t.test('options that are none are refused', async (t) => {
  const wrong: unknown[] = [
    null,
    5,
    { removal: 'apply' },
    { removals: true },
    { post: {} },
    { post: { table: 'x' } },
    { post: { table: '', row } },
    { post: { table: 'x', row, more: 1 } },
    { post: 'item_ledger' },
    { ledger: 'x' },
    { post: { table: 'x', row }, ledger: '' },
    { scale: 7 },
    { scale: 1.5 },
    { scale: { quantity: -1 } },
    { scale: { price: 2 } },
  ]
  for (const options of wrong) t.throws(() => stockMovements(moved, options as never), { code: 'ERR_OPTION' }, JSON.stringify(options))
  t.throws(() => stockMovements(undefined as never), { code: 'ERR_OPTION' })
})

t.test('two functions that post for one table need names', async (t) => {
  const post = async () => undefined
  const open = (ledger?: string) =>
    openShop(t, server, {
      schema: '',
      subscribe: { receipts: [stockMovements(moved, { post }), stockMovements(moved, { post, ...(ledger && { ledger }) })] },
    })
  await refused(t, () => open(), 'ERR_RULE')
  t.ok(await open('the other one'))
})

/** Several central processes, host default isolation REPEATABLE READ, the same articles: the ledger's sum is exact. */
t.test("registers post to the host's ledger side by side", async (t) => {
  const post = { table: 'item_ledger', row }
  const shop = await openShop(t, server, { schema: LEDGER, ...withMovements({ post }) })
  await shop.pool.query(`ALTER DATABASE ${(await rows(shop, 'SELECT current_database()'))[0]} SET default_transaction_isolation = 'repeatable read'`)
  const tills: Till[] = []
  for (let n = 1; n <= 4; n++) tills.push(await shop.addTill(`POS${n}`))
  for (const till of tills) for (let n = 1; n <= 30; n++) till.cashier.sell(`R-${n}`, [line('A', '1'), line('B', '2')])
  await Promise.all(tills.map((till) => till.replica.synchronize()))
  for (const till of tills) till.db.exec("UPDATE receipts SET status = 'voided' WHERE id % 2 = 0")
  await Promise.all(tills.map((till) => till.replica.synchronize()))
  t.same(await rows(shop, 'SELECT item, sum(quantity)::int, count(*)::int FROM item_ledger GROUP BY 1 ORDER BY 1'), [
    ['A', -60, 180],
    ['B', -120, 180],
  ])
})
