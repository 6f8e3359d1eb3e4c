import type { ApplyingDatabase, MirrorTarget, Work } from '../ports.ts'
import type { AppliedDocument } from './document-set.ts'
import type { Subscribed } from './handler.ts'

/** A set of documents in the order in which it is applied. */
export interface Arranged {
  /** Documents by root table: those that others refer to first. */
  readonly groups: readonly (readonly [table: string, documents: readonly AppliedDocument[]])[]
  /** The tables that mirrors write for them, in that order. */
  readonly targets: ReadonlyMap<string, MirrorTarget>
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
  const refers = (name: string, other: string) => known.get(name)?.foreignKeys.some(({ refersTo }) => refersTo === other) ?? false
  const ordered = parentsFirst(groups, (group, other) => group.names.some((name) => other.names.some((above) => refers(name, above))))
  const names = ordered.flatMap((group) => parentsFirst([...new Set(group.names)], refers))
  return {
    groups: ordered.map(({ table, documents }) => [table, documents]),
    targets: new Map(names.flatMap((name) => (known.has(name) ? [[name, known.get(name) as MirrorTarget]] : []))),
  }
}

/** Stable: each as early as its place in the list and what it refers to allow. */
function parentsFirst<T>(items: readonly T[], refers: (item: T, other: T) => boolean): readonly T[] {
  const left = [...items]
  const sorted: T[] = []
  while (left.length > 0) {
    const free = left.findIndex((item) => left.every((other) => other === item || !refers(item, other)))
    sorted.push(...left.splice(Math.max(free, 0), 1))
  }
  return sorted
}
