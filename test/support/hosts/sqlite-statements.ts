import type { Random } from '../random.ts'
import { assignments, condition, insertColumns, newValue, returning, rows } from './expressions.ts'
import { list, q, type Schema, type Table, writable } from './model.ts'
import { valueFor } from './values.ts'

/** A statement that changes rows, in any of the forms that SQLite has. Many fail by the host's own constraints. */
export function sqliteStatement(random: Random, schema: Schema): string {
  const table = random.pick(schema.tables.filter(({ aside }) => !aside))
  const kind = random.int(1, 100)
  if (kind <= 34) return insertValues(random, schema, table)
  if (kind <= 42) return insertSelect(random, schema, table)
  if (kind <= 44) return defaults(random, table)
  if (kind <= 52) return upsert(random, schema, table)
  if (kind <= 78) return update(random, schema, table)
  if (kind <= 83) return updateFrom(random, schema, table)
  if (kind <= 87) return move(random, schema, table)
  return remove(random, schema, table)
}

function orWhat(random: Random, probability: number): string {
  return random.chance(probability) ? ` OR ${random.pick(['REPLACE', 'REPLACE', 'IGNORE', 'FAIL', 'ABORT', 'ROLLBACK'])}` : ''
}

function insertInto(random: Random): string {
  return random.chance(0.15) ? 'REPLACE INTO' : `INSERT${orWhat(random, 0.45)} INTO`
}

function insertValues(random: Random, schema: Schema, table: Table): string {
  const columns = insertColumns(random, table)
  return `${insertInto(random)} ${q(table.name)} (${list(columns.map(({ name }) => name))}) VALUES ${rows(random, schema, columns)}${returning(random, table)}`
}

/** Rows made of the rows that there are, under other keys. */
function insertSelect(random: Random, schema: Schema, table: Table): string {
  const columns = writable(table)
  const select = columns.map((column) => (table.key.includes(column.name) || column.volatile ? newValue(random, schema, column) : q(column.name)))
  const order = random.chance(0.3) ? ` ORDER BY ${list(table.key)} DESC` : ''
  const limit = random.chance(0.5) ? ` LIMIT ${random.int(1, 4)}` : ''
  const body = `SELECT ${select.join(', ')} FROM ${q(table.name)} WHERE ${condition(random, schema, table)}${order}${limit}`
  const into = `${insertInto(random)} ${q(table.name)} (${list(columns.map(({ name }) => name))})`
  return random.chance(0.2) ? `WITH "c" AS (${body}) ${into} SELECT * FROM "c"` : `${into} ${body}${returning(random, table)}`
}

function defaults(random: Random, table: Table): string {
  if (table.columns.some((column) => column.volatile)) return `DELETE FROM ${q(table.name)} WHERE 0`
  return `${insertInto(random)} ${q(table.name)} DEFAULT VALUES${returning(random, table)}`
}

function upsert(random: Random, schema: Schema, table: Table): string {
  const columns = writable(table)
  const into = `INSERT${orWhat(random, 0.2)} INTO ${q(table.name)} (${list(columns.map(({ name }) => name))}) VALUES ${rows(random, schema, columns)}`
  const unique = random.chance(0.3) && table.uniques.length > 0 ? random.pick(table.uniques).columns.map(({ name }) => name) : table.key
  const target = random.chance(0.8) ? ` (${list(unique)})` : ''
  const more = random.chance(0.2) ? ' ON CONFLICT DO NOTHING' : ''
  if (random.chance(0.3)) return `${into} ON CONFLICT${target} DO NOTHING${target === '' ? '' : more}${returning(random, table)}`
  const where = random.chance(0.25) ? ` WHERE ${condition(random, schema, table)}` : ''
  const excluded = random.chance(0.4) ? random.pick(columns) : undefined
  const set = excluded ? `${q(excluded.name)} = excluded.${q(excluded.name)}` : assignments(random, schema, table)
  return `${into} ON CONFLICT${target} DO UPDATE SET ${set}${where}${target === '' ? '' : more}${returning(random, table)}`
}

function update(random: Random, schema: Schema, table: Table): string {
  const where = random.chance(0.88) ? ` WHERE ${condition(random, schema, table)}` : ''
  return `UPDATE${orWhat(random, 0.4)} ${q(table.name)} SET ${assignments(random, schema, table)}${where}${returning(random, table)}`
}

function updateFrom(random: Random, schema: Schema, table: Table): string {
  const column = random.pick(writable(table))
  const value = newValue(random, schema, column).replaceAll(q(column.name), `${q(table.name)}.${q(column.name)}`)
  const from = table.parent?.table ?? random.pick(schema.tables.filter(({ aside }) => !aside))
  const on = table.parent
    ? table.parent.own.map((own, n) => `${q(table.name)}.${q(own)} = "f".${q(table.parent?.others[n] as string)}`).join(' AND ')
    : `"f".${q(random.pick(from.columns).name)} IS NOT NULL`
  return `UPDATE${orWhat(random, 0.3)} ${q(table.name)} SET ${q(column.name)} = ${value} FROM ${q(from.name)} AS "f" WHERE ${on}${returning(random, table)}`
}

/** Parts change hands. */
function move(random: Random, schema: Schema, table: Table): string {
  const { parent } = table
  if (parent === undefined) return update(random, schema, table)
  const columns = parent.own.map((own) => table.columns.find(({ name }) => name === own))
  const set = columns.map((column) => (column ? `${q(column.name)} = ${valueFor(random, schema.dialect, column)}` : ''))
  return `UPDATE${orWhat(random, 0.3)} ${q(table.name)} SET ${set.join(', ')} WHERE ${condition(random, schema, table)}`
}

function remove(random: Random, schema: Schema, table: Table): string {
  if (random.chance(0.1)) return `DELETE FROM ${q(table.name)}${returning(random, table)}`
  const limit = random.chance(0.1) && !table.options.includes('WITHOUT ROWID') ? ` ORDER BY ${list(table.key)} LIMIT 1` : ''
  return `DELETE FROM ${q(table.name)} WHERE ${condition(random, schema, table)}${returning(random, table)}${limit}`
}
