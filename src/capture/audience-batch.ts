import { TillsyncError } from '../errors.ts'
import type { AudienceBatch, AudienceDocument, AudienceStanding, PartShape } from '../model.ts'
import type { CapturingDatabase, PublishingDatabase } from '../ports.ts'
import { keyRecord, writtenMembers } from '../record.ts'
import { query, type Work } from '../work.ts'
import { AUDIENCE_MEMBERS, AUDIENCE_POINTS } from './audience-tables.ts'
import { type Audience, evaluate } from './audiences.ts'
import { readDocuments } from './documents.ts'
import { bytesOf } from './limits.ts'
import type { PartSpec } from './rules.ts'
import type { PartPlan, RootPlan, TablePlan } from './table-plan.ts'

/** What of a root table is sent: without the columns that say whose it is. */
export interface SentRoot {
  readonly root: RootPlan
  /** The same, with those columns read and not written. */
  readonly sent: RootPlan
  readonly shape: readonly PartShape[]
  readonly keyColumns: readonly string[]
}

export function sentRoot(root: RootPlan, origin: readonly string[]): SentRoot {
  const keyColumns = root.key.filter((name) => !origin.includes(name))
  const hidden = new Map<string, readonly string[]>([[root.table, origin]])
  const parts = root.parts.map((part) => hidePart(part, hidden))
  return {
    root,
    sent: { ...root, ...hide(root, origin), parts },
    shape: root.spec.parts.map((part) => shapeOf(part, hidden)),
    keyColumns,
  }
}

/** A part's columns that hold what is hidden above are hidden too. */
function hidePart(part: PartPlan, hidden: Map<string, readonly string[]>): PartPlan {
  const { own, others, table } = part.parent
  const above = hidden.get(table) ?? []
  const names = own.filter((_, n) => above.includes(others[n] as string))
  hidden.set(part.table, names)
  return { ...part, ...hide(part, names), parts: part.parts.map((one) => hidePart(one, hidden)) }
}

function hide({ columns, encode, keyAt }: TablePlan, names: readonly string[]): Pick<TablePlan, 'encode' | 'prefixes' | 'keyAt'> {
  const isHidden = columns.map(({ name }) => names.includes(name))
  const first = isHidden.indexOf(false)
  return {
    encode: encode.map((one, at) => (isHidden[at] ? () => '' : one)),
    prefixes: columns.map(({ name }, at) => (isHidden[at] ? '' : `${at === first ? '{' : ','}${JSON.stringify(name)}:`)),
    keyAt: keyAt.filter((at) => !isHidden[at]),
  }
}

function shapeOf(part: PartSpec, hidden: ReadonlyMap<string, readonly string[]>): PartShape {
  const above = hidden.get(part.parent.table) ?? []
  const pairs = part.parent.own.map((own, n) => [own, part.parent.others[n] as string] as const)
  return {
    table: part.table,
    columns: Object.fromEntries(pairs.filter(([, other]) => !above.includes(other))),
    parts: part.parts.map((one) => shapeOf(one, hidden)),
  }
}

/**
 * What a register shows to have this history of the stream: the mark of its head when the batch was cut and, where the batch ends before it, which entry that was. What had moved from before the batch's end to behind it by
 * then, the register has not: where central was restored to a moment between, it stands there again. While a snapshot comes, where that began, too: so it is told the same of it whatever it was told in between, by whom, and
 * whichever backup it was restored from.
 */
function markOf({ head_no, mark }: Audience, through: number, begun: number): string {
  if (through < begun) return `${mark}@${head_no}@${begun}`
  return through === head_no ? mark : `${mark}@${head_no}`
}

/** The mark of the stream's head when what the register has was cut, the entry that it was, and where the snapshot began that is coming. */
function shownBy({ entryNo, mark }: AudienceStanding): { readonly own: string | undefined; readonly seen: number; readonly begun: number } {
  const [own, head = entryNo, begun = 0] = mark.split('@')
  return { own, seen: Number(head), begun: Number(begun) }
}

/** Where the snapshot began of which a register has a part; 0 where none is coming. */
export function begunOf(standing: AudienceStanding): number {
  return shownBy(standing).begun
}

/** Whether a register's standing is of the history of the stream as it is here; otherwise it begins anew. */
export function* isOurs(database: CapturingDatabase, audience: Audience, standing: AudienceStanding): Work<boolean> {
  const { stream, entryNo } = standing
  const { audience_id, head_no, floor_no } = audience
  const { own, seen, begun } = shownBy(standing)
  if (stream !== audience.stream || !Number.isSafeInteger(seen) || seen < entryNo || seen > head_no) return false
  if (!Number.isSafeInteger(begun) || begun < 0 || begun > seen) return false
  // What was removed before its snapshot began it is not told anyway.
  if (Math.max(entryNo, begun) < floor_no) return false
  if (seen === head_no) return own === audience.mark
  const [point] = yield* query<{ mark: string }>(
    database.build
      .selectFrom(AUDIENCE_POINTS.name)
      .select('mark')
      .where('audience_id', '=', audience_id)
      .where('entry_no', '>=', seen)
      .orderBy('entry_no')
      .limit(1)
      .compile(),
  )
  return point?.mark === own
}

export interface AudienceLimits {
  readonly records: number
  /** About as they go over the wire. */
  readonly bytes: number
  /** A document with more can't be sent at all. */
  readonly mostBytes: number
}

/** A document that fits into no message. */
interface Unsendable {
  /** As it would have been sent. */
  readonly recordId: string
  readonly error: TillsyncError
}

/** A batch, and documents that should be in it and can't be sent. */
export interface AudienceCut {
  readonly batch: AudienceBatch
  readonly records: number
  readonly bytes: number
  readonly unsendable: readonly Unsendable[]
}

/** Those of these documents, as they are sent, that the register has given itself. */
export type GivenDocuments = (recordIds: readonly string[]) => Work<ReadonlySet<string>>

/** Members that are read at a time. */
const PAGE = 200

/**
 * What comes behind an entry: the documents as they now are, where they are inside the filter now; removals only behind `begun`, where the snapshot began that brought the others, but for those of documents that the register has
 * `given`: they may stand there though they never came from here. At most `records` records and about `bytes`, but never
 * less than one document. Undefined where nothing does, and the register knows that.
 */
export function* cutAudience(
  database: PublishingDatabase,
  { root, sent, shape, keyColumns }: SentRoot,
  audience: Audience,
  { after, begun, given }: { readonly after: number; readonly begun: number; readonly given: GivenDocuments | undefined },
  limits: AudienceLimits,
): Work<AudienceCut> {
  const documents: AudienceDocument[] = []
  const unsendable: Unsendable[] = []
  let [records, bytes, through] = [0, 0, after]
  for (let isFull = false; !isFull && through < audience.head_no; ) {
    const page = yield* membersBehind(database, audience, through, given === undefined ? begun : 0)
    const left = page.filter(({ removed, entry_no }) => removed && entry_no <= begun).map(({ record_id }) => sentId(root, keyColumns, record_id))
    const told = given && (yield* given(left))
    const there = page
      .filter(({ removed }) => !removed)
      .map(({ record_id }) => ({ recordId: record_id, key: database.keyOf(root.keyColumns, record_id) }))
    const { inside, failed } = yield* evaluate(database, root, audience.filter, there)
    const asked = there.filter(({ recordId }) => inside.has(recordId))
    const readings = yield* readDocuments(
      sent,
      asked.map(({ key, recordId }) => ({
        root,
        key,
        recordId: sentId(root, keyColumns, recordId),
        exported: false,
        again: false,
        existing: false,
        changed: false,
      })),
    )
    const read = new Map(asked.map(({ recordId }, n) => [recordId, readings[n]]))
    for (const { record_id, entry_no, removed } of page) {
      const reading = read.get(record_id)
      // Its latest change is sealed soon; until then it is parked here, and the register keeps what it has.
      const isUnknown = failed.has(record_id) || reading instanceof Error
      const all = reading === undefined || reading instanceof Error ? [] : reading.records
      const size = all.reduce((sum, record) => sum + bytesOf(record), bytesOf({ recordId: record_id, record: null }))
      if (documents.length > 0 && (records + all.length > limits.records || bytes + size > limits.bytes)) {
        isFull = true
        break
      }
      through = entry_no
      if (size > limits.mostBytes)
        unsendable.push({ recordId: sentId(root, keyColumns, record_id), error: tooLarge(root.table, record_id, size, limits.mostBytes) })
      // What is not inside any more a snapshot does not name.
      else if (!isUnknown && (all.length > 0 || entry_no > begun || (removed && told?.has(sentId(root, keyColumns, record_id))))) {
        documents.push({ recordId: sentId(root, keyColumns, record_id), records: all })
        records += Math.max(1, all.length)
        bytes += size
      }
    }
    if (page.length < PAGE && !isFull) through = audience.head_no
  }
  const batch: AudienceBatch = {
    table: root.table,
    stream: audience.stream,
    after,
    through,
    mark: markOf(audience, through, begun),
    isEnd: through === audience.head_no,
    documents,
    shape,
    keyColumns,
  }
  return { batch, records, bytes, unsendable }
}

/** The record id, as it was sealed, without what says whose it is. Another type of a column would write it as another's. */
function sentId({ key }: RootPlan, keyColumns: readonly string[], recordId: string): string {
  if (keyColumns.length === key.length) return recordId
  const values = writtenMembers(keyRecord(key, recordId))
  return `[${keyColumns.map((name) => values.get(name)).join(',')}]`
}

function* membersBehind(
  { build }: CapturingDatabase,
  { audience_id }: Audience,
  after: number,
  begun: number,
): Work<readonly { readonly record_id: string; readonly entry_no: number; readonly removed: boolean }[]> {
  return yield* query(
    build
      .selectFrom(AUDIENCE_MEMBERS.name)
      .select(['record_id', 'entry_no', 'removed'])
      .where('audience_id', '=', audience_id)
      .where('entry_no', '>', after)
      .where((eb) => eb.or([eb('removed', '=', false), eb('entry_no', '>', begun)]))
      .orderBy('entry_no')
      .limit(PAGE)
      .compile(),
  )
}

function tooLarge(table: string, recordId: string, bytes: number, limit: number): TillsyncError {
  return new TillsyncError('ERR_TOO_LARGE', `A document of \`${table}\` has ${bytes} bytes; a register takes ${limit}`, {
    hint: 'Publish less of it: fewer columns, or its parts as documents of their own.',
    context: { table, recordId, limit },
  })
}
