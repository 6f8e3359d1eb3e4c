import { type Expression, type SelectQueryBuilder, sql } from 'kysely'
import type { HostTable } from '../host-table.ts'
import type { AnyTables } from '../model.ts'
import type { CapturingDatabase } from '../ports.ts'
import { InvalidText } from '../record.ts'
import type { Key, Statement } from '../work.ts'
import { compileFilter, readableBy } from './filters.ts'
import type { ReferenceSpec, RootSpec } from './rules.ts'

/**
 * A select of columns by their very names: Kysely reads more into a string (`a as b`, `a.b`, `a desc`), and a host's names may be
 * like that. The table has no alias, so that filters can refer to it by its name and by its schema's, as Kysely writes it in a subquery.
 */
export function selectColumns(database: CapturingDatabase, table: string, columns: readonly string[]) {
  return database.build
    .selectFrom(sql.raw(database.qualify(table)) as unknown as string)
    .select(columns.map((name) => sql.id(table, name).as(name))) as SelectQueryBuilder<AnyTables, string, Record<string, unknown>>
}

/** What stands behind a key in the order of the key's columns. */
export function behind(table: string, columns: readonly string[], key: Key) {
  const values = key.map((value) => (value instanceof InvalidText ? sql`cast(${value.bytes} as text)` : sql`${value}`))
  return sql<boolean>`(${sql.join(columns.map((name) => sql.id(table, name)))}) > (${sql.join(values)})`
}

/** Finds rows by the columns of a key, up to a limit. */
export function findBy(
  database: CapturingDatabase,
  table: HostTable,
  by: readonly string[],
  select: readonly string[],
  limit?: Expression<number>,
): Statement {
  const all = selectColumns(database, table.name, select).where(sql.raw<boolean>(database.keyed(table, by)))
  return limit === undefined ? all.compile() : all.limit(limit).compile()
}

/** Reads the parts of a record, in the order of their own key. */
export function readParts(
  database: CapturingDatabase,
  table: HostTable,
  selected: readonly string[],
  parent: HostTable,
  { own, others }: ReferenceSpec,
): Statement {
  const keyed = database.keyed(table, own, { table: parent, columns: others })
  let select = selectColumns(database, table.name, selected).where(sql.raw<boolean>(keyed))
  for (const name of table.key) select = select.orderBy(sql.id(name))
  return select.compile()
}

/** Reads the row of a key, where it is inside the filter. */
export function readRoots(database: CapturingDatabase, table: HostTable, selected: readonly string[], spec: RootSpec): Statement {
  const { where } = spec
  const all = selectColumns(database, table.name, selected).where(sql.raw<boolean>(database.keyed(table, table.key)))
  return where ? compileFilter(readableBy(spec), () => all.where(where)) : all.compile()
}
