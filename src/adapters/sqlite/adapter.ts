import { setTimeout as sleep } from 'node:timers/promises'
import type { Database as Connection } from 'better-sqlite3'
import { DummyDriver, Kysely, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from 'kysely'
import { messageOf, TillsyncError } from '../../errors.ts'
import type { HostColumn, HostTable } from '../../host-table.ts'
import type { AnyTables } from '../../model.ts'
import { bad, known } from '../../options.ts'
import type { OwnTable } from '../../own-table.ts'
import type { ApplyingDatabase, CapturingDatabase, ReadOptions, ReferredColumns, WriteOptions } from '../../ports.ts'
import { turn } from '../../turns.ts'
import { type Key, query, type Statement, type Work } from '../../work.ts'
import { SqliteCapture } from './capture.ts'
import { classify, faultOf, isBusy, isForeignKey, notReadable, unsatisfiedAtEnd } from './errors.ts'
import { refuseHidden } from './hidden.ts'
import { inspect } from './inspect.ts'
import { describe } from './introspect.ts'
import { LogGrowth } from './log-growth.ts'
import { SqliteMirroring } from './mirroring.ts'
import { Pace, SHARED_MS } from './pace.ts'
import { Steps } from './steps.ts'
import { syncLog } from './sync.ts'
import { createTable, dropTable, existing, run } from './tables.ts'
import { quote } from './triggers.ts'
import { decodeKey, encodeValue } from './values.ts'
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
 * @throws ERR_OPTION where `connection` is neither, and for an option that there is not
 */
export function sqlite(
  connection: (() => Connection) | Connection,
  options: SqliteOptions = {},
): CapturingDatabase & ApplyingDatabase & { readonly dialect: 'sqlite' } {
  if (typeof options !== 'object' || options === null) throw bad('the second argument of sqlite()', 'an object such as { host }', options)
  known('sqlite', options, ['host'])
  if (options.host !== undefined && !isConnection(options.host)) throw bad('sqlite.host', 'a connection of better-sqlite3', options.host)
  if (typeof connection === 'function') return new SqliteDatabase(connection, options.host, false)
  if (isConnection(connection)) return new SqliteDatabase(() => connection, connection, true)
  throw new TillsyncError(
    'ERR_OPTION',
    `Expected the first argument of sqlite() to be a function or a better-sqlite3 connection, got ${typeof connection}`,
    {
      hint: 'sqlite(() => new Database(file))',
    },
  )
}

/** Other drivers, Node's own among them, have `prepare` too, and no `pragma`. */
function isConnection(given: unknown): given is Connection {
  const { prepare, pragma } = (given ?? {}) as { readonly prepare?: unknown; readonly pragma?: unknown }
  return typeof prepare === 'function' && typeof pragma === 'function'
}

/** How long a transaction waits for its turn before it gives up for now. */
const PATIENCE_MS = 10_000
/** How long it waits before it tries again to open what somebody has for himself. */
const LOCKED_MS = 20
/** How long is read in one turn of the event loop. */
const TURN_MS = 2
/** How often it is tried to read in turns. Where somebody has always written in between it is done synchronously, once; twice as often each time that follows, at most so often. */
const SLICED_TRIES = 3
const SYNCHRONOUS_TIMES = 16

/** How statements answer: by these deprecated settings columns would have other names, and what writes would answer rows (https://www.sqlite.org/pragma.html). */
const ANSWERS: Readonly<Record<string, number>> = { short_column_names: 1, full_column_names: 0, count_changes: 0, empty_result_callbacks: 0 }

interface Opened {
  readonly connection: Connection
  readonly steps: Steps
  readonly file: string
}

/** Where SQLite has it, whatever name it was opened by: the -wal file stands beside what a link leads to, and a relative name means another file after chdir. */
function fileOf(connection: Connection): string {
  const databases = connection.pragma('database_list') as readonly { readonly name: string; readonly file: string }[]
  return databases.find(({ name }) => name === 'main')?.file || connection.name
}

class SqliteDatabase implements CapturingDatabase, ApplyingDatabase {
  readonly dialect = 'sqlite'
  /** Four rows take about as long as beginning and ending does. */
  readonly sliceRecords = 4
  readonly capture: SqliteCapture
  readonly build = new Kysely<AnyTables>({
    dialect: {
      createAdapter: () => new SqliteAdapter(),
      createDriver: () => new DummyDriver(),
      createIntrospector: (db) => new SqliteIntrospector(db),
      createQueryCompiler: () => new SqliteQueryCompiler(),
    },
  })
  readonly createTable = createTable
  readonly existing = existing
  readonly run = run
  readonly inspect = inspect
  readonly dropTable = dropTable
  readonly faultOf = faultOf
  readonly mirroring: SqliteMirroring
  private readonly connect: () => Connection
  private readonly host: Connection | undefined
  private readonly shared: boolean
  private opened: Opened | undefined
  private opening: Promise<void> | undefined
  /** How often it was closed. */
  private closed = 0
  private readonly pace = new Pace()
  private readonly growth = new LogGrowth()
  /** How many times more it is not tried to read in turns, and how many the next time that it fails. */
  private synchronously = 0
  private nextSynchronously = 1
  private lastWrite: Promise<unknown> = Promise.resolve()
  /** The host's tables that are named on the connection. */
  private readonly named = new Set<string>()

  constructor(connect: () => Connection, host: Connection | undefined, shared: boolean) {
    this.connect = connect
    this.host = host
    this.shared = shared
    this.capture = new SqliteCapture(host)
    this.mirroring = new SqliteMirroring(this.named)
  }

  get sliceMs(): number {
    return this.pace.isShared ? SHARED_MS : 2
  }

  async open(): Promise<void> {
    if (this.opened !== undefined) return
    this.opening ??= this.openSoon().finally(() => {
      this.opening = undefined
    })
    await this.opening
  }

  /** Once nobody keeps us from reading, as a connection does that recovers the log, or that is the last one and closes. */
  private async openSoon(): Promise<void> {
    const { closed } = this
    const connection = this.connectOrThrow()
    try {
      const patience = performance.now() + PATIENCE_MS
      while (!this.tryOpened(connection)) {
        if (performance.now() > patience) {
          throw new TillsyncError('ERR_BUSY', `The database could not be read for ${PATIENCE_MS} ms`, {
            retryable: true,
            hint: "Another connection has it for itself; where that is the host's, by locking_mode = EXCLUSIVE, share it: sqlite(db).",
          })
        }
        await sleep(LOCKED_MS)
        if (this.closed !== closed) throw new TillsyncError('ERR_STOPPED', 'The database was closed before it was open')
      }
    } catch (error) {
      if (!this.shared) connection.close()
      throw classify(error, 'Opening the database')
    }
  }

  private tryOpened(connection: Connection): boolean {
    try {
      if (!this.shared) this.furnish(connection)
      this.requireUsable(connection)
      this.opened = { connection, steps: new Steps(connection), file: fileOf(connection) }
      this.mirroring.forget()
      return true
    } catch (error) {
      if (isBusy(error)) return false
      throw error
    }
  }

  private requireUsable(connection: Connection): void {
    if (connection.readonly) {
      throw new TillsyncError('ERR_CONNECTION', 'The connection is read-only', { hint: 'Open it without `readonly`.' })
    }
    const odd = Object.keys(ANSWERS).find((name) => Number(connection.pragma(name, { simple: true })) !== ANSWERS[name])
    if (odd !== undefined) {
      throw new TillsyncError('ERR_CONNECTION', `The connection has PRAGMA ${odd} set, by which SQLite answers otherwise`, {
        hint: `PRAGMA ${odd} = ${ANSWERS[odd]}, as it is by default; or let the library open a connection of its own.`,
        context: { pragma: odd },
      })
    }
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
    if (isConnection(connection)) return connection
    throw new TillsyncError('ERR_CONNECTION', 'The function given to sqlite() returned no connection of better-sqlite3', {
      hint: "import Database from 'better-sqlite3'; sqlite(() => new Database(file)), not an async function.",
    })
  }

  /** Sets what concerns our own connection only; the file is the host's and stays as it is. */
  private furnish(connection: Connection): void {
    connection.pragma('busy_timeout = 0') // first: whatever else is asked may have to wait, and SQLite does so in its sleep
    const mode = connection.pragma('journal_mode', { simple: true })
    if (mode !== 'wal') {
      throw new TillsyncError('ERR_NOT_WAL', `The database is in journal mode '${String(mode)}', where reading blocks the cashier's commits`, {
        hint: "Is it the host's own file? Run PRAGMA journal_mode = WAL once, while nothing else is connected; or share the host's connection: sqlite(db).",
        context: { journalMode: mode },
      })
    }
    for (const [name, value] of Object.entries(ANSWERS)) connection.pragma(`${name} = ${value}`)
    // A commit that waits for the disk would keep the host waiting; `settle` makes up for it.
    connection.pragma('synchronous = NORMAL')
    connection.pragma('wal_autocheckpoint = 0')
  }

  async close(): Promise<void> {
    this.closed++
    const opened = this.opened
    this.opened = undefined
    if (opened !== undefined && !this.shared) opened.connection.close()
  }

  read<T>(work: () => Work<T>, { signal }: ReadOptions = {}): Promise<T> {
    return this.transact('BEGIN', work, signal)
  }

  async write<T>(work: () => Work<T>, { signal, alone, lazily, readsFirst, onHeld }: WriteOptions = {}): Promise<T> {
    return this.inTurn(async () => {
      const value = await this.transact(alone || readsFirst ? 'sliced' : 'BEGIN IMMEDIATE', work, signal, onHeld)
      await this.checkpoint()
      if (!lazily && !alone) await this.settle()
      return value
    })
  }

  async settle(): Promise<void> {
    const { opened } = this
    if (opened === undefined) return
    try {
      if (!(await syncLog(opened.file)) && !this.shared) opened.connection.pragma('wal_checkpoint(PASSIVE)')
    } catch (error) {
      throw classify(error, 'Writing to the disk')
    }
  }

  /** One after another, so that our own transactions are not in each other's way while one of them reads in slices. */
  private inTurn<T>(run: () => Promise<T>): Promise<T> {
    const done = this.lastWrite.then(run)
    this.lastWrite = done.catch(() => undefined)
    return done
  }

  private async transact<T>(
    mode: 'BEGIN' | 'BEGIN IMMEDIATE' | 'sliced',
    work: () => Work<T>,
    signal: AbortSignal | undefined,
    onHeld?: (ms: number) => void,
  ): Promise<T> {
    const patience = performance.now() + PATIENCE_MS
    for (let attempt = 0, overtaken = 0; ; attempt++) {
      await turn()
      const sliced = mode === 'sliced' && this.synchronously === 0
      if (mode !== 'BEGIN' && !sliced) await this.pace.rest()
      const done = sliced ? await this.attemptSliced(work, onHeld) : this.attempt(mode === 'BEGIN' ? mode : 'BEGIN IMMEDIATE', work, onHeld)
      if (typeof done === 'object') {
        if (sliced) this.nextSynchronously = 1
        else if (mode === 'sliced') this.synchronously--
        return done.value
      }
      if (signal?.aborted) throw new TillsyncError('ERR_ABORTED', 'The wait for the database was aborted', { cause: signal.reason })
      if (performance.now() > patience) {
        throw new TillsyncError('ERR_BUSY', `The database was busy for ${PATIENCE_MS} ms`, {
          retryable: true,
          hint: 'Another connection holds a transaction open for long.',
        })
      }
      if (done === undefined) await sleep(1 + Math.random() * Math.min(20, 2 ** attempt))
      else if (++overtaken === SLICED_TRIES) {
        this.synchronously = this.nextSynchronously
        this.nextSynchronously = Math.min(SYNCHRONOUS_TIMES, this.nextSynchronously * 2)
      }
    }
  }

  /** One try, synchronously; undefined when it is not our turn. */
  private attempt<T>(begin: string, work: () => Work<T>, onHeld: ((ms: number) => void) | undefined): { readonly value: T } | undefined {
    const { connection, steps } = this.open_()
    try {
      if (!this.begin(connection, begin)) return undefined
      if (begin !== 'BEGIN') this.look(steps)
      const began = performance.now()
      if (begin !== 'BEGIN') this.pace.look(steps.dataVersion())
      if (begin !== 'BEGIN') this.mirroring.begin()
      steps.begin()
      const value = steps.drive(work)
      this.commit(connection)
      if (begin !== 'BEGIN') this.held(performance.now() - began, onHeld)
      steps.committed()
      return { value }
    } catch (error) {
      return this.undo(connection, error)
    }
  }

  /**
   * One try, in which what is read before the first write is read in turns of the event loop, each in a transaction of its own:
   * they are as good as one where nobody has written in between. Undefined when it is not our turn.
   */
  private async attemptSliced<T>(
    work: () => Work<T>,
    onHeld: ((ms: number) => void) | undefined,
  ): Promise<{ readonly value: T } | 'overtaken' | undefined> {
    const { connection, steps } = this.open_()
    try {
      if (!this.begin(connection, 'BEGIN')) return undefined
      this.look(steps)
      const seen = steps.version()
      this.mirroring.begin()
      steps.begin()
      const running = work()
      let next = running.next()
      let began = performance.now()
      for (; next.done !== true; next = steps.advance(running, next.value)) {
        const writes = next.value.kind === 'writing' || steps.isWrite(next.value)
        if (!writes && performance.now() - began < TURN_MS) continue
        connection.exec('COMMIT')
        if (next.value.kind === 'writing' || !writes) await turn()
        if (writes) await this.pace.rest()
        if (this.opened?.connection !== connection || !this.begin(connection, writes ? 'BEGIN IMMEDIATE' : 'BEGIN')) return undefined
        this.look(steps)
        began = performance.now()
        this.pace.look(steps.dataVersion())
        if (steps.version() !== seen) {
          connection.exec('ROLLBACK')
          return 'overtaken'
        }
        if (writes) break
      }
      while (!next.done) next = steps.advance(running, next.value)
      this.commit(connection)
      this.held(performance.now() - began, onHeld)
      steps.committed()
      return { value: next.value }
    } catch (error) {
      return this.undo(connection, error)
    }
  }

  private held(ms: number, onHeld: ((ms: number) => void) | undefined): void {
    this.pace.held(ms)
    onHeld?.(ms)
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

  /** A host that shares its connection may have made a temporary table a moment ago; that changes nothing in the file. */
  private look(steps: Steps): void {
    if (this.shared) steps.drive(() => refuseHidden(this.named))
  }

  private commit(connection: Connection): void {
    try {
      connection.exec('COMMIT')
    } catch (error) {
      throw isForeignKey(error) ? unsatisfiedAtEnd(this.mirroring.written, error) : error
    }
  }

  /** Undefined where the transaction met another one; the same one works later. */
  private undo(connection: Connection, error: unknown): undefined {
    if (connection.open && connection.inTransaction) connection.exec('ROLLBACK')
    if (!isBusy(error)) throw classify(error, 'A transaction failed')
  }

  /** Returns in another turn of the event loop than the one that it has used. */
  private async checkpoint(): Promise<void> {
    const { opened } = this
    if (opened === undefined || this.shared) return
    const { connection, steps, file } = opened
    const { inserted } = steps
    steps.inserted = 0
    if (!this.growth.isDue(file, inserted, this.pace.others)) return
    await turn()
    try {
      connection.pragma('wal_checkpoint(PASSIVE)')
    } catch {
      // Nothing depends on it: what can't be copied now stays in the -wal file, until the next one or the end of the last connection.
    }
  }

  private open_(): Opened {
    if (this.opened !== undefined) return this.opened
    throw new TillsyncError('ERR_STOPPED', 'The database is not open', { hint: 'Call install() or start() first; after stop() only those.' })
  }

  /** BEGIN IMMEDIATE is exclusive already. */
  *lockInstall(): Work<void> {}

  /** UTF-8 or UTF-16. */
  *requireUnicode(): Work<void> {}

  /** There is one lock, and it is ours by then. */
  *giveWay(): Work<void> {}

  describe(names: readonly string[]): Work<ReadonlyMap<string, HostTable>> {
    for (const name of names) this.named.add(name)
    return describe(names)
  }

  *requireReadable([root]: readonly string[], statements: readonly Statement[]): Work<void> {
    try {
      for (const { sql, parameters } of statements) yield* query({ sql: `EXPLAIN ${sql}`, parameters })
    } catch (error) {
      throw notReadable(root as string, error)
    }
  }

  qualify(table: string): string {
    return quote(table)
  }

  /** The key comes first in a WHERE, so that its values come before the statement's other parameters. */
  keyed(_table: HostTable | OwnTable, columns: readonly string[], referred?: ReferredColumns): string {
    const collations = referred === undefined ? [] : collationsOf(referred)
    return columns.map((name, n) => `${quote(name)} = ?${collations[n] ? ` COLLATE ${quote(collations[n])}` : ''}`).join(' AND ')
  }

  keyOf(_columns: readonly HostColumn[], recordId: string): Key {
    return decodeKey(recordId)
  }

  encoderOf(): (value: unknown) => string {
    return encodeValue
  }

  watch(listener: () => void): () => void {
    const { steps, file } = this.open_()
    return this.shared ? watchShared(listener) : watchCommits(steps, file, listener)
  }
}

/** Which values are equal says the unique index that is referred to, as for a foreign key (https://www.sqlite.org/foreignkeys.html), and not the column that refers. */
function collationsOf({ table: { uniques }, columns }: ReferredColumns): readonly string[] {
  const unique = uniques.find(
    ({ where, columns: own }) => where === undefined && own.length === columns.length && own.every(({ name }) => columns.includes(name)),
  )
  return columns.map((column) => unique?.columns.find(({ name }) => name === column)?.collation ?? 'BINARY')
}
