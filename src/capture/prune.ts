import { START } from '../model.ts'
import { type CapturingDatabase, insert, query, type Work } from '../ports.ts'
import { lastEntry } from './collector.ts'
import { DIGESTS, ENTRIES } from './tables.ts'

/** Of every so many entries one digest is kept. */
const KEEP_EVERY = 1_000
/** Digests that are asked for in one statement. */
const AT_ONCE = 100
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

/** The digests at these entries; one that does not exist, or was pruned and not kept, has none. */
export function* digestsAt(database: CapturingDatabase, entryNos: readonly number[]): Work<ReadonlyMap<number, string>> {
  const found = new Map<number, string>([[START.entryNo, START.digest]])
  for (const table of [ENTRIES, DIGESTS]) {
    for (let from = 0; from < entryNos.length; from += AT_ONCE) {
      const rows = yield* query<{ entry_no: number; digest: Uint8Array }>(
        database.build
          .selectFrom(table.name)
          .select(['entry_no', 'digest'])
          .where('entry_no', 'in', entryNos.slice(from, from + AT_ONCE))
          .compile(),
      )
      for (const row of rows) found.set(row.entry_no, Buffer.from(row.digest).toString('hex'))
    }
  }
  return found
}
