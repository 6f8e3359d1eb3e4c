import {
  type ComparedPart,
  type ComparisonAnswer,
  type ComparisonQuestion,
  type ComparisonRefusal,
  type HashedTable,
  MOST_LISTED,
  MOST_PARTS,
  MOST_RANGES,
  type PublishedDocument,
  type RecordIdRange,
} from '../comparison.ts'
import { MAX_NAME } from '../model.ts'
import { count, digest, list, malformed, object, text, tuple } from './fields.ts'

/** Tables of a document, and columns of a table. */
const MOST_TABLES = 1_000
const MOST_COLUMNS = 40_000
const REFUSALS: Readonly<Record<ComparisonRefusal, true>> = { unpublished: true, order: true, size: true }

export function compareToWire({ id, table, list, ranges }: ComparisonQuestion): unknown {
  return { id, table, list, ranges: ranges.map(({ after, through }) => [after, through ?? null]) }
}

/** @throws ERR_MESSAGE */
export function compareFromWire(wire: unknown): ComparisonQuestion {
  const fields = object(wire, 'compare')
  if (typeof fields.list !== 'boolean') throw malformed('compare')
  return {
    id: text(fields.id, 'compare', 100),
    table: text(fields.table, 'compare', MAX_NAME),
    list: fields.list,
    ranges: bounded(fields.ranges, 'compare', MOST_RANGES).map(range),
  }
}

function range(wire: unknown): RecordIdRange {
  const [after, through] = tuple(wire, 'compare', 2)
  if (typeof after !== 'string') throw malformed('compare')
  return { after, through: idOrNull(through, 'compare') }
}

export function comparedToWire({ id, codec, tables, both, parts, refused }: ComparisonAnswer): unknown {
  return {
    id,
    codec,
    tables: tables.map(({ table, columns }) => [table, columns.map(({ name, initial }) => [name, initial])]),
    ...(both && { both }),
    parts: parts.map(partToWire),
    ...(refused && { refused }),
  }
}

function partToWire({ through, entryNo, count, digest, documents }: ComparedPart): unknown {
  const bytes = (hex: string) => Buffer.from(hex, 'hex')
  const told =
    digest === undefined ? (documents ?? []).map(({ recordId, hash }) => [recordId, hash === undefined ? null : bytes(hash)]) : bytes(digest)
  return [through ?? null, entryNo, count, told]
}

/** @throws ERR_MESSAGE */
export function comparedFromWire(wire: unknown): ComparisonAnswer {
  const fields = object(wire, 'compared')
  const parts = bounded(fields.parts, 'compared', MOST_PARTS).map(part)
  if (parts.reduce((sum, { documents }) => sum + (documents?.length ?? 0), 0) > MOST_LISTED) throw malformed('compared')
  return {
    id: text(fields.id, 'compared', 100),
    codec: count(fields.codec, 'compared'),
    tables: bounded(fields.tables, 'compared', MOST_TABLES).map(hashedTable),
    both: fields.both === true,
    parts,
    refused: fields.refused === undefined ? undefined : refusal(fields.refused),
  }
}

function refusal(wire: unknown): ComparisonRefusal {
  if (typeof wire !== 'string' || !Object.hasOwn(REFUSALS, wire)) throw malformed('compared')
  return wire as ComparisonRefusal
}

function hashedTable(wire: unknown): HashedTable {
  const [table, columns] = tuple(wire, 'compared', 2)
  return {
    table: text(table, 'compared', MAX_NAME),
    columns: bounded(columns, 'compared', MOST_COLUMNS).map((column) => {
      const [name, initial] = tuple(column, 'compared', 2)
      // SQLite has columns of any name, and of none.
      if (typeof name !== 'string') throw malformed('compared')
      return { name, initial: text(initial, 'compared', Number.POSITIVE_INFINITY) }
    }),
  }
}

function part(wire: unknown): ComparedPart {
  const [through, entryNo, counted, told] = tuple(wire, 'compared', 4)
  const isListed = Array.isArray(told)
  return {
    through: idOrNull(through, 'compared'),
    entryNo: count(entryNo, 'compared'),
    count: count(counted, 'compared'),
    digest: isListed ? undefined : digest(told, 'compared'),
    documents: isListed ? bounded(told, 'compared', MOST_LISTED).map(document) : undefined,
  }
}

function document(wire: unknown): PublishedDocument {
  const [recordId, hash] = tuple(wire, 'compared', 2)
  return { recordId: text(recordId, 'compared', Number.POSITIVE_INFINITY), hash: hash === null ? undefined : digest(hash, 'compared') }
}

function idOrNull(wire: unknown, field: string): string | undefined {
  return wire === null ? undefined : text(wire, field, Number.POSITIVE_INFINITY)
}

function bounded(wire: unknown, field: string, most: number): readonly unknown[] {
  const items = list(wire, field)
  if (items.length > most) throw malformed(field)
  return items
}
