import { setTimeout as pause } from 'node:timers/promises'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createCentral, createRegister, type Link, type Progress, type RegisterEvents } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { refused } from '../support/refused.ts'
import { listen, openShop, PUBLISH, type Shop, type Till } from '../support/shop.ts'

const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const random = new Random(seed)

function sell(till: Till, from: number, through: number): void {
  for (let n = from; n <= through; n++) till.cashier.sellAnything(random, `R-${n}`)
}

/** What central said of registers, in order. */
function told(shop: Shop): { readonly event: string; readonly register: string; readonly code?: string }[] {
  const all: { event: string; register: string; code?: string }[] = []
  shop.central.on('offline', ({ register, error }) => all.push({ event: 'offline', register: register.register, code: error.code }))
  shop.central.on('online', ({ register }) => all.push({ event: 'online', register: register.register }))
  shop.central.on('refused', ({ register, error }) => all.push({ event: 'refused', register: register?.register ?? '', code: error.code }))
  return all
}

async function pulledTill(t: Test, shop: Shop, register = 'POS1', recordsPerRun = 20): Promise<Till> {
  const till = await shop.addTill(register, { pull: { recordsPerRun } })
  t.teardown(() => till.replica.stop())
  return till
}

t.test('a backlog is drained by hand: all is there, and central says what it got', async (t) => {
  const shop = await openShop(t, server)
  const till = await pulledTill(t, shop)
  const events: RegisterEvents['exchanged'][] = []
  till.replica.on('exchanged', (event) => events.push(event))
  sell(till, 1, 60)
  const progress: unknown[] = []
  const moved = await shop.central.synchronize(till, { onProgress: (one) => progress.push(one) })
  await shop.balances(t, till)
  const { head, standing, pending, lastContact, lastError } = await till.replica.status()
  t.same(standing, head, 'the till knows that it arrived')
  t.match({ pending, lastError }, { pending: 0, lastError: undefined })
  t.ok(lastContact)
  t.same(moved, { received: head.entryNo, documents: moved.documents })
  t.match(progress[0], { location: 'BA01', register: 'POS1', received: Number, pending: Number })
  t.match(progress.at(-1), { ...moved, pending: 0 })
  t.equal(
    events.reduce((sum, { sent }) => sum + sent, 0),
    head.entryNo,
  )
  const before = progress.length
  t.same(await shop.central.synchronize(till, { onProgress: (one) => progress.push(one) }), { received: 0, documents: 0 })
  t.equal(progress.length, before + 1, 'an exchange that finds nothing new ends the run')
  sell(till, 61, 61)
  t.match(await shop.central.synchronize(), [{ location: 'BA01', register: 'POS1', documents: Number, error: undefined }])
  await shop.balances(t, till)
})

t.test('what was sold before an exchange goes with it, whoever seals it meanwhile', async (t) => {
  const shop = await openShop(t, server)
  const till = await pulledTill(t, shop)
  const { location, register, file, token } = till
  const beside = createRegister({ location, register, database: sqlite(() => new Database(file)), publish: PUBLISH })
  t.teardown(() => beside.stop())
  const database = sqlite(() => new Database(file))
  let between: (() => Promise<unknown>) | undefined
  const read: typeof database.read = async (work, options) => {
    const value = await database.read(work, options)
    await between?.()
    return value
  }
  const served = createRegister({
    location,
    register,
    database: new Proxy(database, {
      get(target, name) {
        const value = name === 'read' ? read : Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    }),
    publish: PUBLISH,
    transfer: { type: 'pull', token },
  })
  t.teardown(() => served.stop())
  const central = shop.again({ fetch: (url, init) => served.fetch(new Request(url, init)) })
  await central.synchronize(till)
  for (let at = 1, reads = at; at <= reads; at++) {
    reads = 0
    between = async () => {
      if (++reads === at) await beside.seal()
    }
    till.cashier.sell(`R-${at}`, [{ item: 'TEA', quantity: '1', amount: '2.50' }])
    t.ok((await central.synchronize(till)).received > 0, `sealed behind the ${at}. time that something is read`)
  }
  between = undefined
  await shop.balances(t, till)
})

t.test('a register that is pulled and was never started compares what no trigger saw, too', async (t) => {
  const shop = await openShop(t, server)
  const till = await pulledTill(t, shop)
  sell(till, 1, 3)
  await shop.central.synchronize(till)
  till.db.exec(`DROP TRIGGER sync_receipts_update; UPDATE receipts SET receipt_no = 'R-2 again', status = 'posted' WHERE receipt_no = 'R-2'`)
  await eventually('it has come', async () => {
    await shop.central.synchronize(till)
    return (await shop.pool.query(`SELECT FROM receipts WHERE receipt_no = 'R-2 again'`)).rows.length === 1
  })
  await eventually('nothing is left to be compared', async () => (await till.replica.status()).resealing.length === 0)
})

t.test('a started central pulls by itself, also registers that are added later', async (t) => {
  const shop = await openShop(t, server)
  const said = told(shop)
  const first = await pulledTill(t, shop)
  await first.replica.start()
  await shop.central.start()
  sell(first, 1, 30)
  const second = await pulledTill(t, shop, 'POS2')
  await second.replica.start()
  sell(second, 1, 30)
  for (const till of [first, second])
    await eventually('all is there', async () => {
      const { unsealed, pending } = await till.replica.status()
      return unsealed === 0 && pending === 0
    })
  await shop.central.stop()
  await shop.balances(t, first)
  await shop.balances(t, second)
  t.same(said, [])
})

t.test('who pushes, who is not known, and who is revoked is not pulled', async (t) => {
  const shop = await openShop(t, server)
  const till = await pulledTill(t, shop)
  const pushing = await shop.addTill('POS2')
  const { central } = shop
  await refused(t, () => central.synchronize(pushing), 'ERR_OPTION')
  await refused(t, () => central.synchronize({ location: 'BA01', register: 'POS9' }), 'ERR_REGISTER')
  await refused(t, () => till.replica.synchronize(), 'ERR_OPTION')
  await refused(t, () => pushing.replica.fetch(new Request('http://till/')), 'ERR_OPTION')
  t.match(
    (await central.registers.list()).map(({ register, pull }) => [register, pull?.url]),
    [
      ['POS1', till.url],
      ['POS2', undefined],
    ],
  )
  sell(till, 1, 1)
  await central.registers.revoke(till)
  await refused(t, () => central.synchronize(till), 'ERR_REGISTER')
  t.same(await central.synchronize(), [])
  await central.registers.rotate(till)
  t.match(await central.synchronize(), [{ register: 'POS1', error: undefined }])
  await shop.balances(t, till)
})

t.test('a register moved from push to pull and back loses nothing and doubles nothing', async (t) => {
  const shop = await openShop(t, server)
  const { central } = shop
  const till = await pulledTill(t, shop)
  for (let round = 0; round < 6; round++) {
    sell(till, round * 10, round * 10 + 9)
    if (random.chance(0.5)) till.cashier.changeSomething(random)
    if (round % 2 === 0) {
      const replica = till.again()
      await central.registers.change(till, { pull: { url: till.url as string } })
      await central.synchronize(till)
      t.equal((await replica.status()).pending, 0)
      await replica.stop()
    } else {
      await central.registers.change(till, { pull: undefined })
      await refused(t, () => central.synchronize(till), 'ERR_OPTION')
      const replica = till.again({ pull: false, transfer: { recordsPerRun: 20 } })
      await replica.synchronize()
      t.equal((await replica.status()).pending, 0)
      await replica.stop()
    }
    await shop.balances(t, till, `round ${round}`)
  }
})

t.test('of several processes of central one pulls a register, and another goes on when it is gone', async (t) => {
  const shop = await openShop(t, server)
  const till = await pulledTill(t, shop)
  await till.replica.start()
  let [open, most] = [0, 0]
  const counted = await listen(t, async (request, from) => {
    most = Math.max(most, ++open)
    await pause(20)
    return till.replica.fetch(request, from).finally(() => open--)
  })
  await shop.central.registers.change(till, { pull: { url: counted } })
  const said = told(shop)
  const others = [shop.again(), shop.again()]
  const isDone = async () => {
    const { unsealed, pending, standing } = await till.replica.status()
    return standing !== undefined && unsealed === 0 && pending === 0
  }
  await Promise.all([shop.central, ...others].map((one) => one.start()))
  sell(till, 1, 20)
  await eventually('all is there', isDone)
  t.equal(most, 1, 'never two at the same time')
  await shop.central.stop()
  sell(till, 21, 40)
  await eventually('another one goes on', isDone)
  await others[0]?.stop()
  sell(till, 41, 60)
  await eventually('and the last', isDone)
  await others[1]?.stop()
  await shop.pool.query("UPDATE sync_pulls SET holder = 'gone', held_until = now() + interval '9 years'")
  sell(till, 61, 80)
  await shop.central.start()
  await eventually('nobody holds it for years, by a clock that was wrong', isDone)
  t.same(said, [])
  await shop.balances(t, till)
})

t.test('a till that pushes says by hand how far it is', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill('POS1', { transfer: { recordsPerRun: 20 } })
  sell(till, 1, 30)
  const { entries } = await till.replica.seal()
  const progress: Progress[] = []
  const failed: string[] = []
  till.replica.on('failed', ({ error }) => failed.push(error.code))
  const moved = await till.replica.synchronize({
    onProgress(one) {
      progress.push(one)
      throw new Error('the display is gone')
    },
  })
  t.same(moved, { sent: entries, quarantined: 0, received: 0, applied: 0 })
  t.ok(progress.length > 3)
  for (const { sent, pending } of progress) t.equal(sent + pending, entries)
  t.equal(progress.at(-1)?.pending, 0)
  t.same([...new Set(failed)], ['ERR_LISTENER'], 'what a listener throws harms nobody')
  sell(till, 31, 60)
  const ending = new AbortController()
  await t.rejects(till.replica.synchronize({ signal: ending.signal, onProgress: () => ending.abort() }), { code: 'ERR_ABORTED' })
  t.ok((await till.replica.status()).pending > 0)
  await till.replica.synchronize()
  await shop.balances(t, till)
  await refused(t, () => till.replica.synchronize({ progress: 5 } as never), 'ERR_OPTION')
})

t.test("a host's fetch that does not end with its signal holds up neither a stop nor who waits", async (t) => {
  const shop = await openShop(t, server, { pull: { fetch: () => never(), timeoutMs: 300, token: () => 'x'.repeat(43) } })
  const till = await shop.addTill('POS1')
  sell(till, 1, 1)
  const late = till.again({ link: () => httpLink({ url: shop.url, token: till.token, fetch: () => never(), timeoutMs: 100 }) })
  await t.rejects(late.synchronize(), { code: 'ERR_LINK', message: /No answer within 100 ms/ })
  const hanging = till.again({ link: () => httpLink({ url: shop.url, token: till.token, fetch: () => never() }) })
  await t.rejects(hanging.synchronize({ signal: AbortSignal.timeout(50) }), { code: 'ERR_ABORTED' })
  await hanging.start()
  await hanging.stop()
  const pulled = { location: 'BA01', register: 'POS2' }
  await shop.central.registers.add({ ...pulled, pull: { url: 'http://till/' } })
  await t.rejects(shop.central.synchronize(pulled), { code: 'ERR_LINK' })
  await till.replica.synchronize()
  await shop.balances(t, till)
})

t.test("a host's own link that does not end with its signal holds nobody up, and what it answers late is nobody's", async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill('POS1')
  const good = httpLink({ url: shop.url, token: till.token })
  const late: (() => void)[] = []
  let isDeaf = true
  const link: Link = {
    waitMs: 30_000,
    async exchange(message, { signal }) {
      if (!isDeaf) return good.exchange(message, { signal })
      const answer = await good.exchange(message, { signal: new AbortController().signal })
      return new Promise((resolve, reject) => late.push(late.length % 2 === 0 ? () => resolve(answer) : () => reject(new Error('late'))))
    },
  }
  const deaf = till.again({ link: () => link })
  for (let n = 1; n <= 4; n++) {
    sell(till, n, n)
    const ending = new AbortController()
    const ended = deaf.synchronize({ signal: ending.signal })
    await eventually('central has answered', () => late.length === 2 * n - 1)
    ending.abort()
    await t.rejects(ended, { code: 'ERR_ABORTED' })
    await deaf.start()
    await eventually('central has answered again', () => late.length === 2 * n)
    await deaf.stop()
  }
  isDeaf = false
  const [first, ...others] = late
  first?.()
  const synchronized = deaf.synchronize()
  for (const answer of others) answer()
  await synchronized
  await shop.balances(t, till)
})

function never<T>(): Promise<T> {
  return new Promise(() => undefined)
}

t.test('both sides start exchanges at the same time: nothing is lost or doubled', async (t) => {
  const shop = await openShop(t, server)
  const till = await pulledTill(t, shop)
  const pushing = till.again({ pull: false, transfer: { recordsPerRun: 10, everyMs: 10 } })
  const other = shop.again()
  const forks: unknown[] = []
  for (const replica of [till.replica, pushing]) replica.on('forked', (fork) => forks.push(fork))
  for (const central of [shop.central, other]) central.on('forked', (fork) => forks.push(fork))
  await till.replica.start()
  await shop.central.start()
  await other.start()
  await pushing.start()
  for (let n = 0; n < 40; n++) {
    sell(till, n, n)
    if (random.chance(0.2)) await shop.central.synchronize(till)
  }
  await eventually('all is there', async () => {
    const { unsealed, pending } = await till.replica.status()
    return unsealed === 0 && pending === 0
  })
  await Promise.all([shop.central.stop(), other.stop(), pushing.stop()])
  t.same(forks, [], 'no history parts by that')
  await shop.balances(t, till)
})

t.test('options that are none', async (t) => {
  const shop = await openShop(t, server)
  const { central } = shop
  const name = { location: 'BA01', register: 'POS5' }
  for (const pull of [
    null,
    5,
    {},
    { url: 'nowhere' },
    { url: 'ftp://till/' },
    { url: 'http://user:secret@till/' },
    { url: 'http://till/', every: 5 },
  ])
    await refused(t, () => central.registers.add({ ...name, pull: pull as never }), 'ERR_OPTION', JSON.stringify(pull))
  await refused(t, () => central.registers.change(name, { pull: undefined }), 'ERR_REGISTER')
  for (const wrong of [undefined, null, {}, { pull: { url: 'no' } }, { pull: undefined, token: 5 }])
    await refused(t, () => central.registers.change(name, wrong as never), 'ERR_OPTION', JSON.stringify(wrong))
  const token = () => ''
  for (const pull of [
    null,
    {},
    { token: 'text' },
    { token, everyMs: 9 },
    { token, lanes: 0 },
    { token, timeoutMs: 0 },
    { token, fetch: 5 },
    { token, every: 1 },
  ])
    await refused(t, () => createCentral({ database: postgres(shop.pool), subscribe: {}, pull: pull as never }), 'ERR_OPTION', JSON.stringify(pull))
  await refused(t, () => createCentral({ database: postgres(shop.pool), subscribe: {} }).synchronize(), 'ERR_OPTION', 'without `pull`')
  const till = await pulledTill(t, shop)
  for (const pull of [{ token: 'short' }, { token: 5 }, { everyMs: 10 }, { maxMessageBytes: 5 }, { recordsPerRun: 0 }])
    await refused(t, () => till.again({ pull: pull as never }), 'ERR_OPTION', JSON.stringify(pull))
})
