import { hash } from 'node:crypto'
import type { Entry } from './model.ts'

/**
 * The digest of an entry: SHA-256 over the digest before it and the entry's content, one line each. All lines but the
 * first are JSON texts or words, which hold no line feed, so that no two contents have the same lines.
 */
export function chainDigest(before: string, entry: Entry): string {
  return chainLines(before, entry, documentLine(entry.document))
}

/** The document of an entry as text: `["receipts",[4711]]`. */
export function documentLine(document: { readonly table: string; readonly recordId: string }): string {
  return `[${JSON.stringify(document.table)},${document.recordId}]`
}

/** The document that `documentLine` wrote. */
export function documentNamed(line: string): { readonly table: string; readonly recordId: string } {
  const [table] = JSON.parse(line) as [string]
  return { table, recordId: line.slice(JSON.stringify(table).length + 2, -1) }
}

/** `chainDigest` for many entries of one document, whose line is made once. */
export function chainLines(before: string, entry: Omit<Entry, 'document'>, document: string): string {
  return hash(
    'sha256',
    `${before}\n${entry.entryNo}\n${entry.operation}\n${JSON.stringify(entry.table)}\n${entry.recordId}\n${document}\n${entry.sealedAt}\n${entry.record ?? ''}`,
    'hex',
  )
}
