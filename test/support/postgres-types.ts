import { bytes, integer, short, text } from './nasty.ts'
import * as make from './postgres-literals.ts'
import type { Random } from './random.ts'

/** Types that the tables need; hstore and the like where the server has them. */
export const EXTENSIONS = ['hstore', 'citext', 'ltree', 'cube', 'seg', 'isn'] as const
const MOODS = ['sad', 'glad', '', "it's", 'a "b", c', '{x}', 'ü', 'NULL', '\\N']
export const TYPES_SQL = `
  CREATE TYPE mood AS ENUM (${MOODS.map((label) => `'${label.replaceAll("'", "''")}'`).join(', ')});
  CREATE TYPE place AS (x double precision, name text, at timestamptz, flags boolean[], raw bytea);
  CREATE TYPE inner_place AS (p place, m mood, n numeric);
  CREATE TYPE floatrange AS RANGE (subtype = float8);
  ${[
    'bigint',
    'text',
    'numeric',
    'timestamptz',
    'bytea',
    'boolean',
    'float8',
    'int[]',
    'place',
    'mood',
    'tstzrange',
    'uuid',
    'jsonb',
    'char(3)',
    'interval',
  ]
    .map((type, at) => `CREATE DOMAIN d${at} AS ${type}`)
    .join(';')};
  CREATE DOMAIN dd AS d2 CHECK (VALUE IS NULL OR VALUE <> 4711)`

export interface Type {
  readonly type: string
  readonly make: make.Make
  /** Compared by text under fixed settings: what the type sends names its own types by numbers, which differ from database to database. */
  readonly asText?: true
  /** May be a key; a part may have one of it and refer by it. */
  readonly key?: true
  /** A key that PostgreSQL takes for equal, written otherwise. */
  readonly alike?: string
  readonly extension?: (typeof EXTENSIONS)[number]
}

const bytea: make.Make = (random) => `\\x${bytes(random).toString('hex')}`
const boolean: make.Make = (random) => random.pick(['t', 'f'])
const mood: make.Make = (random) => random.pick(MOODS)
const timestamptz: make.Make = (random) =>
  random.chance(0.8)
    ? make
        .timestamp(random)
        .replace(/( BC)?$/, '+00$1')
        .replace('infinity+00', 'infinity')
    : make.timestamp(random)
/** The last moment is rounded up to one that PostgreSQL writes and can't read. */
const rounded =
  (one: make.Make): make.Make =>
  (random) =>
    one(random).replace('294276-12-31', '294276-12-30')
const instant: make.Make = (random) =>
  `20${make.two(random, 99)}-0${random.int(1, 9)}-${make.two(random, 28, 1)} 0${random.int(0, 9)}:00:00.${make.digits(random, 1, 6)}`
const jsonb: make.Make = (random) => make.json(random, false)
const upTo =
  (length: number): make.Make =>
  (random) =>
    Array.from(text(random, random.int(0, length)))
      .slice(0, length)
      .join('')
const place = make.composite(make.float8, text, timestamptz, make.array(boolean), bytea)
const byText = (a: string, b: string) => (a < b ? -1 : 1)
const byNumber = (a: string, b: string) => Number(a) - Number(b)
const whole = (random: Random) => String(random.int(-1_000_000, 1_000_000))
const unsigned =
  (bits: number): make.Make =>
  (random) =>
    String(BigInt.asUintN(bits, integer(random)))
const small = make.range((random) => String(random.int(0, 9)), byNumber)

const NUMBERS: readonly Type[] = [
  { type: 'smallint', make: make.int(16), key: true },
  { type: 'integer', make: make.int(32), key: true },
  { type: 'bigint', make: make.int(64), key: true },
  { type: 'numeric', make: make.numeric, key: true, alike: 'id * 1.00' },
  { type: 'numeric(10,2)', make: make.decimal(10, 2), key: true },
  { type: 'numeric(3,-2)', make: (random) => String(random.int(-99_949, 99_949)) },
  { type: 'numeric(2,5)', make: (random) => `0.000${make.digits(random, 2, 2)}` },
  { type: 'real', make: make.float4, key: true, alike: 'CASE id WHEN 0 THEN -id ELSE id END' },
  { type: 'double precision', make: make.float8, key: true, alike: 'CASE id WHEN 0 THEN -id ELSE id END' },
  { type: 'money', make: make.money, key: true },
  { type: 'oid', make: unsigned(32), key: true },
  { type: 'xid', make: unsigned(32) },
  { type: 'xid8', make: unsigned(64), key: true },
  { type: 'cid', make: unsigned(32) },
  { type: 'tid', make: (random) => `(${unsigned(32)(random)},${random.int(0, 65_535)})` },
  { type: 'pg_lsn', make: (random) => `${integer(random, 31).toString(16).replace('-', '')}/${random.int(0, 2 ** 32 - 1).toString(16)}`, key: true },
  { type: 'pg_snapshot', make: (random) => random.pick(['10:20:10,14,15', '1:1:', '9223372036854775806:9223372036854775807:']) },
  { type: 'int2vector', make: (random) => random.pick(['1 -2 3', '', '32767']) },
  { type: 'oidvector', make: (random) => random.pick(['1 2 4294967295', '']) },
]

const TEXTS: readonly Type[] = [
  { type: 'text', make: text, key: true },
  { type: 'varchar', make: text, key: true },
  { type: 'varchar(7)', make: upTo(7), key: true },
  { type: 'char(5)', make: upTo(5), key: true },
  { type: 'char', make: upTo(1) },
  { type: 'bpchar', make: text },
  { type: '"char"', make: (random) => random.pick(['', 'a', '\\377', '\\001', '\\', ' ']), key: true },
  { type: 'name', make: (random) => text(random, short(random)), key: true },
  { type: 'refcursor', make: text, asText: true },
  { type: 'regtype', make: (random) => random.pick(['integer', 'timestamp with time zone', 'text[]']) },
  { type: 'bytea', make: bytea, key: true },
  { type: 'uuid', make: make.uuid, key: true },
  { type: 'boolean', make: boolean, key: true },
  { type: 'mood', make: mood, key: true },
  { type: 'json', make: (random) => make.json(random, true) },
  { type: 'jsonb', make: jsonb, key: true },
  {
    type: 'jsonpath',
    make: (random) => random.pick(['$.a[*] ? (@ > 1)', 'strict $."x y".size()', '$ ? (@ like_regex "^a\\\\d" flag "i")', '1.50 + $']),
  },
  { type: 'xml', make: make.xml },
  { type: 'tsvector', make: make.tsvector },
  { type: 'tsquery', make: make.tsquery, asText: true }, // its own text leaves out parentheses that change no meaning
  { type: 'bit(9)', make: make.bits(9), key: true },
  { type: 'varbit', make: make.bits(0), key: true },
  { type: 'inet', make: make.inet, key: true },
  { type: 'cidr', make: make.cidr, key: true },
  { type: 'macaddr', make: make.macaddr(6), key: true },
  { type: 'macaddr8', make: make.macaddr(8) },
]

const TIMES: readonly Type[] = [
  { type: 'date', make: make.date, key: true },
  { type: 'time', make: make.time, key: true },
  { type: 'time(2)', make: make.time },
  { type: 'timetz', make: make.timetz, key: true },
  { type: 'timestamp', make: make.timestamp, key: true },
  { type: 'timestamp(3)', make: rounded(make.timestamp) },
  { type: 'timestamptz', make: timestamptz, key: true },
  { type: 'timestamptz(0)', make: rounded(timestamptz), key: true },
  {
    type: 'interval',
    make: make.interval,
    key: true,
    alike: "CASE WHEN id BETWEEN '-9000 years' AND '9000 years' THEN justify_days(id) ELSE id END",
  },
  { type: 'interval day to second(3)', make: (random) => make.interval(random).replace(/^-?178956970.*/, '-0.0005 s') },
]

const SHAPES: readonly Type[] = [
  { type: 'point', make: make.point },
  { type: 'line', make: make.line },
  { type: 'lseg', make: make.lseg },
  { type: 'box', make: make.box },
  { type: 'path', make: make.path },
  { type: 'polygon', make: make.polygon },
  { type: 'circle', make: make.circle },
  { type: 'int4range', make: make.range(whole, byNumber), key: true },
  { type: 'int8range', make: make.range(whole, byNumber) },
  { type: 'numrange', make: make.range(make.decimal(9, 3), byNumber), key: true },
  { type: 'daterange', make: make.range((random) => instant(random).slice(0, 10), byText) },
  { type: 'tsrange', make: make.range(instant, byText) },
  { type: 'tstzrange', make: make.range(instant, byText), key: true },
  { type: 'floatrange', make: make.range((random) => String(random.int(-999, 999) / 7), byNumber) },
  { type: 'int4multirange', make: make.multirange(small) },
  { type: 'nummultirange', make: make.multirange(small) },
  { type: 'tstzmultirange', make: make.multirange(make.range(instant, byText)) },
  { type: 'floatmultirange', make: make.multirange(small) },
]

const ARRAYS: readonly Type[] = [
  ...(
    [
      ['smallint', make.int(16)],
      ['bigint', make.int(64)],
      ['numeric', make.numeric],
      ['float4', make.float4],
      ['float8', make.float8],
      ['money', make.money],
      ['text', text],
      ['char(4)', upTo(4)],
      ['name', upTo(9)],
      ['bytea', bytea],
      ['uuid', make.uuid],
      ['boolean', boolean],
      ['json', jsonb],
      ['jsonb', jsonb],
      ['date', make.date],
      ['timetz', make.timetz],
      ['timestamp', make.timestamp],
      ['timestamptz', timestamptz],
      ['interval', make.interval],
      ['inet', make.inet],
      ['varbit', make.bits(0)],
      ['point', make.point],
      ['tstzrange', make.range(instant, byText)],
      ['xml', make.xml],
      ['tsvector', make.tsvector],
    ] as const
  ).map(([type, one]) => ({ type: `${type}[]`, make: make.array(one) })),
  { type: 'box[]', make: make.array(make.box, ';') },
  { type: 'mood[]', make: make.array(mood), asText: true },
  { type: 'place[]', make: make.array(place), asText: true },
  { type: 'd2[]', make: make.array(make.numeric), asText: true },
  { type: 'int[]', make: make.array(make.int(32)), key: true },
]

const COMPOSITES: readonly Type[] = [
  { type: 'place', make: (random) => (random.chance(0.1) ? '(,,,,)' : place(random)), key: true },
  { type: 'inner_place', make: make.composite(place, mood, make.numeric), asText: true },
  ...[
    make.int(64),
    text,
    make.numeric,
    timestamptz,
    bytea,
    boolean,
    make.float8,
    make.array(make.int(32)),
    place,
    mood,
    make.range(instant, byText),
    make.uuid,
    jsonb,
    upTo(3),
    make.interval,
  ].map((one, at): Type => ({ type: `d${at}`, make: one, ...(at < 8 && at !== 7 && { key: true }) })),
  { type: 'dd', make: make.numeric, key: true },
]

const EXTENDED: readonly Type[] = [
  {
    type: 'hstore',
    extension: 'hstore',
    make: (random) => `${[1, 2].map(() => `"${text(random, 4).replace(/["\\]/g, '\\$&')}"=>${random.chance(0.3) ? 'NULL' : '"v"'}`)}`,
  },
  { type: 'citext', extension: 'citext', make: text, key: true, alike: 'upper(id::text)::citext' },
  { type: 'ltree', extension: 'ltree', make: (random) => random.pick(['', 'a.b.c', 'Top.B_1']) },
  { type: 'cube', extension: 'cube', make: (random) => `(${random.int(-99, 99) / 7},1),(2,${random.int(0, 9) / 3})`, asText: true },
  { type: 'seg', extension: 'seg', make: (random) => random.pick(['1.50 .. 2', '~5', '< 3.10']), asText: true },
  { type: 'ean13', extension: 'isn', make: (random) => random.pick(['4006381333931', '978-0-393-04002-9']), asText: true },
]

export const VALUE_TYPES: readonly Type[] = [...NUMBERS, ...TEXTS, ...TIMES, ...SHAPES, ...ARRAYS, ...COMPOSITES, ...EXTENDED]
