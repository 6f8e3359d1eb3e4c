import { chainDigest } from '../digest.ts'
import type { Point } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { insert, query, type Work } from '../work.ts'
import { ARCHIVED, type ArchivedRow, toEntry } from './archived.ts'
import { ARCHIVE, DOCUMENTS, EPOCHS, LIVES, ORPHANS, POINTS, QUARANTINE } from './tables.ts'

/** How far pruning has come: registers, their epochs and entries one after another. */
export interface ArchivePlace {
  readonly registerId: number
  readonly epochNo: number
  readonly entryNo: number
}

export interface PrunedSlice {
  /** How many entries were deleted. */
  readonly entries: number
  /** Undefined at the end, or where another process prunes just now. */
  readonly next: ArchivePlace | undefined
}

/** Numbers that are looked through in one transaction. */
const WINDOW = 5_000
/** Versions that are deleted in one. */
const MOST_VERSIONS = 100
/** A batch that is longer is left as it is: its digests are computed in memory. */
const MOST_READ = 50_000

/**
 * Deletes the next versions that were received before a time and are replaced: a later one of the same document, in the same life of its key, is the latest. All else stays, for it
 * may be asked for: the latest versions, removals and what they removed, former lives, baselines, orphans. Before a version goes, the points at both of its ends are
 * written down, so that a history that parts there is found as exactly as before. Locks nothing that a batch needs.
 */
export function* pruneArchive(database: ApplyingDatabase, place: ArchivePlace, before: string): Work<PrunedSlice> {
  if (!(yield* isAlone(database))) return { entries: 0, next: undefined }
  const window = yield* nextWindow(database, place)
  if (window === undefined) return { entries: 0, next: undefined }
  const { registerId, epochNo, after, through, isOld } = window
  if (!isOld(before)) return { entries: 0, next: { registerId, epochNo, entryNo: Number.MAX_SAFE_INTEGER } }
  const replaced = yield* replacedIn(database, window, before)
  let entries = 0
  for (let n = 0; n < replaced.length; ) {
    const stretch = yield* stretchAround(database, registerId, epochNo, replaced[n] as number)
    const inside = replaced.slice(n).filter((first) => first <= stretch.through)
    n += Math.max(1, inside.length)
    entries += yield* drop(database, registerId, epochNo, stretch, inside)
  }
  const isCut = replaced.length === MOST_VERSIONS
  return { entries, next: { registerId, epochNo, entryNo: isCut ? (replaced.at(-1) as number) : Math.max(through, after) } }
}

function* isAlone(database: ApplyingDatabase): Work<boolean> {
  const [row] = yield* query<{ alone: boolean }>({
    sql: 'SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS alone',
    parameters: [`tillsync prune ${database.qualify(ARCHIVE.name)}`],
  })
  return row?.alone === true
}

interface Window {
  readonly registerId: number
  readonly epochNo: number
  readonly after: number
  readonly through: number
  /** Whether its first entry was received before: later ones were later. */
  isOld(before: string): boolean
}

function* nextWindow(database: ApplyingDatabase, { registerId, epochNo, entryNo }: ArchivePlace): Work<Window | undefined> {
  const [first] = yield* query<{ register_id: number; epoch_no: number; entry_no: number; received_ms: string }>({
    sql: `SELECT register_id, epoch_no, entry_no, (extract(epoch FROM received_at) * 1000)::text AS received_ms FROM ${database.qualify(ARCHIVE.name)}
          WHERE (register_id, epoch_no, entry_no) > ($1::bigint, $2::bigint, $3::bigint) ORDER BY register_id, epoch_no, entry_no LIMIT 1`,
    parameters: [registerId, epochNo, entryNo],
  })
  if (first === undefined) return undefined
  const after = first.entry_no - 1
  return {
    registerId: first.register_id,
    epochNo: first.epoch_no,
    after,
    through: after + WINDOW,
    isOld: (before) => Number(first.received_ms) < Date.parse(before),
  }
}

/** The first entries of versions that may go. */
function* replacedIn(database: ApplyingDatabase, { registerId, epochNo, after, through }: Window, before: string): Work<readonly number[]> {
  const [archive, documents, orphans] = [ARCHIVE, DOCUMENTS, ORPHANS].map(({ name }) => database.qualify(name))
  const rows = yield* query<{ entry_no: number }>({
    sql: `SELECT a.entry_no FROM ${archive} a
          JOIN ${documents} d ON d.register_id = a.register_id AND d.table_name = a.table_name AND d.record_id = a.record_id
          WHERE a.register_id = $1 AND a.epoch_no = $2 AND a.entry_no > $3 AND a.entry_no <= $4 AND a.received_at < $5
            AND a.entry_no = a.document_no AND a.operation = 'upsert' AND NOT d.removed AND d.state IS NULL
            AND a.entry_no >= d.born_entry_no AND (a.epoch_no, a.entry_no) < (d.epoch_no, d.entry_no)
            AND NOT EXISTS (SELECT 1 FROM ${orphans} o WHERE o.register_id = a.register_id AND o.table_name = a.table_name AND o.record_id = a.record_id
                            AND o.epoch_no = a.epoch_no AND o.entry_no = a.entry_no)
            AND NOT EXISTS (SELECT 1 FROM ${database.qualify(QUARANTINE.name)} q WHERE q.register_id = a.register_id AND q.table_name = a.table_name AND q.record_id = a.record_id
                            AND (q.state = 'waiting' OR (q.applied_epoch_no = a.epoch_no AND q.applied_no = a.entry_no)))
            AND NOT EXISTS (SELECT 1 FROM ${database.qualify(LIVES.name)} l WHERE l.register_id = a.register_id AND l.table_name = a.table_name AND l.record_id = a.record_id
                            AND l.epoch_no = a.epoch_no AND l.entry_no = a.entry_no)
          ORDER BY a.entry_no LIMIT ${MOST_VERSIONS}`,
    parameters: [registerId, epochNo, after, through, before],
  })
  return rows.map((row) => row.entry_no)
}

/** Entries between two points, without a gap. */
interface Stretch {
  readonly from: Point
  readonly through: number
  /** The digest at its end, as it was written down. */
  readonly digest: string
}

function* stretchAround(database: ApplyingDatabase, registerId: number, epochNo: number, entryNo: number): Work<Stretch> {
  const [points, epochs] = [POINTS, EPOCHS].map(({ name }) => database.qualify(name))
  const [row] = yield* query<{ from_no: number; from_digest: string; through_no: number; digest: string }>({
    sql: `SELECT coalesce(b.entry_no, e.start_no) AS from_no, coalesce(encode(b.digest, 'hex'), e.start_digest) AS from_digest, p.entry_no AS through_no, encode(p.digest, 'hex') AS digest
          FROM ${epochs} e
          LEFT JOIN LATERAL (SELECT entry_no, digest FROM ${points} WHERE register_id = $1 AND epoch_no = $2 AND entry_no < $3 ORDER BY entry_no DESC LIMIT 1) b ON true
          JOIN LATERAL (SELECT entry_no, digest FROM ${points} WHERE register_id = $1 AND epoch_no = $2 AND entry_no >= $3 ORDER BY entry_no LIMIT 1) p ON true
          WHERE e.register_id = $1 AND e.epoch_no = $2`,
    parameters: [registerId, epochNo, entryNo],
  })
  // Without a point behind it, nothing of it can be proved.
  if (row === undefined) return { from: { entryNo, digest: '' }, through: entryNo - 1, digest: '' }
  return { from: { entryNo: row.from_no, digest: row.from_digest }, through: row.through_no, digest: row.digest }
}

/** Deletes these versions of a stretch; none where its entries do not have the digest that was written down. */
function* drop(database: ApplyingDatabase, registerId: number, epochNo: number, stretch: Stretch, firsts: readonly number[]): Work<number> {
  if (firsts.length === 0 || stretch.through - stretch.from.entryNo > MOST_READ) return 0
  const rows = yield* query<ArchivedRow & { readonly document_no: number }>({
    sql: `SELECT ${ARCHIVED}, document_no FROM ${database.qualify(ARCHIVE.name)}
          WHERE register_id = $1 AND epoch_no = $2 AND entry_no > $3 AND entry_no <= $4 ORDER BY entry_no`,
    parameters: [registerId, epochNo, stretch.from.entryNo, stretch.through],
  })
  const ends = endsOf(stretch, rows)
  if (ends === undefined) return 0
  const wanted = new Set(firsts)
  const points = new Map<number, Point & { readonly prunedAfter: number | null }>()
  for (const [n, end] of ends.entries()) {
    const former = ends[n - 1]
    const { entryNo: after } = former ?? stretch.from
    if (!wanted.has(after + 1)) continue
    if (former && !points.has(after)) points.set(after, { ...former, prunedAfter: null })
    points.set(end.entryNo, { ...end, prunedAfter: after })
  }
  yield* insert(
    POINTS,
    [...points.values()].map(({ entryNo, digest, prunedAfter }) => [registerId, epochNo, entryNo, Buffer.from(digest, 'hex'), prunedAfter]),
    POINTS.primaryKey,
  )
  const gone = yield* query({
    sql: `DELETE FROM ${database.qualify(ARCHIVE.name)} WHERE register_id = $1 AND epoch_no = $2 AND entry_no > $3 AND entry_no <= $4 AND document_no = ANY ($5) RETURNING 1 AS one`,
    parameters: [registerId, epochNo, stretch.from.entryNo, stretch.through, firsts],
  })
  return gone.length
}

/** The end of each document of a stretch, the last of them the stretch's own; undefined where the entries are not what they were. */
function endsOf(
  { from, through, digest: expected }: Stretch,
  rows: readonly (ArchivedRow & { readonly document_no: number })[],
): readonly Point[] | undefined {
  const ends: Point[] = []
  let { digest } = from
  let document = { table: '', recordId: '' }
  for (const [n, row] of rows.entries()) {
    if (row.entry_no !== from.entryNo + n + 1) return undefined
    if (row.document_no === row.entry_no) {
      if (n > 0) ends.push({ entryNo: row.entry_no - 1, digest })
      document = { table: row.table_name, recordId: row.record_id }
    }
    digest = chainDigest(digest, toEntry(row, document))
  }
  if (rows.length !== through - from.entryNo || digest !== expected) return undefined
  return [...ends, { entryNo: through, digest }]
}
