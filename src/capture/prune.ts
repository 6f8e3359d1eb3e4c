import { START } from '../model.ts'
import { type CapturingDatabase, insert, query, type Work } from '../ports.ts'
import { lastEntry } from './collector.ts'
import { DIGESTS, ENTRIES } from './tables.ts'

/** Of every so many entries one digest is kept. */
const KEEP_EVERY = 1_000
/** Entries that are deleted in one transaction. */
const SLICE = 500

export interface PruneLimits {
  /** The last entry that the subscriber has acknowledged. */
  readonly acknowledged: number
  /** Only entries sealed before: ISO 8601, UTC. */
  readonly before: string
}

/** Deletes the next of the oldest entries that are acknowledged and old enough; never the last one. Returns how many: 0 at the end. */
export function* pruneSlice(database: CapturingDatabase, { acknowledged, before }: PruneLimits): Work<number> {
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
  const young = rows.findIndex((row) => row.sealed_at >= before)
  const old = young === -1 ? rows : rows.slice(0, young)
  const end = old.at(-1)
  if (end === undefined) return 0
  yield* insert(
    DIGESTS,
    old.filter((row) => row.entry_no % KEEP_EVERY === 0).map((row) => [row.entry_no, row.digest]),
    DIGESTS.primaryKey,
  )
  yield* query(build.deleteFrom(ENTRIES.name).where('entry_no', '<=', end.entry_no).compile())
  return old.length
}

/** The digest at an entry; undefined where there is none, or where it was pruned and not kept. */
export function* digestAt(database: CapturingDatabase, entryNo: number): Work<string | undefined> {
  if (entryNo === START.entryNo) return START.digest
  for (const table of [ENTRIES, DIGESTS]) {
    const [row] = yield* query<{ digest: Uint8Array }>(
      database.build.selectFrom(table.name).select('digest').where('entry_no', '=', entryNo).compile(),
    )
    if (row) return Buffer.from(row.digest).toString('hex')
  }
  return undefined
}
