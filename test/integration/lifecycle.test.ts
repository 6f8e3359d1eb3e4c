import { once } from 'node:events'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister, type RegisterEvents } from '../../src/index.ts'
import type { CapturingDatabase } from '../../src/ports.ts'

const SCHEMA = 'CREATE TABLE receipts (id INTEGER PRIMARY KEY, status TEXT)'

function register(database: CapturingDatabase) {
  return createRegister({ location: 'A', register: '1', database, publish: { receipts: {} } })
}

function file(t: Test): { path: string; db: InstanceType<typeof Database> } {
  const path = join(t.testdir(), 'till.sqlite')
  const db = new Database(path)
  db.pragma('journal_mode = WAL')
  db.exec(SCHEMA)
  return { path, db }
}

function next<K extends keyof RegisterEvents>(till: ReturnType<typeof register>, event: K): Promise<RegisterEvents[K]> {
  return new Promise((resolve) => {
    const end = till.on(event, (detail) => {
      end()
      resolve(detail)
    })
  })
}

t.test('start() without install() says so, and ends nobody who does not wait for it', async (t) => {
  const { path } = file(t)
  const till = register(sqlite(() => new Database(path)))
  const failed = next(till, 'failed')
  void till.start()
  t.match(await failed, { error: { code: 'ERR_NOT_INSTALLED' } })
  await t.rejects(till.start(), { code: 'ERR_NOT_INSTALLED', hint: /install/ })
  await till.stop()
})

t.test('what another connection commits is sealed soon, while it runs and no longer', async (t) => {
  const { path, db } = file(t)
  const till = register(sqlite(() => new Database(path)))
  await till.install()
  await till.start()
  await till.start()
  const sealed = next(till, 'sealed')
  db.exec(`INSERT INTO receipts VALUES (1, 'posted')`)
  t.match(await sealed, { documents: 1, entries: 1, through: 1 })
  await till.stop()
  await till.stop()
  db.exec(`INSERT INTO receipts VALUES (2, 'posted')`)
  t.match(await till.status(), { unsealed: 1 })
  const again = next(till, 'sealed')
  await till.start()
  t.match(await again, { through: 2 }, 'what was touched while it slept')
  await till.stop()
})

t.test("a shared connection is used only outside the host's transactions, and is left open", async (t) => {
  const db = new Database(':memory:')
  db.exec(SCHEMA)
  const till = register(sqlite(db))
  await till.install()
  await till.start()
  db.exec(`BEGIN; INSERT INTO receipts VALUES (1, 'posted')`)
  const sealing = till.seal()
  let done = false
  void sealing.then(() => {
    done = true
  })
  await new Promise((resolve) => setTimeout(resolve, 60))
  t.notOk(done, 'it waits')
  t.ok(db.inTransaction, 'and does not end what is not its own')
  db.exec('COMMIT')
  const iterator = db.prepare('SELECT 1 UNION SELECT 2').iterate()
  iterator.next()
  await new Promise((resolve) => setTimeout(resolve, 30))
  iterator.return?.()
  await sealing
  t.match(await till.entries(), [{ recordId: [1] }])
  await till.stop()
  t.ok(db.open)
})

t.test('a temporary table that hides a published one on a shared connection is an error, never deletions', async (t) => {
  const db = new Database(':memory:')
  db.exec(SCHEMA)
  const till = register(sqlite(db))
  t.teardown(() => till.stop())
  await till.install()
  db.exec(`INSERT INTO receipts VALUES (1, 'posted')`)
  await till.seal()
  for (const temporary of [
    'TABLE Receipts (id INTEGER PRIMARY KEY, status TEXT)',
    'VIEW receipts AS SELECT id, status FROM main.receipts WHERE id > 7',
  ]) {
    db.exec(`CREATE TEMP ${temporary}`)
    db.exec(`UPDATE main.receipts SET status = status || '!'`)
    await t.rejects(till.seal(), { code: 'ERR_CONNECTION', context: { table: 'receipts' } }, temporary)
    t.match(await till.status(), { unsealed: 1 })
    db.exec(`DROP ${temporary.split(' ', 2).join(' ')}`)
    t.match(await till.seal(), { documents: 1 })
  }
  db.exec('CREATE TEMP TABLE report AS SELECT * FROM receipts; DELETE FROM receipts')
  t.match(await till.seal(), { documents: 1 }, 'others are in nobodys way')
  t.same(
    (await till.entries()).map(({ operation, record }) => record?.status ?? operation),
    ['posted', 'posted!', 'posted!!', 'remove'],
  )
})

t.test('the library never writes while the named host connection has a transaction open', async (t) => {
  const { path, db } = file(t)
  const till = register(sqlite(() => new Database(path), { host: db }))
  await till.install()
  await till.start()
  db.exec(`INSERT INTO receipts VALUES (1, 'posted')`)
  db.exec('BEGIN')
  db.prepare('SELECT * FROM receipts').all()
  await new Promise((resolve) => setTimeout(resolve, 80))
  t.doesNotThrow(() => db.exec(`INSERT INTO receipts VALUES (2, 'posted'); COMMIT`), 'no SQLITE_BUSY_SNAPSHOT')
  await till.seal()
  t.equal((await till.entries()).length, 2)
  await till.stop()
})

t.test('a listener that throws harms nobody, be it async', async (t) => {
  const { path, db } = file(t)
  const till = register(sqlite(() => new Database(path)))
  await till.install()
  const throws = () => {
    throw new Error('of the host')
  }
  for (const [id, listener] of [throws, async () => throws()].entries()) {
    const off = till.on('sealed', listener)
    const failed = next(till, 'failed')
    db.exec(`INSERT INTO receipts VALUES (${id}, 'posted')`)
    t.same(await till.seal(), { documents: 1, entries: 1 })
    t.match(await failed, { error: { code: 'ERR_LISTENER' } })
    off()
  }
  till.on('sealed', throws)
  till.on('failed', async () => throws())
  const warned = once(process, 'warning')
  db.exec(`INSERT INTO receipts VALUES (7, 'posted')`)
  t.same(await till.seal(), { documents: 1, entries: 1 })
  t.match(await warned, [{ code: 'ERR_LISTENER' }], 'and where nobody hears of it')
  await till.stop()
})
