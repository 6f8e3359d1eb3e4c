/** `decimal`: one value, 12 digits before the point, 6 behind; `total`: the sum of any number of them. */
export type OwnColumnType = 'integer' | 'text' | 'bytes' | 'time' | 'decimal' | 'total' | 'json' | 'boolean' | 'date'

/** One of the library's own tables. */
export interface OwnTable {
  readonly name: string
  /** In order; `insert` steps bring their rows in this order (without `generated` and `stamped`). */
  readonly columns: Readonly<Record<string, OwnColumnType>>
  readonly primaryKey: readonly string[]
  /** Columns that may be NULL. */
  readonly nullable?: readonly string[]
  /** An integer column that the database numbers itself; never part of an `insert`. */
  readonly generated?: string
  /** A time column that the database fills with the time of the transaction; never part of an `insert`. */
  readonly stamped?: string
  /** Columns that are unique beside the primary key. */
  readonly uniques?: readonly (readonly string[])[]
}

/** The library's own tables at either side, which nobody publishes. */
const OWN = new Set([
  'sync_archive',
  'sync_audience_members',
  'sync_audience_points',
  'sync_audience_registers',
  'sync_audiences',
  'sync_bounced',
  'sync_closing_numbers',
  'sync_closing_ranges',
  'sync_closing_receipts',
  'sync_closings',
  'sync_comparison_answers',
  'sync_comparisons',
  'sync_credentials',
  'sync_digests',
  'sync_documents',
  'sync_entries',
  'sync_epochs',
  'sync_frames',
  'sync_kept',
  'sync_lives',
  'sync_members',
  'sync_notices',
  'sync_once',
  'sync_open_closings',
  'sync_orphans',
  'sync_parked',
  'sync_peers',
  'sync_points',
  'sync_postings',
  'sync_pulls',
  'sync_quarantine',
  'sync_received',
  'sync_registers',
  'sync_shapes',
  'sync_sources',
  'sync_state',
  'sync_subscriptions',
  'sync_touches',
  'sync_unapplied',
  'sync_waiting',
  'sync_withheld',
])

/** Whether a table is the library's, in whatever case. */
export function isOwn(table: string): boolean {
  return OWN.has(table.toLowerCase())
}

/** The columns that `insert` brings, in order. */
export function insertedColumns(table: OwnTable): readonly (readonly [string, OwnColumnType])[] {
  return Object.entries(table.columns).filter(([name]) => name !== table.generated && name !== table.stamped)
}
