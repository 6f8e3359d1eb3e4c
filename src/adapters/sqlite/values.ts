import { isUtf8 } from 'node:buffer'
import { TillsyncError } from '../../errors.ts'
import { decodeKeyValues, encodeBlob, encodeInvalidText, encodeReal, encodeText, InvalidText } from '../../record.ts'
import type { Key } from '../../work.ts'

/**
 * A value as JSON text, by the storage class that SQLite gave it (https://www.sqlite.org/datatype3.html): the declared
 * type of the column says little. Integers are read as bigint, so a number here is always a REAL.
 */
export function encodeValue(value: unknown): string {
  if (typeof value === 'bigint') return String(value)
  if (typeof value === 'string') return encodeText(value)
  if (value === null) return 'null'
  if (typeof value === 'number') return encodeReal(value)
  if (value instanceof Uint8Array) return encodeBlob(value)
  if (value instanceof InvalidText) return encodeInvalidText(value)
  throw new TillsyncError('ERR_VALUE', `A value of type ${typeof value} came from SQLite`, {
    hint: 'Open the connection with better-sqlite3 as it is, without custom value conversion.',
  })
}

/** The key of a record id in the storage classes that it was read in. */
export function decodeKey(recordId: string): Key {
  return decodeKeyValues(recordId)
}

/**
 * A parameter of the host's filter as SQLite takes it: booleans, which it does not have, are 1 and 0.
 *
 * @throws ERR_FILTER where it is of no type that SQLite has
 */
export function toBindable(value: unknown): unknown {
  if (typeof value === 'boolean') return value ? 1 : 0
  if (value === null || ['string', 'number', 'bigint'].includes(typeof value) || value instanceof Uint8Array) return value
  throw new TillsyncError('ERR_FILTER', `SQLite has no ${value instanceof Date ? 'Date' : typeof value} to compare with`, {
    hint: 'Compare with what the column holds: text, a number, a bigint, a boolean, a Buffer or null.',
  })
}

const REPLACEMENT = '\uFFFD'

/** Whether any text may have had bytes that are no UTF-8: the driver puts the replacement character in their place. */
export function isSuspect(tuple: readonly unknown[]): boolean {
  for (const value of tuple) if (typeof value === 'string' && value.indexOf(REPLACEMENT) !== -1) return true // faster than includes()
  return false
}

/** The same rows with every text as its bytes, each value after its storage class. */
export function exactly(sql: string, columns: number): string {
  const names = Array.from({ length: columns }, (_, n) => `c${n}`)
  const values = names.flatMap((name) => [`typeof(${name})`, `CASE typeof(${name}) WHEN 'text' THEN CAST(${name} AS BLOB) ELSE ${name} END`])
  return `WITH found(${names.join(', ')}) AS MATERIALIZED (${sql}) SELECT ${values.join(', ')} FROM found`
}

/** A row of `exactly`, as a row of the statement itself. */
export function readExactly(tuple: readonly unknown[]): unknown[] {
  const values: unknown[] = []
  for (let at = 0; at < tuple.length; at += 2) {
    const value = tuple[at + 1]
    values.push(tuple[at] === 'text' ? textOf(value as Buffer) : value)
  }
  return values
}

function textOf(bytes: Buffer): string | InvalidText {
  return isUtf8(bytes) ? bytes.toString('utf8') : new InvalidText(bytes)
}

/** SQL and values for a key that holds such text, which the driver binds as bytes only. The key's conditions come first in the SQL. */
export function bindExactly(sql: string, key: Key): { readonly sql: string; readonly key: Key } {
  let at = 0
  return {
    sql: sql.replace(/" = \?/g, (condition) => (key[at++] instanceof InvalidText ? '" = CAST(? AS TEXT)' : condition)),
    key: key.map((value) => (value instanceof InvalidText ? value.bytes : value)),
  }
}

/** Whether a column of this type has no affinity: it holds 1 beside 1.0, which are equal (https://www.sqlite.org/datatype3.html#determination_of_column_affinity). */
export function isLoose(type: string): boolean {
  return /^(ANY)?$|BLOB/i.test(type) && !/INT|CHAR|CLOB|TEXT/i.test(type)
}
