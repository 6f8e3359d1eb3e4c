import { copyFileSync, rmSync } from 'node:fs'
import Database from 'better-sqlite3'
import type { Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import type { Register } from '../../src/index.ts'
import type { RegisterDatabase } from '../../src/ports.ts'
import { createPool, type Postgres } from './postgres.ts'
import { openDatabase } from './shop.ts'
import { type RowBackup, Rows } from './simulation/row-backup.ts'

/** A till's database, of either kind, that can be put back to a former moment. */
export interface TillHost {
  readonly dialect: 'sqlite' | 'postgres'
  readonly database: () => RegisterDatabase
  /** All in one transaction. */
  exec(statements: readonly string[]): Promise<void>
  /** Rows of texts. */
  rows(sql: string): Promise<readonly (readonly (string | null)[])[]>
  backup(): Promise<void>
  /** Says whether there was anything to put back. */
  restore(): Promise<boolean>
}

/** A register over a host, begun again whenever its database is another one. */
export class RestorableTill {
  readonly host: TillHost
  replica: Register
  /** Another process of it. */
  other: Register
  private readonly open: () => Register

  constructor(host: TillHost, open: () => Register) {
    this.host = host
    this.open = open
    this.replica = open()
    this.other = open()
  }

  async restart(): Promise<void> {
    await this.stop()
    this.replica = this.open()
    this.other = this.open()
    await this.replica.install()
  }

  async backup(): Promise<void> {
    await this.stop()
    await this.host.backup()
    await this.restart()
  }

  async restore(): Promise<boolean> {
    await this.stop()
    const done = await this.host.restore()
    await this.restart()
    return done
  }

  private async stop(): Promise<void> {
    await Promise.all([this.replica.stop(), this.other.stop()])
  }
}

export async function tillHost(t: Test, server: Postgres, dialect: TillHost['dialect'], schema: string): Promise<TillHost> {
  return dialect === 'postgres' ? onPostgres(t, server, schema) : onSqlite(t, schema)
}

const textOf = (value: unknown) => (value === null ? null : String(value))

function onSqlite(t: Test, schema: string): TillHost {
  const { file, db } = openDatabase(t, schema)
  db.close()
  const own = <T>(work: (db: Database.Database) => T): T => {
    const connection = new Database(file)
    try {
      return work(connection)
    } finally {
      connection.close()
    }
  }
  let isBackedUp = false
  return {
    dialect: 'sqlite',
    database: () => sqlite(() => new Database(file)),
    exec: async (statements) => own((db) => db.transaction(() => statements.forEach((sql) => void db.exec(sql)))()),
    rows: async (sql) => own((db) => (db.prepare(sql).raw().all() as unknown[][]).map((row) => row.map(textOf))),
    async backup() {
      own((db) => db.pragma('wal_checkpoint(TRUNCATE)'))
      copyFileSync(file, `${file}.backup`)
      isBackedUp = true
    },
    async restore() {
      if (!isBackedUp) return false
      for (const end of ['-wal', '-shm']) rmSync(file + end, { force: true })
      copyFileSync(`${file}.backup`, file)
      return true
    },
  }
}

async function onPostgres(t: Test, server: Postgres, schema: string): Promise<TillHost> {
  const pool = await createPool(t, server)
  await pool.query(schema)
  const rows = new Rows(pool, 'public')
  let backedUp: RowBackup | undefined
  return {
    dialect: 'postgres',
    database: () => postgres(pool),
    exec: async (statements) => void (await pool.query(['BEGIN', ...statements, 'COMMIT'].join(';'))),
    rows: async (sql) => (await pool.query({ text: sql, rowMode: 'array' })).rows.map((row: unknown[]) => row.map(textOf)),
    async backup() {
      backedUp = await rows.backup()
    },
    async restore() {
      if (backedUp === undefined) return false
      await rows.restore(backedUp)
      return true
    },
  }
}
