import { MIGRATING_MS } from './capture/planning.ts'
import type { Sealer } from './capture/sealer.ts'
import { asTillsyncError, type TillsyncError } from './errors.ts'
import type { CapturingDatabase, Clock } from './ports.ts'
import { backoffMs } from './transport/backoff.ts'

export interface SealingOptions {
  readonly database: CapturingDatabase
  readonly clock: Clock
  readonly sealer: Sealer
  onFailed(error: TillsyncError): void
}

/** The pause after sealing failed. */
const SEAL_AGAIN = { minMs: 200, maxMs: 30_000 }

/** Sealing in the background: soon after each commit, and as long as anything is touched or to be resealed. */
export class Sealing {
  /** What it last failed with; undefined as soon as it goes well again. */
  failure: TillsyncError | undefined
  private readonly options: SealingOptions
  private unwatch: (() => void) | undefined
  private running: Promise<void> | undefined
  private again = false
  private stopping = new AbortController()

  constructor(options: SealingOptions) {
    this.options = options
  }

  get isRunning(): boolean {
    return this.unwatch !== undefined
  }

  start(): void {
    if (this.isRunning) return
    this.stopping = new AbortController()
    this.unwatch = this.options.database.watch(() => this.soon())
    this.soon()
  }

  /** Nothing new begins from now on. */
  abort(): void {
    this.unwatch?.()
    this.unwatch = undefined
    this.stopping.abort()
  }

  /** Waits for what is under way. */
  async ended(): Promise<void> {
    await this.running
  }

  soon(): void {
    this.again = true
    this.running ??= this.sealAll().finally(() => {
      this.running = undefined
      // It was asked for when the last look was over and this was not known yet.
      if (this.again && !this.stopping.signal.aborted) this.soon()
    })
  }

  /** Until nothing is touched any more; what failed is tried again, with growing pauses. */
  private async sealAll(): Promise<void> {
    const { sealer, clock } = this.options
    const { signal } = this.stopping
    for (let failures = 0; this.again && !signal.aborted; ) {
      this.again = false
      try {
        await sealer.seal(signal)
        await sealer.resealPending(signal)
        failures = 0
        this.failure = undefined
        if (!sealer.planning.isMigrating) continue
        // Who changes the schema may die before he has made triggers anew, and without them no commit says that there is something to seal.
        this.again = true
        await clock.sleep(MIGRATING_MS, signal)
      } catch (thrown) {
        if (signal.aborted) return
        this.failure = asTillsyncError(thrown, 'ERR_DATABASE', 'Sealing failed')
        this.options.onFailed(this.failure)
        this.again = true
        await clock.sleep(backoffMs(++failures, SEAL_AGAIN, clock.random), signal).catch(() => undefined)
      }
    }
  }
}
