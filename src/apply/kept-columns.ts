import { sql } from 'kysely'
import type { MirrorTarget, MirrorUpsert } from '../mirroring.ts'
import type { DocumentName } from '../model.ts'
import type { Database, RegisterDatabase } from '../ports.ts'
import { encodeText, writtenMembers } from '../record.ts'
import type { Published } from '../two-way.ts'
import { erase, insert, query, type Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import { type MirrorSet, recordsOf } from './mirror-set.ts'
import type { OwnSide } from './own-documents.ts'
import { KEPT } from './subscription-tables.ts'

// Of documents that are published here too, what central says of columns that are its alone: a host that deletes a row and enters it again, as a REPLACE does, loses
// them, and nothing of that is sent, so that central would not say it again.

/** Rows of a table here: the key, and the columns that only central writes. */
type KeptRow = readonly [table: string, columns: readonly string[], record: string]

/** What of a document is kept. */
export interface Kept extends DocumentName {
  /** As what it is published here. */
  readonly own: string
  readonly rows: readonly KeptRow[]
}

const SETTLED = 0
/** It was changed here since. */
const TOUCHED = 1
/** What was changed here can't be put right; it is tried again when it is changed again. */
const REFUSED = 2

/** Takes down what documents of a set, which were applied, say of columns that are not published here. */
export function* keepColumns(
  published: Published,
  set: MirrorSet,
  sides: readonly OwnSide[],
  snapshotOf: (one: AppliedDocument) => number,
): Work<void> {
  const root = set.table(set.root).target.name
  const own = new Map((published.tables(root) ?? []).map(({ table, columns }) => [table, new Set(columns)]))
  if (own.size === 0) return
  const rows = sides.flatMap(({ document, own: sided }) => {
    const recordId = sided.find(([table]) => table === root)?.[1].recordId
    if (document.removed || recordId === undefined) return []
    const kept = keptRows(set, document, own)
    return kept.length === 0 ? [] : [[document.table, document.recordId, root, recordId, SETTLED, snapshotOf(document), JSON.stringify(kept)]]
  })
  if (rows.length > 0) yield* insert(KEPT, rows, KEPT.primaryKey)
}

function keptRows(set: MirrorSet, document: AppliedDocument, own: ReadonlyMap<string, ReadonlySet<string>>): readonly KeptRow[] {
  const records = recordsOf([document])
  return [...set.tables].flatMap(([name, table]) => {
    const published = own.get(table.target.name)
    if (published === undefined) return []
    return table.prepare(records.get(name) ?? []).flatMap((group) => {
      const columns = group.written.filter((column) => !published.has(column) && !table.target.key.includes(column))
      const all = [...table.key, ...columns]
      const memberOf = (column: string) => (group.members === undefined ? column : table.senderOf(column))
      return columns.length === 0 ? [] : group.records.map((record): KeptRow => [table.target.name, columns, trimmed(record, all, memberOf)])
    })
  })
}

/** A record with these columns alone, each as it was written. */
function trimmed(record: string, columns: readonly string[], memberOf: (column: string) => string): string {
  const members = writtenMembers(record)
  return `{${columns.map((column) => `${encodeText(column)}:${members.get(memberOf(column)) ?? 'null'}`).join(',')}}`
}

/** Central publishes them no more. */
export function* dropKept(documents: readonly DocumentName[]): Work<void> {
  yield* erase(
    KEPT,
    KEPT.primaryKey,
    documents.map(({ table, recordId }) => [table, recordId]),
  )
}

/** What a snapshot did not confirm is not published any more. */
export function* dropUnconfirmedKept({ build }: Database, table: string, snapshotNo: number): Work<void> {
  yield* query(build.deleteFrom(KEPT.name).where('table_name', '=', table).where('snapshot_no', '<', snapshotNo).compile())
}

/** Documents of a table here were changed. */
export function* touchKept({ build }: Database, own: string, recordIds: readonly string[]): Work<void> {
  for (let from = 0; from < recordIds.length; from += AT_ONCE) {
    const some = recordIds.slice(from, from + AT_ONCE)
    const update = build.updateTable(KEPT.name).set({ state: TOUCHED })
    yield* query(update.where('own_table', '=', own).where('own_id', 'in', some).where('state', '<>', TOUCHED).compile())
  }
}

const AT_ONCE = 500

/** Those of these tables of central's behind a name that were changed here, in order. */
export function* touchedKept({ build }: Database, tables: readonly string[], after: DocumentName | undefined, most: number): Work<readonly Kept[]> {
  if (tables.length === 0) return []
  const rows = yield* query<{ table_name: string; record_id: string; own_table: string; records: string }>(
    build
      .selectFrom(KEPT.name)
      .select(['table_name', 'record_id', 'own_table', 'records'])
      .where('state', '=', TOUCHED)
      .where('table_name', 'in', tables)
      .where(after === undefined ? sql<boolean>`1 = 1` : sql<boolean>`(table_name, record_id) > (${after.table}, ${after.recordId})`)
      .orderBy('table_name')
      .orderBy('record_id')
      .limit(most)
      .compile(),
  )
  return rows.map((row) => ({
    table: row.table_name,
    recordId: row.record_id,
    own: row.own_table,
    rows: JSON.parse(row.records) as readonly KeptRow[],
  }))
}

/** Puts right what differs of these columns; rows that are not here do not come back by it. */
export function* putRight({ mirroring }: RegisterDatabase, published: Published, documents: readonly Kept[]): Work<void> {
  const targets = yield* mirroring.targets([...new Set(documents.flatMap(({ rows }) => rows.map(([table]) => table)))])
  for (const rows of alike(published, targets, documents)) {
    const records = yield* mirroring.differing(rows)
    if (records.length > 0) yield* mirroring.upsert({ ...rows, records, others: () => noOthers() })
  }
  yield* mirroring.settle()
}

function* noOthers(): Work<readonly []> {
  yield* []
  return []
}

/** Rows with the same columns, as the tables now stand: what is published here by now is central's alone no more. */
function alike(
  published: Published,
  targets: ReadonlyMap<string, MirrorTarget>,
  documents: readonly Kept[],
): readonly Omit<MirrorUpsert, 'others'>[] {
  const groups = new Map<string, { readonly table: MirrorTarget; readonly columns: readonly string[]; readonly records: string[] }>()
  for (const { own, rows } of documents) {
    for (const [name, kept, record] of rows) {
      const table = targets.get(name)
      const theirs = published.tables(own)?.find((one) => one.table === name)
      if (table === undefined || theirs === undefined) continue
      const columns = kept.filter((column) => !theirs.columns.includes(column) && table.columns.some((one) => one.name === column && !one.generated))
      const of = JSON.stringify([name, columns])
      const group = groups.get(of) ?? { table, columns, records: [] }
      groups.set(of, group)
      group.records.push(record)
    }
  }
  return [...groups.values()].flatMap(({ table, columns, records }) =>
    columns.length === 0 ? [] : [{ table, columns: [...table.key, ...columns], records, constants: {}, written: columns, rows: 'update' as const }],
  )
}

/** They are as central has them, or can't be. */
export function* settleKept({ build }: Database, documents: readonly DocumentName[], isRefused: boolean): Work<void> {
  for (const [table, some] of Map.groupBy(documents, (one) => one.table)) {
    const update = build.updateTable(KEPT.name).set({ state: isRefused ? REFUSED : SETTLED })
    const ids = some.map(({ recordId }) => recordId)
    yield* query(update.where('table_name', '=', table).where('record_id', 'in', ids).compile())
  }
}
