import type pg from 'pg'
import type { Test } from 'tap'
import { literal, type Read } from './exact.ts'
import { openPool, type Postgres } from './postgres.ts'
import { EXTENSIONS, TYPES_SQL, type Type, VALUE_TYPES } from './postgres-types.ts'
import type { Random } from './random.ts'

/** Under which texts are read and compared here; none of the library's. */
const FIXED =
  '-c DateStyle=ISO,YMD -c TimeZone=UTC -c IntervalStyle=postgres -c extra_float_digits=1 -c lc_monetary=C -c bytea_output=hex ' +
  '-c array_nulls=on -c xmloption=content -c standard_conforming_strings=on -c quote_all_identifiers=off'

/** What a host's session, its role or its database may be set to. */
const SETTINGS: Readonly<Record<string, readonly string[]>> = {
  DateStyle: ['German', 'SQL, DMY', 'SQL, MDY', 'Postgres, DMY', 'ISO, DMY'],
  IntervalStyle: ['sql_standard', 'postgres', 'postgres_verbose', 'iso_8601'],
  extra_float_digits: ['0', '-15', '3'],
  TimeZone: ['Asia/Kathmandu', 'America/St_Johns', 'Europe/Berlin', 'Pacific/Apia', '+13:45'],
  lc_monetary: ['C', 'C.utf8'],
  bytea_output: ['escape', 'hex'],
  array_nulls: ['off', 'on'],
  xmloption: ['document', 'content'],
  xmlbinary: ['hex', 'base64'],
  standard_conforming_strings: ['off', 'on'],
  quote_all_identifiers: ['on', 'off'],
  transform_null_equals: ['on', 'off'],
  timezone_abbreviations: ['India', 'Default'],
}

export type Settings = readonly (readonly [name: string, value: string])[]

export function nastySettings(random: Random): Settings {
  return Object.entries(SETTINGS).flatMap(([name, values]) => (random.chance(0.6) ? [[name, random.pick(values)] as const] : []))
}

/** A database of a host with what its sessions are set to, and a pool that is not. */
export interface ValuesDatabase {
  readonly config: pg.PoolConfig
  /** To read and compare by. */
  readonly pool: pg.Pool
}

export async function openValues(t: Test, server: Postgres, tables: string, settings: Settings): Promise<ValuesDatabase> {
  const { config } = await server.createDatabase()
  const pool = openPool(t, { ...config, options: FIXED, max: 2 })
  for (const extension of EXTENSIONS) await pool.query(`CREATE EXTENSION IF NOT EXISTS ${extension}`).catch(() => undefined)
  await pool.query(`${TYPES_SQL}; ${tables}`)
  for (const [name, value] of settings) await pool.query(`ALTER DATABASE "${config.database}" SET ${name} = '${value}'`)
  return { config, pool }
}

/** The types that this server has. */
export async function typesOf(pool: pg.Pool): Promise<readonly Type[]> {
  const { rows } = await pool.query<{ extname: string }>('SELECT extname FROM pg_extension')
  return VALUE_TYPES.filter(({ extension }) => extension === undefined || rows.some(({ extname }) => extname === extension))
}

/** The type beneath domains, and what sends its values. */
const BENEATH = `
  WITH RECURSIVE types AS (
    SELECT oid, typbasetype, typsend, typtype FROM pg_type WHERE oid = $1::regtype
    UNION ALL SELECT t.oid, t.typbasetype, t.typsend, t.typtype FROM types d JOIN pg_type t ON t.oid = d.typbasetype)
  SELECT format('%s.%I', t.typnamespace::regnamespace, t.typname) AS base, t.typsend::regproc::text AS send FROM types JOIN pg_type t USING (oid) WHERE types.typtype <> 'd'`

/** Columns by name with what turns a value of theirs into text that shows every bit. */
export class ValuesTable {
  readonly name: string
  readonly columns: readonly (readonly [name: string, type: Type])[]
  private sends = new Map<string, (value: string) => string>()

  constructor(name: string, columns: readonly (readonly [string, Type])[]) {
    this.name = name
    this.columns = columns
  }

  /** By each type's binary output. */
  async learn(pool: pg.Pool): Promise<void> {
    for (const [, { type, asText }] of this.columns) {
      if (this.sends.has(type)) continue
      const { rows } = await pool.query(BENEATH, [type])
      const { base, send } = rows[0]
      this.sends.set(type, asText || send === '-' ? (value) => `convert_to(format('%s', ${value}), 'UTF8')` : (value) => `${send}(${value}::${base})`)
    }
  }

  private bits({ type }: Type, value: string): string {
    const bytes = this.sends.get(type)?.(value)
    return `CASE WHEN num_nulls(${value}) = 1 THEN 'null' ELSE encode(${bytes}, 'hex') END`
  }

  /** The rows of a table, each as one text. */
  async standing(pool: pg.Pool, where = 'true', parameters: readonly unknown[] = []): Promise<string[]> {
    const columns = this.columns.map(([name, type]) => `'${name} ${type.type}: ' || ${this.bits(type, name)}`)
    const { rows } = await pool.query(`SELECT array_to_string(ARRAY[${columns.join(', ')}], ' | ') AS row FROM ${this.name} WHERE ${where}`, [
      ...parameters,
    ])
    return rows.map(({ row }) => row)
  }

  /** The same of records, as PostgreSQL reads their values. */
  async read(pool: pg.Pool, records: readonly { readonly columns: Readonly<Record<string, Read>> }[]): Promise<string[]> {
    const texts: string[][] = records.map(() => [])
    for (const [name, type] of this.columns) {
      const values = records.map(({ columns }) => literal(columns[name] as Read))
      const { rows } = await pool.query(
        `SELECT ${this.bits(type, 'v')} AS bits FROM (SELECT n, t::${type.type} AS v FROM unnest($1::text[]) WITH ORDINALITY AS u(t, n)) AS x ORDER BY n`,
        [values],
      )
      for (const [at, { bits }] of rows.entries()) texts[at]?.push(`${name} ${type.type}: ${bits}`)
    }
    return texts.map((text) => text.join(' | '))
  }
}
