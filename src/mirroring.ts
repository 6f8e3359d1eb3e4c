import type { HostTable } from './host-table.ts'
import type { Work } from './work.ts'

// What a database must do so that `mirror` can keep its tables: a port like those of ports.ts, with a page of its own.

/** A foreign key of a table. */
export interface ForeignKey {
  readonly name: string
  readonly columns: readonly string[]
  /** The table that it refers to. */
  readonly refersTo: string
  /** Whether it may be checked at the end of the transaction. */
  readonly deferrable: boolean
}

/** A table that `mirror` writes, as it stands. */
export interface MirrorTarget extends HostTable {
  readonly foreignKeys: readonly ForeignKey[]
  /** Whether foreign keys of other tables, or its own, refer to it. */
  readonly isReferredTo: boolean
  /** Whether it has constraints that may be checked at the end of the transaction. */
  readonly isDeferrable: boolean
  /** Another one where the table was altered or made anew; it may be another one where it was not. */
  readonly version: string
}

/** Records of a table that is kept equal to another side's, to be written in one go. */
export interface MirrorRows {
  readonly table: MirrorTarget
  /** Columns that every record has; all of them columns of `table`. */
  readonly columns: readonly string[]
  /** The member of the records that holds a column, where that has another name. */
  readonly members?: Readonly<Record<string, string>>
  /** The records as JSON texts, as sealed. No two of them have the same key. */
  readonly records: readonly string[]
  /** Columns that are the same for all, beside those of the records. */
  readonly constants: Readonly<Record<string, unknown>>
}

/** Records to be written, and how. */
export interface MirrorUpsert extends MirrorRows {
  /** 'new': most of them are not there; 'known': most are; 'update': those that are not there are left out. */
  readonly rows: 'new' | 'known' | 'update'
  /** Columns that are written; of the others, key columns among them, only the values are known. */
  readonly written: readonly string[]
  /** Rows of the table that may have to give up a unique value to one of the records. */
  others(): Work<readonly MirrorOthers[]>
}

/** Rows that will be `written` in the same transaction, or removed, where that is undefined. */
export interface MirrorOthers extends MirrorRows {
  readonly written?: readonly string[]
}

/** Whether rows that will be removed can go before the others are written: nothing hangs on them that one of the others may take over. */
export function mayGoFirst({ table, written }: MirrorOthers): boolean {
  return written === undefined && !table.isReferredTo
}

/** What a database must do so that `mirror` can keep its tables. */
export interface Mirroring {
  /** The tables of these names, as they stand until the transaction ends. A name that is no table is absent. */
  targets(names: readonly string[]): Work<ReadonlyMap<string, MirrorTarget>>
  /**
   * Reads for `upsert`, to which the same objects are given then, what it compares them with, where that is better done before anything is written.
   *
   * @throws as `upsert`
   */
  foresee(all: readonly MirrorUpsert[]): Work<void>
  /**
   * Inserts, or updates by the table's key, what differs. The values become the target's column types.
   *
   * @throws ERR_MIRROR, ERR_REFERENCE with table and constraint
   */
  upsert(rows: MirrorUpsert): Work<void>
  /** Those of the records that are not there as `upsert` would have them: missing (but for 'update'), or otherwise. @throws as `upsert` */
  differing(rows: Omit<MirrorUpsert, 'others'>): Work<readonly string[]>
  /** Deletes by the columns of the records, which are a key, and the constants. @throws as `upsert` */
  remove(rows: MirrorRows): Work<void>
  /** The rows of a table (with these constants) whose `columns` equal those that `parents` hold (own column → parent's column) and whose key is none of `kept`'s: as records of all columns. */
  strays(
    of: Pick<MirrorRows, 'table' | 'constants'>,
    columns: Readonly<Record<string, string>>,
    parents: MirrorRows,
    kept: readonly MirrorRows[],
  ): Work<readonly string[]>
  /** Does it, or, where a foreign key refuses, nothing of it; returns the name of that foreign key. */
  refusedBy(work: () => Work<void>): Work<string | undefined>
  /** From here on constraints that allow it wait for `settle`. */
  defer(): Work<void>
  /** Checks what was deferred. @throws as `upsert` */
  settle(): Work<void>
  /** The same, where it need not be known here what is not right: whatever comes behind it may fail with it. */
  settleLater(): Work<void>
}
