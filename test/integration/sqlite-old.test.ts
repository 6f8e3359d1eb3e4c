import { readFileSync, writeFileSync } from 'node:fs'
import Database from 'better-sqlite3'
import t from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister } from '../../src/index.ts'
import { Copy, settled } from '../support/copy.ts'
import { openOldSqlite, outcomeOf } from '../support/old-sqlite.ts'
import { argument, Random, seedOfRun } from '../support/random.ts'
import { openDatabase } from '../support/shop.ts'
import { PUBLISH, PUBLISHED, statement, TABLES } from '../support/sqlite-statements.ts'

const seed = seedOfRun()
const rounds = Number(argument('rounds') ?? 25)
t.comment(`--seed=${seed} --rounds=${rounds}`)
const open = await openOldSqlite()

/** The file as an engine reads it that has no file system for a write-ahead log. */
function bytesOf(file: string): Uint8Array {
  withFile(file, (db) => db.pragma('journal_mode = DELETE'))
  return readFileSync(file)
}

function withFile<T>(file: string, use: (db: Database.Database) => T): T {
  const db = new Database(file)
  try {
    return use(db)
  } finally {
    db.close()
  }
}

/** What head office must have. */
function standingIn(file: string): unknown[] {
  return withFile(file, (db) => PUBLISHED.flatMap((sql) => db.prepare(sql).all()))
}

const asTexts = (rows: readonly unknown[]) => rows.map((row) => JSON.stringify(row)).sort()

for (const recursive of ['OFF', 'ON'])
  t.test(`an SQLite of 2022 does on our tables what it does without us, and all is captured (recursive_triggers ${recursive})`, async (t) => {
    const [own, bare] = [openDatabase(t, TABLES), openDatabase(t, TABLES)]
    const replica = createRegister({ location: 'A', register: '1', database: sqlite(() => new Database(own.file)), publish: PUBLISH })
    t.teardown(() => replica.stop())
    await replica.install()
    own.db.close()
    bare.db.close()
    const random = new Random(seed)
    const copy = new Copy()
    let errors = 0
    for (let round = 0; round < rounds; round++) {
      await replica.stop()
      const story = Array.from({ length: random.int(1, 30) }, () => statement(random))
      const outcomes = [own, bare].map(({ file }) => {
        const old = open(bytesOf(file))
        t.match(old.exec('SELECT sqlite_version()'), [{ values: [[/^3\.(39|40)\./]] }])
        old.exec(`PRAGMA foreign_keys = ON; PRAGMA recursive_triggers = ${recursive}`)
        const outcomes = story.map((sql) => [sql, outcomeOf(old, sql)])
        t.same(old.exec('PRAGMA integrity_check')[0]?.values, [['ok']])
        writeFileSync(file, old.export())
        old.close()
        return outcomes
      })
      t.same(outcomes[0], outcomes[1], 'rows, counts and errors')
      errors += outcomes[0]?.filter(([, outcome]) => 'message' in (outcome as object)).length ?? 0
      withFile(own.file, (db) => db.pragma('journal_mode = WAL'))
      await settled(replica)
      await copy.read(replica)
      t.same(asTexts(copy.records()), asTexts(standingIn(own.file)), 'head office has what stands there')
    }
    t.comment(`${errors} errors, as without us; ${(await replica.status()).head.entryNo} entries`)
    t.match(await replica.status(), { unsealed: 0, parked: [], problems: [], lastError: undefined })
  })
