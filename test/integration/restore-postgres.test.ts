import t from 'tap'
import { startServer } from '../support/postgres.ts'
import { openStage } from '../support/simulation/stage.ts'
import type { Schedule, Step } from '../support/simulation/steps.ts'

const stage = await openStage(t, await startServer(t))

const at = (copy = 0) => ({ register: 0, copy })
const sell = (copy = 0): Step => ({ do: 'sell', ...at(copy), seed: 11 })
const exchange = (copy = 0): Step => ({ do: 'exchange', ...at(copy), fates: [] })
const onPostgres = (steps: readonly Step[]): Schedule => ({ registers: ['postgres'], identity: false, recordsPerRun: 20, steps, last: 0 })

/** The receipts that are listed as orphans, once all has calmed down and before they are withdrawn; the audit does the rest. */
async function orphansOf(steps: readonly Step[]): Promise<readonly unknown[]> {
  let found: readonly unknown[] = []
  await stage.run(onPostgres(steps), async () => {
    found = (await stage.office.central.orphans.list()).map(({ document }) => document.receipt_no)
  })
  return found
}

t.test('a till on PostgreSQL that was restored from a backup: what it lost is listed, what it sells is posted', async (t) => {
  const restored: readonly Step[] = [sell(), exchange(), { do: 'backup', ...at() }, sell(), sell(), exchange(), { do: 'restore', ...at(), backup: 0 }]
  t.same(await orphansOf([...restored, sell(), exchange()]), ['R-2', 'R-3'], 'with another sale under an old key')
  t.same(await orphansOf(restored), ['R-2', 'R-3'], 'without a new sale')
  t.same(await orphansOf([...restored, { do: 'enter again', ...at(), seed: 1 }]), ['R-2'], 'one of them entered again alike')
})

t.test('a central that was restored gets again what it has lost of a till on PostgreSQL', async (t) => {
  const restored: readonly Step[] = [sell(), exchange(), { do: 'central backup' }, sell(), exchange(), { do: 'central restore', backup: 1 }, sell()]
  t.same(await orphansOf([...restored, exchange()]), [])
})

t.test('a central that was restored to before what a till on PostgreSQL has pruned gets all that it has, anew', async (t) => {
  const restored: readonly Step[] = [sell(), sell(), exchange(), { do: 'prune', ...at() }, { do: 'central restore', backup: 0 }, sell()]
  t.same(await orphansOf([...restored, exchange()]), [])
})

t.test('of two copies of a till on PostgreSQL one goes on, and what the other has sent is listed', async (t) => {
  const cloned: readonly Step[] = [sell(), exchange(), { do: 'clone', ...at() }, sell(), exchange(), sell(1), sell(1), exchange(1), exchange()]
  t.same((await orphansOf(cloned)).toSorted(), ['R-2', 'R-3'])
})
