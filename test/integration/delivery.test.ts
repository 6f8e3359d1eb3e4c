import t from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { TillsyncError } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { eventually } from '../support/eventually.ts'
import { type RecordingLink, recording, scripted } from '../support/links.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { openShop, type Till } from '../support/shop.ts'
import { tablesOf } from '../support/snapshots.ts'
import { post } from '../support/wire.ts'

const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const random = new Random(seed)

async function sellABit(till: Till, sales: number): Promise<void> {
  for (let n = 0; n < sales; n++) {
    till.cashier.sellAnything(random, `R-${till.db.prepare('SELECT coalesce(max(id), 0) + 1 FROM receipts').pluck().get()}`)
    if (random.chance(0.4)) till.cashier.changeSomething(random)
    if (random.chance(0.4)) await till.replica.seal()
  }
}

t.test('batches delivered again, in any order and any number of times, change nothing', async (t) => {
  const shop = await openShop(t, server)
  let recorded: RecordingLink | undefined
  const till = await shop.addTill('POS1', {
    transfer: { recordsPerRun: 20 },
    link: (inner) => {
      recorded = recording(inner)
      return recorded
    },
  })
  const idle = await shop.addTill('POS2')
  await sellABit(till, 40)
  await till.replica.synchronize()
  const sent = recorded?.sent ?? []
  t.ok(sent.length > 5, `${sent.length} batches`)
  const before = await tablesOf(shop.pool)
  for (let round = 0; round < 4; round++) {
    for (const message of random.shuffle([...sent, ...sent])) {
      const { status, code } = await post(shop.url, till.token, message as never)
      t.match({ status, code: code ?? 'none' }, { status: 200, code: /^(none|ERR_NOT_NEXT)$/ })
    }
  }
  t.same(await tablesOf(shop.pool), before, 'one after another')
  const answers = await Promise.all(random.shuffle([...sent, ...sent]).map((message) => post(shop.url, till.token, message as never)))
  t.ok(answers.every(({ code }) => code === undefined || code === 'ERR_NOT_NEXT' || code === 'ERR_BUSY'))
  t.same(await tablesOf(shop.pool), before, 'all at once')
  t.match(await post(shop.url, idle.token, sent[0] as never), { code: 'ERR_FOREIGN_REGISTER' })
  await sellABit(till, 10)
  await till.replica.synchronize()
  await shop.balances(t, till)
})

t.test('synchronize() ends at a till that sells without pause, with all that there was', async (t) => {
  const shop = await openShop(t, server)
  let sells = true
  const till: Till = await shop.addTill('POS1', {
    transfer: { recordsPerRun: 4 },
    link: (inner) => ({
      exchange: async (message, options) => {
        if (sells) await sellABit(till, 1)
        if (sells) await till.replica.seal()
        return inner.exchange(message, options)
      },
    }),
  })
  await sellABit(till, 10)
  await till.replica.seal()
  const { head } = await till.replica.status()
  await till.replica.synchronize()
  const { standing, pending } = await till.replica.status()
  t.ok((standing?.entryNo ?? 0) >= head.entryNo)
  t.ok(pending > 0)
  sells = false
  await till.replica.synchronize()
  await shop.balances(t, till)
})

t.test('batches that arrive in the wrong order are taken when it is their turn', async (t) => {
  const shop = await openShop(t, server)
  let recorded: RecordingLink | undefined
  const till = await shop.addTill('POS1', {
    transfer: { recordsPerRun: 20 },
    link: (inner) => {
      recorded = recording(inner)
      return recorded
    },
  })
  await sellABit(till, 30)
  await till.replica.synchronize()
  const sent = recorded?.sent ?? []
  // The same letters to a head office that has not had them: as if central had been set up anew.
  await shop.pool.query(
    'TRUNCATE receipts, receipt_lines, tender_lines, pos_processes, stock_movements, stock_levels, sync_archive, sync_documents, sync_postings, sync_points, sync_epochs',
  )
  await shop.pool.query('UPDATE sync_registers SET epoch_no = 0, epoch = NULL, entry_no = 0, digest = NULL')
  const waiting = new Set(sent)
  while (waiting.size > 0) {
    for (const message of random.shuffle([...waiting])) {
      const { code } = await post(shop.url, till.token, message as never)
      if (code === undefined) waiting.delete(message)
    }
  }
  await shop.balances(t, till)
  await till.replica.synchronize()
  await shop.balances(t, till)
})

t.test('an answer that got lost leads to no duplicate', async (t) => {
  const shop = await openShop(t, server)
  const fates = { lost: 0, messages: 0 }
  const till = await shop.addTill('POS1', {
    transfer: { recordsPerRun: 15 },
    link: (inner) =>
      scripted(inner, () => {
        fates.messages++
        const fate = random.pick(['whole', 'message lost', 'answer lost', 'answer lost'] as const)
        if (fate !== 'whole') fates.lost++
        return fate
      }),
  })
  // However chance has it, many go wrong.
  for (let round = 0; round < 40 || fates.lost <= 20; round++) {
    await sellABit(till, random.int(0, 2))
    await till.replica.synchronize().catch((error) => t.match(error, { code: 'ERR_LINK', retryable: true }))
  }
  await eventually('everything has arrived', async () => {
    await till.replica.synchronize().catch(() => undefined)
    return (await till.replica.status()).pending === 0
  })
  t.comment(`${fates.lost} of ${fates.messages} went wrong`)
  await shop.balances(t, till)
  t.same(
    (await shop.pool.query('SELECT count(*)::int AS archived, max(entry_no)::int AS last FROM sync_archive')).rows.map(
      (row) => row.archived === row.last,
    ),
    [true],
  )
})

t.test('an answer lost, then a longer batch, or a shorter one: what is new is taken, once', async (t) => {
  for (const sizes of [
    [10, 500],
    [500, 10],
    [7, 11, 3, 500],
  ]) {
    const shop = await openShop(t, server)
    let lose = true
    const till = await shop.addTill('POS1', { link: (inner) => scripted(inner, () => (lose ? 'answer lost' : 'whole')) })
    await sellABit(till, 8)
    for (const recordsPerRun of sizes) {
      const again = till.again({ transfer: { recordsPerRun } })
      await t.rejects(again.synchronize(), { code: 'ERR_LINK' })
      await again.stop()
      await sellABit(till, 3)
    }
    lose = false
    await till.replica.synchronize()
    await shop.balances(t, till, `batches of ${sizes.join(', ')}`)
  }
})

t.test('the same batch delivered many times at once is applied once', async (t) => {
  const shop = await openShop(t, server)
  const messages: Uint8Array[] = []
  const till = await shop.addTill('POS1', {
    link: () => ({
      async exchange(message) {
        messages.push(Uint8Array.from(message))
        throw new TillsyncError('ERR_LINK', 'The line is down', { retryable: true })
      },
    }),
  })
  await sellABit(till, 60)
  await t.rejects(till.replica.synchronize())
  const [first] = messages
  const answers = await Promise.all(Array.from({ length: 12 }, () => post(shop.url, till.token, first as never)))
  const codes = answers.map(({ status, code }) => `${status} ${code}`)
  t.ok(codes.includes('200 undefined'), 'one was applied')
  t.ok(
    codes.every((code) => ['200 undefined', '503 ERR_BUSY'].includes(code)),
    [...new Set(codes)].join(', '),
  )
  const good = till.again({ link: (inner) => inner })
  await good.synchronize()
  await shop.balances(t, till)
})

t.test('two replicas of one till, sealing and sending at the same time, number no entry twice', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill('POS1', { transfer: { recordsPerRun: 10 } })
  const other = till.again()
  for (let round = 0; round < 15; round++) {
    await Promise.all([sellABit(till, 3), other.seal()])
    await Promise.all([till.replica, other].map((replica) => replica.synchronize().catch((error) => t.match(error, { retryable: true }))))
  }
  await till.replica.synchronize()
  await shop.balances(t, till)
})

t.test('while an exchange of one replica is under way, another one sells, sends and is acknowledged: no history parts by that', async (t) => {
  const shop = await openShop(t, server)
  const forks: unknown[] = []
  shop.central.on('forked', (fork) => forks.push(fork))
  for (const held of ['asks', 'is answered'])
    for (const grid of [0, 1, 2, 3]) {
      const till = await shop.addTill(`${held} ${grid}`, { transfer: { recordsPerRun: 10 } })
      let sales: number[] = []
      const goOn = async () => {
        const now = sales.shift()
        if (now === undefined) return
        await sellABit(till, now)
        await till.replica.synchronize()
      }
      const slow = till.again({
        link: (inner) => ({
          async exchange(message, options) {
            if (held === 'asks') await goOn()
            const answer = await inner.exchange(message, options)
            if (held === 'is answered') await goOn()
            return answer
          },
        }),
      })
      for (const replica of [till.replica, slow]) replica.on('forked', (fork) => forks.push(fork))
      await sellABit(till, grid & 1 ? 3 : 0)
      sales = [grid & 2 ? 6 : 1, 5, 1, 4]
      for (let n = 0; n < 4; n++) await slow.synchronize()
      await till.replica.synchronize()
      t.same(forks.splice(0), [], `held where it ${held}, ${grid}: one history`)
      await shop.balances(t, till)
    }
})

t.test('many tills at once, all selling the same articles', async (t) => {
  const shop = await openShop(t, server)
  const tills = await Promise.all(Array.from({ length: 8 }, (_, n) => shop.addTill(`POS${n}`, { transfer: { recordsPerRun: 25 } })))
  await Promise.all(
    tills.map(async (till) => {
      for (let round = 0; round < 3; round++) {
        await sellABit(till, 8)
        await till.replica.synchronize()
      }
    }),
  )
  for (const till of tills) await shop.balances(t, till, till.register)
})

t.test('batches are bounded, and a larger document goes whole', async (t) => {
  const shop = await openShop(t, server)
  const sizes: number[] = []
  shop.central.on('applied', ({ entries }) => sizes.push(entries))
  const till = await shop.addTill('POS1', { transfer: { recordsPerRun: 5 } })
  const line = { item: 'A', quantity: '1', amount: '1' }
  for (const lines of [1, 1, 1, 40, 1, 3, 2])
    till.cashier.sell(`R-${lines}-${till.db.prepare('SELECT count(*) FROM receipts').pluck().get()}`, Array(lines).fill(line))
  await till.replica.synchronize()
  t.same(sizes, [3, 3, 3, 42, 3, 5, 4])
  await shop.balances(t, till)

  const bytes = await shop.addTill('POS2', { transfer: { recordsPerRun: 1_000, bytesPerRun: 1_024 } })
  sizes.length = 0
  for (let n = 0; n < 20; n++) bytes.cashier.sell(`R-${n}`, [line])
  bytes.cashier.sell('R-big', [{ ...line, item: 'X'.repeat(5_000) }])
  await bytes.replica.synchronize()
  t.ok(sizes.length > 5 && Math.max(...sizes) <= 9, `batches of ${sizes.join(', ')} entries`)
  await shop.balances(t, bytes)
})

t.test('everything goes on after stop() and start(), on both sides', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill('POS1', { transfer: { everyMs: 20 } })
  for (let round = 0; round < 6; round++) {
    if (round % 2 === 0) await till.replica.start()
    await sellABit(till, 4)
    if (round === 3) await shop.central.stop()
    if (round % 2 === 1) await till.replica.stop()
    await sellABit(till, 2)
    if (round === 3) await shop.central.start()
  }
  await till.replica.start()
  await eventually('everything has arrived', async () => {
    const { pending, unsealed } = await till.replica.status()
    return pending === 0 && unsealed === 0
  })
  await shop.balances(t, till)
})

t.test('the line goes and comes back: said once, and caught up by itself', async (t) => {
  const shop = await openShop(t, server)
  let down = false
  const till = await shop.addTill('POS1', { transfer: { everyMs: 20 }, link: (inner) => scripted(inner, () => (down ? 'message lost' : 'whole')) })
  const events: string[] = []
  for (const event of ['offline', 'online', 'failed'] as const) till.replica.on(event, () => events.push(event))
  await till.replica.start()
  await sellABit(till, 3)
  await eventually('the first sales have arrived', async () => (await till.replica.status()).pending === 0)
  down = true
  await sellABit(till, 5)
  await eventually('it is noticed', () => events.includes('offline'))
  await sellABit(till, 5)
  down = false
  await eventually('it is caught up', async () => (await till.replica.status()).pending === 0)
  t.same(events, ['offline', 'online'])
  await shop.balances(t, till)
})

t.test('a till on one shared connection, in memory', async (t) => {
  const shop = await openShop(t, server)
  const { default: Database } = await import('better-sqlite3')
  const { createRegister } = await import('../../src/index.ts')
  const { Cashier } = await import('../support/sales.ts')
  const { PUBLISH } = await import('../support/shop.ts')
  const { TILL_SCHEMA } = await import('../support/tables.ts')
  const db = new Database(':memory:')
  db.exec(TILL_SCHEMA)
  const name = { location: 'BA01', register: 'MEMORY' }
  const { token } = await shop.central.registers.add(name)
  const replica = createRegister({
    ...name,
    database: sqlite(db),
    publish: PUBLISH,
    transfer: { type: 'push', link: httpLink({ url: shop.url, token }) },
  })
  t.teardown(() => db.close())
  t.teardown(() => replica.stop())
  await replica.install()
  await replica.start()
  const cashier = new Cashier(db, name.location)
  for (let n = 0; n < 20; n++) {
    cashier.sellAnything(random, `R-${n}`)
    cashier.changeSomething(random)
  }
  db.exec('BEGIN')
  cashier.addLine(1, { item: 'A', quantity: '1', amount: '1' })
  const sealing = replica.seal()
  db.exec('COMMIT')
  await sealing
  const till = { ...name, db, replica } as Till
  await eventually('everything has arrived', async () => (await replica.status()).pending === 0 && (await replica.status()).unsealed === 0)
  await replica.synchronize()
  await shop.balances(t, till)
  const iterator = db.prepare('SELECT * FROM receipts').iterate()
  iterator.next()
  const waits = replica.seal()
  iterator.return?.()
  await t.resolves(waits, 'busy executing means later')
})

t.test('a link that throws what has no code is a line that is down, said once; and one that is ended has ended', async (t) => {
  const shop = await openShop(t, server)
  let isDown = true
  const till = await shop.addTill('POS1', {
    transfer: { everyMs: 20, backoff: { minMs: 5, maxMs: 5 } },
    link: (inner) => ({
      async exchange(message, options) {
        options.signal.throwIfAborted()
        if (isDown) throw new TypeError('fetch failed')
        return inner.exchange(message, options)
      },
    }),
  })
  const said: string[] = []
  for (const event of ['offline', 'online', 'failed'] as const) till.replica.on(event, () => said.push(event))
  await sellABit(till, 3)
  await t.rejects(till.replica.synchronize({ signal: AbortSignal.abort() }), { code: 'ERR_ABORTED' })
  await t.rejects(till.replica.synchronize(), { code: 'ERR_LINK', retryable: true, hint: /./, cause: TypeError })
  await till.replica.start()
  t.match(await till.replica.status(), { lastError: { code: 'ERR_LINK' } })
  isDown = false
  await eventually('it is sent', async () => (await till.replica.status()).pending === 0)
  await till.replica.stop()
  t.same(said, ['offline', 'online'])
  await shop.balances(t, till)
})

t.test('a token that the host does not come up with ends with the exchange', async (t) => {
  // As a host that asks somebody for it.
  const asking = setInterval(() => undefined, 60_000)
  t.teardown(() => clearInterval(asking))
  const exchange = (timeoutMs: number, signal: AbortSignal) =>
    httpLink({ url: 'http://127.0.0.1:9', token: () => new Promise<string>(() => undefined), timeoutMs }).exchange(new Uint8Array(1), { signal })
  await t.rejects(exchange(60_000, AbortSignal.timeout(20)), { code: 'ERR_ABORTED' })
  await t.rejects(exchange(20, new AbortController().signal), { code: 'ERR_LINK', retryable: true })
})
