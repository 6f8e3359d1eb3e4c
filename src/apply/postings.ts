import type { ApplyingDatabase } from '../ports.ts'
import { type Insert, query, sendRows, type Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext } from './handler.ts'
import { differences, NO_SUMS, type Sums, type SumsByDimension, sumsFromJson, sumsToJson, total } from './sums.ts'
import { POSTINGS } from './tables.ts'

/** What was posted for a document. */
export interface Posted {
  readonly revision: number
  readonly sums: SumsByDimension
  /** What of it the host had booked itself. */
  readonly baseline?: Baseline | undefined
}

/** What a baseline was mapped to, and where that stands. */
interface Baseline {
  readonly epochNo: number
  readonly entryNo: number
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
  /** Where all of that is rows of a table of the library's own: those, for whoever writes others beside them. */
  insertOf?(postings: readonly Posting[], context: ApplyContext): Insert
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
  ledger: Pick<Ledger, 'name' | 'measures'>,
  register: PostedBy,
): Work<ReadonlyMap<string, Posted>> {
  const [posted] = yield* postedToEach(documents, [ledger], register)
  return posted as ReadonlyMap<string, Posted>
}

/** The register whose documents they are. */
export interface PostedBy {
  readonly database: ApplyingDatabase
  readonly origin: { readonly registerId: number }
}

/** The same for several ledgers, in their order. */
export function* postedToEach(
  documents: readonly PostedDocument[],
  ledgers: readonly Pick<Ledger, 'name' | 'measures'>[],
  { database, origin }: PostedBy,
): Work<readonly ReadonlyMap<string, Posted>[]> {
  if (documents.length === 0) return ledgers.map(() => new Map())
  const rows = yield* query<PostedRow>({
    // By the key, however many there are: a ledger that is new grows faster than it is analysed.
    sql: `SELECT p.* FROM unnest($2::text[], $3::text[], $4::bigint[]) AS d(table_name, record_id, incarnation) CROSS JOIN LATERAL (
            SELECT p.table_name, p.record_id, p.incarnation, p.ledger, p.revision, p.delivered, p.epoch_no, p.entry_no, p.postings FROM ${database.qualify(POSTINGS.name)} p
            WHERE p.register_id = $1 AND p.table_name = d.table_name AND p.record_id = d.record_id AND p.incarnation = d.incarnation AND p.ledger = ANY ($5::text[]) OFFSET 0) p
          ORDER BY p.revision`,
    parameters: [
      origin.registerId,
      documents.map((d) => d.table),
      documents.map((d) => d.recordId),
      documents.map((d) => d.incarnation),
      ledgers.map(({ name }) => name),
    ],
  })
  const byLedger = Map.groupBy(rows, ({ ledger }) => ledger)
  return ledgers.map(({ name, measures }) => {
    const groups = Map.groupBy(byLedger.get(name) ?? [], (row) =>
      nameOf({ table: row.table_name, recordId: row.record_id, incarnation: row.incarnation }),
    )
    return new Map([...groups].map(([document, revisions]) => [document, postedIn(revisions, measures)]))
  })
}

function postedIn(revisions: readonly PostedRow[], measures: readonly string[]): Posted {
  const sumsOf = (some: readonly PostedRow[]) => total(some.flatMap((row) => sumsFromJson(row.postings, measures)))
  const before = revisions.filter(({ delivered }) => !delivered)
  const [first] = before
  const baseline = first && { epochNo: first.epoch_no, entryNo: first.entry_no, sums: sumsOf(before) }
  return { revision: revisions.at(-1)?.revision ?? 0, sums: sumsOf(revisions), baseline }
}

/** What of it went into the ledger. */
export function deliveredOf(posted: Posted | undefined): SumsByDimension {
  if (posted?.baseline === undefined) return posted?.sums ?? NO_SUMS
  return total(differences(posted.sums, posted.baseline.sums))
}

interface PostedRow {
  readonly table_name: string
  readonly record_id: string
  readonly incarnation: number
  readonly ledger: string
  readonly revision: number
  readonly delivered: boolean
  readonly epoch_no: number
  readonly entry_no: number
  readonly postings: string
}

/** Collects differences and writes them: what was posted, for the next difference, and the ledger itself. */
export class Poster {
  private readonly ledger: Ledger
  private readonly context: ApplyContext
  private readonly remembered: unknown[][] = []
  private readonly postings: Posting[] = []
  /** Documents of which something is to be written. */
  readonly differing = new Set<AppliedDocument>()

  constructor(ledger: Ledger, context: ApplyContext) {
    this.ledger = ledger
    this.context = context
  }

  add(document: AppliedDocument, wanted: SumsByDimension, posted: Posted | undefined): void {
    const sums = differences(wanted, posted?.sums ?? NO_SUMS)
    if (sums.length === 0) return
    const revision = (posted?.revision ?? 0) + 1
    const { table, recordId, incarnation, entries } = document
    const entryNo = entries[0]?.entryNo ?? 0
    this.remember(document, revision, true, this.context.origin.epochNo, entryNo, sums)
    this.differing.add(document)
    for (const { name, dimension, values } of sums) this.postings.push({ table, recordId, incarnation, revision, entryNo, name, dimension, values })
  }

  /**
   * What was posted of a document, what the host had booked itself for its former state among it: that is delivered nowhere. The baseline that counts is the first one; where that is
   * mapped to something else by now, the difference is remembered.
   */
  withBaseline(document: AppliedDocument, posted: Posted | undefined, sumsOf: (baseline: AppliedDocument) => SumsByDimension): Posted | undefined {
    const { baseline } = document
    if (baseline === undefined) return posted
    const epochNo = baseline.epochNo ?? this.context.origin.epochNo
    const entryNo = baseline.entries[0]?.entryNo ?? 0
    const before = posted?.baseline
    if (posted !== undefined && (before?.epochNo !== epochNo || before.entryNo !== entryNo)) return posted
    const now = sumsOf(baseline)
    const sums = before === undefined ? [...now.values()] : differences(now, before.sums)
    if (before !== undefined && sums.length === 0) return posted
    const revision = (posted?.revision ?? 0) + 1
    this.remember(document, revision, false, epochNo, entryNo, sums)
    this.differing.add(document)
    return { revision, sums: total([...(posted?.sums.values() ?? []), ...sums]) }
  }

  private remember(
    { table, recordId, incarnation }: AppliedDocument,
    revision: number,
    delivered: boolean,
    epochNo: number,
    entryNo: number,
    sums: readonly Sums[],
  ): void {
    const postings = sumsToJson(sums, this.ledger.measures)
    const { registerId } = this.context.origin
    this.remembered.push([registerId, table, recordId, incarnation, this.ledger.name, revision, delivered, epochNo, entryNo, postings])
  }

  *write(): Work<void> {
    const { ledger, postings, context } = this
    const insert = postings.length === 0 ? undefined : ledger.insertOf?.(postings, context)
    yield* sendRows([{ table: POSTINGS, rows: this.remembered }, ...(insert ? [insert] : [])])
    if (postings.length === 0) return
    if (insert === undefined) yield* ledger.deliver(postings, context)
    this.context.onPosted?.(new Set(this.postings.map(nameOf)).size)
  }
}
