import type { RegisterName } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import type { Work } from '../work.ts'
import { POSTED_CLOSINGS } from './closing-tables.ts'
import { CLOSING_MEASURES } from './closings.ts'
import { MOVEMENT_MEASURES } from './movements.ts'
import { type CandidateRow, type PostingRow, postingsOf } from './reconcile-candidates.ts'
import { Balance, keptSums } from './reconcile-sums.ts'
import { type DocumentLife, type Standing, standingOf } from './reconcile-versions.ts'
import { type Dimension, NO_SUMS, type SumsByDimension } from './sums.ts'

/** What was posted for a document to one ledger. */
export interface Remembered {
  /** What the host had posted itself among it. */
  readonly all: SumsByDimension
  readonly delivered: SumsByDimension
  /** How often something was delivered. */
  readonly revisions: readonly number[]
}

const NOTHING: Remembered = { all: NO_SUMS, delivered: NO_SUMS, revisions: [] }

/** A document with what stands of it and what was posted. */
export class ReconciledDocument {
  readonly life: DocumentLife
  readonly origin: RegisterName
  readonly standing: Standing
  /** What `stock_movements` has of it. */
  readonly moved: SumsByDimension
  private readonly postings: ReadonlyMap<string, Remembered>

  constructor(
    life: DocumentLife,
    origin: RegisterName,
    standing: Standing,
    { moved, postings }: { readonly moved: SumsByDimension; readonly postings: ReadonlyMap<string, Remembered> },
  ) {
    this.life = life
    this.origin = origin
    this.standing = standing
    this.moved = moved
    this.postings = postings
  }

  postedTo(ledger: string): Remembered {
    return this.postings.get(ledger) ?? NOTHING
  }

  get ledgers(): readonly string[] {
    return [...this.postings.keys()]
  }

  /** Whether nobody can say what it should have posted: its version is not in the archive, or something was posted of a document that is not known any more. */
  isUnknown(ledger: string): boolean {
    return this.standing.state === 'missing' || (!this.standing.isKnown && this.postings.has(ledger))
  }

  /** Whether what it wants counts: it was not withdrawn, and not removed where removals are applied. */
  counts(removals: 'ignore' | 'apply' | undefined): boolean {
    return this.standing.document !== undefined && !(removals === 'apply' && this.standing.isRemoved)
  }
}

/** Reads what there is of a page of documents. */
export function* readPage(
  database: ApplyingDatabase,
  rows: readonly CandidateRow[],
  registers: ReadonlyMap<number, RegisterName>,
): Work<readonly ReconciledDocument[]> {
  const lives = rows.map((row): DocumentLife => {
    return { registerId: row.register_id, table: row.table_name, recordId: row.record_id, incarnation: row.incarnation }
  })
  const standing = yield* standingOf(database, lives)
  const posted = Map.groupBy(yield* postingsOf(database, rows), ({ n }) => n)
  return rows.map((row, n) => {
    const postings = new Map(
      [...Map.groupBy(posted.get(n + 1) ?? [], ({ ledger }) => ledger)].map(([ledger, all]) => [ledger, rememberedOf(ledger, all)]),
    )
    const moved = movedBy(row.movements)
    return new ReconciledDocument(lives[n] as DocumentLife, registers.get(row.register_id) as RegisterName, standing[n] as Standing, {
      moved,
      postings,
    })
  })
}

export function measuresOf(ledger: string): readonly string[] {
  return ledger === POSTED_CLOSINGS.name ? CLOSING_MEASURES : MOVEMENT_MEASURES
}

function rememberedOf(ledger: string, rows: readonly PostingRow[]): Remembered {
  const measures = measuresOf(ledger)
  const sumsOf = (some: readonly PostingRow[]): SumsByDimension => {
    const balance = new Balance()
    for (const { postings } of some) balance.addAll(keptSums(postings, measures))
    return balance.byDimension
  }
  const delivered = rows.filter((row) => row.delivered)
  return { all: sumsOf(rows), delivered: sumsOf(delivered), revisions: delivered.map(({ revision }) => revision) }
}

type MovementRow = readonly [
  item: string,
  location: string,
  businessDate: string | null,
  document: string | null,
  customer: string | null,
  dimensions: string | null,
  quantity: string,
  amount: string,
]

/** Rows of `stock_movements` by the dimensions that they were posted with. */
function movedBy(json: string | null): SumsByDimension {
  if (json === null) return NO_SUMS
  const balance = new Balance()
  for (const [item, location, businessDate, document, customer, dimensions, quantity, amount] of JSON.parse(json) as MovementRow[]) {
    const dimension: Dimension = {
      item,
      location,
      ...(businessDate !== null && { businessDate }),
      ...(document !== null && { document }),
      ...(customer !== null && { customer }),
      ...(dimensions === null ? {} : (JSON.parse(dimensions) as Dimension)),
    }
    balance.add(dimension, [quantity, amount])
  }
  return balance.byDimension
}
