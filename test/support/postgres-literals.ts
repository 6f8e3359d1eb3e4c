import { integer, real, single, text } from './nasty.ts'
import type { Random } from './random.ts'

/** Random values of PostgreSQL's types, as the text that their input functions take under default settings. */

export type Make = (random: Random) => string

export const digits = (random: Random, from: number, to: number) => Array.from({ length: random.int(from, to) }, () => random.int(0, 9)).join('')
export const two = (random: Random, to: number, from = 0) => String(random.int(from, to)).padStart(2, '0')
const number = (value: number) => (Object.is(value, -0) ? '-0' : String(value))

export const float8: Make = (random) => (random.chance(0.05) ? 'NaN' : number(real(random)))
export const float4: Make = (random) => (random.chance(0.05) ? 'NaN' : number(single(random)))
/** A double as geometry may hold it. */
const coordinate: Make = (random) => number(random.chance(0.6) ? random.int(-1_000, 1_000) / 8 : real(random))
export const int =
  (bits: number): Make =>
  (random) =>
    String(integer(random, bits))

export const numeric: Make = (random) => {
  if (random.chance(0.1)) return random.pick(['NaN', 'Infinity', '-Infinity', '0', '0.000', '-0.0001', '1e-1000', '1e1000'])
  const long = random.chance(0.05)
  const sign = random.chance(0.4) ? '-' : ''
  return `${sign}${digits(random, 1, long ? 1_000 : 20)}${random.chance(0.6) ? `.${digits(random, 1, long ? 1_000 : 12)}` : ''}`
}

/** So many digits in all, so many of them behind the point. */
export const decimal =
  (all: number, behind: number): Make =>
  (random) =>
    `${random.chance(0.4) ? '-' : ''}${digits(random, 1, all - behind)}.${digits(random, 0, behind)}`

export const money: Make = (random) => {
  const cents = integer(random)
  const size = cents < 0n ? -cents : cents
  return `${cents < 0n ? '-' : ''}${size / 100n}.${String(size % 100n).padStart(2, '0')}`
}

const year = (random: Random, least: number, most: number) => {
  const drawn = random.chance(0.5) ? random.int(1_900, 2_100) : random.chance(0.5) ? random.int(least, 20) : random.int(1, most)
  return drawn > 0 ? { year: String(drawn).padStart(4, '0'), era: '' } : { year: String(1 - drawn).padStart(4, '0'), era: ' BC' }
}

const clock = (random: Random) => {
  const fraction = random.chance(0.5) ? `.${digits(random, 1, 6)}` : random.pick(['', '.000001', '.999999'])
  return `${two(random, 23)}:${two(random, 59)}:${two(random, 59)}${fraction}`
}

export const date: Make = (random) => {
  if (random.chance(0.1)) return random.pick(['infinity', '-infinity', '4714-11-24 BC', '5874897-12-31', '0001-01-01', '0001-12-31 BC', '2000-02-29'])
  const { year: years, era } = year(random, -4_712, 5_874_896)
  return `${years}-${two(random, 12, 1)}-${two(random, 28, 1)}${era}`
}

export const timestamp: Make = (random) => {
  if (random.chance(0.1))
    return random.pick([
      'infinity',
      '-infinity',
      '4714-11-24 00:00:00 BC',
      '294276-12-31 23:59:59.999999',
      '9999-12-31 23:59:59.999999',
      '10000-01-01',
    ])
  const { year: years, era } = year(random, -4_712, 294_275)
  return `${years}-${two(random, 12, 1)}-${two(random, 28, 1)} ${clock(random)}${era}`
}

export const time: Make = (random) => (random.chance(0.1) ? '24:00:00' : clock(random))
export const timetz: Make = (random) =>
  `${time(random)}${random.pick(['+', '-'])}${random.pick(['00', '05:30', '15:59:59', `${two(random, 15)}:${two(random, 59)}:${two(random, 59)}`])}`

const LONGEST = '178956970 years 7 mons 2147483647 days 2562047788:00:54.775807'
const SHORTEST = '-178956970 years -8 mons -2147483648 days -2562047788:00:54.775807'
export const interval: Make = (random) => {
  if (random.chance(0.1)) return random.pick(['infinity', '-infinity', LONGEST, SHORTEST, '0', '-0.000001 s', '1 mon', '30 days', '24 h'])
  const signed = (to: number) => (random.chance(0.3) ? 0 : random.int(-to, to))
  return `${signed(9_999)} years ${signed(11)} mons ${signed(40_000)} days ${random.pick(['', '-'])}${clock(random)}`
}

const hex = (random: Random, length: number) => Array.from({ length }, () => random.int(0, 15).toString(16)).join('')
export const uuid: Make = (random) => `${hex(random, 8)}-${hex(random, 4)}-${hex(random, 4)}-${hex(random, 4)}-${hex(random, 12)}`
export const bits =
  (length: number): Make =>
  (random) =>
    Array.from({ length: length || random.int(0, 40) }, () => random.int(0, 1)).join('')
export const macaddr =
  (bytes: number): Make =>
  (random) =>
    Array.from({ length: bytes }, () => hex(random, 2)).join(':')

export const inet: Make = (random) => {
  const v4 = random.chance(0.5)
  const address = v4
    ? Array.from({ length: 4 }, () => random.int(0, 255)).join('.')
    : Array.from({ length: 8 }, () => random.pick(['0', hex(random, 4)])).join(':')
  return `${address}${random.chance(0.5) ? `/${random.int(0, v4 ? 32 : 128)}` : ''}`
}
export const cidr: Make = (random) =>
  random.pick(['10.0.0.0/8', '0.0.0.0/0', '192.168.100.128/25', '192.168.1.7/32', '::/0', '2001:4f8:3:ba::/64', '::ffff:1.2.3.0/120'])

const pair: Make = (random) => `(${coordinate(random)},${coordinate(random)})`
const pairs: Make = (random) => Array.from({ length: random.int(1, 4) }, () => pair(random)).join(',')
export const point = pair
export const lseg: Make = (random) => `[${pair(random)},${pair(random)}]`
export const box: Make = (random) => `${pair(random)},${pair(random)}`
export const path: Make = (random) => (random.chance(0.5) ? `[${pairs(random)}]` : `(${pairs(random)})`)
export const polygon: Make = (random) => `(${pairs(random)})`
export const circle: Make = (random) => `<${pair(random)},${number(Math.abs(random.chance(0.5) ? random.int(0, 99) / 8 : real(random)))}>`
export const line: Make = (random) => `{${random.int(1, 9)},${coordinate(random)},${coordinate(random)}}`

/** JSON with what parsers are free to differ in: blanks, doubled names, digits, escapes. `any` also with what jsonb refuses. */
export function json(random: Random, any: boolean, depth = 3): string {
  const blank = () => (random.chance(0.2) ? random.pick([' ', '\n', '\t ']) : '')
  const string = () => {
    const written = JSON.stringify(text(random, random.int(0, 6)))
    const odd = any ? random.pick(['\\u0000', '\\ud800', '\\u00e4', '\\/']) : '\\u00e4\\/'
    return random.chance(0.2) ? `"${odd}${written.slice(1)}` : written
  }
  const one = (): string => {
    const kind = random.int(0, depth > 0 ? 6 : 4)
    if (kind < 2) return string()
    if (kind === 2) return random.pick(['0', '-0', '1.0', '1.10', '1E5', '1e-5', '12345678901234567890.123456789', any ? '1e999999' : '1e300'])
    if (kind < 5) return random.pick(['true', 'false', 'null'])
    const parts = Array.from(
      { length: random.int(0, 3) },
      () => `${blank()}${kind === 5 ? '' : `${random.pick(['"a"', string()])}${blank()}:`}${json(random, any, depth - 1)}`,
    )
    return kind === 5 ? `[${parts}${blank()}]` : `{${parts}${blank()}}`
  }
  return `${blank()}${one()}${blank()}`
}

const XMLS = [
  '',
  ' ',
  'text &amp; more',
  '<a b="&quot;ä&#10;"/>',
  '<?xml version="1.0"?><a/>',
  '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n<a>ä</a>',
]
const MORE_XMLS = [
  '<!DOCTYPE a><a/>',
  '<a><![CDATA[<&>]]></a><b/>',
  '<!-- c --><a/>',
  "<a x='1'> \r\n</a>",
  '<?xml version="1.1" standalone="no"?><a/>',
]
export const xml: Make = (random) => random.pick([...XMLS, ...MORE_XMLS])

const quoted = (value: string) => `'${value.replaceAll('\\', '\\\\').replaceAll("'", "''")}'`
const word = (random: Random) => quoted(text(random, random.int(1, 5)).replace(/^$/, 'x'))
export const tsvector: Make = (random) => {
  const places = () => Array.from({ length: random.int(1, 3) }, () => `${random.int(1, 16_383)}${random.pick(['', 'A', 'B', 'C', 'D'])}`).join(',')
  return Array.from({ length: random.int(0, 4) }, () => `${word(random)}${random.chance(0.5) ? `:${places()}` : ''}`).join(' ')
}
export const tsquery: Make = (random) => {
  const one = () => `${random.pick(['', '!'])}${word(random)}${random.pick(['', ':*', ':AB', ':*CD'])}`
  return random.chance(0.1) ? '' : `${one()} ${random.pick(['&', '|', '<->', '<3>'])} ( ${one()} ${random.pick(['&', '|', '<->'])} ${one()} )`
}

/** A range of what is in order by `compare`. */
export const range =
  (make: Make, compare: (a: string, b: string) => number): Make =>
  (random) => {
    if (random.chance(0.15)) return random.pick(['empty', '(,)'])
    const [low, high] = [make(random), make(random)].sort(compare)
    const bound = (value: string | undefined) => (random.chance(0.1) ? '' : element(value ?? ''))
    return `${random.pick(['[', '('])}${bound(low)},${bound(high)}${random.pick([']', ')'])}`
  }
export const multirange =
  (make: Make): Make =>
  (random) =>
    `{${Array.from({ length: random.int(0, 3) }, () => make(random)).join(',')}}`

/** A value inside an array, a composite or a range. */
function element(value: string): string {
  return `"${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
}

export const array =
  (make: Make, delimiter = ','): Make =>
  (random) => {
    const one = () => (random.chance(0.15) ? 'NULL' : element(make(random)))
    const list = (length: number) => `{${Array.from({ length }, one).join(delimiter)}}`
    const kind = random.int(0, 9)
    const length = random.int(1, 3)
    if (kind === 0) return '{}'
    if (kind === 1) return `[-2:${length - 3}]=${list(length)}`
    return kind < 4 ? `{${[0, 1].map(() => list(length)).join(delimiter)}}` : list(length)
  }

export const composite =
  (...fields: readonly Make[]): Make =>
  (random) =>
    `(${fields.map((make) => (random.chance(0.15) ? '' : element(make(random)))).join(',')})`
