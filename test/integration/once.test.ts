import { setTimeout as pause } from 'node:timers/promises'
import type { Pool } from 'pg'
import t, { type Test } from 'tap'
import type { AnyTables, Change, HandlerContext, HostHandler, SubscribeRules, TillsyncError } from '../../src/index.ts'
import { eventually } from '../support/eventually.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { openShop } from '../support/shop.ts'

const server = await startServer(t)
const LINE = { item: 'tea', quantity: '1', amount: '2.50' }

type Handle = (changes: readonly Change[], context: HandlerContext) => unknown

async function open(t: Test, timeoutMs = 60_000) {
  const pool = await createPool(t, server)
  const printed: string[] = []
  const now: { handle: Handle; print: (key: string, signal: AbortSignal) => unknown } = {
    handle: (changes, { once }) => {
      for (const { document } of changes) if (document) once(`print ${document.receipt_no}`, (key, signal) => now.print(key, signal))
    },
    print: (key) => printed.push(key),
  }
  const handler = ((changes, context) => now.handle(changes, context)) as HostHandler
  const subscribe: SubscribeRules<AnyTables> = { receipts: handler }
  const shop = await openShop(t, server, { pool, subscribe, handlerTimeoutMs: timeoutMs })
  const failures: TillsyncError[] = []
  shop.central.on('failed', ({ error }) => failures.push(error))
  return { shop, pool, printed, now, failures, till: await shop.addTill('POS1') }
}

const states = async (pool: Pool) =>
  Object.fromEntries((await pool.query('SELECT key, state FROM sync_once')).rows.map(({ key, state }) => [key, state]))
const isDone = (pool: Pool, key: string) => async () => (await states(pool))[key] === 'done'

t.test('an effect runs once for its key, after the commit, whatever comes again', async (t) => {
  const { till, pool, printed, now, shop } = await open(t)
  const seen: unknown[] = []
  now.print = async (key) => {
    seen.push((await pool.query('SELECT entry_no::integer FROM sync_registers')).rows[0].entry_no > 0)
    printed.push(key)
  }
  till.cashier.sell('R-1', [LINE])
  till.cashier.sell('R-2', [LINE])
  await till.deliver()
  await eventually('both printed', isDone(pool, 'print R-2'))
  await eventually('both printed', isDone(pool, 'print R-1'))
  await till.replica.export('receipts', { receipt_no: 'R-1' })
  till.db.exec("UPDATE receipts SET customer_no = 'C' WHERE receipt_no = 'R-2'")
  await till.deliver()
  await shop.again().synchronize() // another process, to have done everything that it does at its start
  t.same(printed.toSorted(), ['print R-1', 'print R-2'])
  t.same(seen, [true, true], 'what it belongs to was committed')
})

t.test('an effect of a batch that was rolled back never runs; of the one that comes in its place it does, once', async (t) => {
  const { till, pool, printed, now } = await open(t)
  const { handle } = now
  now.handle = async (changes, context) => {
    await handle(changes, context)
    throw new Error('after asking')
  }
  till.cashier.sell('R-1', [LINE])
  await t.rejects(till.deliver(), { code: 'ERR_HANDLER' })
  t.same(await states(pool), {})
  now.handle = handle
  await till.deliver()
  await eventually('printed', isDone(pool, 'print R-1'))
  t.same(printed, ['print R-1'])
})

t.test('an effect that fails, or hangs, is tried again until it succeeds, and says so; the register does not wait for it', async (t) => {
  const { till, pool, printed, now, failures } = await open(t, 400)
  let tries = 0
  const aborted: boolean[] = []
  now.print = async (key, signal) => {
    tries++
    if (tries === 1) throw new Error('out of paper')
    if (tries === 2) {
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      aborted.push(signal.aborted)
      await new Promise(() => undefined)
    }
    printed.push(key)
  }
  till.cashier.sell('R-1', [LINE])
  await till.deliver()
  await eventually('printed', isDone(pool, 'print R-1'))
  t.equal(tries, 3)
  t.same(printed, ['print R-1'])
  t.same(aborted, [true])
  t.match(failures, [
    { code: 'ERR_HANDLER', retryable: true, context: { table: 'receipts', key: 'print R-1', attempt: 1 }, cause: { message: 'out of paper' } },
    { context: { attempt: 2 }, cause: { message: /400 ms/ } },
  ])
  t.equal((await pool.query('SELECT attempts::integer FROM sync_once')).rows[0].attempts, 3)
})

t.test('what a process left owing is found by the next one, which asks the handler again; what is not asked for any more is dropped', async (t) => {
  const { till, pool, printed, now, shop } = await open(t)
  let end = (_: Error) => {}
  const never = new Promise((_, reject) => {
    end = reject
  })
  now.print = () => never
  for (const no of ['R-1', 'R-2', 'R-3', 'R-4', 'R-5', 'R-6']) till.cashier.sell(no, [LINE])
  await till.deliver()
  await eventually('taken up', async () => (await pool.query('SELECT FROM sync_once WHERE attempts > 0')).rowCount === 4)
  till.db.exec("UPDATE receipts SET status = 'voided' WHERE receipt_no = 'R-3'")
  now.handle = (changes, { once }) => {
    for (const { document } of changes) if (document && document.status !== 'voided') once(`print ${document.receipt_no}`, (key) => printed.push(key))
  }
  await till.deliver()
  t.equal((await pool.query("SELECT FROM sync_once WHERE state = 'owed'")).rowCount, 6, "they are another one's as long as its time lasts")
  // As if the process were gone, and its time over; or never over, by a clock that was wrong.
  await pool.query(
    "UPDATE sync_once SET held_until = now() + CASE WHEN key IN ('print R-2', 'print R-3') THEN interval '9 years' ELSE interval '-1 s' END",
  )
  const next = shop.again()
  await next.start()
  await eventually('all settled', async () => !Object.values(await states(pool)).includes('owed'))
  t.same(await states(pool), {
    'print R-1': 'done',
    'print R-2': 'done',
    'print R-3': 'dropped',
    'print R-4': 'done',
    'print R-5': 'done',
    'print R-6': 'done',
  })
  t.equal(printed.length, 5)
  end(new Error('too late'))
  till.db.exec("UPDATE receipts SET status = 'posted' WHERE receipt_no = 'R-3'")
  await till.deliver()
  await eventually('asked for again', isDone(pool, 'print R-3'))
  t.equal(printed.length, 6)
})

t.test('several processes at once run each effect once', async (t) => {
  const { till, pool, printed, now, shop } = await open(t)
  now.print = async (key) => {
    await pause(2)
    printed.push(key)
  }
  const others = [shop.again(), shop.again()]
  for (const other of others) await other.start()
  const tills = [till, await shop.addTill('POS2'), await shop.addTill('POS3')]
  for (const one of tills) for (let n = 0; n < 40; n++) one.cashier.sell(`R-${n}`, [LINE])
  await Promise.all(tills.map((one) => one.deliver()))
  await eventually('all done', async () => Object.values(await states(pool)).every((state) => state === 'done'))
  t.equal(printed.length, 40, 'a key is the same whichever register it comes from')
  t.equal(new Set(printed).size, 40)
})

t.test('stop() waits for the effect that runs, and leaves those that wait to the next', async (t) => {
  const { till, pool, printed, now, shop } = await open(t)
  let go = () => {}
  const gate = new Promise<void>((resolve) => {
    go = resolve
  })
  now.print = async (key) => {
    await gate
    printed.push(key)
  }
  for (let n = 0; n < 9; n++) till.cashier.sell(`R-${n}`, [LINE])
  await till.deliver()
  await eventually('four run', async () => (await pool.query('SELECT FROM sync_once WHERE attempts > 0')).rowCount === 4)
  const stopped = shop.central.stop()
  go()
  await stopped
  t.equal(printed.length, 4)
  t.equal((await pool.query("SELECT FROM sync_once WHERE state = 'done'")).rowCount, 4)
})

t.test('a key or an effect that is none refuses the batch', async (t) => {
  const { till, pool, now } = await open(t)
  const bad: [unknown, unknown][] = [
    ['', () => undefined],
    [5, () => undefined],
    ['x'.repeat(501), () => undefined],
    ['a\0', () => undefined],
    ['\ud800', () => undefined],
    ['a', 'b'],
  ]
  till.cashier.sell('R-1', [LINE])
  for (const [key, effect] of bad) {
    now.handle = (_, { once }) => once(key as never, effect as never)
    await t.rejects(till.deliver(), { code: 'ERR_HANDLER' })
  }
  t.same(await states(pool), {})
})
