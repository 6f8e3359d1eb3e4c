import { AudienceUpkeep } from './audience-upkeep.ts'
import type { Upkeep } from './capture/activation.ts'
import { type GivenDocuments, type SentRoot, sentRoot } from './capture/audience-batch.ts'
import { AudienceCutting, type Cuts, type SentRoots } from './capture/audience-cutting.ts'
import { lookAgain, resend } from './capture/audience-export.ts'
import { AudienceMaking, within } from './capture/audience-making.ts'
import { AudienceRegisters } from './capture/audience-registers.ts'
import { type AudienceSpec, checkAudienceFilters, readAudienceRules } from './capture/audience-rules.ts'
import { type AudienceSlice, type GivenUp, sealAudiences } from './capture/audience-seal.ts'
import { listSubscribed, type SubscribedTable } from './capture/audience-status.ts'
import { AUDIENCE_MEMBERS, AUDIENCE_POINTS, AUDIENCE_REGISTERS, AUDIENCES, UNAPPLIED } from './capture/audience-tables.ts'
import { AudienceTroubles } from './capture/audience-troubles.ts'
import { checkWhich, inParts } from './capture/export.ts'
import { tooSlow, withinLimit } from './capture/filter-limit.ts'
import { filterError } from './capture/filters.ts'
import { readEpoch, shared } from './capture/history.ts'
import { listParked, type ParkedDocument } from './capture/parked.ts'
import { type Problem, requireRoot } from './capture/plan.ts'
import { pendingReseals } from './capture/reseal.ts'
import { tablesOf } from './capture/rules.ts'
import type { Coming } from './capture/rules-in-force.ts'
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
import type { ApplyingDatabase, AudiencePublisher, Clock, PublishingDatabase } from './ports.ts'
import { Sealing } from './sealing.ts'
import type { Key, Work } from './work.ts'

export const PUBLISHING_TABLES = [MEMBERS, PARKED, AUDIENCES, AUDIENCE_MEMBERS, AUDIENCE_POINTS, AUDIENCE_REGISTERS, UNAPPLIED]
export const PUBLISHING_MIGRATION: Migrations = { component: 'capture', steps: [{ create: PUBLISHING_TABLES }] }

export interface CentralPublishingOptions {
  readonly database: PublishingDatabase
  readonly publish: AudienceRules<AnyTables>
  readonly clock: Clock
  readonly events: Events<CentralEvents>
  /** How long a statement may take that asks filters, in milliseconds. */
  readonly filterTimeoutMs: number
  /** No message is larger, whatever a register says that it reads. */
  readonly maxMessageBytes: number
  /** The register with its number, as its row says; undefined where it is not known. */
  register(name: RegisterName): Promise<KnownRegister | undefined>
  /** What a register gives to a table that is published; undefined where registers give nothing to it. */
  given(registerId: number, table: string): GivenDocuments | undefined
  /** There is something new for registers in these audiences. */
  onNews(audiences: ReadonlySet<number>): void
}

export interface KnownRegister extends AudienceRegister {
  readonly registerId: number
}

/** How often it is tried to cut where tables are changed at the same time. */
const TRIES = 3

interface Audiences {
  readonly ids: ReadonlyMap<string, number>
  readonly waits: boolean
}

/** Central's side as a publisher: it seals what was changed, for each audience, and cuts for each register what it is to have. */
export class CentralPublishing implements AudiencePublisher {
  readonly sealer: Sealer
  readonly sealing: Sealing
  private readonly options: CentralPublishingOptions
  private readonly specs: ReadonlyMap<string, AudienceSpec>
  /** The roots of the tables that are published as parts. */
  private readonly rootsOf: ReadonlyMap<string, string>
  private sent: (SentRoots & { readonly kept: Upkeep }) | undefined
  private readonly troubles: AudienceTroubles
  private readonly registers: AudienceRegisters
  private readonly cutting: AudienceCutting
  private readonly making: AudienceMaking
  private readonly upkeep: AudienceUpkeep

  /** @throws ERR_OPTION, ERR_RULE, ERR_FILTER */
  constructor(options: CentralPublishingOptions) {
    this.options = options
    const { database, clock, events, filterTimeoutMs } = options
    this.specs = readAudienceRules(options.publish)
    this.rootsOf = new Map(this.rootSpecs.flatMap((root) => tablesOf(root).map((part) => [part, root.table] as const)))
    this.troubles = new AudienceTroubles(clock)
    this.registers = new AudienceRegisters(database, clock)
    this.making = new AudienceMaking({ database, clock, filterTimeoutMs, onMade: (id) => options.onNews(new Set([id])) })
    this.cutting = new AudienceCutting({ ...options, forget: (id) => this.making.forget(id) })
    this.upkeep = new AudienceUpkeep({ database, clock, events })
    checkAudienceFilters(database, this.specs.values())
    this.sealer = new Sealer({
      database,
      specs: this.rootSpecs,
      clock,
      onSealed: (slice) => options.onNews(new Set((slice as AudienceSlice).audiences)),
      onUpkeep: ({ mended, problems }) => events.emit('schema', { mended, problems }),
      seal: (_, plan, limit, now) =>
        withinLimit(database, filterTimeoutMs, undefined, () => sealAudiences(database, plan, limit, now, (audiences) => this.giveUp(audiences))),
    })
    this.sealing = new Sealing({ database, clock, sealer: this.sealer, onFailed: (error) => events.emit('failed', { error }) })
  }

  private get rootSpecs() {
    return [...this.specs.values()].map(({ root }) => root)
  }

  /** Makes triggers, and touches what stands there at first, in the caller's transaction. */
  *install(coming: Coming): Work<Upkeep> {
    if ((yield* readEpoch(this.options.database)) !== undefined) throw shared()
    return yield* this.sealer.planning.install(coming)
  }

  check(): Work<readonly Finding[]> {
    return this.sealer.planning.check(false)
  }

  start(): void {
    this.sealer.planning.begin()
    this.sealing.start()
    this.upkeep.start()
  }

  async stop(): Promise<void> {
    this.sealing.abort()
    await this.upkeep.stop()
    await this.sealing.ended()
    await this.making.stop()
    await this.cutting.stop()
    this.sealer.planning.begin()
    this.sent = undefined
  }

  /**
   * Whether every filter can be asked for this register.
   *
   * @throws ERR_FILTER
   */
  async tryRegister(register: AudienceRegister, tries = TRIES): Promise<void> {
    const kept = await this.sealer.planning.kept()
    try {
      for (const [table, spec] of this.specs) {
        const root = kept.plan.roots.get(table)
        if (root !== undefined) await this.making.try(register, root, spec)
      }
    } catch (thrown) {
      // A table was changed since it was planned: as it stands now its filter may well be asked.
      if (tries === 1 || (await this.options.database.read(() => this.sealer.planning.isCurrent(kept)))) throw thrown
      this.sealer.planning.forget()
      await this.tryRegister(register, tries - 1)
    }
  }

  /** What fails here is said by `failed`: what the register has sent is acknowledged all the same. */
  async next(name: RegisterName, request: AudienceRequest): Promise<AudienceAnswer> {
    try {
      return await this.answer(name, request)
    } catch (thrown) {
      const error = asTillsyncError(thrown, 'ERR_DATABASE', 'Publishing failed')
      this.troubles.rest(error)
      this.options.events.emit('failed', { error })
      return { batches: [], more: false }
    }
  }

  private async answer(name: RegisterName, request: AudienceRequest): Promise<AudienceAnswer> {
    const asked = request.standings.filter(({ table }) => this.specs.has(table) && !this.troubles.isResting(table))
    const register = request.standings.some(({ table }) => this.rootsOf.has(table)) ? await this.options.register(name) : undefined
    if (register === undefined) return { batches: [], more: false }
    this.sayRootless(register, request.standings)
    if (asked.length === 0) return { batches: [], more: false }
    if (await this.registers.hear(register.registerId, request.unapplied))
      this.options.events.emit('unapplied', { register: { location: register.location, register: register.register }, documents: request.unapplied })
    const { database, events } = this.options
    const { registerId } = register
    await this.cutting.awaited(registerId)
    let planned = await this.planned()
    let { ids, waits } = await this.audiencesOf(register, asked, planned)
    // An audience that is being made is waited for once, and a filter asked once, unless tables are planned anew or an audience is gone.
    let isGone = false
    const work = async () => {
      const before = planned
      planned = await this.planned()
      if (isGone || planned !== before) ({ ids, waits } = await this.audiencesOf(register, asked, planned))
      return () => this.cutting.cut(registerId, asked, planned, ids, request)
    }
    const cut = async (tries = TRIES): Promise<Cuts> => {
      const cutting = await work()
      try {
        const found = await database.read(cutting)
        isGone = found.isGone
        return found
      } catch (thrown) {
        // A table was changed since it was planned: as it stands now it may well be read.
        if (tries === 1 || (await database.read(() => this.sealer.planning.isCurrent(planned.kept)))) throw thrown
        await this.sealed(false)
        return cut(tries - 1)
      }
    }
    const first = await cut()
    let { cuts, isSealed, isCurrent } = first
    const isResealing = first.isResealing && cuts.some(({ batch }) => batch.after === 0)
    // What was changed a moment ago is to go with this exchange; of what left before its snapshot a register hears nothing, so that has to be sealed by then. And who gets what is not sealed yet does not
    // show it by where he then stands: a central that is restored to before it would not know.
    if (!isSealed || !isCurrent || isResealing || isGone) {
      await this.sealed(isResealing)
      ;({ cuts, isSealed, isCurrent } = await cut())
    }
    if (!isSealed || !isCurrent) cuts = await this.sealedCuts(await work(), isCurrent ? cuts : [])
    for (const cut of cuts) {
      this.troubles.lacks(registerId, cut)
      for (const { error } of cut.unsendable) events.emit('failed', { error })
    }
    await this.registers.note(registerId, asked, ids)
    const batches = cuts.map(({ batch }) => batch)
    this.cutting.ahead(registerId, asked, planned, ids, request, batches)
    return { batches, more: batches.some(({ isEnd }) => !isEnd) || (waits && batches.length > 0) }
  }

  /** Nothing comes of a part to who does not subscribe to its root: so that somebody knows why. */
  private sayRootless({ registerId, location, register }: KnownRegister, standings: readonly AudienceStanding[]): void {
    const names = new Set(standings.map(({ table }) => table))
    for (const [table, root] of this.rootsOf) {
      if (table === root) continue
      if (!names.has(table) || names.has(root)) {
        this.troubles.settle(registerId, table)
        continue
      }
      const error = rootless(table, root, { location, register })
      if (this.troubles.fail(registerId, table, error)) this.options.events.emit('failed', { error })
    }
  }

  /** The audiences that the register is in, by table; and whether one is still being made. */
  private async audiencesOf(register: KnownRegister, asked: readonly AudienceStanding[], { roots }: SentRoots): Promise<Audiences> {
    const ids = new Map<string, number>()
    let waits = false
    for (const { table } of asked) {
      if (!roots.has(table) || this.troubles.isResting(table)) continue
      const id = await this.audienceOf(register, table).catch((thrown) => {
        const error = asTillsyncError(thrown, 'ERR_DATABASE', `Publishing \`${table}\` failed`)
        if (this.troubles.fail(register.registerId, table, error)) this.options.events.emit('failed', { error })
        return undefined
      })
      if (id === undefined) waits = true
      else {
        this.troubles.settle(register.registerId, table)
        ids.set(table, id)
      }
    }
    return { ids, waits }
  }

  /** Its registers keep what they have, and begin anew when the filter can be asked. */
  private giveUp(audiences: readonly GivenUp[]): void {
    const { database, filterTimeoutMs, events } = this.options
    for (const { audience } of audiences) this.making.forget(audience.audience_id)
    const failed = audiences.filter(({ cause }) => cause !== undefined)
    for (const [table, cause] of new Map(failed.map(({ audience, cause }) => [audience.table_name, cause]))) {
      const isSlow = database.faultOf(cause) === 'cancelled'
      const error = isSlow ? tooSlow(filterTimeoutMs, table, cause) : filterError(table, 'does not run any more', cause)
      this.troubles.rest(error)
      events.emit('failed', { error })
    }
  }

  /** Seals all that is touched and is to be resealed. */
  async seal(): Promise<void> {
    this.sealer.lookAgain()
    await this.sealer.sealAll()
    await this.sealer.resealPending()
  }

  /** Seals what is touched, and what is to be resealed where that is asked for, as far as that comes soon; what fails is said by the sealing in the background. */
  private async sealed(isResealing: boolean): Promise<void> {
    const sealed = this.sealer.sealAll().then(() => (isResealing ? this.sealer.resealPending() : undefined))
    await within(
      this.options.clock,
      sealed.catch(() => undefined),
    )
  }

  /**
   * Where head office has gone on meanwhile, what is touched is sealed, and what a register is told is read, in one transaction: a change that was told and taken back before it was sealed would be no change. What can't be
   * sealed at once is told as it stands all the same.
   */
  private async sealedCuts(work: () => Work<Cuts>, unsealed: Cuts['cuts']): Promise<Cuts['cuts']> {
    const sealed = this.sealer.sealedWith(work).then(
      (value) => (value?.isCurrent ? value.cuts : undefined),
      () => undefined,
    )
    return (await within(this.options.clock, sealed)) ?? unsealed
  }

  /** Undefined where it is being made. */
  private async audienceOf(register: KnownRegister, table: string): Promise<number | undefined> {
    const { root } = (await this.planned()).roots.get(table) as SentRoot
    return this.making.audienceOf(register, root, this.specs.get(table) as AudienceSpec, () => this.sealed(false))
  }

  private async planned(): Promise<SentRoots & { readonly kept: Upkeep }> {
    const kept = await this.sealer.planning.kept()
    if (this.sent?.kept !== kept) {
      const roots = [...kept.plan.roots.values()].map((root) => [root.table, sentRoot(root, this.specs.get(root.table)?.origin ?? [])] as const)
      this.sent = { kept, schema: kept.schema, roots: new Map(roots) }
    }
    return this.sent
  }

  /**
   * Sends documents anew although they have not changed, to the registers meant, as far as they are inside their filters; who shares an audience with one of them gets them too.
   *
   * @throws ERR_UNKNOWN_TABLE, ERR_OPTION, ERR_UNKNOWN_COLUMN, ERR_FILTER
   */
  async export(table: string, which: Which<AnyTables, string>, to: readonly KnownRegister[]): Promise<{ readonly documents: number }> {
    const { database } = this.options
    const root = requireRoot(await this.sealer.planning.planned(), table)
    checkWhich(root, which)
    const ids = new Set<number>()
    for (const register of to) {
      const id = await this.audienceOf(register, table)
      if (id !== undefined) ids.add(id)
    }
    let documents = 0
    for (const part of inParts(which)) {
      let after: Key | undefined
      do {
        after = await database.write(() => lookAgain(database, root, part, after), { alone: true })
      } while (after !== undefined)
      await this.sealed(false)
      do {
        const done = await database.write(() => resend(database, root, part, ids, after), { alone: true })
        documents += done.documents
        after = done.next
      } while (after !== undefined)
    }
    this.options.onNews(ids)
    return { documents }
  }

  /** @throws ERR_ABORTED */
  prune(signal: AbortSignal | undefined): Promise<void> {
    return this.upkeep.prune(signal)
  }

  async status(): Promise<PublishingStatus> {
    const { database } = this.options
    const found = await database.read(function* () {
      return {
        unsealed: yield* database.capture.countTouches(),
        parked: yield* listParked(database),
        resealing: yield* pendingReseals(database),
        subscribed: yield* listSubscribed(database),
      }
    })
    const problems = [...this.sealer.planning.problems, ...this.troubles.problems]
    return { ...found, problems, lastError: this.sealing.failure ?? this.troubles.lastError }
  }
}

/** How sealing for the registers goes, and how far they have come. */
export interface PublishingStatus {
  /** Touches that are not sealed yet. */
  readonly unsealed: number
  /** Documents that can't be read or filtered: registers keep what they have of them. At most 100. */
  readonly parked: readonly ParkedDocument[]
  /** Root tables that can't be published as they stand, whose filter can't be asked for registers that have asked of late, or of which a register lacks a document that fits into no message, as this process has found. */
  readonly problems: readonly Problem[]
  readonly resealing: readonly string[]
  readonly subscribed: readonly SubscribedTable[]
  readonly lastError: TillsyncError | undefined
}

function rootless(table: string, root: string, register: RegisterName): TillsyncError {
  return new TillsyncError('ERR_RULE', `A register subscribes to \`${table}\`, which is published as a part of \`${root}\`, and not to \`${root}\``, {
    hint: `Add \`${root}: mirror()\` to its \`subscribe\`: a part goes with its root.`,
    context: { table, root, ...register },
  })
}

/** @throws ERR_OPTION */
export function capturing(database: ApplyingDatabase): PublishingDatabase {
  if ('capture' in database) return database as PublishingDatabase
  throw new TillsyncError('ERR_OPTION', '`publish` needs a database whose changes can be captured', {
    hint: "postgres(pool) from 'tillsync/postgres'",
  })
}
