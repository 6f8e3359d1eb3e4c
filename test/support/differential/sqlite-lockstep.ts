import Database from 'better-sqlite3'
import { Break } from './break.ts'

/**
 * The host's connections to its database, and to a twin of it on which the library never was. Every statement runs on both, and must
 * come to the same: what it returns, how many rows it changed, the last row's number, or its error.
 */
export class Lockstep {
  readonly subject: readonly Database.Database[]
  readonly twins: readonly Database.Database[]
  /** Connections of their own to look by, since whoever reads in a transaction changes what it may do. */
  readonly reader: Database.Database
  readonly twin: Database.Database

  constructor(files: readonly [subject: string, twin: string], connections: number) {
    const open = (file: string) => {
      const db = new Database(file, { timeout: 0 })
      db.pragma('synchronous = OFF')
      return db
    }
    const [subject, twin] = files.map((file) => {
      const all = [open(file)]
      all[0]?.pragma('journal_mode = WAL')
      while (all.length < connections) all.push(open(file))
      return all
    })
    this.subject = subject as Database.Database[]
    this.twins = twin as Database.Database[]
    this.reader = open(files[0])
    this.twin = open(files[1])
  }

  get host(): Database.Database {
    return this.subject[0] as Database.Database
  }

  isInTransaction(on: number): boolean {
    return this.subject[on % this.subject.length]?.inTransaction === true
  }

  get isBetweenTransactions(): boolean {
    return this.subject.every((db) => !db.inTransaction)
  }

  /**
   * Both begin anew from the same last row, where it may be another one with the library: after an INSERT that failed by a foreign key (with any
   * trigger, SQLite inserts the row first), and on a connection that the library shares and has worked on.
   */
  forgetLastRow(on: number): void {
    for (const all of [this.subject, this.twins])
      all[on]?.exec('CREATE TEMP TABLE IF NOT EXISTS "last row" (id INTEGER PRIMARY KEY); INSERT INTO "last row" VALUES (1); DELETE FROM "last row"')
  }

  /** Returns the error's code, or undefined. */
  run(on: number, sql: string): string | undefined {
    const at = on % this.subject.length
    const [db, twin] = [this.subject[at] as Database.Database, this.twins[at] as Database.Database]
    const [found, wanted] = [outcome(db, sql), outcome(twin, sql)]
    if (found !== wanted) throw new Break('outcome', `${sql}\n  with the library: ${found}\n  without:          ${wanted}`)
    if (db.inTransaction !== twin.inTransaction) throw new Break('transaction', sql)
    if (/^(create|alter|drop|rollback|commit)/i.test(sql)) this.refresh()
    if (!found.startsWith('!')) return undefined
    this.forgetLastRow(at)
    return found
  }

  /** A connection does not always notice by itself that another one changed the schema; what the library does on a shared one must not make the difference. */
  private refresh(): void {
    for (const db of [...this.subject, ...this.twins]) db.prepare('SELECT count(*) FROM sqlite_schema').get()
  }

  /** Whatever is open is committed, or else rolled back. */
  settle(): void {
    for (const [on, db] of this.subject.entries()) {
      if (db.inTransaction) this.run(on, 'COMMIT')
      if (db.inTransaction) this.run(on, 'ROLLBACK')
    }
  }

  /** The host's tables and their schema are the same in both. */
  compare(): void {
    const [found, wanted] = [contentOf(this.reader), contentOf(this.twin)]
    for (const [name, rows] of wanted)
      if (found.get(name) !== rows) throw new Break('tables', `${name}\n  with the library: ${found.get(name)}\n  without:          ${rows}`)
    for (const name of found.keys()) if (!wanted.has(name)) throw new Break('tables', `${name} is there with the library only`)
  }

  close(): void {
    for (const db of [...this.subject, ...this.twins, this.reader, this.twin]) db.close()
  }
}

function outcome(db: Database.Database, sql: string): string {
  let done: unknown
  try {
    const statement = db.prepare(sql).safeIntegers(true)
    done = statement.reader ? statement.raw(true).all() : statement.run()
  } catch (error) {
    return `! ${(error as { code?: string }).code} ${(error as Error).message}`
  }
  if (!/^\s*(insert|update|delete|replace|with)/i.test(sql)) return JSON.stringify(done, exactly)
  const after = db.prepare('SELECT changes(), last_insert_rowid()').raw(true).get()
  return JSON.stringify([done, after], exactly)
}

function exactly(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value === 'number' && (!Number.isFinite(value) || Object.is(value, -0))) return `real ${Object.is(value, -0) ? '-0' : value}`
  return value
}

function contentOf(db: Database.Database): Map<string, string> {
  const contents = new Map<string, string>()
  const objects = db
    .prepare(
      `SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sync\\_%' ESCAPE '\\' AND name NOT LIKE 'sqlite\\_autoindex\\_sync\\_%' ESCAPE '\\'`,
    )
    .all() as {
    type: string
    name: string
    sql: string
  }[]
  for (const { type, name, sql } of objects) {
    contents.set(`${type} ${name}`, sql)
    if (type !== 'table') continue
    const quoted = `"${name.replaceAll('"', '""')}"`
    const rows = db.prepare(`SELECT * FROM ${quoted}`).raw(true).safeIntegers(true).all()
    contents.set(
      `rows of ${name}`,
      rows
        .map((row) => JSON.stringify(row, exactly))
        .sort()
        .join(' '),
    )
  }
  return contents
}
