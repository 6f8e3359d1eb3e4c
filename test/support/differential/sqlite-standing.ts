import Database from 'better-sqlite3'
import { q } from '../hosts/model.ts'
import { type Condition, conditionSql, type PartRules, type RootRules } from '../hosts/rules.ts'
import { documentName, type Record_ } from './groups.ts'
import { type Exact, exactBytes, exactInteger, exactReal, exactText, idOf, NULL } from './values.ts'
import type { Doc, Standing } from './witness.ts'

interface ColumnInfo {
  readonly name: string
  readonly type: string
  readonly pk: number
  readonly hidden: number
  readonly dflt_value: string | null
}

/** A table as SQLite says now. */
interface TableInfo {
  readonly columns: readonly ColumnInfo[]
  readonly key: readonly string[]
  readonly uniques: readonly (readonly string[])[]
}

/** What stands in a database by plain queries of our own, one join a table. */
export function sqliteStanding(db: Database.Database, rules: readonly RootRules[]): Standing {
  const fitting = rules.filter((root) => fits(db, root))
  const docs = new Map<string, Doc>()
  for (const root of fitting) for (const [name, doc] of docsOf(db, root)) docs.set(name, doc)
  return { roots: new Set(fitting.map(({ table }) => table)), docs, initials: initialsOf(db, fitting) }
}

/** The documents of a root for which a condition holds, by name. */
export function sqliteMatching(db: Database.Database, { table }: RootRules, condition: Condition | undefined): Set<string> {
  const { key } = tableInfo(db, table)
  const where = condition === undefined ? '' : ` WHERE ${conditionSql(table, condition)}`
  return new Set(select(db, `SELECT ${typed(table, key)} FROM ${q(table)}${where}`).map((values) => documentName(table, idOf(values))))
}

/** Whether the tables have what the rules name. */
export function fits(db: Database.Database, root: RootRules): boolean {
  const info = new Map<string, TableInfo>()
  const has = (rule: PartRules, above: PartRules | undefined): boolean => {
    const table = tableInfo(db, rule.table)
    info.set(rule.table, table)
    const parent = above && info.get(above.table)
    const names = table.columns.map(({ name }) => name)
    const all = (wanted: readonly string[]) => wanted.every((name) => names.includes(name))
    if (table.key.length === 0 || !all(rule.own) || !all(rule.only ?? []) || !all(rule.except ?? [])) return false
    if (parent !== undefined && ![parent.key, ...parent.uniques].some((unique) => sameNames(unique, rule.others))) return false
    return rule.parts.every((part) => has(part, rule))
  }
  if (!has(root, undefined)) return false
  const conditions = [root.where, root.existing].filter((one): one is Condition => typeof one === 'object')
  const named = conditions.flatMap((condition) => ('column' in condition ? [condition.column] : condition.others))
  if (!named.every((name) => info.get(root.table)?.columns.some((column) => column.name === name))) return false
  return root.identity.every((name) => published(db, root).includes(name))
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name))
}

function tableInfo(db: Database.Database, table: string): TableInfo {
  const columns = db.prepare('SELECT name, type, pk, hidden, dflt_value FROM pragma_table_xinfo(?)').all(table) as ColumnInfo[]
  const found = db.prepare(`SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?`).get(table) !== undefined
  if (!found) return { columns: [], key: [], uniques: [] }
  const uniques = db.prepare(`SELECT name FROM pragma_index_list(?) WHERE "unique" = 1 AND partial = 0`).pluck().all(table) as string[]
  const key = columns.filter(({ pk }) => pk > 0).sort((a, b) => a.pk - b.pk)
  return {
    columns,
    key: key.map(({ name }) => name),
    uniques: uniques.map((index) => db.prepare('SELECT name FROM pragma_index_info(?) ORDER BY seqno').pluck().all(index) as string[]),
  }
}

function docsOf(db: Database.Database, root: RootRules): Map<string, Doc> {
  const docs = new Map<string, Doc & { readonly records: Record_[] }>()
  const { key } = tableInfo(db, root.table)
  const columns = published(db, root)
  const where = root.where === undefined ? '' : ` WHERE ${conditionSql(root.table, root.where)}`
  for (const values of select(db, `SELECT ${typed(root.table, key)}, ${typed(root.table, columns)} FROM ${q(root.table)}${where}`)) {
    const record = recordOf(root.table, values, key, columns)
    docs.set(documentName(root.table, record.id), { root: root.table, records: [record] })
  }
  const join = (rule: PartRules, from: string): void => {
    for (const part of rule.parts) {
      const partKey = tableInfo(db, part.table).key
      const on = part.own.map((own, n) => `${q(part.table)}.${q(own)} = ${q(rule.table)}.${q(part.others[n] as string)}`).join(' AND ')
      const joined = `${from} JOIN ${q(part.table)} ON ${on}`
      const names = published(db, part)
      const sql = `SELECT ${typed(root.table, key)}, ${typed(part.table, partKey)}, ${typed(part.table, names)} FROM ${joined}${where}`
      for (const values of select(db, sql)) {
        const document = documentName(root.table, idOf(values.slice(0, key.length)))
        docs.get(document)?.records.push(recordOf(part.table, values.slice(key.length), partKey, names))
      }
      join(part, joined)
    }
  }
  join(root, q(root.table))
  return docs
}

/** Columns that the rules let out: those of the key and of references always. */
function published(db: Database.Database, rule: PartRules): string[] {
  const { columns, key } = tableInfo(db, rule.table)
  const needed = [...key, ...rule.own, ...rule.parts.flatMap((part) => part.others)]
  const chosen = (name: string) => (rule.only === undefined ? !rule.except?.includes(name) : rule.only.includes(name))
  return columns.map(({ name }) => name).filter((name) => needed.includes(name) || chosen(name))
}

function typed(table: string, columns: readonly string[]): string {
  return columns.map((name) => `typeof(${q(table)}.${q(name)}), ${q(table)}.${q(name)}`).join(', ')
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

function recordOf(table: string, values: readonly Exact[], key: readonly string[], columns: readonly string[]): Record_ {
  return {
    table,
    id: idOf(values.slice(0, key.length)),
    values: Object.fromEntries(columns.map((name, n) => [name, values[key.length + n] as Exact])),
  }
}

const scratch = new Database(':memory:')
const known = new Map<string, Exact>()

/** What a row holds that was there before the column: seen by making such a row. Where the default is another one each time there can be none: it counts as NULL. */
function initialsOf(db: Database.Database, rules: readonly RootRules[]): Map<string, Exact> {
  const initials = new Map<string, Exact>()
  const note = (rule: PartRules): void => {
    for (const { name, type, dflt_value, hidden } of tableInfo(db, rule.table).columns) {
      const strict = isStrict(db, rule.table)
      initials.set(`${rule.table}\n${name}`, dflt_value === null || hidden > 0 ? NULL : initialOf(type, dflt_value, strict))
    }
    for (const part of rule.parts) note(part)
  }
  for (const root of rules) note(root)
  return initials
}

function isStrict(db: Database.Database, table: string): boolean {
  return db.prepare('SELECT strict FROM pragma_table_list WHERE name = ?').pluck().get(table) === 1
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
