import { type Batch, type DocumentName, type Entry, type Frame, MAX_NAME, type Point } from '../model.ts'
import { count, list, malformed, object, point, pointToWire, text, tuple } from './fields.ts'
import { partShapes } from './shapes.ts'

const TIME = /^\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d\.\d{3}Z$/

/** A batch as it goes over the wire: entries column by column, a record's JSON as it was sealed. */
export function batchToWire(batch: Batch): unknown {
  const tables: string[] = []
  const numbers = new Map<string, number>()
  const documents: number[] = []
  const sealed: [string, number][] = []
  const columns = {
    table: [] as number[],
    remove: [] as number[],
    baseline: [] as number[],
    recordId: [] as string[],
    record: [] as (string | null)[],
  }
  for (const [n, entry] of batch.entries.entries()) {
    let table = numbers.get(entry.table)
    if (table === undefined) {
      table = tables.push(entry.table) - 1
      numbers.set(entry.table, table)
    }
    columns.table.push(table)
    columns.recordId.push(entry.recordId)
    columns.record.push(entry.record)
    if (entry.operation !== 'upsert') columns[entry.operation].push(n)
    if (entry.document === batch.entries[n - 1]?.document) documents.push((documents.pop() ?? 0) + 1)
    else documents.push(1)
    const time = sealed.at(-1)
    if (time !== undefined && time[0] === entry.sealedAt) time[1]++
    else sealed.push([entry.sealedAt, 1])
  }
  const { epoch, after, through, shapes, identities, keys } = batch
  const head = { epoch, after: pointToWire(after), through: pointToWire(through), ...frameToWire(batch), shapes, identities, keys }
  return { ...head, tables, documents, sealed, ...columns }
}

/** A frame names its document: its first entry need not be the document's. */
function frameToWire({ frame, entries: [first] }: Batch): { readonly frame?: unknown } {
  return frame && first ? { frame: [pointToWire(frame.base), frame.isLast, first.document.table, first.document.recordId] } : {}
}

/** @throws ERR_MESSAGE */
export function batchFromWire(wire: unknown): Batch {
  const fields = object(wire, 'batch')
  const after = point(fields.after, 'after')
  const through = point(fields.through, 'through')
  const size = through.entryNo - after.entryNo
  const tables = list(fields.tables, 'tables').map((name) => text(name, 'tables', MAX_NAME))
  const table = column(fields.table, 'table', size)
  const recordId = column(fields.recordId, 'recordId', size)
  const record = column(fields.record, 'record', size)
  const removed = positions(fields.remove, 'remove', size)
  const baseline = positions(fields.baseline, 'baseline', size)
  const sealed = runs(
    list(fields.sealed, 'sealed').map((run) => tuple(run, 'sealed', 2)),
    size,
  )
  const starts = startsOf(list(fields.documents, 'documents'), size)
  const part = fields.frame === undefined ? undefined : frameFromWire(fields.frame, after)
  // A frame is of one document, which is not removed.
  if (part !== undefined && (starts.size > 1 || removed.size > 0)) throw malformed('frame')
  const entries: Entry[] = []
  let document = part?.document ?? { table: '', recordId: '' }
  for (let n = 0; n < size; n++) {
    const name = tables[count(table[n], 'table')]
    if (name === undefined) throw malformed('table')
    const id = text(recordId[n], 'recordId', Number.POSITIVE_INFINITY)
    const remove = removed.has(n)
    if (starts.has(n) && part === undefined) document = { table: name, recordId: id }
    else if (remove) throw malformed('remove')
    else if (n === 0 && part?.isFirst && (name !== document.table || id !== document.recordId)) throw malformed('frame')
    entries.push({
      entryNo: after.entryNo + n + 1,
      table: name,
      operation: remove ? 'remove' : baseline.has(n) ? 'baseline' : 'upsert',
      recordId: id,
      record: remove ? nothing(record[n]) : text(record[n], 'record', Number.POSITIVE_INFINITY),
      document,
      sealedAt: sealed[n] as string,
    })
  }
  const epoch = text(fields.epoch, 'epoch', 64)
  const frame = part && { base: part.base, isLast: part.isLast }
  return {
    epoch,
    after,
    through,
    entries,
    shapes: shapes(fields.shapes),
    identities: columnsByTable(fields.identities, 'identities'),
    // Not there in messages of earlier versions.
    keys: fields.keys === undefined ? {} : columnsByTable(fields.keys, 'keys'),
    ...(frame && { frame }),
  }
}

function frameFromWire(wire: unknown, after: Point): Frame & { readonly document: DocumentName; readonly isFirst: boolean } {
  const [from, isLast, table, recordId] = tuple(wire, 'frame', 4)
  const base = point(from, 'frame')
  if (typeof isLast !== 'boolean' || base.entryNo > after.entryNo) throw malformed('frame')
  const document = { table: text(table, 'frame', MAX_NAME), recordId: text(recordId, 'frame', Number.POSITIVE_INFINITY) }
  return { base, isLast, document, isFirst: base.entryNo === after.entryNo }
}

function positions(wire: unknown, field: string, size: number): ReadonlySet<number> {
  const found = new Set(list(wire, field).map((position) => count(position, field)))
  if ([...found].some((position) => position >= size)) throw malformed(field)
  return found
}

function startsOf(lengths: readonly unknown[], size: number): ReadonlySet<number> {
  const starts = new Set<number>()
  let at = 0
  for (const length of lengths) {
    starts.add(at)
    at += count(length, 'documents')
    if (length === 0 || at > size) throw malformed('documents')
  }
  if (at !== size) throw malformed('documents')
  return starts
}

function runs(list: readonly (readonly unknown[])[], size: number): readonly string[] {
  const values: string[] = []
  for (const [value, length] of list) {
    const time = text(value, 'sealed', 32)
    if (!TIME.test(time)) throw malformed('sealed')
    const end = values.length + count(length, 'sealed')
    if (end > size) throw malformed('sealed')
    while (values.length < end) values.push(time)
  }
  if (values.length !== size) throw malformed('sealed')
  return values
}

function shapes(wire: unknown): Batch['shapes'] {
  const fields = object(wire, 'shapes')
  return Object.fromEntries(Object.entries(fields).map(([table, parts]) => [text(table, 'shapes', MAX_NAME), partShapes(parts, 1)]))
}

function columnsByTable(wire: unknown, field: string): Readonly<Record<string, readonly string[]>> {
  const named = Object.entries(object(wire, field)).map(([table, columns]) => [
    text(table, field, MAX_NAME),
    list(columns, field).map((column) => text(column, field, MAX_NAME)),
  ])
  return Object.fromEntries(named)
}

function column(value: unknown, field: string, size: number): readonly unknown[] {
  const items = list(value, field)
  if (size <= 0 || items.length !== size) throw malformed(field)
  return items
}

function nothing(value: unknown): null {
  if (value !== null) throw malformed('record')
  return null
}
