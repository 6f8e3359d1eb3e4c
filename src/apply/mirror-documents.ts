import type { MirrorUpsert } from '../mirroring.ts'
import type { Work } from '../work.ts'
import { presentIn } from './mirror-present.ts'
import { removeGone, stillThere } from './mirror-removals.ts'
import { type MirrorSet, recordsOf, valuesOf } from './mirror-set.ts'
import { inCommon } from './mirror-table.ts'

/** Writes the documents of a set; of those that are removed only unique values are taken, where others need them. */
export function* writeDocuments(set: MirrorSet, isRemoving: boolean): Work<void> {
  const documents = yield* presentIn(set)
  if (documents.length === 0) return
  yield* removeGone(set, documents)
  const records = recordsOf(documents)
  const isNew = documents.every((document) => document.isNew)
  // All that takes no lock comes before what does.
  const values = valuesOf(documents)
  const prepared = [...set.tables].flatMap(([name, table]) => {
    const groups = table.prepare(records.get(name) ?? [], values.get(name))
    const rows: MirrorUpsert['rows'] = table.rows === 'update' ? 'update' : isNew ? 'new' : 'known'
    const others = function* () {
      return [...inCommon(groups), ...(yield* stillThere(set, table, isRemoving))]
    }
    return groups.map((group) => [name, { ...group, rows, others }] as const)
  })
  yield* set.mirroring.foresee(prepared.map(([, rows]) => rows))
  for (const [name, rows] of prepared) yield* write(set, name, rows)
}

/** Writes; what refers to a row that another table of the set, or another record of this one, is still to bring, is left until then. */
function* write(set: MirrorSet, name: string, rows: MirrorUpsert): Work<void> {
  const { mirroring, left } = set
  const { table } = rows
  if (!set.mayBeEarly(table)) return yield* mirroring.upsert(rows)
  const nullable = table.columns.filter((column) => column.nullable && !table.key.includes(column.name)).map((column) => column.name)
  const open = new Set<string>()
  while (true) {
    const isClosed = (column: string) => !open.has(column)
    const given = open.size === 0 ? rows : { ...rows, columns: rows.columns.filter(isClosed), written: rows.written.filter(isClosed) }
    const refused = yield* mirroring.refusedBy(() => mirroring.upsert(given))
    if (refused === undefined) return
    left.again.add(name)
    left.names.add(table.name)
    const foreignKey = table.foreignKeys.find((one) => one.name === refused)
    const more = foreignKey?.columns.filter((column) => nullable.includes(column) && given.columns.includes(column)) ?? []
    if (more.length === 0) return
    for (const column of more) open.add(column)
  }
}

/** Writes once more what was left; what can't be written by itself `isLast` is an error then. @throws ERR_REFERENCE */
export function* writeLeft(set: MirrorSet, isRemoving: boolean, isLast: boolean): Work<void> {
  const { again } = set.left
  const records = recordsOf(yield* presentIn(set))
  // Each time at least one table is done, or none can be.
  for (let tries = again.size; again.size > 0 && tries >= 0; tries--) {
    for (const [name, table] of set.tables) {
      if (!again.delete(name)) continue
      const groups = table.prepare(records.get(name) ?? [])
      const rows = table.rows === 'update' ? 'update' : 'known'
      for (const group of groups) {
        const others = function* () {
          return [...inCommon(groups), ...(yield* stillThere(set, table, isRemoving))]
        }
        const given = { ...group, rows, others } as const
        yield* isLast && tries === 0 ? set.mirroring.upsert(given) : write(set, name, given)
      }
    }
  }
}
