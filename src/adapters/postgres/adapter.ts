import { setTimeout as sleep } from 'node:timers/promises'
import {
  type CompiledQuery,
  type DatabaseConnection,
  type Driver,
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
} from 'kysely'
import type { Pool, PoolClient } from 'pg'
import { TillsyncError } from '../../errors.ts'
import type { AnyTables } from '../../model.ts'
import type { ApplyingDatabase, HostTable, OwnTable, Step, Work } from '../../ports.ts'
import { query } from '../../ports.ts'
import { copyRows } from './copy.ts'
import { classify, isConflict } from './errors.ts'
import { describe } from './introspect.ts'
import { PostgresMirroring } from './mirroring.ts'
import { copyTarget, createTable, eraseSql, insertSql, quote } from './tables.ts'

export interface PostgresOptions {
  /** The schema of the host's tables and of the library's. Default 'public'. */
  readonly schema?: string
}

/**
 * A PostgreSQL database, 14 or later, by the host's own pool; the host ends it after `stop()`.
 *
 * @throws ERR_OPTION where `pool` is no pool of `pg`
 */
export function postgres(pool: Pool, options: PostgresOptions = {}): ApplyingDatabase {
  if (typeof pool?.connect !== 'function' || typeof pool.query !== 'function') {
    throw new TillsyncError('ERR_OPTION', `Expected the first argument of postgres() to be a Pool of 'pg', got ${typeof pool}`, {
      hint: 'postgres(new pg.Pool({ connectionString }))',
    })
  }
  return new PostgresDatabase(pool, options.schema ?? 'public')
}

/** How often a transaction is tried that a conflict with another one ended. */
const TRIES = 8

/** Below this, the extra round trip of COPY costs more than it saves. */
const COPY_FROM_ROWS = 50

/** Values as the library reads them, whatever parsers the host has registered with `pg`: 64-bit counts as numbers, all else as text. */
const INT8 = 20
const BYTEA = 17
const BOOL = 16
const TEXT_ARRAYS = [1009, 1003]
const types = {
  getTypeParser(oid: number): (value: string) => unknown {
    if (oid === INT8 || oid === 23 || oid === 21) return Number
    if (oid === BOOL) return (value) => value === 't'
    if (oid === BYTEA) return (value) => Buffer.from(value.slice(2), 'hex')
    if (TEXT_ARRAYS.includes(oid)) return parseNames
    return (value) => value
  },
}

/** A text array in PostgreSQL's notation; only names come this way. */
function parseNames(value: string): string[] {
  return [...value.matchAll(/"((?:[^"\\]|\\.)*)"|([^{},"]+)/g)].map(([, quoted, plain]) => plain ?? (quoted ?? '').replace(/\\(.)/g, '$1'))
}

class PostgresDatabase implements ApplyingDatabase {
  readonly dialect = 'postgres'
  readonly build: Kysely<AnyTables>
  readonly mirroring: PostgresMirroring
  private readonly pool: Pool
  private readonly schema: string
  private isOpen = false

  constructor(pool: Pool, schema: string) {
    this.pool = pool
    this.schema = schema
    this.build = new Kysely<AnyTables>({ dialect: dialectOf(new DummyDriver()) }).withSchema(schema)
    this.mirroring = new PostgresMirroring((name) => this.qualify(name))
  }

  async open(): Promise<void> {
    if (this.isOpen) return
    try {
      await this.pool.query('SELECT 1')
    } catch (error) {
      throw classify(error, 'Connecting to PostgreSQL')
    }
    this.pool.on('error', survive)
    this.isOpen = true
  }

  async close(): Promise<void> {
    this.pool.off('error', survive)
    this.isOpen = false
  }

  read<T>(work: () => Work<T>, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<T> {
    return this.transact('REPEATABLE READ READ ONLY', work, options.signal)
  }

  write<T>(work: () => Work<T>, options: { readonly signal?: AbortSignal | undefined } = {}): Promise<T> {
    return this.transact('READ COMMITTED', work, options.signal)
  }

  private async transact<T>(isolation: string, work: () => Work<T>, signal: AbortSignal | undefined): Promise<T> {
    if (!this.isOpen)
      throw new TillsyncError('ERR_STOPPED', 'The database is not open', { hint: 'Call install() or start() first; after stop() only those.' })
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.attempt(isolation, work)
      } catch (error) {
        if (signal?.aborted) throw new TillsyncError('ERR_ABORTED', 'The transaction was aborted', { cause: signal.reason })
        const cause = error instanceof TillsyncError ? error.cause : error
        if (attempt === TRIES || !(isConflict(error) || isConflict(cause))) throw classify(error, 'A transaction failed')
        await sleep(Math.random() * 10 * 2 ** attempt)
      }
    }
  }

  private async attempt<T>(isolation: string, work: () => Work<T>): Promise<T> {
    const client = await this.pool.connect()
    client.on('error', survive)
    let broken: Error | undefined
    try {
      // The host's own settings of time zone and date order must not decide what a text from a till means.
      await client.query(`BEGIN ISOLATION LEVEL ${isolation}; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'`)
      const value = await this.drive(client, work)
      await client.query('COMMIT')
      return value
    } catch (error) {
      await client.query('ROLLBACK').catch((cause: Error) => {
        broken = cause
      })
      throw error
    } finally {
      client.off('error', survive)
      client.release(broken)
    }
  }

  private async drive<T>(client: PoolClient, work: () => Work<T>): Promise<T> {
    const steps = work()
    let next = steps.next()
    while (!next.done) {
      let answer: unknown
      try {
        answer = await this.step(client, next.value)
      } catch (error) {
        next = steps.throw(error)
        continue
      }
      next = steps.next(answer)
    }
    return next.value
  }

  private async step(client: PoolClient, step: Step): Promise<unknown> {
    switch (step.kind) {
      case 'query':
        return (await client.query({ text: step.sql, values: step.parameters as unknown[], types })).rows
      case 'insert': {
        const into = this.qualify(step.table.name)
        if (step.replaceBy === undefined && step.rows.length >= COPY_FROM_ROWS) await copyRows(client, copyTarget(step.table, into), step.rows)
        else await client.query(insertSql(step.table, into, step.replaceBy), columnsOf(step.rows))
        return undefined
      }
      case 'erase': {
        const sql = eraseSql(step.table, this.qualify(step.table.name), step.by)
        await client.query(sql, columnsOf(step.keys))
        return undefined
      }
      case 'call':
        return await step.call(new Kysely<AnyTables>({ dialect: dialectOf(new ClientDriver(client)) }))
      case 'lookup':
        throw new TillsyncError('ERR_DATABASE', 'Lookups by key belong to capture, which this version does on SQLite only')
    }
  }

  *lockInstall(): Work<void> {
    yield* query({ sql: `SELECT pg_advisory_xact_lock(hashtextextended('tillsync.install', 0))`, parameters: [] })
  }

  describe(names: readonly string[]): Work<ReadonlyMap<string, HostTable>> {
    return describe(this.schema, names)
  }

  qualify(table: string): string {
    return `${quote(this.schema)}.${quote(table)}`
  }

  createTable(table: OwnTable): readonly string[] {
    return createTable(table, (name) => this.qualify(name))
  }

  *hasTable(name: string): Work<boolean> {
    return (yield* query<{ oid: string | null }>({ sql: 'SELECT to_regclass($1) AS oid', parameters: [this.qualify(name)] }))[0]?.oid !== null
  }

  *dropTable(name: string): Work<void> {
    yield* query({ sql: `DROP TABLE IF EXISTS ${this.qualify(name)}`, parameters: [] })
  }
}

/**
 * When the server goes away, `pg` says so to each connection beside failing its query; with nobody listening that would
 * end the host's process. The pool replaces the connection, and what was going on fails and is tried again.
 */
function survive(): void {}

/** Rows turned into one array a column, as `unnest` takes them. */
function columnsOf(rows: readonly (readonly unknown[])[]): unknown[][] {
  return (rows[0] ?? []).map((_, at) => rows.map((row) => row[at]))
}

function dialectOf(driver: Driver) {
  return {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => driver,
    createIntrospector: (db: Kysely<AnyTables>) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  }
}

/** Runs a host handler's Kysely statements on the connection of the batch's transaction, which stays the library's to end. */
class ClientDriver implements Driver {
  private readonly connection: DatabaseConnection

  constructor(client: PoolClient) {
    this.connection = {
      async executeQuery<R>(compiled: CompiledQuery): Promise<QueryResult<R>> {
        const result = await client.query(compiled.sql, compiled.parameters as unknown[])
        return { rows: result.rows as R[], numAffectedRows: BigInt(result.rowCount ?? 0) }
      },
      streamQuery: () => {
        throw new TillsyncError('ERR_HANDLER', 'A handler cannot stream inside the transaction of a batch')
      },
    }
  }

  async init(): Promise<void> {}
  async acquireConnection(): Promise<DatabaseConnection> {
    return this.connection
  }
  async beginTransaction(): Promise<void> {
    throw new TillsyncError('ERR_HANDLER', 'A handler is inside the transaction of a batch already')
  }
  async commitTransaction(): Promise<void> {}
  async rollbackTransaction(): Promise<void> {}
  async releaseConnection(): Promise<void> {}
  async destroy(): Promise<void> {}
}
