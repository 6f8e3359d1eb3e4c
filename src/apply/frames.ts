import { chainDigest } from '../digest.ts'
import { TillsyncError } from '../errors.ts'
import type { Batch, Entry, Point } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { insert, query, type Work } from '../work.ts'
import type { Origin } from './document-set.ts'
import { FRAMES } from './tables.ts'

/** What became of a frame. */
export type Staged =
  | { readonly outcome: 'staged'; readonly through: Point }
  /** It was the last: the batch has all of them. */
  | { readonly outcome: 'whole'; readonly batch: Batch }
  | { readonly outcome: 'not next' }

/**
 * Takes a frame, inside the caller's transaction. One that was taken before, or does not follow, changes nothing; one that begins its document takes the
 * place of what was staged before.
 *
 * @param current the epoch in which central stands: beside what is staged of it there is at most one other document
 * @throws ERR_DIGEST, ERR_MESSAGE, ERR_TOO_LARGE where the document would be over `maxBytes`
 */
export function* stageFrame(
  database: ApplyingDatabase,
  { registerId, epochNo }: Origin,
  standing: Point,
  batch: Batch,
  { current, maxBytes }: { readonly current: number; readonly maxBytes: number },
): Work<Staged> {
  const { frame, entries, through, after } = batch
  if (frame === undefined || !isSame(frame.base, standing)) return { outcome: 'not next' }
  const known = yield* query<FrameRow>({
    sql: `SELECT entry_no, digest, bytes, document FROM ${database.qualify(FRAMES.name)} WHERE register_id = $1 AND epoch_no = $2 AND base_no = $3 ORDER BY entry_no`,
    parameters: [registerId, epochNo, standing.entryNo],
  })
  const last = known.at(-1)
  if (last && known.some((row) => isSame(pointOf(row), through))) return { outcome: 'staged', through: pointOf(last) }
  const begins = isSame(after, standing)
  if (!begins && !(last && isSame(pointOf(last), after))) return { outcome: 'not next' }
  checkDigest(batch)
  const document = JSON.stringify(entries[0]?.document)
  if (!begins && last?.document !== document) throw new TillsyncError('ERR_MESSAGE', 'A frame is of another document than those before it')
  const bytes = sizeOf(entries)
  const before = begins ? 0 : known.reduce((sum, row) => sum + row.bytes, 0)
  if (before + bytes > maxBytes) throw tooLarge(entries[0]?.document.table, maxBytes)
  if (frame.isLast) {
    const earlier = begins ? [] : yield* entriesOf(database, registerId, epochNo, batch)
    return { outcome: 'whole', batch: { ...batch, after: standing, entries: [...earlier, ...entries], frame: undefined } }
  }
  if (begins) yield* forgetFrames(database, registerId, epochNo === current ? 'epoch_no > 0' : 'epoch_no <> $2', epochNo === current ? [] : [current])
  const contents = JSON.stringify(entries.map(({ table, operation, recordId, record, sealedAt }) => [table, operation, recordId, record, sealedAt]))
  yield* insert(FRAMES, [
    [registerId, epochNo, through.entryNo, Buffer.from(through.digest, 'hex'), standing.entryNo, after.entryNo, bytes, document, contents],
  ])
  return { outcome: 'staged', through }
}

/** The document is there, or something else came in its place. */
export function dropFrames(database: ApplyingDatabase, registerId: number, epochNo: number): Work<void> {
  return forgetFrames(database, registerId, 'epoch_no = $2', [epochNo])
}

function* forgetFrames(database: ApplyingDatabase, registerId: number, which: string, parameters: readonly unknown[]): Work<void> {
  yield* query({ sql: `DELETE FROM ${database.qualify(FRAMES.name)} WHERE register_id = $1 AND (${which})`, parameters: [registerId, ...parameters] })
}

interface FrameRow {
  readonly entry_no: number
  readonly digest: Uint8Array
  readonly bytes: number
  readonly document: string
}

function* entriesOf(database: ApplyingDatabase, registerId: number, epochNo: number, { entries, frame }: Batch): Work<readonly Entry[]> {
  const rows = yield* query<{ after_no: number; contents: string }>({
    sql: `SELECT after_no, contents FROM ${database.qualify(FRAMES.name)} WHERE register_id = $1 AND epoch_no = $2 AND base_no = $3 ORDER BY entry_no`,
    parameters: [registerId, epochNo, frame?.base.entryNo],
  })
  // One document is one object: by that it is told where it ends.
  const document = entries[0]?.document as Entry['document']
  return rows.flatMap(({ after_no, contents }) =>
    (JSON.parse(contents) as [string, Entry['operation'], string, string | null, string][]).map(
      ([table, operation, recordId, record, sealedAt], n): Entry => ({
        entryNo: after_no + n + 1,
        table,
        operation,
        recordId,
        record,
        document,
        sealedAt,
      }),
    ),
  )
}

function checkDigest({ after, through, entries }: Batch): void {
  if (entries.reduce(chainDigest, after.digest) === through.digest) return
  throw new TillsyncError('ERR_DIGEST', 'The entries of the frame do not have the digest that it states', {
    hint: "Were rows of the register's sync_entries changed by hand?",
    context: { after: after.entryNo, through: through.entryNo },
  })
}

function tooLarge(table: string | undefined, maxBytes: number): TillsyncError {
  return new TillsyncError('ERR_TOO_LARGE', `A document of \`${table}\` has more than ${maxBytes} bytes`, {
    hint: 'Raise `maxDocumentBytes` at central, if its memory allows it.',
    context: { table, maxBytes },
  })
}

function sizeOf(entries: readonly Entry[]): number {
  return entries.reduce((sum, { recordId, record }) => sum + Buffer.byteLength(recordId) + (record === null ? 0 : Buffer.byteLength(record)), 0)
}

function pointOf({ entry_no, digest }: Pick<FrameRow, 'entry_no' | 'digest'>): Point {
  return { entryNo: entry_no, digest: Buffer.from(digest).toString('hex') }
}

function isSame(a: Point, b: Point): boolean {
  return a.entryNo === b.entryNo && a.digest === b.digest
}
