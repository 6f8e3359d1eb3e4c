import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type CompareOptions, type Link, mirror } from '../../src/index.ts'
import { decodeMessage, encodeMessage } from '../../src/transport/codec.ts'
import type { Message } from '../../src/transport/message.ts'
import { driven } from '../support/driven.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { count, line, poisoned } from '../support/quarantine.ts'
import { refused } from '../support/refused.ts'
import { openShop, PUBLISH, type Shop, type ShopOptions, SUBSCRIBE, type Till, type TillOptions } from '../support/shop.ts'
import { EPOCH, frame, message, post, receiptsBatch } from '../support/wire.ts'
import { Machine } from '../support/world.ts'

const server = await startServer(t)
const POS1 = { location: 'BA01', register: 'POS1' }

async function scene(t: Test, options: ShopOptions = {}, till: TillOptions = {}) {
  const shop = await openShop(t, server, options)
  const machine = new Machine(t, await shop.addTill('POS1', till))
  const compare = (options?: CompareOptions) => driven(machine.replica, shop.central.compare('receipts', POS1, options))
  return { shop, central: shop.central, pool: shop.pool, machine, compare }
}

/** So many receipts in one transaction. */
function sellMany({ db }: { readonly db: Machine['db'] }, from: number, through: number): void {
  db.exec(`
    WITH RECURSIVE n(n) AS (SELECT ${from} UNION ALL SELECT n + 1 FROM n WHERE n < ${through})
    INSERT INTO receipts SELECT n, NULL, 'R-' || n, 'BA01', '2026-11-21', '2026-11-21T09:30:00Z', NULL, 'posted', '1', NULL FROM n;
    INSERT INTO receipt_lines SELECT id, id, 'A', '1', '1' FROM receipts WHERE id >= ${from}`)
}

/** Counts as they are now: archived entries, and postings. */
async function rows(shop: Shop): Promise<readonly number[]> {
  return [await count(shop.pool, 'sync_archive'), await count(shop.pool, 'stock_movements')]
}

t.test('a register that is pulled is asked at once, and what was lost is posted once', async (t) => {
  const { central, pool, machine, shop } = await scene(t, {}, { pull: true })
  for (let n = 1; n <= 5; n++) machine.cashier.sell(`R-${n}`, [line('A')])
  await central.synchronize(POS1)
  t.match(await central.compare('receipts', POS1), { equal: 5, differing: 0 })
  await pool.query("DELETE FROM sync_documents WHERE record_id = '[2]'; DELETE FROM sync_archive WHERE record_id = '[3]' AND table_name = 'receipts'")
  machine.db.exec("DELETE FROM sync_members WHERE record_id = '[4]'")
  const before = await rows(shop)
  const progress: number[] = []
  const repaired = await central.compare('receipts', POS1, { repair: true, onProgress: ({ compared }) => progress.push(compared) })
  t.match(repaired, { equal: 2, differing: 3, repaired: 3 })
  t.equal(progress.at(-1), 5)
  t.same(await rows(shop), [(before[0] as number) + 3 * 3, before[1]], 'three documents were sent again, nothing was posted')
  t.match(await central.compare('receipts', POS1), { equal: 5, differing: 0 })
  t.equal(await shop.stock('A'), -5)
  await machine.replica.stop()
  await t.rejects(central.compare('receipts', POS1), { code: 'ERR_STOPPED', retryable: true }, 'one that does not answer')
})

t.test('what is forgotten of a key that was used twice comes back in its own life', async (t) => {
  const { compare, pool, machine, shop } = await scene(t)
  machine.cashier.sell('R-1', [line('A')])
  await machine.replica.synchronize()
  machine.db.exec('DELETE FROM receipts')
  await machine.replica.synchronize()
  machine.cashier.sell('R-2', [line('B', '2')])
  await machine.replica.synchronize()
  await pool.query('DELETE FROM sync_documents')
  t.match(await compare({ repair: true }), { differences: [{ recordId: [1], kind: 'missing' }], repaired: 1 })
  t.same([await shop.stock('A'), await shop.stock('B')], [-1, -2], 'neither is taken back, nor posted again')
  machine.db.exec("UPDATE receipt_lines SET quantity = '5'")
  await machine.replica.synchronize()
  t.same([await shop.stock('A'), await shop.stock('B')], [-1, -5])
})

t.test('a register that waits for news is asked at once, whichever process asks', async (t) => {
  const { shop, central, machine } = await scene(t, { longPollMs: 60_000 }, { transfer: { everyMs: 60_000 } })
  machine.cashier.sell('R-1', [line('A')])
  await machine.replica.start()
  t.match(await central.compare('receipts', POS1), { equal: 1 })
  const other = shop.again()
  t.match(await Promise.all([central.compare('receipts', POS1), other.compare('receipts', POS1), central.compare('pos_processes', POS1)]), [
    { equal: 1, differing: 0 },
    { equal: 1, differing: 0 },
    { table: 'pos_processes', equal: 0, differing: 0 },
  ])
})

t.test('many documents go in parts of what a message holds; what differs is looked for there only', async (t) => {
  const { compare, pool, machine, shop } = await scene(t, {
    maxMessageBytes: 65_536,
    subscribe: { receipts: mirror({ origin: ['location', 'register'] }) },
  })
  sellMany(machine, 1, 1_200)
  await machine.replica.synchronize()
  t.match(await compare(), { equal: 1_200, differing: 0 })
  await pool.query("UPDATE sync_documents SET removed = true WHERE record_id IN ('[1000]', '[999]')")
  const before = await rows(shop).catch(() => undefined)
  t.equal(before, undefined, 'there is no ledger')
  t.match(await compare({ repair: true }), { equal: 1_198, differing: 2, differences: [{ recordId: [1000] }, { recordId: [999] }], repaired: 2 })
  await pool.query('DELETE FROM sync_documents')
  const all = await compare({ repair: true })
  t.match(all, { equal: 0, differing: 1_200, repaired: 1_200 })
  t.equal(all.differences.length, 1_000, 'so many are named')
  machine.db.exec('DELETE FROM sync_members WHERE length(record_id) > 5')
  t.match(await compare(), { equal: 999, differing: 201 }, 'where the register has nothing, central is read page by page')
})

t.test('a register that sells while it is compared differs in nothing', async (t) => {
  let sold = 10
  let isSelling = false
  const { compare, machine } = await scene(
    t,
    {},
    {
      transfer: { recordsPerRun: 3 },
      link: (inner) => ({
        exchange(bytes, options) {
          if (isSelling && sold < 40) {
            machine.cashier.sell(`R-${++sold}`, [line('A')])
            machine.db.exec(`UPDATE receipts SET customer_no = 'C${sold}' WHERE id = ${sold % 10}; DELETE FROM receipts WHERE id = ${sold - 10}`)
          }
          return inner.exchange(bytes, options)
        },
      }),
    },
  )
  for (let n = 1; n <= 10; n++) machine.cashier.sell(`R-${n}`, [line('A')])
  await machine.replica.synchronize()
  isSelling = true
  for (let n = 0; n < 2; n++) t.match(await compare({ repair: true }), { differing: 0, repaired: 0 })
  t.ok(sold > 12)
})

t.test('what comes between an answer and its being judged is not judged', async (t) => {
  const { shop, pool, machine } = await scene(t)
  for (let n = 1; n <= 9; n++) machine.cashier.sell(`R-${n}`, [line('A')])
  await machine.replica.synchronize()
  await pool.query("DELETE FROM sync_documents WHERE record_id = '[1]'")
  // Another process: it looks from time to time what was answered.
  const comparing = shop.again().compare('receipts', POS1)
  const waits = async (list: boolean) => (await count(pool, 'sync_comparisons', `list = ${list} AND ranges <> '[]'`)) > 0
  for (const list of [false, true]) {
    while (!(await waits(list))) await pause(5)
    await machine.replica.synchronize()
    machine.db.exec(`UPDATE receipts SET customer_no = 'C${list}' WHERE id = 2; DELETE FROM receipts WHERE id = ${list ? 3 : 4}`)
    machine.cashier.sell(`R-${list}`, [line('A')])
    await machine.replica.synchronize()
  }
  t.match(await driven(machine.replica, comparing), { differing: 1, differences: [{ recordId: [1], kind: 'missing' }] })
})

t.test('until a change of the schema is looked through, nothing is answered', async (t) => {
  const { central, machine } = await scene(t, { subscribe: {} }, { pull: true })
  for (let n = 1; n <= 3; n++) machine.cashier.sell(`R-${n}`, [line('A')])
  await central.synchronize(POS1)
  machine.db.exec("UPDATE receipts SET customer_no = 'C' WHERE id = 2")
  await central.synchronize(POS1)
  machine.db.exec('ALTER TABLE receipts RENAME COLUMN customer_no TO customer; BEGIN IMMEDIATE')
  await refused(t, () => central.compare('receipts', POS1, { timeoutMs: 300 }), 'ERR_UNANSWERED')
  // Behind an exchange the till looks through it by itself.
  machine.db.exec('COMMIT')
  t.match(await central.compare('receipts', POS1), { equal: 3, differing: 0 })
})

t.test('columns of any name, keys of any length and values of any kind are compared', async (t) => {
  const long = `c${'o'.repeat(300)}`
  const schema = `CREATE TABLE odd (k TEXT, r REAL, "${long}" REAL DEFAULT 1.5, "a""bc" BLOB, "" TEXT DEFAULT '""', "constructor" INTEGER, "ä" TEXT, PRIMARY KEY (k, r))`
  const shop = await openShop(t, server, { schema: 'SELECT 1', subscribe: {} })
  const { db, replica } = await shop.addTill('POS1', { schema, publish: { odd: {} } })
  const insert = db.prepare('INSERT INTO odd VALUES (?, ?, ?, ?, ?, ?, ?)')
  const keys = ['', '"', '\\', 'ä"€𝄞', '\u0000', '{"a":1}', 'x'.repeat(1_500), ...Array.from({ length: 60 }, (_, n) => `${n}${'y'.repeat(900)}`)]
  for (const [n, key] of keys.entries())
    insert.run(key, n / 3, n % 3 === 0 ? 1.5 : n / 7, n % 2 === 0 ? Buffer.from([n, 34, 125]) : null, n % 5 === 0 ? '}"{,' : '""', n, `\\"${n}\u0001`)
  insert.run('reals', Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, null, null, 2n ** 62n, null)
  db.exec(`INSERT INTO odd (k, r, "ä") VALUES ('text', -0.0, CAST(x'ff41' AS TEXT))`)
  await replica.synchronize()
  const compare = () => driven(replica, shop.central.compare('odd', POS1, { repair: true }))
  t.match(await compare(), { equal: keys.length + 2, differing: 0 })
  await shop.pool.query('DELETE FROM sync_documents')
  t.match(await compare(), { differing: keys.length + 2, repaired: keys.length + 2 })
  t.match(await compare(), { equal: keys.length + 2, differing: 0 })
})

t.test('a till that is restored while it is compared is compared anew', async (t) => {
  const { central, machine, pool } = await scene(t, {}, { transfer: { recordsPerRun: 3 } })
  machine.cashier.sell('R-1', [line('A')])
  await machine.replica.synchronize()
  const backup = machine.backup()
  for (let n = 2; n <= 9; n++) machine.cashier.sell(`R-${n}`, [line('B')])
  machine.db.exec("UPDATE receipts SET customer_no = 'C' WHERE id = 1")
  const comparing = central.compare('receipts', POS1, { repair: true })
  const ending = new AbortController()
  const isAnswered = async () => (await count(pool, 'sync_comparison_answers')) > 0
  while (!(await isAnswered()))
    await machine.replica
      .synchronize({ signal: ending.signal, onProgress: async () => (await isAnswered()) && ending.abort() })
      .catch(() => undefined)
  t.ok((await machine.replica.status()).pending > 0, 'it has answered, and central has not come so far')
  await machine.restore(backup)
  machine.cashier.sell('R-new', [line('C')])
  t.match(await driven(machine.replica, comparing), { equal: 2, differing: 0 })
  t.ok((await central.orphans.list()).length > 0, 'what it has lost is an orphan, no difference')
})

t.test('what waits in quarantine, what is parked, withheld or pruned is known', async (t) => {
  const { handler } = poisoned()
  const subscribe = { ...SUBSCRIBE, receipts: [mirror({ origin: ['location', 'register'] }), handler] }
  const { central, compare, machine } = await scene(t, { subscribe, retainArchiveMs: 0, maxMessageBytes: 65_536 })
  machine.cashier.sell('R-1', [line('POISON')])
  machine.cashier.sell('R-2', [line('A')])
  machine.cashier.sell('R-3', [line('A')])
  await machine.replica.synchronize()
  t.match(await compare(), { equal: 3, differing: 0 }, 'quarantined is received')
  machine.db.exec("UPDATE receipts SET customer_no = 'C' WHERE id = 3")
  await machine.replica.synchronize()
  await central.prune()
  t.match(await compare(), { equal: 3, differing: 0 }, 'pruned')
  machine.db.exec('UPDATE receipts SET customer_no = hex(zeroblob(40000)) WHERE id = 2')
  await machine.replica.synchronize()
  t.match(await compare(), { equal: 3, differing: 0 }, 'parked: central has what was published last')
  machine.db.exec("DELETE FROM sync_members WHERE record_id = '[2]'")
  t.match(await compare({ repair: true }), { equal: 2, differing: 0, parked: 1, repaired: 0 }, 'and nobody asks for what can not be read')
})

t.test('what stood there before it was published is no difference, changed or not', async (t) => {
  const { compare, machine } = await scene(t, {}, { publish: { pos_processes: {} } })
  for (let n = 1; n <= 3; n++) machine.cashier.sell(`R-${n}`, [line('A')])
  const till = machine.till.again({ publish: PUBLISH })
  await till.install()
  await machine.replica.stop()
  machine.replica = till
  await till.synchronize()
  t.match(await compare(), { equal: 0, differing: 0 })
  machine.db.exec("UPDATE receipts SET customer_no = 'C' WHERE id = 2")
  t.match(await compare(), { equal: 1, differing: 0 })
})

/** A link over which the till and central speak, each message as `change` makes it. */
function between(change: (message: Message) => Message): (inner: Link) => Link {
  return (inner) => ({
    async exchange(bytes, options) {
      const answer = await decodeMessage(await inner.exchange(bytes, options), 1e9)
      const { batch: _, published: __, ...rest } = change(answer)
      return encodeMessage(rest)
    },
  })
}

t.test('a register of an earlier version does not answer, and nothing else is held up', async (t) => {
  const link = between((message) => {
    const { compare: _, ...subscribe } = message.subscribe ?? {}
    return { ...message, subscribe }
  })
  const { shop, compare, machine, central } = await scene(t, {}, { link })
  machine.cashier.sell('R-1', [line('A')])
  await machine.replica.synchronize()
  const error = await refused(t, () => compare({ timeoutMs: 300 }), 'ERR_UNANSWERED')
  t.equal(error?.retryable, true)
  machine.cashier.sell('R-2', [line('A')])
  await machine.replica.synchronize()
  await shop.balances(t, machine.till)
  await refused(t, () => central.compare('receipts', POS1, { timeoutMs: 1 }), 'ERR_UNANSWERED', 'one that says nothing at all')
  t.equal(await count(shop.pool, 'sync_comparisons'), 0)
})

t.test('a wait ends with its signal, with central, with the question, with the register', async (t) => {
  const { central, machine, pool } = await scene(t)
  machine.cashier.sell('R-1', [line('A')])
  await machine.replica.synchronize()
  await t.rejects(central.compare('receipts', POS1, { signal: AbortSignal.abort() }), { code: 'ERR_ABORTED' })
  const ending = new AbortController()
  const waiting = central.compare('receipts', POS1, { signal: ending.signal })
  setTimeout(() => ending.abort(), 20)
  await t.rejects(waiting, { code: 'ERR_ABORTED' })
  const forgotten = central.compare('receipts', POS1)
  for (let n = 0; n === 0; n = (await pool.query('DELETE FROM sync_comparisons')).rowCount ?? 0) await pause(5)
  await refused(t, () => forgotten, 'ERR_UNANSWERED', 'somebody has deleted the question')
  const stopped = central.compare('receipts', POS1)
  await pause(20)
  await Promise.all([t.rejects(stopped, { code: 'ERR_STOPPED' }), central.stop()])
  await central.install()
  const revoked = central.compare('receipts', POS1)
  await central.registers.revoke(POS1)
  await refused(t, () => revoked, 'ERR_REGISTER', 'it is revoked')
  t.equal(await count(pool, 'sync_comparisons'), 0)
})

t.test('nonsense is refused, and what a register does not publish', async (t) => {
  const { central, compare, machine } = await scene(t)
  for (const options of [{ repair: 1 }, { timeoutMs: 0 }, { timeoutMs: '1' }, { reapir: true }])
    await refused(t, () => central.compare('receipts', POS1, options as never), 'ERR_OPTION', JSON.stringify(options))
  await refused(t, () => central.compare('', POS1), 'ERR_OPTION')
  await refused(t, () => central.compare('receipts', { location: 'BA01' } as never), 'ERR_OPTION')
  await refused(t, () => central.compare('receipts', { location: 'BA01', register: 'POS9' }), 'ERR_REGISTER')
  t.match(await compare(), { equal: 0, differing: 0 }, 'nothing was ever sent')
  for (const table of ['receipt_lines', 'items'])
    await refused(t, () => driven(machine.replica, central.compare(table, POS1)), 'ERR_UNKNOWN_TABLE', table)
})

t.test('an answer that is none ends the comparison, and changes nothing', async (t) => {
  const shop = await openShop(t, server)
  const { central, pool } = shop
  const { token } = await central.registers.add(POS1)
  await post(shop.url, token, await message(POS1, receiptsBatch([1, 2, 3])))
  const say = async (compared: unknown) => {
    const asked = (await post(shop.url, token, await encodeMessage({ from: POS1, id: 'x', publish: { epoch: EPOCH, head: 6 } }))).message?.subscribe
      ?.compare
    const publish = { epoch: EPOCH, head: 6, compared: { id: asked?.id ?? 'nobody', codec: 1, tables: [], parts: [], ...(compared as object) } }
    return post(shop.url, token, await encodeMessage({ from: POS1, id: 'y', publish } as never))
  }
  const digest = '0'.repeat(64)
  const part = { through: undefined, entryNo: 6, count: 3, digest, documents: undefined }
  const wrong: Readonly<Record<string, readonly [object, string]>> = {
    'nothing at all': [{ parts: [] }, 'ERR_MESSAGE'],
    'more than was asked': [{ parts: [part, part] }, 'ERR_MESSAGE'],
    backwards: [
      {
        parts: [
          { ...part, through: '[2]' },
          { ...part, through: '[1]' },
        ],
      },
      'ERR_MESSAGE',
    ],
    'named though it was to be counted': [{ parts: [{ ...part, digest: undefined, documents: [{ recordId: '[1]', hash: digest }] }] }, 'ERR_MESSAGE'],
    'text that no database holds': [{ parts: [{ ...part, through: '[1]\0' }] }, 'ERR_MESSAGE'],
    'another codec': [{ codec: 2, parts: [part] }, 'ERR_VERSION'],
    'not published': [{ refused: 'unpublished' }, 'ERR_UNKNOWN_TABLE'],
    'another order': [{ refused: 'order' }, 'ERR_VALUE'],
    'too large': [{ refused: 'size' }, 'ERR_TOO_LARGE'],
  }
  for (const [what, [compared, code]] of Object.entries(wrong)) {
    const before = await pool.query('SELECT * FROM sync_documents ORDER BY record_id')
    const comparing = central.compare('receipts', POS1, { repair: true, timeoutMs: 20_000 })
    comparing.catch(() => undefined)
    let answer = await say(compared)
    while (
      (await count(pool, 'sync_comparison_answers')) === 0 &&
      (await Promise.race([
        comparing.then(
          () => true,
          () => true,
        ),
        pause(1),
      ])) !== true
    )
      answer = await say(compared)
    t.equal(answer.status, 200, `${what}: the exchange itself goes on`)
    await refused(t, () => comparing, code as never, what)
    t.same((await pool.query('SELECT * FROM sync_documents ORDER BY record_id')).rows, before.rows, `${what}: nothing has changed`)
  }
  const types = [
    { codec: 'x' },
    { parts: 7 },
    { parts: [[null, 1, 1]] },
    { parts: [[null, 1, 1, 'x']] },
    { tables: [['receipts', [['id']]]] },
    { refused: 'nope' },
  ]
  for (const compared of types) {
    const comparing = central.compare('receipts', POS1, { timeoutMs: 20_000 })
    comparing.catch(() => undefined)
    await eventually('it is asked', async () => (await count(pool, 'sync_comparisons')) === 1)
    const wire = {
      v: 1,
      from: POS1,
      id: 'z',
      publish: { epoch: EPOCH, head: 6, compared: { id: 'a', codec: 1, tables: [], parts: [], ...compared } },
    }
    t.match(await post(shop.url, token, frame(wire)), { status: 200, code: undefined }, JSON.stringify(compared))
    await refused(t, () => comparing, 'ERR_MESSAGE', 'one that can’t be read')
  }
  t.same((await say({ parts: [part] })).status, 200, 'an answer that nobody has asked for')
})

t.test('a register whose answers are wrong is sent its documents once more, and no more than that', async (t) => {
  const { central, machine, shop } = await scene(t)
  machine.cashier.sell('R-1', [line('A')])
  await machine.replica.synchronize()
  machine.db.exec('UPDATE sync_members SET hash = zeroblob(32)')
  t.match(await driven(machine.replica, central.compare('receipts', POS1, { repair: true })), { differing: 1, repaired: 1 })
  await shop.balances(t, machine.till)
})

const UTF16 = `PRAGMA encoding = 'UTF-16le'; CREATE TABLE notes (code TEXT PRIMARY KEY, body TEXT)`
t.test('a database that orders keys otherwise says so', async (t) => {
  const shop = await openShop(t, server, { schema: 'SELECT 1', subscribe: {} })
  const till: Till = await shop.addTill('POS1', { schema: UTF16, publish: { notes: {} } })
  till.db.exec("INSERT INTO notes VALUES ('a', 'ä'), ('b', '€'), ('z', '')")
  const compare = () => driven(till.replica, shop.central.compare('notes', POS1, { repair: true }))
  t.match(await compare(), { equal: 3, differing: 0 }, 'ASCII is ordered alike')
  till.db.exec("INSERT INTO notes VALUES ('Ā', ''), ('ā', ''), ('b€', '')")
  await refused(t, compare, 'ERR_VALUE')
})
