import { grandTotal } from '../decimal.ts'
import { type Dimension, type Sums, type SumsByDimension, sumsFromJson } from './sums.ts'

/** Sums of any size by dimension, added up as they come: what many documents come to. */
export class Balance {
  private readonly sums = new Map<string, { readonly dimension: Dimension; values: string[] }>()

  addAll(all: Iterable<Addends[number]>): void {
    for (const { dimension, values } of all) this.add(dimension, values)
  }

  subtractAll(all: Iterable<Addends[number]>): void {
    for (const { dimension, values } of all) this.add(dimension, values.map(opposite))
  }

  add(dimension: Dimension, values: readonly string[]): void {
    const name = JSON.stringify(dimension)
    const known = this.sums.get(name)
    if (known === undefined) this.sums.set(name, { dimension, values: values.map((value) => added(value)) })
    else known.values = known.values.map((value, n) => added(value, values[n] as string))
  }

  get byDimension(): SumsByDimension {
    return new Map([...this.sums].map(([name, { dimension, values }]) => [name, { name, dimension, values }]))
  }
}

/** A `numeric` that somebody has changed may be no number. */
function added(...values: readonly string[]): string {
  return values.includes('NaN') ? 'NaN' : grandTotal(values)
}

/** What was kept of sums, as far as it can be read: where somebody has changed it into anything else it is nothing. */
export function keptSums(json: string, measures: readonly string[]): readonly Sums[] {
  try {
    const sums = sumsFromJson(json, measures)
    for (const { values } of sums) grandTotal(values)
    return sums
  } catch {
    return []
  }
}

function opposite(value: string): string {
  if (value === '0' || value === 'NaN') return value
  return value.startsWith('-') ? value.slice(1) : `-${value}`
}

/** A dimension in which two sides have different sums. */
export interface Unequal {
  readonly dimension: Dimension
  readonly wanted: readonly string[]
  readonly found: readonly string[]
}

/** Where two sides differ, in the dimensions that count, in their order. What is not there is nothing. */
export function unequal(wanted: SumsByDimension, found: SumsByDimension, counts: (dimension: Dimension) => boolean = () => true): readonly Unequal[] {
  const all = new Map([...wanted, ...found])
  const inOrder = [...all.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1))
  return inOrder.flatMap(({ name, dimension, values }) => {
    if (!counts(dimension)) return []
    const nothing = values.map(() => '0')
    const [a, b] = [wanted.get(name)?.values ?? nothing, found.get(name)?.values ?? nothing]
    return a.every((value, n) => value === b[n]) ? [] : [{ dimension, wanted: a, found: b }]
  })
}

/** Whether anything of it counts. */
export function touches(sums: SumsByDimension, counts: (dimension: Dimension) => boolean): boolean {
  return [...sums.values()].some(({ dimension }) => counts(dimension))
}

/** What of it counts. */
export function only(sums: SumsByDimension, counts: (dimension: Dimension) => boolean): readonly Sums[] {
  return [...sums.values()].filter(({ dimension }) => counts(dimension))
}

/** A dimension with these names only, in their order; what it lacks is left out. */
export function reduced(dimension: Dimension, names: readonly string[]): Dimension {
  return Object.fromEntries(names.flatMap((name) => (dimension[name] === undefined ? [] : [[name, dimension[name]]])))
}

/** Sums by dimension, to be added up. */
export type Addends = readonly { readonly dimension: Dimension; readonly values: readonly string[] }[]

/** Sums by what a day's closings are added up by. */
export function byItem(sums: Addends): Addends {
  return sums.map(({ dimension, values }) => ({ dimension: reduced(dimension, ['location', 'item', 'vatCode', 'vatRate', 'customer']), values }))
}

/** Sums by what a day's movements are added up by. */
export function byLedger(ledger: string, sums: Addends): Addends {
  return sums.map(({ dimension, values }) => ({ dimension: { ledger, ...reduced(dimension, ['location', 'item', 'customer']) }, values }))
}

/** What lines of closings move, as `movementsOf` says: what was sold leaves the warehouse. */
export function goodsOf(sums: SumsByDimension): SumsByDimension {
  const balance = new Balance()
  for (const { dimension, values } of sums.values()) {
    const { vatCode: _code, vatRate: _rate, item, location, ...header } = dimension
    const [quantity, , , net] = values as [string, string, string, string]
    balance.add({ item, location, ...header } as Dimension, [opposite(quantity), net])
  }
  return balance.byDimension
}
