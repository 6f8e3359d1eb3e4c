import { type ExpressionBuilder, sql } from 'kysely'
import { type AnyTables, MOST_UNAPPLIED, type PartShape, type UnappliedDocument, type Value } from '../model.ts'
import type { CapturingDatabase, Database } from '../ports.ts'
import { decodeRecordId } from '../record.ts'
import { compiledOnce, erase, insert, type Key, lookup, query, type Statement, type Work } from '../work.ts'
import type { IncomingDocument } from './audience-documents.ts'
import type { Verdict } from './quarantine-verdict.ts'
import { nameOf } from './received-documents.ts'
import { readPlaces } from './subscription-standing.ts'
import { WAITING } from './subscription-tables.ts'

/** A document of central's that waits here, as support sees it. */
export interface WaitingDocument {
  readonly table: string
  readonly recordId: readonly Value[]
  readonly code: string
  readonly message: string
  /** Since when; ISO 8601, UTC. */
  readonly since: string
}

/** Which document waits, and how much it holds. */
export interface WaitingName {
  readonly table: string
  readonly recordId: string
  readonly cause: Cause
  readonly size: number
}

/** Why it waits; see `sync_waiting`. */
export type Cause = Verdict['cause'] | 'taken' | 'changed' | 'outdated'

/** A document that waits, as it came. */
export interface Waiting extends IncomingDocument {
  readonly cause: Cause
  readonly snapshotNo: number
  readonly shape: readonly PartShape[]
  readonly keyColumns: readonly string[]
}

/** A document that is to wait, and why. */
export interface ToWait extends Omit<Waiting, 'cause'> {
  readonly verdict: Verdict | { readonly cause: 'changed' }
}

/** The contents of a document that is to go. */
const NOTHING = '[]'

/** Bounds of the pause before a document is tried again, in milliseconds; it doubles with each try. */
const AGAIN = { minMs: 10_000, maxMs: 3_600_000 }

/** They wait from now on, or go on to; a newer version takes the place of the one that waited. Answers the names of those that were not refused before. */
export function* wait(database: CapturingDatabase, documents: readonly ToWait[], now: number): Work<ReadonlySet<string>> {
  if (documents.length === 0) return new Set()
  const keys = documents.map(({ table, recordId }) => [table, recordId])
  const known = yield* lookup(byKey(database, ['tries', 'since', 'cause']), keys)
  yield* insert(
    WAITING,
    documents.map(({ table, recordId, records, shape, keyColumns, snapshotNo, verdict }, n) => {
      const [tries, since, before] = known[n]?.[0] ?? [0, undefined, undefined]
      const count = Number(tries) + 1
      const due = new Date(now + Math.min(AGAIN.maxMs, AGAIN.minMs * 2 ** Math.min(count - 1, 30))).toISOString()
      const cause = causeOf(verdict)
      const why = 'code' in verdict ? [verdict.code, verdict.message] : ['', '']
      // What waited for central's word was not refused before.
      const begun = before === undefined || (before === 'changed') !== (cause === 'changed') ? new Date(now).toISOString() : since
      const contents = contentsOf(records)
      const texts = [JSON.stringify(shape), JSON.stringify(keyColumns), contents]
      return [table, recordId, cause, ...why, count, due, begun, snapshotNo, contents.length, ...texts]
    }),
    WAITING.primaryKey,
  )
  const isNew = (one: ToWait, before: unknown) => one.verdict.cause !== 'changed' && (before === undefined || before === 'changed')
  return new Set(documents.filter((one, n) => isNew(one, known[n]?.[0]?.[2])).map(nameOf))
}

/** As what it waits from now on. */
export function waitingName({ table, recordId, verdict, records }: ToWait): WaitingName {
  return { table, recordId, cause: causeOf(verdict), size: contentsOf(records).length }
}

function causeOf(verdict: ToWait['verdict']): Cause {
  return 'isTaken' in verdict ? 'taken' : verdict.cause
}

function contentsOf(records: ToWait['records']): string {
  return JSON.stringify(records.map((one) => [one.table, one.recordId, one.record]))
}

/** They wait no more. */
export function* endWait(documents: readonly { readonly table: string; readonly recordId: string }[]): Work<void> {
  yield* erase(
    WAITING,
    WAITING.primaryKey,
    documents.map(({ table, recordId }) => [table, recordId]),
  )
}

/** Nothing of a root table waits any more: all of it comes anew. */
export function* endWaitOf({ build }: Database, table: string): Work<void> {
  yield* query(build.deleteFrom(WAITING.name).where('table_name', '=', table).compile())
}

export function* isAnyWaiting(database: Database): Work<boolean> {
  return (yield* query(anyWaiting(database))).length > 0
}

const anyWaiting = compiledOnce(({ build }) => build.selectFrom(WAITING.name).select('table_name').limit(1).compile())

/** Of a root table those behind a record id, in order, that wait for one of these causes. */
export function waitingNames(database: Database, table: string, causes: readonly Cause[], after: string, most: number): Work<readonly WaitingName[]> {
  const select = names(database, [table], causes).where('record_id', '>', after).orderBy('record_id')
  return read(select.limit(most).compile())
}

/** Those that are due, the longest due first. What is due later than any pause ends was written down before the clock was put back. */
export function* dueNames(
  database: Database,
  tables: readonly string[],
  causes: readonly Cause[],
  now: number,
  most: number,
): Work<readonly WaitingName[]> {
  if (tables.length === 0) return []
  const [by, latest] = [now, now + AGAIN.maxMs].map((ms) => new Date(ms).toISOString()) as [string, string]
  const isDue = (eb: ExpressionBuilder<AnyTables, string>) => eb.or([eb('due_at', '<=', by), eb('due_at', '>', latest)])
  const select = names(database, tables, causes).where(isDue).orderBy('due_at').orderBy('table_name').orderBy('record_id')
  return yield* read(select.limit(most).compile())
}

function names({ build }: Database, tables: readonly string[], causes: readonly Cause[]) {
  return build
    .selectFrom(WAITING.name)
    .select(['table_name', 'record_id', 'cause', 'size'])
    .where('table_name', 'in', tables)
    .where('cause', 'in', causes)
}

function* read(select: Statement): Work<readonly WaitingName[]> {
  const rows = yield* query<{ table_name: string; record_id: string; cause: Cause; size: number }>(select)
  return rows.map((row) => ({ table: row.table_name, recordId: row.record_id, cause: row.cause, size: Number(row.size) }))
}

/** As they came; one that waits no more is left out. What is to go goes with the parts that its table has by now: when it was to go they may not have been published, and so have kept it here. */
export function* readWaiting(database: CapturingDatabase, names: readonly WaitingName[]): Work<readonly Waiting[]> {
  const found = yield* lookup(
    byKey(database, ['cause', 'snapshot_no', 'shape', 'key_columns', 'records']),
    names.map(({ table, recordId }): Key => [table, recordId]),
  )
  const shapes = new Map<string, readonly PartShape[]>()
  const places = found.some(([row]) => row?.at(-1) === NOTHING) ? yield* readPlaces(database) : undefined
  return names.flatMap(({ table, recordId }, n) => {
    const row = found[n]?.[0]
    if (row === undefined) return []
    const [cause, snapshotNo, shapeText, keyColumns, records] = row as [Cause, unknown, string, string, string]
    const of = `${table}\n${shapeText}`
    const shape = shapes.get(of) ?? (JSON.parse(shapeText) as readonly PartShape[])
    shapes.set(of, shape)
    const place = records === NOTHING ? places?.get(table) : undefined
    return [
      {
        table,
        recordId,
        cause,
        snapshotNo: Number(snapshotNo),
        shape: place !== undefined && JSON.stringify(place.keyColumns) === keyColumns ? place.shape : shape,
        keyColumns: JSON.parse(keyColumns) as readonly string[],
        records: (JSON.parse(records) as [string, string, string][]).map(([of, id, record]) => ({ table: of, recordId: id, record })),
      },
    ]
  })
}

/** They are not tried again: another version of them is on its way. */
export function* outdate({ build }: Database, names: readonly WaitingName[]): Work<void> {
  for (const [table, some] of Map.groupBy(names, (one) => one.table)) {
    const ids = some.map(({ recordId }) => recordId)
    yield* query(build.updateTable(WAITING.name).set({ cause: 'outdated' }).where('table_name', '=', table).where('record_id', 'in', ids).compile())
  }
}

/** What a snapshot did not confirm is not published any more, and waits for nothing; what is to go still is. */
export function* dropUnconfirmed({ build }: Database, table: string, snapshotNo: number): Work<void> {
  yield* query(
    build.deleteFrom(WAITING.name).where('table_name', '=', table).where('snapshot_no', '<', snapshotNo).where('records', '<>', NOTHING).compile(),
  )
}

/** Those that could not be applied, oldest first. */
export function* unapplied({ build }: Database, tables: readonly string[]): Work<readonly UnappliedDocument[]> {
  return (yield* refused({ build }, tables, MOST_UNAPPLIED)).map(({ table_name: table, record_id: recordId, code, message }) => ({
    table,
    recordId,
    code,
    message,
  }))
}

const MOST_LISTED = 100

/** The same for people; at most 100. */
export function* listWaiting({ build }: Database, tables: readonly string[]): Work<readonly WaitingDocument[]> {
  return (yield* refused({ build }, tables, MOST_LISTED)).map(({ table_name: table, record_id, code, message, since }) => ({
    table,
    recordId: decodeRecordId(record_id),
    code,
    message,
    since,
  }))
}

interface RefusedRow {
  readonly table_name: string
  readonly record_id: string
  readonly code: string
  readonly message: string
  readonly since: string
}

function* refused({ build }: Pick<Database, 'build'>, tables: readonly string[], most: number): Work<readonly RefusedRow[]> {
  if (tables.length === 0) return []
  return yield* query<RefusedRow>(
    build
      .selectFrom(WAITING.name)
      .select(['table_name', 'record_id', 'code', 'message', 'since'])
      .where('table_name', 'in', tables)
      .where('cause', '<>', 'changed')
      .orderBy('since')
      .orderBy('table_name')
      .orderBy('record_id')
      .limit(most)
      .compile(),
  )
}

/** How many wait, by table. */
export function* countWaiting(database: Database): Work<ReadonlyMap<string, number>> {
  const rows = yield* query<{ table_name: string; waiting: number }>(waitingByTable(database))
  return new Map(rows.map((row) => [row.table_name, Number(row.waiting)]))
}

const waitingByTable = compiledOnce(({ build }) =>
  build
    .selectFrom(WAITING.name)
    .select((eb) => ['table_name', eb.fn.countAll().as('waiting')])
    .groupBy('table_name')
    .compile(),
)

function byKey(database: CapturingDatabase, columns: readonly string[]) {
  return database.build
    .selectFrom(WAITING.name)
    .select([...columns])
    .where(sql.raw<boolean>(database.keyed(WAITING, WAITING.primaryKey)))
    .compile()
}
