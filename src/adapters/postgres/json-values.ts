import type { HostColumn } from '../../host-table.ts'
import { quote } from './tables.ts'
import { INTEGERS, isWrittenAlike, textOf } from './values.ts'

const TEXTS = ['text', 'character varying', 'character']
/** Types whose cast cuts a value to the column's length without a word; only as an assignment does PostgreSQL refuse it. */
const CUT: Readonly<Record<string, string>> = {
  character: 'bpchar',
  'character varying': 'character varying',
  bit: '"bit"',
  'bit varying': 'bit varying',
}

/** The type as which a value is read before it is assigned to its column. */
function readAs({ type, base = type }: HostColumn): string {
  const [, element = '', array = ''] = /^(.*?)((?:\[\])*)$/.exec(base) ?? []
  const uncut = CUT[element]
  return uncut === undefined ? type : `${uncut}${array}`
}

/** A text as a value of the column. */
export function asValue(column: HostColumn, text: string): string {
  return `(${text})::${readAs(column)}`
}

/** What is known of the records of a set before PostgreSQL reads them. */
export interface Contents {
  /** Whether values may be tags, which are what the codec writes for values that JSON does not have; see record.ts. */
  readonly hasTags: boolean
  readonly hasBooleans: boolean
}

/** What records may hold: a brace or a word inside of a text counts too, which costs time and nothing else. */
export function contentsOf(records: readonly string[]): Contents {
  return {
    hasTags: records.some((record) => record.indexOf('{', 1) !== -1),
    hasBooleans: records.some((record) => record.includes('true') || record.includes('false')),
  }
}

/** Whether a member must be read as JSON, to be told by its kind. All others are read as text, which costs PostgreSQL a fifth. */
export function isReadAsJson(column: HostColumn | undefined, { hasTags, hasBooleans }: Contents): boolean {
  return hasTags || (hasBooleans && column !== undefined && isNumber(column))
}

function isNumber({ type, base = type }: HostColumn): boolean {
  return INTEGERS.includes(base) || base === 'numeric'
}

/** A member of a record as the column's type, read as `isReadAsJson` says. */
export function memberAs(column: HostColumn, alias: string, member: string, contents: Contents): string {
  const { type, base = type } = column
  if (isReadAsJson(column, contents)) return jsonAs(column, alias, member)
  const text = `${alias}.${quote(member)}`
  // A whole number that the till keeps in a REAL column is written with a point.
  const whole = (pattern: string, by: string) =>
    `CASE strpos(${text}, '.') WHEN 0 THEN ${text} ELSE regexp_replace(${text}, '${pattern}', '${by}') END::${type}`
  if (base === 'boolean') return whole('^([01])\\.0+$', '\\1')
  return INTEGERS.includes(base) ? whole('\\.0+$', '') : asValue(column, text)
}

/** A JSON value as the column's type. */
function jsonAs(column: HostColumn, alias: string, member: string): string {
  const { type, base = type } = column
  const value = `${alias}.${quote(member)}`
  const blob = `decode(${value} ->> '$blob', 'base64')`
  // By way of JSON: as such it has a collation of its own, which would meet the column's.
  const decoded = `to_json(convert_from(${blob}, 'UTF8')) #>> '{}'`
  // The bytes of a UUID, or its text.
  const bytes = base === 'uuid' ? `CASE length(${blob}) WHEN 16 THEN encode(${blob}, 'hex') ELSE ${decoded} END` : decoded
  // A boolean of the sender's is 0 or 1 where a number is wanted.
  const asNumber = isNumber(column) ? `WHEN 'boolean' THEN CASE ${value}::text WHEN 'true' THEN '1' ELSE '0' END` : ''
  const text = `(CASE json_typeof(${value}) WHEN 'object' THEN coalesce(${value} ->> '$real', ${bytes}) ${asNumber} ELSE ${value} #>> '{}' END)`
  if (base === 'bytea') return `CASE json_typeof(${value}) WHEN 'object' THEN ${blob} ELSE ${text}::bytea END::${type}`
  if (base === 'boolean') return `regexp_replace(${text}, '^([01])\\.0+$', '\\1')::${type}`
  if (INTEGERS.includes(base)) return `regexp_replace(${text}, '\\.0+$', '')::${type}`
  return asValue(column, text)
}

/** Whether two values of a column are not the same to the letter. */
export function differs(column: HostColumn, a: string, b: string): string {
  const { type, base = type } = column
  // Another collation may take different texts for equal; a value that is too long must come to be refused.
  if (TEXTS.includes(base)) return `${a}::text COLLATE "C" IS DISTINCT FROM ${b}::text COLLATE "C"`
  if (isWrittenAlike(column)) return `${a} IS DISTINCT FROM ${b}`
  return `${textOf(column, a)} IS DISTINCT FROM ${textOf(column, `(${b})`)}`
}

/** Whether equal values of a column are the same to the letter, whatever its collation. */
export function hasOneSpelling(column: HostColumn): boolean {
  return isWrittenAlike(column) && !TEXTS.includes(column.base ?? column.type)
}
