import { setTimeout as sleep } from 'node:timers/promises'

/** After somebody else's commit it is expected for so long that there are more. */
const OTHERS_MS = 1_000
/** For each millisecond that we hold the lock, so many are the others'. */
const SHARE = 4
/** What may be written at once before the others are given their share: the few small writes that follow a sale. */
const BURST_MS = 16

/**
 * How fast the library writes. A host that meets our lock sleeps in SQLite's busy handler, 1, 2, 5, 10 … milliseconds, far longer than
 * we hold it, and may meet the next one then. So where others write too, most of the time has to be theirs; where nobody does, we take all of it.
 */
export class Pace {
  private version: number | undefined
  private othersAt = Number.NEGATIVE_INFINITY
  /** When the others have had their share of what we have written so far. */
  private evenAt = 0

  /** @param dataVersion which is another one since, where others have written */
  look(dataVersion: number): void {
    if (this.version !== undefined && this.version !== dataVersion) this.othersAt = performance.now()
    this.version = dataVersion
  }

  /** The lock was held for so long. */
  held(ms: number): void {
    this.evenAt = Math.max(this.evenAt, performance.now()) + ms * SHARE
  }

  get isShared(): boolean {
    return performance.now() - this.othersAt < OTHERS_MS
  }

  /** Waits until it is our turn again. */
  async rest(): Promise<void> {
    if (!this.isShared) return
    const ms = this.evenAt - performance.now()
    if (ms > BURST_MS) await sleep(ms)
  }
}
