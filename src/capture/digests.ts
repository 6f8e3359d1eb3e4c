import { chainDigest } from '../digest.ts'
import { readState, writeState } from '../migrate.ts'
import { type Point, START } from '../model.ts'
import type { OwnTable } from '../own-table.ts'
import type { CapturingDatabase } from '../ports.ts'
import { query, together, type Work } from '../work.ts'
import { entriesAt, type LoggedEntry, startsDocument, toEntry } from './log.ts'
import { DIGESTS, ENTRIES } from './tables.ts'

/** Entries that are asked for in one statement. */
const AT_ONCE = 100

/** Instead of the digest where no document ends: equal to none. */
const NO_END = ''

/** The digests at these entries, or with which an epoch began there; one that does not exist, or was pruned and not kept, has none. */
export function* digestsAt(database: CapturingDatabase, entryNos: readonly number[]): Work<ReadonlyMap<number, string>> {
  const found = new Map<number, string>([[START.entryNo, START.digest]])
  const rowsOf = (table: OwnTable, some: readonly number[]) =>
    query<{ entry_no: number; digest: Uint8Array }>(
      database.build.selectFrom(table.name).select(['entry_no', 'digest']).where('entry_no', 'in', some).compile(),
    )
  for (let from = 0; from < entryNos.length; from += AT_ONCE) {
    const some = entryNos.slice(from, from + AT_ONCE)
    const [logged, kept] = yield* together(rowsOf(ENTRIES, some), rowsOf(DIGESTS, some))
    for (const row of [...logged, ...kept]) found.set(row.entry_no, Buffer.from(row.digest).toString('hex'))
  }
  return found
}

/**
 * The digests of our history at the ends of documents, to be compared with these points. Two copies of a database may have sealed the same entry, the one as all of a document, the other as its beginning: there no
 * document of ours ends, and the digest is one that is equal to none. Where an entry was pruned with its digest, the one behind it goes on from that: then it is told by what that makes of the point's.
 * Of entries that were forgotten the digest of each end is kept: where there is none, none of our documents ends.
 */
export function* endsAt(database: CapturingDatabase, points: readonly Point[]): Work<ReadonlyMap<number, string>> {
  const numbers = points.map(({ entryNo }) => entryNo)
  const digests = new Map(yield* digestsAt(database, numbers))
  for (let from = 0; from < points.length; from += AT_ONCE) {
    const some = points.slice(from, from + AT_ONCE).filter(({ entryNo, digest }) => [undefined, digest].includes(digests.get(entryNo)))
    const logged = yield* entriesAt(
      database,
      some.flatMap(({ entryNo }) => [entryNo, entryNo + 1]),
    )
    for (const point of some) {
      const next = logged.get(point.entryNo + 1)
      if (next === undefined) continue
      const isOurs = startsDocument(next, logged.get(point.entryNo)) && (digests.has(point.entryNo) || leadsTo(point, next))
      digests.set(point.entryNo, isOurs ? point.digest : NO_END)
    }
  }
  const untold = numbers.filter((entryNo) => !digests.has(entryNo))
  const forgotten = untold.length === 0 ? [] : yield* readForgotten(database)
  for (const entryNo of untold) if (forgotten.some(([first, last]) => entryNo >= first && entryNo <= last)) digests.set(entryNo, NO_END)
  return digests
}

/** Entries that were pruned without being acknowledged, those next to each other together. */
const FORGOTTEN = 'forgotten'

type Stretch = readonly [first: number, last: number]

function* readForgotten(database: CapturingDatabase): Work<readonly Stretch[]> {
  return JSON.parse((yield* readState(database, FORGOTTEN)) ?? '[]') as readonly Stretch[]
}

/** Notes that entries are pruned which the subscriber has not acknowledged. */
export function* noteForgotten(database: CapturingDatabase, first: number, last: number): Work<void> {
  const stretches = yield* readForgotten(database)
  const before = stretches.at(-1)
  const noted = before?.[1] === first - 1 ? [...stretches.slice(0, -1), [before[0], last]] : [...stretches, [first, last]]
  yield* writeState(FORGOTTEN, JSON.stringify(noted))
}

/** Whether the first entry of a document goes on from this very point. */
function leadsTo({ digest }: Point, next: LoggedEntry): boolean {
  const document = { table: next.table_name, recordId: next.record_id }
  return chainDigest(digest, toEntry(next, document)) === Buffer.from(next.digest).toString('hex')
}
