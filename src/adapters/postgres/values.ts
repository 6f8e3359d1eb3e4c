import { TillsyncError } from '../../errors.ts'
import type { HostColumn } from '../../host-table.ts'
import { decodeKeyValues, encodeBlob, encodeReal, encodeText } from '../../record.ts'
import type { Key } from '../../work.ts'

/** All that the text of a value depends on beside itself. The library's sessions and the trigger functions read under the same. */
export const SETTINGS: Readonly<Record<string, string>> = {
  TimeZone: 'UTC',
  DateStyle: 'ISO, YMD',
  IntervalStyle: 'iso_8601',
  extra_float_digits: '1', // the shortest decimal that reads back as the same number
  bytea_output: 'hex',
  lc_monetary: 'C',
}

/** What statements and the texts of values are read by, which a role or a database may have set otherwise; and how types are named. */
export const READING: Readonly<Record<string, string>> = {
  standard_conforming_strings: 'on',
  array_nulls: 'on',
  xmloption: 'content',
  quote_all_identifiers: 'off',
}

export const INTEGERS = ['smallint', 'integer', 'bigint']
const REALS = ['real', 'double precision']
const TIMES = ['timestamp without time zone', 'timestamp with time zone']

/** Which of the settings the text of a type depends on; a type that is not listed may depend on any. */
const DEPENDS: Readonly<Record<string, readonly string[]>> = {
  ...Object.fromEntries([...INTEGERS, 'text', 'character varying', 'character', 'uuid', 'numeric', 'boolean'].map((type) => [type, []])),
  ...Object.fromEntries(REALS.map((type) => [type, ['extra_float_digits']])),
  ...Object.fromEntries([...TIMES, 'date'].map((type) => [type, ['DateStyle', 'TimeZone']])),
  bytea: ['bytea_output'],
}

/** Types whose cast to text is what the type itself writes; for others the cast may strip blanks or add a netmask. */
const PLAIN = [...INTEGERS, 'text', 'character varying', 'uuid', 'numeric', 'bytea', ...REALS]

/** Whether `textOf` is such a cast. */
export function isPlain(column: HostColumn): boolean {
  return PLAIN.includes(baseOf(column))
}

/** The type that a text is cast to: of a domain the one beneath, for the domain may refuse what is only looked for, NULL among it. */
export function castable({ type, base = type }: HostColumn): string {
  if (base === 'text' || base === 'uuid') return `pg_catalog.${base}`
  if (type.replace(/\([\d,]+\)/, '') === base) return type
  return LENGTHLESS[base] ?? base
}

/** Whether a column's type is another than the one beneath; one without a search path's help may be the same by a longer name. */
export function isDomain({ type, base = type }: HostColumn): boolean {
  return type.replace(/\([\d,]+\)/, '') !== base
}

/** By these names the types have no length; by their own they have one of 1. */
const LENGTHLESS: Readonly<Record<string, string>> = { character: 'pg_catalog.bpchar', bit: 'pg_catalog."bit"' }

/** Types of which equal values have one text (with a collation that tells all texts apart). */
const WRITTEN_ALIKE = [...INTEGERS, ...TIMES, 'text', 'character varying', 'character', 'uuid', 'boolean', 'date', 'bytea']

/** Whether values that are equal are the same to the bit. */
export function isWrittenAlike(column: HostColumn): boolean {
  return WRITTEN_ALIKE.includes(baseOf(column))
}

/** Types of one kind are compared by their values, whatever their texts: 1 and 1.00. */
const KINDS = [
  [...INTEGERS, ...REALS, 'numeric'],
  ['text', 'character varying', 'character'],
  [...TIMES, 'date'],
]

export function areOfOneKind(a: HostColumn, b: HostColumn): boolean {
  return KINDS.some((kind) => kind.includes(baseOf(a)) && kind.includes(baseOf(b)))
}

/** The type beneath domains, without length and precision. */
function baseOf(column: HostColumn): string {
  return column.base ?? column.type
}

export function settingsFor(columns: readonly HostColumn[]): readonly string[] {
  return [...new Set(columns.flatMap((column) => DEPENDS[baseOf(column)] ?? Object.keys(SETTINGS)))].sort()
}

/** An expression for the text of a value, exactly as a lookup answers it. A composite of NULLs is not NULL, though IS NULL says so. */
export function textOf(column: HostColumn, expression: string): string {
  if (isPlain(column)) return `${expression}::pg_catalog.text`
  return `CASE WHEN ${expression} IS NOT DISTINCT FROM NULL THEN NULL ELSE format('%s', ${expression}) END`
}

/**
 * How the values of a column are written, from the text in which a lookup answers them:
 *
 * | type | record |
 * |---|---|
 * | smallint, integer, bigint | integer literal |
 * | real, double precision | double; ±Infinity, NaN and -0 tagged |
 * | boolean | true, false |
 * | bytea | base64 under its tag |
 * | timestamp, timestamptz | ISO 8601 with microseconds, the latter in UTC with Z; infinity and BC as PostgreSQL writes them |
 * | all others, numeric, json, arrays, ranges and composites among them | PostgreSQL's own text |
 */
export function encoderOf(column: HostColumn): (value: unknown) => string {
  const encode = encoderOfType(baseOf(column))
  return (value) => {
    if (value === null || value === undefined) return 'null'
    if (typeof value === 'string') return encode(value)
    if (value instanceof Uint8Array) return encodeBlob(value)
    throw new TillsyncError('ERR_VALUE', `A value of type ${typeof value} came from PostgreSQL`, { context: { column: column.name } })
  }
}

function encoderOfType(type: string): (text: string) => string {
  if (INTEGERS.includes(type)) return (text) => text
  if (REALS.includes(type)) return (text) => encodeReal(Number(text))
  if (type === 'boolean') return (text) => (text === 't' ? 'true' : 'false')
  if (type === 'bytea') return (text) => encodeBlob(Buffer.from(text.slice(2), 'hex'))
  if (TIMES.includes(type)) return (text) => encodeText(isoOf(text))
  return encodeText
}

const TIME = /^(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d+))?(\+00|Z)?$/

function isoOf(text: string): string {
  const [, date, time, fraction = '', zone] = TIME.exec(text) ?? []
  return date === undefined ? text : `${date}T${time}.${fraction.padEnd(6, '0')}${zone === undefined ? '' : 'Z'}`
}

/** A record id's values as PostgreSQL reads them. */
export function keyOf(_columns: readonly HostColumn[], recordId: string): Key {
  return decodeKeyValues(recordId).map(keyText)
}

/** A value of a key as text, as every lookup takes it. */
export function keyText(value: unknown): string | null {
  if (value === null || value === undefined) return null
  if (value instanceof Uint8Array) return `\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}`
  if (typeof value === 'boolean') return value ? 't' : 'f'
  return Object.is(value, -0) ? '-0' : String(value)
}
