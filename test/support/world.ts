import { rmSync, writeFileSync } from 'node:fs'
import Database from 'better-sqlite3'
import type { Pool } from 'pg'
import type { Test } from 'tap'
import type { Register } from '../../src/index.ts'
import { Cashier } from './sales.ts'
import type { Till } from './shop.ts'

/** A till whose database can be put back to an earlier moment, as its owner would from a backup. */
export class Machine {
  readonly till: Till
  db: Database.Database
  cashier: Cashier
  replica: Register
  private readonly t: Test

  constructor(t: Test, till: Till) {
    this.t = t
    this.till = till
    this.db = till.db
    this.cashier = till.cashier
    this.replica = till.replica
  }

  /** The database as it is now, whole. */
  backup(): Buffer {
    return this.db.serialize()
  }

  /** The process ends, the file is replaced, both come back. */
  async restore(backup: Buffer): Promise<void> {
    await this.replica.stop()
    this.db.close()
    for (const suffix of ['-wal', '-shm']) rmSync(this.till.file + suffix, { force: true })
    writeFileSync(this.till.file, backup)
    this.db = new Database(this.till.file)
    const { db } = this
    this.t.teardown(() => db.close())
    this.cashier = new Cashier(this.db, this.till.location)
    this.replica = this.till.again()
    await this.replica.install()
  }
}

/** All tables of a PostgreSQL database as they are now, kept in a schema of their own. */
export async function backupOf(pool: Pool, name: string): Promise<void> {
  await pool.query(`CREATE SCHEMA ${name}`)
  for (const table of await tablesOf(pool)) await pool.query(`CREATE TABLE ${name}.${table} AS TABLE public.${table}`)
}

/** Puts them back. */
export async function restoreFrom(pool: Pool, name: string): Promise<void> {
  for (const table of await tablesOf(pool))
    await pool.query(
      `BEGIN; ALTER TABLE ${table} DISABLE TRIGGER ALL; DELETE FROM ${table}; INSERT INTO ${table} OVERRIDING SYSTEM VALUE TABLE ${name}.${table}; ALTER TABLE ${table} ENABLE TRIGGER ALL; COMMIT`,
    )
}

async function tablesOf(pool: Pool): Promise<string[]> {
  const { rows } = await pool.query<{ name: string }>("SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'public'")
  return rows.map(({ name }) => name)
}
