import type { OwnTable } from '../own-table.ts'

/** Who gets the same of a root table: registers for which its filter is the same. Each has a stream, in which a document stands once, at its last change. */
export const AUDIENCES = {
  name: 'sync_audiences',
  columns: {
    audience_id: 'integer',
    table_name: 'text',
    /** The hash of the filter, parameters included. */
    filter_hash: 'text',
    /** The filter, for people: SQL, and its parameters as JSON. */
    filter: 'text',
    /** A random name: of the stream, and of its history since it began. */
    stream: 'text',
    /** The last entry, and the mark that it was given. */
    head_no: 'integer',
    mark: 'text',
    /** Removals up to here were forgotten: who stands before needs a snapshot. */
    floor_no: 'integer',
    begun_at: 'time',
    /** When a register last asked for it, to about an hour. */
    asked_at: 'time',
  },
  primaryKey: ['audience_id'],
  generated: 'audience_id',
  stamped: 'begun_at',
  uniques: [['table_name', 'filter_hash']],
} as const satisfies OwnTable

/** The documents that an audience is given, and those that it was given and that left. */
export const AUDIENCE_MEMBERS = {
  name: 'sync_audience_members',
  columns: {
    audience_id: 'integer',
    record_id: 'text',
    /** Where it stands in the stream. */
    entry_no: 'integer',
    removed: 'boolean',
  },
  primaryKey: ['audience_id', 'record_id'],
  uniques: [['audience_id', 'entry_no']],
} as const satisfies OwnTable

/** Where slices of sealing ended in a stream, each with a random mark: who shows the mark that holds for an entry has the history up to there. */
export const AUDIENCE_POINTS = {
  name: 'sync_audience_points',
  columns: { audience_id: 'integer', entry_no: 'integer', mark: 'text', sealed_at: 'time' },
  primaryKey: ['audience_id', 'entry_no'],
  stamped: 'sealed_at',
} as const satisfies OwnTable

/** Which audience each register is in, of each root table that it asks for, and how far it has come. */
export const AUDIENCE_REGISTERS = {
  name: 'sync_audience_registers',
  columns: {
    register_id: 'integer',
    table_name: 'text',
    audience_id: 'integer',
    entry_no: 'integer',
    /** Whether it shows our mark; otherwise it begins anew. */
    known: 'boolean',
    heard_at: 'time',
  },
  primaryKey: ['register_id', 'table_name'],
} as const satisfies OwnTable

/** Documents that registers could not apply, as they last said. */
export const UNAPPLIED = {
  name: 'sync_unapplied',
  columns: { register_id: 'integer', table_name: 'text', record_id: 'text', code: 'text', message: 'text', heard_at: 'time' },
  primaryKey: ['register_id', 'table_name', 'record_id'],
} as const satisfies OwnTable
