import { once } from 'node:events'
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { stockMovements, TillsyncError } from '../../src/index.ts'
import { decodeMessage, encodeMessage } from '../../src/transport/codec.ts'
import { CONTENT_TYPE } from '../../src/transport/http-client.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { randomLine } from '../support/sales.ts'
import { listen, openShop, type Shop, type Till } from '../support/shop.ts'
import { frame, message, post } from '../support/wire.ts'

const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const random = new Random(seed)

function sell(till: Till, from: number, through: number): void {
  for (let n = from; n <= through; n++) till.cashier.sell(`R-${n}`, [randomLine(random)])
}

/** Where a server of the test listens, and what it listens with. */
async function at(t: Test, http: Server | HttpServer): Promise<string> {
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  t.teardown(() => {
    http.close()
    if ('closeAllConnections' in http) http.closeAllConnections()
  })
  return `http://127.0.0.1:${(http.address() as AddressInfo).port}/sync`
}

/** Takes connections and says nothing, ever. */
function silence(t: Test): Server {
  return createServer((socket) => {
    socket.on('error', () => undefined)
    t.teardown(() => socket.destroy())
  })
}

async function nobodyThere(t: Test): Promise<string> {
  const http = createServer()
  const url = await at(t, http)
  http.close()
  return url
}

async function moved(shop: Shop, till: Till, url: string): Promise<void> {
  await shop.central.registers.change(till, { pull: { url } })
}

t.test('one till dead, one slow, one half-open, one that drips: the others are done meanwhile', async (t) => {
  const shop = await openShop(t, server, { pull: { lanes: 4, timeoutMs: 3_000, everyMs: 20 } })
  const tills: Till[] = []
  for (let n = 1; n <= 20; n++) tills.push(await shop.addTill(`POS${n}`, { pull: true }))
  for (const till of tills) sell(till, 1, 10)
  const [dead, slow, halfOpen, dripping, ...well] = tills as [Till, Till, Till, Till, ...Till[]]
  await moved(shop, dead, await nobodyThere(t))
  const slowUrl = await listen(t, async (request, from) => {
    await pause(1_000)
    return slow.replica.fetch(request, from)
  })
  await moved(shop, slow, slowUrl)
  await moved(shop, halfOpen, await at(t, silence(t)))
  const drips = createHttpServer((_, response) => void response.writeHead(200, { 'content-type': CONTENT_TYPE }).write('a'))
  await moved(shop, dripping, await at(t, drips))
  const said: string[] = []
  shop.central.on('offline', ({ register, error }) => said.push(`offline ${register.register} ${error.code}`))
  shop.central.on('online', ({ register }) => said.push(`online ${register.register}`))
  const began = performance.now()
  await shop.central.start()
  await eventually(
    'the others are done',
    async () => {
      const all = await Promise.all(well.map((till) => till.replica.status()))
      return all.every(({ pending, standing }) => standing !== undefined && pending === 0)
    },
    15_000,
  )
  t.comment(`${Math.round(performance.now() - began)} ms`)
  for (const till of well) await shop.balances(t, till)
  await eventually('the slow one is done too', async () => (await slow.replica.status()).standing !== undefined)
  await eventually('the others are known to be away', () => said.length >= 3)
  await pause(500) // some more tries
  t.same([...said].sort(), ['offline POS1 ERR_LINK', 'offline POS3 ERR_LINK', 'offline POS4 ERR_LINK'], 'said once')
  await moved(shop, dead, dead.url as string)
  await eventually('it is back', () => said.includes('online POS1'), 30_000)
  await eventually('and done', async () => (await dead.replica.status()).pending === 0)
  await shop.balances(t, dead)
})

t.test('all by hand: each has its result, in bounded time', async (t) => {
  const shop = await openShop(t, server, { pull: { timeoutMs: 3_000 } })
  const well = await shop.addTill('POS1', { pull: true })
  const dead = await shop.addTill('POS2', { pull: true })
  const halfOpen = await shop.addTill('POS3', { pull: true })
  const mistaken = await shop.addTill('POS4', { pull: true, token: 'x'.repeat(43) })
  for (const till of [well, dead, halfOpen, mistaken]) sell(till, 1, 5)
  await moved(shop, dead, await nobodyThere(t))
  await moved(shop, halfOpen, await at(t, silence(t)))
  t.match(await shop.central.synchronize(), [
    { register: 'POS1', received: 15, documents: 5, error: undefined },
    { register: 'POS2', received: 0, error: { code: 'ERR_LINK', retryable: true } },
    { register: 'POS3', received: 0, error: { code: 'ERR_LINK', retryable: true, message: /3000 ms/ } },
    { register: 'POS4', received: 0, error: { code: 'ERR_CREDENTIAL', retryable: false } },
  ])
  await t.rejects(shop.central.synchronize(dead), { code: 'ERR_LINK' })
  await shop.balances(t, well)
})

t.test('answers that are not a register’s own are refused, and nothing is applied', async (t) => {
  const shop = await openShop(t, server, { maxMessageBytes: 100_000 })
  const till = await shop.addTill('POS1', { pull: true })
  const other = await shop.addTill('POS2', { pull: true })
  sell(till, 1, 3)
  sell(other, 1, 3)
  const endless = createHttpServer((_, response) => {
    response.writeHead(200, { 'content-type': CONTENT_TYPE })
    const more = (): void => void (response.destroyed || response.write(Buffer.alloc(50_000), () => setImmediate(more)))
    more()
  })
  const answering = (answer: (id: string) => Promise<Uint8Array>) =>
    listen(t, async (request) => {
      const { id } = await decodeMessage(new Uint8Array(await request.arrayBuffer()), 100_000)
      return new Response((await answer(id)) as Uint8Array<ArrayBuffer>, { headers: { 'content-type': CONTENT_TYPE } })
    })
  const publish = { epoch: 'e', head: 5 }
  const from = { location: 'BA01', register: 'POS1' }
  for (const [what, url, code] of [
    ['a portal', await listen(t, async () => new Response('<html>', { headers: { 'content-type': 'text/html' } })), 'ERR_LINK'],
    ['a redirect', await listen(t, async () => Response.redirect(other.url as string)), 'ERR_LINK'],
    [
      'another register',
      await answering((id) => encodeMessage({ from: { ...from, register: 'POS2' }, id: 'x', answers: id, publish })),
      'ERR_FOREIGN_REGISTER',
    ],
    ['central itself', await answering((id) => encodeMessage({ from: 'central', id: 'x', answers: id, publish })), 'ERR_FOREIGN_REGISTER'],
    ['an answer to another message', await answering(() => encodeMessage({ from, id: 'x', answers: 'y', publish })), 'ERR_MESSAGE'],
    ['who keeps central asking', await answering((id) => encodeMessage({ from, id: 'x', answers: id, publish })), 'ERR_MESSAGE'],
    ['garbage', await answering(async () => Buffer.from('garbage')), 'ERR_MESSAGE'],
    ['another version', await answering(async () => frame({ v: 2 })), 'ERR_VERSION'],
    ['an endless answer', await at(t, endless), 'ERR_TOO_LARGE'],
    ['another till', other.url as string, 'ERR_CREDENTIAL'],
  ] as const) {
    await moved(shop, till, url)
    await t.rejects(shop.central.synchronize(till), { code }, what)
  }
  t.equal((await shop.pool.query('SELECT FROM sync_archive')).rowCount, 0)
  await moved(shop, till, till.url as string)
  await shop.central.synchronize(till)
  await shop.balances(t, till)
})

t.test('what strangers and others send to a till changes nothing there', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill('POS1', { pull: { recordsPerRun: 10, maxMessageBytes: 65_536 } })
  const other = await shop.addTill('POS2', { pull: true })
  sell(till, 1, 10)
  await shop.central.synchronize(till)
  const before = await till.replica.status()
  const refusals: TillsyncError[] = []
  till.replica.on('refused', ({ source, error }) => {
    t.equal(source, '127.0.0.1')
    refusals.push(error)
  })
  const url = till.url as string
  const name = { location: 'BA01', register: 'POS1' }
  const word = { standing: { epoch: before.head.epoch, entryNo: 3, digest: 'a'.repeat(64) } }
  const ours = (to: typeof name | undefined, fields: object = {}) => encodeMessage({ from: 'central', to, id: 'x', subscribe: word, ...fields })
  for (const [what, token, body, status, code] of [
    ['no token', undefined, await ours(name), 401, 'ERR_CREDENTIAL'],
    ['a wrong token', 'x'.repeat(43), await ours(name), 401, 'ERR_CREDENTIAL'],
    ["another till's", other.token, await ours(name), 401, 'ERR_CREDENTIAL'],
    ['nothing', till.token, undefined, 400, 'ERR_MESSAGE'],
    ['garbage', till.token, Buffer.from('garbage'), 400, 'ERR_MESSAGE'],
    ['another version', till.token, frame({ v: 9 }), 400, 'ERR_VERSION'],
    ['too much', till.token, Buffer.alloc(70_000), 413, 'ERR_TOO_LARGE'],
    ['a register', till.token, await message(name), 403, 'ERR_FOREIGN_REGISTER'],
    ['for another register', till.token, await ours({ ...name, register: 'POS2' }), 403, 'ERR_FOREIGN_REGISTER'],
    ['for nobody', till.token, await ours(undefined), 403, 'ERR_FOREIGN_REGISTER'],
  ] as const) {
    t.match(await post(url, token, body), { status, code }, what)
    t.equal(refusals.at(-1)?.code, code, `${what}: told`)
  }
  t.equal((await fetch(url)).status, 405)
  const { standing, head, pending } = before
  const points = [{ entryNo: 1, digest: 'b'.repeat(64) }]
  for (const subscribe of [
    word,
    { ...word, points },
    { ...word, superseded: standing },
    { standing: { ...word.standing, epoch: 'never heard of' }, points: [] },
  ])
    t.match(
      await post(url, till.token, await ours(name, { subscribe })),
      { status: 200, message: { batch: undefined } },
      'a word that can’t be is answered',
    )
  t.match(await till.replica.status(), { standing, head, pending }, 'and decides nothing')
  for (let n = 0; n < 100; n++) await post(url, 'y'.repeat(43), undefined)
  t.match(await post(url, 'y'.repeat(43), undefined), { status: 429, code: 'ERR_LOCKED_OUT' })
  sell(till, 11, 12)
  await shop.central.synchronize(till)
  await shop.balances(t, till)
  await till.replica.stop()
  t.match(await post(url, till.token, await ours(name)), { status: 503, code: 'ERR_STOPPED' })
})

t.test("central's old letters, delivered again in any order, decide nothing at the till", async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill('POS1', { pull: { recordsPerRun: 10 } })
  const letters: Uint8Array[] = []
  const recorded = await listen(t, async (request, from) => {
    const body = new Uint8Array(await request.arrayBuffer())
    letters.push(body)
    return till.replica.fetch(new Request(request.url, { method: 'POST', headers: request.headers, body }), from)
  })
  await moved(shop, till, recorded)
  sell(till, 1, 20)
  await shop.central.synchronize(till)
  const { head } = await till.replica.status()
  for (const letter of random.shuffle([...letters, ...letters])) t.match(await post(till.url as string, till.token, letter), { status: 200 })
  t.same((await till.replica.status()).head, head, 'no new epoch')
  await shop.central.synchronize(till)
  const pruning = till.again({ pull: false, retainMs: 0 })
  t.ok((await pruning.prune()).entries > 30)
  await pruning.stop()
  for (const letter of random.shuffle(letters)) t.match(await post(till.url as string, till.token, letter), { status: 200 })
  t.same((await till.replica.status()).head, head, 'nor where what they speak of is pruned')
  sell(till, 21, 25)
  await shop.central.synchronize(till)
  t.equal((await till.replica.status()).pending, 0)
  await shop.balances(t, till)
})

t.test('a run that is ended in the middle loses nothing and doubles nothing', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill('POS1', { pull: { recordsPerRun: 5 } })
  for (let round = 0; round < 8; round++) {
    sell(till, round * 10, round * 10 + 9)
    const ending = new AbortController()
    const exchanges = random.int(1, 4)
    let seen = 0
    if (random.chance(0.3)) setTimeout(() => ending.abort(), random.int(0, 30))
    const onProgress = () => ++seen === exchanges && ending.abort()
    await t.rejects(shop.central.synchronize(till, { signal: ending.signal, onProgress }), { code: 'ERR_ABORTED' }, `after ${exchanges}`)
  }
  await t.rejects(shop.central.synchronize(undefined, { signal: AbortSignal.abort() }), { code: 'ERR_ABORTED' })
  await shop.central.synchronize(till)
  await shop.balances(t, till)
})

t.test('an answer that got lost on its way to central comes again', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill('POS1', { pull: { recordsPerRun: 4 } })
  let lost = 0
  const lossy = await listen(t, async (request, from) => {
    const isAsked = random.chance(0.85)
    const answer = isAsked ? await till.replica.fetch(request, from) : undefined
    if (answer !== undefined && random.chance(0.85)) return answer
    lost++
    throw new Error('lost')
  })
  await moved(shop, till, lossy)
  sell(till, 1, 40)
  await till.replica.start()
  await shop.central.start()
  await eventually('all is there', async () => {
    const { unsealed, pending } = await till.replica.status()
    return unsealed === 0 && pending === 0
  })
  t.ok(lost > 0, `${lost} lost`)
  await shop.central.stop()
  await shop.balances(t, till)
})

t.test('a batch that central can’t apply: both sides say so, and it goes on when it can', async (t) => {
  let isBroken = true
  const broken = stockMovements(() => {
    if (isBroken) throw new TillsyncError('ERR_DATABASE', 'broken', { retryable: true })
    return []
  })
  const shop = await openShop(t, server, { subscribe: { receipts: broken } })
  const till = await shop.addTill('POS1', { pull: true })
  const refusals: (string | undefined)[] = []
  shop.central.on('refused', ({ register, error }) => refusals.push(`${register?.register} ${error.code}`))
  sell(till, 1, 3)
  await t.rejects(shop.central.synchronize(till), { code: 'ERR_DATABASE' })
  t.equal(refusals.length, 1)
  await t.rejects(shop.central.synchronize(till), { code: 'ERR_DATABASE' })
  t.match((await till.replica.status()).lastError, { code: 'ERR_DATABASE' }, 'the till is told with the next message')
  isBroken = false
  await shop.central.synchronize(till)
  t.match(await till.replica.status(), { pending: 0, lastError: undefined })
})
