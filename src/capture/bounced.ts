import { sql } from 'kysely'
import type { TillsyncErrorCode } from '../errors.ts'
import type { CapturingDatabase, Database } from '../ports.ts'
import { decodeRecordId } from '../record.ts'
import { compiledOnce, erase, insert, type Key, lookup, query, type Work } from '../work.ts'
import type { ParkedDocument } from './parked.ts'
import { BOUNCED } from './tables.ts'

// What the host's triggers make of a document that came is sent back. Where the other side, or another register, makes something else of that in turn, as triggers that set
// a time of change do, it would go on for ever.

/** After so many times it is looked at whether anything but that goes to and fro. */
const MOST = 10
/** What came longer ago has nothing to do with it; in milliseconds. */
const WITHIN_MS = 600_000

/** How often documents have bounced; `isDue` where that is often enough to look closer. */
export interface Bounced {
  readonly times: number
  readonly isDue: boolean
}

/** How often each of these, whose last version was made into something else here, has bounced with this time. */
export function* bouncedOf(database: CapturingDatabase, documents: readonly Key[], now: number): Work<readonly Bounced[]> {
  if (documents.length === 0) return []
  return (yield* timesOf(database, documents)).map(([times, at] = [0, '']) => {
    const count = now - Date.parse(at) <= WITHIN_MS ? Number(times) + 1 : 1
    return { times: Math.min(count, MOST), isDue: count >= MOST }
  })
}

export function* noteBounced(documents: readonly (readonly [key: Key, times: number])[], now: number): Work<void> {
  const at = new Date(now).toISOString()
  yield* insert(
    BOUNCED,
    documents.map(([key, times]) => [...key, times, at]),
    BOUNCED.primaryKey,
  )
}

/**
 * They stand as they came. For one that still goes to and fro this says nothing: what was sent back comes again. One of which nothing was sent back any more is left alone by
 * now.
 */
export function* endBounced(database: CapturingDatabase, documents: readonly Key[]): Work<void> {
  if (documents.length === 0) return
  const any = yield* query(database.build.selectFrom(BOUNCED.name).select('times').where('times', '>=', MOST).limit(1).compile())
  const times = any.length === 0 ? [] : yield* timesOf(database, documents)
  yield* erase(
    BOUNCED,
    BOUNCED.primaryKey,
    documents.filter((_, n) => Number(times[n]?.[0] ?? 0) >= MOST),
  )
}

/** How often, and when last; undefined where never. */
function* timesOf(database: CapturingDatabase, documents: readonly Key[]): Work<readonly (readonly [unknown, string] | undefined)[]> {
  const select = database.build
    .selectFrom(BOUNCED.name)
    .select(['times', 'at'])
    .where(sql.raw<boolean>(database.keyed(BOUNCED, BOUNCED.primaryKey)))
    .compile()
  return (yield* lookup(select, documents)).map(([row]) => row as readonly [unknown, string] | undefined)
}

const MOST_LISTED = 100

/** Those of which nothing more is sent back, oldest first; at most 100. */
export function* listBounced(database: Database): Work<readonly ParkedDocument[]> {
  const rows = yield* query<{ table_name: string; record_id: string; at: string }>(bounced(database))
  return rows.map((row) => ({
    table: row.table_name,
    recordId: decodeRecordId(row.record_id),
    code: 'ERR_PING_PONG' satisfies TillsyncErrorCode,
    message:
      'What came of it was made into something else here again and again, as it was elsewhere: that is not sent any more. Is a time of change published, which triggers set?',
    parkedAt: row.at,
  }))
}

const bounced = compiledOnce(({ build }) =>
  build.selectFrom(BOUNCED.name).select(['table_name', 'record_id', 'at']).where('times', '>=', MOST).orderBy('at').limit(MOST_LISTED).compile(),
)
