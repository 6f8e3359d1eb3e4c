import t from 'tap'
import { drain } from '../../bench/weeks-offline.ts'
import { type Fault, Line } from '../support/fault/line.ts'
import { KINDS, openSeat, settles } from '../support/fault/seat.ts'
import { startServer } from '../support/postgres.ts'
import { argument, Random, roundsOfRun, seedOfRun } from '../support/random.ts'
import { openShop } from '../support/shop.ts'

t.setTimeout(240_000)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const random = new Random(seed)
const CUTS = Number(argument('cuts') ?? 40)
const MB = 1_048_576
/** A second, on a machine that has other things to do too. */
const FIRST_MS = 3_000

t.test('a backlog drains in flat memory on both sides, and begins at once', async (t) => {
  // About 40 MB of records, and no room for them: who holds them all, or keeps some of each batch, is found out.
  const { entries, firstMs, samples } = await drain({ entries: 4_900, textLength: 60_000, heapMb: 40 })
  const first = samples[1]
  const last = samples.at(-1)
  if (first === undefined || last === undefined) throw new Error('There are no samples')
  t.equal(last.share, 1)
  t.ok(firstMs < FIRST_MS, `${entries} entries, the first batch after ${Math.round(firstMs)} ms`)
  for (const side of ['till', 'central'] as const) {
    const used = (last[side].used - first[side].used) / MB
    const peak = (last[side].peak - first[side].rss) / MB
    t.ok(used < 20, `${side}: ${used.toFixed(1)} MB more in use at the end than at ${Math.round(first.share * 100)} %`)
    // What the system's allocator keeps for itself grows for a while, and then no more.
    t.ok(peak < 150, `${side}: at most ${peak.toFixed(1)} MB above what it had then`)
  }
})

for (const kind of KINDS) {
  t.test(`${kind}: a line that is cut off at any byte, of requests and of answers, again and again: all arrives once`, async (t) => {
    const server = await startServer(t)
    const shop = await openShop(t, server)
    const line = await Line.open(t, shop.url)
    const seat = await openSeat(t, kind, server, shop)
    const replica = seat.replica(line.url, { recordsPerRun: 40 })
    await replica.install()
    for (const sale of seat.sales(200)) await seat.sell(sale)
    await replica.seal()
    let met = 0
    for (const _ of roundsOfRun(CUTS)) {
      if ((await replica.status()).pending === 0) for (const sale of seat.sales(20)) await seat.sell(sale)
      const fault: Fault = { way: random.pick(['request', 'answer']), afterBytes: random.int(0, random.pick([50, 300, 1_000, 4_000])), how: 'cut' }
      line.break({ ...fault, once: true })
      const before = line.met
      await replica.synchronize().catch((error) => {
        if (error.code !== 'ERR_LINK' || !error.retryable) t.fail(`${error.code} where ${JSON.stringify(fault)}`)
      })
      if (line.met > before) met++
    }
    t.ok(met > CUTS / 4, `${met} cuts`)
    line.mend()
    await settles(t, shop, seat, replica, kind)
    await replica.stop()
  })
}
