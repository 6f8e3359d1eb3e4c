import type { OwnTable } from '../own-table.ts'

/** What each stream has sealed: numbered, chained, immutable. */
export const ENTRIES = {
  name: 'sync_entries',
  columns: {
    entry_no: 'integer',
    table_name: 'text',
    operation: 'text',
    record_id: 'text',
    record: 'text',
    document: 'text',
    sealed_at: 'text',
    digest: 'bytes',
  },
  primaryKey: ['entry_no'],
  nullable: ['record'],
} as const satisfies OwnTable

/** For a hash in `sync_members`: parts of the document were lost with their table, and come again; until then it counts as it stands. */
export const EMPTIED = Buffer.alloc(0)

/** The documents that the audience has been given, with the hash of what it was given; and those withheld from it. */
export const MEMBERS = {
  name: 'sync_members',
  columns: {
    table_name: 'text',
    record_id: 'text',
    hash: 'bytes',
    identity: 'bytes',
    /** 'given', or 'withheld': it stood there before the table was published, and is not sent unless it changes. */
    state: 'text',
    /** The last entry by which it was given; 0 where none was: it is withheld, or came from the audience itself. */
    entry_no: 'integer',
  },
  primaryKey: ['table_name', 'record_id'],
  nullable: ['identity'],
} as const satisfies OwnTable

/** What withheld documents were when they were withheld: the baseline of a later change. JSON, see withheld.ts. */
export const WITHHELD = {
  name: 'sync_withheld',
  columns: { table_name: 'text', record_id: 'text', records: 'text' },
  primaryKey: ['table_name', 'record_id'],
} as const satisfies OwnTable

/** Documents that could not be read or filtered, until they can. */
export const PARKED = {
  name: 'sync_parked',
  columns: { table_name: 'text', record_id: 'text', code: 'text', message: 'text', parked_at: 'text' },
  primaryKey: ['table_name', 'record_id'],
} as const satisfies OwnTable

/** Documents that came from the audience and were made into something else here, again and again. */
export const BOUNCED = {
  name: 'sync_bounced',
  columns: { table_name: 'text', record_id: 'text', times: 'integer', at: 'text' },
  primaryKey: ['table_name', 'record_id'],
} as const satisfies OwnTable

/** Digests that outlive their entries, so that a point of the stream can be told from another history's for ever. */
export const DIGESTS = {
  name: 'sync_digests',
  columns: { entry_no: 'integer', digest: 'bytes' },
  primaryKey: ['entry_no'],
} as const satisfies OwnTable
