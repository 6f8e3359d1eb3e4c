import type { MirrorRules } from './apply/handler.ts'
import { NoticeBook } from './apply/notice-book.ts'
import { SUBSCRIPTION_TABLES } from './apply/subscription-tables.ts'
import { upkeepStatements } from './capture/activation.ts'
import { listBounced } from './capture/bounced.ts'
import { lastEntry, sealSlice } from './capture/collector.ts'
import type { TouchedDocument } from './capture/documents.ts'
import { checkFilters } from './capture/filters.ts'
import { beginHistory, refuseShared } from './capture/history.ts'
import { type ListedEntry, listEntries, oldestAfter } from './capture/log.ts'
import { listParked } from './capture/parked.ts'
import { pendingReseals } from './capture/reseal.ts'
import { readRules } from './capture/rules.ts'
import { type Sealed, Sealer } from './capture/sealer.ts'
import { BOUNCED, DIGESTS, ENTRIES, MEMBERS, PARKED, WITHHELD } from './capture/tables.ts'
import { type TracedDocument, traceDocuments } from './capture/trace.ts'
import { systemClock } from './clock.ts'
import type { Progress, SynchronizeOptions } from './courier.ts'
import { TillsyncError } from './errors.ts'
import { Events, REGISTER_EVENTS, type RegisterEvents } from './events.ts'
import { Lifecycle } from './lifecycle.ts'
import { checkMigrated, type Migrations, migrate, migrationStatements } from './migrate.ts'
import type { AnyTables, Finding, Which } from './model.ts'
import { bad, checkFlag, checkName, known, readLimit, unlessGiven, whole } from './options.ts'
import type { CapturingDatabase, Clock, RegisterDatabase } from './ports.ts'
import type { Register, RegisterStatus, Synchronized } from './register-face.ts'
import { checkRegisterOptions, type RegisterOptions, readForgetAfterMs, readRetainMs } from './register-options.ts'
import { RegisterSubscription } from './register-subscription.ts'
import { RegisterTransfer } from './register-transfer.ts'
import { RegisterUpkeep } from './register-upkeep.ts'
import { readTransfer } from './transfer-options.ts'
import { fetchBy } from './transport/http-request.ts'
import { CENTRAL, readPeer } from './transport/peers.ts'
import { PEERS } from './transport/tables.ts'
import type { Work } from './work.ts'

const MIGRATIONS: readonly Migrations[] = [
  { component: 'capture', steps: [{ create: [ENTRIES, DIGESTS, MEMBERS, WITHHELD, PARKED, BOUNCED] }] },
  { component: 'transport', steps: [{ create: [PEERS] }] },
  { component: 'apply', steps: [{ create: SUBSCRIPTION_TABLES }] },
]
const OWN_TABLES = [ENTRIES, DIGESTS, MEMBERS, WITHHELD, PARKED, BOUNCED, PEERS, ...SUBSCRIPTION_TABLES].map((table) => table.name)

/**
 * A register with its rules: of its own tables, and of what central sends it, `Sent`, whose tables have the same names and columns where it does not say
 * otherwise. Nothing happens before `install()` and `start()`.
 *
 * @throws ERR_OPTION, ERR_RULE
 */
export function createRegister<DB = AnyTables, Sent = DB>(options: RegisterOptions<NoInfer<DB>, MirrorRules<NoInfer<Sent>>>): Register<DB> {
  return new RegisterReplica(options as unknown as RegisterOptions<AnyTables>, systemClock) as unknown as Register<DB>
}

/** What `createRegister` makes, on a clock that is passed in. */
export class RegisterReplica implements Register {
  readonly fetch = fetchBy((request, from) => this.transfer.serve(request, from))
  /** Where it subscribes to what central publishes. */
  readonly subscription: RegisterSubscription | undefined
  readonly notices: NoticeBook
  private readonly database: CapturingDatabase
  private readonly events = new Events<RegisterEvents>(REGISTER_EVENTS)
  private readonly sealer: Sealer
  private readonly transfer: RegisterTransfer
  private readonly upkeep: RegisterUpkeep
  private readonly specs: ReturnType<typeof readRules>
  private failure: TillsyncError | undefined
  private readonly lifecycle = new Lifecycle()
  /** A stop was asked for that has not had its turn yet. */
  private stops = 0
  /** Synchronizations by hand: a stop ends them, and waits for them. */
  private readonly byHand = new Set<Promise<unknown>>()
  private ending = new AbortController()

  constructor(options: RegisterOptions<AnyTables>, clock: Clock) {
    checkRegisterOptions(options as RegisterOptions<never>)
    const name = { location: options.location, register: options.register }
    this.database = options.database
    this.specs = readRules(options.publish)
    checkFilters(this.database, this.specs)
    const retainMs = readRetainMs(options.retainMs)
    const forgetAfterMs = readForgetAfterMs(options.forgetAfterMs)
    const { database, events } = this
    this.notices = new NoticeBook(
      database,
      () => this.ready(),
      async (rows) => this.subscription?.refreshNotices(rows) ?? false,
      (table) => this.subscription?.isSubscribed(table) !== false,
    )
    this.sealer = new Sealer({
      database,
      specs: this.specs,
      clock,
      onSealed: (slice) => {
        events.emit('sealed', { documents: slice.documents, entries: slice.entries, through: slice.through })
        this.transfer.wake()
      },
      onUpkeep: ({ mended, problems }) => events.emit('schema', { mended, problems }),
      seal: (database, plan, limit, now) => sealSlice(database, plan, limit, now, (touched) => this.noteTouched(touched)),
      refill: (table, lost) => this.refill(table, lost),
    })
    const { sealer } = this
    const { subscribe } = options
    const isPublishing = this.specs.length > 0
    const sealSoon = () => this.upkeep.isRunning && this.upkeep.sealSoon()
    if (subscribe !== undefined) {
      // Triggers of the host's may have made something else of it, and SQLite tells nobody of his own commits.
      const onWritten = isPublishing ? sealSoon : () => undefined
      this.subscription = new RegisterSubscription({
        name,
        database: database as RegisterDatabase,
        clock,
        events,
        sealer,
        subscribe,
        isPublishing,
        onWritten,
      })
    }
    this.upkeep = new RegisterUpkeep({ database, clock, events, sealer, retainMs, forgetAfterMs, peer: () => this.transfer.peer() })
    this.transfer = new RegisterTransfer({
      name,
      database,
      clock,
      events,
      sealer,
      transfer: readTransfer(options.transfer),
      audiences: this.subscription?.subscriber,
      isRemovedFrom: (table) => this.subscription?.isRemovedFrom(table) === true,
      ready: () => this.ready(),
      onReseal: sealSoon,
    })
  }

  async install(options: { readonly dryRun?: boolean } = {}): Promise<readonly string[]> {
    known('options', options, ['dryRun'])
    checkFlag('dryRun', options.dryRun)
    return this.lifecycle.turn(() => this.installNow(options.dryRun === true))
  }

  private async installNow(isDry: boolean): Promise<readonly string[]> {
    const { database, specs, sealer, subscription } = this
    await database.open()
    if (isDry) {
      return database.read(function* () {
        yield* refuseShared(database)
        yield* subscription?.install() ?? []
        return [...(yield* migrationStatements(database, MIGRATIONS)), ...(yield* upkeepStatements(database, specs))]
      })
    }
    const coming = await sealer.planning.willInstall()
    await subscription?.willInstall()
    const done = await database.write(function* () {
      yield* refuseShared(database)
      yield* sealer.planning.prepare()
      const migrated = yield* migrate(database, MIGRATIONS)
      yield* subscription?.install() ?? []
      yield* beginHistory(database)
      return [...migrated, ...(yield* sealer.planning.install(coming)).statements]
    })
    sealer.planning.installed()
    return done
  }

  uninstall(): Promise<void> {
    return this.stopping(async () => {
      await this.end()
      const { database } = this
      await database.open()
      await database.write(function* () {
        yield* database.lockInstall()
        yield* database.capture.uninstall()
        for (const table of [...OWN_TABLES, 'sync_state']) yield* database.dropTable(table)
      })
      await database.close()
    })
  }

  start(): Promise<void> {
    const started = this.lifecycle.turn(() => this.begin())
    // A host that does not wait for it must not be ended by an unhandled rejection: it hears of it by the event.
    started.catch((error: TillsyncError) => {
      this.failure = error
      this.events.emit('failed', { error })
    })
    return started
  }

  private async begin(): Promise<void> {
    if (this.upkeep.isRunning) return
    await this.ready()
    this.sealer.planning.begin()
    this.failure = undefined
    // What passes by itself, as that somebody has a table for himself, ends nothing that nobody would begin again: sealing looks until it has passed.
    await this.sealer.planning.planned().catch((error) => {
      if (!(error instanceof TillsyncError && error.retryable)) throw error
      this.events.emit('failed', { error })
    })
    // A stop that was asked for meanwhile has its turn next: nothing begins that it would end at once.
    if (this.stops > 0) return
    this.upkeep.start()
    this.subscription?.start()
    this.transfer.start()
  }

  stop(): Promise<void> {
    return this.stopping(() => this.end())
  }

  private stopping(end: () => Promise<void>): Promise<void> {
    this.stops++
    this.ending.abort()
    return this.lifecycle.turn(() => {
      this.stops--
      return end()
    })
  }

  private async end(): Promise<void> {
    this.upkeep.abort()
    await this.transfer.stop()
    await Promise.allSettled(this.byHand)
    await this.subscription?.stop()
    await this.upkeep.ended()
    this.ending = new AbortController()
    this.sealer.planning.begin()
    await this.database.close()
  }

  /** Open, and installed by this version or an earlier one that needs no change. */
  private async ready(): Promise<void> {
    await this.database.open()
    await this.database.read(() => checkMigrated(this.database, MIGRATIONS))
  }

  async seal(): Promise<Sealed> {
    await this.ready()
    this.sealer.lookAgain()
    const sealed = await this.sealer.sealAll()
    const resealed = await this.sealer.resealPending()
    return { documents: sealed.documents + resealed.documents, entries: sealed.entries + resealed.entries }
  }

  async synchronize(options: SynchronizeOptions<Progress> = {}): Promise<Synchronized> {
    known('options', options, ['signal', 'onProgress'])
    this.transfer.requirePush()
    const signal = AbortSignal.any([this.ending.signal, ...(options.signal ? [options.signal] : [])])
    const run = this.synchronizeUntil({ ...options, signal })
    this.byHand.add(run)
    return run.finally(() => this.byHand.delete(run))
  }

  private async synchronizeUntil(options: SynchronizeOptions<Progress>): Promise<Synchronized> {
    await this.ready()
    this.sealer.lookAgain()
    await this.sealer.sealAll(options.signal)
    await this.sealer.resealPending(options.signal)
    return this.transfer.synchronize(options)
  }

  async export(table: string, which: Which<AnyTables, string>, options: { readonly related?: boolean } = {}): Promise<Sealed> {
    known('options', options, ['related'])
    checkFlag('related', options.related)
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
    if (which.table !== undefined) checkName('table', which.table)
    const after = whole('after', unlessGiven(which.after, 0), 0)
    const limit = readLimit(which.limit, 50)
    await this.ready()
    return this.database.read(() => listEntries(this.database, { table: which.table, after, limit }))
  }

  private *noteTouched(touched: readonly TouchedDocument[]): Work<void> {
    yield* this.subscription?.note(touched) ?? []
  }

  private *refill(table: string, lost: string): Work<boolean> {
    return (yield* this.subscription?.refill(table, lost) ?? []) === true
  }

  private async acknowledged(): Promise<number> {
    return (await this.transfer.peer())?.standing?.entryNo ?? 0
  }

  private async standings() {
    const { database } = this
    const { epoch } = await this.transfer.history()
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
        parked: [...(yield* listParked(database)), ...(yield* listBounced(database))],
        resealing: yield* pendingReseals(database),
      }
    })
  }

  async status(): Promise<RegisterStatus> {
    await this.ready()
    const { head, peer, pending, oldestPending, unsealed, parked, resealing } = await this.standings()
    const { subscriptions = [], unapplied = [], problems = [], failure } = (await this.subscription?.status()) ?? {}
    return {
      unsealed,
      pending,
      oldestPending,
      head,
      standing: peer?.standing,
      lastContact: [this.transfer.lastContact ?? '', peer?.contactAt ?? ''].sort().at(-1) || undefined,
      lastError: this.failure ?? this.upkeep.failure ?? this.transfer.failure ?? failure,
      parked,
      subscriptions,
      unapplied,
      problems: [...this.sealer.planning.problems, ...problems],
      resealing,
    }
  }

  async check(): Promise<readonly Finding[]> {
    await this.ready()
    const { database, sealer, subscription } = this
    const findings = await database.read(() => sealer.planning.check(true))
    return [...findings, ...((await subscription?.check()) ?? [])]
  }

  async trace(table: string, which: Which<AnyTables, string>, options: { readonly signal?: AbortSignal } = {}): Promise<readonly TracedDocument[]> {
    known('options', options, ['signal'])
    await this.ready()
    const { database } = this
    return traceDocuments(database, await this.sealer.planning.planned(), table, which, await this.acknowledged(), options.signal)
  }

  async prune(options: { readonly signal?: AbortSignal } = {}): Promise<{ readonly entries: number }> {
    known('options', options, ['signal'])
    await this.ready()
    return this.upkeep.prune(options.signal)
  }

  async migrate<T>(fn: () => T | Promise<T>): Promise<T> {
    if (typeof fn !== 'function') throw bad('fn', 'a function that changes the schema', fn)
    await this.ready()
    const { sealer } = this
    try {
      return await sealer.planning.migrate(fn)
    } finally {
      await sealer.resealPending()
    }
  }

  on<K extends keyof RegisterEvents>(event: K, listener: (event: RegisterEvents[K]) => void): () => void {
    return this.events.on(event, listener)
  }
}
