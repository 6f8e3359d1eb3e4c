import type { HostColumn, HostTable } from '../../host-table.ts'
import type { OwnColumnType, OwnTable } from '../../own-table.ts'
import type { ReferredColumns } from '../../ports.ts'
import type { Key, Step } from '../../work.ts'
import { quote, TYPES } from './tables.ts'
import { areOfOneKind, castable, isDomain, keyText } from './values.ts'

/**
 * The condition of a lookup. The cast stands in a subquery of its own, which is evaluated once a key: so an index serves the
 * condition, and PostgreSQL, which orders conditions by their cost, checks it before the host's filter. A filter that raises
 * then does so for its own document only.
 */
export function keyed(table: HostTable | OwnTable, columns: readonly string[], referred?: ReferredColumns): string {
  return columns
    .map((name, n) => {
      const { type, own } = typeOf(table, name)
      const key = (type: string) => `(SELECT sync_keys.k${n + 1}::${type})`
      const column = own === undefined ? undefined : columnOf(referred?.table, referred?.columns[n])
      return own === undefined || column === undefined ? `${compared(own, name, type)} = ${key(type)}` : equalAsReferred(own, column, key)
    })
    .join(' AND ')
}

/** By the type and the collation of what is referred to; where those differ, an index on the column that refers may be of no use. */
function equalAsReferred(own: HostColumn, referred: HostColumn, key: (type: string) => string): string {
  const type = castable(areOfOneKind(own, referred) ? referred : own)
  const column = compared(own, own.name, castable(own))
  const equal = `${column} = ${key(type)}`
  if (own.collation === referred.collation) return equal
  const collated = `${column} COLLATE ${referred.collation ?? 'pg_catalog."default"'} = ${key(type)}`
  return referred.collation === undefined ? `${equal} AND ${collated}` : collated
}

/** Some types have operators only for themselves, and none for a domain over them. */
function compared(own: HostColumn | undefined, name: string, type: string): string {
  return own !== undefined && isDomain(own) ? `${quote(name)}::${type}` : quote(name)
}

function typeOf(table: HostTable | OwnTable, name: string): { readonly type: string; readonly own?: HostColumn } {
  const { columns } = table
  if (!Array.isArray(columns)) return { type: TYPES[(columns as Readonly<Record<string, OwnColumnType>>)[name] as OwnColumnType] }
  const own = columnOf(table as HostTable, name)
  return own === undefined ? { type: 'text' } : { type: castable(own), own }
}

function columnOf(table: HostTable | undefined, name: string | undefined): HostColumn | undefined {
  return table?.columns.find((column) => column.name === name)
}

/**
 * One statement for all keys of a lookup: each row begins with the number of its key, from 1. OFFSET 0 keeps PostgreSQL from
 * joining the whole table instead of asking key by key.
 */
export function lookupSql(step: Step & { kind: 'lookup' }): { readonly text: string; readonly values: unknown[] } {
  const { sql, keys, parameters } = step
  const width = keys[0]?.length ?? 0
  // Bytes as text: `pg` sends a Buffer in PostgreSQL's own format, which for a column that holds no bytes is a breach of the protocol, and no value that does not fit.
  const given = parameters.map((value) => (value instanceof Uint8Array ? keyText(value) : value))
  if (width === 0) return { text: `SELECT '1', found.* FROM (${sql}) AS found`, values: given }
  const names = Array.from({ length: width }, (_, at) => `k${at + 1}`)
  const arrays = names.map((_, at) => `$${parameters.length + at + 1}::text[]`)
  return {
    text: `SELECT sync_keys.n, found.* FROM unnest(${arrays.join(', ')}) WITH ORDINALITY AS sync_keys(${names.join(', ')}, n)
           CROSS JOIN LATERAL (${sql} OFFSET 0) AS found`,
    values: [...given, ...names.map((_, at) => keys.map((key) => keyText(key[at])))],
  }
}

/** The rows of each key, as tuples. */
export function byKey(rows: readonly (readonly unknown[])[], keys: readonly Key[]): Key[][] {
  const found: Key[][] = keys.map(() => [])
  for (const [n, ...tuple] of rows) found[Number(n) - 1]?.push(tuple)
  return found
}
