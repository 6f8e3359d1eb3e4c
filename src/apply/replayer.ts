import { TillsyncError } from '../errors.ts'
import { dividing } from './quarantine-division.ts'
import type { Replayed, ReplayProgress, ReplaysOptions } from './replay.ts'
import { type ReplayPlan, replaySlice } from './replay-slice.ts'
import type { Stretch } from './replay-versions.ts'
import { behindOlder, type ReplayedEpoch, type ReplayedRegister, slicesIn, WINDOW } from './replay-walk.ts'

export interface ReplayerOptions extends ReplaysOptions {
  readonly table: string
  readonly plan: ReplayPlan
  readonly registers: readonly ReplayedRegister[]
  readonly signal: AbortSignal
  readonly onProgress: ((progress: ReplayProgress) => void) | undefined
}

/** How often something is tried that fails by nobody's fault. */
const TRIES = 4
const AGAIN_MS = 1_000
/** Between two transactions of a register its batches have their turn: for a part of the time that the last one took. */
const PAUSE = { minMs: 5, maxMs: 1_000, share: 0.5 }

/** One replay: goes through registers in the order of their entries, a slice in a transaction. */
export class Replayer {
  replayed: Replayed = { documents: 0, postings: 0, quarantined: 0, released: 0, refused: 0 }
  private readonly options: ReplayerOptions
  private readonly of: number
  private entries = 0

  constructor(options: ReplayerOptions) {
    this.options = options
    this.of = options.registers.flatMap(({ epochs }) => epochs).reduce((sum, { after, through }) => sum + through - after, 0)
  }

  /** @throws ERR_ABORTED, ERR_BUSY (retryable), and what handlers throw by no fault of a document */
  async replay(register: ReplayedRegister): Promise<void> {
    const { signal, brought } = this.options
    signal.throwIfAborted()
    await this.tryAgain(register, false)
    try {
      for (const epoch of register.epochs) await this.walk(register, epoch)
    } catch (error) {
      // What is done is to be whole, closings too; they would wait for the register's next batch.
      if (signal.aborted) await this.settle(register).catch(() => undefined)
      throw error
    }
    await this.attempt(() => this.settle(register))
    await this.tryAgain(register, true)
    this.tell(register)
    brought()
  }

  /** What waits in quarantine. */
  private async tryAgain(register: ReplayedRegister, missing: boolean): Promise<void> {
    const { quarantine, table, plan, signal } = this.options
    this.add(await this.attempt(() => quarantine.again(register, { table, since: plan.since, missing }, signal)))
  }

  private async walk(register: ReplayedRegister, epoch: ReplayedEpoch): Promise<void> {
    const { database, plan, signal } = this.options
    const { since } = plan
    const from = since === undefined ? epoch.after : await this.attempt(() => database.read(() => behindOlder(database, epoch, since), { signal }))
    this.entries += from - epoch.after
    for (let after = from; after < epoch.through; after += WINDOW) {
      const window = { ...epoch, after, through: Math.min(after + WINDOW, epoch.through) }
      const slices = await this.attempt(() => database.read(() => slicesIn(database, window, plan), { signal, loosely: true }))
      let done = after
      for (const slice of slices) {
        const began = performance.now()
        await this.replaySlice(register, epoch, slice)
        const took = performance.now() - began
        this.entries += slice.through - done
        done = slice.through
        this.tell(register)
        await this.options.clock.sleep(Math.min(PAUSE.maxMs, Math.max(PAUSE.minMs, took * PAUSE.share)))
      }
      this.entries += window.through - done
    }
  }

  private async replaySlice(register: ReplayedRegister, { epoch }: ReplayedEpoch, stretch: Stretch): Promise<void> {
    const { database, subscribed, plan, signal, clock, lane, tell } = this.options
    const { location, register: name } = register
    const slice = { ...stretch, epoch, register: { location, register: name } }
    const { quarantined, ...counts } = await this.attempt(() =>
      lane(() => dividing(database, (division) => replaySlice(database, subscribed, slice, plan, division, clock.now()), 'together', { signal })),
    )
    this.add({ ...counts, quarantined: quarantined.length })
    tell(register, { quarantined, released: [] })
  }

  private async settle({ registerId }: ReplayedRegister): Promise<void> {
    this.add({ postings: await this.options.leftOpen.settle(registerId) })
  }

  /** As long as it fails by nobody's fault, a few times. */
  private async attempt<T>(work: () => Promise<T>): Promise<T> {
    const { clock, signal } = this.options
    for (let tries = 1; ; tries++) {
      signal.throwIfAborted()
      try {
        return await work()
      } catch (thrown) {
        if (tries === TRIES || signal.aborted || !(thrown instanceof TillsyncError && thrown.retryable)) throw thrown
      }
      await clock.sleep(AGAIN_MS * 2 ** tries * clock.random(), signal)
    }
  }

  private add(counts: Partial<Replayed>): void {
    const { documents, postings, quarantined, released, refused } = this.replayed
    this.replayed = {
      documents: documents + (counts.documents ?? 0),
      postings: postings + (counts.postings ?? 0),
      quarantined: quarantined + (counts.quarantined ?? 0),
      released: released + (counts.released ?? 0),
      refused: refused + (counts.refused ?? 0),
    }
  }

  private tell({ location, register }: ReplayedRegister): void {
    const { onProgress, tellProgress } = this.options
    if (onProgress) tellProgress(onProgress, { location, register, ...this.replayed, entries: this.entries, of: this.of })
  }
}
