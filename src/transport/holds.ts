import type { RegisterName } from '../model.ts'
import type { Clock } from '../ports.ts'

/** A message that is being answered, and until when that may be held back, in ticks. */
export interface Speaking {
  readonly register: RegisterName
  readonly until: number
}

/** How a wait ended. 'passed': there was none. 'left': the register has spoken again, and waits for this answer no more. */
export type HoldEnd = 'passed' | 'news' | 'over' | 'left'

interface Held {
  readonly speaking: Speaking
  end(how: HoldEnd): void
}

interface Timer {
  /** In ticks. */
  readonly until: number
  readonly ending: AbortController
}

/** Answers that are held back until there is something to say, or for as long as the register waits; one for each register. One timer does for all: of a thousand, each would hold a kilobyte. */
export class Holds {
  private readonly clock: Clock
  private readonly longestMs: number
  private readonly held = new Map<string, Held>()
  private readonly heralds = new Map<string, number>()
  /** The last message of each register. */
  private readonly speaking = new Map<string, Speaking>()
  /** Until the first of them is over. */
  private timer: Timer | undefined
  private stopped = false

  /** @param longestMs with 0 nothing is held */
  constructor(clock: Clock, longestMs: number) {
    this.clock = clock
    this.longestMs = longestMs
  }

  /** A number that is another one as soon as there is something new for the register, be it while nothing is held. */
  news(register: RegisterName): number {
    return this.heralds.get(keyOf(register)) ?? 0
  }

  /** There is something new for a register: what is held for it ends. */
  tell(register: RegisterName): void {
    const key = keyOf(register)
    this.heralds.set(key, this.news(register) + 1)
    this.end(key, this.held.get(key)?.speaking === this.speaking.get(key) ? 'news' : 'left')
  }

  /** The registers for which something is held. */
  get waiting(): readonly RegisterName[] {
    return [...this.held.keys()].map((key) => {
      const [location, register] = JSON.parse(key) as [string, string]
      return { location, register }
    })
  }

  /** The register speaks: it waits no more for what is held, which `turnTo` ends, and for this for so long. */
  begin(register: RegisterName, waitMs: number): Speaking {
    const speaking = { register, until: this.clock.ticks() + Math.min(waitMs, this.longestMs) }
    this.speaking.set(keyOf(register), speaking)
    return speaking
  }

  /** What it says has been looked at: now there is time to answer what it has left. */
  turnTo({ register }: Speaking): void {
    const key = keyOf(register)
    if (this.held.get(key)?.speaking !== this.speaking.get(key)) this.end(key, 'left')
  }

  /** Resolves at the end, whatever ended it, or as soon as there was `news` since. */
  hold(speaking: Speaking, news: number): Promise<HoldEnd> {
    const { register, until } = speaking
    const key = keyOf(register)
    if (this.stopped || until <= this.clock.ticks()) return Promise.resolve('passed')
    if (this.speaking.get(key) !== speaking) return Promise.resolve('left')
    if (news !== this.news(register)) return Promise.resolve('news')
    const { promise, resolve } = Promise.withResolvers<HoldEnd>()
    this.end(key, 'left')
    this.held.set(key, { speaking, end: resolve })
    this.watch(until)
    return promise
  }

  private end(key: string, how: HoldEnd): void {
    const held = this.held.get(key)
    this.held.delete(key)
    held?.end(how)
    // Nothing is to keep the process from its end.
    if (this.held.size === 0) this.unwatch()
  }

  private watch(until: number): void {
    if (this.timer !== undefined && this.timer.until <= until) return
    this.unwatch()
    const timer = { until, ending: new AbortController() }
    this.timer = timer
    this.clock.sleep(Math.max(0, until - this.clock.ticks()), timer.ending.signal).then(
      () => this.look(timer),
      () => undefined,
    )
  }

  private unwatch(): void {
    this.timer?.ending.abort()
    this.timer = undefined
  }

  private look(timer: Timer): void {
    if (this.timer !== timer) return
    this.timer = undefined
    // Timers may ring a moment too soon.
    const now = Math.max(this.clock.ticks(), timer.until)
    let next = Number.POSITIVE_INFINITY
    for (const [key, { speaking }] of [...this.held]) {
      if (speaking.until <= now) this.end(key, 'over')
      else next = Math.min(next, speaking.until)
    }
    if (this.held.size > 0) this.watch(next)
  }

  start(): void {
    this.stopped = false
  }

  stop(): void {
    this.stopped = true
    for (const key of [...this.held.keys()]) this.end(key, 'over')
  }
}

function keyOf({ location, register }: RegisterName): string {
  return JSON.stringify([location, register])
}
