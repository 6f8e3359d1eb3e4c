import { TillsyncError } from '../errors.ts'
import type { PartShape } from '../model.ts'
import type { MirrorRows, MirrorTarget, MirrorUpsert, Work } from '../ports.ts'
import { keyRecord } from '../record.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext } from './handler.ts'
import type { PlainMirrorOptions } from './mirror-options.ts'
import { inCommon, MirrorTable } from './mirror-table.ts'
import { checkTarget, readTargets } from './mirror-target.ts'

type Records = ReadonlyMap<string, readonly string[]>

/** What a set of documents has left for when other tables are written. */
interface Left {
  /** The till's tables that are to be written once more: a row of them refers to one that was not there yet. */
  readonly again: Set<string>
  /** Whether parts that are gone were still referred to. */
  gone: boolean
}

/** By the set, which is known by its targets, and root table. */
const leftOf = new WeakMap<object, Map<string, Left>>()

/** One set of documents of a root table on its way into the tables. */
export class MirrorDocuments {
  private readonly context: ApplyContext
  private readonly optionsOf: (table: string, root: string) => PlainMirrorOptions
  private tables: ReadonlyMap<string, MirrorTable> = new Map()

  constructor(context: ApplyContext, optionsOf: (table: string, root: string) => PlainMirrorOptions) {
    this.context = context
    this.optionsOf = optionsOf
  }

  *apply(all: readonly AppliedDocument[]): Work<void> {
    yield* this.open(all)
    const present = all.filter(({ removed }) => !removed)
    const documents = this.context.late ? yield* this.fitting(present) : present
    const [first] = documents
    if (first === undefined) return
    const records = recordsOf(documents)
    yield* this.removeGone(documents, records)
    const removed = this.going(all)
    const isNew = documents.every((document) => document.isNew)
    for (const [name, table] of this.tables) {
      const groups = table.prepare(records.get(name) ?? [])
      const rows = table.rows === 'update' ? 'update' : isNew ? 'new' : 'known'
      const others = [...inCommon(groups), ...(name === first.table ? removed : [])]
      for (const group of groups) yield* this.write(first.table, name, { ...group, rows, others })
    }
  }

  /** Writes; what refers to a row that another table of the set, or another record of this one, is still to bring, is left until then. */
  private *write(root: string, name: string, rows: MirrorUpsert): Work<void> {
    const { mirroring } = this.context.database
    if (!this.mayBeEarly(rows.table)) return yield* mirroring.upsert(rows)
    const open = new Set<string>()
    while (true) {
      const written = rows.written.filter((column) => !open.has(column))
      const columns = rows.columns.filter((column) => !open.has(column))
      const refused = yield* mirroring.refusedBy(() => mirroring.upsert({ ...rows, columns, written }))
      if (refused === undefined) break
      const foreignKey = rows.table.foreignKeys.find((one) => one.name === refused)
      const nullable = rows.table.columns.filter((column) => column.nullable && !rows.table.key.includes(column.name)).map((column) => column.name)
      const more = foreignKey?.columns.filter((column) => nullable.includes(column) && rows.columns.includes(column) && !open.has(column)) ?? []
      this.left(root).again.add(name)
      if (more.length === 0) return
      for (const column of more) open.add(column)
    }
  }

  /** Whether a row of the table may refer to one that is written after it. */
  private mayBeEarly(table: MirrorTarget): boolean {
    const order = [...(this.context.targets?.keys() ?? [])]
    if (!order.includes(table.name)) return false
    return table.foreignKeys.some(({ refersTo }) => order.indexOf(refersTo) >= order.indexOf(table.name))
  }

  *complete(all: readonly AppliedDocument[]): Work<void> {
    const again = leftOf.get(this.context.targets ?? {})?.get(all[0]?.table ?? '')?.again
    if (again === undefined || again.size === 0) return
    yield* this.open(all)
    const present = all.filter(({ removed }) => !removed)
    const records = recordsOf(this.context.late ? yield* this.fitting(present) : present)
    for (const [name, table] of this.tables) {
      if (!again.has(name)) continue
      const groups = table.prepare(records.get(name) ?? [])
      const rows = table.rows === 'update' ? 'update' : 'known'
      for (const group of groups) yield* this.context.database.mirroring.upsert({ ...group, rows, others: inCommon(groups) })
    }
  }

  /** What is gone and was still referred to, and, where `removals` are applied, whole documents. */
  *clear(all: readonly AppliedDocument[], isRemoving: boolean): Work<void> {
    const left = leftOf.get(this.context.targets ?? {})?.get(all[0]?.table ?? '')
    const removed = isRemoving ? all.filter((document) => document.removed) : []
    if (!left?.gone && removed.length === 0) return
    yield* this.open(all)
    const present = all.filter((document) => !document.removed)
    if (left?.gone) yield* this.removeGone(present, recordsOf(present), true)
    for (const rows of this.going(removed)) yield* this.removeRows(removed[0] as AppliedDocument, rows)
  }

  /** The documents with their parts. */
  *remove(documents: readonly AppliedDocument[]): Work<void> {
    const [first] = documents
    if (first === undefined) return
    yield* this.open(documents)
    const table = this.table(first.table)
    const roots = documents.map(({ entries }) => entries[0]?.record as string)
    yield* this.removeRows(first, table.sent(table.key, roots))
  }

  private *removeRows(document: AppliedDocument, rows: MirrorRows): Work<void> {
    const table = this.table(document.table)
    if (table.rows === 'update') return
    const { mirroring } = this.context.database
    const byKey = Object.fromEntries(table.key.map((name) => [name, name]))
    const found = yield* mirroring.strays(table.found([], []), byKey, rows, [])
    const columns = this.jointsAbove(table, document.shape)
    yield* this.removeParts([table.found(columns, found)], document.shape, new Map(), true)
    yield* mirroring.remove(table.found(table.key, found))
  }

  /** The keys of removed documents; none where it can't be said which rows they are. */
  private going(all: readonly AppliedDocument[]): readonly MirrorRows[] {
    const removed = all.filter((document) => document.removed)
    const [first] = removed
    if (first === undefined || this.optionsOf(first.table, first.table).removals !== 'apply') return []
    const table = this.table(first.table)
    const records = removed.map(({ recordId, keyColumns }) => {
      if (table.key.some((name) => !keyColumns.includes(table.senderOf(name)))) throw unknownKey(table, first.table)
      return keyRecord(keyColumns, recordId)
    })
    return [table.sent(table.key, records)]
  }

  /** Those of which no part has the key of another document's part; what does not fit is left out whole. */
  private *fitting(documents: readonly AppliedDocument[]): Work<readonly AppliedDocument[]> {
    const fitting: AppliedDocument[] = []
    for (const document of documents) if (yield* this.fits(document, document.table, document.shape)) fitting.push(document)
    return fitting
  }

  private *fits(document: AppliedDocument, above: string, shape: readonly PartShape[]): Work<boolean> {
    const { mirroring } = this.context.database
    const records = recordsOf([document])
    for (const part of shape) {
      const table = this.table(part.table)
      const byKey = Object.fromEntries(table.key.map((name) => [name, name]))
      const there = yield* mirroring.strays(table.found([], []), byKey, table.sent(table.key, records.get(part.table) ?? []), [])
      const parents = this.table(above).sent(this.jointsAbove(this.table(above), [part]), records.get(above) ?? [])
      const own = new Set(there.length === 0 ? [] : yield* mirroring.strays(table.found([], []), this.joints(part, above), parents, []))
      if (there.some((record) => !own.has(record)) || !(yield* this.fits(document, part.table, part.parts))) return false
    }
    return true
  }

  /** Parts that a former version had and this one has not. */
  private *removeGone(documents: readonly AppliedDocument[], records: Records, isLast = false): Work<void> {
    const known = documents.filter((document) => !document.isNew)
    const [first] = known
    if (first === undefined) return
    const table = this.table(first.table)
    const roots = known.map(({ entries }) => entries[0]?.record as string)
    yield* this.removeParts([table.sent(this.jointsAbove(table, first.shape), roots)], first.shape, records, isLast, first.table)
  }

  /** Parts of the parents that the records don't have, those furthest down first. */
  private *removeParts(parents: readonly MirrorRows[], shape: readonly PartShape[], records: Records, isLast: boolean, root = ''): Work<void> {
    const { mirroring } = this.context.database
    for (const part of shape) {
      const table = this.table(part.table)
      const kept = records.get(part.table) ?? []
      const gone: string[] = []
      if (table.rows === 'all') {
        const keep = kept.length === 0 ? [] : [table.sent(table.key, kept)]
        for (const above of parents) gone.push(...(yield* mirroring.strays(table.found([], []), this.joints(part, above), above, keep)))
      }
      // A new document's part may take the key of one that is gone, and must not inherit what hung on it.
      const columns = this.jointsAbove(table, part.parts)
      yield* this.removeParts([table.sent(columns, kept), table.found(columns, gone)], part.parts, records, isLast, root)
      if (gone.length === 0) continue
      const remove = () => mirroring.remove(table.found(table.key, gone))
      if (isLast || !table.target.isReferredTo || this.context.targets === undefined) yield* remove()
      else if ((yield* mirroring.refusedBy(remove)) !== undefined) this.left(root).gone = true
    }
  }

  /** By which of its columns a part belongs to which of the table above, by the targets' names. */
  private joints(part: PartShape, above: string | MirrorRows): Readonly<Record<string, string>> {
    const parent = typeof above === 'string' ? this.table(above) : this.ofTarget(above.table)
    return Object.fromEntries(Object.entries(part.columns).map(([own, theirs]) => [this.table(part.table).nameOf(own), parent.nameOf(theirs)]))
  }

  private jointsAbove(table: MirrorTable, shape: readonly PartShape[]): readonly string[] {
    return [...new Set(shape.flatMap((part) => Object.values(part.columns).map((name) => table.nameOf(name))))]
  }

  private ofTarget(target: MirrorTarget): MirrorTable {
    return [...this.tables.values()].find((table) => table.target === target) as MirrorTable
  }

  private table(name: string): MirrorTable {
    return this.tables.get(name) as MirrorTable
  }

  private left(root: string): Left {
    const { targets = {} } = this.context
    const byRoot = leftOf.get(targets) ?? new Map<string, Left>()
    leftOf.set(targets, byRoot)
    const left = byRoot.get(root) ?? { again: new Set(), gone: false }
    byRoot.set(root, left)
    return left
  }

  /** Makes ready the tables of the documents, in the order in which they are written. @throws ERR_UNKNOWN_TABLE, ERR_NO_KEY, ERR_RULE */
  private *open(documents: readonly AppliedDocument[]): Work<void> {
    const root = documents[0]?.table ?? ''
    const joints = new Map<string, string[]>([[root, []]])
    for (const shape of new Set(documents.map((document) => document.shape))) addJoints(joints, root, shape)
    const names = [...joints.keys()].map((table) => [table, this.optionsOf(table, root).rename?.table ?? table] as const)
    const targets =
      this.context.targets ??
      (yield* readTargets(
        this.context.database,
        names.map(([, name]) => name),
      ))
    const order = [...targets.keys()]
    const tables = names.map(([table, name]) => {
      const target = checkTarget(targets.get(name), name)
      return [table, new MirrorTable(target, this.optionsOf(table, root), joints.get(table) ?? [], this.context.origin)] as const
    })
    this.tables = new Map(tables.sort(([, a], [, b]) => order.indexOf(a.target.name) - order.indexOf(b.target.name)))
  }
}

/** The till's columns by which parts and what is above them hang together. */
function addJoints(joints: Map<string, string[]>, above: string, shape: readonly PartShape[]): void {
  for (const part of shape) {
    joints.get(above)?.push(...Object.values(part.columns))
    joints.set(part.table, [...(joints.get(part.table) ?? []), ...Object.keys(part.columns)])
    addJoints(joints, part.table, part.parts)
  }
}

function recordsOf(documents: readonly AppliedDocument[]): Records {
  const records = new Map<string, string[]>()
  for (const { table, record } of documents.flatMap((document) => document.entries)) {
    const all = records.get(table) ?? []
    all.push(record as string)
    records.set(table, all)
  }
  return records
}

function unknownKey(table: MirrorTable, name: string): TillsyncError {
  return new TillsyncError(
    'ERR_MIRROR',
    `It is not known which of \`${table.target.name}\` is removed: the till's key of \`${name}\` has other columns`,
    {
      hint: "The primary key of the target has the same columns as the till's, beside `origin`.",
      context: { table: table.target.name },
    },
  )
}
