import type { CapturingDatabase, PublishingDatabase } from '../ports.ts'
import { committed, erase, insert, type Key, pause, query, type Work, writing } from '../work.ts'
import { dropAudience } from './audience-prune.ts'
import { AUDIENCE_MEMBERS } from './audience-tables.ts'
import { type Audience, evaluate, isKeyedAs, moveHead, readAudiences } from './audiences.ts'
import { inChunks, isEqual, membersOf, readAll, readSlice, type Slice } from './collector.ts'
import { documentsTouched, otherwiseWritten, type Reading, type TouchedDocument } from './documents.ts'
import { type Parked, park } from './parked.ts'
import type { CapturePlan } from './plan.ts'
import { askReseal, pendingReseals } from './reseal.ts'
import { MEMBERS, PARKED } from './tables.ts'

/** A slice of sealing for audiences, and the streams that it moved. */
export interface AudienceSlice extends Slice {
  readonly audiences: readonly number[]
}

/** Where so many filters of a table took too long, its others are not asked any more: each would hold up all that is sealed for as long. */
const MOST_SLOW = 3

/** An audience whose filter can't be asked any more: it is not there, and whoever is in it begins anew once a filter can be asked. */
export interface GivenUp {
  readonly audience: Audience
  /** What its statement failed with, or was cancelled with because it takes too long; undefined where the table has another key since. */
  readonly cause: unknown
}

/**
 * Seals what up to `limit` touches lead to, for every audience of the tables: each touched document is read once, and looked for in each filter once. In one
 * transaction, alone; all is read before anything is written. A filter that takes too long, or does not run since the host has changed its tables, holds up nobody
 * else: its audience is given up.
 *
 * @throws Overfull, with more than one touch
 */
export function* sealAudiences(
  database: PublishingDatabase,
  plan: CapturePlan,
  limit: number,
  now: () => number,
  onGivenUp: (audiences: readonly GivenUp[]) => void,
): Work<AudienceSlice> {
  const { touches, more, through: touch, forget } = yield* database.capture.takeTouches(limit)
  const { documents: meant, whole } = yield* documentsTouched(plan, touches)
  const readings = yield* readSlice([...meant.values()], limit)
  const others = yield* otherwiseWritten(meant, readings)
  for (const [document, reading] of yield* readAll(others)) readings.set(document, reading)
  const touched = [...meant.values(), ...others]
  const { changed, parked, members, left } = yield* compare(database, touched, readings)
  const failed = new Set(parked.map(({ document }) => document))
  const there = touched.filter((document) => !failed.has(document))
  const moves: Move[] = []
  const givenUp: GivenUp[] = []
  const tables = [...new Set(there.map(({ root }) => root.table))]
  for (const audience of yield* readAudiences(database, tables)) {
    const own = there.filter(({ root }) => root.table === audience.table_name)
    const slow = givenUp.filter((one) => one.audience.table_name === audience.table_name && database.faultOf(one.cause) === 'cancelled')
    if (slow.length >= MOST_SLOW) {
      givenUp.push({ audience, cause: slow[0]?.cause })
      continue
    }
    const move = yield* moveOf(database, audience, own, { changed, readings, parked })
    if ('cause' in move) givenUp.push(move)
    else if (move.rows.length > 0) moves.push(move)
  }
  // What could not be read, or not be looked for in every filter, counts as changed when it is looked at again.
  const unsure = new Set(parked.map(({ document: { root, recordId } }) => JSON.stringify([root.table, recordId])))
  const anyParked = yield* query(database.build.selectFrom(PARKED.name).select('table_name').limit(1).compile())
  yield* writing()
  const began = performance.now()
  yield* forget()
  for (const table of whole) yield* askReseal(database, table, false)
  yield* insert(MEMBERS, members, MEMBERS.primaryKey)
  yield* erase(MEMBERS, MEMBERS.primaryKey, [...left, ...[...unsure].map((name) => JSON.parse(name) as Key)])
  for (const { audience, rows, entryNo } of moves) {
    yield* insert(AUDIENCE_MEMBERS, rows, AUDIENCE_MEMBERS.primaryKey)
    yield* moveHead(database, audience, entryNo)
  }
  for (const { audience } of givenUp) yield* dropAudience(database, audience.audience_id)
  if (givenUp.length > 0) yield* committed(() => onGivenUp(givenUp))
  yield* park(anyParked.length > 0 ? touched : [], parked, new Date(now()).toISOString())
  return {
    more,
    touch,
    documents: changed.size,
    entries: moves.reduce((sum, { rows }) => sum + rows.length, 0),
    exported: { documents: touched.filter((document) => document.exported && changed.has(document)).length, entries: 0 },
    through: 0,
    whole,
    wroteMs: performance.now() - began,
    audiences: moves.map(({ audience }) => audience.audience_id),
  }
}

/** Documents against what was known of them. */
interface Comparison {
  readonly changed: ReadonlySet<TouchedDocument>
  readonly parked: Parked[]
  readonly members: readonly (readonly unknown[])[]
  readonly left: readonly Key[]
}

function* compare(
  database: CapturingDatabase,
  touched: readonly TouchedDocument[],
  readings: ReadonlyMap<TouchedDocument, Reading>,
): Work<Comparison> {
  const changed = new Set<TouchedDocument>()
  const parked: Parked[] = []
  const members: unknown[][] = []
  const left: Key[] = []
  // What a changed schema has made of a document may have been told before it was compared, and be taken back since.
  const resealing = touched.some(({ changed }) => changed) ? yield* pendingReseals(database) : []
  const isUnsure = ({ changed, root }: TouchedDocument) => changed && resealing.includes(root.table)
  for (const some of inChunks(touched)) {
    const known = yield* membersOf(database, some)
    for (const [n, document] of some.entries()) {
      const reading = readings.get(document)
      const member = known[n]
      const key = [document.root.table, document.recordId]
      if (reading instanceof Error) parked.push({ document, error: reading })
      else if (reading === undefined) {
        if (member !== undefined) left.push(key)
        changed.add(document)
      } else if (member === undefined || document.exported || document.again || !isEqual(reading, member) || isUnsure(document)) {
        members.push([...key, reading.hash, null, 'given', 0])
        changed.add(document)
      }
    }
    yield* pause()
  }
  return { changed, parked, members, left }
}

/** What an audience is to hear of. */
interface Move {
  readonly audience: Audience
  readonly rows: readonly (readonly unknown[])[]
  readonly entryNo: number
}

interface Outlook {
  readonly changed: ReadonlySet<TouchedDocument>
  readonly readings: ReadonlyMap<TouchedDocument, Reading>
  readonly parked: Parked[]
}

/** Documents are looked for in a filter so many at a time. */
const AT_ONCE = 500

function* moveOf(database: PublishingDatabase, audience: Audience, documents: readonly TouchedDocument[], outlook: Outlook): Work<Move | GivenUp> {
  const { changed, readings, parked } = outlook
  const rows: unknown[][] = []
  let entryNo = audience.head_no
  for (let from = 0; from < documents.length; from += AT_ONCE) {
    const some = documents.slice(from, from + AT_ONCE)
    const standing = some.filter((document) => readings.get(document) !== undefined)
    const [{ root }] = some as [TouchedDocument]
    if (!isKeyedAs(database, root, audience)) return { audience, cause: undefined }
    const evaluated = yield* unlessBroken(database, evaluate(database, root, audience.filter, standing))
    if ('cause' in evaluated) return { audience, cause: evaluated.cause }
    const { inside, failed } = evaluated
    const known = yield* membershipOf(database, audience, some)
    for (const [n, document] of some.entries()) {
      const { recordId } = document
      const error = failed.get(recordId)
      // As it was until it can be said.
      if (error !== undefined && !parked.some((one) => one.document === document)) parked.push({ document, error })
      if (error !== undefined) continue
      const isIn = inside.has(recordId)
      if (isIn ? known[n] !== true || changed.has(document) : known[n] === true) rows.push([audience.audience_id, recordId, ++entryNo, !isIn])
    }
    yield* pause()
  }
  return { audience, rows, entryNo }
}

/** What is wrong with a filter of the host's, and not with the database. */
function* unlessBroken<T>({ faultOf }: PublishingDatabase, work: Work<T>): Work<T | { readonly cause: unknown }> {
  try {
    return yield* work
  } catch (cause) {
    if (faultOf(cause) === undefined) throw cause
    return { cause }
  }
}

/** Whether each is a member: undefined where it never was. */
function* membershipOf(
  database: CapturingDatabase,
  { audience_id }: Audience,
  documents: readonly TouchedDocument[],
): Work<readonly (boolean | undefined)[]> {
  const rows = yield* query<{ record_id: string; removed: boolean }>(
    database.build
      .selectFrom(AUDIENCE_MEMBERS.name)
      .select(['record_id', 'removed'])
      .where('audience_id', '=', audience_id)
      .where(
        'record_id',
        'in',
        documents.map(({ recordId }) => recordId),
      )
      .compile(),
  )
  const known = new Map(rows.map(({ record_id, removed }) => [record_id, !removed]))
  return documents.map(({ recordId }) => known.get(recordId))
}
