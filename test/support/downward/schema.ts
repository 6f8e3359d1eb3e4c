import type { Random } from '../random.ts'

// What head office publishes, by chance: root tables with keys and columns of several types, parts of them, and filters, some by joined tables.

export const LOCATIONS = ['BA01', 'BA02', 'Kölln "1"']
export const GROUPS = ['A', 'B', "C'"]

/** A column's type in both dialects, and the literals of some of its values. */
export interface Type {
  readonly postgres: string
  readonly sqlite: string
  readonly values: readonly string[]
}

const TYPES = {
  text: { postgres: 'text', sqlite: 'TEXT', values: ["''", "'a'", '\'ä "b" \\n\'', "'NULL'", "'0012'", 'NULL'] },
  integer: { postgres: 'bigint', sqlite: 'INTEGER', values: ['0', '-7', '9007199254740993', 'NULL'] },
  numeric: { postgres: 'numeric(20, 4)', sqlite: 'TEXT', values: ['0', '1.5000', '-0.0001', '1234567890123456.7891', 'NULL'] },
  boolean: { postgres: 'boolean', sqlite: 'INTEGER', values: ['true', 'false', 'NULL'] },
  date: { postgres: 'date', sqlite: 'TEXT', values: ["'2026-11-21'", "'1999-01-01'", 'NULL'] },
  bytes: { postgres: 'bytea', sqlite: 'BLOB', values: ["'\\x00ff'", "'\\x'", 'NULL'] },
} as const satisfies Record<string, Type>
const KEYS: readonly Type[] = [
  { postgres: 'bigint', sqlite: 'INTEGER', values: ['1', '2', '3', '4', '5', '6', '7', '8', '9'] },
  { postgres: 'text', sqlite: 'TEXT', values: ["'a'", "'B'", "'A'", "'ß 1'", "'x]y'", "''", "'1'", "'01'"] },
]

export interface Column {
  readonly name: string
  readonly type: Type
}

export interface PartTable {
  readonly name: string
  /** The columns that refer to the root's key, in its order. */
  readonly above: readonly Column[]
  readonly lineNo: Column
  readonly columns: readonly Column[]
  /** Whether its key begins with the columns above; otherwise a part may be moved. */
  readonly isLed: boolean
}

export interface RootTable {
  readonly name: string
  readonly key: readonly Column[]
  readonly columns: readonly Column[]
  readonly parts: readonly PartTable[]
  /** By which it is chosen for whom: by an attribute of the register's, by its location, by a table that says which location has what. */
  readonly filter: { readonly group: boolean; readonly location: boolean; readonly links: string | undefined }
}

const NAMES = ['items', 'Price List', 'order', 'größen', 'x"y']

export function schemaOf(random: Random): readonly RootTable[] {
  const names = random.shuffle(NAMES)
  return Array.from({ length: random.int(1, 3) }, (_, n) => rootOf(random, names[n] as string))
}

function rootOf(random: Random, name: string): RootTable {
  const key = Array.from({ length: random.chance(0.3) ? 2 : 1 }, (_, n) => ({ name: `k${n}`, type: random.pick(KEYS) }))
  const parts = Array.from({ length: random.int(0, 2) }, (_, n) => partOf(random, `${name} part${n}`, key))
  const filter = { group: random.chance(0.35), location: random.chance(0.2), links: random.chance(0.35) ? `${name} links` : undefined }
  const columns = [
    ...columnsOf(random, 'c'),
    ...(filter.group ? [{ name: 'grp', type: TYPES.text }] : []),
    ...(filter.location ? [{ name: 'loc', type: TYPES.text }] : []),
  ]
  return { name, key, columns, parts, filter }
}

function partOf(random: Random, name: string, key: readonly Column[]): PartTable {
  return {
    name,
    above: key.map((column, n) => ({ name: `of${n}`, type: column.type })),
    lineNo: { name: 'line no', type: KEYS[0] as Type },
    columns: columnsOf(random, 'p'),
    isLed: random.chance(0.5),
  }
}

function columnsOf(random: Random, prefix: string): Column[] {
  return Array.from({ length: random.int(1, 4) }, (_, n) => ({ name: `${prefix}${n}`, type: random.pick(Object.values(TYPES)) }))
}

export function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

export function keyOf(table: PartTable): readonly Column[] {
  return table.isLed ? [...table.above, table.lineNo] : [table.lineNo]
}

export function columnsOfPart(table: PartTable): readonly Column[] {
  return [...table.above, table.lineNo, ...table.columns]
}

/** CREATE TABLE, without columns that are left out. */
export function create(dialect: 'postgres' | 'sqlite', name: string, columns: readonly Column[], key: readonly Column[]): string {
  const defined = columns.map((column) => `${quote(column.name)} ${column.type[dialect]}${key.includes(column) ? ' NOT NULL' : ''}`)
  return `CREATE TABLE ${quote(name)} (${[...defined, `PRIMARY KEY (${key.map((column) => quote(column.name)).join(', ')})`].join(', ')})`
}

/** All that head office has. */
export function officeSql(roots: readonly RootTable[]): string {
  return roots
    .flatMap((root) => [
      create('postgres', root.name, [...root.key, ...root.columns], root.key),
      ...root.parts.flatMap((part) => [
        create('postgres', part.name, columnsOfPart(part), keyOf(part)),
        `CREATE INDEX ON ${quote(part.name)} (${part.above.map((column) => quote(column.name)).join(', ')})`,
      ]),
      ...(root.filter.links === undefined ? [] : linksSql(root, root.filter.links)),
    ])
    .join(';\n')
}

function linksSql(root: RootTable, links: string): readonly string[] {
  const location = { name: 'location', type: TYPES.text }
  const columns = [location, ...root.key]
  return [create('postgres', links, columns, columns), `CREATE INDEX ON ${quote(links)} (${root.key.map((column) => quote(column.name)).join(', ')})`]
}

/** The filter of a root table as SQL, written apart from the rules. */
export function filterSql(root: RootTable, register: { readonly location: string; readonly group: string }): string {
  const { group, location, links } = root.filter
  const text = (value: string) => `'${value.replaceAll("'", "''")}'`
  return [
    'true',
    ...(group ? [`r.grp = ${text(register.group)}`] : []),
    ...(location ? [`r.loc = ${text(register.location)}`] : []),
    ...(links === undefined
      ? []
      : [
          `EXISTS (SELECT FROM ${quote(links)} l WHERE l.location = ${text(register.location)} AND ${root.key
            .map((column) => `l.${quote(column.name)} = r.${quote(column.name)}`)
            .join(' AND ')})`,
        ]),
  ].join(' AND ')
}
