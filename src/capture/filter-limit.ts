import { TillsyncError } from '../errors.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'

/**
 * Work that asks filters of the host's: none of its statements takes longer. What is cancelled is undone with its transaction.
 *
 * @throws ERR_FILTER, retryable
 */
export function* withinLimit<T>(database: Pick<ApplyingDatabase, 'faultOf'>, ms: number, table: string | undefined, work: () => Work<T>): Work<T> {
  yield* query({ sql: "SELECT pg_catalog.set_config('statement_timeout', $1, true)", parameters: [String(ms)] })
  try {
    return yield* work()
  } catch (error) {
    if (database.faultOf(error) !== 'cancelled') throw error
    throw tooSlow(ms, table, error)
  }
}

/** A filter of the host's was cancelled. */
export function tooSlow(ms: number, table: string | undefined, cause: unknown): TillsyncError {
  return new TillsyncError(
    'ERR_FILTER',
    `${table === undefined ? 'A filter' : `The filter of \`${table}\``} was cancelled: it took longer than ${ms} ms`,
    {
      retryable: true,
      hint: 'Which indexes do its joins and subqueries need? EXPLAIN shows it. Or raise `filterTimeoutMs`.',
      context: table === undefined ? {} : { table },
      cause,
    },
  )
}
