import { hash } from 'node:crypto'
import { readStates, STATE, writeState } from '../migrate.ts'
import { type CapturingDatabase, erase, type Work } from '../ports.ts'
import type { CapturePlan, RootPlan, TablePlan } from './plan.ts'
import { askReseal } from './reseal.ts'

const PREFIX = 'published.'

/**
 * Touches what stands in tables that the rules name for the first time, as their `existing` has it, inside the
 * transaction that makes the triggers: no row is missed and none counted twice. A table that is no longer named is
 * forgotten, so that naming it again counts as the first time. Where the rules of a table are not what they were, its
 * reseal is asked for.
 */
export function* activate(database: CapturingDatabase, plan: CapturePlan): Work<void> {
  const known = new Map((yield* readStates(database, PREFIX)).map(({ key, value }) => [key.slice(PREFIX.length), value]))
  for (const root of plan.roots.values()) {
    const rules = rulesOf(root)
    const before = known.get(root.table)
    known.delete(root.table)
    if (before === rules) continue
    yield* writeState(`${PREFIX}${root.table}`, rules)
    if (before !== undefined) {
      yield* askReseal(root.table)
      continue
    }
    const { changed, existing } = root.existing
    if (existing) yield* database.capture.touchSelected(root.table, root.key, existing, 'existing')
    if (changed) yield* database.capture.touchSelected(root.table, root.key, changed, 'changed')
  }
  yield* erase(
    STATE,
    STATE.primaryKey,
    [...known.keys()].map((table) => [`${PREFIX}${table}`]),
  )
}

/** What decides which documents are published and what they hold, as a hash. */
function rulesOf(root: RootPlan): string {
  const statementsOf = (plan: TablePlan): unknown[] => [plan.read.sql, plan.read.parameters.map(String), ...plan.parts.map(statementsOf)]
  return hash('sha256', JSON.stringify([statementsOf(root), root.spec.identity]))
}
