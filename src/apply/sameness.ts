import { decodeRecord } from '../record.ts'
import type { AppliedDocument } from './document-set.ts'

/** A record as it is archived. */
export interface ArchivedRecord {
  readonly table: string
  readonly recordId: string
  readonly record: string
}

/**
 * Whether a document is the one that was archived. Where its publisher names columns that never change while a document lives, those tell; otherwise
 * all that it consists of.
 */
export function isSame(document: AppliedDocument, archived: readonly ArchivedRecord[], identity: readonly string[] | undefined): boolean {
  const [root] = archived
  const own = document.entries[0]
  if (root === undefined || own === undefined || document.removed) return false
  if (identity !== undefined && identity.length > 0) return identityOf(own.record as string, identity) === identityOf(root.record, identity)
  const texts = (records: readonly { readonly table: string; readonly recordId: string; readonly record: string | null }[]) =>
    JSON.stringify(records.map(({ table, recordId, record }) => [table, recordId, record]).sort())
  return texts(document.entries) === texts(archived)
}

function identityOf(record: string, columns: readonly string[]): string {
  const values = decodeRecord(record)
  return JSON.stringify(columns.map((column) => [typeof values[column], String(values[column])]))
}
