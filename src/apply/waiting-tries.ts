import type { Outcome } from './audience-slice.ts'
import type { AudienceSlices, AudienceSlicesOptions } from './audience-slices.ts'
import { nameOf } from './received-documents.ts'
import type { Outlook } from './subscription-outlook.ts'
import { type Cause, dueNames, readWaiting, type WaitingName, waitingNames } from './waiting-documents.ts'

/** Documents whose names are read in one go. */
const PAGE = 500
/** Documents, and about how many characters of them, that are read in one go. */
const TOGETHER = 100
const TOGETHER_SIZE = 1_048_576
/** How long it is tried at a time, in milliseconds; then it is the turn of others. */
const BUDGET_MS = 1_000
const REFUSED: readonly Cause[] = ['missing', 'other']

/** Where documents are tried again, and who is told. */
export interface Tries {
  readonly outlook: Pick<Outlook, 'tables' | 'areRelated'>
  readonly signal: AbortSignal
  tell(outcome: Outcome): void
}

/** A way through all that waits in some tables, as far as it has come. */
interface Sweep {
  readonly causes: readonly Cause[]
  readonly tables: readonly string[]
  at: number
  after: string
  /** Where something has come since it began: they are gone through once more. */
  readonly again: Set<string>
}

/** Tries what waits: what refers to something that may have come, what is due, and what was changed here, once central has acknowledged that. */
export class WaitingTries {
  private readonly options: AudienceSlicesOptions
  private readonly slices: AudienceSlices
  private sweep: Sweep | undefined
  /** What central had acknowledged before its last word, which brought no newer version. */
  private settled: ReadonlySet<string> = new Set()

  constructor(options: AudienceSlicesOptions, slices: AudienceSlices) {
    this.options = options
    this.slices = slices
  }

  /** All that was refused, due or not. */
  async all(tries: Tries): Promise<void> {
    this.sweep = { causes: REFUSED, tables: tries.outlook.tables, at: 0, after: '', again: new Set() }
    await this.goOn(tries, new Set())
  }

  /**
   * @param refused what could not be applied just now
   * @param news the root tables of which anything was: what waits for it may go
   */
  async afterTake(tries: Tries, refused: readonly WaitingName[], news: ReadonlySet<string>): Promise<void> {
    const { database, clock } = this.options
    const { tables, areRelated } = tries.outlook
    const due = await database.read(() => dueNames(database, tables, REFUSED, new Date(clock.now()).toISOString(), PAGE), { loosely: true })
    const hopeful = refused.filter(({ table, cause }) => [...news].some((one) => (cause === 'other' ? one === table : areRelated(one, table))))
    const names = new Map([...hopeful, ...due].map((name) => [nameOf(name), name]))
    await this.tryAgain([...names.values()], tries)
    // What holds each other's place, or refers to each other, goes together or not at all.
    const left = await this.stillWaiting(refused)
    const mayHelp = (a: WaitingName, b: WaitingName) => a !== b && (a.cause === 'other' ? a.table === b.table : areRelated(a.table, b.table))
    if (left.length > 1 && left.length <= TOGETHER && left.some((a) => left.some((b) => mayHelp(a, b)))) await this.tryChunk(left, tries, true)
    const tried = new Set([...names.keys(), ...refused.map(nameOf)])
    for (const table of tables.filter((table) => [...news].some((one) => areRelated(one, table)))) {
      if (this.sweep === undefined) this.sweep = { causes: ['missing'], tables: [table], at: 0, after: '', again: new Set() }
      else this.sweep.again.add(table)
    }
    await this.goOn(tries, tried)
    await this.tryContested(tries)
  }

  private async stillWaiting(names: readonly WaitingName[]): Promise<readonly WaitingName[]> {
    const { database } = this.options
    if (names.length < 2 || names.length > TOGETHER) return []
    const waiting = new Set((await database.read(() => readWaiting(database, names))).map(nameOf))
    return names.filter((name) => waiting.has(nameOf(name)))
  }

  /** Goes on through what waits; what there is no time for now is tried next time. */
  private async goOn(tries: Tries, tried: ReadonlySet<string>): Promise<void> {
    const { database } = this.options
    const until = performance.now() + BUDGET_MS
    for (let sweep = this.sweep; sweep !== undefined && performance.now() < until; sweep = this.sweep) {
      const { tables, causes, at, after, again } = sweep
      const table = tables[at]
      if (table === undefined) {
        this.sweep = again.size === 0 ? undefined : { causes: ['missing'], tables: [...again], at: 0, after: '', again: new Set() }
        continue
      }
      const page = await database.read(() => waitingNames(database, table, causes, after, PAGE), { loosely: true })
      const hopeful = page.filter((name) => !tried.has(nameOf(name)))
      const { outlook } = tries
      if ((await this.tryAgain(hopeful, tries)).length < hopeful.length)
        for (const other of outlook.tables) if (outlook.areRelated(table, other)) again.add(other)
      if (page.length === PAGE) sweep.after = page.at(-1)?.recordId ?? after
      else Object.assign(sweep, { at: at + 1, after: '' })
    }
  }

  /** Again and again, as long as any goes; what others refer to first. Answers those that do not. */
  private async tryAgain(names: readonly WaitingName[], tries: Tries): Promise<readonly WaitingName[]> {
    const { tables } = tries.outlook
    let left: readonly WaitingName[] = names.toSorted((a, b) => tables.indexOf(a.table) - tables.indexOf(b.table))
    for (let before = Number.POSITIVE_INFINITY; left.length > 0 && left.length < before; ) {
      before = left.length
      const refused: WaitingName[] = []
      for (const chunk of chunksOf(left)) refused.push(...(await this.tryChunk(chunk, tries)))
      left = refused
    }
    return left
  }

  /** Answers those that were refused again. */
  private async tryChunk(chunk: readonly WaitingName[], { signal, tell }: Tries, isOne = false): Promise<readonly WaitingName[]> {
    const { database } = this.options
    const arrivals = await database.read(() => readWaiting(database, chunk))
    if (arrivals.length === 0) return []
    const refused = new Set<string>()
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
  private async tryContested(tries: Tries): Promise<void> {
    const { database } = this.options
    const settled = new Set<string>()
    for (const table of tries.outlook.tables) {
      for (let after = '', more = true; more; ) {
        const page = await database.read(() => waitingNames(database, table, ['changed'], after, PAGE), { loosely: true })
        for (const chunk of chunksOf(page)) {
          const contested = await this.slices.contested(chunk)
          const clear = chunk.filter((name) => !contested.has(nameOf(name)))
          const ready = clear.filter((name) => this.settled.has(nameOf(name)))
          if (ready.length > 0) await this.tryChunk(ready, tries)
          for (const name of clear) settled.add(nameOf(name))
        }
        more = page.length === PAGE
        after = page.at(-1)?.recordId ?? after
      }
    }
    this.settled = settled
  }
}

function* chunksOf(names: readonly WaitingName[]): Generator<readonly WaitingName[]> {
  for (let from = 0; from < names.length; ) {
    let [to, size] = [from, 0]
    while (to < names.length && to - from < TOGETHER && (to === from || size + (names[to]?.size ?? 0) <= TOGETHER_SIZE))
      size += names[to++]?.size ?? 0
    yield names.slice(from, to)
    from = to
  }
}
