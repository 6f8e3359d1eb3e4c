import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { type AppliedDocument, isReadable, wholeDocument } from './document-set.ts'
import type { PostedDocument } from './postings.ts'
import { readEntries, readShapes } from './quarantine-versions.ts'
import { DOCUMENTS, LIVES, ORPHANS, QUARANTINE } from './tables.ts'

/** A document of a register in one life of its key. */
export interface DocumentLife extends PostedDocument {
  readonly registerId: number
}

/** What stands of a document. */
export interface Standing {
  /** Whether there is any such document. */
  readonly isKnown: boolean
  /** 'withdrawn': it was an orphan, and counts no more. 'nothing': no version of it is applied. 'missing': it is not all in the archive, or can't be read. */
  readonly state: 'applied' | 'withdrawn' | 'nothing' | 'missing'
  /** The version that was applied last. */
  readonly document: AppliedDocument | undefined
  /** Where that stands. */
  readonly epochNo: number
  readonly entryNo: number
  /** Whether the register has removed it since. */
  readonly isRemoved: boolean
  /** By this it waits in quarantine. */
  readonly quarantineId: number | undefined
}

interface StandingRow {
  readonly n: number
  readonly register_id: number
  readonly table_name: string
  readonly record_id: string
  readonly is_known: boolean
  readonly is_withdrawn: boolean
  readonly is_removed: boolean
  readonly epoch_no: number | null
  readonly entry_no: number | null
  readonly entries: number | null
  readonly waiting: number | null
}

/**
 * Of each life the version that stands, in the order asked for: the latest, but for those in quarantine. Of one that waits there, or was given up, the version that was applied
 * before.
 */
export function* standingOf(database: ApplyingDatabase, lives: readonly DocumentLife[]): Work<readonly Standing[]> {
  if (lives.length === 0) return []
  const [documents, over, quarantine, orphans] = [DOCUMENTS, LIVES, QUARANTINE, ORPHANS].map(({ name }) => database.qualify(name))
  const of = (alias: string) => `${alias}.register_id = k.register_id AND ${alias}.table_name = k.table_name AND ${alias}.record_id = k.record_id`
  const rows = yield* query<StandingRow>({
    sql: `SELECT k.n, k.register_id, k.table_name, k.record_id, l.entry_no IS NOT NULL AS is_known, o.orphan_id IS NOT NULL AS is_withdrawn, l.removal_no IS NOT NULL AS is_removed,
                 CASE WHEN q.quarantine_id IS NULL THEN l.epoch_no ELSE q.applied_epoch_no END AS epoch_no,
                 CASE WHEN q.quarantine_id IS NULL THEN l.entry_no ELSE q.applied_no END AS entry_no,
                 CASE WHEN q.quarantine_id IS NULL THEN l.entries ELSE q.applied_entries END AS entries, w.quarantine_id AS waiting
          FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS k(register_id, table_name, record_id, incarnation, n)
          LEFT JOIN LATERAL (
            SELECT d.epoch_no, d.entry_no, d.entries, NULL::bigint AS removal_no FROM ${documents} d WHERE ${of('d')} AND d.incarnation = k.incarnation AND NOT d.removed
            UNION ALL
            SELECT l.epoch_no, l.entry_no, l.entries, l.removal_no FROM ${over} l JOIN ${documents} d ON ${of('d')}
            WHERE ${of('l')} AND l.incarnation = k.incarnation AND (d.removed OR d.incarnation <> l.incarnation)) l ON true
          LEFT JOIN ${quarantine} q ON ${of('q')} AND q.incarnation = k.incarnation AND q.epoch_no = l.epoch_no AND q.entry_no = l.entry_no
          LEFT JOIN ${quarantine} w ON ${of('w')} AND w.incarnation = k.incarnation AND w.state = 'waiting'
          LEFT JOIN ${orphans} o ON ${of('o')} AND o.incarnation = k.incarnation AND o.state = 'withdrawn' ORDER BY k.n`,
    parameters: [
      lives.map(({ registerId }) => registerId),
      lives.map(({ table }) => table),
      lives.map(({ recordId }) => recordId),
      lives.map(({ incarnation }) => incarnation),
    ],
  })
  const applied = rows.filter((row) => row.entry_no !== null && !row.is_withdrawn)
  const found = yield* readEntries(
    database,
    applied.map((row) => ({
      registerId: row.register_id,
      table: row.table_name,
      recordId: row.record_id,
      epochNo: row.epoch_no as number,
      entryNo: row.entry_no as number,
      entries: row.entries as number,
    })),
  )
  const shapes = yield* readShapes(database, applied)
  const entries = new Map(applied.map((row, n) => [row, found[n]]))
  return rows.map((row, n) => {
    const own = entries.get(row)
    const document = own && wholeDocument(own, shapes.get(row.register_id) ?? { shapes: {}, keys: {} })
    if (document !== undefined) document.incarnation = lives[n]?.incarnation ?? 0
    const isThere = document !== undefined && !document.removed && isReadable(document)
    const state = row.is_withdrawn ? 'withdrawn' : row.entry_no === null ? 'nothing' : isThere ? 'applied' : 'missing'
    return {
      isKnown: row.is_known,
      state,
      document: isThere ? document : undefined,
      epochNo: row.epoch_no ?? 0,
      entryNo: row.entry_no ?? 0,
      isRemoved: row.is_removed,
      quarantineId: row.waiting ?? undefined,
    }
  })
}
