import { insertedColumns, type OwnColumnType, type OwnTable } from '../../own-table.ts'
import type { Insert, Statement } from '../../work.ts'

export const TYPES: Readonly<Record<OwnColumnType, string>> = {
  integer: 'bigint',
  boolean: 'boolean',
  text: 'text',
  json: 'json',
  time: 'timestamptz',
  date: 'date',
  decimal: 'numeric(18, 6)',
  total: 'numeric(38, 6)',
  bytes: 'bytea',
}

export function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** The statements that make one of the library's own tables; texts that are compared are compared byte by byte. */
export function createTable(table: OwnTable, qualify: (name: string) => string): readonly string[] {
  const columns = Object.keys(table.columns).map((name) => {
    const generated = name === table.generated ? ' GENERATED ALWAYS AS IDENTITY' : name === table.stamped ? ' DEFAULT now()' : ''
    return `${typed(table, name)}${generated}${table.nullable?.includes(name) ? '' : ' NOT NULL'}`
  })
  return [
    `CREATE TABLE ${qualify(table.name)} (${[...columns, `PRIMARY KEY (${table.primaryKey.map(quote).join(', ')})`].join(', ')})`,
    ...(table.uniques ?? []).map((unique) => `CREATE UNIQUE INDEX ON ${qualify(table.name)} (${unique.map(quote).join(', ')})`),
  ]
}

export function addColumns(table: OwnTable, columns: readonly string[], qualified: string): readonly string[] {
  return columns.map((name) => `ALTER TABLE ${qualified} ADD COLUMN ${typed(table, name)}`)
}

function typed(table: OwnTable, column: string): string {
  const type = table.columns[column] as OwnColumnType
  const collate = type === 'text' && table.primaryKey.includes(column) ? ' COLLATE "C"' : ''
  return `${quote(column)} ${TYPES[type]}${collate}`
}

/** The table with its columns, as COPY names them. */
export function copyTarget(table: OwnTable, qualified: string): string {
  return `${qualified} (${insertedColumns(table)
    .map(([name]) => quote(name))
    .join(', ')})`
}

/**
 * One statement for any number of rows of several tables, each column an array, and for another one whose parameters come first. What modifies data in WITH runs in the same snapshot, and whether or not
 * it is referred to: https://www.postgresql.org/docs/current/queries-with.html#QUERIES-WITH-MODIFYING
 */
export function insertAllSql(inserts: readonly Omit<Insert, 'rows'>[], qualify: (name: string) => string, beside: Statement | undefined): string {
  let parameters = beside?.parameters.length ?? 0
  const all = inserts.map((insert) => {
    const sql = insertSql(insert, qualify(insert.table.name), parameters)
    parameters += insertedColumns(insert.table).length
    return sql
  })
  const last = beside?.sql ?? all.pop()
  return all.length === 0 ? `${last}` : `WITH ${all.map((sql, n) => `sync_${n} AS (${sql})`).join(', ')} ${last}`
}

/** @param before how many parameters there are before its own */
function insertSql({ table, replaceBy, unlessAlike }: Omit<Insert, 'rows'>, qualified: string, before: number): string {
  const columns = insertedColumns(table)
  const names = columns.map(([name]) => quote(name)).join(', ')
  const arrays = columns.map(([, type], n) => `$${before + n + 1}::${TYPES[type]}[]`).join(', ')
  const values = `INSERT INTO ${qualified} AS was (${names}) SELECT * FROM unnest(${arrays})`
  if (replaceBy === undefined) return values
  const others = columns.filter(([name]) => !replaceBy.includes(name)).map(([name]) => quote(name))
  const overwritten = `${values} ON CONFLICT (${replaceBy.map(quote).join(', ')}) DO UPDATE SET ${others.map((name) => `${name} = excluded.${name}`).join(', ')}`
  if (!unlessAlike) return overwritten
  const row = (of: string) => `(${others.map((name) => `${of}.${name}::text`).join(', ')})`
  return `${overwritten} WHERE ${row('was')} IS DISTINCT FROM ${row('excluded')}`
}

export function eraseSql(table: OwnTable, qualified: string, by: readonly string[]): string {
  const arrays = by.map((name, n) => `$${n + 1}::${TYPES[table.columns[name] as OwnColumnType]}[]`).join(', ')
  return `DELETE FROM ${qualified} WHERE (${by.map(quote).join(', ')}) IN (SELECT * FROM unnest(${arrays}))`
}
