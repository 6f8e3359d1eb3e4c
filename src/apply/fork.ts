import type { DocumentName } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { ownOf } from '../record.ts'
import { query, type Work } from '../work.ts'
import type { AppliedDocument, Origin } from './document-set.ts'
import type { EpochRow, Segment } from './epochs.ts'
import { livesOf } from './lives.ts'
import { type ArchivedRecord, isSame } from './sameness.ts'
import { ARCHIVE, DOCUMENTS, LIVES, ORPHANS, REGISTERS } from './tables.ts'

/** What became of documents when a register's history parted from the one that was known. */
export interface Parted {
  /** Documents that the register has lost: they stay posted. */
  readonly orphaned: number
  /** Documents of which it has an earlier version: it is asked for that. */
  readonly wanted: number
}

/**
 * A register goes on behind an entry that is not the last one that was received: settles what lies beyond, on the line that was the present one. A document that
 * began before is wanted once more, in the life of its key that it then had; one that began beyond it is an orphan until it comes again.
 */
export function* part(database: ApplyingDatabase, registerId: number, line: readonly Segment[], common: number): Work<Parted> {
  const [archive, documents, orphans] = [ARCHIVE, DOCUMENTS, ORPHANS].map(({ name }) => database.qualify(name))
  const beyond = line.filter(({ through }) => through > common)
  const affected = `
    affected AS (SELECT DISTINCT a.table_name, a.record_id FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS s(epoch_no, after, through)
                 JOIN ${archive} a ON a.register_id = $1 AND a.epoch_no = s.epoch_no AND a.entry_no > greatest(s.after, $5::bigint) AND a.entry_no <= s.through
                 WHERE a.entry_no = a.document_no),
    now AS (SELECT d.*, d.state IS NOT DISTINCT FROM 'lost' AS lost,
                   d.state IS DISTINCT FROM 'lost' AND (d.born_entry_no <= $5::bigint OR b.operation IS NOT DISTINCT FROM 'baseline') AS was,
                   (SELECT f FROM json_array_elements(coalesce(d.former, '[]')) WITH ORDINALITY AS f(f, n)
                    WHERE (f ->> 'born')::bigint <= $5::bigint AND (f ->> 'end')::bigint > $5::bigint ORDER BY n DESC LIMIT 1) AS former_life
            FROM affected JOIN ${documents} d ON d.register_id = $1 AND d.table_name = affected.table_name AND d.record_id = affected.record_id
            LEFT JOIN LATERAL (SELECT operation FROM ${archive} b WHERE b.register_id = $1 AND b.epoch_no = d.born_epoch_no AND b.entry_no = d.born_entry_no OFFSET 0) b ON true)`
  const parameters = [registerId, beyond.map((s) => s.epochNo), beyond.map((s) => s.after.entryNo), beyond.map((s) => s.through), common]
  // What was removed beyond it stays posted too; should it come again, it is the same.
  yield* query({
    sql: `WITH ${affected},
          lives AS (SELECT n.table_name, n.record_id, l.incarnation, l.born, l.ended FROM now n CROSS JOIN LATERAL (
                      SELECT n.incarnation, n.born_entry_no AS born, n.entry_no AS ended WHERE n.removed AND NOT n.was AND NOT n.lost
                      UNION ALL SELECT (f ->> 'incarnation')::bigint, (f ->> 'born')::bigint, (f ->> 'end')::bigint FROM json_array_elements(coalesce(n.former, '[]')) f
                      WHERE (f ->> 'born')::bigint > $5::bigint) l),
          versions AS (SELECT a.epoch_no, a.table_name, a.record_id, a.entry_no, a.document_no, a.operation, count(*) OVER (PARTITION BY a.epoch_no, a.document_no) AS entries
                       FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) AS s(epoch_no, after, through)
                       JOIN ${archive} a ON a.register_id = $1 AND a.epoch_no = s.epoch_no AND a.entry_no > greatest(s.after, $5::bigint) AND a.entry_no <= s.through
                       WHERE EXISTS (SELECT 1 FROM lives))
          INSERT INTO ${orphans} (register_id, table_name, record_id, incarnation, epoch_no, entry_no, entries, state)
          SELECT DISTINCT ON (v.table_name, v.record_id, l.incarnation) $1, v.table_name, v.record_id, l.incarnation, v.epoch_no, v.entry_no, v.entries, 'former'
          FROM lives l JOIN versions v ON v.table_name = l.table_name AND v.record_id = l.record_id AND v.entry_no >= l.born AND v.entry_no < l.ended
          WHERE v.operation = 'upsert' AND v.entry_no = v.document_no ORDER BY v.table_name, v.record_id, l.incarnation, v.entry_no DESC
          ON CONFLICT (register_id, table_name, record_id, incarnation) DO UPDATE SET state = 'former', settled_at = NULL, reason = NULL,
            epoch_no = excluded.epoch_no, entry_no = excluded.entry_no, entries = excluded.entries`,
    parameters,
  })
  const orphaned = yield* query({
    sql: `WITH ${affected}
          INSERT INTO ${orphans} (register_id, table_name, record_id, incarnation, epoch_no, entry_no, entries, state)
          SELECT register_id, table_name, record_id, incarnation, epoch_no, entry_no, entries, 'orphaned' FROM now WHERE NOT was AND NOT removed AND NOT lost
          ON CONFLICT (register_id, table_name, record_id, incarnation) DO UPDATE SET state = 'orphaned', settled_at = NULL, reason = NULL,
            back = NULL, back_code = NULL, back_message = NULL, epoch_no = excluded.epoch_no, entry_no = excluded.entry_no, entries = excluded.entries
          RETURNING 1 AS one`,
    parameters,
  })
  // What goes on is what stood of it last, in the life that it then had.
  yield* query({
    sql: `WITH ${affected} ${livesOf(database, '(SELECT * FROM now WHERE NOT was AND NOT removed AND former_life IS NOT NULL) AS replaced')}`,
    parameters,
  })
  const changed = yield* query<{ state: string | null }>({
    sql: `WITH ${affected}
          UPDATE ${documents} d
          SET state = CASE WHEN n.was OR n.former_life IS NOT NULL THEN 'wanted' ELSE 'lost' END,
              removed = CASE WHEN n.was OR n.former_life IS NOT NULL THEN false ELSE d.removed END,
              incarnation = CASE WHEN NOT n.was AND n.former_life IS NOT NULL THEN (n.former_life ->> 'incarnation')::bigint ELSE d.incarnation END,
              born_epoch_no = CASE WHEN NOT n.was AND n.former_life IS NOT NULL THEN (n.former_life ->> 'epoch')::bigint ELSE d.born_epoch_no END,
              born_entry_no = CASE WHEN NOT n.was AND n.former_life IS NOT NULL THEN (n.former_life ->> 'born')::bigint ELSE d.born_entry_no END,
              former = (SELECT json_agg(f ORDER BY o) FROM json_array_elements(coalesce(n.former, '[]')) WITH ORDINALITY AS f(f, o) WHERE (f ->> 'end')::bigint <= $5::bigint),
              epoch_no = coalesce(l.epoch_no, d.epoch_no), entry_no = coalesce(l.entry_no, d.entry_no), entries = coalesce(l.entries, d.entries)
          FROM now n LEFT JOIN ${database.qualify(LIVES.name)} l ON l.register_id = $1 AND l.table_name = n.table_name AND l.record_id = n.record_id
            AND l.incarnation = CASE WHEN NOT n.was AND n.former_life IS NOT NULL THEN (n.former_life ->> 'incarnation')::bigint WHEN n.was AND n.removed THEN n.incarnation END
          WHERE d.register_id = $1 AND d.table_name = n.table_name AND d.record_id = n.record_id RETURNING d.state`,
    parameters,
  })
  const wanted = changed.filter(({ state }) => state === 'wanted').length
  if (changed.length > 0) yield* setUnsettled(database, registerId)
  return { orphaned: orphaned.length, wanted }
}

/** A register whose database was set up anew: what it sends from now on is compared with what was there, and nothing takes away from that. */
export function* forgetAll(database: ApplyingDatabase, registerId: number): Work<Parted> {
  yield* query({
    sql: `INSERT INTO ${database.qualify(ORPHANS.name)} (register_id, table_name, record_id, incarnation, epoch_no, entry_no, entries, state)
          SELECT register_id, table_name, record_id, incarnation, epoch_no, entry_no, entries, 'former' FROM ${database.qualify(DOCUMENTS.name)}
          WHERE register_id = $1 AND NOT removed AND state IS DISTINCT FROM 'lost' AND entries > 0
          ON CONFLICT (register_id, table_name, record_id, incarnation) DO UPDATE SET state = 'former', settled_at = NULL, reason = NULL,
            epoch_no = excluded.epoch_no, entry_no = excluded.entry_no, entries = excluded.entries`,
    parameters: [registerId],
  })
  yield* query({
    sql: `UPDATE ${database.qualify(DOCUMENTS.name)} SET state = 'lost', former = NULL WHERE register_id = $1`,
    parameters: [registerId],
  })
  yield* setUnsettled(database, registerId)
  return { orphaned: 0, wanted: 0 }
}

function* setUnsettled(database: ApplyingDatabase, registerId: number): Work<void> {
  yield* query({ sql: `UPDATE ${database.qualify(REGISTERS.name)} SET unsettled = true WHERE register_id = $1`, parameters: [registerId] })
}

/** Documents that the register is asked for once more. */
export function* wantedOf(database: ApplyingDatabase, registerId: number, most: number): Work<readonly DocumentName[]> {
  const rows = yield* query<{ table_name: string; record_id: string }>({
    sql: `SELECT table_name, record_id FROM ${database.qualify(DOCUMENTS.name)} WHERE register_id = $1 AND state = 'wanted' ORDER BY table_name, record_id LIMIT $2`,
    parameters: [registerId, most],
  })
  return rows.map(({ table_name, record_id }) => ({ table: table_name, recordId: record_id }))
}

/** What of these documents is archived, by table and record id: the latest version of those in one of the states. */
export function* archivedOf(
  database: ApplyingDatabase,
  registerId: number,
  set: readonly AppliedDocument[],
  condition: string,
): Work<ReadonlyMap<string, readonly ArchivedRecord[]>> {
  const rows = yield* query<{ document: string; table_name: string; record_id: string; record: string }>({
    sql: `SELECT d.table_name || E'\\n' || d.record_id AS document, a.table_name, a.record_id, a.record
          FROM unnest($2::text[], $3::text[]) AS s(table_name, record_id)
          JOIN ${database.qualify(DOCUMENTS.name)} d ON d.register_id = $1 AND d.table_name = s.table_name AND d.record_id = s.record_id
          CROSS JOIN LATERAL (SELECT * FROM ${database.qualify(ARCHIVE.name)} a
            WHERE a.register_id = $1 AND a.epoch_no = d.epoch_no AND a.entry_no >= d.entry_no AND a.entry_no < d.entry_no + d.entries OFFSET 0) a
          WHERE ${condition} AND a.record IS NOT NULL ORDER BY a.entry_no`,
    parameters: [registerId, set.map(({ table }) => table), set.map(({ recordId }) => recordId)],
  })
  const groups = Map.groupBy(rows, ({ document }) => document)
  return new Map([...groups].map(([name, all]) => [name, all.map((row) => ({ table: row.table_name, recordId: row.record_id, record: row.record }))]))
}

/** A document that was lost, in one life of its key. */
interface Lost {
  readonly incarnation: number
  readonly records: readonly ArchivedRecord[]
}

/** What the register has lost under these keys, where none of them holds another document now; by table and record id. */
function* lostUnder(database: ApplyingDatabase, registerId: number, set: readonly AppliedDocument[]): Work<ReadonlyMap<string, readonly Lost[]>> {
  const [documents, orphans, archive] = [DOCUMENTS, ORPHANS, ARCHIVE].map(({ name }) => database.qualify(name))
  const rows = yield* query<{ document: string; incarnation: number; table_name: string; record_id: string; record: string }>({
    sql: `SELECT l.table_name || E'\\n' || l.record_id AS document, l.incarnation, a.table_name, a.record_id, a.record
          FROM unnest($2::text[], $3::text[]) AS s(table_name, record_id)
          CROSS JOIN LATERAL (SELECT * FROM ${documents} d WHERE d.register_id = $1 AND d.table_name = s.table_name AND d.record_id = s.record_id OFFSET 0) d
          CROSS JOIN LATERAL (
            SELECT d.table_name, d.record_id, d.incarnation, d.epoch_no, d.entry_no, d.entries WHERE d.state = 'lost' AND NOT d.removed
            UNION SELECT o.table_name, o.record_id, o.incarnation, o.epoch_no, o.entry_no, o.entries FROM ${orphans} o
                  WHERE o.register_id = $1 AND o.table_name = s.table_name AND o.record_id = s.record_id AND o.state <> 'returned') l
          CROSS JOIN LATERAL (SELECT * FROM ${archive} a WHERE a.register_id = $1 AND a.epoch_no = l.epoch_no AND a.entry_no >= l.entry_no AND a.entry_no < l.entry_no + l.entries OFFSET 0) a
          WHERE (d.removed OR d.state = 'lost') AND a.record IS NOT NULL ORDER BY l.incarnation DESC, a.entry_no`,
    parameters: [registerId, set.map(({ table }) => table), set.map(({ recordId }) => recordId)],
  })
  const lost = new Map<string, Lost[]>()
  for (const [name, group] of Map.groupBy(rows, ({ document }) => document)) {
    const lives = Map.groupBy(group, ({ incarnation }) => incarnation)
    const recordsOf = (all: typeof group) => all.map((row) => ({ table: row.table_name, recordId: row.record_id, record: row.record }))
    lost.set(
      name,
      [...lives].map(([incarnation, all]) => ({ incarnation, records: recordsOf(all) })),
    )
  }
  return lost
}

/** Documents of a set that the register had lost and has again: they go on in the life that they had. */
export function* recognize(
  database: ApplyingDatabase,
  set: readonly AppliedDocument[],
  origin: Origin,
  identities: Readonly<Record<string, readonly string[]>>,
): Work<void> {
  const lost = yield* lostUnder(database, origin.registerId, set)
  const back = set.flatMap((document) => {
    const lives = lost.get(`${document.table}\n${document.recordId}`) ?? []
    const life = lives.find(({ records }) => isSame(document, records, ownOf(identities, document.table)))
    return life === undefined ? [] : [{ document, incarnation: life.incarnation }]
  })
  if (back.length === 0) return
  const parameters = [
    origin.registerId,
    back.map(({ document }) => document.table),
    back.map(({ document }) => document.recordId),
    back.map(({ incarnation }) => incarnation),
  ]
  const lives = 'unnest($2::text[], $3::text[], $4::bigint[]) AS s(table_name, record_id, incarnation)'
  const others = `(SELECT d.* FROM ${lives} JOIN ${database.qualify(DOCUMENTS.name)} d USING (table_name, record_id)
                   WHERE d.register_id = $1 AND NOT d.removed AND d.incarnation <> s.incarnation) AS replaced`
  yield* query({ sql: livesOf(database, others), parameters })
  yield* query({
    sql: `UPDATE ${database.qualify(ORPHANS.name)} o SET state = 'returned', settled_at = now() FROM ${lives}
          WHERE o.register_id = $1 AND o.table_name = s.table_name AND o.record_id = s.record_id AND o.incarnation = s.incarnation`,
    parameters,
  })
  yield* query({
    sql: `UPDATE ${database.qualify(DOCUMENTS.name)} d SET state = 'back', removed = false, incarnation = s.incarnation FROM ${lives}
          WHERE d.register_id = $1 AND d.table_name = s.table_name AND d.record_id = s.record_id`,
    parameters,
  })
}

/** Of an epoch that others have superseded: where the next one took over from it, and where it parts from the present history, which may be earlier. */
export function forkOf(epochs: readonly EpochRow[], epochNo: number): { readonly takenOver: number; readonly parted: number } {
  const parents = epochs.filter(({ epoch_no }) => epoch_no > epochNo).map(({ parent_no }) => parent_no)
  const takenOver = parents[0] ?? 0
  return { takenOver, parted: Math.min(takenOver, ...parents) }
}
