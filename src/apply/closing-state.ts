import { insert, type Work } from '../ports.ts'
import { CLOSINGS, OPEN_CLOSINGS } from './closing-tables.ts'
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

/** Writes down what closings are to be; they are posted at the end of the transaction, when everything that came with them is applied. */
export function* writeClosings(wanted: readonly WantedClosing[], { origin: { registerId, epochNo } }: ApplyContext): Work<void> {
  const rows = wanted.map(({ document: { table, recordId, incarnation, entries }, closing, lines }) => [
    registerId,
    table,
    recordId,
    incarnation,
    JSON.stringify(closing ?? null),
    lines === undefined ? null : sumsToJson(lines.values(), CLOSING_MEASURES),
    epochNo,
    entries[0]?.entryNo,
  ])
  yield* insert(CLOSINGS, rows, CLOSINGS.primaryKey)
  const open = wanted.map(({ document: { table, recordId, incarnation } }) => [registerId, table, recordId, incarnation, null])
  yield* insert(OPEN_CLOSINGS, open, OPEN_CLOSINGS.primaryKey)
}
