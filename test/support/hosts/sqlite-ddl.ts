import type { Random } from '../random.ts'
import {
  addColumn,
  addUnique,
  changeDefault,
  dropColumn,
  dropUnique,
  isGeneratedFrom,
  type Make,
  newColumn,
  renameAway,
  renameColumn,
} from './ddl.ts'
import type { Change } from './history.ts'
import { isNoted, list, q, type Schema, writable } from './model.ts'
import { sqliteTrigger } from './sqlite-triggers.ts'
import { createTable, createUniques } from './tables.ts'

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

const remake: Make = (_random, schema, table) => ({
  sql: [`DROP TABLE ${q(table.name)}`, ...createTable(schema, table), ...createUniques(schema, table)],
})

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
