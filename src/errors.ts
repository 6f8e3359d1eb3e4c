/**
 * Every way in which tillsync refuses or fails, by code. Codes are part of the public face (semver); texts are not.
 */
export type TillsyncErrorCode =
  /** An option is missing or out of bounds. */
  | 'ERR_OPTION'
  /** This Node is too old for the library or its drivers. */
  | 'ERR_RUNTIME'
  /** The rules name a table that the database does not have. */
  | 'ERR_UNKNOWN_TABLE'
  /** The rules name a column that its table does not have. */
  | 'ERR_UNKNOWN_COLUMN'
  /** A table has no primary key, so its records can't be told apart. */
  | 'ERR_NO_KEY'
  /** Other tables inherit from a published one, so that its triggers would not fire for their rows. */
  | 'ERR_INHERITANCE'
  /** The rules contradict themselves: a part without its root, a circle, a key column left out. */
  | 'ERR_RULE'
  /** A filter throws, does not compile, or reads a table that the rules do not name. */
  | 'ERR_FILTER'
  /** The SQLite database is not in WAL mode. */
  | 'ERR_NOT_WAL'
  /** The host's connection cannot be used as it was given. */
  | 'ERR_CONNECTION'
  /** `install()` has not run on this database, or its tables are gone. */
  | 'ERR_NOT_INSTALLED'
  /** The library's tables were made by a later version. */
  | 'ERR_SCHEMA_NEWER'
  /** Somebody else holds the lock that is needed; the same call works later. */
  | 'ERR_BUSY'
  /** The database refused or failed. */
  | 'ERR_DATABASE'
  /** A value that the codec can't represent. */
  | 'ERR_VALUE'
  /** The wait was ended by its AbortSignal, or by `stop()`. */
  | 'ERR_ABORTED'
  /** The replica was stopped. */
  | 'ERR_STOPPED'
  /** The link did not carry the message, or not its answer. */
  | 'ERR_LINK'
  /** There is no room in a mailbox; the same call works when the other side has fetched what lies there. */
  | 'ERR_MAILBOX_FULL'
  /** A register did not answer a question in time, or central a register's letters; the same call works later. */
  | 'ERR_UNANSWERED'
  /** No credential, an unknown or a revoked one. */
  | 'ERR_CREDENTIAL'
  /** Too many wrong tokens came from where the request comes from; the same call works later. */
  | 'ERR_LOCKED_OUT'
  /** A register exchanges more often than it may; the same call works later. */
  | 'ERR_RATE_LIMIT'
  /** A message speaks for another register than its credential's. */
  | 'ERR_FOREIGN_REGISTER'
  /** A message that is not one: truncated, of foreign format, of wrong types, inconsistent. */
  | 'ERR_MESSAGE'
  /** A message, a document, a record or a record id over the agreed size. */
  | 'ERR_TOO_LARGE'
  /** A message of a protocol version that this side does not speak. */
  | 'ERR_VERSION'
  /** A batch that does not follow the subscriber's standing. */
  | 'ERR_NOT_NEXT'
  /** The entries of a batch do not have the digest that the batch states. */
  | 'ERR_DIGEST'
  /** A database without anything in common with the history that central knows by its name. */
  | 'ERR_FORKED'
  /** Two copies of one register's database speak to central. */
  | 'ERR_CLONED'
  /** A handler threw. */
  | 'ERR_HANDLER'
  /** A handler or a check took longer than `handlerTimeoutMs`. */
  | 'ERR_TIMEOUT'
  /** A document that `validate` refuses. */
  | 'ERR_INVALID'
  /** The amounts of a document do not agree: header, lines, VAT, tenders. */
  | 'ERR_UNBALANCED'
  /** A document names an item that central does not know. */
  | 'ERR_UNKNOWN_ITEM'
  /** A document's date lies in a period that is closed. */
  | 'ERR_CLOSED_PERIOD'
  /** There is no such document in quarantine, or it is settled. */
  | 'ERR_QUARANTINE'
  /** A handler returned a movement that can't be posted. */
  | 'ERR_MOVEMENT'
  /** A closing that can't be posted: its lines do not sum up to its totals, or a mapping returned none. */
  | 'ERR_CLOSING'
  /** The same goods would be posted twice: by receipts, and by the closings that sum them up. */
  | 'ERR_POSTED_TWICE'
  /** A row does not fit the host's own ledger. */
  | 'ERR_LEDGER'
  /** A record does not fit the table that mirrors it. */
  | 'ERR_MIRROR'
  /** A mirrored record refers to one that is not there, or one that is to be removed is still referred to. */
  | 'ERR_REFERENCE'
  /** A document that goes to and fro between two sides, each of which makes something else of it: it is not sent back any more. */
  | 'ERR_PING_PONG'
  /** The register is known already, or unknown. */
  | 'ERR_REGISTER'
  /** There is no such orphan, or it is settled. */
  | 'ERR_ORPHAN'
  /** A document can't be sent back, or a version that waits not be applied: its key, or one of its parts', is another's by now. */
  | 'ERR_KEY_TAKEN'
  /** A listener of the host threw. */
  | 'ERR_LISTENER'

export interface TillsyncErrorDetails {
  /** What to do about it, in a sentence. */
  readonly hint?: string | undefined
  /** Whether the same call may succeed later without any change. */
  readonly retryable?: boolean | undefined
  /** Names and numbers that belong to it; never values of the host's rows. */
  readonly context?: Readonly<Record<string, unknown>> | undefined
  readonly cause?: unknown
}

/** The one error class of the library. Decide by `code` and `retryable`, never by the text. */
export class TillsyncError extends Error {
  override readonly name = 'TillsyncError'
  readonly code: TillsyncErrorCode
  readonly retryable: boolean
  readonly hint: string | undefined
  readonly context: Readonly<Record<string, unknown>>

  constructor(code: TillsyncErrorCode, message: string, details: TillsyncErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.code = code
    this.retryable = details.retryable ?? false
    this.hint = details.hint
    this.context = details.context ?? {}
  }
}

/** One of the library's own tables that a statement names is gone; undefined where the message names none of them, whatever language it is in. */
export function goneTable(message: string, doing: string, cause: unknown): TillsyncError | undefined {
  const [table] = /\bsync_\w+/.exec(message) ?? []
  if (table === undefined) return undefined
  return new TillsyncError('ERR_NOT_INSTALLED', `${doing}: the library's table \`${table}\` is gone`, {
    hint: 'Who has removed it? Another process by `uninstall()`? It is made again by `install()`.',
    context: { table },
    cause,
  })
}

/** What was thrown, as a TillsyncError: itself, or wrapped under `code`. */
export function asTillsyncError(thrown: unknown, code: TillsyncErrorCode, message: string): TillsyncError {
  if (thrown instanceof TillsyncError) return thrown
  return new TillsyncError(code, `${message}: ${messageOf(thrown)}`, { cause: thrown })
}

export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}
