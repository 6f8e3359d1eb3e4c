import { TillsyncError } from '../errors.ts'
import type { AnyTables, DocumentName, Which } from '../model.ts'
import type { CapturingDatabase, Clock, WriteOptions } from '../ports.ts'
import type { Key, Work } from '../work.ts'
import { touchAgain } from './again.ts'
import { Overfull, type Slice, sealSlice } from './collector.ts'
import { exportTasks, touchExport } from './export.ts'
import { type CapturePlan, requireRoot } from './plan.ts'
import { Planning, type PlanningOptions } from './planning.ts'
import { askReseal, isRecordId, pendingReseals, touchReseal } from './reseal.ts'
import type { RootPlan } from './table-plan.ts'

export interface Sealed {
  readonly documents: number
  readonly entries: number
}

/** Seals what up to `limit` touches lead to: a register's for central, central's for each audience. */
export type SealSlice = (database: CapturingDatabase, plan: CapturePlan, limit: number, now: () => number) => Work<Slice>

export interface SealerOptions extends PlanningOptions {
  /** After the commit of a slice. */
  onSealed(slice: Slice): void
  /** How touches are sealed; by default for central, into a register's stream. */
  readonly seal?: SealSlice
}

/** How often it is tried where the host's schema is changed at the same time. */
const TRIES = 10

/** When it is looked again whether what could not be read can be, at least: not all that keeps it from that is seen in the schema; and for touches of any age. */
const LOOK_AGAIN_MS = 30_000

/** Documents of an export that are touched before they are sealed: a run of sealing costs as much as some hundred documents. */
const TOGETHER = 5_000

/** How many touches a transaction takes; it aims at the length that its database says. */
const LIMITS = { least: 1, first: 64, most: 4_096 }

/**
 * Runs the collector: slice after slice, each a short transaction, as long as anything is touched. Calls that come while
 * it runs wait for the same end.
 */
export class Sealer {
  readonly planning: Planning
  private readonly database: CapturingDatabase
  private readonly clock: Clock
  private readonly onSealed: (slice: Slice) => void
  private readonly sealSlice: SealSlice
  private limit = LIMITS.first
  /** Roots that were touched as a whole and are not resealed yet. */
  private readonly whole = new Set<string>()
  private running: Promise<Sealed> | undefined
  /** When touches of any age are looked for. */
  private lookAgainAt = 0
  /** All that this object has sealed, and of it what was exported. */
  private readonly sealed = { documents: 0, entries: 0 }
  private readonly exported = { documents: 0, entries: 0 }

  constructor(options: SealerOptions) {
    this.planning = new Planning(options)
    this.database = options.database
    this.clock = options.clock
    this.onSealed = options.onSealed
    this.sealSlice = options.seal ?? sealSlice
  }

  /** The next run looks for touches of any age. */
  lookAgain(): void {
    this.lookAgainAt = 0
  }

  /** Seals all that is touched when it is called, tables that were touched as a whole included. */
  async sealAll(signal?: AbortSignal): Promise<Sealed> {
    const before = { ...this.sealed }
    this.planning.lookAgain(0)
    await this.seal(signal)
    const plan = await this.planning.planned()
    for (const table of [...this.whole]) if (plan.roots.has(table)) await this.resume(table, signal)
    return { documents: this.sealed.documents - before.documents, entries: this.sealed.entries - before.entries }
  }

  /** Seals the records that are touched when it is called. */
  async seal(signal?: AbortSignal): Promise<Sealed> {
    // What a run that is under way has not seen needs another one after it.
    if (this.running !== undefined) await this.running.catch(() => undefined)
    if (this.running !== undefined) return this.shared(this.running, signal)
    this.running = this.run(signal).finally(() => {
      this.running = undefined
    })
    return this.running
  }

  /** Another call's run that began behind this call: if somebody ends that one, it is no end of ours. */
  private async shared(running: Promise<Sealed>, signal: AbortSignal | undefined): Promise<Sealed> {
    try {
      return await running
    } catch (thrown) {
      if (signal?.aborted || !(thrown instanceof TillsyncError) || thrown.code !== 'ERR_ABORTED') throw thrown
      return this.seal(signal)
    }
  }

  /** Seals what is touched, and does `work` in the same transaction, behind which nothing is left to be sealed. Undefined where it is more than a slice, or the tables stand otherwise by now. */
  async sealedWith<T>(work: () => Work<T>): Promise<T | undefined> {
    await this.planning.planned()
    return (await this.slice(this.limit, undefined, work))?.value
  }

  private async run(signal: AbortSignal | undefined): Promise<Sealed> {
    this.planning.lookAgain(LOOK_AGAIN_MS)
    const ticks = this.clock.ticks()
    if (ticks >= this.lookAgainAt) {
      this.database.capture.lookAgain()
      this.lookAgainAt = ticks + LOOK_AGAIN_MS
    }
    const { roots, unread } = await this.planning.planned()
    const sealed = { documents: 0, entries: 0 }
    const mark = await this.database.read(() => this.markIfDue(), { loosely: true })
    if (mark === undefined) return sealed
    const none = roots.size > 0 ? undefined : [...unread.values()].find(({ code }) => code === 'ERR_DATABASE')
    if (none !== undefined) {
      // With no table at all there is nothing that could go on; what is touched stays so until the next look.
      this.planning.forget()
      throw none
    }
    for (let plan: CapturePlan | undefined; ; ) {
      if (signal?.aborted) throw new TillsyncError('ERR_ABORTED', 'Sealing was aborted', { cause: signal.reason })
      const { limit } = this
      let slice: Slice | undefined
      try {
        slice = await this.slice(limit, signal)
      } catch (error) {
        // What a filter asks for may be gone, which the schema does not say: a new plan says whose it is, and the others go on.
        if (plan !== undefined || !(error instanceof TillsyncError) || error.code !== 'ERR_DATABASE' || error.retryable) throw error
        this.planning.forget()
        plan = await this.planning.planned()
        if (plan.unread.size === 0) throw error
        continue
      }
      if (slice === undefined) continue
      add(sealed, slice)
      // What comes later is another call's: a host that writes without a pause must not keep this one from its end.
      if (!slice.more || slice.touch >= mark) return sealed
    }
  }

  /** How far there is something to seal; undefined where there is nothing. A dropped table leaves no touch; the schema says so. */
  private *markIfDue(): Work<number | undefined> {
    const { capture } = this.database
    return (yield* capture.touched()) || !(yield* this.planning.isCurrent()) ? yield* capture.mark() : undefined
  }

  /** @param work what is done with the last slice. Undefined where there is more than is held at once: the next one is shorter. */
  private async slice<T>(
    limit: number,
    signal: AbortSignal | undefined,
    work?: () => Work<T>,
  ): Promise<(Slice & { readonly value: T | undefined }) | undefined> {
    let tries = 0
    const coming = await this.planning.come()
    const written = this.database.write(
      function* (this: Sealer) {
        // The host wrote meanwhile: less is more likely to come through.
        const less = tries++ === 0 ? limit : Math.ceil(limit / 2)
        const { last } = this.planning
        const known = (yield* this.planning.isCurrent(last)) ? last : undefined
        const upkeep = known ?? (yield* this.planning.keepUp(coming))
        const slice = yield* this.sealSlice(this.database, upkeep.plan, less, this.clock.now)
        const value = work === undefined || slice.more || known === undefined ? undefined : yield* work()
        return { upkeep, slice: { ...slice, limit: less, value } }
      }.bind(this),
      { signal, alone: true },
    )
    const done = await written.catch((error) => {
      // What takes too long, or is too much, may go well with less.
      this.limit = Math.max(LIMITS.least, Math.ceil(limit / 2))
      if (error instanceof Overfull) {
        this.limit = Math.min(this.limit, error.fitting)
        return undefined
      }
      // Whatever goes by the plan stands still with it.
      if (error instanceof TillsyncError && error.code === 'ERR_SCHEMA_NEWER') this.planning.forget()
      throw error
    })
    if (done === undefined) return undefined
    const { upkeep, slice } = done
    if (upkeep !== this.planning.last) this.planning.keep(upkeep)
    const { sliceMs } = this.database
    const { more, wroteMs } = slice
    if (more && wroteMs < sliceMs / 2) this.limit = Math.min(LIMITS.most, limit * 2)
    else if (wroteMs > sliceMs) this.limit = Math.max(LIMITS.least, Math.ceil((slice.limit * sliceMs) / wroteMs))
    for (const table of slice.whole) this.whole.add(table)
    add(this.sealed, slice)
    add(this.exported, slice.exported)
    if (slice.entries > 0) this.onSealed(slice)
    return slice
  }

  /** Seals documents anew, changed or not. Those outside the filter of the rules are left out. */
  async export(table: string, which: Which<AnyTables, string>, related: boolean): Promise<Sealed> {
    const before = { ...this.exported }
    let unsealed = 0
    for (const task of exportTasks(this.database, await this.planning.planned(), table, which, related)) {
      for (let after: Key | undefined, isEnd = false; !isEnd; isEnd = after === undefined) {
        const touched = await this.byPlan(table, () => touchExport(this.database, task, after))
        after = touched.after
        unsealed += touched.documents
        if (unsealed < TOGETHER) continue
        await this.seal()
        unsealed = 0
      }
    }
    await this.seal()
    return { documents: this.exported.documents - before.documents, entries: this.exported.entries - before.entries }
  }

  /** Seals documents anew that central has asked for, or that there are no such. */
  async sealAgain(documents: readonly DocumentName[]): Promise<void> {
    const { database } = this
    for (const [table, group] of Map.groupBy(documents, (document) => document.table)) {
      if (!(await this.planning.planned()).roots.has(table)) continue
      const ids = group.map(({ recordId }) => recordId).filter(isRecordId)
      const work = (root: RootPlan) => {
        const asked = ids.map((recordId) => ({ recordId, key: database.keyOf(root.keyColumns, recordId) }))
        return touchAgain(
          database,
          root,
          asked.filter(({ key }) => key.length === root.key.length),
        )
      }
      await this.byPlan(table, work, { alone: true })
    }
    await this.seal()
  }

  /** Does what reseals were asked for, by changed rules or before a crash; one that was interrupted goes on. */
  async resealPending(signal?: AbortSignal): Promise<Sealed> {
    const before = { ...this.sealed }
    const plan = await this.planning.planned()
    for (const table of await this.database.read(() => pendingReseals(this.database), { loosely: true }))
      if (plan.roots.has(table)) await this.resume(table, signal)
    return this.sealedSince(before)
  }

  /** Compares all records of a root table with what was given, and seals what differs. One that was interrupted begins anew. */
  async reseal(table: string, signal?: AbortSignal): Promise<Sealed> {
    const before = { ...this.sealed }
    await this.byPlan(table, () => askReseal(this.database, table, false), { signal })
    await this.resume(table, signal)
    return this.sealedSince(before)
  }

  private sealedSince({ documents, entries }: Sealed): Sealed {
    return { documents: this.sealed.documents - documents, entries: this.sealed.entries - entries }
  }

  private async resume(table: string, signal: AbortSignal | undefined): Promise<void> {
    requireRoot(await this.planning.planned(), table)
    this.whole.delete(table)
    for (;;) {
      const ended = await this.byPlan(table, (root) => touchReseal(this.database, root), { signal })
      await this.seal(signal)
      if (ended) return
    }
  }

  /** Writes by the plan of a root table as that stands then: a host may have altered it while the transaction waited for its turn. */
  private async byPlan<T>(table: string, work: (root: RootPlan) => Work<T>, options: WriteOptions = {}): Promise<T> {
    for (let tries = 0; tries < TRIES; tries++) {
      await this.planning.planned()
      const done = await this.database.write(
        function* (this: Sealer) {
          // Another call may come to know of other tables, or of other rules, meanwhile.
          const { last } = this.planning
          if (last === undefined || !(yield* this.planning.isCurrent(last))) return undefined
          return { value: yield* work(requireRoot(last.plan, table)) }
        }.bind(this),
        options,
      )
      if (done !== undefined) return done.value
      await this.seal(options.signal)
    }
    throw new TillsyncError('ERR_BUSY', 'The schema is changed without end', { retryable: true, hint: 'Try again when it stands still.' })
  }
}

function add(to: { documents: number; entries: number }, more: Sealed): void {
  to.documents += more.documents
  to.entries += more.entries
}
