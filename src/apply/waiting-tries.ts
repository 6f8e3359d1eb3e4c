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
const REFUSED: readonly Cause[] = ['missing', 'taken', 'other']
/** Of these one may hold up another. */
const BOUND: readonly Cause[] = ['missing', 'taken']

/** Where documents are tried again, and who is told. */
export interface Tries {
  readonly outlook: Pick<Outlook, 'tables' | 'areRelated'>
  readonly signal: AbortSignal
  tell(outcome: Outcome): void
}

/** A way through all that waits in some tables, as far as it has come. */
interface Sweep {
  readonly steps: readonly (readonly [table: string, causes: readonly Cause[]])[]
  at: number
  after: string
  /** The root tables of which something has come since it began. */
  readonly news: Set<string>
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
    this.again(tries.outlook)
    await this.goOn(tries)
  }

  /** All that was refused is tried with what comes next, due or not. */
  again({ tables }: Tries['outlook']): void {
    this.sweep = begin(tables.map((table) => [table, REFUSED]))
  }

  /**
   * @param applied the root tables of which anything was applied: what waits for it may go
   * @param refused what was refused just now: with what waits already it may go
   */
  async afterTake(tries: Tries, applied: ReadonlySet<string>, refused: readonly WaitingName[]): Promise<void> {
    const { database, clock } = this.options
    const { outlook } = tries
    const due = await database.read(() => dueNames(database, outlook.tables, REFUSED, clock.now(), PAGE), { loosely: true })
    const left = new Set(await this.tryAgain(due, tries))
    const gone = due.filter((name) => !left.has(name)).map(({ table }) => table)
    const news = new Set([...applied, ...gone, ...(await this.tryWithOthers([...refused, ...left], tries))])
    if (this.sweep === undefined) this.sweep = begin(stepsFor(outlook, news))
    else for (const table of news) this.sweep.news.add(table)
    await this.goOn(tries)
    await this.tryContested(tries)
  }

  /** Goes on through what waits; what there is no time for now is tried next time. */
  private async goOn(tries: Tries): Promise<void> {
    const { database } = this.options
    const until = performance.now() + BUDGET_MS
    for (let sweep = this.sweep; sweep !== undefined && performance.now() < until; sweep = this.sweep) {
      const { steps, at, after, news } = sweep
      const step = steps[at]
      if (step === undefined) {
        if (news.size === 0) for (const table of await this.tryAcross(tries)) news.add(table)
        this.sweep = news.size === 0 ? undefined : begin(stepsFor(tries.outlook, news))
        continue
      }
      const [table, causes] = step
      const page = await database.read(() => waitingNames(database, table, causes, after, PAGE), { loosely: true })
      if ((await this.tryAgain(page, tries)).length < page.length) news.add(table)
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
      left = await this.tryEach(left, tries)
      if (left.length < before) continue
      const some = bound(left.slice(0, TOGETHER), tries.outlook)
      if (some.length === 0) break
      const refused = new Set(await this.tryChunk(some, tries, true))
      left = left.filter((name) => !some.includes(name) || refused.has(name))
    }
    return left
  }

  /** With what waits beside it, due or not: two that hold each other up may have come one after the other, and each is due at another time. Answers the tables of which anything went. */
  private async tryWithOthers(names: readonly WaitingName[], tries: Tries): Promise<readonly string[]> {
    const { database } = this.options
    const { tables, areRelated } = tries.outlook
    const own = names.filter(({ cause }) => BOUND.includes(cause)).slice(0, TOGETHER)
    const near = tables.filter((table) => own.some((one) => one.table === table || areRelated(one.table, table)))
    const some = new Map(own.map((name) => [nameOf(name), name]))
    for (const table of near) {
      const most = Math.ceil(TOGETHER / near.length)
      for (const name of await database.read(() => waitingNames(database, table, BOUND, '', most), { loosely: true })) some.set(nameOf(name), name)
    }
    return this.tryAtOnce(bound([...some.values()], tries.outlook), tries)
  }

  /** In one transaction. Answers the tables of which anything went. */
  private async tryAtOnce(names: readonly WaitingName[], tries: Tries): Promise<readonly string[]> {
    if (names.length < 2) return []
    const refused = new Set(await this.tryChunk(names, tries, true))
    return names.flatMap((name) => (refused.has(name) ? [] : name.table))
  }

  /** What is bound to others beyond its own table. Answers the tables of which anything went. */
  private async tryAcross(tries: Tries): Promise<readonly string[]> {
    const { database } = this.options
    const { tables } = tries.outlook
    const names: WaitingName[] = []
    for (const table of tables) {
      const most = Math.ceil(TOGETHER / tables.length)
      names.push(...(await database.read(() => waitingNames(database, table, BOUND, '', most), { loosely: true })))
    }
    const some = bound(names, tries.outlook)
    return new Set(some.map(({ table }) => table)).size < 2 ? [] : this.tryAtOnce(some, tries)
  }

  private async tryEach(names: readonly WaitingName[], tries: Tries): Promise<readonly WaitingName[]> {
    const refused: WaitingName[] = []
    for (const chunk of chunksOf(names)) refused.push(...(await this.tryChunk(chunk, tries)))
    return refused
  }

  /** Answers those that were refused again. */
  private async tryChunk(chunk: readonly WaitingName[], { signal, tell }: Tries, isOne = false): Promise<readonly WaitingName[]> {
    const { database, turn } = this.options
    await turn.acquire(signal)
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

function begin(steps: Sweep['steps']): Sweep {
  return { steps, at: 0, after: '', news: new Set() }
}

/** Those that may need one another: what holds each other's place, or refers to each other, goes together or not at all. */
function bound(names: readonly WaitingName[], { areRelated }: Tries['outlook']): readonly WaitingName[] {
  return names.filter((a) => names.some((b) => a !== b && (a.cause === 'taken' ? a.table === b.table : areRelated(a.table, b.table))))
}

/** What may go since documents of these tables have come: what refers to them, and what wants values that they may have given up. */
function stepsFor({ tables, areRelated }: Tries['outlook'], news: ReadonlySet<string>): Sweep['steps'] {
  return tables.flatMap((table) => {
    const causes: Cause[] = [
      ...([...news].some((one) => areRelated(one, table)) ? (['missing'] as const) : []),
      ...(news.has(table) ? (['taken'] as const) : []),
    ]
    return causes.length === 0 ? [] : [[table, causes] as const]
  })
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
