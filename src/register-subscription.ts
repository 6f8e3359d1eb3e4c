import { AudienceSubscription, type SubscriptionStatus } from './apply/audience-subscription.ts'
import type { HandlersByTable } from './apply/handler.ts'
import { readMirrors } from './apply/subscribed-mirrors.ts'
import type { SubscriptionProblem } from './apply/subscription-outlook.ts'
import type { WaitingDocument } from './apply/waiting-documents.ts'
import type { CapturePlan } from './capture/plan.ts'
import { readBefore, removedBehind, settleReceived, tablesIn } from './capture/received.ts'
import type { Sealer } from './capture/sealer.ts'
import type { RootPlan } from './capture/table-plan.ts'
import { asTillsyncError } from './errors.ts'
import type { Events, RegisterEvents } from './events.ts'
import type { Finding, RegisterName } from './model.ts'
import type { AudienceSubscriber, Clock, RegisterDatabase, Work } from './ports.ts'
import { CENTRAL, readPeer } from './transport/peers.ts'
import type { Published, Publishing } from './two-way.ts'

export interface RegisterSubscriptionOptions {
  readonly name: RegisterName
  readonly database: RegisterDatabase
  readonly clock: Clock
  readonly events: Events<RegisterEvents>
  readonly sealer: Sealer
  readonly subscribe: Readonly<Record<string, unknown>>
  /** Whether anything is published too. */
  readonly isPublishing: boolean
}

/** A register's side of what central publishes, and how it meets what the register publishes itself. */
export class RegisterSubscription {
  readonly subscriber: AudienceSubscriber
  private readonly mirrors: HandlersByTable
  private readonly options: RegisterSubscriptionOptions
  private readonly subscription: AudienceSubscription

  /** @throws ERR_OPTION */
  constructor(options: RegisterSubscriptionOptions) {
    this.options = options
    const { name, database, clock, events } = options
    this.mirrors = readMirrors(options.subscribe)
    this.subscription = new AudienceSubscription({
      database,
      mirrors: this.mirrors,
      name,
      clock,
      publishing: options.isPublishing ? this.publishing() : undefined,
      watch: undefined,
      onApplied: (applied) => events.emit('applied', applied),
      onUnapplied: (documents) => events.emit('unapplied', { documents }),
      onProblems: (problems) => events.emit('schema', { mended: [], problems }),
    })
    this.subscriber = this.subscription
  }

  /** Whether the tables that are to be written are there, in the caller's transaction. @throws ERR_UNKNOWN_TABLE, ERR_UNKNOWN_COLUMN, ERR_NO_KEY, ERR_RULE */
  *install(): Work<void> {
    for (const [table, mirrors] of this.mirrors) for (const mirror of mirrors) yield* mirror.check(this.options.database, table)
  }

  /** Goes on with what was under way, in the background. */
  start(): void {
    this.subscription.resume().catch((thrown) => {
      this.options.events.emit('failed', { error: asTillsyncError(thrown, 'ERR_DATABASE', 'What central has sent could not be applied') })
    })
  }

  stop(): Promise<void> {
    return this.subscription.stop()
  }

  status(): Promise<{
    readonly subscriptions: readonly SubscriptionStatus[]
    readonly unapplied: readonly WaitingDocument[]
    readonly problems: readonly SubscriptionProblem[]
  }> {
    return this.subscription.status()
  }

  check(): Promise<readonly Finding[]> {
    return this.subscription.check()
  }

  private publishing(): Publishing {
    const { sealer } = this.options
    return {
      published: async (isStale) => {
        if (isStale) sealer.forgetPlan()
        return this.published(await sealer.planned())
      },
      // What can't be sealed now counts as changed here, and is said by whoever seals in the background.
      seal: () =>
        sealer.seal().then(
          () => undefined,
          () => undefined,
        ),
    }
  }

  private published({ roots }: CapturePlan): Published {
    const { database, sealer } = this.options
    const root = (name: string) => roots.get(name) as RootPlan
    const acknowledged = function* (): Work<number> {
      return (yield* readPeer(database, CENTRAL))?.standing?.entryNo ?? 0
    }
    return {
      isCurrent: () => sealer.isCurrent(),
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
