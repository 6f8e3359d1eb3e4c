import type { Random } from '../random.ts'
import { type Column, type DialectName, type Kind, text } from './model.ts'

/** Few values of each kind, so that keys are used again, uniques collide and parts find their parents. */
const WORDS = ['a', 'A', 'a ', 'b', 'B', 'ä', 'Ä', '', "it's", '1', '01', 'x%_\\', '{"$blob":""}', '\u{1f600}']
const STATUS = ['open', 'open', 'posted', 'posted', 'Posted', 'void']
const LARGE = ['9007199254740993', '9223372036854770000', '-9007199254740993', '-1']

const SQLITE: Readonly<Partial<Record<Kind, (random: Random) => string>>> = {
  integer: (random) => (random.chance(0.04) ? random.pick(LARGE) : String(random.int(0, 7))),
  boolean: (random) => String(random.int(0, 1)),
  real: (random) => random.pick(['0.0', '1.0', '2.0', '0.5', '0.1', '-1.5', '1e300', '9e999', '-0.0', '5e-324', '123456789.123', '3']),
  numeric: (random) => random.pick(['0', '1', '2', '1.5', "'1.50'", "'2.0'", '0.1', '-3', '12.345']),
  blob: (random) => random.pick(["x''", "x'00'", "x'61'", "x'ff00ff'", "x'3100'", "'a'"]),
  any: (random) => random.pick(['1', '1.0', "'1'", "x'31'", "'a'", '2', '0.5', 'NULL', '-0.0']),
  text: (random) => (random.chance(0.03) ? "'nul' || char(0) || 'x'" : text(random.pick(WORDS))),
}

const POSTGRES: Readonly<Partial<Record<Kind, (random: Random) => string>>> = {
  integer: (random) => (random.chance(0.03) ? random.pick(LARGE) : String(random.int(0, 7))),
  boolean: (random) => random.pick(['true', 'false']),
  real: (random) => random.pick(['0', '1', '2', '0.5', '0.1', '-1.5', '1e300', "'Infinity'", "'NaN'", "'-0'", '5e-324', '123456789.123']),
  numeric: (random) => random.pick(['0', '1', '1.0', '1.00', '1.5', '2', '0.1', '-3', '12.345', "'NaN'"]),
  blob: (random) => random.pick([`'\\x'`, `'\\x00'`, `'\\x61'`, `'\\xff00ff'`]),
  text: (random) => text(random.pick(WORDS)),
  uuid: (random) => text(`00000000-0000-4000-8000-00000000000${random.int(0, 7)}`),
  date: (random) => random.pick(["'2026-01-01'", "'2026-12-31'", "'infinity'", "'0044-03-15 BC'", "'2026-02-28'"]),
  timestamp: (random) => random.pick(["'2026-01-01 00:00:00+01'", "'2026-06-01 12:00:00.5Z'", "'2026-06-01 12:00:00.000001Z'", "'-infinity'"]),
  json: (random) => random.pick([`'{"a": [1, null]}'`, `'[]'`, `'"x"'`, `'{"a":1,"a":2}'`, `'null'`]),
  array: (random) => random.pick(["'{}'", "'{1,NULL,3}'", "'{2}'"]),
  enum: (random) => random.pick(["'small'", "'big one'", "'x,y'"]),
  domain: (random) => String(random.int(1, 7)),
}

/** A value of a column's kind as SQL text. */
export function literalOf(random: Random, dialect: DialectName, { kind, strict = false }: Pick<Column, 'kind' | 'strict'>): string {
  if (kind === 'status') return text(random.pick(STATUS))
  const make = (dialect === 'sqlite' ? SQLITE : POSTGRES)[kind]
  if (make === undefined) throw new Error(`No values of ${kind} on ${dialect}`)
  for (;;) {
    const value = make(random)
    if (!strict || (kind === 'blob' ? value.startsWith('x') : !LARGE.includes(value))) return value
  }
}

export function valueFor(random: Random, dialect: DialectName, column: Column): string {
  const loose = column.notNull ? 0.02 : 0.12
  if (random.chance(loose)) return 'NULL'
  // SQLite's columns take values of any class, unless the table is STRICT.
  if (dialect === 'sqlite' && !column.strict && random.chance(0.02)) return literalOf(random, dialect, { kind: 'any' })
  return literalOf(random, dialect, column)
}

/** A default that is a constant, or undefined. */
export function defaultOf(random: Random, dialect: DialectName, column: Pick<Column, 'kind' | 'strict'>): string | undefined {
  if (!random.chance(0.35)) return undefined
  const value = literalOf(random, dialect, column)
  return /^[\d.e]+$|^'[^|]*'$|^x'/.test(value) ? value : `(${value})`
}
