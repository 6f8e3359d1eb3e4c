import { asTillsyncError } from '../errors.ts'
import type { AnyDocument, RegisterName } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { isoTime } from './archived.ts'
import { QUARANTINE_ROW } from './quarantine-row.ts'
import { type RowOfRegister, readWaiting } from './quarantine-versions.ts'
import { QUARANTINE, REGISTERS } from './tables.ts'

/** A document that could not be applied. All times are ISO 8601, UTC. */
export interface Quarantined extends RegisterName {
  readonly id: number
  readonly table: string
  readonly recordId: string
  /** The version that waits: the root record's columns, and `parts` by table. Undefined where it can't be read. */
  readonly document: AnyDocument | undefined
  /** The first of its entries in the archive. */
  readonly entryNo: number
  /** The register has removed it since. It waits all the same. */
  readonly removed: boolean
  /** Whether an older version of it is applied, and stays so meanwhile. */
  readonly applied: boolean
  readonly state: QuarantineState
  /** Why it could not be applied when it was tried last. */
  readonly code: string
  readonly message: string
  readonly hint: string | undefined
  /** How often this version was tried. */
  readonly attempts: number
  readonly quarantinedAt: string
  readonly triedAt: string
  /** When it is tried again by itself; undefined where it is discarded. */
  readonly retryAt: string | undefined
  /** Why it was discarded. */
  readonly reason: string | undefined
  readonly settledAt: string | undefined
}

export type QuarantineState = 'waiting' | 'discarded'

/** Which documents in quarantine. */
export interface WhichQuarantined {
  readonly location?: string | undefined
  readonly register?: string | undefined
  readonly table?: string | undefined
}

interface ListedRow extends RowOfRegister {
  readonly location: string
  readonly register: string
  readonly code: string
  readonly message: string
  readonly hint: string | null
  readonly quarantined_at: string
  readonly tried_at: string
  readonly retry_at: string
  readonly reason: string | null
  readonly settled: string | null
}

/** Documents in quarantine, by id. */
export function* listQuarantine(
  database: ApplyingDatabase,
  which: WhichQuarantined,
  state: QuarantineState,
  after: number,
  limit: number,
): Work<readonly Quarantined[]> {
  const rows = yield* query<ListedRow>({
    sql: `SELECT ${QUARANTINE_ROW}, q.register_id, r.location, r.register, q.code, q.message, q.hint, q.reason, ${isoTime('q.quarantined_at')} AS quarantined_at,
                 ${isoTime('q.tried_at')} AS tried_at, ${isoTime('q.retry_at')} AS retry_at, ${isoTime('q.settled_at')} AS settled
          FROM ${database.qualify(QUARANTINE.name)} q JOIN ${database.qualify(REGISTERS.name)} r USING (register_id)
          WHERE q.state = $1 AND q.quarantine_id > $2 AND r.location = coalesce($3, r.location) AND r.register = coalesce($4, r.register)
            AND q.table_name = coalesce($5, q.table_name) ORDER BY q.quarantine_id LIMIT $6`,
    parameters: [state, after, which.location ?? null, which.register ?? null, which.table ?? null, limit],
  })
  const found = yield* readWaiting(database, rows)
  return rows.map((row, n) =>
    asQuarantined(row, row.removal_no !== null || found[n]?.version?.removed === true, () => found[n]?.version?.value as AnyDocument),
  )
}

function asQuarantined(row: ListedRow, removed: boolean, document: () => AnyDocument): Quarantined {
  return {
    id: row.quarantine_id,
    location: row.location,
    register: row.register,
    table: row.table_name,
    recordId: row.record_id,
    document: removed && row.removal_no === null ? undefined : readable(document),
    entryNo: row.entry_no,
    removed,
    applied: row.applied_no !== null,
    state: row.state,
    code: row.code,
    message: row.message,
    hint: row.hint ?? undefined,
    attempts: row.attempts,
    quarantinedAt: row.quarantined_at,
    triedAt: row.tried_at,
    retryAt: row.state === 'waiting' ? row.retry_at : undefined,
    reason: row.reason ?? undefined,
    settledAt: row.settled ?? undefined,
  }
}

/** What is in quarantine may be just what can't be read. */
function readable(document: () => AnyDocument): AnyDocument | undefined {
  try {
    return document()
  } catch (thrown) {
    if (asTillsyncError(thrown, 'ERR_VALUE', '').code === 'ERR_VALUE') return undefined
    throw thrown
  }
}
