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
  const installed = yield* database.hasTable(STATE.name)
  const statements = installed ? [] : [...database.createTable(STATE)]
  for (const { component, steps } of all) {
    const version = installed ? Number((yield* readState(database, versionKey(component))) ?? 0) : 0
    if (version > steps.length) throw newer(component, version, steps.length)
    for (const table of steps.flatMap((step) => step.create))
      if (!(yield* database.hasTable(table.name))) statements.push(...database.createTable(table))
  }
  return statements
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
  for (const sql of statements) yield* query({ sql, parameters: [] })
  for (const { component, steps } of all)
    if (Number((yield* readState(database, versionKey(component))) ?? 0) !== steps.length)
      yield* writeState(versionKey(component), String(steps.length))
  return statements
}

/**
 * @throws ERR_NOT_INSTALLED where a table is missing or older than this version of the library
 * @throws ERR_SCHEMA_NEWER where a later version made them
 */
export function* checkMigrated(database: Database, all: readonly Migrations[]): Work<void> {
  const installed = yield* database.hasTable(STATE.name)
  for (const { component, steps } of all) {
    const version = installed ? Number((yield* readState(database, versionKey(component))) ?? 0) : 0
    if (version > steps.length) throw newer(component, version, steps.length)
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

const allStates = compiledOnce(({ build }) => build.selectFrom(STATE.name).selectAll().compile())

export function* writeState(key: string, value: string): Work<void> {
  yield* insert(STATE, [[key, value]], STATE.primaryKey)
}

export function* create(database: Database, table: OwnTable): Work<void> {
  for (const sql of database.createTable(table)) yield* query({ sql, parameters: [] })
}

function versionKey(component: string): string {
  return `version.${component}`
}

function newer(component: string, version: number, known: number): TillsyncError {
  return new TillsyncError('ERR_SCHEMA_NEWER', `The library's tables are of version ${version}, this library knows up to ${known}`, {
    hint: 'Another process runs a later version of tillsync; update this one.',
    context: { component, version, known },
  })
}
