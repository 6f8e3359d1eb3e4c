import { setTimeout as sleep } from 'node:timers/promises'
import { turn } from '../../turns.ts'

/** After somebody else's commit it is expected for so long that there are more. */
const OTHERS_MS = 1_000
/** So many milliseconds are the others' behind each of our locks: who met it has slept one, and is to find it free. */
const LEAST_MS = 1.2
/** Who met one that lasts longer than this sleeps again, and longer; so many milliseconds are then the others' for each that we held it. */
const [SHORT_MS, SHARE] = [1, 2]
const TIMER_MS = 1
/** So long ago somebody has committed just now. */
const JUST_MS = 5
/** How long we mean to hold it where others write too: most of them end before who met them wakes, though they are not all alike. */
export const SHARED_MS = 0.6

/** How often it is tried to read in turns, and how many times at most it is done synchronously then. */
const SLICED_TRIES = 3
const SYNCHRONOUS_TIMES = 16

/**
 * How fast the library writes. A host that meets our lock sleeps in SQLite's busy handler, 1, 2, 5, 10 … milliseconds, far longer than
 * we hold it, and may meet the next one then. So where others write too, we hold it shortly and leave it free for longer than the first of these
 * sleeps; where nobody does, we take all of the time.
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
    this.evenAt = performance.now() + (ms > SHORT_MS ? ms * SHARE : LEAST_MS)
  }

  get isShared(): boolean {
    return performance.now() - this.othersAt < OTHERS_MS
  }

  /** Whether others write too, and whether one of them has done so just now. */
  get others(): 'none' | 'some' | 'just' {
    if (!this.isShared) return 'none'
    return performance.now() - this.othersAt < JUST_MS ? 'just' : 'some'
  }

  /** Waits until the lock is ours to take again. */
  async rest(): Promise<void> {
    for (let ms = this.evenAt - performance.now(); ms > 0 && this.isShared; ms = this.evenAt - performance.now()) {
      // The shortest timer takes one to two milliseconds, which would often be longer than all of the slice.
      if (ms >= TIMER_MS) await sleep(Math.floor(ms))
      else await turn()
    }
  }
}

/**
 * Whether what comes before a transaction's first write is read in turns of the event loop. Where somebody has always written in between it is done
 * synchronously, once; twice as often each time that follows.
 */
export class Slicing {
  private synchronously = 0
  private nextSynchronously = 1

  get isTried(): boolean {
    return this.synchronously === 0
  }

  /** @param sliced whether it was read in turns */
  done(sliced: boolean): void {
    if (sliced) this.nextSynchronously = 1
    else this.synchronously--
  }

  /** @param times how often in this transaction */
  overtaken(times: number): void {
    if (times !== SLICED_TRIES) return
    this.synchronously = this.nextSynchronously
    this.nextSynchronously = Math.min(SYNCHRONOUS_TIMES, this.nextSynchronously * 2)
  }
}
