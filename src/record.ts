import { TillsyncError } from './errors.ts'
import type { Value } from './model.ts'

/**
 * How the values of a record are written as JSON text, by publishers, and read again, by subscribers.
 *
 * Integers are integer literals of any length, doubles always show a point or an exponent, text is a JSON string. What
 * JSON can't say is an object with one member: `{"$blob": base64}`, `{"$real": "Infinity" | "-Infinity" | "NaN" | "-0.0"}`,
 * `{"$text": base64}` for text whose bytes are not UTF-8.
 * No SQL value is a JSON object otherwise (a json column travels as its text), so a tag can't be mistaken.
 */

export function encodeText(value: string): string {
  return JSON.stringify(value)
}

export function encodeBlob(value: Uint8Array): string {
  return `{"$blob":"${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64')}"}`
}

/** Text whose bytes are not UTF-8, as an older program may have left it in an SQLite file: no string holds it. */
export class InvalidText {
  readonly bytes: Uint8Array

  constructor(bytes: Uint8Array) {
    this.bytes = bytes
  }
}

export function encodeInvalidText({ bytes }: InvalidText): string {
  return `{"$text":"${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64')}"}`
}

/** In a quoted string the tag's own quotes would be escaped, so only the tag itself is found. */
const INVALID_TEXT = /\{"\$text":"([A-Za-z0-9+/=]*)"\}/g

/** A record as a database takes it that has valid text only: with a replacement character for what is none. */
export function withValidText(record: string): string {
  return record.includes('{"$text":') ? record.replace(INVALID_TEXT, (_, bytes: string) => encodeText(readable(bytes))) : record
}

function readable(base64: string): string {
  return Buffer.from(base64, 'base64').toString('utf8')
}

/** The shortest decimal that reads back as the same double. */
export function encodeReal(value: number): string {
  if (!Number.isFinite(value) || Object.is(value, -0)) return `{"$real":"${Object.is(value, -0) ? '-0.0' : value}"}`
  const text = String(value)
  return /[.e]/.test(text) ? text : `${text}.0`
}

const LONG_INTEGER = /[-:[,]\d{16,}/
const REALS: Readonly<Record<string, number>> = { Infinity: Infinity, '-Infinity': -Infinity, NaN: NaN, '-0.0': -0 }

/**
 * The record of an entry as handlers get it. Integers beyond 2^53 are bigint, blobs are Buffers; text that is not UTF-8 shows
 * replacement characters.
 *
 * @throws ERR_VALUE where the text is no record
 */
export function decodeRecord(text: string): Record<string, Value> {
  const record = parse(text)
  if (typeof record !== 'object' || record === null || Array.isArray(record)) throw notARecord()
  return record as Record<string, Value>
}

/** A value to the byte: integers are bigint, so that they can be told from whole doubles, and text may be invalid. */
export type ExactValue = Value | InvalidText

/** The values of a record id as they are kept. */
export function decodeKeyValues(text: string): ExactValue[] {
  const id = parseExactly(text)
  if (!Array.isArray(id)) throw notARecord()
  return id as ExactValue[]
}

/** The values of a record as they are kept. @throws ERR_VALUE */
export function decodeRecordExactly(text: string): Record<string, ExactValue> {
  const record = parseExactly(text)
  if (typeof record !== 'object' || record === null || Array.isArray(record)) throw notARecord()
  return record as Record<string, ExactValue>
}

function parseExactly(text: string): unknown {
  return JSON.parse(text, function exact(this: unknown, key: string, value: unknown, context?: { source?: string }): unknown {
    if (typeof value === 'number' && /^-?\d+$/.test(context?.source ?? '')) return BigInt(context?.source ?? '')
    const bytes = key !== '' && typeof value === 'object' && value !== null && '$text' in value ? value.$text : undefined
    if (typeof bytes === 'string') return new InvalidText(Buffer.from(bytes, 'base64'))
    return revive.call(this, key, value, context)
  } as (key: string, value: unknown) => unknown)
}

function encodeExactly(value: ExactValue): string {
  if (value instanceof InvalidText) return encodeInvalidText(value)
  return typeof value === 'number' ? encodeReal(value) : encodeValue(value)
}

/** The values of a record id. */
export function decodeRecordId(text: string): Value[] {
  const id = parse(text)
  if (!Array.isArray(id)) throw notARecord()
  return id as Value[]
}

/** Whether a value needs more than JSON.parse: a tag, or an integer that a double can't hold. */
function isPlain(text: string): boolean {
  return text.indexOf('{', 1) === -1 && !LONG_INTEGER.test(text)
}

function parse(text: string): unknown {
  try {
    return isPlain(text) ? JSON.parse(text) : JSON.parse(text, revive as (key: string, value: unknown) => unknown)
  } catch (error) {
    throw error instanceof TillsyncError ? error : notARecord(error)
  }
}

/** JSON of plain values, with integers that a double can't hold as bigint. */
export function parseWhole(text: string): unknown {
  return JSON.parse(text, ((_key: string, value: unknown, context?: { source?: string }) =>
    typeof value === 'number' ? wholeOr(value, context?.source) : value) as (key: string, value: unknown) => unknown)
}

/** A whole number that a double can't hold as it is written. */
function wholeOr(value: number, source: string | undefined): number | bigint {
  return source !== undefined && !Number.isSafeInteger(value) && /^-?\d+$/.test(source) ? BigInt(source) : value
}

function revive(this: unknown, key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value === 'number') return wholeOr(value, context?.source)
  if (typeof value !== 'object' || value === null || Array.isArray(value) || key === '') return value
  const tags = Object.entries(value)
  const [tag, content] = tags[0] ?? []
  if (tags.length === 1 && tag === '$blob' && typeof content === 'string') return Buffer.from(content, 'base64')
  if (tags.length === 1 && tag === '$text' && typeof content === 'string') return readable(content)
  const real = tags.length === 1 && tag === '$real' ? REALS[String(content)] : undefined
  if (real !== undefined) return real
  throw notARecord()
}

/**
 * The members of a record by name, each as it is written.
 *
 * @throws ERR_VALUE where the text is no record
 */
export function writtenMembers(record: string): ReadonlyMap<string, string> {
  const members = new Map<string, string>()
  let at = 1
  while (record.charAt(at) === '"') {
    const name = textEnd(record, at)
    const value = valueEnd(record, name + 1)
    if (record.charAt(name) !== ':' || value <= name + 1) throw notARecord()
    members.set(nameOf(record.slice(at, name)), record.slice(name + 1, value))
    if (record.charAt(value) !== ',') return members
    at = value + 1
  }
  if (record !== '{}') throw notARecord()
  return members
}

function nameOf(text: string): string {
  return text.includes('\\') ? JSON.parse(text) : text.slice(1, -1)
}

/** Behind the quote that ends a text. */
function textEnd(record: string, at: number): number {
  for (let end = record.indexOf('"', at + 1); end !== -1; end = record.indexOf('"', end + 1)) {
    let escapes = end - 1
    while (record.charAt(escapes) === '\\') escapes--
    if ((end - escapes) % 2 === 1) return end + 1
  }
  throw notARecord()
}

/** Behind a value; a tag holds no brace. */
function valueEnd(record: string, at: number): number {
  if (record.charAt(at) === '"') return textEnd(record, at)
  const brace = record.indexOf('}', at)
  if (brace === -1) throw notARecord()
  if (record.charAt(at) === '{') return brace + 1
  const comma = record.indexOf(',', at)
  return comma === -1 || comma > brace ? brace : comma
}

function notARecord(cause?: unknown): TillsyncError {
  return new TillsyncError('ERR_VALUE', 'The text is not a record as tillsync writes it', {
    hint: 'Entries are written by the library only; was a row of sync_entries or sync_archive changed by hand?',
    cause,
  })
}

/** A value as handlers have it, as JSON text. A whole number is an integer then, whatever it was at the sender. */
export function encodeValue(value: Value): string {
  if (value === null || typeof value === 'boolean' || typeof value === 'bigint') return String(value)
  if (typeof value === 'number') return Number.isSafeInteger(value) && !Object.is(value, -0) ? String(value) : encodeReal(value)
  return typeof value === 'string' ? encodeText(value) : encodeBlob(value)
}

/** The key's values of a record id, by name, as a record. */
export function keyRecord(columns: readonly string[], recordId: string): string {
  const values = decodeKeyValues(recordId)
  if (values.length !== columns.length) throw notARecord()
  return asRecord(columns.map((name, at) => [name, values[at] as ExactValue]))
}

/** A record in which these are null. */
export function withNulls(record: string, names: readonly string[]): string {
  return asRecord(Object.entries(decodeRecordExactly(record)).map(([name, value]) => [name, names.includes(name) ? null : value]))
}

function asRecord(values: readonly (readonly [string, ExactValue])[]): string {
  return `{${values.map(([name, value]) => `${encodeText(name)}:${encodeExactly(value)}`).join(',')}}`
}

/** What a record of names has by this one; a name like `constructor` is none that every object has. */
export function ownOf<T>(record: Readonly<Record<string, T>> | undefined, name: string): T | undefined {
  return record !== undefined && Object.hasOwn(record, name) ? record[name] : undefined
}
