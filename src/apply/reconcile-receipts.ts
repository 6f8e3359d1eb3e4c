import { pause, query, type Work } from '../work.ts'
import { CLOSING_RANGES, CLOSING_RECEIPTS, POSTED_CLOSINGS } from './closing-tables.ts'
import { CLOSING_MEASURES } from './closings.ts'
import { Cursor } from './cursor.ts'
import type { ReconciledDay } from './reconcile-day.ts'
import type { ReconciledDocument } from './reconcile-page.ts'
import { type Addends, Balance, byItem, keptSums, unequal } from './reconcile-sums.ts'
import { type DocumentLife, type Standing, standingOf } from './reconcile-versions.ts'
import { NO_SUMS, type SumsByDimension } from './sums.ts'
import type { ReadsReceipts } from './wants.ts'

const LEDGER = POSTED_CLOSINGS.name
const PAGE = 200

/** What is kept of a receipt for the closing that it belongs to. */
interface ContributionRow {
  readonly register_id: number
  readonly table_name: string
  readonly record_id: string
  readonly incarnation: number
  readonly lines: string
  readonly baseline: string | null
}

/** What the receipts of a closing bring, as they stand, less what was closed before the register published them. Names those of which something else is kept. */
export function* coveredLines(day: ReconciledDay, closing: ReconciledDocument, receipts: ReadsReceipts): Work<SumsByDimension> {
  const { database } = day
  const { registerId, table, recordId, incarnation } = closing.life
  const cursor = new Cursor<ContributionRow>('sync_receipts', PAGE)
  yield* cursor.open({
    sql: `SELECT c.register_id, c.table_name, c.record_id, c.incarnation, c.lines, c.baseline FROM ${database.qualify(CLOSING_RANGES.name)} r
          JOIN ${database.qualify(CLOSING_RECEIPTS.name)} c
            ON c.register_id = r.register_id AND c.table_name = r.receipts_table AND c.series = r.series COLLATE "default" AND c.number BETWEEN r.first_no AND r.last_no
          WHERE r.register_id = $1 AND r.table_name = $2 AND r.record_id = $3 AND r.incarnation = $4 ORDER BY c.series, c.number, c.record_id, c.incarnation`,
    parameters: [registerId, table, recordId, incarnation],
  })
  const balance = new Balance()
  for (;;) {
    const rows = yield* cursor.next()
    if (rows.length === 0) break
    const lives = rows.map((row): DocumentLife => {
      return { registerId: row.register_id, table: row.table_name, recordId: row.record_id, incarnation: row.incarnation }
    })
    for (const [n, standing] of (yield* standingOf(database, lives)).entries()) {
      const { lines, baseline } = rows[n] as ContributionRow
      const kept = sumsOf(lines)
      const wanted = broughtBy(day, { life: lives[n] as DocumentLife, origin: closing.origin, standing }, receipts)
      const differing = wanted === undefined ? [] : unequal(wanted, kept)
      if (differing.length > 0) day.differs({ life: lives[n] as DocumentLife, origin: closing.origin }, { why: 'posted', ledger: LEDGER }, differing)
      balance.addAll((wanted ?? kept).values())
      if (baseline !== null) balance.subtractAll(sumsOf(baseline).values())
    }
    yield* pause()
  }
  yield* cursor.close()
  return balance.byDimension
}

type Receipt = Pick<ReconciledDocument, 'life' | 'origin'> & { readonly standing: Standing }

/** What a receipt brings into its closing, as it stands; undefined where nobody can say, which is told. */
function broughtBy(day: ReconciledDay, { life, origin, standing }: Receipt, receipts: ReadsReceipts): SumsByDimension | undefined {
  if (standing.state === 'missing' || !standing.isKnown) {
    day.differs({ life, origin }, { why: 'missing', ledger: LEDGER }, [])
    return undefined
  }
  if (standing.document === undefined || (receipts.removals === 'apply' && standing.isRemoved)) return NO_SUMS
  try {
    return receipts.lines(standing.document.again(), origin)
  } catch (thrown) {
    day.unmapped({ life, origin }, LEDGER, thrown)
    return undefined
  }
}

/** Names receipts of the day that belong to no closing, among those that bring something into one. */
export function* reconcileUnclosed(
  day: ReconciledDay,
  receipts: ReadsReceipts,
  documents: readonly { readonly document: ReconciledDocument; readonly isOfDay: boolean }[],
): Work<void> {
  const ofDay = documents.flatMap(({ document, isOfDay }) => {
    const { standing } = document
    const date = standing.document === undefined ? undefined : receipts.dateOf(standing.document)
    return standing.document !== undefined && (date === undefined ? isOfDay : date === day.businessDate) ? [document] : []
  })
  if (ofDay.length === 0) return
  const rows = yield* query<{ n: number; is_covered: boolean; baseline: string | null }>({
    sql: `SELECT k.n, coalesce(r.last_no >= c.number, false) AS is_covered, c.baseline
          FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS k(register_id, table_name, record_id, incarnation, n)
          LEFT JOIN LATERAL (SELECT * FROM ${day.database.qualify(CLOSING_RECEIPTS.name)} c
            WHERE c.register_id = k.register_id AND c.table_name = k.table_name AND c.record_id = k.record_id AND c.incarnation = k.incarnation OFFSET 0) c ON true
          LEFT JOIN LATERAL (SELECT last_no FROM ${day.database.qualify(CLOSING_RANGES.name)} r
            WHERE r.register_id = c.register_id AND r.receipts_table = c.table_name AND r.series = c.series AND r.first_no <= c.number ORDER BY r.first_no DESC LIMIT 1) r ON true
          ORDER BY k.n`,
    parameters: [
      ofDay.map(({ life }) => life.registerId),
      ofDay.map(({ life }) => life.table),
      ofDay.map(({ life }) => life.recordId),
      ofDay.map(({ life }) => life.incarnation),
    ],
  })
  for (const { n, is_covered, baseline } of rows) {
    const document = ofDay[n - 1] as ReconciledDocument
    if (is_covered) continue
    const brought = broughtBy(day, document, receipts)
    if (brought === undefined) continue
    const balance = new Balance()
    balance.addAll(brought.values())
    if (baseline !== null) balance.subtractAll(sumsOf(baseline).values())
    const lines = unequal(balance.byDimension, NO_SUMS)
    if (lines.length === 0) continue
    day.differs(document, { why: 'unclosed', ledger: LEDGER }, lines)
    day.receipts.addAll(byItem(located(balance.byDimension, document.origin.location)))
  }
}

/** Lines that name no warehouse are of the register's location. */
export function located(sums: SumsByDimension, location: string): Addends {
  return [...sums.values()].map(({ dimension, values }) => ({ dimension: { ...dimension, location: dimension.location ?? location }, values }))
}

function sumsOf(json: string): SumsByDimension {
  const balance = new Balance()
  balance.addAll(keptSums(json, CLOSING_MEASURES))
  return balance.byDimension
}
