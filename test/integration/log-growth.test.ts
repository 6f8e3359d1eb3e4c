import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { LogGrowth, logOf } from '../../src/adapters/sqlite/log-growth.ts'
import { createRegister } from '../../src/index.ts'

/** Where SQLite's automatic checkpoint comes in whose commit it will. */
const AUTOMATIC = 1_000

function open(t: Test, pageSize = 4_096) {
  const folder = mkdtempSync(join(tmpdir(), 'tillsync-'))
  const file = join(folder, 'till.sqlite')
  const db = new Database(file)
  t.teardown(() => {
    db.close()
    rmSync(folder, { recursive: true })
  })
  db.pragma(`page_size = ${pageSize}`)
  db.pragma('journal_mode = WAL')
  return { file, db }
}

t.test('the frames of the log are counted as SQLite counts them', async (t) => {
  for (const pageSize of [512, 4_096, 65_536]) {
    const { file, db } = open(t, pageSize)
    t.equal(logOf(file)?.frames ?? 0, 0, 'nothing was written yet')
    db.exec('CREATE TABLE texts (text)')
    for (let round = 0; round < 12; round++) {
      // More, then less: what stands behind the end of the log is of before.
      const rows = [40, 3, 90, 1][round % 4] as number
      for (let row = 0; row < rows; row++) db.prepare('INSERT INTO texts VALUES (?)').run('x'.repeat((row * 97) % 3_000))
      const counted = logOf(file)?.frames
      const [{ log } = { log: -1 }] = db.pragma('wal_checkpoint(PASSIVE)') as { log: number }[]
      t.equal(counted, log, `${pageSize}: round ${round}`)
    }
    t.ok((logOf(file)?.frames ?? 0) > 0)
  }
  t.equal(logOf(join(tmpdir(), 'no', 'such.sqlite')), undefined)
})

t.test('a log that was begun anew and has grown beyond where it was counts from its beginning', async (t) => {
  const { file, db } = open(t)
  db.pragma('wal_autocheckpoint = 0')
  db.exec('CREATE TABLE texts (text)')
  const growth = new LogGrowth()
  const writeTo = (frames: number) => {
    while ((logOf(file)?.frames ?? 0) < frames) db.prepare('INSERT INTO texts VALUES (?)').run('x'.repeat(3_000))
  }
  writeTo(400)
  t.notOk(growth.isDue(file, 100_000, 'none'))
  writeTo(650)
  t.notOk(growth.isDue(file, 100_000, 'none'))
  t.notOk(growth.isDue(file, 100_000, 'some'))
  writeTo(750)
  t.notOk(growth.isDue(file, 100_000, 'some'), 'others write, and none of them has just committed')
  t.ok(growth.isDue(file, 0, 'just'))
  writeTo(800)
  t.notOk(growth.isDue(file, 100_000, 'none'), 'little came since')
  db.pragma('wal_checkpoint(RESTART)')
  writeTo(810)
  t.ok(growth.isDue(file, 100_000, 'none'))
})

t.test("a backlog that is sealed leaves no checkpoint to the host's commits", async (t) => {
  const { file, db } = open(t)
  db.exec('CREATE TABLE receipts (id INTEGER PRIMARY KEY, note TEXT)')
  const till = createRegister({ location: 'BA01', register: 'POS1', database: sqlite(() => new Database(file)), publish: { receipts: {} } })
  await till.install()
  const sell = db.prepare('INSERT INTO receipts (note) VALUES (?)')
  // Sold in one transaction, of which SQLite itself makes a checkpoint at its end.
  db.transaction(() => {
    for (let n = 0; n < 20_000; n++) sell.run(`receipt ${n}`)
  })()
  db.pragma('wal_checkpoint(TRUNCATE)')
  let most = 0
  let isSealing = true
  const watching = (async () => {
    for (let n = 0; isSealing; n++) {
      most = Math.max(most, logOf(file)?.frames ?? 0)
      // Somebody sells meanwhile, as at any till.
      if (n % 50 === 0) sell.run('meanwhile')
      await new Promise((resolve) => setImmediate(resolve))
    }
  })()
  const { entries } = await till.seal()
  isSealing = false
  await watching
  t.ok(entries >= 20_000)
  t.ok(most > AUTOMATIC / 4, `the log grew to ${most} frames`)
  t.ok(most < AUTOMATIC, `${most} frames`)
  await till.stop()
})
