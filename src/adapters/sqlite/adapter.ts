import { setTimeout as sleep } from 'node:timers/promises'
import type { Database as Connection, Statement as Prepared } from 'better-sqlite3'
import { DummyDriver, Kysely, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from 'kysely'
import { messageOf, TillsyncError } from '../../errors.ts'
import type { AnyTables } from '../../model.ts'
import type { CapturingDatabase, HostColumn, HostTable, Key, OwnTable, Step, Work } from '../../ports.ts'
import { InvalidText } from '../../record.ts'
import { turn } from '../../turns.ts'
import { SqliteCapture } from './capture.ts'
import { classify, isBusy, isRaised } from './errors.ts'
import { inspect } from './inspect.ts'
import { describe } from './introspect.ts'
import { createTable, dropTable, hasTable, insertSql } from './tables.ts'
import { quote } from './triggers.ts'
import { bindExactly, decodeKey, encodeValue, exactly, isSuspect, readExactly, toBindable } from './values.ts'
import { watchCommits, watchShared } from './watch.ts'

export interface SqliteOptions {
  /**
   * The host's own connection to the same file, where it lives in this process: the library never writes while
   * `host.inTransaction`, so that a host that reads first and writes later never meets SQLITE_BUSY_SNAPSHOT.
   */
  readonly host?: Connection
}

/**
 * A register's SQLite database.
 *
 * With a function, the library opens a connection of its own (with whatever key, native binding or functions the
 * host's database needs) and closes it on `stop()`. The database must be in WAL mode. With a connection, the library
 * shares it and works only while the host has no transaction open; the host closes it.
 *
 * Its transactions are synchronous and short. While another connection writes, the library waits by timers, never
 * inside SQLite.
 *
 * @throws ERR_OPTION where `connection` is neither
 */
export function sqlite(connection: (() => Connection) | Connection, options: SqliteOptions = {}): CapturingDatabase {
  if (typeof connection === 'function') return new SqliteDatabase(connection, options.host, false)
  if (typeof connection === 'object' && connection !== null && typeof connection.prepare === 'function') {
    return new SqliteDatabase(() => connection, connection, true)
  }
  throw new TillsyncError(
    'ERR_OPTION',
    `Expected the first argument of sqlite() to be a function or a better-sqlite3 connection, got ${typeof connection}`,
    {
      hint: 'sqlite(() => new Database(file))',
    },
  )
}

/** How long a transaction waits for its turn before it gives up for now. */
const PATIENCE_MS = 10_000
const MAX_PREPARED = 500
/** How long is read in one turn of the event loop. */
const TURN_MS = 2
/** How often it is tried to read in turns; a host that always writes in between makes us read synchronously, so many times. */
const SLICED_TRIES = 3
const SYNCHRONOUS_TIMES = 16
/** Rows that one INSERT brings: the fewer statements, the fewer calls into SQLite. */
const ROWS_TOGETHER = 16
/**
 * After about so many bytes a checkpoint follows in a turn of the event loop of its own. SQLite's automatic one would come
 * inside a commit, copy 4 MB, and hold up the host for 10 ms where a slice takes 2.
 */
const CHECKPOINT_BYTES = 1_500_000
/** What a commit writes beside its rows: the pages on which they stand, and those of the indexes. */
const COMMIT_BYTES = 16_384

class SqliteDatabase implements CapturingDatabase {
  readonly dialect = 'sqlite'
  readonly capture: SqliteCapture
  readonly sliceMs = 2
  readonly build = new Kysely<AnyTables>({
    dialect: {
      createAdapter: () => new SqliteAdapter(),
      createDriver: () => new DummyDriver(),
      createIntrospector: (db) => new SqliteIntrospector(db),
      createQueryCompiler: () => new SqliteQueryCompiler(),
    },
  })
  readonly createTable = createTable
  readonly hasTable = hasTable
  readonly inspect = inspect
  readonly dropTable = dropTable
  private readonly connect: () => Connection
  private readonly host: Connection | undefined
  private readonly shared: boolean
  private connection: Connection | undefined
  private prepared = new Map<string, Prepared>()
  /** Written since the last checkpoint, in bytes. */
  private written = 0
  /** How many times more it is not tried to read in turns. */
  private synchronously = 0
  private lastWrite: Promise<unknown> = Promise.resolve()
  /** In a database in UTF-16 the bytes of a text are another thing, and none of them are other than they show. */
  private isUtf8 = true

  constructor(connect: () => Connection, host: Connection | undefined, shared: boolean) {
    this.connect = connect
    this.host = host
    this.shared = shared
    this.capture = new SqliteCapture(host)
  }

  async open(): Promise<void> {
    if (this.connection !== undefined) return
    const connection = this.connectOrThrow()
    try {
      if (!this.shared) this.furnish(connection)
      if (connection.readonly) {
        throw new TillsyncError('ERR_CONNECTION', 'The connection is read-only', { hint: 'Open it without `readonly`.' })
      }
    } catch (error) {
      if (!this.shared) connection.close()
      throw classify(error, 'Opening the database')
    }
    this.isUtf8 = connection.pragma('encoding', { simple: true }) === 'UTF-8'
    this.connection = connection
  }

  private connectOrThrow(): Connection {
    let connection: Connection | undefined
    try {
      connection = this.connect()
    } catch (error) {
      throw new TillsyncError('ERR_CONNECTION', `Opening the database failed: ${messageOf(error)}`, {
        hint: 'The function given to sqlite() threw; is the file where it says, and may we write there?',
        cause: error,
      })
    }
    if (typeof connection?.prepare === 'function') return connection
    throw new TillsyncError('ERR_CONNECTION', 'The function given to sqlite() returned no connection', { hint: 'sqlite(() => new Database(file))' })
  }

  /** Sets what concerns our own connection only; the file is the host's and stays as it is. */
  private furnish(connection: Connection): void {
    const mode = connection.pragma('journal_mode', { simple: true })
    if (mode !== 'wal') {
      throw new TillsyncError('ERR_NOT_WAL', `The database is in journal mode '${String(mode)}', where reading blocks the cashier's commits`, {
        hint: "Run PRAGMA journal_mode = WAL once, while nothing else is connected; or share the host's connection: sqlite(db).",
        context: { journalMode: mode },
      })
    }
    connection.pragma('busy_timeout = 0')
    connection.pragma('synchronous = FULL')
    connection.pragma('wal_autocheckpoint = 0')
  }

  async close(): Promise<void> {
    const connection = this.connection
    this.connection = undefined
    this.prepared.clear()
    if (connection !== undefined && !this.shared) connection.close()
  }

  read<T>(work: () => Work<T>, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<T> {
    return this.transact('BEGIN', work, options.signal)
  }

  async write<T>(work: () => Work<T>, options: { readonly signal?: AbortSignal | undefined; readonly alone?: boolean } = {}): Promise<T> {
    return this.inTurn(async () => {
      const value = await this.transact(options.alone ? 'sliced' : 'BEGIN IMMEDIATE', work, options.signal)
      await this.checkpoint()
      return value
    })
  }

  /** One after another, so that our own transactions are not in each other's way while one of them reads in slices. */
  private inTurn<T>(run: () => Promise<T>): Promise<T> {
    const done = this.lastWrite.then(run)
    this.lastWrite = done.catch(() => undefined)
    return done
  }

  private async transact<T>(mode: 'BEGIN' | 'BEGIN IMMEDIATE' | 'sliced', work: () => Work<T>, signal: AbortSignal | undefined): Promise<T> {
    const patience = Date.now() + PATIENCE_MS
    for (let attempt = 0; ; attempt++) {
      await turn()
      const sliced = mode === 'sliced' && attempt < SLICED_TRIES && this.synchronously === 0
      if (mode === 'sliced' && attempt === SLICED_TRIES) this.synchronously = SYNCHRONOUS_TIMES
      const done = sliced ? await this.attemptSliced(work) : this.attempt(mode === 'BEGIN' ? mode : 'BEGIN IMMEDIATE', work)
      if (done !== undefined && mode === 'sliced' && !sliced) this.synchronously--
      if (done !== undefined) return done.value
      if (signal?.aborted) throw new TillsyncError('ERR_ABORTED', 'The wait for the database was aborted', { cause: signal.reason })
      if (Date.now() > patience) {
        throw new TillsyncError('ERR_BUSY', `The database was busy for ${PATIENCE_MS} ms`, {
          retryable: true,
          hint: 'Another connection holds a transaction open for long.',
        })
      }
      await sleep(1 + Math.random() * Math.min(20, 2 ** attempt))
    }
  }

  /** One try, synchronously; undefined when it is not our turn. */
  private attempt<T>(begin: string, work: () => Work<T>): { readonly value: T } | undefined {
    const connection = this.open_()
    try {
      if (!this.begin(connection, begin)) return undefined
      const value = this.drive(connection, work)
      connection.exec('COMMIT')
      return { value }
    } catch (error) {
      return this.undo(connection, error)
    }
  }

  /**
   * One try, in which what is read before the first write is read in turns of the event loop, each in a transaction of its own:
   * they are as good as one where nobody has written in between. Undefined where somebody has, or when it is not our turn.
   */
  private async attemptSliced<T>(work: () => Work<T>): Promise<{ readonly value: T } | undefined> {
    const connection = this.open_()
    try {
      if (!this.begin(connection, 'BEGIN')) return undefined
      const seen = this.version(connection)
      const steps = work()
      let next = steps.next()
      for (
        let began = performance.now();
        next.done !== true && !this.isWrite(connection, next.value);
        next = this.advance(connection, steps, next.value)
      ) {
        const writes = next.value.kind === 'writing'
        if (!writes && performance.now() - began < TURN_MS) continue
        connection.exec('COMMIT')
        await turn()
        if (this.connection !== connection || !this.begin(connection, writes ? 'BEGIN IMMEDIATE' : 'BEGIN')) return undefined
        if (this.version(connection) !== seen) {
          connection.exec('ROLLBACK')
          return undefined
        }
        began = performance.now()
        if (writes) break
      }
      while (!next.done) next = this.advance(connection, steps, next.value)
      connection.exec('COMMIT')
      return { value: next.value }
    } catch (error) {
      return this.undo(connection, error)
    }
  }

  /** Another one whenever anybody has written: another connection, or this one, which the host may share. */
  private version(connection: Connection): string {
    const { data_version } = this.prepare(connection, 'PRAGMA data_version', 'objects').get() as { data_version: number }
    const { changes } = this.prepare(connection, 'SELECT total_changes() AS changes', 'objects').get() as { changes: number }
    return `${data_version} ${changes}`
  }

  private isWrite(connection: Connection, step: Step): boolean {
    if (step.kind === 'query') return !this.prepare(connection, step.sql, 'objects').readonly
    return step.kind === 'insert' || step.kind === 'erase'
  }

  private begin(connection: Connection, begin: string): boolean {
    if (this.host?.inTransaction) return false
    try {
      connection.exec(begin)
      return true
    } catch (error) {
      if (isBusy(error)) return false
      throw classify(error, begin)
    }
  }

  /** Undefined where the transaction met another one; the same one works later. */
  private undo(connection: Connection, error: unknown): undefined {
    if (connection.open && connection.inTransaction) connection.exec('ROLLBACK')
    if (!isBusy(error)) throw classify(error, 'A transaction failed')
  }

  /** Returns in another turn of the event loop than the one that it has used. */
  private async checkpoint(): Promise<void> {
    this.written += COMMIT_BYTES
    if (this.shared || this.written < CHECKPOINT_BYTES) return
    this.written = 0
    await turn()
    try {
      this.connection?.pragma('wal_checkpoint(PASSIVE)')
    } catch {
      // Nothing depends on it: what can't be copied now stays in the -wal file, until the next one or the end of the last connection.
    }
  }

  private open_(): Connection {
    if (this.connection !== undefined) return this.connection
    throw new TillsyncError('ERR_STOPPED', 'The database is not open', { hint: 'Call install() or start() first; after stop() only those.' })
  }

  private drive<T>(connection: Connection, work: () => Work<T>): T {
    const steps = work()
    let next = steps.next()
    while (!next.done) next = this.advance(connection, steps, next.value)
    return next.value
  }

  private advance<T>(connection: Connection, steps: Work<T>, step: Step): IteratorResult<Step, T> {
    let answer: unknown
    try {
      answer = this.step(connection, step)
    } catch (error) {
      return steps.throw(error)
    }
    return steps.next(answer)
  }

  private step(connection: Connection, step: Step): unknown {
    switch (step.kind) {
      case 'query': {
        // SQLite makes a statement anew where the schema has changed, but not what explains one.
        const explains = step.sql.startsWith('EXPLAIN')
        const statement = explains ? this.prepareOrThrow(connection, step.sql) : this.prepare(connection, step.sql, 'objects')
        const parameters = step.parameters.map(toBindable)
        if (statement.reader) return statement.all(parameters)
        statement.run(parameters)
        return []
      }
      case 'lookup':
        return this.lookup(connection, step)
      case 'insert':
        this.insert(connection, step)
        return undefined
      case 'erase': {
        const statement = this.prepare(
          connection,
          `DELETE FROM ${quote(step.table.name)} WHERE ${step.by.map((name) => `${quote(name)} = ?`).join(' AND ')}`,
          'objects',
        )
        for (const key of step.keys) statement.run(key)
        return undefined
      }
      case 'pause':
      case 'writing':
        return undefined
      case 'call':
        throw new TillsyncError('ERR_OPTION', "The host's own handlers cannot run inside a transaction of an SQLite database", {
          hint: "At an SQLite register subscribe with mirror(), and listen to the event 'applied'.",
        })
    }
  }

  /** A statement that does not compile: the rules name what is not there, or the host's schema has changed. */
  private prepareOrThrow(connection: Connection, sql: string): Prepared {
    try {
      return connection.prepare(sql)
    } catch (error) {
      throw isBusy(error) ? error : classify(error, 'A statement does not compile')
    }
  }

  private insert(connection: Connection, { table, rows, replaceBy }: Step & { kind: 'insert' }): void {
    for (const row of rows) for (const value of row) if (typeof value === 'string') this.written += value.length
    let at = 0
    if (rows.length >= ROWS_TOGETHER) {
      const many = this.prepare(connection, insertSql(table, replaceBy, ROWS_TOGETHER), 'objects')
      for (; at + ROWS_TOGETHER <= rows.length; at += ROWS_TOGETHER) many.run(rows.slice(at, at + ROWS_TOGETHER).flat())
    }
    const one = this.prepare(connection, insertSql(table, replaceBy, 1), 'objects')
    for (; at < rows.length; at++) one.run(rows[at])
  }

  private lookup(connection: Connection, step: Step & { kind: 'lookup' }): unknown[][][] {
    const statement = this.prepare(connection, step.sql, 'tuples')
    const { keys } = step
    const parameters = step.parameters.map(toBindable)
    try {
      return keys.map((key) => {
        if (key.some((value) => value instanceof InvalidText)) return this.lookupExactly(connection, step.sql, key, parameters)
        const found = statement.all(parameters.length === 0 ? key : [...key, ...parameters]) as unknown[][]
        return this.isUtf8 && found.some(isSuspect) ? this.lookupExactly(connection, step.sql, key, parameters) : found
      })
    } catch (error) {
      if (!isRaised(error)) throw error
      throw new TillsyncError('ERR_FILTER', `Reading raised an error: ${(error as Error).message}`, { cause: error })
    }
  }

  /** The way for text that is not UTF-8: by its bytes. */
  private lookupExactly(connection: Connection, sql: string, key: Key, parameters: readonly unknown[]): unknown[][] {
    const columns = this.prepare(connection, sql, 'tuples').columns().length
    const bound = bindExactly(sql, key)
    const rows = this.prepare(connection, exactly(bound.sql, columns), 'tuples').all([...bound.key, ...parameters])
    return (rows as unknown[][]).map(readExactly)
  }

  private prepare(connection: Connection, sql: string, rows: 'objects' | 'tuples'): Prepared {
    const name = `${rows}:${sql}`
    let statement = this.prepared.get(name)
    if (statement === undefined) {
      if (this.prepared.size >= MAX_PREPARED) this.prepared.clear()
      statement = this.prepareOrThrow(connection, sql)
      if (rows === 'tuples') statement.raw(true).safeIntegers(true)
      else if (statement.reader) statement.raw(false).safeIntegers(false)
      this.prepared.set(name, statement)
    }
    return statement
  }

  /** BEGIN IMMEDIATE is exclusive already. */
  *lockInstall(): Work<void> {}

  /** There is one lock, and it is ours by then. */
  *giveWay(): Work<void> {}

  describe(names: readonly string[]): Work<ReadonlyMap<string, HostTable>> {
    return describe(names)
  }

  qualify(table: string): string {
    return quote(table)
  }

  /** The key comes first in a WHERE, so that its values come before the statement's other parameters. */
  keyed(_table: HostTable | OwnTable, columns: readonly string[]): string {
    return columns.map((name) => `${quote(name)} = ?`).join(' AND ')
  }

  keyOf(_columns: readonly HostColumn[], recordId: string): Key {
    return decodeKey(recordId)
  }

  encoderOf(): (value: unknown) => string {
    return encodeValue
  }

  watch(listener: () => void): () => void {
    const connection = this.open_()
    return this.shared ? watchShared(listener) : watchCommits(connection, listener)
  }
}
