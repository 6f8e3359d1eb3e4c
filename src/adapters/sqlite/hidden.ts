import { TillsyncError } from '../../errors.ts'
import { query, type Work } from '../../work.ts'
import { fold } from './triggers.ts'

const TEMPORARY = `SELECT name FROM temp.sqlite_schema WHERE type IN ('table', 'view')`

/** Names are looked up in the temporary tables first: triggers, reads and writes would be of another table than the file's. */
export function* refuseHidden(names: Iterable<string>): Work<void> {
  const temporary = yield* query<{ name: string }>({ sql: TEMPORARY, parameters: [] })
  if (temporary.length === 0) return
  const hidden = new Set(temporary.map(({ name }) => fold(name)))
  for (const name of names) {
    if (!hidden.has(fold(name))) continue
    throw new TillsyncError('ERR_CONNECTION', `A temporary table or view hides \`${name}\` on the connection`, {
      hint: 'Drop it, or let the library open a connection of its own: sqlite(() => new Database(file)).',
      context: { table: name },
    })
  }
}
