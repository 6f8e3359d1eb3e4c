import PQueue from 'p-queue'
import { Background } from './background.ts'
import type { PullOptions } from './central-options.ts'
import type { SynchronizeOptions } from './courier.ts'
import { asTillsyncError, TillsyncError } from './errors.ts'
import type { CentralEvents, Events } from './events.ts'
import type { RegisterName, Takes } from './model.ts'
import type { AudiencePublisher, Clock, Subscriber } from './ports.ts'
import type { PullBook } from './pull-book.ts'
import { PulledTill } from './pulled-till.ts'

/** What was moved. */
export interface PullResult {
  /** Entries that were applied. */
  readonly received: number
  /** Documents that they belong to. */
  readonly documents: number
}

export interface PullProgress extends RegisterName, PullResult {
  /** Entries that the register still has, as it last said. */
  readonly pending: number
}

/** What became of one of several registers; with `error` where it came to no end. */
export interface PulledRegister extends RegisterName, PullResult {
  readonly error?: TillsyncError
}

export interface RoundsOptions {
  readonly book: PullBook
  readonly clock: Clock
  readonly events: Events<CentralEvents>
  readonly subscriber: Subscriber
  readonly audiences: AudiencePublisher | undefined
  readonly takes: Takes
  /** Undefined where central only answers. */
  readonly pull: Required<PullOptions> | undefined
  ready(): Promise<void>
}

/**
 * Pulls all pull registers, each on its own: one that does not answer holds nobody up but, for `timeoutMs`, a lane of those that did not answer
 * before. Registers that are added or changed are noticed within `everyMs`.
 */
export class Rounds {
  private readonly options: RoundsOptions
  private readonly tills = new Map<string, PulledTill>()
  private readonly lanes: { readonly well: PQueue; readonly failing: PQueue }
  private readonly background = new Background()

  constructor(options: RoundsOptions) {
    this.options = options
    const concurrency = options.pull?.lanes ?? 1
    this.lanes = { well: new PQueue({ concurrency }), failing: new PQueue({ concurrency }) }
  }

  start(): void {
    const { pull } = this.options
    if (pull !== undefined) this.background.start((stop) => this.run(pull, stop))
  }

  /** Waits for what is under way; what was pulled and not applied comes again. */
  stop(): Promise<void> {
    return this.background.stop(async () => {
      await Promise.all([...this.tills.values()].map((till) => till.stop()))
      if (this.tills.size > 0) await this.options.book.release().catch(() => undefined)
      this.tills.clear()
    })
  }

  /** @throws ERR_OPTION, ERR_REGISTER, and what ended it */
  async synchronize(register: RegisterName, { signal, onProgress }: SynchronizeOptions<PullProgress>): Promise<PullResult> {
    return this.drain(this.till(register), this.endedBy(signal), onProgress, { received: 0, documents: 0 })
  }

  /** What is begun now ends with a stop, whenever its turn comes. */
  private endedBy(signal: AbortSignal | undefined): AbortSignal {
    return AbortSignal.any([this.background.signal, ...(signal ? [signal] : [])])
  }

  async synchronizeAll({ signal, onProgress }: SynchronizeOptions<PullProgress>): Promise<readonly PulledRegister[]> {
    const { lanes } = this.pull()
    const ended = this.endedBy(signal)
    const hands = new PQueue({ concurrency: lanes })
    const registers = await this.options.book.list()
    const all = await Promise.all(
      registers.map(({ location, register }) =>
        hands.add(async (): Promise<PulledRegister> => {
          const name = { location, register }
          const moved = { received: 0, documents: 0 }
          try {
            return { ...name, ...(await this.drain(this.till(name), ended, onProgress, moved)) }
          } catch (thrown) {
            return { ...name, ...moved, error: asTillsyncError(thrown, 'ERR_DATABASE', 'The exchange failed') }
          }
        }),
      ),
    )
    if (ended.aborted) throw new TillsyncError('ERR_ABORTED', 'The synchronisation was aborted', { cause: ended.reason })
    return all as readonly PulledRegister[]
  }

  /** Until the register has nothing more. `moved` says how far it came also where it fails. */
  private async drain(
    till: PulledTill,
    ended: AbortSignal,
    onProgress: ((progress: PullProgress) => void) | undefined,
    moved: { received: number; documents: number },
  ): Promise<PullResult> {
    for (;;) {
      const { applied, pending, settled } = await till.exchangeNow(ended)
      moved.received += applied?.entries ?? 0
      moved.documents += applied?.documents ?? 0
      if (onProgress) this.options.events.tell(onProgress, { ...till.register, ...moved, pending })
      if (settled) return moved
    }
  }

  /** There is something new for a register. */
  wake(register: RegisterName): void {
    this.tills.get(keyOf(register))?.wake()
  }

  /** Looks for registers that came or went; each has a loop of its own. */
  private async run(pull: Required<PullOptions>, stop: AbortSignal): Promise<void> {
    const { book, clock, events, ready } = this.options
    while (!stop.aborted) {
      try {
        await ready()
        const registers = await book.list()
        for (const register of registers) this.till(register).start()
        const listed = new Set(registers.map(keyOf))
        for (const [key, till] of this.tills) if (!listed.has(key)) till.end()
      } catch (thrown) {
        if (stop.aborted) return
        events.emit('failed', { error: asTillsyncError(thrown, 'ERR_DATABASE', 'The pull registers could not be listed') })
      }
      await clock.sleep(pull.everyMs, stop).catch(() => undefined)
    }
  }

  private till({ location, register }: RegisterName): PulledTill {
    const pull = this.pull()
    const name = { location, register }
    const key = keyOf(name)
    const known = this.tills.get(key)
    if (known !== undefined) return known
    const till = new PulledTill({ ...this.options, pull, register: name, laneOf: (isFailing) => (isFailing ? this.lanes.failing : this.lanes.well) })
    this.tills.set(key, till)
    return till
  }

  private pull(): Required<PullOptions> {
    if (this.options.pull !== undefined) return this.options.pull
    throw new TillsyncError('ERR_OPTION', 'There is no `pull` to synchronize by', {
      hint: 'createCentral({ …, pull: { token: (register) => … } }); a register that pushes synchronizes itself.',
    })
  }
}

function keyOf({ location, register }: RegisterName): string {
  return JSON.stringify([location, register])
}
