import { TillsyncError } from '../errors.ts'
import type { RegisterDatabase } from '../ports.ts'
import { encodeText, keyRecord, writtenMembers } from '../record.ts'
import { query, type Work } from '../work.ts'
import type { AudienceSlicesOptions } from './audience-slices.ts'
import { MirrorTable } from './mirror-table.ts'
import { forget, receive, receivedBehind } from './received-documents.ts'
import type { ReceivingTurn } from './receiving-turn.ts'
import { optionsOf, targetOf } from './subscribed-mirrors.ts'
import type { Place } from './subscription-standing.ts'
import { RECEIVED } from './subscription-tables.ts'
import { endWaitOf } from './waiting-documents.ts'

// Central's table has got another key: its record ids may be those of other documents by now. What has come under the former key is set aside by a name of its own when a
// snapshot begins under another one, and at the end of it is what its rows are here, as far as no document of the snapshot has them.

/** Documents whose rows are read in one go. */
const PAGE = 250
/** Documents that are looked at beside all that the snapshot has. */
const MOST = 5_000
/** The snapshot of what no snapshot has any more. */
const NONE = 0

/** The snapshot that is about to begin names documents by another key than what stands here. */
export async function setAside(database: RegisterDatabase, turn: ReceivingTurn, { table, keyColumns }: Place): Promise<void> {
  const former = JSON.stringify([table, keyColumns])
  const more = () =>
    database.write(
      function* () {
        yield* turn.goOn()
        const page = yield* receivedBehind(database, table, '', PAGE)
        yield* forget(page.map(({ recordId }) => ({ table, recordId })))
        yield* receive(page.map((one) => ({ ...one, table: former })))
        yield* endWaitOf(database, table)
        return page.length === PAGE
      },
      { lazily: true },
    )
  while (await more());
}

interface Former {
  readonly name: string
  readonly keyColumns: readonly string[]
  readonly ids: readonly string[]
}

/** Names what was set aside by the rows that it has here. */
export class FormerDocuments {
  private readonly options: AudienceSlicesOptions
  private readonly place: Place

  constructor(options: AudienceSlicesOptions, place: Place) {
    this.options = options
    this.place = place
  }

  /** By the present key, as documents that the snapshot does not have; false where it is not this snapshot any more. */
  async name(isStill: () => Work<boolean>): Promise<boolean> {
    const { database, turn } = this.options
    const { table } = this.place
    for (;;) {
      const former = await database.read(() => this.some(), { loosely: true })
      if (former === undefined) return true
      const ids = await this.idsOf(former)
      const isDone = await database.write(
        function* () {
          yield* turn.goOn()
          if (!(yield* isStill())) return false
          yield* forget(former.ids.map((recordId) => ({ table: former.name, recordId })))
          yield* receive(ids.map((recordId) => ({ table, recordId, snapshotNo: NONE })))
          return true
        },
        { lazily: true },
      )
      if (!isDone) return false
    }
  }

  private *some(): Work<Former | undefined> {
    const { database } = this.options
    const beginning = `[${JSON.stringify(this.place.table)},`
    const [first] = yield* query<{ table_name: string }>(
      database.build
        .selectFrom(RECEIVED.name)
        .select('table_name')
        .where('table_name', '>', beginning)
        .where('table_name', '<', `${beginning}]`)
        .orderBy('table_name')
        .limit(1)
        .compile(),
    )
    if (first === undefined) return undefined
    const { table_name: name } = first
    const [, keyColumns] = JSON.parse(name) as [string, string[]]
    return { name, keyColumns, ids: (yield* receivedBehind(database, name, '', MOST)).map(({ recordId }) => recordId) }
  }

  /** What their rows are called, where they are no document's that the snapshot has. */
  private async idsOf({ keyColumns, ids }: Former): Promise<readonly string[]> {
    const { database } = this.options
    const table = await this.mirrored()
    const has = (columns: readonly string[]) => columns.every((name) => table?.target.columns.some((column) => column.name === table.nameOf(name)))
    if (table === undefined || !has(keyColumns) || !has(this.place.keyColumns)) return []
    const rows = new Set<string>()
    for (let from = 0; from < ids.length; from += PAGE)
      for (const row of await this.rowsOf(table, keyColumns, ids.slice(from, from + PAGE))) rows.add(row)
    let kinds: readonly string[] = []
    for (let after = '', more = rows.size > 0; more; ) {
      const page = await database.read(() => receivedBehind(database, this.place.table, after, PAGE), { loosely: true })
      const present = page.filter(({ snapshotNo }) => snapshotNo === this.place.snapshotNo).map(({ recordId }) => recordId)
      for (const row of await this.rowsOf(table, this.place.keyColumns, present)) rows.delete(row)
      if (present[0] !== undefined) kinds = [...writtenMembers(keyRecord(this.place.keyColumns, present[0])).values()]
      more = page.length === PAGE && rows.size > 0
      after = page.at(-1)?.recordId ?? after
    }
    const columns = this.place.keyColumns.map((name) => table.nameOf(name))
    return [...rows].map((row) => {
      const members = writtenMembers(row)
      return `[${columns.map((name, n) => like(kinds[n], members.get(name) as string)).join(',')}]`
    })
  }

  /** The rows here that have these keys; none where the table does not take them. */
  private async rowsOf(table: MirrorTable, keyColumns: readonly string[], ids: readonly string[]): Promise<readonly string[]> {
    const { database } = this.options
    if (ids.length === 0) return []
    const columns = keyColumns.map((name) => table.nameOf(name))
    const same = Object.fromEntries(columns.map((name) => [name, name]))
    const keys = ids.map((id) => keyRecord(columns, id))
    try {
      return await database.read(() => database.mirroring.strays(table.found([], []), same, table.found(columns, keys), []))
    } catch (thrown) {
      if (!(thrown instanceof TillsyncError) || thrown.retryable) throw thrown
      if (ids.length === 1) return []
      const half = Math.ceil(ids.length / 2)
      return [...(await this.rowsOf(table, keyColumns, ids.slice(0, half))), ...(await this.rowsOf(table, keyColumns, ids.slice(half)))]
    }
  }

  private async mirrored(): Promise<MirrorTable | undefined> {
    const { database, mirrors, name } = this.options
    const { table } = this.place
    const own = targetOf(mirrors, table, table)
    const target = (await database.read(() => database.mirroring.targets([own]))).get(own)
    const origin = { ...name, registerId: 0, epoch: '', epochNo: 0 }
    return target && new MirrorTable(target, optionsOf(mirrors, table)(table), [], { origin, leftOut: () => undefined })
  }
}

/** A value of a row here as central writes those of its column: a database reads all of them as texts, or each as what it is. */
function like(kind: string | undefined, value: string): string {
  if (kind === undefined || value === 'null') return value
  const text = value.startsWith('"') ? (JSON.parse(value) as string) : value
  return kind.startsWith('"') ? encodeText(text) : text
}
