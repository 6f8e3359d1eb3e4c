import type pg from 'pg'
import { ITEMS, LINES, ROWS } from './shop.ts'

/** What head office has of registers that have sold for years, made by its database itself. */
export interface BuiltArchive {
  readonly entries: number
  readonly registers: number
  readonly epoch: string
  /** The digest at which each register's stream goes on; what is before it is no chain, and nothing here reads it. */
  readonly digest: string
}

/** Sales of each register. */
export function salesEach({ entries, registers }: Pick<BuiltArchive, 'entries' | 'registers'>): number {
  return Math.ceil(entries / registers / ROWS)
}

const SALES_AT_A_TIME = 20_000
const ENTRIES_A_POINT = 500

/** One row for each entry of the sales from $2 through $3 of the register $1, as columns of all tables that have one of it. */
const SOLD = `(
  SELECT no, n, (no - 1) * ${LINES} + n AS line_id, (no - 1) * ${ROWS} + n + 1 AS entry_no, (no - 1) * ${ROWS} + 1 AS first_no, '2026-01-01'::date + (no / 500)::int AS business_date,
         CASE WHEN no % 3 = 0 THEN 'C' || no % 997 END AS customer_no, '40063813' || lpad(((no * 31 + n * 7) % ${ITEMS})::text, 5, '0') AS item_no, 1 + n % 3 AS quantity
  FROM generate_series($2::bigint, $3::bigint) AS no CROSS JOIN generate_series(0, ${ROWS - 1}) AS n) AS s`
const [RECEIPT, LINE, TENDER] = ['n = 0', `n BETWEEN 1 AND ${LINES}`, `n = ${ROWS - 1}`] as const
const AMOUNTS = `'"net_amount":"12.50","vat_amount":"2.50","gross_amount":"15.00"}'`

const ROWS_OF_A_REGISTER = [
  `INSERT INTO sync_archive (register_id, epoch_no, entry_no, table_name, operation, record_id, record, document_no, sealed_at)
   SELECT $1, 1, entry_no, CASE WHEN ${RECEIPT} THEN 'receipts' WHEN ${TENDER} THEN 'tender_lines' ELSE 'receipt_lines' END, 'upsert',
          '[' || CASE WHEN ${LINE} THEN line_id ELSE no END || ']',
          CASE WHEN ${RECEIPT} THEN '{"id":' || no || ',"receipt_no":"R-' || no || '","series":"A","number":' || no || ',"business_date":"' || business_date
               || '","posted_at":"' || business_date || 'T10:00:00.000Z","customer_no":' || coalesce('"' || customer_no || '"', 'null') || ',"status":"posted",' || ${AMOUNTS}
               WHEN ${TENDER} THEN '{"id":' || no || ',"receipt_id":' || no || ',"line_no":1,"tender":"cash","amount":"15.00"}'
               ELSE '{"id":' || line_id || ',"receipt_id":' || no || ',"line_no":' || n || ',"item_no":"' || item_no || '","description":"Article number ' || item_no
               || '","quantity":"' || quantity || '","unit_price":"12.50","vat_rate":"20.0",' || ${AMOUNTS} END, first_no, '2026-01-01'
   FROM ${SOLD}`,
  `INSERT INTO sync_documents (register_id, table_name, record_id, incarnation, lives, removed, epoch_no, entry_no, entries, versions, born_epoch_no, born_entry_no)
   SELECT $1, 'receipts', '[' || no || ']', 1, 1, false, 1, first_no, ${ROWS}, 1, 1, first_no FROM ${SOLD} WHERE ${RECEIPT}`,
  `INSERT INTO sync_postings (register_id, table_name, record_id, incarnation, ledger, revision, delivered, epoch_no, entry_no, postings)
   SELECT $1, 'receipts', '[' || no || ']', 1, 'stock_movements', 1, true, 1, first_no,
          json_agg(json_build_object('item', item_no, 'location', 'BA01', 'businessDate', business_date, 'document', 'R-' || no, 'quantity', (-quantity)::text, 'amount', '12.50'))
   FROM ${SOLD} WHERE ${LINE} GROUP BY no, first_no ORDER BY no`,
  `INSERT INTO stock_movements (item_no, location, business_date, document_no, customer_no, quantity, amount, register_id, table_name, record_id, incarnation, revision, epoch_no, entry_no)
   SELECT item_no, 'BA01', business_date, 'R-' || no, customer_no, -quantity, 12.50, $1, 'receipts', '[' || no || ']', 1, 1, 1, first_no FROM ${SOLD} WHERE ${LINE}`,
  `INSERT INTO receipts SELECT 'BA01', 'POS' || $1::bigint, no, 'R-' || no, 'A', no, business_date, business_date, customer_no, 'posted', 12.50, 2.50, 15.00 FROM ${SOLD} WHERE ${RECEIPT}`,
  `INSERT INTO receipt_lines SELECT 'BA01', 'POS' || $1::bigint, line_id, no, n, item_no, 'Article number ' || item_no, quantity, 12.50, 20, 12.50, 2.50, 15.00 FROM ${SOLD} WHERE ${LINE}`,
  `INSERT INTO tender_lines SELECT 'BA01', 'POS' || $1::bigint, no, no, 1, 'cash', 15.00 FROM ${SOLD} WHERE ${TENDER}`,
]

const STANDINGS = [
  `INSERT INTO sync_epochs (register_id, epoch_no, epoch, parent_no, start_no, start_digest, state) SELECT register_id, 1, $1, 0, 0, '', 'current' FROM sync_registers`,
  `INSERT INTO sync_points (register_id, epoch_no, entry_no, digest)
   SELECT register_id, 1, no, sha256(int8send(no)) FROM sync_registers CROSS JOIN generate_series(${ENTRIES_A_POINT}, $1::bigint - 1, ${ENTRIES_A_POINT}) AS no`,
  `INSERT INTO sync_points (register_id, epoch_no, entry_no, digest) SELECT register_id, 1, $1::bigint, decode($2, 'hex') FROM sync_registers`,
  'UPDATE sync_registers SET epoch_no = 1, epoch = $3, entry_no = $1::bigint, digest = $2, contact_at = now(), head_no = $1::bigint',
  `INSERT INTO stock_levels SELECT item_no, location, sum(quantity) FROM stock_movements GROUP BY item_no, location`,
]

/** Everything that a row costs beside itself, foreign keys first. */
const INDEXES = `
  SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname) AS drop,
         format('ALTER TABLE %s ADD CONSTRAINT %I %s', conrelid::regclass, conname, pg_get_constraintdef(oid)) AS make, contype = 'f' AS refers
  FROM pg_constraint WHERE contype IN ('f', 'p') AND conrelid = ANY ($1::text[]::regclass[])
  UNION ALL SELECT format('DROP INDEX %s', indexrelid::regclass), pg_get_indexdef(indexrelid), false
  FROM pg_index WHERE NOT indisprimary AND indrelid = ANY ($1::text[]::regclass[]) ORDER BY refers DESC`
const FILLED = ['sync_archive', 'sync_documents', 'sync_postings', 'stock_movements', 'receipts', 'receipt_lines', 'tender_lines']

/** Fills the tables of a head office that knows registers POS1, POS2 … by the numbers 1, 2 …, and has taken nothing from them yet. */
export async function buildArchive(client: pg.Client, archive: BuiltArchive): Promise<void> {
  const sales = salesEach(archive)
  const { rows: indexes } = await client.query<{ drop: string; make: string }>(INDEXES, [FILLED])
  await client.query("SET synchronous_commit = off; SET maintenance_work_mem = '512MB'")
  for (const { drop } of indexes) await client.query(drop)
  for (let from = 1; from <= sales; from += SALES_AT_A_TIME) {
    for (let register = 1; register <= archive.registers; register++) {
      for (const text of ROWS_OF_A_REGISTER) await client.query(text, [register, from, Math.min(sales, from + SALES_AT_A_TIME - 1)])
    }
  }
  for (const { make } of indexes.toReversed()) await client.query(make)
  const { epoch, digest } = archive
  const head = sales * ROWS
  const parameters = [[epoch], [head], [head, digest], [head, digest, epoch], []]
  for (const [n, text] of STANDINGS.entries()) await client.query(text, parameters[n])
  await client.query('RESET ALL')
  await client.query('VACUUM ANALYZE') // as autovacuum does in time
  await client.query('CHECKPOINT')
}
