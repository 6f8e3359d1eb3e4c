import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Change, mirror, type ReplayProgress, type TillsyncError } from '../../src/index.ts'
import { isLedgerSound } from '../support/books.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { count, line } from '../support/quarantine.ts'
import { refused } from '../support/refused.ts'
import { idle, mendable, stocks } from '../support/replay.ts'
import { openShop, type ShopOptions, type Till } from '../support/shop.ts'

const server = await startServer(t)
const MIRROR = mirror({ origin: ['location', 'register'] })
const RECEIPTS = { table: 'receipts' }
const POS = (register: string) => ({ location: 'BA01', register })

async function scene(t: Test, registers: readonly string[], options: ShopOptions = {}) {
  const { state, handler, mapping } = mendable()
  const shop = await openShop(t, server, { subscribe: { receipts: [MIRROR, handler] }, ...options })
  const tills = await Promise.all(registers.map((register) => shop.addTill(register)))
  return { shop, central: shop.central, pool: shop.pool, tills, state, mapping }
}

async function sellMany(till: Till, many: number, item = 'A'): Promise<void> {
  for (let n = 0; n < many; n++) till.cashier.sell(`${till.register}-${item}-${n}`, [line(item)])
  await till.replica.synchronize()
}

t.test('what can’t be replayed is said by a code, and nothing is done', async (t) => {
  const { central, tills, state } = await scene(t, ['POS1'])
  await sellMany(tills[0] as Till, 1)
  const calls = state.calls
  const replay = (which: object, options?: object) => () => central.replay(which as typeof RECEIPTS, options)
  await refused(t, replay({ table: 'recipts' }), 'ERR_UNKNOWN_TABLE')
  await refused(t, replay({ table: '__proto__' }), 'ERR_UNKNOWN_TABLE')
  const part = await refused(t, replay({ table: 'receipt_lines' }), 'ERR_RULE', 'parts')
  t.match(part?.hint, "replay({ table: 'receipts' })")
  await refused(t, replay({ table: 'receipts', registers: [POS('POS1'), POS('POS9')] }), 'ERR_REGISTER')
  for (const which of [
    undefined,
    'receipts',
    {},
    { table: '' },
    { table: 7 },
    { table: 'a\0' },
    { table: 'receipts', since: '2026-11-21 10:00' },
    { table: 'receipts', since: new Date('never') },
    { table: 'receipts', since: 0 },
    { table: 'receipts', registers: 'POS1' },
    { table: 'receipts', registers: ['POS1'] },
    { table: 'receipts', registers: [null] },
    { table: 'receipts', registers: [{ location: 'BA01' }] },
    { table: 'receipts', register: 'POS1' },
  ])
    await refused(t, replay(which as object), 'ERR_OPTION', JSON.stringify(which))
  await refused(t, replay(RECEIPTS, { onprogress: () => undefined }), 'ERR_OPTION')
  t.equal(state.calls, calls)
  t.same(await central.replay({ ...RECEIPTS, registers: [] }), idle(0))
  await central.stop()
  t.equal((await refusedBy(replay(RECEIPTS)))?.code, 'ERR_STOPPED')
})

t.test('a table of a part with a handler of its own is none of documents', async (t) => {
  const { handler } = mendable()
  const { central, tills } = await scene(t, ['POS1'], {
    subscribe: { receipts: [MIRROR, handler], receipt_lines: mirror({ except: ['net_amount'] }) },
  })
  t.same(await central.replay({ table: 'receipt_lines' }), idle(0), 'nobody knows it yet')
  await sellMany(tills[0] as Till, 1).catch(() => undefined)
  await refused(t, () => central.replay({ table: 'receipt_lines' }), 'ERR_RULE')
})

t.test('since: what was received then or later, in its latest version; of the registers that are named', async (t) => {
  const { shop, central, pool, tills, state } = await scene(t, ['POS1', 'POS2'])
  const [one, two] = tills as [Till, Till]
  await sellMany(one, 3, 'OLD')
  await sellMany(two, 2, 'OTHER')
  one.db.exec("UPDATE receipt_lines SET item_no = 'CORRECTED' WHERE receipt_id = 2")
  await pause(5)
  const { rows } = await pool.query('SELECT now() AS now')
  const since: Date = rows[0].now
  await one.replica.synchronize()
  await sellMany(one, 1, 'NEW')
  one.db.exec('DELETE FROM receipts WHERE id = 1')
  await one.replica.synchronize()
  state.factor = 2
  t.match(await central.replay({ ...RECEIPTS, since, registers: [POS('POS1'), POS('POS1')] }), { documents: 2, postings: 2 })
  t.same(await stocks(shop), { CORRECTED: -2, NEW: -2, OLD: -2, OTHER: -2 })
  t.match(await central.replay({ ...RECEIPTS, since: since.toISOString() }), { documents: 2, postings: 0 })
  t.match(await central.replay({ ...RECEIPTS, since: new Date(Date.now() + 3_600_000) }), idle(0))
  await central.registers.revoke(POS('POS2'))
  t.match(await central.replay({ ...RECEIPTS, registers: [POS('POS2')] }), { documents: 2, postings: 2 }, 'a register that was revoked too')
})

t.test('it goes slice by slice, says how far it has come, and ends where it is told to; called again it does the rest', async (t) => {
  const sets: number[] = []
  const note = (changes: readonly Change[]) => void sets.push(changes.length)
  const { handler, state } = mendable()
  const { shop, central, pool, tills } = await scene(t, ['POS1', 'POS2'], { subscribe: { receipts: [handler, note] } })
  for (const till of tills) {
    till.db.transaction(() => {
      for (let n = 0; n < 900; n++) till.cashier.sell(`${till.register}-${n}`, [line('A')])
    })()
    await till.replica.synchronize()
  }
  state.factor = 2
  sets.length = 0
  const ending = new AbortController()
  const progress: ReplayProgress[] = []
  const onProgress = (one: ReplayProgress): void => {
    progress.push(one)
    if (progress.length === 3) ending.abort()
  }
  const error = await refusedBy(() => central.replay(RECEIPTS, { signal: ending.signal, onProgress }))
  t.equal(error?.code, 'ERR_ABORTED')
  const done = await count(pool, 'sync_postings', 'revision = 2')
  t.ok(done >= 500 && done < 1_800, `${done} were done`)
  t.ok(
    sets.every((n) => n <= 250),
    'a bounded number at a time',
  )
  t.equal((await refusedBy(() => central.replay(RECEIPTS, { signal: ending.signal })))?.code, 'ERR_ABORTED', 'aborted before')
  progress.length = 0
  t.match(await central.replay(RECEIPTS, { onProgress }), { documents: 1_800, postings: 1_800 - done })
  t.ok(
    progress.every((one, n) => one.entries <= one.of && one.entries >= (progress[n - 1]?.entries ?? 0)),
    'forward only',
  )
  t.match(progress.at(-1), { ...POS(/POS[12]/ as never), documents: 1_800, postings: 1_800 - done, entries: 5_400, of: 5_400 })
  t.same(await stocks(shop), { A: -3_600 })
  t.ok(await isLedgerSound(pool))
})

async function refusedBy(work: () => Promise<unknown>): Promise<TillsyncError | undefined> {
  return work().then(
    () => undefined,
    (error) => error,
  )
}

t.test('what onProgress throws is said by `failed` and changes nothing', async (t) => {
  const { central, tills } = await scene(t, ['POS1'])
  await sellMany(tills[0] as Till, 2)
  const failed: string[] = []
  central.on('failed', ({ error }) => failed.push(error.code))
  const onProgress = () => {
    throw new Error('no bar')
  }
  t.same(await central.replay(RECEIPTS, { onProgress }), idle(2))
  t.match(failed, ['ERR_LISTENER'])
})

t.test('new batches come in meanwhile, several replays go on at once, connections are cut: nothing is posted twice', async (t) => {
  const { shop, central, pool, tills, state } = await scene(t, ['POS1', 'POS2', 'POS3'])
  const others = [shop.again(), shop.again()]
  for (const till of tills) {
    till.db.transaction(() => {
      for (let n = 0; n < 400; n++) till.cashier.sell(`${till.register}-${n}`, [line('A')])
    })()
    await till.replica.synchronize()
  }
  const before = (await pool.query('SELECT m::text AS row FROM stock_movements m')).rows.map(({ row }) => row)
  state.factor = 2
  let isOver = false
  const selling = tills.map(async (till) => {
    for (let n = 0; !isOver || n < 5; n++) {
      till.cashier.sell(`${till.register}-new-${n}`, [line('B')])
      till.db.exec(`UPDATE receipt_lines SET quantity = '3' WHERE receipt_id = ${1 + n}; DELETE FROM receipts WHERE id = ${400 - n}`)
      await synchronize(till)
    }
  })
  const cutting = (async () => {
    for (let n = 0; n < 6; n++) {
      await pause(40)
      await pool
        .query(
          'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY random() LIMIT 2',
        )
        .catch(() => undefined)
    }
  })()
  const replays = [central, ...others].map((one) => one.replay(RECEIPTS))
  const results = await Promise.all(replays).finally(() => {
    isOver = true
  })
  await Promise.all([...selling, cutting])
  t.ok(results.every(({ quarantined, documents }) => quarantined === 0 && documents > 0))
  for (const till of tills) await synchronize(till)
  t.match(await central.replay(RECEIPTS), { postings: 0 })
  const wanted = tills.flatMap(
    (till) => till.db.prepare('SELECT item_no, quantity FROM receipt_lines').all() as { item_no: string; quantity: string }[],
  )
  const purged = await count(pool, 'sync_documents', 'removed')
  const sold = (item: string) => wanted.filter(({ item_no }) => item_no === item).reduce((sum, { quantity }) => sum + Number(quantity), 0)
  t.same(await stocks(shop), { A: -2 * (sold('A') + purged), B: -2 * sold('B') }, 'what was purged counts on')
  t.ok(await isLedgerSound(pool))
  const now = new Set((await pool.query('SELECT m::text AS row FROM stock_movements m')).rows.map(({ row }) => row))
  t.ok(before.every((row) => now.has(row)))
})

/** As long as central is busy with the register, or its connection was cut, a till tries again by itself. */
async function synchronize(till: Till): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      return void (await till.replica.synchronize())
    } catch (error) {
      if (tries === 40 || !(error as TillsyncError).retryable) throw error
    }
  }
}

t.test('a register that somebody holds is waited for, and the others go on meanwhile', async (t) => {
  const { shop, central, pool, tills, state } = await scene(t, ['POS1', 'POS2'])
  for (const till of tills) await sellMany(till, 2, till.register)
  state.factor = 2
  const client = await pool.connect()
  await client.query("BEGIN; SELECT FROM sync_registers WHERE register = 'POS1' FOR UPDATE")
  const replaying = central.replay(RECEIPTS)
  await eventually('the other one is done', async () => (await stocks(shop)).POS2 === -4)
  t.equal((await stocks(shop)).POS1, -2)
  await client.query('ROLLBACK')
  client.release()
  t.match(await replaying, { documents: 4, postings: 4 })
  t.same(await stocks(shop), { POS1: -4, POS2: -4 })
})

t.test('stop() ends a replay, and what it did stays', async (t) => {
  const { shop, central, pool, tills, state } = await scene(t, ['POS1'])
  const [till] = tills as [Till]
  till.db.transaction(() => {
    for (let n = 0; n < 900; n++) till.cashier.sell(`R-${n}`, [line('A')])
  })()
  await till.replica.synchronize()
  state.factor = 2
  const replaying = refusedBy(() => central.replay(RECEIPTS))
  await eventually('it has begun', async () => (await count(pool, 'sync_postings', 'revision = 2')) > 0)
  await central.stop()
  t.equal((await replaying)?.code, 'ERR_ABORTED')
  t.equal(
    (await pool.query("SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'")).rows[0].n,
    '0',
  )
  const done = await count(pool, 'sync_postings', 'revision = 2')
  await central.start()
  t.match(await central.replay(RECEIPTS), { documents: 900, postings: 900 - done })
  t.same(await stocks(shop), { A: -1_800 })
})

t.test('large documents, many versions that were replaced, entries of other tables, and a pruned archive', async (t) => {
  const { shop, central, pool, tills, state } = await scene(t, ['POS1'], { retainArchiveMs: 0 })
  const [till] = tills as [Till]
  till.cashier.sell(
    'R-large',
    Array.from({ length: 12_000 }, (_, n) => line(n % 2 === 0 ? 'A' : 'B')),
  )
  await till.replica.synchronize()
  await pause(5)
  const since: Date = (await pool.query('SELECT now() AS now')).rows[0].now
  till.cashier.sell('R-2', [line('C')])
  till.cashier.sell('R-3', [line('D')])
  for (let n = 1; n <= 30; n++) {
    till.db.exec(`UPDATE receipt_lines SET quantity = '${n}' WHERE receipt_id = 2; INSERT INTO pos_processes (opened_at) VALUES ('2026-11-21')`)
    await till.replica.synchronize()
  }
  till.db.exec('DELETE FROM receipts WHERE id = 3')
  await till.replica.synchronize()
  await central.prune()
  t.equal(await count(pool, 'sync_archive', "table_name = 'receipts'"), 4, 'only what is needed is left')
  state.factor = 2
  t.same(await central.replay({ ...RECEIPTS, since }), { ...idle(2), postings: 2 }, 'what was received before is left out')
  t.same(await central.replay(RECEIPTS), { ...idle(3), postings: 1 })
  t.same(await stocks(shop), { A: -12_000, B: -12_000, C: -60, D: -2 })
})
