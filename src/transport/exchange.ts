import { randomBytes } from 'node:crypto'
import { TillsyncError } from '../errors.ts'
import type { AudienceAnswer, AudienceRequest, RegisterName, Takes } from '../model.ts'
import type { AudiencePublisher, AudienceSubscriber, Link, Received, Subscriber, Taken } from '../ports.ts'
import { unlessAborted } from './abortable.ts'
import { decodeMessage, encodeMessage, encodePublished } from './codec.ts'
import { exchangeBy } from './line.ts'
import type { Message } from './message.ts'
import { type Exchanged, type Publisher, UNFINISHED } from './publisher.ts'
import { receive, refusal, requireRegister, type Word, wordFields } from './reception.ts'

/** The side that starts an exchange, and how the other one is reached. */
export interface Starter {
  readonly register: RegisterName
  readonly link: Link
  readonly maxMessageBytes: number
  /** Told of what the other side says beside what it sends, where that can't be read. */
  onUnread(error: TillsyncError): void
  /** Where the register subscribes to what central publishes. */
  readonly asking?: Asking | undefined
}

/** A register as one who asks central for what it publishes. */
export interface Asking {
  readonly subscriber: AudienceSubscriber
  /** How much it wants at once, and reads at most. */
  readonly limits: Pick<AudienceRequest, 'records' | 'bytes' | 'message'>
}

/** Central, where it starts one. */
export interface PullStarter extends Omit<Starter, 'asking'> {
  readonly takes: Takes
  /** What central publishes, if anything. */
  readonly audiences?: AudiencePublisher | undefined
}

/**
 * An exchange that a register starts: the next batch after what central has acknowledged, and central's word to it. With `idle` central may hold
 * its answer back where neither has anything to say; the wait ends, as ERR_ABORTED, with that signal.
 *
 * @throws ERR_LINK (retryable), ERR_FORKED, ERR_CLONED, and what central refuses with
 */
export async function push(
  { register, link, maxMessageBytes, asking, onUnread }: Starter,
  publisher: Publisher,
  signal: AbortSignal,
  idle?: AbortSignal,
): Promise<Exchanged> {
  const said = await publisher.say({ batch: true })
  const waits = idle !== undefined && said.batch === undefined && link.waitMs !== undefined
  const audiences = asking && (await requestOf(asking))
  const bytes = await encodeMessage({ from: register, ...said, ...(waits && { wait: link.waitMs }), audiences })
  const answered = waits ? waitedFor(link, bytes, signal, idle) : exchangeBy(link, bytes, signal)
  publisher.readAhead()
  let answer: Message
  try {
    answer = await decodeMessage(await answered, maxMessageBytes)
  } catch (error) {
    // Central could not read ours, or we its.
    if (error instanceof TillsyncError && error.code === 'ERR_MESSAGE') publisher.drop()
    // A message that was too large for central is cut smaller, if it has only now said what it takes.
    if (error instanceof TillsyncError && isTakes(error.context.takes) && (await publisher.learn(error.context.takes))) return UNFINISHED
    throw error
  }
  requireAnswer(answer, said.id, 'Central')
  answer.unread?.forEach(onUnread)
  const exchanged = await publisher.hear(answer)
  const taken = asking && (await asking.subscriber.take(answer.published?.batches ?? []))
  const error = refusalIn(answer, exchanged)
  if (error) throw error
  // What was taken is acknowledged at once, and more asked for.
  return withTaken({ ...exchanged, unfinished: exchanged.unfinished || taken?.isAny === true }, taken)
}

/** So long the answer to an exchange may still come for which nobody waits any more. */
const LEFT_MS = 1_000

/** Ends with `idle`. The exchange itself is left for a moment: central answers it as soon as the register speaks again, and both connections stay open. To end it would cost that one, and the sale that ends the wait a new one. */
async function waitedFor(link: Link, bytes: Uint8Array, signal: AbortSignal, idle: AbortSignal): Promise<Uint8Array> {
  const leaving = new AbortController()
  const answered = exchangeBy(link, bytes, AbortSignal.any([signal, leaving.signal]))
  try {
    return await unlessAborted(answered, idle)
  } catch (error) {
    const timer = setTimeout(() => leaving.abort(), LEFT_MS).unref()
    answered.catch(() => undefined).finally(() => clearTimeout(timer))
    throw error
  }
}

/** With what came of what central publishes. */
export function withTaken(exchanged: Exchanged, taken: Taken | undefined): Exchanged {
  return taken ? { ...exchanged, received: taken.received, applied: taken.applied } : exchanged
}

export async function requestOf({ subscriber, limits }: Asking): Promise<AudienceRequest> {
  return { ...limits, standings: await subscriber.standings(), unapplied: await subscriber.unapplied() }
}

function isTakes(takes: unknown): takes is Takes {
  return takes !== undefined
}

/** What central refused; undefined where its word puts the next batch right. */
export function refusalIn({ error }: Message, { moved }: Exchanged): TillsyncError | undefined {
  return error && !(error.code === 'ERR_NOT_NEXT' && moved) ? refusal('Central', error) : undefined
}

/** What an exchange that central started has brought. */
export interface Pulled {
  readonly applied: Received['applied']
  /** Entries that the register still has for central, as it last said. */
  readonly pending: number
  /** Whether there is nothing more to be said. */
  readonly settled: boolean
}

/** Without a batch: looking for where two histories part takes a few exchanges. Who takes more leads central by the nose. */
const MOST_FRUITLESS = 100

/** Central's exchanges with one register, where central starts them. */
export class Puller {
  private readonly starter: PullStarter
  private readonly subscriber: Subscriber
  /** What central has to say to the register's last message; undefined before there is one. */
  private word: Word | undefined
  private answers: string | undefined
  private fruitless = 0
  /** Why the last batch was not taken: the register is told with the next message. */
  private refused: TillsyncError | undefined
  /** What the register is to have with the next message. */
  private published: AudienceAnswer | undefined
  private asked = ''

  constructor(starter: PullStarter, subscriber: Subscriber) {
    this.starter = starter
    this.subscriber = subscriber
  }

  /**
   * Central's word, and what the register has to say to it. Each exchange acknowledges what the one before it has brought.
   *
   * @throws ERR_LINK (retryable), ERR_BUSY, what the register refuses with, and why a batch was not taken
   */
  async next(signal: AbortSignal): Promise<Pulled> {
    try {
      const pulled = await this.exchange(signal)
      if (pulled.settled) this.forget()
      return pulled
    } catch (error) {
      this.forget()
      throw error
    }
  }

  private async exchange(signal: AbortSignal): Promise<Pulled> {
    const { subscriber } = this
    const { register, link, maxMessageBytes, takes, onUnread } = this.starter
    const word = this.word ?? (await receive(subscriber, register, {}))
    const id = randomBytes(9).toString('base64url')
    const error = word.error ?? this.refused
    const { answers } = this
    const published = this.published && (await encodePublished(this.published))
    const fields = wordFields({ ...word, ...(error && { error }) })
    const bytes = await encodeMessage({ from: 'central', to: register, id, answers, takes, published, ...fields })
    const answer = await decodeMessage(await exchangeBy(link, bytes, signal), maxMessageBytes)
    requireAnswer(answer, id, 'The register')
    requireRegister(answer.from, register, 'speaks for')
    answer.unread?.forEach(onUnread)
    this.refused = undefined
    if (answer.error) throw refusal('The register', answer.error)
    if (signal.aborted) throw new TillsyncError('ERR_ABORTED', 'The exchange was aborted', { cause: signal.reason })
    return this.take(answer)
  }

  private async take(answer: Message): Promise<Pulled> {
    const { publish } = answer
    const before = this.word?.subscription
    const word = await receive(this.subscriber, this.starter.register, answer)
    if (word.error && word.error.code !== 'ERR_NOT_NEXT') {
      this.refused = word.error
      throw word.error
    }
    this.word = word
    this.answers = answer.id
    const { staged, compare, back } = word.subscription ?? {}
    const moved = await this.ask(answer)
    const isStaged = staged !== undefined && staged.digest !== before?.staged?.digest
    const isAnswered = before?.compare !== undefined && before.compare.id !== compare?.id
    this.fruitless = word.applied || moved || isStaged || isAnswered ? 0 : this.fruitless + 1
    if (this.fruitless > MOST_FRUITLESS)
      throw new TillsyncError('ERR_MESSAGE', 'The register keeps central asking and sends nothing', { retryable: true })
    // What the register can't answer just now it is asked again another time.
    const isAsked = compare !== undefined && compare.id !== before?.compare?.id
    const isOffered = back !== undefined && back.id !== before?.back?.id
    const pending = (publish?.head ?? 0) - (word.subscription?.standing?.entryNo ?? 0)
    return {
      applied: word.applied,
      pending: Math.max(0, pending),
      settled: this.published === undefined && !isAsked && !isOffered && isSettled(answer, word),
    }
  }

  /** What the register is to have next. Says whether it has come further. */
  private async ask({ audiences: request }: Message): Promise<boolean> {
    const { audiences, register } = this.starter
    const next = audiences && request && (await audiences.next(register, request))
    this.published = next && next.batches.length > 0 ? next : undefined
    const before = this.asked
    this.asked = JSON.stringify(request?.standings ?? [])
    return this.published !== undefined && this.asked !== before
  }

  private forget(): void {
    this.published = undefined
    this.word = undefined
    this.answers = undefined
    this.fruitless = 0
  }
}

/** Whether central has all that the register spoke of, and the register knows it. */
export function isSettled({ publish, batch }: Message, { subscription }: Word): boolean {
  if (batch !== undefined || publish === undefined || publish.seek !== undefined || publish.cloned) return false
  const standing = subscription?.standing
  return standing === undefined ? publish.head === 0 : standing.epoch === publish.epoch && standing.entryNo >= publish.head && !publish.parent
}

/** A refusal that came before the message was read answers none. */
function requireAnswer(answer: Message, id: string, by: string): void {
  if (answer.answers === id) return
  if (answer.error) throw refusal(by, answer.error)
  throw new TillsyncError('ERR_MESSAGE', 'The answer belongs to another message', { retryable: true })
}
