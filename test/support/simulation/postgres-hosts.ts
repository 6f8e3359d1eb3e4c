import type { Pool } from 'pg'
import { postgres } from '../../../src/adapters/postgres/adapter.ts'
import { createRegister } from '../../../src/index.ts'
import type { CapturingDatabase } from '../../../src/ports.ts'
import type { Host, Hosts } from './hosts.ts'
import { type RowBackup, Rows } from './row-backup.ts'
import { publishRules, TILL_TABLES } from './tables.ts'

/** Tills on PostgreSQL, each in a schema of its own, which the next schedule uses again. */
export class PostgresHosts implements Hosts {
  private readonly pool: Pool
  private readonly free: PostgresHost[] = []
  private made = 0

  constructor(pool: Pool) {
    this.pool = pool
  }

  async open(): Promise<Host> {
    const host = this.free.pop() ?? (await this.make())
    await host.begin()
    return host
  }

  release(host: PostgresHost): void {
    this.free.push(host)
  }

  private async make(): Promise<PostgresHost> {
    const schema = `till_${++this.made}`
    await this.pool.query(`CREATE SCHEMA ${schema}; SET search_path = ${schema}; ${TILL_TABLES}; RESET search_path`)
    const database = postgres(this.pool, { schema })
    const replica = createRegister({ location: 'any', register: 'any', database, publish: publishRules(false) })
    await replica.install()
    await replica.stop()
    await this.pool.query(`DELETE FROM ${schema}.sync_state WHERE key = 'epoch'`)
    return PostgresHost.make(this, this.pool, schema)
  }
}

class PostgresHost implements Host {
  private readonly hosts: PostgresHosts
  private readonly pool: Pool
  private readonly schema: string
  private readonly rows: Rows
  private readonly empty: RowBackup

  private constructor(hosts: PostgresHosts, pool: Pool, schema: string, rows: Rows, empty: RowBackup) {
    this.hosts = hosts
    this.pool = pool
    this.schema = schema
    this.rows = rows
    this.empty = empty
  }

  static async make(hosts: PostgresHosts, pool: Pool, schema: string): Promise<PostgresHost> {
    const rows = new Rows(pool, schema)
    return new PostgresHost(hosts, pool, schema, rows, await rows.backup())
  }

  async begin(): Promise<void> {
    await this.rows.restore(this.empty)
  }

  database(): CapturingDatabase {
    return postgres(this.pool, { schema: this.schema })
  }

  async run(statements: readonly string[]): Promise<void> {
    await this.pool.query(['BEGIN', `SET LOCAL search_path = ${this.schema}`, ...statements, 'COMMIT'].join(';'))
  }

  async query<Row>(sql: string): Promise<readonly Row[]> {
    const results = await this.pool.query(`BEGIN; SET LOCAL search_path = ${this.schema}; ${sql}; COMMIT`)
    return (results as unknown as { readonly rows: Row[] }[])[2]?.rows ?? []
  }

  backup(): Promise<unknown> {
    return this.rows.backup()
  }

  async restore(backup: unknown): Promise<void> {
    await this.rows.restore(backup as RowBackup)
  }

  async clone(): Promise<Host> {
    const host = await this.hosts.open()
    await host.restore(await this.backup())
    return host
  }

  async close(): Promise<void> {
    this.hosts.release(this)
  }
}
