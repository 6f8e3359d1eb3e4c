import type { Random } from '../random.ts'
import { type Column, isNoted, list, q, type Schema, type Table, writable } from './model.ts'
import { Names } from './names.ts'
import { randomUnique } from './schema.ts'
import { sqliteTrigger } from './sqlite-triggers.ts'
import { columnSql, createTable, createUnique, createUniques } from './tables.ts'
import { typeOf } from './types.ts'
import { defaultOf } from './values.ts'

/** What a change of the schema consists of. */
export interface Change {
  readonly sql: readonly string[]
  /** SQLite refuses it while the library's triggers name what it drops. */
  readonly migrate?: boolean
}

/** A change of the host's schema, after which the model says what there is now; undefined where chance finds nothing to change. */
export function sqliteChange(random: Random, schema: Schema): Change | undefined {
  const table = random.pick(schema.tables.filter(({ aside }) => !aside))
  const make = random.pick([
    addColumn,
    addColumn,
    renameColumn,
    renameColumn,
    dropColumn,
    dropNamedColumn,
    rebuild,
    rebuild,
    remake,
    addUnique,
    dropUnique,
    addTrigger,
    dropTrigger,
    renameAway,
  ])
  return make(random, schema, table)
}

type Make = (random: Random, schema: Schema, table: Table) => Change | undefined

function names(random: Random, table: Table): Names {
  return new Names(random, new Set(table.columns.map(({ name }) => name.toLowerCase())))
}

function newColumn(random: Random, schema: Schema, table: Table): Column {
  const declared = typeOf(random, schema, random.pick(['integer', 'text', 'real', 'numeric', 'any', 'blob']), table.options.includes('STRICT'))
  const initial = defaultOf(random, schema.dialect, declared)
  return { name: names(random, table).next(0.3), ...declared, default: initial, notNull: initial !== undefined && random.chance(0.3) }
}

const addColumn: Make = (random, schema, table) => {
  const column = newColumn(random, schema, table)
  table.columns.push(column)
  return { sql: [`ALTER TABLE ${q(table.name)} ADD COLUMN ${columnSql(schema, column)}`] }
}

const renameColumn: Make = (random, schema, table) => {
  const free = table.columns.filter(({ name, generated }) => generated === undefined && !isGeneratedFrom(table, name))
  const column = random.pick(random.chance(0.8) ? free.filter(({ name }) => !isNoted(schema, table, name)) : free)
  if (column === undefined) return undefined
  const before = column.name
  const name = names(random, table).next(0.3)
  renameIn(schema, table, before, name)
  return { sql: [`ALTER TABLE ${q(table.name)} RENAME COLUMN ${q(before)} TO ${q(name)}`] }
}

function isGeneratedFrom(table: Table, name: string): boolean {
  return table.columns.some(({ generated }) => generated?.includes(q(name)))
}

export function renameIn(schema: Schema, table: Table, before: string, after: string): void {
  const renamed = (names: string[]): string[] => names.map((name) => (name === before ? after : name))
  for (const column of table.columns) if (column.name === before) column.name = after
  table.key = renamed(table.key)
  if (table.parent) table.parent.own = renamed(table.parent.own)
  for (const { parent } of schema.tables) if (parent?.table === table) parent.others = renamed(parent.others)
  table.uniques = table.uniques.map((unique) => ({
    ...unique,
    columns: unique.columns.map((column) => (column.name === before ? { ...column, name: after } : column)),
    ...(unique.where && { where: { ...unique.where, column: unique.where.column === before ? after : unique.where.column } }),
  }))
}

function isUnique(table: Table, name: string): boolean {
  return table.uniques.some(({ columns, where }) => where?.column === name || columns.some((column) => column.name === name))
}

const dropColumn: Make = (random, schema, table) => {
  const free = table.columns.filter((column) => !column.named && !isNoted(schema, table, column.name) && !isGeneratedFrom(table, column.name))
  const column = random.pick(free.filter(({ name }) => !isUnique(table, name)))
  if (column === undefined || free.length < 3) return undefined
  table.columns.splice(table.columns.indexOf(column), 1)
  return { sql: [`ALTER TABLE ${q(table.name)} DROP COLUMN ${q(column.name)}`] }
}

/** A unique column that goes with its index: possible only while no trigger of the library names it. */
const dropNamedColumn: Make = (random, schema, table) => {
  const unique = table.uniques.find(
    ({ constraint, columns }) => constraint === undefined && columns.every(({ name }) => !isNoted(schema, table, name)),
  )
  const column = unique && table.columns.find(({ name }) => name === unique.columns[0]?.name)
  if (unique === undefined || column === undefined || isGeneratedFrom(table, column.name) || !random.chance(0.8)) return undefined
  if (
    table.uniques.some((other) => other !== unique && (other.where?.column === column.name || other.columns.some(({ name }) => name === column.name)))
  )
    return undefined
  table.uniques = table.uniques.filter((other) => other !== unique)
  table.columns.splice(table.columns.indexOf(column), 1)
  return { sql: [`DROP INDEX ${q(unique.name)}`, `ALTER TABLE ${q(table.name)} DROP COLUMN ${q(column.name)}`], migrate: true }
}

/** The way that SQLite's own documentation shows, https://www.sqlite.org/lang_altertable.html#otheralter; without its triggers, as hosts forget them. */
const rebuild: Make = (random, schema, table) => {
  const kept = writable(table).map(({ name }) => name)
  if (random.chance(0.5)) table.columns.push(newColumn(random, schema, table))
  if (random.chance(0.3)) changeDefault(random, schema, table)
  const name = `new ${table.name}`
  const values = kept.map((column) => (random.chance(0.05) && !isNoted(schema, table, column) ? 'NULL' : q(column)))
  return {
    sql: [
      'BEGIN IMMEDIATE',
      ...createTable(schema, table, name),
      `INSERT INTO ${q(name)} (${list(kept)}) SELECT ${values.join(', ')} FROM ${q(table.name)}`,
      `DROP TABLE ${q(table.name)}`,
      `ALTER TABLE ${q(name)} RENAME TO ${q(table.name)}`,
      ...createUniques(schema, table),
      'COMMIT',
    ],
  }
}

function changeDefault(random: Random, schema: Schema, table: Table): void {
  const column = random.pick(
    table.columns.filter(({ volatile, generated, name }) => !volatile && generated === undefined && !table.key.includes(name)),
  )
  const at = column === undefined ? -1 : table.columns.indexOf(column)
  const initial = column && defaultOf(random, schema.dialect, column)
  if (column !== undefined && initial !== undefined) table.columns[at] = { ...column, default: initial }
}

const remake: Make = (_random, schema, table) => ({
  sql: [`DROP TABLE ${q(table.name)}`, ...createTable(schema, table), ...createUniques(schema, table)],
})

const addUnique: Make = (random, schema, table) => {
  const unique = randomUnique(random, schema, table.columns, `i ${new Names(random, schema.names).next(0.3)}`, false)
  table.uniques.push(unique)
  for (const column of table.columns)
    if (unique.where?.column === column.name || unique.columns.some(({ name }) => name === column.name)) column.named = true
  return { sql: [createUnique(schema, table, unique)] }
}

const dropUnique: Make = (random, schema, table) => {
  const refersTo = (names: readonly string[]) =>
    schema.tables.some(({ parent }) => parent?.table === table && parent.others.every((name) => names.includes(name)))
  const droppable = table.uniques.filter(({ constraint, columns }) => constraint === undefined && !refersTo(columns.map(({ name }) => name)))
  const unique = random.pick(droppable)
  if (unique === undefined) return undefined
  table.uniques = table.uniques.filter((other) => other !== unique)
  for (const column of table.columns)
    if (unique.where?.column === column.name || unique.columns.some(({ name }) => name === column.name)) column.named = true
  return { sql: [`DROP INDEX ${q(unique.name)}`] }
}

const addTrigger: Make = (random, schema) => {
  const trigger = sqliteTrigger(random, schema)
  if (trigger === undefined) return undefined
  schema.triggers.push(trigger)
  return { sql: [trigger.sql] }
}

const dropTrigger: Make = (random, schema) => {
  const trigger = random.pick(schema.triggers)
  return trigger && { sql: [`DROP TRIGGER ${q(trigger.name)}`] }
}

/** Away and back: in between the table is not there. */
const renameAway: Make = (_random, _schema, { name }) => ({
  sql: [`ALTER TABLE ${q(name)} RENAME TO ${q(`${name} away`)}`, `ALTER TABLE ${q(`${name} away`)} RENAME TO ${q(name)}`],
})
