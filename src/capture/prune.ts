import type { CapturingDatabase } from '../ports.ts'
import { insert, query, type Work } from '../work.ts'
import { lastEntry } from './collector.ts'
import { DIGESTS, ENTRIES } from './tables.ts'

/** Of every so many entries one digest is kept. */
const KEEP_EVERY = 1_000
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
  const end = old.at(-1)
  if (end === undefined) return 0
  const kept = old.filter((row) => row.entry_no % KEEP_EVERY === 0)
  const known = yield* knownAt(database, kept)
  yield* insert(
    DIGESTS,
    kept.filter((row) => !known.has(row.entry_no)).map((row) => [row.entry_no, row.digest]),
  )
  yield* query(build.deleteFrom(ENTRIES.name).where('entry_no', '<=', end.entry_no).compile())
  return old.length
}

/** Where a digest is kept already: an epoch began there with one of its own. */
function* knownAt({ build }: CapturingDatabase, entries: readonly { readonly entry_no: number }[]): Work<ReadonlySet<number>> {
  if (entries.length === 0) return new Set()
  const numbers = entries.map(({ entry_no }) => entry_no)
  const rows = yield* query<{ entry_no: number }>(build.selectFrom(DIGESTS.name).select('entry_no').where('entry_no', 'in', numbers).compile())
  return new Set(rows.map(({ entry_no }) => Number(entry_no)))
}
