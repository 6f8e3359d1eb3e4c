import type { RegisterName } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { parseWhole } from '../record.ts'
import { query, type Work } from '../work.ts'
import { isoTime } from './archived.ts'
import type { Waits } from './closing-completeness.ts'
import { CLOSINGS, OPEN_CLOSINGS, POSTED_CLOSING_LINES, POSTED_CLOSINGS } from './closing-tables.ts'
import type { KnownClosing } from './closings.ts'
import { REGISTERS } from './tables.ts'

/** Decimal texts with six places. */
export interface PostedSums {
  readonly quantity: string
  readonly returnQuantity: string
  readonly discountAmount: string
  readonly netAmount: string
  readonly vatAmount: string
  readonly grossAmount: string
}

export interface PostedClosingLine extends PostedSums {
  readonly lineNo: number
  readonly item: string
  readonly vatCode: string | null
  readonly vatRate: string | null
  /** Null: anonymous customers. */
  readonly customer: string | null
}

/** Receipts of a series, by their numbers. Those beyond 2^53 are bigint. */
export interface ClosedRange {
  /** Empty where they have none. */
  readonly series: string
  readonly from: number | bigint
  readonly through: number | bigint
}

/** A closing as it was posted. Its sums are those of its lines. */
export interface PostedClosing extends PostedSums {
  readonly location: string
  readonly closingNo: number
  /** ISO 8601. */
  readonly businessDate: string
  /** The till's own number. */
  readonly document: string | null
  /** The closing that this one adds to; null for a first one. */
  readonly supplements: number | null
  /** 0 for a first closing, then 1, 2, 3 … */
  readonly supplementNo: number
  /** The receipts that it sums up, where it was computed. */
  readonly ranges: readonly ClosedRange[] | null
  /** The register that closed. */
  readonly register: RegisterName
  /** Its document: the root table and the record id as JSON text. */
  readonly table: string
  readonly recordId: string
  /** The first entry of the closing's version in the register's stream. */
  readonly entryNo: number
  /** ISO 8601, UTC. */
  readonly postedAt: string
  readonly lines: readonly PostedClosingLine[]
}

export interface FoundClosings {
  /** By number, supplementary ones among them; at most `limit`. */
  readonly closings: readonly PostedClosing[]
  /** Of all that were asked for, whatever the limit. */
  readonly totals: PostedSums & { readonly closings: number }
}

/** A closing that is not posted yet, or not all of it. */
export interface WaitingClosing extends RegisterName {
  readonly table: string
  readonly recordId: string
  readonly businessDate: string | null
  readonly document: string | null
  /** Receipts that are in quarantine, by record id; totals that are not the sums of the receipts; sums that don't fit. */
  readonly waits: Waits
  /** ISO 8601, UTC. */
  readonly since: string
}

/** Which closings, as SQL over `c`, the closing, and `r`, its register; the first parameter is the location. */
export interface Condition {
  readonly sql: string
  readonly parameters: readonly unknown[]
  readonly limit: number
  readonly after: number
}

const SUMS = ['quantity', 'return_quantity', 'discount_amount', 'net_amount', 'vat_amount', 'gross_amount'] as const
type SumColumns = Readonly<Record<(typeof SUMS)[number], string>>

interface ClosingRow extends SumColumns {
  readonly location: string
  readonly closing_no: number
  readonly business_date: string
  readonly document_no: string | null
  readonly supplements: number | null
  readonly supplement_no: number
  readonly ranges: string | null
  readonly at: string
  readonly register: string
  readonly table_name: string
  readonly record_id: string
  readonly entry_no: number
  readonly posted_at: string
}

interface LineRow extends SumColumns {
  readonly closing_no: number
  readonly line_no: number
  readonly item_no: string
  readonly vat_code: string | null
  readonly vat_rate: string | null
  readonly customer_no: string | null
}

export function* findClosings(database: ApplyingDatabase, { sql, parameters, limit, after }: Condition): Work<FoundClosings> {
  const from = `${database.qualify(POSTED_CLOSINGS.name)} c JOIN ${database.qualify(REGISTERS.name)} r USING (register_id) WHERE ${sql}`
  const [totals] = yield* query<SumColumns & { closings: number }>({
    sql: `SELECT count(*) AS closings, ${SUMS.map((name) => `coalesce(sum(c.${name}), 0)::numeric(38, 6) AS ${name}`).join(', ')} FROM ${from}`,
    parameters,
  })
  const rows = yield* query<ClosingRow>({
    sql: `SELECT c.location, c.closing_no, to_char(c.business_date, 'YYYY-MM-DD') AS business_date, c.document_no, c.supplements, c.supplement_no, c.ranges,
                 r.location AS at, r.register, c.table_name, c.record_id, c.entry_no, ${isoTime('c.posted_at')} AS posted_at, ${SUMS.map((name) => `c.${name}`).join(', ')}
          FROM ${from} AND c.closing_no > $${parameters.length + 1} ORDER BY c.closing_no LIMIT ${limit}`,
    parameters: [...parameters, after],
  })
  const lines = yield* query<LineRow>({
    sql: `SELECT closing_no, line_no, item_no, vat_code, vat_rate, customer_no, ${SUMS.join(', ')} FROM ${database.qualify(POSTED_CLOSING_LINES.name)}
          WHERE location = $1 AND closing_no = ANY($2::bigint[]) ORDER BY closing_no, line_no`,
    parameters: [parameters[0], rows.map(({ closing_no }) => closing_no)],
  })
  const byClosing = Map.groupBy(lines, ({ closing_no }) => closing_no)
  return {
    closings: rows.map((row) => toClosing(row, byClosing.get(row.closing_no) ?? [])),
    totals: { closings: totals?.closings ?? 0, ...sumsOf(totals as SumColumns) },
  }
}

function toClosing(row: ClosingRow, lines: readonly LineRow[]): PostedClosing {
  return {
    location: row.location,
    closingNo: row.closing_no,
    businessDate: row.business_date,
    document: row.document_no,
    supplements: row.supplements,
    supplementNo: row.supplement_no,
    ranges: row.ranges === null ? null : (parseWhole(row.ranges) as readonly ClosedRange[]),
    register: { location: row.at, register: row.register },
    table: row.table_name,
    recordId: row.record_id,
    entryNo: row.entry_no,
    postedAt: row.posted_at,
    ...sumsOf(row),
    lines: lines.map((line) => ({
      lineNo: line.line_no,
      item: line.item_no,
      vatCode: line.vat_code,
      vatRate: line.vat_rate,
      customer: line.customer_no,
      ...sumsOf(line),
    })),
  }
}

function sumsOf(row: SumColumns): PostedSums {
  return {
    quantity: row.quantity,
    returnQuantity: row.return_quantity,
    discountAmount: row.discount_amount,
    netAmount: row.net_amount,
    vatAmount: row.vat_amount,
    grossAmount: row.gross_amount,
  }
}

/** The oldest first, at most 1,000. */
export function* findWaiting(database: ApplyingDatabase, { location, register }: Partial<RegisterName>): Work<readonly WaitingClosing[]> {
  const rows = yield* query<{
    location: string
    register: string
    table_name: string
    record_id: string
    closing: string
    waits: string
    since: string
  }>({
    sql: `SELECT r.location, r.register, o.table_name, o.record_id, c.closing, o.waits, ${isoTime('o.opened_at')} AS since
          FROM ${database.qualify(OPEN_CLOSINGS.name)} o JOIN ${database.qualify(CLOSINGS.name)} c USING (register_id, table_name, record_id, incarnation)
          JOIN ${database.qualify(REGISTERS.name)} r USING (register_id)
          WHERE o.waits IS NOT NULL AND r.location = coalesce($1, r.location) AND r.register = coalesce($2, r.register) ORDER BY o.opened_at, o.record_id LIMIT 1000`,
    parameters: [location ?? null, register ?? null],
  })
  return rows.map((row) => {
    const closing = JSON.parse(row.closing) as KnownClosing | null
    return {
      location: row.location,
      register: row.register,
      table: row.table_name,
      recordId: row.record_id,
      businessDate: closing?.businessDate ?? null,
      document: closing?.document ?? null,
      waits: JSON.parse(row.waits) as Waits,
      since: row.since,
    }
  })
}
