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

/** One numbered step of the library's own tables. A step that was released is never changed; a later one follows it. */
export interface Migration {
  readonly create: readonly OwnTable[]
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
 */
export function* migrationStatements(database: Database, all: readonly Migrations[]): Work<readonly string[]> {
  const tables = [STATE, ...all.flatMap(({ steps }) => steps.flatMap((step) => step.create))]
  const existing = yield* database.existing(tables.map(({ name }) => name))
  const versions = existing.has(STATE.name) ? yield* versionsOf(database) : new Map<string, number>()
  for (const { component, steps } of all) refuseNewer(component, versions.get(component) ?? 0, steps.length)
  return tables.filter(({ name }) => !existing.has(name)).flatMap((table) => database.createTable(table))
}

/**
 * Brings the library's own tables to this version, inside the caller's transaction; one that somebody dropped is made anew.
 * Returns the SQL that it ran.
 *
 * @throws ERR_SCHEMA_NEWER where a later version of the library made them
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
  const installed = (yield* database.existing([STATE.name])).size > 0
  const versions = installed ? yield* versionsOf(database) : new Map<string, number>()
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
