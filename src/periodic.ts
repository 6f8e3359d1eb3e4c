import { Background } from './background.ts'
import type { Clock } from './ports.ts'

/** Work that is done now and then in the background, from `start` until `stop`: at once, and again a while after it was done. */
export class Periodic {
  private readonly clock: Clock
  private readonly everyMs: number
  private readonly work: (signal: AbortSignal) => Promise<unknown>
  private readonly onFailed: (thrown: unknown) => void
  private readonly background = new Background()

  /** @param onFailed told what the work failed with, unless it was stopped; it is tried again the next time */
  constructor(clock: Clock, everyMs: number, work: (signal: AbortSignal) => Promise<unknown>, onFailed: (thrown: unknown) => void) {
    this.clock = clock
    this.everyMs = everyMs
    this.work = work
    this.onFailed = onFailed
  }

  /** Aborted when it stops: for what others begin that is to end with it. */
  get signal(): AbortSignal {
    return this.background.signal
  }

  start(): void {
    this.background.start((stop) => this.run(stop))
  }

  /** Waits for what is under way. */
  stop(): Promise<void> {
    return this.background.stop()
  }

  private async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.work(signal)
      } catch (thrown) {
        if (signal.aborted) return
        this.onFailed(thrown)
      }
      await this.clock.sleep(this.everyMs, signal).catch(() => undefined)
    }
  }
}
