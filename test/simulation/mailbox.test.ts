import t from 'tap'
import { holdsForRandomCases } from '../support/differential/property.ts'
import { startServer } from '../support/postgres.ts'
import { argument } from '../support/random.ts'
import { scheduleOf } from '../support/simulation/schedules.ts'
import { withoutSteps } from '../support/simulation/shrink.ts'
import { openStages } from '../support/simulation/stage.ts'
import { type Schedule, storyOf } from '../support/simulation/steps.ts'

const TIMEOUT_MS = Number(argument('ms') ?? 8_000) + 120_000
/** How many of the registers are on PostgreSQL, which takes longer. */
const POSTGRES = Number(argument('on-postgres') ?? 0.1)

t.setTimeout(TIMEOUT_MS)
t.test(
  'by mailbox, where letters are days late, doubled, out of order or lost for ever, both ways, and tills are restored, cloned or pruned: the same holds',
  { timeout: TIMEOUT_MS },
  async (t) => {
    const stages = await openStages(t, await startServer(t), argument('ms'))
    const make = (random: Parameters<typeof scheduleOf>[0]) => ({ ...scheduleOf(random, POSTGRES), mailboxes: true })
    await holdsForRandomCases(t, { make, places: stages.map((stage) => (schedule: Schedule) => stage.run(schedule)), shrink: withoutSteps, storyOf })
  },
)
