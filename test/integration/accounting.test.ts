import { existsSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import Big from 'big.js'
import t, { type Test } from 'tap'
import { generateSales } from '../../examples/demo/generator.ts'
import { dealOut, netAmount, type Sale } from '../../examples/demo/sales.ts'
import { readSales } from '../../examples/demo/sales-file.ts'
import { mirror } from '../../src/index.ts'
import { audit } from '../support/accounting.ts'
import { CLOSING_PUBLISH, CLOSING_TILL, ClosingCashier, computed, postedRows } from '../support/closings.ts'
import { startServer } from '../support/postgres.ts'
import { openShop, type Shop, type Till } from '../support/shop.ts'

t.setTimeout(180_000)
const server = await startServer(t)

/** Head office's copies of what is sold, to be added up beside the closings. */
const CENTRAL = `
  CREATE TABLE receipts (location text, register text, id bigint, series text, number bigint, business_date date, customer_no text, status text, PRIMARY KEY (location, register, id));
  CREATE TABLE receipt_lines (location text, register text, id bigint, receipt_id bigint, item_no text, vat_code text, vat_rate text, quantity numeric, discount_amount numeric, net_amount numeric, vat_amount numeric,
    PRIMARY KEY (location, register, id))`
/** UCI Online Retail, its first 1,000 rows; it is no part of the project. */
const REAL = resolve(import.meta.dirname, '../../../shared/data/online_retail_1000.csv')
const REGISTERS = 3

interface Register {
  readonly till: Till
  readonly cashier: ClosingCashier
  readonly next: { sale: number; return: number }
}

async function openRetail(t: Test): Promise<{ shop: Shop; registers: Register[] }> {
  const subscribe = { receipts: mirror({ origin: ['location', 'register'] as const }), ...computed(true) }
  const numbering = { receipts: { column: 'number', by: ['series'], first: 1, void: { status: 'voided' } } }
  const shop = await openShop(t, server, { schema: CENTRAL, subscribe, numbering })
  const registers: Register[] = []
  for (let n = 1; n <= REGISTERS; n++) {
    const till = await shop.addTill(`POS${n}`, {
      schema: CLOSING_TILL,
      publish: { ...CLOSING_PUBLISH, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } }, except: ['location'] } },
      transfer: { recordsPerRun: 97 },
    })
    registers.push({ till, cashier: new ClosingCashier(till.db), next: { sale: 1, return: 1 } })
  }
  return { shop, registers }
}

function sell({ cashier, next }: Register, { series, soldAt, customerNo, lines }: Sale): void {
  const items = lines.map((line) => {
    const net = netAmount(line).round(2).toFixed()
    return {
      item: line.itemNo,
      quantity: line.quantity,
      net,
      vat: new Big(net).times('0.2').round(2).toFixed(),
      code: line.itemNo.length % 2 ? 'S' : 'R',
    }
  })
  cashier.sell(series, next[series]++, items, { customer: customerNo, date: soldAt.slice(0, 10) })
}

/** Two closings a day: at the change of shift and in the evening, each by the receipts since the last. */
async function trade(registers: readonly Register[], sales: readonly Sale[]): Promise<void> {
  const hands = dealOut(sales, registers.length)
  for (const [n, register] of registers.entries()) {
    const own = hands[n] as readonly Sale[]
    for (const [shift, part] of [own.slice(0, own.length / 2), own.slice(own.length / 2)].entries()) {
      const { sale, return: returned } = register.next
      for (const one of part) sell(register, one)
      const { next, cashier } = register
      const range = (from: number, through: number): [number, number] | null => (from > through ? null : [from, through])
      cashier.closeRange(`Z-${shift + 1}`, range(sale, next.sale - 1), range(returned, next.return - 1))
    }
  }
  await Promise.all(registers.map(({ till }) => till.replica.synchronize()))
}

/** The documented query, for the year of the sales: the sum of what it finds. */
async function turnover({ pool }: Shop): Promise<string> {
  const page = readFileSync(resolve(import.meta.dirname, '../../docs/closings.md'), 'utf8')
  const sql = /```sql\n([^`]*);\n```/.exec(page)?.[1]?.replaceAll('2027', '2100').replaceAll('2026', '2000')
  const { rows } = await pool.query(`SELECT sum(gross)::text AS gross, count(DISTINCT customer)::int AS customers FROM (${sql}) AS turnover`)
  if (rows[0].customers < 2) throw new Error('Customers and anonymous ones are not apart')
  return rows[0].gross
}

/** What central itself proves of it: every entry, every number, and the day of the closings, whose sums are these. */
async function proves(t: Test, { central }: Shop, voided: number, message: string): Promise<void> {
  const { registers } = await central.audit({ location: 'BA01' })
  t.same(
    registers.flatMap(({ findings }) => findings),
    [],
    `${message}: nothing is missing, and no number is`,
  )
  t.equal(
    registers.reduce((total, { numbers }) => total + (numbers[0]?.void ?? 0), 0),
    voided,
    `${message}: numbers declared void`,
  )
  const { clean, differences, items, movements } = await central.reconcile({ location: 'BA01', businessDate: '2026-11-21' })
  t.same([clean, differences], [true, []], `${message}: reconciled`)
  const total = (all: readonly (string | undefined)[]) => all.reduce((sum, value) => sum.plus(value ?? 'none'), new Big(0)).toFixed()
  const { totals } = await central.closings({ location: 'BA01', limit: 1_000 })
  const gross = [total(items.map(({ receipts }) => receipts?.grossAmount)), total(items.map(({ closings }) => closings.grossAmount))]
  t.same(gross, Array(2).fill(new Big(totals.grossAmount).toFixed()), `${message}: receipts = closing lines = closings`)
  const moved = [total(movements.map(({ wanted }) => wanted.quantity)), total(movements.map(({ posted }) => posted.quantity))]
  t.same(moved, Array(2).fill(new Big(totals.quantity).neg().toFixed()), `${message}: = − movements`)
}

async function prove(t: Test, sales: readonly Sale[]): Promise<void> {
  const { shop, registers } = await openRetail(t)
  const [first] = registers as [Register]
  await trade(registers, sales)
  await audit(t, shop.pool, 'at the end of the day')
  await proves(t, shop, 0, 'at the end of the day')
  const lines = sales.reduce((total, sale) => total + sale.lines.length, 0)
  const { rows } = await shop.pool.query(
    'SELECT (SELECT count(*) FROM receipts)::int AS receipts, (SELECT count(*) FROM receipt_lines)::int AS lines',
  )
  t.same(rows, [{ receipts: sales.length, lines }], 'all of it')
  const { totals } = await shop.central.closings({ location: 'BA01', limit: 1_000 })
  t.equal(totals.closings, 2 * REGISTERS)
  t.same(await turnover(shop), totals.grossAmount, 'customer turnover, as docs/closings.md asks for it')

  const before = await postedRows(shop)
  for (const { till } of registers) {
    await till.replica.export('receipts', (eb) => eb('id', '>', 0))
    await till.replica.export('plu_closings', (eb) => eb('id', '>', 0))
  }
  await Promise.all(registers.map(({ till }) => till.replica.synchronize()))
  t.same(await postedRows(shop), before, 're-exported without a change it posts nothing')

  first.till.db.exec(
    "UPDATE receipts SET status = 'voided' WHERE id % 7 = 0; UPDATE receipts SET customer_no = 'C-1' WHERE id % 5 = 0 AND customer_no IS NULL",
  )
  first.till.db.exec(
    "UPDATE receipt_lines SET quantity = '7', net_amount = '3.33' WHERE id % 11 = 0; DELETE FROM receipt_lines WHERE id % 13 = 0; UPDATE receipts SET business_date = '2026-11-22' WHERE id % 3 = 0",
  )
  await first.till.replica.synchronize()
  await audit(t, shop.pool, 'after corrections, voids and other customers')
  const voided = first.till.db.prepare("SELECT count(*) FROM receipts WHERE status = 'voided'").pluck().get() as number
  await proves(t, shop, voided, 'after corrections, voids and other customers')
  const after = new Set(await postedRows(shop))
  t.same(
    before.filter((row) => !after.has(row)),
    [],
    'what is posted is immutable',
  )
  t.ok(after.size > before.length)
}

t.test('the real sales of a shop add up: receipts, closings, movements', { skip: existsSync(REAL) ? false : `${REAL} is not there` }, (t) =>
  prove(t, readSales(REAL)),
)

t.test('generated sales add up: receipts, closings, movements', (t) => prove(t, generateSales(20_261_121, 400)))
