import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { text } from 'node:stream/consumers'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister } from '../../src/index.ts'
import { Copy, settled } from '../support/copy.ts'
import { isDocumented } from '../support/documented.ts'
import { eventually } from '../support/eventually.ts'
import { argument, Random, seedOfRun } from '../support/random.ts'
import { openDatabase } from '../support/shop.ts'
import { PUBLISH, PUBLISHED, statement, TABLES } from '../support/sqlite-statements.ts'
import { outcomeOf } from '../support/twin.ts'

const seed = seedOfRun()
const statements = Number(argument('statements') ?? 600)
t.comment(`--seed=${seed} --statements=${statements}`)

/** A till, and the same tables without us. */
async function twins(t: Test, tables = TABLES, publish = PUBLISH) {
  const [own, bare] = [openDatabase(t, tables), openDatabase(t, tables)]
  for (const { db } of [own, bare]) db.pragma('foreign_keys = ON')
  const replica = createRegister({ location: 'A', register: '1', database: sqlite(() => new Database(own.file)), publish })
  t.teardown(() => replica.stop())
  await replica.install()
  return { file: own.file, db: own.db, twinFile: bare.file, twin: bare.db, replica }
}

const asTexts = (rows: readonly unknown[]) => rows.map((row) => JSON.stringify(row)).sort()
const COUNTS = 'SELECT changes() AS changes, last_insert_rowid() AS rowid'

t.test('rows, counts, row ids and errors of random statements are as without us, and all is captured', async (t) => {
  const { db, twin, replica } = await twins(t)
  const random = new Random(seed)
  const copy = new Copy()
  for (let n = 0; n < statements; ) {
    const story = Array.from({ length: random.int(1, 25) }, () => statement(random))
    if (random.chance(0.5)) story.unshift('BEGIN')
    if (story[0] === 'BEGIN') story.push(random.chance(0.8) ? 'COMMIT' : 'ROLLBACK')
    n += story.length
    const outcomes = (one: Database.Database) => story.map((sql) => [sql, outcomeOf(one, sql), one.prepare(COUNTS).get(), one.inTransaction])
    t.same(outcomes(db), outcomes(twin))
    if (!random.chance(0.3) && n < statements) continue
    await settled(replica)
    await copy.read(replica)
    t.same(asTexts(copy.records()), asTexts(PUBLISHED.flatMap((sql) => db.prepare(sql).all())))
  }
})

t.test("the host's own triggers, views and deferred constraints see what they see without us", async (t) => {
  const { db, twin } = await twins(
    t,
    `CREATE TABLE receipts (id INTEGER PRIMARY KEY AUTOINCREMENT, receipt_no TEXT UNIQUE, total INTEGER DEFAULT 0);
     CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER REFERENCES receipts DEFERRABLE INITIALLY DEFERRED, amount INTEGER);
     CREATE INDEX receipt_lines_receipt_id ON receipt_lines (receipt_id);
     CREATE TABLE seen (what TEXT, changes INTEGER, rowid_ INTEGER);
     CREATE TRIGGER a_first AFTER INSERT ON receipts BEGIN INSERT INTO seen VALUES ('first', changes(), last_insert_rowid()); END;
     CREATE TRIGGER z_last AFTER INSERT ON receipts BEGIN INSERT INTO seen VALUES ('last', changes(), last_insert_rowid()); END;
     CREATE TRIGGER sums AFTER INSERT ON receipt_lines BEGIN
       UPDATE receipts SET total = total + NEW.amount WHERE id = NEW.receipt_id; INSERT INTO seen VALUES ('sum', changes(), last_insert_rowid()); END;
     CREATE TRIGGER refuses BEFORE UPDATE OF receipt_no ON receipts WHEN NEW.receipt_no = 'ignored' BEGIN SELECT RAISE(IGNORE); END;
     CREATE TRIGGER fails BEFORE DELETE ON receipts WHEN OLD.receipt_no = 'kept' BEGIN SELECT RAISE(ABORT, 'it is kept'); END;
     CREATE VIEW sales AS SELECT receipt_no, total FROM receipts;
     CREATE TRIGGER sell INSTEAD OF INSERT ON sales BEGIN INSERT INTO receipts (receipt_no, total) VALUES (NEW.receipt_no, NEW.total); END`,
    { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
  )
  const story = [
    `INSERT INTO receipts (receipt_no) VALUES ('R-1'), ('kept'), ('R-3')`,
    'INSERT INTO receipt_lines (receipt_id, amount) VALUES (1, 5), (1, 6), (2, 7)',
    `INSERT INTO sales VALUES ('R-4', 4)`,
    `UPDATE receipts SET receipt_no = 'ignored' WHERE id = 1`,
    'DELETE FROM receipts',
    'DELETE FROM receipts WHERE id = 3',
    `INSERT INTO receipts (receipt_no) VALUES ('R-5')`,
    'BEGIN',
    'INSERT INTO receipt_lines (receipt_id, amount) VALUES (99, 1)',
    'COMMIT',
    'ROLLBACK',
    'UPDATE receipt_lines SET id = id + 10',
    'DELETE FROM receipt_lines',
  ]
  const outcomes = (one: Database.Database) => [
    story.map((sql) => [sql, outcomeOf(one, sql), one.prepare(COUNTS).get()]),
    one.prepare('SELECT * FROM seen').all(),
    one.prepare('SELECT * FROM sqlite_sequence').all(),
    one.prepare('SELECT * FROM receipts').all(),
  ]
  t.same(outcomes(db), outcomes(twin))
})

t.test('total_changes() counts touches, as documented', async (t) => {
  isDocumented(t, '`total_changes()` counts touches; `changes()`, `last_insert_rowid()` and `RETURNING` do not.')
  const { db, twin } = await twins(t)
  const [own, bare] = [db, twin].map((one) => {
    const total = () => one.prepare('SELECT total_changes()').pluck().get() as number
    const before = total()
    one.exec(`INSERT INTO receipts (id, receipt_no) VALUES (1, 'R-1')`)
    return total() - before
  })
  t.same([own, bare], [2, 1])
})

/** Statements for a host in another language; the last one fails. */
function sales(n: number): string[] {
  const [a, b, c] = [n * 10 + 1, n * 10 + 2, n * 10 + 3]
  return [
    `INSERT INTO receipts (id, receipt_no) VALUES (${a}, 'R-${a}'), (${b}, 'R-${b}'), (${c}, 'R-${c}')`,
    `INSERT INTO receipt_lines VALUES (${a}, 1, 'A', 's${a}'), (${b}, 1, 'B', 's${b}'), (${c}, 1, 'C', NULL)`,
    `REPLACE INTO receipts (id, receipt_no) VALUES (${n * 10 + 4}, 'r-${b}')`,
    `INSERT OR IGNORE INTO receipts (id, receipt_no) VALUES (${a}, 'x'), (${n * 10 + 5}, 'R-${n * 10 + 5}')`,
    `INSERT INTO receipts (id, receipt_no) VALUES (${a}, 'R-${a}') ON CONFLICT (id) DO UPDATE SET slot = 'upserted'`,
    `UPDATE receipts SET status = 'void' WHERE id > ${b}`,
    `UPDATE receipt_lines SET receipt_id = ${a}, line_no = 2 WHERE receipt_id = ${c}`,
    `DELETE FROM receipts WHERE id = ${n * 10 + 5}`,
    `INSERT INTO tender_lines (receipt_no, amount) VALUES ('R-${a}', 1.5), ('R-${a}', 1.5), ('r-${b}', 3)`,
    `INSERT INTO "price ""lists" VALUES ('a', '${n}', 1)`,
    `REPLACE INTO "price ""lists" VALUES ('A', '${n}', 2)`,
    `DELETE FROM tender_lines WHERE receipt_no = 'r-${b}'`,
    `INSERT INTO receipts (id, receipt_no) VALUES (${c}, 'R-${c}')`,
  ]
}
const SALES = Array.from({ length: 20 }, (_, n) => sales(n)).flat()

const PYTHON = `
import json, sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=10)
db.execute('PRAGMA foreign_keys = ON')
out = [sqlite3.sqlite_version]
for n, sql in enumerate(json.load(sys.stdin)):
    try:
        cursor = db.execute(sql)
        out.append([sql, cursor.rowcount, cursor.lastrowid, cursor.fetchall()])
    except sqlite3.Error as error:
        out.append([sql, type(error).__name__, str(error)])
    if n % 3 == 2: db.commit()
db.commit()
print(json.dumps(out))`

interface Ran {
  readonly version: string
  readonly results: unknown
}

/** What a program says, and behind it its errors; undefined where it is not on this machine. */
async function run(program: string, args: readonly string[], input: string): Promise<string | undefined> {
  const child = spawn(program, args)
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  const [said, errors] = [text(child.stdout), text(child.stderr)]
  const started = await once(child, 'spawn').then(
    () => true,
    () => false,
  )
  return started ? `${await said}${await errors}` : undefined
}

const hosts: Record<string, (file: string) => Promise<Ran | undefined>> = {
  async "Python's sqlite3"(file) {
    const said = await run('python3', ['-c', PYTHON, file], JSON.stringify(SALES))
    if (said === undefined || said.includes('No module named')) return undefined
    const [version, ...results] = JSON.parse(said)
    return { version, results }
  },
  async 'the sqlite3 command line'(file) {
    const script = ['.timeout 10000', '.mode json', '.changes on', 'PRAGMA foreign_keys = ON;', ...SALES.flatMap((sql) => [`${sql};`, `${COUNTS};`])]
    const said = await run('sqlite3', [file], script.join('\n'))
    const version = await run('sqlite3', ['--version'], '')
    // The total of changes is documented to count touches.
    return said === undefined ? undefined : { version: String(version?.split(' ')[0]), results: said.replaceAll(/total_changes: \d+/g, '') }
  },
}

for (const [name, sell] of Object.entries(hosts)) {
  t.test(`${name} sells while the library runs: with the results it has without us, and its rows arrive`, async (t) => {
    const { file, db, twinFile, replica } = await twins(t)
    await replica.start()
    const own = await sell(file)
    if (own === undefined) {
      t.comment(`left out: ${name} is not on this machine`)
      return
    }
    t.comment(`SQLite ${own.version}; ${(await replica.status()).head.entryNo} entries were sealed meanwhile`)
    t.same(own.results, (await sell(twinFile))?.results)
    await eventually('all is sealed', async () => (await replica.status()).unsealed === 0)
    const copy = new Copy()
    await copy.read(replica)
    t.same(asTexts(copy.records()), asTexts(PUBLISHED.flatMap((sql) => db.prepare(sql).all())))
    t.ok(copy.records().length > 100)
  })
}
