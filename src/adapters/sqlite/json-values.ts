import { TillsyncError } from '../../errors.ts'
import type { HostColumn } from '../../host-table.ts'
import type { MirrorRows } from '../../mirroring.ts'
import { decodeRecord, decodeRecordExactly, type ExactValue, encodeReal, InvalidText, ownOf } from '../../record.ts'
import { type Affinity, isInteger64, numberOf, numeral } from './affinity.ts'

/** A column with what SQLite makes of the values that it is given. */
export interface SqliteColumn extends HostColumn {
  readonly affinity: Affinity
  /** Whether it can hold text that is not UTF-8. */
  readonly holdsBytes: boolean
}

/** A value in the storage class in which its column keeps it: an integer is a bigint, a number a REAL. */
export type Stored = bigint | number | string | Uint8Array | InvalidText | null

const ZEROS = /\.0*$/
const WHOLE = /^[+-]?\d+\.?0*$/

/** Reads of records what columns are to hold. */
export class RecordReader {
  private readonly table: string
  /** Each with the member that holds it, or with its value where that is the same for all. */
  private readonly columns: readonly { readonly column: SqliteColumn; readonly member: string; readonly constant?: Stored }[]

  constructor({ table, members, constants }: Omit<MirrorRows, 'records' | 'columns'>, names: readonly string[]) {
    this.table = table.name
    const columns = table.columns as readonly SqliteColumn[]
    this.columns = names.map((name) => {
      const column = columns.find((one) => one.name === name) as SqliteColumn
      if (!Object.hasOwn(constants, name)) return { column, member: ownOf(members, name) ?? name }
      return { column, member: name, constant: this.stored(constants[name] as ExactValue, column) }
    })
  }

  /** The values of the columns, in their order. @throws ERR_MIRROR where one can't be held, ERR_VALUE */
  read(record: string): Stored[] {
    const read = record.includes('{"$text":') ? undefined : this.from(decodeRecord(record), false)
    return read ?? (this.from(decodeRecordExactly(record), true) as Stored[])
  }

  /** Undefined where it must be known whether a number is 5 or 5.0, which costs time to find out. */
  private from(values: Readonly<Record<string, ExactValue>>, isExact: boolean): Stored[] | undefined {
    const read: Stored[] = []
    for (const { column, member, constant } of this.columns) {
      const value = ownOf(values, member) ?? null
      const isWritten = column.affinity === 'text' || column.affinity === 'blob'
      if (!isExact && isWritten && typeof value === 'number' && constant === undefined) return undefined
      read.push(constant === undefined ? this.stored(value, column) : constant)
    }
    return read
  }

  private stored(value: ExactValue, column: SqliteColumn): Stored {
    if (value === null || value instanceof Uint8Array) return value
    if (value instanceof InvalidText) return column.holdsBytes ? value : Buffer.from(value.bytes).toString('utf8')
    const { affinity } = column
    if (affinity === 'text') return textOf(value)
    if (typeof value === 'boolean') return value ? 1n : 0n
    if (affinity === 'blob') return typeof value === 'bigint' || typeof value === 'number' ? this.fitting(value, column) : value
    if (typeof value !== 'string') return this.number(value, column)
    const text = numeral(value)
    if (text === undefined) return value
    const number = numberOf(affinity === 'real' ? text : text.replace(ZEROS, ''))
    const isRounded = typeof number === 'number' && (!Number.isFinite(number) || (affinity !== 'real' && WHOLE.test(text)))
    if (isRounded) throw this.unfit(column, 'a number that SQLite can only round')
    return this.number(number, column)
  }

  private number(value: bigint | number, column: SqliteColumn): Stored {
    if (column.affinity !== 'real' && Number.isSafeInteger(value)) return BigInt(value)
    const fitting = column.affinity === 'real' ? Number(value) + 0 : value // −0.0 is stored as 0.0 there
    return this.fitting(fitting, column)
  }

  private fitting(value: bigint | number, column: SqliteColumn): bigint | number {
    if (typeof value === 'bigint' && !isInteger64(value)) throw this.unfit(column, 'an integer of more than 64 bits')
    if (Number.isNaN(value)) throw this.unfit(column, 'NaN, which SQLite does not have')
    return value
  }

  private unfit({ name, type }: SqliteColumn, what: string): TillsyncError {
    return new TillsyncError('ERR_MIRROR', `\`${this.table}\` does not take a record: \`${name}\` would be ${what}`, {
      hint: `As text it is exact: declare the column TEXT, not ${type || 'without a type'}; leave it out with \`except\`, or convert it by \`map\`.`,
      context: { table: this.table, column: name },
    })
  }
}

/** As it stands in the record: SQLite would write fewer digits. */
function textOf(value: bigint | number | boolean | string): string {
  if (typeof value !== 'number') return String(value)
  if (Object.is(value, -0)) return '-0.0'
  return Number.isFinite(value) ? encodeReal(value) : String(value)
}

/** Whether they are the same, storage class included. */
export function isSame(a: Stored, b: Stored): boolean {
  const [one, other] = [bytesOf(a), bytesOf(b)]
  if (one === undefined || other === undefined) return one === other && Object.is(a, typeof b === 'string' ? b.toWellFormed() : b)
  return a instanceof InvalidText === b instanceof InvalidText && Buffer.compare(one, other) === 0
}

function bytesOf(value: Stored): Uint8Array | undefined {
  return value instanceof InvalidText ? value.bytes : value instanceof Uint8Array ? value : undefined
}

/** The place of a value in a statement: the driver binds text that is not UTF-8 as bytes only. */
export function place(value: Stored): string {
  return value instanceof InvalidText ? 'CAST(? AS TEXT)' : '?'
}

export function bindable(value: Stored): unknown {
  return value instanceof InvalidText ? value.bytes : value
}
