import type { HostTable, Key, OwnColumnType, OwnTable, Step } from '../../ports.ts'
import { quote, TYPES } from './tables.ts'
import { castable, isDomain, keyText } from './values.ts'

/**
 * The condition of a lookup. The cast stands in a subquery of its own, which is evaluated once a key: so an index serves the
 * condition, and PostgreSQL, which orders conditions by their cost, checks it before the host's filter. A filter that raises
 * then does so for its own document only.
 */
export function keyed(table: HostTable | OwnTable, columns: readonly string[]): string {
  return columns
    .map((name, n) => {
      const { type, isDomain } = typeOf(table, name)
      return `${quote(name)}${isDomain ? `::${type}` : ''} = (SELECT sync_keys.k${n + 1}::${type})`
    })
    .join(' AND ')
}

/** Some types have operators only for themselves, and none for a domain over them. */
function typeOf(table: HostTable | OwnTable, name: string): { readonly type: string; readonly isDomain: boolean } {
  const { columns } = table
  if (!Array.isArray(columns)) return { type: TYPES[(columns as Readonly<Record<string, OwnColumnType>>)[name] as OwnColumnType], isDomain: false }
  const column = (table as HostTable).columns.find((column) => column.name === name)
  return column === undefined ? { type: 'text', isDomain: false } : { type: castable(column), isDomain: isDomain(column) }
}

/**
 * One statement for all keys of a lookup: each row begins with the number of its key, from 1. OFFSET 0 keeps PostgreSQL from
 * joining the whole table instead of asking key by key.
 */
export function lookupSql(step: Step & { kind: 'lookup' }): { readonly text: string; readonly values: unknown[] } {
  const { sql, keys, parameters } = step
  const width = keys[0]?.length ?? 0
  if (width === 0) return { text: `SELECT '1', found.* FROM (${sql}) AS found`, values: [...parameters] }
  const names = Array.from({ length: width }, (_, at) => `k${at + 1}`)
  const arrays = names.map((_, at) => `$${parameters.length + at + 1}::text[]`)
  return {
    text: `SELECT sync_keys.n, found.* FROM unnest(${arrays.join(', ')}) WITH ORDINALITY AS sync_keys(${names.join(', ')}, n)
           CROSS JOIN LATERAL (${sql} OFFSET 0) AS found`,
    values: [...parameters, ...names.map((_, at) => keys.map((key) => keyText(key[at])))],
  }
}

/** The rows of each key, as tuples. */
export function byKey(rows: readonly (readonly unknown[])[], keys: readonly Key[]): Key[][] {
  const found: Key[][] = keys.map(() => [])
  for (const [n, ...tuple] of rows) found[Number(n) - 1]?.push(tuple)
  return found
}
