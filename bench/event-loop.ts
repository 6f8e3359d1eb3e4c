import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { type OpenBacklog, postgresBacklog, sqliteBacklog, startHeadOffice, workOff } from './backlog.ts'
import { type Bench, interleave, type Result, toResult } from './measure.ts'
import { withPostgres } from './shop-postgres.ts'

const IDLE_MS = 2_000

interface Delay {
  readonly p99: number
  readonly max: number
}

/** By how much timers of a millisecond are late while the work goes on, in milliseconds. */
async function delayDuring(work: () => Promise<unknown>): Promise<Delay> {
  const delay = monitorEventLoopDelay({ resolution: 1 })
  delay.enable()
  await work()
  delay.disable()
  return { p99: delay.percentile(99) / 1e6, max: delay.max / 1e6 }
}

async function measure(dialect: string, open: OpenBacklog, rounds: number): Promise<Result[]> {
  const { idle, busy } = await interleave(rounds, {
    idle: () => delayDuring(() => sleep(IDLE_MS)),
    busy: async () => {
      const backlog = await open()
      const delay = await delayDuring(() => workOff(backlog))
      await backlog.close()
      return delay
    },
  })
  const of = (figures: readonly Delay[], which: keyof Delay) => figures.map((figure) => figure[which])
  return [
    toResult(`event-loop, ${dialect}: p99`, 'ms', of(busy, 'p99'), of(idle, 'p99'), { of: 'difference', bound: '≤', value: 5 }),
    toResult(`event-loop, ${dialect}: longest`, 'ms', of(busy, 'max'), of(idle, 'max')),
  ]
}

export const eventLoop: Bench = {
  name: 'event-loop',
  about:
    "delay of the host's event loop while 100,000 records, documents of up to 1,000 among them, are sealed, sent, acknowledged and pruned, against an idle one",
  rounds: 3,
  async run({ rounds }) {
    const headOffice = await startHeadOffice()
    const onSqlite = await measure('SQLite', await sqliteBacklog(headOffice.port), rounds)
    const onPostgres = await withPostgres(async (server) => measure('PostgreSQL', await postgresBacklog(server, headOffice.port), rounds))
    await headOffice.stop()
    return [...onSqlite, ...onPostgres]
  },
}
