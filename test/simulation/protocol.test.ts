import t from 'tap'
import { holdsForRandomCases } from '../support/differential/property.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { argument } from '../support/random.ts'
import { audit } from '../support/simulation/audit.ts'
import { calm } from '../support/simulation/calm.ts'
import { SimulatedClock } from '../support/simulation/clock.ts'
import { Office } from '../support/simulation/office.ts'
import { play } from '../support/simulation/play.ts'
import { PostgresHosts } from '../support/simulation/postgres-hosts.ts'
import { scheduleOf } from '../support/simulation/schedules.ts'
import { withoutSteps } from '../support/simulation/shrink.ts'
import { SqliteHosts } from '../support/simulation/sqlite-hosts.ts'
import { type Schedule, storyOf } from '../support/simulation/steps.ts'
import { World } from '../support/simulation/world.ts'

const TIMEOUT_MS = Number(argument('ms') ?? 15_000) + 120_000
/** How many of the registers are on PostgreSQL, which takes longer. */
const POSTGRES = Number(argument('on-postgres') ?? 0.1)

t.setTimeout(TIMEOUT_MS)
t.test(
  'whatever is lost, doubled, delayed, restored, cloned or pruned: in the end central has what the tills have, once, and what they lost is listed',
  { timeout: TIMEOUT_MS },
  async (t) => {
    const server = await startServer(t)
    const clock = new SimulatedClock()
    const office = await Office.open(await createPool(t, server), clock)
    const sqlite = new SqliteHosts()
    t.teardown(() => sqlite.end())
    const hosts = { sqlite, postgres: new PostgresHosts(await createPool(t, server)) }
    await holdsForRandomCases<Schedule>(t, {
      make: (random) => scheduleOf(random, POSTGRES),
      async play(schedule) {
        const world = await World.open(office, hosts, clock, schedule)
        try {
          await play(world, schedule)
          await audit(world, await calm(world, schedule.last))
        } finally {
          await world.close()
        }
      },
      shrink: withoutSteps,
      storyOf,
    })
  },
)
