import type { Operation } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { isoTime } from './archived.ts'
import { ARCHIVE, FRAMES } from './tables.ts'
import { type Place, WINDOW } from './trace-search.ts'

/** A version of a document in the archive: its root record. */
export interface VersionRow extends Place {
  readonly recordId: string
  readonly operation: Operation
  readonly record: string | null
  readonly sealedAt: string
  readonly receivedAt: string
}

/** Versions that are told of a document, its latest ones. */
export const MOST_VERSIONS = 100

export function isBefore(a: Place, b: Place): boolean {
  return a.epochNo < b.epochNo || (a.epochNo === b.epochNo && a.entryNo < b.entryNo)
}

/**
 * The versions of documents in the last entries up to a place, the latest first, and where to go on.
 *
 * @param records whether their root records are read too
 */
export function* versionsWindow(
  database: ApplyingDatabase,
  registerId: number,
  table: string,
  recordIds: readonly string[],
  { epochNo, entryNo }: Place,
  records: boolean,
): Work<{ readonly versions: readonly VersionRow[]; readonly next: Place | undefined }> {
  const archive = database.qualify(ARCHIVE.name)
  const [last] = yield* query<{ epoch_no: number; entry_no: number }>({
    sql: `SELECT epoch_no, entry_no FROM ${archive}
          WHERE register_id = $1 AND (epoch_no, entry_no) <= ($2::bigint, $3::bigint) ORDER BY epoch_no DESC, entry_no DESC LIMIT 1`,
    parameters: [registerId, epochNo, entryNo],
  })
  if (last === undefined) return { versions: [], next: undefined }
  const rows = yield* query<{
    entry_no: number
    record_id: string
    operation: Operation
    record: string | null
    sealed_at: string
    received_at: string
  }>({
    // A table of roots may once have been one of parts.
    sql: `SELECT a.entry_no, a.record_id, a.operation, CASE WHEN $7 THEN a.record END AS record, ${isoTime('a.sealed_at')} AS sealed_at, ${isoTime('a.received_at')} AS received_at
          FROM ${archive} a CROSS JOIN LATERAL (
            SELECT table_name, record_id FROM ${archive} r WHERE r.register_id = a.register_id AND r.epoch_no = a.epoch_no AND r.entry_no = a.document_no OFFSET 0) r
          WHERE a.register_id = $1 AND a.epoch_no = $2 AND a.entry_no > $3 AND a.entry_no <= $4 AND a.table_name = $5 AND a.record_id = ANY ($6::text[])
            AND r.table_name = a.table_name AND r.record_id = a.record_id ORDER BY a.entry_no DESC`,
    parameters: [registerId, last.epoch_no, last.entry_no - WINDOW, last.entry_no, table, recordIds, records],
  })
  return {
    versions: rows.map((row) => ({
      epochNo: last.epoch_no,
      entryNo: row.entry_no,
      recordId: row.record_id,
      operation: row.operation,
      record: row.record,
      sealedAt: row.sealed_at,
      receivedAt: row.received_at,
    })),
    next: { epochNo: last.epoch_no, entryNo: last.entry_no - WINDOW },
  }
}

/** A document that comes in frames, and is not whole yet. */
export interface StagedDocument extends Place {
  readonly registerId: number
  readonly recordId: string
  /** Its root record. */
  readonly record: string | null
  /** Of what is there. */
  readonly bytes: number
  readonly receivedAt: string
}

/** What of a table comes in frames: at most two documents of a register. */
export function* stagedIn(database: ApplyingDatabase, registerIds: readonly number[], table: string): Work<readonly StagedDocument[]> {
  const frames = database.qualify(FRAMES.name)
  const rows = yield* query<{
    register_id: number
    epoch_no: number
    record_id: string
    record: string | null
    entry_no: number
    bytes: number
    at: string
  }>({
    sql: `SELECT f.register_id, f.epoch_no, f.document::json ->> 'recordId' AS record_id, f.contents::json -> 0 ->> 3 AS record, l.entry_no, l.bytes, l.at
          FROM ${frames} f CROSS JOIN LATERAL (
            SELECT max(entry_no) AS entry_no, sum(bytes)::bigint AS bytes, ${isoTime('max(received_at)')} AS at FROM ${frames} l
            WHERE l.register_id = f.register_id AND l.epoch_no = f.epoch_no AND l.base_no = f.base_no) l
          WHERE f.register_id = ANY ($1::bigint[]) AND f.after_no = f.base_no AND f.document::json ->> 'table' = $2`,
    parameters: [registerIds, table],
  })
  return rows.map((row) => ({
    registerId: row.register_id,
    epochNo: row.epoch_no,
    entryNo: row.entry_no,
    recordId: row.record_id,
    record: row.record,
    bytes: row.bytes,
    receivedAt: row.at,
  }))
}
