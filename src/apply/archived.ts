import type { DocumentName, Entry, Operation } from '../model.ts'

/** A time as ISO 8601, UTC, milliseconds: as entries have it, and as the host reads it. */
export function isoTime(expression: string): string {
  return `to_char(${expression} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')`
}

/** The columns of an archived entry, as `toEntry` reads them. */
export const ARCHIVED = `entry_no, table_name, operation, record_id, record, ${isoTime('sealed_at')} AS sealed_at`

export interface ArchivedRow {
  readonly entry_no: number
  readonly table_name: string
  readonly operation: Operation
  readonly record_id: string
  readonly record: string | null
  readonly sealed_at: string
}

/** An entry as it was received. */
export function toEntry(row: ArchivedRow, document: DocumentName): Entry {
  const { entry_no, table_name, operation, record_id, record, sealed_at } = row
  return { entryNo: entry_no, table: table_name, operation, recordId: record_id, record, document, sealedAt: sealed_at }
}
