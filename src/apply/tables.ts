import type { OwnTable } from '../ports.ts'

/** The registers that central knows, each with its credential and where it stands in their stream. */
export const REGISTERS = {
  name: 'sync_registers',
  columns: {
    register_id: 'integer',
    location: 'text',
    register: 'text',
    token_hash: 'bytes',
    added_at: 'time',
    contact_at: 'time',
    /** Which life of the register's database its entries are of; counts from 1. */
    epoch_no: 'integer',
    epoch: 'text',
    entry_no: 'integer',
    digest: 'text',
  },
  primaryKey: ['register_id'],
  nullable: ['contact_at', 'epoch', 'digest'],
  generated: 'register_id',
  uniques: [['location', 'register'], ['token_hash']],
} as const satisfies OwnTable

/** Every entry that was received, as it was sealed. */
export const ARCHIVE = {
  name: 'sync_archive',
  columns: {
    register_id: 'integer',
    epoch_no: 'integer',
    entry_no: 'integer',
    table_name: 'text',
    operation: 'text',
    record_id: 'text',
    record: 'text',
    sealed_at: 'time',
    received_at: 'time',
  },
  primaryKey: ['register_id', 'epoch_no', 'entry_no'],
  nullable: ['record'],
  stamped: 'received_at',
} as const satisfies OwnTable

/** The latest version of each document, and where in the archive it stands. */
export const DOCUMENTS = {
  name: 'sync_documents',
  columns: {
    register_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    /** Which life of the key it is; counts from 1, up by one when a removed key is used again. */
    incarnation: 'integer',
    removed: 'boolean',
    epoch_no: 'integer',
    /** The first of its entries, the root record's. */
    entry_no: 'integer',
    entries: 'integer',
    /** How many versions of it were received. */
    versions: 'integer',
  },
  primaryKey: ['register_id', 'table_name', 'record_id'],
} as const satisfies OwnTable

/**
 * What was posted for each document: one row for each time that something was, never changed. `postings` is a JSON array
 * of differences; their sum over the revisions is what the document has posted, or the host before us (`delivered` false).
 */
export const POSTINGS = {
  name: 'sync_postings',
  columns: {
    register_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    incarnation: 'integer',
    ledger: 'text',
    revision: 'integer',
    /** False for a baseline: what the host had booked itself before the register began to publish. */
    delivered: 'boolean',
    epoch_no: 'integer',
    entry_no: 'integer',
    posted_at: 'time',
    postings: 'json',
  },
  primaryKey: ['register_id', 'table_name', 'record_id', 'incarnation', 'ledger', 'revision'],
  stamped: 'posted_at',
} as const satisfies OwnTable

/** The ledger of stock: one row for each posting, never changed. */
export const STOCK_MOVEMENTS = {
  name: 'stock_movements',
  columns: {
    movement_no: 'integer',
    item_no: 'text',
    location: 'text',
    business_date: 'date',
    document_no: 'text',
    customer_no: 'text',
    /** Further dimensions that the host's mapping names. */
    dimensions: 'json',
    quantity: 'decimal',
    amount: 'decimal',
    register_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    incarnation: 'integer',
    revision: 'integer',
    epoch_no: 'integer',
    entry_no: 'integer',
    posted_at: 'time',
  },
  primaryKey: ['movement_no'],
  nullable: ['business_date', 'document_no', 'customer_no', 'dimensions'],
  generated: 'movement_no',
  stamped: 'posted_at',
} as const satisfies OwnTable

/** What lies where: the sum of the movements. */
export const STOCK_LEVELS = {
  name: 'stock_levels',
  columns: { item_no: 'text', location: 'text', quantity: 'decimal' },
  primaryKey: ['item_no', 'location'],
} as const satisfies OwnTable
