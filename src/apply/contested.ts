import type { OwnDocument, Published } from '../two-way.ts'
import type { Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import type { HandlersByTable } from './handler.ts'
import { isContested, type OwnSide, ownSides } from './own-documents.ts'
import { nameOf } from './received-documents.ts'

/** What documents of central's write to, of what is published here, and which of them must not: it was changed here, which central has not acknowledged. */
export interface Contest {
  readonly sides: readonly OwnSide[]
  /** By name. */
  readonly contested: ReadonlySet<string>
}

/** @param received the names of documents that central has sent before */
export function* contest(
  published: Published,
  mirrors: HandlersByTable,
  documents: readonly AppliedDocument[],
  received: ReadonlySet<string>,
): Work<Contest> {
  const sides = yield* ownSides(published, mirrors, documents)
  const going = yield* goingAway(published, sides, received)
  const contested = sides.filter((side) => isContested(published, mirrors, side, (own) => going.has(own)))
  return { sides, contested: new Set(contested.map(({ document }) => nameOf(document))) }
}

/** Documents that central has sent and that are not here: they were removed here. */
function* goingAway(published: Published, sides: readonly OwnSide[], received: ReadonlySet<string>): Work<ReadonlySet<OwnDocument>> {
  const gone = sides.flatMap(({ document, own }) =>
    document.removed || !received.has(nameOf(document)) ? [] : own.filter(([, { isThere, isSealed }]) => !isThere && isSealed),
  )
  const going = new Set<OwnDocument>()
  for (const [root, some] of Map.groupBy(gone, ([root]) => root)) {
    const ids = yield* published.goingAway(
      root,
      some.map(([, { recordId }]) => recordId),
    )
    for (const [, own] of some) if (ids.has(own.recordId)) going.add(own)
  }
  return going
}
