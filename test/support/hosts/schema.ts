import type { Random } from '../random.ts'
import { type Column, type DialectName, type Kind, list, type Parent, type Partition, q, type Schema, type Table, type Unique } from './model.ts'
import { Names } from './names.ts'
import { isStrictKind, keyKind, payloadKind, referringType, typeOf } from './types.ts'
import { defaultOf, literalOf } from './values.ts'

/** A host's tables: one to three roots, their parts, and parts of those; and sometimes a table aside that only triggers write to. */
export function randomSchema(random: Random, dialect: DialectName): Schema {
  const schema: Schema = { dialect, tables: [], triggers: [], names: new Set(['sync', 'size', 'positive', 'caseless']), types: [] }
  const oddness = random.pick([0, 0.3, 1])
  const add = (above: Table | undefined): Table => {
    const table = randomTable(random, schema, oddness, above)
    schema.tables.push(table)
    return table
  }
  for (let roots = random.pick([1, 1, 2, 3]); roots > 0; roots--) {
    const root = add(undefined)
    for (let parts = random.pick([0, 1, 1, 2]); parts > 0; parts--) {
      const part = add(root)
      if (random.chance(0.4)) add(part)
    }
  }
  if (random.chance(0.3)) schema.tables.push(logTable(random, schema, oddness))
  return schema
}

function logTable(random: Random, schema: Schema, oddness: number): Table {
  const names = new Names(random, schema.names)
  const number = schema.dialect === 'sqlite' ? { type: 'INTEGER', extra: 'PRIMARY KEY' } : { type: 'bigserial', extra: 'PRIMARY KEY' }
  const columns: Column[] = [
    { name: 'id', kind: 'integer', ...number },
    { name: 'n', kind: 'integer', type: 'INTEGER', default: '0' },
  ]
  return { name: names.next(oddness), columns, key: ['id'], uniques: [], options: [], partitions: [], aside: true }
}

function randomTable(random: Random, schema: Schema, oddness: number, above: Table | undefined): Table {
  const { dialect } = schema
  const name = new Names(random, schema.names).next(oddness)
  const names = new Names(random)
  const column = (): string => names.next(oddness)
  const strict = dialect === 'sqlite' && random.chance(0.15) && (above === undefined || above.columns.every(({ kind }) => isStrictKind(kind)))
  const columns: Column[] = []
  const parent = above && randomParent(random, above, strict, column, columns)
  const key = randomKey(random, schema, strict, column, columns, parent)
  const numbered = columns.some(({ extra }) => extra?.includes('PRIMARY KEY'))
  const withoutRowid = dialect === 'sqlite' && !numbered && random.chance(0.3)
  addPayload(random, schema, strict, column, columns)
  addGenerated(random, schema, column, columns)
  const partitions = dialect === 'postgres' && !numbered && random.chance(0.2) ? randomPartitions(random, schema, key, columns) : undefined
  const by = partitions && [`PARTITION BY ${partitions.by}`]
  return {
    name,
    columns: random.chance(0.3) ? random.shuffle(columns) : columns,
    key,
    ...(parent && { parent }),
    uniques: partitions ? [] : randomUniques(random, schema, columns),
    options: by ?? [...(strict ? ['STRICT'] : []), ...(withoutRowid ? ['WITHOUT ROWID'] : [])],
    keyConflict: dialect === 'sqlite' && !numbered && random.chance(0.08) ? random.pick(['ON CONFLICT REPLACE', 'ON CONFLICT IGNORE']) : undefined,
    partitions: partitions?.list ?? [],
  }
}

/** Columns that refer to the key of the table above, or to another unique of it, declared as those are. */
function randomParent(random: Random, above: Table, strict: boolean, column: () => string, columns: Column[]): Parent {
  const whole = above.uniques.filter(({ where, columns }) => where === undefined && columns.every(({ collation }) => collation === undefined))
  const others = whole.length > 0 && random.chance(0.35) ? random.pick(whole).columns.map(({ name }) => name) : above.key
  const own: string[] = []
  const notNull = random.chance(0.3)
  for (const other of others) {
    const { type, kind, collation } = above.columns.find(({ name }) => name === other) as Column
    const name = column()
    own.push(name)
    columns.push({ name, kind, collation, strict, type: referringType(type, kind, strict), notNull, ...(random.chance(0.05) && { default: '1' }) })
  }
  const action = () => random.pick(['CASCADE', 'CASCADE', 'SET NULL', 'NO ACTION', 'RESTRICT', 'SET DEFAULT'])
  const deferred = random.chance(0.3) ? ' DEFERRABLE INITIALLY DEFERRED' : ''
  // PostgreSQL refers to no key that is deferrable itself.
  const deferrable =
    above.columns.some(({ extra }) => extra?.includes('DEFERRABLE')) || above.uniques.some(({ constraint }) => constraint === 'DEFERRABLE')
  const foreign = !deferrable && random.chance(0.6) ? `ON DELETE ${action()} ON UPDATE ${action()}${deferred}` : undefined
  return { table: above, own, others: [...others], ...(foreign !== undefined && { foreign }) }
}

function randomKey(random: Random, schema: Schema, strict: boolean, column: () => string, columns: Column[], parent: Parent | undefined): string[] {
  const add = (kind: Kind): string => {
    const name = column()
    const declared = typeOf(random, schema, kind, strict)
    columns.push({ name, ...declared, notNull: true, ...(random.chance(0.1) && { default: literalOf(random, schema.dialect, declared) }) })
    return name
  }
  const shape = random.int(1, 10)
  if (shape <= 4) {
    const name = column()
    columns.push({ name, kind: 'integer', strict, ...numberedKey(random, schema) })
    return [name]
  }
  if (shape <= 7) return [add(keyKind(random, schema))]
  // A line's number within its receipt.
  if (parent !== undefined && shape <= 9) {
    for (const [at, one] of columns.entries()) if (parent.own.includes(one.name)) columns[at] = { ...one, notNull: true }
    return random.shuffle([...parent.own, add('integer')])
  }
  return random.shuffle([add('text'), add(keyKind(random, schema))])
}

function numberedKey(random: Random, { dialect }: Schema): Pick<Column, 'type' | 'extra'> {
  if (dialect === 'sqlite') return { type: 'INTEGER', extra: random.chance(0.2) ? 'PRIMARY KEY AUTOINCREMENT' : 'PRIMARY KEY' }
  return random.pick([
    { type: 'bigint', extra: 'PRIMARY KEY' },
    { type: 'bigserial', extra: 'PRIMARY KEY' },
    { type: 'integer', extra: 'GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY' },
    { type: 'bigint', extra: 'PRIMARY KEY DEFERRABLE' },
  ])
}

function addPayload(random: Random, schema: Schema, strict: boolean, column: () => string, columns: Column[]): void {
  const { dialect } = schema
  const status = typeOf(random, schema, 'status', strict)
  columns.push({ name: column(), ...status, default: random.pick([undefined, "'posted'"]) })
  columns.push({ name: column(), ...typeOf(random, schema, 'integer', strict) })
  for (let more = random.chance(0.04) ? 200 : random.int(0, 3); more > 0; more--) {
    const declared = typeOf(random, schema, payloadKind(random, schema), strict)
    const replaced = dialect === 'sqlite' && random.chance(0.08)
    const initial = defaultOf(random, dialect, declared) ?? (replaced ? literalOf(random, dialect, declared) : undefined)
    const notNull = replaced || random.chance(0.15)
    columns.push({ name: column(), ...declared, default: initial, notNull, extra: replaced ? 'ON CONFLICT REPLACE' : undefined })
  }
  if (random.chance(0.1)) columns.push(volatileColumn(random, schema, strict, column))
}

/** A column whose default is another value each time. */
function volatileColumn(random: Random, schema: Schema, strict: boolean, column: () => string): Column {
  const initial = schema.dialect === 'sqlite' ? random.pick(['CURRENT_TIMESTAMP', '(hex(randomblob(4)))']) : '(clock_timestamp()::text)'
  return { name: column(), ...typeOf(random, schema, 'status', strict), default: initial, volatile: true }
}

function addGenerated(random: Random, { dialect }: Schema, column: () => string, columns: Column[]): void {
  const number = columns.find(({ kind, extra }) => kind === 'integer' && extra === undefined)
  if (number === undefined || !random.chance(0.2)) return
  const how = dialect === 'sqlite' ? random.pick(['STORED', 'VIRTUAL']) : 'STORED'
  columns.push({
    name: column(),
    kind: 'integer',
    type: dialect === 'sqlite' ? 'INTEGER' : 'bigint',
    generated: `GENERATED ALWAYS AS (${q(number.name)} % 5) ${how}`,
  })
}

const COLLATIONS: Readonly<Record<DialectName, readonly string[]>> = { sqlite: ['NOCASE', 'RTRIM', 'BINARY'], postgres: ['C', 'caseless'] }

function randomUniques(random: Random, schema: Schema, columns: readonly Column[]): Unique[] {
  const uniques: Unique[] = []
  const names = new Names(random, schema.names)
  for (let more = random.pick([0, 0, 1, 1, 2]); more > 0; more--) uniques.push(randomUnique(random, schema, columns, `i ${names.next(0.3)}`, true))
  return uniques
}

export function randomUnique(random: Random, schema: Schema, columns: readonly Column[], name: string, fresh: boolean): Unique {
  const comparable = columns.filter(({ kind }) => kind !== 'json')
  const chosen = random.shuffle(comparable).slice(0, random.pick([1, 1, 1, 2]))
  const unique = chosen.map((column) => {
    const collated = column.kind === 'text' && random.chance(0.3)
    return { name: column.name, ...(collated && { collation: random.pick(COLLATIONS[schema.dialect]) }) }
  })
  const kind = random.int(1, 10)
  if (fresh && kind <= 3 && unique.every(({ collation }) => schema.dialect === 'sqlite' || collation === undefined)) {
    const conflict =
      schema.dialect === 'sqlite'
        ? random.pick(['', 'ON CONFLICT REPLACE', 'ON CONFLICT IGNORE', 'ON CONFLICT ROLLBACK'])
        : random.pick(['', 'DEFERRABLE'])
    return { name, columns: unique, constraint: conflict }
  }
  return { name, columns: unique, ...(kind <= 6 && { where: randomCondition(random, columns) }) }
}

function randomCondition(random: Random, columns: readonly Column[]): { column: string; text: string } {
  const column = random.pick(columns)
  const condition = { status: random.pick(["? = 'posted'", "? <> 'it''s ) where ('"]), integer: random.pick(['? > 2', '? IN (1, 2, 3)']) }
  return { column: column.name, text: condition[column.kind as 'status' | 'integer'] ?? '? IS NOT NULL' }
}

function randomPartitions(
  random: Random,
  schema: Schema,
  key: readonly string[],
  columns: readonly Column[],
): { by: string; list: Partition[] } | undefined {
  const integer = columns.find((column) => key.includes(column.name) && column.kind === 'integer')
  const names = new Names(random, schema.names)
  const part = (bounds: string): Partition => ({ name: names.next(0.2), bounds, attached: true })
  // What an enum's value hashes to is another number in each database.
  const hashed = !columns.some((column) => key.includes(column.name) && column.kind === 'enum')
  if (integer === undefined && !hashed) return undefined
  if (integer === undefined || (hashed && random.chance(0.3))) {
    return { by: `HASH (${list(key)})`, list: [0, 1].map((n) => part(`FOR VALUES WITH (MODULUS 2, REMAINDER ${n})`)) }
  }
  const ranges = [
    part('FOR VALUES FROM (0) TO (3)'),
    part('FOR VALUES FROM (3) TO (6)'),
    part(random.pick(['DEFAULT', 'FOR VALUES FROM (6) TO (9)'])),
  ]
  return { by: `RANGE (${q(integer.name)})`, list: ranges }
}
