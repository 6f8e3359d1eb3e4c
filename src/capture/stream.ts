import type { Batch, PartShape, Point } from '../model.ts'
import type { CapturingDatabase } from '../ports.ts'
import type { Work } from '../work.ts'
import { type BatchLimits, cutBatch } from './log.ts'
import type { CapturePlan } from './plan.ts'
import type { PartSpec } from './rules.ts'

/** The next batch of a stream, or the next frame of the document that begins at `base`, with the shapes of its documents as the rules have them now. */
export function* readBatch(
  database: CapturingDatabase,
  plan: CapturePlan,
  epoch: string,
  after: Point,
  limits: BatchLimits,
  base?: Point,
): Work<Batch | undefined> {
  const batch = yield* cutBatch(database, epoch, after, limits, base)
  if (batch === undefined) return undefined
  const roots = [...new Set(batch.entries.map((entry) => entry.document.table))]
  const shapes = Object.fromEntries(roots.map((root) => [root, (plan.roots.get(root)?.spec.parts ?? []).map(shapeOf)]))
  const identities = Object.fromEntries(
    roots.flatMap((root) => {
      const columns = plan.roots.get(root)?.spec.identity ?? []
      return columns.length === 0 ? [] : [[root, columns]]
    }),
  )
  const keys = Object.fromEntries(roots.flatMap((root) => (plan.roots.has(root) ? [[root, plan.roots.get(root)?.key as readonly string[]]] : [])))
  return { ...batch, shapes, identities, keys }
}

function shapeOf(part: PartSpec): PartShape {
  const columns = Object.fromEntries(part.parent.own.map((own, n) => [own, part.parent.others[n] as string]))
  return { table: part.table, columns, parts: part.parts.map(shapeOf) }
}
