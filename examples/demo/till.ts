import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister, type Register } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { type FromTill, LOCATION, type TillStart, type ToTill } from './messages.ts'
import { PointOfSale } from './pos.ts'
import type { TillTables } from './tables.ts'

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

async function run(start: TillStart): Promise<Register<TillTables>> {
  const database = new Database(start.file)
  const pos = new PointOfSale(database)
  const till = createTill(start, database)
  await till.install()
  till.on('offline', () => say({ type: 'line', up: false }))
  till.on('online', () => say({ type: 'line', up: true }))
  till.start()
  say({ type: 'ready', found: pos.committed().size })
  void report(till, pos)
  void sellAll(pos, start)
  return till
}

/** One after the other, at the given rate; what is committed already is not sold again. */
async function sellAll(pos: PointOfSale, { sales, rate }: TillStart): Promise<void> {
  const committed = pos.committed()
  const began = performance.now()
  for (const [n, sale] of sales.filter(({ receiptNo }) => !committed.has(receiptNo)).entries()) {
    const wait = began + (n * 1_000) / rate - performance.now()
    if (wait >= 1 || n % BURST === 0) await sleep(Math.max(0, wait))
    pos.sell(sale)
  }
}

async function report(till: Register<TillTables>, pos: PointOfSale): Promise<void> {
  while (!stopping) {
    const { pending, unsealed } = await till.status()
    say({ type: 'progress', sold: pos.count(), pending: pending + unsealed })
    await sleep(REPORT_MS)
  }
}

/** All that makes the till a register: what is published, and how it gets to head office. */
function createTill({ register, file, url, token }: TillStart, host: Database.Database): Register<TillTables> {
  return createRegister<TillTables>({
    location: LOCATION,
    register,
    database: sqlite(() => new Database(file), { host }),
    publish: {
      receipts: { where: (eb) => eb('status', '=', 'posted'), identity: ['receipt_no', 'posted_at'] },
      receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
      tender_lines: { partOf: { receipts: { receipt_id: 'id' } } },
    },
    transfer: { type: 'push', link: httpLink({ url, token }), everyMs: 1_000, backoff: { minMs: 100, maxMs: 800 } },
  })
}

async function answer(till: Register<TillTables>, message: ToTill): Promise<void> {
  if (message.type === 're-export') {
    const { documents, entries } = await till.export('receipts', (eb) => eb.lit(true))
    say({ type: 're-exported', documents, entries })
  }
  if (message.type === 'finish') {
    await till.synchronize()
    say({ type: 'finished', entries: (await till.status()).head.entryNo })
  }
  if (message.type === 'stop') {
    stopping = true
    await till.stop()
    process.exit()
  }
}

function say(message: FromTill): void {
  if (process.connected) process.send?.(message)
}
