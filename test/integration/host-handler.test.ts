import { setTimeout as pause } from 'node:timers/promises'
import { sql } from 'kysely'
import t, { type Test } from 'tap'
import { type AnyTables, type Change, type HandlerContext, type HostHandler, mirror, type SubscribeRules, stockMovements } from '../../src/index.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { movementsAt, openShop } from '../support/shop.ts'
import { CENTRAL_SCHEMA } from '../support/tables.ts'

const server = await startServer(t)
const TURNOVER = 'CREATE TABLE turnover (receipt_no text PRIMARY KEY, amount numeric)'
const LINE = { item: 'tea', quantity: '1', amount: '2.50' }

type Handle = (changes: readonly Change[], context: HandlerContext) => unknown

/** A head office whose receipts go through the mirror, a handler that can be exchanged, and the ledger. */
async function open(t: Test, { timeoutMs = 60_000, isolation = 'read committed', max = 10 } = {}) {
  const pool = await createPool(t, server, { max })
  await pool.query(`${CENTRAL_SCHEMA}; ${TURNOVER}`)
  const { rows } = await pool.query('SELECT current_database() AS name')
  await pool.query(`ALTER DATABASE "${rows[0].name}" SET default_transaction_isolation = '${isolation}'`)
  const now: { handle: Handle } = { handle: () => undefined }
  const handler = ((changes, context) => now.handle(changes, context)) as HostHandler
  const subscribe: SubscribeRules<AnyTables> = {
    receipts: [mirror({ origin: ['location', 'register'] }), handler, stockMovements(movementsAt('BA01'))],
    pos_processes: mirror({ origin: ['location', 'register'] }),
  }
  const shop = await openShop(t, server, { pool, subscribe, handlerTimeoutMs: timeoutMs })
  const till = await shop.addTill('POS1')
  return { shop, till, pool, now }
}

const book: Handle = async (changes, { trx }) => {
  for (const { document } of changes)
    if (document !== undefined)
      await trx
        .insertInto('turnover')
        .values({ receipt_no: document.receipt_no, amount: document.net_amount })
        .onConflict((on) => on.column('receipt_no').doUpdateSet({ amount: document.net_amount }))
        .execute()
}

t.test("the host's own handler gets all documents of a batch at once, in its transaction, behind the mirror", async (t) => {
  const { till, pool, now } = await open(t, { isolation: 'repeatable read' })
  const calls: (readonly Change[])[] = []
  now.handle = async (changes, context) => {
    calls.push(changes)
    t.match(context.origin, { location: 'BA01', register: 'POS1', epoch: String })
    const { rows } = await sql`SELECT current_setting('transaction_isolation') AS isolation, count(*)::integer AS n FROM receipt_lines`.execute(
      context.trx,
    )
    t.match(rows, [{ isolation: 'read committed' }])
    await book(changes, context)
  }
  const id = till.cashier.sell('R-1', [LINE, LINE])
  till.cashier.sell('R-2', [LINE])
  await till.deliver()
  t.equal(calls.length, 1)
  t.match(calls[0], [
    {
      table: 'receipts',
      operation: 'upsert',
      recordId: [id],
      incarnation: 1,
      entryNo: Number,
      baseline: undefined,
      document: { receipt_no: 'R-1', parts: { receipt_lines: { length: 2 } } },
    },
    { document: { receipt_no: 'R-2' } },
  ])
  t.same((await pool.query('SELECT receipt_no, amount::text FROM turnover ORDER BY 1')).rows, [
    { receipt_no: 'R-1', amount: '5' },
    { receipt_no: 'R-2', amount: '2.5' },
  ])
  till.db.exec(
    `DELETE FROM receipt_lines WHERE receipt_id = ${id}; DELETE FROM tender_lines WHERE receipt_id = ${id}; DELETE FROM receipts WHERE id = ${id}`,
  )
  await till.deliver()
  t.match(calls[1], [{ operation: 'remove', recordId: [id], document: undefined }])
  await till.replica.export('receipts', { receipt_no: 'R-2' })
  await till.deliver()
  t.match(calls[2], [{ operation: 'upsert', document: { receipt_no: 'R-2' } }])
})

t.test('what a handler does to its documents reaches nobody else', async (t) => {
  const { till, shop, now } = await open(t)
  now.handle = (changes) => {
    for (const { document } of changes) for (const line of document?.parts.receipt_lines ?? []) (line as { quantity: string }).quantity = '1000'
  }
  till.cashier.sell('R-1', [LINE])
  await till.deliver()
  t.equal(await shop.stock('tea'), -1)
})

const FAILING: Readonly<Record<string, { readonly handle: Handle; readonly message: RegExp }>> = {
  'it throws': {
    handle: async (changes, context) => {
      await book(changes, context)
      throw new Error('secret')
    },
    message: /the handler of `receipts` failed/,
  },
  'it throws at once': {
    handle: () => {
      throw new Error('secret')
    },
    message: /the handler of `receipts` failed/,
  },
  'it throws what is no error': {
    handle: () => Promise.reject('secret'),
    message: /the handler of `receipts` failed/,
  },
  'it returns a list': { handle: async () => [], message: /returned a list/ },
  'it returns a statement that nobody executed': { handle: (_, { trx }) => trx.deleteFrom('turnover'), message: /returned object/ },
  'its statement is wrong': { handle: (_, { trx }) => sql`SELECT nonsense`.execute(trx), message: /nonsense/ },
  'it swallows the error of a statement': {
    handle: async (changes, context) => {
      await book(changes, context)
      await sql`SELECT nonsense`.execute(context.trx).catch(() => undefined)
    },
    message: /a statement of the handler failed/i,
  },
  'it swallows that every statement fails': {
    handle: async (_, { trx }) => {
      for (let n = 0; n < 3; n++) await sql`SELECT 1 / 0`.execute(trx).catch(() => undefined)
    },
    message: /a statement of the handler failed/i,
  },
  'it commits': { handle: (_, { trx }) => sql`COMMIT`.execute(trx), message: /neither begin nor end/ },
  'it commits behind comments': { handle: (_, { trx }) => sql.raw('/* a /* b */ */ -- c\n ;commit').execute(trx), message: /neither begin nor end/ },
  'it commits behind another statement': { handle: (_, { trx }) => sql.raw('SELECT 1; COMMIT').execute(trx), message: /multiple commands/ },
  'it rolls back': { handle: (_, { trx }) => sql`ROLLBACK`.execute(trx), message: /neither begin nor end/ },
  'it rolls back in a block': { handle: (_, { trx }) => sql`DO $$ BEGIN COMMIT; END $$`.execute(trx), message: /invalid transaction termination/ },
  'it begins another one': { handle: (_, { trx }) => trx.transaction().execute(async () => undefined), message: /inside the transaction/ },
  'it changes the isolation': {
    handle: (_, { trx }) => sql`SET TRANSACTION ISOLATION LEVEL SERIALIZABLE`.execute(trx),
    message: /must be called before any query/,
  },
  'it changes the session': { handle: (_, { trx }) => sql`SET TimeZone = 'Asia/Tokyo'`.execute(trx), message: /neither begin nor end/ },
  'it takes away the savepoint': {
    handle: (_, { trx }) => sql`RELEASE SAVEPOINT sync_handler`.execute(trx).then(() => undefined),
    message: /ended the transaction/,
  },
  'it breaks a constraint that waits for the commit': {
    handle: async (_, { trx }) => {
      await sql`INSERT INTO pairs VALUES (1, 2)`.execute(trx)
    },
    message: /pairs_other_fkey/,
  },
}

for (const [what, { handle, message }] of Object.entries(FAILING)) {
  t.test(`a handler fails: ${what}; nothing of it is done, the pool is as it was, and what is mended goes on`, async (t) => {
    const { till, shop, pool, now } = await open(t, { max: 2 })
    await pool.query('CREATE TABLE pairs (id bigint PRIMARY KEY, other bigint REFERENCES pairs DEFERRABLE INITIALLY DEFERRED)')
    now.handle = handle
    till.cashier.sell('R-1', [LINE])
    const error = await till.deliver().then(
      () => undefined,
      (error) => error,
    )
    t.match(error?.message, message)
    t.match(error?.code, /^ERR_(HANDLER|REFERENCE)$/)
    t.notMatch(JSON.stringify(await till.replica.status()), /secret/, 'the till hears nothing of a handler')
    for (const table of ['turnover', 'receipts', 'receipt_lines', 'stock_movements', 'pairs'])
      t.same((await pool.query(`SELECT * FROM ${table}`)).rows, [], table)
    for (let n = 0; n < 2; n++) t.same((await pool.query("SELECT current_setting('TimeZone') AS zone")).rows, [{ zone: await zoneOf(pool) }])
    now.handle = book
    await till.deliver()
    t.equal(await shop.stock('tea'), -1)
    t.equal((await pool.query('SELECT * FROM turnover')).rowCount, 1)
  })
}

async function zoneOf(pool: { query(sql: string): Promise<{ rows: { zone: string }[] }> }): Promise<string> {
  return (await pool.query("SELECT reset_val AS zone FROM pg_settings WHERE name = 'TimeZone'")).rows[0]?.zone ?? ''
}

t.test('a handler may try what can fail between savepoints, and set what holds for its own statements', async (t) => {
  const { till, shop, pool, now } = await open(t)
  now.handle = async (changes, context) => {
    const { trx } = context
    await sql`SET LOCAL TimeZone = 'Asia/Tokyo'`.execute(trx)
    await sql`SET LOCAL DateStyle = 'German'`.execute(trx)
    await sql`SAVEPOINT mine`.execute(trx)
    await sql`SELECT 1 / 0`.execute(trx).catch(() => undefined)
    await sql`ROLLBACK TO SAVEPOINT mine`.execute(trx)
    await book(changes, context)
  }
  till.cashier.sell('R-1', [LINE])
  till.db.exec("INSERT INTO pos_processes VALUES (1, '2026-11-21 10:00')")
  await till.deliver()
  t.equal((await pool.query('SELECT * FROM turnover')).rowCount, 1)
  t.equal(await shop.stock('tea'), -1)
  const { rows } = await pool.query("SELECT opened_at AT TIME ZONE 'UTC' = '2026-11-21 10:00' AS right FROM pos_processes")
  t.same(rows, [{ right: true }], 'the mirror writes under its own settings, before and behind')
})

t.test('what a handler sets for its own statements is as it was for the next one, and for what the library writes behind it', async (t) => {
  const names = [
    'role',
    'search_path',
    'session_replication_role',
    'statement_timeout',
    'lock_timeout',
    'idle_in_transaction_session_timeout',
    'row_security',
  ]
  const others = ['pg_monitor', 'pg_catalog', 'replica', '7s', '7s', '7s', 'off']
  const seen: unknown[] = []
  let isSetting = false
  const first: HostHandler = async (_, { trx }) => {
    for (const [n, name] of names.entries()) if (isSetting && name !== 'role') await sql`SELECT set_config(${name}, ${others[n]}, true)`.execute(trx)
    if (isSetting) await sql`SELECT set_config('role', 'pg_monitor', true)`.execute(trx)
  }
  const second: HostHandler = async (_, { trx }) => {
    seen.push((await sql<object>`SELECT name, current_setting(name) AS value FROM unnest(${names}::text[]) AS s(name)`.execute(trx)).rows)
  }
  const shop = await openShop(t, server, { subscribe: { receipts: [first, second, stockMovements(movementsAt('BA01'))] } })
  const till = await shop.addTill()
  for (const is of [false, true]) {
    isSetting = is
    till.cashier.sell(`R-${is}`, [LINE])
    await till.deliver()
  }
  t.equal(seen.length, 2)
  t.same(seen[1], seen[0])
  t.equal(await shop.stock('tea'), -2)
})

for (const [what, hang] of Object.entries<Handle>({
  'waits for ever': () => new Promise(() => undefined),
  'waits for a statement without end': (_, { trx }) => sql`SELECT pg_sleep(600)`.execute(trx),
  'waits and swallows': async (_, { trx }) => {
    for (let n = 0; n < 100; n++) await sql`SELECT pg_sleep(600)`.execute(trx).catch(() => pause(50))
  },
})) {
  t.test(`a handler that ${what} is broken off, holds no lane, no connection and no lock, and the others go on`, async (t) => {
    const { till, shop, pool, now } = await open(t, { timeoutMs: 1_000, max: 2 })
    const other = await shop.addTill('POS2')
    now.handle = (changes, context) => (context.origin.register === 'POS1' ? hang(changes, context) : undefined)
    till.cashier.sell('R-1', [LINE])
    other.cashier.sell('R-2', [LINE])
    const began = Date.now()
    await Promise.all([t.rejects(till.deliver(), { code: 'ERR_TIMEOUT' }), t.resolves(other.deliver())])
    t.ok(Date.now() - began < 60_000, 'long before its statement would end')
    t.same((await pool.query("SELECT state FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'")).rows, [])
    now.handle = book
    await till.deliver()
    t.equal(await shop.stock('tea'), -2)
    t.equal((await pool.query('SELECT * FROM turnover')).rowCount, 1)
  })
}

t.test('a handler that waits for a lock of somebody else sends nothing to quarantine, and is done when the lock is gone', async (t) => {
  const { till, shop, pool, now } = await open(t, { timeoutMs: 300 })
  const blocker = await pool.connect()
  await blocker.query('BEGIN; LOCK TABLE turnover IN SHARE MODE')
  now.handle = async (changes, context) => {
    await sql`LOCK TABLE turnover`.execute(context.trx)
    await book(changes, context)
  }
  till.cashier.sell('R-1', [LINE])
  const synchronized = till.replica.synchronize()
  setTimeout(() => blocker.query('COMMIT').then(() => blocker.release()), 1_000)
  t.match(await synchronized, { quarantined: 0 })
  t.equal(await shop.stock('tea'), -1)
  t.equal((await pool.query('SELECT * FROM turnover')).rowCount, 1)
})

t.test('a connection that breaks off behind a handler is not its doing: the batch is tried again, a replay goes on', async (t) => {
  const { shop, till, pool, now } = await open(t)
  let breaks = true
  now.handle = async (changes, context) => {
    await book(changes, context)
    if (!breaks) return
    breaks = false
    const { rows } = await sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`.execute(context.trx)
    await pool.query('SELECT pg_terminate_backend($1, 5000)', [rows[0]?.pid])
  }
  till.cashier.sell('R-1', [LINE])
  await t.rejects(till.replica.synchronize(), { code: 'ERR_DATABASE', retryable: true })
  t.match(await till.replica.synchronize(), { quarantined: 0 })
  breaks = true
  t.match(await shop.central.replay({ table: 'receipts' }), { documents: 1, postings: 0, quarantined: 0 })
  t.notOk(breaks)
  t.equal(await shop.stock('tea'), -1)
})

t.test("what a handler leaves no place for in the library's tables is not acknowledged", async (t) => {
  const { shop, till, pool, now } = await open(t)
  now.handle = async (_, { trx }) => void (await sql`DELETE FROM sync_registers`.execute(trx))
  till.cashier.sell('R-1', [LINE])
  await t.rejects(till.replica.synchronize(), { code: 'ERR_HANDLER', message: /row/ })
  t.ok((await till.replica.status()).pending > 0)
  t.equal((await pool.query('SELECT 1 FROM sync_registers')).rowCount, 1)
  now.handle = book
  t.match(await till.replica.synchronize(), { quarantined: 0 })
  t.equal(await shop.stock('tea'), -1)
})

t.test('a handler that goes on when it has ended is refused, and harms nothing', async (t) => {
  const { till, shop, pool, now } = await open(t)
  const kept: HandlerContext[] = []
  now.handle = async (changes, context) => {
    kept.push(context)
    await book(changes, context)
  }
  till.cashier.sell('R-1', [LINE])
  await till.deliver()
  const [context] = kept as [HandlerContext]
  await t.rejects(sql`DELETE FROM turnover`.execute(context.trx), { code: 'ERR_HANDLER', message: /not its own/ })
  t.throws(() => context.once('a', () => undefined), { code: 'ERR_HANDLER' })
  const late: Promise<unknown>[] = []
  now.handle = (_, { trx }) => {
    late.push(
      pause(5).then(() => sql`DELETE FROM turnover`.execute(trx)),
      pause(50).then(() => sql`DELETE FROM turnover`.execute(trx)),
    )
    for (const one of late) one.catch(() => undefined)
  }
  till.cashier.sell('R-2', [LINE])
  await till.deliver()
  for (const one of late) await t.rejects(one, { code: 'ERR_HANDLER' })
  t.equal((await pool.query('SELECT * FROM turnover')).rowCount, 1)
  t.equal(await shop.stock('tea'), -2)
})

t.test('what is no handler is refused', async (t) => {
  const pool = await createPool(t, server)
  for (const bad of ['x', 5, {}, null, [5], [null]])
    await t.rejects(openShop(t, server, { pool, subscribe: { receipts: bad as never } }), { code: 'ERR_OPTION' })
  await t.rejects(openShop(t, server, { pool, subscribe: {}, handlerTimeoutMs: 0 }), { code: 'ERR_OPTION' })
})
