import { TillsyncError } from '../errors.ts'
import { decodeRecord, encodeBlob, encodeReal, encodeText, ownOf } from '../record.ts'

/** A column that is to hold a value. */
export interface WantedColumn {
  readonly name: string
  readonly value: unknown
  /** How the value may be written in a record or a record id: texts of which one is there wherever the column holds it. */
  readonly texts: readonly string[]
}

/** Documents by values of their root records' columns: all of one of the lists. */
export type Wanted = readonly (readonly WantedColumn[])[]

const MOST = 100

/** @throws ERR_OPTION */
export function readWhich(table: string, which: unknown): Wanted {
  if (typeof which === 'function') throw notWhich(table, 'is a filter, which can not be asked of an archive')
  const list: readonly unknown[] = Array.isArray(which) ? which : [which]
  if (list.length === 0 || list.length > MOST) throw notWhich(table, `names ${list.length} documents: 1 to ${MOST} were expected`)
  return list.map((one) => {
    const values = typeof one === 'object' && one !== null && !ArrayBuffer.isView(one) ? Object.entries(one) : []
    if (values.length === 0) throw notWhich(table, `selects \`${table}\` by nothing`)
    return values.map(([name, value]) => {
      if (!isComparable(value)) throw notWhich(table, `compares \`${name}\` with ${value instanceof Date ? 'a Date' : typeof value}`)
      return { name, value, texts: textsOf(value) }
    })
  })
}

function notWhich(table: string, what: string): TillsyncError {
  return new TillsyncError('ERR_OPTION', `\`which\` ${what}`, {
    hint: "Say which by what columns hold: { receipt_no: 'R-4711' }, or a list of such.",
    context: { table },
  })
}

function isComparable(value: unknown): boolean {
  return value === null || ['string', 'number', 'bigint', 'boolean'].includes(typeof value) || value instanceof Uint8Array
}

/** How the codec begins text that is no UTF-8. */
const INVALID = '{"$text":'

/** Numbers and booleans are equal to what is kept as text, and the other way round, see `isSame`. */
function textsOf(value: unknown): readonly string[] {
  if (value === null) return ['null']
  if (value instanceof Uint8Array) return [encodeBlob(value)]
  const text = String(value)
  const number = /^-?\d+$/.test(text) ? [text, `${text}.0`] : /^-?[\d.]+(e[+-]\d+)?$/.test(text) ? [text] : []
  const tagged = text === '0' ? [encodeReal(-0)] : /^(NaN|-?Infinity)$/.test(text) ? [encodeReal(Number(text))] : []
  const word = text === 'true' || text === 'false' ? [text] : []
  // Text that is no UTF-8 is read with this character in the place of what is none.
  const invalid = text.includes('\uFFFD') ? [INVALID] : []
  return [encodeText(text), ...number, ...tagged, ...word, ...invalid]
}

/** Whether a record holds all that one of them wants; what somebody has made of an entry by hand holds nothing. */
export function holds(record: string, wanted: Wanted): boolean {
  let values: ReturnType<typeof decodeRecord>
  try {
    values = decodeRecord(record)
  } catch {
    return false
  }
  return wanted.some((columns) => columns.every(({ name, value }) => isSame(ownOf(values, name), value)))
}

function isSame(value: unknown, wanted: unknown): boolean {
  if (value instanceof Uint8Array || wanted instanceof Uint8Array)
    return value instanceof Uint8Array && wanted instanceof Uint8Array && Buffer.compare(value, wanted) === 0
  return value === wanted || (value !== null && value !== undefined && wanted !== null && String(value) === String(wanted))
}

/** The beginning of a column in a record, as it is written. */
export function memberOf(name: string): string {
  return `${encodeText(name)}:`
}

/**
 * SQL that holds of every record that `holds` says of, and of few others: it looks for the texts that are wanted.
 *
 * @param record the column with the records
 * @param first the number of the first parameter
 */
export function mayHold(wanted: Wanted, record: string, first: number): { readonly sql: string; readonly parameters: readonly string[] } {
  const parameters: string[] = []
  const has = (text: string) => `strpos(${record}, $${first + parameters.push(text) - 1}) > 0`
  const all = wanted.map((columns) => {
    const each = columns.map(({ name, texts }) => `(${texts.map((text) => has(`${memberOf(name)}${text}`)).join(' OR ')})`)
    return `(${each.join(' AND ')})`
  })
  return { sql: `(${all.join(' OR ')})`, parameters }
}

/** So many ways to write a key are looked up; of others the archive is read. */
const MOST_SPELLINGS = 100

/** The record ids of the documents that are meant, where all of them are named by their keys; undefined where not. */
export function recordIdsOf(wanted: Wanted, key: readonly string[]): readonly string[] | undefined {
  if (key.length === 0) return undefined
  const ids: string[] = []
  for (const columns of wanted) {
    const texts = key.map((name) => columns.find((column) => column.name === name)?.texts)
    if (texts.some((of) => of === undefined || of.includes(INVALID))) return undefined
    if (texts.reduce((n, of) => n * (of?.length ?? 0), 1) > MOST_SPELLINGS) return undefined
    const all = texts.reduce<string[][]>((before, of) => before.flatMap((one) => (of ?? []).map((text) => [...one, text])), [[]])
    ids.push(...all.map((values) => `[${values.join(',')}]`))
  }
  return ids
}

/** Whether no more than the key is asked for. */
export function isKeyOnly(wanted: Wanted, key: readonly string[]): boolean {
  return wanted.every((columns) => columns.every(({ name }) => key.includes(name)))
}
