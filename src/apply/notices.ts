import { readState, writeState } from '../migrate.ts'
import type { NoticeKind } from '../model.ts'
import type { Database } from '../ports.ts'
import { ownOf } from '../record.ts'
import { erase, insert, query, type Work } from '../work.ts'
import { NOTICES } from './notice-tables.ts'

/** The followed columns of a record, as JSON texts; null where it is not there, or does not count. */
export type Followed = Readonly<Record<string, string>> | null

/** A record before and after something happened to it. */
export interface Followup {
  readonly table: string
  readonly recordId: string
  readonly before: Followed
  readonly after: Followed
  /** Whether it comes or goes by its dates, not as a row. */
  readonly byDate: boolean
}

/** A notice as it is stored. */
export interface NoticeRow {
  readonly notice_id: number
  readonly table_name: string
  readonly record_id: string
  /** Empty where the record itself came or went. */
  readonly column_name: string
  readonly kind: NoticeKind
  readonly old: string | null
  readonly new: string | null
  readonly noted_at: string
}

type Said = Pick<NoticeRow, 'column_name' | 'kind' | 'old' | 'new'>

const LAST = 'notices.last'

/**
 * Brings the notices of records up to date, in the caller's transaction: together they say how what is differs from what the operator was told last, so a value that went and
 * came back leaves none. A notice that says something else than before has another number: who acknowledges what he has seen does not acknowledge what he has not. Returns those that
 * are new.
 */
export function* noteRecords(database: Database, followups: readonly Followup[], at: string): Work<readonly NoticeRow[]> {
  const { gone, added } = yield* differences(database, followups, at)
  yield* erase(
    NOTICES,
    NOTICES.primaryKey,
    gone.map((row) => [row.table_name, row.record_id, row.column_name]),
  )
  if (added.length === 0) return []
  const last = Number((yield* readState(database, LAST)) ?? 0)
  const rows = added.map((row, n) => ({ ...row, notice_id: last + n + 1 }))
  yield* writeState(LAST, String(last + rows.length))
  yield* insert(
    NOTICES,
    rows.map((row) => [row.notice_id, row.table_name, row.record_id, row.column_name, row.kind, row.old, row.new, row.noted_at]),
  )
  return rows
}

/** Whether the notices of any of these records say something else than what is. */
export function* areOutdated(database: Database, followups: readonly Followup[]): Work<boolean> {
  const { gone, added } = yield* differences(database, followups, '')
  return gone.length + added.length > 0
}

/** The notices that do not hold any more, and those that are to come. */
function* differences(database: Database, followups: readonly Followup[], at: string): Work<Record<'gone' | 'added', readonly NoticeRow[]>> {
  const stored = yield* storedNotices(database, followups)
  const now = new Map(stored)
  for (const followup of followups) {
    const key = keyOf(followup)
    const before = now.get(key) ?? []
    now.set(
      key,
      noticesAfter(followup, before).map(
        (said) =>
          before.find((row) => isSame(row, said)) ?? {
            ...said,
            notice_id: 0,
            table_name: followup.table,
            record_id: followup.recordId,
            noted_at: at,
          },
      ),
    )
  }
  const all = [...now.values()].flat()
  const kept = new Set(all)
  return { gone: [...stored.values()].flat().filter((row) => !kept.has(row)), added: all.filter(({ notice_id }) => notice_id === 0) }
}

function keyOf({ table, recordId }: Pick<Followup, 'table' | 'recordId'>): string {
  return JSON.stringify([table, recordId])
}

function* storedNotices({ build }: Database, followups: readonly Followup[]): Work<ReadonlyMap<string, readonly NoticeRow[]>> {
  const found: NoticeRow[] = []
  for (const [table, group] of Map.groupBy(followups, (one) => one.table)) {
    const ids = [...new Set(group.map(({ recordId }) => recordId))]
    found.push(
      ...(yield* query<NoticeRow>(
        build.selectFrom(NOTICES.name).selectAll().where('table_name', '=', table).where('record_id', 'in', ids).compile(),
      )),
    )
  }
  return Map.groupBy(found, ({ table_name, record_id }) => keyOf({ table: table_name, recordId: record_id }))
}

/** What the operator knows of a record that now is as `before`; `own` is the notice that it came or went. */
function told(own: NoticeRow | undefined, notices: readonly NoticeRow[], before: Followed): Followed {
  if (own !== undefined) return own.old === null ? null : (JSON.parse(own.old) as Followed)
  if (before === null) return null
  const olds = notices.map(({ column_name, old }) => [column_name, old ?? 'null'])
  return { ...before, ...Object.fromEntries(olds) }
}

/** How what is differs from what was told. */
function noticesAfter({ before, after, byDate }: Followup, notices: readonly NoticeRow[]): readonly Said[] {
  const own = notices.find(({ column_name }) => column_name === '')
  const known = told(own, notices, before)
  if (known === null && after === null) return []
  if (known === null || after === null) {
    const kind = byDate ? (known === null ? 'starts' : 'ends') : known === null ? 'new' : 'removed'
    const text = (followed: Followed) => followed && JSON.stringify(followed)
    // What has come or gone before, and is not told yet, did so as it was noted then.
    const isOlder = own !== undefined && (before === null) === (after === null)
    return [{ column_name: '', kind: isOlder ? own.kind : kind, old: text(known), new: text(after) }]
  }
  const columns = Object.keys(after).filter((name) => after[name] !== (ownOf(known, name) ?? after[name]))
  return columns.map((name) => ({ column_name: name, kind: 'changed', old: known[name] as string, new: after[name] as string }))
}

function isSame(a: Said, b: Said): boolean {
  return a.column_name === b.column_name && a.kind === b.kind && a.old === b.old && a.new === b.new
}
