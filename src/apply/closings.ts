import { type Decimal, negate, sum } from '../decimal.ts'
import { TillsyncError } from '../errors.ts'
import { isPostable } from '../options.ts'
import { kindOf } from './mapping.ts'
import { type Dimension, dateOf, inField, type Scales, type SumsByDimension, Totals } from './sums.ts'

/** What a closing and each of its lines sum up. */
export interface ClosingSums {
  /** Signed: what was sold less what came back. Of a line that only came back it is negative. */
  readonly quantity: Decimal
  /** What came back, as a positive number. Default of a line: its quantity, where that is negative. */
  readonly returnQuantity: Decimal
  /** Default of a line 0. */
  readonly discountAmount: Decimal
  readonly netAmount: Decimal
  /** Default of a line 0. */
  readonly vatAmount: Decimal
  /** Default of a line: net and VAT. */
  readonly grossAmount: Decimal
}

/** The receipts of a series that a closing sums up, by their numbers: from the first through the last. */
export interface ReceiptRange {
  /** Default: receipts without a series. */
  readonly series?: string | null
  readonly from: number | bigint
  readonly through: number | bigint
}

/** A closing of a till's. Totals that it has are compared with the sums of its lines. */
export interface Closing extends Partial<ClosingSums> {
  /** The warehouse of lines that name none. */
  readonly location: string
  /** ISO 8601, `2026-11-21`; of a text with a time the date counts. */
  readonly businessDate: string
  /** The till's own number. */
  readonly document?: string | number | bigint | null
  /** Which receipts it sums up, where it is computed from them. */
  readonly ranges?: readonly ReceiptRange[]
}

/** A line of a closing. Lines with equal item, warehouse, VAT and customer are one. */
export interface ClosingLine extends Partial<ClosingSums> {
  readonly item: string
  /** The warehouse that it was sold from. Default: the closing's. */
  readonly location?: string | null
  readonly vatCode?: string | null
  /** As the till writes it, e.g. '20' or '0.20'. */
  readonly vatRate?: Decimal | null
  /** Null: anonymous customers. */
  readonly customer?: string | null
  readonly quantity: Decimal
  readonly netAmount: Decimal
}

export const CLOSING_MEASURES = [
  'quantity',
  'returnQuantity',
  'discountAmount',
  'netAmount',
  'vatAmount',
  'grossAmount',
] as const satisfies (keyof ClosingSums)[]

/** A closing as it is kept: checked, in fixed forms. */
export interface KnownClosing {
  readonly location: string
  readonly businessDate: string
  readonly document: string | null
  readonly ranges: readonly KnownRange[]
  /** Decimal texts by measure. */
  readonly totals: Readonly<Record<string, string>>
}

export interface KnownRange {
  /** Empty where receipts have none. */
  readonly series: string
  /** As decimal texts: numbers of 64 bits. */
  readonly from: string
  readonly through: string
}

const CLOSING_FIELDS = ['location', 'businessDate', 'document', 'ranges', ...CLOSING_MEASURES]
const LINE_FIELDS = ['item', 'location', 'vatCode', 'vatRate', 'customer', ...CLOSING_MEASURES]
const LARGEST = 2n ** 63n - 1n
/** Names by which rows are found: two of them, however they are written, fit into a row of an index, which holds 2,704 bytes. */
const LONGEST_NAME = 400

/**
 * What the host's mapping says of a closing; undefined where it is void.
 *
 * @throws ERR_CLOSING, ERR_VALUE
 */
export function readClosing(value: unknown, scales: Scales, isComputed: boolean): KnownClosing | undefined {
  if (value === null || value === undefined) return undefined
  const closing = fieldsOf(value, CLOSING_FIELDS, 'closing')
  const businessDate = dateOf(closing.businessDate)
  if (businessDate === undefined) throw notAClosing('`businessDate` is no ISO 8601 date')
  if (!isComputed && closing.ranges !== undefined) throw notAClosing('`ranges` belong to a closing that is computed from receipts')
  const totals = CLOSING_MEASURES.flatMap((measure, n) => {
    const total = closing[measure]
    return total === undefined || total === null ? [] : [[measure, inField(measure, () => sum([total as Decimal], scales[n]))] as const]
  })
  return {
    location: required(closing.location, 'location'),
    businessDate,
    document: textOf(closing.document, 'document') ?? null,
    ranges: isComputed ? readRanges(closing.ranges) : [],
    totals: Object.fromEntries(totals),
  }
}

function readRanges(value: unknown): readonly KnownRange[] {
  if (!Array.isArray(value)) throw notAClosing(`\`ranges\` is ${kindOf(value)}: a list of { series, from, through } was expected`)
  const ranges = value.map((one) => {
    const { series, from, through } = fieldsOf(one, ['series', 'from', 'through'], 'range')
    const range = { series: seriesOf(series), from: numberOf(from, 'from'), through: numberOf(through, 'through') }
    if (BigInt(range.from) > BigInt(range.through)) throw notAClosing('a range ends before it begins')
    return range
  })
  for (const [n, a] of ranges.entries())
    if (ranges.some((b, m) => m < n && a.series === b.series && BigInt(a.from) <= BigInt(b.through) && BigInt(b.from) <= BigInt(a.through)))
      throw notAClosing('two of its ranges overlap')
  return ranges
}

/**
 * A number of a receipt, from an integer column: text would sort '10' before '9', and a clock goes backwards.
 *
 * @throws ERR_CLOSING
 */
export function numberOf(value: unknown, field: string): string {
  if ((typeof value === 'number' && Number.isSafeInteger(value)) || (typeof value === 'bigint' && value <= LARGEST && value >= -LARGEST))
    return String(BigInt(value))
  throw new TillsyncError('ERR_CLOSING', `The number of a receipt is no integer: \`${field}\` is ${kindOf(value)}`, {
    hint: 'Declare an integer column of the till; receipts are told to belong to a closing by its numbers, never by text or time.',
  })
}

/** The series of a receipt, from its column; empty where it has none. @throws ERR_CLOSING */
export function seriesOf(value: unknown): string {
  return nameOf(value, 'series') ?? ''
}

/**
 * The sums of lines that the host's mapping returned; a line that is null is none.
 *
 * @throws ERR_CLOSING, ERR_VALUE
 */
export function readLines(lines: unknown, scales: Scales): SumsByDimension {
  if (!Array.isArray(lines)) throw notAClosing(`a list of lines was expected, got ${kindOf(lines)}`)
  const totals = new Totals()
  for (const value of lines) {
    if (value === null || value === undefined) continue
    const line = fieldsOf(value, LINE_FIELDS, 'line')
    totals.add(dimensionOf(line), valuesOf(line as unknown as ClosingLine, scales))
  }
  return totals.sums(scales, CLOSING_MEASURES)
}

/** In a fixed order, so that equal dimensions are equal as JSON. */
function dimensionOf(line: Readonly<Record<string, unknown>>): Dimension {
  const dimension: Record<string, string> = { item: required(line.item, 'item') }
  const rate = line.vatRate === undefined || line.vatRate === null ? undefined : inField('vatRate', () => sum([line.vatRate as Decimal]))
  const others = {
    location: nameOf(line.location, 'location'),
    vatCode: textOf(line.vatCode, 'vatCode'),
    vatRate: rate,
    customer: textOf(line.customer, 'customer'),
  }
  if (others.location === '') throw notAClosing('`location` is empty')
  for (const [name, value] of Object.entries(others)) if (value !== undefined) dimension[name] = value
  return dimension
}

/** What is left out follows from what is posted of the others, as they are rounded: net and VAT are gross to the last digit. */
function valuesOf({ quantity, returnQuantity, discountAmount, netAmount, vatAmount, grossAmount }: ClosingLine, scales: Scales): readonly Decimal[] {
  const rounded = (measure: (typeof CLOSING_MEASURES)[number], value: Decimal): string =>
    inField(measure, () => sum([value], scales[CLOSING_MEASURES.indexOf(measure)]))
  const [sold, net, vat] = [rounded('quantity', quantity), rounded('netAmount', netAmount), rounded('vatAmount', vatAmount ?? '0')]
  const cameBack = sold.startsWith('-') ? negate(sold) : '0'
  return [sold, returnQuantity ?? cameBack, discountAmount ?? '0', net, vat, grossAmount ?? sum([net, vat])]
}

function fieldsOf(value: unknown, names: readonly string[], what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || value instanceof Promise)
    throw notAClosing(`a ${what} was expected, got ${kindOf(value)}`)
  const other = Object.keys(value).find((name) => !names.includes(name))
  if (other !== undefined) throw notAClosing(`a ${what} has no field \`${other.slice(0, 50)}\`; it has ${names.join(', ')}`)
  return value as Record<string, unknown>
}

function required(value: unknown, field: string): string {
  const text = nameOf(value, field)
  if (text === undefined || text === '') throw notAClosing(`\`${field}\` is ${text === '' ? 'empty' : kindOf(value)}`)
  return text
}

function nameOf(value: unknown, field: string): string | undefined {
  const text = textOf(value, field)
  if (text === undefined || text.length <= LONGEST_NAME) return text
  throw notAClosing(`\`${field}\` has more than ${LONGEST_NAME} characters`)
}

function textOf(value: unknown, field: string): string | undefined {
  if (value === null || value === undefined) return undefined
  if (typeof value === 'string') {
    if (isPostable(value)) return value
    throw notAClosing(`\`${field}\` holds a character that is none (NUL, or half of a surrogate pair)`)
  }
  if (typeof value === 'bigint' || (typeof value === 'number' && Number.isFinite(value))) return String(value)
  throw notAClosing(`\`${field}\` is ${kindOf(value)}`)
}

/**
 * Totals of the closing that are not the sums of its lines: their names.
 */
export function unequalTotals({ totals }: KnownClosing, lines: SumsByDimension): readonly string[] {
  const all = [...lines.values()]
  return CLOSING_MEASURES.filter(
    (measure, n) => totals[measure] !== undefined && sum(all.map(({ values }) => values[n] as string)) !== totals[measure],
  )
}

/** @throws ERR_CLOSING where a total of the closing is not the sum of its lines */
export function checkTotals(closing: KnownClosing, lines: SumsByDimension): void {
  const unequal = unequalTotals(closing, lines)
  if (unequal.length === 0) return
  throw new TillsyncError('ERR_CLOSING', `The lines of the closing do not sum up to its totals: ${unequal.join(', ')}`, {
    hint: 'Correct the closing at the till, header or lines, and it is posted.',
    context: { totals: unequal },
  })
}

function notAClosing(why: string): TillsyncError {
  return new TillsyncError('ERR_CLOSING', `A function of pluClosings() returned no closing: ${why}`, {
    hint: 'A closing is { location, businessDate, document?, … }, a line { item, quantity, netAmount, vatAmount?, grossAmount?, vatCode?, vatRate?, customer?, … }.',
  })
}
