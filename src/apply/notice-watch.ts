import { sql } from 'kysely'
import { readState, writeState } from '../migrate.ts'
import type { MirrorTarget } from '../mirroring.ts'
import type { Notice } from '../model.ts'
import type { Clock, RegisterDatabase } from '../ports.ts'
import { decodeRecordId, keyRecord } from '../record.ts'
import type { Key, Work } from '../work.ts'
import { committed, lookup } from '../work.ts'
import { toNotice } from './notice-book.ts'
import { dayOf } from './notice-days.ts'
import { countedOf, type FollowedTable, type FollowRule, followedTable, idOf, isBounded, textsOf } from './notice-rows.ts'
import { areOutdated, type Followup, type NoticeRow, noteRecords } from './notices.ts'
import type { RowChange, RowWatch } from './row-changes.ts'

export interface NoticeWatchOptions {
  readonly database: RegisterDatabase
  readonly clock: Clock
  readonly rules: readonly FollowRule[]
  /** They are committed. */
  onNoted(notices: readonly Notice[]): void
}

const DAY = 'notices.day'
/** Rows that are looked at in one transaction when a day begins. */
const PAGE = 200

/** Notes what applied documents change of followed columns, and what a new day does. */
export class NoticeWatch implements RowWatch {
  readonly tables: ReadonlySet<string>
  private readonly options: NoticeWatchOptions
  /** The last day whose notices are all there; undefined as long as it was not read. */
  private day: string | undefined

  constructor(options: NoticeWatchOptions) {
    this.options = options
    this.tables = new Set(options.rules.map(({ table }) => table))
  }

  /** In the transaction that changes them. */
  *changed(changes: readonly RowChange[]): Work<void> {
    // As of the day that is told: what others brought or ended is told from there.
    const day = this.day ?? (yield* readState(this.options.database, DAY)) ?? this.today()
    const tables = yield* this.followed()
    const followups = changes.flatMap(({ table, before, after }): readonly Followup[] => {
      const followed = tables.get(table)
      if (followed === undefined) return []
      const [had, has] = [before, after].map((row) => (row === undefined ? undefined : textsOf(followed, row)))
      const recordId = idOf(followed, (has ?? had) as Readonly<Record<string, string>>)
      return [
        {
          table,
          recordId,
          before: countedOf(followed, had, day),
          after: countedOf(followed, has, day),
          byDate: had !== undefined && has !== undefined,
        },
      ]
    })
    yield* this.note(followups)
  }

  /** What counts from today on, or no longer, be it that days have passed. In short transactions. */
  async roll(signal: AbortSignal): Promise<void> {
    const today = this.today()
    if (this.day === today) return
    const { database } = this.options
    const last = await database.read(() => readState(database, DAY))
    if (last !== undefined && last !== today) {
      const tables = await database.read(() => this.followed())
      for (const followed of tables.values()) {
        if (!isBounded(followed)) continue
        for (let after: Key | undefined; ; ) {
          if (signal.aborted) return
          const from: Key | undefined = after
          after = await database.write(() => this.rollPage(followed, { last, today }, from), { lazily: true })
          if (after === undefined) break
        }
      }
    }
    if (last !== today) await database.write(() => writeState(DAY, today), { lazily: true })
    this.day = today
  }

  /** What the host has done itself to rows of which something is still to be told: what is told is what is. Says whether any notice is another by it. */
  async refresh(notices: readonly NoticeRow[]): Promise<boolean> {
    const { database, clock } = this.options
    const followups = () => this.standing(notices)
    const isOutdated = () =>
      database.read(function* () {
        return yield* areOutdated(database, yield* followups())
      })
    if (notices.length === 0 || !(await isOutdated())) return false
    await database.write(
      function* () {
        yield* noteRecords(database, yield* followups(), new Date(clock.now()).toISOString())
      },
      { lazily: true },
    )
    return true
  }

  /** The records of notices as they stand here: nothing has happened to them but what the host did. */
  private *standing(notices: readonly NoticeRow[]): Work<readonly Followup[]> {
    const followups: Followup[] = []
    const day = this.day ?? (yield* readState(this.options.database, DAY)) ?? this.today()
    for (const [table, followed] of yield* this.followed()) {
      const { target } = followed
      const own = notices.filter(({ table_name, record_id }) => table_name === table && decodeRecordId(record_id).length === target.key.length)
      const ids = [...new Set(own.map(({ record_id }) => record_id))]
      const rows = yield* this.rowsOf(
        target,
        ids.map((id) => keyRecord(target.key, id)),
      )
      const found = new Map(rows.map((row) => textsOf(followed, row)).map((texts) => [idOf(followed, texts), texts]))
      for (const recordId of ids) {
        const is = countedOf(followed, found.get(recordId), day)
        followups.push({ table, recordId, before: is, after: is, byDate: false })
      }
    }
    return followups
  }

  /** The rows that have these keys. */
  private *rowsOf(target: MirrorTarget, records: readonly string[]): Work<readonly string[]> {
    if (records.length === 0) return []
    const same = Object.fromEntries(target.key.map((name) => [name, name]))
    const keys = { table: target, columns: target.key, records, constants: {} }
    return yield* this.options.database.mirroring.strays({ table: target, constants: {} }, same, keys, [])
  }

  /** Returns the last key; undefined at the end. */
  private *rollPage(
    followed: FollowedTable,
    { last, today }: { readonly last: string; readonly today: string },
    after: Key | undefined,
  ): Work<Key | undefined> {
    const { database } = this.options
    const { target } = followed
    const keys = yield* this.keysBehind(target, after)
    const columns = target.key.map((name) => target.columns.find((column) => column.name === name))
    const encoders = columns.map((column) => (column === undefined ? String : database.encoderOf(column)))
    const records = keys.map((key) => `{${target.key.map((name, at) => `${JSON.stringify(name)}:${encoders[at]?.(key[at])}`).join(',')}}`)
    const rows = yield* this.rowsOf(target, records)
    yield* this.note(
      rows.map((row) => {
        const texts = textsOf(followed, row)
        return {
          table: target.name,
          recordId: idOf(followed, texts),
          before: countedOf(followed, texts, last),
          after: countedOf(followed, texts, today),
          byDate: true,
        }
      }),
    )
    return keys.length < PAGE ? undefined : keys.at(-1)
  }

  private *keysBehind({ name, key }: MirrorTarget, after: Key | undefined): Work<readonly Key[]> {
    const { database } = this.options
    const own = (column: string) => sql.id(name, column)
    let select = database.build.selectFrom(sql.raw(database.qualify(name)) as unknown as string).select(key.map((column) => own(column).as(column)))
    if (after !== undefined) select = select.where(sql<boolean>`(${sql.join(key.map(own))}) > (${sql.join([...after])})`)
    for (const column of key) select = select.orderBy(own(column))
    return (yield* lookup(select.limit(PAGE).compile(), [[]]))[0] ?? []
  }

  private *note(followups: readonly Followup[]): Work<void> {
    const { database, clock, onNoted } = this.options
    // Of a record that does not count something may have been told, where a day had begun for it and not for all.
    const news = followups.filter(({ before, after }) => before === null || after === null || JSON.stringify(before) !== JSON.stringify(after))
    if (news.length === 0) return
    const rows = yield* noteRecords(database, news, new Date(clock.now()).toISOString())
    if (rows.length > 0) yield* committed(() => onNoted(rows.map(toNotice)))
  }

  private *followed(): Work<ReadonlyMap<string, FollowedTable>> {
    const { database, rules } = this.options
    const targets = yield* database.mirroring.targets([...this.tables])
    const followed = rules.flatMap((rule) => {
      const target = targets.get(rule.table)
      return target === undefined ? [] : [[rule.table, followedTable(target, rule)] as const]
    })
    return new Map(followed)
  }

  private today(): string {
    return dayOf(new Date(this.options.clock.now()))
  }
}
