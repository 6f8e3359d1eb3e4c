import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { memoryLink } from '../../src/testing.ts'
import { encodeMessage } from '../../src/transport/codec.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { refused } from '../support/refused.ts'
import { openShop, type ShopOptions, type TillOptions } from '../support/shop.ts'
import { message } from '../support/wire.ts'

const server = await startServer(t)
const line = { item: 'A', quantity: '1', amount: '1' }
const POS1 = { location: 'BA01', register: 'POS1' }

/** A till that reaches its central in memory. */
async function scene(t: Test, options: ShopOptions = {}, tillOptions: TillOptions = {}) {
  const shop = await openShop(t, server, options)
  const till = await shop.addTill('POS1', { link: () => memoryLink(shop.central, POS1), ...tillOptions })
  return { shop, till }
}

t.test('what is sold arrives without a socket, and in the background at once', async (t) => {
  const { shop, till } = await scene(t, { longPollMs: 60_000 })
  till.cashier.sell('R-1', [line])
  t.same(await till.replica.synchronize(), { sent: 3, quarantined: 0, received: 0, applied: 0 })
  await till.replica.start()
  for (let n = 2; n < 6; n++) {
    till.cashier.sell(`R-${n}`, [line])
    // Sooner than a held answer would end.
    await eventually('it is there', async () => (await shop.stock('A')) === -n)
  }
  await till.replica.synchronize()
  await shop.balances(t, till)
})

t.test('who is not known, is revoked or speaks for another is refused by the same codes as over HTTP', async (t) => {
  const { shop, till } = await scene(t)
  const { registers } = shop.central
  const stranger = memoryLink(shop.central, { location: 'BA01', register: 'POS9' })
  const signal = AbortSignal.timeout(10_000)
  await t.rejects(stranger.exchange(await message({ location: 'BA01', register: 'POS9' }), { signal }), { code: 'ERR_CREDENTIAL' })
  await registers.add({ location: 'BA01', register: 'POS2' })
  const other = memoryLink(shop.central, { location: 'BA01', register: 'POS2' })
  await t.rejects(other.exchange(await message(POS1), { signal }), { code: 'ERR_FOREIGN_REGISTER' })
  till.cashier.sell('R-1', [line])
  await registers.revoke(POS1)
  await t.rejects(till.replica.synchronize(), { code: 'ERR_CREDENTIAL', retryable: false })
  await registers.rotate(POS1)
  await till.replica.synchronize()
  await shop.balances(t, till)
  await t.rejects(memoryLink(shop.central, POS1).exchange(Buffer.from('<html>'), { signal }), { code: 'ERR_MESSAGE' })
  await shop.central.stop()
  await t.rejects(till.replica.synchronize(), { code: 'ERR_STOPPED', retryable: true })
})

t.test('who is revoked while being held gets no word', async (t) => {
  const { shop, till } = await scene(t, { longPollMs: 500 })
  const codes: string[] = []
  till.replica.on('failed', ({ error }) => codes.push(error.code))
  let exchanges = 0
  till.replica.on('exchanged', () => exchanges++)
  await till.replica.start()
  await eventually('it waits', () => exchanges > 0)
  await shop.central.registers.revoke(POS1)
  await eventually('it is refused', () => codes[0])
  t.equal(codes[0], 'ERR_CREDENTIAL')
})

t.test('limits hold, and say how long', async (t) => {
  const { till } = await scene(t, { limits: { exchangesPerMinute: 2 } })
  await till.replica.synchronize()
  await till.replica.synchronize()
  await t.rejects(till.replica.synchronize(), { code: 'ERR_RATE_LIMIT', retryable: true, context: { retryAfterMs: Number } })
})

t.test('only this process can vouch for a register', async (t) => {
  const { shop } = await scene(t)
  const request = async () => new Request('http://central/', { method: 'POST', body: (await message(POS1)) as Uint8Array<ArrayBuffer> })
  const forged = { source: undefined, register: POS1 }
  t.equal((await shop.central.fetch(await request(), forged)).status, 401)
  const deaf = memoryLink({ fetch: (request) => shop.central.fetch(request) }, POS1)
  const signal = AbortSignal.timeout(10_000)
  await t.rejects(deaf.exchange(await message(POS1), { signal }), { code: 'ERR_CREDENTIAL' }, 'a voucher that is not passed on lets nobody in')
})

t.test('each side has bytes of its own', async (t) => {
  const answer = Buffer.from(await encodeMessage({ from: 'central', id: 'x', answers: 'y' }))
  let got: Uint8Array | undefined
  const echo = {
    async fetch(request: Request) {
      got = new Uint8Array(await request.arrayBuffer())
      return new Response(answer, { headers: { 'content-type': 'application/vnd.tillsync' } })
    },
  }
  const sent = Buffer.from('the bytes of a message')
  const exchanged = memoryLink(echo, POS1).exchange(sent, { signal: AbortSignal.timeout(10_000) })
  sent.fill(0)
  const received = await exchanged
  t.equal(Buffer.from(got ?? []).toString(), 'the bytes of a message')
  t.same(Buffer.from(received), answer)
  received.fill(0)
  t.not(answer[0], 0)
})

t.test('a wait ends with its signal, and with its time', async (t) => {
  const silent = { fetch: () => new Promise<Response>(() => undefined) }
  const ending = new AbortController()
  const waiting = memoryLink(silent, POS1).exchange(Buffer.from('x'), { signal: ending.signal })
  await pause(20)
  ending.abort()
  await t.rejects(waiting, { code: 'ERR_ABORTED' })
  let asked = 0
  const counting = { fetch: async () => new Response(`${++asked}`) }
  await t.rejects(memoryLink(counting, POS1).exchange(Buffer.from('x'), { signal: ending.signal }), { code: 'ERR_ABORTED' })
  t.equal(asked, 0, 'nothing is sent')
  const slow = memoryLink(silent, { ...POS1, timeoutMs: 20 })
  t.equal(slow.waitMs, 10)
  await t.rejects(slow.exchange(Buffer.from('x'), { signal: new AbortController().signal }), { code: 'ERR_LINK', retryable: true })
  const broken = { fetch: () => Promise.reject(new Error('central is down')) }
  await t.rejects(memoryLink(broken, POS1).exchange(Buffer.from('x'), { signal: new AbortController().signal }), {
    code: 'ERR_LINK',
    retryable: true,
  })
})

t.test('what it is given is checked', async (t) => {
  const { shop } = await scene(t)
  // biome-ignore lint/suspicious/noExplicitAny: it is wrong on purpose
  const given = (central: unknown, options?: unknown) => memoryLink(central as any, options as any)
  const bad = [undefined, null, 'POS1', {}, { location: 'BA01' }, { ...POS1, register: '' }, { ...POS1, timeoutMs: 0 }, { ...POS1, token: 'x' }]
  for (const options of bad) await refused(t, () => given(shop.central, options), 'ERR_OPTION', JSON.stringify(options))
  for (const central of [undefined, null, {}, 7]) await refused(t, () => given(central, POS1), 'ERR_OPTION')
})
