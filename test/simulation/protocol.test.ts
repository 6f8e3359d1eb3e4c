import t from 'tap'
import { holdsForRandomCases } from '../support/differential/property.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { argument } from '../support/random.ts'
import { audit } from '../support/simulation/audit.ts'
import { calm } from '../support/simulation/calm.ts'
import { SimulatedClock } from '../support/simulation/clock.ts'
import { SqliteHosts } from '../support/simulation/hosts.ts'
import { Office } from '../support/simulation/office.ts'
import { play } from '../support/simulation/play.ts'
import { scheduleOf } from '../support/simulation/schedules.ts'
import { withoutSteps } from '../support/simulation/shrink.ts'
import { type Schedule, storyOf } from '../support/simulation/steps.ts'
import { World } from '../support/simulation/world.ts'

const TIMEOUT_MS = Number(argument('ms') ?? 15_000) + 120_000

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
    const hosts = { sqlite, postgres: sqlite }
    await holdsForRandomCases<Schedule>(t, {
      make: (random) => scheduleOf(random, 0),
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
