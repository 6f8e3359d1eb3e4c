import type pg from 'pg'
import { q } from '../hosts/model.ts'
import { type Condition, conditionSql } from '../hosts/rules.ts'
import type { Reader, TableInfo } from './standing.ts'
import { type Exact, exactBoolean, exactBytes, exactInteger, exactReal, exactText, NULL } from './values.ts'

/**
 * A schema by plain queries on a session whose search path it is.
 *
 * @param version is another one after each change of the schema
 */
export function postgresReader(client: pg.Client, version: () => unknown): Reader {
  const [tables, initials] = [new Map<string, Promise<TableInfo>>(), new Map<string, Promise<ReadonlyMap<string, Exact>>>()]
  let of: unknown
  const known = <T>(all: Map<string, Promise<T>>, name: string, read: (client: pg.Client, name: string) => Promise<T>): Promise<T> => {
    if (of !== version()) for (const one of [tables, initials]) one.clear()
    of = version()
    const found = all.get(name) ?? read(client, name)
    all.set(name, found)
    return found
  }
  return {
    dialect: 'postgres',
    takes: (table, condition) => takes(client, table, condition),
    table: (name) => known(tables, name, tableInfo),
    rows: (columns, from) => select(client, `SELECT ${columns.map(([table, name]) => `${q(table)}.${q(name)}`).join(', ')} FROM ${from}`),
    initials: (table) => known(initials, table, initialsOf),
  }
}

/** All that the text of a value depends on. */
export const READER_SETTINGS = `SET DateStyle = 'ISO, YMD'; SET TimeZone = 'UTC'; SET IntervalStyle = 'iso_8601'; SET extra_float_digits = 1; SET bytea_output = 'hex'; SET lock_timeout = '5s'`

const COLUMNS = `SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}') AS columns FROM pg_attribute a
  WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`
const INDEXES = `
  SELECT i.indisprimary AS key, (SELECT array_agg(a.attname::text ORDER BY k.n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, n)
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) AS columns
  FROM pg_index i WHERE i.indrelid = to_regclass($1) AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL`

async function tableInfo(client: pg.Client, name: string): Promise<TableInfo> {
  const columns = (await client.query(COLUMNS, [q(name)])).rows[0].columns as string[]
  if (columns.length === 0) return { columns, key: [], uniques: [] }
  const indexes = (await client.query(INDEXES, [q(name)])).rows as { key: boolean; columns: string[] }[]
  return {
    columns,
    key: indexes.find(({ key }) => key)?.columns ?? [],
    uniques: indexes.filter(({ key }) => !key).map(({ columns }) => columns),
  }
}

async function takes(client: pg.Client, table: string, condition: Condition): Promise<boolean> {
  try {
    await client.query(`SELECT FROM ${q(table)} WHERE false AND ${conditionSql('postgres', table, condition)}`)
    return true
  } catch (error) {
    if (/^(22|42)/.test((error as pg.DatabaseError).code ?? '')) return false
    throw error
  }
}

/** Values as the server writes them. */
const AS_WRITTEN = { getTypeParser: () => (value: string | Buffer) => String(value) } as unknown as pg.CustomTypesConfig

async function select(client: pg.Client, text: string): Promise<Exact[][]> {
  const { rows, fields } = await client.query<(string | null)[]>({ text, rowMode: 'array', types: AS_WRITTEN })
  return rows.map((row) => row.map((value, at) => (value === null ? NULL : exactOf(fields[at]?.dataTypeID as number, value))))
}

/** By the number of a type, which is that beneath a domain; see docs/configuration.md. */
function exactOf(type: number, text: string): Exact {
  if ([20, 21, 23].includes(type)) return exactInteger(text)
  if ([700, 701].includes(type)) return exactReal(Number(text))
  if (type === 16) return exactBoolean(text === 't')
  if (type === 17) return exactBytes(Buffer.from(text.slice(2), 'hex'))
  if ([1114, 1184].includes(type) && !/infinity|BC/.test(text)) return exactText(isoText(text, type === 1184))
  return exactText(text)
}

/** `2026-06-01 12:00:00.5+00` → `2026-06-01T12:00:00.500000Z` */
function isoText(text: string, zoned: boolean): string {
  const [date, time] = text.replace('+00', '').split(' ') as [string, string]
  const [seconds, fraction = ''] = time.split('.') as [string, string?]
  return `${date}T${seconds}.${fraction.padEnd(6, '0')}${zoned ? 'Z' : ''}`
}

const INITIALS = `
  SELECT a.attname::text AS name, format_type(a.atttypid, a.atttypmod) AS type,
         CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS initial
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`

const known = new Map<string, Exact>()

/** Where the default is another one each time there can be none: it counts as NULL. */
async function initialsOf(client: pg.Client, table: string): Promise<Map<string, Exact>> {
  const initials = new Map<string, Exact>()
  const { rows } = await client.query(INITIALS, [q(table)])
  for (const { name, type, initial } of rows as { name: string; type: string; initial: string | null }[]) {
    const constant = initial === null || /nextval|clock_timestamp/.test(initial) ? 'NULL' : initial
    const text = `CAST(${constant} AS ${type})`
    const value = known.get(text) ?? (await initialOf(client, text))
    known.set(text, value)
    initials.set(name, value)
  }
  return initials
}

async function initialOf(client: pg.Client, text: string): Promise<Exact> {
  try {
    return (await select(client, `SELECT ${text}`))[0]?.[0] as Exact
  } catch (error) {
    if (/^2[23]/.test((error as pg.DatabaseError).code ?? '')) return 'none' // a default that is no value of its column
    throw error
  }
}
