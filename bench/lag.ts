import { setTimeout as sleep } from 'node:timers/promises'
import type { Postgres } from '../examples/support/postgres.ts'
import type { CentralReady, Committed } from './central.ts'
import { type Bench, expect, percentile, type Result, toResult } from './measure.ts'
import { startProgram } from './program.ts'
import { ROWS } from './shop.ts'
import { withPostgres } from './shop-postgres.ts'

const SALES = 200
const PAUSE_MS = 60
const IDLE_MS = 20_000

/** Where the till of `lag-till.ts` sells, and where it sends. */
export interface LagTill {
  readonly dialect: 'sqlite' | 'postgres'
  readonly config?: object
  readonly port: number
  readonly register: string
  readonly token: string
}

/** How long each sale took from its commit to central's, and what share of a core the idle till took afterwards, in percent. */
async function measure(
  server: Postgres,
  dialect: LagTill['dialect'],
  round: number,
): Promise<{ readonly lags: readonly number[]; readonly idle: number }> {
  const { config } = await server.createDatabase()
  const register = `POS${round}`
  const central = await startProgram<CentralReady>('central.ts', { config, registers: [register] })
  const committed = new Map<number, number>()
  central.child.on('message', (message: Partial<Committed>) => {
    if (message.through !== undefined && message.at !== undefined) committed.set(message.through, message.at)
  })
  const own = dialect === 'postgres' ? { config: (await server.createDatabase()).config } : {}
  const { port, tokens } = central.ready
  const till = await startProgram('lag-till.ts', { dialect, ...own, port, register, token: tokens[register] as string } satisfies LagTill)
  const sell = async () => {
    till.child.send('sell')
    const at = await new Promise<number>((resolve) => till.child.once('message', (message) => resolve((message as { sold: number }).sold)))
    await sleep(PAUSE_MS)
    return at
  }
  const lags: number[] = []
  for (let no = 1; no <= SALES; no++) {
    const sold = await sell()
    for (let waited = 0; !committed.has(no * ROWS); waited++) {
      expect('that the sale arrives within ten seconds', waited < 1_000, true)
      await sleep(10)
    }
    // The first ones open connections.
    if (no > 10) lags.push((committed.get(no * ROWS) as number) - sold)
  }
  const cpuMs = async () => {
    till.child.send('use')
    return new Promise<number>((resolve) => till.child.once('message', (message) => resolve((message as { cpuMs: number }).cpuMs)))
  }
  await sleep(1_000)
  const before = await cpuMs()
  await sleep(IDLE_MS)
  const idle = (((await cpuMs()) - before) / IDLE_MS) * 100
  await till.stop()
  await central.stop()
  return { lags, idle }
}

export const lag: Bench = {
  name: 'lag',
  about: `from the commit of a single sale at a till to its commit at central over loopback HTTP, ${SALES} sales a round; then the CPU of the till's process while nothing is sold`,
  rounds: 3,
  async run({ rounds }) {
    return withPostgres(async (server) => {
      const figures = { sqlite: [] as Awaited<ReturnType<typeof measure>>[], postgres: [] as Awaited<ReturnType<typeof measure>>[] }
      for (let round = 1; round <= rounds; round++)
        for (const dialect of ['sqlite', 'postgres'] as const) figures[dialect].push(await measure(server, dialect, round))
      const of = (dialect: 'sqlite' | 'postgres', share: number) => figures[dialect].map(({ lags }) => percentile(lags, share))
      const idle = (dialect: 'sqlite' | 'postgres') => figures[dialect].map((figure) => figure.idle)
      const results: Result[] = [
        toResult('lag, SQLite: p50', 'ms', of('sqlite', 0.5), undefined, { of: 'median', bound: '≤', value: 6 }),
        toResult('lag, SQLite: p99', 'ms', of('sqlite', 0.99), undefined, { of: 'median', bound: '≤', value: 25 }),
        toResult('lag, SQLite: idle till', '% of a core', idle('sqlite'), undefined, { of: 'median', bound: '≤', value: 0.5 }),
        toResult('lag, PostgreSQL: p50', 'ms', of('postgres', 0.5), undefined, { of: 'median', bound: '≤', value: 30 }),
        toResult('lag, PostgreSQL: p99', 'ms', of('postgres', 0.99)),
        toResult('lag, PostgreSQL: idle till', '% of a core', idle('postgres'), undefined, { of: 'median', bound: '≤', value: 0.5 }),
      ]
      return results
    })
  },
}
