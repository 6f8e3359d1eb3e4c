import { watch } from 'node:fs'

/** Rechecks behind the file watcher, which may miss a commit. */
const POLL_MS = 1_000
/** Our own connection sees no change of its data_version by commits on itself. */
const SHARED_POLL_MS = 25

/**
 * When it is looked after the watcher has said so, in milliseconds after the look before. A commit in this process is over by then; another process's writes its pages first,
 * waits for the disk, and can be seen only after that.
 */
const LOOKS_MS = [0, 1, 2, 4, 8, 16, 32, 64, 128]

/** The connection by which it is looked. */
interface Watched {
  readonly isOpen: boolean
  /** Another one whenever another connection has committed. */
  dataVersion(): number
}

/**
 * Every commit grows or rewinds the -wal file. The watcher only says "look": `PRAGMA data_version` says whether another
 * connection committed, and a slow poll stands behind a watcher that misses something. Returns the end of it.
 */
export function watchCommits(connection: Watched, file: string, listener: () => void): () => void {
  let version: number | undefined
  let looks = 0
  let unlook: (() => void) | undefined
  /** Whether somebody has committed since it was last looked. */
  const look = (): boolean => {
    if (!connection.isOpen) return true
    const now = versionOf(connection)
    if (now !== undefined && now === version) return false
    version = now
    listener()
    return true
  }
  const lookOn = (): void => {
    unlook = undefined
    if (!look()) lookAgain()
  }
  const lookAgain = (): void => {
    const ms = LOOKS_MS[looks++]
    if (ms !== undefined) unlook = soon(lookOn, ms)
  }
  const watcher = watchOrNothing(`${file}-wal`, () => {
    if (unlook !== undefined && looks <= 1) return
    unlook?.()
    looks = 0
    lookAgain()
  })
  const poll = setInterval(look, POLL_MS)
  look()
  return () => {
    watcher?.close()
    clearInterval(poll)
    unlook?.()
  }
}

/** Answers what takes it back. */
function soon(run: () => void, ms: number): () => void {
  if (ms === 0) {
    const immediate = setImmediate(run)
    return () => clearImmediate(immediate)
  }
  const timer = setTimeout(run, ms)
  return () => clearTimeout(timer)
}

/** On a shared connection there is nothing to watch: it is asked, in between the host's own work. */
export function watchShared(listener: () => void): () => void {
  const timer = setInterval(listener, SHARED_POLL_MS)
  return () => clearInterval(timer)
}

/** Undefined where the database can't say now: then whoever looks finds out why. */
function versionOf(connection: Watched): number | undefined {
  try {
    return connection.dataVersion()
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
