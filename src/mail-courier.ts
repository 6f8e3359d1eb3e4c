import { Background } from './background.ts'
import { Moved, type Progress, type RunResult, type SynchronizeOptions } from './courier.ts'
import { asTillsyncError, TillsyncError } from './errors.ts'
import type { Events, RegisterEvents } from './events.ts'
import { MailListener } from './mail-listener.ts'
import { OneAtATime } from './one-at-a-time.ts'
import type { Clock } from './ports.ts'
import { Reachability } from './reachability.ts'
import type { Mailed } from './transfer-options.ts'
import { unlessLeft } from './transport/abortable.ts'
import { backoffMs } from './transport/backoff.ts'
import type { Correspondence, Heard } from './transport/correspondence.ts'
import { closeMailbox } from './transport/letters.ts'
import { HANGING_MS, lineError, unlessHanging } from './transport/line.ts'
import type { Exchanged } from './transport/publisher.ts'

export interface MailCourierOptions {
  readonly clock: Clock
  readonly transfer: Mailed
  readonly events: Events<RegisterEvents>
  readonly correspondence: Correspondence
  /** Open and installed, or it throws. */
  ready(): Promise<void>
  /** Whether there is news for central, be it without an entry. */
  isPending(): Promise<boolean>
  /** How many entries central has not acknowledged. */
  pending(): Promise<number>
  onExchanged(exchanged: Exchanged): void
}

/** Who waits by hand for what comes of what was sent. */
interface Waiter {
  heard(heard: Heard): void
  failed(error: TillsyncError): void
}

/**
 * Carries the letters of a register that has a mailbox: sends what is sealed behind what was sent, as far as letters may be unanswered; settles central's letters whenever they come; and what
 * is not answered for a while is sent again. One at a time, whoever asks for it.
 */
export class MailCourier {
  /** What last failed; undefined as soon as a letter of central's is settled, or one could be sent. */
  failure: TillsyncError | undefined
  private readonly options: MailCourierOptions
  private readonly listener: MailListener
  private readonly contact: Reachability
  private readonly queue = new OneAtATime()
  private readonly waiters = new Set<Waiter>()
  private readonly background = new Background()
  private waking = new AbortController()
  /** In a row: what the carrier refused, and what central did. */
  private failures = 0
  private refusals = 0
  /** Something is to be said though there be no entry: at the start, and where central's word asks for more. */
  private must = false
  private lastSaid = Number.NEGATIVE_INFINITY
  /** When what is on its way is sent again, and how often it was. */
  private resendAt = Number.POSITIVE_INFINITY
  private resends = 0
  /** What was asked of the mailbox last. While it has not ended, be it given up, nothing more is asked: a share that hangs would take another one of the few threads that Node has for files. */
  private underWay: Promise<unknown> = Promise.resolve()
  /** What was sent again was not answered yet: one letter finds out whether anybody does. */
  private isProbing = false

  constructor(options: MailCourierOptions) {
    const { clock, transfer, events } = options
    this.options = options
    this.listener = new MailListener({
      mailbox: transfer.mailbox,
      clock,
      backoff: transfer.backoff,
      hear: (message) => this.inTurn(() => this.hear(message)),
      onRefused: (error) => events.emit('refused', { source: undefined, error }),
      onFailed: (error) => this.remember(error),
    })
    this.contact = new Reachability({
      onOffline: (error) => events.emit('offline', { error }),
      onOnline: () => events.emit('online', {}),
      onFailed: (error) => events.emit('failed', { error }),
    })
  }

  start(): void {
    this.background.start((stop) => this.run(stop))
  }

  async stop(): Promise<void> {
    await this.background.stop(() => this.queue.onIdle())
    await closeMailbox(this.options.transfer.mailbox)
  }

  /** Something is there to be sent. After a failure it waits for its turn all the same. */
  wake(): void {
    if (this.failures + this.refusals === 0) this.waking.abort()
  }

  /**
   * Sends all there is, and waits for the answers.
   *
   * @throws ERR_UNANSWERED (retryable) where central has not answered in time: what was sent lies in the mailbox; and what fails
   */
  async synchronize({ signal, onProgress }: SynchronizeOptions<Progress>): Promise<RunResult> {
    const { clock, transfer, events } = this.options
    const ended = AbortSignal.any([this.background.signal, ...(signal ? [signal] : [])])
    const moved = new Moved()
    let failure: TillsyncError | undefined
    let news = Promise.withResolvers<void>()
    const waiter: Waiter = {
      heard: ({ exchanged }) => {
        moved.add(exchanged)
        news.resolve()
      },
      failed: (error) => {
        failure = error
        news.resolve()
      },
    }
    this.waiters.add(waiter)
    this.listener.begin()
    this.must = true
    let limit = clock.ticks() + transfer.answerMs
    try {
      for (;;) {
        ended.throwIfAborted()
        news = Promise.withResolvers<void>()
        await this.sayAll(ended)
        if (failure) throw failure
        if (onProgress) events.tell(onProgress, { ...moved.result, pending: await this.options.pending() })
        if (await this.isSettled()) return moved.result
        const heard = await this.until(news.promise, limit, ended)
        if (failure) throw failure
        if (heard) limit = clock.ticks() + transfer.answerMs
        else if (clock.ticks() >= limit) throw await this.unanswered()
      }
    } catch (thrown) {
      if (ended.aborted)
        throw new TillsyncError('ERR_ABORTED', 'The wait for central was aborted; what was sent lies in the mailbox', { cause: thrown })
      throw thrown
    } finally {
      this.waiters.delete(waiter)
      await this.listener.end()
    }
  }

  private async unanswered(): Promise<TillsyncError> {
    const pending = await this.options.pending()
    return new TillsyncError('ERR_UNANSWERED', 'Central has not answered in time; what was sent lies in the mailbox', {
      retryable: true,
      hint: 'The answers are settled whenever they come. Is a central receiving from this mailbox?',
      context: { pending },
    })
  }

  private async isSettled(): Promise<boolean> {
    const { correspondence, isPending } = this.options
    return !this.must && (await correspondence.onTheirWay()).length === 0 && !(await isPending())
  }

  /** Says whether there was news before it was time to send again, or to end. */
  private async until(news: Promise<void>, limit: number, ended: AbortSignal): Promise<boolean> {
    const { clock } = this.options
    const waiting = new AbortController()
    const ms = Math.max(0, Math.min(limit, this.resendAt) - clock.ticks())
    const late = clock.sleep(ms, AbortSignal.any([ended, waiting.signal])).then(
      () => false,
      () => false,
    )
    const isNews = await Promise.race([news.then(() => true), late])
    waiting.abort()
    await late
    return isNews
  }

  private async run(stop: AbortSignal): Promise<void> {
    const { clock, transfer } = this.options
    this.listener.begin()
    this.waitForAnswer()
    while (!stop.aborted) {
      const waking = new AbortController()
      this.waking = waking
      let pauseMs = 0
      try {
        await this.sayAll(stop)
        const backoff = this.refusals > 0 ? backoffMs(this.refusals, transfer.backoff, clock.random) : 0
        pauseMs = Math.max(backoff, Math.min(transfer.everyMs, this.resendAt - clock.ticks()))
      } catch {
        if (stop.aborted) break
        pauseMs = backoffMs(Math.max(1, this.failures), transfer.backoff, clock.random)
      }
      await clock.sleep(pauseMs, AbortSignal.any([stop, waking.signal])).catch(() => undefined)
    }
    await this.listener.end()
  }

  /** Whatever there is, one letter after another; what comes in meanwhile has its turn between two of them. What central refuses is not said again at once. */
  private async sayAll(signal: AbortSignal): Promise<void> {
    const { refusals } = this
    await this.inTurn(() => this.resend(signal), signal)
    for (let more = true; more && !signal.aborted && this.refusals <= refusals; ) more = await this.inTurn(() => this.say(signal), signal)
  }

  private inTurn<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const watched = async () => {
      try {
        return await work()
      } catch (thrown) {
        const error = asTillsyncError(thrown, 'ERR_DATABASE', 'The exchange failed')
        if (error.code !== 'ERR_ABORTED') this.remember(error)
        throw error
      }
    }
    return this.queue.turn(watched, signal)
  }

  /** What is on its way for too long counts as lost, unless it is known to lie there still. */
  private async resend(signal: AbortSignal): Promise<void> {
    const { clock, correspondence } = this.options
    if (this.contact.isOffline) await this.lookAgain(signal)
    if (clock.ticks() < this.resendAt) return
    if (await this.isAnyLost(signal)) {
      this.resends++
      this.must = true
      // Of a stick it is known what does not lie there.
      this.isProbing = this.options.transfer.mailbox.unread === undefined
      await correspondence.giveUp()
    }
    this.waitForAnswer()
  }

  private async isAnyLost(signal: AbortSignal): Promise<boolean> {
    const { correspondence } = this.options
    const under = await correspondence.onTheirWay()
    if (under.length === 0) return false
    const unread = await this.unread(signal)
    return unread === undefined || under.some(({ id }) => !unread.has(id))
  }

  /** A stick that is back may be another one, on which nothing lies of what is on its way; or the same, with answers to it. */
  private async lookAgain(signal: AbortSignal): Promise<void> {
    if ((await this.unread(signal)) === undefined) return
    this.failures = 0
    this.resends = 0
    this.contact.reached()
    this.waitForAnswer()
  }

  /** Undefined where the mailbox can't say it. */
  private async unread(signal: AbortSignal): Promise<ReadonlySet<string> | undefined> {
    const { mailbox } = this.options.transfer
    return mailbox.unread && this.carried(async () => mailbox.unread?.(), signal)
  }

  /** @throws ERR_LINK (retryable) where the mailbox hangs */
  private async carried<T>(ask: () => Promise<T>, signal: AbortSignal): Promise<T> {
    await unlessLeft(unlessHanging(this.underWay, HANGING_MS), signal)
    const asked = ask()
    this.underWay = asked.catch(() => undefined)
    return unlessLeft(unlessHanging(asked, HANGING_MS), signal)
  }

  private waitForAnswer(): void {
    const { clock, transfer } = this.options
    const { minMs, maxMs } = transfer.resend
    this.resendAt = clock.ticks() + Math.min(maxMs, minMs * 2 ** Math.min(30, this.resends))
  }

  /** Says the next thing, if there is one; whether there may be another. */
  private async say(signal: AbortSignal): Promise<boolean> {
    const { clock, correspondence, transfer } = this.options
    const under = (await correspondence.onTheirWay()).length
    // Who waits by hand for all to be answered would wait for that answer too, and for the next, where they take longer than a pause.
    const isIdle = this.waiters.size === 0 && under === 0 && clock.ticks() - this.lastSaid >= transfer.everyMs
    const outgoing = await correspondence.next(this.must || isIdle, this.isProbing ? 1 : transfer.unanswered)
    if (outgoing === undefined) return false
    try {
      await this.carried(async () => transfer.mailbox.send(outgoing.bytes, { id: outgoing.id, signal }), signal)
    } catch (thrown) {
      await correspondence.unsay(outgoing.id)
      throw signal.aborted ? new TillsyncError('ERR_ABORTED', 'The sending was aborted', { cause: thrown }) : lineError(thrown)
    }
    this.must = false
    this.lastSaid = clock.ticks()
    this.contact.reached()
    this.failures = 0
    if (this.failure?.code === 'ERR_LINK' || this.failure?.code === 'ERR_MAILBOX_FULL') this.failure = undefined
    if (under === 0 || this.resendAt === Number.POSITIVE_INFINITY) this.waitForAnswer()
    return outgoing.hasBatch
  }

  private async hear(message: Uint8Array): Promise<void> {
    const { correspondence, events, ready } = this.options
    await ready()
    const heard = await correspondence.hear(message)
    const { exchanged, asksAgain, isAnswer, isInTime, error, unread } = heard
    for (const error of unread) events.emit('failed', { error })
    this.contact.reached()
    this.options.onExchanged(exchanged)
    if (exchanged.unfinished || asksAgain) this.must = true
    if (isAnswer) this.isProbing = false
    if (isAnswer || exchanged.moved) {
      // Where answers come to what counted as lost, they take longer than was waited: to send all again as soon would hold them up even more.
      if (isInTime) this.resends = 0
      this.waitForAnswer()
    }
    if (error) {
      this.refusals++
      return this.tell(error)
    }
    this.refusals = 0
    this.failure = undefined
    if (isAnswer) events.emit('exchanged', { sent: exchanged.sent })
    for (const waiter of this.waiters) waiter.heard(heard)
    this.wake()
  }

  private remember(error: TillsyncError): void {
    this.failures++
    this.tell(error)
  }

  private tell(error: TillsyncError): void {
    this.failure = error
    this.contact.failed(error)
    for (const waiter of this.waiters) waiter.failed(error)
  }
}
