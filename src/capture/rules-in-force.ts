import { hash } from 'node:crypto'
import { type SqlBool, sql } from 'kysely'
import { TillsyncError } from '../errors.ts'
import { RULES, RULES_SINCE, readState, STATE, writeState } from '../migrate.ts'
import type { CapturingDatabase, Clock, Database } from '../ports.ts'
import { VERSION } from '../version.ts'
import type { Work } from '../work.ts'
import { compileFilter, readableBy } from './filters.ts'
import type { RootSpec } from './rules.ts'

/** In force where nothing is published. */
export const NOTHING = ''

/** A process that comes to put its rules in force. */
export interface Coming {
  readonly at: number
  /** What was in force then, and since when. */
  readonly before: string
}

/** To be read before anything is waited for that somebody may hold. */
export async function come(database: Database, clock: Clock): Promise<Coming> {
  const at = clock.now()
  return database.read(function* () {
    const columns = (yield* database.columnsOf([STATE.name])).get(STATE.name) ?? []
    const isThere = Object.keys(STATE.columns).every((name) => columns.includes(name))
    return { at, before: isThere ? told(yield* inForce(database)) : '' }
  })
}

interface InForce {
  readonly rules: string | undefined
  readonly since: string | undefined
}

function* inForce(database: Database): Work<InForce> {
  return { rules: yield* readState(database, RULES), since: yield* readState(database, RULES_SINCE) }
}

function told({ rules = '', since = '' }: InForce): string {
  return `${rules} ${since}`
}

/**
 * From now on triggers are made and documents sealed by these rules: whoever goes by others, an earlier version of the host or of this library that is still running, does neither any
 * more. Without that each would undo the other's triggers, and seal what the other has sealed in another shape.
 *
 * Who came later has them in force, not who was held up longest: where they were put there while this one waited, by one that had begun later, they stay. Clocks decide only between those two, so that
 * one which was years ahead once keeps nobody out.
 *
 * @throws ERR_SCHEMA_NEWER
 */
export function* putInForce(database: Database, fingerprint: string, { at, before }: Coming): Work<void> {
  const now = yield* inForce(database)
  if (now.rules === fingerprint) return
  if (told(now) !== before && Number(now.since) > at) throw overtaken()
  yield* writeState(RULES, fingerprint)
  yield* writeState(RULES_SINCE, String(at))
}

/** What is to be said where others are in force. */
export function* notInForce(database: CapturingDatabase, fingerprint: string): Work<TillsyncError | undefined> {
  const known = yield* readState(database, RULES)
  return known === undefined || known === fingerprint ? undefined : overtaken()
}

function overtaken(): TillsyncError {
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
