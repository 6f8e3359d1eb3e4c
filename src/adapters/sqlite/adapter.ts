import type { Database as Connection } from 'better-sqlite3'
import { DummyDriver, Kysely, SqliteAdapter, SqliteIntrospector, SqliteQueryCompiler } from 'kysely'
import { TillsyncError } from '../../errors.ts'
import type { HostColumn, HostTable } from '../../host-table.ts'
import type { AnyTables } from '../../model.ts'
import { bad, known } from '../../options.ts'
import type { OwnTable } from '../../own-table.ts'
import type { ApplyingDatabase, CapturingDatabase, ReadOptions, ReferredColumns, WriteOptions } from '../../ports.ts'
import { type Key, query, type Statement, type Work } from '../../work.ts'
import { SqliteCapture } from './capture.ts'
import { faultOf, notReadable } from './errors.ts'
import { inspect } from './inspect.ts'
import { describe } from './introspect.ts'
import { SqliteMirroring } from './mirroring.ts'
import { isConnection, Opening } from './opening.ts'
import { SHARED_MS } from './pace.ts'
import { addColumns, columnsOf, createTable, dropTable, run } from './tables.ts'
import { Transactions } from './transactions.ts'
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
  readonly addColumns = addColumns
  readonly columnsOf = columnsOf
  readonly run = run
  readonly inspect = inspect
  readonly dropTable = dropTable
  readonly faultOf = faultOf
  readonly mirroring: SqliteMirroring
  private readonly shared: boolean
  private readonly opening: Opening
  private readonly transactions: Transactions
  /** The host's tables that are named on the connection. */
  private readonly named = new Set<string>()

  constructor(connect: () => Connection, host: Connection | undefined, shared: boolean) {
    this.shared = shared
    this.capture = new SqliteCapture(host)
    this.mirroring = new SqliteMirroring(this.named)
    this.opening = new Opening(connect, shared, () => this.mirroring.forget())
    this.transactions = new Transactions({ opening: this.opening, mirroring: this.mirroring, host, shared, named: this.named })
  }

  get sliceMs(): number {
    return this.transactions.isShared ? SHARED_MS : 2
  }

  open(): Promise<void> {
    return this.opening.open()
  }

  close(): Promise<void> {
    return this.opening.close()
  }

  read<T>(work: () => Work<T>, options?: ReadOptions): Promise<T> {
    return this.transactions.read(work, options)
  }

  write<T>(work: () => Work<T>, options?: WriteOptions): Promise<T> {
    return this.transactions.write(work, options)
  }

  settle(): Promise<void> {
    return this.transactions.settle()
  }

  /** BEGIN IMMEDIATE is exclusive already. */
  *lockInstall(): Work<void> {}

  *lockReceiving(): Work<void> {}

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
    const { steps, file } = this.opening.require()
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
