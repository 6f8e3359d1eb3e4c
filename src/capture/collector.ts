import { sql } from 'kysely'
import { chainLines, documentLine } from '../digest.ts'
import { TillsyncError } from '../errors.ts'
import { STATE } from '../migrate.ts'
import { type Entry, type Operation, type Point, START, type Takes } from '../model.ts'
import type { OwnTable } from '../own-table.ts'
import type { CapturingDatabase } from '../ports.ts'
import { compiledOnce, erase, type Key, lookup, pause, query, type Statement, sendRows, together, type Work, writing } from '../work.ts'
import {
  areComparable,
  documentsTouched,
  otherwiseWritten,
  type ReadDocument,
  type Reading,
  readDocuments,
  type TouchedDocument,
} from './documents.ts'
import { FormerKeys, type FormerMember } from './former-keys.ts'
import { readTakes, tooLarge } from './limits.ts'
import { type Parked, park } from './parked.ts'
import type { CapturePlan } from './plan.ts'
import { askReseal } from './reseal.ts'
import type { RootPlan } from './table-plan.ts'
import { EMPTIED, ENTRIES, MEMBERS, PARKED, WITHHELD } from './tables.ts'
import { byPresentRules, type Former, isOfOtherRules, isUnchanged, readWithheld, type Withheld, writeWithheld } from './withheld.ts'

/** What one slice of sealing did. */
export interface Slice {
  /** Whether there may be more to seal. */
  readonly more: boolean
  /** How far its touches went, as the capture's `mark` counts. */
  readonly touch: number
  readonly documents: number
  readonly entries: number
  /** Those sealed because of `export()`, changed or not. */
  readonly exported: { readonly documents: number; readonly entries: number }
  /** The last entry of the stream. */
  readonly through: number
  /** Roots that were touched as a whole: their reseal was asked for. */
  readonly whole: ReadonlySet<string>
  /** How long it wrote. */
  readonly wroteMs: number
}

/** A document that the audience was given, or that is withheld from it. */
export interface Member {
  readonly hash: Uint8Array
  readonly identity: Uint8Array | null
  /** The last entry by which it was given. */
  readonly entryNo: number
  /** What it was where it is withheld, undefined where it was given. */
  readonly withheld: Withheld | undefined
}

/** How much of documents is held at once, in UTF-16 units of their records: what is sealed in one process beside the host's sales is not to take the memory that those need. */
const MOST_HELD = 16 * 1_048_576

/** The documents that a slice's touches lead to are more than is held at once. */
export class Overfull extends TillsyncError {
  /** With about so many touches they are not. */
  readonly fitting: number

  constructor(fitting: number) {
    super('ERR_TOO_LARGE', 'A slice has more than is held at once', { retryable: true, hint: 'It is tried again with less.' })
    this.fitting = fitting
  }
}

/**
 * Seals what up to `limit` touches lead to, in one transaction: touches taken, entries numbered and chained, members
 * brought up to date. Whatever runs at the same time, or twice, this is the only writer while it lasts. All is read and computed
 * before anything is written. `note` is told of the documents that were looked at, in the same transaction.
 *
 * @throws Overfull, with more than one touch
 */
export function* sealSlice(
  database: CapturingDatabase,
  plan: CapturePlan,
  limit: number,
  now: () => number,
  note: (touched: readonly TouchedDocument[]) => Work<void> = nothing,
): Work<Slice> {
  const { touches, more, through: touch, forget } = yield* database.capture.takeTouches(limit)
  const { documents: meant, whole } = yield* documentsTouched(plan, touches)
  const readings = yield* readSlice([...meant.values()], limit)
  const others = yield* otherwiseWritten(meant, readings)
  for (const [document, reading] of yield* readAll(others)) readings.set(document, reading)
  const touched = [...meant.values(), ...others]
  const [last, takes, anyParked] = yield* together(lastEntry(database), readTakes(database), query(statementsOf(database).parked))
  const log = new Log(last, new Date(now()).toISOString(), takes)
  const exported = { documents: 0, entries: 0 }
  const parked: Parked[] = []
  const formerKeys = new FormerKeys(database)
  for (const some of inChunks(touched)) {
    const members = yield* membersOf(database, some)
    const formers = yield* formerKeys.find(
      some.flatMap((document, n) => {
        const now = readings.get(document)
        return members[n] !== undefined || document.existing || now === undefined || now instanceof Error ? [] : [{ document, now }]
      }),
    )
    for (const [n, document] of some.entries()) {
      const reading = readings.get(document)
      if (reading instanceof Error) {
        parked.push({ document, error: reading })
        continue
      }
      const before = log.entries
      const former = formers.get(document)
      const error = former ? log.sealFormer(document, former, reading as ReadDocument) : log.seal(document, members[n], reading)
      if (error !== undefined) parked.push({ document, error })
      if (reading !== undefined && reading.records.length >= MANY_RECORDS) yield* pause()
      if (!document.exported || reading === undefined || error !== undefined) continue
      exported.documents++
      exported.entries += log.entries - before
    }
    yield* pause()
  }
  yield* writing()
  const began = performance.now()
  yield* forget()
  for (const table of whole) yield* askReseal(database, table, false)
  yield* log.write()
  yield* park(anyParked.length > 0 ? touched : [], parked, log.sealedAt)
  yield* note(touched)
  return {
    more,
    touch,
    documents: log.documents,
    entries: log.entries,
    exported,
    through: log.entryNo,
    whole,
    wroteMs: performance.now() - began,
  }
}

function* nothing(): Work<void> {
  yield* []
}

/** Documents that are worked on between two steps: where steps are awaited, the host's event loop goes on in between. */
const CHUNK = 64
/** Records that are read between two steps, as far as their number can be foreseen; a document with more has pauses of its own. */
const MANY_RECORDS = 256

export function* inChunks<T>(all: readonly T[]): Generator<readonly T[]> {
  for (let from = 0; from < all.length; from += CHUNK) yield all.slice(from, from + CHUNK)
}

/** Entries in the making: numbers, chain and members. */
class Log {
  entryNo: number
  documents = 0
  readonly sealedAt: string
  private digest: string
  private readonly rows: unknown[][] = []
  private readonly members: unknown[][] = []
  private readonly withheld: unknown[][] = []
  private readonly left: Key[] = []
  private readonly released: Key[] = []

  private readonly takes: Takes

  constructor(last: { readonly entryNo: number; readonly digest: string }, sealedAt: string, takes: Takes) {
    this.takes = takes
    this.entryNo = last.entryNo
    this.digest = last.digest
    this.sealedAt = sealedAt
  }

  get entries(): number {
    return this.rows.length
  }

  /** Answers why it can't be sealed: then nothing is done. */
  seal(document: TouchedDocument, member: Member | undefined, now: ReadDocument | undefined): TillsyncError | undefined {
    if (now === undefined) {
      if (member) this.remove(document, member)
      return undefined
    }
    if (member === undefined && document.existing && !document.exported) {
      this.withhold(document, now)
      return undefined
    }
    const another = member !== undefined && isAnother(now, member)
    const anyway = document.exported || (document.again && member?.withheld === undefined)
    const ofOtherRules = isOfOtherRules(document.root, member?.withheld)
    if (isEmptied(member) && !another && !document.changed) {
      this.note(document, now, 'given', member.entryNo)
      return undefined
    }
    if (member !== undefined && !anyway && !ofOtherRules && isEqual(now, member)) {
      // The rules name other identity columns by now: from here on those tell.
      if (!equal(member.identity, now.identity)) this.note(document, now, member.withheld ? 'withheld' : 'given', member.entryNo)
      return undefined
    }
    const former = member?.withheld && !another ? byPresentRules(document.root, member.withheld, now.records, document.changed) : undefined
    if (former !== undefined && !anyway && isStillWithheld(document, former, now)) {
      this.withhold(document, now)
      return undefined
    }
    const baseline = former?.records ?? []
    const error = tooLarge(document.root.table, baseline.length === 0 ? now.records : [...baseline, ...now.records], this.takes)
    if (error !== undefined) return error
    if (another) this.remove(document, member)
    this.addRecords('baseline', document, baseline)
    this.addRecords('upsert', document, now.records)
    this.note(document, now, 'given', this.entryNo)
    if (member?.withheld) this.released.push([document.root.table, document.recordId])
    this.documents++
    return undefined
  }

  /** What was withheld under another key is so under this one, or that is its baseline. */
  sealFormer(document: TouchedDocument, { recordId, withheld }: FormerMember, now: ReadDocument): TillsyncError | undefined {
    const error = this.seal(document, { hash: NO_HASH, identity: now.identity, entryNo: 0, withheld }, now)
    if (error !== undefined) return error
    const key = [document.root.table, recordId]
    this.left.push(key)
    this.released.push(key)
    return undefined
  }

  /** What was withheld is unknown to the audience: it is forgotten without a word. */
  private remove(document: TouchedDocument, member: Member): void {
    const key = [document.root.table, document.recordId]
    this.left.push(key)
    if (member.withheld) {
      this.released.push(key)
      return
    }
    this.addRecords('remove', document, [{ table: document.root.table, recordId: document.recordId, record: null }])
    this.documents++
  }

  private withhold(document: TouchedDocument, now: ReadDocument): void {
    this.note(document, now, 'withheld', 0)
    this.withheld.push([document.root.table, document.recordId, writeWithheld(document.root, now.records)])
  }

  private note({ root, recordId }: TouchedDocument, now: ReadDocument, state: 'given' | 'withheld', entryNo: number): void {
    this.members.push([root.table, recordId, now.hash, now.identity, state, entryNo])
  }

  private addRecords(operation: Operation, of: TouchedDocument, records: readonly Pick<Entry, 'table' | 'recordId' | 'record'>[]): void {
    const document = documentLine({ table: of.root.table, recordId: of.recordId })
    for (const { table, recordId, record } of records) {
      this.entryNo++
      this.digest = chainLines(this.digest, { entryNo: this.entryNo, table, operation, recordId, record, sealedAt: this.sealedAt }, document)
      this.rows.push([this.entryNo, table, operation, recordId, record, document, this.sealedAt, Buffer.from(this.digest, 'hex')])
    }
  }

  *write(): Work<void> {
    yield* sendRows([{ table: ENTRIES, rows: this.rows }])
    yield* erase(MEMBERS, MEMBERS.primaryKey, this.left)
    yield* erase(WITHHELD, WITHHELD.primaryKey, this.released)
    yield* sendRows([
      { table: MEMBERS, rows: this.members, replaceBy: MEMBERS.primaryKey },
      { table: WITHHELD, rows: this.withheld, replaceBy: WITHHELD.primaryKey },
    ])
  }
}

/** Equal to none. */
const NO_HASH = Buffer.alloc(0)

/** Whether it has lost parts, of which none is taken for removed. */
export function isEmptied(member: Member | undefined): member is Member {
  return member !== undefined && member.withheld === undefined && equal(member.hash, EMPTIED)
}

/** Whether a document is as it was given. */
export function isEqual(now: ReadDocument, member: Member): boolean {
  return !isAnother(now, member) && equal(member.hash, now.hash)
}

/** Other rules or names of columns are no change of a document. Where rules publish what they did not before, only one that nobody has touched can have been like that. */
function isStillWithheld(document: TouchedDocument, former: Former, now: ReadDocument): boolean {
  return !(former.isGuessed && document.changed) && isUnchanged(document.root, former.records, now.records)
}

/** Whether the key was used again. Where the rules name other identity columns than before, nobody can say. */
function isAnother(now: ReadDocument, { identity }: Member): boolean {
  return areComparable(identity, now.identity) && !equal(identity, now.identity)
}

function equal(a: Uint8Array | null, b: Uint8Array | null): boolean {
  return a === b || (a !== null && b !== null && Buffer.compare(a, b) === 0)
}

/** Reads what `limit` touches lead to. @throws Overfull, with more than one */
export function readSlice(touched: readonly TouchedDocument[], limit: number): Work<Map<TouchedDocument, Reading>> {
  return readAll(touched, limit > 1 ? MOST_HELD : Number.POSITIVE_INFINITY)
}

/** Reads documents, as many at a time as the records that they have allow. @throws Overfull where they are longer than `most` */
export function* readAll(touched: readonly TouchedDocument[], most = Number.POSITIVE_INFINITY): Work<Map<TouchedDocument, Reading>> {
  const readings = new Map<TouchedDocument, Reading>()
  let held = 0
  for (const [root, documents] of Map.groupBy(touched, (document): RootPlan => document.root)) {
    let size = 16
    for (let from = 0; from < documents.length; ) {
      const some = documents.slice(from, from + size)
      const read = yield* readDocuments(root, some)
      let records = 0
      for (const [n, document] of some.entries()) {
        const reading = read[n]
        if (reading !== undefined && !(reading instanceof Error)) {
          records += reading.records.length
          for (const { record } of reading.records) held += record.length
        }
        readings.set(document, reading)
      }
      if (held > most) throw new Overfull(Math.max(1, Math.floor((readings.size * most) / held)))
      from += some.length
      // As many as had about so many records this time.
      size = Math.max(1, Math.min(CHUNK, Math.round((4 * MANY_RECORDS * some.length) / Math.max(1, records))))
      yield* pause()
    }
  }
  return readings
}

interface Statements {
  readonly members: Statement
  readonly withheld: Statement
  readonly last: Statement
  readonly parked: Statement
}

const statementsOf = compiledOnce((database): Statements => {
  const { build } = database
  const byKey = (table: OwnTable, columns: readonly string[]) =>
    build
      .selectFrom(table.name)
      .select([...columns])
      .where(sql.raw<boolean>((database as CapturingDatabase).keyed(table, table.primaryKey)))
      .compile()
  return {
    members: byKey(MEMBERS, ['hash', 'identity', 'state', 'entry_no']),
    withheld: byKey(WITHHELD, ['records']),
    last: build
      .selectFrom(ENTRIES.name)
      .select((eb) => ['entry_no', 'digest', eb.selectFrom(STATE.name).select('value').where('key', '=', BEGUN).as('begun')])
      .orderBy('entry_no', 'desc')
      .limit(1)
      .compile(),
    parked: build.selectFrom(PARKED.name).select('table_name').limit(1).compile(),
  }
})

export function* membersOf(database: CapturingDatabase, touched: readonly TouchedDocument[]): Work<readonly (Member | undefined)[]> {
  const keys = touched.map(({ root, recordId }) => [root.table, recordId])
  const found = yield* lookup(statementsOf(database).members, keys)
  const withheldAt = [...found.keys()].filter((n) => found[n]?.[0]?.[2] === 'withheld')
  const records = yield* lookup(
    statementsOf(database).withheld,
    withheldAt.map((n) => keys[n] as Key),
  )
  return found.map(([member], n) => {
    if (member === undefined) return undefined
    const [withheld] = records[withheldAt.indexOf(n)] ?? []
    const [hash, identity, , entryNo] = member as [Uint8Array, Uint8Array | null, string, unknown]
    return { hash, identity, entryNo: Number(entryNo), withheld: withheld && readWithheld(withheld[0] as string) }
  })
}

/** Where the last epoch began that tells all anew, as a point: a fact of the database's state. */
export const BEGUN = 'begun'

/** The last entry of the stream; it is never pruned, so the log itself says where it stands. Where an epoch begins behind it that tells all anew, with the digest that this begins with. */
export function* lastEntry(database: CapturingDatabase): Work<{ readonly entryNo: number; readonly digest: string }> {
  const [last] = yield* query<{ entry_no: number | string; digest: Uint8Array; begun: string | null }>(statementsOf(database).last)
  if (last === undefined) return START
  const begun = last.begun === null ? undefined : (JSON.parse(last.begun) as Point)
  const entryNo = Number(last.entry_no)
  return begun?.entryNo === entryNo ? begun : { entryNo, digest: Buffer.from(last.digest).toString('hex') }
}
