import type { Test } from 'tap'
import { createPool, type Postgres } from '../postgres.ts'
import { audit } from './audit.ts'
import { calm } from './calm.ts'
import { SimulatedClock } from './clock.ts'
import { Office } from './office.ts'
import { play } from './play.ts'
import { PostgresHosts } from './postgres-hosts.ts'
import { SqliteHosts } from './sqlite-hosts.ts'
import type { Schedule } from './steps.ts'
import { World } from './world.ts'

/** Where schedules are played, one after another. */
export interface Stage {
  readonly office: Office
  /** Plays it, lets it calm down, and audits what came of it; `look` before anything is withdrawn. */
  run(schedule: Schedule, look?: () => Promise<void>): Promise<void>
}

/** With more time several, on which schedules are played side by side: while one waits for PostgreSQL, another goes on. */
export async function openStages(t: Test, server: Postgres, ms: string | undefined): Promise<readonly Stage[]> {
  const stages = Number(ms) >= SEVERAL_FROM_MS ? STAGES : 1
  return Promise.all(Array.from({ length: stages }, () => openStage(t, server)))
}

const STAGES = 3
const SEVERAL_FROM_MS = 10_000

export async function openStage(t: Test, server: Postgres): Promise<Stage> {
  const clock = new SimulatedClock()
  const office = await Office.open(await createPool(t, server), clock)
  t.teardown(() => office.stop())
  const sqlite = new SqliteHosts()
  t.teardown(() => sqlite.end())
  const hosts = { sqlite, postgres: new PostgresHosts(await createPool(t, server)) }
  return {
    office,
    async run(schedule, look) {
      const world = await World.open(office, hosts, clock, schedule)
      try {
        await play(world, schedule)
        await world.comparisons.end()
        const live = await calm(world, schedule.last)
        await look?.()
        await audit(world, live)
      } finally {
        await world.close()
      }
    },
  }
}
