import type { Batch, DocumentName, Entry } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { ARCHIVED, type ArchivedRow, toEntry } from './archived.ts'
import { type AppliedDocument, wholeDocument } from './document-set.ts'
import type { QuarantineRow } from './quarantine-row.ts'
import { ARCHIVE, SHAPES } from './tables.ts'

/** Where a version of a document stands in the archive. */
export interface Version {
  readonly epochNo: number
  readonly entryNo: number
  readonly entries: number
}

/** A version of a document of a register. */
export interface Wanted extends Version, DocumentName {
  readonly registerId: number
}

/** Versions as they were archived, in the order asked for; undefined where not all of a version is there any more. */
export function* readEntries(database: ApplyingDatabase, wanted: readonly Wanted[]): Work<readonly (readonly Entry[] | undefined)[]> {
  if (wanted.length === 0) return []
  const rows = yield* query<ArchivedRow & { readonly n: number }>({
    // One by one, by the archive's key: as a plain join it is compared with all entries of the epoch.
    sql: `SELECT v.n, a.* FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) WITH ORDINALITY AS v(of_register, of_epoch, first, many, n)
          CROSS JOIN LATERAL (SELECT ${ARCHIVED} FROM ${database.qualify(ARCHIVE.name)} a
            WHERE a.register_id = v.of_register AND a.epoch_no = v.of_epoch AND a.entry_no >= v.first AND a.entry_no < v.first + v.many OFFSET 0) a
          ORDER BY v.n, a.entry_no`,
    parameters: [wanted.map((v) => v.registerId), wanted.map((v) => v.epochNo), wanted.map((v) => v.entryNo), wanted.map((v) => v.entries)],
  })
  const found = Map.groupBy(rows, ({ n }) => n)
  return wanted.map(({ table, recordId, entries }, at) => {
    const own = found.get(at + 1)
    const name = { table, recordId }
    return own?.length === entries ? own.map((row) => toEntry(row, name)) : undefined
  })
}

/** What a row of quarantine points to. */
export interface Waiting {
  /** The version that waits, with its baseline. */
  readonly version: AppliedDocument | undefined
  /** The removal that came behind it. */
  readonly removal: AppliedDocument | undefined
  /** The version that is posted. */
  readonly applied: AppliedDocument | undefined
}

/** A row with the register that it belongs to. */
export type RowOfRegister = QuarantineRow & { readonly register_id: number }

/** What rows point to, in their order. */
export function* readWaiting(database: ApplyingDatabase, rows: readonly RowOfRegister[]): Work<readonly Waiting[]> {
  if (rows.length === 0) return []
  const wanted = rows.flatMap((row) => {
    const name = { registerId: row.register_id, table: row.table_name, recordId: row.record_id }
    const at = (epochNo: number | null, entryNo: number | null, entries: number | null): Wanted[] =>
      epochNo === null || entryNo === null ? [] : [{ ...name, epochNo, entryNo, entries: entries ?? 1 }]
    return [
      ...at(row.epoch_no, row.entry_no, row.entries),
      ...at(row.baseline_epoch_no, row.baseline_no, row.baseline_entries),
      ...at(row.removal_epoch_no, row.removal_no, 1),
      ...at(row.applied_epoch_no, row.applied_no, row.applied_entries),
    ]
  })
  const found = yield* readEntries(database, wanted)
  const shapes = yield* readShapes(database, rows)
  let at = 0
  return rows.map((row) => {
    const next = (no: number | null): readonly Entry[] | undefined => (no === null ? undefined : found[at++])
    const [own, baseline, removal, applied] = [next(row.entry_no), next(row.baseline_no), next(row.removal_no), next(row.applied_no)]
    const of = (entries: readonly Entry[] | undefined): AppliedDocument | undefined => {
      if (entries === undefined) return undefined
      const document = wholeDocument(entries, shapes.get(row.register_id) ?? { shapes: {}, keys: {} })
      return document && Object.assign(document, { incarnation: row.incarnation, isNew: false })
    }
    const version = of(own && (row.baseline_no === null ? own : baseline && asOne([...baseline, ...own])))
    if (version?.baseline !== undefined) version.baseline.epochNo = row.baseline_epoch_no ?? undefined
    return { version: version && Object.assign(version, { isNew: row.applied_no === null }), removal: of(removal), applied: of(applied) }
  })
}

/** Entries of one document know it by the same name. */
export function asOne(entries: readonly Entry[]): readonly Entry[] {
  const document = entries[0]?.document as DocumentName
  return entries.map((entry) => ({ ...entry, document }))
}

export type Shapes = Pick<Batch, 'shapes' | 'keys'>

/** What documents of these registers and tables look like. */
export function* readShapes(
  database: ApplyingDatabase,
  rows: readonly Pick<RowOfRegister, 'register_id' | 'table_name'>[],
): Work<ReadonlyMap<number, Shapes>> {
  const shapes = yield* query<{ register_id: number; table_name: string; parts: string; key_columns: string }>({
    sql: `SELECT register_id, table_name, parts, key_columns FROM ${database.qualify(SHAPES.name)}
          WHERE register_id = ANY ($1::bigint[]) AND table_name = ANY ($2::text[])`,
    parameters: [[...new Set(rows.map((row) => row.register_id))], [...new Set(rows.map((row) => row.table_name))]],
  })
  const groups = Map.groupBy(shapes, ({ register_id }) => register_id)
  const byTable = <T>(all: typeof shapes, of: (row: (typeof shapes)[number]) => string): Readonly<Record<string, T>> =>
    Object.fromEntries(all.map((row) => [row.table_name, JSON.parse(of(row)) as T]))
  return new Map([...groups].map(([id, all]) => [id, { shapes: byTable(all, (row) => row.parts), keys: byTable(all, (row) => row.key_columns) }]))
}
