import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import type { HeardRegister } from './audit.ts'
import { type Findings, MOST_FINDINGS } from './audit-findings.ts'
import { DOCUMENTS, ORPHANS, QUARANTINE } from './tables.ts'

interface OpenRow {
  readonly code: 'ORPHANED' | 'QUARANTINED' | 'WANTED'
  readonly id: number | null
  readonly table_name: string
  readonly record_id: string
  readonly total: number
}

/** Names what of a register is not settled, and says how much was settled by hand. */
export function* openMatters(
  database: ApplyingDatabase,
  { register_id, held, parked }: HeardRegister,
  findings: Findings,
): Work<{ readonly discarded: number; readonly withdrawn: number }> {
  const [orphans, quarantine, documents] = [ORPHANS, QUARANTINE, DOCUMENTS].map(({ name }) => database.qualify(name))
  if (held) findings.add({ code: 'CLONED' })
  const select = (code: OpenRow['code'], id: string, from: string, state: string, order: string) =>
    `(SELECT '${code}' AS code, ${id} AS id, table_name, record_id, count(*) OVER () AS total FROM ${from}
      WHERE register_id = $1 AND state = '${state}' ORDER BY ${order} LIMIT ${MOST_FINDINGS})`
  const rows = yield* query<OpenRow>({
    sql: [
      select('ORPHANED', 'orphan_id', orphans as string, 'orphaned', 'orphan_id'),
      select('WANTED', 'NULL', documents as string, 'wanted', 'table_name, record_id'),
      select('QUARANTINED', 'quarantine_id', quarantine as string, 'waiting', 'quarantine_id'),
    ].join(' UNION ALL '),
    parameters: [register_id],
  })
  for (const [code, all] of Map.groupBy(rows, (row) => row.code)) {
    const named = all.map(({ id, table_name, record_id }) => {
      const document = { table: table_name, recordId: record_id }
      return code === 'WANTED' ? { code, ...document } : { code, id: id as number, ...document }
    })
    findings.addAll(named, { [code]: all[0]?.total ?? 0 })
  }
  for (const [table, recordId] of JSON.parse(parked ?? '[]') as [string, string][]) findings.add({ code: 'PARKED', table, recordId })
  const [settled] = yield* query<{ discarded: number; withdrawn: number }>({
    sql: `SELECT (SELECT count(*) FROM ${quarantine} WHERE register_id = $1 AND state = 'discarded') AS discarded,
                 (SELECT count(*) FROM ${orphans} WHERE register_id = $1 AND state = 'withdrawn') AS withdrawn`,
    parameters: [register_id],
  })
  return { discarded: settled?.discarded ?? 0, withdrawn: settled?.withdrawn ?? 0 }
}
