import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import {
  createRegister,
  type LinkTransfer,
  type MailboxTransfer,
  mirror,
  type Notice,
  type Register,
  type RegisterName,
  TillsyncError,
} from '../../src/index.ts'
import { fileMailbox } from '../../src/transport/file.ts'
import { httpLink } from '../../src/transport/http.ts'
import { natsMailbox } from '../../src/transport/nats.ts'
import { putAhead } from './calendar.ts'
import { labelsOf } from './labels.ts'
import type { Exported, FromTill, Task, TillStart, ToTill, Way } from './messages.ts'
import { PointOfSale } from './pos.ts'
import { OrderPad } from './pos-orders.ts'
import type { HeadOfficeTables, TillTables } from './tables.ts'

// A till: one process, one SQLite file, a POS application and tillsync beside it. It may be killed at any moment.

const REPORT_MS = 150
/** Sales without a breath for the rest of the process, where the rate is high. */
const BURST = 20
let stopping = false

process.on('SIGINT', () => undefined) // a Ctrl-C is for the director, who ends us
process.on('disconnect', () => process.exit())
process.once('message', (start: TillStart) => {
  const started = run(start)
  process.on('message', async (message: ToTill) => answer(await started, message))
})

interface Till {
  readonly database: Database.Database
  readonly pos: PointOfSale
  readonly orders: OrderPad
  readonly replica: Register<TillTables>
}

async function run(start: TillStart): Promise<Till> {
  putAhead(start.aheadMs)
  const database = new Database(start.file)
  const pos = new PointOfSale(database)
  const replica = createTill(start, database)
  await replica.install()
  replica.on('offline', () => say({ type: 'line', up: false }))
  replica.on('online', () => say({ type: 'line', up: true }))
  replica.start()
  say({ type: 'ready', found: pos.committed().size })
  const till = { database, pos, orders: new OrderPad(database), replica }
  void report(till)
  void sellAll(pos, start)
  return till
}

/** One after the other, at the given rate; what is committed already is not sold again. */
async function sellAll(pos: PointOfSale, { sales, rate, mishaps }: TillStart): Promise<void> {
  const committed = pos.committed()
  const began = performance.now()
  for (const [n, sale] of sales.filter(({ receiptNo }) => !committed.has(receiptNo)).entries()) {
    const wait = began + (n * 1_000) / rate - performance.now()
    if (wait >= 1 || n % BURST === 0) await sleep(Math.max(0, wait))
    pos.sell(sale, sale.receiptNo === mishaps.wrongTotal ? 'wrong total' : sale.receiptNo === mishaps.leftOpen ? 'open' : 'posted')
  }
}

async function report({ pos, replica }: Till): Promise<void> {
  while (!stopping) {
    const { pending, unsealed } = await replica.status()
    say({ type: 'progress', sold: pos.count(), pending: pending + unsealed })
    await sleep(REPORT_MS)
  }
}

/** All that makes the till a register: what is published, what is taken, and how it gets to head office and from there. */
function createTill({ location, register, file, way }: TillStart, host: Database.Database): Register<TillTables> {
  return createRegister<TillTables, HeadOfficeTables>({
    location,
    register,
    database: sqlite(() => new Database(file), { host }),
    publish: {
      receipts: { where: (eb) => eb('status', '=', 'posted'), identity: ['receipt_no', 'posted_at'] },
      receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
      tender_lines: { partOf: { receipts: { receipt_id: 'id' } } },
      plu_closings: {},
      plu_closing_ranges: { partOf: { plu_closings: { closing_no: 'closing_no' } } },
      internal_orders: { except: ['status', 'confirmed_at'] },
      internal_order_lines: { partOf: { internal_orders: { order_id: 'id' } }, except: ['confirmed_quantity'] },
    },
    subscribe: {
      items: mirror({ notify: ['description', 'unit_price'] }),
      price_lists: mirror(),
      price_list_lines: mirror({ notify: ['unit_price'] }),
      internal_orders: mirror({ only: ['status', 'confirmed_at'], rows: 'update', notify: ['status'] }),
      internal_order_lines: mirror({ only: ['confirmed_quantity'], rows: 'update' }),
    },
    transfer: { type: 'push', ...carrierOf(way, { location, register }), everyMs: 1_000, backoff: { minMs: 100, maxMs: 800 } },
  })
}

function carrierOf(way: Way, name: RegisterName): Pick<LinkTransfer, 'link'> | Pick<MailboxTransfer, 'mailbox'> {
  if (way.type === 'http') return { link: httpLink({ url: way.url, token: way.token }) }
  if (way.type === 'file') return { mailbox: fileMailbox({ folder: way.folder, key: way.keys[name.register] ?? '', ...name, lookMs: 100 }) }
  const { servers, credentials } = way
  return { mailbox: natsMailbox({ servers, credentials, ...name }) }
}

async function answer(till: Till, message: ToTill): Promise<void> {
  const { orders, replica } = till
  if (message.type === 'export all') say({ type: 'exported', ...(await replica.export('receipts', (eb) => eb.lit(true))) })
  if (message.type === 'order') orders.place(message.lines, message.day)
  if (message.type === 'change order') orders.change(message.line)
  if (message.type === 'list notices') await listNotices(till, message.day)
  if (message.type === 'acknowledge') {
    await replica.notices.acknowledge(message.ids)
    say({ type: 'acknowledged' })
  }
  if (message.type === 'do') {
    const exported = await perform(till, message.task)
    await synchronize(replica)
    say({ type: 'done', entries: (await replica.status()).head.entryNo, exported })
  }
  if (message.type === 'stop') {
    stopping = true
    await replica.stop()
    process.exit()
  }
}

async function listNotices({ database, replica }: Till, day: string): Promise<void> {
  const notices: Notice[] = []
  for (;;) {
    const page = await replica.notices.list({ after: notices.at(-1)?.id ?? 0 })
    if (page.length === 0) break
    notices.push(...page)
  }
  say({ type: 'notices', notices, labels: labelsOf(database, notices, day) })
}

/** Until head office has everything: on a machine that is very busy an exchange may time out. */
async function synchronize(replica: Register<TillTables>): Promise<void> {
  for (;;) {
    try {
      await replica.synchronize()
      return
    } catch (error) {
      if (!(error instanceof TillsyncError && error.retryable)) throw error
      await sleep(REPORT_MS)
    }
  }
}

async function perform({ pos, replica }: Till, task: Task): Promise<Exported | undefined> {
  switch (task.type) {
    case 'take back':
      return void pos.sell(task.sale, 'posted')
    case 'close':
      return void pos.close()
    case 'mend':
      return void pos.mend(task.receiptNo)
    case 'take payment':
      return void pos.takePayment(task.receiptNo)
    case 'correct':
      return void pos.correct(task)
    case 'export day':
      return replica.export('receipts', (eb) => eb('business_date', '=', task.businessDate))
    case 'synchronize':
      return undefined
  }
}

function say(message: FromTill): void {
  if (process.connected) process.send?.(message)
}
