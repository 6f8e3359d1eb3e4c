import type { AnyTables, Which } from '../model.ts'
import type { CapturingDatabase } from '../ports.ts'
import { insert, type Key, lookup, type Work } from '../work.ts'
import { AUDIENCE_MEMBERS } from './audience-tables.ts'
import { audiencesAt, moveHead } from './audiences.ts'
import { recordIdText } from './documents.ts'
import { selectWhich } from './export.ts'
import type { RootPlan } from './table-plan.ts'

/** Documents that are sent anew in one transaction. */
const SLICE = 500

/** The next documents meant, after a key, are looked for in all filters again, as nobody may have seen that they came in or left. Answers the last; undefined at the end. */
export function* lookAgain(
  database: CapturingDatabase,
  root: RootPlan,
  which: Which<AnyTables, string>,
  after: Key | undefined,
): Work<Key | undefined> {
  const keys = yield* selectWhich(database, root, which, after, SLICE)
  yield* database.capture.touch(root.table, root.key, keys, 'compared')
  return keys.length < SLICE ? undefined : keys.at(-1)
}

/** The next documents meant, after a key: they stand at the end of the audiences' streams from now on. `next` is undefined at the end. */
export function* resend(
  database: CapturingDatabase,
  root: RootPlan,
  which: Which<AnyTables, string>,
  audienceIds: ReadonlySet<number>,
  after: Key | undefined,
): Work<{ readonly documents: number; readonly next: Key | undefined }> {
  const keys = yield* selectWhich(database, root, which, after, SLICE)
  const ids = keys.map((key) => recordIdText(root, key))
  const sent = new Set<string>()
  for (const audience of (yield* audiencesAt(database, [...audienceIds])).values()) {
    const { audience_id, head_no } = audience
    const { build } = database
    const given = build
      .selectFrom(AUDIENCE_MEMBERS.name)
      .select('record_id')
      .where('audience_id', '=', audience_id)
      .where('removed', '=', false)
      .where('record_id', 'in', ids)
      .orderBy('entry_no')
      .compile()
    const [rows = []] = ids.length === 0 ? [] : yield* lookup(given, [[]])
    if (rows.length === 0) continue
    yield* insert(
      AUDIENCE_MEMBERS,
      rows.map(([id], n) => [audience_id, id, head_no + n + 1, false]),
      AUDIENCE_MEMBERS.primaryKey,
    )
    yield* moveHead(database, audience, head_no + rows.length)
    for (const [id] of rows) sent.add(String(id))
  }
  return { documents: sent.size, next: keys.length < SLICE ? undefined : keys.at(-1) }
}
