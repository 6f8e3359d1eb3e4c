import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, fstatSync, ftruncateSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister, type Register } from '../../src/index.ts'
import { isDocumented } from '../support/documented.ts'
import { eventually } from '../support/eventually.ts'
import { openDatabase } from '../support/shop.ts'
import { tinyDisk } from '../support/tiny-disk.ts'
import { contentsOf, HOST_PUBLISH, HOST_STATEMENTS, HOST_TABLES, outcomeOf } from '../support/twin.ts'

type Connection = Database.Database

interface Twins {
  readonly file: string
  /** The host's connection. */
  readonly db: Connection
  /** The same tables without us. */
  readonly twin: Connection
  readonly twinFile: string
  readonly replica: Register
  /** The connection that the library opened last. */
  own(): Connection
}

async function twins(t: Test, prepare: (own: Connection) => void = () => undefined): Promise<Twins> {
  const [{ file, db }, bare] = [openDatabase(t, HOST_TABLES), openDatabase(t, HOST_TABLES)]
  for (const one of [db, bare.db]) one.pragma('foreign_keys = ON')
  let own: Connection | undefined
  const database = sqlite(() => {
    own = new Database(file)
    prepare(own)
    return own
  })
  const replica = createRegister({ location: 'A', register: '1', database, publish: HOST_PUBLISH })
  t.teardown(() => replica.stop())
  await replica.install()
  await replica.seal()
  return { file, db, twin: bare.db, twinFile: bare.file, replica, own: () => own as Connection }
}

/** The host does all that it does, on both; the same comes of it. */
function sell(t: Test, { db, twin }: Pick<Twins, 'db' | 'twin'>): void {
  const outcomes = (one: Connection) => Object.values(HOST_STATEMENTS).flatMap((all) => all.map((sql) => [sql, outcomeOf(one, sql)]))
  t.same(outcomes(db), outcomes(twin))
  t.same(contentsOf(db), contentsOf(twin))
}

/** Every receipt that stands there was given, nothing else, and nothing waits. */
async function isSealed(t: Test, { db, replica }: Pick<Twins, 'db' | 'replica'>): Promise<void> {
  t.match(await replica.status(), { unsealed: 0, parked: [], lastError: undefined })
  const ids = db.prepare('SELECT id FROM receipts').pluck().all()
  const given = db.prepare('SELECT record_id FROM sync_members').pluck().all()
  t.same(given.sort(), ids.map((id) => `[${id}]`).sort())
  t.same(await replica.reseal('receipts'), { documents: 0, entries: 0 }, 'nothing is missing')
}

/** Sells until there is no room: how many sales went through, and whether the failing one left its transaction open. */
function sellUntilFull(db: Connection): { readonly sold: number; readonly code: unknown; readonly open: boolean } {
  const receipt = db.prepare('INSERT INTO receipts (receipt_no, total) VALUES (?, 1)')
  const line = db.prepare('INSERT INTO receipt_lines (receipt_id, line_no, item_no) VALUES (?, ?, ?)')
  for (let sold = 0; ; sold++) {
    try {
      db.exec('BEGIN')
      const { lastInsertRowid } = receipt.run(`F-${sold}`)
      for (let n = 1; n <= 3; n++) line.run(lastInsertRowid, n, `item ${n}`)
      db.exec('COMMIT')
    } catch (error) {
      const open = db.inTransaction
      if (open) db.exec('ROLLBACK')
      return { sold, code: (error as { code?: string }).code, open }
    }
  }
}

t.test('the host has no room: a sale fails as it does without us, a little sooner; with room all goes on', async (t) => {
  const till = await twins(t)
  const [own, bare] = [till.db, till.twin].map((db) => {
    db.pragma(`max_page_count = ${(db.pragma('page_count', { simple: true }) as number) + 60}`)
    return sellUntilFull(db)
  })
  t.match([own, bare], [{ code: 'SQLITE_FULL' }, { code: 'SQLITE_FULL' }])
  if (own?.open !== bare?.open) isDocumented(t, 'leaves the transaction open, as for every table with triggers')
  t.ok(Number(own?.sold) > Number(bare?.sold) / 2, `${own?.sold} sales, ${bare?.sold} without us`)
  t.equal(till.db.pragma('integrity_check', { simple: true }), 'ok')
  await till.replica.seal() // the library's connection has no such limit
  await isSealed(t, till)
  for (const db of [till.db, till.twin]) {
    db.pragma('max_page_count = 1000000')
    db.exec(`DELETE FROM receipts WHERE receipt_no LIKE 'F-%'`)
  }
  sell(t, till)
  await till.replica.seal()
  await isSealed(t, till)
})

t.test('the library has no room: sales go on, sealing says so, and does it by itself when there is room', async (t) => {
  const till = await twins(t)
  const limit = (pages: number) => till.own().pragma(`max_page_count = ${pages}`)
  limit(till.db.pragma('page_count', { simple: true }) as number)
  sell(t, till)
  for (let n = 0; n < 2_000; n++) till.db.prepare('INSERT INTO receipts (receipt_no) VALUES (?)').run(`many ${n}`)
  const unsealed = till.db.prepare('SELECT count(*) FROM sync_touches').pluck().get()
  await t.rejects(till.replica.seal(), { code: 'ERR_DATABASE', retryable: true, context: { sqlite: 'SQLITE_FULL' }, hint: /full/ })
  await till.replica.start()
  await eventually('it says so', async () => (await till.replica.status()).lastError?.retryable)
  t.ok((till.db.prepare('SELECT count(*) FROM sync_touches').pluck().get() as number) > 0, `of ${unsealed} touches some wait`)
  limit(1_000_000)
  await eventually('all is sealed', async () => (await till.replica.status()).unsealed === 0)
  await isSealed(t, till)
})

t.test('a disk that is full: sales fail as without us, and when there is room again nothing is missing', async (t) => {
  const disks = [await tinyDisk(t, 2_000_000), await tinyDisk(t, 2_000_000)] as const
  if (disks[0] === undefined || disks[1] === undefined) return
  const [db, twin] = disks.map((disk) => {
    const one = new Database(join(disk as string, 'till.sqlite'))
    one.pragma('journal_mode = WAL')
    one.exec(HOST_TABLES)
    one.pragma('foreign_keys = ON')
    return one
  }) as [Connection, Connection]
  const replica = createRegister({
    location: 'A',
    register: '1',
    database: sqlite(() => new Database(join(disks[0] as string, 'till.sqlite'))),
    publish: HOST_PUBLISH,
  })
  const till = { db, twin, replica }
  t.teardown(async () => {
    await replica.stop()
    db.close()
    twin.close()
  })
  await replica.install()
  await replica.seal()
  const ballast = disks.map((disk) => join(disk as string, 'ballast'))
  for (const file of ballast) fill(file, 300_000)
  const [own, bare] = [sellUntilFull(db), sellUntilFull(twin)]
  t.match(own.code, /^SQLITE_(FULL|IOERR)/)
  t.match(bare.code, /^SQLITE_(FULL|IOERR)/)
  t.comment(`${own.sold} sales, ${bare.sold} without us`)
  db.exec('BEGIN; ROLLBACK')
  t.equal(db.pragma('integrity_check', { simple: true }), 'ok')
  await t.rejects(replica.seal(), { code: 'ERR_DATABASE', retryable: true })
  await replica.start()
  await eventually('it says so', async () => (await replica.status()).lastError?.retryable)
  for (const file of ballast) rmSync(file)
  for (const one of [db, twin]) one.exec(`DELETE FROM receipts WHERE receipt_no LIKE 'F-%'`)
  sell(t, till)
  await eventually('all is sealed', async () => (await replica.status()).unsealed === 0)
  await isSealed(t, till)
})

/** Fills a disk but for so many bytes. */
function fill(file: string, room: number): void {
  const descriptor = openSync(file, 'w')
  try {
    for (;;) writeSync(descriptor, Buffer.alloc(4_096))
  } catch {
    ftruncateSync(descriptor, fstatSync(descriptor).size - room)
  }
  closeSync(descriptor)
}

/** Another process that holds the write lock of these files; a line on its input ends it. */
async function holdLocks(t: Test, files: readonly string[]): Promise<ChildProcess> {
  const script = `const Database = require('better-sqlite3')
    const all = ${JSON.stringify(files)}.map((file) => new Database(file))
    for (const db of all) db.exec('BEGIN IMMEDIATE; CREATE TABLE IF NOT EXISTS held (x); DROP TABLE held')
    process.stdout.write('held')
    process.stdin.once('data', () => { for (const db of all) db.exec('ROLLBACK'); process.exit() })`
  const child = spawn(process.execPath, ['-e', script], { stdio: ['pipe', 'pipe', 'inherit'], cwd: import.meta.dirname })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout as NodeJS.ReadableStream, 'data')
  return child
}

t.test('a database that another process locks for seconds: the host waits as without us, the library without blocking anybody', async (t) => {
  const till = await twins(t)
  till.db.exec(`INSERT INTO receipts (receipt_no) VALUES ('before')`)
  till.twin.exec(`INSERT INTO receipts (receipt_no) VALUES ('before')`)
  const holder = await holdLocks(t, [till.file, till.twinFile])
  for (const db of [till.db, till.twin]) db.pragma('busy_timeout = 0')
  sell(t, till) // every statement that writes is SQLITE_BUSY on both, and every other is not
  let longest = 0
  let before = performance.now()
  const ticking = setInterval(() => {
    longest = Math.max(longest, performance.now() - before)
    before = performance.now()
  }, 5)
  const sealing = till.replica.seal()
  await new Promise((resolve) => setTimeout(resolve, 1_500)) // the lock is held for so long
  holder.stdin?.write('\n')
  await once(holder, 'exit')
  t.same(await sealing, { documents: 1, entries: 1 })
  clearInterval(ticking)
  t.ok(longest < 500, `the event loop was never held up for longer than ${longest.toFixed(0)} ms`)
  sell(t, till)
  await till.replica.seal()
  await isSealed(t, till)
})

t.test("the library's connection is closed under it: sales go on, sealing says so, and a start opens another one", async (t) => {
  const till = await twins(t)
  await till.replica.start()
  till.own().close()
  sell(t, till)
  await eventually('it says so', () =>
    till.replica.seal().then(
      () => undefined,
      (error) => error.code === 'ERR_DATABASE',
    ),
  )
  await till.replica.stop()
  await till.replica.start()
  await eventually('all is sealed', async () => (await till.replica.status()).unsealed === 0)
  await isSealed(t, till)
})

t.test('a library that may not write: sales go on, sealing says so', async (t) => {
  const till = await twins(t)
  till.own().pragma('query_only = ON')
  sell(t, till)
  await t.rejects(till.replica.seal(), { code: 'ERR_DATABASE', context: { sqlite: 'SQLITE_READONLY' } })
  till.own().pragma('query_only = OFF')
  await till.replica.seal()
  await isSealed(t, till)
})

for (const table of ['sync_entries', 'sync_members', 'sync_touches']) {
  const fails = table === 'sync_touches'
  t.test(`damaged pages of ${table}: sales ${fails ? 'fail as documented' : 'go on'}, and sealing says so`, async (t) => {
    const { file, db, twin, replica } = await twins(t)
    await replica.stop()
    db.pragma('wal_checkpoint(TRUNCATE)')
    const page = db.prepare('SELECT rootpage FROM sqlite_schema WHERE name = ?').pluck().get(table) as number
    const size = db.pragma('page_size', { simple: true }) as number
    db.close()
    const descriptor = openSync(file, 'r+')
    writeSync(descriptor, Buffer.alloc(size, 0xff), 0, size, (page - 1) * size)
    const damaged = new Database(file)
    t.teardown(() => damaged.close())
    damaged.pragma('foreign_keys = ON')
    if (fails) t.match(outcomeOf(damaged, `INSERT INTO receipts (receipt_no) VALUES ('R-10')`), { code: 'SQLITE_CORRUPT' })
    else sell(t, { db: damaged, twin })
    await t.rejects(replica.seal(), { code: 'ERR_DATABASE', context: { sqlite: 'SQLITE_CORRUPT' } })
  })
}
