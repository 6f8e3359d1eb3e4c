import type pg from 'pg'
import type { Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type AnyTables, createRegister, type ListedEntry, type PublishRules, type Register } from '../../src/index.ts'
import { createPool, type Postgres } from './postgres.ts'

export const TABLES = `
  CREATE TABLE receipts (id bigint PRIMARY KEY, status text NOT NULL DEFAULT 'posted', total numeric);
  CREATE TABLE receipt_lines (id bigint PRIMARY KEY, receipt_id bigint NOT NULL, item_no text);
  CREATE INDEX ON receipt_lines (receipt_id)`
export const PUBLISH: PublishRules<AnyTables> = {
  receipts: { where: (eb) => eb('status', '=', 'posted') },
  receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
}

/** A register on PostgreSQL, in a database of its own. */
export interface PostgresTill {
  readonly pool: pg.Pool
  readonly replica: Register
  readonly replay: Replay
  /** All that was sealed since the last call: `upsert receipts[1]`. */
  sealed(): Promise<string[]>
  again(publish?: PublishRules<AnyTables>): Register
}

export async function openTill(
  t: Test,
  server: Postgres,
  options: { tables?: string; publish?: PublishRules<AnyTables>; schema?: string } = {},
): Promise<PostgresTill> {
  const pool = await createPool(t, server)
  await pool.query(options.tables ?? TABLES)
  const again = (publish = options.publish ?? PUBLISH) => {
    const replica = createRegister({ location: 'BA01', register: 'POS1', database: postgres(pool, { schema: options.schema ?? 'public' }), publish })
    t.teardown(() => replica.stop())
    return replica
  }
  const replica = again()
  await replica.install()
  let after = 0
  const sealed = async () => {
    await replica.seal()
    const entries = await replica.entries({ after, limit: 1_000 })
    after = entries.at(-1)?.entryNo ?? after
    return entries.map(({ operation, table, recordId }) => `${operation} ${table}${JSON.stringify(recordId)}`)
  }
  return { pool, replica, replay: new Replay(replica), sealed, again }
}

/** What the entries add up to, read on from where it was. */
export class Replay {
  private readonly replica: Register
  private readonly documents = new Map<string, { table: string; record: unknown }[]>()
  private after = 0
  private document = ''

  constructor(replica: Register) {
    this.replica = replica
  }

  async tables(): Promise<Record<string, unknown[]>> {
    for (;;) {
      const entries = await this.replica.entries({ after: this.after, limit: 1_000 })
      for (const entry of entries) this.add(entry)
      if (entries.length === 0) break
    }
    const tables: Record<string, unknown[]> = { receipts: [], receipt_lines: [] }
    for (const { table, record } of [...this.documents.values()].flat()) tables[table]?.push(record)
    return tables
  }

  private add({ entryNo, table, operation, recordId, record }: ListedEntry): void {
    if (entryNo !== this.after + 1) throw new Error(`Entry ${entryNo} follows ${this.after}`)
    this.after = entryNo
    if (table === 'receipts') {
      this.document = JSON.stringify(recordId)
      this.documents.set(this.document, [])
    }
    if (operation === 'remove') this.documents.delete(this.document)
    else this.documents.get(this.document)?.push({ table, record })
  }
}

const byId = (rows: unknown[] | undefined) => [...(rows ?? [])].sort((a, b) => Number((a as { id: number }).id) - Number((b as { id: number }).id))

export async function standing(pool: pg.Pool): Promise<Record<string, unknown[]>> {
  const rows = async (sql: string) => (await pool.query(sql)).rows
  return {
    receipts: await rows(`SELECT id::int, status, total::text FROM receipts WHERE status = 'posted'`),
    receipt_lines: await rows(
      `SELECT l.id::int, l.receipt_id::int, l.item_no FROM receipt_lines l JOIN receipts r ON r.id = l.receipt_id WHERE r.status = 'posted'`,
    ),
  }
}

/** What the entries add up to is what stands in the tables. Answers whether it is. */
export async function isComplete(t: Test, till: PostgresTill, message: string): Promise<boolean> {
  await till.replica.seal()
  const [found, wanted] = [await till.replay.tables(), await standing(till.pool)]
  return ['receipts', 'receipt_lines'].map((table) => t.same(byId(found[table]), byId(wanted[table]), `${message}: ${table}`)).every(Boolean)
}
