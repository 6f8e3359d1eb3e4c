import {
  CODEC,
  COUNTED,
  type ComparedPart,
  type ComparisonAnswer,
  type ComparisonQuestion,
  type ComparisonRefusal,
  compareIds,
  digestOf,
  type HashedTable,
  MOST_LISTED,
  MOST_PARTS,
  type PublishedDocument,
  type RecordIdRange,
} from '../comparison.ts'
import type { CapturingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import type { Upkeep } from './activation.ts'
import { lastEntry } from './collector.ts'
import { readEpoch } from './history.ts'
import { pendingReseals } from './reseal.ts'
import type { TablePlan } from './table-plan.ts'
import { MEMBERS } from './tables.ts'

/** How long one answer may take, in milliseconds; each read of it has a turn of the event loop of its own. */
const WORK_MS = 200
/** What a part, a document, or a column takes on the wire beside its texts. */
const OVERHEAD_BYTES = 48
/** SHA-256. */
const HASH_BYTES = 32

/**
 * What of the documents that central asks for was published, as far as it fits into an answer of so many bytes (`both`: central publishes documents of the table, too): each part as it was at one moment, after a certain entry. Undefined
 * where that can't be said just now: the table is compared with what was published, or the history or the schema is another one by now.
 */
export async function answerComparison(
  database: CapturingDatabase,
  { plan, schema }: Pick<Upkeep, 'plan' | 'schema'>,
  epoch: string,
  question: ComparisonQuestion,
  { bytes, both }: { readonly bytes: number; readonly both: boolean },
): Promise<ComparisonAnswer | undefined> {
  const root = plan.roots.get(question.table)
  if (root === undefined) return refuse(question, 'unpublished')
  const tables = hashedTables(root)
  if (sizeOf(tables) > bytes) return refuse(question, 'size')
  const parts = new Parts(question, bytes)
  const began = performance.now()
  for (let next = parts.next(); next !== undefined; next = parts.next()) {
    if (parts.all.length > 0 && performance.now() - began > WORK_MS) break
    const { range, limit } = next
    const read = await database.read(() => readPart(database, { table: question.table, schema, epoch }, range, limit))
    if (read === undefined) {
      if (parts.all.length === 0) return undefined
      break
    }
    const ids = [range.after, ...read.documents.map(({ recordId }) => recordId)]
    if (ids.some((id, n) => n > 0 && compareIds(ids[n - 1] as string, id) >= 0)) return refuse(question, 'order')
    parts.add(read.documents, read.entryNo, read.documents.length < limit)
  }
  return { id: question.id, codec: CODEC, tables, both, parts: parts.all, refused: undefined }
}

function refuse({ id }: ComparisonQuestion, refused: ComparisonRefusal): ComparisonAnswer {
  return { id, codec: CODEC, tables: [], both: false, parts: [], refused }
}

function hashedTables(plan: TablePlan): readonly HashedTable[] {
  const columns = plan.hashed.map(({ at, initial }) => ({ name: plan.columns[at]?.name as string, initial }))
  return [{ table: plan.table, columns }, ...plan.parts.flatMap(hashedTables)]
}

function sizeOf(tables: readonly HashedTable[]): number {
  const texts = tables.flatMap(({ table, columns }) => [table, ...columns.map(({ name, initial }) => name + initial)])
  return texts.reduce((sum, text) => sum + Buffer.byteLength(text) + OVERHEAD_BYTES / 4, 0)
}

/** The parts of an answer, as many as it holds. */
class Parts {
  readonly all: ComparedPart[] = []
  private readonly question: ComparisonQuestion
  private readonly ranges: RecordIdRange[]
  private room: number
  private listed = 0
  private isFull = false

  constructor(question: ComparisonQuestion, bytes: number) {
    this.question = question
    this.ranges = [...question.ranges]
    this.room = bytes
  }

  /** What is to be read next, at most `limit` documents; undefined where there is nothing, or no room. */
  next(): { readonly range: RecordIdRange; readonly limit: number } | undefined {
    const [range] = this.ranges
    const limit = this.question.list ? Math.min(COUNTED, MOST_LISTED - this.listed) : COUNTED
    return range === undefined || this.isFull || this.all.length === MOST_PARTS || limit === 0 ? undefined : { range, limit }
  }

  add(read: readonly PublishedDocument[], entryNo: number, isEnd: boolean): void {
    const { list } = this.question
    const documents = list ? this.fitting(read) : read
    const through = isEnd && documents.length === read.length ? undefined : documents.at(-1)?.recordId
    const bytes = OVERHEAD_BYTES + Buffer.byteLength(through ?? '')
    // The first always fits: a record id has a bound.
    if ((through === undefined && !isEnd) || (this.all.length > 0 && bytes > this.room)) {
      this.isFull = true
      return
    }
    this.room -= bytes + (list ? listedBytes(documents) : 0)
    this.listed += list ? documents.length : 0
    this.isFull = documents.length < read.length
    const told = list ? { digest: undefined, documents } : { digest: digestOf(documents), documents: undefined }
    this.all.push({ through, entryNo, count: documents.length, ...told })
    const range = this.ranges.shift() as RecordIdRange
    if (through !== undefined) this.ranges.unshift({ after: through, through: range.through })
  }

  private fitting(documents: readonly PublishedDocument[]): readonly PublishedDocument[] {
    let bytes = 0
    const end = documents.findIndex((document) => {
      bytes += listedBytes([document])
      return bytes > this.room
    })
    return end === -1 ? documents : documents.slice(0, Math.max(end, this.all.length === 0 ? 1 : 0))
  }
}

function listedBytes(documents: readonly PublishedDocument[]): number {
  return documents.reduce((sum, { recordId }) => sum + Buffer.byteLength(recordId) + OVERHEAD_BYTES, 0)
}

interface Asked {
  readonly table: string
  /** The schema and the epoch that the answer is of. */
  readonly schema: string
  readonly epoch: string
}

/** Documents of a range, and the last entry that was sealed by then: in one snapshot. */
function* readPart(
  database: CapturingDatabase,
  { table, schema, epoch }: Asked,
  { after, through }: RecordIdRange,
  limit: number,
): Work<{ readonly documents: readonly PublishedDocument[]; readonly entryNo: number } | undefined> {
  if ((yield* database.capture.schemaVersion()) !== schema || (yield* readEpoch(database)) !== epoch) return undefined
  // Until it is done, hashes of documents that have not changed may be of columns as they were.
  if ((yield* pendingReseals(database)).includes(table)) return undefined
  let select = database.build
    .selectFrom(MEMBERS.name)
    .select(['record_id', 'hash', 'entry_no'])
    .where('table_name', '=', table)
    .where('state', '=', 'given')
    .where('record_id', '>', after)
  if (through !== undefined) select = select.where('record_id', '<=', through)
  const rows = yield* query<{ record_id: string; hash: Uint8Array; entry_no: number | string }>(select.orderBy('record_id').limit(limit).compile())
  const documents = rows.map(({ record_id, hash, entry_no }) => ({
    recordId: record_id,
    hash: Number(entry_no) === 0 ? undefined : hashText(hash),
  }))
  return { documents, entryNo: (yield* lastEntry(database)).entryNo }
}

/** What somebody has made of a hash by hand is that of no document. As it is it would be no answer, and central would refuse the message, with the sales in it. */
function hashText(hash: unknown): string {
  return hash instanceof Uint8Array && hash.length === HASH_BYTES ? Buffer.from(hash).toString('hex') : '00'.repeat(HASH_BYTES)
}
