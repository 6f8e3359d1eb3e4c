import { chainDigest } from '../digest.ts'
import { type Point, START } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { ARCHIVED, type ArchivedRow, toEntry } from './archived.ts'
import { ARCHIVE, EPOCHS, POINTS } from './tables.ts'

export interface EpochRow {
  readonly epoch_no: number
  readonly epoch: string
  readonly parent_no: number
  readonly start_no: number
  readonly start_digest: string
  readonly entry_no: number | null
  readonly digest: string | null
  readonly state: 'current' | 'superseded' | 'cloned' | 'kept' | 'dismissed'
}

/** Entries of one epoch that belong to a register's present history: those after one number, through another. */
export interface Segment {
  readonly epochNo: number
  readonly after: Point
  readonly through: number
}

/** All epochs of a register, the oldest first. */
export function readEpochs(database: ApplyingDatabase, registerId: number): Work<readonly EpochRow[]> {
  return query<EpochRow>({
    sql: `SELECT epoch_no, epoch, parent_no, start_no, start_digest, entry_no, digest, state FROM ${database.qualify(EPOCHS.name)} WHERE register_id = $1 ORDER BY epoch_no`,
    parameters: [registerId],
  })
}

/**
 * The present history, the latest segment first: each epoch goes on from the history that was the present one when it began. One of which nothing came has a
 * segment too: where it tells all anew, its beginning is a point that no other epoch has.
 */
export function lineOf(epochs: readonly EpochRow[], head: number): readonly Segment[] {
  const segments: Segment[] = []
  let through = head
  for (const { epoch_no, start_no, start_digest, parent_no } of epochs.toReversed()) {
    if (start_no <= through) segments.push({ epochNo: epoch_no, after: { entryNo: start_no, digest: start_digest }, through })
    through = Math.min(through, parent_no)
  }
  return segments
}

/** At so many numbers, spread evenly, points are looked for; and at doubling distances from the end, near which histories mostly part. */
const SPREAD = 100
/** Entries that are read to find points inside one batch. */
const MOST_READ = 50_000

/** Points of a history strictly between two numbers, ascending; ends of batches, or where there is none, of documents. At most `most`. */
export function* pointsBetween(
  database: ApplyingDatabase,
  registerId: number,
  line: readonly Segment[],
  [after, before]: readonly [number, number],
  most: number,
): Work<readonly Point[]> {
  const numbers = new Set<number>()
  for (let distance = 1; distance < before - after; distance *= 2) numbers.add(before - distance)
  for (let n = 1; n < SPREAD; n++) numbers.add(after + Math.floor(((before - after) * n) / SPREAD))
  const found: Point[] = line.map((segment) => segment.after)
  for (const segment of line) {
    const rows = yield* query<{ entry_no: number; digest: Uint8Array }>({
      sql: `SELECT DISTINCT p.entry_no, p.digest FROM unnest($3::bigint[]) AS n(entry_no) CROSS JOIN LATERAL (
              SELECT entry_no, digest FROM ${database.qualify(POINTS.name)} p
              WHERE p.register_id = $1 AND p.epoch_no = $2 AND p.entry_no <= least(n.entry_no, $4) ORDER BY p.entry_no DESC LIMIT 1) p`,
      parameters: [registerId, segment.epochNo, [...numbers], segment.through],
    })
    found.push(...rows.map(({ entry_no, digest }) => ({ entryNo: entry_no, digest: Buffer.from(digest).toString('hex') })))
  }
  const between = found.filter(({ entryNo }) => entryNo > after && entryNo < before)
  const points = between.length > 0 ? between : yield* pointsInside(database, registerId, line, [after, before])
  const step = Math.ceil(points.length / most)
  return points.toSorted((a, b) => a.entryNo - b.entryNo).filter((_, n) => n % step === 0)
}

/** Ends of documents inside a batch. */
function* pointsInside(
  database: ApplyingDatabase,
  registerId: number,
  line: readonly Segment[],
  [after, before]: readonly [number, number],
): Work<readonly Point[]> {
  const segment = line.find((one) => one.after.entryNo < before - 1)
  if (segment === undefined) return []
  const points: Point[] = []
  // What its epoch has beyond the segment was left by the history.
  yield* chain(database, registerId, segment, after, Math.min(before - 1, segment.through), (point) => points.push(point))
  return points.filter(({ entryNo }) => entryNo > after && entryNo < before)
}

/** The digest at a number of a history; undefined where it has no end of a document there. */
export function* digestOnLine(database: ApplyingDatabase, registerId: number, line: readonly Segment[], entryNo: number): Work<string | undefined> {
  if (entryNo === START.entryNo) return START.digest
  const segment = line.find((one) => one.after.entryNo <= entryNo && entryNo <= one.through)
  if (segment === undefined) return undefined
  if (segment.after.entryNo === entryNo) return segment.after.digest
  let found: string | undefined
  yield* chain(database, registerId, segment, entryNo, entryNo, (point) => {
    if (point.entryNo === entryNo) found = point.digest
  })
  return found
}

/** Goes from the last known point at or before `from` to `through`, and tells the end of each document. Stops where entries were pruned: what lies behind them has points of its own. */
function* chain(
  database: ApplyingDatabase,
  registerId: number,
  segment: Segment,
  from: number,
  through: number,
  tell: (point: Point) => void,
): Work<void> {
  const [known] = yield* query<{ entry_no: number; digest: Uint8Array }>({
    sql: `SELECT entry_no, digest FROM ${database.qualify(POINTS.name)} WHERE register_id = $1 AND epoch_no = $2 AND entry_no <= $3 ORDER BY entry_no DESC LIMIT 1`,
    parameters: [registerId, segment.epochNo, from],
  })
  const start = known === undefined ? segment.after : { entryNo: known.entry_no, digest: Buffer.from(known.digest).toString('hex') }
  tell(start)
  const rows = yield* query<ArchivedRow & { readonly document_no: number }>({
    sql: `SELECT ${ARCHIVED}, document_no
          FROM ${database.qualify(ARCHIVE.name)} WHERE register_id = $1 AND epoch_no = $2 AND entry_no > $3 AND entry_no <= $4 ORDER BY entry_no LIMIT ${MOST_READ}`,
    parameters: [registerId, segment.epochNo, start.entryNo, through + 1],
  })
  let { digest } = start
  let document = { table: '', recordId: '' }
  for (const [n, row] of rows.entries()) {
    if (row.entry_no !== start.entryNo + n + 1) return
    if (row.document_no === row.entry_no) {
      if (n > 0) tell({ entryNo: row.entry_no - 1, digest })
      document = { table: row.table_name, recordId: row.record_id }
    }
    digest = chainDigest(digest, toEntry(row, document))
  }
  if (rows.length > 0 && rows.length < MOST_READ && rows.at(-1)?.entry_no === segment.through) tell({ entryNo: segment.through, digest })
}
