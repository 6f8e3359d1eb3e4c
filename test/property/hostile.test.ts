import t from 'tap'
import { chainDigest } from '../../src/digest.ts'
import { decodeMessage } from '../../src/transport/codec.ts'
import { CONTENT_TYPE } from '../../src/transport/http-client.ts'
import { hostileBody, type Originals } from '../support/hostile.ts'
import { startServer } from '../support/postgres.ts'
import { argument, Random, seedOfRun } from '../support/random.ts'
import { openShop } from '../support/shop.ts'
import { tablesOf } from '../support/snapshots.ts'
import { message, post, receiptsBatch } from '../support/wire.ts'

const seed = seedOfRun()
const inputs = Number(argument('inputs') ?? Number.POSITIVE_INFINITY)
const budgetMs = inputs === Number.POSITIVE_INFINITY ? Number(argument('ms') ?? 3_000) : Number.POSITIVE_INFINITY
/** So many are sent, however slow the machine is. */
const LEAST = 500
/** What one may take at most, on a machine that has other things to do too. */
const LONGEST_MS = 5_000
const MOST_MEMORY = 300_000_000
const STATUSES = [200, 400, 401, 403, 405, 413, 503]

t.setTimeout(Math.min(budgetMs, 900_000) + 120_000)
t.comment(`--seed=${seed}`)
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))

t.test('whatever a sender with a valid token sends, central answers it, in time, and nothing changes', async (t) => {
  const server = await startServer(t)
  const shop = await openShop(t, server, { maxMessageBytes: 4_000_000, limits: { exchangesPerMinute: 1e9, wrongTokens: 1e9 } })
  const from = { location: 'BA01', register: 'POS1' }
  const { token } = await shop.central.registers.add(from)
  const taken = receiptsBatch([1, 2, 3])
  const next = receiptsBatch([4, 5], taken.through)
  const originals: Originals = { from, taken, next }
  t.match(await post(shop.url, token, await message(from, taken)), { status: 200, code: undefined })
  /** What is staged of a document that comes in frames is bounded, and nothing else sees it. */
  const unstaged = async (): Promise<unknown> => ({ ...(await tablesOf(shop.pool)), sync_frames: undefined })
  const before = await unstaged()
  const random = new Random(seed)
  const memory = process.memoryUsage().rss
  const statuses = new Map<string, number>()
  let [sent, longest] = [0, 0]
  const deadline = performance.now() + budgetMs
  const sendOne = async (body: Uint8Array): Promise<void> => {
    const began = performance.now()
    const request = new Request('http://central/', {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': CONTENT_TYPE },
      body: body as never,
    })
    const response = await shop.central.fetch(request)
    const bytes = new Uint8Array(await response.arrayBuffer())
    longest = Math.max(longest, performance.now() - began)
    const code = bytes.length === 0 ? '' : ((await decodeMessage(bytes, 1_000_000)).error?.code ?? 'taken')
    const name = `${response.status} ${code}`
    statuses.set(name, (statuses.get(name) ?? 0) + 1)
    if (!STATUSES.includes(response.status)) t.fail(`${name} for ${Buffer.from(body).toString('base64').slice(0, 2_000)}`)
  }
  /** What was spoilt where it means nothing is a batch that follows, and taken. */
  const isRight = async (body: Uint8Array): Promise<boolean> => {
    const { batch } = await decodeMessage(body, 4_000_000).catch(() => ({ batch: undefined }))
    if (batch === undefined || batch.frame?.isLast === false || batch.after.digest !== taken.through.digest) return false
    return batch.entries.reduce(chainDigest, batch.after.digest) === batch.through.digest
  }
  const worker = async (): Promise<void> => {
    while (sent < inputs && (performance.now() < deadline || sent < LEAST)) {
      const body = hostileBody(random, originals)
      if (await isRight(body)) continue
      sent++
      await sendOne(body)
    }
  }
  await Promise.all(Array.from({ length: 6 }, worker))
  t.comment(`${sent} inputs, the longest took ${longest.toFixed(0)} ms; ${[...statuses].map(([name, n]) => `${name}: ${n}`).join(', ')}`)
  t.ok(statuses.size >= 4, 'refused in different ways')
  t.ok(longest < LONGEST_MS, `each within ${LONGEST_MS} ms`)
  t.ok(process.memoryUsage().rss - memory < MOST_MEMORY, `${Math.round((process.memoryUsage().rss - memory) / 1e6)} MB more`)
  t.same(await unstaged(), before, 'nothing has changed')
  const { rows: staged } = await shop.pool.query('SELECT count(*)::int AS frames, sum(bytes)::int AS bytes FROM sync_frames')
  t.ok(staged[0].frames <= 3 && staged[0].bytes < 10_000, `staged: ${JSON.stringify(staged[0])}`)
  t.same(unhandled, [])
  t.equal(({} as Record<string, unknown>).polluted, undefined)
  t.match(await post(shop.url, token, await message(from, next)), { status: 200, code: undefined }, 'and what is right is taken')
})
