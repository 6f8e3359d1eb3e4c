import type { RegisterName } from '../model.ts'
import type { Clock } from '../ports.ts'

/** How a wait ended. 'passed': there was none. 'left': the register has spoken again, and waits for this answer no more. */
export type HoldEnd = 'passed' | 'over' | 'left'

/** Answers that are held back until there is something to say, or for as long as the register waits; one for each register. */
export class Holds {
  private readonly clock: Clock
  private readonly longestMs: number
  private readonly held = new Map<string, AbortController>()
  private readonly heralds = new Map<string, number>()
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
    this.heralds.set(keyOf(register), this.news(register) + 1)
    this.end(register, 'over')
  }

  /** The registers for which something is held. */
  get waiting(): readonly RegisterName[] {
    return [...this.held.keys()].map((key) => {
      const [location, register] = JSON.parse(key) as [string, string]
      return { location, register }
    })
  }

  /** Returns at the end, whatever ended it, or as soon as there was `news` since. */
  async hold(register: RegisterName, waitMs: number, news = this.news(register)): Promise<HoldEnd> {
    const ms = Math.min(waitMs, this.longestMs)
    if (ms <= 0 || this.stopped) return 'passed'
    if (news !== this.news(register)) return 'over'
    this.left(register)
    const key = keyOf(register)
    const ending = new AbortController()
    this.held.set(key, ending)
    await this.clock.sleep(ms, ending.signal).catch(() => undefined)
    if (this.held.get(key) === ending) this.held.delete(key)
    return ending.signal.reason === 'left' ? 'left' : 'over'
  }

  /** The register speaks again: it waits no more for what is held. */
  left(register: RegisterName): void {
    this.end(register, 'left')
  }

  private end(register: RegisterName, how: HoldEnd): void {
    this.held.get(keyOf(register))?.abort(how)
  }

  start(): void {
    this.stopped = false
  }

  stop(): void {
    this.stopped = true
    for (const ending of this.held.values()) ending.abort()
  }
}

function keyOf({ location, register }: RegisterName): string {
  return JSON.stringify([location, register])
}
