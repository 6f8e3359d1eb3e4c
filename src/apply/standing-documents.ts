import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { DOCUMENTS } from './tables.ts'

/** Asks which of a register's documents stand at central: they were neither removed nor lost. By record ids of a root table. */
export function standingOf(database: ApplyingDatabase, registerId: number) {
  return function* (table: string, recordIds: readonly string[]): Work<ReadonlySet<string>> {
    if (recordIds.length === 0) return new Set()
    const rows = yield* query<{ record_id: string }>({
      sql: `SELECT record_id FROM ${database.qualify(DOCUMENTS.name)}
            WHERE register_id = $1 AND table_name = $2 AND record_id = ANY ($3::text[]) AND NOT removed AND state IS DISTINCT FROM 'lost'`,
      parameters: [registerId, table, [...new Set(recordIds)]],
    })
    return new Set(rows.map(({ record_id }) => record_id))
  }
}
