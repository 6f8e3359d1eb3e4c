import { TillsyncError } from '../errors.ts'
import type { AnyDocument, RegisterName, SentBack } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { isoTime } from './archived.ts'
import type { HandlersByTable } from './batch.ts'
import { type AppliedDocument, isReadable, wholeDocument } from './document-set.ts'
import { finish } from './finish.ts'
import { QUARANTINE_ROW, type QuarantineRow } from './quarantine-row.ts'
import { readEntries, readShapes, readWaiting, type Waiting } from './quarantine-versions.ts'
import { StockLevels } from './stock-levels.ts'
import { DOCUMENTS, ORPHANS, QUARANTINE, REGISTERS } from './tables.ts'

/** What became of an orphan. */
export type OrphanState = (typeof ORPHAN_STATES)[number]
export const ORPHAN_STATES = ['orphaned', 'returned', 'withdrawn', 'former'] as const

/** A document that central has and its register has lost by a restore. It stays posted. */
export interface Orphan extends RegisterName {
  readonly id: number
  readonly table: string
  readonly recordId: string
  /** As it was received last: the root record's columns, and `parts` by table. Empty where somebody has changed the archive, so that it can't be read. */
  readonly document: AnyDocument
  /** The first of its entries in the archive. */
  readonly entryNo: number
  /** ISO 8601, UTC. */
  readonly orphanedAt: string
  /** 'returned': the register has it again, restored from elsewhere or entered alike. 'former': it had removed it itself before, or its database was set up anew; it counts, and is known again should it come. */
  readonly state: OrphanState
  readonly settledAt: string | undefined
  /** Why it was withdrawn. */
  readonly reason: string | undefined
  /** What became of sending it back: 'offered' until the register answers; 'taken': it has entered it, and it will come again; 'refused': it has not. */
  readonly back: 'offered' | 'taken' | 'refused' | undefined
  /** Why the register did not take it. */
  readonly refusal: { readonly code: string; readonly message: string } | undefined
}

export interface WhichOrphans {
  readonly location?: string | undefined
  readonly register?: string | undefined
  readonly table?: string | undefined
  /** Default 'orphaned'. */
  readonly state?: OrphanState | undefined
  /** Those behind this id, in order of ids. */
  readonly after: number
  readonly limit: number
}

interface OrphanRow {
  readonly orphan_id: number
  readonly register_id: number
  readonly location: string
  readonly register: string
  readonly table_name: string
  readonly record_id: string
  readonly incarnation: number
  readonly epoch_no: number
  readonly entry_no: number
  readonly entries: number
  readonly state: OrphanState
  readonly reason: string | null
  readonly back: Orphan['back'] | null
  readonly back_code: string | null
  readonly back_message: string | null
  readonly orphaned_at: string
  readonly settled_at: string | null
}

function select(database: ApplyingDatabase): string {
  return `SELECT o.orphan_id, o.register_id, r.location, r.register, o.table_name, o.record_id, o.incarnation, o.epoch_no, o.entry_no, o.entries, o.state, o.reason, o.back, o.back_code, o.back_message,
                 ${isoTime('o.orphaned_at')} AS orphaned_at, ${isoTime('o.settled_at')} AS settled_at
          FROM ${database.qualify(ORPHANS.name)} o JOIN ${database.qualify(REGISTERS.name)} r USING (register_id)`
}

export function* listOrphans(database: ApplyingDatabase, which: WhichOrphans): Work<readonly Orphan[]> {
  const { location, register, table, state = 'orphaned', after, limit } = which
  const rows = yield* query<OrphanRow>({
    sql: `${select(database)} WHERE o.state = $1 AND o.orphan_id > $2 AND r.location = coalesce($3, r.location) AND r.register = coalesce($4, r.register)
          AND o.table_name = coalesce($5, o.table_name) ORDER BY o.orphan_id LIMIT $6`,
    parameters: [state, after, location ?? null, register ?? null, table ?? null, limit],
  })
  const documents = yield* readDocuments(database, rows)
  return rows.map((row, n) => ({
    id: row.orphan_id,
    location: row.location,
    register: row.register,
    table: row.table_name,
    recordId: row.record_id,
    document: documents[n]?.value ?? { parts: {} },
    entryNo: row.entry_no,
    orphanedAt: row.orphaned_at,
    state: row.state,
    settledAt: row.settled_at ?? undefined,
    reason: row.reason ?? undefined,
    back: row.back ?? undefined,
    refusal: row.back_code === null ? undefined : { code: row.back_code, message: row.back_message ?? '' },
  }))
}

/**
 * Posts the reversal of what the orphan has posted, and takes it out of the mirror, inside the caller's transaction.
 *
 * @throws ERR_ORPHAN where there is none by this id, it is settled, it was sent back and not refused (but for a register that is revoked), or somebody has changed it in the archive
 */
export function* withdrawOrphan(database: ApplyingDatabase, handlers: HandlersByTable, id: number, reason: string): Work<void> {
  // The register's row first, as batches do, which may bring the orphan back just now.
  const which = `(SELECT register_id FROM ${database.qualify(ORPHANS.name)} WHERE orphan_id = $1)`
  const [register] = yield* query<{ revoked: boolean }>({
    sql: `SELECT revoked_at IS NOT NULL AS revoked FROM ${database.qualify(REGISTERS.name)} WHERE register_id = ${which} FOR UPDATE NOWAIT`,
    parameters: [id],
  })
  const row = yield* readOrphan(database, id, 'FOR UPDATE OF o')
  // A register that was shut out sends nothing any more: should it be let in again, what it has entered is another sale.
  if ((row.back === 'offered' || row.back === 'taken') && register?.revoked !== true) {
    throw new TillsyncError('ERR_ORPHAN', `Orphan ${id} was sent back to its register, which may have it by now`, {
      hint: 'It answers with one of its next exchanges. What it has it may void as any other sale. One that is never to speak again is shut out first: registers.revoke().',
      context: { id },
    })
  }
  const waiting = yield* giveUp(database, row, reason)
  // Of a document in quarantine that version stands that was applied last.
  const document = waiting === undefined ? yield* documentOf(database, row) : waiting.applied
  if (document === undefined && waiting?.isApplied) throw unreadable(row)
  const [known] = yield* query<{ state: string | null; incarnation: number }>({
    sql: `SELECT state, incarnation FROM ${database.qualify(DOCUMENTS.name)} WHERE register_id = $1 AND table_name = $2 AND record_id = $3 FOR UPDATE`,
    parameters: [row.register_id, row.table_name, row.record_id],
  })
  // What stands in a mirror under its key is another document by now.
  const isReplaced = known?.state !== 'lost' || known.incarnation !== row.incarnation
  const levels = new StockLevels()
  const origin = { location: row.location, register: row.register, registerId: row.register_id, epoch: '', epochNo: row.epoch_no }
  if (document !== undefined) {
    Object.assign(document, { incarnation: row.incarnation, isNew: false })
    for (const handler of handlers.get(row.table_name) ?? [])
      if (handler.ledger !== undefined || !(isReplaced || document.removed))
        yield* handler.withdraw([document], { database, origin, levels, late: false })
  }
  yield* finish(handlers, { database, registerId: row.register_id, levels, isStrict: true })
  yield* query({
    sql: `UPDATE ${database.qualify(ORPHANS.name)} SET state = 'withdrawn', reason = $2, settled_at = now() WHERE orphan_id = $1`,
    parameters: [id, reason],
  })
}

/** @throws ERR_ORPHAN where there is none by this id, or it is settled */
function* readOrphan(database: ApplyingDatabase, id: number, lock: string): Work<OrphanRow> {
  const [row] = yield* query<OrphanRow>({ sql: `${select(database)} WHERE o.orphan_id = $1 ${lock}`, parameters: [id] })
  if (row?.state === 'orphaned') return row
  throw new TillsyncError('ERR_ORPHAN', row === undefined ? `There is no orphan ${id}` : `Orphan ${id} is settled: ${row.state}`, {
    hint: 'orphans.list() shows those that are not settled.',
    context: { id },
  })
}

/** One that is not settled, as it goes back to its register. @throws ERR_ORPHAN */
export function* orphanById(database: ApplyingDatabase, id: number): Work<SentBack> {
  const row = yield* readOrphan(database, id, '')
  const { table, recordId, keyColumns, shape, entries } = yield* documentOf(database, row)
  const records = entries.map((entry) => ({ table: entry.table, recordId: entry.recordId, record: entry.record as string }))
  return { id, table, recordId, keyColumns, shape, records }
}

/** What of the orphan waits in quarantine is given up with it. Undefined where nothing waits. */
function* giveUp(
  database: ApplyingDatabase,
  row: OrphanRow,
  reason: string,
): Work<(Pick<Waiting, 'applied'> & { readonly isApplied: boolean }) | undefined> {
  const [waiting] = yield* query<QuarantineRow>({
    sql: `UPDATE ${database.qualify(QUARANTINE.name)} q SET state = 'discarded', reason = $5, settled_at = now()
          WHERE register_id = $1 AND table_name = $2 AND record_id = $3 AND incarnation = $4 AND state = 'waiting' RETURNING ${QUARANTINE_ROW}`,
    parameters: [row.register_id, row.table_name, row.record_id, row.incarnation, reason],
  })
  if (waiting === undefined) return undefined
  const [versions] = yield* readWaiting(database, [{ ...waiting, register_id: row.register_id }])
  return { applied: versions?.applied, isApplied: waiting.applied_no !== null }
}

/** @throws ERR_ORPHAN where it is not there any more as it was received */
function* documentOf(database: ApplyingDatabase, row: OrphanRow): Work<AppliedDocument> {
  const [document] = yield* readDocuments(database, [row])
  if (document !== undefined) return document
  throw unreadable(row)
}

function unreadable({ orphan_id: id }: OrphanRow): TillsyncError {
  return new TillsyncError('ERR_ORPHAN', `Orphan ${id} is not in the archive any more as it was received`, {
    hint: 'Somebody has changed the archive: audit() says where. What it has posted stands. Restore central from a backup.',
    context: { id },
  })
}

/** In the order of the rows; undefined where somebody has changed the archive, so that it can't be read. */
function* readDocuments(database: ApplyingDatabase, rows: readonly OrphanRow[]): Work<readonly (AppliedDocument | undefined)[]> {
  const wanted = rows.map(({ register_id, table_name, record_id, epoch_no, entry_no, entries }) => {
    return { registerId: register_id, table: table_name, recordId: record_id, epochNo: epoch_no, entryNo: entry_no, entries }
  })
  const found = yield* readEntries(database, wanted)
  const shapes = yield* readShapes(database, rows)
  return rows.map((row, n) => {
    const entries = found[n]
    const document = entries && wholeDocument(entries, shapes.get(row.register_id) ?? { shapes: {}, keys: {} })
    return document && isReadable(document) ? document : undefined
  })
}
