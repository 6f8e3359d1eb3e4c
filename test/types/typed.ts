// Compiled with the project, never run: a line that must not compile stands under `@ts-expect-error`.
import { createServer } from 'node:http'
import type { Pool } from 'pg'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import {
  balanced,
  type Change,
  createCentral,
  createRegister,
  type Document,
  type HandlerContext,
  type HostHandler,
  knownItems,
  mirror,
  negate,
  openPeriod,
  pluClosings,
  type Row,
  stockMovements,
} from '../../src/index.ts'
import { httpLink, toNodeHandler } from '../../src/transport/http.ts'

interface TillTables {
  receipts: { id: number; receipt_no: string; status: 'open' | 'posted'; business_date: string; customer_no: string | null; cashier_pin: string }
  receipt_lines: { id: number; receipt_id: number; item_no: string; quantity: string; net_amount: string }
}
interface HeadOfficeTables extends TillTables {
  assortments: { item_no: string; location: string }
}
declare const pool: Pool
declare const open: Parameters<typeof sqlite>[0]
const till = { location: 'A', register: '1', database: sqlite(open) }

const register = createRegister<TillTables>({
  ...till,
  publish: {
    receipts: { where: (eb) => eb('status', '=', 'posted'), except: ['cashier_pin'], identity: ['receipt_no'] },
    receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
  },
})
await register.export('receipts', { receipt_no: 'R-4711' })
await register.export('receipts', [{ id: 1 }, { id: 2 }])
await register.export('receipts', (eb) => eb('business_date', '>=', '2026-11-21'))
await register.entries({ table: 'receipt_lines' })
await register.trace('receipts', { receipt_no: 'R-4711' })
await register.install({ dryRun: true })
for (const { code } of await register.check()) if (code === 'NO_INDEX') break
// @ts-expect-error a column that there is not
await register.trace('receipts', { receiptno: 'R-4711' })
// @ts-expect-error a table that there is not
await register.export('receipt', { receipt_no: 'R-4711' })
// @ts-expect-error a column that there is not
await register.export('receipts', { receiptno: 'R-4711' })
// @ts-expect-error a value of another type
await register.export('receipts', { receipt_no: 4711 })

// @ts-expect-error a table that there is not
createRegister<TillTables>({ ...till, publish: { receipt: {} } })
// @ts-expect-error a column that there is not
createRegister<TillTables>({ ...till, publish: { receipts: { except: ['pin'] } } })
// @ts-expect-error a column that there is not
createRegister<TillTables>({ ...till, publish: { receipts: { where: (eb) => eb('state', '=', 'posted') } } })
// @ts-expect-error a value that the column does not have
createRegister<TillTables>({ ...till, publish: { receipts: { where: (eb) => eb('status', '=', 'closed') } } })
// @ts-expect-error the part has no such column
createRegister<TillTables>({ ...till, publish: { receipts: {}, receipt_lines: { partOf: { receipts: { receipt: 'id' } } } } })
// @ts-expect-error the root has no such column
createRegister<TillTables>({ ...till, publish: { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'no' } } } } })
interface TillWithCustomers extends TillTables {
  customers: { no: string; blocked: number }
}
createRegister<TillWithCustomers>({ ...till, publish: { receipts: { dependsOn: { customers: { customer_no: 'no' } } } } })
// @ts-expect-error the other table has no such column
createRegister<TillWithCustomers>({ ...till, publish: { receipts: { dependsOn: { customers: { customer_no: 'number' } } } } })
// @ts-expect-error this table has no such column
createRegister<TillWithCustomers>({ ...till, publish: { receipts: { dependsOn: { customers: { customer: 'no' } } } } })
// @ts-expect-error parts have no filter of their own
createRegister<TillTables>({ ...till, publish: { receipt_lines: { partOf: { receipts: { receipt_id: 'id' } }, where: (eb) => eb('id', '=', 1) } } })
createRegister<TillTables>({ ...till, database: postgres(pool, { schema: 'pos' }), publish: { receipts: {} } })

const toMovement = (line: Row<TillTables, 'receipt_lines'>, receipt: Document<TillTables, 'receipts'>) => ({
  item: line.item_no,
  location: 'A',
  customer: receipt.customer_no,
  quantity: negate(line.quantity),
})

const headOffice = createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  subscribe: {
    receipts: [
      mirror({ origin: ['location', 'register'] }),
      stockMovements((receipt) => receipt.parts.receipt_lines.map((line) => toMovement(line, receipt))),
    ],
  },
})
for (const { stage, postings } of await headOffice.trace('receipts', { receipt_no: 'R-4711' })) if (stage === 'applied') postings.at(0)
await headOffice.trace('receipts', [{ id: 1 }, { id: 2 }], { location: 'A', since: '2026-11-21' })
// @ts-expect-error a column that there is not
await headOffice.trace('receipts', { receiptno: 'R-4711' })
const { differences } = await headOffice.compare('receipts', { location: 'A', register: '1' }, { repair: true })
if (differences[0]?.kind === 'missing') await headOffice.compare('receipts', { location: 'A', register: '1' })
// @ts-expect-error a table that no till sends
await headOffice.compare('receipt', { location: 'A', register: '1' })
// @ts-expect-error a table that no till sends
await headOffice.trace('assortments', { item_no: 'A' })
// @ts-expect-error a value of another type
await headOffice.trace('receipts', { id: 'one' })
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  // @ts-expect-error a column that there is not
  subscribe: { receipts: stockMovements((receipt) => [{ item: receipt.item_no, location: 'A', quantity: '1' }]) },
})
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  // @ts-expect-error a part that there is not
  subscribe: { receipts: stockMovements((receipt) => receipt.parts.lines.map(() => ({ item: 'x', location: 'A', quantity: '1' }))) },
})
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  // @ts-expect-error a table that no till sends
  subscribe: { assortments: mirror() },
})
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  // @ts-expect-error a movement without a quantity
  subscribe: { receipts: stockMovements(() => [{ item: 'x', location: 'A' }]) },
})

// mirror() with all its options, of roots and parts.
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  subscribe: {
    receipts: mirror({
      origin: ['location', 'register'],
      except: ['cashier_pin'],
      rename: { table: 'sales', columns: { receipt_no: 'sale_no' } },
      rows: 'all',
      removals: 'apply',
      map: (row, { location }) => ({ ...row, receipt_no: `${location} ${row.receipt_no}`, from: location }),
    }),
    receipt_lines: mirror({ only: ['quantity'], rows: 'update' }),
  },
})
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  // @ts-expect-error a column that there is not
  subscribe: { receipts: mirror({ only: ['receiptno'] }) },
})
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  // @ts-expect-error a column of the root, not of the part
  subscribe: { receipt_lines: [mirror({ except: ['receipt_no'] })] },
})
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  // @ts-expect-error a column that there is not
  subscribe: { receipts: mirror({ rename: { columns: { receiptno: 'x' } } }) },
})
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  // @ts-expect-error a column that there is not
  subscribe: { receipts: mirror({ map: (row) => ({ id: row.ID }) }) },
})
// @ts-expect-error a register's database: central's is PostgreSQL
createCentral<HeadOfficeTables, TillTables>({ database: sqlite(open), subscribe: {} })
// @ts-expect-error parts are no column
createCentral<HeadOfficeTables, TillTables>({ database: postgres(pool), subscribe: { receipts: mirror({ only: ['parts'] }) } })
// @ts-expect-error an option that there is not
createCentral<HeadOfficeTables, TillTables>({ database: postgres(pool), subscribe: { receipts: mirror({ where: 'x' }) } })
// @ts-expect-error an option's value that there is not
createCentral<HeadOfficeTables, TillTables>({ database: postgres(pool), subscribe: { receipts: mirror({ rows: 'some' }) } })

// The host's own handlers, in the call and outside it.
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  handlerTimeoutMs: 5_000,
  subscribe: {
    receipts: [
      mirror(),
      async (changes, { trx, origin, once }) => {
        for (const { operation, document, baseline, recordId, incarnation, entryNo } of changes) {
          if (operation === 'remove') continue
          await trx.insertInto('assortments').values({ item_no: document.receipt_no, location: origin.location }).execute()
          once(`print ${document.receipt_no}`, (key, signal) => [key.length, signal.aborted, document.parts.receipt_lines[0]?.quantity])
          ;[baseline?.receipt_no, recordId[0], incarnation + entryNo].join()
        }
      },
    ],
    receipt_lines: (changes) => void changes.length,
  },
})
type Receipt = Document<TillTables, 'receipts'>
const receiptNos = (changes: readonly Change<Receipt>[]): string[] => changes.flatMap(({ document }) => (document ? [document.receipt_no] : []))
const count = async ({ trx }: HandlerContext<HeadOfficeTables>): Promise<number> => (await trx.selectFrom('assortments').selectAll().execute()).length
const own: HostHandler<HeadOfficeTables, TillTables, 'receipts'> = async (changes, context) => {
  receiptNos(changes).push(String(await count(context)))
}
createCentral<HeadOfficeTables, TillTables>({ database: postgres(pool), subscribe: { receipts: own } })
// @ts-expect-error a handler of another table's documents
createCentral<HeadOfficeTables, TillTables>({ database: postgres(pool), subscribe: { receipt_lines: own } })
// @ts-expect-error a handler that returns something
createCentral<HeadOfficeTables, TillTables>({ database: postgres(pool), subscribe: { receipts: async (changes) => changes.length } })
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  // @ts-expect-error a column that there is not
  subscribe: { receipts: async (changes) => void changes.map(({ document }) => document?.receiptno) },
})
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  // @ts-expect-error a table that head office does not have
  subscribe: { receipts: async (_, { trx }) => void (await trx.selectFrom('customers').selectAll().execute()) },
})
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  // @ts-expect-error a removal has no document
  subscribe: { receipts: async (changes) => void changes.map(({ document }) => document.receipt_no) },
})

// A host without types: every name is allowed.
const untyped = createRegister({
  ...till,
  publish: {
    anything: { where: (eb) => eb('whatever', '=', 1), except: ['x'] },
    parts: { partOf: { anything: { a: 'b' } } },
  },
})
await untyped.export('anything', { whatever: 1 })
createCentral({
  database: postgres(pool),
  subscribe: {
    anything: [
      mirror(),
      stockMovements((document) =>
        (document.parts.parts ?? []).map((part) => ({ item: part.item, location: document.location, quantity: part.quantity })),
      ),
      async (changes, { trx }) => {
        for (const { document } of changes) if (document) await trx.insertInto('whatever').values({ a: document.a }).execute()
      },
    ],
    parts: mirror({ only: ['x'], rename: { table: 'y', columns: { x: 'z' } }, map: (row, { register }) => ({ ...row, register }) }),
  },
})

const central = createCentral({
  database: postgres(pool),
  subscribe: {},
  limits: { wrongTokens: 50, lockOutMs: 60_000, exchangesPerMinute: 600, remembered: 1_000 },
})
// @ts-expect-error a limit that there is not
createCentral({ database: postgres(pool), subscribe: {}, limits: { tokens: 5 } })
const { token } = await central.registers.rotate({ location: 'A', register: '1' }, { overlapMs: 0 })
await central.registers.revoke({ location: 'A', register: '1' })
for (const { revokedAt, overlapEndsAt, tokenUsedAt } of await central.registers.list())
  if ((revokedAt ?? overlapEndsAt ?? tokenUsedAt) === undefined) break
httpLink({ url: 'https://hq.example.com/sync', token })
httpLink({ url: 'https://hq.example.com/sync', token: async () => token })
// @ts-expect-error a token that is none
httpLink({ url: 'https://hq.example.com/sync', token: () => 5 })
await central.fetch(new Request('https://hq.example.com/sync'))
await central.fetch(new Request('https://hq.example.com/sync'), { source: '192.0.2.1' })
central.on('refused', ({ register, source, error }) => [register?.location, source?.length, error.code])
createServer(toNodeHandler(central.fetch))
createServer(toNodeHandler(central.fetch, { source: (request) => request.headersDistinct['x-forwarded-for']?.at(-1) }))
createServer(toNodeHandler((request) => central.fetch(request)))
// @ts-expect-error a source is text
createServer(toNodeHandler(central.fetch, { source: () => 5 }))

const pulled = createRegister<TillTables>({ ...till, publish: { receipts: {} }, transfer: { type: 'pull', token, recordsPerRun: 100 } })
createRegister<TillTables>({ ...till, publish: { receipts: {} }, transfer: { type: 'pull', token: async () => token } })
// @ts-expect-error a pulled register has no link
createRegister<TillTables>({ ...till, publish: { receipts: {} }, transfer: { type: 'pull', token, link: httpLink({ url: 'https://hq/', token }) } })
// @ts-expect-error a pulled register wants to see a token
createRegister<TillTables>({ ...till, publish: { receipts: {} }, transfer: { type: 'pull' } })
createServer(toNodeHandler(pulled.fetch))
const { sent } = await register.synchronize({ signal: AbortSignal.timeout(1_000), onProgress: ({ sent, pending }) => sent + pending })
sent.toFixed()
const pulling = createCentral({
  database: postgres(pool),
  subscribe: {},
  longPollMs: 0,
  pull: { token: async ({ location, register }) => `${location}${register}`, everyMs: 60_000, lanes: 32, timeoutMs: 10_000 },
})
// @ts-expect-error without a token nobody is pulled
createCentral({ database: postgres(pool), subscribe: {}, pull: { everyMs: 60_000 } })
await pulling.registers.add({ location: 'A', register: '1', pull: { url: 'https://till-1.example.com/sync' } })
await pulling.registers.change({ location: 'A', register: '1' }, { pull: undefined })
const { received, documents } = await pulling.synchronize(
  { location: 'A', register: '1' },
  { onProgress: ({ register, pending }) => [register, pending] },
)
for (const { register, error } of await pulling.synchronize()) if (error?.retryable) [register, received, documents].join()
pulling.on('offline', ({ register, error }) => [register.location, error.code])

interface ClosingTill extends TillTables {
  plu_closings: { id: number; closing_no: string; business_date: string; first_no: number; last_no: number; net_amount: string | null }
  plu_closing_lines: {
    id: number
    closing_id: number
    item_no: string
    vat_code: string
    customer_no: string | null
    quantity: string
    net_amount: string
  }
}
const closingsAt = { database: postgres(pool) }
createCentral<HeadOfficeTables, ClosingTill>({
  ...closingsAt,
  subscribe: {
    receipts: stockMovements((receipt) => receipt.parts.receipt_lines.map((line) => toMovement(line, receipt)), {
      removals: 'apply',
      scale: { quantity: 3, amount: 2 },
      post: { table: 'item_ledger_entries', row: ({ item, quantity, origin }) => ({ item_no: item, quantity, register: origin.register }) },
    }),
    plu_closings: pluClosings({
      closing: (closing, { location }) => ({ location, businessDate: closing.business_date, document: closing.closing_no }),
      lines: 'plu_closing_lines',
      line: (line, closing) => ({
        item: line.item_no,
        customer: line.customer_no,
        quantity: line.quantity,
        netAmount: closing.net_amount ?? line.net_amount,
      }),
      moveStock: false,
    }),
  },
})
// Without the name of the part table a line has the columns of all of them.
createCentral<HeadOfficeTables, ClosingTill>({
  ...closingsAt,
  subscribe: {
    plu_closings: pluClosings({
      closing: (c) => ({ location: 'A', businessDate: c.business_date }),
      line: (l, c) => ({ item: l.item_no, vatCode: l.vat_code, quantity: l.quantity, netAmount: l.net_amount, customer: c.closing_no }),
      moveStock: false,
    }),
  },
})
createCentral<HeadOfficeTables, ClosingTill>({
  ...closingsAt,
  subscribe: {
    plu_closings: pluClosings({
      closing: (c) => ({ location: 'A', businessDate: c.business_date, ranges: [{ from: c.first_no, through: c.last_no }] }),
      receipts: {
        table: 'receipts',
        number: 'id',
        lines: (receipt) =>
          receipt.parts.receipt_lines.map((l) => ({ item: l.item_no, customer: receipt.customer_no, quantity: l.quantity, netAmount: l.net_amount })),
      },
    }),
  },
})
createCentral<HeadOfficeTables, ClosingTill>({
  ...closingsAt,
  subscribe: {
    plu_closings: pluClosings({
      // @ts-expect-error a column that there is not
      closing: (c) => ({ location: 'A', businessDate: c.date }),
      line: (l) => ({ item: l.item_no, quantity: l.quantity, netAmount: l.net_amount }),
    }),
  },
})
createCentral<HeadOfficeTables, ClosingTill>({
  ...closingsAt,
  subscribe: {
    plu_closings: pluClosings({
      closing: (c) => ({ location: 'A', businessDate: c.business_date }),
      lines: 'plu_closing_lines',
      // @ts-expect-error a column that the part has not
      line: (l) => ({ item: l.item_no, quantity: l.quantity, netAmount: l.amount }),
    }),
  },
})
createCentral<HeadOfficeTables, ClosingTill>({
  ...closingsAt,
  subscribe: {
    plu_closings: pluClosings({
      closing: (c) => ({ location: 'A', businessDate: c.business_date }),
      // @ts-expect-error a part that there is not
      lines: 'closing_lines',
      line: () => ({ item: 'x', quantity: '1', netAmount: '1' }),
    }),
  },
})
createCentral<HeadOfficeTables, ClosingTill>({
  ...closingsAt,
  subscribe: {
    plu_closings: pluClosings({
      closing: (c) => ({ location: 'A', businessDate: c.business_date }),
      // @ts-expect-error a line without a net amount
      line: (l) => ({ item: l.item_no, quantity: l.quantity }),
    }),
  },
})
createCentral<HeadOfficeTables, ClosingTill>({
  ...closingsAt,
  subscribe: {
    plu_closings: pluClosings({
      closing: (c) => ({ location: 'A', businessDate: c.business_date, ranges: [] }),
      // @ts-expect-error a column that receipts have not
      receipts: { table: 'receipts', number: 'receipt_number', lines: () => [] },
    }),
  },
})
createCentral({
  ...closingsAt,
  subscribe: {
    anything: pluClosings({
      closing: (c) => ({ location: c.shop, businessDate: c.day }),
      line: (l, c) => ({ item: l.plu, quantity: l.qty, netAmount: c.net }),
    }),
    others: pluClosings({
      closing: (c) => ({ location: c.shop, businessDate: c.day, ranges: [{ from: c.first, through: c.last }] }),
      receipts: {
        table: 'bons',
        number: 'no',
        series: 'series',
        lines: (bon) => (bon.parts.rows ?? []).map((r) => ({ item: r.plu, quantity: r.qty, netAmount: r.net })),
      },
      moveStock: true,
    }),
  },
})
// @ts-expect-error an option that there is not
stockMovements(() => [], { removal: 'apply' })
const { closings, totals } = await central.closings({
  location: 'A',
  businessDate: { from: '2026-11-01', through: '2026-11-30' },
  closingNo: { from: 1 },
  register: 'POS1',
})
for (const { closingNo, lines, supplements } of closings)
  [closingNo + (supplements ?? 0), lines.map(({ netAmount }) => netAmount), totals.netAmount].join()
for (const { waits } of await central.waitingClosings({ location: 'A' })) if (waits.why === 'quarantined') waits.receipts.join()
// @ts-expect-error a warehouse is needed
await central.closings({})
const replaying = central.replay(
  { table: 'receipts', since: new Date(0), registers: [{ location: 'A', register: '1' }] },
  {
    signal: new AbortController().signal,
    onProgress: ({ location, register, entries, of, documents }) => [location.length, register.length, entries / of, documents],
  },
)
replaying.then(({ documents, postings, quarantined, released, refused }) => documents + postings + quarantined + released + refused)
// @ts-expect-error a table is needed
central.replay({ since: new Date(0) })
// @ts-expect-error an option that there is not
central.replay({ table: 'receipts', register: '1' })
// @ts-expect-error a register has a location
central.replay({ table: 'receipts', registers: [{ register: '1' }] })

const typedChecks = createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  subscribe: { receipts: mirror() },
  validate: {
    receipts: [
      (receipt, { location }) =>
        receipt.status === 'posted' && receipt.parts.receipt_lines.length === 0 ? { message: `empty, from ${location}` } : undefined,
      balanced({ header: 'receipt_no', lines: { receipt_lines: ['net_amount', 'quantity'] }, when: (receipt) => receipt.status === 'posted' }),
      knownItems({ items: { receipt_lines: 'item_no' }, in: { table: 'items', column: 'item_no' } }),
      openPeriod({ date: 'business_date', closed: (date) => date < '2026-01-01' }),
    ],
  },
  retry: { minMs: 1_000 },
})
const [waiting] = await typedChecks.quarantine.list({ state: 'waiting' })
await typedChecks.quarantine.retry(waiting?.id ?? { location: 'A' })
typedChecks.on('quarantined', ({ register, documents }) => documents.map(({ code, recordId }) => `${register.location} ${code} ${recordId}`))
const checked = { database: postgres(pool), subscribe: { receipts: mirror() } }
// @ts-expect-error a table that there is not
createCentral<HeadOfficeTables, TillTables>({ ...checked, validate: { receipt: () => undefined } })
// @ts-expect-error a column that there is not
createCentral<HeadOfficeTables, TillTables>({ ...checked, validate: { receipts: (receipt) => ({ message: receipt.number }) } })
// @ts-expect-error no problem
createCentral<HeadOfficeTables, TillTables>({ ...checked, validate: { receipts: () => ({ text: 'wrong' }) } })
// @ts-expect-error a column that there is not
createCentral<HeadOfficeTables, TillTables>({ ...checked, validate: { receipts: openPeriod({ date: 'day', closed: () => true }) } })
createCentral<HeadOfficeTables, TillTables>({
  ...checked,
  // @ts-expect-error a column that there is not
  validate: { receipts: balanced({ header: 'receipt_no', lines: { receipt_lines: 'gross' } }) },
})
createCentral({
  ...checked,
  validate: { receipts: balanced({ header: 'any', lines: { whatever: 'any' } }), orders: (order) => (order.anything ? { message: 'x' } : undefined) },
})

const publishing = createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  subscribe: {},
  publish: {
    assortments: { where: (eb, { location, attributes }) => eb.and([eb('location', '=', location), eb('item_no', '<>', attributes.excluded)]) },
    receipts: { only: ['receipt_no'], dependsOn: { assortments: { receipt_no: 'item_no' } } },
    receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
  },
})
await publishing.export('assortments', { item_no: 'A' }, { to: { location: 'BA01' } })
await publishing.registers.change({ location: 'BA01', register: 'POS1' }, { attributes: { excluded: 'A' } })
for (const { table, entryNo, head } of (await publishing.status()).subscribed) if (entryNo < head) console.log(table)
// @ts-expect-error a table that there is not
await publishing.export('items', { item_no: 'A' })
// @ts-expect-error a column that there is not
await publishing.export('assortments', { itemno: 'A' })
const office = { database: postgres(pool), subscribe: {} }
// @ts-expect-error a table that there is not
createCentral<HeadOfficeTables>({ ...office, publish: { items: {} } })
// @ts-expect-error a column that there is not
createCentral<HeadOfficeTables>({ ...office, publish: { assortments: { where: (eb) => eb('shop', '=', 'BA01') } } })
// @ts-expect-error an option of a register's
createCentral<HeadOfficeTables>({ ...office, publish: { assortments: { existing: 'all' } } })
// @ts-expect-error a column that there is not
createCentral<HeadOfficeTables>({ ...office, publish: { receipts: { dependsOn: { assortments: { receipt_no: 'no' } } } } })
createCentral({ ...office, publish: { anything: { where: (eb, register) => eb('any_column', '=', register.attributes.any) } } })

// How the tills number: columns of what they send.
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  subscribe: {},
  numbering: {
    receipts: [
      {
        column: 'receipt_no',
        by: ['business_date'],
        first: 1,
        void: [{ status: 'open' }],
        voidedIn: { receipt_lines: { receipt_no: 'item_no', business_date: 'quantity' } },
      },
      { column: 'id' },
    ],
  },
}).audit({ location: 'BA01' })
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  subscribe: {},
  // @ts-expect-error a column that there is not
  numbering: { receipts: { column: 'receiptno' } },
})
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  subscribe: {},
  // @ts-expect-error a column that there is not
  numbering: { receipts: { column: 'receipt_no', by: ['serie'] } },
})
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  subscribe: {},
  // @ts-expect-error a value that the column does not hold
  numbering: { receipts: { column: 'receipt_no', void: { status: 'voided' } } },
})
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  subscribe: {},
  // @ts-expect-error a column that the other table does not have
  numbering: { receipts: { column: 'receipt_no', voidedIn: { receipt_lines: { receipt_no: 'number' } } } },
})
createCentral<HeadOfficeTables, TillTables>({
  database: postgres(pool),
  subscribe: {},
  // @ts-expect-error a table that no till sends
  numbering: { assortments: { column: 'item_no' } },
})
createCentral({ database: postgres(pool), subscribe: {}, numbering: { anything: { column: 'whatever', by: ['x'], void: { y: 1 } } } })
// What an audit and a reconciliation say.
const { registers: audited } = await createCentral({ database: postgres(pool), subscribe: {} }).audit({ location: 'BA01', register: 'POS1' })
for (const finding of audited.flatMap(({ findings }) => findings)) {
  if (finding.code === 'ENTRIES_MISSING') [finding.epoch, finding.from + finding.through].join()
  if (finding.code === 'NUMBER_TWICE') [finding.prefix, finding.by.series, finding.documents[0]?.state].join()
  // @ts-expect-error a gap has no documents
  if (finding.code === 'NUMBERS_MISSING') finding.documents
}
const reconciled = await createCentral({ database: postgres(pool), subscribe: {} }).reconcile({ location: 'BA01', businessDate: '2026-11-21' })
;[reconciled.items[0]?.receipts?.netAmount, reconciled.movements[0]?.wanted.quantity, reconciled.differences[0]?.lines[0]?.wanted.quantity].join()
// @ts-expect-error a day is needed
createCentral({ database: postgres(pool), subscribe: {} }).reconcile({ location: 'BA01' })

// The receipts that closings of the till's own sum up.
createCentral<HeadOfficeTables, ClosingTill>({
  ...closingsAt,
  subscribe: {
    plu_closings: pluClosings({
      closing: (c) => ({ location: 'A', businessDate: c.business_date }),
      lines: 'plu_closing_lines',
      line: (l) => ({ item: l.item_no, quantity: l.quantity, netAmount: l.net_amount }),
      receipts: {
        table: 'receipts',
        date: 'business_date',
        lines: (receipt) =>
          receipt.parts.receipt_lines.map((l) => ({ item: l.item_no, customer: receipt.customer_no, quantity: l.quantity, netAmount: l.net_amount })),
      },
    }),
  },
})
createCentral<HeadOfficeTables, ClosingTill>({
  ...closingsAt,
  subscribe: {
    plu_closings: pluClosings({
      closing: (c) => ({ location: 'A', businessDate: c.business_date }),
      lines: 'plu_closing_lines',
      line: (l) => ({ item: l.item_no, quantity: l.quantity, netAmount: l.net_amount }),
      // @ts-expect-error a column that receipts have not
      receipts: { table: 'receipts', date: 'day', lines: () => [] },
    }),
  },
})

interface SentTables {
  items: { item_no: string; name: string; unit_price: string }
  price_lists: { id: number; price_group: string }
  price_list_lines: { list_id: number; item_no: string; unit_price: string }
}
const subscribing = createRegister<TillTables, SentTables>({
  ...till,
  publish: { receipts: {} },
  subscribe: {
    items: mirror({ notify: ['name', 'unit_price'], rename: { columns: { unit_price: 'price' } } }),
    price_lists: mirror({ rows: 'update', only: ['price_group'] }),
    price_list_lines: mirror({ notify: ['unit_price'], validity: ['starts_on', 'ends_on'] }),
  },
})
const notices = await subscribing.notices.list({ table: 'items' })
await subscribing.notices.acknowledge(notices.map(({ id }) => id))
subscribing.on('notice', ({ notices }) => notices.map(({ kind, column, old }) => [kind, column, old]))
for (const { table, isComplete } of (await subscribing.status()).subscriptions) if (!isComplete) console.log(table)
// @ts-expect-error a table that there is not
createRegister<TillTables, SentTables>({ ...till, publish: { receipts: {} }, subscribe: { item: mirror() } })
// @ts-expect-error a column that there is not
createRegister<TillTables, SentTables>({ ...till, publish: { receipts: {} }, subscribe: { items: mirror({ notify: ['price'] }) } })
// @ts-expect-error what a register has no ledger for
createRegister<TillTables, SentTables>({ ...till, publish: { receipts: {} }, subscribe: { items: stockMovements(() => []) } })
createRegister({ ...till, publish: { anything: {} }, subscribe: { whatever: mirror({ notify: ['any_column'] }) } })
