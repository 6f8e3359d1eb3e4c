import PQueue from 'p-queue'
import { asTillsyncError, TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import { known } from '../options.ts'
import type { ApplyingDatabase, Clock, Received } from '../ports.ts'
import type { Subscribed } from './handling.ts'
import type { LeftOpen } from './left-open.ts'
import type { QuarantineBook } from './quarantine-book.ts'
import { planOf, readWhich, type WhichReplayed } from './replay-options.ts'
import { type ReplayedRegister, readRegisters } from './replay-walk.ts'
import { Replayer } from './replayer.ts'

/** What a replay has done. */
export interface Replayed {
  /** Documents that were gone through, former lives of keys among them. */
  readonly documents: number
  /** For how many something was posted, ledger by ledger; closings among them to which a receipt belongs. 0 where nothing says otherwise than it did. */
  readonly postings: number
  /** Sent to quarantine: they can't be applied as they were any more. What they have posted stays. */
  readonly quarantined: number
  /** They waited in quarantine, and are applied. */
  readonly released: number
  /** A check of `validate` refuses them now, and nothing would be posted of them: they stay as they are, handlers of the host's own are not called for them. */
  readonly refused: number
}

/** How far a replay has come, with a register of which something was just done. */
export interface ReplayProgress extends RegisterName, Replayed {
  /** Entries of the archive that are behind it, of how many. */
  readonly entries: number
  readonly of: number
}

export interface ReplayOptions {
  /** Ends it after the transactions under way; what they did stays. */
  readonly signal?: AbortSignal | undefined
  /** Told after each transaction. */
  readonly onProgress?: ((progress: ReplayProgress) => void) | undefined
}

/** What replays need of central. */
export interface ReplaysOptions {
  readonly database: ApplyingDatabase
  readonly subscribed: Subscribed
  readonly clock: Clock
  readonly quarantine: QuarantineBook
  readonly leftOpen: LeftOpen
  /** How many registers are replayed at the same time. */
  readonly lanes: number
  ready(): Promise<void>
  /** Runs it when there is a lane. */
  lane<T>(work: () => Promise<T>): Promise<T>
  /** Tells what became of documents of a register. */
  tell(register: RegisterName, outcome: Pick<Received, 'quarantined' | 'released'>): void
  /** Tells the host how far it has come. */
  tellProgress(onProgress: (progress: ReplayProgress) => void, progress: ReplayProgress): void
  /** Documents were applied: what others wait for may be among them. */
  brought(): void
}

/** Runs handlers again over the archive. */
export class Replays {
  private readonly options: ReplaysOptions
  private readonly running = new Set<Promise<unknown>>()
  private stopping = new AbortController()

  constructor(options: ReplaysOptions) {
    this.options = options
  }

  async run(which: WhichReplayed, options: ReplayOptions = {}): Promise<Replayed> {
    const read = readWhich(which)
    known('options', options, ['signal', 'onProgress'])
    const { database, subscribed, ready } = this.options
    await ready()
    const plan = await database.read(() => planOf(database, subscribed.handlers, read.table, read.since))
    const registers = chosen(await database.read(() => readRegisters(database)), read.registers)
    const failing = new AbortController()
    const outside = AbortSignal.any([this.stopping.signal, ...(options.signal ? [options.signal] : [])])
    const signal = AbortSignal.any([outside, failing.signal])
    const replayer = new Replayer({ ...this.options, table: read.table, plan, registers, signal, onProgress: options.onProgress })
    const lanes = new PQueue({ concurrency: this.options.lanes })
    const errors: TillsyncError[] = []
    const all = registers.map((register) =>
      lanes.add(async () => {
        try {
          await replayer.replay(register)
        } catch (thrown) {
          const error = of(register, thrown)
          errors.push(error)
          // Somebody else works for it, longer than anybody waits: that concerns nobody else.
          if (error.code !== 'ERR_BUSY') failing.abort(error)
        }
      }),
    )
    const run = Promise.all(all)
    this.running.add(run)
    await run.finally(() => this.running.delete(run))
    if (outside.aborted) throw new TillsyncError('ERR_ABORTED', 'The replay was aborted', { cause: outside.reason })
    const [error] = errors
    if (error !== undefined) throw error
    return replayer.replayed
  }

  /** Ends those under way. */
  async stop(): Promise<void> {
    this.stopping.abort()
    await Promise.all(this.running)
    this.stopping = new AbortController()
  }
}

/** @throws ERR_REGISTER */
function chosen(all: readonly ReplayedRegister[], names: readonly RegisterName[] | undefined): readonly ReplayedRegister[] {
  if (names === undefined) return all
  const found = names.map(({ location, register }) => {
    const one = all.find((other) => other.location === location && other.register === register)
    if (one !== undefined) return one
    throw new TillsyncError('ERR_REGISTER', `Register ${register} at ${location} is not known`, {
      hint: 'registers.list() shows who is.',
      context: { location, register },
    })
  })
  return [...new Set(found)]
}

/** Says which register it was. */
function of({ location, register }: RegisterName, thrown: unknown): TillsyncError {
  const { code, message, retryable, hint, context, cause } = asTillsyncError(thrown, 'ERR_DATABASE', 'The replay failed')
  const more = { retryable, hint, context: { ...context, location, register }, cause }
  return new TillsyncError(code, `Register ${register} at ${location}: ${message}`, more)
}
