import { rmSync, writeFileSync } from 'node:fs'
import Database from 'better-sqlite3'
import type { Pool, PoolConfig } from 'pg'
import type { Test } from 'tap'
import { postgres } from '../../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../../src/adapters/sqlite/adapter.ts'
import { createRegister, type Link, type Register, type RegisterName, type RegisterOptions } from '../../../src/index.ts'
import { httpLink } from '../../../src/transport/http.ts'
import { eventually } from '../eventually.ts'
import { openPool, type Postgres } from '../postgres.ts'
import { openDatabase, PUBLISH, type Shop } from '../shop.ts'
import { COLUMNS, SALE_TABLES, TILL_SCHEMA } from '../tables.ts'
import { backupOf, restoreFrom } from '../world.ts'

/** A till's database on either kind, with whatever process works on it. */
export interface Seat extends RegisterName {
  readonly token: string
  /** What another process opens it by. */
  readonly where: { readonly file: string } | { readonly config: PoolConfig }
  /** The next sales, as statements that are a transaction each. */
  sales(count: number): readonly string[]
  /** The next sale, with so many lines. */
  large(lines: number): string
  /** Runs one of them as the POS application. */
  sell(sale: string): Promise<void>
  /** A replica in this process. */
  replica(url: string, options?: SeatOptions): Register
  backup(): Promise<void>
  /** Back to the backup. Nobody may be connected. */
  restore(): Promise<void>
  /** The till's own tables, as an SQLite database. */
  tables(): Promise<Database.Database>
}

export interface SeatOptions extends Partial<Pick<RegisterOptions<unknown>, 'retainMs'>> {
  readonly link?: (inner: Link) => Link
  readonly timeoutMs?: number
  readonly recordsPerRun?: number
  readonly bytesPerRun?: number
  readonly everyMs?: number
}

export type Kind = 'sqlite' | 'postgres'
export const KINDS: readonly Kind[] = ['sqlite', 'postgres']

/** @param server where the till's own database is, if it is on PostgreSQL */
export async function openSeat(t: Test, kind: Kind, server: Postgres, shop: Shop, register = 'POS1'): Promise<Seat> {
  const name = { location: 'BA01', register }
  const { token } = await shop.central.registers.add(name)
  const host = kind === 'sqlite' ? onSqlite(t) : await onPostgres(t, server)
  let sold = 0
  const replica = (url: string, options: SeatOptions = {}): Register => {
    const { link = (inner: Link) => inner, timeoutMs = 5_000, retainMs = 0, ...transfer } = options
    const created = createRegister({
      ...name,
      database: host.database(),
      publish: PUBLISH,
      transfer: { type: 'push', link: link(httpLink({ url, token, timeoutMs })), recordsPerRun: 20, backoff: { minMs: 5, maxMs: 100 }, ...transfer },
      retainMs,
    })
    t.teardown(() => created.stop())
    return created
  }
  return {
    ...name,
    ...host,
    token,
    replica,
    sales: (count) => Array.from({ length: count }, () => saleOf(++sold)),
    large: (lines) => saleOf(++sold, lines),
  }
}

/** Books compared, and nothing left to do. */
export async function settles(t: Test, shop: Shop, seat: Seat, replica: Register, message: string): Promise<void> {
  await replica.synchronize()
  // What goes on in the background tries again with pauses.
  await eventually('what was away is found', async () => (await replica.status()).lastError === undefined).catch(() => undefined)
  t.match(await replica.status(), { pending: 0, unsealed: 0, parked: [], resealing: [], lastError: undefined }, message)
  const db = await seat.tables()
  await shop.balances(t, { ...seat, db } as never, message)
  db.close()
}

function saleOf(id: number, count = 1 + (id % 4)): string {
  const lines = Array.from({ length: count }, (_, n) => `(${id * 100_000 + n}, ${id}, 'I${(id + n) % 5}', '${n + 1}', '${id}.50')`)
  return `INSERT INTO receipts (id, receipt_no, location, business_date, posted_at, status, net_amount)
            VALUES (${id}, 'R-${id}', 'BA01', '2026-11-21', '2026-11-21T09:30:00Z', 'posted', '${id}.50');
          INSERT INTO receipt_lines (id, receipt_id, item_no, quantity, net_amount) VALUES ${lines.join(', ')};
          INSERT INTO tender_lines (id, receipt_id, tender, amount) VALUES (${id}, ${id}, 'cash', '${id}.50')`
}

function onSqlite(t: Test) {
  const { file, db } = openDatabase(t, TILL_SCHEMA)
  db.close()
  let kept: Buffer = Buffer.alloc(0)
  const open = (): Database.Database => new Database(file)
  return {
    where: { file },
    database: () => sqlite(open),
    async sell(sale: string) {
      const host = open()
      host.exec(`BEGIN IMMEDIATE; ${sale}; COMMIT`)
      host.close()
    },
    async backup() {
      const host = open()
      kept = host.serialize()
      host.close()
    },
    async restore() {
      for (const suffix of ['-wal', '-shm']) rmSync(file + suffix, { force: true })
      writeFileSync(file, kept)
    },
    tables: async () => open(),
  }
}

async function onPostgres(t: Test, server: Postgres) {
  const { config } = await server.createDatabase()
  const pool = openPool(t, config)
  await pool.query(TILL_SCHEMA)
  return {
    where: { config },
    database: () => postgres(pool),
    sell: async (sale: string) => void (await pool.query(`BEGIN; ${sale}; COMMIT`)),
    async backup() {
      await pool.query('DROP SCHEMA IF EXISTS kept CASCADE')
      await backupOf(pool, 'kept')
    },
    restore: () => restoreFrom(pool, 'kept'),
    tables: () => copyOf(pool),
  }
}

async function copyOf(pool: Pool): Promise<Database.Database> {
  const db = new Database(':memory:')
  db.exec(TILL_SCHEMA)
  for (const table of SALE_TABLES) {
    const columns: readonly string[] = table === 'receipts' ? [...COLUMNS.receipts, 'location', 'posted_at'] : COLUMNS[table]
    const insert = db.prepare(`INSERT INTO ${table} (${columns.join(', ')}) VALUES (${columns.map(() => '?').join(', ')})`)
    const { rows } = await pool.query(`SELECT ${columns.join(', ')} FROM ${table} ORDER BY id`)
    for (const row of rows) insert.run(columns.map((name) => row[name]))
  }
  return db
}
