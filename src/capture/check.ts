import type { Finding } from '../model.ts'
import type { CapturingDatabase } from '../ports.ts'
import type { Statement, Work } from '../work.ts'
import { type CapturePlan, type Problem, planAnd } from './plan.ts'
import { dependenciesOf, type RootSpec, tablesOf } from './rules.ts'
import type { RootPlan, TablePlan } from './table-plan.ts'

/**
 * What about the rules and the tables as they stand would cost time or let something slip through. Changes nothing.
 *
 * @param hasLives whether a key that is used again is another document: of a table's present state, as central publishes it, nobody needs to know
 */
export function* checkCapture(database: CapturingDatabase, specs: readonly RootSpec[], hasLives: boolean): Work<readonly Finding[]> {
  const problems: Problem[] = []
  const { plan, done } = yield* planAnd(database, specs, problems, ({ sources, tables }) => database.capture.changes(sources, tables))
  const found = yield* database.capture.findings(plan.sources, plan.tables)
  const hidden = found.flatMap(({ code, table }) => (code === 'ROW_SECURITY' ? [table] : []))
  const findings: Finding[] = problems
    .filter(({ table, error }) => !(plan.unread.has(table) && hidden.includes(String(error.context.table))))
    .map(({ table, error }) => ({
      code: 'DRIFT',
      table,
      message: `\`${table}\` can't be published as it stands: ${error.message}`,
      hint: error.hint ?? 'Bring the rules and the table together.',
    }))
  for (const table of done.tables) findings.push(drifted(table))
  for (const root of plan.roots.values()) {
    findings.push(...checkKeys(plan, root, hasLives))
    for (const table of yield* walked(database, plan, root)) findings.push(withoutIndex(root, table))
  }
  return [...findings, ...found]
}

function drifted(table: string): Finding {
  return {
    code: 'DRIFT',
    table,
    message: `The triggers of \`${table}\` are missing, switched off, or not those of this version and these rules`,
    hint: 'It is mended by itself where the library runs, and the table resealed; or call install() now.',
  }
}

function checkKeys(plan: CapturePlan, root: RootPlan, hasLives: boolean): Finding[] {
  const findings: Finding[] = []
  const { table, spec } = root
  if (hasLives && plan.tables.get(table)?.reusesKeys && spec.identity.length === 0) {
    findings.push({
      code: 'NO_IDENTITY',
      table,
      message: `\`${table}\` hands out keys again after their rows were deleted; a new document under the key of an old one would count as its correction`,
      hint: `Name columns that never change while a document lives: ${table}: { identity: […] }, or let the database never use a key again.`,
    })
  }
  for (const name of tablesOf(spec)) {
    const { key = [], columns = [] } = plan.tables.get(name) ?? {}
    const nullable = columns.filter((column) => key.includes(column.name) && column.nullable)
    if (nullable.length === 0) continue
    findings.push({
      code: 'NULLABLE_KEY',
      table: name,
      message: `The key of \`${name}\` may be NULL (${nullable.map((column) => column.name).join(', ')}); documents with such records are parked`,
      hint: 'Declare the key columns NOT NULL.',
    })
  }
  return findings
}

/** The tables of which every row is read for the sake of one document. */
function* walked(database: CapturingDatabase, plan: CapturePlan, root: RootPlan): Work<ReadonlySet<string>> {
  const own = [...tablesOf(root.spec), ...dependenciesOf(root.spec)]
  const paths = plan.sources.filter(({ on, table }) => own.includes(on) && own.includes(table))
  const lookups: [Statement, number][] = [[root.read, root.key.length], ...partReads(root)]
  for (const { table, refers } of paths) {
    const resolver = plan.resolver(table, refers)
    if (resolver !== undefined && resolver.kind !== 'root') lookups.push([resolver.find, refers.length])
  }
  const tables = new Set<string>()
  for (const [statement, width] of lookups) for (const { table, whole } of yield* database.inspect(statement, width)) if (whole) tables.add(table)
  return tables
}

function partReads(plan: TablePlan): [Statement, number][] {
  return plan.parts.flatMap((part) => [[part.read, part.parent.own.length], ...partReads(part)])
}

function withoutIndex(root: RootPlan, table: string): Finding {
  return {
    code: 'NO_INDEX',
    table,
    message: `Every row of \`${table}\` is read for each document of \`${root.table}\` that is sealed`,
    hint: 'Create an index on the columns of `partOf` and `dependsOn`, and on those by which the filter looks rows up.',
  }
}
