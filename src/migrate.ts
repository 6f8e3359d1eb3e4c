import { TillsyncError } from './errors.ts'
import type { OwnTable } from './own-table.ts'
import type { Database } from './ports.ts'
import { compiledOnce, insert, query, type Work } from './work.ts'

/** Small facts that a database keeps about itself. */
export const STATE = {
  name: 'sync_state',
  columns: { key: 'text', value: 'text' },
  primaryKey: ['key'],
} as const satisfies OwnTable

/** The keys of the versions of components begin so. */
const VERSION = 'version.'

/** By this key it is kept which rules are in force, see capture/rules-in-force.ts. */
export const RULES = 'rules'
/** And by this one when the process began that put them there. */
export const RULES_SINCE = 'rules.since'

/**
 * One numbered step of the library's own tables. A step that was released is never changed; a later one follows it. A table is defined once, as the newest step leaves it: where it is missing it is made so,
 * where it stands there it gets the columns that a step adds.
 */
export interface Migration {
  readonly create?: readonly OwnTable[]
  readonly add?: readonly AddedColumns[]
}

/** Columns of a table of an earlier step, or of one that a handler has where it is used. They may be NULL, as they are in rows that were there before, and in those that an earlier version still writes. */
export interface AddedColumns {
  readonly table: OwnTable
  readonly columns: readonly string[]
}

/** Numbered steps of one part of the library, the first is version 1. */
export interface Migrations {
  readonly component: string
  readonly steps: readonly Migration[]
}

/**
 * The SQL that `migrate` would run.
 *
 * @throws ERR_SCHEMA_NEWER
 * @throws ERR_UNKNOWN_COLUMN where what stands there by the name of one of these tables is not the library's
 */
export function* migrationStatements(database: Database, all: readonly Migrations[]): Work<readonly string[]> {
  const state = yield* database.columnsOf([STATE.name])
  const making = tableStatements(database, [STATE], state)
  const versions = state.size > 0 ? yield* versionsOf(database) : new Map<string, number>()
  for (const { component, steps } of all) refuseNewer(component, versions.get(component) ?? 0, steps.length)
  const steps = all.flatMap((one) => one.steps)
  const added = steps.flatMap(({ add }) => add ?? [])
  const tables = new Set(steps.flatMap(({ create }) => create ?? []))
  const there = yield* database.columnsOf([...tables, ...added.map(({ table }) => table)].map(({ name }) => name))
  for (const { table } of added) if (there.has(table.name)) tables.add(table)
  return [...making, ...tableStatements(database, [...tables], there, added)]
}

/**
 * What makes these tables, or completes them.
 *
 * @param there the columns of those that stand there already
 * @throws ERR_UNKNOWN_COLUMN
 */
export function tableStatements(
  database: Database,
  tables: readonly OwnTable[],
  there: ReadonlyMap<string, readonly string[]>,
  added: readonly AddedColumns[] = [],
): readonly string[] {
  return tables.flatMap((table) => {
    const columns = there.get(table.name)
    if (columns === undefined) return database.createTable(table)
    const later = new Set(added.flatMap((one) => (one.table.name === table.name ? one.columns : [])))
    const missing = Object.keys(table.columns).filter((name) => !columns.includes(name))
    for (const name of missing) if (!later.has(name)) throw ofOtherShape(table, name)
    return database.addColumns(table, missing)
  })
}

function ofOtherShape(table: OwnTable, column: string): TillsyncError {
  return new TillsyncError('ERR_UNKNOWN_COLUMN', `\`${table.name}\` is there already, without the column \`${column}\``, {
    hint: "A table by this name that is not the library's stands in the way, or somebody has changed the library's own: rename it, or give tillsync a schema of its own: postgres(pool, { schema }).",
    context: { table: table.name, column },
  })
}

/**
 * Brings the library's own tables to this version, inside the caller's transaction; one that somebody dropped is made anew.
 * Returns the SQL that it ran.
 *
 * @throws ERR_SCHEMA_NEWER where a later version of the library made them
 * @throws ERR_UNKNOWN_COLUMN
 */
export function* migrate(database: Database, all: readonly Migrations[]): Work<readonly string[]> {
  yield* database.lockInstall()
  const statements = yield* migrationStatements(database, all)
  yield* database.run(statements)
  const versions = yield* versionsOf(database)
  const others = all.filter(({ component, steps }) => versions.get(component) !== steps.length)
  const rows = others.map(({ component, steps }) => [`${VERSION}${component}`, String(steps.length)])
  yield* insert(STATE, rows, STATE.primaryKey)
  return statements
}

/**
 * @throws ERR_NOT_INSTALLED where a table is missing or older than this version of the library
 * @throws ERR_SCHEMA_NEWER where a later version made them
 */
export function* checkMigrated(database: Database, all: readonly Migrations[]): Work<void> {
  const versions = (yield* hasOwnTable(database, STATE)) ? yield* versionsOf(database) : new Map<string, number>()
  for (const { component, steps } of all) {
    const version = versions.get(component) ?? 0
    refuseNewer(component, version, steps.length)
    if (version === steps.length) continue
    throw new TillsyncError('ERR_NOT_INSTALLED', `The library's tables are ${version === 0 ? 'missing' : 'of an older version'}`, {
      hint: 'Call install() once before start(); it is safe at every start.',
      context: { component, version, wanted: steps.length },
    })
  }
}

/** Whether one of the library's own tables stands there. */
export function* hasOwnTable(database: Database, { name }: OwnTable): Work<boolean> {
  return (yield* database.columnsOf([name])).size > 0
}

const stateOf = compiledOnce(({ build }) => build.selectFrom(STATE.name).select('value').where('key', '=', '').compile().sql)

export function* readState(database: Database, key: string): Work<string | undefined> {
  const [row] = yield* query<{ value: string }>({ sql: stateOf(database), parameters: [key] })
  return row?.value
}

/** All facts whose key begins so. */
export function* readStates(database: Database, prefix: string): Work<readonly { readonly key: string; readonly value: string }[]> {
  const rows = yield* query<{ key: string; value: string }>(allStates(database))
  return rows.filter(({ key }) => key.startsWith(prefix))
}

const allStates = compiledOnce(({ build }) => build.selectFrom(STATE.name).select(['key', 'value']).compile())

export function* writeState(key: string, value: string): Work<void> {
  yield* insert(STATE, [[key, value]], STATE.primaryKey)
}

function* versionsOf(database: Database): Work<ReadonlyMap<string, number>> {
  return new Map((yield* readStates(database, VERSION)).map(({ key, value }) => [key.slice(VERSION.length), Number(value)]))
}

function refuseNewer(component: string, version: number, known: number): void {
  if (!(version > known)) return // one that is no number is of nobody's
  throw new TillsyncError('ERR_SCHEMA_NEWER', `The library's tables are of version ${version}, this library knows up to ${known}`, {
    hint: 'Another process runs a later version of tillsync; update this one.',
    context: { component, version, known },
  })
}
