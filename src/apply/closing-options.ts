import { TillsyncError } from '../errors.ts'
import type { AnyDocument, RegisterName } from '../model.ts'
import { known } from '../options.ts'
import type { ReceiptsRule } from './closing-receipts.ts'
import { CLOSING_MEASURES, type Closing, type ClosingLine } from './closings.ts'
import { kindOf } from './mapping.ts'
import { readRemovals } from './stock-movements.ts'
import { readScale, type Scale, type Scales } from './sums.ts'

/** The part tables of a document. */
export type PartName<D> = D extends { readonly parts: infer P } ? keyof P & string : string

/** A record of one of a document's part tables; where no table is named, one with the columns of all of them. */
export type PartRow<D, P> = D extends { readonly parts: infer Parts }
  ? [PartName<D>] extends [P]
    ? ColumnsOf<RowsOf<Parts, keyof Parts>>
    : RowsOf<Parts, P>
  : never

type RowsOf<Parts, P> = P extends keyof Parts ? (Parts[P] extends readonly (infer R)[] ? R : never) : never
/** A column has the type that all tables agree on that have it; `lines` says which table it is. */
type ColumnsOf<R> = {
  readonly [C in R extends unknown ? keyof R : never]: Agreed<R extends unknown ? (C extends keyof R ? (value: R[C]) => void : never) : never>
}
type Agreed<F> = [F] extends [(value: infer V) => void] ? V : never

/** A document of another root table of the same register. */
export type SiblingDocument<D, T> = D extends { readonly parts: infer Parts } ? PartRow<D, T> & { readonly parts: Parts } : never

/** How closings are computed from the receipts of their register. */
export interface ReceiptsOptions<D, T> {
  /** The receipts' root table. */
  readonly table: T
  /** The integer column of a receipt by which the till numbers them. */
  readonly number: keyof PartRow<D, T> & string
  /** The column with the series in which it is numbered. Default: there is one series. */
  readonly series?: keyof PartRow<D, T> & string
  /** The column with a receipt's business date, ISO 8601: by it `reconcile` knows which receipts of a day are not closed. */
  readonly date?: keyof PartRow<D, T> & string
  /** What a receipt brings into the closing; nothing where it is void. A pure function. */
  readonly lines: (receipt: SiblingDocument<D, T>, origin: RegisterName) => readonly (ClosingLine | null | undefined)[]
}

/** The receipts that closings of the till's own sum up, so that `reconcile` can compare them. */
export type SummedReceipts<D, T> = Required<Pick<ReceiptsOptions<D, T>, 'table' | 'date' | 'lines'>>

export interface PluClosingsOptions<D, P = PartName<D>, T = PartName<D>> {
  /** A pure function of the till's closing; null where it is void. */
  readonly closing: (closing: D, origin: RegisterName) => Closing | null | undefined
  /** The part table that holds its lines. Default: the one that it has. */
  readonly lines?: P
  /** A line, where the till has made them; null where it is none. A pure function. */
  readonly line?: (line: PartRow<D, P>, closing: D, origin: RegisterName) => ClosingLine | null | undefined
  /** Computes the lines from receipts. Beside `line` the receipts that they sum up, for `reconcile`, or only the name of their table. */
  readonly receipts?: T | ReceiptsOptions<D, T> | SummedReceipts<D, T>
  /** Whether its lines move stock, in `stock_movements` and `stock_levels`. Default false. */
  readonly moveStock?: boolean
  /** What the removal of a closing, or of a receipt, does. 'ignore': nothing. 'apply': what it has posted is taken back by a supplementary closing. Default 'ignore'. */
  readonly removals?: 'ignore' | 'apply'
  /** Digits behind the point to which quantities and amounts are rounded, half to even: for REAL columns of a till. From 0 to 6; default: doubles to 6, what is exact not at all. */
  readonly scale?: Scale<(typeof CLOSING_MEASURES)[number]>
}

/** What `pluClosings()` was told. */
export interface ClosingRule {
  readonly closing: (closing: never, origin: RegisterName) => unknown
  readonly line: ((line: never, closing: never, origin: RegisterName) => unknown) | undefined
  readonly part: string | undefined
  readonly receipts: ReceiptsRule | undefined
  /** The receipts that the till has summed up itself, where that is said. */
  readonly summed: Omit<ReceiptsRule, 'number' | 'series'> | undefined
  /** The table whose documents the closings sum up; undefined where nobody says. */
  readonly sumsUp: string | undefined
  readonly moveStock: boolean
  readonly removals: 'ignore' | 'apply'
  readonly scales: Scales
}

const OPTIONS = ['closing', 'line', 'lines', 'receipts', 'moveStock', 'removals', 'scale']

/** @throws ERR_OPTION */
export function readClosingOptions(options: PluClosingsOptions<AnyDocument, string, string>): ClosingRule {
  if (typeof options !== 'object' || options === null) throw bad('the argument of pluClosings()', 'an object such as { closing, line }', options)
  known('pluClosings', options, OPTIONS)
  const { closing, line, lines, receipts, moveStock = false } = options
  if (typeof closing !== 'function') throw bad('pluClosings.closing', 'a function: (closing) => ({ location, businessDate, … })', closing)
  if (line !== undefined && typeof line !== 'function') throw bad('pluClosings.line', 'a function: (line, closing) => ({ item, quantity, … })', line)
  if (lines !== undefined && (typeof lines !== 'string' || line === undefined))
    throw bad('pluClosings.lines', 'the name of a part table, beside `line`', lines)
  if (typeof moveStock !== 'boolean') throw bad('pluClosings.moveStock', 'true or false', moveStock)
  const removals = readRemovals('pluClosings', options.removals)
  const scales = readScale('pluClosings.scale', options.scale, CLOSING_MEASURES)
  if (receipts !== undefined && (typeof receipts !== 'object' || receipts === null) && (typeof receipts !== 'string' || line === undefined))
    throw bad('pluClosings.receipts', 'an object { table, number, series?, lines }, or beside `line` the name of a table', receipts)
  const read = typeof receipts === 'object' ? readReceipts(receipts, scales, removals, line !== undefined) : undefined
  const [rule, summed] = line === undefined ? [read, undefined] : [undefined, read]
  if ((line === undefined) === (rule === undefined)) {
    throw new TillsyncError('ERR_OPTION', 'Expected either `pluClosings.line` or `pluClosings.receipts`', {
      hint: 'Lines are made by the till (`line`) or computed from its receipts (`receipts: { table, number, series, lines }`).',
    })
  }
  const sumsUp = read?.table ?? (receipts as string | undefined)
  return { closing, line, part: lines, receipts: rule, summed, sumsUp, moveStock, removals, scales }
}

function readReceipts(
  receipts: ReceiptsOptions<AnyDocument, string> | SummedReceipts<AnyDocument, string>,
  scales: Scales,
  removals: 'ignore' | 'apply',
  isSummed: boolean,
): ReceiptsRule {
  known('pluClosings.receipts', receipts, isSummed ? ['table', 'date', 'lines'] : ['table', 'number', 'series', 'date', 'lines'])
  const { table, number, series, date, lines } = receipts as ReceiptsOptions<AnyDocument, string>
  const needed = isSummed ? { table, date } : { table, number, ...(series !== undefined && { series }), ...(date !== undefined && { date }) }
  for (const [name, value] of Object.entries(needed))
    if (typeof value !== 'string' || value === '')
      throw bad(`pluClosings.receipts.${name}`, name === 'table' ? 'the name of a table' : 'the name of a column', value)
  if (typeof lines !== 'function') throw bad('pluClosings.receipts.lines', 'a function: (receipt) => [{ item, quantity, … }]', lines)
  return { table, number, series, date, lines, scales, removals }
}

function bad(option: string, expected: string, got: unknown): TillsyncError {
  return new TillsyncError('ERR_OPTION', `Expected \`${option}\` to be ${expected}, got ${kindOf(got)}`, {
    hint: 'See docs/closings.md.',
    context: { option },
  })
}
