/** https://www.sqlite.org/datatype3.html#determination_of_column_affinity */
export type Affinity = 'integer' | 'text' | 'blob' | 'real' | 'numeric'

export function affinityOf(type: string): Affinity {
  if (/int/i.test(type)) return 'integer'
  if (/char|clob|text/i.test(type)) return 'text'
  if (type === '' || /blob/i.test(type)) return 'blob'
  return /real|floa|doub/i.test(type) ? 'real' : 'numeric'
}

/** What columns of numbers take for one, with the blanks that SQLite knows. */
const NUMBER = /^[ \t\n\v\f\r]*([+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)[ \t\n\v\f\r]*$/i
const WHOLE = /^(-?)\+?(\d+)$/
/** More have more than 64 bits, and would cost time to read. */
const MOST_DIGITS = 19
const [LEAST, MOST] = [-(2n ** 63n), 2n ** 63n - 1n]

/** The text of the number that a text is for a column of numbers; undefined where it is none. */
export function numeral(text: string): string | undefined {
  return NUMBER.exec(text)?.[1]
}

/** The number: a bigint where it is written as a whole one and has 64 bits, as SQLite reads it. */
export function numberOf(numeral: string): bigint | number {
  const [, sign, written = ''] = WHOLE.exec(numeral) ?? []
  const digits = written.replace(/^0+(?=\d)/, '')
  if (sign === undefined || digits.length > MOST_DIGITS) return Number(numeral)
  const value = BigInt(`${sign}${digits}`)
  return isInteger64(value) ? value : Number(numeral)
}

export function isInteger64(value: bigint): boolean {
  return value >= LEAST && value <= MOST
}
