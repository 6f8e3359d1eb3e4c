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
    const text = JSON.stringify(rules)
    const before = known.get(root.table)
    known.delete(root.table)
    if (before === text) continue
    yield* writeState(`${PREFIX}${root.table}`, text)
    if (before !== undefined) {
      yield* askReseal(root.table, initialsDiffer(JSON.parse(before) as Rules, rules))
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

/** What decides which documents are published and what they hold. */
interface Rules {
  readonly hash: string
  /** The initial value of each column, which the hashes of documents leave out. */
  readonly initials: Readonly<Record<string, string>>
}

function rulesOf(root: RootPlan): Rules {
  const plans = (plan: TablePlan): TablePlan[] => [plan, ...plan.parts.flatMap(plans)]
  const all = plans(root)
  const statements = all.map(({ read }) => [read.sql, read.parameters.map(String)])
  const initials = all.flatMap(({ table, columns }) => columns.map(({ name, initial = 'null' }) => [`${table}.${name}`, initial]))
  return { hash: hash('sha256', JSON.stringify([statements, root.spec.identity])), initials: Object.fromEntries(initials) }
}

/** With another default the same hash could mean another document: then everything is sealed once more. */
function initialsDiffer(before: Rules, now: Rules): boolean {
  return Object.entries(now.initials).some(([column, initial]) => (before.initials[column] ?? initial) !== initial)
}
