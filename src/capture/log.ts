import { documentLine, documentNamed } from '../digest.ts'
import type { Batch, DocumentName, Entry, Frame, Operation, Point, Value } from '../model.ts'
import type { Database } from '../ports.ts'
import { decodeRecord, decodeRecordId } from '../record.ts'
import { compiledOnce, query, type Work } from '../work.ts'
import { bytesOf } from './limits.ts'
import { ENTRIES } from './tables.ts'

/** An entry as it stands in the log. */
export interface LoggedEntry {
  readonly entry_no: number
  readonly table_name: string
  readonly operation: Operation
  readonly record_id: string
  readonly record: string | null
  readonly document: string
  readonly sealed_at: string
  readonly digest: Uint8Array
}

/** Whose entry it is. */
type Named = Pick<LoggedEntry, 'table_name' | 'operation' | 'record_id' | 'document'>

const COLUMNS = ['entry_no', 'table_name', 'operation', 'record_id', 'record', 'document', 'sealed_at', 'digest'] as const

/** How many rows are held at a time while a batch is cut. */
const PAGE = 250

/** When the oldest entry after `entryNo` was sealed. */
export function* oldestAfter(database: Database, entryNo: number): Work<string | undefined> {
  const [row] = yield* query<{ sealed_at: string }>({ sql: sealedAfter(database), parameters: [entryNo, 1] })
  return row?.sealed_at
}

const sealedAfter = compiledOnce(
  ({ build }) => build.selectFrom(ENTRIES.name).select('sealed_at').where('entry_no', '>', 0).orderBy('entry_no').limit(1).compile().sql,
)

/** What a batch holds at most. */
export interface BatchLimits {
  readonly records: number
  /** About as they go over the wire. */
  readonly bytes: number
}

type Cut = Omit<Batch, 'shapes' | 'identities' | 'keys'>

/**
 * The next whole documents after `after`: at most `records` entries and about `bytes`, but never less than one document; what was sealed together stays together where a
 * batch holds it: two batches one after another hold more than one may. Of a document that is larger than `bytes` a frame, never less than one entry. With `base`, the next frame of the document that begins there. Undefined when there is none.
 */
export function* cutBatch(database: Database, epoch: string, after: Point, limits: BatchLimits, base?: Point): Work<Cut | undefined> {
  const [before] = base === undefined ? [] : yield* readPage(database, after.entryNo - 1, 1)
  if (base !== undefined && before === undefined) return undefined
  const frame = (isLast: boolean): Frame => ({ base: base ?? after, isLast })
  const rows: LoggedEntry[] = []
  let bytes = 0
  let whole = 0 // rows before the last known beginning of a document
  let together = 0 // the same of what was sealed together
  for (;;) {
    const page = yield* readPage(database, rows.at(-1)?.entry_no ?? after.entryNo, PAGE)
    for (const row of page) {
      const size = bytesOf({ recordId: row.record_id, record: row.record })
      if (startsDocument(row, rows.at(-1) ?? before)) {
        whole = rows.length
        if (row.sealed_at !== rows.at(-1)?.sealed_at) together = whole
        // Behind the end of the document that comes in frames.
        if (base !== undefined) return whole === 0 ? undefined : toBatch(epoch, after, rows, frame(true), before)
      }
      if (whole > 0 && (rows.length >= limits.records || bytes + size > limits.bytes))
        return toBatch(epoch, after, rows.slice(0, together > 0 ? together : whole))
      if (whole === 0 && rows.length > 0 && bytes + size > limits.bytes) return toBatch(epoch, after, rows, frame(false), before)
      rows.push(row)
      bytes += size
    }
    if (page.length === PAGE) continue
    if (rows.length === 0) return undefined
    return base === undefined ? toBatch(epoch, after, rows) : toBatch(epoch, after, rows, frame(true), before)
  }
}

const pageOf = compiledOnce(
  ({ build }) => build.selectFrom(ENTRIES.name).select(COLUMNS).where('entry_no', '>', 0).orderBy('entry_no').limit(1).compile().sql,
)

function* readPage(database: Database, after: number, limit: number): Work<readonly LoggedEntry[]> {
  return yield* query<LoggedEntry>({ sql: pageOf(database), parameters: [after, limit] })
}

/** Those of these entries that are there, by their numbers. */
export function* entriesAt(database: Database, entryNos: readonly number[]): Work<ReadonlyMap<number, LoggedEntry>> {
  if (entryNos.length === 0) return new Map()
  const rows = yield* query<LoggedEntry>(database.build.selectFrom(ENTRIES.name).select(COLUMNS).where('entry_no', 'in', entryNos).compile())
  return new Map(rows.map((row) => [Number(row.entry_no), row]))
}

/** Whether an entry begins a document. A document's entries stand together, its root record first; with a baseline, first that of the baseline. */
export function startsDocument(row: Named, before: Named | undefined): boolean {
  if (row.document !== documentLine({ table: row.table_name, recordId: row.record_id })) return false
  return row.operation !== 'upsert' || before?.operation !== 'baseline' || before.document !== row.document
}

/** @param before the entry before them, where they go on with its document */
function toBatch(epoch: string, after: Point, rows: readonly LoggedEntry[], frame?: Frame, before?: LoggedEntry): Cut {
  let document = before === undefined ? { table: '', recordId: '' } : documentNamed(before.document)
  const entries = rows.map((row, n): Entry => {
    if (startsDocument(row, rows[n - 1] ?? before)) document = { table: row.table_name, recordId: row.record_id }
    return toEntry(row, document)
  })
  const last = rows.at(-1) as LoggedEntry
  const through = { entryNo: last.entry_no, digest: Buffer.from(last.digest).toString('hex') }
  return { epoch, after, through, entries, ...(frame && { frame }) }
}

export function toEntry({ entry_no, table_name, operation, record_id, record, sealed_at }: LoggedEntry, document: DocumentName): Entry {
  return { entryNo: entry_no, table: table_name, operation, recordId: record_id, record, document, sealedAt: sealed_at }
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
  const rows = yield* query<LoggedEntry>(select.orderBy('entry_no').limit(which.limit).compile())
  return rows.map((row) => ({
    entryNo: row.entry_no,
    table: row.table_name,
    operation: row.operation,
    recordId: decodeRecordId(row.record_id),
    record: row.record === null ? null : decodeRecord(row.record),
    sealedAt: row.sealed_at,
  }))
}
