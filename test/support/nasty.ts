import type { Random } from './random.ts'

/** Values that have broken codecs before, among any others. */

export function bytes(random: Random, length = size(random)): Buffer {
  return Buffer.from(Array.from({ length }, () => random.int(0, 255)))
}

/** Mostly short, now and then some kB. */
function size(random: Random): number {
  return random.chance(0.02) ? random.int(1_000, 9_000) : short(random)
}

/** As long as a key may be. */
export function short(random: Random): number {
  return random.chance(0.2) ? 0 : random.int(1, 24)
}

const INTEGERS = [
  0n,
  1n,
  255n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 53n + 1n,
  10n ** 15n,
  10n ** 16n,
  2n ** 63n - 1n,
  2n ** 63n,
]

/** Any whole number that fits into so many bits with its sign; small and large ones alike. */
export function integer(random: Random, bits = 64): bigint {
  const drawn = random.chance(0.4)
    ? random.pick(INTEGERS)
    : BigInt.asUintN(random.int(1, bits), (BigInt(random.int(0, 2 ** 32 - 1)) << 32n) | BigInt(random.int(0, 2 ** 32 - 1)))
  return BigInt.asIntN(bits, random.chance(0.5) ? -drawn : drawn)
}

const REALS = [
  0,
  -0,
  1,
  -1,
  0.1,
  1 / 3,
  0.1 + 0.2,
  5e-324,
  2.2250738585072014e-308,
  2.225073858507201e-308,
  Number.MAX_VALUE,
  2 ** 53,
  2 ** 63,
  1e21,
  1e22,
  1e23,
]
const ODD_REALS = [Infinity, -Infinity]

/** A double: any bit pattern but NaN, whole numbers, amounts of money, subnormals. */
export function real(random: Random): number {
  if (random.chance(0.15)) return random.pick(ODD_REALS)
  if (random.chance(0.25)) return random.pick(REALS) * (random.chance(0.5) ? -1 : 1)
  if (random.chance(0.2)) return random.int(-1_000_000, 1_000_000) / 100
  if (random.chance(0.2)) return Number(integer(random))
  const drawn = bytes(random, 8)
  if (random.chance(0.2)) drawn.fill(0, 0, random.int(1, 6))
  const value = drawn.readDoubleBE()
  return Number.isNaN(value) ? -0 : value
}

/** The same in four bytes. */
export function single(random: Random): number {
  const value = random.chance(0.5) ? bytes(random, 4).readFloatBE() : Math.fround(real(random))
  return Number.isNaN(value) ? 1.401298464324817e-45 : value
}

const TEXTS = [
  '',
  ' ',
  'NULL',
  'null',
  '\\N',
  '{"$blob":"AA=="}',
  '{"$real":"NaN"}',
  '{"$text":"/w=="}',
  '[1]',
  "it's",
  '"',
  '\\',
  '\\\\x41',
  '\\u0000',
]
const MORE_TEXTS = [
  '9007199254740993',
  '-0',
  '1e5',
  '1.0',
  'true',
  '\ufeffBOM',
  '\ufffd',
  'e\u0301',
  '\u00e9',
  "Robert'); DROP TABLE receipts;--",
  'a\r\n\tb ',
  '%s',
  '$1',
  '{}',
  '{a,b}',
]
const RANGES: readonly (readonly [number, number])[] = [
  [0x20, 0x7e],
  [0x20, 0x7e],
  [0x01, 0x1f],
  [0x80, 0xff],
  [0x100, 0xd7ff],
  [0x2028, 0x2029],
  [0xe000, 0xffff],
  [0x1_0000, 0x10_ffff],
]

/** Text that any database can hold: no NUL, no half of a surrogate pair. */
export function text(random: Random, length = size(random)): string {
  if (random.chance(0.3)) return random.pick([...TEXTS, ...MORE_TEXTS])
  const [from, to] = random.pick(RANGES)
  const mixed = random.chance(0.5)
  const one = () => String.fromCodePoint(random.int(...(mixed ? random.pick(RANGES) : ([from, to] as const))))
  return Array.from({ length }, one).join('')
}

/** Bytes that are no UTF-8: alone, too long, cut off, halves of surrogate pairs, beyond Unicode. */
export function brokenText(random: Random): Buffer {
  const broken = random.pick(['80', 'ff', 'c080', 'eda080', 'edb080', 'eda080edb080', 'e282', 'f09f98', 'f4908080', 'fe', 'c3'])
  return Buffer.concat([Buffer.from(text(random, 3)), Buffer.from(broken, 'hex'), Buffer.from(text(random, 3))])
}
