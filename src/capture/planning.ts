import type { Finding } from '../model.ts'
import type { CapturingDatabase, Clock } from '../ports.ts'
import type { Work } from '../work.ts'
import { keepUp, type Refill, type Upkeep } from './activation.ts'
import { checkCapture } from './check.ts'
import { HostMigration } from './host-migration.ts'
import { type CapturePlan, type Problem, planAnd } from './plan.ts'
import { dependenciesOf, type RootSpec, tablesOf } from './rules.ts'
import { type Coming, come, fingerprintOf, notInForce, putInForce } from './rules-in-force.ts'

/** How often is looked whether a schema change of the host's is done. */
export const MIGRATING_MS = 1_000

export interface PlanningOptions {
  readonly database: CapturingDatabase
  readonly specs: readonly RootSpec[]
  readonly clock: Clock
  /** A look has mended something, or found something new to be wrong. */
  onUpkeep(upkeep: Upkeep): void
  readonly refill?: Refill
}

/** The tables as they stood at the last look at them, and whether the rules by which they are sealed are in force. Each look makes what triggers are missing. */
export class Planning {
  private readonly migration: HostMigration
  private readonly database: CapturingDatabase
  private readonly specs: readonly RootSpec[]
  private readonly fingerprint: string
  private readonly clock: Clock
  private readonly onUpkeep: (upkeep: Upkeep) => void
  private readonly refill: Refill | undefined
  private upkeep: Upkeep | undefined
  /** When they were looked at, and what was found wrong, which is no news until it is something else. */
  private lookedAt = 0
  private found: readonly Problem[] = []
  /** The next look is the first, and puts the rules in force. */
  private begins = true
  /** When it came, once it has. */
  private coming: Coming | undefined

  constructor({ database, specs, clock, onUpkeep, refill }: PlanningOptions) {
    this.database = database
    this.specs = specs
    this.fingerprint = fingerprintOf(database, specs)
    this.clock = clock
    this.onUpkeep = onUpkeep
    this.refill = refill
    this.migration = new HostMigration(database, clock)
  }

  /** What the last look has found; undefined where another one is due. */
  get last(): Upkeep | undefined {
    return this.upkeep
  }

  /** Roots that can't be published as their tables stand. */
  get problems(): readonly Problem[] {
    return this.found
  }

  /** The tables are looked at anew before anything else is done. */
  forget(): void {
    this.upkeep = undefined
  }

  /** Whether the host's schema was being changed at the last look, so that no triggers were made. */
  get isMigrating(): boolean {
    return this.upkeep?.isMigrating === true
  }

  /** Where something could not be read, or made, so long ago, it is found out anew whether it can be; and soon whether a schema change is done. */
  lookAgain(ms: number): void {
    const since = this.clock.ticks() - this.lookedAt
    if (this.isMigrating && since >= Math.min(ms, MIGRATING_MS)) this.forget()
    const { plan, problems = [] } = this.upkeep ?? {}
    const mayPass = (plan?.unread.size ?? 0) > 0 || problems.some(({ error }) => error.code === 'ERR_DATABASE')
    if (mayPass && since >= ms) this.forget()
  }

  /** Runs the host's own schema change with triggers out of its way, until it is done; then they are made anew, and what they did not see is to be resealed. */
  async migrate<T>(fn: () => T | Promise<T>): Promise<T> {
    const coming = await this.come()
    const begin = function* (this: Planning): Work<void> {
      yield* this.database.lockInstall()
      yield* this.beginOrGoOn(coming)
      yield* this.database.capture.removeTriggers()
    }.bind(this)
    try {
      return await this.migration.run(begin, fn)
    } finally {
      this.forget()
      await this.planned()
    }
  }

  /** To be waited for before the transaction of `install`: from now on it counts as the one that came last. */
  willInstall(): Promise<Coming> {
    this.coming = undefined
    return this.come()
  }

  /** To be asked for in the transaction of `install` before anything is written. */
  prepare(): Work<void> {
    return this.database.capture.prepare(this.specs.flatMap((spec) => [...tablesOf(spec), ...dependenciesOf(spec)]))
  }

  /** Makes triggers, and touches what stands there at first, in the caller's transaction. From then on these rules are in force. */
  *install(coming: Coming): Work<Upkeep> {
    yield* putInForce(this.database, this.fingerprint, coming)
    yield* this.migration.end()
    return yield* keepUp(this.database, this.specs, true, this.refill)
  }

  /** What `install` has made is committed. */
  installed(): void {
    this.begins = false
    this.forget()
  }

  /** With the next look its rules are in force, whatever others were. */
  begin(): void {
    this.begins = true
    this.coming = undefined
    this.found = []
    this.forget()
  }

  /** In one snapshot: the schema that the plan is said to be of must be the one that it was made of. */
  async planned(): Promise<CapturePlan> {
    return (await this.kept()).plan
  }

  /** The plan with the schema that it is of. */
  async kept(): Promise<Upkeep> {
    if (this.upkeep === undefined) {
      const coming = await this.come()
      this.keep(await this.database.write(() => this.keepUp(coming), { alone: true }))
    }
    return this.upkeep as unknown as Upkeep
  }

  /** Looks, in the caller's transaction; who commits it keeps what was found. */
  *keepUp(coming: Coming): Work<Upkeep> {
    yield* this.beginOrGoOn(coming)
    if (yield* this.migration.isUnderWay()) return yield* this.lookOnly()
    return yield* keepUp(this.database, this.specs, false, this.refill)
  }

  /** What fits the rules as it stands is sealed meanwhile, if it was touched before. */
  private *lookOnly(): Work<Upkeep> {
    const { plan, done } = yield* planAnd(this.database, this.specs, [], () => this.database.capture.schemaVersion())
    return { plan, schema: done, mended: [], problems: [], statements: [], isMigrating: true }
  }

  keep(upkeep: Upkeep): void {
    const before = this.found
    this.upkeep = upkeep
    this.lookedAt = this.clock.ticks()
    this.begins = false
    if (upkeep.isMigrating) return
    this.found = upkeep.problems
    const news = upkeep.problems.some(({ table }) => !before.some((known) => known.table === table))
    if (upkeep.mended.length > 0 || news || (before.length > 0 && upkeep.problems.length === 0)) this.onUpkeep(upkeep)
  }

  /** Whether the tables still stand as they were planned: last, or when the plan was made that the caller goes by. Others may have planned anew since then. */
  *isCurrent(kept = this.upkeep): Work<boolean> {
    return (yield* this.database.capture.schemaVersion()) === kept?.schema
  }

  /** Before anything is made or dropped. @throws ERR_SCHEMA_NEWER where others have begun meanwhile */
  private *beginOrGoOn(coming: Coming): Work<void> {
    if (!this.begins) yield* this.requireInForce()
    // Also where none were.
    yield* putInForce(this.database, this.fingerprint, coming)
  }

  /** Once, however often it has to try. */
  async come(): Promise<Coming> {
    this.coming ??= await come(this.database, this.clock)
    return this.coming
  }

  /** @throws ERR_SCHEMA_NEWER where other rules are */
  *requireInForce(): Work<void> {
    const other = yield* notInForce(this.database, this.fingerprint)
    if (other !== undefined) throw other
  }

  /** What the rules and the tables would do, or, where others have begun since with other rules, that these do nothing any more. `hasLives` as of `checkCapture`. */
  *check(hasLives: boolean): Work<readonly Finding[]> {
    const other = this.begins ? undefined : yield* notInForce(this.database, this.fingerprint)
    if (other === undefined) return yield* checkCapture(this.database, this.specs, hasLives)
    return [{ code: 'DRIFT', message: other.message, hint: other.hint as string }]
  }
}
