import { type Decimal, difference, sum } from '../decimal.ts'
import { asTillsyncError, TillsyncError } from '../errors.ts'
import type { AnyDocument } from '../model.ts'
import { insert, query, type Work } from '../ports.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext, Handler } from './handler.ts'
import { POSTINGS, STOCK_LEVELS, STOCK_MOVEMENTS } from './tables.ts'

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
type Dimension = Readonly<Record<string, string | number | boolean>>

/** What belongs to one dimension: wanted, posted, or the difference to be posted. Quantity and amount are decimal texts. */
interface Sums {
  readonly dimension: Dimension
  readonly quantity: string
  readonly amount: string
}

const LEDGER = STOCK_MOVEMENTS.name
const COLUMNS = ['item', 'location', 'businessDate', 'document', 'customer']
const NOTHING = { quantity: '0', amount: '0' }

/**
 * Posts stock movements by difference: what the latest version of a document should have caused, less what was posted
 * for it, per dimension. A duplicate, a re-export or a replay posts nothing, a correction the correction. Posted rows are
 * never changed. The removal of a whole document (a till that purges) posts nothing.
 *
 * @param movements a pure function of the document; it may be called again for the same one
 */
export function stockMovements<D = AnyDocument>(movements: (document: D) => readonly Movement[]): Handler<D> {
  if (typeof movements !== 'function') {
    throw new TillsyncError('ERR_OPTION', `Expected the first argument of stockMovements() to be a function, got ${typeof movements}`, {
      hint: 'stockMovements((receipt) => receipt.parts.receipt_lines.map((line) => ({ item: line.item_no, … })))',
    })
  }
  return {
    name: 'stockMovements',
    tables: [POSTINGS, STOCK_MOVEMENTS, STOCK_LEVELS],
    *check() {},
    *apply(documents, context) {
      const present = documents.filter((document) => !document.removed)
      const wantedBy = (document: AppliedDocument) => wantedOf(document, movements as (document: unknown) => readonly Movement[])
      const wanted = present.map(wantedBy)
      const posted = yield* postedOf(present, context)
      const post = new Poster(context)
      for (const [n, document] of present.entries()) {
        const before = posted.get(nameOf(document)) ?? (document.baseline && post.addBaseline(document, wantedBy(document.baseline)))
        post.add(document, wanted[n] as Wanted, before)
      }
      yield* post.write()
    },
  }
}

type Wanted = ReadonlyMap<string, Sums>

function wantedOf(document: AppliedDocument, movements: (document: unknown) => readonly Movement[]): Wanted {
  try {
    return sumUp(movements(document.value))
  } catch (error) {
    throw about(document, asTillsyncError(error, 'ERR_HANDLER', 'The function of stockMovements() threw'))
  }
}

/** Says which document it was; its record id is a name, not a value of the row. */
function about(document: AppliedDocument, error: TillsyncError): TillsyncError {
  const code = error.code === 'ERR_VALUE' ? 'ERR_MOVEMENT' : error.code
  const context = { ...error.context, table: document.table, recordId: document.recordId }
  return new TillsyncError(code, error.message, { hint: error.hint, context, cause: error.cause ?? error })
}

function sumUp(movements: unknown): Wanted {
  if (!Array.isArray(movements)) throw notAMovement(`a list of movements was expected, got ${typeof movements}`)
  const groups = new Map<string, { dimension: Dimension; quantities: Decimal[]; amounts: Decimal[] }>()
  for (const movement of movements as Movement[]) {
    const dimension = dimensionOf(movement)
    const name = JSON.stringify(dimension)
    const group = groups.get(name) ?? { dimension, quantities: [], amounts: [] }
    group.quantities.push(movement.quantity)
    group.amounts.push(movement.amount ?? '0')
    groups.set(name, group)
  }
  const sums = [...groups].map(
    ([name, { dimension, quantities, amounts }]) => [name, { dimension, quantity: sum(quantities), amount: sum(amounts) }] as const,
  )
  return new Map(sums.filter(([, { quantity, amount }]) => quantity !== '0' || amount !== '0'))
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
  const others = Object.keys(movement).filter((name) => !COLUMNS.includes(name) && name !== 'quantity' && name !== 'amount')
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
  if (date !== undefined && new Date(`${date}T00:00:00Z`).toISOString().startsWith(date)) return date
  throw notAMovement('`businessDate` is no ISO 8601 date')
}

function notAMovement(why: string): TillsyncError {
  return new TillsyncError('ERR_MOVEMENT', `The function of stockMovements() returned no movement: ${why}`, {
    hint: "A movement is { item, location, quantity, amount?, businessDate?, document?, customer?, … }, e.g. { item: '4006381333931', location: 'BA01', quantity: '-1' }.",
  })
}

function nameOf(document: { readonly table: string; readonly recordId: string; readonly incarnation: number }): string {
  return `${document.table}\n${document.recordId}\n${document.incarnation}`
}

interface Posted {
  readonly revision: number
  readonly sums: Wanted
}

/** What was posted for these documents in this life of theirs. */
function* postedOf(documents: readonly AppliedDocument[], { database, origin }: ApplyContext): Work<ReadonlyMap<string, Posted>> {
  const known = documents.filter((document) => !document.isNew)
  if (known.length === 0) return new Map()
  const rows = yield* query<{ table_name: string; record_id: string; incarnation: number; revision: number; postings: string }>({
    sql: `SELECT p.table_name, p.record_id, p.incarnation, p.revision, p.postings FROM ${database.qualify(POSTINGS.name)} p
          JOIN unnest($2::text[], $3::text[], $4::bigint[]) AS d(table_name, record_id, incarnation) USING (table_name, record_id, incarnation)
          WHERE p.register_id = $1 AND p.ledger = $5 ORDER BY p.revision`,
    parameters: [origin.registerId, known.map((d) => d.table), known.map((d) => d.recordId), known.map((d) => d.incarnation), LEDGER],
  })
  const groups = Map.groupBy(rows, (row) => nameOf({ table: row.table_name, recordId: row.record_id, incarnation: row.incarnation }))
  return new Map(
    [...groups].map(([name, revisions]) => [
      name,
      { revision: revisions.at(-1)?.revision ?? 0, sums: total(revisions.flatMap((row) => (JSON.parse(row.postings) as Flat[]).map(unflatten))) },
    ]),
  )
}

/** How a posting stands in sync_postings: its dimension, quantity and amount side by side. */
type Flat = Dimension & { readonly quantity: string; readonly amount: string }

function flatten({ dimension, quantity, amount }: Sums): Flat {
  return { ...dimension, quantity, amount }
}

function unflatten({ quantity, amount, ...dimension }: Flat): Sums {
  return { dimension: dimension as Dimension, quantity, amount }
}

function total(postings: readonly Sums[]): Wanted {
  const groups = Map.groupBy(postings, (posting) => JSON.stringify(posting.dimension))
  return new Map(
    [...groups].map(([name, all]) => [
      name,
      { dimension: (all[0] as Sums).dimension, quantity: sum(all.map((p) => p.quantity)), amount: sum(all.map((p) => p.amount)) },
    ]),
  )
}

/** Collects differences and writes them: what was posted, for the next difference, and the ledger itself. */
class Poster {
  private readonly context: ApplyContext
  private readonly postings: unknown[][] = []
  private readonly movements: unknown[][] = []

  constructor(context: ApplyContext) {
    this.context = context
  }

  add(document: AppliedDocument, wanted: Wanted, posted: Posted | undefined): void {
    const postings = differences(wanted, posted?.sums ?? new Map())
    if (postings.length === 0) return
    const { origin, at, levels } = this.context
    const revision = (posted?.revision ?? 0) + 1
    const entryNo = document.entries[0]?.entryNo
    this.remember(document, revision, true, postings)
    for (const { dimension, quantity, amount } of postings) {
      const { item, location, businessDate, document: documentNo, customer, ...others } = dimension
      const further = Object.keys(others).length === 0 ? null : JSON.stringify(others)
      const source = [origin.registerId, document.table, document.recordId, document.incarnation, revision, origin.epochNo, entryNo, at]
      this.movements.push([item, location, businessDate, documentNo, customer, further, quantity, amount, ...source])
      levels.add(item as string, location as string, quantity)
    }
  }

  /** What the host had booked itself for the document's former state counts as posted, and is delivered nowhere. */
  addBaseline(document: AppliedDocument, sums: Wanted): Posted {
    this.remember(document, 1, false, [...sums.values()])
    return { revision: 1, sums }
  }

  private remember(document: AppliedDocument, revision: number, delivered: boolean, sums: readonly Sums[]): void {
    const { origin, at } = this.context
    const { table, recordId, incarnation, entries } = document
    const cause = [origin.epochNo, entries[0]?.entryNo, at]
    this.postings.push([origin.registerId, table, recordId, incarnation, LEDGER, revision, delivered, ...cause, JSON.stringify(sums.map(flatten))])
  }

  *write(): Work<void> {
    yield* insert(POSTINGS, this.postings)
    yield* insert(STOCK_MOVEMENTS, this.movements)
  }
}

/** Wanted less posted, per dimension. */
export function differences(wanted: Wanted, posted: Wanted): readonly Sums[] {
  const postings: Sums[] = []
  for (const name of new Set([...posted.keys(), ...wanted.keys()])) {
    const now = wanted.get(name) ?? NOTHING
    const before = posted.get(name) ?? NOTHING
    const { dimension } = (wanted.get(name) ?? posted.get(name)) as Sums
    const posting = { dimension, quantity: difference(now.quantity, before.quantity), amount: difference(now.amount, before.amount) }
    if (posting.quantity !== '0' || posting.amount !== '0') postings.push(posting)
  }
  return postings
}
