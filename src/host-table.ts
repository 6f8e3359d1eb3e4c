/** A table of the host as it stands in the database. */
export interface HostTable {
  readonly name: string
  readonly columns: readonly HostColumn[]
  /** Columns of the primary key, in key order; empty when there is none. */
  readonly key: readonly string[]
  /** Unique constraints and indexes beside the primary key; its own too, where the database takes different keys for equal. */
  readonly uniques: readonly HostUnique[]
  /** Names of unique indexes over expressions. */
  readonly expressionUniques?: readonly string[]
  /** Whether the database, or the host by itself, hands out keys again that were deleted. */
  readonly reusesKeys?: boolean
}

export interface HostColumn {
  readonly name: string
  /** As declared, for messages and for casts. */
  readonly type: string
  /** The type beneath domains, without length and precision, where the dialect has such. */
  readonly base?: string
  readonly nullable: boolean
  /** The collation by which texts are equal that are not the same, where the dialect has it by column; undefined where none are. */
  readonly collation?: string
  /** The database computes it; it can be read, not written. */
  readonly generated: boolean
  /** By which expression over the table's other columns, where the dialect's triggers do not see its value. */
  readonly computed?: string
  /** Another one whenever the column was altered, after which it may hold other values though no trigger saw it, where the dialect has such changes. */
  readonly revision?: string
  /** What a row holds that was there before the column was: its default or NULL, as JSON text. Only where changes are captured. */
  readonly initial?: string
}

export interface HostUnique {
  readonly columns: readonly {
    readonly name: string
    readonly collation: string
    /** An expression for what a REPLACE puts in the place of NULL, where the column has such. */
    readonly insteadOfNull?: string
  }[]
  /** The condition of a partial index, as SQL text, and the columns of the table that it names. */
  readonly where?: string
  readonly reads?: readonly string[]
  /** Columns that a generated one of these may be computed from, and in which a REPLACE puts a default in the place of NULL. */
  readonly computedFrom?: readonly string[]
}
