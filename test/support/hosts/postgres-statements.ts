import type { Random } from '../random.ts'
import { assignments, condition, insertColumns, newValue, returning, rows } from './expressions.ts'
import { type Column, columnOf, list, q, type Schema, type Table, writable } from './model.ts'
import { literalOf, valueFor } from './values.ts'

/** A statement that changes rows, in any of the forms that PostgreSQL has. Many fail by the host's own constraints. */
export function postgresStatement(random: Random, schema: Schema): string {
  const table = random.pick(schema.tables.filter(({ aside }) => !aside))
  const kind = random.int(1, 100)
  if (kind <= 26) return insertValues(random, schema, table)
  if (kind <= 32) return insertSelect(random, schema, table)
  if (kind <= 33) return defaults(random, table)
  if (kind <= 43) return upsert(random, schema, table)
  if (kind <= 60) return update(random, schema, table)
  if (kind <= 64) return updateFrom(random, schema, table)
  if (kind <= 68) return move(random, schema, table)
  if (kind <= 71) return shift(random, table)
  if (kind <= 76) return merge(random, schema, table)
  if (kind <= 80) return together(random, schema, table)
  if (kind <= 83) return copy(random, schema, table)
  if (kind <= 85) return caught(random, schema)
  if (kind <= 87) return `TRUNCATE ${q(table.name)}${random.pick(['', ' CASCADE', ' RESTART IDENTITY CASCADE'])}`
  return remove(random, schema, table)
}

/** The table, or a partition of it. */
function target(random: Random, { name, partitions }: Table): string {
  return q(partitions.length > 0 && random.chance(0.2) ? random.pick(partitions).name : name)
}

function names(columns: readonly Column[]): string {
  return list(columns.map(({ name }) => name))
}

/** Rows that stand there before anything happens. */
export function firstRows(random: Random, schema: Schema, table: Table): string {
  const columns = writable(table)
  const row = () => `(${columns.map((column) => literalOf(random, schema.dialect, column)).join(', ')})`
  return `INSERT INTO ${q(table.name)} (${names(columns)}) VALUES ${row()}, ${row()} ON CONFLICT DO NOTHING`
}

function insertValues(random: Random, schema: Schema, table: Table): string {
  const columns = insertColumns(random, table)
  const nothing = random.chance(0.15) ? ' ON CONFLICT DO NOTHING' : ''
  return `INSERT INTO ${target(random, table)} (${names(columns)}) VALUES ${rows(random, schema, columns)}${nothing}${returning(random, table)}`
}

/** Rows made of the rows that there are, under other keys. */
function insertSelect(random: Random, schema: Schema, table: Table): string {
  const columns = writable(table)
  const limit = random.chance(0.5) ? ` LIMIT ${random.int(1, 4)}` : ''
  const body = `SELECT ${others(random, schema, table, columns)} FROM ${q(table.name)} WHERE ${condition(random, schema, table)} ORDER BY ${list(table.key)}${limit}`
  return `INSERT INTO ${q(table.name)} (${names(columns)}) ${body}${random.pick(['', ' ON CONFLICT DO NOTHING'])}${returning(random, table)}`
}

function others(random: Random, schema: Schema, table: Table, columns: readonly Column[]): string {
  return columns
    .map((column) => (table.key.includes(column.name) || column.volatile ? cast(newValue(random, schema, column), column) : q(column.name)))
    .join(', ')
}

function defaults(random: Random, table: Table): string {
  if (table.columns.some((column) => column.volatile)) return `DELETE FROM ${q(table.name)} WHERE false`
  return `INSERT INTO ${q(table.name)} DEFAULT VALUES${returning(random, table)}`
}

function upsert(random: Random, schema: Schema, table: Table): string {
  const columns = writable(table)
  const into = `INSERT INTO ${q(table.name)} (${names(columns)}) VALUES ${rows(random, schema, columns)}`
  const other = random.chance(0.25) && table.uniques.length > 0 ? random.pick(table.uniques).columns.map(({ name }) => name) : table.key
  const deferrable =
    table.columns.some(({ extra }) => extra?.includes('DEFERRABLE')) || table.uniques.some(({ constraint }) => constraint === 'DEFERRABLE')
  if (deferrable && random.chance(0.9)) return `${into}${returning(random, table)}`
  if (random.chance(0.2)) return `${into} ON CONFLICT (${list(other)}) DO NOTHING${returning(random, table)}`
  const where = random.chance(0.25) ? ` WHERE ${inTarget(table, condition(random, schema, table))}` : ''
  const excluded = random.chance(0.4) ? random.pick(columns) : undefined
  const payload = random.pick(columns)
  const set = excluded ? `${q(excluded.name)} = excluded.${q(excluded.name)}` : `${q(payload.name)} = ${literalOf(random, schema.dialect, payload)}`
  return `${into} ON CONFLICT (${list(other)}) DO UPDATE SET ${set}${where}${returning(random, table)}`
}

/** Beside `excluded` a bare name may stand for two columns; a condition is about the row that is there. */
function inTarget(table: Table, text: string): string {
  return `(${list(table.key)}) IN (SELECT ${list(table.key)} FROM ${q(table.name)} WHERE ${text})`.replace(
    `(${list(table.key)}) IN`,
    `(${table.key.map((name) => `${q(table.name)}.${q(name)}`).join(', ')}) IN`,
  )
}

function update(random: Random, schema: Schema, table: Table): string {
  const where = random.chance(0.88) ? ` WHERE ${condition(random, schema, table)}` : ''
  return `UPDATE ${target(random, table)} SET ${assignments(random, schema, table)}${where}${returning(random, table)}`
}

function updateFrom(random: Random, schema: Schema, table: Table): string {
  const column = random.pick(writable(table))
  const value = newValue(random, schema, column).replaceAll(q(column.name), `${q(table.name)}.${q(column.name)}`)
  const from = table.parent?.table ?? random.pick(schema.tables.filter(({ aside }) => !aside))
  const on = table.parent
    ? table.parent.own.map((own, n) => `${q(table.name)}.${q(own)} = "f".${q(table.parent?.others[n] as string)}`).join(' AND ')
    : `"f".${q(random.pick(from.columns).name)} IS NOT NULL`
  return `UPDATE ${q(table.name)} SET ${q(column.name)} = ${value} FROM ${q(from.name)} AS "f" WHERE ${on}`
}

/** Parts change hands. */
function move(random: Random, schema: Schema, table: Table): string {
  const { parent } = table
  if (parent === undefined) return update(random, schema, table)
  const set = parent.own.map((own) => `${q(own)} = ${valueFor(random, schema.dialect, columnOf(table, own))}`)
  return `UPDATE ${q(table.name)} SET ${set.join(', ')} WHERE ${condition(random, schema, table)}`
}

/** All keys move on by one, over each other where the key is deferrable, and from partition to partition. */
function shift(random: Random, table: Table): string {
  const number = table.columns.find(({ name, kind }) => table.key.includes(name) && kind === 'integer')
  const set = number
    ? `${q(number.name)} = ${q(number.name)} ${random.pick(['+ 1', '- 1', '+ 3'])}`
    : `${q(table.key[0] as string)} = ${q(table.key[0] as string)}`
  return `UPDATE ${q(table.name)} SET ${set}`
}

function merge(random: Random, schema: Schema, table: Table): string {
  const columns = writable(table)
  const row = () => `SELECT ${columns.map((column) => `${cast(literalOf(random, schema.dialect, column), column)} AS ${q(column.name)}`).join(', ')}`
  const source = random.chance(0.7)
    ? Array.from({ length: random.int(1, 3) }, row).join(' UNION ALL ')
    : `SELECT ${list(columns.map(({ name }) => name))} FROM ${q(table.name)} WHERE ${condition(random, schema, table)}`
  const on = table.key.map((name) => `"t".${q(name)} = "s".${q(name)}`).join(' AND ')
  const payload = random.pick(columns)
  const matched = random.pick([`UPDATE SET ${q(payload.name)} = "s".${q(payload.name)}`, 'DELETE', 'DO NOTHING'])
  const values = columns.map(({ name }) => `"s".${q(name)}`).join(', ')
  const missing = random.chance(0.7) ? ` WHEN NOT MATCHED THEN INSERT (${names(columns)}) VALUES (${values})` : ''
  return `MERGE INTO ${q(table.name)} AS "t" USING (${source}) AS "s" ON ${on} WHEN MATCHED THEN ${matched}${missing}`
}

/** Several changes in one statement, which all see what was there before it. */
function together(random: Random, schema: Schema, table: Table): string {
  const other = random.pick(schema.tables.filter(({ aside }) => !aside))
  const columns = writable(table)
  const second = random.pick([
    `INSERT INTO ${q(table.name)} (${names(columns)}) SELECT ${others(random, schema, table, columns)} FROM "c" ON CONFLICT DO NOTHING`,
    `DELETE FROM ${q(other.name)} WHERE ${condition(random, schema, other)}`,
    `UPDATE ${q(other.name)} SET ${assignments(random, schema, other)} WHERE ${condition(random, schema, other)}`,
    'SELECT count(*) FROM "c"',
  ])
  const first = random.chance(0.5)
    ? `DELETE FROM ${q(table.name)} WHERE ${condition(random, schema, table)}`
    : `UPDATE ${q(table.name)} SET ${assignments(random, schema, table)} WHERE ${condition(random, schema, table)}`
  return `WITH "c" AS (${first} RETURNING *) ${second}`
}

/** CSV whose quotes are those of SQL, so that a literal is a field. */
function copy(random: Random, schema: Schema, table: Table): string {
  const columns = insertColumns(random, table)
  const lines = Array.from({ length: random.int(1, 4) }, () => columns.map((column) => valueFor(random, schema.dialect, column)).join(','))
  return `COPY ${target(random, table)} (${names(columns)}) FROM STDIN WITH (FORMAT csv, QUOTE '''', NULL 'NULL')\n${lines.join('\n')}\n`
}

/** One that catches its own error: what it did is undone, and the transaction goes on. */
function caught(random: Random, schema: Schema): string {
  const tables = schema.tables.filter(({ aside }) => !aside)
  const one = () => {
    const table = random.pick(tables)
    return random.chance(0.5)
      ? `UPDATE ${q(table.name)} SET ${assignments(random, schema, table)} WHERE ${condition(random, schema, table)}`
      : `DELETE FROM ${q(table.name)} WHERE ${condition(random, schema, table)}`
  }
  return `DO $do$ BEGIN ${one()}; BEGIN ${one()}; ${one()}; EXCEPTION WHEN OTHERS THEN NULL; END; END $do$`
}

function remove(random: Random, schema: Schema, table: Table): string {
  if (random.chance(0.1)) return `DELETE FROM ${q(table.name)}${returning(random, table)}`
  return `DELETE FROM ${target(random, table)} WHERE ${condition(random, schema, table)}${returning(random, table)}`
}

function cast(value: string, { type }: Column): string {
  return `CAST(${value} AS ${type.replace(/serial$/, 'int')})`
}
