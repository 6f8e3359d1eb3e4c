import type { Expression, ExpressionBuilder, SqlBool } from 'kysely'
import type { ComparisonAnswer, ComparisonQuestion } from './comparison.ts'

/** Who a register is: the shop or warehouse where it stands, and its name there. */
export interface RegisterName {
  readonly location: string
  readonly register: string
}

/** A record id as it is stored and shipped: the JSON array of the record's key values, in key order. */
export type RecordIdText = string

/**
 * `baseline`: what stood in the table before the register began to publish it; sealed before the first version of such a
 * document, so that only what has changed since is posted.
 */
export type Operation = 'baseline' | 'upsert' | 'remove'

/** The root record that a document is known by. */
export interface DocumentName {
  readonly table: string
  readonly recordId: RecordIdText
}

/** One record of a sealed document. Immutable. */
export interface Entry {
  /** 1, 2, 3 … in its stream, without a gap. */
  readonly entryNo: number
  readonly table: string
  readonly operation: Operation
  readonly recordId: RecordIdText
  /** The record as JSON text, exactly as sealed; null where `operation` is 'remove'. */
  readonly record: string | null
  readonly document: DocumentName
  /** When it was sealed, by the publisher's clock: ISO 8601, UTC, milliseconds. */
  readonly sealedAt: string
}

/** A point in a stream: everything up to `entryNo`, whose digest covers all entries before it. */
export interface Point {
  readonly entryNo: number
  /** SHA-256, 64 hexadecimal digits; 64 zeros before the first entry. */
  readonly digest: string
}

/** How far a subscriber has come in a stream. */
export interface Standing extends Point {
  readonly epoch: string
}

/** The entries after one point of a stream through the next: whole documents, or a part of one that is too large for a message. */
export interface Batch {
  readonly epoch: string
  readonly after: Point
  readonly through: Point
  readonly entries: readonly Entry[]
  /** The parts of each root table in it, as the publisher's rules have them. */
  readonly shapes: Readonly<Record<string, readonly PartShape[]>>
  /** The columns of each root table in it that never change while a document lives, where its rules name such. */
  readonly identities: Readonly<Record<string, readonly string[]>>
  /** The columns of the record ids of each root table in it, in their order. */
  readonly keys: Readonly<Record<string, readonly string[]>>
  /** Where it is a part of one document. */
  readonly frame?: Frame | undefined
}

/** The place of a part in its document. */
export interface Frame {
  /** Where the document begins: there the subscriber stands until it has all of it. */
  readonly base: Point
  readonly isLast: boolean
}

/** No subscriber takes less, in bytes. */
export const LEAST_TAKEN = 65_536

/** What a subscriber takes at most, in bytes. */
export interface Takes {
  /** A message, packed and unpacked. */
  readonly message: number
  /** A document that comes in frames: its records and their ids. */
  readonly document: number
}

/** What a publisher says of its stream, beside a batch of it. */
export interface Publication {
  readonly epoch: string
  /** The number of its last entry. */
  readonly head: number
  /** The version of the library that says it. */
  readonly version?: string | undefined
  /** Where the epoch goes on in the history that the subscriber has, as long as that knows it by another one. */
  readonly parent?: Point | undefined
  /** Where the entries of the epoch begin, where that is not at `parent`: what lies between was pruned, and all is sealed anew. */
  readonly start?: Point | undefined
  /** Asks for points of the subscriber's history between two entry numbers, to find where the two part. */
  readonly seek?: readonly [after: number, before: number] | undefined
  /** With `seek`: its former epochs, by which the subscriber knows it again that was restored to before this one. */
  readonly ancestors?: readonly string[] | undefined
  /** What the subscriber said proves that another copy of this database speaks too. */
  readonly cloned?: true | undefined
  /** Documents that it can't read, and so has not sealed; at most `MOST_PARKED` are named. */
  readonly parked?: readonly DocumentName[] | undefined
  /** What the subscriber has asked. */
  readonly compared?: ComparisonAnswer | undefined
  /** What became of the document that the subscriber offered. */
  readonly back?: TakenBack | undefined
  /** What of it was said, and can't be read. */
  readonly unread?: ReadonlySet<keyof Publication> | undefined
}

/** More points, more documents that are wanted, parked, or not applied, are not said in one message. */
export const MOST_POINTS = 500
export const MOST_AGAIN = 200
export const MOST_PARKED = 200

/** Of a database that was restored more often the oldest epochs are forgotten. */
export const MOST_ANCESTORS = 100
export const MOST_UNAPPLIED = 50
/** Tables that a register subscribes to. */
export const MOST_SUBSCRIBED = 500
/** The longest name that a message holds: of a table, a key's column, a location, a register. */
export const MAX_NAME = 200
/** How deep parts may lie below their root. */
export const MOST_LEVELS = 7

/** What a subscriber says of its standing in a stream. */
export interface Subscription {
  /** Undefined before the first batch. */
  readonly standing?: Standing | undefined
  /** Of a document that comes in frames it has what lies between its standing and here. */
  readonly staged?: Point | undefined
  /** It knows the epoch of which the publisher spoke, or one of its ancestors, and stands in another one. */
  readonly known?: true | undefined
  /** Where it stands in the epoch of which the publisher spoke, where another one has superseded that. */
  readonly superseded?: Point | undefined
  /** Points of its history between those that `seek` named, ascending; none: it has no more between them. */
  readonly points?: readonly Point[] | undefined
  /** How many documents of the batch that it answers could not be applied, and wait there. */
  readonly quarantined?: number | undefined
  /** Documents of which it had a version that the publisher may have lost: they are to be sealed anew. */
  readonly again?: readonly DocumentName[] | undefined
  /** It would know what the publisher has published, to compare it with what it has. */
  readonly compare?: ComparisonQuestion | undefined
  /** A document that it offers to the publisher, who has lost it. */
  readonly back?: SentBack | undefined
}

/** A document that the publisher has lost, for it to take back where its key is free. */
export interface SentBack extends DocumentName {
  readonly id: number
  readonly keyColumns: readonly string[]
  readonly shape: readonly PartShape[]
  /** Header first. */
  readonly records: readonly AudienceRecord[]
}

/** What became of it. */
export interface TakenBack {
  readonly id: number
  /** Why it was not taken. */
  readonly refused?: { readonly code: string; readonly message: string } | undefined
}

/** A table of parts: which of its columns hold which columns of the table above. */
export interface PartShape {
  readonly table: string
  readonly columns: Readonly<Record<string, string>>
  readonly parts: readonly PartShape[]
}

/** How far a register has come in what central publishes for it of a root table. */
export interface AudienceStanding {
  readonly table: string
  /** The stream and its history, by a random name; undefined where the register has nothing of the table yet. */
  readonly stream: string | undefined
  /** The last entry that it has; 0 where it has none. */
  readonly entryNo: number
  /** What central gave with that entry: random, so who shows it has the history of central as it was when that was sent. */
  readonly mark: string
}

/**
 * What central publishes for a register of one root table: the documents that changed behind one entry of their stream, up to another, as they now
 * are. A document stands in a stream once, at its last change; so this is no log, and what lies between two standings differs with the time at which it is asked for.
 */
export interface AudienceBatch {
  readonly table: string
  readonly stream: string
  /** The entry that it goes on behind; 0: a snapshot begins, and what the register has of the table counts as not confirmed. */
  readonly after: number
  readonly through: number
  readonly mark: string
  /** Whether there is nothing behind it: where a snapshot was under way, what it did not confirm goes. */
  readonly isEnd: boolean
  readonly documents: readonly AudienceDocument[]
  /** The parts of the root table, as central's rules have them. */
  readonly shape: readonly PartShape[]
  /** The columns of the record ids, in their order. */
  readonly keyColumns: readonly string[]
}

/** A document as it is published for a register. */
export interface AudienceDocument {
  readonly recordId: RecordIdText
  /** Its records, header first; none: it is not, or no longer, published for this register. */
  readonly records: readonly AudienceRecord[]
}

export interface AudienceRecord {
  readonly table: string
  readonly recordId: RecordIdText
  /** As JSON text, in the encoding of sealed records. */
  readonly record: string
}

/** What a register asks for of what central publishes. */
export interface AudienceRequest {
  /** Of each root table that it subscribes to, in the order in which they are to come. */
  readonly standings: readonly AudienceStanding[]
  /** How many records, and about how many bytes, it wants at once; a larger document comes whole. */
  readonly records: number
  readonly bytes: number
  /** The largest message that it reads, in bytes. */
  readonly message: number
  readonly unapplied: readonly UnappliedDocument[]
}

/** What central has for a register. */
export interface AudienceAnswer {
  readonly batches: readonly AudienceBatch[]
  /** Whether it should ask again at once. */
  readonly more: boolean
}

/** A document that a register could not apply: it is parked there until it can, or another version comes. */
export interface UnappliedDocument extends DocumentName {
  readonly code: string
  readonly message: string
}

export const START: Point = { entryNo: 0, digest: '0'.repeat(64) }

/**
 * - `DRIFT`: a table or its triggers are not what the rules need.
 * - `NO_INDEX`: a lookup reads every row of a table.
 * - `EXPRESSION_INDEX`: a REPLACE by a unique index over an expression is not noticed (SQLite).
 * - `NULLABLE_KEY`: a key may be NULL (SQLite).
 * - `NO_IDENTITY`: keys come back after a delete, and no `identity` tells documents apart.
 * - `NOT_DURABLE`: the host's commits survive no power cut.
 * - `BUSY_TIMEOUT`: the host's connection gives up while the library commits (SQLite).
 * - `ROW_SECURITY`: a policy hides rows from the library, which is an error when they are read (PostgreSQL).
 * - `LEFT_OUT`: central sends what a register's table does not have.
 */
export type FindingCode =
  | 'DRIFT'
  | 'NO_INDEX'
  | 'EXPRESSION_INDEX'
  | 'NULLABLE_KEY'
  | 'NO_IDENTITY'
  | 'NOT_DURABLE'
  | 'BUSY_TIMEOUT'
  | 'ROW_SECURITY'
  | 'LEFT_OUT'

/** What `check()` has found. Codes are part of the public face; texts are not. */
export interface Finding {
  readonly code: FindingCode
  /** The host's table that it is about. */
  readonly table?: string
  readonly message: string
  /** What to do about it. */
  readonly hint: string
}

// ---------------------------------------------------------------------------------------------------------------------
// Rules, as the host writes them

// biome-ignore lint/suspicious/noExplicitAny: a host without types has tables of any name with columns of any name
export type AnyTables = any

export type TableName<DB> = keyof DB & string
export type ColumnName<DB, T extends keyof DB> = keyof DB[T] & string

/** A filter over a root table and its parts: a Kysely expression, evaluated on committed state. */
export type Filter<DB, T extends keyof DB> = (eb: ExpressionBuilder<DB, T>) => Expression<SqlBool>

/** Columns of this table and the columns of the other table that they refer to. */
export type Reference<DB, T extends keyof DB> = {
  readonly [P in TableName<DB>]?: { readonly [C in ColumnName<DB, T>]?: ColumnName<DB, P> }
}

export interface ColumnChoice<DB, T extends keyof DB> {
  /** Only these columns are published, and those of the key and of `partOf`. Not together with `except`. */
  readonly only?: readonly ColumnName<DB, T>[]
  /** All columns but these are published. Columns of the key and of `partOf` can't be left out. */
  readonly except?: readonly ColumnName<DB, T>[]
}

/** What is published of a root table. Each record of it, with its parts, is a document. */
export interface RootRule<DB, T extends keyof DB> extends ColumnChoice<DB, T> {
  /** Only documents for which this holds are published; one that ceases to hold is sealed as removed. Default: all. */
  readonly where?: Filter<DB, T>
  /**
   * Columns that never change while a document lives. They tell "changed" from "key used again" where a delete and an
   * insert under the same key fall between two sealings: other values are another document.
   */
  readonly identity?: readonly ColumnName<DB, T>[]
  /**
   * Other tables that the filter reads, by columns of this one and the columns of the other with equal values: a change of
   * `assortments` with `{ assortments: { item_no: 'item_no' } }` looks again at the items with its `item_no`.
   */
  readonly dependsOn?: Reference<DB, T>
  /** Documents that this one belongs to; `export(…, { related: true })` of those exports this one too. */
  readonly relatedTo?: Reference<DB, T>
  /**
   * What is done with documents that stand in the table when `install()` first sees this rule. 'none': they are withheld; one
   * that changes later is sealed with its former state as `baseline`, so that only the change counts. 'all': sealed as
   * documents. A filter: those inside are sealed, the others withheld. Default 'none'.
   */
  readonly existing?: 'none' | 'all' | Filter<DB, T>
  readonly partOf?: never
}

/** What is published of a part: a table whose records belong to a document of another table. */
export interface PartRule<DB, T extends keyof DB> extends ColumnChoice<DB, T> {
  /** The table above, and which columns of this one hold which unique columns of that one. */
  readonly partOf: Reference<DB, T>
  /** Other tables that the root's filter reads for the sake of this part; as at the root. */
  readonly dependsOn?: Reference<DB, T>
  readonly where?: never
  readonly identity?: never
  readonly relatedTo?: never
  readonly existing?: never
}

export type PublishRules<DB> = { readonly [T in TableName<DB>]?: RootRule<DB, T> | PartRule<DB, T> }

/** A register as central's filters know it. */
export interface AudienceRegister extends RegisterName {
  /** What `registers.add` and `registers.change` say of it. */
  readonly attributes: Attributes
}

/** What filters may ask of a register beside its name, such as `{ priceGroup: 'A' }`. */
// biome-ignore lint/suspicious/noExplicitAny: what is compared with a column of any type
export type Attributes = Readonly<Record<string, any>>

/** A filter that says for each register which documents are meant for it. Registers for which it compiles to the same SQL and parameters share a stream. */
export type AudienceFilter<DB, T extends keyof DB> = (eb: ExpressionBuilder<DB, T>, register: AudienceRegister) => Expression<SqlBool>

/** What central publishes of a root table, and for which registers. Each record of it, with its parts, is a document. */
export interface AudienceRule<DB, T extends keyof DB> extends ColumnChoice<DB, T> {
  /** Which documents a register gets; one that ceases to be inside is removed there. Default: all. */
  readonly where?: AudienceFilter<DB, T>
  /** Other tables that the filter reads; as at a register. */
  readonly dependsOn?: Reference<DB, T>
  /**
   * Key columns that say whose a document is: only the register of that location and name gets it, without these columns, also in parts.
   */
  readonly origin?: readonly ['location', 'register']
  readonly partOf?: never
}

/** By root table; parts as at a register. */
export type AudienceRules<DB> = { readonly [T in TableName<DB>]?: AudienceRule<DB, T> | PartRule<DB, T> }

/** Which documents: by values of columns, a list of such, or a filter. */
export type Which<DB, T extends keyof DB> = Partial<DB[T]> | readonly Partial<DB[T]>[] | Filter<DB, T>

/**
 * - `new`, `removed`: the record came or went.
 * - `starts`, `ends`: it counts from today on, or no longer, by its dates.
 * - `changed`: a followed column has another value.
 */
export type NoticeKind = 'new' | 'removed' | 'starts' | 'ends' | 'changed'

/** What the operator of a register is to be told of a record: once, however often it changed since he was told last. */
export interface Notice {
  readonly id: number
  /** The till's table. */
  readonly table: string
  readonly recordId: readonly Value[]
  /**
   * `changed`: the column has another value. `new`, `removed`: the record came or went. `starts`, `ends`: it counts from today on, or no longer, by its dates.
   */
  readonly kind: NoticeKind
  /** The column that changed; undefined where the record came or went. */
  readonly column: string | undefined
  /** What the operator was told last, and what is: a value, or, where the record came or went, its followed columns; null where there was, or is, none. */
  readonly old: Value | Readonly<Record<string, Value>>
  readonly new: Value | Readonly<Record<string, Value>>
  /** When it was noted; ISO 8601, UTC. */
  readonly at: string
}

// ---------------------------------------------------------------------------------------------------------------------
// Documents, as handlers get them

/** A value of a record as handlers get it. 64-bit integers are numbers up to 2^53 and bigint beyond; blobs are Buffers. */
export type Value = string | number | bigint | boolean | null | Uint8Array

/** A record of a table as handlers get it. A column that the sender's table lacks is absent (`undefined`), not null. */
export type Row<DB, T extends keyof DB> = DB[T]

/** A record of a root table with its parts, by table; a part without records is an empty array. */
export type Document<DB, T extends keyof DB> = 0 extends 1 & DB
  ? AnyDocument
  : Row<DB, T> & { readonly parts: { readonly [P in keyof DB]: readonly Row<DB, P>[] } }

// biome-ignore lint/suspicious/noExplicitAny: a host without types has columns of any name and type
type AnyRow = Readonly<Record<string, any>>

/** A document of a host without types. */
export type AnyDocument = AnyRow & { readonly parts: Readonly<Record<string, readonly AnyRow[]>> }
