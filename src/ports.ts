import type { Kysely } from 'kysely'
import type { TillsyncError } from './errors.ts'
import type { HostColumn, HostTable } from './host-table.ts'
import type { Mirroring } from './mirroring.ts'
import type {
  AnyTables,
  AudienceAnswer,
  AudienceBatch,
  AudienceRequest,
  AudienceStanding,
  Batch,
  Finding,
  Publication,
  RegisterName,
  Subscription,
  UnappliedDocument,
} from './model.ts'
import type { OwnTable } from './own-table.ts'
import type { Key, Statement, Work } from './work.ts'

/** What a trigger is to note: a record of `table`, or of another table by columns that refer to it. */
export interface TouchSource {
  /** The table whose changes are noted. */
  readonly on: string
  /** Columns of `on` that are noted. */
  readonly columns: readonly string[]
  /** The table that they name a record of (`on` itself for roots). */
  readonly table: string
  /** The columns of `table` that they hold. */
  readonly refers: readonly string[]
}

/** Whether a source notes the records of its own table by their key: then a delete is one of theirs. */
export function isOwnKey({ on, columns, table, refers }: TouchSource): boolean {
  return on === table && columns.every((name, at) => name === refers[at])
}

/** How a touch came about. 'whole': the table was emptied, or its key could not be read; it may be any of its records, and there is no key. 'again': it is sealed though it has not changed, unless it is withheld. 'compared': nobody has written it, a reseal looks at it. */
export type TouchKind = 'changed' | 'deleted' | 'exported' | 'existing' | 'whole' | 'again' | 'compared'

export interface Touch {
  readonly table: string
  readonly refers: readonly string[]
  readonly key: Key
  readonly kind: TouchKind
}

export interface TakenTouches {
  readonly touches: readonly Touch[]
  /** Whether there may be others. */
  readonly more: boolean
  /** How far they go, as `mark` counts. */
  readonly through: number
  /** They are gone when the transaction commits. */
  forget(): Work<void>
}

/** What is to be done so that exactly the wanted changes are noted. */
export interface Changes {
  /** The tables whose triggers are not as they should be. */
  readonly tables: ReadonlySet<string>
  /** Those that have none of our triggers: they were dropped and made anew, unless the triggers alone were taken away. */
  readonly bare: ReadonlySet<string>
  /** SQL, in order. */
  readonly statements: readonly string[]
  /** Tables whose triggers the database would not have made, and why: what happens to them may go unseen. */
  readonly refused?: ReadonlyMap<string, TillsyncError>
}

/** What a database must do so that its changes can be captured. */
export interface Capture {
  /**
   * Before `install`, and before anything is written: where that will have to begin anew for these tables, because nothing is installed yet, it begins anew now.
   */
  prepare(tables: readonly string[]): Work<void>
  /**
   * Creates, mends and drops the library's triggers so that exactly `sources` are noted; changes nothing where nothing differs.
   * What happened to tables whose triggers were not as they should be may have gone unseen.
   */
  install(sources: readonly TouchSource[], tables: ReadonlyMap<string, HostTable>): Work<Changes>
  /** What `install` would do; nothing is done. */
  changes(sources: readonly TouchSource[], tables: ReadonlyMap<string, HostTable>): Work<Changes>
  /** What of this database, in the way that it is set up, would cost time or let something slip through. */
  findings(sources: readonly TouchSource[], tables: ReadonlyMap<string, HostTable>): Work<readonly Finding[]>
  /** Drops the library's triggers; what is touched stays. */
  removeTriggers(): Work<void>
  /** Another text whenever the schema may have changed, or other rules are in force. */
  schemaVersion(): Work<string>
  /** Drops every trigger and touch table of the library. */
  uninstall(): Work<void>
  /** Whether anything is touched. Asked in a snapshot, it comes before all else: what is sealed between the two is neither touched any more nor seen to be sealed. */
  touched(): Work<boolean>
  /** Touches may be there that came by no commit of late: the next look is at all of them. */
  lookAgain(): void
  /** How many touches wait. */
  countTouches(): Work<number>
  /** A number that is reached when all is taken that was committed before it was asked for. */
  mark(): Work<number>
  /** Reads up to about `limit` touches, oldest first; touches of the same record one after another are one. */
  takeTouches(limit: number): Work<TakenTouches>
  /** Notes `keys` of a root table as touched. */
  touch(table: string, key: readonly string[], keys: readonly Key[], kind: TouchKind): Work<void>
  /** Notes as touched what a statement selects: the keys of records of a root table. */
  touchSelected(table: string, key: readonly string[], select: Statement, kind: TouchKind): Work<void>
}

export interface ReadOptions {
  readonly signal?: AbortSignal | undefined
  readonly loosely?: boolean
}

export interface WriteOptions {
  readonly signal?: AbortSignal | undefined
  readonly alone?: boolean
  readonly lazily?: boolean
  readonly readsFirst?: boolean
  /** Told how long others could not write for it, in milliseconds, as far as that can be said. */
  readonly onHeld?: (ms: number) => void
}

/** A database with its dialect. Made by `sqlite()` or `postgres()`; the host never calls it. */
export interface Database {
  readonly dialect: 'sqlite' | 'postgres'
  /** Builds statements; never runs any. */
  readonly build: Kysely<AnyTables>
  /** Opens and checks what the library needs. Idempotent. */
  open(): Promise<void>
  close(): Promise<void>
  /**
   * One snapshot; with `loosely`, where the dialect has it, one for each statement, which saves the way to the server for a transaction. Waits and retries where the
   * database is busy, until `signal`.
   */
  read<T>(work: () => Work<T>, options?: ReadOptions): Promise<T>
  /**
   * One transaction, all or nothing. `work` may run again after a conflict, so it must have no effect of its own. With
   * `alone`, one after another with all work that asks so, whichever process it is in, and in one snapshot; what it reads before
   * `writing` may take long without harm to anybody. With `readsFirst`, what it reads before it writes holds up nobody either, where the dialect has one lock for all. What was done `alone` or `lazily` a power cut may undo, whole, until `settle()`.
   */
  write<T>(work: () => Work<T>, options?: WriteOptions): Promise<T>
  /** Resolves when all that was committed when it was called, by whomever, would survive a power cut. */
  settle(): Promise<void>
  /** Waits until no other process installs, and keeps others waiting until the transaction ends. */
  lockInstall(): Work<void>
  /** The same for what central has sent: of those who apply it one has a transaction open at a time. It gives way as by `giveWay()`. */
  lockReceiving(): Work<void>
  /** From here on the transaction fails, to be tried again, rather than wait for a lock of the host's, which may come to wait for it. */
  giveWay(): Work<void>
  /** The host's tables of these names; a name that is no table is absent. */
  describe(names: readonly string[]): Work<ReadonlyMap<string, HostTable>>
  /** A name of one of the library's own tables or the host's, quoted and qualified for SQL text. */
  qualify(table: string): string
  createTable(table: OwnTable): readonly string[]
  /** The statements that add columns, which may be NULL, to one of the library's own tables. */
  addColumns(table: OwnTable, columns: readonly string[]): readonly string[]
  /** The columns of these tables, of views too; what is not there is absent. */
  columnsOf(names: readonly string[]): Work<ReadonlyMap<string, readonly string[]>>
  /** Statements of the library's own, none of which has parameters or is asked for rows, in one go where the dialect can. */
  run(statements: readonly string[]): Work<void>
  /** Drops one of the library's own tables, if it is there. */
  dropTable(name: string): Work<void>
}

/** A table that a statement reads. */
export interface TableRead {
  /** By its name; one that is not in the database's own schema by another. */
  readonly table: string
  /** Whether every row of it, for want of an index. */
  readonly whole: boolean
}

/** Columns that others refer to, in the order of those. */
export interface ReferredColumns {
  readonly table: HostTable
  readonly columns: readonly string[]
}

/** A database whose changes can be captured. */
export interface CapturingDatabase extends Database {
  readonly capture: Capture
  /** How long a transaction that seals may write, in milliseconds, before others would feel it. */
  readonly sliceMs: number
  /** What such a transaction writes at least, in records, however long it takes: it takes as long for fewer. */
  readonly sliceRecords: number
  /**
   * `columns = the key of a lookup`, as SQL text for the start of a WHERE; see the step `lookup`. Where the key is another record's, to which they refer, `referred` says which values are
   * equal, as for a foreign key.
   */
  keyed(table: HostTable | OwnTable, columns: readonly string[], referred?: ReferredColumns): string
  /** What a lookup reads, once for each place where it does; it is not run. */
  inspect(statement: Statement, keyWidth: number): Work<readonly TableRead[]>
  /** That these tables, which were described, can be read by these statements; nothing is read. @throws ERR_DATABASE */
  requireReadable(tables: readonly string[], statements: readonly Statement[]): Work<void>
  /** How the values of a column are written as JSON text, exactly. What it returns throws ERR_VALUE where it can't. */
  encoderOf(column: HostColumn): (value: unknown) => string
  /** The key that a record id stands for, as `lookup` takes it. */
  keyOf(columns: readonly HostColumn[], recordId: string): Key
  /** Calls `listener` soon after anybody's commit; false alarms are allowed, lasting silence is not. Returns the end of it. */
  watch(listener: () => void): () => void
}

/** A database that batches can be applied to. */
export interface ApplyingDatabase extends Database {
  readonly mirroring: Mirroring
  /** Whose fault it is what a handler threw; undefined where it is the database's or the surroundings', so that the same may go well later. */
  faultOf(thrown: unknown): Fault | undefined
  /** Whether its texts hold every character that may come. @throws ERR_CONNECTION */
  requireUnicode(): Work<void>
}

/** A database that a register is on. */
export type RegisterDatabase = CapturingDatabase & ApplyingDatabase

/** Central's, where it publishes. */
export type PublishingDatabase = CapturingDatabase & ApplyingDatabase

/** A database that central is on: its transactions can wait for the host's own code. */
export type CentralDatabase = ApplyingDatabase & { readonly dialect: 'postgres' }

/**
 * Why documents could not be applied: they refer to what is not there (yet); another record has a value that is to be theirs alone; the statement was cancelled, by a time limit or by
 * somebody; anything else in what was to be written.
 */
export type Fault = 'missing' | 'taken' | 'cancelled' | 'other'

/** Carries a message to the other side and its answer back. Throws ERR_LINK (retryable) where it can't. */
export interface Link {
  exchange(message: Uint8Array, options: { readonly signal: AbortSignal }): Promise<Uint8Array>
  /** How long an answer may be held back where there is nothing to say, in milliseconds. Undefined: not at all. */
  readonly waitMs?: number | undefined
}

/** A message that came by a mailbox; it stays there until it is acknowledged. */
export interface Letter {
  readonly message: Uint8Array
  /** At central: whose it is, as the carrier itself has authenticated it, e.g. by account and subject, or by the key of a file. */
  readonly from?: RegisterName | undefined
  /** It was taken, and what follows from it is committed. Who acknowledges too late gets it once more; that is no error. */
  acknowledge(): Promise<void>
  /** It can't be taken now: it comes again after a while. */
  release(): Promise<void>
}

export interface ReceiveOptions {
  /** Ends it: the iteration returns, or throws ERR_ABORTED. */
  readonly signal: AbortSignal
  /** Told of what is no letter, or not from whom it says: it is left alone, once it was told of, and the rest goes on. ERR_MESSAGE, ERR_CREDENTIAL. */
  readonly onRefused?: ((error: TillsyncError, from: RegisterName | undefined) => void) | undefined
}

/**
 * A register's mailbox: its messages to central lie there until central comes, and central's until the register does. They may arrive late, twice, in another order, or never.
 * What is sent is not waited for: `send` resolves when the carrier has it for good.
 *
 * `send` and `receive` throw ERR_LINK (retryable) where it is away, ERR_CREDENTIAL where it refuses, ERR_MAILBOX_FULL (retryable) where there is no room; `receive` is then called again after
 * a while. The next letter may be asked for before the last one is acknowledged; a carrier may hold the next of the same register back until it is.
 */
export interface Mailbox {
  /** `id`: of the message, 12 characters of base64url, so that a carrier can tell whether it has it already, and `unread` whether it lies there. */
  send(message: Uint8Array, options: { readonly id: string; readonly signal?: AbortSignal | undefined }): Promise<void>
  receive(options: ReceiveOptions): AsyncIterable<Letter>
  /** Lets go of what it holds, when the replica stops; it may be used again afterwards. */
  close?(): Promise<void>
  /** The largest message that it carries, in bytes. Undefined: as large as one may be. */
  readonly maxBytes?: number | undefined
  /** Whether somebody comes by with it now and then, as with a stick: then letters are large, and what is there already is not sent again. */
  readonly isVisited?: boolean | undefined
  /** The ids of messages that lie there whole and that nobody has fetched. Where it can't be said: left out, and what is not answered for a while is sent again. */
  unread?(): Promise<ReadonlySet<string>>
}

/** Central's mailbox: of many registers. Several processes may receive from the same. */
export interface CentralMailbox {
  send(to: RegisterName, message: Uint8Array, options?: { readonly signal?: AbortSignal | undefined }): Promise<void>
  receive(options: ReceiveOptions): AsyncIterable<Letter & { readonly from: RegisterName }>
  /** Lets go of what it holds, when the replica stops; it may be used again afterwards. */
  close?(): Promise<void>
  /** The largest message that it carries, in bytes. Undefined: as large as one may be. */
  readonly maxBytes?: number | undefined
}

/** What became of what a publisher said. */
export interface Received {
  /** The answer: undefined where not even the standing is said. */
  readonly subscription: Subscription | undefined
  readonly error?: TillsyncError
  readonly applied?: { readonly documents: number; readonly entries: number; readonly through: number } | undefined
  /** An epoch that goes on behind an entry of the known history was taken. */
  readonly forked?: { readonly epoch: string; readonly common: number; readonly orphaned: number; readonly wanted: number }
  /** It has come to light that two copies of the publisher speak. */
  readonly cloned?: true
  /** Documents that could not be applied and wait, or that waited and are applied. */
  readonly quarantined?: readonly QuarantinedDocument[] | undefined
  readonly released?: readonly ReleasedDocument[] | undefined
}

/** A document that was released from quarantine: it is applied. */
export interface ReleasedDocument {
  readonly id: number
  readonly table: string
  readonly recordId: string
}

/** A document that was sent to quarantine, and why. */
export interface QuarantinedDocument extends ReleasedDocument {
  readonly code: string
  readonly message: string
}

/** By what a register was let in: the hash of the token that it showed; undefined where none is shown, and it is enough that any of its tokens is valid. */
export interface Proof {
  readonly tokenHash: Uint8Array | undefined
}

export interface Subscriber {
  /** With a `proof`, only where that is valid in the very snapshot in which it looks: otherwise ERR_CREDENTIAL, and nothing has changed. */
  receive(from: RegisterName, publish: Publication | undefined, batch: Batch | undefined, proof?: Proof): Promise<Received>
}

/** A register as a subscriber of what central publishes. */
export interface AudienceSubscriber {
  /** For each subscribed root table, in the order in which they are to be sent. */
  standings(): Promise<readonly AudienceStanding[]>
  /** What could not be applied, at most `MOST_UNAPPLIED`. */
  unapplied(): Promise<readonly UnappliedDocument[]>
  /** Applies what an answer of central brought, be it nothing: batches, each with the standing that it reaches; one that does not go on where it stands is left out. */
  take(batches: readonly AudienceBatch[]): Promise<Taken>
}

/** What came of what central has sent. */
export interface Taken {
  /** Whether any batch was taken, be it without a document. */
  readonly isAny: boolean
  /** The documents in those that were. */
  readonly received: number
  /** Documents that were applied, be they of those, or that had waited, or left with the end of a snapshot. */
  readonly applied: number
}

/** Central as the publisher of what registers subscribe to. */
export interface AudiencePublisher {
  /** What a register is to have next; and takes down how far it has come, and what it could not apply. */
  next(register: RegisterName, request: AudienceRequest): Promise<AudienceAnswer>
}

/** Time and chance, so that tests can pass their own. */
export interface Clock {
  /** Milliseconds since 1970, UTC. */
  now(): number
  /** Milliseconds since some moment; unlike `now` never put back or forward. What lasts is measured by it. */
  ticks(): number
  /** Rejects with ERR_ABORTED when `signal` aborts. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>
  /** From 0 up to, not including, 1. */
  random(): number
}
