import { createHash } from 'node:crypto'
import type { RecordIdText } from './model.ts'

// What central and a register say to each other when central compares its archive with what the register has published.

/** Record ids in the order of their bytes in UTF-8: those after one, through another. */
export interface RecordIdRange {
  /** Empty: from the first. */
  readonly after: RecordIdText
  /** Undefined: through the last. */
  readonly through: RecordIdText | undefined
}

/** Central asks which documents of a root table its register has published, in ranges that follow one another. */
export interface ComparisonQuestion {
  readonly id: string
  readonly table: string
  /** Each document is to be named; otherwise they are counted, with a digest for so many at a time. */
  readonly list: boolean
  readonly ranges: readonly RecordIdRange[]
}

/** A document that was published, with the hash of what it last was. */
export interface PublishedDocument {
  readonly recordId: RecordIdText
  /** 64 hexadecimal digits; undefined where it last came from central, which publishes it too, and nothing was sealed since. */
  readonly hash: string | undefined
}

/** What was published of a part of a range, which goes on where the part before it ends. */
export interface ComparedPart {
  /** Undefined: through the end of the range; the next part is of the next range. */
  readonly through: RecordIdText | undefined
  /** When all entries up to here were sealed, and none behind it. */
  readonly entryNo: number
  readonly count: number
  /** Of `digestOf`; undefined where documents are named. */
  readonly digest: string | undefined
  readonly documents: readonly PublishedDocument[] | undefined
}

/** The columns of a table that count for the hash of a document, in their order, each with the value that does not. */
export interface HashedTable {
  readonly table: string
  readonly columns: readonly { readonly name: string; readonly initial: string }[]
}

/**
 * Why a register can't say what it has published.
 *
 * - `unpublished`: its rules don't name the table, or the table no longer fits them.
 * - `order`: its database keeps record ids in another order than that of their bytes.
 * - `size`: no message that central takes would hold it.
 */
export type ComparisonRefusal = 'unpublished' | 'order' | 'size'

export interface ComparisonAnswer {
  /** Of the question. */
  readonly id: string
  /** By which codec records are written and hashes made. */
  readonly codec: number
  /** The root table, and its parts. */
  readonly tables: readonly HashedTable[]
  /** Central publishes documents of the table, too: what it removes is removed here, and nothing is said of it. */
  readonly both: boolean
  /** As far as it came. */
  readonly parts: readonly ComparedPart[]
  readonly refused: ComparisonRefusal | undefined
}

/** The codec of this version. */
export const CODEC = 1

/** Documents that are counted together. */
export const COUNTED = 500
/** Ranges of a question, and parts of an answer, at most. */
export const MOST_RANGES = 20
export const MOST_PARTS = 200
/** Documents that an answer names at most. */
export const MOST_LISTED = 2_000

/** What a record adds to the text of which a document's hash is made. */
export function hashedLine(table: string, recordId: RecordIdText, content: string): string {
  return `${JSON.stringify(table)}${recordId}${content}\n`
}

/** SHA-256 over documents and their hashes, by record id. No record id holds a line feed. */
export function digestOf(documents: readonly PublishedDocument[]): string {
  const all = createHash('sha256')
  for (const { recordId, hash } of documents) all.update(`${recordId}\n${hash ?? ''}\n`)
  return all.digest('hex')
}

/** In the order of their bytes in UTF-8: negative, zero, positive. */
export function compareIds(a: RecordIdText, b: RecordIdText): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b))
}

/**
 * What of a question is left behind the parts of an answer to it; undefined where they do not follow the question. `told`: each part with the range that it is about.
 */
export function restOf(
  { ranges, list }: Pick<ComparisonQuestion, 'ranges' | 'list'>,
  parts: readonly ComparedPart[],
): { readonly rest: readonly RecordIdRange[]; readonly told: readonly RecordIdRange[] } | undefined {
  const rest = [...ranges]
  const told: RecordIdRange[] = []
  for (const part of parts) {
    const range = rest.shift()
    if (range === undefined || !follows(range, part, list)) return undefined
    const through = part.through ?? range.through
    told.push({ after: range.after, through })
    if (part.through !== undefined) rest.unshift({ after: part.through, through: range.through })
  }
  return { rest, told }
}

function follows({ after, through }: RecordIdRange, part: ComparedPart, list: boolean): boolean {
  const end = part.through ?? through
  if (part.through !== undefined && (compareIds(part.through, after) <= 0 || (through !== undefined && compareIds(part.through, through) > 0)))
    return false
  if (!list) return part.digest !== undefined && part.documents === undefined
  if (part.documents === undefined || part.documents.length !== part.count) return false
  const ids = [after, ...part.documents.map(({ recordId }) => recordId)]
  if (ids.some((id, n) => n > 0 && compareIds(ids[n - 1] as string, id) >= 0)) return false
  return end === undefined || compareIds(ids.at(-1) as string, end) <= 0
}
