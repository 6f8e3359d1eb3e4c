import type { ApplyingDatabase } from '../ports.ts'
import type { Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext, Handler, HandlersByTable } from './handler.ts'
import { arrange } from './references.ts'

/** Runs what a handler does with documents, all of one table. */
export type RunHandler = (handler: Handler, documents: readonly AppliedDocument[], work: Work<void>) => Work<void>

/** Applies a set: what others refer to first, by the foreign keys of the tables that mirrors write; removals the other way round. */
export function* applyInOrder(
  database: ApplyingDatabase,
  handlers: HandlersByTable,
  documents: readonly AppliedDocument[],
  outer: ApplyContext,
  run: RunHandler,
): Work<void> {
  if (documents.length === 0) return
  const { groups, targets, emptied } = yield* arrange(database, handlers, documents)
  const context = { ...outer, targets, emptied }
  if ([...targets.values()].some(({ isDeferrable }) => isDeferrable)) yield* database.mirroring.defer()
  const all = groups.flatMap(([table, group]) => (handlers.get(table) ?? []).map((handler) => [handler, group] as const))
  for (const [handler, group] of all) yield* run(handler, group, handler.apply(group, context))
  for (const isLast of [false, true])
    for (const [handler, group] of all) if (handler.complete) yield* run(handler, group, handler.complete(group, context, isLast))
  const clear = function* (step: 'loosen' | 'remove', table?: string): Work<void> {
    for (const [handler, group] of all.toReversed()) {
      const isMeant = table === undefined || handler.targets?.(group).includes(table)
      if (handler.clear && isMeant) yield* run(handler, group, handler.clear(group, context, step, table))
    }
  }
  yield* clear('loosen')
  for (const table of emptied ?? [undefined]) yield* clear('remove', table)
}
