import type { ApplyingDatabase } from '../ports.ts'
import { query, type Statement, type Work } from '../work.ts'
import { ARCHIVED, type ArchivedRow, toEntry } from './archived.ts'
import { type AppliedDocument, wholeDocument } from './document-set.ts'
import { asOne, readEntries, readShapes } from './quarantine-versions.ts'
import { ARCHIVE, DOCUMENTS, LIVES, ORPHANS, QUARANTINE } from './tables.ts'

/** Entries of one epoch of a register, those after one number, through another. */
export interface Stretch {
  readonly registerId: number
  readonly epochNo: number
  readonly after: number
  readonly through: number
}

/** Which versions of a stretch are looked for. */
export interface WhichVersions {
  /** Root tables. */
  readonly tables: readonly string[]
  /** Only those that were received then or later; ISO 8601. */
  readonly since: string | undefined
}

/** What became of a document: 'present' at its register; 'lost' there; 'removed'; 'former': another one has its key. */
type Fate = 'present' | 'lost' | 'removed' | 'former'

/** A version that stands: the one of its document that was applied last, or the removal behind it. */
interface VersionRow {
  readonly table_name: string
  readonly record_id: string
  readonly incarnation: number
  readonly entry_no: number
  /** How many it has. */
  readonly entries: number
  readonly operation: 'upsert' | 'remove'
  readonly fate: Fate
  /** By which entry its document began. */
  readonly born_epoch_no: number | null
  readonly born_entry_no: number | null
  /** The removal that came behind it. */
  readonly removal_epoch_no: number | null
  readonly removal_no: number | null
  /** Of a removal: the version before it. */
  readonly before_epoch_no: number | null
  readonly before_no: number | null
  readonly before_entries: number | null
  /** Whether a newer version of it waits in quarantine. */
  readonly waits: boolean
}

/**
 * Of each life of a key the version that stands, which is the latest but for those in quarantine: of one that waits, or was given up, the version that was applied before, if
 * any. Beside it the removal that ended the life, unless the life waits. What was withdrawn stands no more.
 */
function versionsIn(database: ApplyingDatabase, { registerId, epochNo, after, through }: Stretch, { tables, since }: WhichVersions): Statement {
  const [archive, documents, lives, orphans, quarantine] = [ARCHIVE, DOCUMENTS, LIVES, ORPHANS, QUARANTINE].map(({ name }) => database.qualify(name))
  const of = (alias: string) => `${alias}.register_id = $1 AND ${alias}.table_name = r.table_name AND ${alias}.record_id = r.record_id`
  const stands = (life: string) =>
    `NOT EXISTS (SELECT FROM ${orphans} o WHERE ${of('o')} AND o.incarnation = ${life}.incarnation AND o.state = 'withdrawn')`
  const sql = `
    WITH roots AS MATERIALIZED (
      SELECT table_name, record_id, entry_no, operation FROM ${archive} WHERE register_id = $1 AND epoch_no = $2 AND entry_no > $3 AND entry_no <= $4
        AND table_name = ANY ($5::text[]) AND operation <> 'baseline' AND ($6::timestamptz IS NULL OR received_at >= $6))
    SELECT r.table_name, r.record_id, r.entry_no, r.operation, v.* FROM roots r CROSS JOIN LATERAL (SELECT * FROM ${documents} d WHERE ${of('d')} OFFSET 0) d CROSS JOIN LATERAL (
      SELECT life.incarnation, coalesce(q.applied_entries, life.entries) AS entries,
             CASE WHEN life.incarnation <> d.incarnation THEN 'former' WHEN d.removed THEN 'removed' WHEN d.state = 'lost' THEN 'lost' ELSE 'present' END AS fate,
             life.born_epoch_no, life.born_entry_no, life.removal_epoch_no, life.removal_no,
             NULL::bigint AS before_epoch_no, NULL::bigint AS before_no, NULL::bigint AS before_entries, q.state IS NOT DISTINCT FROM 'waiting' AS waits
      FROM (SELECT d.incarnation, d.epoch_no, d.entry_no, d.entries, d.born_epoch_no, d.born_entry_no, NULL::bigint AS removal_epoch_no, NULL::bigint AS removal_no WHERE NOT d.removed
            UNION ALL
            SELECT l.incarnation, l.epoch_no, l.entry_no, l.entries, l.born_epoch_no, l.born_entry_no, l.removal_epoch_no, l.removal_no FROM ${lives} l
            WHERE ${of('l')} AND (d.removed OR l.incarnation <> d.incarnation)) life
      LEFT JOIN ${quarantine} q ON ${of('q')} AND q.incarnation = life.incarnation AND q.epoch_no = life.epoch_no AND q.entry_no = life.entry_no
      WHERE r.operation = 'upsert' AND ${stands('life')}
        AND CASE WHEN q.quarantine_id IS NULL THEN life.epoch_no = $2 AND life.entry_no = r.entry_no ELSE q.applied_epoch_no = $2 AND q.applied_no = r.entry_no END
        AND NOT EXISTS (SELECT FROM ${quarantine} h WHERE ${of('h')} AND h.incarnation = life.incarnation AND h.epoch_no = $2 AND h.entry_no = r.entry_no)
      UNION ALL
      SELECT gone.incarnation, 1, CASE WHEN gone.incarnation <> d.incarnation THEN 'former' ELSE 'removed' END, NULL, NULL, NULL, NULL, l.epoch_no, l.entry_no, l.entries, false
      FROM (SELECT d.incarnation WHERE d.removed AND d.epoch_no = $2 AND d.entry_no = r.entry_no
            UNION ALL
            SELECT l.incarnation FROM ${lives} l WHERE ${of('l')} AND l.incarnation <> d.incarnation AND l.removal_epoch_no = $2 AND l.removal_no = r.entry_no) gone
      LEFT JOIN ${lives} l ON ${of('l')} AND l.incarnation = gone.incarnation
      WHERE r.operation = 'remove' AND ${stands('gone')}
        AND NOT EXISTS (SELECT FROM ${quarantine} h WHERE ${of('h')} AND h.incarnation = gone.incarnation AND h.state = 'waiting')) v`
  return { sql, parameters: [registerId, epochNo, after, through, tables, since ?? null] }
}

/** How much is read for a version that stands. */
export interface Size {
  readonly entryNo: number
  readonly entries: number
  readonly bytes: number
}

/** The versions that stand in a stretch, in order, without reading them. */
export function* sizesIn(database: ApplyingDatabase, stretch: Stretch, which: WhichVersions): Work<readonly Size[]> {
  const { sql, parameters } = versionsIn(database, stretch, which)
  const rows = yield* query<{ entry_no: number; entries: number; bytes: number | null }>({
    sql: `SELECT s.entry_no, s.entries, (SELECT sum(octet_length(record))::bigint FROM ${database.qualify(ARCHIVE.name)} a
            WHERE a.register_id = $1 AND a.epoch_no = $2 AND a.entry_no >= s.entry_no AND a.entry_no < s.entry_no + s.entries) AS bytes
          FROM (${sql}) s ORDER BY s.entry_no`,
    parameters,
  })
  return rows.map(({ entry_no, entries, bytes }) => ({ entryNo: entry_no, entries, bytes: bytes ?? 0 }))
}

/** A document in the version that stands, and what is known of it. */
export interface ReplayedDocument {
  readonly document: AppliedDocument
  readonly fate: Fate
  readonly waits: boolean
  /** The version that is applied, where there is one. */
  readonly applied: { readonly epochNo: number; readonly entryNo: number; readonly entries: number } | undefined
}

/** The versions that stand in a stretch, in order. What is not whole in the archive is left out. */
export function* documentsIn(database: ApplyingDatabase, stretch: Stretch, which: WhichVersions): Work<readonly ReplayedDocument[]> {
  const { registerId, epochNo } = stretch
  const { sql, parameters } = versionsIn(database, stretch, which)
  const rows = yield* query<VersionRow>({ sql: `${sql} ORDER BY entry_no, incarnation`, parameters })
  const wanted = rows.map((row) => ({
    registerId,
    table: row.table_name,
    recordId: row.record_id,
    epochNo,
    entryNo: row.entry_no,
    entries: row.entries,
  }))
  const found = yield* readEntries(database, wanted)
  const baselines = yield* baselinesOf(database, registerId, rows)
  const shapes = (yield* readShapes(
    database,
    which.tables.map((table_name) => ({ register_id: registerId, table_name })),
  )).get(registerId) ?? { shapes: {}, keys: {} }
  return rows.flatMap((row, n) => {
    const own = found[n]
    if (own === undefined) return []
    const baseline = baselines.get(row)
    const document = wholeDocument(asOne([...(baseline?.entries ?? []), ...own]), shapes)
    if (document === undefined) return []
    const { incarnation, removal_epoch_no, removal_no, fate, waits } = row
    const removal = removal_no === null ? undefined : { epochNo: removal_epoch_no as number, entryNo: removal_no }
    Object.assign(document, { incarnation, isNew: false, epochNo, removal })
    if (document.baseline !== undefined) document.baseline.epochNo = row.born_epoch_no ?? undefined
    return [{ document, fate, waits, applied: appliedOf(row, epochNo) }]
  })
}

function appliedOf(row: VersionRow, epochNo: number): ReplayedDocument['applied'] {
  if (row.operation === 'upsert') return { epochNo, entryNo: row.entry_no, entries: row.entries }
  if (row.before_no === null) return undefined
  return { epochNo: row.before_epoch_no as number, entryNo: row.before_no, entries: row.before_entries as number }
}

interface FoundBaseline {
  readonly entries: readonly ReturnType<typeof toEntry>[]
}

/** What documents were before their register began to publish them, of those that began so. */
function* baselinesOf(database: ApplyingDatabase, registerId: number, rows: readonly VersionRow[]): Work<ReadonlyMap<VersionRow, FoundBaseline>> {
  const born = rows.filter(({ born_entry_no, operation }) => born_entry_no !== null && operation === 'upsert')
  if (born.length === 0) return new Map()
  const archive = database.qualify(ARCHIVE.name)
  const entries = yield* query<ArchivedRow & { readonly n: number }>({
    sql: `SELECT v.n, ${ARCHIVED} FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS v(in_epoch, first, n)
          CROSS JOIN LATERAL (SELECT FROM ${archive} f WHERE f.register_id = $1 AND f.epoch_no = v.in_epoch AND f.entry_no = v.first AND f.operation = 'baseline' OFFSET 0) f
          CROSS JOIN LATERAL (SELECT * FROM ${archive} a WHERE a.register_id = $1 AND a.epoch_no = v.in_epoch AND a.entry_no >= v.first AND a.entry_no < (
            SELECT x.entry_no FROM ${archive} x WHERE x.register_id = $1 AND x.epoch_no = v.in_epoch AND x.entry_no > v.first AND x.operation <> 'baseline'
            ORDER BY x.entry_no LIMIT 1) OFFSET 0) b
          ORDER BY v.n, b.entry_no`,
    parameters: [registerId, born.map((row) => row.born_epoch_no), born.map((row) => row.born_entry_no)],
  })
  return new Map(
    [...Map.groupBy(entries, ({ n }) => n)].map(([n, all]) => {
      const row = born[n - 1] as VersionRow
      const name = { table: row.table_name, recordId: row.record_id }
      return [row, { entries: all.map((entry) => toEntry(entry, name)) }]
    }),
  )
}
