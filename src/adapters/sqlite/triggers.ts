import type { HostTable, HostUnique } from '../../host-table.ts'
import type { TouchKind } from '../../ports.ts'
import { isLoose } from './values.ts'

/** A source with the number that its touches carry. */
export interface NumberedSource {
  readonly source: number
  readonly columns: readonly string[]
  /** Whether the columns are the table's own key: a delete is noted as such. */
  readonly root: boolean
}

export const KINDS: readonly TouchKind[] = ['changed', 'deleted', 'exported', 'existing', 'again', 'compared', 'whole']

export function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** Names are the same to SQLite whatever the case of their ASCII letters. */
export function fold(name: string): string {
  return name.replace(/[A-Z]+/g, (letters) => letters.toLowerCase())
}

/**
 * sync_touches has no constraint but its row number: the host's own OR IGNORE or OR REPLACE overrides conflict clauses
 * inside its triggers. Its key columns have no type, so that they keep the storage class of what they are given.
 */
export function touchesTable(width: number): string {
  return `CREATE TABLE sync_touches (touch INTEGER PRIMARY KEY, source INTEGER, kind INTEGER, ${keyColumns(width).join(', ')})`
}

export function keyColumns(width: number): string[] {
  return Array.from({ length: width }, (_, n) => `k${n + 1}`)
}

/** The triggers of a table, name → SQL. They name only the table itself and of it only key, referring and unique columns. */
export function triggersFor(table: HostTable, sources: readonly NumberedSource[]): ReadonlyMap<string, string> {
  const triggers = new Map<string, string>()
  const add = (event: string, timing: string, statements: readonly string[], when = ''): void => {
    if (statements.length === 0) return
    const name = `sync_${table.name}_${event}`
    triggers.set(
      name,
      `CREATE TRIGGER ${quote(name)} ${timing} ON ${quote(table.name)}${when} BEGIN\n${statements.map((s) => `  ${s};\n`).join('')}END`,
    )
  }
  const touch = (row: 'NEW' | 'OLD', gone: boolean) => sources.map((source) => touchRow(source, row, gone))
  add('insert', 'AFTER INSERT', touch('NEW', false))
  add('update', 'AFTER UPDATE', touch('NEW', false))
  add('delete', 'AFTER DELETE', touch('OLD', true))
  const noted = [...new Set(sources.flatMap((source) => source.columns))]
  add('move', 'AFTER UPDATE', touch('OLD', true), ` WHEN ${changed(table, noted)}`)
  const uniques = inTheWay(table, sources)
  const inWay = sources.flatMap((source) => [...touchUnknown(source, uniques), ...uniques.map((unique) => touchInTheWay(table, source, unique))])
  add('replace', 'BEFORE INSERT', inWay)
  const columns = [...new Set(uniques.flatMap((unique) => writtenFor(table, unique)))]
  add('displace', `BEFORE UPDATE${writing(table, columns)}`, inWay, ` WHEN ${changed(table, columns)}`)
  return triggers
}

/**
 * Of a statement that writes none of these columns SQLite does not even compile the trigger: its connection may lack a function or a collation
 * that an index needs. A row number may be written by any of its names; what a generated column is computed from is not known, and what
 * that needs, each statement does.
 */
function writing(table: HostTable, columns: readonly string[]): string {
  if (table.columns.some(({ name, generated }) => generated && columns.includes(name))) return ''
  return ` OF ${[...columns.map(quote), 'rowid', 'oid', '_rowid_'].join(', ')}`
}

/** Where REPLACE puts a default in the place of NULL, what is computed from that is not known beforehand, so neither is the row in its way. */
function touchUnknown(source: NumberedSource, uniques: readonly Unique[]): string[] {
  const columns = [...new Set(uniques.flatMap(({ computedFrom = [] }) => computedFrom))]
  if (columns.length === 0) return []
  const isReplaced = columns.map((name) => `NEW.${quote(name)} IS NULL`).join(' OR ')
  return [`INSERT INTO sync_touches (source, kind) SELECT ${source.source}, ${KINDS.indexOf('whole')} WHERE ${isReplaced}`]
}

function touchRow(source: NumberedSource, row: 'NEW' | 'OLD', gone: boolean): string {
  const kind = KINDS.indexOf(gone && source.root ? 'deleted' : 'changed')
  return `${intoTouches(source)} VALUES (${[source.source, kind, ...source.columns.map((name) => `${row}.${quote(name)}`)].join(', ')})`
}

function intoTouches(source: NumberedSource): string {
  return `INSERT INTO sync_touches (${['source', 'kind', ...keyColumns(source.columns.length)].join(', ')})`
}

function changed(table: HostTable, names: readonly string[]): string {
  const loose = (name: string) => isLoose(table.columns.find((column) => column.name === name)?.type ?? '')
  return names
    .flatMap((name) => [
      `OLD.${quote(name)} IS NOT NEW.${quote(name)} COLLATE BINARY`,
      ...(loose(name) ? [`typeof(OLD.${quote(name)}) <> typeof(NEW.${quote(name)})`, isRealZero(`OLD.${quote(name)}`)] : []),
    ])
    .join(' OR ')
}

/** 0.0 and -0.0 are equal, and no expression tells them apart. */
function isRealZero(value: string): string {
  return `(${value} = 0 AND typeof(${value}) = 'real')`
}

type Unique = Pick<HostUnique, 'where' | 'reads' | 'computedFrom'> & {
  readonly columns: readonly (Partial<HostUnique['columns'][number]> & { readonly name: string })[]
}

/**
 * By which columns a REPLACE can remove another row, for which SQLite fires no delete trigger while recursive_triggers is
 * off (https://www.sqlite.org/lang_conflict.html): every unique index; and the primary key, unless the row in the way is
 * touched under that very key anyway (where equal keys can be written otherwise, the key is among `uniques`).
 */
function inTheWay(table: HostTable, sources: readonly NumberedSource[]): Unique[] {
  const key: Unique = { columns: table.key.map((name) => ({ name })) }
  return table.key.length === 0 || sources.every((source) => source.root) ? [...table.uniques] : [key, ...table.uniques]
}

/** What brings a row into the way of others. It comes into a partial index, too, when what its condition reads changes. */
function writtenFor(table: HostTable, { columns, where, reads = [], computedFrom = [] }: Unique): readonly string[] {
  const inCondition = where === undefined ? [] : [...table.key, ...reads] // the key may be called rowid there
  return [...columns.map(({ name }) => name), ...inCondition, ...computedFrom]
}

function touchInTheWay(table: HostTable, source: NumberedSource, unique: Unique): string {
  const kind = KINDS.indexOf(source.root ? 'deleted' : 'changed')
  const select = `${intoTouches(source)} SELECT ${[source.source, kind, ...source.columns.map(quote)].join(', ')}`
  const brought = unique.columns.map(({ name }) => `NEW.${quote(name)}`)
  if (fold(table.name) !== 'new') return `${select} FROM ${inTheWayOf(table, unique, brought)}`
  // Where rows of a table by this name are looked for, NEW means them: what the statement brings has other names by then.
  const given = `(SELECT ${brought.map((value, n) => `${value} AS sync_${n}`).join(', ')})`
  const named = brought.map((_, n) => `sync_${n}`)
  return `${select} FROM ${given} CROSS JOIN ${inTheWayOf(table, unique, named)}`
}

/** The rows of a table that are in the way of these values. */
function inTheWayOf(table: HostTable, unique: Unique, values: readonly string[]): string {
  const conditions = unique.columns.map(({ name, collation, insteadOfNull }, n) => {
    const wanted = insteadOfNull === undefined ? values[n] : `coalesce(${values[n]}, ${insteadOfNull})`
    return `${quote(name)} = ${wanted}${collation ? ` COLLATE ${quote(collation)}` : ''}`
  })
  if (unique.where) conditions.push(`(${unique.where})`)
  return `${quote(table.name)} WHERE ${conditions.join(' AND ')}`
}

/** The lookups of the triggers, each with a parameter for every value: SQL and how many there are. */
export function lookupsInTheWay(table: HostTable, sources: readonly NumberedSource[]): readonly (readonly [string, number])[] {
  return inTheWay(table, sources).map((unique) => {
    const values = unique.columns.map(() => '?')
    return [`SELECT 1 FROM ${inTheWayOf(table, unique, values)}`, values.length]
  })
}
