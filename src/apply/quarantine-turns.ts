import { Background } from '../background.ts'
import { asTillsyncError, type TillsyncError } from '../errors.ts'
import type { Clock } from '../ports.ts'
import type { LeftOpen } from './left-open.ts'
import type { QuarantineBook } from './quarantine-book.ts'

export interface QuarantineTurnsOptions {
  readonly book: QuarantineBook
  readonly leftOpen: LeftOpen
  readonly clock: Clock
  /** The pause between two looks, in milliseconds. */
  readonly everyMs: number
  /** The longest pause before a document is tried again, in milliseconds. */
  readonly longestMs: number
  ready(): Promise<void>
  onFailed(error: TillsyncError): void
}

/** The shortest pause between two looks, however many batches come. */
const LEAST_MS = 1_000

/** Tries documents in quarantine again when their time has come, register by register, a bounded number at a time. */
export class QuarantineTurns {
  private readonly options: QuarantineTurnsOptions
  private readonly background = new Background()
  private waking = new AbortController()
  /** When documents were applied last: what one that waits refers to may be among them. */
  private broughtAt = 0
  /** What others have left is looked for once: whoever is at work by then looks himself. */
  private isFirst = true

  constructor(options: QuarantineTurnsOptions) {
    this.options = options
  }

  start(): void {
    this.isFirst = true
    this.background.start((stop) => this.run(stop))
  }

  stop(): Promise<void> {
    return this.background.stop()
  }

  /** Documents were applied. */
  brought(): void {
    this.broughtAt = this.options.clock.now()
    this.waking.abort()
  }

  private async run(stop: AbortSignal): Promise<void> {
    const { clock, everyMs, ready, onFailed } = this.options
    while (!stop.aborted) {
      this.waking = new AbortController()
      try {
        await ready()
        await this.look(stop)
      } catch (thrown) {
        if (!stop.aborted) onFailed(asTillsyncError(thrown, 'ERR_DATABASE', 'The quarantine could not be looked through'))
      }
      const woken = this.waking.signal
      await clock.sleep(Math.min(LEAST_MS, everyMs), stop).catch(() => undefined)
      if (!woken.aborted && everyMs > LEAST_MS) await clock.sleep(everyMs - LEAST_MS, AbortSignal.any([stop, woken])).catch(() => undefined)
    }
  }

  /** Each register for itself: one whose documents fail, or that is busy, holds nobody up. */
  private async look(stop: AbortSignal): Promise<void> {
    const { book, leftOpen, clock, longestMs, onFailed } = this.options
    const now = clock.now()
    const [dueAt, latestAt, broughtAt] = [now, now + longestMs, this.broughtAt].map((ms) => new Date(ms).toISOString()) as [string, string, string]
    const which = { dueAt, latestAt, broughtAt }
    const each = async <R>(registers: readonly R[], work: (register: R) => Promise<unknown>) => {
      const alone = async (register: R) => {
        if (stop.aborted) return
        try {
          await work(register)
        } catch (thrown) {
          const error = asTillsyncError(thrown, 'ERR_DATABASE', 'Documents in quarantine could not be tried again')
          if (!stop.aborted && error.code !== 'ERR_BUSY') onFailed(error)
        }
      }
      await Promise.all(registers.map(alone))
    }
    await each(await book.due(which), async (register) => {
      if ((await book.turn(register, which)).released.length > 0) this.brought()
    })
    if (!this.isFirst) return
    await each(await leftOpen.registers(), (registerId) => leftOpen.settle(registerId))
    this.isFirst = false
  }
}
