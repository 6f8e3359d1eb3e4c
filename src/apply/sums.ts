import { type Decimal, difference, sum } from '../decimal.ts'
import { TillsyncError } from '../errors.ts'
import { isRecord } from '../options.ts'

/** By what is posted is kept apart: what the host's mapping names but the measures; what is null is left out. */
export type Dimension = Readonly<Record<string, string | number | boolean>>

/** What belongs to one dimension: wanted, posted, or the difference to be posted. */
export interface Sums {
  /** The dimension as JSON, by which equal ones are known. */
  readonly name: string
  readonly dimension: Dimension
  /** Decimal texts, one for each measure of the ledger, in its order. */
  readonly values: readonly string[]
}

/** By the dimension's name. */
export type SumsByDimension = ReadonlyMap<string, Sums>

export const NO_SUMS: SumsByDimension = new Map()

/** Digits behind the point to which each measure is rounded; undefined where it is not. In the measures' order. */
export type Scales = readonly (number | undefined)[]

/** Adds up values per dimension. */
export class Totals {
  private readonly groups = new Map<string, { readonly dimension: Dimension; readonly values: Decimal[][] }>()

  add(dimension: Dimension, values: readonly Decimal[]): void {
    const name = JSON.stringify(dimension)
    const group = this.groups.get(name)
    if (group === undefined) this.groups.set(name, { dimension, values: values.map((value) => [value]) })
    else for (const [n, value] of values.entries()) group.values[n]?.push(value)
  }

  /**
   * The sums, those that come to nothing left out. `measures` are the names of the values.
   *
   * @throws ERR_VALUE where a value is no decimal, or a sum does not fit
   */
  sums(scales: Scales, measures: readonly string[]): SumsByDimension {
    const sums = new Map<string, Sums>()
    for (const [name, { dimension, values }] of this.groups) {
      const totals = values.map((all, n) => inField(measures[n] as string, () => sum(all, scales[n])))
      if (totals.some(isSomething)) sums.set(name, { name, dimension, values: totals })
    }
    return sums
  }
}

/** What is wrong with a value, under the name by which the host's mapping gave it. */
export function inField<T>(field: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (!(error instanceof TillsyncError && error.code === 'ERR_VALUE')) throw error
    throw new TillsyncError(error.code, `\`${field}\`: ${error.message}`, { hint: error.hint, context: { ...error.context, field }, cause: error })
  }
}

/** Wanted less posted, per dimension; what comes to nothing is left out. */
export function differences(wanted: SumsByDimension, posted: SumsByDimension): readonly Sums[] {
  const postings = [...wanted.values()].filter(({ name }) => !posted.has(name))
  for (const [name, before] of posted) {
    const now = wanted.get(name)
    const values = before.values.map((value, n) => difference(now?.values[n] ?? '0', value))
    if (values.some(isSomething)) postings.push({ ...before, values })
  }
  return postings
}

/** The sums of what was posted in several revisions. */
export function total(postings: Iterable<Sums>): SumsByDimension {
  const sums = new Map<string, Sums>()
  for (const [name, all] of Map.groupBy(postings, (posting) => posting.name)) {
    const [first] = all as [Sums, ...Sums[]]
    sums.set(name, all.length === 1 ? first : { ...first, values: first.values.map((_, n) => sum(all.map((one) => one.values[n] as string))) })
  }
  return sums
}

function isSomething(value: string): boolean {
  return value !== '0'
}

/** As they are stored: a JSON array of objects with the dimension and the measures side by side. */
export function sumsToJson(sums: Iterable<Sums>, measures: readonly string[]): string {
  const texts: string[] = []
  for (const { name, values } of sums) {
    const own = measures.map((measure, n) => `"${measure}":"${values[n]}"`).join(',')
    texts.push(name === '{}' ? `{${own}}` : `${name.slice(0, -1)},${own}}`)
  }
  return `[${texts.join(',')}]`
}

export function sumsFromJson(json: string, measures: readonly string[]): readonly Sums[] {
  return (JSON.parse(json) as Record<string, string>[]).map((flat) => {
    const values = measures.map((measure) => flat[measure] ?? '0')
    // Deleting the measures would leave an object that is slow to read.
    const dimension: Record<string, string> = {}
    for (const name of Object.keys(flat)) if (!measures.includes(name)) dimension[name] = flat[name] as string
    return { name: JSON.stringify(dimension), dimension, values }
  })
}

let lastDate = ''

/** The date of ISO 8601 text, with or without a time; undefined where it is none. Most of a batch are of the same day. */
export function dateOf(value: unknown): string | undefined {
  const date = typeof value === 'string' ? /^(\d{4}-\d{2}-\d{2})(?:[T ].*)?$/.exec(value)?.[1] : undefined
  if (date === undefined || !(date === lastDate || isDate(date))) return undefined
  lastDate = date
  return date
}

function isDate(text: string): boolean {
  const date = new Date(`${text}T00:00:00Z`)
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text) && !text.startsWith('0000')
}

/** To how many digits behind the point: for all measures, or by name. */
export type Scale<Measure extends string> = number | { readonly [M in Measure]?: number }

/** @throws ERR_OPTION */
export function readScale(option: string, scale: unknown, measures: readonly string[]): Scales {
  if (scale === undefined) return []
  if (!isRecord(scale)) return measures.map(() => places(option, scale))
  const other = Object.keys(scale).find((name) => !measures.includes(name))
  if (other !== undefined)
    throw new TillsyncError('ERR_OPTION', `\`${option}.${other}\` is not an option`, { hint: `Known here: ${measures.join(', ')}.` })
  return measures.map((measure) => {
    const own = scale[measure]
    return own === undefined ? undefined : places(`${option}.${measure}`, own)
  })
}

function places(option: string, value: unknown): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 6) return value
  throw new TillsyncError(
    'ERR_OPTION',
    `Expected \`${option}\` to be a whole number from 0 to 6, got ${typeof value === 'number' ? value : typeof value}`,
    {
      hint: 'Digits behind the point, e.g. scale: { quantity: 3, amount: 2 }.',
    },
  )
}
