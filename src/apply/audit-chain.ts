import { chainLines, documentLine } from '../digest.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { pause, query, type Work } from '../work.ts'
import { ARCHIVED, type ArchivedRow, toEntry } from './archived.ts'
import { AuditPoints } from './audit-points.ts'
import { ARCHIVE } from './tables.ts'

/** An epoch of a register's history: its own entries are those after `start`, through `end`. */
export interface EpochToWalk {
  readonly registerId: number
  readonly epochNo: number
  readonly start: { readonly entryNo: number; readonly digest: string }
  /** Where central stands in it. */
  readonly end: { readonly entryNo: number; readonly digest: string }
  /** Numbers at which later epochs go on from it, with the digest that they go on from. */
  readonly branches: readonly { readonly entryNo: number; readonly digest: string; tell(): void }[]
}

export interface Watcher {
  missing(from: number, through: number): void
  unknown(from: number, through: number): void
  /** The entries between two points do not have the digest that was stated. */
  unproved(after: number, through: number): void
  /** A record that is no JSON, of one of the tables whose records are read. */
  unreadable(entryNo: number): void
  /** Called between pages; throws where the audit is to end. */
  turn(): void
}

/** What of an epoch is there. */
export interface WalkedEpoch {
  readonly archived: number
  readonly pruned: number
}

interface PageRow extends ArchivedRow {
  readonly document_no: number
}

const NOBODYS = { name: { table: '', recordId: '' }, line: '' }
const PAGE = 1_000
/** About so many bytes of records are read for a page: records may be megabytes each. */
const PAGE_BYTES = 16_000_000

/**
 * Goes through an epoch's archived entries by number and computes their digests anew, from the point at which it begins to where central stands. What was pruned is passed
 * from the point before to the point behind it.
 *
 * @param read tables whose root records are read by their columns
 */
export function* walkEpoch(database: ApplyingDatabase, epoch: EpochToWalk, read: ReadonlySet<string>, watcher: Watcher): Work<WalkedEpoch> {
  return yield* new Walk(database, epoch, read, watcher).walk()
}

class Walk {
  private readonly database: ApplyingDatabase
  private readonly epoch: EpochToWalk
  private readonly read: ReadonlySet<string>
  private readonly watcher: Watcher
  private readonly points: AuditPoints
  /** The last entry that was met, and the digest there; undefined where it can't be computed. */
  private at: number
  private digest: string | undefined
  /** The last point at which the digest was known. */
  private since: number
  private document = { no: 0, ...NOBODYS }
  private archived = 0
  private pruned = 0

  constructor(database: ApplyingDatabase, epoch: EpochToWalk, read: ReadonlySet<string>, watcher: Watcher) {
    this.database = database
    this.epoch = epoch
    this.read = read
    this.watcher = watcher
    this.points = new AuditPoints(database, epoch.registerId, epoch.epochNo, epoch.start.entryNo)
    this.at = this.since = epoch.start.entryNo
    this.digest = epoch.start.digest
  }

  *walk(): Work<WalkedEpoch> {
    const { start, end } = this.epoch
    this.branch()
    for (let cursor = 0; ; ) {
      const rows = yield* this.page(cursor)
      if (rows.length === 0) break
      for (const row of rows) {
        cursor = row.entry_no
        this.archived++
        if (cursor <= start.entryNo || cursor > end.entryNo) this.watcher.unknown(cursor, cursor)
        else {
          if (cursor !== this.at + 1) yield* this.pass(cursor - 1)
          this.meet(row)
          if ((yield* this.points.next())?.entryNo === cursor) this.compare(yield* this.points.take())
          this.branch()
        }
      }
      this.watcher.turn()
      yield* pause()
    }
    if (this.at < end.entryNo) yield* this.pass(end.entryNo)
    if (this.digest !== undefined && this.digest !== end.digest) this.watcher.unproved(this.since, end.entryNo)
    return { archived: this.archived, pruned: this.pruned }
  }

  /** The next entry. */
  private meet(row: PageRow): void {
    const { entry_no, document_no } = row
    this.at = entry_no
    if (document_no === entry_no) {
      const name = { table: row.table_name, recordId: row.record_id }
      this.document = { no: entry_no, name, line: documentLine(name) }
    } else if (document_no !== this.document.no) this.document = { no: document_no, ...NOBODYS } // changed by hand: no digest is right that comes of it
    if (this.digest !== undefined) this.digest = chainLines(this.digest, toEntry(row, this.document.name), this.document.line)
    if (row.record !== null && this.read.has(row.table_name) && !isJson(row.record)) this.watcher.unreadable(entry_no)
  }

  /** What the register has stated at this entry, against what was computed. From here on what it has stated counts. */
  private compare({ entryNo, digest }: { readonly entryNo: number; readonly digest: string }): void {
    if (this.digest !== undefined && this.digest !== digest) this.watcher.unproved(this.since, entryNo)
    this.digest = digest
    this.since = entryNo
  }

  private branch(): void {
    for (const { entryNo, digest, tell } of this.epoch.branches)
      if (entryNo === this.at && this.digest !== undefined && this.digest !== digest) tell()
  }

  /** Numbers of which no entry is there, up to this one: pruned where a point says so, otherwise missing. */
  private *pass(through: number): Work<void> {
    while (this.at < through) {
      const point = yield* this.points.next()
      if (point === undefined || point.entryNo > through) {
        this.watcher.missing(this.at + 1, through)
        this.at = through
        this.digest = undefined
        return
      }
      yield* this.points.take()
      const { entryNo, digest, prunedAfter } = point
      const missing = prunedAfter !== null && prunedAfter >= this.at ? prunedAfter : entryNo
      if (missing > this.at) this.watcher.missing(this.at + 1, missing)
      this.pruned += entryNo - missing
      Object.assign(this, { at: entryNo, digest, since: entryNo })
      this.branch()
    }
  }

  private page(after: number): Work<readonly PageRow[]> {
    const { registerId, epochNo } = this.epoch
    return query<PageRow>({
      sql: `SELECT ${ARCHIVED}, document_no FROM (
              SELECT f.*, sum(coalesce(octet_length(record), 0)) OVER (ORDER BY entry_no ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM (
                SELECT entry_no, table_name, operation, record_id, record, sealed_at, document_no FROM ${this.database.qualify(ARCHIVE.name)}
                WHERE register_id = $1 AND epoch_no = $2 AND entry_no > $3 ORDER BY entry_no LIMIT ${PAGE}) f) p
            WHERE coalesce(before, 0) < ${PAGE_BYTES} ORDER BY entry_no`,
      parameters: [registerId, epochNo, after],
    })
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}
