import { sql } from 'kysely'
import type { CapturingDatabase } from '../ports.ts'
import { insert, query, type Work } from '../work.ts'
import { lastEntry } from './collector.ts'
import { type Ends, readEnds, writeEnds } from './digests.ts'
import { readStarts } from './history.ts'
import { type LoggedEntry, startsDocument } from './log.ts'
import { DIGESTS, ENTRIES } from './tables.ts'

/** Of every so many entries one digest is kept. */
const KEEP_EVERY = 1_000
/** Of the last so many that were pruned the digest of each end of a document: about two months of a till with 500 receipts a day, in two megabytes. */
const KEEP_ENDS = 200_000
/** Entries that are deleted in one transaction. */
const SLICE = 500

export interface PruneLimits {
  /** The last entry that the subscriber has acknowledged. */
  readonly acknowledged: number
  /** Milliseconds since 1970. */
  readonly now: number
  /** Only entries that are older. By a clock that was wrong an entry may be of days to come: the same distance from now counts, or it would keep all behind it for as long. */
  readonly retainMs: number
}

/** Deletes the next of the oldest entries that are acknowledged and old enough; never the last one. Returns how many: 0 at the end. */
export function* pruneSlice(database: CapturingDatabase, { acknowledged, now, retainMs }: PruneLimits): Work<number> {
  const { build } = database
  const last = yield* lastEntry(database)
  const rows = yield* query<{ entry_no: number; sealed_at: string; digest: Uint8Array }>(
    build
      .selectFrom(ENTRIES.name)
      .select(['entry_no', 'sealed_at', 'digest'])
      .where('entry_no', '<=', Math.min(acknowledged, last.entryNo - 1))
      .orderBy('entry_no')
      .limit(SLICE)
      .compile(),
  )
  const young = rows.findIndex((row) => Math.abs(now - Date.parse(row.sealed_at)) <= retainMs)
  const old = young === -1 ? rows : rows.slice(0, young)
  const [first, end] = [old.at(0), old.at(-1)]
  if (first === undefined || end === undefined) return 0
  const kept = new Map(old.filter((row) => row.entry_no % KEEP_EVERY === 0).map((row) => [row.entry_no, row.digest]))
  for (const row of yield* endsOf(database, first.entry_no, end.entry_no)) kept.set(row.entry_no, row.digest)
  const starts = yield* readStarts(database)
  for (const start of starts) kept.delete(start)
  yield* insert(DIGESTS, [...kept], DIGESTS.primaryKey)
  yield* query(build.deleteFrom(ENTRIES.name).where('entry_no', '<=', end.entry_no).compile())
  yield* forgetEnds(database, starts, first.entry_no, end.entry_no)
  return old.length
}

/** The entries with which documents end, of a stretch of the log that has one behind it. */
function* endsOf({ build }: CapturingDatabase, first: number, last: number): Work<readonly Pick<LoggedEntry, 'entry_no' | 'digest'>[]> {
  const rows = yield* query<Omit<LoggedEntry, 'record' | 'sealed_at'>>(
    build
      .selectFrom(ENTRIES.name)
      .select(['entry_no', 'table_name', 'operation', 'record_id', 'document', 'digest'])
      .where('entry_no', '>=', first)
      .where('entry_no', '<=', last + 1)
      .orderBy('entry_no')
      .compile(),
  )
  return rows.filter((row, at) => {
    const next = rows[at + 1]
    return next !== undefined && startsDocument(next, row)
  })
}

/** Notes of which entries all ends are known by now, and drops those that are too long ago. */
function* forgetEnds(database: CapturingDatabase, starts: readonly number[], first: number, last: number): Work<void> {
  const before = yield* readEnds(database)
  // What was pruned between them was pruned without its ends.
  const from = before !== undefined && before.through === first - 1 ? before.from : first
  const ends: Ends = { from: Math.max(from, last - KEEP_ENDS + 1), through: last }
  yield* writeEnds(ends)
  if (ends.from === from) return
  let dropped = database.build
    .deleteFrom(DIGESTS.name)
    .where('entry_no', '>=', from)
    .where('entry_no', '<', ends.from)
    .where(sql<boolean>`entry_no % ${sql.lit(KEEP_EVERY)} <> 0`)
  if (starts.length > 0) dropped = dropped.where('entry_no', 'not in', starts)
  yield* query(dropped.compile())
}
