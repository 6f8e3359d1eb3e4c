import type { Database } from 'better-sqlite3'
import Big from 'big.js'
import type { Pool } from 'pg'
import type { RegisterName } from '../../src/index.ts'
import { COLUMNS, SALE_TABLES, type SaleTable } from './tables.ts'

/** What stands in the tables of a sale, as sorted texts; and what was moved, summed up. The same for a till and for its copies. */
export interface Books extends Readonly<Record<SaleTable, readonly string[]>> {
  readonly movements: readonly string[]
}

const DIMENSIONS = ['item_no', 'location', 'business_date', 'document_no', 'customer_no'] as const
type Posting = Readonly<Record<(typeof DIMENSIONS)[number], string | null> & { quantity: string; amount: string }>

/** What central must have of a till, by the till's own tables: everything but open receipts; voided ones move nothing. */
export function tillBooks(db: Database): Books {
  const sent = "SELECT id FROM receipts WHERE status <> 'open'"
  const rows = (table: SaleTable) =>
    db.prepare(`SELECT * FROM ${table} WHERE ${table === 'receipts' ? 'id' : 'receipt_id'} IN (${sent})`).all() as Record<string, unknown>[]
  const postings = db
    .prepare(
      `SELECT item_no, location, business_date, receipt_no AS document_no, customer_no, quantity, l.net_amount AS amount
       FROM receipts r JOIN receipt_lines l ON l.receipt_id = r.id WHERE status NOT IN ('open', 'voided')`,
    )
    .all() as Posting[]
  return {
    ...booksOf(rows),
    movements: sumUp(postings.map((posting) => ({ ...posting, quantity: new Big(posting.quantity).neg().toFixed() }))),
  }
}

/** What central's mirrored tables and its ledger hold of a register. */
export async function centralBooks(pool: Pool, { location, register }: RegisterName): Promise<Books> {
  const rows = new Map<SaleTable, Record<string, unknown>[]>()
  for (const table of SALE_TABLES) {
    const columns = COLUMNS[table].map((name) => `${name}::text`).join(', ')
    rows.set(table, (await pool.query(`SELECT ${columns} FROM ${table} WHERE location = $1 AND register = $2`, [location, register])).rows)
  }
  const { rows: postings } = await pool.query<Posting>(
    `SELECT ${DIMENSIONS.map((name) => `m.${name}::text`).join(', ')}, m.quantity::text, m.amount::text
     FROM stock_movements m JOIN sync_registers r USING (register_id) WHERE r.location = $1 AND r.register = $2`,
    [location, register],
  )
  return { ...booksOf((table) => rows.get(table) ?? []), movements: sumUp(postings) }
}

/** The latest versions in central's archive, less what was removed. */
export async function archivedBooks(pool: Pool, { location, register }: RegisterName): Promise<Omit<Books, 'movements'>> {
  const { rows } = await pool.query<{ table_name: SaleTable; record: string }>(
    `SELECT a.table_name, a.record FROM sync_registers r JOIN sync_documents d USING (register_id)
     JOIN sync_archive a ON a.register_id = d.register_id AND a.epoch_no = d.epoch_no AND a.entry_no >= d.entry_no AND a.entry_no < d.entry_no + d.entries
     WHERE d.state IS DISTINCT FROM 'lost' AND r.location = $1 AND r.register = $2 AND NOT d.removed`,
    [location, register],
  )
  return booksOf((table) => rows.filter((row) => row.table_name === table).map((row) => JSON.parse(row.record) as Record<string, unknown>))
}

/** Every posting stands once, and the levels are the sum of the movements. */
export async function isLedgerSound(pool: Pool): Promise<boolean> {
  const { rows } = await pool.query<{ doubled: string; wrong: string }>(`
    SELECT (SELECT count(*) - count(DISTINCT (register_id, table_name, record_id, incarnation, revision, item_no, location, business_date, document_no,
              customer_no, dimensions::text)) FROM stock_movements) AS doubled,
           (SELECT count(*) FROM (SELECT item_no, location, sum(quantity) AS quantity FROM stock_movements GROUP BY 1, 2) m
              FULL JOIN stock_levels l USING (item_no, location) WHERE coalesce(m.quantity, 0) <> coalesce(l.quantity, 0)) AS wrong`)
  return rows[0]?.doubled === '0' && rows[0]?.wrong === '0'
}

function booksOf(rows: (table: SaleTable) => readonly Record<string, unknown>[]): Record<SaleTable, string[]> {
  return Object.fromEntries(
    SALE_TABLES.map((table) => [
      table,
      rows(table)
        .map((row) => COLUMNS[table].map((name) => String(row[name])).join(' | '))
        .sort(),
    ]),
  ) as Record<SaleTable, string[]>
}

function sumUp(postings: readonly Posting[]): string[] {
  const groups = Map.groupBy(postings, (posting) => DIMENSIONS.map((name) => posting[name]).join(' | '))
  const total = (all: readonly Posting[], field: 'quantity' | 'amount') => all.reduce((sum, one) => sum.plus(one[field]), new Big(0)).toFixed()
  return [...groups]
    .map(([name, all]) => ({ name, quantity: total(all, 'quantity'), amount: total(all, 'amount') }))
    .filter(({ quantity, amount }) => quantity !== '0' || amount !== '0')
    .map(({ name, quantity, amount }) => `${name}: ${quantity}, ${amount}`)
    .sort()
}
