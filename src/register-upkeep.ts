import { pruneSlice } from './capture/prune.ts'
import type { Sealer } from './capture/sealer.ts'
import { asTillsyncError, type TillsyncError } from './errors.ts'
import type { Events, RegisterEvents } from './events.ts'
import { Periodic } from './periodic.ts'
import type { CapturingDatabase, Clock } from './ports.ts'
import { Sealing } from './sealing.ts'
import type { Peer } from './transport/peers.ts'

export interface RegisterUpkeepOptions {
  readonly database: CapturingDatabase
  readonly clock: Clock
  readonly events: Events<RegisterEvents>
  readonly sealer: Sealer
  readonly retainMs: number
  readonly forgetAfterMs: number
  /** What central has last said, and when. */
  peer(): Promise<Peer | undefined>
}

const PRUNE_EVERY_MS = 3_600_000
/** Between two slices others have their turn. */
const PRUNE_PAUSE_MS = 10

/** What a register does in the background for itself: it seals soon after each commit, and prunes every hour. */
export class RegisterUpkeep {
  private readonly options: RegisterUpkeepOptions
  private readonly sealing: Sealing
  private readonly pruning: Periodic

  constructor(options: RegisterUpkeepOptions) {
    this.options = options
    const { database, clock, sealer, events } = options
    this.sealing = new Sealing({ database, clock, sealer, onFailed: (error) => events.emit('failed', { error }) })
    this.pruning = new Periodic(
      clock,
      PRUNE_EVERY_MS,
      (signal) => this.prune(signal),
      (thrown) => events.emit('failed', { error: asTillsyncError(thrown, 'ERR_DATABASE', 'Pruning failed') }),
    )
  }

  get isRunning(): boolean {
    return this.sealing.isRunning
  }

  /** What sealing last failed with; undefined as soon as it goes well again. */
  get failure(): TillsyncError | undefined {
    return this.sealing.failure
  }

  start(): void {
    this.sealing.start()
    this.pruning.start()
  }

  /** Nothing new begins from now on. */
  abort(): void {
    this.sealing.abort()
    void this.pruning.stop()
  }

  /** Waits for what is under way. */
  async ended(): Promise<void> {
    await this.sealing.ended()
    await this.pruning.stop()
  }

  sealSoon(): void {
    this.sealing.soon()
  }

  async prune(signal: AbortSignal | undefined): Promise<{ readonly entries: number }> {
    const { database, clock, retainMs, forgetAfterMs } = this.options
    const now = clock.now()
    const peer = await this.options.peer()
    // One that never came is waited for.
    const forgets = peer !== undefined && now - Date.parse(peer.contactAt) > forgetAfterMs
    const limits = { acknowledged: forgets ? Number.MAX_SAFE_INTEGER : (peer?.standing?.entryNo ?? 0), now, retainMs }
    for (let entries = 0; ; ) {
      const pruned = await database.write(() => pruneSlice(database, limits), { signal, lazily: true })
      entries += pruned
      if (pruned === 0) return { entries }
      await clock.sleep(PRUNE_PAUSE_MS, signal)
    }
  }
}
