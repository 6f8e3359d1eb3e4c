import type { OwnTable } from '../own-table.ts'

/** PLU closings as they were posted, never changed: of each warehouse numbered 1, 2, 3 … */
export const POSTED_CLOSINGS = {
  name: 'posted_plu_closings',
  columns: {
    location: 'text',
    closing_no: 'integer',
    business_date: 'date',
    /** The till's own number. */
    document_no: 'text',
    /** The first closing of the same document and warehouse, where this one adds to it; NULL where it is the first itself. */
    supplements: 'integer',
    /** 0 for a first closing, then 1, 2, 3 … */
    supplement_no: 'integer',
    /** The receipts that it sums up, where it was computed: a JSON array of { series, from, through }. */
    ranges: 'json',
    quantity: 'total',
    return_quantity: 'total',
    discount_amount: 'total',
    net_amount: 'total',
    vat_amount: 'total',
    gross_amount: 'total',
    register_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    incarnation: 'integer',
    revision: 'integer',
    epoch_no: 'integer',
    entry_no: 'integer',
    posted_at: 'time',
  },
  primaryKey: ['location', 'closing_no'],
  nullable: ['document_no', 'supplements', 'ranges'],
  stamped: 'posted_at',
  uniques: [
    ['register_id', 'table_name', 'record_id', 'incarnation', 'revision', 'location', 'closing_no'],
    ['location', 'business_date', 'closing_no'],
  ],
} as const satisfies OwnTable

/** Their lines: one for each item, VAT code and rate, and customer (NULL: anonymous). Never changed. */
export const POSTED_CLOSING_LINES = {
  name: 'posted_plu_closing_lines',
  columns: {
    location: 'text',
    closing_no: 'integer',
    line_no: 'integer',
    item_no: 'text',
    vat_code: 'text',
    vat_rate: 'decimal',
    customer_no: 'text',
    quantity: 'decimal',
    return_quantity: 'decimal',
    discount_amount: 'decimal',
    net_amount: 'decimal',
    vat_amount: 'decimal',
    gross_amount: 'decimal',
  },
  primaryKey: ['location', 'closing_no', 'line_no'],
  nullable: ['vat_code', 'vat_rate', 'customer_no'],
} as const satisfies OwnTable

/** The last closing number of each warehouse. */
export const CLOSING_NUMBERS = {
  name: 'sync_closing_numbers',
  columns: { location: 'text', last_no: 'integer' },
  primaryKey: ['location'],
} as const satisfies OwnTable

/** The tills' closings as their latest versions have them. */
export const CLOSINGS = {
  name: 'sync_closings',
  columns: {
    register_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    incarnation: 'integer',
    /** JSON: what the host's mapping said of it; 'null' where it is void. */
    closing: 'json',
    /** JSON: the sums of its lines; NULL where they are computed from receipts. */
    lines: 'json',
    epoch_no: 'integer',
    entry_no: 'integer',
  },
  primaryKey: ['register_id', 'table_name', 'record_id', 'incarnation'],
  nullable: ['lines'],
} as const satisfies OwnTable

/** Which receipts belong to which closing: ranges of numbers, none of which overlap. */
export const CLOSING_RANGES = {
  name: 'sync_closing_ranges',
  columns: {
    register_id: 'integer',
    receipts_table: 'text',
    series: 'text',
    first_no: 'integer',
    last_no: 'integer',
    table_name: 'text',
    record_id: 'text',
    incarnation: 'integer',
  },
  primaryKey: ['register_id', 'receipts_table', 'series', 'first_no'],
  uniques: [['register_id', 'table_name', 'record_id', 'incarnation', 'series', 'first_no']],
} as const satisfies OwnTable

/** What the latest version of each receipt brings into the closing of its range. */
export const CLOSING_RECEIPTS = {
  name: 'sync_closing_receipts',
  columns: {
    register_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    incarnation: 'integer',
    series: 'text',
    number: 'integer',
    lines: 'json',
    /** What it was before the register began to publish it, and the entry that says so: that much the host had closed itself. */
    baseline: 'json',
    baseline_epoch_no: 'integer',
    baseline_no: 'integer',
  },
  // The table's name behind what else is asked for: while PostgreSQL has not counted anything, it would take either index for either question, and read all of a register's.
  primaryKey: ['register_id', 'record_id', 'table_name', 'incarnation'],
  nullable: ['baseline', 'baseline_epoch_no', 'baseline_no'],
  uniques: [['register_id', 'series', 'number', 'table_name', 'record_id', 'incarnation']],
} as const satisfies OwnTable

/** Closings that are to be posted, or looked at again: something of them has changed, or they wait. */
export const OPEN_CLOSINGS = {
  name: 'sync_open_closings',
  columns: {
    register_id: 'integer',
    table_name: 'text',
    record_id: 'text',
    incarnation: 'integer',
    /** Why it could not be posted yet: a JSON object; NULL where nobody has looked. */
    waits: 'json',
    opened_at: 'time',
  },
  primaryKey: ['register_id', 'table_name', 'record_id', 'incarnation'],
  nullable: ['waits'],
  stamped: 'opened_at',
} as const satisfies OwnTable

/** All that `pluClosings` needs of its own, but the stock ledger. */
export const CLOSING_TABLES: readonly OwnTable[] = [
  POSTED_CLOSINGS,
  POSTED_CLOSING_LINES,
  CLOSING_NUMBERS,
  CLOSINGS,
  CLOSING_RANGES,
  CLOSING_RECEIPTS,
  OPEN_CLOSINGS,
]
