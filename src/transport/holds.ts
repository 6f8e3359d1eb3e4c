import type { RegisterName } from '../model.ts'
import type { Clock } from '../ports.ts'

/** Answers that are held back until there is something to say, or for as long as the register waits; one for each register. */
export class Holds {
  private readonly clock: Clock
  private readonly longestMs: number
  private readonly held = new Map<string, AbortController>()
  private stopped = false

  /** @param longestMs with 0 nothing is held */
  constructor(clock: Clock, longestMs: number) {
    this.clock = clock
    this.longestMs = longestMs
  }

  /** Returns at the end, whatever ended it; whether it was held at all. */
  async hold(register: RegisterName, waitMs: number): Promise<boolean> {
    const ms = Math.min(waitMs, this.longestMs)
    if (ms <= 0 || this.stopped) return false
    this.end(register)
    const key = keyOf(register)
    const ending = new AbortController()
    this.held.set(key, ending)
    await this.clock.sleep(ms, ending.signal).catch(() => undefined)
    if (this.held.get(key) === ending) this.held.delete(key)
    return true
  }

  /** The register speaks again: it waits no more for what is held. */
  end(register: RegisterName): void {
    this.held.get(keyOf(register))?.abort()
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
