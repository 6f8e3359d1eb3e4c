import { type ApplyingDatabase, insert, query, type Work } from '../ports.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext } from './handler.ts'
import { differences, NO_SUMS, type Sums, type SumsByDimension, sumsFromJson, sumsToJson, total } from './sums.ts'
import { POSTINGS } from './tables.ts'

/** What was posted for a document. */
export interface Posted {
  readonly revision: number
  readonly sums: SumsByDimension
}

/** One life of a document of a register. */
export interface PostedDocument {
  readonly table: string
  readonly recordId: string
  readonly incarnation: number
}

/** Where differences are delivered to, and by what name they are remembered. */
export interface Ledger {
  readonly name: string
  /** What is summed up per dimension. */
  readonly measures: readonly string[]
  /** Writes what is to be posted, each of them once. */
  deliver(postings: readonly Posting[], context: ApplyContext): Work<void>
}

/** A difference on its way into a ledger, with what caused it. */
export interface Posting extends PostedDocument, Sums {
  /** How often something was posted for the document, this time included. */
  readonly revision: number
  /** The first entry of the version that caused it. */
  readonly entryNo: number
}

/** By what a document is known in one life of its key. */
export function nameOf({ table, recordId, incarnation }: PostedDocument): string {
  return `${table}\n${recordId}\n${incarnation}`
}

/** What was posted to a ledger for these documents, by `nameOf`; one for which nothing was is not there. */
export function* postedOf(
  documents: readonly PostedDocument[],
  { name, measures }: Pick<Ledger, 'name' | 'measures'>,
  { database, origin }: { readonly database: ApplyingDatabase; readonly origin: { readonly registerId: number } },
): Work<ReadonlyMap<string, Posted>> {
  if (documents.length === 0) return new Map()
  const rows = yield* query<{ table_name: string; record_id: string; incarnation: number; revision: number; postings: string }>({
    sql: `SELECT p.table_name, p.record_id, p.incarnation, p.revision, p.postings FROM ${database.qualify(POSTINGS.name)} p
          JOIN unnest($2::text[], $3::text[], $4::bigint[]) AS d(table_name, record_id, incarnation) USING (table_name, record_id, incarnation)
          WHERE p.register_id = $1 AND p.ledger = $5 ORDER BY p.revision`,
    parameters: [origin.registerId, documents.map((d) => d.table), documents.map((d) => d.recordId), documents.map((d) => d.incarnation), name],
  })
  const groups = Map.groupBy(rows, (row) => nameOf({ table: row.table_name, recordId: row.record_id, incarnation: row.incarnation }))
  const posted = new Map<string, Posted>()
  for (const [document, revisions] of groups) {
    const sums = total(revisions.flatMap((row) => sumsFromJson(row.postings, measures)))
    posted.set(document, { revision: revisions.at(-1)?.revision ?? 0, sums })
  }
  return posted
}

/** Collects differences and writes them: what was posted, for the next difference, and the ledger itself. */
export class Poster {
  private readonly ledger: Ledger
  private readonly context: ApplyContext
  private readonly remembered: unknown[][] = []
  private readonly postings: Posting[] = []

  constructor(ledger: Ledger, context: ApplyContext) {
    this.ledger = ledger
    this.context = context
  }

  add(document: AppliedDocument, wanted: SumsByDimension, posted: Posted | undefined): void {
    const sums = differences(wanted, posted?.sums ?? NO_SUMS)
    if (sums.length === 0) return
    const revision = (posted?.revision ?? 0) + 1
    this.remember(document, revision, true, sums)
    const { table, recordId, incarnation, entries } = document
    const entryNo = entries[0]?.entryNo ?? 0
    for (const { name, dimension, values } of sums) this.postings.push({ table, recordId, incarnation, revision, entryNo, name, dimension, values })
  }

  /** What the host had booked itself for the document's former state counts as posted, and is delivered nowhere. */
  addBaseline(document: AppliedDocument, sums: SumsByDimension): Posted {
    this.remember(document, 1, false, [...sums.values()])
    return { revision: 1, sums }
  }

  private remember(document: AppliedDocument, revision: number, delivered: boolean, sums: readonly Sums[]): void {
    const { registerId, epochNo } = this.context.origin
    const { table, recordId, incarnation, entries } = document
    const postings = sumsToJson(sums, this.ledger.measures)
    this.remembered.push([registerId, table, recordId, incarnation, this.ledger.name, revision, delivered, epochNo, entries[0]?.entryNo, postings])
  }

  *write(): Work<void> {
    yield* insert(POSTINGS, this.remembered)
    if (this.postings.length > 0) yield* this.ledger.deliver(this.postings, this.context)
  }
}
