import { TillsyncError } from '../errors.ts'
import type { Operation, RegisterName, Value } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { decodeRecord, decodeRecordId } from '../record.ts'
import { query, type Work } from '../work.ts'
import { type ArchivedRow, isoTime } from './archived.ts'
import { lineOf, readEpochs } from './epochs.ts'
import { ARCHIVE, DOCUMENTS, EPOCHS, ORPHANS, REGISTERS } from './tables.ts'

/**
 * - `latest`: of the latest version of its document, be that its removal.
 * - `replaced`: a later version has come.
 * - `orphaned`: of a document that its register has lost, see `orphans`.
 * - `withdrawn`: of one that was, until somebody withdrew it.
 */
export type EntryState = 'latest' | 'replaced' | 'orphaned' | 'withdrawn'

/** An entry as central received it. */
export interface ArchivedEntry extends RegisterName {
  /** The incarnation of the register's history that it was sealed in, see `registers.list()`. */
  readonly epoch: string
  readonly entryNo: number
  readonly table: string
  readonly operation: Operation
  readonly recordId: readonly Value[]
  /** Null where it was removed. */
  readonly record: Readonly<Record<string, Value>> | null
  /** The root record that it belongs to. */
  readonly document: { readonly table: string; readonly recordId: readonly Value[] }
  /** By the register's clock; ISO 8601, UTC. */
  readonly sealedAt: string
  /** By central's database; ISO 8601, UTC. */
  readonly receivedAt: string
  readonly state: EntryState
}

/** Where a page ends. */
export interface EntryPosition extends RegisterName {
  readonly epoch: string
  readonly entryNo: number
}

export interface WhichArchived {
  readonly location: string | undefined
  readonly register: string | undefined
  readonly table: string | undefined
  /** As they may be written. */
  readonly recordIds: readonly string[] | undefined
  readonly since: string | undefined
  readonly until: string | undefined
  readonly state: EntryState | undefined
  readonly after: number | EntryPosition
  readonly limit: number
}

interface Row extends ArchivedRow {
  readonly epoch: string
  readonly received_at: string
  readonly document_table: string
  readonly document_id: string
  readonly state: EntryState
}

interface RegisterRow extends RegisterName {
  readonly register_id: number
  readonly entry_no: number
}

/** About so many characters of records are read for a page: records may be megabytes each. */
const PAGE_CHARACTERS = 16_000_000

/**
 * Archived entries by location, register, epoch and number, the order in which a register's histories followed each other: what came stands where it is,
 * so that pages do not shift. Undefined where the register is not known.
 *
 * @throws ERR_OPTION where `after` is no place in the archive
 */
export function* listArchived(database: ApplyingDatabase, which: WhichArchived): Work<readonly ArchivedEntry[] | undefined> {
  const { location, register, after, limit } = which
  const registers = yield* query<RegisterRow>({
    sql: `SELECT register_id, location, register, entry_no FROM ${database.qualify(REGISTERS.name)}
          WHERE location = coalesce($1, location) AND register = coalesce($2, register) ORDER BY location COLLATE "C", register COLLATE "C"`,
    parameters: [location ?? null, register ?? null],
  })
  if (location !== undefined && register !== undefined && registers.length === 0) return undefined
  const entries: ArchivedEntry[] = []
  for (const one of registers) {
    const from = yield* beginningOf(database, one, after)
    if (from === undefined) continue
    const rows = yield* readPage(database, one.register_id, from, which, limit - entries.length)
    entries.push(...rows.map((row) => toArchived(row, one)))
    // A page that is cut short by its size ends there, whatever other registers have.
    if (entries.length >= limit || sizeOf(rows) >= PAGE_CHARACTERS) break
  }
  return entries
}

type Position = readonly [epochNo: number, entryNo: number]

/** Where a register's entries go on; undefined where those of a page before ended behind it. */
function* beginningOf(database: ApplyingDatabase, register: RegisterRow, after: number | EntryPosition): Work<Position | undefined> {
  if (after === 0) return [0, 0]
  const epochs = yield* readEpochs(database, register.register_id)
  if (typeof after === 'number') {
    const segment = lineOf(epochs, register.entry_no).find((one) => one.after.entryNo < after)
    return [segment?.epochNo ?? 0, after]
  }
  const order = compare(register, after)
  if (order !== 0) return order > 0 ? [0, 0] : undefined
  const epoch = epochs.find(({ epoch }) => epoch === after.epoch)
  if (epoch !== undefined) return [epoch.epoch_no, after.entryNo]
  throw new TillsyncError('ERR_OPTION', 'The epoch of `after` is none of its register', {
    hint: 'Pass the last entry of the page before, as it is: after: page.at(-1).',
    context: { option: 'after' },
  })
}

function compare(a: RegisterName, b: RegisterName): number {
  return Buffer.compare(Buffer.from(a.location), Buffer.from(b.location)) || Buffer.compare(Buffer.from(a.register), Buffer.from(b.register))
}

function* readPage(
  database: ApplyingDatabase,
  registerId: number,
  [epochNo, entryNo]: Position,
  { table, recordIds, since, until, state }: WhichArchived,
  limit: number,
): Work<readonly Row[]> {
  const [archive, epochs, documents, orphans] = [ARCHIVE, EPOCHS, DOCUMENTS, ORPHANS].map(({ name }) => database.qualify(name))
  const within = (range: string) =>
    `${range}.epoch_no = a.epoch_no AND a.entry_no >= ${range}.entry_no AND a.entry_no < ${range}.entry_no + ${range}.entries`
  const ofDocument = (range: string) =>
    `${range}.register_id = a.register_id AND ${range}.table_name = r.table_name AND ${range}.record_id = r.record_id`
  // Orphans are few and known by where they stand; all else is told entry by entry. OFFSET 0: by the archive's key, whatever PostgreSQL thinks of how much there is.
  const source =
    state === 'orphaned' || state === 'withdrawn'
      ? `(SELECT DISTINCT epoch_no, entry_no, entries FROM ${orphans} WHERE register_id = $1 AND state = $8) x CROSS JOIN LATERAL (
           SELECT * FROM ${archive} a WHERE a.register_id = $1 AND a.epoch_no = x.epoch_no AND a.entry_no >= x.entry_no AND a.entry_no < x.entry_no + x.entries OFFSET 0) a`
      : `${archive} a`
  const rows = yield* query<Row>({
    sql: `SELECT * FROM (
            SELECT f.*, sum(coalesce(length(record), 0)) OVER (ORDER BY epoch_no, entry_no ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM (
              SELECT a.epoch_no, a.entry_no, a.table_name, a.operation, a.record_id, a.record, ${isoTime('a.sealed_at')} AS sealed_at,
                     e.epoch, ${isoTime('a.received_at')} AS received_at,
                     r.table_name AS document_table, r.record_id AS document_id, s.state
              FROM ${source} JOIN ${epochs} e ON e.register_id = a.register_id AND e.epoch_no = a.epoch_no
              CROSS JOIN LATERAL (SELECT table_name, record_id FROM ${archive} r WHERE r.register_id = a.register_id AND r.epoch_no = a.epoch_no AND r.entry_no = a.document_no OFFSET 0) r
              CROSS JOIN LATERAL (SELECT coalesce(
                (SELECT max(o.state) FROM ${orphans} o WHERE ${ofDocument('o')} AND ${within('o')} AND o.state IN ('orphaned', 'withdrawn')),
                (SELECT 'latest' FROM ${documents} d WHERE ${ofDocument('d')} AND ${within('d')}), 'replaced') AS state) s
              WHERE a.register_id = $1 AND (a.epoch_no, a.entry_no) > ($2::bigint, $3::bigint)
                AND ($4::text IS NULL OR a.table_name = $4) AND ($5::text[] IS NULL OR a.record_id = ANY ($5))
                AND ($6::timestamptz IS NULL OR a.received_at >= $6) AND ($7::timestamptz IS NULL OR a.received_at < $7) AND ($8::text IS NULL OR s.state = $8)
              ORDER BY a.epoch_no, a.entry_no LIMIT $9) f) p
          WHERE coalesce(before, 0) < ${PAGE_CHARACTERS} ORDER BY epoch_no, entry_no`,
    parameters: [registerId, epochNo, entryNo, table ?? null, recordIds ?? null, since ?? null, until ?? null, state ?? null, limit],
  })
  return rows
}

function sizeOf(rows: readonly Row[]): number {
  return rows.reduce((sum, { record }) => sum + (record?.length ?? 0), 0)
}

/** @throws ERR_VALUE, which names the entry */
function toArchived(row: Row, { location, register }: RegisterName): ArchivedEntry {
  return {
    location,
    register,
    epoch: row.epoch,
    entryNo: row.entry_no,
    table: row.table_name,
    operation: row.operation,
    ...decoded(row, { location, register }),
    sealedAt: row.sealed_at,
    receivedAt: row.received_at,
    state: row.state,
  }
}

function decoded(row: Row, { location, register }: RegisterName): Pick<ArchivedEntry, 'recordId' | 'record' | 'document'> {
  try {
    return {
      recordId: decodeRecordId(row.record_id),
      record: row.record === null ? null : decodeRecord(row.record),
      document: { table: row.document_table, recordId: decodeRecordId(row.document_id) },
    }
  } catch (thrown) {
    const { code, message, hint, cause } = thrown as TillsyncError
    const { epoch, entry_no: entryNo } = row
    throw new TillsyncError(code, `Entry ${entryNo} of ${register} at ${location}: ${message}`, {
      hint,
      context: { location, register, epoch, entryNo },
      cause,
    })
  }
}
