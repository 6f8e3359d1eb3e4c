import { setTimeout as sleep } from 'node:timers/promises'
import type { Database as Connection } from 'better-sqlite3'
import { messageOf, TillsyncError } from '../../errors.ts'
import { classify, isBusy } from './errors.ts'
import { Steps } from './steps.ts'

/** How long it waits for whoever has the database for himself, and how long until it tries again. */
const PATIENCE_MS = 10_000
const LOCKED_MS = 20

/** How statements answer: by these deprecated settings columns would have other names, and what writes would answer rows (https://www.sqlite.org/pragma.html). */
const ANSWERS: Readonly<Record<string, number>> = { short_column_names: 1, full_column_names: 0, count_changes: 0, empty_result_callbacks: 0 }

/** The connection while it is open. */
export interface Opened {
  readonly connection: Connection
  readonly steps: Steps
  readonly file: string
}

/** Other drivers, Node's own among them, have `prepare` too, and no `pragma`. */
export function isConnection(given: unknown): given is Connection {
  const { prepare, pragma } = (given ?? {}) as { readonly prepare?: unknown; readonly pragma?: unknown }
  return typeof prepare === 'function' && typeof pragma === 'function'
}

/** Where SQLite has it, whatever name it was opened by: the -wal file stands beside what a link leads to, and a relative name means another file after chdir. */
function fileOf(connection: Connection): string {
  const databases = connection.pragma('database_list') as readonly { readonly name: string; readonly file: string }[]
  return databases.find(({ name }) => name === 'main')?.file || connection.name
}

/** Opens the library's connection, or takes the host's, once it can be read, and closes what is its own. */
export class Opening {
  private readonly connect: () => Connection
  private readonly shared: boolean
  private readonly onOpened: () => void
  private opened: Opened | undefined
  private opening: Promise<void> | undefined
  /** How often it was closed. */
  private closed = 0

  /** @param onOpened another connection is open, to what may be another file */
  constructor(connect: () => Connection, shared: boolean, onOpened: () => void) {
    this.connect = connect
    this.shared = shared
    this.onOpened = onOpened
  }

  /** Undefined while it is closed. */
  get current(): Opened | undefined {
    return this.opened
  }

  /** @throws ERR_STOPPED while it is closed */
  require(): Opened {
    if (this.opened !== undefined) return this.opened
    throw new TillsyncError('ERR_STOPPED', 'The database is not open', { hint: 'Call install() or start() first; after stop() only those.' })
  }

  async open(): Promise<void> {
    if (this.opened !== undefined) return
    this.opening ??= this.openSoon().finally(() => {
      this.opening = undefined
    })
    await this.opening
  }

  /** Once nobody keeps us from reading, as a connection does that recovers the log, or that is the last one and closes. */
  private async openSoon(): Promise<void> {
    const { closed } = this
    const connection = this.connectOrThrow()
    try {
      const patience = performance.now() + PATIENCE_MS
      while (!this.tryOpened(connection)) {
        if (performance.now() > patience) {
          throw new TillsyncError('ERR_BUSY', `The database could not be read for ${PATIENCE_MS} ms`, {
            retryable: true,
            hint: "Another connection has it for itself; where that is the host's, by locking_mode = EXCLUSIVE, share it: sqlite(db).",
          })
        }
        await sleep(LOCKED_MS)
        if (this.closed !== closed) throw new TillsyncError('ERR_STOPPED', 'The database was closed before it was open')
      }
    } catch (error) {
      if (!this.shared) connection.close()
      throw classify(error, 'Opening the database')
    }
  }

  private tryOpened(connection: Connection): boolean {
    try {
      if (!this.shared) this.furnish(connection)
      this.requireUsable(connection)
      this.opened = { connection, steps: new Steps(connection), file: fileOf(connection) }
      this.onOpened()
      return true
    } catch (error) {
      if (isBusy(error)) return false
      throw error
    }
  }

  private requireUsable(connection: Connection): void {
    if (connection.readonly) {
      throw new TillsyncError('ERR_CONNECTION', 'The connection is read-only', { hint: 'Open it without `readonly`.' })
    }
    const odd = Object.keys(ANSWERS).find((name) => Number(connection.pragma(name, { simple: true })) !== ANSWERS[name])
    if (odd !== undefined) {
      throw new TillsyncError('ERR_CONNECTION', `The connection has PRAGMA ${odd} set, by which SQLite answers otherwise`, {
        hint: `PRAGMA ${odd} = ${ANSWERS[odd]}, as it is by default; or let the library open a connection of its own.`,
        context: { pragma: odd },
      })
    }
  }

  private connectOrThrow(): Connection {
    let connection: Connection | undefined
    try {
      connection = this.connect()
    } catch (error) {
      throw new TillsyncError('ERR_CONNECTION', `Opening the database failed: ${messageOf(error)}`, {
        hint: 'The function given to sqlite() threw; is the file where it says, and may we write there?',
        cause: error,
      })
    }
    if (isConnection(connection)) return connection
    throw new TillsyncError('ERR_CONNECTION', 'The function given to sqlite() returned no connection of better-sqlite3', {
      hint: "import Database from 'better-sqlite3'; sqlite(() => new Database(file)), not an async function.",
    })
  }

  /** Sets what concerns our own connection only; the file is the host's and stays as it is. */
  private furnish(connection: Connection): void {
    connection.pragma('busy_timeout = 0') // first: whatever else is asked may have to wait, and SQLite does so in its sleep
    const mode = connection.pragma('journal_mode', { simple: true })
    if (mode !== 'wal') {
      throw new TillsyncError('ERR_NOT_WAL', `The database is in journal mode '${String(mode)}', where reading blocks the cashier's commits`, {
        hint: "Is it the host's own file? Run PRAGMA journal_mode = WAL once, while nothing else is connected; or share the host's connection: sqlite(db).",
        context: { journalMode: mode },
      })
    }
    for (const [name, value] of Object.entries(ANSWERS)) connection.pragma(`${name} = ${value}`)
    // A commit that waits for the disk would keep the host waiting; `settle` makes up for it.
    connection.pragma('synchronous = NORMAL')
    connection.pragma('wal_autocheckpoint = 0')
  }

  async close(): Promise<void> {
    this.closed++
    const opened = this.opened
    this.opened = undefined
    if (opened !== undefined && !this.shared) opened.connection.close()
  }
}
