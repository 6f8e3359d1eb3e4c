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

export function dialectOf(driver: Driver) {
  return {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => driver,
    createIntrospector: (db: Kysely<AnyTables>) => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  }
}

/** Runs a host handler's Kysely statements on the connection of the batch's transaction, which stays the library's to end. */
export class ClientDriver implements Driver {
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
