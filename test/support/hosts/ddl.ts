import type { Random } from '../random.ts'
import type { Change } from './history.ts'
import { type Column, type DialectName, isNoted, type Kind, q, type Schema, type Table } from './model.ts'
import { Names } from './names.ts'
import { randomUnique } from './schema.ts'
import { columnSql, createUnique } from './tables.ts'
import { typeOf } from './types.ts'
import { defaultOf } from './values.ts'

export type Make = (random: Random, schema: Schema, table: Table) => Change | undefined

function names(random: Random, table: Table): Names {
  return new Names(random, new Set(table.columns.map(({ name }) => name.toLowerCase())))
}

export function newColumn(random: Random, schema: Schema, table: Table): Column {
  const declared = typeOf(random, schema, random.pick(ADDED[schema.dialect]), table.options.includes('STRICT'))
  const initial = defaultOf(random, schema.dialect, declared)
  return { name: names(random, table).next(0.3), ...declared, default: initial, notNull: initial !== undefined && random.chance(0.3) }
}

const ADDED: Readonly<Record<DialectName, readonly Kind[]>> = {
  sqlite: ['integer', 'text', 'real', 'numeric', 'any', 'blob'],
  postgres: ['integer', 'text', 'real', 'numeric', 'blob', 'boolean', 'timestamp', 'array', 'enum', 'domain'],
}

export const addColumn: Make = (random, schema, table) => {
  const column = newColumn(random, schema, table)
  table.columns.push(column)
  return { sql: [`ALTER TABLE ${q(table.name)} ADD COLUMN ${columnSql(schema, column)}`] }
}

export const renameColumn: Make = (random, schema, table) => {
  const free = table.columns.filter(({ name, generated }) => generated === undefined && !isGeneratedFrom(table, name))
  const column = random.pick(random.chance(0.8) ? free.filter(({ name }) => !isNoted(schema, table, name)) : free)
  if (column === undefined) return undefined
  const before = column.name
  const name = names(random, table).next(0.3)
  renameIn(schema, table, before, name)
  return { sql: [`ALTER TABLE ${q(table.name)} RENAME COLUMN ${q(before)} TO ${q(name)}`] }
}

export function isGeneratedFrom(table: Table, name: string): boolean {
  return table.columns.some(({ generated }) => generated?.includes(q(name)))
}

function renameIn(schema: Schema, table: Table, before: string, after: string): void {
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

/** Not one whose default is another each time: where the change fails, for another connection has a transaction open, statements would no longer name the column. */
export const dropColumn: Make = (random, schema, table) => {
  const droppable = table.columns.filter((column) => !column.named && !column.volatile && !isNoted(schema, table, column.name))
  const free = droppable.filter(({ name }) => !isGeneratedFrom(table, name))
  const column = random.pick(free.filter(({ name }) => !isUnique(table, name)))
  if (column === undefined || free.length < 3) return undefined
  table.columns.splice(table.columns.indexOf(column), 1)
  return { sql: [`ALTER TABLE ${q(table.name)} DROP COLUMN ${q(column.name)}`] }
}

export function changeDefault(random: Random, schema: Schema, table: Table): void {
  const column = random.pick(
    table.columns.filter(({ volatile, generated, name }) => !volatile && generated === undefined && !table.key.includes(name)),
  )
  const at = column === undefined ? -1 : table.columns.indexOf(column)
  const initial = column && defaultOf(random, schema.dialect, column)
  if (column !== undefined && initial !== undefined) table.columns[at] = { ...column, default: initial }
}

export const addUnique: Make = (random, schema, table) => {
  const unique = randomUnique(random, schema, table.columns, `i ${new Names(random, schema.names).next(0.3)}`, false)
  table.uniques.push(unique)
  for (const column of table.columns)
    if (unique.where?.column === column.name || unique.columns.some(({ name }) => name === column.name)) column.named = true
  return { sql: [createUnique(schema, table, unique)] }
}

export const dropUnique: Make = (random, schema, table) => {
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

/** Away and back: in between the table is not there. */
export const renameAway: Make = (_random, _schema, { name }) => ({
  sql: [`ALTER TABLE ${q(name)} RENAME TO ${q(`${name} away`)}`, `ALTER TABLE ${q(`${name} away`)} RENAME TO ${q(name)}`],
})
