import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { ARCHIVED, type ArchivedRow, toEntry } from './archived.ts'
import { type AppliedDocument, type Origin, wholeDocument } from './document-set.ts'
import { ARCHIVE, DOCUMENTS, EPOCHS, ONCE, REGISTERS, SHAPES } from './tables.ts'

/** Documents among which is the one that asked for an effect: roots of a table in a stretch of a register's entries. */
export interface Stretch {
  readonly registerId: number
  readonly table: string
  readonly epochNo: number
  readonly first: number
  readonly last: number
}

/** Of which nobody takes care: its time is over, or further away than twice the longest `handlerTimeoutMs`, as only a clock can have written it that was wrong. */
const isFree = (heldUntil: string) => `(${heldUntil} < now() OR ${heldUntil} > now() + interval '60 days')`

/** Notes that effects are owed, and by whom; returns the keys that are, without those of which another one takes care, or that are done. */
export function* ask(database: ApplyingDatabase, keys: readonly string[], stretch: Stretch, holder: string, holdMs: number): Work<readonly string[]> {
  const { registerId, table, epochNo, first, last } = stretch
  const rows = yield* query<{ key: string }>({
    sql: `INSERT INTO ${database.qualify(ONCE.name)} AS o (key, state, register_id, table_name, epoch_no, first_no, last_no, attempts, holder, held_until)
          SELECT key, 'owed', $2, $3, $4, $5, $6, 0, $7, clock_timestamp() + $8 * interval '1 ms' FROM unnest($1::text[]) AS asked(key) ORDER BY key
          ON CONFLICT (key) DO UPDATE SET state = 'owed', register_id = excluded.register_id, table_name = excluded.table_name, epoch_no = excluded.epoch_no,
            first_no = excluded.first_no, last_no = excluded.last_no, holder = excluded.holder, held_until = excluded.held_until
          WHERE o.state = 'dropped' OR o.state = 'owed' AND ${isFree('o.held_until')}
          RETURNING key`,
    parameters: [keys, registerId, table, epochNo, first, last, holder, holdMs],
  })
  return rows.map(({ key }) => key)
}

/** Takes up an effect; false where it is not owed, or another one takes care of it. */
export function* take(database: ApplyingDatabase, key: string, holder: string, holdMs: number): Work<boolean> {
  const rows = yield* query({
    sql: `UPDATE ${database.qualify(ONCE.name)} SET attempts = attempts + 1, held_until = clock_timestamp() + $3 * interval '1 ms'
          WHERE key = $1 AND holder = $2 AND state = 'owed' RETURNING key`,
    parameters: [key, holder, holdMs],
  })
  return rows.length > 0
}

export function* done(database: ApplyingDatabase, key: string, holder: string): Work<void> {
  yield* query({
    sql: `UPDATE ${database.qualify(ONCE.name)} SET state = 'done', done_at = clock_timestamp(), held_until = NULL WHERE key = $1 AND holder = $2`,
    parameters: [key, holder],
  })
}

/** Where effects are owed of which nobody takes care: their process has ended, or forgot them. */
export function* forgotten(database: ApplyingDatabase, limit: number): Work<readonly Stretch[]> {
  const rows = yield* query<{ register_id: number; table_name: string; epoch_no: number; first_no: number; last_no: number }>({
    sql: `SELECT register_id, table_name, epoch_no, first_no, last_no FROM ${database.qualify(ONCE.name)}
          WHERE ${isFree('held_until')} GROUP BY 1, 2, 3, 4, 5 ORDER BY min(held_until) LIMIT $1`,
    parameters: [limit],
  })
  return rows.map((row) => ({ registerId: row.register_id, table: row.table_name, epochNo: row.epoch_no, first: row.first_no, last: row.last_no }))
}

/** For whom nobody has asked again: they are not wanted any more. With `waitMs` they are to be asked for later instead. */
export function* settle(database: ApplyingDatabase, stretch: Stretch, waitMs?: number): Work<void> {
  const { registerId, table, epochNo, first, last } = stretch
  yield* query({
    sql: `UPDATE ${database.qualify(ONCE.name)} SET ${waitMs === undefined ? "state = 'dropped', held_until = NULL" : `held_until = clock_timestamp() + ${waitMs} * interval '1 ms'`}
          WHERE state = 'owed' AND ${isFree('held_until')} AND register_id = $1 AND table_name = $2 AND epoch_no = $3 AND first_no = $4 AND last_no = $5`,
    parameters: [registerId, table, epochNo, first, last],
  })
}

/** The documents of a stretch, in their latest versions. Undefined where their register is gone. */
export function* documentsIn(
  database: ApplyingDatabase,
  { registerId, table, epochNo, first, last }: Stretch,
): Work<{ readonly origin: Origin; readonly documents: readonly AppliedDocument[] } | undefined> {
  const [register] = yield* query<{ location: string; register: string; epoch: string }>({
    sql: `SELECT r.location, r.register, e.epoch FROM ${database.qualify(REGISTERS.name)} r JOIN ${database.qualify(EPOCHS.name)} e USING (register_id)
          WHERE r.register_id = $1 AND e.epoch_no = $2 FOR UPDATE OF r NOWAIT`,
    parameters: [registerId, epochNo],
  })
  if (register === undefined) return undefined
  const rows = yield* query<ArchivedRow & { document: string; incarnation: number }>({
    sql: `WITH asked AS (
            SELECT DISTINCT record_id AS asked_id FROM ${database.qualify(ARCHIVE.name)}
            WHERE register_id = $1 AND epoch_no = $2 AND entry_no BETWEEN $3 AND $4 AND table_name = $5)
          SELECT latest.document, latest.incarnation, ${ARCHIVED} FROM asked
          JOIN LATERAL (SELECT d.record_id AS document, d.incarnation, d.epoch_no AS epoch, d.entry_no AS first, d.entries FROM ${database.qualify(DOCUMENTS.name)} d
                        WHERE d.register_id = $1 AND d.table_name = $5 AND d.record_id = asked_id) AS latest ON true
          JOIN LATERAL (SELECT * FROM ${database.qualify(ARCHIVE.name)} a
                        WHERE a.register_id = $1 AND a.epoch_no = latest.epoch AND a.entry_no >= latest.first AND a.entry_no < latest.first + latest.entries OFFSET 0) AS archived ON true
          ORDER BY latest.document, entry_no`,
    parameters: [registerId, epochNo, first, last, table],
  })
  const [shape] = yield* query<{ parts: string; key_columns: string }>({
    sql: `SELECT parts, key_columns FROM ${database.qualify(SHAPES.name)} WHERE register_id = $1 AND table_name = $2`,
    parameters: [registerId, table],
  })
  const known = { shapes: { [table]: JSON.parse(shape?.parts ?? '[]') }, keys: { [table]: JSON.parse(shape?.key_columns ?? '[]') } }
  const documents = [...Map.groupBy(rows, ({ document }) => document)].flatMap(([recordId, all]) => {
    const name = { table, recordId }
    const document = wholeDocument(
      all.map((row) => toEntry(row, name)),
      known,
    )
    if (document === undefined) return []
    document.incarnation = all[0]?.incarnation ?? 1
    document.isNew = false
    return [document]
  })
  return { origin: { location: register.location, register: register.register, registerId, epoch: register.epoch, epochNo }, documents }
}
