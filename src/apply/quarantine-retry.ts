import type { RegisterName } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import { appliesRemovals } from './handler.ts'
import type { Handling, Subscribed, Told } from './handling.ts'
import type { Quarantine } from './quarantine.ts'
import { QUARANTINE_ROW } from './quarantine-row.ts'
import { type RowOfRegister, readWaiting } from './quarantine-versions.ts'
import { DOCUMENTS, EPOCHS, QUARANTINE } from './tables.ts'

/** Which of a register's waiting documents are tried again: by id; those that refer to something missing; those whose time has come. */
export type WhichWaiting =
  | { readonly ids: readonly number[] }
  | {
      /** Those that refer to something missing: all that were sent to quarantine at this time, and a few of those before. */
      readonly missingAt: string
    }
  | WhichDue

/** Times in ISO 8601. */
export interface WhichDue {
  /** Whose pause is over at this time. */
  readonly dueAt: string
  /** Those that are due after this, which is later than any pause ends: that was written down before the clock was put back. */
  readonly latestAt: string
  /** Those that miss something and were tried last before this: documents have come since. */
  readonly broughtAt: string
}

/** Of rows `q`, with three parameters from this one on. */
export function dueCondition(from: number, { dueAt, latestAt, broughtAt }: WhichDue): readonly [string, readonly string[]] {
  const sql = `(q.retry_at <= $${from} OR q.retry_at > $${from + 1} OR (q.cause = 'missing' AND q.tried_at < $${from + 2}))`
  return [sql, [dueAt, latestAt, broughtAt]]
}

/** What was applied before, the rows say themselves. */
const NOTHING_BEFORE = new Map()
/** How many that waited before are tried with a batch. */
const FORMER = 20

interface WaitingRow extends RowOfRegister {
  readonly epoch: string
  readonly known_incarnation: number | null
  readonly is_gone: boolean
}

/** A document that waits, as it is to be applied. */
interface Candidate {
  readonly document: AppliedDocument
  readonly epochNo: number
  readonly epoch: string
  /** Another document has its key now. */
  readonly isFormer: boolean
  /** The register has it no more: another one may have the keys of its parts. */
  readonly isGone: boolean
}

/**
 * Tries waiting documents of a register again, parents first, each behind a savepoint at worst, inside the caller's transaction. The caller holds the register's row. At
 * most `perTurn`: those that were not tried for longest.
 */
export function* retryWaiting(
  database: ApplyingDatabase,
  { handlers, retry }: Subscribed,
  register: RegisterName & { readonly registerId: number },
  which: WhichWaiting,
  handling: Handling,
  quarantine: Quarantine,
): Work<void> {
  const rows = yield* waitingRows(database, register.registerId, which, [...handlers.keys()], retry.perTurn)
  if (rows.length === 0) return
  yield* quarantine.load(rows.map((row) => ({ table: row.table_name, recordId: row.record_id })))
  const candidates = yield* candidatesOf(database, rows, handlers)
  for (const set of inSets(candidates, [...handlers.keys()])) {
    const [{ epoch, epochNo, isFormer, isGone }] = set as [Candidate]
    const origin = { location: register.location, register: register.register, registerId: register.registerId, epoch, epochNo }
    const documents = set.map((candidate) => candidate.document)
    const refused = yield* handling.validate(documents, origin, true)
    const allowed = documents.filter((one) => !refused.some((failed) => failed.document === one))
    yield* quarantine.hold(refused, NOTHING_BEFORE, origin)
    const late = isFormer || isGone
    const circumstances = { origin, late, overtaken: late ? undefined : 'refuse', ledgersOnly: isFormer } as const
    const told: Told = {
      applied: (released) => quarantine.release(released, origin),
      failed: (failed) => quarantine.hold([failed], NOTHING_BEFORE, origin),
    }
    yield* handling.apply(allowed, circumstances, told, true)
  }
}

function waitingRows(
  database: ApplyingDatabase,
  registerId: number,
  which: WhichWaiting,
  tables: readonly string[],
  most: number,
): Work<readonly WaitingRow[]> {
  const table = database.qualify(QUARANTINE.name)
  const from =
    'ids' in which
      ? `unnest($4::bigint[]) AS w(id) CROSS JOIN LATERAL (SELECT * FROM ${table} q WHERE q.quarantine_id = w.id OFFSET 0) q`
      : `${table} q`
  const [condition, parameters] =
    'ids' in which
      ? ['true', [which.ids]]
      : 'missingAt' in which
        ? [
            `q.cause = 'missing' AND (q.tried_at >= $4 OR q.quarantine_id IN (
               SELECT quarantine_id FROM ${table} WHERE register_id = $1 AND state = 'waiting' AND cause = 'missing' AND tried_at < $4 ORDER BY tried_at LIMIT ${FORMER}))`,
            [which.missingAt],
          ]
        : dueCondition(4, which)
  return query<WaitingRow>({
    sql: `SELECT q.register_id, ${QUARANTINE_ROW}, e.epoch, d.incarnation AS known_incarnation, coalesce(d.removed OR d.state IS NOT DISTINCT FROM 'lost', true) AS is_gone
          FROM ${from}
          JOIN ${database.qualify(EPOCHS.name)} e ON e.register_id = q.register_id AND e.epoch_no = coalesce(q.removal_epoch_no, q.epoch_no)
          LEFT JOIN ${database.qualify(DOCUMENTS.name)} d ON d.register_id = q.register_id AND d.table_name = q.table_name AND d.record_id = q.record_id
          WHERE q.register_id = $1 AND q.state = 'waiting' AND q.table_name = ANY ($2::text[]) AND ${condition}
          ORDER BY q.tried_at, q.epoch_no, q.entry_no LIMIT $3`,
    parameters: [registerId, tables, most, ...parameters],
  })
}

/** A row whose entries are not all in the archive any more is left as it is. */
function* candidatesOf(database: ApplyingDatabase, rows: readonly WaitingRow[], handlers: Subscribed['handlers']): Work<readonly Candidate[]> {
  const waiting = yield* readWaiting(database, rows)
  return rows.flatMap((row, n) => {
    const { version, removal } = waiting[n] ?? {}
    const document = removal ?? version
    if (document === undefined || (version === undefined && !appliesRemovals(handlers, row.table_name))) return []
    document.isNew = row.applied_no === null
    if (removal !== undefined && !appliesRemovals(handlers, row.table_name)) removal.before = version
    const epochNo = (removal === undefined ? row.epoch_no : row.removal_epoch_no) as number
    return [{ document, epochNo, epoch: row.epoch, isFormer: row.known_incarnation !== row.incarnation, isGone: row.is_gone }]
  })
}

/** In each set documents under the same circumstances, each key once; in the order of tables, then in which they came. */
function inSets(candidates: readonly Candidate[], tables: readonly string[]): readonly (readonly Candidate[])[] {
  const place = ({ document }: Candidate): number => tables.indexOf(document.table)
  const ordered = candidates.toSorted((a, b) => place(a) - place(b) || a.epochNo - b.epochNo || entryNo(a) - entryNo(b))
  const sets: Candidate[][] = []
  let keys = new Set<string>()
  for (const candidate of ordered) {
    const { document, epochNo, isFormer, isGone } = candidate
    const key = `${document.table}\n${document.recordId}`
    const last = sets.at(-1)
    const first = last?.[0]
    const isAlike = first?.epochNo === epochNo && first.isFormer === isFormer && first.isGone === isGone && !keys.has(key)
    if (last !== undefined && isAlike) last.push(candidate)
    else {
      sets.push([candidate])
      keys = new Set()
    }
    keys.add(key)
  }
  return sets
}

function entryNo({ document }: Candidate): number {
  return (document.before ?? document).entries[0]?.entryNo ?? 0
}
