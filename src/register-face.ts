import type { SubscriptionStatus } from './apply/audience-subscription.ts'
import type { Notices } from './apply/notice-book.ts'
import type { WaitingDocument } from './apply/waiting-documents.ts'
import type { ListedEntry } from './capture/log.ts'
import type { ParkedDocument } from './capture/parked.ts'
import type { Sealed } from './capture/sealer.ts'
import type { TracedDocument } from './capture/trace.ts'
import type { Progress, RunResult, SynchronizeOptions } from './courier.ts'
import type { TillsyncError } from './errors.ts'
import type { RegisterEvents } from './events.ts'
import type { AnyTables, Finding, Standing, TableName, Which } from './model.ts'
import type { RequestSource } from './transport/source.ts'

/** What a `synchronize()` moved. */
export type Synchronized = RunResult

export interface RegisterStatus {
  /** Touches that are not sealed yet. A job that purges old documents waits until this is 0. */
  readonly unsealed: number
  /** Entries that central has not acknowledged yet. */
  readonly pending: number
  /** When the oldest of them was sealed; ISO 8601, UTC. */
  readonly oldestPending: string | undefined
  /** The last entry of our stream. */
  readonly head: Standing
  /** How far central has come in it, as it last said. */
  readonly standing: Standing | undefined
  /** When central last answered; ISO 8601, UTC. */
  readonly lastContact: string | undefined
  /** What last failed in the background; undefined as soon as the same goes well again. */
  readonly lastError: TillsyncError | undefined
  /** Documents that can't be read or filtered. They alone wait; a new touch tries them again. */
  readonly parked: readonly ParkedDocument[]
  /** How far it has come in what central publishes, by root table, in the order in which that comes. */
  readonly subscriptions: readonly SubscriptionStatus[]
  /** Documents of central's that could not be applied and wait, oldest first; at most 100. They alone wait, and are tried again by themselves. */
  readonly unapplied: readonly WaitingDocument[]
  /** Root tables that can't be published, or not be written, as they stand, because the host's schema has changed; the others go on. */
  readonly problems: readonly { readonly table: string; readonly error: TillsyncError }[]
  /** Root tables whose reseal is asked for or under way. */
  readonly resealing: readonly string[]
}

/** A till's replica: captures what its tables say and brings it to central. */
export interface Register<DB = AnyTables> {
  /** What the operator is to be told of what central has changed: shelf labels to print, an order that was confirmed. */
  readonly notices: Notices
  /**
   * Creates or mends the library's tables and triggers, in one transaction; safe to run at every start. With `dryRun` nothing is
   * done. Returns the SQL that defines tables, functions and triggers, in order; it is empty where all is as it should be. Rows of the
   * library's own tables are not in it, so it does not replace a call without `dryRun`. From now on its rules are in force: a process that goes by others stands still, with ERR_SCHEMA_NEWER.
   *
   * @throws ERR_NOT_WAL, ERR_UNKNOWN_TABLE, ERR_UNKNOWN_COLUMN, ERR_NO_KEY, ERR_RULE, ERR_FILTER, ERR_SCHEMA_NEWER: the database is as it was
   */
  install(options?: { readonly dryRun?: boolean }): Promise<readonly string[]>
  /** Removes every trigger and table of the library; what was not sent is gone. The host's tables are untouched. */
  uninstall(): Promise<void>
  /**
   * Seals after each commit and sends what is sealed, in the background. Idempotent. Where nobody waits for it, the event
   * `failed` says why it could not. Its rules are in force from now on: whoever began by others before stands still, with ERR_SCHEMA_NEWER.
   *
   * Where the host has a published table for itself (PostgreSQL) it waits for up to 30 seconds, and goes on without having looked at the tables: they are sealed once that is over, and `failed` tells of it.
   *
   * @throws ERR_NOT_INSTALLED, ERR_SCHEMA_NEWER, ERR_NOT_WAL
   */
  start(): Promise<void>
  /** Ends the background work and closes the library's connection. Waits for the transaction under way. Idempotent. */
  stop(): Promise<void>
  /**
   * Seals all that was touched and committed before the call, and does the reseals that were asked for: by changed rules, a changed schema, a table that was touched
   * as a whole. Happens by itself soon after each commit once started.
   */
  seal(): Promise<Sealed>
  /**
   * Now: seals, and exchanges with central until it has everything that there was, and what it publishes is here. `onProgress` is told after each exchange what was moved so far and
   * how many entries wait; what it throws is said by `failed` and changes nothing. What is sold meanwhile may wait for the next exchange; while head office changes what is for this
   * till faster than an exchange takes, it goes on until `signal` ends it.
   *
   * @throws ERR_LINK (retryable) without a network, ERR_CREDENTIAL, ERR_FORKED, ERR_ABORTED, and what central refuses with; ERR_OPTION where central pulls
   */
  synchronize(options?: SynchronizeOptions<Progress>): Promise<Synchronized>
  /**
   * Answers central's exchanges where `transfer` is of type 'pull': mounts in any framework that speaks fetch, in node:http and Express by
   * `toNodeHandler(till.fetch)`. `source` is where the request comes from; a lock-out goes by it. What it refuses it answers with a status and a
   * code; from `stop()` to the next `start()` that is ERR_STOPPED.
   *
   * @throws ERR_OPTION where the register is not pulled
   */
  readonly fetch: (request: Request, from?: RequestSource) => Promise<Response>
  /**
   * Seals documents anew although unchanged; with `related`, those that are declared `relatedTo` them too. Central
   * replaces its copies and posts only differences.
   *
   * @throws ERR_UNKNOWN_TABLE, ERR_UNKNOWN_COLUMN, ERR_OPTION, ERR_FILTER
   */
  export<T extends TableName<DB>>(table: T, which: Which<DB, T>, options?: { readonly related?: boolean }): Promise<Sealed>
  /**
   * Compares all records of a root table with what central has been given, and seals what differs: changes, additions and
   * deletions that no trigger saw. In short transactions, while sales go on; what is interrupted goes on at the next
   * `start()`, and another call begins anew. Happens by itself where the rules of a table have changed.
   *
   * @throws ERR_UNKNOWN_TABLE
   */
  reseal(table: TableName<DB>, options?: { readonly signal?: AbortSignal }): Promise<Sealed>
  /** Sealed entries in order, for people. `after` is an entry number; `limit` is 50 by default, and at most 1,000. @throws ERR_OPTION */
  entries(which?: { readonly table?: TableName<DB>; readonly after?: number; readonly limit?: number }): Promise<readonly ListedEntry[]>
  /**
   * How sealing and sending stand, by what is in the database now. Asks nobody over the line.
   *
   * @throws ERR_NOT_INSTALLED, ERR_BUSY
   */
  status(): Promise<RegisterStatus>
  /**
   * Looks for what would cost time or let something slip through: missing indexes, keys that come back, settings that survive no
   * power cut, triggers that somebody has changed. Empty where nothing was found. Changes nothing.
   */
  check(): Promise<readonly Finding[]>
  /**
   * What is known here of documents: whether they stand in the table, what of them was sealed when, what central has acknowledged. By
   * values of columns also of those that were deleted, as long as their entries are kept. At most 100.
   *
   * @throws ERR_UNKNOWN_TABLE, ERR_UNKNOWN_COLUMN, ERR_OPTION, ERR_FILTER, ERR_ABORTED
   */
  trace<T extends TableName<DB>>(table: T, which: Which<DB, T>, options?: { readonly signal?: AbortSignal }): Promise<readonly TracedDocument[]>
  /**
   * Deletes entries that central has acknowledged (or, silent for `forgetAfterMs`, never will) and that are older than `retainMs`, in short transactions; the last entry
   * stays. Happens by itself every hour once started.
   */
  prune(options?: { readonly signal?: AbortSignal }): Promise<{ readonly entries: number }>
  /**
   * Runs the host's own schema change with the library's triggers out of its way (SQLite refuses to drop a column that a
   * trigger names), makes them anew, and compares the tables with what was sent. Until `fn` is done no process makes triggers, but by `install()`. What `fn` throws is thrown, after that.
   *
   * @throws ERR_OPTION where `fn` is no function; ERR_NOT_INSTALLED, ERR_BUSY
   */
  migrate<T>(fn: () => T | Promise<T>): Promise<T>
  /**
   * Returns a function that ends it.
   *
   * @throws ERR_OPTION for an event that there is not
   */
  on<K extends keyof RegisterEvents>(event: K, listener: (event: RegisterEvents[K]) => void): () => void
}
