import type { Clock } from '../../../src/ports.ts'
import { Random } from '../random.ts'

/** No two moments are the same, nobody waits but what goes on in the background, which sleeps until it is ended, and chance can be repeated. */
export class SimulatedClock implements Clock {
  readonly now = () => ++this.time
  readonly ticks = this.now
  readonly random = () => this.chance.next()
  private time = Date.UTC(2026, 10, 21, 9)
  private readonly chance = new Random(1)

  pass(ms: number): void {
    this.time += ms
  }

  async sleep(_: number, signal?: AbortSignal): Promise<void> {
    if (signal !== undefined && !signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
  }
}

/** A computer's clock, which somebody may set: what lasts goes by the time that it shares with all others. */
export class WallClock implements Clock {
  readonly now = () => this.time.now() + this.ahead
  readonly ticks: () => number
  readonly random: () => number
  readonly sleep: Clock['sleep']
  private readonly time: Clock
  private ahead: number

  constructor(time: Clock, ahead = 0) {
    this.time = time
    this.ahead = ahead
    this.ticks = time.ticks
    this.random = time.random
    this.sleep = time.sleep.bind(time)
  }

  jump(ms: number): void {
    this.ahead += ms
  }

  /** Of a copy of the computer. */
  copy(): WallClock {
    return new WallClock(this.time, this.ahead)
  }
}
