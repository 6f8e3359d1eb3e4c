import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { POINTS } from './tables.ts'

/** A point as it was written down: what the register has stated, or where something was pruned. */
export interface AuditPoint {
  readonly entryNo: number
  readonly digest: string
  readonly prunedAfter: number | null
}

const PAGE = 1_000

/** The points of an epoch, by number, page by page. */
export class AuditPoints {
  private readonly database: ApplyingDatabase
  private readonly registerId: number
  private readonly epochNo: number
  private after: number
  private page: readonly AuditPoint[] = []
  private n = 0
  private isEnd = false

  constructor(database: ApplyingDatabase, registerId: number, epochNo: number, after: number) {
    this.database = database
    this.registerId = registerId
    this.epochNo = epochNo
    this.after = after
  }

  /** The next one, which stays the next. */
  *next(): Work<AuditPoint | undefined> {
    if (this.n === this.page.length && !this.isEnd) yield* this.read()
    return this.page[this.n]
  }

  *take(): Work<AuditPoint> {
    const point = (yield* this.next()) as AuditPoint
    this.n++
    return point
  }

  private *read(): Work<void> {
    const rows = yield* query<{ entry_no: number; digest: Uint8Array; pruned_after: number | null }>({
      sql: `SELECT entry_no, digest, pruned_after FROM ${this.database.qualify(POINTS.name)}
            WHERE register_id = $1 AND epoch_no = $2 AND entry_no > $3 ORDER BY entry_no LIMIT ${PAGE}`,
      parameters: [this.registerId, this.epochNo, this.after],
    })
    this.page = rows.map(({ entry_no, digest, pruned_after }) => {
      return { entryNo: entry_no, digest: Buffer.from(digest).toString('hex'), prunedAfter: pruned_after }
    })
    this.n = 0
    this.after = rows.at(-1)?.entry_no ?? this.after
    this.isEnd = rows.length < PAGE
  }
}
