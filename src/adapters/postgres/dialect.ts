import {
  type CompiledQuery,
  type DatabaseConnection,
  type Driver,
  type Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type QueryResult,
} from 'kysely'
import type { PoolClient } from 'pg'
import { TillsyncError } from '../../errors.ts'
import type { AnyTables } from '../../model.ts'
import { isAborted } from './errors.ts'

export function dialectOf(driver: Driver) {
  return {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => driver,
    createIntrospector: (db: Kysely<AnyTables>) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  }
}

/** What would end the transaction of a batch, or outlive it on a connection of the pool. */
const NOT_ITS_OWN =
  /^(begin|start|commit|end|abort|discard|reset|prepare\s+transaction|rollback(?!\s+((work|transaction)\s+)?to\b)|set(?!\s+(local|constraints|transaction)\b)|set\s+local\s+(role|session))\b/i

/** Runs a host handler's Kysely statements on the connection of the batch's transaction, which stays the library's to end. */
export class ClientDriver implements Driver {
  private readonly connection: DatabaseConnection
  private readonly client: PoolClient
  private ended = false
  private readonly running = new Set<Promise<unknown>>()
  /** What the first statement that failed by itself failed with; the handler may keep that to itself. */
  failure: unknown

  constructor(client: PoolClient) {
    this.client = client
    this.connection = {
      executeQuery: <R>(compiled: CompiledQuery) => this.execute<R>(compiled),
      streamQuery: () => {
        throw new TillsyncError('ERR_HANDLER', 'A handler cannot stream inside the transaction of a batch', { hint: 'Read in parts.' })
      },
    }
  }

  /** Whether a statement is under way. */
  get isRunning(): boolean {
    return this.running.size > 0
  }

  /** Waits for what was begun and not awaited: it would be lost, as if it had never been, or run when the connection is another's. */
  async settled(): Promise<void> {
    do {
      await Promise.allSettled(this.running)
      await new Promise(setImmediate)
    } while (this.isRunning)
  }

  /** From here on the connection is another's. */
  end(): void {
    this.ended = true
  }

  private async execute<R>({ sql, parameters }: CompiledQuery): Promise<QueryResult<R>> {
    if (this.ended) {
      throw new TillsyncError('ERR_HANDLER', 'The handler has ended, and its transaction is not its own any more', {
        hint: 'Await every statement before the function ends; its `trx` is of no use behind it.',
      })
    }
    if (NOT_ITS_OWN.test(sql.slice(commentsOf(sql)))) {
      throw new TillsyncError('ERR_HANDLER', 'A handler can neither begin nor end a transaction: it is inside that of a batch', {
        hint: 'SAVEPOINT and ROLLBACK TO are allowed; settings by SET LOCAL.',
      })
    }
    // One statement at a time: what stands behind a semicolon would go unseen.
    const config = { text: sql, values: parameters as unknown[], queryMode: 'extended' }
    const running = this.client.query(config)
    this.running.add(running)
    try {
      const result = await running
      return { rows: result.rows as R[], numAffectedRows: BigInt(result.rowCount ?? 0) }
    } catch (error) {
      if (!isAborted(error)) this.failure = error
      throw error
    } finally {
      this.running.delete(running)
    }
  }

  async init(): Promise<void> {}
  async acquireConnection(): Promise<DatabaseConnection> {
    return this.connection
  }
  async beginTransaction(): Promise<void> {
    throw new TillsyncError('ERR_HANDLER', 'A handler is inside the transaction of a batch already', { hint: 'Use `trx` itself.' })
  }
  async commitTransaction(): Promise<void> {}
  async rollbackTransaction(): Promise<void> {}
  async releaseConnection(): Promise<void> {}
  async destroy(): Promise<void> {}
}

/** How much of a statement is blanks and comments, which PostgreSQL lets stand inside each other, before it begins. */
function commentsOf(sql: string): number {
  let at = 0
  for (let depth = 0; at < sql.length; ) {
    if (sql.startsWith('/*', at)) depth++
    else if (depth > 0 && sql.startsWith('*/', at)) depth--
    else if (depth === 0 && sql.startsWith('--', at)) at = `${sql}\n`.indexOf('\n', at) - 1
    else {
      if (depth === 0 && !/[\s;(]/.test(sql[at] as string)) return at
      at++
      continue
    }
    at += 2
  }
  return at
}
