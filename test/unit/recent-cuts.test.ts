import t from 'tap'
import type { AudienceCut } from '../../src/capture/audience-batch.ts'
import { RecentCuts } from '../../src/capture/recent-cuts.ts'
import { pause } from '../../src/work.ts'
import { ScriptedClock } from '../support/clock.ts'

const MB = 1_048_576

t.test('registers that ask for the same at the same time do not use up what is kept for others', async (t) => {
  const clock = new ScriptedClock()
  const recent = new RecentCuts(clock)
  const cut = { bytes: 5 * MB } as AudienceCut
  let made = 0
  const ask = (place: string) =>
    recent.take([place], function* () {
      made++
      yield* pause()
      return cut
    })
  for (let round = 0; round < 10; round++) {
    const asking = [ask('a'), ask('a'), ask('a')]
    // Each transaction is awaited: the others begin meanwhile.
    for (const one of asking) one.next()
    for (const one of asking) t.same(one.next(), { done: true, value: cut })
    t.notOk(recent.isFull)
    clock.advance(60_000)
  }
  made = 0
  const once = ask('b')
  once.next()
  once.next()
  t.same(ask('b').next(), { done: true, value: cut }, 'what was cut a moment ago is not cut again')
  t.equal(made, 1)
})
