import { TillsyncError } from '../errors.ts'
import type { Point, RegisterName, Subscription } from '../model.ts'
import { decodeMessage, encodeMessage } from './codec.ts'
import { type Asking, requestOf, withTaken } from './exchange.ts'
import type { Message } from './message.ts'
import type { Exchanged, Onward, Publisher } from './publisher.ts'
import { refusal } from './reception.ts'

/** A message that was sent and may be answered yet. */
export interface Saying {
  readonly id: string
  readonly epoch: string
  /** Where its batch begins and ends, if it has one, and where the document began that goes on behind it. */
  readonly after?: Point | undefined
  readonly through?: Point | undefined
  readonly base?: Point | undefined
  /** Whether it asks for what central publishes. */
  readonly asks?: boolean | undefined
  /** Whether it answers a question of central's. */
  readonly tells?: boolean | undefined
  /** It counts as lost, and what it brought is sent again; an answer to it is one all the same. */
  readonly isLost?: boolean | undefined
  /** It counted as lost once. */
  readonly isSlow?: boolean | undefined
}

/** Keeps them over a restart: an answer may take days. */
export interface SayingBook {
  read(): Promise<readonly Saying[]>
  write(sayings: readonly Saying[]): Promise<void>
}

export interface CorrespondenceOptions {
  readonly register: RegisterName
  readonly publisher: Publisher
  readonly book: SayingBook
  readonly maxMessageBytes: number
  readonly asking: Asking | undefined
  /** How many messages may be on their way. */
  readonly most: number
}

/** A message to be sent. */
export interface Outgoing {
  readonly id: string
  readonly bytes: Uint8Array
  readonly hasBatch: boolean
}

/** What a letter of central's has brought. */
export interface Heard {
  readonly exchanged: Exchanged
  /** Whether central is to be asked again for what it publishes: something was taken, so there may be more, or a question was passed over. */
  readonly asksAgain: boolean
  /** Whether it answers one of ours. */
  readonly isAnswer: boolean
  /** Whether it answers one that never counted as lost. */
  readonly isInTime: boolean
  /** Why central took nothing, unless its word puts that right. */
  readonly error: TillsyncError | undefined
  /** Why something that it says beside that could not be read. */
  readonly unread: readonly TillsyncError[]
}

/** Those that count as lost are kept for their answers, up to so many. */
const MOST_KEPT = 256

/**
 * A register's messages by mailbox: one after another behind what was sent, be it not answered. An answer settles what it answers and all before it. One at a time:
 * the caller sees to that.
 */
export class Correspondence {
  private readonly options: CorrespondenceOptions
  private sayings: readonly Saying[] | undefined

  constructor(options: CorrespondenceOptions) {
    this.options = options
  }

  /** The messages that are on their way. */
  async onTheirWay(): Promise<readonly Saying[]> {
    return (await this.read()).filter(({ isLost }) => !isLost)
  }

  /** What comes next behind what is on its way, where that are fewer than `most`; undefined where there is nothing, unless something `must` be said. */
  async next(must: boolean, most: number): Promise<Outgoing | undefined> {
    const { publisher, register, asking } = this.options
    const under = await this.onTheirWay()
    if (under.length >= most) return undefined
    const onward = onwardOf(under)
    if (!must && !(await publisher.hasMore(onward, under.length > 0))) return undefined
    const said = await publisher.say({ batch: true, onward, isToldAlready: under.some((one) => one.tells) })
    // One question at a time: its answer may be large.
    const asks = asking !== undefined && !under.some((one) => one.asks)
    const audiences = asks ? await requestOf(asking) : undefined
    const { after, through, base } = (said.batch && publisher.lastBatch) ?? {}
    const tells = said.publish.compared !== undefined
    const saying = {
      id: said.id,
      epoch: said.publish.epoch,
      ...(through && { after, through }),
      ...(base && { base }),
      ...(asks && { asks }),
      ...(tells && { tells }),
    }
    const bytes = await encodeMessage({ from: register, ...said, audiences })
    await this.write([...(await this.read()), saying])
    publisher.readAhead()
    return { id: said.id, bytes, hasBatch: said.batch !== undefined }
  }

  /** It could not be sent, and is made anew. */
  async unsay(id: string): Promise<void> {
    await this.write((await this.read()).map((one) => (one.id === id ? { ...one, isLost: true } : one)))
  }

  /** Nothing that is on its way is counted on any more: from here on it is sent again from where central stands. */
  async giveUp(): Promise<void> {
    await this.write((await this.read()).map((one) => ({ ...one, isLost: true })))
  }

  /**
   * Settles a letter of central's.
   *
   * @throws ERR_MESSAGE, ERR_VERSION, ERR_TOO_LARGE, ERR_FORKED
   */
  async hear(bytes: Uint8Array): Promise<Heard> {
    const { publisher, maxMessageBytes, asking } = this.options
    const message = await decodeMessage(bytes, maxMessageBytes)
    if (message.from !== 'central')
      throw new TillsyncError('ERR_FOREIGN_REGISTER', "The letter is not central's", { hint: 'Does another register write into this mailbox?' })
    if (message.error?.code === 'ERR_MESSAGE') publisher.drop()
    const sayings = await this.read()
    const at = sayings.findIndex(({ id }) => id === message.answers)
    const said = sayings[at]
    if (message.takes && (await publisher.learn(message.takes))) await this.giveUp()
    const settled = await publisher.hear(message, said ? 'answer' : 'late')
    // A snapshot that nobody waits for would bring back what was long ago; what goes on exactly where we stand does no harm.
    const batches = (message.published?.batches ?? []).filter(({ after }) => said !== undefined || after > 0)
    const taken = asking && (await asking.subscriber.take(batches))
    const exchanged = withTaken(settled, taken)
    if (said !== undefined) await this.settle(said, sayings.slice(at + 1), message, exchanged)
    const isPassedOver = said?.asks !== true && sayings.slice(0, Math.max(0, at)).some((one) => one.asks && !one.isLost)
    return {
      exchanged,
      asksAgain: taken?.isAny === true || isPassedOver,
      isAnswer: said !== undefined,
      isInTime: said !== undefined && !said.isLost && !said.isSlow,
      error: refusalOf(message, said),
      unread: message.unread ?? [],
    }
  }

  private async settle(said: Saying, rest: readonly Saying[], { subscribe, error }: Message, { branched }: Exchanged): Promise<void> {
    // What was said in another state tells nothing about the one we are in now.
    if (!this.options.publisher.isSending || branched) return this.write([])
    // One that came twice is no next one, and was taken all the same.
    const isLost = !isTaken(said, subscribe) || (error !== undefined && error.code !== 'ERR_NOT_NEXT')
    // What counted as lost, and was taken, was only slow: so is what was sent behind it.
    if (said.isLost) await this.write(isLost ? rest : rest.map((one) => (one.isLost ? { ...one, isLost: false, isSlow: true } : one)))
    else await this.write(isLost ? rest.map((one) => ({ ...one, isLost })) : rest)
  }

  private async read(): Promise<readonly Saying[]> {
    this.sayings ??= await this.options.book.read()
    return this.sayings
  }

  private async write(sayings: readonly Saying[]): Promise<void> {
    const kept = sayings.slice(-MOST_KEPT - this.options.most)
    const before = this.sayings
    if (before?.length === kept.length && before.every(({ id, isLost }, at) => id === kept[at]?.id && isLost === kept[at]?.isLost)) return
    await this.options.book.write(kept)
    this.sayings = kept
  }
}

/** That a batch does not follow is put right by sending again, except where it is the very one that does. */
function refusalOf({ error, subscribe }: Message, said: Saying | undefined): TillsyncError | undefined {
  if (error === undefined) return undefined
  const isNext = said?.after !== undefined && subscribe?.standing?.epoch === said.epoch && subscribe.standing.digest === said.after.digest
  return error.code === 'ERR_NOT_NEXT' && !isNext ? undefined : refusal('Central', error)
}

/** Behind what is on its way; undefined where nothing with a batch is. What was sent again may end before what is on its way since before. */
function onwardOf(sayings: readonly Saying[]): Onward | undefined {
  let onward: Onward | undefined
  for (const { through, base } of sayings) if (through !== undefined && through.entryNo >= (onward?.through.entryNo ?? 0)) onward = { through, base }
  return onward
}

/** Whether central has what was sent. */
function isTaken({ through, epoch }: Saying, word: Subscription | undefined): boolean {
  if (through === undefined) return true
  const { standing, staged } = word ?? {}
  return (standing?.epoch === epoch && standing.entryNo >= through.entryNo) || (staged?.entryNo ?? 0) >= through.entryNo
}
