import { closeSync, fdatasync, openSync } from 'node:fs'
import { promisify } from 'node:util'

const flush = promisify(fdatasync)

/**
 * Flushes the -wal file of a database to the disk, without holding up the event loop or a lock. False where there is none, or it can't be opened. SQLite has it
 * open: to open it once more and close it takes less than the way to another thread.
 */
export async function syncLog(database: string): Promise<boolean> {
  const file = openOrNothing(`${database}-wal`)
  if (file === undefined) return false
  try {
    await flush(file)
  } finally {
    closeSync(file)
  }
  return true
}

function openOrNothing(file: string): number | undefined {
  try {
    return openSync(file, 'r+')
  } catch {
    return undefined
  }
}
