import type { ArchivedEntry } from './apply/archive.ts'
import type { WhichEntries } from './apply/archive-book.ts'
import type { Audit } from './apply/audit.ts'
import type { WhichToAudit } from './apply/audit-book.ts'
import type { WhichClosings } from './apply/closing-book.ts'
import type { FoundClosings, WaitingClosing } from './apply/closing-recall.ts'
import type { Orphans } from './apply/orphan-book.ts'
import type { QuarantineFace } from './apply/quarantine-book.ts'
import type { Reconciliation } from './apply/reconcile.ts'
import type { WhichDay } from './apply/reconcile-book.ts'
import type { Replayed, ReplayOptions } from './apply/replay.ts'
import type { WhichReplayed } from './apply/replay-options.ts'
import type { ArchivedDocument } from './apply/trace.ts'
import type { TraceOptions, WhichTraced } from './apply/trace-book.ts'
import type { PublishingStatus } from './central-publishing.ts'
import type { CompareOptions, Comparison } from './compare-book.ts'
import type { SynchronizeOptions } from './courier.ts'
import type { CentralEvents } from './events.ts'
import type { AnyTables, Finding, RegisterName, TableName, Which } from './model.ts'
import type { Registers } from './registers-face.ts'
import type { PulledRegister, PullProgress, PullResult } from './rounds.ts'
import type { RequestSource } from './transport/source.ts'

/** The registers of a location, or one of them. */
export interface ExportTarget {
  readonly location: string
  readonly register?: string
}

/** Without `publish` there is nothing to say. */
export type CentralStatus = PublishingStatus

/** Head office's replica: takes what the registers send and does with it what the host subscribed. `Sent`: the tables that they send; `DB`: its own. */
export interface Central<Sent = AnyTables, DB = AnyTables> {
  /**
   * Creates the library's tables, in one transaction; safe to run at every start.
   *
   * @throws ERR_UNKNOWN_TABLE, ERR_NO_KEY, ERR_SCHEMA_NEWER: the database is as it was
   */
  install(): Promise<void>
  /** Removes the library's own tables, the archive and the registers with them. The ledger and the mirrored tables stay. */
  uninstall(): Promise<void>
  /** Opens it, checks that it is installed, and pulls from now on; `fetch` opens it by itself at the first request. Idempotent. */
  start(): Promise<void>
  /**
   * Now: pulls a register until it has nothing more. `onProgress` is told after each exchange; what it throws is said by `failed` and changes nothing.
   *
   * @throws ERR_LINK (retryable) where it does not answer, ERR_CREDENTIAL, ERR_FORKED, ERR_ABORTED and what else ended it; ERR_REGISTER where it is not
   * known or revoked; ERR_OPTION where it pushes
   */
  synchronize(register: RegisterName, options?: SynchronizeOptions<PullProgress>): Promise<PullResult>
  /**
   * The same for all pull registers, many at once. One that fails does not end it: its result says why.
   *
   * @throws ERR_ABORTED, ERR_OPTION
   */
  synchronize(register?: undefined, options?: SynchronizeOptions<PullProgress>): Promise<readonly PulledRegister[]>
  /**
   * Refuses what comes from now on, ends the pulling, and waits for what is being applied. The host ends its pool. Idempotent. Starts, stops and installs have their turns in the order in which
   * they were asked for: a start that is stopped on its way begins nothing.
   */
  stop(): Promise<void>
  readonly registers: Registers
  readonly orphans: Orphans
  readonly quarantine: QuarantineFace
  /**
   * Archived entries by location, register, epoch and number, for people. The next page is that after the last entry (`after: page.at(-1)`), until one is empty; one with
   * large records may be shorter than `limit`. With conditions that few entries meet it reads through the archive of the registers that are named.
   *
   * @throws ERR_OPTION, ERR_REGISTER where the register is not known; ERR_VALUE, with the entry, where somebody has changed the archive so that it can't be read: go on behind it
   */
  entries(which?: WhichEntries): Promise<readonly ArchivedEntry[]>
  /**
   * Why is it (not) there? What is known here of documents of all registers, or of those that are named: how far each has come, all of its versions that are kept, what was posted
   * for it, its closings, what of it is in quarantine, parked at the till, lost by a restore, pruned. By location and register, at most `limit`; an empty list where no
   * version that is kept holds what is wanted: nothing of the kind was ever received, or it was sent under other values. A till's own `trace()` then says whether it is sealed and sent.
   *
   * By all columns of the key it is found by an index. By others the archive of the registers is read, the latest entries first, 5,000 in a transaction that holds nobody up: about a second
   * for each million, until `limit` are found; so name a register, or a `since`, where it is large.
   *
   * @throws ERR_UNKNOWN_TABLE, ERR_UNKNOWN_COLUMN where no record that was looked at has such a column, ERR_OPTION, ERR_REGISTER where the register that is named is not known, ERR_ABORTED
   */
  trace<T extends TableName<Sent>>(table: T, which: WhichTraced<Sent, T>, options?: TraceOptions): Promise<readonly ArchivedDocument[]>
  /**
   * Compares the archive's latest versions of a register's root table with what the register has published: by counts and digests of ranges of record ids, and where those differ document by
   * document. What is sealed and not sent yet is waited for, what changes meanwhile is not judged, what waits in quarantine is there, what was orphaned is known. With `repair` exactly the
   * differing documents are sealed and sent again, and it waits until they are here; only differences are posted.
   *
   * The register is asked with the next exchanges: one that is pulled at once, from here; one that pushes when it next speaks. It goes on selling: each exchange costs it some 200 ms of
   * work in small slices at most. Central reads all latest versions of the table. Several comparisons may run at a time, from several processes.
   *
   * @throws ERR_UNANSWERED (retryable) where nothing is heard of it for `timeoutMs`: it is off, or of a version that does not know the question; ERR_LINK (retryable) and what else ends
   * pulling it; ERR_REGISTER, ERR_CLONED; ERR_UNKNOWN_TABLE where the register does not publish the table; ERR_MESSAGE where it gives an answer that is none; ERR_VALUE, ERR_TOO_LARGE,
   * ERR_VERSION where it can't be compared; ERR_ABORTED, ERR_OPTION. What `repair` has asked for by then it goes on asking for.
   */
  compare(table: TableName<Sent>, register: RegisterName, options?: CompareOptions): Promise<Comparison>
  /**
   * Deletes entries of the archive that are of replaced versions and were received longer than `retainArchiveMs` ago, in short transactions that hold nobody up; nothing without that
   * option. And forgets, after 30 days, audiences that no register asks for and removals that all registers have. Happens by itself once started. What another process prunes just now is left to it.
   *
   * @throws ERR_ABORTED
   */
  prune(options?: { readonly signal?: AbortSignal }): Promise<{ readonly entries: number }>
  /**
   * Runs the handlers of a table again over what is archived, after one was mended or added: each document in its latest version, those included that their registers have removed or
   * lost since. Only differences are posted, and where nothing differs nothing is written; mirrored tables are filled again. In short transactions, register by register, while new
   * batches come in; calling it again, or in several processes at once, does nothing twice. A document that a handler refuses goes to quarantine, and what waits there is tried too.
   *
   * @throws ERR_OPTION, ERR_UNKNOWN_TABLE, ERR_RULE where the table has no handler or holds parts, ERR_REGISTER, ERR_ABORTED; ERR_BUSY (retryable) where a register was busy for minutes:
   * the others are done. What was done stays: call it again
   */
  replay(which: WhichReplayed, options?: ReplayOptions): Promise<Replayed>
  /**
   * Posted closings of a warehouse with their lines, by number, supplementary ones among them; and the totals of all that were asked for.
   *
   * @throws ERR_OPTION
   */
  closings(which: WhichClosings): Promise<FoundClosings>
  /** Closings that are not posted yet, or not all of it, and what they wait for: the oldest first, at most 1,000. */
  waitingClosings(which?: { readonly location?: string; readonly register?: string }): Promise<readonly WaitingClosing[]>
  /**
   * Proves what central has of registers: entries 1 to n of each epoch of their streams are in the archive, none is missing, and their digests, computed anew, are those that the
   * register has stated; names what is orphaned, in quarantine or parked; and looks through the tills' own numbers (`numbering`) for those that are missing, used twice, declared void. Reads all
   * archived entries of the registers, in pages and in one snapshot; writes nothing and holds nobody up. docs/audit.md says what each finding means.
   *
   * @throws ERR_OPTION, ERR_REGISTER where the register is not known, or none at that location; ERR_ABORTED
   */
  audit(which: WhichToAudit): Promise<Audit>
  /**
   * Compares a day's books of the registers of a location: what the latest applied versions of documents should have caused, by the handlers as they are now, with what was posted for
   * them, and that with the rows of the ledgers; receipts with closing lines by item, VAT and customer. Returns the sums of each side, and the documents that cause a difference. Reads
   * in one snapshot; writes nothing and holds nobody up. docs/audit.md says what each difference means.
   *
   * @throws ERR_OPTION, also where no handler posts anything; ERR_REGISTER where the register is not known, or none at that location; ERR_ABORTED
   */
  reconcile(which: WhichDay): Promise<Reconciliation>
  /**
   * Sends documents of a published root table anew although they have not changed: to all registers, or to those of a location, or one, as far as the documents are inside their
   * filters, for which these are asked again: what came in or left unseen is found. Registers that share an audience with one of them get them too. A page of documents at a time: each is all or nothing.
   *
   * @throws ERR_UNKNOWN_TABLE where it is not published as a root; ERR_OPTION, ERR_UNKNOWN_COLUMN, ERR_FILTER; ERR_REGISTER where `to` means none
   */
  export<T extends TableName<DB>>(table: T, which: Which<DB, T>, options?: { readonly to?: ExportTarget }): Promise<{ readonly documents: number }>
  /** How sealing for the registers goes, how far each has come in what is published for it, and what it could not apply. */
  status(): Promise<CentralStatus>
  /** What about the rules of `publish` and the tables as they stand would cost time or let something slip through. Changes nothing. */
  check(): Promise<readonly Finding[]>
  /**
   * Answers an exchange of a register: mounts in any framework that speaks fetch, in node:http and Express by
   * `toNodeHandler(central.fetch)`. `source` is where the request comes from; a lock-out goes by it. Never rejects; what it
   * refuses it answers with a status and a code.
   */
  readonly fetch: (request: Request, from?: RequestSource) => Promise<Response>
  /**
   * Returns a function that ends it.
   *
   * @throws ERR_OPTION for an event that there is not
   */
  on<K extends keyof CentralEvents>(event: K, listener: (event: CentralEvents[K]) => void): () => void
}
