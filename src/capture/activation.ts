import { readStates, STATE, writeState } from '../migrate.ts'
import { type CapturingDatabase, erase, type Work } from '../ports.ts'
import type { CapturePlan } from './plan.ts'

const PREFIX = 'published.'

/**
 * Touches what stands in tables that the rules name for the first time, as their `existing` has it, inside the
 * transaction that makes the triggers: no row is missed and none counted twice. A table that is no longer named is
 * forgotten, so that naming it again counts as the first time.
 */
export function* activate(database: CapturingDatabase, plan: CapturePlan, now: () => number): Work<void> {
  const known = new Set((yield* readStates(database, PREFIX)).map(({ key }) => key.slice(PREFIX.length)))
  for (const root of plan.roots.values()) {
    if (known.delete(root.table)) continue
    const { changed, existing } = root.existing
    if (existing) yield* database.capture.touchSelected(root.table, root.key, existing, 'existing')
    if (changed) yield* database.capture.touchSelected(root.table, root.key, changed, 'changed')
    yield* writeState(`${PREFIX}${root.table}`, new Date(now()).toISOString())
  }
  yield* erase(
    STATE,
    STATE.primaryKey,
    [...known].map((table) => [`${PREFIX}${table}`]),
  )
}
