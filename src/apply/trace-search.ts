import type { RegisterName } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { ARCHIVE, DOCUMENTS, REGISTERS, SHAPES } from './tables.ts'
import { holds, mayHold, memberOf, type Wanted } from './trace-which.ts'

/** A place in what central has of a register, behind all that is there or before an entry. */
export interface Place {
  readonly epochNo: number
  readonly entryNo: number
}

/** Behind everything. */
export const END: Place = { epochNo: Number.MAX_SAFE_INTEGER, entryNo: Number.MAX_SAFE_INTEGER }
/** Numbers of entries that are looked through in one read. */
export const WINDOW = 5_000

/** A register in whose documents one looks. */
export interface SearchedRegister extends RegisterName {
  readonly registerId: number
  /** Documents of the table that it can't read, as it last said. */
  readonly parked: readonly string[]
  /** The columns of its record ids; undefined where it has sent no document of the table. */
  readonly key: readonly string[] | undefined
}

/** Registers by location and name. */
export function* searchedRegisters(
  database: ApplyingDatabase,
  table: string,
  which: { readonly location: string | undefined; readonly register: string | undefined },
): Work<readonly SearchedRegister[]> {
  const rows = yield* query<{ register_id: number; location: string; register: string; parked: string | null; key_columns: string | null }>({
    sql: `SELECT r.register_id, r.location, r.register, r.parked, s.key_columns FROM ${database.qualify(REGISTERS.name)} r
          LEFT JOIN ${database.qualify(SHAPES.name)} s ON s.register_id = r.register_id AND s.table_name = $3
          WHERE r.location = coalesce($1, r.location) AND r.register = coalesce($2, r.register) ORDER BY r.location COLLATE "C", r.register COLLATE "C"`,
    parameters: [which.location ?? null, which.register ?? null, table],
  })
  return rows.map(({ register_id, location, register, parked, key_columns }) => ({
    registerId: register_id,
    location,
    register,
    parked: (JSON.parse(parked ?? '[]') as [string, string][]).filter(([of]) => of === table).map(([, recordId]) => recordId),
    key: key_columns === null ? undefined : (JSON.parse(key_columns) as string[]),
  }))
}

/** The root tables of which registers have sent documents. */
export function* knownTables(database: ApplyingDatabase): Work<readonly string[]> {
  const rows = yield* query<{ table_name: string }>({
    sql: `SELECT DISTINCT table_name FROM ${database.qualify(SHAPES.name)} ORDER BY table_name`,
    parameters: [],
  })
  return rows.map((row) => row.table_name)
}

/** Which of these documents were ever received. */
export function* receivedOf(database: ApplyingDatabase, registerId: number, table: string, recordIds: readonly string[]): Work<readonly string[]> {
  const rows = yield* query<{ record_id: string }>({
    sql: `SELECT record_id FROM ${database.qualify(DOCUMENTS.name)} WHERE register_id = $1 AND table_name = $2 AND record_id = ANY ($3::text[]) ORDER BY record_id`,
    parameters: [registerId, table, recordIds],
  })
  return rows.map((row) => row.record_id)
}

/** What is looked for. */
export interface SearchTerms {
  readonly table: string
  readonly wanted: Wanted
  /** What was received before is left out. */
  readonly since: string | undefined
  /** Columns of which nobody has seen yet whether there is such a one. */
  readonly unseen: ReadonlySet<string>
}

/** What a part of the archive had. */
export interface SearchedWindow {
  /** Record ids of documents of which a version there holds what is wanted, the latest first. */
  readonly found: readonly string[]
  /** Which of the columns that were asked for are in some record. */
  readonly columns: readonly string[]
  /** Whether there is any record of the table. */
  readonly any: boolean
  /** Where to go on; undefined at the beginning of the archive. */
  readonly next: Place | undefined
}

/** Looks through the entries before a place, the latest first. */
export function* searchWindow(
  database: ApplyingDatabase,
  registerId: number,
  { table, wanted, since, unseen }: SearchTerms,
  { epochNo, entryNo }: Place,
): Work<SearchedWindow> {
  const archive = database.qualify(ARCHIVE.name)
  const [last] = yield* query<{ epoch_no: number; entry_no: number; old: boolean }>({
    sql: `SELECT epoch_no, entry_no, coalesce(received_at < $4::timestamptz, false) AS old FROM ${archive}
          WHERE register_id = $1 AND (epoch_no, entry_no) < ($2::bigint, $3::bigint) ORDER BY epoch_no DESC, entry_no DESC LIMIT 1`,
    parameters: [registerId, epochNo, entryNo, since ?? null],
  })
  if (last === undefined) return { found: [], columns: [], any: false, next: undefined }
  // Within an epoch what has a lower number came before.
  if (last.old) return { found: [], columns: [], any: false, next: { epochNo: last.epoch_no, entryNo: 0 } }
  const within = [registerId, last.epoch_no, last.entry_no - WINDOW, last.entry_no, table]
  const roots = `FROM ${archive} a WHERE a.register_id = $1 AND a.epoch_no = $2 AND a.entry_no > $3 AND a.entry_no <= $4 AND a.table_name = $5 AND a.record IS NOT NULL`
  const { sql, parameters } = mayHold(wanted, 'a.record', within.length + 2)
  const rows = yield* query<{ record_id: string; record: string }>({
    sql: `SELECT a.record_id, a.record ${roots} AND a.received_at >= coalesce($6::timestamptz, '-infinity') AND ${sql} ORDER BY a.entry_no DESC`,
    parameters: [...within, since ?? null, ...parameters],
  })
  const found = rows.filter(({ record }) => holds(record, wanted)).map(({ record_id }) => record_id)
  const next = { epochNo: last.epoch_no, entryNo: last.entry_no - WINDOW + 1 }
  if (found.length > 0 || unseen.size === 0) return { found, columns: [], any: rows.length > 0, next }
  const seen = yield* query<{ member: string | null }>({
    sql: `SELECT m.member FROM (SELECT 1 AS one ${roots} LIMIT 1) x LEFT JOIN unnest($6::text[]) AS m(member) ON EXISTS (SELECT 1 ${roots} AND strpos(a.record, m.member) > 0)`,
    parameters: [...within, [...unseen].map(memberOf)],
  })
  const members = new Set(seen.map(({ member }) => member))
  return { found, columns: [...unseen].filter((name) => members.has(memberOf(name))), any: seen.length > 0, next }
}
