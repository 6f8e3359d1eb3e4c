import type { Random } from '../random.ts'
import { type Column, columnOf, list, q, type Schema, type Table, writable } from './model.ts'
import { literalOf, valueFor } from './values.ts'

/** A condition over a table's rows: a key, a value, a range, what another table has. */
export function condition(random: Random, schema: Schema, table: Table): string {
  const key = random.pick(table.key)
  const column = random.pick(table.columns)
  const value = (name: string) => literalOf(random, schema.dialect, columnOf(table, name))
  const kind = random.int(1, 12)
  if (kind <= 4) return table.key.map((name) => `${q(name)} = ${value(name)}`).join(' AND ')
  if (kind <= 6) return `${q(key)} IN (${value(key)}, ${value(key)}, ${value(key)})`
  if (kind <= 8 && comparable(column)) return `${q(column.name)} ${random.pick(['=', '<>', '>', '<='])} ${value(column.name)}`
  if (kind === 9) return `${q(column.name)} IS ${random.pick(['', 'NOT '])}NULL`
  if (kind <= 11 && table.parent !== undefined) {
    const { own, others, table: above } = table.parent
    const status = above.columns.find((one) => one.kind === 'status')
    const inside = `SELECT ${list(others)} FROM ${q(above.name)}${status ? ` WHERE ${q(status.name)} = 'posted'` : ''}`
    return `(${list(own)}) ${random.pick(['IN', 'NOT IN'])} (${inside})`
  }
  const status = table.columns.find((one) => one.kind === 'status')
  return status === undefined ? `${q(key)} IS NOT NULL` : `${q(status.name)} = ${value(status.name)}`
}

function comparable({ kind }: Column): boolean {
  return kind !== 'json'
}

/** What a column is set to: a value, or what follows from the row. */
export function newValue(random: Random, schema: Schema, column: Column): string {
  const name = q(column.name)
  const { kind } = column
  if (random.chance(0.35)) {
    if (kind === 'integer' || kind === 'real' || kind === 'numeric' || kind === 'domain')
      return random.pick([`${name} + 1`, `${name} - 1`, `7 - ${name}`, column.strict ? name : `${name} * 10`, name])
    if (kind === 'text' || kind === 'status') return random.pick([`upper(${name})`, `${name} || 'x'`, `trim(${name})`, `substr(${name}, 1, 1)`, name])
  }
  return valueFor(random, schema.dialect, column)
}

/** `column = …, …`: payload mostly, sometimes the key or what refers to the table above. */
export function assignments(random: Random, schema: Schema, table: Table): string {
  const columns = writable(table)
  const keys = columns.filter(({ name }) => table.key.includes(name))
  const references = columns.filter(({ name }) => table.parent?.own.includes(name))
  const payload = columns.filter((column) => !keys.includes(column) && !references.includes(column))
  const kind = random.int(1, 10)
  const chosen =
    kind <= 2 ? [random.pick(keys)] : kind <= 4 && references.length > 0 ? references : random.shuffle(payload).slice(0, random.int(1, 2))
  if (random.chance(0.1)) chosen.push(random.pick(columns))
  const distinct = [...new Set(chosen.length > 0 ? chosen : keys)]
  return distinct.map((column) => `${q(column.name)} = ${newValue(random, schema, column)}`).join(', ')
}

/** Which columns an INSERT names: all, or those without a default that it must. */
export function insertColumns(random: Random, table: Table): Column[] {
  const columns = writable(table)
  const numbered = columns.find(({ type, extra }) => type.endsWith('serial') || extra?.includes('IDENTITY'))
  if (numbered !== undefined && random.chance(0.4)) return columns.filter((column) => column !== numbered)
  if (random.chance(0.7)) return columns
  return columns.filter(
    (column) => column.volatile || table.key.includes(column.name) || table.parent?.own.includes(column.name) || random.chance(0.5),
  )
}

export function rows(random: Random, schema: Schema, columns: readonly Column[]): string {
  const count = random.pick([1, 1, 1, 2, 3, 5])
  const row = () => `(${columns.map((column) => valueFor(random, schema.dialect, column)).join(', ')})`
  return Array.from({ length: count }, row).join(', ')
}

/** Values without one of NULL where a column's default is another one each time. */
export function returning(random: Random, table: Table): string {
  if (!random.chance(0.2)) return ''
  return ` RETURNING ${random.pick(['*', list(table.key), `${q(random.pick(table.columns).name)} AS "r"`])}`
}
