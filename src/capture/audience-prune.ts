import type { CapturingDatabase } from '../ports.ts'
import { erase, query, type Work } from '../work.ts'
import { AUDIENCE_MEMBERS, AUDIENCE_POINTS, AUDIENCE_REGISTERS, AUDIENCES } from './audience-tables.ts'

/** Rows that are deleted in one transaction. */
const SLICE = 2_000

/** The audiences that there are, those first that nobody asks for. */
export function* audienceIds({ build }: CapturingDatabase): Work<readonly number[]> {
  const rows = yield* query<{ audience_id: number }>(build.selectFrom(AUDIENCES.name).select('audience_id').orderBy('asked_at').compile())
  return rows.map(({ audience_id }) => audience_id)
}

/**
 * One slice for an audience. One that no register has asked for since `before` goes as a whole. Of another one those removals are forgotten that lie before `before` and that all registers
 * heard since then have: who stands before them from then on, restored from an old backup, gets a snapshot. Says whether there may be more.
 */
export function* pruneAudience(database: CapturingDatabase, audienceId: number, before: string): Work<boolean> {
  const { build } = database
  const asked = build.selectFrom(AUDIENCES.name).select(['floor_no', 'asked_at']).where('audience_id', '=', audienceId)
  const [dead] = yield* query(asked.where('asked_at', '<', before).compile())
  if (dead !== undefined) {
    yield* dropAudience(database, audienceId)
    return false
  }
  const [row] = yield* query<{ floor_no: number }>(asked.compile())
  if (row === undefined) return false
  const floor = yield* floorOf(database, audienceId, before)
  if (floor <= row.floor_no) return false
  const gone = yield* slice(database, audienceId, floor)
  if (gone.length > 0) {
    yield* erase(AUDIENCE_MEMBERS, AUDIENCE_MEMBERS.primaryKey, gone)
    if (gone.length === SLICE) return true
  }
  yield* query(build.updateTable(AUDIENCES.name).set({ floor_no: floor }).where('audience_id', '=', audienceId).compile())
  yield* query(build.deleteFrom(AUDIENCE_POINTS.name).where('audience_id', '=', audienceId).where('entry_no', '<', floor).compile())
  return false
}

/** It is not there any more: who is in it begins anew. */
export function* dropAudience({ build }: CapturingDatabase, audienceId: number): Work<void> {
  for (const table of [AUDIENCE_MEMBERS, AUDIENCE_POINTS, AUDIENCE_REGISTERS, AUDIENCES])
    yield* query(build.deleteFrom(table.name).where('audience_id', '=', audienceId).compile())
}

/** Up to here everybody has what was sealed before. */
function* floorOf({ build }: CapturingDatabase, audienceId: number, before: string): Work<number> {
  const [old] = yield* query<{ entry_no: number }>(
    build
      .selectFrom(AUDIENCE_POINTS.name)
      .select('entry_no')
      .where('audience_id', '=', audienceId)
      .where('sealed_at', '<', before)
      .orderBy('entry_no', 'desc')
      .limit(1)
      .compile(),
  )
  const [slowest] = yield* query<{ entry_no: number }>(
    build
      .selectFrom(AUDIENCE_REGISTERS.name)
      .select('entry_no')
      .where('audience_id', '=', audienceId)
      .where('known', '=', true)
      .where('heard_at', '>=', before)
      .orderBy('entry_no')
      .limit(1)
      .compile(),
  )
  return Math.min(old?.entry_no ?? 0, slowest?.entry_no ?? Number.MAX_SAFE_INTEGER)
}

function* slice({ build }: CapturingDatabase, audienceId: number, floor: number): Work<readonly (readonly [number, string])[]> {
  const rows = yield* query<{ record_id: string }>(
    build
      .selectFrom(AUDIENCE_MEMBERS.name)
      .select('record_id')
      .where('audience_id', '=', audienceId)
      .where('removed', '=', true)
      .where('entry_no', '<=', floor)
      .limit(SLICE)
      .compile(),
  )
  return rows.map(({ record_id }) => [audienceId, record_id])
}
