import { open } from 'node:fs/promises'

/** Flushes the -wal file of a database to the disk, without holding up the event loop or a lock. False where there is none, or it can't be opened. */
export async function syncLog(database: string): Promise<boolean> {
  const file = await open(`${database}-wal`, 'r+').catch(() => undefined)
  if (file === undefined) return false
  try {
    await file.datasync()
  } finally {
    await file.close()
  }
  return true
}
