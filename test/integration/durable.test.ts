import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { syncLog } from '../../src/adapters/sqlite/sync.ts'
import { createRegister, type Link, TillsyncError } from '../../src/index.ts'
import { createPool, startServer } from '../support/postgres.ts'

const server = await startServer(t)

t.test('nothing is said to central that a crash of PostgreSQL could still undo', async (t) => {
  const pool = await createPool(t, server)
  // By itself the server writes its log out so seldom that what nobody waits for stays in memory.
  await pool.query("ALTER SYSTEM SET wal_writer_delay = '10s'")
  await pool.query('SELECT pg_reload_conf()')
  await pool.query('CREATE TABLE receipts (id int PRIMARY KEY, total int)')
  const behind: number[] = []
  const link: Link = {
    async exchange() {
      const { rows } = await pool.query('SELECT (pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn())::int AS behind')
      behind.push(rows[0].behind)
      throw new TillsyncError('ERR_LINK', 'Nobody there', { retryable: true })
    },
  }
  const transfer = { type: 'push', link } as const
  const till = createRegister({ location: 'BA01', register: 'POS1', database: postgres(pool), publish: { receipts: {} }, transfer })
  await till.install()
  for (let round = 1; round <= 5; round++) {
    await pool.query(`INSERT INTO receipts SELECT n, n FROM generate_series(${round * 1_000}, ${round * 1_000} + 99) AS n`)
    t.equal((await till.seal()).entries, 100)
    await t.rejects(till.synchronize(), { code: 'ERR_LINK' })
  }
  t.equal(behind.length, 5)
  t.ok(Math.max(...behind) < 1_000, `the log on the disk is ${behind.join(', ')} bytes behind`)
  await till.stop()
})

t.test('what another process has sealed and left is flushed too', async (t) => {
  const pool = await createPool(t, server)
  await pool.query('CREATE TABLE receipts (id int PRIMARY KEY, total int)')
  const behind: number[] = []
  const link: Link = {
    async exchange() {
      behind.push((await pool.query('SELECT (pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn())::int AS behind')).rows[0].behind)
      throw new TillsyncError('ERR_LINK', 'Nobody there', { retryable: true })
    },
  }
  const create = () =>
    createRegister({
      location: 'BA01',
      register: 'POS1',
      database: postgres(pool),
      publish: { receipts: {} },
      transfer: { type: 'push', link },
    })
  const [first, second] = [create(), create()]
  await first.install()
  await t.rejects(second.synchronize(), { code: 'ERR_LINK' }) // from here on it has nothing of its own to flush
  await pool.query('INSERT INTO receipts SELECT n, n FROM generate_series(1, 99) AS n')
  t.equal((await first.seal()).entries, 99)
  await t.rejects(second.synchronize(), { code: 'ERR_LINK' })
  t.ok(Math.max(...behind) < 1_000, `the log on the disk is ${behind.join(', ')} bytes behind`)
  await Promise.all([first.stop(), second.stop()])
})

t.test('the log of an SQLite database is flushed where there is one', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tillsync-durable-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const db = new Database(join(folder, 'till.sqlite'))
  db.exec('CREATE TABLE receipts (id INTEGER PRIMARY KEY)')
  t.equal(await syncLog(db.name), false, 'a rollback journal is flushed by each commit')
  db.pragma('journal_mode = WAL')
  db.exec('INSERT INTO receipts VALUES (1)')
  t.equal(await syncLog(db.name), true)
  db.close()
})
