import { chainDigest } from '../digest.ts'
import { readState, writeState } from '../migrate.ts'
import { type Point, START } from '../model.ts'
import type { OwnTable } from '../own-table.ts'
import type { CapturingDatabase } from '../ports.ts'
import { query, together, type Work } from '../work.ts'
import { lastEntry } from './collector.ts'
import { readStarts } from './history.ts'
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
    for (const row of logged) found.set(row.entry_no, toHex(row.digest))
    if (kept.length === 0) continue
    // Where somebody has emptied the log, its numbers began anew: those that were kept before say nothing of these.
    const [head, starts] = [yield* lastEntry(database), yield* readStarts(database)]
    for (const row of kept)
      if (row.entry_no <= head.entryNo && (!found.has(row.entry_no) || starts.includes(row.entry_no))) found.set(row.entry_no, toHex(row.digest))
  }
  return found
}

function toHex(digest: Uint8Array): string {
  return Buffer.from(digest).toString('hex')
}

/**
 * The digests of our history at the ends of documents, to be compared with these points. Two copies of a database may have sealed the same entry, the one as all of a document, the other as its beginning: there no
 * document of ours ends, and the digest is one that is equal to none. Where an entry was pruned with its digest, the one behind it goes on from that: then it is told by what that makes of the point's.
 * Of the last entries that were pruned the digest of each end is kept: where there is none, none of our documents ends.
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
  const ends = untold.length === 0 ? undefined : yield* readEnds(database)
  for (const entryNo of untold) if (ends !== undefined && entryNo >= ends.from && entryNo <= ends.through) digests.set(entryNo, NO_END)
  return digests
}

const ENDS = 'ends'

/** Entries that were pruned, and whose digests are kept wherever a document ends. */
export interface Ends {
  readonly from: number
  readonly through: number
}

export function* readEnds(database: CapturingDatabase): Work<Ends | undefined> {
  const ends = yield* readState(database, ENDS)
  return ends === undefined ? undefined : (JSON.parse(ends) as Ends)
}

export function writeEnds(ends: Ends): Work<void> {
  return writeState(ENDS, JSON.stringify(ends))
}

/** Whether the first entry of a document goes on from this very point. */
function leadsTo({ digest }: Point, next: LoggedEntry): boolean {
  const document = { table: next.table_name, recordId: next.record_id }
  return chainDigest(digest, toEntry(next, document)) === toHex(next.digest)
}
