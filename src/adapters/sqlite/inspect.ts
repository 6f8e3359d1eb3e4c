import type { TableRead } from '../../ports.ts'
import { lookup, query, type Statement, type Work } from '../../work.ts'

interface Opcode {
  readonly opcode: string
  readonly p1: number
  readonly p2: number
  readonly p3: number
}

/**
 * What a lookup reads, by its byte code (https://www.sqlite.org/opcode.html): OpenRead opens the B-tree of a table or an index at a
 * root page, Rewind and Last begin a walk through all of it. So a view, a text of SQL or an alias hides nothing.
 */
export function* inspect(statement: Statement, keyWidth: number): Work<readonly TableRead[]> {
  const parameters = [...Array<null>(keyWidth).fill(null), ...statement.parameters]
  const program = yield* query<Opcode>({ sql: `EXPLAIN ${statement.sql}`, parameters })
  const [trees = []] = yield* lookup({ sql: 'SELECT rootpage, tbl_name FROM sqlite_schema WHERE rootpage > 0', parameters: [] }, [[]])
  const tables = new Map(trees.map(([page, table]) => [Number(page), table as string]))
  const walked = new Set(program.filter(({ opcode }) => opcode === 'Rewind' || opcode === 'Last').map(({ p1 }) => p1))
  return program
    .filter(({ opcode }) => opcode === 'OpenRead')
    .map(({ p1, p2, p3 }) => ({ table: (p3 === 0 && tables.get(p2)) || OTHER_DATABASE, whole: walked.has(p1) }))
}

const OTHER_DATABASE = 'a temporary or attached table'
