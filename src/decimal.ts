import Big from 'big.js'
import { TillsyncError } from './errors.ts'

/** A decimal as handlers bring it: text such as '-12.50', a whole number as bigint, or a double of the till (a REAL column). */
export type Decimal = string | bigint | number

/** Digits kept behind the point: numeric(18, 6). */
const SCALE = 6
const LIMIT = new Big(10).pow(12)
const HALF_EVEN = 2
/** A decimal that is written as `format` writes it. */
const NORMAL = /^(?:0|-?[1-9]\d{0,11}|-?(?:0|[1-9]\d{0,11})\.\d{0,5}[1-9])$/
/** What is read as a decimal at all. Longer ones, and larger exponents, are refused before they cost anything. */
const TEXT = /^-?(?:\d{1,100}(?:\.\d{0,100})?|\.\d{1,100})(?:[eE][-+]?\d{1,3})?$/

/**
 * The exact sum of decimals as text without trailing zeros. A double is rounded half to even to six places before; with
 * `scale` everything is, to so many.
 *
 * @throws ERR_VALUE where one is no decimal or, being exact, has more than six places; and where the sum does not fit numeric(18, 6)
 */
export function sum(values: readonly Decimal[], scale?: number): string {
  const [only] = values
  if (values.length === 1 && typeof only === 'string' && scale === undefined) {
    if (NORMAL.test(only)) return only
    const trimmed = trim(only)
    if (trimmed !== only && NORMAL.test(trimmed)) return trimmed
  }
  if (values.every(isShortInteger)) return String(values.reduce<number>((total, value) => total + Number(value), 0))
  return format(values.reduce<Big>((total, value) => total.plus(parse(value, scale)), new Big(0)))
}

/** The same of any size: for what many documents come to, which is kept as numeric(38, 6). */
export function grandTotal(values: readonly string[]): string {
  const total = values.every(isShortInteger)
    ? new Big(values.reduce((sum, value) => sum + Number(value), 0))
    : values.reduce<Big>((sum, value) => sum.plus(value), new Big(0))
  return total.eq(0) ? '0' : total.toFixed()
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
  if (!text.includes('.') || !TEXT.test(text) || /e/i.test(text)) return text
  let end = text.length
  while (text.charCodeAt(end - 1) === 48) end--
  if (text.charCodeAt(end - 1) === 46) end--
  return text.slice(0, end)
}

function parse(value: Decimal, scale?: number): Big {
  const text = textOf(value)
  if (text === undefined) {
    const got = value === null ? 'null' : typeof value === 'string' ? 'other text' : typeof value
    throw new TillsyncError('ERR_VALUE', `Expected a decimal, got ${got}`, {
      hint: "Decimals are text such as '-12.50', bigint, or finite numbers.",
    })
  }
  const exact = new Big(text)
  const rounded = exact.round(scale ?? SCALE, HALF_EVEN)
  if (scale !== undefined || typeof value === 'number' || rounded.eq(exact)) return rounded
  throw new TillsyncError('ERR_VALUE', `A decimal has more than ${SCALE} places behind the point`, {
    hint: `Quantities and amounts are kept as numeric(18, ${SCALE}). Declare a \`scale\` where they are to be rounded.`,
  })
}

/** The shortest text of a double is what its till shows. */
function textOf(value: Decimal): string | undefined {
  if (typeof value === 'string') return TEXT.test(value) ? value : undefined
  if (typeof value === 'bigint') return value.toString()
  return typeof value === 'number' && Number.isFinite(value) ? String(value) : undefined
}

function format(value: Big): string {
  if (value.abs().lt(LIMIT)) return value.eq(0) ? '0' : value.toFixed()
  throw new TillsyncError('ERR_VALUE', 'A decimal has more than twelve digits before the point', {
    hint: 'Quantities and amounts are kept as numeric(18, 6).',
  })
}
