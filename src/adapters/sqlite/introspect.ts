import type { HostColumn, HostTable, HostUnique } from '../../host-table.ts'
import { query, type Work } from '../../work.ts'
import { refuseHidden } from './hidden.ts'
import { initialOf, isConstant } from './initial.ts'
import { isLoose } from './values.ts'

interface TableInfo {
  /** 1 for WITHOUT ROWID. */
  readonly wr: number
  readonly strict: number
  readonly sql: string | null
}

/** `INTEGER PRIMARY KEY DESC` is no rowid, by a quirk (https://www.sqlite.org/lang_createtable.html#rowid). */
const DESCENDING_KEY = /\bPRIMARY\s+KEY\s+DESC\b/i

interface ColumnInfo {
  readonly name: string
  readonly type: string
  readonly notnull: number
  readonly pk: number
  readonly hidden: number
  readonly dflt_value: string | null
}

/** The tables of these names, by SQLite's own catalogue (https://www.sqlite.org/pragma.html). Views and virtual tables are not there. */
export function* describe(names: readonly string[]): Work<ReadonlyMap<string, HostTable>> {
  yield* refuseHidden(names)
  const tables = new Map<string, HostTable>()
  for (const name of new Set(names)) {
    const [table] = yield* query<TableInfo>({
      sql: `SELECT list.wr, list.strict, made.sql FROM pragma_table_list(?) AS list
            LEFT JOIN main.sqlite_schema AS made ON made.type = 'table' AND made.name = list.name
            WHERE list.name = ? AND list.schema = 'main' AND list.type = 'table'`,
      parameters: [name, name],
    })
    if (table !== undefined) tables.set(name, yield* describeTable(name, table))
  }
  return tables
}

function* describeTable(name: string, { wr, strict, sql }: TableInfo): Work<HostTable> {
  const columns = yield* query<ColumnInfo>({
    sql: 'SELECT name, type, "notnull", pk, hidden, dflt_value FROM pragma_table_xinfo(?) WHERE hidden <> 1',
    parameters: [name],
  })
  const key = columns.filter((column) => column.pk > 0).sort((a, b) => a.pk - b.pk)
  const [first] = key
  const isRowid = wr === 0 && key.length === 1 && first?.type.toUpperCase() === 'INTEGER' && !DESCENDING_KEY.test(sql ?? '')
  const described: HostColumn[] = []
  for (const { name, type, notnull, pk, hidden, dflt_value } of columns) {
    const nullable = notnull === 0 && !(pk > 0 && (isRowid || wr === 1))
    described.push({ name, type, nullable, generated: hidden > 0, initial: yield* initialOf(dflt_value, strict === 1 && type === 'ANY' ? '' : type) })
  }
  return {
    name,
    columns: described,
    key: key.map((column) => column.name),
    ...(yield* describeUniques(name, columns)),
    reusesKeys: isRowid && !/\bAUTOINCREMENT\b/i.test(sql ?? ''),
  }
}

/**
 * Unique indexes beside the primary key; and that one too, where it may find a row equal whose key is written otherwise. One over an
 * expression is only named: no column lookup can stand for it.
 */
function* describeUniques(table: string, described: readonly ColumnInfo[]): Work<Pick<HostTable, 'uniques' | 'expressionUniques'>> {
  const indexes = yield* query<{ name: string; origin: string; partial: number; sql: string | null }>({
    sql: `SELECT list.name, list.origin, list.partial, made.sql FROM pragma_index_list(?) AS list
          LEFT JOIN sqlite_schema AS made ON made.type = 'index' AND made.name = list.name WHERE list."unique" = 1`,
    parameters: [table],
  })
  const uniques: HostUnique[] = []
  const expressionUniques: string[] = []
  for (const index of indexes) {
    const found = yield* query<{ name: string | null; collation: string }>({
      sql: 'SELECT name, coll AS collation FROM pragma_index_xinfo(?) WHERE key = 1 ORDER BY seqno',
      parameters: [index.name],
    })
    const columns = found.flatMap(({ name, collation }) => {
      const info = described.find((column) => column.name === name)
      return info ? [{ info, collation }] : []
    })
    if (columns.length < found.length) {
      expressionUniques.push(index.name)
      continue
    }
    if (index.origin === 'pk' && !columns.some(({ info, collation }) => collation !== 'BINARY' || mayBeWrittenOtherwise(info))) continue
    const where = index.partial === 1 ? withLiterals(conditionOf(index.sql ?? ''), described) : undefined
    uniques.push({
      columns: columns.map(({ info, collation }) => ({ name: info.name, collation, ...insteadOfNull(info) })),
      ...(columns.some(({ info }) => info.hidden > 0) && { computedFrom: described.filter(isReplaced).map(({ name }) => name) }),
      ...(where !== undefined && { where, reads: namedIn(where, described) }),
    })
  }
  return { uniques, expressionUniques }
}

/** Whether equal values may be of two storage classes (1 and 1.0), or REPLACE puts another value in the place of what the statement brings. */
function mayBeWrittenOtherwise({ type, dflt_value }: ColumnInfo): boolean {
  return isLoose(type) || dflt_value !== null
}

/** What REPLACE makes of NULL in a NOT NULL column. Only a constant may stand in a trigger: functions of the host's run as often as without us. */
function insteadOfNull(column: ColumnInfo): { readonly insteadOfNull?: string } {
  return isReplaced(column) && isConstant(column.dflt_value) ? { insteadOfNull: column.dflt_value } : {}
}

function isReplaced(column: ColumnInfo): column is ColumnInfo & { readonly dflt_value: string } {
  return column.notnull === 1 && column.dflt_value !== null
}

/** Names, texts and comments: any character may stand in them. */
export const OPAQUE = /'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|--[^\n]*|\/\*[\s\S]*?\*\//g

/**
 * A quoted name that is no column's was taken for a text when the index was made, and is ever since; in a trigger it would not run on a connection that
 * takes none for such (https://www.sqlite.org/quirks.html#dblquote).
 */
function withLiterals(condition: string, described: readonly ColumnInfo[]): string {
  const names = new Set(['rowid', 'oid', '_rowid_', ...described.map(({ name }) => name.toLowerCase())])
  return condition.replace(OPAQUE, (token: string, at: number) => {
    const name = token.slice(1, -1).replaceAll('""', '"')
    const isOther = /(\b(COLLATE|AS)|\.)\s*$/i.test(condition.slice(0, at)) || /^\s*[(.]/.test(condition.slice(at + token.length))
    return !token.startsWith('"') || isOther || names.has(name.toLowerCase()) ? token : `'${name.replaceAll("'", "''")}'`
  })
}

/** Neither in texts nor in comments; a trigger that names a column keeps it from being dropped. */
function namedIn(condition: string, described: readonly ColumnInfo[]): readonly string[] {
  const named = new Set<string>()
  const bare = condition.replace(OPAQUE, (token) => {
    const [quote = ''] = token
    if ('"`['.includes(quote))
      named.add(
        token
          .slice(1, -1)
          .replaceAll(quote + quote, quote)
          .toLowerCase(),
      )
    return ' '
  })
  for (const [word] of bare.matchAll(/[^\s()<>=!+\-*/%|&~,;.]+/g)) named.add(word.toLowerCase())
  return described.map(({ name }) => name).filter((name) => named.has(name.toLowerCase()))
}

/** The condition of a partial index: what stands behind the parenthesis that closes its columns. */
function conditionOf(sql: string): string {
  const bare = sql.replace(OPAQUE, (text) => ' '.repeat(text.length))
  let depth = 0
  for (let at = bare.indexOf('('); at < bare.length; at++) {
    if (bare[at] === '(') depth++
    else if (bare[at] === ')' && --depth === 0) return sql.slice(bare.toLowerCase().indexOf('where', at) + 'where'.length).trim()
  }
  return ''
}
