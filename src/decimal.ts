import Big from 'big.js'
import { TillsyncError } from './errors.ts'

/** A decimal as handlers bring it: text such as '-12.50', a whole number as bigint, or a double of the till (a REAL column). */
export type Decimal = string | bigint | number

/** Digits kept behind the point: numeric(18, 6). */
export const SCALE = 6
const LIMIT = new Big(10).pow(12)
const HALF_EVEN = 2
/** A decimal that is written as `format` writes it. */
const NORMAL = /^(?:0|-?[1-9]\d{0,11}|-?(?:0|[1-9]\d{0,11})\.\d{0,5}[1-9])$/

/**
 * The exact sum of decimals, each rounded half to even to six places (which only a double can need), as text without
 * trailing zeros.
 *
 * @throws ERR_VALUE where one is no decimal, or the sum does not fit numeric(18, 6)
 */
export function sum(values: readonly Decimal[]): string {
  const [only] = values
  if (values.length === 1 && typeof only === 'string') {
    if (NORMAL.test(only)) return only
    const trimmed = trim(only)
    if (trimmed !== only && NORMAL.test(trimmed)) return trimmed
  }
  if (values.every(isShortInteger)) return String(values.reduce<number>((total, value) => total + Number(value), 0))
  return format(values.reduce<Big>((total, value) => total.plus(parse(value)), new Big(0)))
}

/** `a − b`, as `sum` gives it. */
export function difference(a: Decimal, b: Decimal): string {
  return format(parse(a).minus(parse(b)))
}

/**
 * The value with the other sign: what leaves the shop when it is sold.
 *
 * @throws ERR_VALUE where it is no decimal
 */
export function negate(value: Decimal): string {
  if (typeof value === 'string' && NORMAL.test(value)) return value === '0' ? value : value.startsWith('-') ? value.slice(1) : `-${value}`
  if (typeof value === 'number' && Number.isSafeInteger(value) && Math.abs(value) < 1e12) return String(value === 0 ? 0 : -value)
  return format(parse(value).neg())
}

/** Most quantities are small whole numbers; ten thousand million of them add up exactly in a double. */
function isShortInteger(value: Decimal): boolean {
  return typeof value === 'number' ? Number.isInteger(value) && Math.abs(value) < 1e5 : typeof value === 'string' && /^-?\d{1,5}$/.test(value)
}

/** '12.50' as '12.5', '3.00' as '3'; only what has a point loses zeros. */
function trim(text: string): string {
  if (!text.includes('.')) return text
  let end = text.length
  while (text.charCodeAt(end - 1) === 48) end--
  if (text.charCodeAt(end - 1) === 46) end--
  return text.slice(0, end)
}

function parse(value: Decimal): Big {
  if (typeof value === 'string' || typeof value === 'bigint' || (typeof value === 'number' && Number.isFinite(value))) {
    try {
      return new Big(typeof value === 'bigint' ? value.toString() : value).round(SCALE, HALF_EVEN)
    } catch {
      // not a decimal: refused below
    }
  }
  throw new TillsyncError(
    'ERR_VALUE',
    `Expected a decimal, got ${value === null ? 'null' : typeof value === 'string' ? 'other text' : typeof value}`,
    {
      hint: "Decimals are text such as '-12.50', bigint, or finite numbers.",
    },
  )
}

function format(value: Big): string {
  if (value.abs().lt(LIMIT)) return value.eq(0) ? '0' : value.toFixed()
  throw new TillsyncError('ERR_VALUE', 'A decimal has more than twelve digits before the point', {
    hint: 'Quantities and amounts are kept as numeric(18, 6).',
  })
}
