import type { ForeignKey, MirrorTarget } from '../mirroring.ts'
import type { ApplyingDatabase } from '../ports.ts'
import type { Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import type { Subscribed } from './handler.ts'

/** A set of documents in the order in which it is applied. */
export interface Arranged {
  /** Documents by root table: those that others refer to first. */
  readonly groups: readonly (readonly [table: string, documents: readonly AppliedDocument[]])[]
  /** The tables that mirrors write for them, in that order. */
  readonly targets: ReadonlyMap<string, MirrorTarget>
  /** The order in which those are emptied of what goes, where documents of one root table can't all go before those of another: rows of the one need rows of the other, and the other way round. */
  readonly emptied: readonly string[] | undefined
}

/**
 * Arranges a set by the foreign keys of the tables that mirrors write: parents first. Where they go in a circle, or say nothing, the order in which the host
 * subscribes decides.
 */
export function* arrange(database: ApplyingDatabase, subscribed: Subscribed, set: readonly AppliedDocument[]): Work<Arranged> {
  const byTable = Map.groupBy(set, (document) => document.table)
  const groups = [...subscribed].flatMap(([table, handlers]) => {
    const documents = byTable.get(table)
    return documents ? [{ table, documents, names: handlers.flatMap((handler) => handler.targets?.(documents) ?? []) }] : []
  })
  const all = [...new Set(groups.flatMap(({ names }) => names))]
  const known = all.length === 0 ? new Map<string, MirrorTarget>() : yield* database.mirroring.targets(all)
  const refers = referring(known)
  const ordered = sortRoots(groups, refers)
  const names = ordered.flatMap((group) => parentsFirst([...new Set(group.names)], refers))
  const needsLater = ordered.some((group, n) =>
    group.names.some((name) => ordered.slice(n + 1).some((later) => later.names.some((other) => refers(name, other, true)))),
  )
  return {
    emptied: needsLater ? parentsFirst([...new Set(names)], refers).toReversed() : undefined,
    groups: ordered.map(({ table, documents }) => [table, documents]),
    targets: new Map(names.flatMap((name) => (known.has(name) ? [[name, known.get(name) as MirrorTarget]] : []))),
  }
}

/** The tables of these names, parents first. */
export function inReferenceOrder(names: readonly string[], known: ReadonlyMap<string, MirrorTarget>): ReadonlyMap<string, MirrorTarget> {
  return new Map(parentsFirst([...new Set(names)], referring(known)).map((name) => [name, known.get(name) as MirrorTarget]))
}

/** Root tables in the order in which their documents are applied, each with the tables that those are written to. */
export function rootsInOrder(
  roots: readonly { readonly table: string; readonly names: readonly string[] }[],
  known: ReadonlyMap<string, MirrorTarget>,
): readonly string[] {
  return sortRoots(roots, referring(known)).map(({ table }) => table)
}

function sortRoots<T extends { readonly names: readonly string[] }>(roots: readonly T[], refers: ReturnType<typeof referring>): readonly T[] {
  return parentsFirst(roots, (root, other, isNeeded) => root.names.some((name) => other.names.some((above) => refers(name, above, isNeeded))))
}

function referring(known: ReadonlyMap<string, MirrorTarget>): (name: string, other: string, isNeeded: boolean) => boolean {
  return (name, other, isNeeded) => {
    const table = known.get(name)
    return table?.foreignKeys.some((one) => one.refersTo === other && !(isNeeded && isOpen(table, one))) ?? false
  }
}

/** Whether a row can be written without it for a while. */
function isOpen(table: MirrorTarget, { columns, deferrable }: ForeignKey): boolean {
  return deferrable || columns.some((name) => !table.key.includes(name) && table.columns.some((column) => column.name === name && column.nullable))
}

/** Stable: each as early as its place in the list and what it refers to allow; in a circle what it needs. */
function parentsFirst<T>(items: readonly T[], refers: (item: T, other: T, isNeeded: boolean) => boolean): readonly T[] {
  const left = [...items]
  const sorted: T[] = []
  const free = (isNeeded: boolean) => left.findIndex((item) => left.every((other) => other === item || !refers(item, other, isNeeded)))
  while (left.length > 0) {
    const [first, needed] = [free(false), free(true)]
    sorted.push(...left.splice(first !== -1 ? first : Math.max(needed, 0), 1))
  }
  return sorted
}
