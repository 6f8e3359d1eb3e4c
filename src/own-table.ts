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

/** The columns that `insert` brings, in order. */
export function insertedColumns(table: OwnTable): readonly (readonly [string, OwnColumnType])[] {
  return Object.entries(table.columns).filter(([name]) => name !== table.generated && name !== table.stamped)
}
