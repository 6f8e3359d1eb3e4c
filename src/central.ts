import PQueue from 'p-queue'
import type { ArchivedEntry } from './apply/archive.ts'
import { ArchiveBook, type WhichEntries } from './apply/archive-book.ts'
import type { Audit } from './apply/audit.ts'
import { AuditBook, type WhichToAudit } from './apply/audit-book.ts'
import { ClosingBook, type WhichClosings } from './apply/closing-book.ts'
import type { FoundClosings, WaitingClosing } from './apply/closing-recall.ts'
import { Effects } from './apply/effects.ts'
import { givenBy } from './apply/given-documents.ts'
import type { HandlersByTable, SubscribeRules } from './apply/handler.ts'
import type { Subscribed } from './apply/handling.ts'
import { type HostHandler, hostHandler } from './apply/host-handler.ts'
import { LeftOpen } from './apply/left-open.ts'
import { type NumberingRules, readNumbering } from './apply/numbering.ts'
import { OrphanBook } from './apply/orphan-book.ts'
import { QuarantineBook } from './apply/quarantine-book.ts'
import { dividing } from './apply/quarantine-division.ts'
import { QuarantineTurns } from './apply/quarantine-turns.ts'
import { receive, standingFor } from './apply/receive.ts'
import type { Reconciliation } from './apply/reconcile.ts'
import { ReconcileBook, type WhichDay } from './apply/reconcile-book.ts'
import { type Replayed, type ReplayOptions, Replays } from './apply/replay.ts'
import type { WhichReplayed } from './apply/replay-options.ts'
import { readHandlers } from './apply/subscription.ts'
import type { ArchivedDocument } from './apply/trace.ts'
import { TraceBook, type TraceOptions } from './apply/trace-book.ts'
import { readChecks, type ValidateRules } from './apply/validate.ts'
import { ArchiveUpkeep } from './archive-upkeep.ts'
import { CentralDoors } from './central-doors.ts'
import type { Central, CentralStatus, ExportTarget } from './central-face.ts'
import { CentralInstallation } from './central-installation.ts'
import { type CentralOptions, readCentralOptions } from './central-options.ts'
import { CentralPublishing, capturing } from './central-publishing.ts'
import { systemClock } from './clock.ts'
import { CompareBook, type CompareOptions, type Comparison } from './compare-book.ts'
import { Contacts } from './contacts.ts'
import type { SynchronizeOptions } from './courier.ts'
import { TillsyncError } from './errors.ts'
import { CENTRAL_EVENTS, type CentralEvents, Events } from './events.ts'
import { Herald } from './herald.ts'
import { Lifecycle } from './lifecycle.ts'
import type { AnyTables, AudienceRules, Batch, Finding, Publication, RegisterName, Takes, Which } from './model.ts'
import { checkName, known } from './options.ts'
import type { ApplyingDatabase, Clock, Proof, Received, Subscriber } from './ports.ts'
import { PullBook } from './pull-book.ts'
import { checkRegister, checkTarget, RegisterBook } from './registers.ts'
import { type PulledRegister, type PullProgress, type PullResult, Rounds } from './rounds.ts'
import { Holds } from './transport/holds.ts'
import { fetchBy } from './transport/http-request.ts'

/**
 * Head office with its handlers. Nothing happens before `install()` and the first request.
 *
 * @throws ERR_OPTION
 */
export function createCentral<DB = AnyTables, Sent = AnyTables>(
  options: CentralOptions<SubscribeRules<NoInfer<Sent>, NoInfer<DB>>, ValidateRules<NoInfer<Sent>>, NoInfer<DB>, NumberingRules<NoInfer<Sent>>>,
): Central<Sent, DB> {
  return new CentralReplica(options as unknown as AnyCentralOptions, systemClock) as unknown as Central<Sent, DB>
}

type AnyCentralOptions = CentralOptions<SubscribeRules<AnyTables>, ValidateRules<AnyTables>, AnyTables, NumberingRules<AnyTables>>

/** What `createCentral` makes, on a clock that is passed in. */
export class CentralReplica implements Central, Subscriber {
  readonly registers: RegisterBook
  readonly orphans: OrphanBook
  private readonly archive: ArchiveBook
  private readonly traces: TraceBook
  private readonly comparisons: CompareBook
  private readonly upkeep: ArchiveUpkeep
  readonly quarantine: QuarantineBook
  readonly fetch = fetchBy((request, from) => this.doors.serve(request, from))
  private readonly closingBook: ClosingBook
  private readonly auditBook: AuditBook
  private readonly reconcileBook: ReconcileBook
  private readonly database: ApplyingDatabase
  private readonly handlers: HandlersByTable
  private readonly effects: Effects
  private readonly subscribed: Subscribed
  private readonly turns: QuarantineTurns
  private readonly replays: Replays
  private readonly events = new Events<CentralEvents>(CENTRAL_EVENTS)
  private readonly lanes: PQueue
  private readonly clock: Clock
  private readonly takes: Takes
  private readonly installation: CentralInstallation
  private readonly doors: CentralDoors
  private readonly rounds: Rounds
  private readonly holds: Holds
  /** Undefined where nothing is sent to the registers. */
  readonly publishing: CentralPublishing | undefined
  private readonly herald: Herald
  private readonly contacts: Contacts
  private readonly lifecycle = new Lifecycle()
  /** Letters and requests that are being answered, and registers that are pulled by hand: a stop waits for them. */
  private readonly underWay = new Set<Promise<unknown>>()
  private readiness: Promise<void> | undefined
  private stopped = false

  constructor(options: AnyCentralOptions, clock: Clock) {
    const { lanes, takes, limits, longPollMs, pull, mailboxes, retainArchiveMs, handlerTimeoutMs, filterTimeoutMs, retry } = readCentralOptions(
      options as unknown as CentralOptions<Readonly<Record<string, unknown>>>,
    )
    this.database = options.database
    this.clock = clock
    this.takes = takes
    const onFailed = (error: TillsyncError) => this.events.emit('failed', { error })
    this.effects = new Effects({ database: this.database, clock, timeoutMs: handlerTimeoutMs, onFailed })
    const handlerOf = (run: HostHandler) => hostHandler(run, { timeoutMs: handlerTimeoutMs, effects: this.effects })
    this.handlers = readHandlers(options.subscribe as Readonly<Record<string, unknown>>, handlerOf)
    const checks = readChecks((options.validate ?? {}) as Readonly<Record<string, unknown>>, new Set(this.handlers.keys()))
    this.subscribed = { handlers: this.handlers, checks, handlerTimeoutMs, retry }
    this.lanes = new PQueue({ concurrency: lanes })
    this.holds = new Holds(clock, longPollMs)
    const book = new PullBook(this.database)
    this.contacts = new Contacts(this.database, clock)
    this.registers = new RegisterBook(
      this.database,
      clock,
      book,
      this.contacts,
      () => this.ready(),
      async (register) => this.publishing?.tryRegister(register),
    )
    this.publishing = options.publish && this.publisherOf(options.publish, filterTimeoutMs)
    const audiences = this.publishing
    this.rounds = new Rounds({ book, clock, takes, pull, events: this.events, subscriber: this, audiences, ready: () => this.ready() })
    this.herald = new Herald({ database: this.database, clock, holds: this.holds, wake: (register) => this.rounds.wake(register) })
    this.orphans = new OrphanBook(this.database, this.handlers, Math.floor(takes.message / 2), () => this.ready())
    this.archive = new ArchiveBook(this.database, () => this.ready())
    this.traces = new TraceBook(this.database, this.handlers, () => this.ready())
    this.comparisons = new CompareBook({
      database: this.database,
      clock,
      events: this.events,
      ready: () => this.ready(),
      tell: (register) => {
        this.holds.tell(register)
        this.rounds.wake(register)
      },
      pull: async (register, signal) => {
        if (pull === undefined || !(await book.isPulled(register))) return false
        await this.rounds.synchronize(register, { signal })
        return true
      },
    })
    this.upkeep = new ArchiveUpkeep({ database: this.database, clock, events: this.events, retainMs: retainArchiveMs })
    this.closingBook = new ClosingBook(this.database, this.handlers, () => this.ready())
    const proofs = { database: this.database, handlers: this.handlers, ready: () => this.ready() }
    this.auditBook = new AuditBook(proofs, readNumbering(options.numbering))
    this.reconcileBook = new ReconcileBook(proofs)
    const leftOpen = new LeftOpen({ database: this.database, subscribed: this.subscribed, lane: (work) => this.inLane(work) })
    this.quarantine = new QuarantineBook({
      database: this.database,
      subscribed: this.subscribed,
      clock,
      leftOpen,
      ready: () => this.ready(),
      lane: (work) => this.inLane(work),
      tell: (register, outcome) => this.tell(register, outcome),
    })
    this.turns = new QuarantineTurns({
      book: this.quarantine,
      leftOpen,
      clock,
      everyMs: retry.minMs,
      longestMs: retry.maxMs,
      ready: () => this.ready(),
      onFailed,
    })
    this.replays = new Replays({
      database: this.database,
      subscribed: this.subscribed,
      clock,
      quarantine: this.quarantine,
      leftOpen,
      lanes,
      ready: () => this.ready(),
      lane: (work) => this.inLane(work),
      tell: (register, outcome) => this.tell(register, outcome),
      tellProgress: (onProgress, progress) => this.events.tell(onProgress, progress),
      brought: () => this.turns.brought(),
    })
    this.installation = new CentralInstallation({ database: this.database, clock, subscribed: this.subscribed, publishing: this.publishing })
    this.doors = new CentralDoors({
      database: this.database,
      clock,
      events: this.events,
      subscriber: this,
      audiences,
      holds: this.holds,
      limits,
      takes,
      mailboxes,
      lanes,
      ready: () => this.ready(),
      awaited: (work) => this.awaited(work),
    })
  }

  install(): Promise<void> {
    return this.lifecycle.turn(() => this.installNow())
  }

  private async installNow(): Promise<void> {
    await this.installation.install()
    this.open()
    this.readiness = undefined
  }

  uninstall(): Promise<void> {
    this.close()
    return this.lifecycle.turn(() => this.uninstallNow())
  }

  private async uninstallNow(): Promise<void> {
    await this.end()
    await this.installation.uninstall()
  }

  start(): Promise<void> {
    const started = this.lifecycle.turn(() => this.begin())
    // A host that does not wait for it must not be ended by an unhandled rejection.
    started.catch((error: TillsyncError) => this.events.emit('failed', { error }))
    return started
  }

  private async begin(): Promise<void> {
    this.open()
    await this.ready()
    // A stop that was asked for meanwhile has its turn next: nothing begins that it would end at once.
    if (this.stopped) return
    this.rounds.start()
    this.doors.postman.start()
    this.upkeep.start()
    this.turns.start()
    this.publishing?.start()
    if (this.publishing) this.herald.start()
  }

  stop(): Promise<void> {
    this.close()
    return this.lifecycle.turn(() => this.end())
  }

  /** It takes what comes. */
  private open(): void {
    this.stopped = false
    this.holds.start()
    this.comparisons.start()
  }

  /** It refuses what comes, from now on, and holds nothing back. */
  private close(): void {
    this.stopped = true
    this.holds.stop()
  }

  private async end(): Promise<void> {
    this.close()
    await this.readiness?.catch(() => undefined)
    const { comparisons, rounds, doors, upkeep, turns, replays } = this
    await Promise.all([comparisons, rounds, doors.postman, upkeep, turns, replays].map((one) => one.stop()))
    await Promise.allSettled(this.underWay)
    await this.lanes.onIdle()
    // What was sealed last is told yet, and what was applied last may have effects.
    await this.publishing?.stop()
    await this.herald.stop()
    await this.effects.stop()
    this.readiness = undefined
    await this.database.close()
  }

  synchronize(register: RegisterName, options?: SynchronizeOptions<PullProgress>): Promise<PullResult>
  synchronize(register?: undefined, options?: SynchronizeOptions<PullProgress>): Promise<readonly PulledRegister[]>
  async synchronize(
    register: RegisterName | undefined,
    options: SynchronizeOptions<PullProgress> = {},
  ): Promise<PullResult | readonly PulledRegister[]> {
    known('options', options, ['signal', 'onProgress'])
    if (register !== undefined) checkRegister(register)
    await this.ready()
    return this.awaited(this.pull(register, options))
  }

  private async pull(register: RegisterName | undefined, options: SynchronizeOptions<PullProgress>): Promise<PullResult | readonly PulledRegister[]> {
    await this.publishing?.seal()
    // That may have taken long.
    await this.ready()
    return register === undefined ? this.rounds.synchronizeAll(options) : this.rounds.synchronize(register, options)
  }

  private awaited<T>(work: Promise<T>): Promise<T> {
    this.underWay.add(work)
    return work.finally(() => this.underWay.delete(work))
  }

  entries(which?: WhichEntries): Promise<readonly ArchivedEntry[]> {
    return this.archive.list(which)
  }

  trace(table: string, which: unknown, options?: TraceOptions): Promise<readonly ArchivedDocument[]> {
    return this.traces.trace(table, which, options)
  }

  compare(table: string, register: RegisterName, options?: CompareOptions): Promise<Comparison> {
    return this.comparisons.compare(table, register, options)
  }

  async prune(options: { readonly signal?: AbortSignal } = {}): Promise<{ readonly entries: number }> {
    known('options', options, ['signal'])
    await this.ready()
    await this.publishing?.prune(options.signal)
    return this.upkeep.prune(options.signal)
  }

  replay(which: WhichReplayed, options?: ReplayOptions): Promise<Replayed> {
    return this.replays.run(which, options)
  }

  closings(which: WhichClosings): Promise<FoundClosings> {
    return this.closingBook.list(which)
  }

  waitingClosings(which?: { readonly location?: string; readonly register?: string }): Promise<readonly WaitingClosing[]> {
    return this.closingBook.waiting(which)
  }

  audit(which: WhichToAudit): Promise<Audit> {
    return this.auditBook.audit(which)
  }

  reconcile(which: WhichDay): Promise<Reconciliation> {
    return this.reconcileBook.reconcile(which)
  }

  async export(
    table: string,
    which: Which<AnyTables, string>,
    options: { readonly to?: ExportTarget } = {},
  ): Promise<{ readonly documents: number }> {
    checkName('table', table)
    known('options', options, ['to'])
    const { to } = options
    if (to !== undefined) checkTarget(to)
    await this.ready()
    const registers = await this.registers.describeAll(to)
    if (to !== undefined && registers.length === 0)
      throw new TillsyncError('ERR_REGISTER', 'No register is meant', { hint: 'registers.list() shows who is known.', context: { ...to } })
    return this.requirePublishing().export(table, which, registers)
  }

  async status(): Promise<CentralStatus> {
    await this.ready()
    return (await this.publishing?.status()) ?? { unsealed: 0, parked: [], problems: [], resealing: [], subscribed: [], lastError: undefined }
  }

  async check(): Promise<readonly Finding[]> {
    await this.ready()
    const { publishing } = this
    return publishing ? this.database.read(() => publishing.check()) : []
  }

  private requirePublishing(): CentralPublishing {
    if (this.publishing !== undefined) return this.publishing
    throw new TillsyncError('ERR_UNKNOWN_TABLE', 'Central publishes nothing', { hint: 'createCentral({ …, publish: { items: {} } })' })
  }

  private publisherOf(publish: AudienceRules<AnyTables>, filterTimeoutMs: number): CentralPublishing {
    return new CentralPublishing({
      database: capturing(this.database),
      publish,
      clock: this.clock,
      events: this.events,
      maxMessageBytes: this.takes.message,
      filterTimeoutMs,
      register: (name) => this.registers.describe(name),
      given: (registerId, table) => givenBy(this.database, this.handlers, registerId, table),
      onNews: (audiences) => this.herald.tell(audiences),
    })
  }

  private async ready(): Promise<void> {
    if (this.stopped) throw new TillsyncError('ERR_STOPPED', 'Central is stopped', { retryable: true })
    this.readiness ??= this.openInstalled()
    try {
      await this.readiness
    } catch (error) {
      this.readiness = undefined
      throw error
    }
  }

  private async openInstalled(): Promise<void> {
    await this.installation.open()
    this.effects.start(this.handlers)
  }

  async receive(from: RegisterName, publish: Publication | undefined, batch: Batch | undefined, proof?: Proof): Promise<Received> {
    const { database, events, contacts } = this
    const now = this.clock.now()
    const incoming = { from, publish, batch, maxDocumentBytes: this.takes.document, proof, at: new Date(now).toISOString() }
    const standing = batch === undefined ? await database.read(() => standingFor(database, incoming), { loosely: true }) : undefined
    if (standing !== undefined) {
      if (publish) contacts.heard(from)
      this.comparisons.heard(from)
      if (publish) await contacts.write(from)
      return standing
    }
    const received = await this.inLane(() => dividing(database, (division) => receive(database, this.subscribed, incoming, { division, now })))
    const { applied, forked, cloned } = received
    if (forked) events.emit('forked', { register: from, ...forked })
    if (cloned) events.emit('cloned', { register: from })
    if (applied) events.emit('applied', { register: from, ...applied })
    if (applied) this.turns.brought()
    if (publish) contacts.heard(from)
    if (applied) contacts.applied(from)
    else if (publish) await contacts.write(from)
    this.tell(from, received)
    this.comparisons.heard(from)
    return received
  }

  private inLane<T>(work: () => Promise<T>): Promise<T> {
    return this.lanes.add(work) as Promise<T>
  }

  /** What became of documents in quarantine. */
  private tell({ location, register }: RegisterName, { quarantined = [], released = [] }: Pick<Received, 'quarantined' | 'released'>): void {
    const from = { location, register }
    if (quarantined.length > 0) this.events.emit('quarantined', { register: from, documents: quarantined })
    if (released.length > 0) this.events.emit('released', { register: from, documents: released })
  }

  on<K extends keyof CentralEvents>(event: K, listener: (event: CentralEvents[K]) => void): () => void {
    return this.events.on(event, listener)
  }
}
