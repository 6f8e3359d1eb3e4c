import { sql } from 'kysely'
import { TillsyncError } from '../errors.ts'
import type { AnyTables, Which } from '../model.ts'
import type { CapturingDatabase, Key, Work } from '../ports.ts'
import { type CapturePlan, compileFilter, type RootPlan, requireRoot } from './plan.ts'
import { tablesOf } from './rules.ts'

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
export function exportTasks(plan: CapturePlan, table: string, which: Which<AnyTables, string>, related: boolean): readonly ExportTask[] {
  const root = requireRoot(plan, table)
  if (typeof which !== 'function') checkWhich(root, which)
  const tasks: ExportTask[] = [{ root, which }]
  if (!related) return tasks
  for (const other of plan.roots.values()) {
    for (const { table: to, own, others } of other.spec.relatedTo) {
      if (to !== table) continue
      tasks.push({ root: other, which: (eb) => belongsTo(eb, other, own, root, others, which) })
    }
  }
  return tasks
}

function checkWhich(root: RootPlan, which: Which<AnyTables, string>): void {
  for (const one of Array.isArray(which) ? which : [which]) {
    const names = typeof one === 'object' && one !== null ? Object.keys(one) : []
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

type Builder = Parameters<Extract<Which<AnyTables, string>, (...args: never[]) => unknown>>[0]

function condition(eb: Builder, table: string, which: Which<AnyTables, string>) {
  if (typeof which === 'function') return which(eb)
  const list: readonly Record<string, unknown>[] = Array.isArray(which) ? which : [which]
  return eb.or(list.map((one) => eb.and(Object.entries(one).map(([name, value]) => eb(`${table}.${name}`, value === null ? 'is' : '=', value)))))
}

function belongsTo(eb: Builder, other: RootPlan, own: readonly string[], root: RootPlan, others: readonly string[], which: Which<AnyTables, string>) {
  let related = eb.selectFrom(root.table).select(sql<number>`1`.as('one'))
  for (const [n, name] of own.entries()) related = related.whereRef(`${root.table}.${others[n]}`, '=', `${other.table}.${name}`)
  return eb.exists(related.where((inner) => condition(inner, root.table, which)))
}

/** Touches the next documents of a task as exported, after the given key. Returns the last key; undefined at the end. */
export function* touchExport(database: CapturingDatabase, task: ExportTask, after: Key | undefined): Work<Key | undefined> {
  const { root, which } = task
  const { key, table } = root
  const own = [...tablesOf(root.spec), ...root.spec.relatedTo.map((related) => related.table)]
  const statement = compileFilter(table, own, () => {
    let select = database.build
      .selectFrom(table)
      .select(key.map((name) => `${table}.${name}`))
      .where((eb) => condition(eb, table, which))
    if (after !== undefined)
      select = select.where(sql<boolean>`(${sql.join(key.map((name) => sql.ref(`${table}.${name}`)))}) > (${sql.join([...after])})`)
    for (const name of key) select = select.orderBy(`${table}.${name}`)
    return select.limit(SLICE)
  })
  const [keys = []] = (yield { kind: 'lookup', sql: statement.sql, keys: [[]], parameters: statement.parameters }) as readonly (readonly Key[])[]
  yield* database.capture.touch(table, key, keys, 'exported')
  return keys.length < SLICE ? undefined : keys.at(-1)
}
