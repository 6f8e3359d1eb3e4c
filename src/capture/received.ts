import type { HostColumn } from '../host-table.ts'
import type { CapturingDatabase } from '../ports.ts'
import { decodeRecord, encodeValue } from '../record.ts'
import type { Meant, OwnDocument, OwnTableColumns } from '../two-way.ts'
import { erase, insert, type Key, query, type Work } from '../work.ts'
import { bouncedOf, endBounced, noteBounced } from './bounced.ts'
import { isEmptied, isEqual, type Member, membersOf, readAll } from './collector.ts'
import { lookupEach, type ReadDocument, type Reading, type ReadRecord, recordIdText, type TouchedDocument } from './documents.ts'
import type { RootPlan, TablePlan } from './table-plan.ts'
import { ENTRIES, MEMBERS, WITHHELD } from './tables.ts'

/** A published document before something that was received is written to it. */
interface KnownDocument extends OwnDocument {
  readonly touched: TouchedDocument
  readonly reading: Reading
  readonly member: Member | undefined
}

/** The columns of a root and its parts. */
export function tablesIn(plan: TablePlan): readonly OwnTableColumns[] {
  const { table, key, columns, parts } = plan
  return [{ table, key, columns: columns.map(({ name }) => name) }, ...parts.flatMap(tablesIn)]
}

/** Documents of a root, and what of them is still to be sealed or acknowledged. */
export function* readBefore(
  database: CapturingDatabase,
  root: RootPlan,
  recordIds: readonly string[],
  acknowledged: number,
): Work<readonly OwnDocument[]> {
  const touched = yield* find(database, root, recordIds)
  const known = new Map<string, OwnDocument>()
  const readings = yield* readAll(touched)
  const members = yield* membersOf(database, touched)
  for (const [n, document] of touched.entries()) {
    const reading = readings.get(document)
    const member = members[n]
    const isSealed = !(reading instanceof Error) && isAsGiven(reading, member)
    const isAcknowledged = (member?.entryNo ?? 0) <= acknowledged
    known.set(document.recordId, {
      recordId: document.recordId,
      isThere: reading !== undefined,
      isSealed,
      isAcknowledged,
      isGiven: reading !== undefined && isSealed && isAcknowledged && member?.withheld === undefined && (member?.entryNo ?? 0) > 0,
      touched: document,
      reading,
      member,
    } as KnownDocument)
  }
  return touched.map(({ recordId }) => known.get(recordId) as OwnDocument)
}

function isAsGiven(now: ReadDocument | undefined, member: Member | undefined): boolean {
  if (now === undefined || member === undefined) return now === member
  return isEmptied(member) || isEqual(now, member)
}

/** The documents that the database takes these record ids for; of one that is not there the record id as it was given. */
function* find(database: CapturingDatabase, root: RootPlan, recordIds: readonly string[]): Work<readonly TouchedDocument[]> {
  const keys = recordIds.map((recordId) => database.keyOf(root.keyColumns, recordId))
  const found = yield* lookupEach(root.identify, keys)
  const documents = new Map<string, TouchedDocument>()
  return recordIds.map((recordId, n) => {
    const same = found[n] ?? []
    const key = same.find((one) => recordIdText(root, one) === recordId) ?? same[0]
    const own = key === undefined ? recordId : recordIdText(root, key)
    const known = documents.get(own) ?? {
      root,
      recordId: own,
      key: key ?? (keys[n] as Key),
      exported: false,
      again: false,
      existing: false,
      changed: false,
    }
    documents.set(own, known)
    return known
  })
}

/** Those whose removal was sealed and lies behind what is acknowledged. */
export function* removedBehind(
  { build }: CapturingDatabase,
  root: RootPlan,
  recordIds: readonly string[],
  acknowledged: number,
): Work<ReadonlySet<string>> {
  if (recordIds.length === 0) return new Set()
  const rows = yield* query<{ record_id: string }>(
    build
      .selectFrom(ENTRIES.name)
      .select('record_id')
      .distinct()
      .where('entry_no', '>', acknowledged)
      .where('operation', '=', 'remove')
      .where('table_name', '=', root.table)
      .where('record_id', 'in', recordIds)
      .compile(),
  )
  return new Set(rows.map((row) => row.record_id))
}

/** Takes down what was received as given; what the host has made of it is left to be sealed. See `Published.after`. */
export function* settleReceived(database: CapturingDatabase, root: RootPlan, documents: readonly OwnDocument[], meant: Meant): Work<void> {
  const known = [...new Set(documents as readonly KnownDocument[])]
  const keys = known.map((one) => one.touched.recordId)
  const touched = yield* find(database, root, keys)
  const readings = yield* readAll(touched)
  const members: unknown[][] = []
  const left: Key[] = []
  const released: Key[] = []
  const altered: Altered[] = []
  const settled: Key[] = []
  for (const [n, before] of known.entries()) {
    const document = touched[n] as TouchedDocument
    const now = readings.get(document)
    if (!before.isSealed || now instanceof Error) continue
    const { member } = before
    const name = [root.table, document.recordId]
    // Its key is written otherwise by now.
    if (document.recordId !== before.recordId && member !== undefined) left.push([root.table, before.recordId])
    if (meant.altered.has(before.recordId) || !isOnly(root, meant, before, now)) {
      if (now !== undefined) altered.push({ document, before, now })
      continue
    }
    if (now !== undefined && (member === undefined || member.withheld !== undefined || !isEqual(now, member))) members.push(memberOf(document, now))
    else if (now === undefined && member !== undefined) left.push(name)
    if (member?.withheld !== undefined) released.push(name)
    settled.push(name)
  }
  const ended = yield* endBouncing(database, root, meant, altered)
  members.push(...altered.filter((one) => ended.has(one)).map(({ document, now }) => memberOf(document, now)))
  // The host has undone what was written: the other side learns only so that it is not here.
  const undone = altered.filter((one) => !ended.has(one) && one.before.member !== undefined && isEqual(one.now, one.before.member))
  yield* erase(MEMBERS, MEMBERS.primaryKey, left)
  yield* insert(MEMBERS, members, MEMBERS.primaryKey)
  yield* erase(WITHHELD, WITHHELD.primaryKey, released)
  yield* endBounced(database, settled)
  const anyway = undone.map(({ document }) => document.key)
  yield* database.capture.touch(root.table, root.key, anyway, 'exported')
}

/** A document of which the host has made something else than what came. */
interface Altered {
  readonly document: TouchedDocument
  readonly before: KnownDocument
  readonly now: ReadDocument
}

function memberOf({ root, recordId }: TouchedDocument, { hash, identity }: ReadDocument): unknown[] {
  return [root.table, recordId, hash, identity, 'given', 0]
}

/** Those of which nothing but what the host makes of them goes to and fro, again and again: they are taken down as they stand, and not sent. */
function* endBouncing(database: CapturingDatabase, root: RootPlan, meant: Meant, altered: readonly Altered[]): Work<ReadonlySet<Altered>> {
  const ended = new Set<Altered>()
  const noted: [Key, number][] = []
  const keys = altered.map(({ document }) => [root.table, document.recordId])
  for (const [n, { times, isDue }] of (yield* bouncedOf(database, keys, meant.now)).entries()) {
    const one = altered[n] as Altered
    const isOver = isDue && !(yield* meant.isNews(one.before.recordId, changesIn(root, one)))
    if (isOver) ended.add(one)
    noted.push([keys[n] as Key, isDue && !isOver ? 1 : times])
  }
  yield* noteBounced(noted, meant.now)
  return ended
}

/** How many rows of each table have other values than before, by column. */
function changesIn(root: RootPlan, { before, now }: Altered): ReadonlyMap<string, ReadonlyMap<string, number>> {
  return new Map(
    [...plansIn(root)].map(({ table, columns }) => {
      const had = recordsOf(before.reading as ReadDocument | undefined, table)
      const counts = new Map<string, number>()
      for (const [id, { record }] of recordsOf(now, table)) {
        const [values, formerly] = [decodeRecord(record), had.has(id) ? decodeRecord(had.get(id)?.record as string) : undefined]
        for (const { name } of columns) {
          if (formerly !== undefined && encodeValue(values[name] ?? null) === encodeValue(formerly[name] ?? null)) continue
          counts.set(name, (counts.get(name) ?? 0) + 1)
        }
      }
      return [table, counts]
    }),
  )
}

/** Whether a document differs from what it was by nothing but what was meant to be written. */
function isOnly(root: RootPlan, meant: Meant, { recordId, reading }: KnownDocument, now: ReadDocument | undefined): boolean {
  const before = reading as ReadDocument | undefined
  if (now === undefined || (before !== undefined && Buffer.compare(before.hash, now.hash) === 0)) return true
  return [...plansIn(root)].every((plan) => {
    const [had, has] = [recordsOf(before, plan.table), recordsOf(now, plan.table)]
    const wanted = meant.rows.get(plan.table)
    if (wanted ? has.size !== (wanted.get(recordId) ?? 0) : has.size !== had.size || [...has.keys()].some((id) => !had.has(id))) return false
    const columns = meant.columns.get(plan.table)
    const others = plan.columns.filter(({ name }) => !columns?.has(name) && !plan.key.includes(name))
    return others.length === 0 || [...has].every(([id, { record }]) => isAsBefore(record, had.get(id)?.record, others))
  })
}

/** Whether a record holds in these columns what it held, or, where it was not there, what the database puts there by itself. */
function isAsBefore(record: string, former: string | undefined, columns: readonly HostColumn[]): boolean {
  if (record === former) return true
  const values = decodeRecord(record)
  const formerly = former === undefined ? undefined : decodeRecord(former)
  return columns.every(({ name, initial = 'null' }) => {
    const wanted = formerly ? formerly[name] : decodeRecord(`{"initial":${initial}}`).initial
    return encodeValue(values[name] ?? null) === encodeValue(wanted ?? null)
  })
}

function* plansIn(plan: TablePlan): Generator<TablePlan> {
  yield plan
  for (const part of plan.parts) yield* plansIn(part)
}

function recordsOf(document: ReadDocument | undefined, table: string): ReadonlyMap<string, ReadRecord> {
  return new Map(document?.records.filter((record) => record.table === table).map((record) => [record.recordId, record]))
}
