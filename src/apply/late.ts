import { type ApplyingDatabase, query, type Work } from '../ports.ts'
import { ownOf } from '../record.ts'
import type { AppliedDocument, Origin } from './document-set.ts'
import { archivedOf } from './fork.ts'
import { rememberTaken } from './lives.ts'
import { isSame } from './sameness.ts'
import { DOCUMENTS, ORPHANS } from './tables.ts'

interface KnownRow {
  readonly document: string
  readonly lives: number
  readonly incarnation: number
  readonly epoch_no: number
  readonly born_entry_no: number
  readonly state: string | null
}

/** Documents of an epoch that was superseded, as their handlers take them. */
export interface Adopted {
  /** Under a key that nothing else has: they are posted and mirrored. */
  readonly free: readonly AppliedDocument[]
  /** Under a key that the register has given to another document by now: they are posted only. */
  readonly taken: readonly AppliedDocument[]
}

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
  const free: AppliedDocument[] = []
  const taken: AppliedDocument[] = []
  for (const document of present) {
    const name = nameOf(document)
    const row = known.get(name)
    if (row === undefined || (row.state === 'lost' && row.epoch_no === origin.epochNo)) {
      document.incarnation = row?.incarnation ?? 1
      document.isNew = row === undefined
      free.push(document)
    } else if (row.state !== 'lost' && (row.born_entry_no <= fork || isSame(document, latest.get(name) ?? [], ownOf(identities, document.table)))) {
    } else {
      document.incarnation = row.lives + 1
      taken.push(document)
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

function knownOf(database: ApplyingDatabase, set: readonly AppliedDocument[], { registerId }: Origin): Work<readonly KnownRow[]> {
  return query<KnownRow>({
    sql: `SELECT d.table_name || E'\\n' || d.record_id AS document, d.lives, d.incarnation, d.epoch_no, d.born_entry_no, d.state
          FROM unnest($2::text[], $3::text[]) AS s(table_name, record_id)
          JOIN ${database.qualify(DOCUMENTS.name)} d ON d.register_id = $1 AND d.table_name = s.table_name AND d.record_id = s.record_id FOR UPDATE OF d`,
    parameters: [registerId, set.map(({ table }) => table), set.map(({ recordId }) => recordId)],
  })
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
    sql: `UPDATE ${database.qualify(DOCUMENTS.name)} d SET lives = d.lives + 1 FROM unnest($2::text[], $3::text[]) AS s(table_name, record_id)
          WHERE d.register_id = $1 AND d.table_name = s.table_name AND d.record_id = s.record_id`,
    parameters: [registerId, documents.map(({ table }) => table), documents.map(({ recordId }) => recordId)],
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
