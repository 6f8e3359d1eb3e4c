import { TillsyncError } from '../errors.ts'
import type { Batch, DocumentName, Entry, PartShape, Point, Publication, RegisterName, Standing, Subscription } from '../model.ts'

/** The version of the protocol that this library speaks. */
export const PROTOCOL_VERSION = 1

/** What one side says to the other in an exchange. */
export interface Message {
  readonly from: RegisterName | 'central'
  /** Whom central means, where it starts the exchange. */
  readonly to?: RegisterName | undefined
  /** Random. */
  readonly id: string
  /** How long the answer may be held back where there is nothing to say, in milliseconds. */
  readonly wait?: number | undefined
  /** The id of the message that this one answers. */
  readonly answers?: string | undefined
  readonly publish?: Publication | undefined
  readonly subscribe?: Subscription | undefined
  /** The next of the stream that `publish` speaks of. */
  readonly batch?: Batch | undefined
  readonly error?: MessageError | undefined
}

/** A message to be sent: its batch was packed before, while an earlier one was on its way. */
export type OutgoingMessage = Omit<Message, 'batch'> & { readonly batch?: Uint8Array | undefined }

export interface MessageError {
  readonly code: string
  readonly message: string
  readonly retryable: boolean
}

const MAX_NAME = 200
const DIGEST_BYTES = 32
const TIME = /^\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d\.\d{3}Z$/

/**
 * A message as it goes over the wire; its batch is packed by itself, see `batchToWire`.
 */
export function toWire(message: OutgoingMessage): unknown {
  const { from, to, id, wait, answers, publish, subscribe, batch, error } = message
  return {
    v: PROTOCOL_VERSION,
    from: from === 'central' ? from : nameToWire(from),
    ...(to && { to: nameToWire(to) }),
    id,
    ...(wait !== undefined && { wait }),
    ...(answers !== undefined && { answers }),
    ...(publish && { publish: publicationToWire(publish) }),
    ...(subscribe && { subscribe: subscriptionToWire(subscribe) }),
    ...(batch && { batch }),
    ...(error && { error }),
  }
}

/** What callers pass may hold more than a name. */
function nameToWire({ location, register }: RegisterName): RegisterName {
  return { location, register }
}

function publicationToWire({ epoch, head, parent, start, seek, cloned }: Publication): unknown {
  return {
    epoch,
    head,
    ...(parent && { parent: pointToWire(parent) }),
    ...(start && { start: pointToWire(start) }),
    ...(seek && { seek }),
    ...(cloned && { cloned }),
  }
}

function subscriptionToWire({ standing, known, superseded, points, again }: Subscription): unknown {
  return {
    ...(standing && { standing: [standing.epoch, ...pointToWire(standing)] }),
    ...(known && { known }),
    ...(superseded && { superseded: pointToWire(superseded) }),
    ...(points && { points: points.map(pointToWire) }),
    ...(again && { again: again.map(({ table, recordId }) => [table, recordId]) }),
  }
}

function pointToWire({ entryNo, digest }: Point): readonly [number, Uint8Array] {
  return [entryNo, Buffer.from(digest, 'hex')]
}

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
  const { epoch, after, through, shapes, identities } = batch
  return { epoch, after: pointToWire(after), through: pointToWire(through), shapes, identities, tables, documents, sealed, ...columns }
}

/**
 * What another version means by a message is unknown: nothing of it is read before this.
 *
 * @throws ERR_VERSION, ERR_MESSAGE
 */
export function checkVersion(wire: unknown): void {
  const { v } = object(wire, 'message')
  if (v === PROTOCOL_VERSION) return
  throw new TillsyncError(
    'ERR_VERSION',
    `The message is of protocol version ${typeof v === 'number' ? v : 'unknown'}, this side speaks ${PROTOCOL_VERSION}`,
    { hint: 'Update the older side.' },
  )
}

/**
 * A message from the wire, its version checked and its batch unpacked. Every field is checked; what the checks cost is
 * bounded by the size of the message.
 *
 * @throws ERR_MESSAGE
 */
export function fromWire(wire: unknown, batch: unknown): Message {
  const fields = object(wire, 'message')
  const publish = optional(fields.publish, publication)
  const sent = batch === undefined ? undefined : batchFromWire(batch)
  if (sent !== undefined && sent.epoch !== publish?.epoch) throw malformed('batch')
  return {
    from: fields.from === 'central' ? 'central' : registerName(fields.from, 'from'),
    to: optional(fields.to, (value) => registerName(value, 'to')),
    id: text(fields.id, 'id', 64),
    wait: optional(fields.wait, (value) => count(value, 'wait')),
    answers: optional(fields.answers, (value) => text(value, 'answers', 64)),
    publish,
    subscribe: optional(fields.subscribe, subscription),
    ...(sent && { batch: sent }),
    ...(fields.error !== undefined && { error: messageError(fields.error) }),
  }
}

function optional<T>(value: unknown, read: (value: unknown) => T): T | undefined {
  return value === undefined ? undefined : read(value)
}

function publication(wire: unknown): Publication {
  const fields = object(wire, 'publish')
  return {
    epoch: text(fields.epoch, 'epoch', 64),
    head: count(fields.head, 'head'),
    parent: optional(fields.parent, (value) => point(value, 'parent')),
    start: optional(fields.start, (value) => point(value, 'start')),
    seek: optional(fields.seek, seek),
    cloned: optional(fields.cloned, (value) => mark(value, 'cloned')),
  }
}

function mark(value: unknown, field: string): true {
  if (value !== true) throw malformed(field)
  return true
}

function seek(wire: unknown): readonly [number, number] {
  const [after, before] = tuple(wire, 'seek', 2)
  return [count(after, 'seek'), count(before, 'seek')]
}

/** More are never asked for, nor sent. */
export const MOST_POINTS = 500
export const MOST_AGAIN = 200

function subscription(wire: unknown): Subscription {
  const fields = object(wire, 'subscribe')
  return {
    standing: optional(fields.standing, standing),
    known: optional(fields.known, (value) => mark(value, 'known')),
    superseded: optional(fields.superseded, (value) => point(value, 'superseded')),
    points: optional(fields.points, (value) => bounded(value, 'points', MOST_POINTS).map((one) => point(one, 'points'))),
    again: optional(fields.again, (value) => bounded(value, 'again', MOST_AGAIN).map(documentName)),
  }
}

function documentName(wire: unknown): DocumentName {
  const [table, recordId] = tuple(wire, 'again', 2)
  return { table: text(table, 'again', MAX_NAME), recordId: text(recordId, 'again', Number.POSITIVE_INFINITY) }
}

function bounded(wire: unknown, field: string, most: number): readonly unknown[] {
  const items = list(wire, field)
  if (items.length > most) throw malformed(field)
  return items
}

function point(wire: unknown, field: string): Point {
  const [entryNo, at] = tuple(wire, field, 2)
  return { entryNo: count(entryNo, field), digest: digest(at, field) }
}

function batchFromWire(wire: unknown): Batch {
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
  const entries: Entry[] = []
  let document = { table: '', recordId: '' }
  for (let n = 0; n < size; n++) {
    const name = tables[count(table[n], 'table')]
    if (name === undefined) throw malformed('table')
    const id = text(recordId[n], 'recordId', Number.POSITIVE_INFINITY)
    const remove = removed.has(n)
    if (starts.has(n)) document = { table: name, recordId: id }
    else if (remove) throw malformed('remove')
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
  return { epoch: text(fields.epoch, 'epoch', 64), after, through, entries, shapes: shapes(fields.shapes), identities: identities(fields.identities) }
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

const MAX_DEPTH = 8

function shapes(wire: unknown): Batch['shapes'] {
  const fields = object(wire, 'shapes')
  return Object.fromEntries(Object.entries(fields).map(([table, parts]) => [text(table, 'shapes', MAX_NAME), partShapes(parts, 1)]))
}

function identities(wire: unknown): Batch['identities'] {
  const named = Object.entries(object(wire, 'identities')).map(([table, columns]) => [
    text(table, 'identities', MAX_NAME),
    list(columns, 'identities').map((column) => text(column, 'identities', MAX_NAME)),
  ])
  return Object.fromEntries(named)
}

function partShapes(wire: unknown, depth: number): readonly PartShape[] {
  if (depth > MAX_DEPTH) throw malformed('shapes')
  return list(wire, 'shapes').map((part) => {
    const fields = object(part, 'shapes')
    const columns = Object.entries(object(fields.columns, 'shapes')).map(([own, above]) => [
      text(own, 'shapes', MAX_NAME),
      text(above, 'shapes', MAX_NAME),
    ])
    return { table: text(fields.table, 'shapes', MAX_NAME), columns: Object.fromEntries(columns), parts: partShapes(fields.parts, depth + 1) }
  })
}

function registerName(wire: unknown, field: string): RegisterName {
  const fields = object(wire, field)
  return { location: text(fields.location, field, MAX_NAME), register: text(fields.register, field, MAX_NAME) }
}

function standing(wire: unknown): Standing {
  const [epoch, entryNo, at] = tuple(wire, 'standing', 3)
  return { epoch: text(epoch, 'standing', 64), entryNo: count(entryNo, 'standing'), digest: digest(at, 'standing') }
}

function messageError(wire: unknown): MessageError {
  const fields = object(wire, 'error')
  return { code: text(fields.code, 'error', 64), message: text(fields.message, 'error', 2_000), retryable: fields.retryable === true }
}

function object(value: unknown, field: string): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) throw malformed(field)
  return value as Record<string, unknown>
}

function list(value: unknown, field: string): readonly unknown[] {
  if (!Array.isArray(value)) throw malformed(field)
  return value
}

function tuple(value: unknown, field: string, length: number): readonly unknown[] {
  const items = list(value, field)
  if (items.length !== length) throw malformed(field)
  return items
}

function column(value: unknown, field: string, size: number): readonly unknown[] {
  const items = list(value, field)
  if (size <= 0 || items.length !== size) throw malformed(field)
  return items
}

function text(value: unknown, field: string, max: number): string {
  if (typeof value !== 'string' || value.length === 0 || value.length > max) throw malformed(field)
  return value
}

function nothing(value: unknown): null {
  if (value !== null) throw malformed('record')
  return null
}

function count(value: unknown, field: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw malformed(field)
  return value
}

function digest(value: unknown, field: string): string {
  if (!(value instanceof Uint8Array) || value.length !== DIGEST_BYTES) throw malformed(field)
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')
}

function malformed(field: string): TillsyncError {
  return new TillsyncError('ERR_MESSAGE', `The message's \`${field}\` is not as the protocol has it`, { context: { field } })
}
