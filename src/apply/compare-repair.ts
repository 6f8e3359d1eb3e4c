import { hasOwnTable } from '../migrate.ts'
import { isPostable } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { type FoundDifference, parkedOf } from './compare-judge.ts'
import { DOCUMENTS, LIVES, ORPHANS, POSTINGS, QUARANTINE, REGISTERS } from './tables.ts'

/**
 * Has a register asked for these documents once more, and for no other; one that central has got anew since it was judged is left alone. What the register then seals takes the place of what
 * central has, in the same life of its key, so that only differences are posted.
 *
 * @throws ERR_BUSY (retryable) where another process works for this register
 */
export function* wantAgain(database: ApplyingDatabase, registerId: number, table: string, differences: readonly FoundDifference[]): Work<number> {
  const registers = database.qualify(REGISTERS.name)
  // The register's row first, as batches do.
  yield* query({ sql: `SELECT FROM ${registers} WHERE register_id = $1 FOR UPDATE NOWAIT`, parameters: [registerId] })
  const known = differences.filter(({ at }) => at !== undefined)
  const wanted = yield* query({
    sql: `UPDATE ${database.qualify(DOCUMENTS.name)} d SET state = 'wanted', removed = false
          FROM unnest($3::text[], $4::bigint[], $5::bigint[]) AS s(record_id, epoch_no, entry_no)
          WHERE d.register_id = $1 AND d.table_name = $2 AND d.record_id = s.record_id AND d.epoch_no = s.epoch_no AND d.entry_no = s.entry_no RETURNING 1 AS one`,
    parameters: [registerId, table, known.map(({ recordId }) => recordId), known.map(({ at }) => at?.epochNo), known.map(({ at }) => at?.entryNo)],
  })
  const unknown = differences.filter(({ at }) => at === undefined).map(({ recordId }) => recordId)
  const named = yield* nameAgain(database, registerId, table, unknown)
  if (wanted.length + named > 0) yield* query({ sql: `UPDATE ${registers} SET unsettled = true WHERE register_id = $1`, parameters: [registerId] })
  return wanted.length + named
}

/**
 * Documents that central knows nothing of: what it had posted for them, if somebody has deleted what it knew, is of the life in which they come now, unless that life is known to be over. No version of
 * them is in the archive as far as anybody knows.
 */
function* nameAgain(database: ApplyingDatabase, registerId: number, table: string, recordIds: readonly string[]): Work<number> {
  if (recordIds.length === 0) return 0
  const key = (alias: string) => `${alias}.register_id = $1 AND ${alias}.table_name = $2 AND ${alias}.record_id = s.record_id`
  const [orphans, ended] = [ORPHANS, LIVES].map(({ name }) => database.qualify(name))
  const lived = (yield* hasOwnTable(database, POSTINGS)) ? [POSTINGS, QUARANTINE] : [QUARANTINE]
  const lives = lived.map(({ name }) => `SELECT max(l.incarnation) FROM ${database.qualify(name)} l WHERE ${key('l')}`)
  const rows = yield* query({
    sql: `INSERT INTO ${database.qualify(DOCUMENTS.name)}
            (register_id, table_name, record_id, incarnation, lives, removed, epoch_no, entry_no, entries, versions, born_epoch_no, born_entry_no, state)
          SELECT $1, $2, s.record_id, n.life, n.life, false, r.epoch_no, 0, 0, 1, r.epoch_no, 0, 'wanted'
          FROM unnest($3::text[]) AS s(record_id) JOIN ${database.qualify(REGISTERS.name)} r ON r.register_id = $1
          CROSS JOIN LATERAL (SELECT greatest(1, ${lives.map((select) => `(${select})`).join(', ')}) AS posted,
                                     greatest((SELECT max(o.incarnation) FROM ${orphans} o WHERE ${key('o')} AND o.state <> 'returned'), (SELECT max(e.incarnation) FROM ${ended} e WHERE ${key('e')}
                                                 AND NOT EXISTS (SELECT FROM ${orphans} o WHERE ${key('o')} AND o.incarnation = e.incarnation AND o.state = 'returned'))) AS over) l
          CROSS JOIN LATERAL (SELECT CASE WHEN l.over >= l.posted THEN l.over + 1 ELSE l.posted END AS life) n
          ON CONFLICT DO NOTHING RETURNING 1 AS one`,
    parameters: [registerId, table, recordIds],
  })
  return rows.length
}

/** How many documents of a table a register is still asked for, those left out that it said it can't read. */
export function* stillWanted(database: ApplyingDatabase, registerId: number, table: string): Work<number> {
  const parked = [...(yield* parkedOf(database, registerId, table))].filter(isPostable)
  const [row] = yield* query<{ wanted: number }>({
    sql: `SELECT count(*) AS wanted FROM ${database.qualify(DOCUMENTS.name)} WHERE register_id = $1 AND table_name = $2 AND state = 'wanted' AND record_id <> ALL ($3::text[])`,
    parameters: [registerId, table, parked],
  })
  return row?.wanted ?? 0
}

/**
 * Nothing is asked for any more, nor lost: nobody needs to look for it at each exchange.
 *
 * @throws ERR_BUSY (retryable)
 */
export function* settle(database: ApplyingDatabase, registerId: number): Work<void> {
  const [registers, documents, orphans] = [REGISTERS, DOCUMENTS, ORPHANS].map(({ name }) => database.qualify(name))
  yield* query({ sql: `SELECT FROM ${registers} WHERE register_id = $1 FOR UPDATE NOWAIT`, parameters: [registerId] })
  yield* query({
    sql: `UPDATE ${registers} SET unsettled = false WHERE register_id = $1 AND unsettled
            AND NOT EXISTS (SELECT FROM ${documents} WHERE register_id = $1 AND state IS NOT NULL)
            AND NOT EXISTS (SELECT FROM ${orphans} WHERE register_id = $1 AND state <> 'returned')`,
    parameters: [registerId],
  })
}
