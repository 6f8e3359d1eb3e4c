import { erase, insert, query, type Work } from '../work.ts'
import type { Waits } from './closing-completeness.ts'
import type { OpenClosing } from './closing-settlement.ts'
import { CLOSING_RANGES } from './closing-tables.ts'
import type { KnownRange } from './closings.ts'
import type { FinishContext } from './finish.ts'
import { nameOf, type PostedDocument } from './postings.ts'

interface RangeRow {
  readonly table_name: string
  readonly record_id: string
  readonly incarnation: number
  readonly series: string
  readonly from: string
  readonly through: string
}

/**
 * Lets open closings take the receipts of their ranges, in the order of their entries, and give up those that they had: each receipt belongs to one closing. One whose
 * receipts another one has waits until that gives them up, and keeps what it had; so does one that waits for something else, since what it has posted stands.
 */
export function* takeRanges(
  open: readonly OpenClosing[],
  incomplete: ReadonlyMap<OpenClosing, Waits>,
  receiptsTable: string,
  context: FinishContext,
): Work<ReadonlyMap<OpenClosing, Waits>> {
  const ranges = yield* readRanges(open, context)
  const had = (closing: OpenClosing) => ranges.get(nameOf(closing)) ?? []
  const wanted = (closing: OpenClosing) => closing.closing?.ranges ?? []
  const changing = open.filter((closing) => !isSame(had(closing), wanted(closing)))
  const keeping = new Set(changing.filter((closing) => incomplete.has(closing) && had(closing).length > 0))
  const waiting = new Map<OpenClosing, Waits>()
  for (let isSettled = changing.length === 0; !isSettled; ) {
    isSettled = true
    yield* erase(
      CLOSING_RANGES,
      ['register_id', 'table_name', 'record_id', 'incarnation'],
      changing.map(({ table, recordId, incarnation }) => [context.registerId, table, recordId, incarnation]),
    )
    for (const closing of keeping) yield* take(closing, had(closing), receiptsTable, context)
    for (const closing of changing.filter((one) => !keeping.has(one))) {
      const other = yield* take(closing, wanted(closing), receiptsTable, context)
      if (other === undefined) waiting.delete(closing)
      else waiting.set(closing, { why: 'taken', table: other.table, recordId: other.recordId })
      if (other === undefined || had(closing).length === 0) continue
      // It has its own back before the others take theirs.
      keeping.add(closing)
      isSettled = false
    }
  }
  return waiting
}

function isSame(a: readonly KnownRange[], b: readonly KnownRange[]): boolean {
  const texts = (ranges: readonly KnownRange[]) => JSON.stringify(ranges.map(({ series, from, through }) => [series, from, through]).sort())
  return texts(a) === texts(b)
}

function* readRanges(open: readonly OpenClosing[], { database, registerId }: FinishContext): Work<ReadonlyMap<string, readonly RangeRow[]>> {
  const rows = yield* query<RangeRow>({
    sql: `SELECT table_name, record_id, incarnation, series, first_no::text AS "from", last_no::text AS through FROM ${database.qualify(CLOSING_RANGES.name)} r
          JOIN unnest($2::text[], $3::text[], $4::bigint[]) AS d(table_name, record_id, incarnation) USING (table_name, record_id, incarnation) WHERE r.register_id = $1`,
    parameters: [registerId, open.map(({ table }) => table), open.map(({ recordId }) => recordId), open.map(({ incarnation }) => incarnation)],
  })
  return Map.groupBy(rows, (row) => nameOf({ table: row.table_name, recordId: row.record_id, incarnation: row.incarnation }))
}

/** Takes all of the ranges; where another closing has some of their receipts, none, and says which. */
function* take(
  closing: OpenClosing,
  ranges: readonly KnownRange[],
  receiptsTable: string,
  { database, registerId }: FinishContext,
): Work<Pick<PostedDocument, 'table' | 'recordId'> | undefined> {
  if (ranges.length === 0) return undefined
  const [other] = yield* query<{ table_name: string; record_id: string }>({
    sql: `SELECT r.table_name, r.record_id FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS n(series, first_no, last_no)
          JOIN ${database.qualify(CLOSING_RANGES.name)} r
            ON r.register_id = $1 AND r.receipts_table = $2 AND r.series = n.series AND r.first_no <= n.last_no AND r.last_no >= n.first_no LIMIT 1`,
    parameters: [registerId, receiptsTable, ranges.map(({ series }) => series), ranges.map(({ from }) => from), ranges.map(({ through }) => through)],
  })
  if (other !== undefined) return { table: other.table_name, recordId: other.record_id }
  const { table, recordId, incarnation } = closing
  yield* insert(
    CLOSING_RANGES,
    ranges.map(({ series, from, through }) => [registerId, receiptsTable, series, from, through, table, recordId, incarnation]),
  )
  return undefined
}
