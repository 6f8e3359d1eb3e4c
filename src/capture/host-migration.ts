import { randomUUID } from 'node:crypto'
import { readState, STATE, writeState } from '../migrate.ts'
import { Periodic } from '../periodic.ts'
import type { CapturingDatabase, Clock } from '../ports.ts'
import { erase, type Work } from '../work.ts'

/** Stands in the library's own table while a process changes the host's schema: another text every few seconds, as long as that process lives. */
const KEY = 'migrating'
const BEAT_MS = 3_000
/** A process of which nothing was heard for so long has died. */
const SILENT_MS = 15_000

/** Schema changes of the host's, by `migrate()`: until they are done nobody makes triggers anew, in whatever process. */
export class HostMigration {
  private readonly database: CapturingDatabase
  private readonly clock: Clock
  private own = 0
  /** What was last found there, and since when. */
  private seen: { readonly text: string; readonly since: number } | undefined

  constructor(database: CapturingDatabase, clock: Clock) {
    this.database = database
    this.clock = clock
  }

  /** @param begin what is done in the transaction from which on it is under way */
  async run<T>(begin: () => Work<void>, fn: () => T | Promise<T>): Promise<T> {
    const { database } = this
    await database.write(function* () {
      yield* beat()
      yield* begin()
    })
    this.own++
    // One that fails, as the host has the database for itself, is followed by another.
    const beats = new Periodic(
      this.clock,
      BEAT_MS,
      (signal) => database.write(beat, { signal }),
      () => undefined,
    )
    beats.start()
    try {
      return await fn()
    } finally {
      await beats.stop()
      this.own--
      if (this.own === 0) await database.write(end)
    }
  }

  *isUnderWay(): Work<boolean> {
    const text = yield* readState(this.database, KEY)
    if (text === undefined) return false
    const now = this.clock.ticks()
    if (this.seen?.text !== text) this.seen = { text, since: now }
    if (this.own > 0 || now - this.seen.since < SILENT_MS) return true
    yield* end()
    return false
  }

  /** Whatever another process is about. */
  *end(): Work<void> {
    yield* end()
  }
}

function* beat(): Work<void> {
  yield* writeState(KEY, randomUUID())
}

function* end(): Work<void> {
  yield* erase(STATE, ['key'], [[KEY]])
}
