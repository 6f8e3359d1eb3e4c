import { sql } from 'kysely'
import { TillsyncError } from '../errors.ts'
import type { HostTable } from '../host-table.ts'
import type { CapturingDatabase, TouchSource } from '../ports.ts'
import { lookup, type Statement, type Work } from '../work.ts'
import { filterError, readableBy, refuseOthers } from './filters.ts'
import { dependenciesOf, type RootSpec, tablesOf } from './rules.ts'
import { findBy, selectColumns } from './selects.ts'
import { isPart, planRoot, type RootPlan, type TablePlan } from './table-plan.ts'

/** From touched columns to what they mean: a document's key, or a step up to the parent. */
export type Resolver =
  | { readonly kind: 'root'; readonly root: RootPlan }
  | { readonly kind: 'search'; readonly root: RootPlan; readonly find: Statement }
  | { readonly kind: 'climb'; readonly find: Statement; readonly to: { readonly table: string; readonly refers: readonly string[] } }

export interface CapturePlan {
  readonly roots: ReadonlyMap<string, RootPlan>
  /** Roots that can't be read as we are, or whose filter does not run: why. They are touched all the same, so that a reseal follows when they can. */
  readonly unread: ReadonlyMap<string, TillsyncError>
  readonly tables: ReadonlyMap<string, HostTable>
  readonly sources: readonly TouchSource[]
  resolver(table: string, refers: readonly string[]): Resolver | undefined
}

/** A root that can't be published as its tables stand now. */
export interface Problem {
  readonly table: string
  readonly error: TillsyncError
}

/**
 * The rules against the tables as they stand. With `problems`, roots that do not fit are left out and named there.
 *
 * @throws ERR_UNKNOWN_TABLE, ERR_UNKNOWN_COLUMN, ERR_NO_KEY, ERR_RULE, ERR_FILTER, ERR_DATABASE
 */
export function* planCapture(database: CapturingDatabase, specs: readonly RootSpec[], problems?: Problem[]): Work<CapturePlan> {
  yield* database.giveWay()
  const tables = yield* database.describe(specs.flatMap((spec) => [...tablesOf(spec), ...dependenciesOf(spec)]))
  const roots = new Map<string, RootPlan>()
  const unread = new Map<string, TillsyncError>()
  const paths = new Paths(database, tables)
  for (const spec of specs) {
    try {
      const root = planRoot(database, spec, tables)
      const error = yield* unreadable(database, root)
      if (error !== undefined) unread.set(spec.table, error)
      else roots.set(spec.table, root)
      paths.addRoot(root)
      if (error !== undefined) throw error
    } catch (error) {
      if (!problems || !(error instanceof TillsyncError)) throw error
      problems.push({ table: spec.table, error })
    }
  }
  return { roots, unread, tables, sources: paths.sources, resolver: remembering(paths.resolvers) }
}

function partReads(plan: TablePlan): Statement[] {
  return plan.parts.flatMap((part) => [ofNothing(part.read, part.parent.own.length), ...partReads(part)])
}

function ofNothing({ sql, parameters }: Statement, keyWidth: number): Statement {
  return { sql, parameters: [...Array<null>(keyWidth).fill(null), ...parameters] }
}

/** A function or a collation may be missing on the library's connection, or its role may not read them, or its filter does not run: other roots need not wait for that. */
function* unreadable(database: CapturingDatabase, root: RootPlan): Work<TillsyncError | undefined> {
  // By its key and by its columns, without its filter, of which `tryOut` speaks.
  const selected = root.columns.map(({ name }) => name)
  const statements = [selectColumns(database, root.table, selected).compile(), ofNothing(root.identify, root.key.length), ...partReads(root)]
  try {
    yield* database.requireReadable(tablesOf(root.spec), statements)
    yield* tryOut(database, root)
    return undefined
  } catch (error) {
    if (!(error instanceof TillsyncError) || error.retryable) throw error
    return error
  }
}

/** What triggers on a table may be refused by; where it names the table, others need not wait for that. */
const OF_TABLES: readonly string[] = ['ERR_INHERITANCE', 'ERR_RULE', 'ERR_DATABASE']

/**
 * The plan with what is done by it. With `problems`, a root of which a table can't be captured is left out and named there too, and the others go on.
 *
 * @throws ERR_INHERITANCE, ERR_DATABASE where a table belongs to another role, and what `planCapture` throws
 */
export function* planAnd<T>(
  database: CapturingDatabase,
  specs: readonly RootSpec[],
  problems: Problem[] | undefined,
  work: (plan: CapturePlan) => Work<T>,
): Work<{ readonly plan: CapturePlan; readonly done: T }> {
  const found: Problem[] = []
  const plan = yield* planCapture(database, specs, problems && found)
  try {
    const done = yield* work(plan)
    problems?.push(...found)
    return { plan, done }
  } catch (error) {
    const refused = specs.find(
      (spec) => error instanceof TillsyncError && [...tablesOf(spec), ...dependenciesOf(spec)].includes(String(error.context.table)),
    )
    if (problems === undefined || refused === undefined || !OF_TABLES.includes((error as TillsyncError).code)) throw error
    problems.push({ table: refused.table, error: error as TillsyncError })
    return yield* planAnd(
      database,
      specs.filter((spec) => spec !== refused),
      problems,
      work,
    )
  }
}

/**
 * Runs the filters once, for a key that there can't be and for no row: what they name must be there, what they compare with must be a
 * value, and they may read nothing that the rules don't name, by whatever text or view.
 */
function* tryOut(database: CapturingDatabase, root: RootPlan): Work<void> {
  const { changed, existing } = root.existing
  const none = (statement: Statement) => ({ sql: `SELECT 1 FROM (${statement.sql}) AS tried WHERE 1 = 0`, parameters: statement.parameters })
  const read = new Set<string>()
  try {
    if (root.spec.where !== undefined) {
      yield* lookup(root.read, [root.key.map(() => null)])
      for (const { table } of yield* database.inspect(root.read, root.key.length)) read.add(table)
    }
    if (typeof root.spec.existing === 'function')
      for (const statement of [changed, existing]) if (statement !== undefined) yield* lookup(none(statement), [[]])
  } catch (error) {
    throw filterError(root.table, 'does not run', error)
  }
  read.delete(root.table) // which every document is read from
  refuseOthers(readableBy(root.spec), read)
}

/** @throws ERR_UNKNOWN_TABLE where `table` is no published root; ERR_DATABASE where it can't be read */
export function requireRoot(plan: CapturePlan, table: string): RootPlan {
  const root = plan.roots.get(table)
  if (root !== undefined) return root
  const unread = plan.unread.get(table)
  if (unread !== undefined) throw unread
  const named = typeof table === 'string' ? `\`${table}\`` : `What is no name (${typeof table})`
  throw new TillsyncError('ERR_UNKNOWN_TABLE', `${named} is not published as a root`, {
    hint: `Published roots: ${[...plan.roots.keys()].join(', ')}. A part goes with its root.`,
    context: typeof table === 'string' ? { table } : {},
  })
}

/** Touches come with the same lists of columns again and again: their names are made once. */
function remembering(resolvers: ReadonlyMap<string, Resolver>): CapturePlan['resolver'] {
  const known = new WeakMap<readonly string[], Map<string, Resolver | undefined>>()
  return (table, refers) => {
    const byTable = known.get(refers) ?? new Map<string, Resolver | undefined>()
    if (!byTable.has(table)) {
      byTable.set(table, resolvers.get(resolverName(table, refers)))
      known.set(refers, byTable)
    }
    return byTable.get(table)
  }
}

function resolverName(table: string, refers: readonly string[]): string {
  return JSON.stringify([table, ...refers])
}

/** What a touch holds of a document whose key is none of its table any more: its record id. No column has such a name. */
export const RECORD_ID: readonly string[] = ['\0']

/** More documents than this are not looked for one by one: their whole table is compared. */
export const MANY = 1_000

/** How touches of any table lead to documents: what is noted, and what it means. */
class Paths {
  readonly sources: TouchSource[] = []
  readonly resolvers = new Map<string, Resolver>()
  private readonly database: CapturingDatabase
  private readonly tables: ReadonlyMap<string, HostTable>

  constructor(database: CapturingDatabase, tables: ReadonlyMap<string, HostTable>) {
    this.database = database
    this.tables = tables
  }

  addRoot(root: RootPlan): void {
    this.sources.push({ on: root.table, columns: root.key, table: root.table, refers: root.key })
    for (const refers of [root.key, RECORD_ID]) this.resolvers.set(resolverName(root.table, refers), { kind: 'root', root })
    this.addBelow(root, root)
  }

  private addBelow(root: RootPlan, above: TablePlan): void {
    for (const { table, own, others } of above.dependsOn) this.add(root, above, { on: table, columns: others, table: above.table, refers: own })
    for (const part of above.parts) {
      this.add(root, above, { on: part.table, columns: part.parent.own, table: above.table, refers: part.parent.others })
      this.addBelow(root, part)
    }
  }

  private add(root: RootPlan, above: TablePlan, source: TouchSource): void {
    this.sources.push(source)
    const name = resolverName(above.table, source.refers)
    if (this.resolvers.has(name)) return
    const find = (columns: readonly string[]) =>
      findBy(this.database, this.tables.get(above.table) as HostTable, source.refers, columns, sql.lit(MANY + 1))
    this.resolvers.set(
      name,
      isPart(above)
        ? { kind: 'climb', find: find(above.parent.own), to: { table: above.parent.table, refers: above.parent.others } }
        : { kind: 'search', root, find: find(root.key) },
    )
  }
}
