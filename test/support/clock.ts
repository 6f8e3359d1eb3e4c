import { systemClock } from '../../src/clock.ts'
import type { Clock } from '../../src/ports.ts'

/** A clock that stands still until it is told to go on, or to be another one. */
export class ScriptedClock implements Clock {
  readonly sleep = systemClock.sleep
  readonly random = systemClock.random
  readonly now = () => this.time
  readonly ticks = () => this.passed
  private time = Date.UTC(2026, 10, 21, 9)
  private passed = 0

  advance(ms: number): void {
    this.time += ms
    this.passed += ms
  }

  /** Somebody sets it, forward or, with less than 0, back. */
  set(ms: number): void {
    this.time += ms
  }
}
