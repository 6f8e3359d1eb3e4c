import { hash } from 'node:crypto'
import { type SqlBool, sql } from 'kysely'
import { TillsyncError } from '../errors.ts'
import { RULES, readState, writeState } from '../migrate.ts'
import type { CapturingDatabase, Database } from '../ports.ts'
import { VERSION } from '../version.ts'
import type { Work } from '../work.ts'
import { compileFilter, readableBy } from './filters.ts'
import type { RootSpec } from './rules.ts'

/** In force where nothing is published. */
export const NOTHING = ''

/**
 * From now on triggers are made and documents sealed by these rules: whoever goes by others, an earlier version of the host or of this library that is still running, does neither any
 * more. Without that each would undo the other's triggers, and seal what the other has sealed in another shape.
 */
export function* putInForce(database: Database, fingerprint: string): Work<void> {
  if ((yield* readState(database, RULES)) !== fingerprint) yield* writeState(RULES, fingerprint)
}

/** What is to be said where others are in force. */
export function* notInForce(database: CapturingDatabase, fingerprint: string): Work<TillsyncError | undefined> {
  const known = yield* readState(database, RULES)
  if (known === undefined || known === fingerprint) return undefined
  return new TillsyncError(
    'ERR_SCHEMA_NEWER',
    'Another process has installed other rules than those of this one, or runs another version of tillsync; this one seals nothing any more',
    {
      hint: 'Is it the new version of the host, or an old one that goes on? End whichever is out of date. Where the rules of this process are the right ones, call install().',
    },
  )
}

/**
 * By what is declared, whatever the tables are like; in its order, which is that of the triggers. What decides about nothing but the first install, or about exports, is no difference.
 * Made once: a filter may answer otherwise the next time. Another version of the library may write its triggers and documents otherwise, by the same rules.
 */
export function fingerprintOf({ build }: CapturingDatabase, specs: readonly RootSpec[]): string {
  const declared = specs.map((spec) => {
    const { where, existing: _, relatedTo: __, ...rules } = spec
    if (where === undefined) return [rules]
    const from = build.selectFrom(sql.id(spec.table) as unknown as string).select(sql<number>`1`.as('one'))
    const { sql: text, parameters } = compileFilter(readableBy(spec), () => from.where((eb) => eb(where(eb), 'is', sql<SqlBool>`true`)))
    return [rules, text, parameters.map(String)]
  })
  return hash('sha256', JSON.stringify([VERSION, declared]))
}
