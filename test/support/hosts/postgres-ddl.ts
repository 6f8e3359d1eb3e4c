import type { Random } from '../random.ts'
import { addColumn, addUnique, changeDefault, dropColumn, dropUnique, isGeneratedFrom, type Make, renameAway, renameColumn } from './ddl.ts'
import type { Change } from './history.ts'
import { isNoted, list, q, type Schema, writable } from './model.ts'
import { postgresTrigger } from './postgres-triggers.ts'
import { createTable, createUniques } from './tables.ts'

/** A change of the host's schema, after which the model says what there is now; undefined where chance finds nothing to change. */
export function postgresChange(random: Random, schema: Schema): Change | undefined {
  const table = random.pick(schema.tables.filter(({ aside }) => !aside))
  const partitions = table.partitions.length > 0 ? [detach, detach, attach, attach, emptyPartition, dropPartition] : []
  const make = random.pick([
    addColumn,
    addColumn,
    renameColumn,
    renameColumn,
    dropColumn,
    alterType,
    alterType,
    alterKeyType,
    otherKey,
    rewrite,
    setDefault,
    remake,
    rebuild,
    addUnique,
    dropUnique,
    addTrigger,
    dropTrigger,
    renameAway,
    switchTriggers,
    switchTriggers,
    ...partitions,
  ])
  return make(random, schema, table)
}

/** Types that every value of another one fits in, by the type as it is declared. */
const WIDER: Readonly<Record<string, readonly string[]>> = {
  smallint: ['integer', 'bigint'],
  integer: ['bigint', 'smallint'],
  bigint: ['integer', 'bigint'],
  'varchar(20)': ['text', 'varchar(40)'],
  text: ['varchar(20)', 'text'],
  'numeric(10,2)': ['numeric', 'numeric(12,3)'],
  numeric: ['numeric(10,2)'],
  'double precision': ['real'],
  real: ['double precision'],
  uuid: ['text'],
  date: ['text'],
  'integer[]': ['bigint[]', 'text'],
}

const alterType: Make = (random, schema, table) => {
  const generated = table.columns.map((column) => column.generated ?? '').join()
  const free = table.columns.filter(
    ({ name, type, generated: own }) =>
      WIDER[type] !== undefined && own === undefined && !isNoted(schema, table, name) && !generated.includes(q(name)),
  )
  const column = random.pick(free)
  if (column === undefined) return undefined
  const type = random.pick(WIDER[column.type] ?? [])
  const collation = column.collation === undefined || !/char|text/.test(type) ? '' : ` COLLATE ${q(column.collation)}`
  table.columns[table.columns.indexOf(column)] = { ...column, type, kind: type === 'text' && column.kind !== 'status' ? 'text' : column.kind }
  return { sql: [`ALTER TABLE ${q(table.name)} ALTER COLUMN ${q(column.name)} TYPE ${type}${collation} USING ${q(column.name)}::${type}`] }
}

/** Keys that are written as before, though they take more room. */
const alterKeyType: Make = (random, schema, table) => {
  const column = random.pick(table.columns.filter(({ name, type }) => /^(smallint|integer)$/.test(type) && isNoted(schema, table, name)))
  if (column === undefined || isGeneratedFrom(table, column.name)) return undefined
  table.columns[table.columns.indexOf(column)] = { ...column, type: 'bigint' }
  return { sql: [`ALTER TABLE ${q(table.name)} ALTER COLUMN ${q(column.name)} TYPE bigint`] }
}

/** Without a key for a while. Those of another number of columns: test/integration/changed-keys.test.ts. */
const otherKey: Make = (random, _schema, table) => {
  if (table.partitions.length > 0) return undefined
  const name = q(`${table.name}_pkey`)
  const kind = random.pick(['', ' DEFERRABLE'])
  return {
    sql: [
      `ALTER TABLE ${q(table.name)} DROP CONSTRAINT ${name} CASCADE`,
      `ALTER TABLE ${q(table.name)} ADD CONSTRAINT ${name} PRIMARY KEY (${list(table.key)})${kind}`,
    ],
  }
}

/** Every row lies elsewhere afterwards. */
const rewrite: Make = (random, _schema, { name }) => {
  const how = random.pick([
    `ALTER TABLE ${q(name)} SET UNLOGGED`,
    `ALTER TABLE ${q(name)} SET LOGGED`,
    `VACUUM FULL ${q(name)}`,
    `CLUSTER ${q(name)} USING ${q(`${name}_pkey`)}`,
  ])
  return { sql: [how] }
}

const setDefault: Make = (random, schema, table) => {
  const before = new Map(table.columns.map((column) => [column.name, column.default]))
  changeDefault(random, schema, table)
  const changed = table.columns.find((column) => before.get(column.name) !== column.default)
  return changed && { sql: [`ALTER TABLE ${q(table.name)} ALTER COLUMN ${q(changed.name)} SET DEFAULT ${changed.default}`] }
}

const remake: Make = (_random, schema, table) => ({
  sql: [`DROP TABLE ${q(table.name)} CASCADE`, ...createTable(schema, table), ...createUniques(schema, table)],
})

/** A copy takes the table's place, without its triggers and what refers to it. */
const rebuild: Make = (random, schema, table) => {
  if (table.partitions.length > 0) return undefined
  const kept = writable(table).map(({ name }) => name)
  if (random.chance(0.3)) changeDefault(random, schema, table)
  const name = `new ${table.name}`
  return {
    sql: [
      'BEGIN',
      ...createTable(schema, table, name),
      `INSERT INTO ${q(name)} (${list(kept)}) SELECT ${list(kept)} FROM ${q(table.name)}`,
      `DROP TABLE ${q(table.name)} CASCADE`,
      `ALTER TABLE ${q(name)} RENAME TO ${q(table.name)}`,
      ...createUniques(schema, table),
      'COMMIT',
    ],
  }
}

const addTrigger: Make = (random, schema) => {
  const trigger = postgresTrigger(random, schema)
  if (trigger === undefined) return undefined
  schema.triggers.push(trigger)
  return { sql: trigger.sql }
}

const dropTrigger: Make = (random, schema) => {
  const trigger = random.pick(schema.triggers)
  return trigger && { sql: [`DROP TRIGGER ${q(trigger.name)} ON ${q(trigger.on)}`] }
}

/** The host's triggers and with them the library's: off for a while, or on again but not always. */
const switchTriggers: Make = (random, _schema, table) => ({
  sql: [`ALTER TABLE ${q(table.name)} ${random.pick(['DISABLE TRIGGER USER', 'ENABLE TRIGGER USER', 'DISABLE TRIGGER ALL', 'ENABLE TRIGGER ALL'])}`],
})

const detach: Make = (random, _schema, table) => {
  const partition = random.pick(table.partitions)
  return { sql: [`ALTER TABLE ${q(table.name)} DETACH PARTITION ${q(partition.name)}`] }
}

const attach: Make = (random, _schema, table) => {
  const { name, bounds } = random.pick(table.partitions)
  return { sql: [`ALTER TABLE ${q(table.name)} ATTACH PARTITION ${q(name)} ${bounds}`] }
}

const emptyPartition: Make = (random, _schema, table) => ({ sql: [`TRUNCATE ${q(random.pick(table.partitions).name)}`] })

const dropPartition: Make = (random, _schema, table) => {
  const { name, bounds } = random.pick(table.partitions)
  return { sql: [`DROP TABLE ${q(name)}`, ...(random.chance(0.7) ? [`CREATE TABLE ${q(name)} PARTITION OF ${q(table.name)} ${bounds}`] : [])] }
}
