import { sql } from 'kysely'
import type { CapturingDatabase } from '../ports.ts'
import { insert, type Key, lookup, type Work, writing } from '../work.ts'
import type { RootPlan } from './table-plan.ts'
import { MEMBERS } from './tables.ts'

/** What no document has. */
const UNKNOWN = Buffer.alloc(32)

/**
 * Touches documents that central wants to have once more, so that they are sealed whether they have changed or not; withheld ones too: central has a version of them that was lost here.
 * What nobody here knows to have been given counts as given: central has it, so where it is not published its removal is sealed.
 */
export function* touchAgain(
  database: CapturingDatabase,
  root: RootPlan,
  asked: readonly { readonly recordId: string; readonly key: Key }[],
): Work<void> {
  const found = yield* lookup(
    database.build
      .selectFrom(MEMBERS.name)
      .select('state')
      .where(sql.raw<boolean>(database.keyed(MEMBERS, MEMBERS.primaryKey)))
      .compile(),
    asked.map(({ recordId }) => [root.table, recordId]),
  )
  yield* writing()
  yield* insert(
    MEMBERS,
    asked.flatMap(({ recordId }, n) => (found[n]?.length === 0 ? [[root.table, recordId, UNKNOWN, null, 'given', 0]] : [])),
  )
  yield* database.capture.touch(
    root.table,
    root.key,
    asked.map(({ key }) => key),
    'exported',
  )
}
