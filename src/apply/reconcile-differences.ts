import type { RegisterName } from '../model.ts'
import type { Waits } from './closing-completeness.ts'
import type { Unequal } from './reconcile-sums.ts'

/**
 * - `posted`: what was posted is not what the version that stands should have caused, by the handlers as they are now.
 * - `ledger`: the rows of the ledger are not what was posted to it.
 * - `unclosed`: a receipt of the day belongs to no closing.
 * - `late`: a receipt came behind the till's closing, which does not have it, or not as it is now.
 * - `unequal`: the till's closing is not the sum of its receipts, and none came behind it.
 * - `waiting`: a closing that is not posted yet, or not all of it.
 * - `quarantined`: its latest version waits in quarantine; what an older one has posted stands.
 * - `unmapped`: the handler's function throws for the version that stands.
 * - `missing`: entries of the version that stands are not in the archive, or can't be read.
 */
export type DifferenceReason = 'posted' | 'ledger' | 'unclosed' | 'late' | 'unequal' | 'waiting' | 'quarantined' | 'unmapped' | 'missing'

/** Sums that should be equal and are not: decimal text by measure (`quantity`, `amount`; of closings `netAmount`, `vatAmount` …). */
export interface DifferingLine {
  /** By what it is kept apart: `item`, `location`, `businessDate`, `customer`, `vatCode` …; what is null is left out. */
  readonly dimension: Readonly<Record<string, string | number | boolean>>
  /** What should be there, by the document. */
  readonly wanted: Readonly<Record<string, string>>
  readonly found: Readonly<Record<string, string>>
}

/** A document whose books do not agree. */
export interface DifferingDocument extends RegisterName {
  readonly table: string
  /** JSON text, `[4711]`. */
  readonly recordId: string
  /** Which life of its key it is. */
  readonly incarnation: number
  readonly why: DifferenceReason
  /** `stock_movements`, `posted_plu_closings`, or the host's own by its name; where it is about one. */
  readonly ledger?: string
  /** Where the sums differ; what a receipt that is not closed, or came late, brings. */
  readonly lines: readonly DifferingLine[]
  /** What a closing waits for. */
  readonly waits?: Waits
  /** By what `quarantine` knows it. */
  readonly quarantineId?: number
  /** Why the function throws: a code. */
  readonly error?: string
}

/** So many documents are named; all are counted. */
export const MOST_DIFFERENCES = 1_000
/** So many lines of each. */
const MOST_LINES = 100

export function linesOf(all: readonly Unequal[], measures: readonly string[]): readonly DifferingLine[] {
  const byMeasure = (values: readonly string[]) => Object.fromEntries(measures.map((measure, n) => [measure, values[n] ?? '0']))
  return all.slice(0, MOST_LINES).map(({ dimension, wanted, found }) => ({ dimension, wanted: byMeasure(wanted), found: byMeasure(found) }))
}

/** Documents whose books do not agree, as they are found. */
export class Differences {
  readonly listed: DifferingDocument[] = []
  total = 0

  add(difference: DifferingDocument): void {
    if (++this.total <= MOST_DIFFERENCES) this.listed.push(difference)
  }
}
