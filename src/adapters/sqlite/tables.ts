import { insertedColumns, type OwnColumnType, type OwnTable } from '../../own-table.ts'
import { query, type Work } from '../../work.ts'
import { quote } from './triggers.ts'

const TYPES: Readonly<Record<OwnColumnType, string>> = {
  integer: 'INTEGER',
  boolean: 'INTEGER',
  text: 'TEXT',
  json: 'TEXT',
  time: 'TEXT',
  date: 'TEXT',
  decimal: 'TEXT',
  total: 'TEXT',
  bytes: 'BLOB',
}

/** The statements that make one of the library's own tables. Composite keys cluster the table, so that a row is one lookup. */
export function createTable(table: OwnTable): readonly string[] {
  const single = table.primaryKey.length === 1 && table.columns[table.primaryKey[0] as string] === 'integer'
  const columns = Object.keys(table.columns).map((name) => {
    const stamp = name === table.stamped ? " DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ'))" : ''
    const constraint = single && name === table.primaryKey[0] ? ' PRIMARY KEY' : table.nullable?.includes(name) ? '' : ` NOT NULL${stamp}`
    return `${typed(table, name)}${constraint}`
  })
  const key = single ? [] : [`PRIMARY KEY (${table.primaryKey.map(quote).join(', ')})`]
  return [
    `CREATE TABLE ${quote(table.name)} (${[...columns, ...key].join(', ')})${single ? '' : ' WITHOUT ROWID'}`,
    ...(table.uniques ?? []).map(
      (unique) => `CREATE UNIQUE INDEX ${quote(`${table.name}_${unique.join('_')}`)} ON ${quote(table.name)} (${unique.map(quote).join(', ')})`,
    ),
  ]
}

export function addColumns(table: OwnTable, columns: readonly string[]): readonly string[] {
  return columns.map((name) => `ALTER TABLE ${quote(table.name)} ADD COLUMN ${typed(table, name)}`)
}

function typed(table: OwnTable, column: string): string {
  return `${quote(column)} ${TYPES[table.columns[column] as OwnColumnType]}`
}

export function* columnsOf(names: readonly string[]): Work<ReadonlyMap<string, readonly string[]>> {
  const sql = `SELECT made.name AS "table", info.name AS "column" FROM main.sqlite_schema AS made, pragma_table_info(made.name, 'main') AS info
    WHERE made.type IN ('table', 'view') AND made.name IN (${names.map(() => '?').join(', ')})`
  const rows = yield* query<{ table: string; column: string }>({ sql, parameters: names })
  return new Map([...Map.groupBy(rows, ({ table }) => table)].map(([table, columns]) => [table, columns.map(({ column }) => column)]))
}

export function* hasTable(name: string): Work<boolean> {
  return (yield* query({ sql: `SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?`, parameters: [name] })).length > 0
}

export function* run(statements: readonly string[]): Work<void> {
  for (const sql of statements) yield* query({ sql, parameters: [] })
}

export function* dropTable(name: string): Work<void> {
  yield* query({ sql: `DROP TABLE IF EXISTS ${quote(name)}`, parameters: [] })
}

/** How many rows one INSERT brings: the fewer statements, the fewer calls into SQLite. */
const PORTIONS = [64, 16, 4, 1]
/** Values of one statement. */
const MOST_PARAMETERS = 2_048

/** Rows in portions of few sizes, so that few statements are compiled for them. */
export function portions<T>(rows: readonly T[], columns: number): readonly (readonly T[])[] {
  const found: T[][] = []
  for (let at = 0; at < rows.length; ) {
    const most = PORTIONS.find((size) => size === 1 || (size <= rows.length - at && size * columns <= MOST_PARAMETERS)) as number
    found.push(rows.slice(at, at + most))
    at += most
  }
  return found
}

export function insertSql(table: OwnTable, replaceBy: readonly string[] | undefined, rows: number): string {
  const columns = insertedColumns(table).map(([name]) => name)
  const row = `(${columns.map(() => '?').join(', ')})`
  const values = `INSERT INTO ${quote(table.name)} (${columns.map(quote).join(', ')}) VALUES ${Array(rows).fill(row).join(', ')}`
  if (replaceBy === undefined) return values
  const others = columns.filter((name) => !replaceBy.includes(name)).map((name) => `${quote(name)} = excluded.${quote(name)}`)
  return `${values} ON CONFLICT (${replaceBy.map(quote).join(', ')}) DO UPDATE SET ${others.join(', ')}`
}
