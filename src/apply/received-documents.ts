import { sql } from 'kysely'
import type { CapturingDatabase } from '../ports.ts'
import { compiledOnce, erase, insert, lookup, query, type Statement, type Work } from '../work.ts'
import { RECEIVED } from './subscription-tables.ts'

interface Name {
  readonly table: string
  readonly recordId: string
}

/** Those of these documents that stand here because central has sent them, by their names as JSON. */
export function* receivedOf(database: CapturingDatabase, documents: readonly Name[]): Work<ReadonlySet<string>> {
  if (documents.length === 0) return new Set()
  const found = yield* lookup(
    byKey(database),
    documents.map(({ table, recordId }) => [table, recordId]),
  )
  return new Set(documents.filter((_, n) => found[n]?.length).map(nameOf))
}

const byKey = compiledOnce<CapturingDatabase, Statement>((database) =>
  database.build
    .selectFrom(RECEIVED.name)
    .select('snapshot_no')
    .where(sql.raw<boolean>(database.keyed(RECEIVED, RECEIVED.primaryKey)))
    .compile(),
)

export function nameOf({ table, recordId }: Name): string {
  return JSON.stringify([table, recordId])
}

/** They stand here, and this snapshot has them. */
export function* receive(documents: readonly (Name & { readonly snapshotNo: number })[]): Work<void> {
  yield* insert(
    RECEIVED,
    documents.map(({ table, recordId, snapshotNo }) => [table, recordId, snapshotNo]),
    RECEIVED.primaryKey,
  )
}

/** They do not stand here any more, or not because of central. */
export function* forget(documents: readonly Name[]): Work<void> {
  yield* erase(
    RECEIVED,
    RECEIVED.primaryKey,
    documents.map(({ table, recordId }) => [table, recordId]),
  )
}

/** The documents of a table behind a record id, in order, and the snapshot that had each last. */
export function* receivedBehind(
  { build }: CapturingDatabase,
  table: string,
  after: string,
  most: number,
): Work<readonly { readonly recordId: string; readonly snapshotNo: number }[]> {
  const rows = yield* query<{ record_id: string; snapshot_no: number }>(
    build
      .selectFrom(RECEIVED.name)
      .select(['record_id', 'snapshot_no'])
      .where('table_name', '=', table)
      .where('record_id', '>', after)
      .orderBy('record_id')
      .limit(most)
      .compile(),
  )
  return rows.map((row) => ({ recordId: row.record_id, snapshotNo: Number(row.snapshot_no) }))
}
