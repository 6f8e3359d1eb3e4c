import { keepUp, type Upkeep } from './capture/activation.ts'
import { type AudienceCut, cutAudience, isOurs, type SentRoot, sentRoot } from './capture/audience-batch.ts'
import { resend } from './capture/audience-export.ts'
import { audienceIds, pruneAudience } from './capture/audience-prune.ts'
import { AudienceRegisters, type Place, placesOf } from './capture/audience-registers.ts'
import { type AudienceSpec, checkAudienceFilters, readAudienceRules } from './capture/audience-rules.ts'
import { type AudienceSlice, sealAudiences } from './capture/audience-seal.ts'
import { listSubscribed, type SubscribedTable } from './capture/audience-status.ts'
import { AUDIENCE_MEMBERS, AUDIENCE_POINTS, AUDIENCE_REGISTERS, AUDIENCES, UNAPPLIED } from './capture/audience-tables.ts'
import { type Audience, audiencesAt, beginAudience, compileAudience, findAudience, tryAudience } from './capture/audiences.ts'
import { checkCapture } from './capture/check.ts'
import { checkWhich } from './capture/export.ts'
import { roomIn } from './capture/limits.ts'
import { listParked, type ParkedDocument } from './capture/parked.ts'
import { type CapturePlan, type Problem, requireRoot } from './capture/plan.ts'
import { RecentCuts } from './capture/recent-cuts.ts'
import { pendingReseals } from './capture/reseal.ts'
import { Sealer } from './capture/sealer.ts'
import { MEMBERS, PARKED } from './capture/tables.ts'
import { asTillsyncError, TillsyncError } from './errors.ts'
import type { CentralEvents, Events } from './events.ts'
import type { Migrations } from './migrate.ts'
import type {
  AnyTables,
  AudienceAnswer,
  AudienceRegister,
  AudienceRequest,
  AudienceRules,
  AudienceStanding,
  Finding,
  RegisterName,
  Which,
} from './model.ts'
import type { AudiencePublisher, CapturingDatabase, Clock, Key, Work } from './ports.ts'
import { Sealing } from './sealing.ts'

export const PUBLISHING_TABLES = [MEMBERS, PARKED, AUDIENCES, AUDIENCE_MEMBERS, AUDIENCE_POINTS, AUDIENCE_REGISTERS, UNAPPLIED]
export const PUBLISHING_MIGRATION: Migrations = { component: 'capture', steps: [{ create: PUBLISHING_TABLES }] }

export interface CentralPublishingOptions {
  readonly database: CapturingDatabase
  readonly publish: AudienceRules<AnyTables>
  readonly clock: Clock
  readonly events: Events<CentralEvents>
  /** No message is larger, whatever a register says that it reads. */
  readonly maxMessageBytes: number
  /** The register with its number, as its row says; undefined where it is not known. */
  register(name: RegisterName): Promise<KnownRegister | undefined>
  /** There is something new for registers in these audiences. */
  onNews(audiences: ReadonlySet<number>): void
}

export interface KnownRegister extends AudienceRegister {
  readonly registerId: number
}

/** More is not sent at once, but for a larger document. */
const MOST_RECORDS = 10_000
const MOST_BYTES = 8_388_608
/** How long an exchange waits for what is sealed, or an audience that is made; what is not there by then goes with a later one. */
const WAIT_MS = 2_000
/** A register that was not heard of for so long gets a snapshot when it is back. */
const FORGET_AFTER_MS = 30 * 24 * 3_600_000
const PRUNE_EVERY_MS = 3_600_000
/** Between two slices others have their turn. */
const PRUNE_PAUSE_MS = 10

/** Central's side as a publisher: it seals what was changed, for each audience, and cuts for each register what it is to have. */
export class CentralPublishing implements AudiencePublisher {
  readonly sealer: Sealer
  readonly sealing: Sealing
  private readonly options: CentralPublishingOptions
  private readonly specs: ReadonlyMap<string, AudienceSpec>
  private sent: { readonly plan: CapturePlan; readonly roots: ReadonlyMap<string, SentRoot> } | undefined
  /** By register, as it is described, and root table. */
  private readonly known = new Map<string, number>()
  /** Registers for which a table can't be published, and why. */
  private readonly failing = new Map<string, string>()
  private stopping = new AbortController()
  private pruning: Promise<void> | undefined
  private readonly registers: AudienceRegisters
  private readonly recent: RecentCuts
  private readonly beginning = new Map<string, Promise<Audience>>()

  /** @throws ERR_OPTION, ERR_RULE, ERR_FILTER */
  constructor(options: CentralPublishingOptions) {
    this.options = options
    const { database, clock, events } = options
    this.specs = readAudienceRules(options.publish)
    this.registers = new AudienceRegisters(database, clock)
    this.recent = new RecentCuts(clock)
    checkAudienceFilters(database, this.specs.values())
    this.sealer = new Sealer(
      database,
      this.rootSpecs,
      clock,
      (slice) => options.onNews(new Set((slice as AudienceSlice).audiences)),
      ({ mended, problems }) => events.emit('schema', { mended, problems }),
      sealAudiences,
    )
    this.sealing = new Sealing({ database, clock, sealer: this.sealer, onFailed: (error) => events.emit('failed', { error }) })
  }

  private get rootSpecs() {
    return [...this.specs.values()].map(({ root }) => root)
  }

  /** Makes triggers, and touches what stands there at first, in the caller's transaction. */
  *install(): Work<Upkeep> {
    return yield* keepUp(this.options.database, this.rootSpecs, true)
  }

  check(): Work<readonly Finding[]> {
    return checkCapture(this.options.database, this.rootSpecs)
  }

  start(): void {
    this.sealing.start()
    if (this.pruning !== undefined) return
    this.stopping = new AbortController()
    this.pruning = this.pruneAlways(this.stopping.signal)
  }

  async stop(): Promise<void> {
    this.stopping.abort()
    this.sealing.abort()
    await this.sealing.ended()
    await this.pruning
    this.pruning = undefined
    await Promise.allSettled(this.beginning.values())
    this.sealer.forgetPlan()
    this.known.clear()
    this.sent = undefined
  }

  /**
   * Whether every filter can be asked for this register.
   *
   * @throws ERR_FILTER
   */
  async tryRegister(register: AudienceRegister): Promise<void> {
    const { database } = this.options
    const plan = await this.sealer.planned()
    for (const [table, spec] of this.specs) {
      const root = plan.roots.get(table)
      if (root === undefined) continue
      const compiled = compileAudience(database, root, spec, register)
      await database.read(() => tryAudience(database, compiled))
    }
  }

  /** What fails here is said by `failed`: what the register has sent is acknowledged all the same. */
  async next(name: RegisterName, request: AudienceRequest): Promise<AudienceAnswer> {
    try {
      return await this.answer(name, request)
    } catch (thrown) {
      this.options.events.emit('failed', { error: asTillsyncError(thrown, 'ERR_DATABASE', 'Publishing failed') })
      return { batches: [], more: false }
    }
  }

  private async answer(name: RegisterName, request: AudienceRequest): Promise<AudienceAnswer> {
    const asked = request.standings.filter(({ table }) => this.specs.has(table))
    const register = asked.length === 0 ? undefined : await this.options.register(name)
    if (register === undefined) return { batches: [], more: false }
    if (await this.registers.hear(register.registerId, request.unapplied))
      this.options.events.emit('unapplied', { register: { location: register.location, register: register.register }, documents: request.unapplied })
    const { database, events } = this.options
    const roots = await this.roots()
    const ids = new Map<string, number>()
    let waits = false
    for (const { table } of asked) {
      const root = roots.get(table)
      if (root === undefined) continue
      const id = await this.audienceOf(register, table).catch((thrown) => {
        this.fail(register, table, asTillsyncError(thrown, 'ERR_DATABASE', `Publishing \`${table}\` failed`))
        return undefined
      })
      if (id === undefined) waits = true
      else {
        this.failing.delete(nameOf(register, table))
        ids.set(table, id)
      }
    }
    const cut = () => database.read(() => this.cut(register, asked, roots, ids, request))
    let cuts = await cut()
    // What was changed a moment ago is to go with this exchange; and of what left before its snapshot a register hears nothing, so that has to be sealed by then.
    const isBeginning = cuts.some(({ batch }) => batch.after === 0)
    if ((cuts.length === 0 || isBeginning) && (await this.sealed(isBeginning))) cuts = await cut()
    for (const { unsendable } of cuts) for (const error of unsendable) events.emit('failed', { error })
    const begins = cuts.flatMap(({ batch, head }) => (batch.after === 0 ? [[batch.table, head] as const] : []))
    await this.registers.note(register.registerId, asked, ids, new Map(begins))
    const batches = cuts.map(({ batch }) => batch)
    return { batches, more: batches.some(({ isEnd }) => !isEnd) || (waits && batches.length > 0) }
  }

  /** Said once: the register asks every few seconds, and goes on with what it has. */
  private fail(register: KnownRegister, table: string, error: TillsyncError): void {
    const name = nameOf(register, table)
    if (this.failing.get(name) === error.message) return
    this.failing.set(name, error.message)
    this.options.events.emit('failed', { error })
  }

  /** Seals all that is touched and is to be resealed. */
  async seal(): Promise<void> {
    await this.sealer.sealAll()
    await this.sealer.resealPending()
  }

  /** Seals what is touched, or to be resealed too, as far as that comes soon. Says whether anything was; what fails is said by the sealing in the background. */
  private async sealed(isResealing: boolean): Promise<boolean> {
    const sealed = this.sealer.sealAll().then(
      async ({ entries }) => {
        const isPending = isResealing && (await this.options.database.read(() => pendingReseals(this.options.database))).length > 0
        if (isPending) await this.sealer.resealPending()
        return entries > 0 || isPending
      },
      () => false,
    )
    return (await this.within(sealed.catch(() => false))) ?? false
  }

  /** In the order in which the register asks: what others refer to comes first. */
  private *cut(
    { registerId }: KnownRegister,
    asked: readonly AudienceStanding[],
    roots: ReadonlyMap<string, SentRoot>,
    ids: ReadonlyMap<string, number>,
    request: AudienceRequest,
  ): Work<readonly AudienceCut[]> {
    const { database } = this.options
    const audiences = yield* audiencesAt(database, [...ids.values()])
    const cuts: AudienceCut[] = []
    // However much it asks for: that is held in memory.
    const mostBytes = roomIn({ message: Math.min(request.message, this.options.maxMessageBytes), document: 0 })
    let places: ReadonlyMap<string, Place> | undefined
    let isSealed: boolean | undefined
    let records = Math.min(request.records, MOST_RECORDS)
    let bytes = Math.min(request.bytes, MOST_BYTES, mostBytes)
    for (const standing of asked) {
      const audience = audiences.get(ids.get(standing.table) ?? 0)
      if (audience === undefined) {
        this.forget(ids.get(standing.table))
        continue
      }
      const isKnown = yield* isOurs(database, audience, standing)
      if (isKnown && standing.entryNo === audience.head_no) continue
      const root = roots.get(standing.table) as SentRoot
      const after = isKnown ? standing.entryNo : 0
      places ??= yield* placesOf(database, registerId)
      const known = places.get(standing.table)
      const begun = after === 0 ? audience.head_no : known?.audienceId === audience.audience_id ? known.begun : 0
      const from = { after, begun: begun > after ? begun : 0 }
      const cutNow = () => cutAudience(database, root, audience, from, { records, bytes, mostBytes })
      // What is not sealed may be another's by now; then what was cut before is not to be told.
      isSealed ??= !(yield* database.capture.touched()) && (yield* pendingReseals(database)).length === 0
      const place = [audience.mark, from.after, from.begun, records, bytes, mostBytes]
      const cut: AudienceCut = isSealed ? yield* this.recent.take(place, cutNow) : yield* cutNow()
      cuts.push(cut)
      records -= cut.records
      bytes -= cut.bytes
      // What comes behind may refer to what is still to come.
      if (!cut.batch.isEnd || records <= 0 || bytes <= 0) break
    }
    return cuts
  }

  /** Undefined where it is being made. */
  private async audienceOf(register: KnownRegister, table: string): Promise<number | undefined> {
    const name = nameOf(register, table)
    const id = this.known.get(name)
    if (id !== undefined) return id
    const { database, clock } = this.options
    const { root } = (await this.roots()).get(table) as SentRoot
    const compiled = compileAudience(database, root, this.specs.get(table) as AudienceSpec, register)
    const found = await database.read(() => findAudience(database, table, compiled.filterHash), { loosely: true })
    const key = `${table}\n${compiled.filterHash}`
    // What is touched now would be sent twice.
    if (found === undefined) await this.sealed(false)
    const begun =
      found ??
      (await this.within(
        this.beginning.get(key) ??
          this.begin(
            key,
            database.write(() => beginAudience(database, compiled, new Date(clock.now()).toISOString()), { alone: true }),
          ),
      ))
    if (begun !== undefined) this.known.set(name, begun.audience_id)
    return begun?.audience_id
  }

  private begin(key: string, made: Promise<Audience>): Promise<Audience> {
    this.beginning.set(key, made)
    const ended = () => void this.beginning.delete(key)
    made.then((audience) => {
      ended()
      this.options.onNews(new Set([audience.audience_id]))
    }, ended)
    return made
  }

  private async within<T>(made: Promise<T>): Promise<T | undefined> {
    const waiting = new AbortController()
    const late = this.options.clock.sleep(WAIT_MS, waiting.signal).then(
      () => undefined,
      () => undefined,
    )
    try {
      return await Promise.race([made, late])
    } finally {
      waiting.abort()
    }
  }

  private forget(id: number | undefined): void {
    for (const [name, known] of this.known) if (known === id) this.known.delete(name)
  }

  private async roots(): Promise<ReadonlyMap<string, SentRoot>> {
    const plan = await this.sealer.planned()
    if (this.sent?.plan !== plan) {
      const roots = [...plan.roots.values()].map((root) => [root.table, sentRoot(root, this.specs.get(root.table)?.origin ?? [])] as const)
      this.sent = { plan, roots: new Map(roots) }
    }
    return this.sent.roots
  }

  /**
   * Sends documents anew although they have not changed, to the registers meant, as far as they are inside their filters; who shares an audience with one of them gets them too.
   *
   * @throws ERR_UNKNOWN_TABLE, ERR_OPTION, ERR_UNKNOWN_COLUMN, ERR_FILTER
   */
  async export(table: string, which: Which<AnyTables, string>, to: readonly KnownRegister[]): Promise<{ readonly documents: number }> {
    const { database } = this.options
    const root = requireRoot(await this.sealer.planned(), table)
    checkWhich(root, which)
    const ids = new Set<number>()
    for (const register of to) {
      const id = await this.audienceOf(register, table)
      if (id !== undefined) ids.add(id)
    }
    let documents = 0
    let after: Key | undefined
    do {
      const done = await database.write(() => resend(database, root, which, ids, after), { alone: true })
      documents += done.documents
      after = done.next
    } while (after !== undefined)
    this.options.onNews(ids)
    return { documents }
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

  private async pruneAlways(signal: AbortSignal): Promise<void> {
    const { clock, events } = this.options
    while (!signal.aborted) {
      try {
        await this.prune(signal)
      } catch (thrown) {
        if (!signal.aborted) events.emit('failed', { error: asTillsyncError(thrown, 'ERR_DATABASE', 'Pruning what is published failed') })
      }
      await clock.sleep(PRUNE_EVERY_MS, signal).catch(() => undefined)
    }
  }

  async status(): Promise<PublishingStatus> {
    const { database } = this.options
    const { problems } = this.sealer
    const found = await database.read(function* () {
      return {
        unsealed: yield* database.capture.countTouches(),
        parked: yield* listParked(database),
        resealing: yield* pendingReseals(database),
        subscribed: yield* listSubscribed(database),
      }
    })
    return { ...found, problems, lastError: this.sealing.failure }
  }
}

/** A register as it is described now, and a root table. */
function nameOf({ location, register, attributes }: KnownRegister, table: string): string {
  return JSON.stringify([table, location, register, attributes])
}

/** How sealing for the registers goes, and how far they have come. */
export interface PublishingStatus {
  /** Touches that are not sealed yet. */
  readonly unsealed: number
  /** Documents that can't be read or filtered: registers keep what they have of them. At most 100. */
  readonly parked: readonly ParkedDocument[]
  /** Root tables that can't be published as they stand. */
  readonly problems: readonly Problem[]
  readonly resealing: readonly string[]
  readonly subscribed: readonly SubscribedTable[]
  readonly lastError: TillsyncError | undefined
}

/** @throws ERR_OPTION */
export function capturing(database: object): CapturingDatabase {
  if ('capture' in database) return database as CapturingDatabase
  throw new TillsyncError('ERR_OPTION', '`publish` needs a database whose changes can be captured', {
    hint: "postgres(pool) from 'tillsync/postgres'",
  })
}
