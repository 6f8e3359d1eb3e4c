import type { Clock } from '../ports.ts'
import type { Work } from '../work.ts'
import type { AudienceCut } from './audience-batch.ts'

/** So long a cut is kept for others who stand at the same place. */
const FRESH_MS = 2_000
const MOST = 50
const MOST_BYTES = 16_777_216

/**
 * What was cut a moment ago: the registers of an audience mostly ask for the same, and at the same time. It is what would be cut now as long as the head of the stream has the same mark, and
 * all is sealed.
 */
export class RecentCuts {
  private readonly clock: Clock
  private readonly cuts = new Map<string, { readonly cut: AudienceCut; readonly at: number }>()
  private bytes = 0

  constructor(clock: Clock) {
    this.clock = clock
  }

  /** @param place what a cut depends on; the mark of its stream's head among it, which is another one after each change */
  *take(place: readonly unknown[], cut: () => Work<AudienceCut>): Work<AudienceCut> {
    const key = JSON.stringify(place)
    const now = this.clock.ticks()
    this.forget(now)
    const known = this.cuts.get(key)
    if (known !== undefined) return known.cut
    const made = yield* cut()
    // Others who stand there may have cut it meanwhile.
    this.drop(key)
    this.cuts.set(key, { cut: made, at: now })
    this.bytes += made.bytes
    return made
  }

  /** What is cut beyond would put out what others are still to ask for. */
  get isFull(): boolean {
    this.forget(this.clock.ticks())
    return this.cuts.size >= MOST || this.bytes >= MOST_BYTES
  }

  private forget(now: number): void {
    for (const [key, { at }] of this.cuts) {
      if (now - at < FRESH_MS && this.cuts.size <= MOST && this.bytes <= MOST_BYTES) return
      this.drop(key)
    }
  }

  private drop(key: string): void {
    this.bytes -= this.cuts.get(key)?.cut.bytes ?? 0
    this.cuts.delete(key)
  }
}
