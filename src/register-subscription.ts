import { AudienceSubscription, type SubscriptionStatus } from './apply/audience-subscription.ts'
import { tablesOf } from './apply/document-set.ts'
import type { HandlersByTable } from './apply/handler.ts'
import { touchKept } from './apply/kept-columns.ts'
import { readCame } from './apply/made-anew.ts'
import { NoticeWatch } from './apply/notice-watch.ts'
import type { NoticeRow } from './apply/notices.ts'
import { followRules, optionsOf, readMirrors, targetOf } from './apply/subscribed-mirrors.ts'
import type { SubscriptionProblem } from './apply/subscription-outlook.ts'
import { comeAgain, readPlace } from './apply/subscription-standing.ts'
import type { WaitingDocument } from './apply/waiting-documents.ts'
import type { Upkeep } from './capture/activation.ts'
import { readBefore, removedBehind, settleReceived, tablesIn } from './capture/received.ts'
import type { Sealer } from './capture/sealer.ts'
import type { RootPlan } from './capture/table-plan.ts'
import { asTillsyncError, type TillsyncError } from './errors.ts'
import type { Events, RegisterEvents } from './events.ts'
import type { AudienceStanding, Finding, Notice, RegisterName } from './model.ts'
import { Periodic } from './periodic.ts'
import type { AudienceSubscriber, Clock, RegisterDatabase } from './ports.ts'
import { CENTRAL, readPeer } from './transport/peers.ts'
import type { Published, Publishing } from './two-way.ts'
import type { Work } from './work.ts'

export interface RegisterSubscriptionOptions {
  readonly name: RegisterName
  readonly database: RegisterDatabase
  readonly clock: Clock
  readonly events: Events<RegisterEvents>
  readonly sealer: Sealer
  readonly subscribe: Readonly<Record<string, unknown>>
  /** Whether anything is published too. */
  readonly isPublishing: boolean
  /** Rows of the host's were written. */
  onWritten(): void
}

/** How often it is looked whether another day has begun. */
const LOOK_MS = 30_000

/** A register's side of what central publishes, and how it meets what the register publishes itself. */
export class RegisterSubscription {
  readonly subscriber: AudienceSubscriber
  private readonly mirrors: HandlersByTable
  private readonly options: RegisterSubscriptionOptions
  /** The tables here that are written. */
  private readonly written: ReadonlySet<string>
  private readonly subscription: AudienceSubscription
  /** Undefined where nothing is followed. */
  private readonly notices: NoticeWatch | undefined
  private readonly rolling: Periodic
  private last: Promise<unknown> = Promise.resolve()
  /** Whether the tables could not be read when they were last asked about. */
  private isUnreadable = false

  /** @throws ERR_OPTION */
  constructor(options: RegisterSubscriptionOptions) {
    this.options = options
    const { name, database, clock, events } = options
    this.mirrors = readMirrors(options.subscribe)
    this.written = new Set([...this.mirrors.keys()].map((table) => targetOf(this.mirrors, table, table)))
    const rules = followRules(this.mirrors)
    const onNoted = (notices: readonly Notice[]) => events.emit('notice', { notices })
    this.notices = rules.length === 0 ? undefined : new NoticeWatch({ database, clock, rules, onNoted })
    this.subscription = new AudienceSubscription({
      database,
      mirrors: this.mirrors,
      name,
      clock,
      publishing: options.isPublishing ? this.publishing() : undefined,
      watch: this.notices,
      onApplied: (applied) => {
        events.emit('applied', applied)
        options.onWritten()
      },
      onUnapplied: (documents) => events.emit('unapplied', { documents }),
      onProblems: (problems) => events.emit('schema', { mended: [], problems }),
    })
    const { subscription } = this
    this.subscriber = {
      standings: () => this.standings(),
      unapplied: () => subscription.unapplied(),
      // What is noted of what comes is noted as of the day on which it comes.
      take: async (batches) => {
        if (this.isUnreadable && batches.length === 0) return { isAny: false, received: 0, applied: 0 }
        await this.roll(this.rolling.signal)
        return this.inTurn(() => subscription.take(batches))
      },
    }
    this.rolling = new Periodic(
      clock,
      LOOK_MS,
      (signal) => this.roll(signal),
      (thrown) => events.emit('failed', { error: asTillsyncError(thrown, 'ERR_DATABASE', 'The notices of the day could not be written') }),
    )
  }

  /** Where tables here can't be read, nothing is asked for, and `failed` says so: what is sold goes on its way all the same. */
  private async standings(): Promise<readonly AudienceStanding[]> {
    try {
      const standings = await this.subscription.standings()
      this.isUnreadable = false
      return standings
    } catch (thrown) {
      const error = unreadable(thrown)
      this.isUnreadable = true
      this.options.events.emit('failed', { error })
      return []
    }
  }

  /** What a day brings by itself. */
  private roll(signal: AbortSignal): Promise<unknown> {
    return this.inTurn(async () => this.notices?.roll(signal))
  }

  /** A day begins between two batches, never within one, nor among what waits. */
  private inTurn<T>(run: () => Promise<T>): Promise<T> {
    const done = this.last.then(run)
    this.last = done.catch(() => undefined)
    return done
  }

  /** Before the transaction of `install()`: from now on it counts as the one that came last. */
  willInstall(): Promise<void> {
    return this.subscription.willInstall()
  }

  /** Whether the tables that are to be written are there, in the caller's transaction. @throws ERR_UNKNOWN_TABLE, ERR_UNKNOWN_COLUMN, ERR_NO_KEY, ERR_RULE */
  *install(): Work<void> {
    yield* this.options.database.requireUnicode()
    for (const [table, mirrors] of this.mirrors) for (const mirror of mirrors) yield* mirror.check(this.options.database, table)
  }

  /** Goes on with what was under way, in the background. */
  start(): void {
    if (this.notices !== undefined) this.rolling.start()
    const { signal } = this.rolling
    const resume = async (): Promise<void> => (signal.aborted ? undefined : this.subscription.resume())
    // What waited is noted as of the day on which it is tried, as what comes is.
    this.inTurn(resume).catch((thrown) => {
      this.options.events.emit('failed', { error: asTillsyncError(thrown, 'ERR_DATABASE', 'What central has sent could not be applied') })
    })
  }

  /** Whether it takes a table of central's, or writes one of this database, by this name. */
  isSubscribed(table: string): boolean {
    return this.mirrors.has(table) || this.written.has(table)
  }

  /** Whether what central publishes may remove documents of a table of this database. */
  isRemovedFrom(table: string): boolean {
    return [...this.mirrors.keys()].some((of) => targetOf(this.mirrors, of, of) === table && optionsOf(this.mirrors, of)(of).rows !== 'update')
  }

  /** A table was made anew, and is empty, `lost`, of parts or itself the root `table`: whether all of it comes again, in the transaction that finds it. */
  *refill(table: string, lost: string): Work<boolean> {
    const { database } = this.options
    if (!this.isRemovedFrom(table)) return false
    const came = lost === table ? [] : yield* readCame(database)
    for (const of of this.mirrors.keys()) {
      const place = targetOf(this.mirrors, of, of) === table ? yield* readPlace(database, of) : undefined
      if (place === undefined) continue
      const isIts = (part: string) => targetOf(this.mirrors, of, part) === lost && optionsOf(this.mirrors, of)(part).rows !== 'update'
      if (lost !== table && !tablesOf(place.shape).some((part) => came.includes(part) && isIts(part))) return false
      if (place.rules !== '') yield* comeAgain(place)
    }
    return true
  }

  /** Documents of this database were changed, by whomever; in the transaction that seals them. */
  *note(touched: readonly { readonly root: RootPlan; readonly recordId: string }[]): Work<void> {
    for (const [table, some] of Map.groupBy(touched, ({ root }) => root.table)) {
      if (!this.written.has(table)) continue
      yield* touchKept(
        this.options.database,
        table,
        some.map(({ recordId }) => recordId),
      )
    }
  }

  /** Says whether any notice is another by what was done here. */
  async refreshNotices(rows: readonly NoticeRow[]): Promise<boolean> {
    return (await this.notices?.refresh(rows)) ?? false
  }

  async stop(): Promise<void> {
    await Promise.all([this.rolling.stop(), this.subscription.stop()])
  }

  /** With `failure` where tables here can't be read, so that whoever asks is told that and all else. */
  async status(): Promise<{
    readonly subscriptions: readonly SubscriptionStatus[]
    readonly unapplied: readonly WaitingDocument[]
    readonly problems: readonly SubscriptionProblem[]
    readonly failure: TillsyncError | undefined
  }> {
    try {
      return { ...(await this.subscription.status()), failure: undefined }
    } catch (thrown) {
      return { subscriptions: [], unapplied: [], problems: [], failure: unreadable(thrown) }
    }
  }

  check(): Promise<readonly Finding[]> {
    return this.subscription.check()
  }

  private publishing(): Publishing {
    const { sealer } = this.options
    return {
      published: async (isStale) => {
        if (isStale) sealer.planning.forget()
        return this.published(await sealer.planning.kept())
      },
      // What can't be sealed now counts as changed here, and is said by whoever seals in the background.
      seal: () =>
        sealer.seal().then(
          () => undefined,
          () => undefined,
        ),
    }
  }

  private published(kept: Upkeep): Published {
    const { database, sealer } = this.options
    const { roots } = kept.plan
    const root = (name: string) => roots.get(name) as RootPlan
    const acknowledged = function* (): Work<number> {
      return (yield* readPeer(database, CENTRAL))?.standing?.entryNo ?? 0
    }
    return {
      isCurrent: () => sealer.planning.isCurrent(kept),
      tables: (name) => (roots.has(name) ? tablesIn(root(name)) : undefined),
      *before(name, recordIds) {
        return yield* readBefore(database, root(name), recordIds, yield* acknowledged())
      },
      *goingAway(name, recordIds) {
        return yield* removedBehind(database, root(name), recordIds, yield* acknowledged())
      },
      after: (name, documents, meant) => settleReceived(database, root(name), documents, meant),
    }
  }
}

/** @throws what works when it is tried again */
function unreadable(thrown: unknown): TillsyncError {
  const error = asTillsyncError(thrown, 'ERR_DATABASE', 'The tables that central publishes could not be read')
  if (error.retryable) throw error
  return error
}
