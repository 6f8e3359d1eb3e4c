import { TillsyncError } from '../errors.ts'
import type { AnyDocument, RegisterName } from '../model.ts'
import { known } from '../options.ts'
import type { Work } from '../ports.ts'
import { closingReceipts, type ReceiptsRule } from './closing-receipts.ts'
import { settleClosings, withHeader } from './closing-settlement.ts'
import { compareClosings, type WantedClosing, writeClosings } from './closing-state.ts'
import { CLOSING_TABLES, POSTED_CLOSINGS } from './closing-tables.ts'
import { CLOSING_MEASURES, type Closing, type ClosingLine, checkTotals, type KnownClosing, readClosing, readLines } from './closings.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext, Handler } from './handler.ts'
import { kindOf, mapped } from './mapping.ts'
import { type Ledger, nameOf, Poster, postedOf } from './postings.ts'
import { readRemovals } from './stock-movements.ts'
import { NO_SUMS, readScale, type Scale, type Scales, type SumsByDimension } from './sums.ts'
import { POSTINGS, STOCK_LEVELS, STOCK_MOVEMENTS } from './tables.ts'

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
  /** What a receipt brings into the closing; nothing where it is void. A pure function. */
  readonly lines: (receipt: SiblingDocument<D, T>, origin: RegisterName) => readonly (ClosingLine | null | undefined)[]
}

export interface PluClosingsOptions<D, P = PartName<D>, T = PartName<D>> {
  /** A pure function of the till's closing; null where it is void. */
  readonly closing: (closing: D, origin: RegisterName) => Closing | null | undefined
  /** The part table that holds its lines. Default: the one that it has. */
  readonly lines?: P
  /** A line, where the till has made them; null where it is none. A pure function. */
  readonly line?: (line: PartRow<D, P>, closing: D, origin: RegisterName) => ClosingLine | null | undefined
  /** Computes the lines from receipts. Beside `line` only the name of the table that they sum up. */
  readonly receipts?: T | ReceiptsOptions<D, T>
  /** Whether its lines move stock, in `stock_movements` and `stock_levels`. Default false. */
  readonly moveStock?: boolean
  /** What the removal of a closing, or of a receipt, does. 'ignore': nothing. 'apply': what it has posted is taken back by a supplementary closing. Default 'ignore'. */
  readonly removals?: 'ignore' | 'apply'
  /** Digits behind the point to which quantities and amounts are rounded, half to even: for REAL columns of a till. From 0 to 6; default: doubles to 6, what is exact not at all. */
  readonly scale?: Scale<(typeof CLOSING_MEASURES)[number]>
}

/**
 * Posts closings to `posted_plu_closings` and `posted_plu_closing_lines`, by difference: what a closing and its lines say, or its receipts, less what was posted for
 * it. A posted closing never changes; what comes late, or was corrected, becomes a supplementary closing of the same business date. A duplicate, a re-export, a replay post
 * nothing.
 *
 * A closing that is computed waits until all entries before its own are applied and none of its receipts is in quarantine.
 *
 * @throws ERR_OPTION
 */
export function pluClosings<D = AnyDocument, const P extends PartName<D> = PartName<D>, const T extends PartName<D> = PartName<D>>(
  options: PluClosingsOptions<D, P, T>,
): Handler<D> {
  const rule = readOptions(options as unknown as PluClosingsOptions<AnyDocument, string, string>)
  const { receipts, moveStock, removals } = rule
  const stock = moveStock ? [STOCK_MOVEMENTS, STOCK_LEVELS] : []
  return {
    name: 'pluClosings',
    ledger: POSTED_CLOSINGS.name,
    removals,
    tables: [POSTINGS, ...CLOSING_TABLES, ...stock],
    ...(moveStock && { movesStock: STOCK_MOVEMENTS.name }),
    ...(rule.sumsUp !== undefined && { sumsUp: rule.sumsUp }),
    ...(receipts && { alongside: { [receipts.table]: closingReceipts(receipts) } }),
    *check() {},
    *apply(documents, context) {
      const wanted = countingOf(rule, documents).map((document) => wantedOf(rule, document, context))
      const { changed } = yield* compareClosings(wanted, context)
      const rebased = yield* rememberBaselines(rule, countingOf(rule, documents), context)
      yield* writeClosings(
        wanted.filter((one) => changed.has(one) || rebased.has(one.document)),
        context,
      )
    },
    *differing(documents, context) {
      const wanted = countingOf(rule, documents).map((document) => wantedOf(rule, document, context))
      const { differing } = yield* compareClosings(wanted, context)
      return new Set([...differing].map(({ document }) => document))
    },
    *withdraw(documents, context) {
      yield* writeClosings(
        documents.map((document) => nothing(rule, document)),
        context,
      )
    },
    finish: (table, context) => settleClosings(table, { receipts, moveStock }, context),
  }
}

interface Rule {
  readonly closing: (closing: never, origin: RegisterName) => unknown
  readonly line: ((line: never, closing: never, origin: RegisterName) => unknown) | undefined
  readonly part: string | undefined
  readonly receipts: ReceiptsRule | undefined
  /** The table whose documents the closings sum up; undefined where nobody says. */
  readonly sumsUp: string | undefined
  readonly moveStock: boolean
  readonly removals: 'ignore' | 'apply'
  readonly scales: Scales
}

function countingOf({ removals }: Rule, documents: readonly AppliedDocument[]): readonly AppliedDocument[] {
  return removals === 'apply' ? documents : documents.filter(({ removed }) => !removed)
}

function wantedOf(rule: Rule, document: AppliedDocument, { origin: { location, register } }: ApplyContext): WantedClosing {
  if (document.removed) return nothing(rule, document)
  const origin = { location, register }
  const { value } = document
  const call = <T>(map: () => unknown, read: (value: unknown) => T): T => mapped(document, 'pluClosings()', 'ERR_CLOSING', map, read)
  const closing = call(
    () => rule.closing(value as never, origin),
    (found) => readClosing(found, rule.scales, rule.receipts !== undefined),
  )
  const { line } = rule
  if (closing === undefined) return nothing(rule, document)
  if (line === undefined) return { document, closing, lines: undefined }
  const lines = call(
    () => partsOf(rule, document).map((one) => line(one as never, value as never, origin)),
    (found) => readLines(found, rule.scales),
  )
  call(
    () => lines,
    () => checkTotals(closing, lines),
  )
  return { document, closing, lines }
}

function nothing(rule: Rule, document: AppliedDocument): WantedClosing {
  return { document, closing: undefined, lines: rule.line === undefined ? undefined : NO_SUMS }
}

function partsOf({ part }: Rule, { value: { parts } }: AppliedDocument): readonly unknown[] {
  const names = Object.keys(parts)
  const name = part ?? (names.length === 1 ? names[0] : undefined)
  const found = name === undefined ? undefined : parts[name]
  if (found !== undefined) return found
  throw new TillsyncError(
    'ERR_CLOSING',
    part === undefined ? 'The closing has several part tables, or none' : `The closing has no part table \`${part}\``,
    {
      hint: "Name the one with its lines: pluClosings({ lines: 'plu_closing_lines', … }), and publish it at the till.",
    },
  )
}

/** What the host had closed before the register began to publish it counts as posted, and is delivered nowhere. Returns the documents of which that is news. */
function* rememberBaselines(rule: Rule, documents: readonly AppliedDocument[], context: ApplyContext): Work<ReadonlySet<AppliedDocument>> {
  const before = documents.filter(({ baseline, removed }) => baseline !== undefined && !removed)
  if (before.length === 0) return new Set()
  const posted = yield* postedOf(before, CLOSINGS_LEDGER, context)
  const post = new Poster(CLOSINGS_LEDGER, context)
  for (const document of before) {
    post.withBaseline(document, posted.get(nameOf(document)), (baseline) => {
      const { closing, lines } = wantedOf(rule, baseline, context)
      return baselineOf(closing, lines)
    })
  }
  yield* post.write()
  return post.differing
}

/** Closings are posted when everything that came with them is applied, see `settleClosings`. */
const CLOSINGS_LEDGER: Ledger = { name: POSTED_CLOSINGS.name, measures: CLOSING_MEASURES, *deliver() {} }

function baselineOf(closing: KnownClosing | undefined, lines: SumsByDimension | undefined): SumsByDimension {
  return closing === undefined || lines === undefined ? NO_SUMS : withHeader(closing, lines)
}

const OPTIONS = ['closing', 'line', 'lines', 'receipts', 'moveStock', 'removals', 'scale']

function readOptions(options: PluClosingsOptions<AnyDocument, string, string>): Rule {
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
  const rule = typeof receipts === 'object' ? readReceipts(receipts, scales, removals) : undefined
  if (receipts !== undefined && rule === undefined && (typeof receipts !== 'string' || line === undefined))
    throw bad('pluClosings.receipts', 'an object { table, number, series?, lines }, or beside `line` the name of a table', receipts)
  if ((line === undefined) === (rule === undefined)) {
    throw new TillsyncError('ERR_OPTION', 'Expected either `pluClosings.line` or `pluClosings.receipts`', {
      hint: 'Lines are made by the till (`line`) or computed from its receipts (`receipts: { table, number, series, lines }`).',
    })
  }
  const sumsUp = rule?.table ?? (receipts as string | undefined)
  return { closing, line, part: lines, receipts: rule, sumsUp, moveStock, removals, scales }
}

function readReceipts(receipts: ReceiptsOptions<AnyDocument, string> | null, scales: Scales, removals: 'ignore' | 'apply'): ReceiptsRule {
  if (receipts === null) throw bad('pluClosings.receipts', 'an object { table, number, series?, lines }', receipts)
  known('pluClosings.receipts', receipts, ['table', 'number', 'series', 'lines'])
  const { table, number, series, lines } = receipts
  for (const [name, value] of Object.entries({ table, number, ...(series !== undefined && { series }) }))
    if (typeof value !== 'string' || value === '')
      throw bad(`pluClosings.receipts.${name}`, name === 'table' ? 'the name of a table' : 'the name of a column', value)
  if (typeof lines !== 'function') throw bad('pluClosings.receipts.lines', 'a function: (receipt) => [{ item, quantity, … }]', lines)
  return { table, number, series, lines, scales, removals }
}

function bad(option: string, expected: string, got: unknown): TillsyncError {
  return new TillsyncError('ERR_OPTION', `Expected \`${option}\` to be ${expected}, got ${kindOf(got)}`, {
    hint: 'See docs/closings.md.',
    context: { option },
  })
}
