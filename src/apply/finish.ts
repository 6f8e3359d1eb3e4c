import type { ApplyingDatabase } from '../ports.ts'
import type { Work } from '../work.ts'
import type { Handler } from './handler.ts'
import type { StockLevels } from './stock-levels.ts'

/** What handlers do last, when all documents of a register are applied that its transaction brings; then levels are written. */
export interface FinishContext {
  readonly database: ApplyingDatabase
  readonly registerId: number
  readonly levels: StockLevels
  /** Only what stands at this place of the register's entries or before it: more is to come. Default: all. */
  readonly through?: { readonly epochNo: number; readonly entryNo: number } | undefined
  /** Whether levels are written with each step, so that what they refuse is known to be its. */
  readonly isStrict?: boolean
  /** Told for how many documents something was posted. */
  readonly onPosted?: (documents: number) => void
}

/** Runs the last step of all handlers that have one, then writes the levels: once in a transaction, whatever it has applied. */
export function* finish(handlers: ReadonlyMap<string, readonly Handler[]>, context: FinishContext): Work<void> {
  for (const [table, all] of handlers) for (const handler of all) if (handler.finish !== undefined) yield* handler.finish(table, context)
  yield* context.levels.write(context.database)
}
