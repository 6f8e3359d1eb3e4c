import { hash } from 'node:crypto'
import { readStates, STATE, writeState } from '../migrate.ts'
import type { CapturingDatabase } from '../ports.ts'
import { erase, query, type Work } from '../work.ts'
import { type CapturePlan, type Problem, planAnd, planCapture } from './plan.ts'
import { askReseal, forgetReseal } from './reseal.ts'
import { dependenciesOf, type RootSpec, tablesOf } from './rules.ts'
import { selectColumns } from './selects.ts'
import type { RootPlan, TablePlan } from './table-plan.ts'
import { EMPTIED, MEMBERS } from './tables.ts'

const PREFIX = 'published.'

/** What keeping up with the host's schema came to. */
export interface Upkeep {
  readonly plan: CapturePlan
  /** The schema that the plan is of. */
  readonly schema: string
  /** Roots of which something may have gone unseen; their reseal was asked for. */
  readonly mended: readonly string[]
  readonly problems: readonly Problem[]
  /** What was run to make or mend tables and triggers. */
  readonly statements: readonly string[]
  /** The host's schema is being changed: nothing was made or mended. */
  readonly isMigrating?: true
}

/** `lost`: the root table itself, or one of its parts. */
export type Refill = (table: string, lost: string) => Work<boolean>

/**
 * Plans, makes or mends the triggers, and activates, in the caller's transaction.
 *
 * @param strict whether a root that does not fit its tables is an error, or left out and named
 * @param refill asks the other side for all of a root table that, or a part of which, was made anew and is empty; says whether that fills it
 */
export function* keepUp(database: CapturingDatabase, specs: readonly RootSpec[], strict: boolean, refill?: Refill): Work<Upkeep> {
  const problems: Problem[] = []
  const before = new Set((yield* readStates(database, PREFIX)).map(({ key }) => key.slice(PREFIX.length)))
  const install = ({ sources, tables }: CapturePlan) => database.capture.install(sources, tables)
  const { plan, done } = yield* planAnd(database, specs, strict ? undefined : problems, install)
  const { tables: changed, bare, statements, refused } = done
  const hasRefused = new Set<RootSpec>()
  for (const [table, error] of refused ?? []) {
    if (strict) throw error
    for (const spec of specs.filter((spec) => namesOf(spec).includes(table) && !hasRefused.has(spec))) {
      hasRefused.add(spec)
      problems.push({ table: spec.table, error })
    }
  }
  // Where triggers are still missing, the look that makes them asks for the reseal.
  const mended = specs.filter(
    (spec) =>
      (plan.roots.has(spec.table) || plan.unread.has(spec.table)) &&
      before.has(spec.table) &&
      !hasRefused.has(spec) &&
      namesOf(spec).some((name) => changed.has(name)),
  )
  for (const { table } of mended) {
    const root = plan.roots.get(table)
    if (refill !== undefined && root !== undefined) yield* keepLost(database, root, bare, refill)
    yield* askReseal(database, table, false)
  }
  yield* activate(
    database,
    plan,
    specs.map((spec) => spec.table),
  )
  return { plan, schema: yield* database.capture.schemaVersion(), mended: mended.map(({ table }) => table), problems, statements }
}

function namesOf(spec: RootSpec): readonly string[] {
  return [...tablesOf(spec), ...dependenciesOf(spec)]
}

/** The statements that `keepUp` would run. */
export function* upkeepStatements(database: CapturingDatabase, specs: readonly RootSpec[]): Work<readonly string[]> {
  const { sources, tables } = yield* planCapture(database, specs)
  return (yield* database.capture.changes(sources, tables)).statements
}

/**
 * Touches what stands in tables that the rules name for the first time, as their `existing` has it, inside the
 * transaction that makes the triggers: no row is missed and none counted twice. A table that is in no rule any more is
 * forgotten, so that naming it again counts as the first time. Where the rules of a table are not what they were, its
 * reseal is asked for.
 */
function* activate(database: CapturingDatabase, plan: CapturePlan, named: readonly string[]): Work<void> {
  const known = new Map((yield* readStates(database, PREFIX)).map(({ key, value }) => [key.slice(PREFIX.length), value]))
  for (const root of plan.roots.values()) {
    const before = known.get(root.table)
    const rules = rulesOf(root, plan.tables, before === undefined ? {} : (JSON.parse(before) as Rules).initials)
    const text = JSON.stringify(rules)
    known.delete(root.table)
    if (before === text) continue
    yield* writeState(`${PREFIX}${root.table}`, text)
    if (before !== undefined) {
      yield* askReseal(database, root.table, initialsDiffer(JSON.parse(before) as Rules, rules))
      continue
    }
    // What it was given when it was published before and is gone by now, nothing else finds.
    if (yield* hasMembers(database, root.table)) yield* askReseal(database, root.table, false)
    const { changed, existing } = root.existing
    if (existing) yield* database.capture.touchSelected(root.table, root.key, existing, 'existing')
    if (changed) yield* database.capture.touchSelected(root.table, root.key, changed, 'changed')
  }
  const forgotten = [...known.keys()].filter((table) => !named.includes(table))
  yield* erase(
    STATE,
    STATE.primaryKey,
    forgotten.map((table) => [`${PREFIX}${table}`]),
  )
  for (const table of forgotten) yield* forgetReseal(table)
}

function* keepLost(database: CapturingDatabase, root: RootPlan, bare: ReadonlySet<string>, refill: Refill): Work<void> {
  const lost: string[] = []
  for (const plan of plansIn(root))
    if (bare.has(plan.table) && (yield* isEmpty(database, plan)) && (yield* refill(root.table, plan.table))) lost.push(plan.table)
  if (lost.includes(root.table)) yield* forgetGiven(database, root.table)
  else if (lost.length > 0) yield* emptyGiven(database, root.table)
}

/** The same for parts: their documents stand, and are as they were given, but for what comes again. */
function* emptyGiven({ build }: CapturingDatabase, table: string): Work<void> {
  const given = build.updateTable(MEMBERS.name).set({ hash: EMPTIED, entry_no: 0 })
  yield* query(given.where('table_name', '=', table).where('state', '=', 'given').compile())
}

/**
 * A table that was made anew, and that the other side fills again: nobody has deleted what stood in it. It is no removal, then, and what comes is not taken for
 * what somebody has removed here.
 */
function* forgetGiven({ build }: CapturingDatabase, table: string): Work<void> {
  yield* query(build.deleteFrom(MEMBERS.name).where('table_name', '=', table).where('state', '=', 'given').compile())
}

function* isEmpty(database: CapturingDatabase, { table, key }: TablePlan): Work<boolean> {
  return (yield* query(selectColumns(database, table, key).limit(1).compile())).length === 0
}

function* hasMembers({ build }: CapturingDatabase, table: string): Work<boolean> {
  return (yield* query(build.selectFrom(MEMBERS.name).select('table_name').where('table_name', '=', table).limit(1).compile())).length > 0
}

/** What decides which documents are published and what they hold. */
interface Rules {
  readonly hash: string
  /** The initial value of each column, which the hashes of documents leave out; of one that is gone the last, for its name may come again. */
  readonly initials: Readonly<Record<string, string>>
}

function plansIn(plan: TablePlan): TablePlan[] {
  return [plan, ...plan.parts.flatMap(plansIn)]
}

function rulesOf(root: RootPlan, tables: CapturePlan['tables'], before: Rules['initials']): Rules {
  const all = plansIn(root)
  const statements = all.map(({ read }) => [read.sql, read.parameters.map(String)])
  const initials = all.flatMap(({ table, columns }) => columns.map(({ name, initial = 'null' }) => [`${table}.${name}`, initial]))
  // A type that was changed writes the same values otherwise, USING or an expression makes others of them, and no trigger sees it.
  const types = all.flatMap(({ columns }) => columns.map(({ type, revision }) => (revision === undefined ? type : [type, revision])))
  // A filter may read columns that are not published, which swap their names or get other values.
  const filtered = root.spec.isFiltered ? [...tablesOf(root.spec), ...dependenciesOf(root.spec)] : []
  const read = filtered.flatMap((table) => tables.get(table)?.columns.map(({ name, type, revision = '' }) => [name, type, revision]) ?? [])
  return {
    hash: hash('sha256', JSON.stringify([statements, types, root.spec.identity, ...read])),
    initials: { ...before, ...Object.fromEntries(initials) },
  }
}

/** With another default the same hash could mean another document: then everything is sealed once more. */
function initialsDiffer(before: Rules, now: Rules): boolean {
  return Object.entries(now.initials).some(([column, initial]) => (before.initials[column] ?? initial) !== initial)
}
