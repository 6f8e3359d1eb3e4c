import { createHash } from 'node:crypto'
import { Break } from './break.ts'
import type { EntryRow } from './groups.ts'

/** The digest before the first entry. */
export const START = '0'.repeat(64)

/** Follows the chain from a digest on, as docs/protocol.md has it; answers the last one. */
export function follow(before: string, rows: readonly EntryRow[]): string {
  return rows.reduce((digest, row) => {
    const { entryNo, operation, table, recordId, document, sealedAt, record } = row
    const lines = [digest, entryNo, operation, JSON.stringify(table), recordId, document, sealedAt, record ?? '']
    const next = createHash('sha256').update(lines.join('\n')).digest('hex')
    if (next !== row.digest) throw new Break('digest', `of entry ${entryNo}`)
    return next
  }, before)
}
