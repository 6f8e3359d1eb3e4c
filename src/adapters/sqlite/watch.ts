import { watch } from 'node:fs'
import type { Database as Connection } from 'better-sqlite3'

/** Rechecks behind the file watcher, which may miss a commit. */
const POLL_MS = 1_000
/** Our own connection sees no change of its data_version by commits on itself. */
const SHARED_POLL_MS = 25

/**
 * Every commit grows or rewinds the -wal file. The watcher only says "look": `PRAGMA data_version` says whether another
 * connection committed, and a slow poll stands behind a watcher that misses something. Returns the end of it.
 */
export function watchCommits(connection: Connection, listener: () => void): () => void {
  let version: unknown
  let looking: NodeJS.Timeout | undefined
  const look = (): void => {
    looking = undefined
    if (!connection.open) return
    const now = versionOf(connection)
    if (now !== undefined && now === version) return
    version = now
    listener()
  }
  const watcher = watchOrNothing(`${connection.name}-wal`, () => {
    looking ??= setTimeout(look, 1)
  })
  const poll = setInterval(look, POLL_MS)
  look()
  return () => {
    watcher?.close()
    clearInterval(poll)
    clearTimeout(looking)
  }
}

/** On a shared connection there is nothing to watch: it is asked, in between the host's own work. */
export function watchShared(listener: () => void): () => void {
  const timer = setInterval(listener, SHARED_POLL_MS)
  return () => clearInterval(timer)
}

/** Undefined where the database can't say now: then whoever looks finds out why. */
function versionOf(connection: Connection): unknown {
  try {
    return connection.pragma('data_version', { simple: true })
  } catch {
    return undefined
  }
}

/** Without a watcher (a file system that has none) the poll alone notices commits. */
function watchOrNothing(file: string, listener: () => void): { close(): void } | undefined {
  try {
    return watch(file, { persistent: false }, listener).on('error', () => undefined)
  } catch {
    return undefined
  }
}
