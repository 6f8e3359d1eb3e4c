import { randomBytes } from 'node:crypto'
import PQueue from 'p-queue'
import { Background } from './background.ts'
import { asTillsyncError, TillsyncError } from './errors.ts'
import type { CentralEvents, Events } from './events.ts'
import type { RegisterName, Takes } from './model.ts'
import type { CentralMailbox, Clock, Letter, Proof } from './ports.ts'
import { unlessLeft } from './transport/abortable.ts'
import { backoffMs } from './transport/backoff.ts'
import { encodeMessage } from './transport/codec.ts'
import type { Gate } from './transport/gate.ts'
import { closeMailbox, lettersUntil } from './transport/letters.ts'
import { lineError } from './transport/line.ts'
import { errorFields } from './transport/reception.ts'
import { Voucher } from './transport/source.ts'

export interface PostmanOptions {
  readonly mailboxes: readonly CentralMailbox[]
  readonly clock: Clock
  readonly events: Events<CentralEvents>
  readonly gate: Gate
  readonly takes: Takes
  /** How many letters are settled at the same time. */
  readonly lanes: number
  /** Central's answer to a message of a register; `takes` is what it takes by this mailbox. */
  answer(register: RegisterName, message: Uint8Array, takes: Takes, proof: Proof): Promise<Uint8Array>
}

type OpenLetter = Letter & { readonly from: RegisterName }

/** How many letters are open for each that is being settled: a register's own wait for each other. */
const OPEN_PER_LANE = 4
const BACKOFF = { minMs: 500, maxMs: 5_000 }
/** While another letter of a register is settled, be it in another process. */
const BUSY = { minMs: 10, maxMs: 300 }
const BUSY_TRIES = 12

/** Receives the letters of registers that have a mailbox, and answers each with one. A letter is acknowledged when what follows from it is committed and the answer is on its way. */
export class Postman {
  private readonly options: PostmanOptions
  private readonly settling: PQueue
  private readonly background = new Background()

  constructor(options: PostmanOptions) {
    this.options = options
    this.settling = new PQueue({ concurrency: options.lanes })
  }

  start(): void {
    const { options, settling } = this
    this.background.start((stop) => Promise.all(options.mailboxes.map((mailbox) => new Round(options, mailbox, settling).run(stop))))
  }

  /** Waits for the letters that are being settled; the others stay where they are. */
  async stop(): Promise<void> {
    await this.background.stop()
    await Promise.all(this.options.mailboxes.map(closeMailbox))
  }
}

/** The postman at one mailbox. */
class Round {
  private readonly options: PostmanOptions
  private readonly mailbox: CentralMailbox
  private readonly settling: PQueue
  /** The last letter of each register that is open: its letters go one after another. */
  private readonly last = new Map<string, Promise<void>>()
  private readonly open = new Set<Promise<void>>()
  /** What is wrong with the mailbox was said, until it is not. */
  private isAway = false

  constructor(options: PostmanOptions, mailbox: CentralMailbox, settling: PQueue) {
    this.options = options
    this.mailbox = mailbox
    this.settling = settling
  }

  /** What the mailbox carries it may learn only when it has connected. */
  private get takes(): Takes {
    const { message, document } = this.options.takes
    return { message: Math.min(message, this.mailbox.maxBytes ?? message), document }
  }

  async run(stop: AbortSignal): Promise<void> {
    const { clock, events, lanes } = this.options
    const onRefused = (error: TillsyncError, register: RegisterName | undefined) => events.emit('refused', { register, source: undefined, error })
    for (let failures = 0; !stop.aborted; ) {
      try {
        for await (const letter of lettersUntil(this.mailbox.receive({ signal: stop, onRefused }), stop)) {
          if (stop.aborted) {
            await letter.release()
            break
          }
          failures = 0
          this.isAway = false
          this.begin(letter, stop)
          while (this.open.size >= lanes * OPEN_PER_LANE) await Promise.race(this.open)
        }
      } catch (thrown) {
        if (stop.aborted) break
        failures++
        this.say(lineError(thrown))
      }
      await clock.sleep(backoffMs(Math.max(1, failures), BACKOFF, clock.random), stop).catch(() => undefined)
    }
    await Promise.all(this.open)
  }

  private begin(letter: OpenLetter, stop: AbortSignal): void {
    const key = JSON.stringify([letter.from.location, letter.from.register])
    const turn = (this.last.get(key) ?? Promise.resolve()).then(() => this.settle(letter, stop))
    const done: Promise<void> = turn
      .catch((thrown) => this.say(lineError(thrown)))
      .finally(() => {
        this.open.delete(done)
        if (this.last.get(key) === done) this.last.delete(key)
      })
    this.open.add(done)
    this.last.set(key, done)
  }

  private async settle(letter: OpenLetter, stop: AbortSignal): Promise<void> {
    let answer: Uint8Array
    try {
      // What carries it may hang: only the work takes a lane.
      answer = (await this.settling.add(() => this.answer(letter, stop))) as Uint8Array
    } catch (thrown) {
      const error = unsettled(thrown)
      if (!REFUSED.has(error.code)) {
        if (!WAITS.has(error.code)) this.options.events.emit('refused', { register: letter.from, source: undefined, error })
        return letter.release()
      }
      this.options.events.emit('refused', { register: letter.from, source: undefined, error })
      answer = await this.refusal(error)
    }
    await this.send(letter, answer, stop)
  }

  private async answer({ from, message }: OpenLetter, stop: AbortSignal): Promise<Uint8Array> {
    const { gate, clock } = this.options
    if (stop.aborted) throw new TillsyncError('ERR_STOPPED', 'Central is stopped', { retryable: true })
    const admission = await gate.admit(new Voucher(from), undefined)
    for (let tries = 1; ; tries++) {
      try {
        const answer = await this.options.answer(from, message, this.takes, admission.proof)
        gate.proven(admission)
        return answer
      } catch (thrown) {
        const error = unsettled(thrown)
        gate.refused(admission, error)
        if (error.code !== 'ERR_BUSY' || tries >= BUSY_TRIES) throw error
        await clock.sleep(backoffMs(tries, BUSY, clock.random), stop)
      }
    }
  }

  private refusal(error: TillsyncError): Promise<Uint8Array> {
    const takes = error.code === 'ERR_TOO_LARGE' && { takes: this.takes }
    return encodeMessage({ from: 'central', id: randomBytes(9).toString('base64url'), ...takes, error: errorFields(error) })
  }

  /** Where there is no room for the answer, there may be when the letter is gone; if not, or where it may not be written, the register asks again by itself. */
  private async send(letter: OpenLetter, answer: Uint8Array, stop: AbortSignal): Promise<void> {
    const send = () => unlessLeft(this.mailbox.send(letter.from, answer), stop)
    try {
      await send()
    } catch (thrown) {
      const error = lineError(thrown)
      if (error.code === 'ERR_LINK' || error.code === 'ERR_ABORTED') {
        await letter.release()
        throw error
      }
      await letter.acknowledge()
      return send()
    }
    await letter.acknowledge()
  }

  private say(error: TillsyncError): void {
    if (error.code === 'ERR_ABORTED') return
    if (error.code !== 'ERR_LINK' || !this.isAway) this.options.events.emit('failed', { error })
    this.isAway = error.code === 'ERR_LINK'
  }
}

function unsettled(thrown: unknown): TillsyncError {
  return asTillsyncError(thrown, 'ERR_DATABASE', 'The letter could not be settled')
}

/** What would be refused again whenever it came: it is answered so, and the register keeps its entries. */
const REFUSED: ReadonlySet<string> = new Set([
  'ERR_MESSAGE',
  'ERR_TOO_LARGE',
  'ERR_VERSION',
  'ERR_FOREIGN_REGISTER',
  'ERR_CREDENTIAL',
  'ERR_REGISTER',
])
/** What is no news to anybody. */
const WAITS: ReadonlySet<string> = new Set(['ERR_BUSY', 'ERR_STOPPED', 'ERR_RATE_LIMIT', 'ERR_ABORTED'])
