import pg from 'pg'
import type { Test } from 'tap'
import { type Postgres, startPostgres } from '../../examples/support/postgres.ts'

export type { Postgres }

/** A real PostgreSQL for one test file; it ends with it. */
export async function startServer(t: Test): Promise<Postgres> {
  const server = await startPostgres({ durable: false })
  t.teardown(() => server.stop())
  return server
}

/** A new, empty database on it, as a pool that ends with the test. */
export async function createPool(t: Test, server: Postgres, options: pg.PoolConfig = {}): Promise<pg.Pool> {
  const { config } = await server.createDatabase()
  return openPool(t, { ...config, ...options })
}

export function openPool(t: Test, config: pg.PoolConfig): pg.Pool {
  const pool = new pg.Pool(config)
  pool.on('error', () => undefined) // the server may be ended before the pool is
  t.teardown(() => pool.end())
  return pool
}
