import type { AudienceBatch, AudienceRequest, AudienceStanding } from '../model.ts'
import type { Clock, PublishingDatabase } from '../ports.ts'
import type { Work } from '../work.ts'
import { type AudienceCut, begunOf, cutAudience, type GivenDocuments, isOurs, type SentRoot } from './audience-batch.ts'
import { audiencesAt, isKeyedAs } from './audiences.ts'
import { withinLimit } from './filter-limit.ts'
import { roomIn } from './limits.ts'
import { RecentCuts } from './recent-cuts.ts'
import { pendingReseals } from './reseal.ts'

export interface AudienceCuttingOptions {
  readonly database: PublishingDatabase
  readonly clock: Clock
  /** How long a statement may take that asks filters, in milliseconds. */
  readonly filterTimeoutMs: number
  /** No message is larger, whatever a register says that it reads. */
  readonly maxMessageBytes: number
  /** What a register gives to a table; undefined where registers give nothing to it. */
  given(registerId: number, table: string): GivenDocuments | undefined
  /** An audience is not there any more. */
  forget(id: number | undefined): void
}

/** The root tables as they are sent, and the schema that this was planned for. */
export interface SentRoots {
  readonly roots: ReadonlyMap<string, SentRoot>
  readonly schema: string
}

/** What a register is to have next. */
export interface Cuts {
  readonly cuts: readonly AudienceCut[]
  /** Whether all that stood there was sealed, but for what a reseal may find. */
  readonly isSealed: boolean
  /** Whether the tables stood as planned. Otherwise what was cut may lack what was sealed by a newer plan, and the register would never hear of it. */
  readonly isCurrent: boolean
  readonly isResealing: boolean
  /** Whether an audience of the register's is not there any more. */
  readonly isGone: boolean
}

/** More is not sent at once, but for a larger document. */
const MOST_RECORDS = 10_000
const MOST_BYTES = 8_388_608
/** For so many registers at once what comes next is cut before they ask: each takes a connection of the host's pool meanwhile. */
const MOST_AHEAD = 2

/** Cuts for each register what it is to have next; and once more ahead, while the register applies what it got. */
export class AudienceCutting {
  private readonly options: AudienceCuttingOptions
  private readonly recent: RecentCuts
  /** By register. */
  private readonly coming = new Map<number, Promise<unknown>>()

  constructor(options: AudienceCuttingOptions) {
    this.options = options
    this.recent = new RecentCuts(options.clock)
  }

  /** In the order in which the register asks: what others refer to comes first. */
  *cut(
    registerId: number,
    asked: readonly AudienceStanding[],
    { roots, schema }: SentRoots,
    ids: ReadonlyMap<string, number>,
    request: AudienceRequest,
  ): Work<Cuts> {
    const { database } = this.options
    // What is not sealed may be another's by now; then what was cut before is not to be told.
    const isSealed = !(yield* database.capture.touched())
    const isCurrent = (yield* database.capture.schemaVersion()) === schema
    const audiences = yield* audiencesAt(database, [...ids.values()])
    const cuts: AudienceCut[] = []
    // However much it asks for: that is held in memory.
    const mostBytes = roomIn({ message: Math.min(request.message, this.options.maxMessageBytes), document: 0 })
    let isResealing: boolean | undefined
    let isGone = false
    let records = Math.min(request.records, MOST_RECORDS)
    let bytes = Math.min(request.bytes, MOST_BYTES, mostBytes)
    for (const standing of asked) {
      const audience = audiences.get(ids.get(standing.table) ?? 0)
      const root = roots.get(standing.table)
      if (root === undefined) continue
      // It was pruned or given up, or is to be: its documents are named by a key that the table has no more.
      if (audience === undefined || !isKeyedAs(database, root.root, audience)) {
        this.options.forget(ids.get(standing.table))
        isGone ||= ids.has(standing.table)
        continue
      }
      const isKnown = yield* isOurs(database, audience, standing)
      if (isKnown && standing.entryNo === audience.head_no) continue
      const after = isKnown ? standing.entryNo : 0
      const begun = after === 0 ? audience.head_no : begunOf(standing)
      const given = begun > after ? this.options.given(registerId, standing.table) : undefined
      const from = { after, begun: begun > after ? begun : 0, given }
      const limits = { records, bytes, mostBytes }
      const cutNow = () =>
        withinLimit(database, this.options.filterTimeoutMs, standing.table, () => cutAudience(database, root, audience, from, limits))
      isResealing ??= (yield* pendingReseals(database)).length > 0
      const where = [audience.mark, from.after, from.begun, given && registerId, records, bytes, mostBytes]
      const cut: AudienceCut = isSealed && isCurrent && !isResealing ? yield* this.recent.take(where, cutNow) : yield* cutNow()
      cuts.push(cut)
      records -= cut.records
      bytes -= cut.bytes
      // What comes behind may refer to what is still to come.
      if (!cut.batch.isEnd || records <= 0 || bytes <= 0) break
    }
    return { cuts, isSealed, isCurrent, isResealing: isResealing ?? false, isGone }
  }

  /** What a register that has got these batches asks for next. Nothing depends on it: where it fails, or nobody asks, it is made again, or forgotten. */
  ahead(
    registerId: number,
    asked: readonly AudienceStanding[],
    sent: SentRoots,
    ids: ReadonlyMap<string, number>,
    request: AudienceRequest,
    batches: readonly AudienceBatch[],
  ): void {
    if (batches.every(({ isEnd }) => isEnd) || this.coming.has(registerId) || this.coming.size >= MOST_AHEAD || this.recent.isFull) return
    const got = new Map(batches.map((batch) => [batch.table, batch]))
    const next = asked.map((standing) => {
      const batch = got.get(standing.table)
      return batch === undefined ? standing : { table: standing.table, stream: batch.stream, entryNo: batch.through, mark: batch.mark }
    })
    const cut = this.options.database
      .read(() => this.cut(registerId, next, sent, ids, request))
      .catch(() => undefined)
      .finally(() => this.coming.delete(registerId))
    this.coming.set(registerId, cut)
  }

  /** What is being cut ahead for the register is there, or is not going to be. */
  async awaited(registerId: number): Promise<void> {
    await this.coming.get(registerId)
  }

  /** Waits for what is under way. */
  async stop(): Promise<void> {
    await Promise.all(this.coming.values())
  }
}
