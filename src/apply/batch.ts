import { chainDigest } from '../digest.ts'
import { TillsyncError } from '../errors.ts'
import { type Batch, type Point, type RegisterName, START, type Standing } from '../model.ts'
import { type Applied, type ApplyingDatabase, insert, query, type Work } from '../ports.ts'
import { type AppliedDocument, documentsOf, type Origin, setsOf } from './document-set.ts'
import type { Handler } from './handler.ts'
import { StockLevels } from './stock-levels.ts'
import { ARCHIVE, DOCUMENTS, REGISTERS } from './tables.ts'

export type HandlersByTable = ReadonlyMap<string, readonly Handler[]>

interface RegisterRow {
  readonly register_id: number
  readonly epoch_no: number
  readonly epoch: string | null
  readonly entry_no: number
  readonly digest: string | null
}

/** Where central stands in a register's stream; undefined before its first batch. */
export function* standingOf(database: ApplyingDatabase, name: RegisterName): Work<Standing | undefined> {
  return toStanding(yield* readRegister(database, name, ''))
}

/**
 * Applies a batch inside the caller's transaction: archive, handlers, levels and standing commit together or not at all.
 *
 * @throws ERR_BUSY (retryable) where another process applies a batch of this register, ERR_DIGEST, ERR_HANDLER, ERR_MOVEMENT, ERR_MIRROR
 */
export function* applyBatch(
  database: ApplyingDatabase,
  handlers: HandlersByTable,
  name: RegisterName,
  offered: Batch,
  now: number,
): Work<Applied & { readonly documents: number }> {
  const register = yield* readRegister(database, name, 'FOR UPDATE NOWAIT')
  const standing = toStanding(register)
  const outcome = admit(standing, offered)
  if (outcome === 'already' || outcome === 'other epoch') return { outcome, standing: standing as Standing, documents: 0 }
  const batch = outcome === 'next' ? offered : remainder(standing ?? START, offered)
  if (batch === undefined) return { outcome: 'not next', standing, documents: 0 }
  checkDigest(batch)
  const origin: Origin = { ...name, registerId: register.register_id, epoch: batch.epoch, epochNo: register.epoch_no }
  const documents = documentsOf(batch)
  yield* archive(batch, origin)
  const levels = new StockLevels()
  for (const set of setsOf(documents)) {
    yield* number(database, set, origin)
    for (const [table, group] of inOrder(set, handlers)) {
      for (const handler of handlers.get(table) ?? []) yield* run(handler, group, { database, origin, levels })
    }
  }
  yield* levels.write(database)
  yield* query({
    sql: `UPDATE ${database.qualify(REGISTERS.name)} SET epoch = $2, entry_no = $3, digest = $4, contact_at = $5 WHERE register_id = $1`,
    parameters: [register.register_id, batch.epoch, batch.through.entryNo, batch.through.digest, new Date(now).toISOString()],
  })
  return { outcome: 'applied', standing: { epoch: batch.epoch, ...batch.through }, documents: documents.length }
}

function* readRegister(database: ApplyingDatabase, name: RegisterName, lock: string): Work<RegisterRow> {
  const [row] = yield* query<RegisterRow>({
    sql: `SELECT register_id, epoch_no, epoch, entry_no, digest FROM ${database.qualify(REGISTERS.name)} WHERE location = $1 AND register = $2 ${lock}`,
    parameters: [name.location, name.register],
  })
  if (row !== undefined) return row
  throw new TillsyncError('ERR_REGISTER', 'The register is not known any more', { context: { ...name } })
}

function toStanding({ epoch, entry_no, digest }: RegisterRow): Standing | undefined {
  return epoch === null || digest === null ? undefined : { epoch, entryNo: entry_no, digest }
}

/** What a batch is to a subscriber that stands there. */
export function admit(standing: Standing | undefined, batch: Batch): 'next' | 'already' | 'not next' | 'other epoch' {
  if (standing !== undefined && standing.epoch !== batch.epoch) return 'other epoch'
  const { entryNo, digest } = standing ?? START
  if (batch.through.entryNo === entryNo && batch.through.digest === digest) return 'already'
  if (batch.after.entryNo === entryNo && batch.after.digest === digest) return 'next'
  return 'not next'
}

/**
 * What a batch brings beyond a point inside it, where it has that very point: the answer to an earlier batch was lost, and
 * the register has cut a longer one from the same place. Undefined where the point is not a document's end in it.
 */
export function remainder(standing: Point, batch: Batch): Batch | undefined {
  const known = batch.entries.findLastIndex((entry) => entry.entryNo <= standing.entryNo) + 1
  const next = batch.entries[known]
  if (known === 0 || next === undefined || next.document === batch.entries[known - 1]?.document) return undefined
  const digest = batch.entries.slice(0, known).reduce(chainDigest, batch.after.digest)
  if (digest !== standing.digest) return undefined
  return { ...batch, after: { entryNo: standing.entryNo, digest }, entries: batch.entries.slice(known) }
}

function checkDigest(batch: Batch): void {
  let digest = batch.after.digest
  for (const entry of batch.entries) digest = chainDigest(digest, entry)
  if (digest === batch.through.digest) return
  throw new TillsyncError('ERR_DIGEST', 'The entries of the batch do not have the digest that it states', {
    hint: "Were rows of the register's sync_entries changed by hand?",
    context: { after: batch.after.entryNo, through: batch.through.entryNo },
  })
}

function* archive(batch: Batch, origin: Origin): Work<void> {
  const { registerId, epochNo } = origin
  yield* insert(
    ARCHIVE,
    batch.entries.map((entry) => [registerId, epochNo, entry.entryNo, entry.table, entry.operation, entry.recordId, entry.record, entry.sealedAt]),
  )
}

/** Writes down the latest versions and learns which life of their keys they are. */
function* number(database: ApplyingDatabase, set: readonly AppliedDocument[], origin: Origin): Work<void> {
  const rows = yield* query<{ table_name: string; record_id: string; incarnation: number; versions: number }>({
    sql: `INSERT INTO ${database.qualify(DOCUMENTS.name)} AS d (register_id, table_name, record_id, incarnation, removed, epoch_no, entry_no, entries, versions)
          SELECT $1, table_name, record_id, 1, removed, $2, entry_no, entries, 1
          FROM unnest($3::text[], $4::text[], $5::boolean[], $6::bigint[], $7::bigint[]) AS s(table_name, record_id, removed, entry_no, entries)
          ON CONFLICT (register_id, table_name, record_id) DO UPDATE
          SET incarnation = d.incarnation + (d.removed AND NOT excluded.removed)::int, removed = excluded.removed,
              epoch_no = excluded.epoch_no, entry_no = excluded.entry_no, entries = excluded.entries,
              versions = d.versions + 1
          RETURNING d.table_name, d.record_id, d.incarnation, d.versions`,
    parameters: [
      origin.registerId,
      origin.epochNo,
      set.map((document) => document.table),
      set.map((document) => document.recordId),
      set.map((document) => document.removed),
      set.map((document) => document.entries[0]?.entryNo),
      set.map((document) => document.entries.length),
    ],
  })
  const numbered = new Map(rows.map((row) => [`${row.table_name}\n${row.record_id}`, row]))
  for (const document of set) {
    const row = numbered.get(`${document.table}\n${document.recordId}`)
    document.incarnation = row?.incarnation ?? 1
    document.isNew = row?.versions === 1
  }
}

/** Tables in the order in which the host subscribes to them, so that what others refer to can come first. */
function inOrder(set: readonly AppliedDocument[], handlers: HandlersByTable): readonly (readonly [string, readonly AppliedDocument[]])[] {
  const groups = Map.groupBy(set, (document) => document.table)
  return [...handlers.keys()].flatMap((table) => {
    const group = groups.get(table)
    return group ? [[table, group] as const] : []
  })
}

function* run(handler: Handler, documents: readonly AppliedDocument[], context: Parameters<Handler['apply']>[1]): Work<void> {
  try {
    yield* handler.apply(documents, context)
  } catch (thrown) {
    if (thrown instanceof TillsyncError && thrown.retryable) throw thrown
    const table = documents[0]?.table
    // A driver's own text may hold values of rows; it stays at central, as the cause.
    if (!(thrown instanceof TillsyncError)) {
      throw new TillsyncError('ERR_HANDLER', `${handler.name} of \`${table}\` failed${sqlStateOf(thrown)}`, {
        hint: "Central's event `refused` has the cause.",
        context: { table },
        cause: thrown,
      })
    }
    throw new TillsyncError(thrown.code, `${handler.name} of \`${table}\`: ${thrown.message}`, {
      hint: thrown.hint,
      context: { ...thrown.context, table },
      cause: thrown.cause ?? thrown,
    })
  }
}

function sqlStateOf(thrown: unknown): string {
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : ''
  return /^[0-9A-Z]{5}$/.test(code) ? ` (SQLSTATE ${code})` : ''
}
