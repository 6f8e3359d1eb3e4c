import { Background } from './background.ts'
import { asTillsyncError, type TillsyncError } from './errors.ts'
import type { Events, RegisterEvents } from './events.ts'
import { OneAtATime } from './one-at-a-time.ts'
import type { Clock } from './ports.ts'
import { Reachability } from './reachability.ts'
import type { Push } from './transfer-options.ts'
import { backoffMs, retryAfterOf } from './transport/backoff.ts'
import type { Exchanged } from './transport/publisher.ts'

/** What was moved. */
export interface RunResult {
  /** Entries that central acknowledged. */
  readonly sent: number
  /** Documents among them that central could not apply: they wait in quarantine there, and are not to be sent again. */
  readonly quarantined: number
  /** Documents that came of what central publishes, those that are to go included. */
  readonly received: number
  /**
   * Documents of central's that were written here, or removed: those that came, and those that had waited, or that a snapshot did not name any more. Less than `received` where some wait: `status().unapplied`.
   */
  readonly applied: number
}

const NOTHING: RunResult = { sent: 0, quarantined: 0, received: 0, applied: 0 }

/** What exchanges have moved so far. */
export class Moved {
  private sum = NOTHING

  get result(): RunResult {
    return this.sum
  }

  add({ sent, quarantined, received, applied }: RunResult): void {
    const { sum } = this
    this.sum = {
      sent: sum.sent + sent,
      quarantined: sum.quarantined + quarantined,
      received: sum.received + received,
      applied: sum.applied + applied,
    }
  }
}

export interface Progress extends RunResult {
  /** Entries that central has not acknowledged yet. */
  readonly pending: number
}

export interface SynchronizeOptions<P> {
  /** Ends it after the exchange under way; what was acknowledged stays so. */
  readonly signal?: AbortSignal | undefined
  /** Told after each exchange. */
  readonly onProgress?: ((progress: P) => void) | undefined
}

/** How far a register has sealed. */
export interface Head {
  readonly epoch: string
  readonly entryNo: number
}

export interface CourierOptions {
  readonly clock: Clock
  readonly transfer: Push
  readonly events: Events<RegisterEvents>
  /** Whether there is news for central, be it without an entry. With `until` only what was sealed by then counts, as long as our history is the same. */
  isPending(until?: Head): Promise<boolean>
  /** What is sealed by now. */
  head(): Promise<Head>
  /** How many entries central has not acknowledged. */
  pending(): Promise<number>
  /** With `idle` central may hold its answer back until that aborts. */
  exchange(signal: AbortSignal, idle: AbortSignal | undefined): Promise<Exchanged>
}

/**
 * Starts the exchanges of a register that pushes: at once when something is sealed, otherwise every `everyMs`; after a
 * failure with growing pauses. One exchange at a time, whoever asks for it.
 */
export class Courier {
  /** What the last background run failed with; undefined when it went well. */
  failure: TillsyncError | undefined
  private readonly options: CourierOptions
  private readonly queue = new OneAtATime()
  private readonly contact: Reachability
  private readonly background = new Background()
  private waking = new AbortController()
  private idling = new AbortController()
  private failures = 0
  /** How many ask for exchanges by hand: meanwhile nothing is waited for. */
  private hands = 0

  constructor(options: CourierOptions) {
    const { events } = options
    this.options = options
    this.contact = new Reachability({
      onOffline: (error) => events.emit('offline', { error }),
      onOnline: () => events.emit('online', {}),
      onFailed: (error) => events.emit('failed', { error }),
    })
  }

  start(): void {
    this.background.start((stop) => this.run(stop))
  }

  stop(): Promise<void> {
    return this.background.stop(() => this.queue.onIdle())
  }

  /** Something is there to be sent. After a failure it waits for its turn all the same. */
  wake(): void {
    if (this.failures > 0) return
    this.idling.abort()
    this.waking.abort()
  }

  /**
   * Runs until nothing of what was sealed before is pending, nor of what the exchanges themselves gave cause to seal: a till that sells without pause would never have done. A failure ends
   * it and is thrown.
   */
  async synchronize({ signal, onProgress }: SynchronizeOptions<Progress>): Promise<RunResult> {
    const ended = AbortSignal.any([this.background.signal, ...(signal ? [signal] : [])])
    const moved = new Moved()
    let until = await this.options.head()
    let gaveCause = false
    this.hands++
    this.idling.abort()
    try {
      for (;;) {
        const wasFailing = this.failures > 0
        const exchanged = await this.exchangeOnce(ended)
        // The pause after the failure is over too.
        if (wasFailing) this.waking.abort()
        moved.add(exchanged)
        if (onProgress) this.options.events.tell(onProgress, { ...moved.result, pending: await this.options.pending() })
        // What is to be sealed because of one exchange is sealed by the next.
        if (exchanged.unfinished || gaveCause) until = await this.options.head()
        gaveCause = exchanged.unfinished
        if (!(await this.goesOn(exchanged, until))) return moved.result
      }
    } finally {
      this.hands--
    }
  }

  private async run(stop: AbortSignal): Promise<void> {
    const { clock, transfer } = this.options
    for (let isIdle = false; !stop.aborted; ) {
      const [waking, idling] = [new AbortController(), new AbortController()]
      this.waking = waking
      this.idling = idling
      const waits: boolean = isIdle && this.hands === 0
      const began = clock.ticks()
      let pauseMs = transfer.everyMs
      try {
        isIdle = !(await this.goesOn(await this.exchangeOnce(stop, waits ? idling.signal : undefined)))
        // What central has held back counts as a pause; the first wait begins where a pause would.
        if (!isIdle || (!waits && this.canWait)) pauseMs = 0
        else if (waits) pauseMs -= clock.ticks() - began
      } catch (thrown) {
        if (stop.aborted) return
        isIdle = false
        const error = asTillsyncError(thrown, 'ERR_DATABASE', 'The exchange failed')
        pauseMs = error.code === 'ERR_ABORTED' && idling.signal.aborted ? 0 : this.pauseAfter(error)
      }
      if (pauseMs > 0) await clock.sleep(pauseMs, AbortSignal.any([stop, waking.signal])).catch(() => undefined)
      // What is sent now is not held back, so that the next wait begins at once.
      if (pauseMs > 0 && waking.signal.aborted) isIdle = false
    }
  }

  private get canWait(): boolean {
    return this.hands === 0 && (this.options.transfer.link.waitMs ?? 0) > 0
  }

  private async goesOn({ moved, unfinished }: Exchanged, until?: Head): Promise<boolean> {
    return unfinished || (moved && (await this.options.isPending(until)))
  }

  private pauseAfter(error: TillsyncError): number {
    const { clock, transfer } = this.options
    const wait = backoffMs(this.failures, transfer.backoff, clock.random)
    return Math.max(wait, retryAfterOf(error))
  }

  private exchangeOnce(signal: AbortSignal, idle?: AbortSignal): Promise<Exchanged> {
    return this.queue.turn(async () => {
      const { events } = this.options
      try {
        const exchanged = await this.options.exchange(signal, idle)
        this.contact.reached()
        this.failures = 0
        this.failure = undefined
        events.emit('exchanged', { sent: exchanged.sent })
        return exchanged
      } catch (thrown) {
        const error = asTillsyncError(thrown, 'ERR_DATABASE', 'The exchange failed')
        if (error.code !== 'ERR_ABORTED') this.remember(error)
        throw error
      }
    }, signal)
  }

  private remember(error: TillsyncError): void {
    this.failures++
    this.failure = error
    this.contact.failed(error)
  }
}
