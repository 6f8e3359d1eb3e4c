import Database from 'better-sqlite3'
import { q } from '../hosts/model.ts'
import type { Reader, TableInfo } from './standing.ts'
import { type Exact, exactBytes, exactInteger, exactReal, exactText, NULL } from './values.ts'

interface ColumnInfo {
  readonly name: string
  readonly type: string
  readonly pk: number
  readonly hidden: number
  readonly dflt_value: string | null
}

export function sqliteReader(db: Database.Database): Reader {
  return {
    dialect: 'sqlite',
    takes: async () => true,
    table: async (name) => tableInfo(db, name),
    rows: async (columns, from) => select(db, `SELECT ${columns.map(typed).join(', ')} FROM ${from}`),
    initials: async (table) => initialsOf(db, table),
  }
}

function columnsOf(db: Database.Database, table: string): ColumnInfo[] {
  return db.prepare('SELECT name, type, pk, hidden, dflt_value FROM pragma_table_xinfo(?)').all(table) as ColumnInfo[]
}

function tableInfo(db: Database.Database, table: string): TableInfo {
  const columns = columnsOf(db, table)
  const found = db.prepare(`SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?`).get(table) !== undefined
  if (!found) return { columns: [], key: [], uniques: [] }
  const uniques = db.prepare(`SELECT name FROM pragma_index_list(?) WHERE "unique" = 1 AND partial = 0`).pluck().all(table) as string[]
  const key = columns.filter(({ pk }) => pk > 0).sort((a, b) => a.pk - b.pk)
  return {
    columns: columns.map(({ name }) => name),
    key: key.map(({ name }) => name),
    uniques: uniques.map((index) => db.prepare('SELECT name FROM pragma_index_info(?) ORDER BY seqno').pluck().all(index) as string[]),
  }
}

function typed([table, name]: readonly [string, string]): string {
  return `typeof(${q(table)}.${q(name)}), ${q(table)}.${q(name)}`
}

/** Rows of pairs of storage class and value. */
function select(db: Database.Database, sql: string): Exact[][] {
  const rows = db.prepare(sql).raw(true).safeIntegers(true).all() as unknown[][]
  return rows.map((row) => row.flatMap((_, at) => (at % 2 === 0 ? [exactOf(row[at] as string, row[at + 1])] : [])))
}

function exactOf(type: string, value: unknown): Exact {
  if (type === 'integer') return exactInteger(value as bigint)
  if (type === 'real') return exactReal(value as number)
  if (type === 'text') return exactText(value as string)
  return type === 'blob' ? exactBytes(value as Uint8Array) : NULL
}

const scratch = new Database(':memory:')
const known = new Map<string, Exact>()

/** Seen by making such a row. Where the default is another one each time there can be none: it counts as NULL. */
function initialsOf(db: Database.Database, table: string): Map<string, Exact> {
  const strict = db.prepare('SELECT strict FROM pragma_table_list WHERE name = ?').pluck().get(table) === 1
  return new Map(
    columnsOf(db, table).map(({ name, type, dflt_value, hidden }) => [
      name,
      dflt_value === null || hidden > 0 ? NULL : initialOf(type, dflt_value, strict),
    ]),
  )
}

function initialOf(type: string, initial: string, strict: boolean): Exact {
  if (/CURRENT_|random/i.test(initial)) return NULL
  const name = `${type} ${strict} ${initial}`
  const cached = known.get(name)
  if (cached !== undefined) return cached
  scratch.exec(`DROP TABLE IF EXISTS t; CREATE TABLE t (id INTEGER) ${strict ? 'STRICT' : ''}; INSERT INTO t VALUES (1)`)
  try {
    scratch.exec(`ALTER TABLE t ADD COLUMN c ${type} DEFAULT (${initial})`)
  } catch {
    return 'none' // of a type that a STRICT table does not take, or no constant
  }
  const value = select(scratch, 'SELECT typeof(c), c FROM t')[0]?.[0] as Exact
  known.set(name, value)
  return value
}
