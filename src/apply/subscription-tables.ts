import type { OwnTable } from '../own-table.ts'
import { NOTICES } from './notice-tables.ts'

/** How far a register has come in what central publishes of each root table. */
export const SUBSCRIPTIONS = {
  name: 'sync_subscriptions',
  columns: {
    table_name: 'text',
    /** Where it stands, as central is told; NULL where it has nothing, or a snapshot has only begun. */
    stream: 'text',
    entry_no: 'integer',
    mark: 'text',
    /** Counts the snapshots that were begun. */
    snapshot_no: 'integer',
    /** 'open': a snapshot is under way; 'ending': all of it is here, and what it did not confirm goes; 'complete'. */
    state: 'text',
    /** The hash of how its documents become rows: with another one the rows are not what they would be, and it begins anew. */
    rules: 'text',
    /** The parts of the root table and the columns of the record ids, as central last had them: a JSON array of `PartShape`, and another one. */
    shape: 'text',
    key_columns: 'text',
    /** What central sends and the tables lack: a JSON array of [table, column], or [table] where it is all of it. */
    left_out: 'text',
    received_at: 'text',
  },
  primaryKey: ['table_name'],
  nullable: ['stream', 'received_at'],
} as const satisfies OwnTable

/**
 * The documents that stand here because central has sent them, and the last snapshot that had them. What came while central's table had another key has the table and that key for a name, as JSON,
 * until a snapshot ends.
 */
export const RECEIVED = {
  name: 'sync_received',
  columns: { table_name: 'text', record_id: 'text', snapshot_no: 'integer' },
  primaryKey: ['table_name', 'record_id'],
} as const satisfies OwnTable

/** Documents of central's that could not be applied, until they can, or another version comes. */
export const WAITING = {
  name: 'sync_waiting',
  columns: {
    table_name: 'text',
    record_id: 'text',
    /**
     * Why: 'missing': it refers to what is not here, or is still referred to; 'taken': another record has a value that is to be its alone; 'changed': it was changed here, which
     * central has not acknowledged; 'outdated': a part of it is another document's since, and a newer version of it is on its way; 'other'.
     */
    cause: 'text',
    code: 'text',
    message: 'text',
    /** How often it was tried, when it is tried again at the latest, and since when it waits. */
    tries: 'integer',
    due_at: 'text',
    since: 'text',
    snapshot_no: 'integer',
    /** About how much it holds, in characters. */
    size: 'integer',
    shape: 'text',
    key_columns: 'text',
    /** A JSON array of [table, record id, record]; empty where the document is to go. */
    records: 'text',
  },
  primaryKey: ['table_name', 'record_id'],
  uniques: [['due_at', 'table_name', 'record_id']],
} as const satisfies OwnTable

/** Of documents that the register publishes too, what central last said of columns that only central writes. */
export const KEPT = {
  name: 'sync_kept',
  columns: {
    table_name: 'text',
    record_id: 'text',
    /** As what it is published here. */
    own_table: 'text',
    own_id: 'text',
    /** 0: as central has it, as far as is known; 1: changed here since; 2: changed here, and the table does not take what central said. */
    state: 'integer',
    snapshot_no: 'integer',
    /** A JSON array of [table, columns, record]; a record has the key and these columns. */
    records: 'text',
  },
  primaryKey: ['table_name', 'record_id'],
  uniques: [
    ['own_table', 'own_id', 'table_name', 'record_id'],
    ['state', 'table_name', 'record_id'],
  ],
} as const satisfies OwnTable

export const SUBSCRIPTION_TABLES = [SUBSCRIPTIONS, RECEIVED, WAITING, KEPT, NOTICES]
