import { negate } from '../decimal.ts'
import { TillsyncError } from '../errors.ts'
import { erase, query, type Work } from '../work.ts'
import { type Waits, waitsFor } from './closing-completeness.ts'
import { deliveredWith, type Goods, goodsToMove, type MovesGoods, postedAndMoved } from './closing-goods.ts'
import { postClosings, type ToPost } from './closing-posting.ts'
import { takeRanges } from './closing-ranges.ts'
import type { ReceiptsRule } from './closing-receipts.ts'
import { CLOSING_RANGES, CLOSING_RECEIPTS, CLOSINGS, OPEN_CLOSINGS } from './closing-tables.ts'
import { CLOSING_MEASURES, type KnownClosing, unequalTotals } from './closings.ts'
import type { FinishContext } from './finish.ts'
import { nameOf, type Posted } from './postings.ts'
import { type Verdict, verdictOf } from './quarantine-verdict.ts'
import { StockLevels } from './stock-levels.ts'
import { type Dimension, differences, NO_SUMS, type Sums, type SumsByDimension, sumsFromJson, total } from './sums.ts'

export interface OpenClosing {
  readonly table: string
  readonly recordId: string
  readonly incarnation: number
  readonly epochNo: number
  readonly entryNo: number
  /** Null where it is void. */
  readonly closing: KnownClosing | null
  readonly lines: string | null
  /** Why it could not be posted the last time. */
  readonly waits: Waits | undefined
}

interface OpenRow {
  readonly table_name: string
  readonly record_id: string
  readonly incarnation: number
  readonly epoch_no: number
  readonly entry_no: number
  readonly closing: string
  readonly lines: string | null
  readonly waits: string | null
}

export interface SettlementRule {
  readonly receipts: ReceiptsRule | undefined
  readonly moves: MovesGoods
}

/**
 * Posts what open closings of a table want beyond what they have posted, those that are complete. No document's fault may end it: what can't be posted waits, with the
 * reason.
 */
export function* settleClosings(table: string, rule: SettlementRule, context: FinishContext): Work<void> {
  const open = yield* readOpen(table, context)
  if (open.length === 0) return
  const { posted, moved } = yield* postedAndMoved(open, { database: context.database, origin: { registerId: context.registerId } })
  const waiting = rule.receipts === undefined ? new Map<OpenClosing, Waits>() : yield* held(open, rule.receipts, context)
  const toPost: ToPost[] = []
  const settled = new Set<OpenClosing>()
  for (const closing of open) {
    const before = posted.get(nameOf(closing))
    const result = waiting.get(closing) ?? (yield* compute(closing, { before, moved: moved.get(nameOf(closing)), moves: rule.moves }, context))
    if ('why' in result) yield* wait(closing, result, context)
    else {
      settled.add(closing)
      if (result.sums !== undefined || result.goods.sums.length > 0) toPost.push({ closing, revision: (before?.revision ?? 0) + 1, ...result })
    }
  }
  for (const [closing, waits] of yield* postEach(toPost, context)) {
    settled.delete(closing)
    yield* wait(closing, waits, context)
  }
  yield* erase(
    OPEN_CLOSINGS,
    OPEN_CLOSINGS.primaryKey,
    [...settled].map(({ recordId, incarnation }) => [context.registerId, table, recordId, incarnation]),
  )
}

/** All at once, or, where the database refuses one of them, each for itself; says which ones it refused. */
function* postEach(all: readonly ToPost[], context: FinishContext): Work<ReadonlyMap<OpenClosing, Waits>> {
  const refused = new Map<OpenClosing, Waits>()
  if (all.length === 0 || (yield* tryToPost(all, context)) === undefined) return refused
  for (const one of all) {
    const verdict = yield* tryToPost([one], context)
    if (verdict !== undefined) refused.set(one.closing, { why: 'refused', code: verdict.code, message: verdict.message })
  }
  return refused
}

/** Posts behind a savepoint. What the host has tied to the ledgers, a trigger or a reference, may refuse the rows. */
function* tryToPost(all: readonly ToPost[], context: FinishContext): Work<Verdict | undefined> {
  const { database } = context
  const levels = new StockLevels()
  yield* query({ sql: 'SAVEPOINT sync_closings', parameters: [] })
  try {
    yield* postClosings(all, { ...context, levels })
    if (context.isStrict) yield* levels.write(database)
    // What is deferred would refuse at the commit, when nobody knows any more whose it is. Nothing of the host's comes behind.
    yield* query({ sql: 'SET CONSTRAINTS ALL IMMEDIATE', parameters: [] })
  } catch (thrown) {
    const verdict = verdictOf(thrown, database)
    yield* query({ sql: 'ROLLBACK TO SAVEPOINT sync_closings', parameters: [] })
    yield* query({ sql: 'RELEASE SAVEPOINT sync_closings', parameters: [] })
    return verdict
  }
  yield* query({ sql: 'RELEASE SAVEPOINT sync_closings', parameters: [] })
  if (!context.isStrict) context.levels.addAll(levels)
  return undefined
}

/** Those that can't be computed yet. */
function* held(open: readonly OpenClosing[], receipts: ReceiptsRule, context: FinishContext): Work<ReadonlyMap<OpenClosing, Waits>> {
  const incomplete = yield* waitsFor(open, receipts, context)
  const taken = yield* takeRanges(open, incomplete, receipts.table, context)
  // What was computed and did not agree is computed again when a receipt of it has changed.
  const unequal = open.flatMap((closing) =>
    closing.waits !== undefined && COMPUTED.includes(closing.waits.why) ? [[closing, closing.waits] as const] : [],
  )
  return new Map([...unequal, ...incomplete, ...taken])
}

const COMPUTED: readonly Waits['why'][] = ['totals', 'sums']

/** In the order of their entries; locked, so that one transaction after another looks at them. */
function* readOpen(table: string, { database, registerId, through }: FinishContext): Work<readonly OpenClosing[]> {
  const rows = yield* query<OpenRow>({
    sql: `SELECT c.table_name, c.record_id, c.incarnation, c.epoch_no, c.entry_no, c.closing, c.lines, o.waits
          FROM ${database.qualify(OPEN_CLOSINGS.name)} o JOIN ${database.qualify(CLOSINGS.name)} c USING (register_id, table_name, record_id, incarnation)
          WHERE o.register_id = $1 AND o.table_name = $2 AND ($3::bigint IS NULL OR (c.epoch_no, c.entry_no) <= ($3, $4::bigint))
          ORDER BY c.epoch_no, c.entry_no, c.record_id, c.incarnation FOR UPDATE OF o`,
    parameters: [registerId, table, through?.epochNo ?? null, through?.entryNo ?? null],
  })
  return rows.map(({ table_name, record_id, incarnation, epoch_no, entry_no, closing, lines, waits }) => ({
    table: table_name,
    recordId: record_id,
    incarnation,
    epochNo: epoch_no,
    entryNo: entry_no,
    closing: JSON.parse(closing) as KnownClosing | null,
    lines,
    waits: waits === null ? undefined : (JSON.parse(waits) as Waits),
  }))
}

function* wait({ table, recordId, incarnation, waits: before }: OpenClosing, waits: Waits, { database, registerId }: FinishContext): Work<void> {
  if (JSON.stringify(before) === JSON.stringify(waits)) return
  yield* query({
    sql: `UPDATE ${database.qualify(OPEN_CLOSINGS.name)} SET waits = $5 WHERE register_id = $1 AND table_name = $2 AND record_id = $3 AND incarnation = $4`,
    parameters: [registerId, table, recordId, incarnation, JSON.stringify(waits)],
  })
}

interface Computed {
  /** Undefined where nothing is to be posted; empty for a first closing without a line. */
  readonly sums: readonly Sums[] | undefined
  readonly goods: Goods
}

/** What was posted of a closing, and moved for it. */
interface Before {
  readonly before: Posted | undefined
  readonly moved: Posted | undefined
  readonly moves: MovesGoods
}

function* compute(closing: OpenClosing, { before: posted, moved, moves }: Before, context: FinishContext): Work<Computed | Waits> {
  try {
    const lines = closing.closing === null ? NO_SUMS : yield* linesOf(closing, context)
    const unequal = closing.closing === null || posted !== undefined ? [] : unequalTotals(closing.closing, lines)
    if (unequal.length > 0) return { why: 'totals', totals: unequal }
    const sums = differences(closing.closing === null ? NO_SUMS : withHeader(closing.closing, lines), posted?.sums ?? NO_SUMS)
    const isFirst = posted === undefined && closing.closing !== null
    return { sums: sums.length > 0 || isFirst ? sums : undefined, goods: goodsToMove(moves, deliveredWith(posted, sums), moved) }
  } catch (error) {
    // A sum that is no quantity any more is the one thing that may go wrong here.
    if (error instanceof TillsyncError && error.code === 'ERR_VALUE') return { why: 'sums' }
    throw error
  }
}

/** Its lines, as the till has made them or as its receipts have them. */
function* linesOf(closing: OpenClosing, { database, registerId }: FinishContext): Work<SumsByDimension> {
  if (closing.lines !== null) return total(sumsFromJson(closing.lines, CLOSING_MEASURES))
  const rows = yield* query<{ lines: string; baseline: string | null }>({
    sql: `SELECT c.lines, c.baseline FROM ${database.qualify(CLOSING_RANGES.name)} r
          JOIN ${database.qualify(CLOSING_RECEIPTS.name)} c
            ON c.register_id = r.register_id AND c.table_name = r.receipts_table AND c.series = r.series COLLATE "default" AND c.number BETWEEN r.first_no AND r.last_no
          WHERE r.register_id = $1 AND r.table_name = $2 AND r.record_id = $3 AND r.incarnation = $4
          ORDER BY c.series, c.number, c.record_id, c.incarnation`,
    parameters: [registerId, closing.table, closing.recordId, closing.incarnation],
  })
  return total(
    rows.flatMap(({ lines, baseline }) => [
      ...sumsFromJson(lines, CLOSING_MEASURES),
      ...(baseline === null ? [] : sumsFromJson(baseline, CLOSING_MEASURES).map((one) => ({ ...one, values: one.values.map(negate) }))),
    ]),
  )
}

/** Lines with what the closing says of all of them: its warehouse, where they name none, its date and its number. */
export function withHeader({ location, businessDate, document }: KnownClosing, lines: SumsByDimension): SumsByDimension {
  const header = { businessDate, ...(document !== null && { document }) }
  return total(
    [...lines.values()].map(({ dimension, values }) => {
      const full: Dimension = { location: dimension.location ?? location, ...header, ...dimension }
      return { name: JSON.stringify(full), dimension: full, values }
    }),
  )
}
