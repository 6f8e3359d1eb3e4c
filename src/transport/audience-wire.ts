import {
  type AudienceAnswer,
  type AudienceBatch,
  type AudienceDocument,
  type AudienceRecord,
  type AudienceRequest,
  type AudienceStanding,
  LEAST_TAKEN,
  MAX_NAME,
  MOST_SUBSCRIBED,
  MOST_UNAPPLIED,
  type UnappliedDocument,
} from '../model.ts'
import { count, list, malformed, object, stored, text, tuple } from './fields.ts'
import { partShapes } from './shapes.ts'

const LONG = Number.POSITIVE_INFINITY

/** What a register asks for, as it goes over the wire. */
export function requestToWire({ standings, records, bytes, message, unapplied }: AudienceRequest): unknown {
  return {
    limits: [records, bytes, message],
    standings: standings.map(({ table, stream, entryNo, mark }) => (stream === undefined ? [table] : [table, stream, entryNo, mark])),
    ...(unapplied.length > 0 && { unapplied: unapplied.map((one) => [one.table, one.recordId, one.code, readable(one.message) || one.code]) }),
  }
}

/** What a database or a trigger of the host's has said may be anything; no message is refused for its sake. */
function readable(message: string): string {
  return message.replaceAll('\0', '\ufffd').slice(0, 1_000)
}

/** @throws ERR_MESSAGE */
export function requestFromWire(wire: unknown): AudienceRequest {
  const fields = object(wire, 'audiences')
  const [records, bytes, message] = tuple(fields.limits, 'limits', 3).map((limit) => count(limit, 'limits')) as [number, number, number]
  // Less than every register reads would leave out every document.
  if (records === 0 || bytes === 0 || message < LEAST_TAKEN) throw malformed('limits')
  const standings = bounded(fields.standings, 'standings', MOST_SUBSCRIBED).map(standing)
  const unapplied = fields.unapplied === undefined ? [] : bounded(fields.unapplied, 'unapplied', MOST_UNAPPLIED).map(unappliedDocument)
  if (!areDistinct(standings.map(({ table }) => table))) throw malformed('standings')
  if (!areDistinct(unapplied.map(({ table, recordId }) => `${table}\n${recordId}`))) throw malformed('unapplied')
  return { records, bytes, message, standings, unapplied }
}

function areDistinct(names: readonly string[]): boolean {
  return new Set(names).size === names.length
}

function standing(wire: unknown): AudienceStanding {
  const parts = list(wire, 'standings')
  const table = stored(parts[0], 'standings', MAX_NAME)
  if (parts.length === 1) return { table, stream: undefined, entryNo: 0, mark: '' }
  const [, stream, entryNo, mark] = tuple(wire, 'standings', 4)
  return { table, stream: stored(stream, 'standings', 64), entryNo: count(entryNo, 'standings'), mark: stored(mark, 'standings', 64) }
}

function unappliedDocument(wire: unknown): UnappliedDocument {
  const [table, recordId, code, message] = tuple(wire, 'unapplied', 4)
  return {
    table: stored(table, 'unapplied', MAX_NAME),
    recordId: stored(recordId, 'unapplied', 10_000),
    code: stored(code, 'unapplied', 64),
    message: stored(message, 'unapplied', 1_000),
  }
}

/** What central has for a register, as it goes over the wire: records column by column. */
export function answerToWire({ batches, more }: AudienceAnswer): unknown {
  return { ...(more && { more }), batches: batches.map(batchToWire) }
}

function batchToWire({ table, stream, after, through, mark, isEnd, documents, shape, keyColumns }: AudienceBatch): unknown {
  const records = documents.flatMap((document) => document.records)
  const tables = [...new Set(records.map((record) => record.table))]
  return {
    table,
    stream,
    after,
    through,
    mark,
    isEnd,
    shape,
    keyColumns,
    tables,
    // Of a document with records the first one's record id is its own.
    documents: documents.map((document) => document.records.length),
    removed: documents.filter((document) => document.records.length === 0).map(({ recordId }) => recordId),
    of: records.map((record) => tables.indexOf(record.table)),
    recordId: records.map(({ recordId }) => recordId),
    record: records.map(({ record }) => record),
  }
}

/** @throws ERR_MESSAGE */
export function answerFromWire(wire: unknown): AudienceAnswer {
  const fields = object(wire, 'published')
  const batches = bounded(fields.batches, 'batches', MOST_SUBSCRIBED).map(batchFromWire)
  return { batches, more: fields.more === true }
}

function batchFromWire(wire: unknown): AudienceBatch {
  const fields = object(wire, 'batches')
  const table = text(fields.table, 'table', MAX_NAME)
  const after = count(fields.after, 'after')
  const through = count(fields.through, 'through')
  if (through < after || typeof fields.isEnd !== 'boolean') throw malformed('batches')
  const tables = list(fields.tables, 'tables').map((name) => text(name, 'tables', MAX_NAME))
  const lengths = list(fields.documents, 'documents').map((length) => count(length, 'documents'))
  const removed = list(fields.removed, 'removed').map((id) => text(id, 'removed', LONG))
  const [of, recordId, record] = (['of', 'recordId', 'record'] as const).map((name) => list(fields[name], name)) as [unknown[], unknown[], unknown[]]
  const size = lengths.reduce((sum, length) => sum + length, 0)
  if (size !== of.length || size !== recordId.length || size !== record.length) throw malformed('documents')
  if (lengths.filter((length) => length === 0).length !== removed.length) throw malformed('removed')
  const all = of.map((number, n): AudienceRecord => {
    const name = tables[count(number, 'of')]
    if (name === undefined) throw malformed('of')
    return { table: name, recordId: text(recordId[n], 'recordId', LONG), record: text(record[n], 'record', LONG) }
  })
  let [at, gone] = [0, 0]
  const documents = lengths.map((length): AudienceDocument => {
    if (length === 0) return { recordId: removed[gone++] as string, records: [] }
    const records = all.slice(at, at + length)
    at += length
    if (records[0]?.table !== table) throw malformed('documents')
    return { recordId: records[0].recordId, records }
  })
  return {
    table,
    stream: text(fields.stream, 'stream', 64),
    after,
    through,
    mark: text(fields.mark, 'mark', 64),
    isEnd: fields.isEnd,
    documents,
    shape: partShapes(fields.shape, 1),
    keyColumns: list(fields.keyColumns, 'keyColumns').map((column) => text(column, 'keyColumns', MAX_NAME)),
  }
}

function bounded(wire: unknown, field: string, most: number): readonly unknown[] {
  const items = list(wire, field)
  if (items.length > most) throw malformed(field)
  return items
}
