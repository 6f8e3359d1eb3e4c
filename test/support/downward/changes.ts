import type { Random } from '../random.ts'
import { type Column, columnsOfPart, GROUPS, keyOf, LOCATIONS, type PartTable, quote, type RootTable } from './schema.ts'

/** Rows of all tables. */
export function fillOf(random: Random, roots: readonly RootTable[]): readonly string[] {
  return roots.flatMap((root) => [
    ...Array.from({ length: random.int(2, 20) }, () => insert(random, root.name, [...root.key, ...root.columns], root.key)),
    ...root.parts.flatMap((part) => Array.from({ length: random.int(2, 20) }, () => insert(random, part.name, columnsOfPart(part), keyOf(part)))),
    ...(root.filter.links === undefined ? [] : [linkAll(random, root, root.filter.links)]),
  ])
}

/** A statement of head office's people, by chance; one that fails has changed nothing. */
export function changeOf(random: Random, roots: readonly RootTable[]): string {
  const root = random.pick(roots)
  const part = root.parts.length > 0 && random.chance(0.4) ? random.pick(root.parts) : undefined
  if (part !== undefined) return partChange(random, part)
  if (root.filter.links !== undefined && random.chance(0.4)) return linkChange(random, root, root.filter.links)
  return rootChange(random, root)
}

function anyOf(random: Random, { name, type }: Column): string {
  if (name === 'grp') return literal(random.pick(GROUPS))
  if (name === 'loc') return literal(random.pick(LOCATIONS))
  return random.pick(type.values)
}

export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

function insert(random: Random, table: string, columns: readonly Column[], key: readonly Column[]): string {
  const others = columns.filter((column) => !key.includes(column))
  const update = others.length === 0 ? 'NOTHING' : `UPDATE SET ${others.map(({ name }) => `${quote(name)} = excluded.${quote(name)}`).join(', ')}`
  return `INSERT INTO ${quote(table)} (${columns.map(({ name }) => quote(name)).join(', ')}) VALUES (${columns.map((column) => anyOf(random, column)).join(', ')})
    ON CONFLICT (${key.map(({ name }) => quote(name)).join(', ')}) DO ${update}`
}

function where(random: Random, key: readonly Column[]): string {
  return key
    .map((column) => `${quote(column.name)} ${random.pick(['=', '=', '=', '=', '=', '=', '<=', '<>'])} ${anyOf(random, column)}`)
    .join(' AND ')
}

function set(random: Random, columns: readonly Column[]): string {
  const [column] = random.shuffle(columns)
  return column === undefined ? '' : `${quote(column.name)} = ${anyOf(random, column)}`
}

function rootChange(random: Random, { name, key, columns }: RootTable): string {
  return random.pick([
    () => insert(random, name, [...key, ...columns], key),
    () => insert(random, name, [...key, ...columns], key),
    () => `UPDATE ${quote(name)} SET ${set(random, columns)} WHERE ${where(random, key)}`,
    () => `UPDATE ${quote(name)} SET ${set(random, columns)}, ${set(random, key)} WHERE ${where(random, key)}`,
    () => `DELETE FROM ${quote(name)} WHERE ${where(random, key)}`,
    () => (random.chance(0.05) ? `TRUNCATE ${quote(name)}` : insert(random, name, [...key, ...columns], key)),
  ])()
}

function partChange(random: Random, part: PartTable): string {
  const [columns, key] = [columnsOfPart(part), keyOf(part)]
  return random.pick([
    () => insert(random, part.name, columns, key),
    () => insert(random, part.name, columns, key),
    () => `UPDATE ${quote(part.name)} SET ${set(random, columns)} WHERE ${where(random, key)}`,
    () => `DELETE FROM ${quote(part.name)} WHERE ${where(random, key)}`,
    () => (random.chance(0.05) ? `TRUNCATE ${quote(part.name)}` : insert(random, part.name, columns, key)),
  ])()
}

function linkAll(random: Random, { name, key }: Pick<RootTable, 'name' | 'key'>, links: string): string {
  const names = key.map((column) => quote(column.name)).join(', ')
  return `INSERT INTO ${quote(links)} SELECT ${literal(random.pick(LOCATIONS))}, ${names} FROM ${quote(name)} ON CONFLICT DO NOTHING`
}

function linkChange(random: Random, { name, key }: RootTable, links: string): string {
  const location = literal(random.pick(LOCATIONS))
  const names = key.map((column) => quote(column.name)).join(', ')
  return random.pick([
    () => `INSERT INTO ${quote(links)} SELECT ${location}, ${names} FROM ${quote(name)} WHERE ${where(random, key)} ON CONFLICT DO NOTHING`,
    () => linkAll(random, { name, key }, links),
    () =>
      `INSERT INTO ${quote(links)} (location, ${names}) VALUES (${location}, ${key.map((column) => anyOf(random, column)).join(', ')}) ON CONFLICT DO NOTHING`,
    () => `UPDATE ${quote(links)} SET location = ${location} WHERE ${where(random, key)}`,
    () => `DELETE FROM ${quote(links)} WHERE location = ${location} AND ${where(random, key)}`,
    () => `DELETE FROM ${quote(links)} WHERE ${where(random, key)}`,
  ])()
}
