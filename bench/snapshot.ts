import { rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import Database from 'better-sqlite3'
import type pg from 'pg'
import { sqlite } from '../src/adapters/sqlite/adapter.ts'
import { createRegister, mirror, type Register } from '../src/index.ts'
import { httpLink } from '../src/transport/http.ts'
import type { TimedSale } from './cashier.ts'
import { type Bench, expect, interleave, percentile, toResult } from './measure.ts'
import { startProgram } from './program.ts'
import { openTill, RULES, temporaryFolder } from './shop.ts'
import { withPostgres } from './shop-postgres.ts'

const ITEMS = 20_000
const QUIET_MS = 3_000
/** How long the cashier sells before anything comes. */
const LEAD_MS = 300
/** To ask how far it has come costs the till as much as a slice does. */
const POLL_MS = 50
/** With fewer the worst of them says nothing. */
const LEAST_SALES = 50

/** What the head office of this bench is told. */
export interface SnapshotOffice {
  readonly config: pg.PoolConfig
  readonly items: number
  readonly registers: number
}

interface Ready {
  readonly port: number
  readonly tokens: readonly string[]
}

interface Taken {
  readonly tookMs: number
  readonly p99: number
}

/** A new till whose host sells every 20 ms in another process, all the while that `work` lasts. */
async function whileSelling(port: number, register: string, token: string, work: (till: Register) => Promise<unknown>): Promise<Taken> {
  const file = join(temporaryFolder(), 'till.sqlite')
  const db = openTill(file, 'FULL')
  db.exec(`CREATE TABLE items (item_no TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL, unit_price NUMERIC NOT NULL, vat_code TEXT);
    CREATE TABLE item_barcodes (barcode TEXT PRIMARY KEY NOT NULL, item_no TEXT NOT NULL REFERENCES items); CREATE INDEX item_barcodes_item ON item_barcodes (item_no)`)
  const till = createRegister({
    location: 'BA01',
    register,
    database: sqlite(() => new Database(file), { host: db }),
    publish: RULES,
    subscribe: { items: mirror(), item_barcodes: mirror() },
    transfer: { type: 'push', link: httpLink({ url: `http://127.0.0.1:${port}/`, token }) },
  })
  await till.install()
  const cashier = await startProgram('cashier.ts', { file })
  await sleep(LEAD_MS)
  const began = performance.now()
  await work(till)
  const tookMs = performance.now() - began
  const sales = (await cashier.stop()) as TimedSale[]
  await till.stop()
  db.close()
  rmSync(dirname(file), { recursive: true })
  expect(`that there are ${LEAST_SALES} sales`, sales.length >= LEAST_SALES, true)
  const from = performance.timeOrigin + began
  const during = sales.filter(([at, ms]) => at + ms >= from && at <= from + tookMs).map(([, ms]) => ms)
  return { tookMs, p99: percentile(during, 0.99) }
}

/** Until all is here; what was sold meanwhile goes up beside it. */
async function takeAll(till: Register): Promise<void> {
  await till.start()
  for (;;) {
    const { subscriptions, lastError } = await till.status()
    if (lastError !== undefined) throw lastError
    if (subscriptions.length > 0 && subscriptions.every(({ isComplete }) => isComplete)) return
    await sleep(POLL_MS)
  }
}

export const snapshot: Bench = {
  name: 'snapshot',
  about: `${ITEMS.toLocaleString('en')} items with a barcode each come to a new SQLite till whose host sells every 20 ms, against sales with nothing to come`,
  rounds: 5,
  async run({ rounds }) {
    return withPostgres(async (server) => {
      const { config } = await server.createDatabase()
      const registers = (rounds + 1) * 2
      const office = await startProgram<Ready>('snapshot-central.ts', { config, items: ITEMS, registers } satisfies SnapshotOffice)
      const { port, tokens } = office.ready
      let next = 0
      const turn = (work: (till: Register) => Promise<unknown>) => whileSelling(port, `POS${next}`, tokens[next++] as string, work)
      const { quiet, busy } = await interleave(rounds, { quiet: () => turn(() => sleep(QUIET_MS)), busy: () => turn(takeAll) })
      await office.stop()
      return [
        toResult(
          'snapshot: until all is there',
          'ms',
          busy.map(({ tookMs }) => tookMs),
          undefined,
          { of: 'median', bound: '≤', value: 3_000 },
        ),
        toResult(
          'snapshot: p99 of sales meanwhile',
          'ms',
          busy.map(({ p99 }) => p99),
          quiet.map(({ p99 }) => p99),
          { of: 'ratio', bound: '≤', value: 2 },
        ),
      ]
    })
  },
}
