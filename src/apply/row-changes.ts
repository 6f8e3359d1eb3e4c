import type { PartShape } from '../model.ts'
import { keyRecord, writtenMembers } from '../record.ts'
import type { Work } from '../work.ts'
import { type MirrorSet, type Records, recordsOf } from './mirror-set.ts'

/** A row here before and after documents were applied, as `Mirroring.strays` reads it; undefined where it was not, or is not, there. */
export interface RowChange {
  readonly table: string
  readonly before: string | undefined
  readonly after: string | undefined
}

/** Who is told, in the transaction, what applied documents have changed. */
export interface RowWatch {
  /** The tables here that it wants to hear of. */
  readonly tables: ReadonlySet<string>
  changed(changes: readonly RowChange[]): Work<void>
}

/** Rows by table and key. */
export type Rows = ReadonlyMap<string, ReadonlyMap<string, string>>

/** The rows of a set's documents as they stand, those of parts that the documents do not have among them. */
export function* rowsOf(set: MirrorSet, watched: ReadonlySet<string>): Work<Rows> {
  const rows = new Map<string, Map<string, string>>()
  const records = recordsOf(set.documents.filter(({ removed }) => !removed))
  const table = set.table(set.root)
  const gone = set.documents.filter(({ removed, keyColumns }) => removed && table.key.every((name) => keyColumns.includes(table.senderOf(name))))
  const keys = [...(records.get(set.root) ?? []), ...gone.map(({ keyColumns, recordId }) => keyRecord(keyColumns, recordId))]
  yield* read(set, set.root, yield* set.found(table, table.sent(table.key, keys)), set.documents[0]?.shape ?? [], records, rows)
  return new Map([...rows].filter(([name]) => watched.has(name)))
}

function* read(
  set: MirrorSet,
  name: string,
  found: readonly string[],
  shape: readonly PartShape[],
  records: Records,
  rows: Map<string, Map<string, string>>,
): Work<void> {
  const above = set.table(name)
  rows.set(above.target.name, new Map(found.map((record) => [keyOf(record, above.target.key), record])))
  for (const part of shape) {
    const table = set.table(part.table)
    const sent = yield* set.found(table, table.sent(table.key, records.get(part.table) ?? []))
    const parents = above.found(set.jointsAbove(above, [part]), found)
    const under = yield* set.mirroring.strays(table.found([], []), set.joints(part, name), parents, [])
    yield* read(set, part.table, [...sent, ...under], part.parts, records, rows)
  }
}

/** What differs between two readings. */
export function changesBetween(before: Rows, after: Rows): readonly RowChange[] {
  return [...new Set([...before.keys(), ...after.keys()])].flatMap((table) => {
    const [had, has] = [before.get(table) ?? new Map<string, string>(), after.get(table) ?? new Map<string, string>()]
    return [...new Set([...had.keys(), ...has.keys()])].flatMap((key) => {
      const change = { table, before: had.get(key), after: has.get(key) }
      return change.before === change.after ? [] : [change]
    })
  })
}

function keyOf(record: string, key: readonly string[]): string {
  const members = writtenMembers(record)
  return key.map((name) => members.get(name)).join(',')
}
