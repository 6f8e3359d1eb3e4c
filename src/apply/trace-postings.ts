import { hasOwnTable } from '../migrate.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { isoTime } from './archived.ts'
import type { Waits } from './closing-completeness.ts'
import { CLOSING_RANGES, CLOSING_RECEIPTS, CLOSINGS, OPEN_CLOSINGS, POSTED_CLOSINGS } from './closing-tables.ts'
import { POSTINGS } from './tables.ts'

/** What was posted for a document at one time. Never changed: its correction is another one. */
export interface TracedPosting {
  /** `stock_movements`, `posted_plu_closings`, or the host's own. */
  readonly ledger: string
  /** Which life of the key. */
  readonly incarnation: number
  /** How often something was posted to the ledger for the document, this time included. */
  readonly revision: number
  /** False: what the host had booked itself before the register published it. It counts as posted. */
  readonly delivered: boolean
  /** The version that caused it: the first of its entries. */
  readonly epoch: string
  readonly entryNo: number
  /** ISO 8601, UTC. */
  readonly postedAt: string
  /** Each with its dimension and its sums, which are decimal texts. */
  readonly rows: readonly Readonly<Record<string, string>>[]
}

/** A closing that a document is, or belongs to as a receipt. */
export interface TracedClosing {
  /** The till's closing document. */
  readonly table: string
  readonly recordId: string
  /** What a receipt brings into it: lines by item, VAT and customer. Undefined where the document is the closing itself. */
  readonly lines: readonly Readonly<Record<string, string>>[] | undefined
  /** As it was posted, supplementary ones behind the first; at most 100. */
  readonly posted: readonly {
    readonly location: string
    readonly closingNo: number
    /** ISO 8601. */
    readonly businessDate: string
    readonly document: string | null
    readonly supplementNo: number
    /** ISO 8601, UTC. */
    readonly postedAt: string
  }[]
  /** Why it, or what is new in it, is not posted yet. */
  readonly waits: Waits | undefined
}

const MOST = 100

/** The latest 100 postings of a document, in the order in which they were posted. */
export function* postingsOf(
  database: ApplyingDatabase,
  registerId: number,
  table: string,
  recordId: string,
  epochs: ReadonlyMap<number, string>,
): Work<readonly TracedPosting[]> {
  if (!(yield* hasOwnTable(database, POSTINGS))) return []
  const rows = yield* query<{
    ledger: string
    incarnation: number
    revision: number
    delivered: boolean
    epoch_no: number
    entry_no: number
    at: string
    postings: string
  }>({
    sql: `SELECT ledger, incarnation, revision, delivered, epoch_no, entry_no, ${isoTime('posted_at')} AS at, postings FROM ${database.qualify(POSTINGS.name)}
          WHERE register_id = $1 AND table_name = $2 AND record_id = $3 ORDER BY posted_at DESC, incarnation DESC, revision DESC, ledger LIMIT ${MOST}`,
    parameters: [registerId, table, recordId],
  })
  return rows.toReversed().map(({ ledger, incarnation, revision, delivered, epoch_no, entry_no, at, postings }) => ({
    ledger,
    incarnation,
    revision,
    delivered,
    epoch: epochs.get(epoch_no) ?? '',
    entryNo: entry_no,
    postedAt: at,
    rows: JSON.parse(postings),
  }))
}

/** The closings that a document is, or belongs to by its number. */
export function* closingsOf(database: ApplyingDatabase, registerId: number, table: string, recordId: string): Work<readonly TracedClosing[]> {
  if (!(yield* hasOwnTable(database, CLOSINGS))) return []
  const [closings, receipts, ranges, open, posted] = [CLOSINGS, CLOSING_RECEIPTS, CLOSING_RANGES, OPEN_CLOSINGS, POSTED_CLOSINGS].map(({ name }) =>
    database.qualify(name),
  )
  const rows = yield* query<{ table_name: string; record_id: string; incarnation: number; lines: string | null; waits: string | null }>({
    sql: `SELECT c.table_name, c.record_id, c.incarnation, c.lines, o.waits FROM (
            SELECT table_name, record_id, incarnation, NULL::text AS lines FROM ${closings} WHERE register_id = $1 AND table_name = $2 AND record_id = $3
            UNION ALL
            SELECT g.table_name, g.record_id, g.incarnation, r.lines::text FROM ${receipts} r CROSS JOIN LATERAL (
              SELECT * FROM ${ranges} g WHERE g.register_id = $1 AND g.receipts_table = $2 AND g.series = r.series AND g.first_no <= r.number ORDER BY g.first_no DESC LIMIT 1) g
            WHERE r.register_id = $1 AND r.table_name = $2 AND r.record_id = $3 AND g.last_no >= r.number) c
          LEFT JOIN ${open} o ON o.register_id = $1 AND o.table_name = c.table_name AND o.record_id = c.record_id AND o.incarnation = c.incarnation
          ORDER BY c.table_name, c.record_id, c.incarnation`,
    parameters: [registerId, table, recordId],
  })
  const traced: TracedClosing[] = []
  for (const row of rows) {
    const found = yield* query<{
      location: string
      closing_no: number
      business_date: string
      document_no: string | null
      supplement_no: number
      at: string
    }>({
      sql: `SELECT location, closing_no, to_char(business_date, 'YYYY-MM-DD') AS business_date, document_no, supplement_no, ${isoTime('posted_at')} AS at FROM ${posted}
            WHERE register_id = $1 AND table_name = $2 AND record_id = $3 AND incarnation = $4 ORDER BY location, closing_no LIMIT ${MOST}`,
      parameters: [registerId, row.table_name, row.record_id, row.incarnation],
    })
    traced.push({
      table: row.table_name,
      recordId: row.record_id,
      lines: row.lines === null ? undefined : JSON.parse(row.lines),
      posted: found.map(({ location, closing_no, business_date, document_no, supplement_no, at }) => ({
        location,
        closingNo: closing_no,
        businessDate: business_date,
        document: document_no,
        supplementNo: supplement_no,
        postedAt: at,
      })),
      waits: row.waits === null ? undefined : (JSON.parse(row.waits) as Waits),
    })
  }
  return traced
}
