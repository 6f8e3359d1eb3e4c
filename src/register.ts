import { keepUp, upkeepStatements } from './capture/activation.ts'
import { checkCapture } from './capture/check.ts'
import { lastEntry } from './capture/collector.ts'
import { checkFilters } from './capture/filters.ts'
import { beginHistory, branchOff, type History, readHistory } from './capture/history.ts'
import { type ListedEntry, listEntries, oldestAfter } from './capture/log.ts'
import { listParked } from './capture/parked.ts'
import { digestsAt, pruneSlice } from './capture/prune.ts'
import { pendingReseals } from './capture/reseal.ts'
import { readRules } from './capture/rules.ts'
import { type Sealed, Sealer } from './capture/sealer.ts'
import { readBatch } from './capture/stream.ts'
import { DIGESTS, ENTRIES, MEMBERS, PARKED, WITHHELD } from './capture/tables.ts'
import { type TracedDocument, traceDocuments } from './capture/trace.ts'
import { systemClock } from './clock.ts'
import { Courier } from './courier.ts'
import { asTillsyncError, TillsyncError } from './errors.ts'
import { Events, type RegisterEvents } from './events.ts'
import { checkMigrated, type Migrations, migrate, migrationStatements } from './migrate.ts'
import type { AnyTables, Finding, Point, RegisterName, Standing, Which } from './model.ts'
import { checkRegisterOptions, known, type RegisterOptions, readForgetAfterMs, readRetainMs, readTransfer, whole } from './options.ts'
import type { CapturingDatabase, Clock } from './ports.ts'
import type { Register, RegisterStatus, Synchronized } from './register-face.ts'
import { backoffMs } from './transport/backoff.ts'
import { BatchReader } from './transport/batch-reader.ts'
import { Exchanges } from './transport/exchange.ts'
import { readPeer, writePeer } from './transport/peers.ts'
import { PEERS } from './transport/tables.ts'

const MIGRATIONS: readonly Migrations[] = [
  { component: 'capture', steps: [{ create: [ENTRIES, DIGESTS, MEMBERS, WITHHELD, PARKED] }] },
  { component: 'transport', steps: [{ create: [PEERS] }] },
]
const OWN_TABLES = [ENTRIES, DIGESTS, MEMBERS, WITHHELD, PARKED, PEERS].map((table) => table.name)
const CENTRAL = 'central'
/** The pause after sealing failed. */
const SEAL_AGAIN = { minMs: 200, maxMs: 30_000 }
const PRUNE_EVERY_MS = 3_600_000
/** How often it is written down that central was reached, where nothing else is new. */
const CONTACT_EVERY_MS = 60_000
/** Between two slices others have their turn. */
const PRUNE_PAUSE_MS = 10

/**
 * A register with its rules. Nothing happens before `install()` and `start()`.
 *
 * @throws ERR_OPTION, ERR_RULE
 */
export function createRegister<DB = AnyTables>(options: RegisterOptions<NoInfer<DB>>): Register<DB> {
  return new RegisterReplica(options as RegisterOptions<AnyTables>, systemClock) as unknown as Register<DB>
}

/** What `createRegister` makes, on a clock that is passed in. */
export class RegisterReplica implements Register {
  private readonly name: RegisterName
  private readonly database: CapturingDatabase
  private readonly events = new Events<RegisterEvents>()
  private readonly sealer: Sealer
  private readonly courier: Courier | undefined
  private readonly specs: ReturnType<typeof readRules>
  private failure: TillsyncError | undefined
  private unwatch: (() => void) | undefined
  private starting: Promise<void> | undefined
  private sealing: Promise<void> | undefined
  private pruning: Promise<void> | undefined
  private readonly retainMs: number
  private readonly forgetAfterMs: number
  private sealAgain = false
  private stopping = new AbortController()
  private readonly clock: Clock

  constructor(options: RegisterOptions<AnyTables>, clock: Clock) {
    checkRegisterOptions(options as RegisterOptions<never>)
    this.name = { location: options.location, register: options.register }
    this.database = options.database
    this.clock = clock
    this.specs = readRules(options.publish)
    checkFilters(this.database, this.specs)
    this.retainMs = readRetainMs(options.retainMs)
    this.forgetAfterMs = readForgetAfterMs(options.forgetAfterMs)
    this.sealer = new Sealer(
      this.database,
      this.specs,
      clock,
      (slice) => {
        this.events.emit('sealed', { documents: slice.documents, entries: slice.entries, through: slice.through })
        this.courier?.wake()
      },
      ({ mended, problems }) => this.events.emit('schema', { mended, problems }),
    )
    const transfer = readTransfer(options.transfer)
    if (transfer === undefined) return
    const { database, name } = this
    const limits = { records: transfer.recordsPerRun, bytes: transfer.bytesPerRun }
    const reader = new BatchReader(async (epoch, after) => {
      const plan = await this.sealer.planned()
      return database.read(() => readBatch(database, plan, epoch, after, limits))
    })
    const exchanges = new Exchanges({
      from: name,
      link: transfer.link,
      maxMessageBytes: transfer.maxMessageBytes,
      known: () => this.history(),
      digestsAt: (entryNos) => database.read(() => digestsAt(database, entryNos)),
      read: (epoch, after) => reader.read(epoch, after),
      readAhead: (epoch, after) => reader.readAhead(epoch, after),
      standing: async () => (await database.read(() => readPeer(database, CENTRAL)))?.standing,
      heard: (standing) => this.heard(standing),
      branch: (known, from, common, anew) => this.branch(known as History, from, common, anew),
      sealAgain: (documents) => this.sealer.sealAgain(documents),
    })
    this.courier = new Courier({
      clock,
      transfer,
      events: this.events,
      pending: () => this.isPending(),
      exchange: async (signal) => {
        const exchanged = await exchanges.next(signal)
        if (exchanged.branched) this.events.emit('forked', exchanged.branched)
        return exchanged
      },
    })
  }

  async install(options: { readonly dryRun?: boolean } = {}): Promise<readonly string[]> {
    known('options', options, ['dryRun'])
    const { database, specs } = this
    await database.open()
    if (options.dryRun) {
      return database.read(function* () {
        return [...(yield* migrationStatements(database, MIGRATIONS)), ...(yield* upkeepStatements(database, specs))]
      })
    }
    const done = await database.write(function* () {
      const migrated = yield* migrate(database, MIGRATIONS)
      yield* beginHistory(database)
      return [...migrated, ...(yield* keepUp(database, specs, true)).statements]
    })
    this.sealer.forgetPlan()
    return done
  }

  async uninstall(): Promise<void> {
    await this.stop()
    const { database } = this
    await database.open()
    await database.write(function* () {
      yield* database.capture.uninstall()
      for (const table of [...OWN_TABLES, 'sync_state']) yield* database.dropTable(table)
    })
    await database.close()
  }

  start(): Promise<void> {
    if (this.starting !== undefined) return this.starting
    const started = this.begin().finally(() => {
      this.starting = undefined
    })
    this.starting = started
    // A host that does not wait for it must not be ended by an unhandled rejection: it hears of it by the event.
    started.catch((error: TillsyncError) => {
      this.failure = error
      this.events.emit('failed', { error })
    })
    return started
  }

  private async begin(): Promise<void> {
    if (this.unwatch !== undefined) return
    await this.ready()
    await this.sealer.planned()
    this.stopping = new AbortController()
    this.unwatch = this.database.watch(() => this.sealSoon())
    this.sealSoon()
    this.pruning = this.pruneAlways(this.stopping.signal)
    this.courier?.start()
  }

  async stop(): Promise<void> {
    await this.starting?.catch(() => undefined)
    this.unwatch?.()
    this.unwatch = undefined
    this.stopping.abort()
    await this.courier?.stop()
    await this.sealing
    await this.pruning
    this.sealer.forgetPlan()
    await this.database.close()
  }

  /** Open, and installed by this version or an earlier one that needs no change. */
  private async ready(): Promise<void> {
    await this.database.open()
    await this.database.read(() => checkMigrated(this.database, MIGRATIONS))
  }

  private async history(): Promise<History> {
    const history = await this.database.read(() => readHistory(this.database))
    if (history !== undefined) return history
    throw new TillsyncError('ERR_NOT_INSTALLED', "The library's tables hold no epoch", { hint: 'Call install().' })
  }

  /** Writes only what is new: central is asked every few seconds, and mostly says the same. */
  private async heard(standing: Standing | undefined): Promise<void> {
    const { database, clock } = this
    const known = await database.read(() => readPeer(database, CENTRAL))
    const isKnown = known?.standing?.epoch === standing?.epoch && known?.standing?.entryNo === standing?.entryNo
    if (known !== undefined && isKnown && clock.now() - Date.parse(known.contactAt) < CONTACT_EVERY_MS) return
    await database.write(() => writePeer(CENTRAL, { standing, contactAt: new Date(clock.now()).toISOString() }))
  }

  private async branch(known: History, from: Standing, common: Point, anew: boolean): Promise<void> {
    const tables = [...(await this.sealer.planned()).roots.keys()]
    await this.database.write(() => branchOff(this.database, known, { from, common, anew }, tables))
    if (this.unwatch !== undefined) this.sealSoon()
  }

  private sealSoon(): void {
    this.sealAgain = true
    this.sealing ??= this.sealAll().finally(() => {
      this.sealing = undefined
    })
  }

  /** Until nothing is touched any more; what failed is tried again, with growing pauses. */
  private async sealAll(): Promise<void> {
    const { signal } = this.stopping
    for (let failures = 0; this.sealAgain && !signal.aborted; ) {
      this.sealAgain = false
      try {
        await this.sealer.seal(signal)
        await this.sealer.resealPending(signal)
        failures = 0
        this.failure = undefined
      } catch (thrown) {
        if (signal.aborted) return
        this.failure = asTillsyncError(thrown, 'ERR_DATABASE', 'Sealing failed')
        this.events.emit('failed', { error: this.failure })
        this.sealAgain = true
        await this.clock.sleep(backoffMs(++failures, SEAL_AGAIN, this.clock.random), signal).catch(() => undefined)
      }
    }
  }

  async seal(): Promise<Sealed> {
    await this.ready()
    return this.sealer.sealAll()
  }

  async synchronize({ signal }: { readonly signal?: AbortSignal } = {}): Promise<Synchronized> {
    if (this.courier === undefined)
      throw new TillsyncError('ERR_OPTION', 'There is no `transfer` to synchronize by', {
        hint: "transfer: { type: 'push', link: httpLink({ url, token }) }",
      })
    await this.seal()
    await this.sealer.resealPending(signal)
    return this.courier.synchronize(signal)
  }

  async export(table: string, which: Which<AnyTables, string>, options: { readonly related?: boolean } = {}): Promise<Sealed> {
    known('options', options, ['related'])
    await this.ready()
    return this.sealer.export(table, which, options.related ?? false)
  }

  async reseal(table: string, options: { readonly signal?: AbortSignal } = {}): Promise<Sealed> {
    known('options', options, ['signal'])
    await this.ready()
    return this.sealer.reseal(table, options.signal)
  }

  async entries(which: { readonly table?: string; readonly after?: number; readonly limit?: number } = {}): Promise<readonly ListedEntry[]> {
    known('which', which, ['table', 'after', 'limit'])
    const after = whole('after', which.after ?? 0, 0)
    const limit = Math.min(1_000, whole('limit', which.limit ?? 50, 1))
    await this.ready()
    return this.database.read(() => listEntries(this.database, { table: which.table, after, limit }))
  }

  private isPending(): Promise<boolean> {
    const { database } = this
    return database.read(function* () {
      const peer = yield* readPeer(database, CENTRAL)
      const history = yield* readHistory(database)
      // That our history goes on in another epoch is news, be it without an entry.
      return (
        history !== undefined &&
        (history.head.entryNo > (peer?.standing?.entryNo ?? 0) || (peer?.standing && peer.standing.epoch !== history.epoch) === true)
      )
    })
  }

  private async standings() {
    const { database } = this
    const { epoch } = await this.history()
    return database.read(function* () {
      const head = yield* lastEntry(database)
      const peer = yield* readPeer(database, CENTRAL)
      const acknowledged = peer?.standing?.entryNo ?? 0
      return {
        head: { epoch, ...head },
        peer,
        pending: head.entryNo - acknowledged,
        oldestPending: yield* oldestAfter(database, acknowledged),
        unsealed: yield* database.capture.countTouches(),
        parked: yield* listParked(database),
        resealing: yield* pendingReseals(database),
      }
    })
  }

  async status(): Promise<RegisterStatus> {
    await this.ready()
    const { head, peer, pending, oldestPending, unsealed, parked, resealing } = await this.standings()
    return {
      unsealed,
      pending,
      oldestPending,
      head,
      standing: peer?.standing,
      lastContact: peer?.contactAt,
      lastError: this.failure ?? this.courier?.failure,
      parked,
      problems: this.sealer.problems,
      resealing,
    }
  }

  async check(): Promise<readonly Finding[]> {
    await this.ready()
    return this.database.read(() => checkCapture(this.database, this.specs))
  }

  async trace(table: string, which: Which<AnyTables, string>, options: { readonly signal?: AbortSignal } = {}): Promise<readonly TracedDocument[]> {
    known('options', options, ['signal'])
    await this.ready()
    const { database } = this
    const acknowledged = (await database.read(() => readPeer(database, CENTRAL)))?.standing?.entryNo ?? 0
    return traceDocuments(database, await this.sealer.planned(), table, which, acknowledged, options.signal)
  }

  async prune({ signal }: { readonly signal?: AbortSignal } = {}): Promise<{ readonly entries: number }> {
    await this.ready()
    const { database } = this
    const now = this.clock.now()
    const before = new Date(now - this.retainMs).toISOString()
    const peer = await database.read(() => readPeer(database, CENTRAL))
    // One that never came is waited for.
    const isForgotten = peer !== undefined && now - Date.parse(peer.contactAt) > this.forgetAfterMs
    const acknowledged = isForgotten ? Number.MAX_SAFE_INTEGER : (peer?.standing?.entryNo ?? 0)
    for (let entries = 0; ; ) {
      const pruned = await database.write(() => pruneSlice(database, { acknowledged, before }), { signal })
      entries += pruned
      if (pruned === 0) return { entries }
      await this.clock.sleep(PRUNE_PAUSE_MS, signal)
    }
  }

  private async pruneAlways(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.prune({ signal })
      } catch (thrown) {
        if (signal.aborted) return
        this.events.emit('failed', { error: asTillsyncError(thrown, 'ERR_DATABASE', 'Pruning failed') })
      }
      await this.clock.sleep(PRUNE_EVERY_MS, signal).catch(() => undefined)
    }
  }

  async migrate<T>(fn: () => T | Promise<T>): Promise<T> {
    await this.ready()
    const { database } = this
    await database.write(() => database.capture.removeTriggers())
    try {
      return await fn()
    } finally {
      this.sealer.forgetPlan()
      await this.sealer.planned()
      await this.sealer.resealPending()
    }
  }

  on<K extends keyof RegisterEvents>(event: K, listener: (event: RegisterEvents[K]) => void): () => void {
    return this.events.on(event, listener)
  }
}
