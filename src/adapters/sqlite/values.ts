import { TillsyncError } from '../../errors.ts'
import type { Key } from '../../ports.ts'
import { decodeKeyValues, encodeBlob, encodeReal, encodeText } from '../../record.ts'

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
