import { setTimeout as sleep } from 'node:timers/promises'
import { type OpenBacklog, postgresBacklog, sqliteBacklog, startHeadOffice, workOff } from './backlog.ts'
import type { TimedSale } from './cashier.ts'
import { type Bench, expect, interleave, percentile, type Result, toResult } from './measure.ts'
import { startProgram } from './program.ts'
import { withPostgres } from './shop-postgres.ts'

const QUIET_MS = 6_000
/** With fewer the 99th of a hundred says nothing. */
const LEAST_SALES = 100

/** How long the cashier's sales take meanwhile, in milliseconds: the p99 and the longest. */
async function salesDuring(open: OpenBacklog, work: (backlog: Awaited<ReturnType<OpenBacklog>>) => Promise<unknown>) {
  const backlog = await open()
  const cashier = await startProgram('cashier.ts', backlog.place)
  await work(backlog)
  const sales = ((await cashier.stop()) as TimedSale[]).map(([, ms]) => ms)
  await backlog.close()
  expect(`that there are ${LEAST_SALES} sales`, sales.length >= LEAST_SALES, true)
  return { p99: percentile(sales, 0.99), max: Math.max(...sales) }
}

async function measure(dialect: string, open: OpenBacklog, rounds: number): Promise<Result[]> {
  const { quiet, busy } = await interleave(rounds, {
    quiet: () => salesDuring(open, () => sleep(QUIET_MS)),
    busy: () => salesDuring(open, workOff),
  })
  const of = (figures: typeof busy, which: 'p99' | 'max') => figures.map((figure) => figure[which])
  return [
    toResult(`sales-p99, ${dialect}`, 'ms', of(busy, 'p99'), of(quiet, 'p99'), { of: 'difference', bound: '≤', value: 2 }),
    toResult(`sales-p99, ${dialect}: longest`, 'ms', of(busy, 'max'), of(quiet, 'max')),
  ]
}

export const salesP99: Bench = {
  name: 'sales-p99',
  about:
    'the 99th of a hundred sales of another process, one every 20 ms, while 100,000 records are sealed, sent, acknowledged and pruned, against sales with the library at rest',
  rounds: 3,
  async run({ rounds }) {
    const headOffice = await startHeadOffice()
    const onSqlite = await measure('SQLite', await sqliteBacklog(headOffice.port), rounds)
    const onPostgres = await withPostgres(async (server) => measure('PostgreSQL', await postgresBacklog(server, headOffice.port), rounds))
    await headOffice.stop()
    return [...onSqlite, ...onPostgres]
  },
}
