import type { Outcome } from './audience-slice.ts'
import type { AudienceSlices, AudienceSlicesOptions } from './audience-slices.ts'
import { nameOf } from './received-documents.ts'
import { type Cause, readWaiting, type WaitingName, waitingNames } from './waiting-documents.ts'

/** Documents that are tried at most at once; it is the turn of the others later. */
const MOST = 1_000
/** Documents, and about how many characters of them, that are read in one go. */
const TOGETHER = 100
const TOGETHER_SIZE = 1_048_576
const REFUSED: readonly Cause[] = ['missing', 'other']

/** Tries what waits: what refers to something that may have come, what is due, and what was changed here, once central has acknowledged that. */
export class WaitingTries {
  private readonly options: AudienceSlicesOptions
  private readonly slices: AudienceSlices
  /** What central had acknowledged before its last word, which brought no newer version. */
  private readonly settled = new Set<string>()

  constructor(options: AudienceSlicesOptions, slices: AudienceSlices) {
    this.options = options
    this.slices = slices
  }

  /** As many as are tried at once, due or not. */
  async all(tables: readonly string[], signal: AbortSignal, tell: (outcome: Outcome) => void): Promise<void> {
    await this.tryAgain(await this.names(tables, REFUSED, undefined), tables, signal, tell)
  }

  /**
   * @param refused what could not be applied just now
   * @param hasNews whether anything was: what waits for others may go
   */
  async afterTake(
    tables: readonly string[],
    refused: readonly WaitingName[],
    hasNews: boolean,
    signal: AbortSignal,
    tell: (outcome: Outcome) => void,
  ): Promise<void> {
    const due = await this.names(tables, REFUSED, new Date(this.options.clock.now()).toISOString())
    const waiting = refused.length > 0 ? REFUSED : hasNews ? (['missing'] as const) : []
    const others = waiting.length === 0 ? [] : await this.names(tables, waiting, undefined)
    const names = new Map([...refused, ...others, ...due].map((name) => [nameOf(name), name]))
    const left = await this.tryAgain([...names.values()], tables, signal, tell)
    // What holds each other's place goes together or not at all.
    const isSmall = left.length > 1 && left.length <= TOGETHER
    if (refused.length > 0 && isSmall && (await this.tryChunk(left, signal, tell, true)).length < left.length)
      await this.tryAgain(left, tables, signal, tell)
    await this.tryContested(tables, signal, tell)
  }

  private names(tables: readonly string[], causes: readonly Cause[], dueBy: string | undefined): Promise<readonly WaitingName[]> {
    const { database } = this.options
    return database.read(() => waitingNames(database, tables, causes, dueBy, MOST), { loosely: true })
  }

  /** Again and again, as long as any goes; what others refer to first. Answers those that do not. */
  private async tryAgain(
    names: readonly WaitingName[],
    tables: readonly string[],
    signal: AbortSignal,
    tell: (outcome: Outcome) => void,
  ): Promise<readonly WaitingName[]> {
    let left: readonly WaitingName[] = names.toSorted((a, b) => tables.indexOf(a.table) - tables.indexOf(b.table))
    for (let before = Number.POSITIVE_INFINITY; left.length > 0 && left.length < before; ) {
      before = left.length
      const refused: WaitingName[] = []
      for (const chunk of chunksOf(left)) refused.push(...(await this.tryChunk(chunk, signal, tell)))
      left = refused
    }
    return left
  }

  /** Answers those that were refused again. */
  private async tryChunk(
    chunk: readonly WaitingName[],
    signal: AbortSignal,
    tell: (outcome: Outcome) => void,
    isOne = false,
  ): Promise<readonly WaitingName[]> {
    const { database } = this.options
    const arrivals = await database.read(() => readWaiting(database, chunk), { loosely: true })
    const refused = new Set<string>()
    if (arrivals.length === 0) return []
    await this.slices.apply(arrivals, { isOne }, signal, (outcome) => {
      for (const one of outcome.waits) if (one.verdict.cause !== 'changed') refused.add(nameOf(one))
      tell(outcome)
    })
    return chunk.filter((name) => refused.has(nameOf(name)))
  }

  /**
   * What was changed here wins, until central has acknowledged that and has had an exchange to send what it made of both; where it has made nothing of it, what it had sent
   * is how it is there.
   */
  private async tryContested(tables: readonly string[], signal: AbortSignal, tell: (outcome: Outcome) => void): Promise<void> {
    const names = await this.names(tables, ['changed'], undefined)
    const settled = new Set(this.settled)
    this.settled.clear()
    for (const chunk of chunksOf(names)) {
      const contested = await this.slices.contested(chunk)
      const ready = chunk.filter((name) => !contested.has(nameOf(name)) && settled.has(nameOf(name)))
      for (const name of chunk) if (!contested.has(nameOf(name)) && !settled.has(nameOf(name))) this.settled.add(nameOf(name))
      if (ready.length > 0) await this.tryChunk(ready, signal, tell)
    }
  }
}

function* chunksOf(names: readonly WaitingName[]): Generator<readonly WaitingName[]> {
  for (let from = 0; from < names.length; ) {
    let [to, size] = [from, 0]
    while (to < names.length && to - from < TOGETHER && (to === from || size + (names[to]?.size ?? 0) <= TOGETHER_SIZE)) size += names[to++]?.size ?? 0
    yield names.slice(from, to)
    from = to
  }
}
