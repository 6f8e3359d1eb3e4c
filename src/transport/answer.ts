import { randomBytes } from 'node:crypto'
import { asTillsyncError, type TillsyncError } from '../errors.ts'
import type { RegisterName, Takes } from '../model.ts'
import type { AudiencePublisher, Proof, Subscriber, Taken } from '../ports.ts'
import { decodeMessage, encodeMessage, encodePublished } from './codec.ts'
import { type Asking, isSettled, refusalIn, requestOf, withTaken } from './exchange.ts'
import type { HoldEnd, Holds } from './holds.ts'
import type { Message } from './message.ts'
import type { Exchanged, Publisher } from './publisher.ts'
import { errorFields, receive, requireRegister, type Word, wordFields } from './reception.ts'

/** Central's side of an exchange that a register starts: one message of a register that was let in, and the answer to it. */
export interface Answerer {
  readonly subscriber: Subscriber
  readonly takes: Takes
  readonly holds: Holds
  /** What central publishes, if anything. */
  readonly audiences?: AudiencePublisher | undefined
  /** It is looked at whenever something is read or written for the register. */
  readonly proof?: Proof | undefined
  /** Throws where central is stopped. */
  ready(): Promise<void>
  onRefused(register: RegisterName, error: TillsyncError): void
}

/**
 * Bytes in, bytes out. Once the message is read, every refusal is an answer that also says where central stands, so that
 * the register can go on from there.
 *
 * @throws ERR_MESSAGE, ERR_TOO_LARGE, ERR_VERSION, ERR_FOREIGN_REGISTER, ERR_CREDENTIAL, ERR_BUSY: nothing was applied
 */
export async function answer(answerer: Answerer, register: RegisterName, bytes: Uint8Array): Promise<Uint8Array> {
  const { subscriber, takes, holds, proof } = answerer
  const message = await decodeMessage(bytes, takes.message)
  requireRegister(message.from, register, 'speaks for')
  for (const error of message.unread ?? []) answerer.onRefused(register, error)
  const speaking = holds.begin(register, message.wait ?? 0)
  let news = holds.news(register)
  let word = await receive(subscriber, register, message, proof)
  let published = await publishedFor(answerer, register, message)
  holds.turnTo(speaking)
  if (word.error) answerer.onRefused(register, word.error)
  for (let ended: HoldEnd = 'news'; ended === 'news' && published === undefined && isIdle(message, word); ) {
    ended = await holds.hold(speaking, news)
    // To who has left, and speaks already, nothing new is said.
    if (ended === 'passed' || ended === 'left') break
    await answerer.ready()
    news = holds.news(register)
    word = await receive(subscriber, register, message, proof)
    // What it was told of the register may have by now: then there is nothing to say yet.
    published = await publishedFor(answerer, register, message)
  }
  return encodeMessage({ from: 'central', id: newId(), answers: message.id, takes, published, ...wordFields(word) })
}

async function publishedFor({ audiences }: Answerer, register: RegisterName, { audiences: request }: Message): Promise<Uint8Array | undefined> {
  const answer = audiences && request && (await audiences.next(register, request))
  return answer && answer.batches.length > 0 ? encodePublished(answer) : undefined
}

/** A register's side of an exchange that central starts: one message of central, whose credential was checked, and the answer to it. */
export interface RegisterAnswerer {
  readonly publisher: Publisher
  readonly maxMessageBytes: number
  readonly asking?: Asking | undefined
  /** There is nothing more to send. Seals what is touched. */
  sealed(): Promise<void>
  onExchanged(exchanged: Exchanged): void
  /** Central refused what was sent, or what it says can't be settled, or not be read. */
  onFailed(error: TillsyncError): void
}

/**
 * Bytes in, bytes out. What central refused is noted, and what it is to have is sent again; a batch only to a word that says where it stands.
 *
 * @throws ERR_MESSAGE, ERR_TOO_LARGE, ERR_VERSION, ERR_FOREIGN_REGISTER: nothing has changed
 */
export async function answerCentral(answerer: RegisterAnswerer, register: RegisterName, bytes: Uint8Array): Promise<Uint8Array> {
  const { publisher, maxMessageBytes } = answerer
  const message = await decodeMessage(bytes, maxMessageBytes)
  requireRegister(message.from === 'central' ? message.to : undefined, register, 'is meant for')
  let failed: TillsyncError | undefined
  try {
    // What does not answer what was said last may be an old letter.
    const isAnswer = message.answers !== undefined && message.answers === publisher.lastSaid
    const exchanged = await publisher.hear(message)
    const taken = isAnswer ? await answerer.asking?.subscriber.take(message.published?.batches ?? []) : await goOn(answerer)
    const error = refusalIn(message, exchanged)
    if (error) answerer.onFailed(error)
    else answerer.onExchanged(withTaken(exchanged, taken))
    for (const error of message.unread ?? []) answerer.onFailed(error)
  } catch (thrown) {
    failed = asTillsyncError(thrown, 'ERR_DATABASE', 'The exchange failed')
    answerer.onFailed(failed)
  }
  const batch = failed === undefined && message.subscribe !== undefined
  let said = await publisher.say({ batch })
  if (batch && said.batch === undefined) {
    await answerer.sealed()
    // Whoever has sealed it.
    if (await publisher.hasGrown()) said = await publisher.say({ batch })
  }
  const audiences = answerer.asking && (await requestOf(answerer.asking))
  const encoded = await encodeMessage({ from: register, answers: message.id, ...said, audiences, ...(failed && { error: errorFields(failed) }) })
  publisher.readAhead()
  return encoded
}

/** What is open of what came before. Where that can't go on just now, what the register has to say is not to wait for it. */
async function goOn({ asking, onFailed }: RegisterAnswerer): Promise<Taken | undefined> {
  try {
    return await asking?.subscriber.take([])
  } catch (thrown) {
    onFailed(asTillsyncError(thrown, 'ERR_DATABASE', 'What central has sent could not be applied'))
    return undefined
  }
}

/** Whether neither side has anything to say, and the register would wait for it. */
function isIdle(message: Message, word: Word): boolean {
  return (
    message.wait !== undefined &&
    word.error === undefined &&
    isSettled(message, word) &&
    word.subscription?.again === undefined &&
    word.subscription?.compare === undefined &&
    word.subscription?.back === undefined
  )
}

function newId(): string {
  return randomBytes(9).toString('base64url')
}
