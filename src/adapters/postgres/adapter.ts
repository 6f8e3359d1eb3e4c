import { setTimeout as sleep } from 'node:timers/promises'
import { DummyDriver, Kysely } from 'kysely'
import type { Pool, PoolClient } from 'pg'
import { TillsyncError } from '../../errors.ts'
import type { HostTable } from '../../host-table.ts'
import type { AnyTables } from '../../model.ts'
import { bad, known } from '../../options.ts'
import type { OwnTable } from '../../own-table.ts'
import type { ApplyingDatabase, CapturingDatabase, CentralDatabase, ReadOptions, TableRead, WriteOptions } from '../../ports.ts'
import type { Statement, Work } from '../../work.ts'
import { query } from '../../work.ts'
import { PostgresCapture } from './capture.ts'
import { DeadlockWatch, GivenWay } from './deadlocks.ts'
import { dialectOf } from './dialect.ts'
import { causesOf, classify, faultOf, isConflict, isLocked, isPlanLost, isUnknown } from './errors.ts'
import { inspect } from './inspect.ts'
import { LockFirst, type Locks, strongest } from './installation.ts'
import { describe } from './introspect.ts'
import { keyed } from './lookup.ts'
import { PostgresMirroring } from './mirroring.ts'
import { OWN_TYPES } from './parsers.ts'
import { LOCK_BRIEFLY, LOCK_MS, notReadable, ReadTables, readableOf, Unlocked } from './reading.ts'
import { addColumns, createTable, quote } from './tables.ts'
import { Transaction } from './transaction.ts'
import { literal } from './triggers.ts'
import { encoderOf, keyOf, READING, SETTINGS } from './values.ts'
import { watchTouches } from './watch.ts'

export interface PostgresOptions {
  /** The schema of the host's tables and of the library's. Default 'public'. */
  readonly schema?: string
}

/**
 * A PostgreSQL database, 14 or later, by the host's own pool; the host ends it after `stop()`.
 *
 * @throws ERR_OPTION where `pool` is no pool of `pg`, and for an option that there is not
 */
export function postgres(pool: Pool, options: PostgresOptions = {}): CapturingDatabase & CentralDatabase {
  if (typeof pool?.connect !== 'function' || typeof pool.query !== 'function') {
    throw new TillsyncError('ERR_OPTION', `Expected the first argument of postgres() to be a Pool of 'pg', got ${typeof pool}`, {
      hint: 'postgres(new pg.Pool({ connectionString }))',
    })
  }
  if (typeof options !== 'object' || options === null) throw bad('the second argument of postgres()', 'an object such as { schema }', options)
  known('postgres', options, ['schema'])
  const { schema = 'public' } = options
  if (typeof schema !== 'string' || schema === '') {
    throw new TillsyncError('ERR_OPTION', 'Expected `schema` to be the name of a schema', { hint: "postgres(pool, { schema: 'public' })" })
  }
  return new PostgresDatabase(pool, schema)
}

/** How often a transaction is tried that a conflict with another one ended. */
const TRIES = 8
/** How often it is ours that a deadlock ends. Behind that PostgreSQL decides, for a host that never pauses must not keep sales from being applied. */
const GIVES_WAY = 4
/** How long a lock is tried for, again and again, each time for a moment. */
const PATIENCE_MS = 30_000
const SEALS_ALONE =
  'It goes on by itself. A pooler in transaction mode keeps the lock of who is gone: let the pool reach the server itself, or a pooler in session mode.'
type Mode = 'read' | 'loose' | 'write' | 'lazy' | 'alone'
/**
 * An error is better than rows that a policy hides and that would look deleted. Timeouts of the role are for its users: a slice that is
 * too long for them would be so for ever. The host's handlers write under the host's own settings.
 */
const OWN_SETTINGS = {
  ...SETTINGS,
  ...READING,
  row_security: 'off',
  jit: 'off',
  statement_timeout: '0',
  idle_in_transaction_session_timeout: '0',
  lock_timeout: `${LOCK_MS}ms`,
}
/** As one statement, whose plan is kept: values are SQL. */
const configure = (all: Readonly<Record<string, string>>) =>
  `SELECT ${Object.entries(all)
    .map(([name, value]) => `pg_catalog.set_config(${literal(name)}, ${value}, true)`)
    .join(', ')}`
const literals = (all: Readonly<Record<string, string>>) => Object.fromEntries(Object.entries(all).map(([name, value]) => [name, literal(value)]))
const WRITER_SETTINGS = literals({ ...SETTINGS, ...READING })
/** What is shipped, or said to be applied, must survive a crash; it takes all that was committed before with it. */
const DURABLE = configure({
  ...WRITER_SETTINGS,
  synchronous_commit: "pg_catalog.replace(pg_catalog.current_setting('synchronous_commit'), 'off', 'local')",
})
/** A timeout that PostgreSQL has since 17. */
const UNBOUNDED = 'SET LOCAL transaction_timeout = 0'
const SERVER = `SELECT pg_catalog.getdatabaseencoding() AS encoding, pg_catalog.current_setting('server_version_num') AS version,
  pg_catalog.current_setting('default_transaction_isolation') AS isolation`
/** Whatever the role's or the database's defaults are. */
const READ_COMMITTED = 'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE'
const BEGIN = {
  read: ['BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', configure(literals(OWN_SETTINGS))],
  write: [READ_COMMITTED, DURABLE],
  lazy: [READ_COMMITTED, configure({ ...WRITER_SETTINGS, synchronous_commit: "'off'" })],
}
/** Nothing in it takes a snapshot. */
const BEGIN_ALONE = [
  'BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE',
  ...Object.entries({ ...OWN_SETTINGS, synchronous_commit: 'off' }).map(([name, value]) => `SET LOCAL ${name} = ${literal(value)}`),
].join('; ')
/** Writes to the log and waits until it is on the disk, up to there. */
const FLUSH = "SELECT pg_catalog.set_config('synchronous_commit', 'local', true), pg_catalog.pg_logical_emit_message(true, 'tillsync', '')"

class PostgresDatabase implements CapturingDatabase, ApplyingDatabase {
  readonly dialect = 'postgres'
  readonly sliceMs = 20
  // Each waits a dozen times for the server, be it far away or busy: by time alone they would be ever shorter, and all together take ever longer.
  readonly sliceRecords = 64
  readonly keyed = keyed
  readonly keyOf = keyOf
  readonly encoderOf = encoderOf
  readonly faultOf = faultOf
  readonly capture: PostgresCapture
  readonly build: Kysely<AnyTables>
  readonly mirroring: PostgresMirroring
  private readonly pool: Pool
  private readonly schema: string
  private readonly reading: ReadTables
  private isOpen = false
  /** Whether a transaction may be ended because it takes long. */
  private isBounded = false
  /** Whether a statement by itself is serializable: one that reads what a sale writes could end that sale. */
  private isStrict = false
  /** Until it turns out that what is prepared on a connection does not stay there: a pooler between, or a pool that discards it. */
  private keepsPlans = true
  private opening: Promise<void> | undefined
  /** What comes back may be an older copy, where transaction ids are lower: then nothing is known of them. */
  private readonly lost = (): void => this.capture.ended(false)

  constructor(pool: Pool, schema: string) {
    this.pool = pool
    this.schema = schema
    this.capture = new PostgresCapture(schema)
    this.reading = new ReadTables(schema)
    this.build = new Kysely<AnyTables>({ dialect: dialectOf(new DummyDriver()) }).withSchema(schema)
    this.mirroring = new PostgresMirroring(schema, (name) => this.qualify(name))
  }

  async open(): Promise<void> {
    if (this.isOpen) return
    this.opening ??= this.connect().finally(() => {
      this.opening = undefined
    })
    await this.opening
  }

  private async connect(): Promise<void> {
    refuseEnded(this.pool)
    this.pool.on('acquire', attend)
    try {
      const client = await this.pool.connect()
      try {
        refuseBinary(client)
        const { rows } = await client.query<{ encoding: string; version: string; isolation: string }>({ text: SERVER, types: OWN_TYPES })
        const [{ encoding, version, isolation }] = rows as [(typeof rows)[0]]
        this.isBounded = Number(version) >= 170_000
        this.isStrict = isolation === 'serializable'
        if (encoding === 'SQL_ASCII') throw unfit('has no encoding (SQL_ASCII): what is no UTF-8 in its texts would arrive as something else')
      } finally {
        client.release()
      }
    } catch (error) {
      this.pool.off('acquire', attend)
      throw classify(error, 'Connecting to PostgreSQL')
    }
    this.pool.on('error', this.lost)
    this.isOpen = true
  }

  async close(): Promise<void> {
    await this.opening?.catch(() => undefined)
    if (!this.isOpen) return
    this.pool.off('acquire', attend)
    this.pool.off('error', this.lost)
    this.isOpen = false
  }

  read<T>(work: () => Work<T>, { signal, loosely }: ReadOptions = {}): Promise<T> {
    return this.transact(loosely && !this.isStrict ? 'loose' : 'read', work, signal)
  }

  write<T>(work: () => Work<T>, { signal, alone, lazily, onHeld }: WriteOptions = {}): Promise<T> {
    return this.transact(alone ? 'alone' : lazily ? 'lazy' : 'write', work, signal, onHeld)
  }

  async settle(): Promise<void> {
    try {
      await this.pool.query(FLUSH)
    } catch (error) {
      throw classify(error, 'Writing to the disk')
    }
  }

  private async transact<T>(mode: Mode, work: () => Work<T>, signal: AbortSignal | undefined, onHeld?: (ms: number) => void): Promise<T> {
    if (!this.isOpen)
      throw new TillsyncError('ERR_STOPPED', 'The database is not open', { hint: 'Call install() or start() first; after stop() only those.' })
    const patience = performance.now() + PATIENCE_MS
    /** Tables that are locked against writers first, because triggers are to be changed. More may come to be while one waits. */
    let lock: Locks = new Map()
    for (let attempt = 1, conflicts = 0; ; attempt++) {
      // Another one that runs meanwhile may find out that they are lost.
      const { keepsPlans } = this
      try {
        const began = performance.now()
        const done = await this.attempt(mode, work, lock, conflicts < GIVES_WAY)
        if (done !== undefined) onHeld?.(performance.now() - began)
        if (done !== undefined) return done.value
        if (performance.now() > patience)
          throw new TillsyncError('ERR_BUSY', 'Another process seals, without end', { retryable: true, hint: SEALS_ALONE })
        await sleep(2 + Math.random() * Math.min(50, 2 ** attempt))
      } catch (error) {
        if (signal?.aborted) throw new TillsyncError('ERR_ABORTED', 'The transaction was aborted', { cause: signal.reason })
        const causes = [...causesOf(error)]
        if (error instanceof LockFirst) lock = strongest(lock, error.tables)
        else if (error instanceof Unlocked && performance.now() < patience) lock = new Map()
        else if (keepsPlans && causes.some(isPlanLost)) this.keepsPlans = false
        else if (causes.some(isConflict)) {
          if (++conflicts === TRIES) throw classify(error, 'A transaction failed')
          await sleep(Math.random() * 10 * 2 ** conflicts)
        } else if (causes.some(isLocked) && performance.now() < patience) await sleep(50 + Math.random() * 200)
        else throw classify(error, 'A transaction failed')
      }
      if (signal?.aborted) throw new TillsyncError('ERR_ABORTED', 'The wait for the database was aborted', { cause: signal.reason })
    }
  }

  /** One try; undefined where another one works alone now. */
  private async attempt<T>(mode: Mode, work: () => Work<T>, lock: Locks, givesWay: boolean): Promise<{ readonly value: T } | undefined> {
    refuseEnded(this.pool)
    const client = await this.pool.connect()
    let broken: Error | undefined
    // The others give up any lock after a moment.
    const watch = givesWay && (mode === 'write' || mode === 'lazy') ? new DeadlockWatch(this.pool, client) : undefined
    const transaction = new Transaction(client, (name) => this.qualify(name), DURABLE, this.keepsPlans, watch)
    try {
      // Before BEGIN: the snapshot must be younger than the end of whoever had the lock before.
      if (mode === 'alone' && !(await this.tryAlone(client))) return undefined
      if (mode === 'loose') return { value: await transaction.drive(work) }
      if (mode === 'alone') await client.query(this.isBounded ? `${BEGIN_ALONE}; ${UNBOUNDED}` : BEGIN_ALONE)
      else transaction.begin(mode === 'read' && this.isBounded ? [...BEGIN.read, UNBOUNDED] : BEGIN[mode])
      // No snapshot is taken yet: all that was written before the lock will be in it.
      if (lock.size > 0) await transaction.drive(() => lockTables(lock))
      if (mode === 'alone') await this.reading.lock(client)
      const value = await transaction.drive(work)
      if (mode === 'alone') this.reading.check()
      // Whatever the work made of the error: nothing of it can be committed.
      if (transaction.lost) throw transaction.lost.reason
      if (await watch?.gaveWay()) throw new GivenWay()
      await transaction.commit()
      if (mode === 'alone') await this.endAlone(client, true)
      return { value }
    } catch (error) {
      broken = transaction.lost
      try {
        if (broken === undefined) await transaction.rollback()
        if (mode === 'alone') await this.endAlone(client, false)
      } catch (cause) {
        broken = cause as Error // the pool ends it, and with it its locks
        this.lost()
      }
      throw (await watch?.gaveWay()) ? new GivenWay() : error
    } finally {
      await watch?.end()
      client.release(broken)
      if (transaction.lost?.isRunning) await this.terminate(client)
    }
  }

  /** PostgreSQL notices the end of a connection only when the statement is done, and keeps its locks until then. */
  private async terminate(client: PoolClient): Promise<void> {
    const { processID } = client as PoolClient & { readonly processID?: number }
    await this.pool.query('SELECT pg_terminate_backend($1)', [processID]).catch(() => undefined)
  }

  private async endAlone(client: PoolClient, committed: boolean): Promise<void> {
    this.capture.ended(committed)
    await client.query(`SELECT pg_advisory_unlock(${this.collectorLock()})`)
  }

  private async tryAlone(client: PoolClient): Promise<boolean> {
    const { rows } = await client.query<{ mine: boolean }>({ text: `SELECT pg_try_advisory_lock(${this.collectorLock()}) AS mine`, types: OWN_TYPES })
    return rows[0]?.mine === true
  }

  private collectorLock(): string {
    return `hashtextextended(${literal(`tillsync.collector.${this.schema}`)}, 0)`
  }

  *lockInstall(): Work<void> {
    yield* query({ sql: `SELECT pg_advisory_xact_lock(hashtextextended('tillsync.install', 0))`, parameters: [] })
  }

  *requireUnicode(): Work<void> {
    const [row] = yield* query<{ encoding: string }>({ sql: 'SELECT pg_catalog.getdatabaseencoding() AS encoding', parameters: [] })
    if (row?.encoding !== 'UTF8') throw unfit(`is encoded as ${row?.encoding}, which does not have all characters that may come`)
  }

  *giveWay(): Work<void> {
    yield* query({ sql: LOCK_BRIEFLY, parameters: [] })
  }

  *describe(names: readonly string[]): Work<ReadonlyMap<string, HostTable>> {
    this.capture.watch(names)
    const tables = yield* describe(this.schema, names)
    this.reading.note(names, yield* readableOf(this.schema, names))
    return tables
  }

  *requireReadable(tables: readonly string[]): Work<void> {
    const table = tables.find((name) => !this.reading.has(name))
    if (table !== undefined) throw notReadable(table)
  }

  inspect(statement: Statement, keyWidth: number): Work<readonly TableRead[]> {
    return inspect(this.schema, statement, keyWidth)
  }

  qualify(table: string): string {
    return `${quote(this.schema)}.${quote(table)}`
  }

  createTable(table: OwnTable): readonly string[] {
    return createTable(table, (name) => this.qualify(name))
  }

  addColumns(table: OwnTable, columns: readonly string[]): readonly string[] {
    return addColumns(table, columns, this.qualify(table.name))
  }

  *columnsOf(names: readonly string[]): Work<ReadonlyMap<string, readonly string[]>> {
    const sql = `SELECT name, ARRAY(SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass(qualified) AND attnum > 0 AND NOT attisdropped ORDER BY attnum) AS columns
      FROM unnest($1::text[], $2::text[]) AS wanted(name, qualified) WHERE to_regclass(qualified) IS NOT NULL`
    const rows = yield* query<{ name: string; columns: readonly string[] }>({ sql, parameters: [names, names.map((name) => this.qualify(name))] })
    return new Map(rows.map(({ name, columns }) => [name, columns]))
  }

  *existing(names: readonly string[]): Work<ReadonlySet<string>> {
    const sql = 'SELECT name FROM unnest($1::text[], $2::text[]) AS wanted(name, qualified) WHERE to_regclass(qualified) IS NOT NULL'
    const rows = yield* query<{ name: string }>({ sql, parameters: [names, names.map((name) => this.qualify(name))] })
    return new Set(rows.map(({ name }) => name))
  }

  *run(statements: readonly string[]): Work<void> {
    if (statements.length > 0) yield* query({ sql: statements.join(';\n'), parameters: [] })
  }

  *dropTable(name: string): Work<void> {
    yield* query({ sql: `DROP TABLE IF EXISTS ${this.qualify(name)}`, parameters: [] })
  }

  watch(listener: () => void): () => void {
    const unbounded = ['SET LOCAL statement_timeout = 0', 'SET LOCAL idle_in_transaction_session_timeout = 0', ...(this.isBounded ? [UNBOUNDED] : [])]
    return watchTouches({ pool: this.pool, poll: () => this.capture.poll(), onLost: this.lost, unbounded: unbounded.join('; ') }, listener)
  }
}

/** @throws Unlocked where one of them is gone by now */
function* lockTables(locks: Locks): Work<void> {
  const each = [...locks].map(([name, mode]) => `LOCK TABLE ${name} IN ${mode} MODE`)
  try {
    yield* query({ sql: [LOCK_BRIEFLY, ...each].join('; '), parameters: [] })
  } catch (error) {
    throw isUnknown(error) ? new Unlocked() : error
  }
}

function unfit(what: string): TillsyncError {
  return new TillsyncError('ERR_CONNECTION', `The database ${what}`, {
    hint: "Load a dump of it into one that was made by CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
  })
}

/** @throws ERR_DATABASE */
function refuseEnded(pool: Pool): void {
  if (pool.ending) throw new TillsyncError('ERR_DATABASE', 'The pool is ended', { hint: 'End it after `await stop()`, not before.' })
}

/** What it answers then has to be read by types that no statement can be told to ask for. @throws ERR_CONNECTION */
function refuseBinary(client: PoolClient): void {
  if ((client as { readonly binary?: boolean }).binary !== true) return
  throw new TillsyncError('ERR_CONNECTION', "The pool asks for binary answers, which can't be read exactly", {
    hint: 'new pg.Pool({ … }) without `binary`, and pg.defaults.binary as it was.',
  })
}

/**
 * When the server goes away, `pg` says so to each connection beside failing its query; with nobody listening that would end the host's process. It may
 * come with the last answer, before whoever waits for the connection has run, and once more when it is closed: so each is listened to from the moment
 * in which the pool stops to, and for good. The pool replaces it, and what was going on fails and is tried again.
 */
function attend(client: PoolClient): void {
  if (!client.listeners('error').includes(survive)) client.on('error', survive)
}

function survive(): void {}
