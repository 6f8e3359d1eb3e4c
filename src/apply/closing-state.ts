import { TillsyncError } from '../errors.ts'
import { type ApplyingDatabase, erase, insert, query, type Work } from '../ports.ts'
import { CLOSING_RANGES, CLOSINGS, OPEN_CLOSINGS } from './closing-tables.ts'
import { CLOSING_MEASURES, type KnownClosing } from './closings.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext } from './handler.ts'
import { type SumsByDimension, sumsToJson } from './sums.ts'

/** A closing document with what its latest version says. */
export interface WantedClosing {
  readonly document: AppliedDocument
  /** Undefined where it is void. */
  readonly closing: KnownClosing | undefined
  /** Undefined where they are computed from receipts. */
  readonly lines: SumsByDimension | undefined
}

const KEY = ['register_id', 'table_name', 'record_id', 'incarnation'] as const

/**
 * Writes down what closings are to be; they are posted at the end of the transaction, when everything that came with them is applied.
 *
 * @throws ERR_CLOSING where receipts belong to another closing already
 */
export function* writeClosings(wanted: readonly WantedClosing[], receiptsTable: string | undefined, context: ApplyContext): Work<void> {
  if (wanted.length === 0) return
  const { registerId, epochNo } = context.origin
  const keys = wanted.map(({ document }) => keyOf(registerId, document))
  if (receiptsTable !== undefined) {
    // All that they had is free before any of them takes: receipts may have moved from one to the other.
    yield* erase(CLOSING_RANGES, KEY, keys)
    for (const { document, closing } of wanted) yield* takeRanges(context.database, receiptsTable, keyOf(registerId, document), closing)
  }
  const rows = wanted.map(({ document, closing, lines }) => [
    ...keyOf(registerId, document),
    JSON.stringify(closing ?? null),
    lines === undefined ? null : sumsToJson(lines.values(), CLOSING_MEASURES),
    epochNo,
    document.entries[0]?.entryNo,
  ])
  yield* insert(CLOSINGS, rows, CLOSINGS.primaryKey)
  yield* openClosings(keys)
}

type ClosingKey = readonly [registerId: number, table: string, recordId: string, incarnation: number]

function keyOf(registerId: number, { table, recordId, incarnation }: AppliedDocument): ClosingKey {
  return [registerId, table, recordId, incarnation]
}

/** They are looked at at the end of this transaction, and of later ones until they are posted. */
export function* openClosings(keys: readonly ClosingKey[]): Work<void> {
  yield* insert(
    OPEN_CLOSINGS,
    keys.map((key) => [...key, null]),
    OPEN_CLOSINGS.primaryKey,
  )
}

function* takeRanges(database: ApplyingDatabase, receiptsTable: string, key: ClosingKey, closing: KnownClosing | undefined): Work<void> {
  const ranges = closing?.ranges ?? []
  if (ranges.length === 0) return
  const parameters = [key[0], receiptsTable, ranges.map(({ series }) => series), ranges.map(({ from }) => from), ranges.map(({ through }) => through)]
  const [taken] = yield* query<{ series: string; table_name: string; record_id: string }>({
    sql: `SELECT n.series, r.table_name, r.record_id FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS n(series, first_no, last_no)
          JOIN ${database.qualify(CLOSING_RANGES.name)} r
            ON r.register_id = $1 AND r.receipts_table = $2 AND r.series = n.series AND r.first_no <= n.last_no AND r.last_no >= n.first_no LIMIT 1`,
    parameters,
  })
  if (taken !== undefined) {
    throw new TillsyncError('ERR_CLOSING', `Receipts of its range belong to another closing: ${taken.record_id} of \`${taken.table_name}\``, {
      hint: 'Each receipt belongs to one closing. Correct the range of either at the till; of a till that was restored, withdraw the closing that it has lost.',
      context: { table: key[1], recordId: key[2], other: taken.record_id, series: taken.series },
    })
  }
  const rows = ranges.map(({ series, from, through }) => [key[0], receiptsTable, series, from, through, key[1], key[2], key[3]])
  yield* insert(CLOSING_RANGES, rows)
}
