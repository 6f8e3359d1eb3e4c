import t from 'tap'
import { ROWS } from '../../bench/shop.ts'
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
const server = await startServer(t)
const CUTS = Number(argument('cuts') ?? 40)
/** With a budget of its own the run may be short. */
const isUsual = argument('ms') === undefined
const MB = 1_048_576
const RECORDS_MB = 40
const TEXT_LENGTH = 65_536
/** A second, on a machine that has other things to do too. */
const FIRST_MS = 10_000

t.test('a backlog drains in flat memory on both sides, and begins at once', async (t) => {
  // Who holds them all, or keeps some of each batch, is found out: there is hardly room for them, and half of them is more than may be left.
  const { entries, firstMs, samples } = await drain({ entries: (RECORDS_MB * MB * ROWS) / TEXT_LENGTH, textLength: TEXT_LENGTH, heapMb: 40 })
  const first = samples[1]
  const last = samples.at(-1)
  if (first === undefined || last === undefined) throw new Error('There are no samples')
  t.equal(last.share, 1)
  t.ok(firstMs < FIRST_MS, `${entries} entries, the first batch after ${Math.round(firstMs)} ms`)
  for (const side of ['till', 'central'] as const) {
    const used = (last[side].used - first[side].used) / MB
    const peak = (last[side].peak - first[side].rss) / MB
    t.ok(used < RECORDS_MB / 2, `${side}: ${used.toFixed(1)} MB more in use at the end than at ${Math.round(first.share * 100)} %`)
    // What the system's allocator keeps for itself grows for a while, and then no more.
    t.ok(peak < 150, `${side}: at most ${peak.toFixed(1)} MB above what it had then`)
  }
})

for (const kind of KINDS) {
  t.test(`${kind}: a line that is cut off at any byte, of requests and of answers, again and again: all arrives once`, async (t) => {
    const shop = await openShop(t, server)
    const line = await Line.open(t, shop.url)
    const seat = await openSeat(t, kind, server, shop)
    const replica = seat.replica(line.url, { recordsPerRun: 40 })
    await replica.install()
    for (const sale of seat.sales(200)) await seat.sell(sale)
    await replica.seal()
    let met = 0
    for (const _ of roundsOfRun(CUTS, 1 / KINDS.length)) {
      if ((await replica.status()).pending === 0) for (const sale of seat.sales(20)) await seat.sell(sale)
      const fault: Fault = { way: random.pick(['request', 'answer']), afterBytes: random.int(0, random.pick([50, 300, 1_000, 4_000])), how: 'cut' }
      line.break({ ...fault, once: true })
      const before = line.met
      await replica.synchronize().catch((error) => {
        if (error.code !== 'ERR_LINK' || !error.retryable) t.fail(`${error.code} where ${JSON.stringify(fault)}`)
      })
      if (line.met > before) met++
    }
    t.ok(met > (isUsual ? CUTS / 4 : 0), `${met} cuts`)
    line.mend()
    await settles(t, shop, seat, replica, kind)
    await replica.stop()
  })
}
