import { randomUUID } from 'node:crypto'
import PQueue from 'p-queue'
import { TillsyncError } from '../errors.ts'
import type { ApplyingDatabase, Clock } from '../ports.ts'
import { committed, type Work } from '../work.ts'
import type { AppliedDocument, Origin } from './document-set.ts'
import type { Handler, Subscribed } from './handler.ts'
import type { Effect } from './host-handler.ts'
import { ask, documentsIn, done, forgotten, type Stretch, settle, take } from './once.ts'
import { StockLevels } from './stock-levels.ts'

export interface EffectsOptions {
  readonly database: ApplyingDatabase
  readonly clock: Clock
  /** How long an effect may take. */
  readonly timeoutMs: number
  readonly onFailed: (error: TillsyncError) => void
}

interface Owed {
  readonly key: string
  readonly table: string
  readonly effect: Effect
  readonly holder: string
  /** It succeeded, and only that is still to be noted. */
  hasRun: boolean
}

/** Effects that run at the same time. */
const AT_ONCE = 4
/** Effects that failed and whose functions are kept for the next try; the others are asked for again, by their handlers. */
const MOST_WAITING = 1_000
/** How often it is looked for effects of which nobody takes care. */
const LOOK_MS = 15_000
/** How long they are nobody else's beyond the time that they may take. */
const MARGIN_MS = 30_000
const PAUSE = { minMs: 1_000, maxMs: 300_000 }

/**
 * Effects outside the database that handlers asked for by `once`: they are noted in the batch's transaction, run after its commit, and are tried until they
 * succeed. What a process leaves when it ends, another one, or the next start, finds: it calls the handler again for the documents among which one asked.
 */
export class Effects {
  private readonly options: EffectsOptions
  private readonly queue = new PQueue({ concurrency: AT_ONCE })
  private waiting = 0
  private ending = new AbortController()
  private looking: Promise<void> | undefined

  constructor(options: EffectsOptions) {
    this.options = options
  }

  /** Notes them inside the caller's transaction, and runs them once it is committed. */
  *ask(effects: ReadonlyMap<string, Effect>, documents: readonly AppliedDocument[], { registerId, epochNo }: Origin): Work<void> {
    const [first] = documents
    if (first === undefined || effects.size === 0) return
    const numbers = documents.map(({ entries }) => entries[0]?.entryNo ?? 0)
    const stretch = { registerId, table: first.table, epochNo, first: Math.min(...numbers), last: Math.max(...numbers) }
    const holder = randomUUID()
    const mine = new Set(yield* ask(this.options.database, [...effects.keys()], stretch, holder, this.holdMs))
    const owed = [...effects].flatMap(([key, effect]) => (mine.has(key) ? [{ key, effect, holder, table: first.table, hasRun: false }] : []))
    if (owed.length > 0)
      yield* committed(() => {
        for (const one of owed) this.run(one, 1)
      })
  }

  /** From here on it looks for what others have left. */
  start(handlers: Subscribed): void {
    const hosts = new Map([...handlers].map(([table, all]) => [table, all.filter(({ isHosts }) => isHosts)]))
    if (this.ending.signal.aborted) this.ending = new AbortController()
    if (this.looking !== undefined || [...hosts.values()].every((all) => all.length === 0)) return
    this.looking = this.look(hosts, this.ending.signal).finally(() => {
      this.looking = undefined
    })
  }

  /** Waits for the effects that run; those that wait are left to whoever comes next. */
  async stop(): Promise<void> {
    this.ending.abort()
    this.queue.clear()
    await Promise.all([this.queue.onIdle(), this.looking])
  }

  private get holdMs(): number {
    return 2 * this.options.timeoutMs + MARGIN_MS
  }

  private run(owed: Owed, attempt: number): void {
    void this.queue.add(async () => {
      const { database, onFailed } = this.options
      try {
        // It is there only if its transaction was committed, and mine only as long as nobody else has taken it.
        if (!(await database.write(() => take(database, owed.key, owed.holder, this.holdMs)))) return
        if (!owed.hasRun) await this.attempt(owed)
        owed.hasRun = true
        await database.write(() => done(database, owed.key, owed.holder))
      } catch (cause) {
        onFailed(
          new TillsyncError('ERR_HANDLER', `An effect that a handler of \`${owed.table}\` asked for failed; it is tried again`, {
            retryable: true,
            context: { table: owed.table, key: owed.key, attempt },
            cause,
          }),
        )
        this.tryLater(owed, attempt)
      }
    })
  }

  private async attempt({ key, effect }: Owed): Promise<void> {
    const { timeoutMs } = this.options
    const ending = new AbortController()
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        ending.abort()
        reject(new Error(`It has not ended after ${timeoutMs} ms`))
      }, timeoutMs)
    })
    try {
      await Promise.race([(async () => effect(key, ending.signal))(), late])
    } finally {
      clearTimeout(timer)
    }
  }

  /** What does not come to its turn in time, or ends with the process, is found by who looks. */
  private tryLater(owed: Owed, attempt: number): void {
    const { signal } = this.ending
    if (this.waiting >= MOST_WAITING || signal.aborted) return
    this.waiting++
    const { clock } = this.options
    const bound = Math.min(PAUSE.maxMs, PAUSE.minMs * 2 ** Math.min(attempt - 1, 20), this.holdMs / 2)
    clock
      .sleep(Math.ceil(bound * (0.5 + clock.random() / 2)), signal)
      .then(
        () => this.run(owed, attempt + 1),
        () => undefined,
      )
      .finally(() => this.waiting--)
  }

  private async look(handlers: Subscribed, signal: AbortSignal): Promise<void> {
    const { database, clock, onFailed } = this.options
    while (!signal.aborted) {
      try {
        for (const stretch of await database.read(() => forgotten(database, 20))) {
          if (signal.aborted) return
          await this.askAgain(stretch, handlers.get(stretch.table) ?? [])
        }
      } catch (error) {
        onFailed(
          error instanceof TillsyncError ? error : new TillsyncError('ERR_DATABASE', 'Looking for effects that are owed failed', { cause: error }),
        )
      }
      await clock.sleep(LOOK_MS, signal).catch(() => undefined)
    }
  }

  /** Calls the handlers for the documents as they are now: what they ask for again is done, the rest is wanted no more. */
  private async askAgain(stretch: Stretch, handlers: readonly Handler[]): Promise<void> {
    const { database, onFailed } = this.options
    if (handlers.length === 0) return await database.write(() => settle(database, stretch, PAUSE.maxMs))
    try {
      await database.write(function* () {
        const found = yield* documentsIn(database, stretch)
        const context = { database, origin: found?.origin as Origin, levels: new StockLevels(), late: false }
        if (found !== undefined && found.documents.length > 0) for (const handler of handlers) yield* handler.apply(found.documents, context)
        yield* settle(database, stretch)
      })
    } catch (error) {
      onFailed(
        error instanceof TillsyncError
          ? error
          : new TillsyncError('ERR_HANDLER', `A handler of \`${stretch.table}\` failed that was asked again for an effect that it owes`, {
              context: { table: stretch.table },
              cause: error,
            }),
      )
      await database.write(() => settle(database, stretch, PAUSE.maxMs))
    }
  }
}
