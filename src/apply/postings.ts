import { difference, sum } from '../decimal.ts'
import { insert, query, type Work } from '../ports.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext } from './handler.ts'
import type { Dimension, Sums, SumsByDimension } from './movements.ts'
import { POSTINGS, STOCK_MOVEMENTS } from './tables.ts'

/** What was posted for a document. */
export interface Posted {
  readonly revision: number
  readonly sums: SumsByDimension
}

const LEDGER = STOCK_MOVEMENTS.name
const NOTHING = { quantity: '0', amount: '0' }

/** By what a document is known in one life of its key. */
export function nameOf(document: { readonly table: string; readonly recordId: string; readonly incarnation: number }): string {
  return `${document.table}\n${document.recordId}\n${document.incarnation}`
}

/** What was posted for these documents, by `nameOf`; one for which nothing was is not there. */
export function* postedOf(documents: readonly AppliedDocument[], { database, origin }: ApplyContext): Work<ReadonlyMap<string, Posted>> {
  const known = documents.filter((document) => !document.isNew)
  if (known.length === 0) return new Map()
  const rows = yield* query<{ table_name: string; record_id: string; incarnation: number; revision: number; postings: string }>({
    sql: `SELECT p.table_name, p.record_id, p.incarnation, p.revision, p.postings FROM ${database.qualify(POSTINGS.name)} p
          JOIN unnest($2::text[], $3::text[], $4::bigint[]) AS d(table_name, record_id, incarnation) USING (table_name, record_id, incarnation)
          WHERE p.register_id = $1 AND p.ledger = $5 ORDER BY p.revision`,
    parameters: [origin.registerId, known.map((d) => d.table), known.map((d) => d.recordId), known.map((d) => d.incarnation), LEDGER],
  })
  const groups = Map.groupBy(rows, (row) => nameOf({ table: row.table_name, recordId: row.record_id, incarnation: row.incarnation }))
  const posted = new Map<string, Posted>()
  for (const [name, revisions] of groups) {
    const sums = total(revisions.flatMap((row) => (JSON.parse(row.postings) as Flat[]).map(fromFlat)))
    posted.set(name, { revision: revisions.at(-1)?.revision ?? 0, sums })
  }
  return posted
}

/** How a posting stands in sync_postings: its dimension, quantity and amount side by side. */
type Flat = Dimension & { readonly quantity: string; readonly amount: string }

function fromFlat({ quantity, amount, ...dimension }: Flat): Sums {
  return { name: JSON.stringify(dimension), dimension: dimension as Dimension, quantity, amount }
}

function toJson({ name, quantity, amount }: Sums): string {
  return `${name.slice(0, -1)},"quantity":"${quantity}","amount":"${amount}"}`
}

function total(postings: readonly Sums[]): SumsByDimension {
  const sums = new Map<string, Sums>()
  for (const [name, all] of Map.groupBy(postings, (posting) => posting.name)) {
    sums.set(name, { ...(all[0] as Sums), quantity: sum(all.map((one) => one.quantity)), amount: sum(all.map((one) => one.amount)) })
  }
  return sums
}

/** Wanted less posted, per dimension; what comes to nothing is left out. */
export function differences(wanted: SumsByDimension, posted: SumsByDimension): readonly Sums[] {
  const postings = [...wanted.values()].filter(({ name }) => !posted.has(name))
  for (const [name, before] of posted) {
    const now = wanted.get(name) ?? NOTHING
    const posting = { ...before, quantity: difference(now.quantity, before.quantity), amount: difference(now.amount, before.amount) }
    if (posting.quantity !== '0' || posting.amount !== '0') postings.push(posting)
  }
  return postings
}

/** Collects differences and writes them: what was posted, for the next difference, and the ledger itself. */
export class Poster {
  private readonly context: ApplyContext
  private readonly postings: unknown[][] = []
  private readonly movements: unknown[][] = []

  constructor(context: ApplyContext) {
    this.context = context
  }

  add(document: AppliedDocument, wanted: SumsByDimension, posted: Posted | undefined): void {
    const postings = differences(wanted, posted?.sums ?? new Map())
    if (postings.length === 0) return
    const { origin, levels } = this.context
    const revision = (posted?.revision ?? 0) + 1
    this.remember(document, revision, true, postings)
    const source = [
      origin.registerId,
      document.table,
      document.recordId,
      document.incarnation,
      revision,
      origin.epochNo,
      document.entries[0]?.entryNo,
    ]
    for (const { dimension, quantity, amount } of postings) {
      const { item, location, businessDate, document: documentNo, customer, ...others } = dimension
      const further = Object.keys(others).length === 0 ? null : JSON.stringify(others)
      this.movements.push([item, location, businessDate ?? null, documentNo ?? null, customer ?? null, further, quantity, amount, ...source])
      levels.add(item as string, location as string, quantity)
    }
  }

  /** What the host had booked itself for the document's former state counts as posted, and is delivered nowhere. */
  addBaseline(document: AppliedDocument, sums: SumsByDimension): Posted {
    this.remember(document, 1, false, [...sums.values()])
    return { revision: 1, sums }
  }

  private remember(document: AppliedDocument, revision: number, delivered: boolean, sums: readonly Sums[]): void {
    const { registerId, epochNo } = this.context.origin
    const { table, recordId, incarnation, entries } = document
    const postings = `[${sums.map(toJson).join(',')}]`
    this.postings.push([registerId, table, recordId, incarnation, LEDGER, revision, delivered, epochNo, entries[0]?.entryNo, postings])
  }

  *write(): Work<void> {
    yield* insert(POSTINGS, this.postings)
    yield* insert(STOCK_MOVEMENTS, this.movements)
  }
}
