import { join } from 'node:path'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister, type PublishRules } from '../../src/index.ts'

const TRIGGERS = ['receipts', 'receipt_lines'].flatMap((table) => ['insert', 'update', 'delete', 'move'].map((event) => `sync_${table}_${event}`))

/** A till with sealed receipts, and a way to change its tables unseen by any trigger. */
async function shop(t: Test, rules: PublishRules<{ receipts: object; receipt_lines: object }>['receipts'] = {}) {
  const file = join(t.testdir(), 'till.sqlite')
  const db = new Database(file)
  db.pragma('journal_mode = WAL')
  db.exec(`
    CREATE TABLE receipts (id TEXT PRIMARY KEY COLLATE NOCASE, status TEXT);
    CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id TEXT, item_no TEXT);
    CREATE INDEX receipt_lines_receipt_id ON receipt_lines (receipt_id)`)
  const open = (receipts: object) =>
    createRegister({
      location: 'A',
      register: '1',
      database: sqlite(() => new Database(file)),
      publish: { receipts, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
    })
  const till = open(rules as object)
  t.teardown(() => till.stop())
  await till.install()
  const insert = db.transaction(() => {
    for (let id = 1; id <= 1_200; id++)
      db.exec(`INSERT INTO receipts VALUES ('R${id}', 'posted'); INSERT INTO receipt_lines VALUES (${id}, 'R${id}', 'X')`)
  })
  insert()
  await till.seal()
  const unseen = (sql: string) => {
    const made = TRIGGERS.map((name) => (db.prepare('SELECT sql FROM sqlite_schema WHERE name = ?').get(name) as { sql: string }).sql)
    db.exec([...TRIGGERS.map((name) => `DROP TRIGGER ${name}`), sql, ...made].join(';'))
  }
  const news = async (after: number) =>
    (await till.entries({ after, limit: 1_000 })).map(({ operation, table, recordId }) => [operation, table, ...recordId])
  return { till, db, open, unseen, news }
}

t.test('a reseal that waits for a host goes on by the tables as that has left them', async (t) => {
  const { till, db, unseen } = await shop(t)
  unseen(`UPDATE receipts SET status = 'void' WHERE id = 'R7'`)
  db.exec('BEGIN IMMEDIATE')
  const resealed = till.reseal('receipts')
  await new Promise((resolve) => setTimeout(resolve, 50))
  db.exec('ALTER TABLE receipts RENAME COLUMN status TO state; COMMIT')
  t.ok((await resealed).documents >= 1)
  t.same(await till.reseal('receipts'), { documents: 0, entries: 0 }, 'nothing is left')
  t.match(db.prepare(`SELECT record FROM sync_entries WHERE record_id = '["R7"]' ORDER BY entry_no DESC`).pluck().get(), /"state":"void"/)
})

t.test('a reseal finds exactly what no trigger saw', async (t) => {
  const { till, unseen, news } = await shop(t)
  t.same(await till.reseal('receipts'), { documents: 0, entries: 0 }, 'nothing is sealed that has not changed')
  unseen(`
    UPDATE receipt_lines SET item_no = 'Y' WHERE id = 7;
    DELETE FROM receipts WHERE id = 'R600'; DELETE FROM receipt_lines WHERE receipt_id = 'R600';
    INSERT INTO receipts VALUES ('new', 'posted');
    UPDATE receipts SET id = 'r900' WHERE id = 'R900'; UPDATE receipt_lines SET receipt_id = 'r900' WHERE receipt_id = 'R900'`)
  t.equal((await till.reseal('receipts')).documents, 5)
  t.same(
    (await news(2_400)).sort(),
    [
      ['upsert', 'receipts', 'R7'],
      ['upsert', 'receipt_lines', 7],
      ['remove', 'receipts', 'R600'],
      ['upsert', 'receipts', 'new'],
      ['remove', 'receipts', 'R900'],
      ['upsert', 'receipts', 'r900'],
      ['upsert', 'receipt_lines', 900],
    ].sort(),
  )
})

t.test('a reseal that is interrupted goes on where it was', async (t) => {
  const { till, unseen } = await shop(t)
  unseen(`UPDATE receipt_lines SET item_no = 'Y' WHERE id IN (1, 1200)`)
  const abort = new AbortController()
  const stop = till.on('sealed', () => abort.abort())
  await t.rejects(till.reseal('receipts', { signal: abort.signal }), { code: 'ERR_ABORTED' })
  stop()
  await till.stop()
  unseen(`UPDATE receipt_lines SET item_no = 'Z' WHERE id = 10`) // before that place: only one that begins anew would see it
  await till.start()
  const deadline = Date.now() + 10_000
  while ((await till.status()).resealing.length > 0 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5))
  t.equal((await till.entries({ after: 2_400 })).length, 4)
})

t.test('a reseal by hand after one that was interrupted misses nothing before the place where that ended', async (t) => {
  const { till, unseen } = await shop(t)
  unseen(`UPDATE receipt_lines SET item_no = 'Y' WHERE id IN (1, 1200)`)
  const abort = new AbortController()
  const stop = till.on('sealed', () => abort.abort())
  await t.rejects(till.reseal('receipts', { signal: abort.signal }), { code: 'ERR_ABORTED' })
  stop()
  unseen(`UPDATE receipt_lines SET item_no = 'Z' WHERE id = 1`)
  await till.reseal('receipts')
  const records = (await till.entries({ after: 2_400 })).map(({ record }) => record?.item_no)
  t.ok(records.includes('Z'))
})

t.test('changed rules reseal by themselves; rules written otherwise do not', async (t) => {
  const { till, open, db } = await shop(t, { where: (eb) => eb.lit(true) })
  db.exec(`UPDATE receipts SET status = 'void' WHERE id = 'R5'`)
  await till.stop()
  const changed = open({ where: (eb: (...args: unknown[]) => unknown) => eb('status', '=', 'posted') })
  await changed.install()
  await changed.start()
  t.teardown(() => changed.stop())
  const deadline = Date.now() + 10_000
  while ((await changed.entries({ after: 2_400 })).length < 1 && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5))
  t.match(await changed.entries({ after: 2_400 }), [{ operation: 'remove', recordId: ['R5'] }])
  await changed.install()
  t.same(await changed.reseal('receipts'), { documents: 0, entries: 0 })
})

t.test('a table that is no root is refused', async (t) => {
  const { till } = await shop(t)
  await t.rejects(till.reseal('receipt_lines' as 'receipts'), { code: 'ERR_UNKNOWN_TABLE' })
})

t.test('a document that its filter can no longer say anything of is parked by a reseal, and holds it up no more than others', async (t) => {
  const { till, db, unseen, news } = await shop(t, { where: (eb) => eb(eb.fn('json_type', [eb.ref('status' as never), eb.val('$')]), 'is', null) })
  t.same(await news(0), [])
  db.exec(`DELETE FROM receipts WHERE id NOT IN ('R1', 'R2', 'R3'); UPDATE receipts SET status = NULL`)
  await till.seal()
  unseen(`UPDATE receipts SET status = 'posted' WHERE id = 'R1'; DELETE FROM receipts WHERE id = 'R2'`)
  await till.reseal('receipts')
  t.match((await till.status()).parked, [{ table: 'receipts', recordId: ['R1'], code: 'ERR_FILTER' }])
  t.same((await news(0)).slice(-1), [['remove', 'receipts', 'R2']])
})
