import { type ArchivePlace, pruneArchive } from './apply/archive-prune.ts'
import { asTillsyncError } from './errors.ts'
import type { CentralEvents, Events } from './events.ts'
import { Periodic } from './periodic.ts'
import type { ApplyingDatabase, Clock } from './ports.ts'

export interface ArchiveUpkeepOptions {
  readonly database: ApplyingDatabase
  readonly clock: Clock
  readonly events: Events<CentralEvents>
  /** Undefined: all is kept. */
  readonly retainMs: number | undefined
}

const PRUNE_EVERY_MS = 24 * 3_600_000
/** Between two slices others have their turn. */
const PRUNE_PAUSE_MS = 10

/** What central does in the background for its archive: it prunes every day, where it is told to. */
export class ArchiveUpkeep {
  private readonly options: ArchiveUpkeepOptions
  private readonly pruning: Periodic

  constructor(options: ArchiveUpkeepOptions) {
    this.options = options
    const { clock, events } = options
    this.pruning = new Periodic(
      clock,
      PRUNE_EVERY_MS,
      (signal) => this.prune(signal),
      (thrown) => events.emit('failed', { error: asTillsyncError(thrown, 'ERR_DATABASE', 'Pruning the archive failed') }),
    )
  }

  start(): void {
    if (this.options.retainMs !== undefined) this.pruning.start()
  }

  /** Waits for the slice that is under way. */
  stop(): Promise<void> {
    return this.pruning.stop()
  }

  /** @throws ERR_ABORTED */
  async prune(signal: AbortSignal | undefined): Promise<{ readonly entries: number }> {
    const { database, clock, retainMs } = this.options
    if (retainMs === undefined) return { entries: 0 }
    const before = new Date(clock.now() - retainMs).toISOString()
    let entries = 0
    let from: ArchivePlace | undefined = { registerId: 0, epochNo: 0, entryNo: 0 }
    for (;;) {
      const place: ArchivePlace = from
      const slice = await database.write(() => pruneArchive(database, place, before), { signal })
      entries += slice.entries
      from = slice.next
      if (from === undefined) return { entries }
      await clock.sleep(PRUNE_PAUSE_MS, signal)
    }
  }
}
