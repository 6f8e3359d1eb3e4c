import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister, mirror, type Register, TillsyncError } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { type Exported, type FromTill, LOCATION, type Task, type TillStart, type ToTill } from './messages.ts'
import { PointOfSale } from './pos.ts'
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
  readonly pos: PointOfSale
  readonly replica: Register<TillTables>
}

async function run(start: TillStart): Promise<Till> {
  const database = new Database(start.file)
  const pos = new PointOfSale(database)
  const replica = createTill(start, database)
  await replica.install()
  replica.on('offline', () => say({ type: 'line', up: false }))
  replica.on('online', () => say({ type: 'line', up: true }))
  replica.start()
  say({ type: 'ready', found: pos.committed().size })
  const till = { pos, replica }
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
function createTill({ register, file, url, token }: TillStart, host: Database.Database): Register<TillTables> {
  return createRegister<TillTables, HeadOfficeTables>({
    location: LOCATION,
    register,
    database: sqlite(() => new Database(file), { host }),
    publish: {
      receipts: { where: (eb) => eb('status', '=', 'posted'), identity: ['receipt_no', 'posted_at'] },
      receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
      tender_lines: { partOf: { receipts: { receipt_id: 'id' } } },
      plu_closings: {},
      plu_closing_ranges: { partOf: { plu_closings: { closing_no: 'closing_no' } } },
    },
    subscribe: { items: mirror() },
    transfer: { type: 'push', link: httpLink({ url, token }), everyMs: 1_000, backoff: { minMs: 100, maxMs: 800 } },
  })
}

async function answer({ pos, replica }: Till, message: ToTill): Promise<void> {
  if (message.type === 'export all') say({ type: 'exported', ...(await replica.export('receipts', (eb) => eb.lit(true))) })
  if (message.type === 'do') {
    const exported = await perform({ pos, replica }, message.task)
    await synchronize(replica)
    say({ type: 'done', entries: (await replica.status()).head.entryNo, exported })
  }
  if (message.type === 'stop') {
    stopping = true
    await replica.stop()
    process.exit()
  }
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
