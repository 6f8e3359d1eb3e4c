import { type Decimal, sum } from '../decimal.ts'
import { TillsyncError } from '../errors.ts'

/** A movement that a document should have caused. What is not a quantity or an amount is its dimension. */
export interface Movement {
  readonly item: string
  readonly location: string
  /** Signed: what leaves the location is negative. Exact to six places. */
  readonly quantity: Decimal
  /** Default 0. Exact to six places. */
  readonly amount?: Decimal
  /** ISO 8601, `2026-11-21`; of a text with a time the date counts. */
  readonly businessDate?: string | null
  readonly document?: string | null
  readonly customer?: string | null
  /** Further dimensions, by which movements are kept apart. */
  readonly [dimension: string]: string | number | bigint | boolean | null | undefined
}

/** By what movements are kept apart: their fields but quantity and amount; one that is null is left out. */
export type Dimension = Readonly<Record<string, string | number | boolean>>

/** What belongs to one dimension: wanted, posted, or the difference to be posted. Quantity and amount are decimal texts. */
export interface Sums {
  /** The dimension as JSON, by which equal ones are known. */
  readonly name: string
  readonly dimension: Dimension
  readonly quantity: string
  readonly amount: string
}

/** By the dimension's name. */
export type SumsByDimension = ReadonlyMap<string, Sums>

const KNOWN = new Set(['item', 'location', 'businessDate', 'document', 'customer', 'quantity', 'amount'])

/**
 * Sums of movements per dimension, those that come to nothing left out.
 *
 * @throws ERR_MOVEMENT, ERR_VALUE where a quantity or an amount is no decimal
 */
export function sumUp(movements: unknown): SumsByDimension {
  if (!Array.isArray(movements)) throw notAMovement(`a list of movements was expected, got ${typeof movements}`)
  const groups = new Map<string, { readonly dimension: Dimension; readonly quantities: Decimal[]; readonly amounts: Decimal[] }>()
  for (const movement of movements as Movement[]) {
    const dimension = dimensionOf(movement)
    const name = JSON.stringify(dimension)
    const group = groups.get(name)
    if (group === undefined) groups.set(name, { dimension, quantities: [movement.quantity], amounts: [movement.amount ?? '0'] })
    else {
      group.quantities.push(movement.quantity)
      group.amounts.push(movement.amount ?? '0')
    }
  }
  const sums = new Map<string, Sums>()
  for (const [name, { dimension, quantities, amounts }] of groups) {
    const quantity = sum(quantities)
    const amount = sum(amounts)
    if (quantity !== '0' || amount !== '0') sums.set(name, { name, dimension, quantity, amount })
  }
  return sums
}

/** In a fixed order, so that equal dimensions are equal as JSON. */
function dimensionOf(movement: Movement): Dimension {
  if (typeof movement !== 'object' || movement === null) throw notAMovement(`an object was expected, got ${typeof movement}`)
  const dimension: Record<string, string | number | boolean> = { item: nameIn(movement, 'item'), location: nameIn(movement, 'location') }
  const businessDate = dateOf(movement.businessDate)
  if (businessDate !== undefined) dimension.businessDate = businessDate
  for (const name of ['document', 'customer']) {
    const text = textOf(movement[name], name)
    if (text !== undefined) dimension[name] = text
  }
  const others = Object.keys(movement).filter((name) => !KNOWN.has(name))
  for (const name of others.sort()) {
    const value: unknown = movement[name]
    if (value === undefined || value === null) continue
    if (typeof value === 'bigint') dimension[name] = value.toString()
    else if (typeof value === 'string' || typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))) dimension[name] = value
    else throw notAMovement(`the dimension '${name}' is ${typeof value}`)
  }
  return dimension
}

function nameIn(movement: Movement, field: 'item' | 'location'): string {
  const value: unknown = movement[field]
  if (typeof value === 'string' && value !== '') return value
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  throw notAMovement(`\`${field}\` is ${value === '' ? 'empty' : value === null ? 'null' : typeof value}`)
}

function textOf(value: unknown, field: string): string | undefined {
  if (value === null || value === undefined) return undefined
  if (typeof value === 'string') return value
  if (typeof value === 'number' || typeof value === 'bigint') return String(value)
  throw notAMovement(`\`${field}\` is ${typeof value}`)
}

function dateOf(value: unknown): string | undefined {
  if (value === null || value === undefined) return undefined
  const date = typeof value === 'string' ? /^(\d{4}-\d{2}-\d{2})(?:[T ].*)?$/.exec(value)?.[1] : undefined
  if (date === undefined || !(date === lastDate || isDate(date))) throw notAMovement('`businessDate` is no ISO 8601 date')
  lastDate = date
  return date
}

/** The last date that was found to be one: most movements of a batch are of the same day. */
let lastDate = ''

function isDate(text: string): boolean {
  const date = new Date(`${text}T00:00:00Z`)
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text)
}

function notAMovement(why: string): TillsyncError {
  return new TillsyncError('ERR_MOVEMENT', `The function of stockMovements() returned no movement: ${why}`, {
    hint: "A movement is { item, location, quantity, amount?, businessDate?, document?, customer?, … }, e.g. { item: '4006381333931', location: 'BA01', quantity: '-1' }.",
  })
}
