import type { ApplyingDatabase } from '../ports.ts'
import { ownOf } from '../record.ts'
import { query, type Work } from '../work.ts'
import type { AppliedDocument, Origin } from './document-set.ts'
import { archivedOf } from './fork.ts'
import { rememberTaken } from './lives.ts'
import type { OrphanState } from './orphans.ts'
import { isSame } from './sameness.ts'
import { ARCHIVE, DOCUMENTS, LIVES, ORPHANS } from './tables.ts'

interface KnownRow {
  readonly document: string
  readonly lives: number
  readonly incarnation: number
  readonly born_entry_no: number
  readonly state: string | null
  /** The life of its key that its own epoch had last, where the register has lost that; and what became of it as an orphan. */
  readonly life: number | null
  readonly life_entry_no: number | null
  readonly orphan: OrphanState | null
}

/** Documents of an epoch that was superseded, as their handlers take them. */
export interface Adopted {
  /** Under a key that nothing else has: they are posted and mirrored. */
  readonly free: readonly AppliedDocument[]
  /** Under a key that the register has given to another document by now: they are posted only. */
  readonly taken: readonly AppliedDocument[]
}

/** Orphans that stand for a sale of their own; others are the register's again, or withdrawn by hand. */
const OPEN: readonly OrphanState[] = ['orphaned', 'former']

/**
 * Takes documents of a superseded epoch as orphans. What the register knew before the two histories parted, or has sent again since, is left as it is now.
 */
export function* adopt(
  database: ApplyingDatabase,
  set: readonly AppliedDocument[],
  origin: Origin,
  fork: number,
  identities: Readonly<Record<string, readonly string[]>>,
): Work<Adopted> {
  const present = set.filter(({ removed }) => !removed)
  const known = new Map((yield* knownOf(database, present, origin)).map((row) => [row.document, row]))
  const latest = yield* archivedOf(database, origin.registerId, present, "d.state IS DISTINCT FROM 'lost'")
  const lifeEntry = (document: AppliedDocument) => Number(known.get(nameOf(document))?.life_entry_no ?? 0)
  const held = present.filter((document) => known.has(nameOf(document)))
  const ended = yield* endedOf(database, held, origin, fork, lifeEntry)
  const free: AppliedDocument[] = []
  const taken: AppliedDocument[] = []
  for (const document of present) {
    const name = nameOf(document)
    const row = known.get(name)
    const life = ended.has(name) ? null : (row?.life ?? null)
    if (row === undefined) {
      document.incarnation = 1
      free.push(document)
    } else if (life === null) {
      const isKnown = row.born_entry_no <= fork && !ended.has(name)
      if (row.state !== 'lost' && (isKnown || isSame(document, latest.get(name) ?? [], ownOf(identities, document.table)))) continue
      document.incarnation = row.lives + 1
      taken.push(document)
    } else if (row.orphan === null || OPEN.includes(row.orphan)) {
      document.incarnation = life
      document.isNew = false
      if (life === row.incarnation) free.push(document)
      else taken.push(document)
    }
  }
  yield* writeFree(database, free, origin)
  yield* writeTaken(database, taken, origin)
  yield* rememberTaken(database, taken, origin)
  yield* writeOrphans(database, [...free, ...taken], origin)
  return { free, taken }
}

function nameOf({ table, recordId }: AppliedDocument): string {
  return `${table}\n${recordId}`
}

function knownOf(database: ApplyingDatabase, set: readonly AppliedDocument[], { registerId, epochNo }: Origin): Work<readonly KnownRow[]> {
  const [documents, lives, orphans] = [DOCUMENTS, LIVES, ORPHANS].map(({ name }) => database.qualify(name))
  return query<KnownRow>({
    sql: `SELECT d.table_name || E'\\n' || d.record_id AS document, d.lives, d.incarnation, d.born_entry_no, d.state,
                 CASE WHEN l.removal_no IS NULL THEN l.incarnation END AS life, l.entry_no AS life_entry_no, o.state AS orphan
          FROM unnest($2::text[], $3::text[]) AS s(table_name, record_id)
          JOIN ${documents} d ON d.register_id = $1 AND d.table_name = s.table_name AND d.record_id = s.record_id
          LEFT JOIN LATERAL (SELECT d.incarnation, d.entry_no, NULL::bigint AS removal_no WHERE d.state = 'lost' AND NOT d.removed AND d.epoch_no = $4
                             UNION ALL SELECT incarnation, entry_no, removal_no FROM ${lives}
                             WHERE register_id = $1 AND table_name = d.table_name AND record_id = d.record_id AND incarnation <> d.incarnation AND epoch_no = $4
                             ORDER BY entry_no DESC LIMIT 1) l ON true
          LEFT JOIN ${orphans} o ON o.register_id = $1 AND o.table_name = s.table_name AND o.record_id = s.record_id AND o.incarnation = l.incarnation
          FOR UPDATE OF d`,
    parameters: [registerId, set.map(({ table }) => table), set.map(({ recordId }) => recordId), epochNo],
  })
}

/** Those whose keys were freed in the epoch itself, behind the fork and behind the life that they had: what has them from then on is not what had them before. */
function* endedOf(
  database: ApplyingDatabase,
  set: readonly AppliedDocument[],
  { registerId, epochNo }: Origin,
  fork: number,
  lifeEntry: (document: AppliedDocument) => number,
): Work<ReadonlySet<string>> {
  if (set.length === 0) return new Set()
  const born = set.map((document) => document.born)
  const rows = yield* query<{ document: string }>({
    sql: `WITH removals AS MATERIALIZED (
            SELECT table_name, record_id, entry_no FROM ${database.qualify(ARCHIVE.name)}
            WHERE register_id = $1 AND epoch_no = $2 AND entry_no > $3 AND entry_no < $4 AND operation = 'remove')
          SELECT DISTINCT r.table_name || E'\\n' || r.record_id AS document
          FROM unnest($5::text[], $6::text[], $7::bigint[], $8::bigint[]) AS s(table_name, record_id, life, born)
          JOIN removals r ON r.table_name = s.table_name AND r.record_id = s.record_id AND r.entry_no > s.life AND r.entry_no < s.born`,
    parameters: [
      registerId,
      epochNo,
      fork,
      Math.max(...born),
      set.map(({ table }) => table),
      set.map(({ recordId }) => recordId),
      set.map(lifeEntry),
      born,
    ],
  })
  return new Set(rows.map(({ document }) => document))
}

function* writeFree(database: ApplyingDatabase, documents: readonly AppliedDocument[], { registerId, epochNo }: Origin): Work<void> {
  if (documents.length === 0) return
  yield* query({
    sql: `INSERT INTO ${database.qualify(DOCUMENTS.name)} AS d
            (register_id, table_name, record_id, incarnation, lives, removed, epoch_no, entry_no, entries, versions, born_epoch_no, born_entry_no, state)
          SELECT $1, table_name, record_id, 1, 1, false, $2, entry_no, entries, 1, $2, born, 'lost'
          FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[]) AS s(table_name, record_id, entry_no, entries, born)
          ON CONFLICT (register_id, table_name, record_id) DO UPDATE
          SET entry_no = excluded.entry_no, entries = excluded.entries, versions = d.versions + 1`,
    parameters: [
      registerId,
      epochNo,
      documents.map(({ table }) => table),
      documents.map(({ recordId }) => recordId),
      documents.map(({ entries }) => entries[0]?.entryNo),
      documents.map(({ entries }) => entries.length),
      documents.map(({ born }) => born),
    ],
  })
}

function* writeTaken(database: ApplyingDatabase, documents: readonly AppliedDocument[], { registerId }: Origin): Work<void> {
  if (documents.length === 0) return
  yield* query({
    sql: `UPDATE ${database.qualify(DOCUMENTS.name)} d SET lives = greatest(d.lives, s.incarnation) FROM unnest($2::text[], $3::text[], $4::bigint[]) AS s(table_name, record_id, incarnation)
          WHERE d.register_id = $1 AND d.table_name = s.table_name AND d.record_id = s.record_id`,
    parameters: [
      registerId,
      documents.map(({ table }) => table),
      documents.map(({ recordId }) => recordId),
      documents.map(({ incarnation }) => incarnation),
    ],
  })
}

function* writeOrphans(database: ApplyingDatabase, documents: readonly AppliedDocument[], { registerId, epochNo }: Origin): Work<void> {
  if (documents.length === 0) return
  yield* query({
    sql: `INSERT INTO ${database.qualify(ORPHANS.name)} (register_id, table_name, record_id, incarnation, epoch_no, entry_no, entries, state)
          SELECT $1, table_name, record_id, incarnation, $2, entry_no, entries, 'orphaned'
          FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[]) AS s(table_name, record_id, incarnation, entry_no, entries)
          ON CONFLICT (register_id, table_name, record_id, incarnation) DO UPDATE SET entry_no = excluded.entry_no, entries = excluded.entries`,
    parameters: [
      registerId,
      epochNo,
      documents.map(({ table }) => table),
      documents.map(({ recordId }) => recordId),
      documents.map(({ incarnation }) => incarnation),
      documents.map(({ entries }) => entries[0]?.entryNo),
      documents.map(({ entries }) => entries.length),
    ],
  })
}
