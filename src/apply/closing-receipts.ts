import type { RegisterName } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { insert, query, type Work } from '../work.ts'
import { CLOSING_RANGES, CLOSING_RECEIPTS, OPEN_CLOSINGS, POSTED_CLOSINGS } from './closing-tables.ts'
import { CLOSING_MEASURES, numberOf, readLines, seriesOf } from './closings.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext, Handler } from './handler.ts'
import { mapped } from './mapping.ts'
import { nameOf } from './postings.ts'
import { type Scales, type SumsByDimension, sumsToJson } from './sums.ts'

/** How closings are computed from receipts. */
export interface ReceiptsRule {
  readonly table: string
  /** Columns of the receipts. */
  readonly number: string
  readonly series: string | undefined
  /** The column with their business date; undefined where none is said. */
  readonly date: string | undefined
  readonly lines: (receipt: never, origin: { readonly location: string; readonly register: string }) => unknown
  readonly scales: Scales
  readonly removals: 'ignore' | 'apply'
}

/** What a receipt brings, and where it belongs. */
interface Contribution {
  readonly document: AppliedDocument
  readonly series: string
  readonly number: string
  readonly lines: string
  readonly baseline: Baseline
}

/** What it was before the register began to publish it, and where that stands: the first one counts. */
interface Baseline {
  readonly lines: string | null
  readonly epochNo: number | null
  readonly entryNo: number | null
}

interface KnownRow {
  readonly table_name: string
  readonly record_id: string
  readonly incarnation: number
  readonly series: string
  readonly number: string
  readonly lines: string
  readonly baseline: string | null
  readonly baseline_epoch_no: number | null
  readonly baseline_no: number | null
}

/** Keeps what each receipt brings into a closing. A receipt of a closing that is posted opens it again. */
export function closingReceipts(rule: ReceiptsRule): Handler {
  return {
    name: 'pluClosings',
    ledger: POSTED_CLOSINGS.name,
    removals: rule.removals,
    tables: [],
    *check() {},
    *apply(documents, context) {
      yield* writeContributions(yield* changedBy(rule, documents, context), context)
    },
    *differing(documents, context) {
      return new Set((yield* changedBy(rule, documents, context)).map(({ document }) => document))
    },
    *withdraw(documents, context) {
      const known = yield* readKnown(documents, context)
      const nothing = documents.flatMap((document) => emptied(document, known.get(nameOf(document))))
      yield* writeContributions(changes(nothing, known), context)
    },
  }
}

/** A contribution that is another one than was known. */
interface Change extends Contribution {
  readonly known: KnownRow | undefined
}

function* changedBy(rule: ReceiptsRule, documents: readonly AppliedDocument[], context: ApplyContext): Work<readonly Change[]> {
  const counting = rule.removals === 'apply' ? documents : documents.filter(({ removed }) => !removed)
  const known = yield* readKnown(
    counting.filter(({ isNew }) => !isNew),
    context,
  )
  const wanted = counting.flatMap((document) => contributionOf(rule, document, known.get(nameOf(document)), context))
  return changes(wanted, known)
}

function changes(all: readonly Contribution[], known: ReadonlyMap<string, KnownRow>): readonly Change[] {
  return all.flatMap((one) => {
    const before = known.get(nameOf(one.document))
    const isSame =
      before?.lines === one.lines && before.series === one.series && before.number === one.number && before.baseline === one.baseline.lines
    return isSame ? [] : [{ ...one, known: before }]
  })
}

function contributionOf(rule: ReceiptsRule, document: AppliedDocument, known: KnownRow | undefined, context: ApplyContext): readonly Contribution[] {
  if (document.removed) return emptied(document, known)
  const linesOf = (one: AppliedDocument): SumsByDimension => receiptLines(rule, one, context.origin)
  const place = mapped(
    document,
    'pluClosings()',
    'ERR_CLOSING',
    () => document.value,
    (value) => placeOf(rule, value as AppliedDocument['value']),
  )
  const before = baselineOf(known)
  const now = document.baseline && { epochNo: document.baseline.epochNo ?? context.origin.epochNo, entryNo: document.baseline.born }
  const isFirst = known === undefined || (before.epochNo === now?.epochNo && before.entryNo === now?.entryNo)
  const baseline = document.baseline && now && isFirst ? { ...now, lines: toJson(linesOf(document.baseline)) } : before
  return [{ document, ...place, lines: toJson(linesOf(document)), baseline }]
}

/** What a receipt brings into its closing. @throws ERR_CLOSING, and what the host's function throws */
export function receiptLines(
  { lines, scales }: Pick<ReceiptsRule, 'lines' | 'scales'>,
  document: AppliedDocument,
  { location, register }: RegisterName,
): SumsByDimension {
  return mapped(
    document,
    'pluClosings()',
    'ERR_CLOSING',
    () => lines(document.value as never, { location, register }),
    (value) => readLines(value, scales),
  )
}

function baselineOf(known: KnownRow | undefined): Baseline {
  return { lines: known?.baseline ?? null, epochNo: known?.baseline_epoch_no ?? null, entryNo: known?.baseline_no ?? null }
}

/** @throws ERR_CLOSING where the columns hold no integer, no series */
export function placeOf(
  { number, series }: ReceiptsRule,
  record: Readonly<Record<string, unknown>>,
): { readonly series: string; readonly number: string } {
  return { series: series === undefined ? '' : seriesOf(record[series]), number: numberOf(record[number], number) }
}

function toJson(lines: SumsByDimension): string {
  return sumsToJson(lines.values(), CLOSING_MEASURES)
}

/** It brings nothing any more. */
function emptied(document: AppliedDocument, known: KnownRow | undefined): readonly Contribution[] {
  if (known === undefined) return []
  const { series, number } = known
  return [{ document, series, number, lines: '[]', baseline: baselineOf(known) }]
}

function* readKnown(documents: readonly AppliedDocument[], { database, origin }: ApplyContext): Work<ReadonlyMap<string, KnownRow>> {
  if (documents.length === 0) return new Map()
  const rows = yield* query<KnownRow>({
    sql: `SELECT c.table_name, c.record_id, c.incarnation, c.series, c.number::text, c.lines, c.baseline, c.baseline_epoch_no, c.baseline_no
          FROM unnest($2::text[], $3::text[], $4::bigint[]) AS d(table_name, record_id, incarnation) CROSS JOIN LATERAL (SELECT * FROM ${database.qualify(CLOSING_RECEIPTS.name)} c
            WHERE c.register_id = $1 AND c.table_name = d.table_name AND c.record_id = d.record_id AND c.incarnation = d.incarnation OFFSET 0) c`,
    parameters: [origin.registerId, documents.map((d) => d.table), documents.map((d) => d.recordId), documents.map((d) => d.incarnation)],
  })
  return new Map(rows.map((row) => [nameOf({ table: row.table_name, recordId: row.record_id, incarnation: row.incarnation }), row]))
}

function* writeContributions(changed: readonly Change[], { database, origin }: ApplyContext): Work<void> {
  const [first] = changed
  if (first === undefined) return
  const rowOf = ({ document: { table, recordId, incarnation }, series, number, lines, baseline }: Change) => {
    return [origin.registerId, table, recordId, incarnation, series, number, lines, baseline.lines, baseline.epochNo, baseline.entryNo]
  }
  const { added = [], replaced = [] } = Object.groupBy(changed, ({ document }) => (document.isNew ? 'added' : 'replaced'))
  yield* insert(CLOSING_RECEIPTS, added.map(rowOf))
  yield* insert(CLOSING_RECEIPTS, replaced.map(rowOf), CLOSING_RECEIPTS.primaryKey)
  const before = changed.flatMap(({ known }) => known ?? [])
  yield* openCovering(database, origin.registerId, first.document.table, [...changed, ...before])
}

/** The closings to whose ranges these numbers belong are looked at again. */
function* openCovering(
  database: ApplyingDatabase,
  registerId: number,
  receiptsTable: string,
  places: readonly { readonly series: string; readonly number: string }[],
): Work<void> {
  const key = 'register_id, table_name, record_id, incarnation'
  yield* query({
    sql: `INSERT INTO ${database.qualify(OPEN_CLOSINGS.name)} (${key})
          SELECT DISTINCT $1::bigint, r.table_name, r.record_id, r.incarnation FROM unnest($3::text[], $4::bigint[]) AS n(series, number)
          CROSS JOIN LATERAL (SELECT * FROM ${database.qualify(CLOSING_RANGES.name)} r
            WHERE r.register_id = $1 AND r.receipts_table = $2 AND r.series = n.series AND r.first_no <= n.number ORDER BY r.first_no DESC LIMIT 1) r
          WHERE r.last_no >= n.number ORDER BY 2, 3, 4 ON CONFLICT (${key}) DO UPDATE SET waits = NULL`,
    parameters: [registerId, receiptsTable, places.map(({ series }) => series), places.map(({ number }) => number)],
  })
}
