import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import type { AppliedDocument, Origin } from './document-set.ts'
import { DOCUMENTS, LIVES } from './tables.ts'

/** What is known of a life of a key that is over, in order. */
const COLUMNS =
  'register_id, table_name, record_id, incarnation, epoch_no, entry_no, entries, born_epoch_no, born_entry_no, removal_epoch_no, removal_no'

/** A key may be removed, come back with a restore, and be removed again: the last end counts. */
const OVERWRITE = `ON CONFLICT (register_id, table_name, record_id, incarnation) DO UPDATE SET
  ${COLUMNS.split(', ')
    .slice(4)
    .map((name) => `${name} = excluded.${name}`)
    .join(', ')}`

/** Writes down the lives that these documents end: by a removal, or by taking the key of one that the register has lost. To be called before they are numbered. */
export function* endLives(database: ApplyingDatabase, set: readonly AppliedDocument[], origin: Origin, mayBeLost: boolean): Work<void> {
  const ending = mayBeLost ? set : set.filter(({ removed }) => removed)
  if (ending.length === 0) return
  yield* query({
    sql: `INSERT INTO ${database.qualify(LIVES.name)} (${COLUMNS})
          SELECT $1, d.table_name, d.record_id, d.incarnation, d.epoch_no, d.entry_no, d.entries, d.born_epoch_no, d.born_entry_no,
                 CASE WHEN s.removed THEN $2::bigint END, CASE WHEN s.removed THEN s.entry_no END
          FROM unnest($3::text[], $4::text[], $5::boolean[], $6::bigint[]) AS s(table_name, record_id, removed, entry_no)
          JOIN ${database.qualify(DOCUMENTS.name)} d ON d.register_id = $1 AND d.table_name = s.table_name AND d.record_id = s.record_id
          WHERE NOT d.removed AND (s.removed OR d.state = 'lost') ${OVERWRITE}`,
    parameters: [
      origin.registerId,
      origin.epochNo,
      ending.map(({ table }) => table),
      ending.map(({ recordId }) => recordId),
      ending.map(({ removed }) => removed),
      ending.map(({ entries }) => entries[0]?.entryNo),
    ],
  })
}

/** Writes down lives that were over before they came, or later versions of such: their keys are other documents' by now. */
export function* rememberTaken(database: ApplyingDatabase, documents: readonly AppliedDocument[], { registerId, epochNo }: Origin): Work<void> {
  if (documents.length === 0) return
  yield* query({
    sql: `INSERT INTO ${database.qualify(LIVES.name)} (${COLUMNS})
          SELECT $1, table_name, record_id, incarnation, $2, entry_no, entries, $2, born, NULL, NULL
          FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[]) AS s(table_name, record_id, incarnation, entry_no, entries, born)
          ON CONFLICT (register_id, table_name, record_id, incarnation) DO UPDATE SET entry_no = excluded.entry_no, entries = excluded.entries`,
    parameters: [
      registerId,
      epochNo,
      documents.map(({ table }) => table),
      documents.map(({ recordId }) => recordId),
      documents.map(({ incarnation }) => incarnation),
      documents.map(({ entries }) => entries[0]?.entryNo),
      documents.map(({ entries }) => entries.length),
      documents.map(({ born }) => born),
    ],
  })
}

/** As a statement in a WITH: lives that end because a restore gives their keys back to former ones. `source` has the columns of sync_documents. */
export function livesOf(database: ApplyingDatabase, source: string): string {
  const columns = COLUMNS.split(', ').slice(0, 9).join(', ')
  return `INSERT INTO ${database.qualify(LIVES.name)} (${COLUMNS}) SELECT ${columns}, NULL, NULL FROM ${source} ${OVERWRITE}`
}
