import Big from 'big.js'
import type { Pool } from 'pg'
import type { Test } from 'tap'

const MONEY = ['net', 'vat', 'gross'] as const

/** What an auditor adds up: sums by item, VAT code and rate, and customer or anonymous, as sorted texts. */
async function sumsBy(pool: Pool, sql: string): Promise<string[]> {
  const { rows } = await pool.query<Record<string, string | null>>(sql)
  return rows
    .filter((row) => ['quantity', ...MONEY].some((name) => !new Big(row[name] ?? 0).eq(0)))
    .map((row) =>
      Object.entries(row)
        .map(([name, value]) => `${name}=${name === 'quantity' || MONEY.includes(name as never) ? new Big(value ?? 0).toFixed() : value}`)
        .join(' '),
    )
    .sort()
}

/** All receipts that central has mirrored, as they stand: voided ones count nothing. */
const RECEIPTS = `
  SELECT l.item_no AS item, l.vat_code AS code, l.vat_rate::numeric::float AS rate, r.customer_no AS customer, sum(l.quantity) AS quantity, sum(l.net_amount) AS net, sum(l.vat_amount) AS vat, sum(l.net_amount + l.vat_amount) AS gross
  FROM receipts r JOIN receipt_lines l ON (l.location, l.register, l.receipt_id) = (r.location, r.register, r.id) WHERE r.status = 'posted' GROUP BY 1, 2, 3, 4`

const CLOSINGS = `
  SELECT item_no AS item, vat_code AS code, vat_rate::float AS rate, customer_no AS customer, sum(quantity) AS quantity, sum(net_amount) AS net, sum(vat_amount) AS vat, sum(gross_amount) AS gross
  FROM posted_plu_closing_lines GROUP BY 1, 2, 3, 4`

const MOVED = 'SELECT item_no AS item, location, customer_no AS customer, -sum(quantity) AS quantity FROM stock_movements GROUP BY 1, 2, 3'
const CLOSED = 'SELECT item_no AS item, location, customer_no AS customer, sum(quantity) AS quantity FROM posted_plu_closing_lines GROUP BY 1, 2, 3'

/** The auditor's invariants; every receipt is in a closing that is posted. */
export async function audit(t: Test, pool: Pool, message: string): Promise<void> {
  t.same(
    await sumsBy(pool, CLOSINGS),
    await sumsBy(pool, RECEIPTS),
    `${message}: sum of receipts = sum of closing lines by item, VAT and customer group`,
  )
  t.same(await sumsBy(pool, CLOSED), await sumsBy(pool, MOVED), `${message}: closing quantity = − movements`)
  for (const [name, sql] of Object.entries(NONE)) t.same((await pool.query(sql)).rows, [], `${message}: ${name}`)
}

/** Each finds what must not be. */
const NONE = {
  'closing numbers are contiguous': `
    SELECT location, count(*), max(closing_no) FROM posted_plu_closings GROUP BY 1 HAVING count(*) <> max(closing_no) OR min(closing_no) <> 1`,
  'header = lines': `
    SELECT location, closing_no FROM posted_plu_closings c LEFT JOIN LATERAL (
      SELECT coalesce(sum(quantity), 0) q, coalesce(sum(return_quantity), 0) r, coalesce(sum(discount_amount), 0) d, coalesce(sum(net_amount), 0) n, coalesce(sum(vat_amount), 0) v, coalesce(sum(gross_amount), 0) g
      FROM posted_plu_closing_lines l WHERE (l.location, l.closing_no) = (c.location, c.closing_no)) l ON true
    WHERE (quantity, return_quantity, discount_amount, net_amount, vat_amount, gross_amount) <> (q, r, d, n, v, g)`,
  'gross = net + VAT': 'SELECT location, closing_no FROM posted_plu_closing_lines WHERE gross_amount <> net_amount + vat_amount',
  'each receipt is in one closing': `
    SELECT c.register_id, c.record_id, c.incarnation FROM sync_closing_receipts c
    LEFT JOIN sync_closing_ranges r ON r.register_id = c.register_id AND r.receipts_table = c.table_name AND r.series = c.series AND c.number BETWEEN r.first_no AND r.last_no
    GROUP BY 1, 2, 3 HAVING count(r.register_id) <> 1`,
  'a supplementary closing refers to the first of the same warehouse, register and document': `
    SELECT s.location, s.closing_no FROM posted_plu_closings s LEFT JOIN posted_plu_closings f ON f.location = s.location AND f.closing_no = s.supplements
    WHERE s.supplement_no > 0 AND (f.closing_no IS NULL OR f.supplement_no <> 0 OR f.closing_no >= s.closing_no OR (f.register_id, f.record_id, f.incarnation) <> (s.register_id, s.record_id, s.incarnation))`,
  'supplementary closings are numbered 1, 2, 3 …': `
    SELECT location, register_id, record_id, incarnation FROM posted_plu_closings GROUP BY 1, 2, 3, 4 HAVING max(supplement_no) <> count(*) - 1 OR count(DISTINCT supplement_no) <> count(*)`,
  'levels are the sum of movements': `
    SELECT item_no FROM (SELECT item_no, location, sum(quantity) q FROM stock_movements GROUP BY 1, 2) m FULL JOIN stock_levels l USING (item_no, location) WHERE coalesce(q, 0) <> coalesce(quantity, 0)`,
  'what is remembered is what was posted': `
    SELECT register_id, record_id FROM (SELECT register_id, record_id, sum((p ->> 'quantity')::numeric) q, sum((p ->> 'grossAmount')::numeric) g
      FROM sync_postings, json_array_elements(postings) p WHERE ledger = 'posted_plu_closings' GROUP BY 1, 2) p
    FULL JOIN (SELECT register_id, record_id, sum(quantity) q, sum(gross_amount) g FROM posted_plu_closings GROUP BY 1, 2) c USING (register_id, record_id)
    WHERE coalesce(p.q, 0) <> coalesce(c.q, 0) OR coalesce(p.g, 0) <> coalesce(c.g, 0)`,
} as const
