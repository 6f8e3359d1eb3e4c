import t from 'tap'
import { startServer } from '../support/postgres.ts'
import { openStage } from '../support/simulation/stage.ts'
import type { Fate, Schedule, Step } from '../support/simulation/steps.ts'

// Schedules that went wrong once.

const at = (copy: number) => ({ register: 0, copy })
const sell = (copy: number, seed = 628_289): Step => ({ do: 'sell', ...at(copy), seed })
const exchange = (copy: number, ...fates: Fate[]): Step => ({ do: 'exchange', ...at(copy), fates })
const care = (what: 'backup' | 'clone' | 'forget' | 'prune', copy: number): Step => ({ do: what, ...at(copy) })
const RESTORE: Step = { do: 'central restore', backup: 0 }

const STORIES: Readonly<Record<string, Pick<Schedule, 'forgets' | 'last' | 'steps'>>> = {
  'a copy that pruned tells central all anew, and a copy of it takes that for what it has sent itself': {
    steps: [sell(0), care('clone', 0), exchange(1), care('clone', 1), care('prune', 1), RESTORE],
    last: 2,
  },
  'both copies have pruned, and sold since, when central is restored': {
    steps: [sell(0), exchange(0), care('prune', 0), care('clone', 0), sell(0), sell(1), RESTORE],
    last: 1,
  },
  'central is restored once more, to before a till told it all anew': {
    steps: [
      sell(0),
      exchange(0),
      { do: 'central backup' },
      sell(0),
      exchange(0),
      care('prune', 0),
      RESTORE,
      exchange(0),
      sell(0),
      exchange(0),
      RESTORE,
    ],
    last: 0,
  },
  'a letter by which a till began to tell all anew arrives at a central that was restored, when the till has pruned what it then told': {
    steps: [sell(0), exchange(0), care('prune', 0), RESTORE, exchange(0, 'ok', 'copied'), exchange(0), care('prune', 0), RESTORE],
    last: 0,
  },
  'a till that was restored sells more than it lost, and forgets central before it hears where they part': {
    steps: [
      sell(0, 1),
      exchange(0),
      care('backup', 0),
      sell(0, 50),
      sell(0, 51),
      exchange(0),
      { do: 'restore', ...at(0), backup: 0 },
      ...[100, 101, 102, 103, 104, 105].map((seed) => sell(0, seed)),
      exchange(0, 'ok', 'lost'),
      care('forget', 0),
      sell(0, 777),
    ],
    forgets: true,
    last: 0,
  },
  'a copy sells from where central was restored to, and the other one has pruned what it had sent from there': {
    steps: [
      sell(0, 1),
      exchange(0),
      { do: 'central backup' },
      care('clone', 0),
      sell(0, 10),
      sell(0, 11),
      exchange(0),
      care('prune', 0),
      RESTORE,
      sell(1, 50),
      exchange(1),
      exchange(0),
      exchange(1),
      sell(0, 90),
      exchange(0),
    ],
    last: 1,
  },
}

t.test('stories', { timeout: 120_000 }, async (t) => {
  const stage = await openStage(t, await startServer(t))
  for (const [name, story] of Object.entries(STORIES)) {
    for (const kind of ['sqlite', 'postgres'] as const) {
      await t.resolves(stage.run({ registers: [kind], identity: true, recordsPerRun: 500, ...story }), `${kind}: ${name}`)
    }
  }
})
