import type { ApplyingDatabase } from '../ports.ts'
import { query, type Statement, type Work } from '../work.ts'
import { POSTED_CLOSINGS } from './closing-tables.ts'
import type { ReconcilePlan } from './reconcile-plan.ts'
import { behindOlder, readRegisters } from './replay-walk.ts'
import { ARCHIVE, DOCUMENTS, LIVES, POSTINGS, QUARANTINE, STOCK_MOVEMENTS } from './tables.ts'

/** A document that may be of the day, with the rows of `stock_movements` that it has caused, whatever their date: a JSON array of arrays. */
export interface CandidateRow {
  readonly register_id: number
  readonly table_name: string
  readonly record_id: string
  readonly incarnation: number
  readonly movements: string | null
}

/** Entries behind one number of an epoch. */
export interface Behind {
  readonly registerId: number
  readonly epochNo: number
  readonly after: number
}

const WEEK_MS = 7 * 24 * 3_600_000

/**
 * Where entries begin that were received a week before the day or later: a document's version is rarely older than its business date. What a till with a wrong clock has sent before is
 * found by what was posted for it.
 */
export function* beginningOf(database: ApplyingDatabase, registerIds: readonly number[], businessDate: string): Work<readonly Behind[]> {
  const since = new Date(Math.max(Date.parse(businessDate) - WEEK_MS, 0)).toISOString()
  const behind: Behind[] = []
  for (const { registerId, epochs } of yield* readRegisters(database))
    if (registerIds.includes(registerId))
      for (const epoch of epochs) behind.push({ registerId, epochNo: epoch.epochNo, after: yield* behindOlder(database, epoch, since) })
  return behind
}

/** Which documents are looked for. */
export interface WhichCandidates {
  readonly registerIds: readonly number[]
  readonly businessDate: string
  readonly behind: readonly Behind[]
  /** Closings, or all others. */
  readonly closings: boolean
}

/**
 * Documents that may be of the day: those of which something was posted on it, as it is remembered or as the ledgers have it; those whose root record names it; those of which nothing was posted
 * at all; and what is in quarantine. By register, table and record id.
 */
export function candidates(
  database: ApplyingDatabase,
  plan: ReconcilePlan,
  { registerIds, businessDate, behind, closings }: WhichCandidates,
): Statement {
  const [archive, documents, lives, postings, quarantine, stock, posted] = [
    ARCHIVE,
    DOCUMENTS,
    LIVES,
    POSTINGS,
    QUARANTINE,
    STOCK_MOVEMENTS,
    POSTED_CLOSINGS,
  ].map(({ name }) => database.qualify(name))
  const key = 'register_id, table_name, record_id, incarnation'
  const ours = `register_id = ANY ($1::bigint[]) AND table_name ${closings ? '= ANY' : '<> ALL'} ($2::text[])`
  const sources = [
    `SELECT ${key} FROM ${postings} WHERE ${ours} AND postings::text LIKE '%"businessDate":"' || $3::text || '"%'`,
    ...(plan.hasStock ? [`SELECT ${key} FROM ${stock} WHERE ${ours} AND business_date = $3::date`] : []),
    ...(closings ? [`SELECT ${key} FROM ${posted} WHERE ${ours} AND business_date = $3::date`] : []),
    `SELECT ${key} FROM ${quarantine} WHERE ${ours} AND table_name = ANY ($4::text[])`,
    `SELECT l.register_id, l.table_name, l.record_id, l.incarnation FROM (
       SELECT ${key}, epoch_no, entry_no FROM ${documents} WHERE ${ours} AND NOT removed
       UNION ALL
       SELECT l.register_id, l.table_name, l.record_id, l.incarnation, l.epoch_no, l.entry_no FROM ${lives} l
       CROSS JOIN LATERAL (SELECT removed, incarnation FROM ${documents} d
         WHERE d.register_id = l.register_id AND d.table_name = l.table_name AND d.record_id = l.record_id OFFSET 0) d
       WHERE ${ours} AND (d.removed OR d.incarnation <> l.incarnation)) l
     JOIN unnest($5::bigint[], $6::bigint[], $7::bigint[]) AS b(register_id, epoch_no, after)
       ON b.register_id = l.register_id AND b.epoch_no = l.epoch_no AND l.entry_no > b.after
     CROSS JOIN LATERAL (SELECT record FROM ${archive} a WHERE a.register_id = l.register_id AND a.epoch_no = l.epoch_no AND a.entry_no = l.entry_no OFFSET 0) a
     WHERE l.table_name = ANY ($4::text[]) AND (a.record LIKE '%' || $3::text || '%' OR NOT EXISTS (
       SELECT FROM ${postings} p WHERE p.register_id = l.register_id AND p.table_name = l.table_name AND p.record_id = l.record_id AND p.incarnation = l.incarnation))`,
  ]
  const columns = 'item_no, location, business_date, document_no, customer_no, dimensions, quantity, amount'
  const moved = `SELECT ${key}, item_no, location, to_char(business_date, 'YYYY-MM-DD') AS business_date, document_no, customer_no, dimensions::text AS dimensions,
                        sum(quantity)::text AS quantity, sum(amount)::text AS amount
                 FROM ${stock} JOIN c USING (${key}) GROUP BY ${key}, 5, 6, 7, 8, 9, 10`
  // Grouped, not joined once more, and the archive is read entry by entry: how many candidates there are nobody can estimate.
  return {
    sql: `WITH c AS MATERIALIZED (${sources.join(' UNION ')})
          SELECT ${key}, json_agg(json_build_array(${columns})) FILTER (WHERE item_no IS NOT NULL)::text AS movements FROM (
            SELECT ${key}, ${columns
              .split(', ')
              .map((name) => `NULL::text AS ${name}`)
              .join(', ')} FROM c ${plan.hasStock ? `UNION ALL ${moved}` : ''}) m
          GROUP BY ${key} ORDER BY ${key.replace('record_id', 'record_id COLLATE "C"')}`,
    parameters: [
      registerIds,
      plan.closingTables,
      businessDate,
      plan.tables,
      behind.map(({ registerId }) => registerId),
      behind.map(({ epochNo }) => epochNo),
      behind.map(({ after }) => after),
    ],
  }
}

/** What was posted for these documents, by ledger. */
export interface PostingRow {
  readonly n: number
  readonly ledger: string
  readonly revision: number
  readonly delivered: boolean
  readonly postings: string
}

export function postingsOf(
  database: ApplyingDatabase,
  rows: readonly Pick<CandidateRow, 'register_id' | 'table_name' | 'record_id' | 'incarnation'>[],
): Work<readonly PostingRow[]> {
  return query<PostingRow>({
    sql: `SELECT k.n, p.ledger, p.revision, p.delivered, p.postings
          FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS k(register_id, table_name, record_id, incarnation, n)
          JOIN ${database.qualify(POSTINGS.name)} p ON p.register_id = k.register_id AND p.table_name = k.table_name AND p.record_id = k.record_id AND p.incarnation = k.incarnation
          ORDER BY k.n, p.ledger, p.revision`,
    parameters: [
      rows.map((row) => row.register_id),
      rows.map((row) => row.table_name),
      rows.map((row) => row.record_id),
      rows.map((row) => row.incarnation),
    ],
  })
}
