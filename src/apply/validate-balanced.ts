import { type Decimal, difference, sum } from '../decimal.ts'
import { TillsyncError } from '../errors.ts'
import type { AnyDocument } from '../model.ts'
import { known } from '../options.ts'
import type { Check, ColumnsByPart, FoundProblem, RootColumn } from './validate.ts'

/** As they are read, whatever the types of the host. */
type AnyAmounts = string | readonly string[] | Readonly<Record<string, string | readonly string[]>>

export interface BalancedOptions<D = AnyDocument> {
  /** Columns of the root record whose sum is the document's amount. */
  readonly header?: RootColumn<D> | readonly RootColumn<D>[]
  /** What must come to the same, each where it is named: `{ receipt_lines: 'gross_amount' }`, `{ receipt_lines: ['net_amount', 'vat_amount'] }`. */
  readonly lines?: ColumnsByPart<D>
  readonly vat?: ColumnsByPart<D>
  readonly tenders?: ColumnsByPart<D>
  /** How far two of them may be apart: a decimal text. Default '0'. */
  readonly tolerance?: string
  /** Only documents for which this is true are asked, e.g. those that are posted. Default: all. */
  readonly when?: (document: D) => boolean
}

const KINDS = ['header', 'lines', 'vat', 'tenders'] as const

/**
 * A check that amounts of a document agree: header = lines = VAT = tenders, as far as they are named; at least two. Sums are exact; what is NULL counts as nothing. A
 * document that does not balance is ERR_UNBALANCED.
 *
 * @throws ERR_OPTION
 */
export function balanced<D = AnyDocument>(options: BalancedOptions<NoInfer<D>>): Check<D> {
  const tolerance = checkOptions(options as BalancedOptions)
  const kinds = KINDS.filter((kind) => options[kind] !== undefined)
  return {
    name: 'balanced',
    *check() {},
    *problems(documents) {
      return documents.map((document) => {
        const isAsked = options.when === undefined || options.when(document.again().value as D) === true
        return isAsked ? problemOf(document.value, options as BalancedOptions, kinds, tolerance) : undefined
      })
    },
  }
}

function problemOf(
  document: AnyDocument,
  options: BalancedOptions,
  kinds: readonly (typeof KINDS)[number][],
  tolerance: string,
): FoundProblem | undefined {
  try {
    const sums = kinds.map((kind) => ({ kind, amount: sum(amountsOf(document, options[kind] as AnyAmounts)) }))
    const [first] = sums as [{ kind: string; amount: string }]
    const most = sums.reduce((a, b) => (isAbove(b.amount, a.amount) ? b : a), first)
    const least = sums.reduce((a, b) => (isAbove(a.amount, b.amount) ? b : a), first)
    if (!isAbove(difference(most.amount, least.amount), tolerance)) return undefined
    return {
      code: 'ERR_UNBALANCED',
      message: `Amounts that should be equal are not: ${sums.map(({ kind, amount }) => `${kind} ${amount}`).join(', ')}`,
      hint: 'Correct the document at the till: its next version is tried at once.',
    }
  } catch (thrown) {
    if (!(thrown instanceof TillsyncError)) throw thrown
    return { code: 'ERR_UNBALANCED', message: `An amount can't be added: ${thrown.message}`, hint: thrown.hint }
  }
}

function isAbove(a: string, b: string): boolean {
  const more = difference(a, b)
  return more !== '0' && !more.startsWith('-')
}

function amountsOf(document: AnyDocument, columns: AnyAmounts): Decimal[] {
  if (typeof columns === 'string' || Array.isArray(columns)) return valuesOf(document, [columns].flat() as string[])
  return Object.entries(columns).flatMap(([table, names]) => {
    const rows = document.parts[table]
    if (rows === undefined)
      throw new TillsyncError('ERR_VALUE', `the document has no parts \`${table}\``, { hint: 'Is the table published as its part?' })
    return rows.flatMap((row) => valuesOf(row, [names].flat() as string[]))
  })
}

function valuesOf(row: Readonly<Record<string, unknown>>, columns: readonly string[]): Decimal[] {
  return columns.flatMap((name) => {
    const value = row[name]
    if (value === null) return []
    if (value !== undefined) return [value as Decimal]
    throw new TillsyncError('ERR_VALUE', `there is no column \`${name}\``, { hint: 'Is it published by the till?' })
  })
}

/** The tolerance. */
function checkOptions(options: BalancedOptions): string {
  if (typeof options !== 'object' || options === null) throw bad('its options to be an object')
  known('balanced', options, [...KINDS, 'tolerance', 'when'])
  if (KINDS.filter((kind) => options[kind] !== undefined).length < 2) throw bad('at least two of header, lines, vat, tenders')
  if (options.header !== undefined && !isNames(options.header)) throw bad('`header` to be a column or a list of columns')
  for (const kind of ['lines', 'vat', 'tenders'] as const) {
    const parts = options[kind]
    if (parts === undefined) continue
    const isParts = typeof parts === 'object' && parts !== null && Object.keys(parts).length > 0 && Object.values(parts).every(isNames)
    if (!isParts) throw bad(`\`${kind}\` to be columns by table, such as { receipt_lines: 'gross_amount' }`)
  }
  if (options.when !== undefined && typeof options.when !== 'function') throw bad('`when` to be a function')
  const { tolerance = '0' } = options
  if (typeof tolerance !== 'string' || !/^\d{1,12}(\.\d{1,6})?$/.test(tolerance)) throw bad("`tolerance` to be a decimal text such as '0.01'")
  return tolerance
}

function isNames(names: unknown): boolean {
  return [names].flat().every((name) => typeof name === 'string' && name !== '') && [names].flat().length > 0
}

function bad(expected: string): TillsyncError {
  return new TillsyncError('ERR_OPTION', `balanced() expects ${expected}`, {
    hint: "balanced({ header: 'gross_amount', lines: { receipt_lines: 'gross_amount' }, tenders: { tender_lines: 'amount' } })",
  })
}
