import { gunzipSync } from 'node:zlib'
import { Packr } from 'msgpackr'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type Central, createCentral } from '../../src/index.ts'
import { decodeMessage } from '../../src/transport/codec.ts'
import { httpLink } from '../../src/transport/http.ts'
import { CONTENT_TYPE } from '../../src/transport/http-client.ts'
import { type Message, PROTOCOL_VERSION } from '../../src/transport/message.ts'
import { Publisher } from '../../src/transport/publisher.ts'
import { VERSION } from '../../src/version.ts'
import { type Conversation, type Outlook, plain, type RecordedStep, readConversations } from '../fixtures/wire/recording.ts'
import { arrived, CENTRAL_TABLES, POS1, SUBSCRIBE } from '../fixtures/wire/scene.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { tablesOf } from '../support/snapshots.ts'
import { frame } from '../support/wire.ts'

const server = await startServer(t)
const MAX_BYTES = 8_388_608
const packr = new Packr({ useRecords: false, variableMapSize: true, moreTypes: false, int64AsType: 'number', mapsAsObjects: true })
/** All of them, and those of which only the messages are recorded; recorded-central.test.ts and recorded-register.test.ts play the others. */
const all = readConversations(PROTOCOL_VERSION)
const conversations = all.filter(({ played }) => played === undefined)
const decode = (bytes: Uint8Array): Promise<Message> => decodeMessage(bytes, MAX_BYTES)

t.test('what was recorded shows all that the protocol has', async (t) => {
  t.same(new Set(conversations.map(({ name }) => name)), new Set(['first-sales', 'restored', 'pruned', 'cloned', 'refused', 'long-poll', 'pull']))
  const said = JSON.stringify(conversations.map(({ steps }) => steps))
  const fields = [
    'to',
    'wait',
    'answers',
    'parent',
    'start',
    'seek',
    'cloned',
    'known',
    'superseded',
    'points',
    'again',
    'identities',
    'error',
    'isLate',
  ]
  const values = ['"operation":"baseline"', '"operation":"remove"', '"operation":"upsert"', '$real', '$blob', '$text', '9223372036854775807']
  for (const word of [...fields.map((field) => `"${field}":`), ...values]) t.ok(said.includes(word), word)
  const frames = conversations.flatMap(({ steps }) => steps.flatMap(({ bytes }) => [bytes[0], (unpack(bytes).batch as Uint8Array | undefined)?.[0]]))
  t.ok(frames.includes(1) && frames.includes(2), 'frames are plain and compressed')
})

t.test('every recorded message means what it meant', async (t) => {
  for (const { edition, name, steps } of all)
    for (const [n, { bytes, message }] of steps.entries()) t.same(plain(await decode(bytes)), message, `${edition} ${name} ${n + 1}`)
})

/** What an answer means, whatever it is called and however it is put. */
function meaningOf({ id: _, error, ...message }: Message): unknown {
  return plain({ ...message, ...(error && { error: { ...error, message: '' } }) } as Message)
}

/** Today's central, on a database of its own. */
async function openCentral(t: Test, pull?: (message: Uint8Array) => Promise<Uint8Array>) {
  const pool = await createPool(t, server)
  await pool.query(CENTRAL_TABLES)
  let token = ''
  const fetch = async (_url: unknown, init?: RequestInit) =>
    new Response((await pull?.(new Uint8Array(init?.body as Uint8Array))) as Uint8Array<ArrayBuffer>, { headers: { 'content-type': CONTENT_TYPE } })
  const central = createCentral({
    database: postgres(pool),
    subscribe: SUBSCRIBE,
    longPollMs: 20,
    ...(pull && { pull: { token: () => token, fetch } }),
  })
  await central.install()
  t.teardown(() => central.stop())
  token = (await central.registers.add({ ...POS1, ...(pull && { pull: { url: 'http://till/' } }) })).token
  return { pool, central, token }
}

async function post(central: Central, token: string, bytes: Uint8Array): Promise<Response> {
  const headers = { authorization: `Bearer ${token}`, 'content-type': CONTENT_TYPE }
  return central.fetch(new Request('http://central/', { method: 'POST', headers, body: bytes as Uint8Array<ArrayBuffer> }))
}

async function bytesOf(response: Response): Promise<Uint8Array> {
  return new Uint8Array(await response.arrayBuffer())
}

for (const conversation of conversations.filter(({ startedBy }) => startedBy === 'register')) {
  const { edition, name, shows, steps } = conversation
  t.test(`today's central answers a register of ${edition} as its own did: ${shows}`, async (t) => {
    const { pool, central, token } = await openCentral(t)
    for (let n = 0; n < steps.length; n += 2) {
      const [said, answer] = steps.slice(n, n + 2) as [RecordedStep, RecordedStep]
      const response = await post(central, answer.status === 401 ? 'x'.repeat(43) : token, said.bytes)
      t.equal(response.status, answer.status)
      t.same(meaningOf(await decode(await bytesOf(response))), meaningOf(await decode(answer.bytes)), `${name} ${n + 2}: ${answer.shows}`)
    }
    t.same(await arrived(pool), conversation.arrived, 'the documents have arrived')
  })
}

for (const conversation of conversations.filter(({ startedBy }) => startedBy === 'central')) {
  t.test(`today's central pulls a register of ${conversation.edition} as its own did: ${conversation.shows}`, async (t) => {
    const rest = [...conversation.steps]
    const ids = new Map<string, string>()
    const { pool, central } = await openCentral(t, async (bytes) => {
      const [asked, answer] = rest.splice(0, 2) as [RecordedStep, RecordedStep]
      const [now, then] = [await decode(bytes), await decode(asked.bytes)]
      t.same(meaningOf(now), meaningOf(then), asked.shows)
      ids.set(then.id, now.id)
      return renamed(answer.bytes, then.id, now.id)
    })
    while (rest.length > 0) await central.synchronize(POS1).catch((error) => t.equal(error.code, 'ERR_MOVEMENT'))
    t.same(await arrived(pool), conversation.arrived, 'the documents have arrived')
  })
}

/** The same bytes with another id of the same length: today's central has its own. */
function renamed(bytes: Uint8Array, from: string, to: string): Uint8Array {
  const copy = Buffer.from(bytes)
  const at = copy.indexOf(from)
  if (at < 0 || from.length !== to.length) throw new Error(`There is no ${from}`)
  copy.write(to, at)
  return copy
}

for (const conversation of conversations) {
  t.test(`today's register says and concludes what one of ${conversation.edition} did: ${conversation.shows}`, (t) => playRegister(t, conversation))
}

/** A register's side on what it knew then: says the same, and concludes from each answer what it concluded. */
async function playRegister(t: Test, { steps, after, startedBy }: Conversation): Promise<void> {
  const processes = new Map<number, Process>()
  for (const [n, step] of steps.entries()) {
    if (step.from !== 'register' || step.register === undefined) continue
    const { process: number } = step.register
    const process = processes.get(number) ?? createProcess()
    processes.set(number, process)
    process.outlook = step.register
    if (startedBy === 'central') await hear(t, process, steps[n - 1] as RecordedStep)
    process.batch = (await decode(step.bytes)).batch
    const said = await process.publisher.say({ batch: true })
    process.said = { id: said.id, recordedId: (step.message as Message).id }
    // Those of then did not say their version.
    const version = (said.batch === undefined || step.register.standing === null) && { version: VERSION }
    t.same(JSON.parse(JSON.stringify(said.publish)), { ...(step.message as Message).publish, ...version }, `it says the same: ${step.shows}`)
    t.equal(said.batch !== undefined, process.batch !== undefined)
    if (startedBy === 'central') continue
    await hear(t, process, steps[n + 1] as RecordedStep)
    const next = steps.slice(n + 1).find(({ register }) => register?.process === number)?.register ?? after
    if (next?.process === number) concluded(t, process, next)
  }
}

interface Process {
  readonly publisher: Publisher
  outlook: Outlook
  batch: Message['batch']
  said: { readonly id: string; readonly recordedId: string }
  done: { heard?: unknown; branched?: { readonly from: unknown; readonly common: unknown }; again?: unknown }
}

function createProcess(): Process {
  const process = { done: {} } as Process
  const publisher = new Publisher({
    outlook: async () => ({ known: process.outlook.known, standing: process.outlook.standing ?? undefined }),
    settle: async () => undefined,
    parked: async () => [],
    learn: async () => false,
    endsAt: async (points) => new Map(points.flatMap(({ entryNo: n }) => (process.outlook.digests[n] ? [[n, process.outlook.digests[n]]] : []))),
    has: async ({ entryNo, digest }) => process.outlook.digests[entryNo] === digest,
    async read(epoch, after) {
      const { batch } = process
      if (batch === undefined) return undefined
      if (batch.epoch !== epoch || batch.after.entryNo !== after.entryNo || batch.after.digest !== after.digest)
        throw new Error(`After ${after.entryNo}`)
      return { through: batch.through, base: undefined, bytes: new Uint8Array() }
    },
    readAhead: () => undefined,
    heard: async (standing) => {
      process.done.heard = standing ?? null
    },
    branch: async (_known, from, common) => {
      process.done.branched = { from, common }
    },
    takeBack: async ({ id }) => ({ id }),
    compare: async () => undefined,
    sealAgain: async (documents) => {
      process.done.again = documents
    },
  })
  return Object.assign(process, { publisher })
}

async function hear(t: Test, process: Process, answer: RecordedStep): Promise<void> {
  const { answers, subscribe } = await decode(answer.bytes)
  process.done = {}
  const isAnswer = process.said !== undefined && answers === process.said.recordedId
  await process.publisher.hear({ answers: isAnswer ? process.said.id : answers, subscribe })
  if (subscribe?.again) t.same(process.done.again, subscribe.again, 'it seals again what is wanted')
}

function concluded(t: Test, { outlook, done }: Process, next: Outlook): void {
  const { known } = next
  t.equal(known.epoch === outlook.known.epoch, done.branched === undefined, 'it goes on in a new epoch where it did')
  if (done.branched) t.match(known.branch, JSON.parse(JSON.stringify(done.branched)), 'behind the same point')
  else if ('heard' in done) t.same(next.standing, done.heard, 'and knows where central stands')
}

// ---------------------------------------------------------------------------------------------------------------------
// Other versions

type Wire = Record<string, unknown>

function unpack(bytes: Uint8Array): Wire {
  return packr.unpack(bytes[0] === 2 ? gunzipSync(bytes.subarray(1)) : bytes.subarray(1)) as Wire
}

const MORE = { later: { since: 'another release', n: [1, null, { deep: true }] } }
/** Maps of which each key is a name of the host's. */
const NAMED = new Set(['shapes', 'identities', 'keys', 'columns'])

/** As a later version might say it that still speaks this one: a field more in every map that has a shape. */
function withMore(bytes: Uint8Array): Uint8Array {
  return frame(widened(unpack(bytes)))
}

function widened(value: unknown, name = ''): unknown {
  if (value instanceof Uint8Array) return name === 'batch' || name === 'published' ? frame(widened(unpack(value))) : value
  if (Array.isArray(value)) return value.map((item) => widened(item, name))
  if (typeof value !== 'object' || value === null) return value
  const fields = Object.fromEntries(Object.entries(value).map(([key, item]) => [key, widened(item, NAMED.has(name) ? '' : key)]))
  return NAMED.has(name) ? fields : { ...fields, ...MORE }
}

t.test('a field that is not known is not read, whatever it holds', async (t) => {
  for (const { name, steps } of all)
    for (const [n, { bytes, message }] of steps.entries()) t.same(plain(await decode(withMore(bytes))), message, `${name} ${n + 1}`)
  const { pool, central, token } = await openCentral(t)
  const conversation = conversations.find(({ name }) => name === 'first-sales') as Conversation
  for (const { from, bytes } of conversation.steps) if (from === 'register') t.equal((await post(central, token, withMore(bytes))).status, 200)
  t.same(await arrived(pool), conversation.arrived)
})

t.test('a list of this version has no more items than it has', async (t) => {
  const { steps } = conversations.find(({ name }) => name === 'restored') as Conversation
  const answer = steps.find(({ message }) => (message as Message).subscribe?.points?.length) as RecordedStep
  const wire = unpack(answer.bytes) as { subscribe: { standing: unknown[]; points: unknown[][] } }
  for (const spoil of [() => wire.subscribe.standing.push(1), () => wire.subscribe.points[0]?.push(1)]) {
    spoil()
    await t.rejects(decode(frame(wire)), { code: 'ERR_MESSAGE' })
  }
})

t.test('nothing of another version is read, and nothing changes', async (t) => {
  const { pool, central, token } = await openCentral(t)
  const { steps } = conversations.find(({ name }) => name === 'first-sales') as Conversation
  for (const version of [PROTOCOL_VERSION + 1, 0, '1', null, undefined, { v: 1 }]) {
    const before = await tablesOf(pool)
    const { v: _, ...wire } = unpack((steps[2] as RecordedStep).bytes)
    const response = await post(
      central,
      token,
      frame({ ...wire, ...(version !== undefined && { v: version }), publish: 'in another form', batch: 7 }),
    )
    t.equal(response.status, 400)
    const answer = await decode(await bytesOf(response))
    t.match(answer, { from: 'central', error: { code: 'ERR_VERSION', retryable: false } }, 'it is refused in the version that this side speaks')
    const credentials = ({ sync_credentials: _, ...tables }: Readonly<Record<string, string>>) => tables
    t.same(credentials(await tablesOf(pool)), credentials(before))
  }
})

t.test('a register that meets a central of another version says so, whatever the status', async (t) => {
  for (const status of [200, 400, 500]) {
    const body = frame({ v: PROTOCOL_VERSION + 1, from: 'central', id: 'x', error: { reason: 'told in another way' } }) as Uint8Array<ArrayBuffer>
    const link = httpLink({
      url: 'http://central/',
      token: 'x'.repeat(43),
      fetch: async () => new Response(body, { status, headers: { 'content-type': CONTENT_TYPE } }),
    })
    const exchanged = link.exchange(new Uint8Array(), { signal: new AbortController().signal }).then(decode)
    await t.rejects(exchanged, { code: 'ERR_VERSION' }, `${status}`)
  }
})
