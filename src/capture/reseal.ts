import { sql } from 'kysely'
import { TillsyncError } from '../errors.ts'
import { readState, readStates, STATE, writeState } from '../migrate.ts'
import type { OwnTable } from '../own-table.ts'
import type { CapturingDatabase } from '../ports.ts'
import { decodeKeyValues } from '../record.ts'
import { erase, type Key, lookup, query, type Work } from '../work.ts'
import { lookupEach, recordIdOf, recordIdText } from './documents.ts'
import { RECORD_ID } from './plan.ts'
import { behind, selectColumns } from './selects.ts'
import type { RootPlan } from './table-plan.ts'
import { MEMBERS, PARKED } from './tables.ts'

/** Records that are looked at in one transaction. */
const SLICE = 500
const PREFIX = 'reseal.'

/** How far a reseal has come: through the parked, the records of the table, then the members that are no longer there. */
interface Progress {
  readonly phase: 'parked' | 'records' | 'members'
  /** Whether what has not changed is sealed too. */
  readonly all: boolean
  /** The record id after which to go on; undefined at the beginning. */
  readonly after?: string | undefined
  /** It was asked for once more meanwhile, and begins anew when it has ended. One that came first is not kept from its end. */
  readonly again?: 'changed' | 'all' | undefined
}

const FIRST_PHASE = 'parked'
const NEXT_PHASE = { parked: 'records', records: 'members', members: undefined } as const

/** Asks for a reseal of all records, with `all` of what has not changed too; it is done in the background, or by `touchReseal`. */
export function* askReseal(database: CapturingDatabase, table: string, all: boolean): Work<void> {
  const pending = yield* progressOf(database, table)
  if (pending === undefined) yield* writeProgress(table, { phase: FIRST_PHASE, all })
  else if (pending.phase === FIRST_PHASE && pending.after === undefined) yield* writeProgress(table, { ...pending, all: all || pending.all })
  else yield* writeProgress(table, { ...pending, again: all || pending.again === 'all' ? 'all' : 'changed' })
}

/** Nobody asks for it any more: the table is in no rule. */
export function forgetReseal(table: string): Work<void> {
  return erase(STATE, STATE.primaryKey, [[`${PREFIX}${table}`]])
}

/** The tables whose reseal was asked for and is not done. */
export function* pendingReseals(database: CapturingDatabase): Work<readonly string[]> {
  return (yield* readStates(database, PREFIX)).map(({ key }) => key.slice(PREFIX.length))
}

/**
 * One slice: touches the next records of the table, or what is known of it and no longer there. What is touched is compared by the
 * collector; so a change that comes in between is never undone. Progress is stored with the touches. True at the end.
 */
export function* touchReseal(database: CapturingDatabase, root: RootPlan): Work<boolean> {
  const progress = yield* progressOf(database, root.table)
  if (progress === undefined) return true
  const { phase, after, all, again } = progress
  const last = phase === 'records' ? yield* touchRecords(database, root, after, all) : yield* touchMissing(database, root, KNOWN[phase], after)
  const next = last === undefined ? NEXT_PHASE[phase] : phase
  if (next !== undefined) yield* writeProgress(root.table, { ...progress, phase: next, after: last })
  else if (again !== undefined) yield* writeProgress(root.table, { phase: FIRST_PHASE, all: again === 'all' })
  else yield* erase(STATE, STATE.primaryKey, [[`${PREFIX}${root.table}`]])
  return next === undefined && again === undefined
}

function* progressOf(database: CapturingDatabase, table: string): Work<Progress | undefined> {
  const text = yield* readState(database, `${PREFIX}${table}`)
  return text === undefined ? undefined : (JSON.parse(text) as Progress)
}

function writeProgress(table: string, progress: Progress): Work<void> {
  return writeState(`${PREFIX}${table}`, JSON.stringify(progress))
}

/** Returns the record id of the last one; undefined at the end. */
function* touchRecords(database: CapturingDatabase, root: RootPlan, after: string | undefined, all: boolean): Work<string | undefined> {
  const keys = yield* keysBehind(database, root, after)
  yield* database.capture.touch(root.table, root.key, keys, all ? 'again' : 'compared')
  const last = keys.at(-1)
  return keys.length < SLICE || last === undefined ? undefined : recordIdText(root, last)
}

/** From the beginning where the key is another by now than when it was left off. */
function* keysBehind(database: CapturingDatabase, root: RootPlan, after: string | undefined): Work<readonly Key[]> {
  const key = after === undefined ? [] : database.keyOf(root.keyColumns, after)
  const isKey = key.length === root.key.length
  let select = selectColumns(database, root.table, root.key)
  if (isKey) select = select.where(behind(root.table, root.key, key))
  for (const column of root.key) select = select.orderBy(sql.id(column))
  try {
    return (yield* lookup(select.limit(SLICE).compile(), [[]]))[0] ?? []
  } catch (error) {
    if (!isKey || !(error instanceof TillsyncError) || error.retryable) throw error
    return yield* keysBehind(database, root, undefined)
  }
}

const KNOWN = { members: MEMBERS, parked: PARKED } as const

function* touchMissing(database: CapturingDatabase, root: RootPlan, table: OwnTable, after: string | undefined): Work<string | undefined> {
  const rows = yield* query<{ record_id: string }>(
    database.build
      .selectFrom(table.name)
      .select('record_id')
      .where('table_name', '=', root.table)
      .where('record_id', '>', after ?? '')
      .orderBy('record_id')
      .limit(SLICE)
      .compile(),
  )
  const ids = rows.map((row) => row.record_id)
  const none = ids.filter((id) => !isRecordId(id))
  yield* erase(
    table,
    table.primaryKey,
    none.map((id) => [root.table, id]),
  )
  const known = ids.filter((id) => !none.includes(id)).map((recordId) => ({ recordId, key: database.keyOf(root.keyColumns, recordId) }))
  const keyed = known.filter(({ key }) => key.length === root.key.length)
  const found = yield* lookupEach(
    root.read,
    keyed.map(({ key }) => key),
  )
  // Compared to the bit: a key that changed its case is another record's.
  const missing = keyed.filter(({ recordId }, n) => !found[n]?.some((tuple) => recordIdOf(root, tuple) === recordId))
  // The key had more columns, or fewer, or was of another type when they were sealed: then it leads to no such document, or to another.
  const named = ({ recordId, key }: (typeof known)[number]) => key.length === root.key.length && recordIdText(root, key) === recordId
  yield* database.capture.touch(
    root.table,
    root.key,
    missing.filter(named).map(({ key }) => key),
    'changed',
  )
  const formerly = [...known.filter(({ key }) => key.length !== root.key.length), ...missing].filter((one) => !named(one))
  if (formerly.length > 0)
    yield* database.capture.touch(
      root.table,
      RECORD_ID,
      formerly.map(({ recordId }) => [recordId]),
      'changed',
    )
  return rows.length < SLICE ? undefined : rows.at(-1)?.record_id
}

/** What was parked because its key is none, or too long, is forgotten: if a record has it, it is parked again. */
export function isRecordId(text: string): boolean {
  try {
    return decodeKeyValues(text).length > 0
  } catch {
    return false
  }
}
