import { sql } from 'kysely'
import { readState, readStates, STATE, writeState } from '../migrate.ts'
import { type CapturingDatabase, erase, type Key, lookup, query, type Work } from '../ports.ts'
import { recordIdOf, recordIdText } from './documents.ts'
import { type RootPlan, selectColumns } from './plan.ts'
import { MEMBERS } from './tables.ts'

/** Records that are looked at in one transaction. */
const SLICE = 500
const PREFIX = 'reseal.'

/** How far a reseal has come: first through the records of the table, then through its members. */
interface Progress {
  readonly phase: 'records' | 'members'
  /** Whether what has not changed is sealed too. */
  readonly all?: boolean
  /** The record id after which to go on; undefined at the beginning. */
  readonly after?: string | undefined
}

/** Asks for a reseal from the beginning, with `all` of what has not changed too; it is done in the background, or by `touchReseal`. */
export function* askReseal(database: CapturingDatabase, table: string, all: boolean): Work<void> {
  const pending = yield* readState(database, `${PREFIX}${table}`)
  // One that was to seal everything is not made less by another that comes before its end.
  const everything = all || (pending !== undefined && (JSON.parse(pending) as Progress).all === true)
  yield* writeState(`${PREFIX}${table}`, JSON.stringify({ phase: 'records', all: everything } satisfies Progress))
}

/** The tables whose reseal was asked for and is not done. */
export function* pendingReseals(database: CapturingDatabase): Work<readonly string[]> {
  return (yield* readStates(database, PREFIX)).map(({ key }) => key.slice(PREFIX.length))
}

/**
 * One slice: touches the next records of the table, then those members that are no longer there. What is touched is compared by the
 * collector; so a change that comes in between is never undone. Progress is stored with the touches. True at the end.
 */
export function* touchReseal(database: CapturingDatabase, root: RootPlan): Work<boolean> {
  const name = `${PREFIX}${root.table}`
  const { phase, after, all = false } = JSON.parse((yield* readState(database, name)) ?? '{"phase":"records"}') as Progress
  const next = phase === 'records' ? yield* touchRecords(database, root, after, all) : yield* touchMissing(database, root, after)
  if (next !== undefined) yield* writeState(name, JSON.stringify({ phase, after: next, all } satisfies Progress))
  else if (phase === 'records') yield* writeState(name, JSON.stringify({ phase: 'members' } satisfies Progress))
  else yield* erase(STATE, STATE.primaryKey, [[name]])
  return next === undefined && phase === 'members'
}

/** Returns the record id of the last one; undefined at the end. */
function* touchRecords(database: CapturingDatabase, root: RootPlan, after: string | undefined, all: boolean): Work<string | undefined> {
  let select = selectColumns(database, root.table, root.key)
  if (after !== undefined) {
    const values = database.keyOf(root.keyColumns, after)
    select = select.where(sql<boolean>`(${sql.join(root.key.map((column) => sql.id(column)))}) > (${sql.join([...values])})`)
  }
  for (const column of root.key) select = select.orderBy(sql.id(column))
  const [keys = []] = yield* lookup(select.limit(SLICE).compile(), [[]])
  yield* database.capture.touch(root.table, root.key, keys, all ? 'exported' : 'changed')
  const last = keys.at(-1)
  return keys.length < SLICE || last === undefined ? undefined : recordIdText(root, last)
}

function* touchMissing(database: CapturingDatabase, root: RootPlan, after: string | undefined): Work<string | undefined> {
  const rows = yield* query<{ record_id: string }>(
    database.build
      .selectFrom(MEMBERS.name)
      .select('record_id')
      .where('table_name', '=', root.table)
      .where('record_id', '>', after ?? '')
      .orderBy('record_id')
      .limit(SLICE)
      .compile(),
  )
  const keys = rows.map((row) => database.keyOf(root.keyColumns, row.record_id))
  const found = yield* lookup(root.read, keys)
  // Compared to the bit: a key that changed its case is another record's.
  const missing: Key[] = keys.filter((_, n) => !found[n]?.some((tuple) => recordIdOf(root, tuple) === rows[n]?.record_id))
  yield* database.capture.touch(root.table, root.key, missing, 'changed')
  return rows.length < SLICE ? undefined : rows.at(-1)?.record_id
}
