import { asTillsyncError, messageOf, TillsyncError } from '../../errors.ts'

/** Whether somebody else holds the lock; the same transaction works later. */
export function isBusy(thrown: unknown): boolean {
  const code = codeOf(thrown)
  if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED')) return true
  // better-sqlite3, where the host iterates over a statement of a shared connection
  return thrown instanceof TypeError && thrown.message.includes('busy executing')
}

/** A failure of SQLite by its result code (https://www.sqlite.org/rescode.html). */
export function classify(thrown: unknown, doing: string): TillsyncError {
  if (thrown instanceof TillsyncError) return thrown
  const code = codeOf(thrown)
  if (isBusy(thrown)) return new TillsyncError('ERR_BUSY', `The database is busy: ${doing}`, { retryable: true, cause: thrown })
  if (code === '') return asTillsyncError(thrown, 'ERR_DATABASE', doing)
  return new TillsyncError('ERR_DATABASE', `${doing}: ${messageOf(thrown)}`, {
    retryable: code === 'SQLITE_FULL' || code.startsWith('SQLITE_IOERR'),
    hint: code === 'SQLITE_FULL' ? 'The disk is full. Nothing is lost: what is touched is sealed when there is room.' : undefined,
    context: { sqlite: code },
    cause: thrown,
  })
}

/** A statement that compiled and then raised while it read rows: an expression of the host's rules met a value that it can't take. */
export function isRaised(thrown: unknown): boolean {
  return ['SQLITE_ERROR', 'SQLITE_MISMATCH', 'SQLITE_TOOBIG'].includes(codeOf(thrown))
}

function codeOf(thrown: unknown): string {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : ''
}
