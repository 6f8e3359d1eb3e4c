import type { Mirroring, MirrorRows, MirrorTarget } from '../mirroring.ts'
import type { Entry, PartShape, Value } from '../model.ts'
import type { Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext } from './handler.ts'
import type { PlainMirrorOptions } from './mirror-options.ts'
import { MirrorTable } from './mirror-table.ts'
import { checkTarget, readTargets } from './mirror-target.ts'
import { inReferenceOrder } from './references.ts'

/** What holds for a table of documents of a root. */
export type OptionsOf = (table: string, root: string) => PlainMirrorOptions

/** Records by the till's tables. */
export type Records = ReadonlyMap<string, readonly string[]>

/** What a set of documents has left for when other tables are written. */
export interface Left {
  /** The till's tables that are to be written once more: a row of them refers to one that was not there yet. */
  readonly again: Set<string>
  /** Their targets' names. */
  readonly names: Set<string>
  /** Whether parts that are gone were still referred to. */
  gone: boolean
}

/** By the set, which is known by its targets, and root table. */
const leftOf = new WeakMap<object, Map<string, Left>>()

/** One set of documents of a root table, with the tables that they are mirrored to. */
export class MirrorSet {
  readonly documents: readonly AppliedDocument[]
  readonly context: ApplyContext
  /** By the till's names, in the order in which they are written. */
  readonly tables: ReadonlyMap<string, MirrorTable>
  /** The targets' names in that order, those of other root tables in the set among them. */
  readonly order: readonly string[]

  private constructor(
    documents: readonly AppliedDocument[],
    context: ApplyContext,
    tables: ReadonlyMap<string, MirrorTable>,
    order: readonly string[],
  ) {
    this.documents = documents
    this.context = context
    this.tables = tables
    this.order = order
  }

  /** @throws ERR_UNKNOWN_TABLE, ERR_NO_KEY, ERR_RULE */
  static *open(documents: readonly AppliedDocument[], context: ApplyContext, optionsOf: OptionsOf): Work<MirrorSet> {
    const root = documents[0]?.table ?? ''
    const joints = new Map<string, string[]>([[root, []]])
    for (const shape of new Set(documents.map((document) => document.shape))) addJoints(joints, root, shape)
    const names = [...joints.keys()].map((table) => [table, optionsOf(table, root).rename?.table ?? table] as const)
    const own = names.map(([, name]) => name)
    const targets = context.targets ?? inReferenceOrder(own, yield* readTargets(context.database, own))
    const order = [...targets.keys()]
    const tables = names.map(([table, name]) => {
      const target = checkTarget(targets.get(name), name)
      return [table, new MirrorTable(target, optionsOf(table, root), joints.get(table) ?? [], context)] as const
    })
    const sorted = tables.sort(([, a], [, b]) => order.indexOf(a.target.name) - order.indexOf(b.target.name))
    return new MirrorSet(documents, context, new Map(sorted), order)
  }

  get mirroring(): Mirroring {
    return this.context.database.mirroring
  }

  get root(): string {
    return this.documents[0]?.table ?? ''
  }

  /** What other parts of the work on the set have left. */
  static left(context: ApplyContext, root: string): Left {
    const { targets = {} } = context
    const byRoot = leftOf.get(targets) ?? new Map<string, Left>()
    leftOf.set(targets, byRoot)
    const left = byRoot.get(root) ?? { again: new Set(), names: new Set(), gone: false }
    byRoot.set(root, left)
    return left
  }

  get left(): Left {
    return MirrorSet.left(this.context, this.root)
  }

  /** Whether a row of the table may refer to one that is written after it, or was left until later. */
  mayBeEarly(table: MirrorTarget): boolean {
    const { targets } = this.context
    if (targets === undefined || !targets.has(table.name)) return false
    const late = new Set([...(leftOf.get(targets)?.values() ?? [])].flatMap(({ names }) => [...names]))
    const at = this.order.indexOf(table.name)
    return table.foreignKeys.some(({ refersTo }) => this.order.indexOf(refersTo) >= at || late.has(refersTo))
  }

  table(name: string): MirrorTable {
    return this.tables.get(name) as MirrorTable
  }

  /** By which of its columns a part belongs to which of the table above, by the targets' names. */
  joints(part: PartShape, above: string): Readonly<Record<string, string>> {
    const [own, parent] = [this.table(part.table), this.table(above)]
    return Object.fromEntries(Object.entries(part.columns).map(([column, theirs]) => [own.nameOf(column), parent.nameOf(theirs)]))
  }

  /** The columns of a table that its parts refer to. */
  jointsAbove(table: MirrorTable, shape: readonly PartShape[]): readonly string[] {
    return [...new Set(shape.flatMap((part) => Object.values(part.columns).map((name) => table.nameOf(name))))]
  }

  /** The rows of the target that are like these in their columns, and none of those that are kept. */
  *found(table: MirrorTable, rows: MirrorRows, kept: readonly MirrorRows[] = []): Work<readonly string[]> {
    return yield* this.mirroring.strays(table.found([], []), Object.fromEntries(rows.columns.map((name) => [name, name])), rows, kept)
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

/** The same, as values. */
export function valuesOf(documents: readonly AppliedDocument[]): ReadonlyMap<string, readonly Readonly<Record<string, Value>>[]> {
  const values = new Map<string, Readonly<Record<string, Value>>[]>()
  for (const document of documents) {
    for (const [n, row] of document.values().entries()) {
      const { table } = document.entries[n] as Entry
      const all = values.get(table)
      if (all === undefined) values.set(table, [row])
      else all.push(row)
    }
  }
  return values
}

export function recordsOf(documents: readonly AppliedDocument[]): Records {
  const records = new Map<string, string[]>()
  for (const document of documents) {
    for (const [n, record] of document.records().entries()) {
      const { table } = document.entries[n] as Entry
      const all = records.get(table)
      if (all === undefined) records.set(table, [record])
      else all.push(record)
    }
  }
  return records
}
