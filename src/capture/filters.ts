import { messageOf, TillsyncError } from '../errors.ts'
import type { Statement } from '../ports.ts'

/** @throws ERR_FILTER where the filter throws or reads another table than `own` */
export function compileFilter(table: string, own: readonly string[], build: () => { compile(): Statement; toOperationNode(): unknown }): Statement {
  let statement: Statement
  let named: ReadonlySet<string>
  try {
    const built = build()
    named = tablesNamed(built.toOperationNode())
    statement = built.compile()
  } catch (error) {
    throw filterError(table, 'throws', error)
  }
  const other = [...named].find((name) => !own.includes(name))
  if (other === undefined) return statement
  throw new TillsyncError('ERR_FILTER', `The filter of \`${table}\` reads \`${other}\`, whose changes would not be noticed`, {
    hint: `A filter may read the root and its parts: ${own.join(', ')}.`,
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

function tablesNamed(node: unknown, found = new Set<string>()): ReadonlySet<string> {
  if (typeof node !== 'object' || node === null) return found
  if ('kind' in node && node.kind === 'TableNode') {
    found.add((node as unknown as { table: { identifier: { name: string } } }).table.identifier.name)
  }
  for (const child of Object.values(node)) tablesNamed(child, found)
  return found
}
