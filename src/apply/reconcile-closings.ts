import { query, type Work } from '../work.ts'
import type { Waits } from './closing-completeness.ts'
import { withHeader } from './closing-settlement.ts'
import type { WantedClosing } from './closing-state.ts'
import { OPEN_CLOSINGS, POSTED_CLOSING_LINES, POSTED_CLOSINGS } from './closing-tables.ts'
import { CLOSING_MEASURES, type KnownClosing } from './closings.ts'
import type { ReconciledDay } from './reconcile-day.ts'
import { reconcileLedger } from './reconcile-movements.ts'
import type { ReconciledDocument } from './reconcile-page.ts'
import { coveredLines } from './reconcile-receipts.ts'
import { Balance, byItem, byLedger, goodsOf, only, type Unequal, unequal } from './reconcile-sums.ts'
import { NO_SUMS, type Sums, type SumsByDimension } from './sums.ts'
import { STOCK_MOVEMENTS } from './tables.ts'
import type { WantsClosings } from './wants.ts'

const LEDGER = POSTED_CLOSINGS.name

/** A closing of the day. */
export interface ReconciledClosing {
  readonly document: ReconciledDocument
  /** What it says, with its lines, of that day. */
  readonly wanted: readonly Sums[]
}

/**
 * Compares a closing with what was posted for it on the day, and that with the rows of the ledgers. Returns it where it is of the day, not void, and is not computed from receipts.
 */
export function* reconcileClosing(
  day: ReconciledDay,
  document: ReconciledDocument,
  wants: WantsClosings,
  removals: 'ignore' | 'apply' | undefined,
): Work<ReconciledClosing | undefined> {
  const posted = document.postedTo(LEDGER)
  const booked = yield* postedLines(day, document)
  const said = wantedOf(day, document, wants, removals)
  let wanted = posted.all
  if (said !== undefined) {
    wanted = yield* withLines(day, document, said, wants)
    const waits = said.closing?.businessDate === day.businessDate ? yield* waitsOf(day, document) : undefined
    const lines = unequal(wanted, posted.all, day.isOn)
    const isUnposted = said.closing?.businessDate === day.businessDate && posted.revisions.length === 0 && posted.all.size === 0
    if (waits !== undefined) day.differs(document, { why: 'waiting', ledger: LEDGER, waits }, lines)
    else if (lines.length > 0 || isUnposted) day.differs(document, { why: 'posted', ledger: LEDGER }, lines)
  }
  const lines = unequal(posted.delivered, booked.lines, day.isOn)
  const isHeadless = posted.revisions.some((revision) => !booked.revisions.has(revision)) && said?.closing?.businessDate === day.businessDate
  if (lines.length > 0 || booked.unequal.length > 0 || isHeadless)
    day.differs(document, { why: 'ledger', ledger: LEDGER }, [...lines, ...booked.unequal])
  moves(day, document, wants, wanted)
  day.closings.addAll(byItem(only(booked.lines, day.isOn)))
  const ofDay = only(wanted, day.isOn)
  if (wants.receipts?.isComputed) day.receipts.addAll(byItem(only(lessBaseline(wanted, document), day.isOn)))
  return wants.receipts?.isComputed || said?.closing?.businessDate !== day.businessDate ? undefined : { document, wanted: ofDay }
}

/** What the closing says, void where it counts no more; undefined where nobody can say. */
function wantedOf(
  day: ReconciledDay,
  document: ReconciledDocument,
  wants: WantsClosings,
  removals: 'ignore' | 'apply' | undefined,
): Pick<WantedClosing, 'closing' | 'lines'> | undefined {
  const { standing, origin } = document
  if (document.isUnknown(LEDGER)) {
    day.cannotSay(document, LEDGER, undefined)
    return undefined
  }
  try {
    if (standing.document === undefined || !document.counts(removals)) return { closing: undefined, lines: NO_SUMS }
    return wants.wanted(standing.document.again(), origin)
  } catch (thrown) {
    day.cannotSay(document, LEDGER, thrown)
    return undefined
  }
}

function* withLines(
  day: ReconciledDay,
  document: ReconciledDocument,
  { closing, lines }: Pick<WantedClosing, 'closing' | 'lines'>,
  { receipts }: WantsClosings,
): Work<SumsByDimension> {
  if (closing === undefined) return NO_SUMS
  if (lines !== undefined) return headed(closing, lines)
  // What its receipts bring is asked for only where it is of the day.
  if (closing.businessDate !== day.businessDate || receipts === undefined) return NO_SUMS
  return headed(closing, yield* coveredLines(day, document, receipts))
}

/** As `withHeader`, of sums of any size. */
function headed(closing: KnownClosing, lines: SumsByDimension): SumsByDimension {
  const balance = new Balance()
  for (const sums of lines.values()) {
    const [full] = withHeader(closing, new Map([[sums.name, { ...sums, values: CLOSING_MEASURES.map(() => '0') }]])).values()
    if (full !== undefined) balance.add(full.dimension, sums.values)
  }
  return balance.byDimension
}

/** What the host had posted itself before is in no ledger. */
function lessBaseline(wanted: SumsByDimension, document: ReconciledDocument): SumsByDimension {
  const { all, delivered } = document.postedTo(LEDGER)
  const balance = new Balance()
  balance.addAll(wanted.values())
  balance.subtractAll(all.values())
  balance.addAll(delivered.values())
  return balance.byDimension
}

function* waitsOf(day: ReconciledDay, { life }: ReconciledDocument): Work<Waits | undefined> {
  const [row] = yield* query<{ waits: string }>({
    sql: `SELECT waits FROM ${day.database.qualify(OPEN_CLOSINGS.name)}
          WHERE register_id = $1 AND table_name = $2 AND record_id = $3 AND incarnation = $4 AND waits IS NOT NULL`,
    parameters: [life.registerId, life.table, life.recordId, life.incarnation],
  })
  return row && (JSON.parse(row.waits) as Waits)
}

/** What its posted lines move. Where another handler says what documents of its table move, that is compared already. */
function moves(day: ReconciledDay, document: ReconciledDocument, { moveStock }: WantsClosings, wanted: SumsByDimension): void {
  const { delivered } = document.postedTo(STOCK_MOVEMENTS.name)
  if (day.plan.hasStock) reconcileLedger(day, document, delivered)
  const others = day.plan.movements.get(document.life.table) ?? []
  if (others.some(({ ledger }) => ledger.name === STOCK_MOVEMENTS.name)) return
  const lines = unequal(moveStock ? goodsOf(document.postedTo(LEDGER).delivered) : NO_SUMS, delivered, day.isOn)
  if (lines.length > 0) day.differs(document, { why: 'posted', ledger: STOCK_MOVEMENTS.name }, lines)
  if (moveStock) day.wanted.addAll(byLedger(STOCK_MOVEMENTS.name, only(goodsOf(lessBaseline(wanted, document)), day.isOn)))
  day.posted.addAll(byLedger(STOCK_MOVEMENTS.name, only(day.plan.hasStock ? document.moved : delivered, day.isOn)))
}

interface PostedRow {
  readonly revision: number
  readonly closing_no: number
  readonly location: string
  readonly business_date: string
  readonly document_no: string | null
  readonly header: string
  readonly lines: string | null
}

type Line = readonly [item: string, vatCode: string | null, vatRate: string | null, customer: string | null, ...values: string[]]

interface PostedLines {
  readonly lines: SumsByDimension
  /** Revisions of which there is a closing. */
  readonly revisions: ReadonlySet<number>
  /** Closings of the day whose totals are not the sums of their lines. */
  readonly unequal: readonly Unequal[]
}

/** What was posted for a closing, as the ledger's rows have it. */
function* postedLines({ database, businessDate }: ReconciledDay, { life }: ReconciledDocument): Work<PostedLines> {
  const columns = ['quantity', 'return_quantity', 'discount_amount', 'net_amount', 'vat_amount', 'gross_amount']
  const rows = yield* query<PostedRow>({
    sql: `SELECT c.revision, c.closing_no, c.location, to_char(c.business_date, 'YYYY-MM-DD') AS business_date, c.document_no,
                 json_build_array(${columns.map((name) => `c.${name}::text`).join(', ')}) AS header, l.lines
          FROM ${database.qualify(POSTED_CLOSINGS.name)} c LEFT JOIN LATERAL (
            SELECT json_agg(json_build_array(item_no, vat_code, vat_rate::text, customer_no, ${columns.map((name) => `${name}::text`).join(', ')})) AS lines
            FROM ${database.qualify(POSTED_CLOSING_LINES.name)} l WHERE l.location = c.location AND l.closing_no = c.closing_no) l ON true
          WHERE c.register_id = $1 AND c.table_name = $2 AND c.record_id = $3 AND c.incarnation = $4 ORDER BY c.revision, c.location, c.closing_no`,
    parameters: [life.registerId, life.table, life.recordId, life.incarnation],
  })
  const balance = new Balance()
  const differing: Unequal[] = []
  for (const { location, business_date, document_no, closing_no, header, lines } of rows) {
    const [own, sums] = [new Balance(), new Balance()]
    for (const [item, vatCode, vatRate, customer, ...values] of JSON.parse(lines ?? '[]') as Line[]) {
      const rest = {
        item,
        ...(vatCode !== null && { vatCode }),
        ...(vatRate !== null && { vatRate: trimmed(vatRate) }),
        ...(customer !== null && { customer }),
      }
      balance.add({ location, businessDate: business_date, ...(document_no !== null && { document: document_no }), ...rest }, values)
      sums.add({ location, closingNo: closing_no }, values)
    }
    own.add({ location, closingNo: closing_no }, JSON.parse(header) as string[])
    if (business_date === businessDate) differing.push(...unequal(sums.byDimension, own.byDimension))
  }
  return { lines: balance.byDimension, revisions: new Set(rows.map(({ revision }) => revision)), unequal: differing }
}

/** As it was given: without zeros behind. */
function trimmed(decimal: string): string {
  return decimal.includes('.') ? decimal.replace(/\.?0+$/, '') : decimal
}
