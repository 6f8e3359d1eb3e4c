import { sql } from 'kysely'
import { TillsyncError } from '../errors.ts'
import type { AnyTables, Which } from '../model.ts'
import type { CapturingDatabase } from '../ports.ts'
import { type Key, lookup, type Statement, type Work } from '../work.ts'
import { filterError } from './filters.ts'
import { type CapturePlan, requireRoot } from './plan.ts'
import { behind, selectColumns } from './selects.ts'
import type { RootPlan } from './table-plan.ts'

/** Records whose keys are touched in one transaction. */
const SLICE = 500

/** What is still to be touched of an export. */
export interface ExportTask {
  readonly root: RootPlan
  readonly which: Which<AnyTables, string>
}

/**
 * The tables of an export: the named one, and with `related` those that are declared `relatedTo` it.
 *
 * @throws ERR_UNKNOWN_TABLE where `table` is no published root, ERR_OPTION where `which` selects by nothing
 */
export function exportTasks(
  database: CapturingDatabase,
  plan: CapturePlan,
  table: string,
  which: Which<AnyTables, string>,
  related: boolean,
): readonly ExportTask[] {
  const root = requireRoot(plan, table)
  checkWhich(root, which)
  return inParts(which).flatMap((part) => {
    const tasks: ExportTask[] = [{ root, which: part }]
    for (const other of related ? plan.roots.values() : []) {
      for (const { table: to, own, others } of other.spec.relatedTo) {
        if (to !== table) continue
        tasks.push({ root: other, which: (eb) => eb.exists(ownersOf(database, other, own, root, others, part)) })
      }
    }
    return tasks
  })
}

/** Documents that are looked for at once: SQLite plans thousands of conditions for seconds, or not at all. */
const TOGETHER = 100

/** A list in parts, each of which is soon looked for. */
export function inParts(which: Which<AnyTables, string>): readonly Which<AnyTables, string>[] {
  if (!Array.isArray(which)) return [which]
  return Array.from({ length: Math.ceil(which.length / TOGETHER) }, (_, n) => which.slice(n * TOGETHER, (n + 1) * TOGETHER))
}

/** @throws ERR_OPTION, ERR_UNKNOWN_COLUMN */
export function checkWhich(root: RootPlan, which: Which<AnyTables, string>): void {
  if (typeof which === 'function') return
  for (const one of Array.isArray(which) ? which : [which]) {
    const names = typeof one === 'object' && one !== null ? Object.keys(one) : []
    const odd = Object.entries(one ?? {}).find(([, value]) => !isComparable(value))
    if (odd !== undefined) {
      throw new TillsyncError('ERR_OPTION', `\`which\` compares \`${odd[0]}\` with ${odd[1] instanceof Date ? 'a Date' : typeof odd[1]}`, {
        hint: 'Compare with what the column holds: text, a number, a bigint, a boolean, a Buffer or null.',
        context: { table: root.table, column: odd[0] },
      })
    }
    if (names.length > 0 && names.every((name) => root.columns.some((column) => column.name === name))) continue
    const unknown = names.find((name) => !root.columns.some((column) => column.name === name))
    throw new TillsyncError(
      unknown === undefined ? 'ERR_OPTION' : 'ERR_UNKNOWN_COLUMN',
      unknown === undefined
        ? `\`which\` selects \`${root.table}\` by nothing`
        : `\`which\` names \`${unknown}\`, which is not a published column of \`${root.table}\``,
      { hint: "Say which: { receipt_no: 'R-4711' }, a list of such, or a filter; (eb) => eb.lit(true) is all.", context: { table: root.table } },
    )
  }
}

function isComparable(value: unknown): boolean {
  return value === null || ['string', 'number', 'bigint', 'boolean'].includes(typeof value) || value instanceof Uint8Array
}

type Builder = Parameters<Extract<Which<AnyTables, string>, (...args: never[]) => unknown>>[0]

function condition(eb: Builder, table: string, which: Which<AnyTables, string>) {
  if (typeof which === 'function') return which(eb)
  const list: readonly Record<string, unknown>[] = Array.isArray(which) ? which : [which]
  const [name] = Object.keys(list[0] ?? {})
  // Looked for by one condition, not by a hundred.
  const values = list.flatMap((one) => (name !== undefined && Object.keys(one).length === 1 ? [one[name] ?? null] : []))
  if (name !== undefined && list.length > 1 && values.length === list.length && !values.includes(null)) return eb(sql.id(table, name), 'in', values)
  return eb.or(list.map((one) => eb.and(Object.entries(one).map(([name, value]) => eb(sql.id(table, name), value === null ? 'is' : '=', value)))))
}

/** The documents of `root` that a document of `other` belongs to, of those meant. */
function ownersOf(
  database: CapturingDatabase,
  other: RootPlan,
  own: readonly string[],
  root: RootPlan,
  others: readonly string[],
  which: Which<AnyTables, string>,
) {
  // Under a name of their own: a table may be related to itself.
  const meant = selectColumns(database, root.table, others)
    .where((eb) => condition(eb, root.table, which))
    .as(MEANT)
  let owners = database.build.selectFrom(meant).select(sql.lit(1).as('one'))
  for (const [n, name] of own.entries()) owners = owners.where(sql<boolean>`${sql.id(MEANT, others[n] as string)} = ${sql.id(other.table, name)}`)
  return owners
}

const MEANT = 'sync_meant'

/** What was touched of a task. */
export interface Touched {
  readonly documents: number
  /** The last key; undefined at the end. */
  readonly after: Key | undefined
}

/** Touches the next documents of a task as exported, after the given key. */
export function* touchExport(database: CapturingDatabase, task: ExportTask, after: Key | undefined): Work<Touched> {
  const { root, which } = task
  const { key, table } = root
  const keys = yield* selectWhich(database, root, which, after, SLICE)
  yield* database.capture.touch(table, key, keys, 'exported')
  return { documents: keys.length, after: keys.length < SLICE ? undefined : keys.at(-1) }
}

/**
 * The keys of the documents meant, in key order after the given one. Unlike the filters of the rules, this is asked once, so it may
 * read any table.
 *
 * @throws ERR_FILTER
 */
export function* selectWhich(
  database: CapturingDatabase,
  { key, table }: RootPlan,
  which: Which<AnyTables, string>,
  after: Key | undefined,
  limit: number,
): Work<readonly Key[]> {
  let statement: Statement
  try {
    let select = selectColumns(database, table, key).where((eb) => condition(eb, table, which))
    if (after !== undefined) select = select.where(behind(table, key, after))
    for (const name of key) select = select.orderBy(sql.id(table, name))
    statement = select.limit(limit).compile()
  } catch (error) {
    throw filterError(table, 'throws', error)
  }
  try {
    return (yield* lookup(statement, [[]]))[0] ?? []
  } catch (error) {
    throw error instanceof TillsyncError && !error.retryable ? filterError(table, 'does not run', error) : error
  }
}
