import { documentLine } from '../digest.ts'
import type { Batch, Entry, Operation, Point, Value } from '../model.ts'
import { type Database, query, type Work } from '../ports.ts'
import { decodeRecord, decodeRecordId } from '../record.ts'
import { ENTRIES } from './tables.ts'

interface EntryRow {
  readonly entry_no: number
  readonly table_name: string
  readonly operation: Operation
  readonly record_id: string
  readonly record: string | null
  readonly document: string
  readonly sealed_at: string
  readonly digest: Uint8Array
}

/** How many rows are held at a time while a batch is cut. */
const PAGE = 250

/** When the oldest entry after `entryNo` was sealed. */
export function* oldestAfter(database: Database, entryNo: number): Work<string | undefined> {
  const [row] = yield* query<{ sealed_at: string }>(
    database.build.selectFrom(ENTRIES.name).select('sealed_at').where('entry_no', '>', entryNo).orderBy('entry_no').limit(1).compile(),
  )
  return row?.sealed_at
}

/**
 * The next whole documents after `after`: at most `records` entries and about `bytes` of JSON, but never less than one
 * document. Undefined when there is none.
 */
export function* cutBatch(
  database: Database,
  epoch: string,
  after: Point,
  limits: { readonly records: number; readonly bytes: number },
): Work<Omit<Batch, 'shapes' | 'identities'> | undefined> {
  const rows: EntryRow[] = []
  let bytes = 0
  let whole = 0 // rows before the last known beginning of a document
  for (;;) {
    const page = yield* readPage(database, rows.at(-1)?.entry_no ?? after.entryNo)
    for (const row of page) {
      const size = row.record_id.length + (row.record?.length ?? 0)
      if (startsDocument(row, rows.at(-1))) whole = rows.length
      if (whole > 0 && (rows.length >= limits.records || bytes + size > limits.bytes)) return toBatch(epoch, after, rows.slice(0, whole))
      rows.push(row)
      bytes += size
    }
    if (page.length === 0) return rows.length === 0 ? undefined : toBatch(epoch, after, rows)
  }
}

function* readPage(database: Database, after: number): Work<readonly EntryRow[]> {
  return yield* query<EntryRow>(
    database.build
      .selectFrom(ENTRIES.name)
      .select(['entry_no', 'table_name', 'operation', 'record_id', 'record', 'document', 'sealed_at', 'digest'])
      .where('entry_no', '>', after)
      .orderBy('entry_no')
      .limit(PAGE)
      .compile(),
  )
}

/** A document's entries stand together, its root record first; with a baseline, first that of the baseline. */
function startsDocument(row: EntryRow, before: EntryRow | undefined): boolean {
  if (row.document !== documentLine({ table: row.table_name, recordId: row.record_id })) return false
  return row.operation !== 'upsert' || before?.operation !== 'baseline' || before.document !== row.document
}

function toBatch(epoch: string, after: Point, rows: readonly EntryRow[]): Omit<Batch, 'shapes' | 'identities'> {
  let document = { table: '', recordId: '' }
  const entries = rows.map((row, n): Entry => {
    if (startsDocument(row, rows[n - 1])) document = { table: row.table_name, recordId: row.record_id }
    return {
      entryNo: row.entry_no,
      table: row.table_name,
      operation: row.operation,
      recordId: row.record_id,
      record: row.record,
      document,
      sealedAt: row.sealed_at,
    }
  })
  const last = rows.at(-1) as EntryRow
  return { epoch, after, through: { entryNo: last.entry_no, digest: Buffer.from(last.digest).toString('hex') }, entries }
}

/** An entry as support reads it. */
export interface ListedEntry {
  readonly entryNo: number
  readonly table: string
  readonly operation: Operation
  readonly recordId: readonly Value[]
  readonly record: Readonly<Record<string, Value>> | null
  /** ISO 8601, UTC. */
  readonly sealedAt: string
}

export function* listEntries(
  database: Database,
  which: { readonly table: string | undefined; readonly after: number; readonly limit: number },
): Work<readonly ListedEntry[]> {
  let select = database.build
    .selectFrom(ENTRIES.name)
    .select(['entry_no', 'table_name', 'operation', 'record_id', 'record', 'sealed_at'])
    .where('entry_no', '>', which.after)
  if (which.table !== undefined) select = select.where('table_name', '=', which.table)
  const rows = yield* query<EntryRow>(select.orderBy('entry_no').limit(which.limit).compile())
  return rows.map((row) => ({
    entryNo: row.entry_no,
    table: row.table_name,
    operation: row.operation,
    recordId: decodeRecordId(row.record_id),
    record: row.record === null ? null : decodeRecord(row.record),
    sealedAt: row.sealed_at,
  }))
}
