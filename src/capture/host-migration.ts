import { randomUUID } from 'node:crypto'
import { readStates, STATE, writeState } from '../migrate.ts'
import { Periodic } from '../periodic.ts'
import type { CapturingDatabase, Clock } from '../ports.ts'
import { erase, type Work } from '../work.ts'

/** A row whose key begins so stands in the library's own table for each process that changes the host's schema: another text every few seconds, as long as that process lives. */
const KEY = 'migrating'
const BEAT_MS = 3_000
/** A process of which nothing was heard for so long has died. */
const SILENT_MS = 15_000

/** Schema changes of the host's, by `migrate()`: until they are done nobody makes triggers anew, in whatever process. */
export class HostMigration {
  private readonly database: CapturingDatabase
  private readonly clock: Clock
  private readonly key = `${KEY}.${randomUUID()}`
  private own = 0
  /** What was last found there, by its key, and since when. */
  private seen: ReadonlyMap<string, { readonly text: string; readonly since: number }> = new Map()

  constructor(database: CapturingDatabase, clock: Clock) {
    this.database = database
    this.clock = clock
  }

  /** @param begin what is done in the transaction from which on it is under way */
  async run<T>(begin: () => Work<void>, fn: () => T | Promise<T>): Promise<T> {
    const { database, key } = this
    const beat = () => writeState(key, randomUUID())
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
      if (this.own === 0) await database.write(() => end([key]))
    }
  }

  *isUnderWay(): Work<boolean> {
    const now = this.clock.ticks()
    const rows = yield* readStates(this.database, KEY)
    this.seen = new Map(
      rows.map(({ key, value }) => {
        const known = this.seen.get(key)
        return [key, known?.text === value ? known : { text: value, since: now }]
      }),
    )
    const isOwn = (key: string) => key === this.key && this.own > 0
    const dead = [...this.seen].filter(([key, { since }]) => !isOwn(key) && now - since >= SILENT_MS)
    yield* end(dead.map(([key]) => key))
    return dead.length < rows.length
  }

  /** Whatever other processes are about. */
  *end(): Work<void> {
    yield* end((yield* readStates(this.database, KEY)).map(({ key }) => key))
  }
}

function* end(keys: readonly string[]): Work<void> {
  yield* erase(
    STATE,
    ['key'],
    keys.map((key) => [key]),
  )
}
