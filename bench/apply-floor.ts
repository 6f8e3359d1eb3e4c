import type pg from 'pg'
import { CENTRAL_SCHEMA } from '../examples/demo/tables.ts'
import type { Batch } from '../src/model.ts'

/**
 * What a developer would write by hand for the same rows, where he trusts them: one statement a table, all entries of a batch in one
 * transaction. No checks, no documents, no differences: what comes twice is booked twice.
 */

/** The tables of head office, and those that the library would make itself, with the same keys; and the entries, already there. */
const SCHEMA = `${CENTRAL_SCHEMA}
  CREATE INDEX ON receipts (number, series, register, location);
  CREATE TABLE staging (entry_no bigint PRIMARY KEY, table_name text NOT NULL, record_id text NOT NULL, record text NOT NULL, document_no bigint NOT NULL, sealed_at timestamptz NOT NULL);
  CREATE TABLE archive (register text, entry_no bigint, table_name text NOT NULL, operation text NOT NULL, record_id text NOT NULL, record text, document_no bigint NOT NULL,
    sealed_at timestamptz NOT NULL, received_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (register, entry_no));
  CREATE TABLE standings (register text PRIMARY KEY, entry_no bigint NOT NULL);
  CREATE TABLE stock_movements (movement_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, item_no text NOT NULL, location text NOT NULL, business_date date, document_no text,
    customer_no text, quantity numeric(18, 6) NOT NULL, amount numeric(18, 6) NOT NULL, register text NOT NULL, receipt_id bigint NOT NULL,
    posted_at timestamptz NOT NULL DEFAULT now());
  CREATE TABLE stock_levels (item_no text COLLATE "C", location text COLLATE "C", quantity numeric(38, 6) NOT NULL, PRIMARY KEY (item_no, location));
  CREATE TABLE closings (location text, closing_no bigint, business_date date NOT NULL, document_no text, register text NOT NULL, quantity numeric(38, 6) NOT NULL,
    net_amount numeric(38, 6) NOT NULL, vat_amount numeric(38, 6) NOT NULL, gross_amount numeric(38, 6) NOT NULL, posted_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (location, closing_no));
  CREATE TABLE closing_lines (location text, closing_no bigint, line_no bigint, item_no text NOT NULL, vat_rate numeric(18, 6), customer_no text,
    quantity numeric(18, 6) NOT NULL, return_quantity numeric(18, 6) NOT NULL, net_amount numeric(18, 6) NOT NULL, vat_amount numeric(18, 6) NOT NULL,
    gross_amount numeric(18, 6) NOT NULL, PRIMARY KEY (location, closing_no, line_no))`

const BATCH = 's.entry_no > $2 AND s.entry_no <= $3'
const recordsOf = (table: string, columns: string) =>
  `staging s CROSS JOIN LATERAL json_to_record(s.record::json) AS r(${columns}) WHERE ${BATCH} AND s.table_name = '${table}'`

const RECEIPT = `id bigint, receipt_no text, series text, number bigint, business_date date, posted_at timestamp, customer_no text, status text,
  net_amount numeric, vat_amount numeric, gross_amount numeric`
const LINE = `id bigint, receipt_id bigint, line_no integer, item_no text, description text, quantity numeric, unit_price numeric, vat_rate numeric,
  net_amount numeric, vat_amount numeric, gross_amount numeric`
const TENDER = 'id bigint, receipt_id bigint, line_no integer, tender text, amount numeric'
const mirrored = (table: string, columns: string) =>
  `INSERT INTO ${table} SELECT 'BA01', $1, r.* FROM ${recordsOf(table, columns)} ON CONFLICT (location, register, id) DO NOTHING`

const MIRRORED = [mirrored('receipts', RECEIPT), mirrored('receipt_lines', LINE), mirrored('tender_lines', TENDER)]
const SALES = [
  `INSERT INTO archive (register, entry_no, table_name, operation, record_id, record, document_no, sealed_at)
   SELECT $1, s.entry_no, s.table_name, 'upsert', s.record_id, s.record, s.document_no, s.sealed_at FROM staging s WHERE ${BATCH}`,
  `WITH r AS (${mirrored('receipts', RECEIPT)} RETURNING id, business_date, receipt_no, customer_no),
     l AS (${mirrored('receipt_lines', LINE)} RETURNING receipt_id, item_no, quantity, net_amount),
     t AS (${mirrored('tender_lines', TENDER)}),
     moved AS (INSERT INTO stock_movements (item_no, location, business_date, document_no, customer_no, quantity, amount, register, receipt_id)
       SELECT l.item_no, 'BA01', r.business_date, r.receipt_no, r.customer_no, -l.quantity, l.net_amount, $1, r.id FROM l JOIN r ON r.id = l.receipt_id
       RETURNING item_no, location, quantity)
   INSERT INTO stock_levels AS s SELECT item_no, location, sum(quantity) FROM moved GROUP BY item_no, location ORDER BY item_no COLLATE "C", location COLLATE "C"
   ON CONFLICT (item_no, location) DO UPDATE SET quantity = s.quantity + excluded.quantity`,
]
const CLOSINGS = [
  `WITH closed AS (
     SELECT c.closing_no, c.business_date, g.series, g.first_no, g.last_no,
            (SELECT coalesce(max(k.closing_no), 0) FROM closings k WHERE k.location = 'BA01') + row_number() OVER (ORDER BY c.closing_no) AS number
     FROM (SELECT s.document_no, r.* FROM ${recordsOf('plu_closings', 'closing_no bigint, business_date date')}) c
     JOIN (SELECT s.document_no, r.* FROM ${recordsOf('plu_closing_ranges', 'series text, first_no bigint, last_no bigint')}) g USING (document_no)),
     summed AS (
     SELECT c.number, l.item_no, l.vat_rate, r.customer_no, sum(l.quantity) AS quantity, -sum(least(l.quantity, 0)) AS returned,
            sum(l.net_amount) AS net, sum(l.vat_amount) AS vat, sum(l.gross_amount) AS gross
     FROM closed c
     CROSS JOIN LATERAL (SELECT r.id, r.customer_no FROM receipts r
       WHERE r.location = 'BA01' AND r.register = $1 AND r.series = c.series AND r.number BETWEEN c.first_no AND c.last_no OFFSET 0) r
     CROSS JOIN LATERAL (SELECT * FROM receipt_lines l WHERE l.location = 'BA01' AND l.register = $1 AND l.receipt_id = r.id OFFSET 0) l GROUP BY 1, 2, 3, 4),
     headers AS (INSERT INTO closings (location, closing_no, business_date, document_no, register, quantity, net_amount, vat_amount, gross_amount)
       SELECT 'BA01', c.number, c.business_date, c.closing_no, $1, sum(quantity), sum(net), sum(vat), sum(gross) FROM closed c JOIN summed USING (number)
       GROUP BY c.number, c.business_date, c.closing_no)
   INSERT INTO closing_lines SELECT 'BA01', number, row_number() OVER (PARTITION BY number ORDER BY item_no, vat_rate, customer_no), item_no, vat_rate, customer_no,
     quantity, returned, net, vat, gross FROM summed`,
]
const STANDING = `INSERT INTO standings SELECT $1, $3 WHERE $2::bigint IS NOT NULL ON CONFLICT (register) DO UPDATE SET entry_no = excluded.entry_no`

export async function createFloor(client: pg.Client): Promise<void> {
  await client.query(SCHEMA)
}

/** Puts a batch where the floor begins. */
export async function stage(client: pg.Client, { entries }: Batch): Promise<void> {
  const firsts = new Map<unknown, number>()
  for (const { document, entryNo } of entries) if (!firsts.has(document)) firsts.set(document, entryNo)
  await client.query('INSERT INTO staging SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::timestamptz[])', [
    entries.map(({ entryNo }) => entryNo),
    entries.map(({ table }) => table),
    entries.map(({ recordId }) => recordId),
    entries.map(({ record }) => record),
    entries.map(({ document }) => firsts.get(document)),
    entries.map(({ sealedAt }) => sealedAt),
  ])
}

/** Archives, mirrors, posts and levels what is staged, in a transaction up to each of these entries, and with `closings` closes days. */
export function applyByHand(client: pg.Client, register: string, ends: readonly number[], closings: boolean): Promise<void> {
  return inTransactions(client, register, ends, [...SALES, ...(closings ? CLOSINGS : []), STANDING])
}

/** Only the rows of what was sold. */
export function mirrorByHand(client: pg.Client, register: string, ends: readonly number[]): Promise<void> {
  return inTransactions(client, register, ends, MIRRORED)
}

async function inTransactions(client: pg.Client, register: string, ends: readonly number[], statements: readonly string[]): Promise<void> {
  let after = 0
  for (const end of ends) {
    await client.query('BEGIN')
    for (const text of statements) await client.query(text, [register, after, end])
    await client.query('COMMIT')
    after = end
  }
}
