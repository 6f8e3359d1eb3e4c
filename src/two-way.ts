import type { Work } from './work.ts'

// Where a register publishes a table that it also mirrors: what sealing must tell applying, and the other way round. Types only.

/** A document that is published here, before something is written to it. */
export interface OwnDocument {
  readonly recordId: string
  /** Whether it stands here, inside what is published, be it that it can't be read. */
  readonly isThere: boolean
  /** Whether it is as it was last sealed, or came: nothing of it is still to be sealed. One that can't be read is not. */
  readonly isSealed: boolean
  /** Whether the other side has acknowledged all of it that was sealed. */
  readonly isAcknowledged: boolean
  /** Whether the other side has it from here, just as it is. */
  readonly isGiven: boolean
}

/** A table as it is published. */
export interface OwnTableColumns {
  readonly table: string
  readonly key: readonly string[]
  readonly columns: readonly string[]
}

/** What was meant to be written to documents. */
export interface Meant {
  /** The columns that were, by table: others have changed by the host's doing. */
  readonly columns: ReadonlyMap<string, ReadonlySet<string>>
  /** Tables of which records were to come and go with their document: how many each document was to have, by its record id. */
  readonly rows: ReadonlyMap<string, ReadonlyMap<string, number>>
  /** The record ids of documents that do not hold it. */
  readonly altered: ReadonlySet<string>
  /**
   * Whether anything of what came for a document that does not hold it is news that stands: of these columns by table, so many rows of which have changed by it.
   */
  isNews(recordId: string, changed: ReadonlyMap<string, ReadonlyMap<string, number>>): Work<boolean>
  /** The time, in milliseconds. */
  readonly now: number
}

/** What is published here, as the tables stand. */
export interface Published {
  /** Whether the tables still stand so. */
  isCurrent(): Work<boolean>
  /** A root table and its parts; undefined where it is not published as a root. */
  tables(root: string): readonly OwnTableColumns[] | undefined
  /** Documents by their record ids, be they written as the other side writes them. */
  before(root: string, recordIds: readonly string[]): Work<readonly OwnDocument[]>
  /** Those of these documents, none of which is there, whose removal the other side has not acknowledged. */
  goingAway(root: string, recordIds: readonly string[]): Work<ReadonlySet<string>>
  /**
   * Documents of which nothing was to be sealed have been written: as far as they hold what was meant, and nothing else has changed, nothing is to be sealed
   * either; the others are, be it that nothing has changed.
   */
  after(root: string, documents: readonly OwnDocument[], meant: Meant): Work<void>
}

/** Where what is published is looked up. */
export interface Publishing {
  /** As the tables stand now. `isStale`: those that were answered before do not stand so any more. */
  published(isStale: boolean): Promise<Published>
  /** Seals what is touched. */
  seal(): Promise<void>
}
