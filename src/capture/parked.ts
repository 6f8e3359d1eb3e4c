import { hash } from 'node:crypto'
import type { TillsyncError } from '../errors.ts'
import { type DocumentName, MOST_PARKED, type Value } from '../model.ts'
import type { Database } from '../ports.ts'
import { decodeRecordId } from '../record.ts'
import { compiledOnce, erase, insert, query, type Work } from '../work.ts'
import { LONGEST_RECORD_ID, type TouchedDocument } from './documents.ts'
import { PARKED } from './tables.ts'

/** A document that can't be read or filtered, until it can. */
export interface ParkedDocument {
  readonly table: string
  readonly recordId: readonly Value[]
  readonly code: string
  readonly message: string
  /** ISO 8601, UTC. */
  readonly parkedAt: string
}

const MOST = 100

/** The parked documents, oldest first; at most 100. */
export function* listParked(database: Database): Work<readonly ParkedDocument[]> {
  const rows = yield* query<{ table_name: string; record_id: string; code: string; message: string; parked_at: string }>(oldest(database))
  return rows.map((row) => ({
    table: row.table_name,
    recordId: readRecordId(row.record_id),
    code: row.code,
    message: row.message,
    parkedAt: row.parked_at,
  }))
}

const oldest = compiledOnce(({ build }) => build.selectFrom(PARKED.name).selectAll().orderBy('parked_at').limit(MOST).compile())

/** A touch may hold what is no key of its table any more, and is parked as it came. */
function readRecordId(recordId: string): readonly Value[] {
  try {
    return decodeRecordId(recordId)
  } catch {
    return [recordId]
  }
}

const names = compiledOnce(({ build }) =>
  build.selectFrom(PARKED.name).select(['table_name', 'record_id']).orderBy('parked_at').orderBy('record_id').limit(MOST_PARKED).compile(),
)

/** Their names, as central is told them. */
export function* parkedNames(database: Database): Work<readonly DocumentName[]> {
  const rows = yield* query<{ table_name: string; record_id: string }>(names(database))
  return rows.map(({ table_name, record_id }) => ({ table: table_name, recordId: record_id }))
}

/** A document that could not be sealed now. */
export interface Parked {
  readonly document: TouchedDocument
  readonly error: TillsyncError
}

/** Documents that wait from now on, in place of those of the touched that waited before. */
export function* park(touched: readonly TouchedDocument[], parked: readonly Parked[], at: string): Work<void> {
  yield* erase(
    PARKED,
    PARKED.primaryKey,
    touched.map(({ root, recordId }) => [root.table, parkedId(recordId)]),
  )
  yield* insert(
    PARKED,
    parked.map(({ document, error }) => [document.root.table, parkedId(document.recordId), error.code, error.message, at]),
    PARKED.primaryKey,
  )
}

/** A record id that is too long for an index is known by its beginning and its digest. */
function parkedId(recordId: string): string {
  return Buffer.byteLength(recordId) <= LONGEST_RECORD_ID ? recordId : `${recordId.slice(0, 100)}… SHA-256 ${hash('sha256', recordId)}`
}
