import { type SqlBool, sql } from 'kysely'
import { messageOf, TillsyncError } from '../errors.ts'
import type { CapturingDatabase } from '../ports.ts'
import type { Statement } from '../work.ts'
import { dependenciesOf, type RootSpec, tablesOf } from './rules.ts'

/** What a filter may read: the root and its parts, and other tables that the rules say it depends on. */
export interface Readable {
  readonly table: string
  readonly own: readonly string[]
  readonly dependencies: readonly string[]
}

export function readableBy(spec: RootSpec): Readable {
  return { table: spec.table, own: tablesOf(spec), dependencies: dependenciesOf(spec) }
}

/**
 * The filters of the rules, before any database is asked: what they name must be named by the rules.
 *
 * @throws ERR_FILTER
 */
export function checkFilters({ build }: CapturingDatabase, specs: readonly RootSpec[]): void {
  for (const spec of specs) {
    const from = build.selectFrom(sql.id(spec.table) as unknown as string).select(sql<number>`1`.as('one'))
    for (const filter of [spec.where, spec.existing])
      if (typeof filter === 'function') compileFilter(readableBy(spec), () => from.where((eb) => eb(filter(eb), 'is', sql<SqlBool>`true`)))
  }
}

/** @throws ERR_FILTER where the filter throws or names a table that it may not read */
export function compileFilter(readable: Readable, build: () => { compile(): Statement; toOperationNode(): unknown }): Statement {
  let statement: Statement
  let named: ReadonlySet<string>
  try {
    const built = build()
    named = tablesNamed(built.toOperationNode())
    statement = built.compile()
  } catch (error) {
    throw filterError(readable.table, 'throws', error)
  }
  refuseOthers(readable, named)
  return statement
}

/**
 * A subquery over the root table itself reads other documents than the one that is asked for, so it needs to be declared like
 * another table.
 *
 * @throws ERR_FILTER
 */
export function refuseOthers({ table, own, dependencies }: Readable, read: ReadonlySet<string>): void {
  const other = [...read].find((name) => !dependencies.includes(name) && (name === table || !own.includes(name)))
  if (other === undefined) return
  throw new TillsyncError('ERR_FILTER', `The filter of \`${table}\` reads \`${other}\`, whose changes would not be noticed`, {
    hint: `Name it, with a column of \`${table}\` and the column of \`${other}\` that has the same value: dependsOn: { ${other}: { … } }. Without that a filter reads the document itself: ${own.join(', ')}.`,
    context: { table, reads: other },
  })
}

export function filterError(table: string, fails: string, error: unknown): TillsyncError {
  return new TillsyncError('ERR_FILTER', `The filter of \`${table}\` ${fails}: ${messageOf(error)}`, {
    hint:
      (error instanceof TillsyncError && error.hint) ||
      "A filter returns a Kysely expression over columns that there are: `where: (eb) => eb('status', '=', 'posted')`.",
    context: { table },
    cause: error,
  })
}

/** The tables that are read from; in `receipts.status` a name stands for one of them, or for an alias. */
function tablesNamed(node: unknown, found = new Set<string>()): ReadonlySet<string> {
  if (typeof node !== 'object' || node === null || ('kind' in node && node.kind === 'ReferenceNode')) return found
  if ('kind' in node && node.kind === 'TableNode') {
    found.add((node as unknown as { table: { identifier: { name: string } } }).table.identifier.name)
  }
  for (const child of Object.values(node)) tablesNamed(child, found)
  return found
}
