import { COUNTED, compareIds, digestOf, type PublishedDocument, type RecordIdRange } from '../comparison.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { hashesOf, type PlacedVersion } from './compare-hash.ts'
import type { Told, ToldPart } from './compare-questions.ts'
import { DOCUMENTS, EPOCHS, REGISTERS } from './tables.ts'

/**
 * - `different`: central's archive has another version than the register has published, or one that somebody has changed.
 * - `missing`: the register has published it, and central lacks it.
 * - `surplus`: central has it, and the register does not publish it, nor has it said that it was removed.
 */
export type DifferenceKind = 'different' | 'missing' | 'surplus'

/** A document that is not the same on both sides. */
export interface FoundDifference {
  readonly recordId: string
  readonly kind: DifferenceKind
  /** Where central's version stands; undefined where it has none. */
  readonly at: { readonly epochNo: number; readonly entryNo: number } | undefined
}

/** What came of documents. */
export interface Judged {
  readonly equal: number
  /** They have changed since the register answered, and are as new as can be. */
  readonly changed: number
  /** They are not the same; the register can't read them just now, and has sealed nothing since. */
  readonly parked: number
  /** They are central's own: the register has last got them from central, or may have removed them at its word. */
  readonly received: number
  readonly differences: readonly FoundDifference[]
  /** Up to where; undefined: all of it. */
  readonly next: string | undefined
}

/** Whether a part can be judged: central has come as far as the register had when it answered. `left`: its history has been left by now. */
export type Readiness = 'ready' | 'early' | 'left'

interface Row extends PlacedVersion {
  readonly removed: boolean
  readonly state: string | null
}

function* readinessFor(database: ApplyingDatabase, registerId: number, epoch: string, entryNo: number): Work<Readiness> {
  const [row] = yield* query<{ epoch: string | null; entry_no: number; known: boolean }>({
    sql: `SELECT r.epoch, r.entry_no, EXISTS (SELECT FROM ${database.qualify(EPOCHS.name)} e WHERE e.register_id = r.register_id AND e.epoch = $2) AS known
          FROM ${database.qualify(REGISTERS.name)} r WHERE r.register_id = $1`,
    parameters: [registerId, epoch],
  })
  if (row === undefined) return 'left'
  if (row.epoch === epoch) return row.entry_no >= entryNo ? 'ready' : 'early'
  if (row.epoch === null && entryNo === 0) return 'ready'
  return row.known ? 'left' : 'early'
}

/** Whether central has just the documents of a part. One that has changed since makes a difference, too. */
export function* isAlike(
  database: ApplyingDatabase,
  registerId: number,
  table: string,
  { epoch, tables }: Told,
  part: ToldPart,
): Work<Readiness | { readonly alike: boolean }> {
  const readiness = yield* readinessFor(database, registerId, epoch, part.entryNo)
  if (readiness !== 'ready') return readiness
  // Of many more than were published it is enough to know so much.
  const { rows, next } = yield* documentsIn(database, registerId, table, part.range, 2 * COUNTED)
  const present = rows.filter(isPresent)
  if (next !== undefined || present.length !== part.count) return { alike: false }
  const hashes = yield* hashesOf(database, registerId, present, tables)
  const documents = present.map(({ recordId }) => ({ recordId, hash: hashes.get(recordId) ?? '' }))
  return { alike: digestOf(documents) === part.digest }
}

/** Judges the documents of a part one by one, from a record id on: so many that it takes a moment. */
export function* judgePart(
  database: ApplyingDatabase,
  registerId: number,
  table: string,
  { epoch, tables, both }: Told,
  { entryNo, range, documents = [] }: ToldPart,
): Work<Readiness | Judged> {
  const readiness = yield* readinessFor(database, registerId, epoch, entryNo)
  if (readiness !== 'ready') return readiness
  const { rows, next } = yield* documentsIn(database, registerId, table, range, COUNTED)
  const published = new Map(documents.filter((one) => isWithin(one, range.after, next)).map(({ recordId, hash }) => [recordId, hash]))
  const hashes = yield* hashesOf(
    database,
    registerId,
    rows.filter((row) => isPresent(row) && published.has(row.recordId)),
    tables,
  )
  const parked = yield* parkedOf(database, registerId, table)
  const judged = { equal: 0, changed: 0, parked: 0, received: 0, differences: [] as FoundDifference[], next }
  const known = new Map(rows.map((row) => [row.recordId, row]))
  for (const recordId of new Set([...known.keys(), ...published.keys()])) {
    const row = known.get(recordId)
    const kind = kindOf(row, published.has(recordId), published.get(recordId), hashes.get(recordId))
    if (kind === undefined) continue
    if (kind === 'equal') judged.equal++
    else if (row !== undefined && row.state === null && row.entryNo > entryNo) judged.changed++
    else if (parked.has(recordId)) judged.parked++
    else if (kind === 'surplus' ? both : published.get(recordId) === undefined) judged.received++
    else judged.differences.push({ recordId, kind, at: row && { epochNo: row.epochNo, entryNo: row.entryNo } })
  }
  return judged
}

/** Undefined: neither side has it, or it is known that the register has lost it. */
function kindOf(
  row: Row | undefined,
  isPublished: boolean,
  published: string | undefined,
  own: string | undefined,
): DifferenceKind | 'equal' | undefined {
  const isThere = row !== undefined && isPresent(row)
  if (!isPublished) return isThere ? 'surplus' : undefined
  if (!isThere) return 'missing'
  return published !== undefined && published === own ? 'equal' : 'different'
}

/** What the register has removed is not; nor what it has lost by a restore, which is listed as an orphan. */
function isPresent({ removed, state }: Row): boolean {
  return !removed && state !== 'lost'
}

function isWithin({ recordId }: PublishedDocument, after: string, through: string | undefined): boolean {
  return compareIds(recordId, after) > 0 && (through === undefined || compareIds(recordId, through) <= 0)
}

/** What central knows of a range, at most `most` documents; `next`: up to where, if that is not all. */
function* documentsIn(
  database: ApplyingDatabase,
  registerId: number,
  table: string,
  { after, through }: RecordIdRange,
  most: number,
): Work<{ readonly rows: readonly Row[]; readonly next: string | undefined }> {
  const rows = yield* query<{ record_id: string; epoch_no: number; entry_no: number; entries: number; removed: boolean; state: string | null }>({
    sql: `SELECT record_id, epoch_no, entry_no, entries, removed, state FROM ${database.qualify(DOCUMENTS.name)}
          WHERE register_id = $1 AND table_name = $2 AND record_id > $3 AND ($4::text IS NULL OR record_id <= $4) ORDER BY record_id LIMIT $5`,
    parameters: [registerId, table, after, through ?? null, most + 1],
  })
  const kept = rows.slice(0, most)
  return {
    rows: kept.map(({ record_id, epoch_no, entry_no, entries, removed, state }) => ({
      recordId: record_id,
      epochNo: epoch_no,
      entryNo: entry_no,
      entries,
      removed,
      state,
    })),
    next: rows.length > most ? kept.at(-1)?.record_id : undefined,
  }
}

/** Documents of a table that the register can't read, as it last said. */
export function* parkedOf(database: ApplyingDatabase, registerId: number, table: string): Work<ReadonlySet<string>> {
  const [row] = yield* query<{ parked: string | null }>({
    sql: `SELECT parked FROM ${database.qualify(REGISTERS.name)} WHERE register_id = $1`,
    parameters: [registerId],
  })
  return new Set((JSON.parse(row?.parked ?? '[]') as [string, string][]).filter(([of]) => of === table).map(([, recordId]) => recordId))
}
