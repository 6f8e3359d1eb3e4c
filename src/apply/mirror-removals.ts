import { TillsyncError } from '../errors.ts'
import type { MirrorRows } from '../mirroring.ts'
import type { PartShape } from '../model.ts'
import { keyRecord, withNulls } from '../record.ts'
import type { Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import { presentIn } from './mirror-present.ts'
import { type MirrorSet, type Records, recordsOf } from './mirror-set.ts'
import type { MirrorTable } from './mirror-table.ts'
import { withoutTakenOver } from './mirror-takeovers.ts'

/** Rows of a target that go, as their texts. */
interface Going {
  readonly table: MirrorTable
  readonly found: readonly string[]
}

/** Removes parts that a former version had and this one has not; what is still referred to stays until the set is written. */
export function* removeGone(set: MirrorSet, documents: readonly AppliedDocument[]): Work<void> {
  for (const { table, found } of inOrder(set, yield* goneOf(set, documents))) {
    const remove = () => set.mirroring.remove(table.found(table.key, found))
    if (!table.target.isReferredTo || set.context.targets === undefined) yield* remove()
    else if ((yield* set.mirroring.refusedBy(remove)) !== undefined) set.left.gone = true
  }
}

/**
 * What is left to be removed when the set is written: parts that were still referred to, and, with `isRemoving`, whole documents. `loosen`
 * only takes references from it, by which rows that go hold each other. With `only` nothing is removed but rows of this target.
 */
export function* clear(set: MirrorSet, isRemoving: boolean, step: 'loosen' | 'remove', only?: string): Work<void> {
  const present = yield* presentIn(set)
  const going = set.left.gone ? [...(yield* goneOf(set, present))] : []
  if (isRemoving)
    for (const rows of removedKeys(set, set.documents))
      going.push(...(yield* wholeDocuments(set, rows, shapeOf(set), recordsOf(present), removedIn(set))))
  yield* go(
    set,
    going.filter(({ table }) => only === undefined || table.target.name === only),
    step,
  )
}

/** The documents with their parts, at once. */
export function* removeDocuments(set: MirrorSet): Work<void> {
  const table = set.table(set.root)
  const roots = set.documents.map(({ entries }) => entries[0]?.record as string)
  for (const step of ['loosen', 'remove'] as const) yield* go(set, yield* wholeDocuments(set, table.sent(table.key, roots), shapeOf(set)), step)
}

/** Rows of a table that are still there and will be removed when the set is written. */
export function* stillThere(set: MirrorSet, table: MirrorTable, isRemoving: boolean): Work<readonly MirrorRows[]> {
  const present = yield* presentIn(set)
  const going = set.left.gone ? [...(yield* goneOf(set, present))] : []
  if (isRemoving)
    for (const rows of removedKeys(set, set.documents))
      going.push(...(yield* wholeDocuments(set, rows, shapeOf(set), recordsOf(present), removedIn(set))))
  return going.flatMap((rows) => (rows.table === table ? [table.found(table.key, rows.found)] : []))
}

/**
 * The keys of documents that were removed, where their rows are to go: those of the target or, where it is known that the rows came from the sender, the sender's.
 *
 * @throws ERR_MIRROR where it is not known which rows they are
 */
function removedKeys(set: MirrorSet, documents: readonly AppliedDocument[]): readonly MirrorRows[] {
  const table = set.table(set.root)
  return [...Map.groupBy(removedIn({ documents }), ({ keyColumns }) => JSON.stringify(keyColumns)).values()].map((alike) => {
    const { keyColumns } = alike[0] as AppliedDocument
    return table.sent(
      removedBy(set, table, keyColumns),
      alike.map(({ recordId }) => keyRecord(keyColumns, recordId)),
    )
  })
}

function removedBy({ context }: MirrorSet, table: MirrorTable, keyColumns: readonly string[]): readonly string[] {
  if (table.key.every((name) => keyColumns.includes(table.senderOf(name)))) return table.key
  const names = keyColumns.map((name) => table.nameOf(name))
  if (context.stands !== undefined && names.every((name) => table.target.columns.some((column) => column.name === name))) return names
  throw new TillsyncError('ERR_MIRROR', `It is not known which row of \`${table.target.name}\` is removed: its sender's key has other columns`, {
    hint: "The primary key of the target has the same columns as the sender's, beside those of `origin`.",
    context: { table: table.target.name },
  })
}

function removedIn({ documents }: Pick<MirrorSet, 'documents'>): readonly AppliedDocument[] {
  return documents.filter((document) => document.removed)
}

function shapeOf({ documents }: MirrorSet): readonly PartShape[] {
  return documents[0]?.shape ?? []
}

function* goneOf(set: MirrorSet, documents: readonly AppliedDocument[]): Work<readonly Going[]> {
  const [first] = documents
  const known = first === undefined || first.shape.length === 0 ? [] : yield* thereOf(set, documents)
  // A new document may bring a part whose key one had that was purged at the till, and on which others still hang.
  if (first === undefined || (known.length === 0 && first.shape.every(({ parts }) => parts.length === 0))) return []
  const table = set.table(first.table)
  const roots = known.map(({ entries }) => entries[0]?.record as string)
  const parents = known.length === 0 ? [] : [table.sent(set.jointsAbove(table, first.shape), roots)]
  return yield* partsOf(set, first.table, parents, first.shape, recordsOf(documents))
}

/** Those that have parts here: where both sides write a table, one that its sender never spoke of before may be there by another's doing. */
function* thereOf(set: MirrorSet, documents: readonly AppliedDocument[]): Work<readonly AppliedDocument[]> {
  const table = set.table(set.root)
  const isNew = documents.filter((document) => document.isNew)
  if (isNew.length === 0 || set.context.late) return documents.filter((document) => !document.isNew)
  const roots = isNew.map(({ entries }) => entries[0]?.record as string)
  const found = yield* set.found(table, table.sent(table.key, roots))
  return found.length === 0 ? documents.filter((document) => !document.isNew) : documents
}

/** @param removed those that are gone, where it is not the host that takes them back */
function* wholeDocuments(
  set: MirrorSet,
  rows: MirrorRows,
  shape: readonly PartShape[],
  records: Records = new Map(),
  removed: readonly AppliedDocument[] = [],
): Work<readonly Going[]> {
  const table = set.table(set.root)
  if (table.rows === 'update') return []
  const there = yield* set.found(table, rows)
  const found = yield* withoutTakenOver(set, table, there, removed)
  const joints = set.jointsAbove(table, shape)
  // Parts without the row that they hang on, which somebody else has removed, are told by its key.
  const isLeft = there.length < rows.records.length && found.length === there.length && joints.every((name) => rows.columns.includes(name))
  const parts = yield* partsOf(set, set.root, [isLeft ? { ...rows, columns: joints } : table.found(joints, found)], shape, records)
  // A document whose key differs but in what the target does not tell apart has taken the row over: one of these, or one that stands here already.
  const kept = records.get(set.root) ?? []
  const free = kept.length === 0 ? found : yield* set.found(table, rows, [table.sent(table.key, kept)])
  const own = new Set(found)
  return [...parts, { table, found: free.filter((row) => own.has(row)) }]
}

/** Parts of the parents that are none of the records, those furthest down first. */
function* partsOf(
  set: MirrorSet,
  above: string,
  parents: readonly MirrorRows[],
  shape: readonly PartShape[],
  records: Records,
): Work<readonly Going[]> {
  const going: Going[] = []
  for (const part of shape) {
    const table = set.table(part.table)
    const kept = records.get(part.table) ?? []
    const found: string[] = []
    if (table.rows === 'all') {
      const keep = kept.length === 0 ? [] : [table.sent(table.key, kept)]
      for (const rows of parents) found.push(...(yield* set.mirroring.strays(table.found([], []), set.joints(part, above), rows, keep)))
    }
    // A new document's part may take the key of one that is gone, and must not inherit what hung on it.
    const columns = set.jointsAbove(table, part.parts)
    going.push(...(yield* partsOf(set, part.table, [table.sent(columns, kept), table.found(columns, found)], part.parts, records)))
    if (found.length > 0) going.push({ table, found })
  }
  return going
}

/** What refers to others goes before them. */
function inOrder({ order }: MirrorSet, going: readonly Going[]): readonly Going[] {
  return going.toSorted((a, b) => order.indexOf(b.table.target.name) - order.indexOf(a.table.target.name))
}

function* go(set: MirrorSet, going: readonly Going[], step: 'loosen' | 'remove'): Work<void> {
  for (const { table, found } of inOrder(set, going)) {
    if (step === 'remove') yield* set.mirroring.remove(table.found(table.key, found))
    else yield* loosen(set, table, found)
  }
}

/** Takes references to rows that go earlier, where a row can be without. */
function* loosen(set: MirrorSet, table: MirrorTable, found: readonly string[]): Work<void> {
  const { mirroring } = set
  const { emptied = set.order.toReversed() } = set.context
  const { foreignKeys, columns, key, name } = table.target
  const isOpen = (column: string) => !key.includes(column) && columns.some((one) => one.name === column && one.nullable && !one.generated)
  const at = emptied.indexOf(name)
  const earlier = foreignKeys.filter(({ refersTo }) => emptied.indexOf(refersTo) < at && emptied.includes(refersTo))
  const open = [...new Set(earlier.flatMap((foreignKey) => foreignKey.columns.filter(isOpen)))]
  if (open.length === 0) return
  const records = found.map((record) => withNulls(record, open))
  yield* mirroring.upsert({
    ...table.found([...table.key, ...open], records),
    written: open,
    rows: 'update',
    others: () => stillThere(set, table, false),
  })
}
