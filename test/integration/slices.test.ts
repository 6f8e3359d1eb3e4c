import { setImmediate } from 'node:timers/promises'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister, type ListedEntry, type Register } from '../../src/index.ts'
import { openDatabase } from '../support/shop.ts'

const LINES = 300
/** Each is read by a statement of its own, so that turns end between them. */
const PARTS = ['receipt_lines', 'tender_lines', 'tax_lines', 'coupon_lines', 'serial_numbers']
const TABLES = [
  'CREATE TABLE receipts (id INTEGER PRIMARY KEY, version INTEGER NOT NULL)',
  ...PARTS.map(
    (part) =>
      `CREATE TABLE ${part} (id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL, version INTEGER NOT NULL); CREATE INDEX ${part}_receipt ON ${part} (receipt_id)`,
  ),
].join(';')
const PUBLISH = { receipts: {}, ...Object.fromEntries(PARTS.map((part) => [part, { partOf: { receipts: { receipt_id: 'id' } } }])) }

function host(db: Database.Database) {
  const inserts = PARTS.map((part) => db.prepare(`INSERT INTO ${part} (receipt_id, version) VALUES (?, 0)`))
  db.transaction(() => {
    for (let id = 1; id <= 3; id++) {
      db.prepare('INSERT INTO receipts VALUES (?, 0)').run(id)
      for (const insert of inserts) for (let line = 0; line < LINES; line++) insert.run(id)
    }
  })()
  const updates = [
    db.prepare('UPDATE receipts SET version = ? WHERE id = ?'),
    ...PARTS.map((part) => db.prepare(`UPDATE ${part} SET version = ? WHERE receipt_id = ?`)),
  ]
  return db.transaction((id: number, version: number) => {
    for (const update of updates) update.run(version, id)
  })
}

/** Every version of a receipt that was sealed, with the versions of its lines. */
async function sealedVersions(till: Register): Promise<{ version: unknown; lines: Set<unknown>; count: number }[]> {
  const documents: { version: unknown; lines: Set<unknown>; count: number }[] = []
  for (let after = 0; ; ) {
    const page: readonly ListedEntry[] = await till.entries({ after, limit: 1_000 })
    if (page.length === 0) return documents
    for (const { table, record } of page) {
      if (table === 'receipts') documents.push({ version: record?.version, lines: new Set(), count: 0 })
      const document = documents.at(-1)
      if (table === 'receipts' || document === undefined) continue
      document.lines.add(record?.version)
      document.count++
    }
    after = (page.at(-1) as ListedEntry).entryNo
  }
}

async function isWhole(t: Test, till: Register, db: Database.Database): Promise<void> {
  await till.seal()
  const documents = await sealedVersions(till)
  t.ok(
    documents.every(({ version, lines, count }) => count === LINES * PARTS.length && lines.size === 1 && lines.has(version)),
    'every version that was sealed is one transaction’s',
  )
  t.ok(
    documents.some(({ version }) => version === db.prepare('SELECT max(version) FROM receipts').pluck().get()),
    'and the last one is among them',
  )
}

t.test('a document that is read in slices is sealed as it stood at one moment, though the host writes in between', async (t) => {
  const { db, file } = openDatabase(t, TABLES)
  const till = createRegister({ location: 'A', register: '1', database: sqlite(() => new Database(file), { host: db }), publish: PUBLISH })
  t.teardown(() => till.stop())
  await till.install()
  const change = host(db)
  let sealing = true
  const sealed = (async () => {
    for (let n = 0; n < 30; n++) await till.seal()
    sealing = false
  })()
  let version = 0
  while (sealing && version < 400) {
    await setImmediate()
    if (++version % 3 === 0) change(1 + (version % 3), version)
  }
  await sealed
  change(1, version + 1)
  await isWhole(t, till, db)
})

t.test('on a shared connection neither the host’s open transactions nor its statements in between get into a document', async (t) => {
  const { db } = openDatabase(t, TABLES)
  const till = createRegister({ location: 'A', register: '1', database: sqlite(db), publish: PUBLISH })
  t.teardown(() => till.stop())
  await till.install()
  const change = host(db)
  let sealing = true
  const sealed = (async () => {
    for (let n = 0; n < 30; n++) await till.seal()
    sealing = false
  })()
  let version = 0
  while (sealing && version < 400) {
    await setImmediate()
    if (++version % 3 === 0) change(1 + (version % 3), version)
    if (version % 9 !== 0) continue
    db.exec('BEGIN')
    db.prepare('UPDATE receipts SET version = -1').run()
    await setImmediate()
    await setImmediate()
    db.exec('ROLLBACK')
  }
  await sealed
  change(1, version + 1)
  await isWhole(t, till, db)
})

t.test('what fails between two slices leaves no transaction open, and loses nothing', async (t) => {
  const { db, file } = openDatabase(t, TABLES)
  const till = createRegister({ location: 'A', register: '1', database: sqlite(() => new Database(file)), publish: PUBLISH })
  t.teardown(() => till.stop())
  await till.install()
  const change = host(db)
  const stopped = till.seal()
  await setImmediate()
  await till.stop()
  await stopped.catch(() => undefined)
  db.pragma('busy_timeout = 0')
  t.doesNotThrow(() => change(3, 7))
  await isWhole(t, till, db)
})
