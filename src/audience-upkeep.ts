import { audienceIds, pruneAudience } from './capture/audience-prune.ts'
import { asTillsyncError } from './errors.ts'
import type { CentralEvents, Events } from './events.ts'
import { Periodic } from './periodic.ts'
import type { CapturingDatabase, Clock } from './ports.ts'

export interface AudienceUpkeepOptions {
  readonly database: CapturingDatabase
  readonly clock: Clock
  readonly events: Events<CentralEvents>
}

/** A register that was not heard of for so long gets a snapshot when it is back. */
const FORGET_AFTER_MS = 30 * 24 * 3_600_000
const PRUNE_EVERY_MS = 3_600_000
/** Between two slices others have their turn. */
const PRUNE_PAUSE_MS = 10

/** What central does in the background for what it publishes: it prunes every hour. */
export class AudienceUpkeep {
  private readonly options: AudienceUpkeepOptions
  private readonly pruning: Periodic

  constructor(options: AudienceUpkeepOptions) {
    this.options = options
    const { clock, events } = options
    this.pruning = new Periodic(
      clock,
      PRUNE_EVERY_MS,
      (signal) => this.prune(signal),
      (thrown) => events.emit('failed', { error: asTillsyncError(thrown, 'ERR_DATABASE', 'Pruning what is published failed') }),
    )
  }

  start(): void {
    this.pruning.start()
  }

  /** Waits for the slice that is under way. */
  stop(): Promise<void> {
    return this.pruning.stop()
  }

  /**
   * Forgets audiences that no register asks for any more, and removals that all registers have, after a month.
   *
   * @throws ERR_ABORTED
   */
  async prune(signal: AbortSignal | undefined): Promise<void> {
    const { database, clock } = this.options
    const before = new Date(clock.now() - FORGET_AFTER_MS).toISOString()
    for (const id of await database.read(() => audienceIds(database)))
      while (await database.write(() => pruneAudience(database, id, before), { signal, alone: true })) await clock.sleep(PRUNE_PAUSE_MS, signal)
  }
}
