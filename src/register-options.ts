import type { AnyTables, PublishRules } from './model.ts'
import { bad, checkDatabase, checkName, checkRuntime, DEFAULTS, HOUR_MS, isRecord, known, unlessGiven, whole } from './options.ts'
import type { CapturingDatabase } from './ports.ts'
import type { PullTransfer, PushTransfer } from './transfer-options.ts'

export interface RegisterOptions<DB, Mirrors = AnyTables> {
  /** The shop or warehouse, by code. */
  readonly location: string
  /** The register's name there. */
  readonly register: string
  /** `sqlite(…)` from 'tillsync/sqlite', or `postgres(pool, { schema })` from 'tillsync/postgres'. */
  readonly database: CapturingDatabase
  /** What central gets: tables by name; none where the register only subscribes. */
  readonly publish: PublishRules<DB>
  /** What is kept equal to what central publishes for this register: mirrors by central's tables. */
  readonly subscribe?: Mirrors
  /** How it gets there. Without it the register only captures. */
  readonly transfer?: PushTransfer | PullTransfer
  /**
   * How long entries that central has acknowledged are kept, in milliseconds: what lets central recover from its own backup.
   * Default 2,592,000,000 (30 days); from 0 up.
   */
  readonly retainMs?: number
  /**
   * After so long without a word from central, in milliseconds, it does not count any more: entries are pruned by age alone, and when it comes back, all that is published
   * is sealed anew. What was deleted in the meantime it never hears of. At least an hour; default: never.
   */
  readonly forgetAfterMs?: number
}

/** @throws ERR_OPTION */
export function readRetainMs(retainMs: number | undefined): number {
  return whole('retainMs', unlessGiven(retainMs, DEFAULTS.retainMs), 0)
}

export function readForgetAfterMs(forgetAfterMs: number | undefined): number {
  return forgetAfterMs === undefined ? Number.POSITIVE_INFINITY : whole('forgetAfterMs', forgetAfterMs, HOUR_MS)
}

/** @throws ERR_OPTION, ERR_RUNTIME */
export function checkRegisterOptions(options: RegisterOptions<never>): void {
  checkRuntime(process.versions.node)
  known('options', options, ['location', 'register', 'database', 'publish', 'subscribe', 'transfer', 'retainMs', 'forgetAfterMs'])
  checkName('location', options.location)
  checkName('register', options.register)
  const databases = "sqlite(…) from 'tillsync/sqlite' or postgres(…) from 'tillsync/postgres'"
  checkDatabase(options.database, databases)
  if (!('capture' in options.database)) throw bad('database', databases, options.database)
  if (!isRecord(options.publish)) throw bad('publish', 'an object of tables, such as { receipts: {} }', options.publish)
  if (Object.keys(options.publish).length === 0 && Object.keys(options.subscribe ?? {}).length === 0)
    throw bad('publish', 'at least one table, such as { receipts: {} }', '{}')
  if (options.subscribe !== undefined && !('mirroring' in options.database)) throw bad('database', databases, options.database)
}
