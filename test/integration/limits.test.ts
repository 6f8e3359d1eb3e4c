import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type CentralEvents, createCentral, TillsyncError } from '../../src/index.ts'
import { encodeMessage } from '../../src/transport/codec.ts'
import { httpLink, toNodeHandler } from '../../src/transport/http.ts'
import { CONTENT_TYPE } from '../../src/transport/http-client.ts'
import { ScriptedClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { refused } from '../support/refused.ts'
import { randomLine } from '../support/sales.ts'
import { openShop, type Shop, type ShopOptions, type Till } from '../support/shop.ts'
import { type Answer, message, post, receiptsBatch } from '../support/wire.ts'

const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const random = new Random(seed)

interface Scene {
  readonly shop: Shop
  readonly till: Till
  readonly clock: ScriptedClock
  readonly refusals: CentralEvents['refused'][]
  /** How often central has used its database. */
  queries(): number
  /** A request as it would come through the host's proxy. */
  from(source: string, token: string, till?: Till): Promise<Answer>
}

/** A head office behind a proxy, whose clock stands still. */
async function scene(t: Test, options: ShopOptions = {}): Promise<Scene> {
  const clock = new ScriptedClock()
  const refusals: CentralEvents['refused'][] = []
  const shop = await openShop(t, server, { clock, source: (request) => request.headersDistinct['x-forwarded-for']?.at(-1), ...options })
  shop.central.on('refused', (event) => refusals.push(event))
  const till = await shop.addTill()
  let queries = 0
  shop.pool.on('acquire', () => queries++)
  return {
    shop,
    till,
    clock,
    refusals,
    queries: () => queries,
    from: async (source, token, from = till) => post(shop.url, token, await message(from), { 'x-forwarded-for': source }),
  }
}

function wrongToken(): string {
  return randomBytes(32).toString('base64url')
}

const TAKEN = { status: 200, code: undefined }
const WRONG = { status: 401, code: 'ERR_CREDENTIAL' }
const LOCKED_OUT = { status: 429, code: 'ERR_LOCKED_OUT' }

t.test('a source is locked out by wrong tokens for a while, and costs no query then; nobody else is', async (t) => {
  const { shop, till, clock, refusals, queries, from } = await scene(t, { limits: { wrongTokens: 5, lockOutMs: 30_000 } })
  const fresh = await shop.addTill('POS2')
  t.match(await from('192.0.2.1', till.token), TAKEN)
  for (let n = 0; n < 5; n++) t.match(await from('192.0.2.1', n === 3 ? 'none' : wrongToken()), WRONG)
  const before = queries()
  clock.advance(500)
  for (let n = 0; n < 20; n++) t.match(await from('192.0.2.1', wrongToken()), { ...LOCKED_OUT, retryAfter: '30' })
  t.match(await from('192.0.2.1', fresh.token, fresh), LOCKED_OUT, 'who was never seen there')
  t.equal(queries(), before, 'no query')
  t.match(await from('192.0.2.1', till.token), TAKEN, 'who was let in before')
  t.match(await from('192.0.2.2', fresh.token, fresh), TAKEN, 'from elsewhere')
  t.match(await from('192.0.2.1', fresh.token, fresh), TAKEN, 'and from then on everywhere')
  clock.advance(29_499)
  t.match(await from('192.0.2.1', wrongToken()), { ...LOCKED_OUT, retryAfter: '1' }, 'the last millisecond')
  clock.advance(1)
  t.match(await from('192.0.2.1', wrongToken()), WRONG, 'its end')
  t.match(
    refusals.map(({ source, error }) => [source, error.code]),
    [...Array(5).fill(['192.0.2.1', 'ERR_CREDENTIAL']), ['192.0.2.1', 'ERR_LOCKED_OUT'], ['192.0.2.1', 'ERR_CREDENTIAL']],
    'a lock-out is said once',
  )
})

t.test('wrong tokens now and then lock nobody out', async (t) => {
  const { clock, from } = await scene(t, { limits: { wrongTokens: 5 } })
  for (let n = 0; n < 12; n++) {
    t.match(await from('192.0.2.1', wrongToken()), WRONG)
    clock.advance(15_001)
  }
})

t.test('one attacker beside a register, through the same address: the register sells and sends on, the database is spared', async (t) => {
  const { shop, till, queries } = await scene(t, { source: () => 'the proxy', limits: { wrongTokens: 50 } })
  await till.replica.synchronize()
  const body = await message(till, receiptsBatch([900]))
  const before = queries()
  const codes = await Promise.all(Array.from({ length: 600 }, () => post(shop.url, wrongToken(), body).then(({ code }) => code)))
  t.same([...new Set(codes)].sort(), ['ERR_CREDENTIAL', 'ERR_LOCKED_OUT'])
  t.ok(queries() - before <= 52, `${queries() - before} lookups, however many come at the same time`)
  const attack = Promise.all(Array.from({ length: 300 }, () => post(shop.url, wrongToken(), body)))
  for (let n = 0; n < 30; n++) {
    till.cashier.sell(`R-${n}`, [randomLine(random)])
    await till.replica.synchronize()
  }
  await attack
  await shop.balances(t, till)
})

t.test('a register that is locked out keeps its entries and goes on by itself', async (t) => {
  const { shop, till, clock } = await scene(t, { source: () => undefined, limits: { wrongTokens: 2, lockOutMs: 1_000 } })
  let token = wrongToken()
  const running = till.again({ token: () => token, transfer: { everyMs: 10 } })
  till.cashier.sell('R-1', [randomLine(random)])
  await running.start()
  await eventually('a lock-out', async () => (await running.status()).lastError?.code === 'ERR_LOCKED_OUT')
  t.match(await running.status(), { pending: 3, lastError: { retryable: true, context: { retryAfterMs: 1_000 } } })
  token = till.token
  clock.advance(1_000)
  await eventually('all is sent', async () => (await running.status()).pending === 0)
  await shop.balances(t, till)
})

t.test('without a source the lock-out goes by the token', async (t) => {
  const { shop, till, queries } = await scene(t, { source: () => undefined, limits: { wrongTokens: 5 } })
  const body = await message(till)
  const repeated = wrongToken()
  for (let n = 0; n < 5; n++) t.match(await post(shop.url, repeated, body), WRONG)
  const before = queries()
  t.match(await post(shop.url, repeated, body), LOCKED_OUT)
  t.equal(queries(), before)
  for (let n = 0; n < 20; n++) t.match(await post(shop.url, wrongToken(), body), WRONG, 'others are looked up')
  for (let n = 0; n < 20; n++) t.match(await post(shop.url, undefined, body), WRONG)
  for (let n = 0; n < 20; n++) t.match(await post(shop.url, 'of no form', body), WRONG)
  t.equal(queries(), before + 20, 'what has not the form of a token is not looked up')
  t.match(await post(shop.url, till.token, body), TAKEN)
})

t.test('a token that is revoked while central remembers it is a stranger from its first refusal on, and a wrong one', async (t) => {
  const { shop, till, queries, from } = await scene(t, { limits: { wrongTokens: 2, exchangesPerMinute: 3 } })
  t.match(await from('192.0.2.1', till.token), TAKEN)
  await shop.central.registers.revoke(till)
  t.match(await from('192.0.2.1', till.token), WRONG)
  t.match(await from('192.0.2.1', wrongToken()), WRONG)
  const before = queries()
  t.match(await from('192.0.2.1', till.token), LOCKED_OUT)
  t.equal(queries(), before, 'as strangers are')
  const { token } = await shop.central.registers.rotate(till)
  t.match(await from('192.0.2.2', token), TAKEN, 'what was refused has counted once')
  t.match(await from('192.0.2.2', token), { status: 429, code: 'ERR_RATE_LIMIT' })
})

t.test("by default the source is the socket's address", async (t) => {
  const clock = new ScriptedClock()
  const shop = await openShop(t, server, { clock, limits: { wrongTokens: 1 } })
  const sources: (string | undefined)[] = []
  shop.central.on('refused', ({ source }) => sources.push(source))
  t.match(await post(shop.url, wrongToken(), Buffer.of(1), { 'x-forwarded-for': '192.0.2.7' }), WRONG)
  t.match(await post(shop.url, wrongToken(), Buffer.of(1), { 'x-forwarded-for': '192.0.2.8' }), LOCKED_OUT, 'a header of anybody’s is not believed')
  t.same(sources, ['127.0.0.1', '127.0.0.1'])
})

t.test('what other servers pass as a second argument is no source', async (t) => {
  const { shop, till } = await scene(t, { limits: { wrongTokens: 1 } })
  const body = Buffer.from(await message(till))
  const ask = (token: string, second: unknown) =>
    shop.central.fetch(new Request('http://x/', { method: 'POST', body, headers: { authorization: `Bearer ${token}` } }), second as never)
  for (const second of [undefined, null, 5, 'text', {}, { source: '' }, { source: null }, { source: 5 }, { waitUntil: () => undefined }]) {
    t.equal((await ask(wrongToken(), second)).status, 401)
    t.equal((await ask(till.token, second)).status, 200)
  }
})

t.test('a register that exchanges without end waits for the next minute; the others do not', async (t) => {
  const { shop, till, clock, refusals, queries, from } = await scene(t, { limits: { exchangesPerMinute: 20 } })
  const other = await shop.addTill('POS2')
  clock.advance(5_000)
  for (let n = 0; n < 20; n++) t.match(await from('192.0.2.1', till.token), TAKEN)
  clock.advance(20_000)
  const before = queries()
  for (let n = 0; n < 5; n++) t.match(await from('192.0.2.1', till.token), { status: 429, code: 'ERR_RATE_LIMIT', retryAfter: '40' })
  t.equal(queries(), before, 'and costs no query')
  t.match(await from('192.0.2.1', other.token, other), TAKEN)
  const rotated = await shop.central.registers.rotate(till)
  t.match(await from('192.0.2.1', rotated.token), { status: 429, code: 'ERR_RATE_LIMIT' }, 'another token does not help')
  t.match(refusals, [{ register: { location: 'BA01', register: 'POS1' }, source: '192.0.2.1', error: { code: 'ERR_RATE_LIMIT' } }])
  t.equal(refusals.length, 1, 'it is said once')
  clock.advance(40_000)
  t.match(await from('192.0.2.1', till.token), TAKEN)
})

t.test('exchanges that come at the same time are counted too', async (t) => {
  const { till, from } = await scene(t, { limits: { exchangesPerMinute: 20 } })
  const answers = await Promise.all(Array.from({ length: 60 }, () => from('192.0.2.1', till.token)))
  t.equal(answers.filter(({ status }) => status === 200).length, 20)
})

t.test('a register waits as long as Retry-After says, and nothing is lost', async (t) => {
  const { shop, till, clock } = await scene(t, { limits: { exchangesPerMinute: 10 } })
  const times: number[] = []
  let answered = 0
  const running = till.again({
    transfer: { recordsPerRun: 3, everyMs: 10, backoff: { minMs: 1, maxMs: 1 } },
    link: (inner) => ({
      exchange(bytes, options) {
        times.push(performance.now())
        return inner.exchange(bytes, options).finally(() => answered++)
      },
    }),
  })
  for (let n = 0; n < 15; n++) till.cashier.sell(`R-${n}`, [randomLine(random)])
  await t.rejects(running.synchronize(), { code: 'ERR_RATE_LIMIT', retryable: true, context: { retryAfterMs: 60_000 } })
  t.match(await running.status(), { pending: 15 * 3 - 10 * 3 })
  clock.advance(59_000)
  await running.start()
  await eventually('it is told to wait', async () => answered === 12)
  clock.advance(1_000)
  await eventually('all is sent', async () => (await running.status()).pending === 0)
  const waited = (times[12] as number) - (times[11] as number)
  t.ok(waited > 990, `waited for ${waited} ms`)
  await running.stop()
  await shop.balances(t, till)
})

t.test('what goes well by hand ends the pause of what goes on in the background', async (t) => {
  const { till } = await scene(t)
  // Longer than a timer can be.
  for (const retryAfterMs of [3_600_000, 2 ** 40, Number.POSITIVE_INFINITY]) {
    let exchanges = 0
    const running = till.again({
      transfer: { everyMs: 10 },
      link: (inner) => ({
        async exchange(bytes, options) {
          if (++exchanges > 1) return inner.exchange(bytes, options)
          throw new TillsyncError('ERR_LINK', 'Not now', { retryable: true, context: { retryAfterMs } })
        },
      }),
    })
    await running.start()
    await eventually('it is told to wait', async () => (await running.status()).lastError !== undefined)
    for (let turns = 0; turns < 20; turns++) await running.status()
    t.equal(exchanges, 1)
    await running.synchronize()
    await eventually('it does not', async () => exchanges > 3)
    await running.stop()
  }
})

t.test("a register waits for a minute at a proxy's word, for a day at central's", async (t) => {
  const ours = await encodeMessage({ from: 'central', id: 'hand', error: { code: 'ERR_BUSY', message: 'Others wait', retryable: true } })
  for (const [given, foreignMs, ownMs] of [
    ['99999999999', 60_000, 86_400_000],
    ['3600', 60_000, 3_600_000],
    ['5', 5_000, 5_000],
    ['0', undefined, undefined],
    ['-5', undefined, undefined],
    ['Wed, 21 Oct 2026 07:28:00 GMT', undefined, undefined],
  ] as const)
    for (const [code, body, type, retryAfterMs] of [
      ['ERR_LINK', 'busy', 'text/plain', foreignMs],
      ['ERR_LINK', 'busy', CONTENT_TYPE, foreignMs],
      ['ERR_BUSY', ours, CONTENT_TYPE, ownMs],
    ] as const) {
      const headers = { 'retry-after': given, 'content-type': type }
      const http = createServer((_, response) => response.writeHead(503, headers).end(body)).listen(0, '127.0.0.1')
      await once(http, 'listening')
      const link = httpLink({ url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/`, token: wrongToken() })
      const error = await link.exchange(Buffer.of(1), { signal: new AbortController().signal }).catch((error: TillsyncError) => error)
      t.match(error, { code, context: { status: 503, retryAfterMs } }, `${given}, ${code}, ${type}`)
      http.close()
      http.closeAllConnections()
    }
})

t.test("a host's source function that throws is said, and ends that request only", async (t) => {
  const { shop, till, from } = await scene(t, {
    source: (request) => {
      if (request.headers['x-forwarded-for'] === 'bad') throw new Error('cannot tell')
      return undefined
    },
  })
  const warned = once(process, 'warning')
  await t.rejects(from('bad', till.token))
  t.match(await warned, [{ code: 'ERR_LISTENER', message: /cannot tell/ }])
  t.match(await from('192.0.2.1', till.token), TAKEN)
  await till.replica.synchronize()
  await shop.balances(t, till)
})

t.test('options that are none', async (t) => {
  const { shop } = await scene(t)
  const create = (limits: unknown) => createCentral({ database: postgres(shop.pool), subscribe: {}, limits: limits as never })
  for (const wrong of [
    null,
    5,
    { wrongTokens: 0 },
    { wrongTokens: '5' },
    { lockOutMs: 0 },
    { lockOutMs: 86_400_001 },
    { exchangesPerMinute: 0.5 },
    { remembered: 99 },
    { remembered: 1_000_001 },
    { tokens: 5 },
  ])
    await refused(t, () => create(wrong), 'ERR_OPTION', JSON.stringify(wrong))
  create({ wrongTokens: 1, lockOutMs: 1, exchangesPerMinute: 1, remembered: 100 })
  create({})
  await refused(t, () => toNodeHandler(shop.central.fetch, { source: '127.0.0.1' as never }), 'ERR_OPTION')
})
