import { grandTotal } from '../decimal.ts'
import { insert, query, type Work } from '../work.ts'
import { type Goods, moveGoods } from './closing-goods.ts'
import type { OpenClosing } from './closing-settlement.ts'
import { CLOSING_NUMBERS, POSTED_CLOSING_LINES, POSTED_CLOSINGS } from './closing-tables.ts'
import { CLOSING_MEASURES, type KnownClosing } from './closings.ts'
import type { FinishContext } from './finish.ts'
import { type Dimension, type Sums, sumsToJson } from './sums.ts'
import { POSTINGS } from './tables.ts'

/** A closing with what it is to post: its lines, or what is to be added to them. */
export interface ToPost {
  readonly closing: OpenClosing
  readonly revision: number
  /** Undefined where only goods are to be moved. */
  readonly sums: readonly Sums[] | undefined
  readonly goods: Goods
}

interface Unposted {
  readonly closing: OpenClosing
  readonly revision: number
  readonly sums: readonly Sums[]
}

/** What one posted closing holds: lines of one warehouse, date and number of the till. */
interface Sheet extends Unposted {
  readonly location: string
  readonly businessDate: string
  readonly document: string | null
}

/** Posts closings and supplementary closings, each with the next number of its warehouse, and the movements of stock. */
export function* postClosings(all: readonly ToPost[], context: FinishContext): Work<void> {
  if (all.length === 0) return
  yield* postSheets(
    all.flatMap(({ closing, revision, sums }) => (sums === undefined ? [] : [{ closing, revision, sums }])),
    context,
  )
  yield* moveGoods(all, context)
  context.onPosted?.(all.length)
}

function* postSheets(all: readonly Unposted[], context: FinishContext): Work<void> {
  if (all.length === 0) return
  const { registerId } = context
  const sheets = all.flatMap(sheetsOf)
  const before = yield* postedBefore(all, context)
  const numbers = yield* takeNumbers(sheets, context)
  const headers: unknown[][] = []
  const lines: unknown[][] = []
  for (const [n, sheet] of sheets.entries()) {
    const { closing, location, revision } = sheet
    const closingNo = numbers[n] as number
    const name = JSON.stringify([closing.recordId, closing.incarnation, location])
    const first = before.get(name) ?? before.get(JSON.stringify([closing.recordId, closing.incarnation, null]))
    headers.push([
      ...headerOf(sheet, closingNo, first),
      registerId,
      closing.table,
      closing.recordId,
      closing.incarnation,
      revision,
      closing.epochNo,
      closing.entryNo,
    ])
    lines.push(...linesOf(sheet, closingNo))
    before.set(name, { first: first?.first ?? closingNo, count: (first?.count ?? 0) + 1 })
  }
  yield* insert(
    POSTINGS,
    all.map(({ closing: { table, recordId, incarnation, epochNo, entryNo }, revision, sums }) => {
      return [registerId, table, recordId, incarnation, POSTED_CLOSINGS.name, revision, true, epochNo, entryNo, sumsToJson(sums, CLOSING_MEASURES)]
    }),
  )
  yield* insert(POSTED_CLOSINGS, headers)
  yield* insert(POSTED_CLOSING_LINES, lines)
}

/** A first closing without a line is posted all the same: it says that there were none. */
function sheetsOf({ closing, revision, sums }: Unposted): readonly Sheet[] {
  if (sums.length === 0 && closing.closing !== null) {
    const { location, businessDate, document } = closing.closing
    return [{ closing, revision, sums, location, businessDate, document }]
  }
  const groups = Map.groupBy(sums, ({ dimension: { location, businessDate, document } }) =>
    JSON.stringify([location, businessDate, document ?? null]),
  )
  return [...groups].map(([name, own]) => {
    const [location, businessDate, document] = JSON.parse(name) as [string, string, string | null]
    return { closing, revision, sums: own, location, businessDate, document }
  })
}

interface Before {
  /** Undefined where the host had posted it itself, before the register began to publish it. */
  readonly first: number | undefined
  readonly count: number
}

/** Of each document and warehouse the first closing that was posted, and how many were. */
function* postedBefore(all: readonly Unposted[], { database, registerId }: FinishContext): Work<Map<string, Before>> {
  const rows = yield* query<{ record_id: string; incarnation: number; location: string | null; first: number | null; count: number }>({
    sql: `WITH d AS (SELECT * FROM unnest($2::text[], $3::text[], $4::bigint[]) AS d(table_name, record_id, incarnation))
          SELECT record_id, incarnation, p.location, min(p.closing_no) AS first, count(*) AS count
          FROM d JOIN ${database.qualify(POSTED_CLOSINGS.name)} p USING (table_name, record_id, incarnation) WHERE p.register_id = $1 GROUP BY 1, 2, 3
          UNION ALL SELECT record_id, incarnation, NULL, NULL, 1
          FROM d JOIN ${database.qualify(POSTINGS.name)} p USING (table_name, record_id, incarnation)
          WHERE p.register_id = $1 AND p.ledger = '${POSTED_CLOSINGS.name}' AND p.revision = 1 AND NOT p.delivered`,
    parameters: [
      registerId,
      all.map(({ closing }) => closing.table),
      all.map(({ closing }) => closing.recordId),
      all.map(({ closing }) => closing.incarnation),
    ],
  })
  return new Map(
    rows.map(({ record_id, incarnation, location, first, count }) => [
      JSON.stringify([record_id, incarnation, location]),
      { first: first ?? undefined, count },
    ]),
  )
}

/** The next numbers, warehouse by warehouse in their order, so that two transactions wait for each other and can't deadlock. A transaction that fails gives them back. */
function* takeNumbers(sheets: readonly Sheet[], { database }: FinishContext): Work<readonly number[]> {
  const counts = [...Map.groupBy(sheets, ({ location }) => location)].map(([location, own]) => ({ location, count: own.length }))
  const rows = yield* query<{ location: string; last_no: number }>({
    sql: `INSERT INTO ${database.qualify(CLOSING_NUMBERS.name)} AS n (location, last_no)
          SELECT c.location, c.count + coalesce((SELECT max(closing_no) FROM ${database.qualify(POSTED_CLOSINGS.name)} p WHERE p.location = c.location), 0)
          FROM unnest($1::text[], $2::bigint[]) AS c(location, count) ORDER BY c.location COLLATE "C"
          ON CONFLICT (location) DO UPDATE SET last_no = n.last_no + (SELECT count FROM unnest($1::text[], $2::bigint[]) AS c(location, count) WHERE c.location = n.location)
          RETURNING location, last_no`,
    parameters: [counts.map(({ location }) => location), counts.map(({ count }) => count)],
  })
  const next = new Map(rows.map(({ location, last_no }) => [location, last_no - (counts.find((one) => one.location === location)?.count ?? 0)]))
  return sheets.map(({ location }) => {
    const number = (next.get(location) ?? 0) + 1
    next.set(location, number)
    return number
  })
}

function headerOf({ closing, sums, location, businessDate, document }: Sheet, closingNo: number, before: Before | undefined): readonly unknown[] {
  const totals = CLOSING_MEASURES.map((_, n) => grandTotal(sums.map(({ values }) => values[n] as string)))
  // What the host had posted itself has no number here.
  return [location, closingNo, businessDate, document, before?.first ?? null, before?.count ?? 0, rangesOf(closing.closing), ...totals]
}

function rangesOf(closing: KnownClosing | null): string | null {
  if (closing === null || closing.ranges.length === 0) return null
  // Numbers of 64 bits, as they are.
  const texts = closing.ranges.map(({ series, from, through }) => `{"series":${JSON.stringify(series)},"from":${from},"through":${through}}`)
  return `[${texts.join(',')}]`
}

function linesOf({ sums, location }: Sheet, closingNo: number): readonly unknown[][] {
  const inOrder = sums.toSorted((a, b) => compare(a.dimension, b.dimension))
  return inOrder.map(({ dimension: { item, vatCode, vatRate, customer }, values }, n) => {
    return [location, closingNo, n + 1, item, vatCode ?? null, vatRate ?? null, customer ?? null, ...values]
  })
}

/** By item, VAT and customer, anonymous ones first: the same lines have the same numbers. */
function compare(a: Dimension, b: Dimension): number {
  for (const name of ['item', 'vatCode', 'vatRate', 'customer']) {
    const [x, y] = [String(a[name] ?? ''), String(b[name] ?? '')]
    if (x !== y) return x < y ? -1 : 1
  }
  return 0
}
