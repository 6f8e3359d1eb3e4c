import { type Point, START } from '../model.ts'
import type { CapturingDatabase } from '../ports.ts'
import { insert, query, type Work } from '../work.ts'
import { lastEntry } from './collector.ts'
import { noteForgotten } from './digests.ts'
import { type LoggedEntry, startsDocument } from './log.ts'
import { DIGESTS, ENTRIES } from './tables.ts'

/** Of every so many entries one digest is kept. */
const KEEP_EVERY = 1_000
/** Entries that are deleted in one transaction. */
const SLICE = 500

export interface PruneLimits {
  /** How far the subscriber has acknowledged. */
  readonly acknowledged: Point | undefined
  /** Whether its acknowledgement is not waited for. */
  readonly forgets: boolean
  /** Milliseconds since 1970. */
  readonly now: number
  /** Only entries that are older. By a clock that was wrong an entry may be of days to come: the same distance from now counts, or it would keep all behind it for as long. */
  readonly retainMs: number
}

/** Deletes the next of the oldest entries that are acknowledged, or forgotten, and old enough; never the last one. Returns how many: 0 at the end. */
export function* pruneSlice(database: CapturingDatabase, { acknowledged = START, forgets, now, retainMs }: PruneLimits): Work<number> {
  const { build } = database
  const last = yield* lastEntry(database)
  const rows = yield* query<{ entry_no: number; sealed_at: string; digest: Uint8Array }>(
    build
      .selectFrom(ENTRIES.name)
      .select(['entry_no', 'sealed_at', 'digest'])
      .where('entry_no', '<=', Math.min(forgets ? last.entryNo : acknowledged.entryNo, last.entryNo - 1))
      .orderBy('entry_no')
      .limit(SLICE)
      .compile(),
  )
  const young = rows.findIndex((row) => Math.abs(now - Date.parse(row.sealed_at)) <= retainMs)
  const old = young === -1 ? rows : rows.slice(0, young)
  const end = old.at(-1)
  if (end === undefined) return 0
  const kept = new Map(old.filter((row) => row.entry_no % KEEP_EVERY === 0).map((row) => [row.entry_no, row.digest]))
  const forgotten = old.find((row) => row.entry_no > acknowledged.entryNo)
  if (forgotten !== undefined) {
    if (acknowledged.entryNo > 0) kept.set(acknowledged.entryNo, Buffer.from(acknowledged.digest, 'hex'))
    for (const row of yield* endsOf(database, forgotten.entry_no, end.entry_no)) kept.set(row.entry_no, row.digest)
    yield* noteForgotten(database, forgotten.entry_no, end.entry_no)
  }
  const known = yield* knownAt(database, [...kept.keys()])
  yield* insert(
    DIGESTS,
    [...kept].filter(([entryNo]) => !known.has(entryNo)),
  )
  yield* query(build.deleteFrom(ENTRIES.name).where('entry_no', '<=', end.entry_no).compile())
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

/** Where a digest is kept already: an epoch began there with one of its own. */
function* knownAt({ build }: CapturingDatabase, numbers: readonly number[]): Work<ReadonlySet<number>> {
  if (numbers.length === 0) return new Set()
  const rows = yield* query<{ entry_no: number }>(build.selectFrom(DIGESTS.name).select('entry_no').where('entry_no', 'in', numbers).compile())
  return new Set(rows.map(({ entry_no }) => Number(entry_no)))
}
