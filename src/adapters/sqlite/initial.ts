import { TillsyncError } from '../../errors.ts'
import { lookup, type Work } from '../../work.ts'
import { type Affinity, affinityOf, numberOf, numeral } from './affinity.ts'
import { encodeValue } from './values.ts'

/** The literals of https://www.sqlite.org/syntax/literal-value.html that say the same each time. */
const CONSTANT = /^([+-]\s*)?(\d[\d_]*(\.[\d_]*)?|\.\d[\d_]*)(e[+-]?\d+)?$|^([+-]\s*)?0x[\da-f]+$|^x?'([^']|'')*'$|^(null|true|false)$/i

export function isConstant(defaultSql: string): boolean {
  return CONSTANT.test(defaultSql)
}

/**
 * What a row holds that was there before the column, as JSON text: the default, with the affinity of the column's type. Such a row has no
 * default but a constant one (https://www.sqlite.org/lang_altertable.html#altertabaddcol); another would be another value each time.
 */
export function* initialOf(defaultSql: string | null, type: string): Work<string> {
  if (defaultSql === null || !isConstant(defaultSql)) return 'null'
  try {
    const [rows] = yield* lookup({ sql: `SELECT ${defaultSql}`, parameters: [] }, [[]])
    return encodeValue(withAffinity(rows?.[0]?.[0], defaultSql, affinityOf(type)))
  } catch (error) {
    if (error instanceof TillsyncError) return 'null' // 0x and more digits than an integer has: no row has that
    throw error
  }
}

function withAffinity(value: unknown, literal: string, affinity: Affinity): unknown {
  if (value === null || value instanceof Uint8Array || affinity === 'blob') return value
  // Such a row has a real number as it is written: 1.50.
  if (affinity === 'text') return typeof value === 'number' ? literal.replace(/^\+\s*/, '').replace(/^-\s*/, '-') : String(value)
  const text = typeof value === 'string' ? numeral(value) : undefined
  if (typeof value === 'string' && text === undefined) return value
  const number = text === undefined ? value : numberOf(text)
  if (affinity === 'real') return Number(number) + 0 // −0.0 is stored as 0.0 there
  return typeof number === 'number' && Number.isSafeInteger(number) ? BigInt(number) : number
}
