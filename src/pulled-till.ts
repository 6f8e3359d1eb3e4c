import type PQueue from 'p-queue'
import type { PullOptions } from './central-options.ts'
import { asTillsyncError, TillsyncError } from './errors.ts'
import type { CentralEvents, Events } from './events.ts'
import type { RegisterName, Takes } from './model.ts'
import { OneAtATime } from './one-at-a-time.ts'
import type { AudiencePublisher, Clock, Subscriber } from './ports.ts'
import type { PullBook } from './pull-book.ts'
import { Reachability } from './reachability.ts'
import { backoffMs, retryAfterOf } from './transport/backoff.ts'
import { type Pulled, Puller } from './transport/exchange.ts'
import { httpClient } from './transport/http-client.ts'

export interface PulledTillOptions {
  readonly register: RegisterName
  readonly book: PullBook
  readonly clock: Clock
  readonly events: Events<CentralEvents>
  readonly subscriber: Subscriber
  readonly audiences: AudiencePublisher | undefined
  readonly takes: Takes
  readonly pull: Required<PullOptions>
  /** Those that fail wait for each other, and for nobody else. */
  laneOf(isFailing: boolean): PQueue
}

/** The longest pause after failures, unless `everyMs` is longer: a till that is switched on in the morning is found so soon. */
const LONGEST_PAUSE_MS = 300_000
/** Until a register's row may be free again, which another process holds while it applies. */
const BUSY_MS = 100
/** What an exchange may take beside the register's answer: to read and to apply it. */
const APPLY_MS = 60_000

/** One register that central pulls: at most one exchange at a time, whoever asks for it. */
export class PulledTill {
  readonly register: RegisterName
  private readonly options: PulledTillOptions
  private readonly turns = new OneAtATime()
  private readonly contact: Reachability
  private puller: { readonly url: string; readonly puller: Puller } | undefined
  private ending = new AbortController()
  private waking = new AbortController()
  private running: Promise<void> | undefined
  private failures = 0

  constructor(options: PulledTillOptions) {
    const { register, events } = options
    this.options = options
    this.register = register
    this.contact = new Reachability({
      onOffline: (error) => events.emit('offline', { register, error }),
      onOnline: () => events.emit('online', { register }),
      onFailed: (error) => events.emit('refused', { register, source: undefined, error }),
    })
  }

  /** Every `everyMs`, after failures with growing pauses, until it is ended. */
  start(): void {
    if (this.running !== undefined) return
    this.ending = new AbortController()
    this.running = this.run(this.ending.signal).finally(() => {
      this.running = undefined
    })
  }

  end(): void {
    this.ending.abort()
  }

  /** There is something new for it. Where it does not answer, its pause stays. */
  wake(): void {
    if (this.failures === 0) this.waking.abort()
  }

  async stop(): Promise<void> {
    this.end()
    await this.running
    await this.turns.onIdle()
  }

  /**
   * An exchange at once, whatever the pause; from another process too. Ends a pause where it goes well.
   *
   * @throws ERR_OPTION, ERR_REGISTER where it is not pulled, and what ended the exchange
   */
  async exchangeNow(signal: AbortSignal): Promise<Pulled> {
    for (;;) {
      try {
        const pulled = await this.exchange(signal, true)
        if (pulled === undefined) throw await this.options.book.reason(this.register)
        this.waking.abort()
        return pulled
      } catch (error) {
        // Another process is just applying what the same register sent.
        if (!(error instanceof TillsyncError && error.code === 'ERR_BUSY')) throw error
        await this.options.clock.sleep(BUSY_MS, signal)
      }
    }
  }

  private async run(stop: AbortSignal): Promise<void> {
    const { clock, pull } = this.options
    while (!stop.aborted) {
      this.waking = new AbortController()
      let pauseMs = pull.everyMs
      try {
        const lane = this.options.laneOf(this.failures > 0)
        const pulled = (await lane.add(() => (stop.aborted ? undefined : this.exchange(stop, false)))) as Pulled | undefined
        if (pulled?.settled === false) pauseMs = 0
      } catch (thrown) {
        if (stop.aborted) return
        const error = asTillsyncError(thrown, 'ERR_DATABASE', 'The exchange failed')
        pauseMs = Math.max(this.pauseMs(Math.max(1, this.failures)), retryAfterOf(error))
      }
      if (pauseMs > 0) await clock.sleep(pauseMs, AbortSignal.any([stop, this.waking.signal])).catch(() => undefined)
    }
  }

  private pauseMs(failures: number): number {
    const { clock, pull } = this.options
    return backoffMs(failures, { minMs: pull.everyMs, maxMs: Math.max(pull.everyMs, LONGEST_PAUSE_MS) }, clock.random)
  }

  /** Undefined where it is not for this process to pull it. */
  private exchange(signal: AbortSignal, anyhow: boolean): Promise<Pulled | undefined> {
    return this.turns.turn(async () => {
      const { book, pull } = this.options
      const url = await book.hold(this.register, 2 * pull.everyMs + pull.timeoutMs + APPLY_MS, anyhow)
      if (url === undefined) return undefined
      try {
        const pulled = await this.pullerAt(url).next(signal)
        this.contact.reached()
        this.failures = 0
        return pulled
      } catch (thrown) {
        const error = asTillsyncError(thrown, 'ERR_DATABASE', 'The exchange failed')
        this.remember(error)
        throw error
      }
    }, signal)
  }

  /** What is under way with a register ends where it is pulled elsewhere. */
  private pullerAt(url: string): Puller {
    if (this.puller?.url === url) return this.puller.puller
    const { register, pull, subscriber, audiences, takes } = this.options
    const link = httpClient({
      url: new URL(url),
      fetch: pull.fetch,
      timeoutMs: pull.timeoutMs,
      maxBytes: takes.message,
      token: () => pull.token(register),
      names: { peer: 'The register', server: 'till.fetch', asker: 'createCentral as `pull`' },
    })
    const onUnread = (error: TillsyncError) => this.options.events.emit('refused', { register, source: undefined, error })
    const puller = new Puller({ register, link, maxMessageBytes: takes.message, onUnread, takes, audiences }, subscriber)
    this.puller = { url, puller }
    return puller
  }

  private remember(error: TillsyncError): void {
    if (error.code === 'ERR_ABORTED' || error.code === 'ERR_BUSY') return
    this.failures++
    this.contact.failed(error)
  }
}
