import type { RegisterName } from '../model.ts'
import type { ApplyingDatabase, QuarantinedDocument } from '../ports.ts'
import type { Work } from '../work.ts'
import type { AppliedDocument, Origin } from './document-set.ts'
import type { Handler } from './handler.ts'
import { type Circumstances, Handling, type Subscribed } from './handling.ts'
import { Quarantine } from './quarantine.ts'
import type { Division, Failed } from './quarantine-division.ts'
import type { Priors } from './quarantine-row.ts'
import { lockRegister } from './register-row.ts'
import { documentsIn, type ReplayedDocument, type Stretch, type WhichVersions } from './replay-versions.ts'

/** What is replayed of a register in one transaction. */
export interface ReplaySlice extends Stretch {
  readonly register: RegisterName
  readonly epoch: string
}

/** What is replayed: documents of root tables, each by its handlers. */
export interface ReplayPlan extends WhichVersions {
  takes(handler: Handler, table: string): boolean
}

export interface ReplayedSlice {
  /** A removal counts where nothing came before it. */
  readonly documents: number
  readonly postings: number
  readonly refused: number
  readonly quarantined: readonly QuarantinedDocument[]
}

/**
 * Runs handlers again over what stands in a stretch of a register's entries, inside the caller's transaction. Closings that have their own entries behind it are left open, for more of their receipts is to come.
 *
 * @throws ERR_BUSY (retryable) where another process works for this register; and what handlers throw by no fault of a document
 */
export function* replaySlice(
  database: ApplyingDatabase,
  subscribed: Subscribed,
  slice: ReplaySlice,
  plan: ReplayPlan,
  division: Division,
  now: number,
): Work<ReplayedSlice> {
  const { register, registerId, epoch, epochNo, through } = slice
  yield* lockRegister(database, registerId)
  const handling = new Handling(database, subscribed, division)
  const quarantine = new Quarantine(database, registerId, subscribed.retry, now)
  yield* handling.begin(registerId)
  const all = yield* documentsIn(database, slice, plan)
  yield* quarantine.load(all.map(({ document }) => document))
  const replay = new Replay(handling, quarantine, { ...register, registerId, epoch, epochNo }, plan)
  for (const { documents, ...circumstances } of inSets(all)) yield* replay.apply(documents, circumstances)
  yield* handling.finish({ epochNo, entryNo: through })
  const documents = all.filter(({ document, applied }) => !document.removed || applied === undefined).length
  return { documents, postings: handling.postings, refused: replay.refused, quarantined: quarantine.outcome.quarantined }
}

/** Documents that are applied together. */
interface ReplayedSet {
  readonly documents: readonly ReplayedDocument[]
  readonly late: boolean
  readonly ledgersOnly: boolean
  /** Whether what they did is taken back by handlers that do so. */
  readonly isOver: boolean
}

/** What is gone first, so that what is there takes from it what it has by now. In each set a key stands once. */
function inSets(all: readonly ReplayedDocument[]): readonly ReplayedSet[] {
  const ordered = all.toSorted((a, b) => rankOf(a) - rankOf(b))
  const groups = Map.groupBy(ordered, ({ document, fate }) => {
    const circumstances = { late: fate !== 'present' && !document.removed, ledgersOnly: fate === 'former', isOver: document.removal !== undefined }
    return JSON.stringify(circumstances)
  })
  return [...groups].flatMap(([circumstances, documents]) => onceEach(documents).map((set) => ({ documents: set, ...JSON.parse(circumstances) })))
}

/** A key may have several former lives. */
function onceEach(documents: readonly ReplayedDocument[]): readonly (readonly ReplayedDocument[])[] {
  const seen = new Map<string, number>()
  const groups = Map.groupBy(documents, ({ document: { table, recordId } }) => {
    const key = `${table}\n${recordId}`
    const count = (seen.get(key) ?? 0) + 1
    seen.set(key, count)
    return count
  })
  return [...groups.values()]
}

function rankOf({ document, fate }: ReplayedDocument): number {
  return document.removed ? 4 : ['former', 'removed', 'lost', 'present'].indexOf(fate)
}

class Replay {
  /** Documents that a check refuses, and of which nothing would be posted. */
  refused = 0
  private readonly handling: Handling
  private readonly quarantine: Quarantine
  private readonly origin: Origin
  private readonly plan: ReplayPlan

  constructor(handling: Handling, quarantine: Quarantine, origin: Origin, plan: ReplayPlan) {
    this.handling = handling
    this.quarantine = quarantine
    this.origin = origin
    this.plan = plan
  }

  *apply(all: readonly ReplayedDocument[], { late, ledgersOnly, isOver }: Omit<ReplayedSet, 'documents'>): Work<void> {
    const takes = (handler: Handler, table: string): boolean => this.plan.takes(handler, table) && !(isOver && handler.removals === 'apply')
    const circumstances: Circumstances = { origin: this.origin, late, overtaken: 'leave', ledgersOnly, takes }
    const documents = all.map(({ document }) => document)
    const refused = yield* this.handling.validate(documents, this.origin)
    const differing =
      refused.length === 0
        ? new Set()
        : yield* this.handling.differing(
            refused.map(({ document }) => document),
            circumstances,
          )
    const left = new Set(refused.map(({ document }) => document))
    yield* this.hold(
      refused.filter(({ document }) => differing.has(document)),
      all,
    )
    yield* this.run(
      documents.filter((document) => !left.has(document)),
      all,
      circumstances,
    )
    // They stand where they were: nothing more is posted of them, or done by the host.
    const standing = documents.filter((document) => left.has(document) && !differing.has(document))
    this.refused += standing.length
    const isCopy = ({ ledger, isHosts }: Handler) => ledger === undefined && !isHosts
    yield* this.run(standing, all, { ...circumstances, takes: (handler, table) => isCopy(handler) && takes(handler, table) })
  }

  private *run(documents: readonly AppliedDocument[], all: readonly ReplayedDocument[], circumstances: Circumstances): Work<void> {
    if (documents.length === 0) return
    yield* this.handling.apply(documents, circumstances, { *applied() {}, failed: (failed) => this.hold([failed], all) })
  }

  /** Of one that waits a newer version does: that one says what is wrong. */
  private *hold(failed: readonly Failed[], all: readonly ReplayedDocument[]): Work<void> {
    const of = new Map(all.map((one) => [one.document, one]))
    const held = failed.filter(({ document }) => !of.get(document)?.waits)
    yield* this.quarantine.hold(held, priorsOf(all), this.origin)
  }
}

/** What is applied of them. */
function priorsOf(all: readonly ReplayedDocument[]): Priors {
  return new Map(
    all.flatMap(({ document: { table, recordId, incarnation }, applied }) =>
      applied === undefined ? [] : [[`${table}\n${recordId}`, { incarnation, ...applied }] as const],
    ),
  )
}
