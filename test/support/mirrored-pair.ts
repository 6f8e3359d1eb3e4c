import type { AnyTables, MirrorOptions, PublishRules, SubscribeRules, Value } from '../../src/index.ts'
import { mirror } from '../../src/index.ts'
import type { Random } from './random.ts'

/** A kind of column: how the till keeps it, how head office may, and the text that PostgreSQL then shows. */
interface Kind {
  readonly till: string
  value(random: Random): string | number | Buffer
  readonly office: Readonly<Record<string, (value: never) => string>>
}

const pad = (n: number) => String(n).padStart(2, '0')
const decimal = (random: Random) => `${random.int(-9_999, 9_999)}.${pad(random.int(0, 99))}`
const date = (random: Random) => `20${pad(random.int(0, 60))}-${pad(random.int(1, 12))}-${pad(random.int(1, 28))}`
const NASTY = ['', ' ', "it's", '"', '\\', '{}', 'ä€𝄞', 'NULL', '\n', '$1', '1.0', 'x'.repeat(300)]

const KINDS: readonly Kind[] = [
  {
    till: 'INTEGER',
    value: (random) => random.int(-1_000_000, 1_000_000),
    office: {
      bigint: String,
      integer: String,
      'numeric(12, 3)': (n: number) => n.toFixed(3),
      numeric: String,
      text: String,
      'double precision': String,
    },
  },
  { till: 'INTEGER', value: (random) => random.int(0, 1), office: { boolean: (n: number) => (n === 1 ? 'true' : 'false'), smallint: String } },
  {
    till: 'TEXT',
    value: decimal,
    office: {
      'numeric(12, 2)': (text: string) => text.replace(/^-0\.00$/, '0.00'),
      text: String,
      'numeric(14, 4)': (text: string) => `${text}00`.replace(/^-0\.0000$/, '0.0000'),
    },
  },
  { till: 'TEXT', value: date, office: { date: String, text: String, timestamptz: (text: string) => `${text} 00:00:00+00` } },
  {
    till: 'TEXT',
    value: (random) => `${date(random)}T${pad(random.int(0, 23))}:${pad(random.int(0, 59))}:07.25Z`,
    office: { timestamptz: (text: string) => text.replace('T', ' ').replace('Z', '+00'), text: String, date: (text: string) => text.slice(0, 10) },
  },
  { till: 'TEXT', value: (random) => random.pick(NASTY), office: { text: String, 'varchar(300)': String, note: String } },
  {
    till: 'TEXT',
    value: (random) => random.pick(['open', 'posted', 'voided']),
    office: { state: String, 'varchar(6)': String, 'character varying': String },
  },
  {
    till: 'TEXT',
    value: (random) =>
      random
        .bytes(16)
        .toString('hex')
        .replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-'),
    office: { uuid: String, text: String },
  },
  { till: 'BLOB', value: (random) => random.bytes(random.int(0, 20)), office: { bytea: (bytes: Buffer) => `\\x${bytes.toString('hex')}` } },
  {
    till: 'REAL',
    value: (random) => random.int(-5_000, 5_000) / 8,
    office: { 'double precision': String, 'numeric(12, 3)': (n: number) => n.toFixed(3) },
  },
  {
    till: 'TEXT',
    value: (random) => `{"a":${random.int(0, 3)}}`,
    office: { jsonb: (text: string) => text.replace(':', ': '), json: String, text: String },
  },
  { till: 'TEXT', value: (random) => `{${random.int(0, 9)},NULL,${random.int(0, 9)}}`, office: { 'integer[]': String, text: String } },
]
export const TYPES = `CREATE TYPE state AS ENUM ('open', 'posted', 'voided'); CREATE DOMAIN note AS text CHECK (length(VALUE) < 1000)`
const NAMES = ['select', 'Name', 'ä "b"', "it's", 'x', 'order', 'json', 'record', 't', 'k', 'value', 'a.b', '$1', 'sync_n', ' ', 'excluded']

export interface Column {
  readonly name: string
  readonly kind: Kind
  readonly target: string
  readonly type: string
  readonly show: (value: never) => string
}

/** A column that holds the id of a row of a root table, or NULL where it may. */
export interface Reference {
  readonly name: string
  readonly to: string
  readonly needed: boolean
}

export interface Table {
  readonly name: string
  readonly target: string
  /** The table above; undefined for roots. */
  readonly root: string | undefined
  readonly columns: readonly Column[]
  readonly references: readonly Reference[]
  /** Whether head office wants the column `code` to be unique. */
  readonly unique: boolean
  /** The columns that the mirror leaves to head office. */
  readonly left: ReadonlySet<string>
  readonly options: MirrorOptions
}

export interface Pair {
  readonly tables: readonly Table[]
  readonly origin: boolean
  readonly removals: 'apply' | 'ignore'
  readonly till: string
  readonly office: string
  readonly publish: PublishRules<AnyTables>
  readonly subscribe: SubscribeRules<AnyTables>
}

export const q = (name: string) => `"${name.replaceAll('"', '""')}"`

/** A till's schema and one of head office that can mirror it. */
export function randomPair(random: Random): Pair {
  const origin = random.chance(0.5)
  const removals = random.pick(['apply', 'ignore'] as const)
  const deferrable = random.pick(['', 'DEFERRABLE', 'DEFERRABLE INITIALLY DEFERRED'])
  const roots = ['a', 'b', 'c'].slice(0, random.int(1, 3))
  const names = roots.flatMap(
    (root) =>
      [[root, undefined], ...Array.from({ length: random.int(0, 2) }, (_, n) => [`${root}_part${n}`, root])] as [string, string | undefined][],
  )
  const tables = names.map(([name, root]) => randomTable(random, name, root, roots, { origin, removals }))
  const key = origin ? 'location, register, ' : ''
  const targetOf = (name: string) => q(tables.find((table) => table.name === name)?.target ?? '')
  const created = tables.map(({ target, columns, references, root, left }) => {
    const own = columns.map((column) => `${q(column.target)} ${column.type}${left.has(column.name) ? '' : ''}`)
    const all = [
      ...(origin ? ['location text', 'register text'] : []),
      'id bigint',
      'code integer NOT NULL',
      "owned text NOT NULL DEFAULT 'new'",
      ...own,
    ]
    if (root !== undefined) all.push('root bigint NOT NULL')
    all.push(...references.map(({ name, needed }) => `${name} bigint${needed ? ' NOT NULL' : ''}`))
    return `CREATE TABLE ${q(target)} (${random.shuffle(all).join(', ')}, PRIMARY KEY (${random.chance(0.5) ? `${key}id` : `id${origin ? ', register, location' : ''}`}))`
  })
  const constrained = tables.flatMap(({ target, references, root, unique }) => [
    ...references.map(
      ({ name, to }) => `ALTER TABLE ${q(target)} ADD FOREIGN KEY (${key}${name}) REFERENCES ${targetOf(to)} (${key}id) ${deferrable}`,
    ),
    ...(root === undefined ? [] : [`ALTER TABLE ${q(target)} ADD FOREIGN KEY (${key}root) REFERENCES ${targetOf(root)} (${key}id) ${deferrable}`]),
    ...(unique ? [`CREATE UNIQUE INDEX ON ${q(target)} (${key}code)`] : []),
    `CREATE TRIGGER needed BEFORE UPDATE ON ${q(target)} FOR EACH ROW EXECUTE FUNCTION must_differ()`,
  ])
  const till = tables.flatMap(({ name, columns, references, root }) => [
    `CREATE TABLE ${name} (${['id INTEGER PRIMARY KEY', 'code INTEGER NOT NULL', ...(root === undefined ? [] : ['root INTEGER NOT NULL']), ...references.map(({ name }) => `${name} INTEGER`), ...columns.map((column) => `${q(column.name)} ${column.kind.till}`)].join(', ')})`,
    ...(root === undefined ? [] : [`CREATE INDEX ${name}_root ON ${name} (root)`]),
  ])
  return {
    tables,
    origin,
    removals,
    till: till.join(';\n'),
    office: `${TYPES}; CREATE FUNCTION must_differ() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      IF OLD::text = NEW::text THEN RAISE EXCEPTION 'needless update of %', TG_TABLE_NAME; END IF; RETURN NEW; END $$;
      ${[...created, ...constrained].join(';\n')}`,
    publish: Object.fromEntries(tables.map(({ name, root }) => [name, root === undefined ? {} : { partOf: { [root]: { root: 'id' } } }])),
    subscribe: Object.fromEntries(random.shuffle(tables).map(({ name, options }) => [name, mirror(options)])),
  }
}

function randomTable(
  random: Random,
  name: string,
  root: string | undefined,
  roots: readonly string[],
  all: { origin: boolean; removals: 'apply' | 'ignore' },
): Table {
  const renamed = random.chance(0.3)
  const columns = random
    .shuffle(NAMES)
    .slice(0, random.int(0, 5))
    .map((column): Column => {
      const kind = random.pick(KINDS)
      const [type, show] = random.pick(Object.entries(kind.office))
      return { name: column, kind, type, show, target: renamed && random.chance(0.5) ? `${column} too` : column }
    })
  // Only what can be had: a root that another one needs does not need that one in turn; and parts may need any.
  const references = roots.flatMap((to): Reference[] => {
    if (!random.chance(0.4)) return []
    return [{ name: `to_${to}`, to, needed: random.chance(0.4) && to !== root && (root !== undefined || to < name) }]
  })
  const left = new Set(random.chance(0.4) ? columns.filter(() => random.chance(0.4)).map((column) => column.name) : [])
  const taken = columns.filter((column) => !left.has(column.name)).map((column) => column.name)
  const chosen = random.chance(0.5) ? { except: [...left] } : { only: ['code', ...references.map((reference) => reference.name), ...taken] }
  const target = renamed ? `${name} of head office` : name
  const options: MirrorOptions = {
    ...(left.size > 0 && chosen),
    ...(renamed && { rename: { table: target, columns: Object.fromEntries(columns.map((column) => [column.name, column.target])) } }),
    ...(root === undefined && all.origin && { origin: ['location', 'register'] as const }),
    ...(root === undefined && { removals: all.removals }),
    ...(random.chance(0.2) && { map: (row: Readonly<Record<string, Value>>) => ({ ...row }) }),
  }
  return { name, target, root, columns, references, unique: all.removals === 'apply' && random.chance(0.4), left, options }
}
