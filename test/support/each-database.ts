import Database from 'better-sqlite3'
import type { Pool } from 'pg'
import type { Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { type AnyTables, createRegister, type PublishRules, type Register, type RegisterOptions } from '../../src/index.ts'
import type { RegisterDatabase } from '../../src/ports.ts'
import { createPool, type Postgres } from './postgres.ts'
import { openDatabase } from './shop.ts'

/** A host's database that a register is on; it ends with the test. */
export interface Host {
  readonly dialect: 'sqlite' | 'postgres'
  /** Runs statements as the host. */
  exec(sql: string): Promise<void>
  query(sql: string): Promise<readonly unknown[]>
  /** The same as a process has it that is no register. */
  open(): RegisterDatabase
  /** A register over it, whose rules are not installed yet; `by` another version of the library. */
  create(publish: PublishRules<AnyTables>, options?: Partial<RegisterOptions<AnyTables>>, by?: typeof createRegister): Register
}

/** The same test on both kinds of database, with the same tables. */
export function onEachDatabase(t: Test, server: Postgres, name: string, tables: string, test: (t: Test, host: Host) => Promise<void>): void {
  t.test(`SQLite: ${name}`, async (t) => test(t, onSqlite(t, tables)))
  t.test(`PostgreSQL: ${name}`, async (t) => test(t, await onPostgres(t, await createPool(t, server), tables)))
}

const NAME = { location: 'BA01', register: 'POS1' }

function onSqlite(t: Test, tables: string): Host {
  const { db, file } = openDatabase(t, tables)
  return {
    dialect: 'sqlite',
    exec: async (sql) => void db.exec(sql),
    query: async (sql) => db.prepare(sql).all(),
    open: () => sqlite(() => new Database(file)),
    create: (publish, options, by = createRegister) =>
      ended(t, by({ ...NAME, database: sqlite(() => new Database(file), { host: db }), publish, ...options })),
  }
}

export async function onPostgres(t: Test, pool: Pool, tables: string): Promise<Host> {
  await pool.query(tables)
  return {
    dialect: 'postgres',
    exec: async (sql) => void (await pool.query(sql)),
    query: async (sql) => (await pool.query(sql)).rows,
    open: () => postgres(pool),
    create: (publish, options, by = createRegister) => ended(t, by({ ...NAME, database: postgres(pool), publish, ...options })),
  }
}

function ended(t: Test, till: Register): Register {
  t.teardown(() => till.stop())
  return till
}

/** What was sealed since it was last asked: `upsert items[1]`. Seals first. */
export function sealedBy(till: Register): () => Promise<string[]> {
  let after = 0
  return async () => {
    await till.seal()
    const entries = await till.entries({ after, limit: 1_000 })
    after = entries.at(-1)?.entryNo ?? after
    return entries.map(({ operation, table, recordId }) => `${operation} ${table}${JSON.stringify(recordId)}`)
  }
}
