import type { ApplyingDatabase } from '../ports.ts'
import { insert, query, type Work } from '../work.ts'
import { CLOSINGS, OPEN_CLOSINGS } from './closing-tables.ts'
import { CLOSING_MEASURES, type KnownClosing } from './closings.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext } from './handler.ts'
import { nameOf, type PostedDocument } from './postings.ts'
import { type SumsByDimension, sumsToJson } from './sums.ts'

/** A closing document with what its latest version says. */
export interface WantedClosing {
  readonly document: AppliedDocument
  /** Undefined where it is void. */
  readonly closing: KnownClosing | undefined
  /** Undefined where they are computed from receipts. */
  readonly lines: SumsByDimension | undefined
}

/** Closings as they are kept beside what they are to be. */
interface Compared {
  /** Those that are not kept as they are to be. */
  readonly changed: ReadonlySet<WantedClosing>
  /** Those of them that say something else; the others say the same by another version. */
  readonly differing: ReadonlySet<WantedClosing>
}

export function* compareClosings(wanted: readonly WantedClosing[], { database, origin }: ApplyContext): Work<Compared> {
  const known = wanted.map(({ document }) => document).filter(({ isNew }) => !isNew)
  const rows = known.length === 0 ? [] : yield* readKept(database, origin.registerId, known)
  const kept = new Map(rows.map((row) => [nameOf({ table: row.table_name, recordId: row.record_id, incarnation: row.incarnation }), row]))
  const texts = wanted.map((one) => [one, kept.get(nameOf(one.document)), textsOf(one)] as const)
  const differing = texts.filter(([, row, { closing, lines }]) => row?.closing !== closing || row.lines !== lines)
  const changed = texts.filter(([{ document }, row]) => row?.epoch_no !== origin.epochNo || row.entry_no !== document.entries[0]?.entryNo)
  return { differing: new Set(differing.map(([one]) => one)), changed: new Set([...differing, ...changed].map(([one]) => one)) }
}

interface KeptRow {
  readonly table_name: string
  readonly record_id: string
  readonly incarnation: number
  readonly closing: string
  readonly lines: string | null
  readonly epoch_no: number
  readonly entry_no: number
}

function readKept(database: ApplyingDatabase, registerId: number, documents: readonly PostedDocument[]): Work<readonly KeptRow[]> {
  return query<KeptRow>({
    sql: `SELECT c.table_name, c.record_id, c.incarnation, c.closing, c.lines, c.epoch_no, c.entry_no FROM ${database.qualify(CLOSINGS.name)} c
          JOIN unnest($2::text[], $3::text[], $4::bigint[]) AS d(table_name, record_id, incarnation) USING (table_name, record_id, incarnation) WHERE c.register_id = $1`,
    parameters: [registerId, documents.map((d) => d.table), documents.map((d) => d.recordId), documents.map((d) => d.incarnation)],
  })
}

function textsOf({ closing, lines }: WantedClosing): { readonly closing: string; readonly lines: string | null } {
  return { closing: JSON.stringify(closing ?? null), lines: lines === undefined ? null : sumsToJson(lines.values(), CLOSING_MEASURES) }
}

/** Writes down what closings are to be; they are posted at the end of the transaction, when everything that came with them is applied. */
export function* writeClosings(wanted: readonly WantedClosing[], { origin: { registerId, epochNo } }: ApplyContext): Work<void> {
  const rows = wanted.map((one) => {
    const { table, recordId, incarnation, entries } = one.document
    const { closing, lines } = textsOf(one)
    return [registerId, table, recordId, incarnation, closing, lines, epochNo, entries[0]?.entryNo]
  })
  yield* insert(CLOSINGS, rows, CLOSINGS.primaryKey)
  const open = wanted.map(({ document: { table, recordId, incarnation } }) => [registerId, table, recordId, incarnation, null])
  yield* insert(OPEN_CLOSINGS, open, OPEN_CLOSINGS.primaryKey)
}
