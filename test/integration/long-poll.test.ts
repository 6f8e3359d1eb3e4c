import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Link, mirror } from '../../src/index.ts'
import { encodeMessage } from '../../src/transport/codec.ts'
import { httpLink, toNodeHandler } from '../../src/transport/http.ts'
import { ScriptedClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { refused } from '../support/refused.ts'
import { openShop } from '../support/shop.ts'
import { CENTRAL_SCHEMA, TILL_SCHEMA } from '../support/tables.ts'
import { EPOCH, post } from '../support/wire.ts'

const server = await startServer(t)

const line = { item: 'A', quantity: '1', amount: '1' }

/** A head office that holds answers back, and a till whose exchanges are counted. */
async function scene(t: Test, longPollMs: number, everyMs = 10) {
  const shop = await openShop(t, server, { longPollMs })
  let exchanges = 0
  const link = (inner: Link): Link => ({
    waitMs: inner.waitMs,
    exchange(message, options) {
      exchanges++
      return inner.exchange(message, options)
    },
  })
  const till = await shop.addTill('POS1', { transfer: { everyMs }, link })
  const isDone = async () => {
    const { unsealed, pending, standing } = await till.replica.status()
    return standing !== undefined && unsealed === 0 && pending === 0
  }
  return { shop, till, isDone, exchanges: () => exchanges }
}

t.test('an idle register asks seldom, and a sale goes out at once all the same', async (t) => {
  const { shop, till, isDone, exchanges } = await scene(t, 60_000)
  await till.replica.start()
  for (let n = 0; n < 10; n++) {
    till.cashier.sell(`R-${n}`, [line])
    // Sooner than a held answer would end.
    await eventually('it is there', async () => (await shop.stock('A')) === -(n + 1))
  }
  await eventually('it is acknowledged', isDone)
  const before = exchanges()
  await pause(500)
  t.ok(exchanges() - before <= 1, `${exchanges() - before} exchanges`)
  await shop.balances(t, till)
})

t.test('sales that end a wait need no connections of their own', async (t) => {
  const { shop, till, isDone } = await scene(t, 60_000)
  await till.replica.synchronize()
  const http = createServer({ keepAliveTimeout: 60_000 }, toNodeHandler(shop.central.fetch)).listen(0, '127.0.0.1')
  await once(http, 'listening')
  t.teardown(() => http.closeAllConnections())
  let [connections, requests] = [0, 0]
  http.on('connection', () => connections++)
  http.on('request', () => requests++)
  const { port } = http.address() as AddressInfo
  const running = till.again({ transfer: { everyMs: 10 }, link: () => httpLink({ url: `http://127.0.0.1:${port}/`, token: till.token }) })
  await running.start()
  await eventually('it waits', () => requests >= 2)
  for (let n = 0; n < 20; n++) {
    const before = requests
    till.cashier.sell(`R-${n}`, [line])
    await eventually('it is sent, and the till waits again', async () => requests >= before + 2 && (await isDone()))
  }
  t.ok(connections < 10, `${connections} connections for 20 sales`)
  const began = performance.now()
  await running.stop()
  t.ok(performance.now() - began < 15_000, 'what is still held does not hold the till')
  http.close()
  await shop.balances(t, till)
})

t.test('by hand nothing is waited for', async (t) => {
  const { shop, till } = await scene(t, 60_000)
  await till.replica.start()
  for (let n = 0; n < 5; n++) {
    till.cashier.sell(`R-${n}`, [line])
    await till.replica.synchronize()
    t.equal(await shop.stock('A'), -(n + 1))
    await till.replica.synchronize()
  }
})

t.test('what is held ends with its time, with central, and with its register', async (t) => {
  const { till, exchanges } = await scene(t, 200)
  const codes: string[] = []
  till.replica.on('failed', ({ error }) => codes.push(error.code))
  await till.replica.start()
  await eventually('several waits', () => exchanges() > 5)
  const began = performance.now()
  await till.replica.stop()
  t.ok(performance.now() - began < 15_000, 'the till stops at once')
  t.same(codes, [])
  const long = await scene(t, 60_000)
  long.till.replica.on('failed', ({ error }) => codes.push(error.code))
  await long.till.replica.start()
  await eventually('it waits', () => long.exchanges() >= 2)
  await pause(100)
  await long.shop.central.stop()
  await eventually('it is told', () => codes.includes('ERR_STOPPED'))
})

t.test('who is revoked while being held gets no word', async (t) => {
  const { shop, till, exchanges } = await scene(t, 5_000)
  const codes: string[] = []
  till.replica.on('failed', ({ error }) => codes.push(`${error.code} after ${exchanges()}`))
  await till.replica.start()
  await eventually('it waits', () => exchanges() >= 2)
  await pause(100)
  const refusal = `ERR_CREDENTIAL after ${exchanges()}`
  await shop.central.registers.revoke(till)
  await eventually('it is refused', () => codes[0])
  t.equal(codes[0], refusal, 'by the answer that was held')
})

t.test('whose token ends with its overlap while an answer is held gets no word either', async (t) => {
  const clock = new ScriptedClock()
  const shop = await openShop(t, server, { longPollMs: 1_000, clock })
  const { location, register, token } = await shop.addTill()
  const waiting = await encodeMessage({ from: { location, register }, id: 'hand', publish: { epoch: EPOCH, head: 0 }, wait: 60_000 })
  t.match(await post(shop.url, token, waiting), { status: 200, code: undefined })
  await shop.central.registers.rotate({ location, register }, { overlapMs: 10_000 })
  const answered = post(shop.url, token, waiting)
  await pause(100)
  clock.advance(10_000)
  t.match(await answered, { status: 401, code: 'ERR_CREDENTIAL' })
})

t.test('where central holds nothing back, or the link does not say how long, pauses are as long as `everyMs`', async (t) => {
  const { till, exchanges } = await scene(t, 0, 100)
  const began = performance.now()
  await till.replica.start()
  await eventually('several exchanges', () => exchanges() >= 12)
  const ms = Math.round(performance.now() - began)
  t.ok(exchanges() <= 4 + ms / 90, `${exchanges()} exchanges in ${ms} ms`)
  await refused(t, () => openShop(t, server, { longPollMs: -1 }), 'ERR_OPTION')
  await refused(t, () => openShop(t, server, { longPollMs: 300_001 }), 'ERR_OPTION')
})

t.test('a commit between the last look and the wait is not left behind', async (t) => {
  const { shop, till } = await scene(t, 60_000)
  await till.replica.start()
  for (let n = 0; n < 60; n++) {
    till.cashier.sell(`R-${n}`, [line])
    await pause(n % 7)
  }
  await eventually('all is there', async () => (await shop.stock('A')) === -60)
  await shop.balances(t, till)
})

/** Central publishes labels to a till that by itself would ask once a minute. */
async function labelled(t: Test, longPollMs: number) {
  const labels = 'CREATE TABLE labels (id int PRIMARY KEY, name text)'
  const shop = await openShop(t, server, { longPollMs, schema: `${CENTRAL_SCHEMA}; ${labels}`, publish: { labels: {} } })
  const till = await shop.addTill('POS1', {
    schema: `${TILL_SCHEMA}; ${labels}`,
    subscribe: { labels: mirror() },
    transfer: { everyMs: 60_000 },
  })
  return { shop, till }
}

t.test('what a register is told of it need not be told again: it goes on waiting, and hears of the next thing at once', async (t) => {
  const { shop, till } = await labelled(t, 60_000)
  await shop.central.start()
  await till.replica.start()
  for (let n = 1; n <= 3; n++) {
    await shop.pool.query('INSERT INTO labels VALUES ($1)', [n])
    // Sooner than a held answer would end.
    await eventually(`label ${n} is there`, async () => till.db.prepare('SELECT id FROM labels WHERE id = ?').get(n) !== undefined)
    // Meanwhile central looks whether another process has something for it.
    await pause(1_300)
  }
})

t.test('what is sold in a pause after a wait does not keep the register from waiting again', async (t) => {
  const { shop, till } = await labelled(t, 4_000)
  let [last, longest] = [performance.now(), 0]
  till.replica.on('exchanged', () => {
    longest = Math.max(longest, performance.now() - last)
    last = performance.now()
  })
  await shop.central.start()
  await till.replica.start()
  await eventually('the first wait is over', () => longest > 3_900)
  till.cashier.sell('R-1', [{ item: 'A', quantity: '1', amount: '1' }])
  await eventually('it is there', async () => (await shop.stock('A')) === -1)
  await shop.pool.query('INSERT INTO labels VALUES (1)')
  await eventually('the label is there', async () => till.db.prepare('SELECT id FROM labels').get() !== undefined)
})
