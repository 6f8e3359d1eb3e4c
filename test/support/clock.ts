import { systemClock } from '../../src/clock.ts'
import type { Clock } from '../../src/ports.ts'

/** A clock that stands still until it is told to go on. */
export class ScriptedClock implements Clock {
  readonly sleep = systemClock.sleep
  readonly random = systemClock.random
  private time = Date.UTC(2026, 10, 21, 9)

  now(): number {
    return this.time
  }

  advance(ms: number): void {
    this.time += ms
  }
}
