import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { gzipSync } from 'node:zlib'
import { Packr } from 'msgpackr'
import t, { type Test } from 'tap'
import { type Link, TillsyncError } from '../../src/index.ts'
import type { Entry } from '../../src/model.ts'
import { decodeMessage, encodeBatch } from '../../src/transport/codec.ts'
import { httpLink } from '../../src/transport/http.ts'
import { CONTENT_TYPE } from '../../src/transport/http-client.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { randomLine } from '../support/sales.ts'
import { openShop, type Shop, type Till } from '../support/shop.ts'
import { tablesOf } from '../support/snapshots.ts'
import { EPOCH, frame, message, post, receiptsBatch, spoilt, type Wire } from '../support/wire.ts'

const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const random = new Random(seed)
const LIMIT = 200_000

interface Scene {
  readonly shop: Shop
  readonly till: Till
  /** What stands at central now is what must stand there afterwards. */
  settle(): Promise<void>
  /** Whatever was sent: nothing at central has changed, and the till goes on as if nothing had been. */
  unharmed(t: Test, what: string): Promise<void>
}

/** A head office with a till that has sold and sent. */
async function scene(t: Test): Promise<Scene> {
  const shop = await openShop(t, server, { maxMessageBytes: LIMIT })
  const till = await shop.addTill()
  till.cashier.sell('R-0', [randomLine(random)])
  await till.replica.synchronize()
  const before = { tables: await tablesOf(shop.pool) }
  let sold = 0
  return {
    shop,
    till,
    async settle() {
      before.tables = await tablesOf(shop.pool)
    },
    async unharmed(t, what) {
      t.same(await tablesOf(shop.pool), before.tables, `${what}: nothing was applied`)
      till.cashier.sellAnything(random, `R-${++sold}`)
      await till.replica.synchronize()
      before.tables = await tablesOf(shop.pool)
    },
  }
}

/** A register that has not sent anything yet, whose credential an attacker holds and has tried. */
async function stranger(shop: Shop): Promise<{ location: string; register: string; token: string }> {
  const name = { location: 'BA01', register: `X${random.int(1, 1e9)}` }
  const { token } = await shop.central.registers.add(name)
  await post(shop.url, token, await message(name))
  return { ...name, token }
}

t.test('without the right token nothing is read and nothing changes', async (t) => {
  const { shop, till } = await scene(t)
  const other = await shop.addTill('POS2')
  await other.replica.synchronize()
  const body = await message(till, receiptsBatch([900]))
  const tables = await tablesOf(shop.pool)
  const tokens = [
    undefined,
    '',
    'x',
    randomBytes(32).toString('base64url'),
    `${till.token}x`,
    till.token.slice(1),
    till.token.toUpperCase(),
    "' OR 1=1 --",
    'ü'.repeat(3),
    'x'.repeat(9_000),
  ]
  for (const token of tokens) {
    const answer = await post(shop.url, undefined, body, token === undefined ? {} : { authorization: `Bearer ${encodeURI(token)}` })
    t.match(answer, { status: 401, code: 'ERR_CREDENTIAL' }, `token ${String(token).slice(0, 20)}`)
  }
  t.match(await post(shop.url, undefined, body, { authorization: `Basic ${till.token}` }), { status: 401, code: 'ERR_CREDENTIAL' })
  t.match(await post(shop.url, other.token, body), { status: 403, code: 'ERR_FOREIGN_REGISTER' }, 'another register’s token')
  t.match(await post(shop.url, till.token, frame({ v: 1, from: 'central', id: 'n' })), {
    status: 403,
    code: 'ERR_FOREIGN_REGISTER',
  })
  t.same(await tablesOf(shop.pool), tables)
  const impostor = till.again({
    link: () => ({
      exchange: async (bytes) =>
        (await fetch(shop.url, { method: 'POST', body: bytes as never, headers: { authorization: `Bearer ${other.token}` } })).bytes(),
    }),
  })
  till.cashier.sell('R-x', [randomLine(random)])
  await t.rejects(impostor.synchronize(), { code: 'ERR_FOREIGN_REGISTER' }, 'and the till says so')
  t.ok((await till.replica.status()).pending > 0, 'its entries are kept')
  t.same(await tablesOf(shop.pool), tables)
  await till.replica.synchronize()
  await shop.balances(t, till)
})

t.test('bodies that are no message', async (t) => {
  const { shop, till, unharmed } = await scene(t)
  const whole = await message(till, receiptsBatch([900, 901, 902]))
  const bomb = (size: number) => Buffer.concat([Buffer.of(2), gzipSync(Buffer.alloc(size))])
  const nested = (byte: number, depth: number) => Buffer.concat([Buffer.of(1), Buffer.alloc(depth, byte)])
  const bodies: Readonly<Record<string, Uint8Array | string>> = {
    HTML: '<!doctype html><title>Sign in to the hotel network</title>',
    JSON: JSON.stringify({ v: 1, from: { location: till.location, register: till.register } }),
    'one byte': Buffer.of(1),
    'an unknown format': Buffer.concat([Buffer.of(9), whole.subarray(1)]),
    'gzip that is none': Buffer.concat([Buffer.of(2), randomBytes(200)]),
    'gzip cut short': Buffer.concat([Buffer.of(2), gzipSync(whole).subarray(0, 60)]),
    'a gzip bomb': bomb(150_000_000),
    'a gzip bomb of the very limit and one': bomb(LIMIT + 1),
    'gzip in gzip': Buffer.concat([Buffer.of(2), gzipSync(bomb(100_000))]),
    'nothing but opening arrays': nested(0x91, 150_000),
    'nothing but opening maps': nested(0x81, 150_000),
    'an array of four thousand million': Buffer.of(1, 0xdd, 0xff, 0xff, 0xff, 0xff),
    'a map of four thousand million': Buffer.of(1, 0xdf, 0xff, 0xff, 0xff, 0xff),
    'text of four thousand million': Buffer.of(1, 0xdb, 0xff, 0xff, 0xff, 0xff, 0x41),
    'a record definition': Buffer.of(1, 0xd4, 0x72, 0x40, 0x91, 0xa1, 0x61, 0x01),
    'an extension': Buffer.of(1, 0xc7, 0x01, 0x74, 0x00),
    null: Buffer.of(1, 0xc0),
    'a number': Buffer.of(1, 0x05),
    text: Buffer.of(1, 0xa1, 0x41),
    'an empty map': Buffer.of(1, 0x80),
    'a message with something behind it': Buffer.concat([await message(till), Buffer.of(0xc0)]),
  }
  for (const [name, body] of Object.entries(bodies)) {
    const began = performance.now()
    const { status, code } = await post(shop.url, till.token, body)
    t.match({ status, code }, { status: /400|413/, code: /ERR_MESSAGE|ERR_TOO_LARGE|ERR_VERSION/ }, name)
    t.ok(performance.now() - began < 15_000, `${name}: refused quickly`)
    await unharmed(t, name)
  }
  for (let n = 0; n < 40; n++) {
    const { status, code } = await post(shop.url, till.token, whole.subarray(0, random.int(1, whole.length - 1)))
    t.match({ status, code }, { status: 400, code: 'ERR_MESSAGE' }, 'cut off somewhere')
  }
  for (let n = 0; n < 60; n++) {
    const { code } = await post(
      shop.url,
      till.token,
      Buffer.concat([Buffer.of(random.pick([1, 1, 2, random.int(0, 255)])), randomBytes(random.int(1, 300))]),
    )
    t.match(code, /ERR_/, 'random bytes')
  }
  await unharmed(t, 'cut off and random')
  t.match(await post(shop.url, till.token, undefined), { status: 400, code: 'ERR_MESSAGE' }, 'no body')
  t.equal((await fetch(shop.url, { headers: { authorization: `Bearer ${till.token}` } })).status, 405)
  await unharmed(t, 'no body')
  await shop.balances(t, till)
})

async function saysTheSame(a: Uint8Array, b: Uint8Array): Promise<boolean> {
  const decoded = await Promise.all([a, b].map((bytes) => decodeMessage(bytes, 1_000_000))).catch(() => undefined)
  return decoded !== undefined && isDeepStrictEqual(decoded[0], decoded[1])
}

t.test('bits that flip on the way are noticed', async (t) => {
  const { shop, settle, unharmed } = await scene(t)
  const x = await stranger(shop)
  await settle()
  const whole = await message(x, receiptsBatch([900, 901]))
  // What is before it names the sender; the header of gzip (10 bytes, RFC 1952) has a time and a system that nobody reads.
  const from = whole.length - (await encodeBatch(receiptsBatch([900, 901]))).length + 11
  for (let n = 0; n < 150; n++) {
    const spoiltBytes = Buffer.from(whole)
    const at = random.int(from, whole.length - 1)
    spoiltBytes[at] = (spoiltBytes[at] as number) ^ (1 << random.int(0, 7))
    // The last block of deflate is padded to a byte by bits that nobody reads either: what says the same is no other message.
    if (await saysTheSame(spoiltBytes, whole)) continue
    const { status, code } = await post(shop.url, x.token, spoiltBytes)
    if (code === undefined) t.fail(`a flipped bit at ${at} was taken`, { status })
  }
  await unharmed(t, 'flipped bits')
})

t.test('a body over the limit is refused before it is read', async (t) => {
  const { shop, till, unharmed } = await scene(t)
  for (const size of [LIMIT + 1, 5_000_000]) {
    const answer = await post(shop.url, till.token, Buffer.alloc(size, 1)).catch((error: Error) => error)
    if (answer instanceof Error) t.comment(`the connection was closed: ${String(answer.cause)}`)
    else t.match(answer, { status: 413, code: 'ERR_TOO_LARGE' }, `${size} bytes`)
  }
  const endless = new ReadableStream({ pull: (controller) => controller.enqueue(Buffer.alloc(65_536, 1)) })
  const answer = await post(shop.url, till.token, endless).catch((error: Error) => error)
  t.ok(answer instanceof Error || answer.status === 413, 'a body without end')
  const claimed = await raw(shop.url, till.token, { length: 50_000_000, body: 'x', end: false })
  t.match(claimed, /^HTTP\/1.1 413/, 'a length that is only claimed')
  await unharmed(t, 'too large')
})

t.test('a body that does not arrive whole', async (t) => {
  const { shop, till, unharmed } = await scene(t)
  const bytes = await message(till, receiptsBatch([900]))
  for (let n = 0; n < 5; n++)
    await raw(shop.url, till.token, { length: bytes.length, body: bytes.subarray(0, random.int(0, bytes.length - 1)), end: true })
  await unharmed(t, 'cut off')
})

/** Speaks HTTP by hand; returns what came back when the connection ends. */
async function raw(url: string, token: string, { length, body, end }: { length: number; body: string | Uint8Array; end: boolean }): Promise<string> {
  const { hostname, port, pathname } = new URL(url)
  const socket = connect(Number(port), hostname)
  let answer = ''
  socket.on('data', (data) => {
    answer += data.toString('latin1')
  })
  socket.on('error', () => undefined)
  socket.write(
    `POST ${pathname} HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: Bearer ${token}\r\nContent-Type: ${CONTENT_TYPE}\r\nContent-Length: ${length}\r\n\r\n`,
  )
  socket.write(body)
  if (end) socket.end()
  else await eventually('an answer', () => answer !== '', 5_000).finally(() => socket.destroy())
  if (!socket.destroyed) await once(socket, 'close')
  return answer
}

t.test('messages that are well-formed and wrong', async (t) => {
  const { shop, settle, unharmed } = await scene(t)
  const x = await stranger(shop)
  await settle()
  const batch = receiptsBatch([900, 901])
  const cases: Readonly<Record<string, (wire: Wire, batch: Wire) => void>> = {
    'a future version': (wire) => {
      wire.v = 2
    },
    'a future version with a batch of another form': (wire) => Object.assign(wire, { v: 2, batch: [{ stream: 'receipts' }] }),
    'no version': (wire) => delete wire.v,
    'a version that is text': (wire) => {
      wire.v = '1'
    },
    'no sender': (wire) => delete wire.from,
    'a sender without a name': (wire) => delete wire.from.register,
    'a sender that is a list': (wire) => {
      wire.from = ['BA01', 'POS1']
    },
    'a negative head': (wire) => {
      wire.publish.head = -1
    },
    'a head beyond 2^53': (wire) => {
      wire.publish.head = 2 ** 60
    },
    'a head that is no number': (wire) => {
      wire.publish.head = Number.NaN
    },
    'an endless id': (wire) => {
      wire.id = 'x'.repeat(65)
    },
    'a batch of another epoch than the message speaks of': (wire) => {
      wire.publish.epoch = 'another'
    },
    'a batch of no epoch that the message speaks of': (wire) => delete wire.publish,
    'a batch that is null': (wire) => {
      wire.batch = null
    },
    'a batch that is text': (wire) => {
      wire.batch = 'batch'
    },
    'a batch that is empty': (wire) => {
      wire.batch = Buffer.of()
    },
    'a batch that is a bomb': (wire) => {
      wire.batch = Buffer.concat([Buffer.of(2), gzipSync(Buffer.alloc(50_000_000))])
    },
    'a batch in a batch': (wire) => {
      wire.batch = frame(frame({}))
    },
    'no entries at all': (_, b) => Object.assign(b, { through: b.after, table: [], recordId: [], record: [], documents: [], sealed: [] }),
    'a batch that goes backwards': (_, b) => {
      b.through = [0, b.through[1]]
    },
    'an end beyond its entries': (_, b) => void b.through[0]++,
    'an end of nine thousand million million': (_, b) => {
      b.through[0] = Number.MAX_SAFE_INTEGER
    },
    'a digest too short': (_, b) => {
      b.through[1] = b.through[1].subarray(1)
    },
    'a digest that is text': (_, b) => {
      b.through[1] = 'a'.repeat(32)
    },
    'a column too short': (_, b) => void b.record.pop(),
    'a column too long': (_, b) => void b.recordId.push('[1]'),
    'a table that is not listed': (_, b) => {
      b.table[0] = 7
    },
    'a table by a negative number': (_, b) => {
      b.table[0] = -1
    },
    'a table by the name of a method': (_, b) => {
      b.table[0] = 'map'
    },
    'a table by the name of a property': (_, b) => {
      b.table[0] = 'length'
    },
    'a table without a name': (_, b) => {
      b.tables[0] = ''
    },
    'a table that is a number': (_, b) => {
      b.tables[0] = 5
    },
    'a record id that is a number': (_, b) => {
      b.recordId[0] = 900
    },
    'a record that is a map': (_, b) => {
      b.record[0] = { id: 1 }
    },
    'a record that is null': (_, b) => {
      b.record[0] = null
    },
    'documents that do not add up': (_, b) => {
      b.documents = [1]
    },
    'documents of nothing': (_, b) => {
      b.documents = [0, 2, 2]
    },
    'a part that is removed': (_, b) => {
      b.remove = [1]
    },
    'a removal with a record': (_, b) => {
      b.remove = [0]
    },
    'a removal of what is not there': (_, b) => {
      b.remove = [99]
    },
    'a removal by text': (_, b) => {
      b.remove = ['0']
    },
    'a time of no entry': (_, b) => {
      b.sealed = [['2026-11-21T10:00:00.000Z', 3]]
    },
    'times without end': (_, b) => {
      b.sealed = [['2026-11-21T10:00:00.000Z', 2 ** 40]]
    },
    'no epoch': (_, b) => delete b.epoch,
    'shapes that are a list': (_, b) => {
      b.shapes = []
    },
    'shapes without end': (_, b) => {
      let part: Wire = { table: 'x', columns: {}, parts: [] }
      for (let depth = 0; depth < 200; depth++) part = { table: 'x', columns: {}, parts: [part] }
      b.shapes = { receipts: [part] }
    },
    'shapes without columns': (_, b) => delete b.shapes.receipts[0].columns,
  }
  for (const [name, spoil] of Object.entries(cases)) {
    const { status, code } = await post(shop.url, x.token, spoilt(x, batch, spoil))
    t.match(
      { status, code },
      { status: /400|413/, code: name.startsWith('a future') ? 'ERR_VERSION' : /ERR_MESSAGE|ERR_VERSION|ERR_TOO_LARGE/ },
      name,
    )
    await unharmed(t, name)
  }
  t.match(
    await post(
      shop.url,
      x.token,
      spoilt(x, batch, () => undefined),
    ),
    { status: 200, code: undefined },
    'unspoilt it is taken',
  )
})

t.test('no sale stands behind what is said beside it and can’t be read', async (t) => {
  const { shop } = await scene(t)
  const fields = new Set<unknown>()
  shop.central.on('refused', ({ error }) => fields.add(error.context.field))
  const cases: Readonly<Record<string, (wire: Wire) => void>> = {
    compared: (wire) => {
      wire.publish.compared = { id: 'q', codec: 1, tables: [['receipts', [['id', '']]]], parts: [] }
    },
    parked: (wire) => {
      wire.publish.parked = [['receipts']]
    },
    back: (wire) => {
      wire.publish.back = [1, 'ERR_MIRROR']
    },
    version: (wire) => {
      wire.publish.version = ['1.0.0']
    },
    limits: (wire) => {
      wire.audiences = { limits: [0, 0, 0], standings: [] }
    },
  }
  for (const [field, spoil] of Object.entries(cases)) {
    const x = await stranger(shop)
    await shop.pool.query(`UPDATE sync_registers SET parked = '[["receipts","[7]"]]' WHERE register = $1`, [x.register])
    const { status, code, message: answer } = await post(shop.url, x.token, spoilt(x, receiptsBatch([900]), spoil))
    t.match({ status, code, at: answer?.subscribe?.standing?.entryNo }, { status: 200, code: undefined, at: 2 }, field)
    t.ok(fields.has(field), `${field} is named`)
    const [row] = (await shop.pool.query('SELECT parked FROM sync_registers WHERE register = $1', [x.register])).rows
    t.equal(row.parked !== null, field === 'parked', 'what can’t be read says nothing about what is parked')
  }
})

t.test('no sale stands behind what central says beside its word and can’t be read', async (t) => {
  const { shop, till } = await scene(t)
  const packr = new Packr({ useRecords: false, mapsAsObjects: true, int64AsType: 'number' })
  let spoil = (_: Wire): void => undefined
  const link = (inner: Link): Link => ({
    async exchange(bytes, options) {
      const wire = packr.unpack((await inner.exchange(bytes, options)).subarray(1))
      spoil(wire)
      return frame(wire)
    },
  })
  const replica = till.again({ link })
  const fields = new Set<unknown>()
  replica.on('failed', ({ error }) => fields.add(error.context.field))
  for (const [field, value] of Object.entries({ compare: 7, back: { id: 1 }, again: 'all', quarantined: -1 })) {
    spoil = (wire) => {
      wire.subscribe[field] = value
    }
    till.cashier.sell(`R-${field}`, [randomLine(random)])
    till.db.exec("UPDATE receipts SET status = 'posted'")
    await replica.synchronize()
    t.equal((await replica.status()).pending, 0, field)
    t.ok(fields.has(field), `${field} is named`)
  }
  await replica.stop()
  await shop.balances(t, till)
})

t.test('an answer to a question that central refuses is not said with every sale that comes behind', async (t) => {
  const { shop, till } = await scene(t)
  let refused = 0
  const link = (inner: Link): Link => ({
    async exchange(bytes, options) {
      if ((await decodeMessage(bytes, 1e9)).publish?.compared === undefined) return inner.exchange(bytes, options)
      refused++
      throw new TillsyncError('ERR_MESSAGE', 'as an earlier central')
    },
  })
  const replica = till.again({ link })
  const comparing = shop.central.compare('receipts', till, { timeoutMs: 60_000 }).catch(() => undefined)
  await eventually('it is asked', async () => (await shop.pool.query('SELECT 1 FROM sync_comparisons')).rowCount === 1)
  for (let n = 1; n <= 6; n++) {
    till.cashier.sell(`R-${n}`, [randomLine(random)])
    till.db.exec("UPDATE receipts SET status = 'posted'")
    const before = refused
    await replica.synchronize().catch(({ code }) => t.equal(code, 'ERR_MESSAGE'))
    if (refused === before) t.equal((await replica.status()).pending, 0, 'the sale has come')
  }
  t.equal(refused, 2)
  await replica.stop()
  await shop.central.stop()
  await comparing
})

t.test('batches that are well-formed, chained, and can’t be applied', async (t) => {
  const { shop } = await scene(t)
  const at = (entryNo: number, change: Partial<Entry> | ((entry: Entry) => Partial<Entry>)) => (entry: Entry) =>
    entry.entryNo === entryNo ? { ...entry, ...(typeof change === 'function' ? change(entry) : change) } : entry
  const record = (values: Record<string, unknown>) => (entry: Entry) => ({
    record: JSON.stringify({ ...JSON.parse(entry.record as string), ...values }),
  })
  const cases: Readonly<Record<string, (entry: Entry) => Entry>> = {
    'a record that is no JSON': at(1, { record: '{"id":1' }),
    'two records in one': at(1, (entry) => ({ record: `${entry.record},${entry.record}` })),
    'a record that is a list': at(1, { record: '[]' }),
    'a record that is a number': at(2, { record: '5' }),
    'a record that closes the list': at(2, (entry) => ({ record: `${entry.record}]' --` })),
    'a column that head office lacks': at(1, record({ hacked: 1 })),
    'a column by SQL': at(1, record({ '"; DROP TABLE receipts; --': 1 })),
    'a key that is no number': at(1, record({ id: '1; DROP TABLE receipts' })),
    'a key that is null': at(1, record({ id: null })),
    'an object for a value': at(1, record({ receipt_no: { a: 1 } })),
    'an unknown tag': at(2, record({ quantity: { $real: 'huge' } })),
    'text that PostgreSQL can’t hold': at(1, record({ receipt_no: 'a\u0000b' })),
    'half a character': at(1, (entry) => ({ record: (entry.record as string).replace('H-900', '\\ud800') })),
    'a quantity that is no number': at(2, record({ quantity: 'many' })),
    'a quantity beyond all bounds': at(2, record({ quantity: '1e99' })),
    'a quantity with a million digits': at(2, record({ quantity: `1${'0'.repeat(100_000)}` })),
    'an exponent without end': at(2, record({ quantity: '1e-999999999' })),
    'an item without a name': at(2, record({ item_no: '' })),
    'a date that is none': at(1, record({ business_date: '2026-13-45' })),
    'a time of sealing that is none': at(1, { sealedAt: 'yesterday, about noon' }),
    'a time of sealing that PostgreSQL would guess': at(1, { sealedAt: 'now' }),
    'a table with a NUL in its name': at(2, { table: 'receipt\u0000lines' }),
    'a record id that is none': at(1, (entry) => ({ recordId: 'x', document: { ...entry.document, recordId: 'x' } })),
    'a line of another receipt': at(2, record({ receipt_id: 901 })),
  }
  for (const [name, change] of Object.entries(cases)) {
    const x = await stranger(shop)
    const before = await tablesOf(shop.pool)
    const answer = await post(shop.url, x.token, await message(x, receiptsBatch([900], undefined, change)))
    t.notMatch(answer.message?.error?.message, /H-900|many/, `${name}: no value of the row in the message`)
    const after = await tablesOf(shop.pool)
    if (answer.code !== undefined) {
      t.match(answer.code, /^ERR_/, `${name}: ${answer.code}`)
      t.same(after, before, `${name}: nothing was applied`)
      continue
    }
    // What is a document, be it nonsense, is archived and waits; nothing else has come of it.
    const held = await shop.central.quarantine.list({ register: x.register })
    t.match(held, [{ table: 'receipts', code: /^ERR_/ }], `${name}: in quarantine, ${held[0]?.code}`)
    t.match(answer.message?.subscribe, { quarantined: 1 })
    for (const table of APPLIED) t.equal(after[table], before[table], `${name}: nothing in ${table}`)
    t.same(await shop.central.quarantine.retry(held[0]?.id ?? 0), { released: 0, waiting: 1 }, `${name}: nor when it is tried again`)
    await shop.central.quarantine.discard(held[0]?.id ?? 0, { reason: 'nonsense' })
  }
  t.same(await shop.central.quarantine.list(), [])
})

/** What handlers write. */
const APPLIED = ['receipts', 'receipt_lines', 'tender_lines', 'stock_movements', 'stock_levels', 'sync_postings']

t.test('batches that do not follow: forged, ahead, behind, of another epoch', async (t) => {
  const { shop, till } = await scene(t)
  const x = await stranger(shop)
  const first = receiptsBatch([900, 901])
  const zeros = '0'.repeat(64)
  const send = async (batch: ReturnType<typeof receiptsBatch>) => post(shop.url, x.token, await message(x, batch))
  const before = await tablesOf(shop.pool)
  t.match(await send({ ...first, through: { ...first.through, digest: 'f'.repeat(64) } }), { code: 'ERR_DIGEST' }, 'a forged digest')
  t.match(
    await send({ ...first, entries: first.entries.map((entry) => ({ ...entry, record: entry.record?.replace('"1"', '"1000"') ?? null })) }),
    { code: 'ERR_DIGEST' },
    'changed records',
  )
  t.match(await send({ ...first, entries: first.entries.toReversed() }), { code: /ERR_DIGEST|ERR_MESSAGE/ }, 'in another order')
  t.match(await send(receiptsBatch([900], { entryNo: 5, digest: zeros })), { code: 'ERR_NOT_NEXT' }, 'the beginning is missing')
  t.match(await send(receiptsBatch([900], { entryNo: 0, digest: 'a'.repeat(64) })), { code: 'ERR_NOT_NEXT' }, 'another beginning')
  t.same(await tablesOf(shop.pool), before)
  t.match(await send(first), {
    status: 200,
    code: undefined,
    message: { subscribe: { standing: { epoch: EPOCH, entryNo: 4, digest: first.through.digest } } },
  })
  const after = await tablesOf(shop.pool)
  t.match(await send(first), { status: 200, code: undefined }, 'again')
  t.match(
    await send(receiptsBatch([902], { entryNo: 6, digest: zeros })),
    { code: 'ERR_NOT_NEXT', message: { subscribe: { standing: { entryNo: 4 } } } },
    'a gap',
  )
  t.match(await send(receiptsBatch([902], { entryNo: 4, digest: zeros })), { code: 'ERR_NOT_NEXT' }, 'after another history')
  t.match(await send(receiptsBatch([900, 905])), { code: 'ERR_NOT_NEXT' }, 'another history of the same length')
  t.match(await send(receiptsBatch([900, 905, 906])), { code: 'ERR_NOT_NEXT' }, 'a longer history that parts before')
  t.match(
    await send({ ...receiptsBatch([900, 901, 902]), through: { entryNo: 6, digest: 'f'.repeat(64) } }),
    { code: 'ERR_DIGEST' },
    'a longer one with a forged end',
  )
  t.match(await send({ ...receiptsBatch([902], first.through), epoch: 'another' }), { code: 'ERR_NOT_NEXT' }, 'another epoch')
  t.match(await send({ ...first, epoch: 'another' }), { code: 'ERR_NOT_NEXT' }, 'the same in another epoch')
  t.same(await tablesOf(shop.pool), after, 'nothing of all that was applied')
  t.match(
    await send(receiptsBatch([900, 901, 902])),
    { status: 200, code: undefined, message: { subscribe: { standing: { entryNo: 6 } } } },
    'a longer one of the same history',
  )
  t.equal(await shop.stock('HOSTILE'), -3)
  await till.replica.synchronize()
  await shop.balances(t, till)
})

t.test('a register can’t write in another one’s name by what its records say', async (t) => {
  const { shop, till } = await scene(t)
  const x = await stranger(shop)
  const [id] = till.db.prepare("SELECT id FROM receipts WHERE status <> 'open'").pluck().all() as number[]
  const batch = receiptsBatch([id ?? 1], undefined, (entry) => ({
    ...entry,
    record: JSON.stringify({ ...JSON.parse(entry.record as string), location: till.location, register: till.register }),
  }))
  await post(shop.url, x.token, await message(x, batch))
  await shop.balances(t, till)
})

t.test('central that is stopped says so, and the till goes on when it is back', async (t) => {
  const { shop, till } = await scene(t)
  await shop.central.stop()
  till.cashier.sell('R-1', [randomLine(random)])
  till.db.exec("UPDATE receipts SET status = 'posted'")
  await t.rejects(till.replica.synchronize(), { code: 'ERR_STOPPED', retryable: true })
  await shop.central.start()
  await till.replica.synchronize()
  await shop.balances(t, till)
})

t.test('an answer that is not central’s is a link that does not work', async (t) => {
  const { shop, till } = await scene(t)
  till.cashier.sell('R-1', [randomLine(random)])
  till.db.exec("UPDATE receipts SET status = 'posted'")
  const portal = (status: number, body: string, headers: Record<string, string> = { 'content-type': 'text/html' }) =>
    till.again({
      link: () => ({
        async exchange(message, { signal }) {
          return httpLink({ url: shop.url, token: till.token, fetch: async () => new Response(body, { status, headers }) }).exchange(message, {
            signal,
          })
        },
      }),
    })
  for (const [status, body, headers] of [
    [200, '<html>Sign in</html>', undefined],
    [200, '', undefined],
    [403, '<html>Forbidden</html>', undefined],
    [502, 'Bad gateway', undefined],
    [502, 'Bad gateway', { 'content-type': CONTENT_TYPE }],
    [500, '{"error":"x"}', { 'content-type': 'application/json', 'retry-after': 'tomorrow' }],
  ] as const) {
    await t.rejects(portal(status, body, headers).synchronize(), { name: 'TillsyncError', code: 'ERR_LINK', retryable: true }, `${status} ${body}`)
  }
  await t.rejects(
    portal(413, '<html>Too large</html>').synchronize(),
    { code: 'ERR_LINK', hint: /bytesPerRun/ },
    'what a proxy does not take it never will',
  )
  const silent = Object.assign(new TypeError('fetch failed'), { cause: new Error('') })
  const link = httpLink({ url: shop.url, token: till.token, fetch: () => Promise.reject(silent) })
  await t.rejects(link.exchange(Buffer.of(1), { signal: new AbortController().signal }), { message: 'Central was not reached: fetch failed' })
  t.ok((await till.replica.status()).pending > 0)
  await till.replica.synchronize()
  await shop.balances(t, till)
})

t.test('an answer of central whose content type a gateway writes otherwise is taken', async (t) => {
  const { shop, till } = await scene(t)
  till.cashier.sell('R-1', [randomLine(random)])
  const gateway: typeof fetch = async (url, init) => {
    const response = await fetch(url, init)
    return new Response(response.body, { status: response.status, headers: { 'content-type': 'Application/vnd.Tillsync; charset=utf-8' } })
  }
  await till.again({ link: () => httpLink({ url: shop.url, token: till.token, fetch: gateway }) }).synchronize()
  await shop.balances(t, till)
})
