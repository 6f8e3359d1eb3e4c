import { setTimeout as sleep } from 'node:timers/promises'
import type { Pool, PoolClient } from 'pg'
import { TillsyncError } from '../../errors.ts'
import type { ReadOptions, WriteOptions } from '../../ports.ts'
import type { Work } from '../../work.ts'
import { query } from '../../work.ts'
import type { PostgresCapture } from './capture.ts'
import { DeadlockWatch, GivenWay } from './deadlocks.ts'
import { causesOf, classify, isConflict, isLocked, isPlanLost, isUnknown } from './errors.ts'
import { LockFirst, type Locks, strongest } from './installation.ts'
import { OWN_TYPES } from './parsers.ts'
import { LOCK_BRIEFLY, LOCK_MS, type ReadTables, Unlocked } from './reading.ts'
import { Transaction } from './transaction.ts'
import { literal } from './triggers.ts'
import { READING, SETTINGS } from './values.ts'

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
const DURABLY = {
  ...WRITER_SETTINGS,
  synchronous_commit: "pg_catalog.replace(pg_catalog.current_setting('synchronous_commit'), 'off', 'local')",
}
const DURABLE = configure(DURABLY)
/** Whatever the role's or the database's defaults are. */
const READ_COMMITTED = 'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE'
/** What each kind of transaction begins with. Where PostgreSQL may end one because it lasts, it does so with none: what was too long would be so again. */
const beginnings = (isBounded: boolean) => {
  const unbounded = literals(isBounded ? { transaction_timeout: '0' } : {})
  return {
    read: ['BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY', configure({ ...literals(OWN_SETTINGS), ...unbounded })],
    write: [READ_COMMITTED, configure({ ...DURABLY, ...unbounded })],
    lazy: [READ_COMMITTED, configure({ ...WRITER_SETTINGS, synchronous_commit: "'off'", ...unbounded })],
  }
}
const [BEGIN, BEGIN_BOUNDED] = [beginnings(false), beginnings(true)]
/** A timeout that PostgreSQL has since 17. */
const UNBOUNDED = 'SET LOCAL transaction_timeout = 0'
/** Nothing in it takes a snapshot. */
const BEGIN_ALONE = [
  'BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE',
  ...Object.entries({ ...OWN_SETTINGS, synchronous_commit: 'off' }).map(([name, value]) => `SET LOCAL ${name} = ${literal(value)}`),
].join('; ')

/** What the transactions of one database have in common. */
interface TransactionsOptions {
  readonly pool: Pool
  readonly schema: string
  readonly qualify: (name: string) => string
  readonly capture: PostgresCapture
  readonly reading: ReadTables
}

/** What the server has said of itself. */
interface Server {
  /** Whether a transaction may be ended because it takes long. */
  readonly isBounded: boolean
  /** Whether a statement by itself is serializable: one that reads what a sale writes could end that sale. */
  readonly isStrict: boolean
}

/** The library's transactions on the host's pool: each tried again after a conflict, a deadlock or a lock that somebody else has. */
export class Transactions {
  private readonly pool: Pool
  private readonly schema: string
  private readonly qualify: (name: string) => string
  private readonly capture: PostgresCapture
  private readonly reading: ReadTables
  /** Undefined while the database is not open. */
  private server: Server | undefined
  /** Until it turns out that what is prepared on a connection does not stay there: a pooler between, or a pool that discards it. */
  private keepsPlans = true

  constructor({ pool, schema, qualify, capture, reading }: TransactionsOptions) {
    this.pool = pool
    this.schema = schema
    this.qualify = qualify
    this.capture = capture
    this.reading = reading
  }

  get isOpen(): boolean {
    return this.server !== undefined
  }

  open(server: Server): void {
    this.server = server
  }

  close(): void {
    this.server = undefined
  }

  /** What a transaction begins with that the host's time limits, which are for its users, are not to end. */
  get unbounded(): readonly string[] {
    return ['SET LOCAL statement_timeout = 0', 'SET LOCAL idle_in_transaction_session_timeout = 0', ...(this.server?.isBounded ? [UNBOUNDED] : [])]
  }

  read<T>(work: () => Work<T>, { signal, loosely }: ReadOptions = {}): Promise<T> {
    return this.transact(loosely && !this.server?.isStrict ? 'loose' : 'read', work, signal)
  }

  write<T>(work: () => Work<T>, { signal, alone, lazily, onHeld }: WriteOptions = {}): Promise<T> {
    return this.transact(alone ? 'alone' : lazily ? 'lazy' : 'write', work, signal, onHeld)
  }

  private async transact<T>(mode: Mode, work: () => Work<T>, signal: AbortSignal | undefined, onHeld?: (ms: number) => void): Promise<T> {
    if (this.server === undefined)
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
      if (mode === 'alone') await client.query(this.server?.isBounded ? `${BEGIN_ALONE}; ${UNBOUNDED}` : BEGIN_ALONE)
      else transaction.begin((this.server?.isBounded ? BEGIN_BOUNDED : BEGIN)[mode])
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
        this.capture.ended(false) // what comes back may be an older copy
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

/** @throws ERR_DATABASE */
export function refuseEnded(pool: Pool): void {
  if (pool.ending) throw new TillsyncError('ERR_DATABASE', 'The pool is ended', { hint: 'End it after `await stop()`, not before.' })
}
