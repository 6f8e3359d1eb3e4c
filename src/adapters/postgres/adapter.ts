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
import { dialectOf } from './dialect.ts'
import { classify, faultOf } from './errors.ts'
import { inspect } from './inspect.ts'
import { describe } from './introspect.ts'
import { keyed } from './lookup.ts'
import { PostgresMirroring } from './mirroring.ts'
import { OWN_TYPES } from './parsers.ts'
import { LOCK_BRIEFLY, notReadable, ReadTables, readableOf } from './reading.ts'
import { addColumns, createTable, quote } from './tables.ts'
import { refuseEnded, Transactions } from './transactions.ts'
import { literal } from './triggers.ts'
import { encoderOf, keyOf } from './values.ts'
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

const SERVER = `SELECT pg_catalog.getdatabaseencoding() AS encoding, pg_catalog.current_setting('server_version_num') AS version,
  pg_catalog.current_setting('default_transaction_isolation') AS isolation`
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
  private readonly transactions: Transactions
  private opening: Promise<void> | undefined
  /** What comes back may be an older copy, where transaction ids are lower: then nothing is known of them. */
  private readonly lost = (): void => this.capture.ended(false)

  constructor(pool: Pool, schema: string) {
    this.pool = pool
    this.schema = schema
    this.capture = new PostgresCapture(schema)
    this.reading = new ReadTables(schema)
    this.transactions = new Transactions({ pool, schema, qualify: (name) => this.qualify(name), capture: this.capture, reading: this.reading })
    this.build = new Kysely<AnyTables>({ dialect: dialectOf(new DummyDriver()) }).withSchema(schema)
    this.mirroring = new PostgresMirroring(schema, (name) => this.qualify(name))
  }

  async open(): Promise<void> {
    if (this.transactions.isOpen) return
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
        if (encoding === 'SQL_ASCII') throw unfit('has no encoding (SQL_ASCII): what is no UTF-8 in its texts would arrive as something else')
        this.transactions.open({ isBounded: Number(version) >= 170_000, isStrict: isolation === 'serializable' })
      } finally {
        client.release()
      }
    } catch (error) {
      this.pool.off('acquire', attend)
      throw classify(error, 'Connecting to PostgreSQL')
    }
    this.pool.on('error', this.lost)
  }

  async close(): Promise<void> {
    await this.opening?.catch(() => undefined)
    if (!this.transactions.isOpen) return
    this.pool.off('acquire', attend)
    this.pool.off('error', this.lost)
    this.transactions.close()
  }

  read<T>(work: () => Work<T>, options?: ReadOptions): Promise<T> {
    return this.transactions.read(work, options)
  }

  write<T>(work: () => Work<T>, options?: WriteOptions): Promise<T> {
    return this.transactions.write(work, options)
  }

  async settle(): Promise<void> {
    try {
      await this.pool.query(FLUSH)
    } catch (error) {
      throw classify(error, 'Writing to the disk')
    }
  }

  *lockInstall(): Work<void> {
    yield* query({ sql: `SELECT pg_advisory_xact_lock(hashtextextended('tillsync.install', 0))`, parameters: [] })
  }

  *lockReceiving(): Work<void> {
    yield* query({
      sql: `${LOCK_BRIEFLY}; SELECT pg_advisory_xact_lock(hashtextextended(${literal(`tillsync.receiving.${this.schema}`)}, 0))`,
      parameters: [],
    })
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

  *run(statements: readonly string[]): Work<void> {
    if (statements.length > 0) yield* query({ sql: statements.join(';\n'), parameters: [] })
  }

  *dropTable(name: string): Work<void> {
    yield* query({ sql: `DROP TABLE IF EXISTS ${this.qualify(name)}`, parameters: [] })
  }

  watch(listener: () => void): () => void {
    return watchTouches(
      { pool: this.pool, poll: () => this.capture.poll(), onLost: this.lost, unbounded: this.transactions.unbounded.join('; ') },
      listener,
    )
  }
}

function unfit(what: string): TillsyncError {
  return new TillsyncError('ERR_CONNECTION', `The database ${what}`, {
    hint: "Load a dump of it into one that was made by CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0.",
  })
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
