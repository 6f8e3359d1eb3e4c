import type { Decimal } from '../decimal.ts'
import { TillsyncError } from '../errors.ts'
import { isPostable } from '../options.ts'
import { kindOf } from './mapping.ts'
import { type Dimension, dateOf, type Scales, type SumsByDimension, Totals } from './sums.ts'

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

/** What is summed up per dimension. */
export const MOVEMENT_MEASURES = ['quantity', 'amount'] as const

const KNOWN = new Set(['item', 'location', 'businessDate', 'document', 'customer', 'quantity', 'amount'])

/**
 * Sums of movements per dimension, those that come to nothing left out.
 *
 * @throws ERR_MOVEMENT, ERR_VALUE where a quantity or an amount is no decimal
 */
export function sumUp(movements: unknown, scales: Scales = []): SumsByDimension {
  if (!Array.isArray(movements)) throw notAMovement(`a list of movements was expected, got ${kindOf(movements)}`)
  const totals = new Totals()
  for (const movement of movements as Movement[]) totals.add(dimensionOf(movement), [movement.quantity, movement.amount ?? '0'])
  return totals.sums(scales, MOVEMENT_MEASURES)
}

/** In a fixed order, so that equal dimensions are equal as JSON. */
function dimensionOf(movement: Movement): Dimension {
  if (typeof movement !== 'object' || movement === null) throw notAMovement(`an object was expected, got ${kindOf(movement)}`)
  const dimension: Record<string, string | number | boolean> = { item: nameIn(movement, 'item'), location: nameIn(movement, 'location') }
  const { businessDate } = movement
  if (businessDate !== undefined && businessDate !== null) {
    const date = dateOf(businessDate)
    if (date === undefined) throw notAMovement('`businessDate` is no ISO 8601 date')
    dimension.businessDate = date
  }
  for (const name of ['document', 'customer']) {
    const text = textOf(movement[name], name)
    if (text !== undefined) dimension[name] = text
  }
  const others = Object.keys(movement).filter((name) => !KNOWN.has(name))
  for (const name of others.sort()) {
    const value: unknown = movement[name]
    if (value === undefined || value === null) continue
    if (!isPostable(name) || name === '__proto__') throw notAMovement('a dimension has a name that can’t be kept')
    if (typeof value === 'string' || typeof value === 'bigint') dimension[name] = textOf(value, name) as string
    else if (typeof value === 'boolean' || (typeof value === 'number' && Number.isFinite(value))) dimension[name] = value
    else throw notAMovement(`the dimension '${name}' is ${kindOf(value)}`)
  }
  return dimension
}

function nameIn(movement: Movement, field: 'item' | 'location'): string {
  const text = textOf(movement[field], field)
  if (text === undefined || text === '') throw notAMovement(`\`${field}\` is ${text === '' ? 'empty' : kindOf(movement[field])}`)
  return text
}

function textOf(value: unknown, field: string): string | undefined {
  if (value === null || value === undefined) return undefined
  if (typeof value === 'string') {
    if (isPostable(value)) return value
    throw notAMovement(`\`${field}\` holds a character that is none (NUL, or half of a surrogate pair)`)
  }
  if (typeof value === 'bigint' || (typeof value === 'number' && Number.isFinite(value))) return String(value)
  throw notAMovement(`\`${field}\` is ${kindOf(value)}`)
}

function notAMovement(why: string): TillsyncError {
  return new TillsyncError('ERR_MOVEMENT', `The function of stockMovements() returned no movement: ${why}`, {
    hint: "A movement is { item, location, quantity, amount?, businessDate?, document?, customer?, … }, e.g. { item: '4006381333931', location: 'BA01', quantity: '-1' }.",
  })
}
