import QuickLRU from 'quick-lru'
import type { Clock } from '../ports.ts'

export interface LimiterOptions {
  readonly clock: Clock
  /** How many are counted for a key before it is held off. */
  readonly limit: number
  readonly windowMs: number
  /** How long a key is held off then. Default: until its window ends. */
  readonly holdMs?: number
  /** How many keys are remembered, at least; twice as many at most. */
  readonly keys: number
}

/** A key that is held off. */
export interface Hold {
  readonly retryAfterMs: number
  /** Whether nobody has asked since it began. */
  readonly first: boolean
}

interface Tally {
  count: number
  until: number
  /** Undefined while it is not held off. */
  hold: { told: boolean } | undefined
}

/** Counts by key, in windows of time that begin with what is counted first, and in bounded memory: the keys that were longest not seen are forgotten. */
export class Limiter {
  private readonly options: LimiterOptions
  private readonly tallies: QuickLRU<string, Tally>

  constructor(options: LimiterOptions) {
    this.options = options
    this.tallies = new QuickLRU({ maxSize: options.keys })
  }

  /** How many keys it remembers. */
  get size(): number {
    return this.tallies.size
  }

  /** Undefined where the key is not held off. */
  holdOf(key: string): Hold | undefined {
    const now = this.options.clock.ticks()
    const tally = this.current(key, now)
    if (tally?.hold === undefined) return undefined
    const first = !tally.hold.told
    tally.hold.told = true
    return { retryAfterMs: Math.ceil(tally.until - now), first }
  }

  /** Counts one. What is held off already is not held off for longer. */
  count(key: string): void {
    const { clock, limit, windowMs, holdMs } = this.options
    const now = clock.ticks()
    const tally = this.current(key, now) ?? { count: 0, until: now + windowMs, hold: undefined }
    if (tally.hold !== undefined) return
    if (++tally.count >= limit) {
      tally.hold = { told: false }
      if (holdMs !== undefined) tally.until = now + holdMs
    }
    this.tallies.set(key, tally)
  }

  private current(key: string, now: number): Tally | undefined {
    const tally = this.tallies.get(key)
    return tally !== undefined && now < tally.until ? tally : undefined
  }
}
