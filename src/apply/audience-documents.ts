import { TillsyncError } from '../errors.ts'
import type { AudienceBatch, AudienceRecord, Entry, PartShape } from '../model.ts'
import { decodeRecordId } from '../record.ts'
import { type AppliedDocument, documentOf, tablesOf } from './document-set.ts'

/** A document as central publishes it, or as it waits here. */
export interface IncomingDocument {
  readonly table: string
  readonly recordId: string
  /** Header first; none: it is to go. */
  readonly records: readonly AudienceRecord[]
}

/** The documents of a batch, each once. */
export function incomingIn({ table, documents }: AudienceBatch): readonly IncomingDocument[] {
  const latest = new Map<string, IncomingDocument>()
  for (const { recordId, records } of documents) {
    latest.delete(recordId)
    latest.set(recordId, { table, recordId, records })
  }
  return [...latest.values()]
}

/** As it is applied; records of tables that the shape does not have are left out. */
export function toApplied(
  { table, recordId, records }: IncomingDocument,
  shape: readonly PartShape[],
  keyColumns: readonly string[],
): AppliedDocument {
  const document = { table, recordId }
  const entry = (of: Pick<Entry, 'table' | 'recordId' | 'record' | 'operation'>): Entry => ({ ...of, entryNo: 0, document, sealedAt: '' })
  const tables = new Set([table, ...tablesOf(shape)])
  const entries = records.filter((record) => tables.has(record.table)).map((record) => entry({ ...record, operation: 'upsert' }))
  const applied = documentOf(entries.length > 0 ? entries : [entry({ table, recordId, record: null, operation: 'remove' })], shape, keyColumns)
  // Rows may be here that did not come from central.
  applied.isNew = false
  return applied
}

/**
 * Whether a batch is one, before anything of it is applied.
 *
 * @throws ERR_MESSAGE
 */
export function checkBatch({ table, stream, after, through, mark, documents, shape, keyColumns }: AudienceBatch): void {
  const isCount = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0
  if (typeof stream !== 'string' || stream === '' || typeof mark !== 'string') throw malformed(table, 'stream')
  if (!isCount(after) || !isCount(through) || through < after) throw malformed(table, 'through')
  if (!Array.isArray(keyColumns) || keyColumns.length === 0) throw malformed(table, 'keyColumns')
  const parts = tablesOf(shape)
  if (new Set([table, ...parts]).size !== parts.length + 1) throw malformed(table, 'shape')
  const tables = new Set(parts)
  for (const { recordId, records } of documents) {
    if (!isRecordId(recordId, keyColumns.length)) throw malformed(table, 'recordId')
    for (const [n, record] of records.entries()) {
      const isRoot = record.table === table && record.recordId === recordId
      if (n === 0 ? !isRoot : !tables.has(record.table)) throw malformed(table, 'records')
      if (typeof record.record !== 'string') throw malformed(table, 'records')
    }
  }
}

function isRecordId(text: unknown, values: number): boolean {
  try {
    return typeof text === 'string' && decodeRecordId(text).length === values
  } catch {
    return false
  }
}

function malformed(table: string, field: string): TillsyncError {
  return new TillsyncError('ERR_MESSAGE', `What central sends of \`${table}\` is no batch of documents: ${field}`, {
    hint: 'Nothing of it was applied. Does central run a later version?',
    context: { table, field },
  })
}
