import { join } from 'node:path'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { systemClock } from '../../src/clock.ts'
import { createRegister, type Register } from '../../src/index.ts'
import type { Clock } from '../../src/ports.ts'
import { RegisterReplica } from '../../src/register.ts'
import { ScriptedClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'

const NAME = { location: 'A', register: '1' }
const PUBLISH = { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } }, items: {} }

/** A running till with two sealed receipts and an item; the host changes its schema by another connection. */
async function shop(t: Test, { running }: { running: boolean }) {
  const file = join(t.testdir(), 'till.sqlite')
  const db = new Database(file)
  db.pragma('journal_mode = WAL')
  db.exec(`
    CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT UNIQUE, status TEXT);
    CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER, item_no TEXT);
    CREATE INDEX receipt_lines_receipt_id ON receipt_lines (receipt_id);
    CREATE TABLE items (item_no TEXT PRIMARY KEY, name TEXT)`)
  const till = createRegister({
    ...NAME,
    database: sqlite(() => new Database(file)),
    publish: PUBLISH,
  })
  t.teardown(() => till.stop())
  await till.install()
  db.exec(`
    INSERT INTO receipts VALUES (1, 'R1', 'posted'), (2, 'R2', 'posted'); INSERT INTO receipt_lines VALUES (1, 1, 'X'), (2, 2, 'Y');
    INSERT INTO items VALUES ('X', 'x')`)
  await till.seal()
  const events: unknown[] = []
  till.on('schema', (event) => events.push(event))
  if (running) await till.start()
  else await till.stop()
  /** What was sealed since, once nothing more is to come. */
  const settled = async () => {
    await till.start()
    const deadline = Date.now() + 10_000
    for (;;) {
      await till.seal()
      const { unsealed, resealing } = await till.status()
      if ((unsealed === 0 && resealing.length === 0) || Date.now() > deadline) break
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    return (await till.entries({ after: 5, limit: 1_000 })).map(({ operation, table, record, recordId }) => [operation, table, record ?? recordId])
  }
  return { till, db, settled, events }
}

for (const running of [true, false]) {
  const when = running ? 'while the library runs' : 'while it sleeps'

  t.test(`a trigger of the host made ${when}, which ends with RAISE(IGNORE) after the change, hides nothing`, async (t) => {
    const { till, db, settled } = await shop(t, { running })
    const ignored = (event: string, row: string) =>
      db.exec(`CREATE TRIGGER host_${event} AFTER ${event} ON receipts WHEN ${row}.status = 'quiet' BEGIN SELECT RAISE(IGNORE); END`)
    for (const event of ['INSERT', 'UPDATE']) ignored(event, 'NEW')
    ignored('DELETE', 'OLD')
    db.exec(`INSERT INTO receipts VALUES (3, 'R3', 'quiet')`)
    t.same(await settled(), [['upsert', 'receipts', { id: 3, receipt_no: 'R3', status: 'quiet' }]], 'what it hid at first is found')
    db.exec(`INSERT INTO receipts VALUES (4, 'R4', 'quiet'); UPDATE receipts SET status = 'quiet' WHERE id = 2; DELETE FROM receipts WHERE id = 3`)
    await till.seal()
    t.same((await till.entries({ after: 6 })).map(({ operation, table, recordId }) => [operation, table, ...recordId]).sort(), [
      ['remove', 'receipts', 3],
      ['upsert', 'receipt_lines', 2],
      ['upsert', 'receipts', 2],
      ['upsert', 'receipts', 4],
    ])
    t.notOk((await till.check()).some(({ code }) => code === 'DRIFT'))
  })

  t.test(`a column added ${when} resends nothing, and is published from then on`, async (t) => {
    const { db, settled } = await shop(t, { running })
    db.exec(
      `ALTER TABLE receipts ADD COLUMN note TEXT; ALTER TABLE receipt_lines ADD COLUMN discount REAL NOT NULL DEFAULT 0; ALTER TABLE items ADD COLUMN unit TEXT DEFAULT 'pc'`,
    )
    t.same(await settled(), [])
    db.exec(`UPDATE receipt_lines SET discount = 1.5 WHERE id = 2`)
    t.same(await settled(), [
      ['upsert', 'receipts', { id: 2, receipt_no: 'R2', status: 'posted', note: null }],
      ['upsert', 'receipt_lines', { id: 2, receipt_id: 2, item_no: 'Y', discount: 1.5 }],
    ])
  })

  t.test(`a table rebuilt and renamed ${when} loses its triggers, and nothing is missed`, async (t) => {
    const { db, settled, events } = await shop(t, { running })
    db.exec(`
      BEGIN;
      CREATE TABLE new_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER, item_no TEXT NOT NULL);
      INSERT INTO new_lines SELECT id, receipt_id, CASE id WHEN 1 THEN 'Z' ELSE item_no END FROM receipt_lines;
      DROP TABLE receipt_lines;
      ALTER TABLE new_lines RENAME TO receipt_lines;
      INSERT INTO receipt_lines VALUES (3, 2, 'unseen');
      COMMIT`)
    t.match(
      (await settled()).filter(([, table]) => table === 'receipt_lines'),
      [
        ['upsert', 'receipt_lines', { id: 1, item_no: 'Z' }],
        ['upsert', 'receipt_lines', { id: 2, item_no: 'Y' }],
        ['upsert', 'receipt_lines', { id: 3, item_no: 'unseen' }],
      ],
    )
    t.match(events, [{ mended: ['receipts'], problems: [] }])
    db.exec(`UPDATE receipt_lines SET item_no = 'again' WHERE id = 3`)
    t.match((await settled()).at(-1), ['upsert', 'receipt_lines', { item_no: 'again' }], 'its triggers are there again')
  })

  t.test(`columns renamed and dropped ${when} fail nothing`, async (t) => {
    const { till, db, settled } = await shop(t, { running })
    db.exec(`ALTER TABLE receipts RENAME COLUMN status TO state; ALTER TABLE items DROP COLUMN name`)
    db.exec(`UPDATE receipts SET state = 'void' WHERE id = 1; INSERT INTO items VALUES ('Y')`)
    const entries = await settled()
    t.ok(entries.some(([, table, record]) => table === 'receipts' && (record as { state?: string }).state === 'void'))
    t.ok(entries.some(([, table, record]) => table === 'items' && (record as { item_no: string }).item_no === 'Y'))
    t.same((await till.status()).problems, [])
  })

  t.test(`a table dropped ${when} holds up no other; made again, what it lacks is removed`, async (t) => {
    const { till, db, settled, events } = await shop(t, { running })
    db.exec(`DROP TABLE items; UPDATE receipts SET status = 'void' WHERE id = 1`)
    t.match(await settled(), [
      ['upsert', 'receipts', { status: 'void' }],
      ['upsert', 'receipt_lines'],
    ])
    t.match((await till.status()).problems, [{ table: 'items', error: { code: 'ERR_UNKNOWN_TABLE' } }])
    db.exec(`CREATE TABLE items (item_no TEXT PRIMARY KEY, name TEXT); INSERT INTO items VALUES ('N', 'n')`)
    t.same(
      (await settled()).slice(2).sort(),
      [
        ['remove', 'items', ['X']],
        ['upsert', 'items', { item_no: 'N', name: 'n' }],
      ].sort(),
    )
    t.same((await till.status()).problems, [])
    t.ok(events.length >= 2)
  })
}

t.test('another default seals everything once more, because hashes leave defaults out', async (t) => {
  const { till, db, settled } = await shop(t, { running: false })
  db.exec(
    `CREATE TABLE new_items (item_no TEXT PRIMARY KEY, name TEXT DEFAULT 'x'); INSERT INTO new_items SELECT * FROM items; DROP TABLE items; ALTER TABLE new_items RENAME TO items`,
  )
  t.same(await settled(), [['upsert', 'items', { item_no: 'X', name: 'x' }]])
  t.same(await till.reseal('items'), { documents: 0, entries: 0 })
})

t.test('migrate() lets a column go that a trigger names', async (t) => {
  const { till, db, settled } = await shop(t, { running: true })
  const drop = () => {
    db.exec(`CREATE TABLE new_receipts (id INTEGER PRIMARY KEY, status TEXT); INSERT INTO new_receipts SELECT id, status FROM receipts`)
    db.exec('DROP TABLE receipts; ALTER TABLE new_receipts RENAME TO receipts')
    db.exec(`UPDATE receipts SET status = 'void' WHERE id = 2`)
  }
  await till.migrate(drop)
  t.ok((await settled()).some(([, table, record]) => table === 'receipts' && (record as { status: string }).status === 'void'))
  await t.rejects(
    till.migrate(() => {
      throw new Error('of the host')
    }),
    { message: 'of the host' },
  )
  db.exec(`UPDATE receipts SET status = 'again' WHERE id = 2`)
  t.match((await settled()).at(-2), ['upsert', 'receipts', { status: 'again' }], 'the triggers stand again')
})

/** Another process's library on the same file, with the same rules. */
function another(t: Test, db: Database.Database, clock: Clock): Register {
  const till = new RegisterReplica({ ...NAME, database: sqlite(() => new Database(db.name)), publish: PUBLISH }, clock)
  t.teardown(() => till.stop())
  return till
}

const triggers = (db: Database.Database) => db.prepare("SELECT count(*) FROM sqlite_schema WHERE type = 'trigger'").pluck().get() as number

t.test('migrate() keeps triggers out of the way until it is done, whoever looks at the tables meanwhile', async (t) => {
  const { till, db, settled } = await shop(t, { running: true })
  const other = another(t, db, systemClock)
  await other.start()
  db.exec('ALTER TABLE receipts ADD COLUMN seat INTEGER; CREATE UNIQUE INDEX seats ON receipts (seat)')
  await till.seal()
  await till.migrate(async () => {
    db.exec("INSERT INTO receipts VALUES (3, 'R3', 'unseen', 7); DELETE FROM receipt_lines WHERE id = 2")
    for (const one of [till, other]) await one.seal()
    t.equal(triggers(db), 0)
    db.exec('DROP INDEX seats; ALTER TABLE receipts DROP COLUMN seat')
    await till.migrate(() => other.seal())
    t.equal(triggers(db), 0, 'one in another')
  })
  db.exec('CREATE UNIQUE INDEX numbers ON receipts (receipt_no)')
  await till.migrate(async () => {
    await other.migrate(() => undefined)
    await other.seal()
    t.equal(triggers(db), 0, 'one of another process that is done before')
    db.exec('DROP INDEX numbers')
  })
  t.same(await settled(), [
    ['upsert', 'receipts', { id: 2, receipt_no: 'R2', status: 'posted' }],
    ['upsert', 'receipts', { id: 3, receipt_no: 'R3', status: 'unseen' }],
  ])
  await other.stop()
})

t.test('a process that dies while it changes the schema leaves nothing unseen for longer than some seconds', async (t) => {
  const { db } = await shop(t, { running: false })
  const clock = new ScriptedClock()
  const [dying, till] = [another(t, db, systemClock), another(t, db, clock)]
  const { promise, resolve } = Promise.withResolvers<void>()
  const began = Promise.withResolvers<void>()
  const dead = dying.migrate(() => {
    began.resolve()
    return promise
  })
  await began.promise
  db.exec("UPDATE receipts SET status = 'unseen' WHERE id = 1")
  t.match(await till.seal(), { entries: 0 })
  clock.advance(2_000)
  t.match(await till.seal(), { entries: 0 }, 'it may live')
  await eventually('it is taken for dead', async () => {
    clock.advance(15_000)
    await till.seal()
    return triggers(db) > 0
  })
  await till.start()
  db.exec("UPDATE receipts SET status = 'seen' WHERE id = 2")
  await eventually('both are sealed', async () => (await till.status()).head.entryNo === 9)
  resolve()
  await dead
})

t.test('install() is strict where start() goes on without a table', async (t) => {
  const { till, db } = await shop(t, { running: false })
  db.exec('DROP TABLE items')
  await t.rejects(till.install(), { code: 'ERR_UNKNOWN_TABLE' })
  await till.start()
  t.match((await till.status()).problems, [{ table: 'items' }])
})
