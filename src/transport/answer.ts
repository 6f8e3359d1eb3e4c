import { randomBytes } from 'node:crypto'
import { asTillsyncError, type TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import type { Subscriber } from '../ports.ts'
import { decodeMessage, encodeMessage } from './codec.ts'
import { refusalIn } from './exchange.ts'
import type { Exchanged, Publisher } from './publisher.ts'
import { errorFields, receive, requireRegister, wordFields } from './reception.ts'

/** Central's side of an exchange that a register starts: one message of a register whose credential was checked, and the answer to it. */
export interface Answerer {
  readonly subscriber: Subscriber
  readonly maxMessageBytes: number
  onRefused(register: RegisterName, error: TillsyncError): void
}

/**
 * Bytes in, bytes out. Once the message is read, every refusal is an answer that also says where central stands, so that
 * the register can go on from there.
 *
 * @throws ERR_MESSAGE, ERR_TOO_LARGE, ERR_VERSION, ERR_FOREIGN_REGISTER, ERR_BUSY: nothing was applied
 */
export async function answer({ subscriber, maxMessageBytes, onRefused }: Answerer, register: RegisterName, bytes: Uint8Array): Promise<Uint8Array> {
  const message = await decodeMessage(bytes, maxMessageBytes)
  requireRegister(message.from, register, 'speaks for')
  const word = await receive(subscriber, register, message)
  if (word.error) onRefused(register, word.error)
  return encodeMessage({ from: 'central', id: newId(), answers: message.id, ...wordFields(word) })
}

/** A register's side of an exchange that central starts: one message of central, whose credential was checked, and the answer to it. */
export interface RegisterAnswerer {
  readonly publisher: Publisher
  readonly maxMessageBytes: number
  /** There is nothing more to send. Seals what is touched, and says whether there is now. */
  sealed(): Promise<boolean>
  onExchanged(exchanged: Exchanged): void
  /** Central refused what was sent, or what it says can't be settled. */
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
    const exchanged = await publisher.hear(message)
    const error = refusalIn(message, exchanged)
    if (error) answerer.onFailed(error)
    else answerer.onExchanged(exchanged)
  } catch (thrown) {
    failed = asTillsyncError(thrown, 'ERR_DATABASE', 'The exchange failed')
    answerer.onFailed(failed)
  }
  const batch = failed === undefined && message.subscribe !== undefined
  let said = await publisher.say({ batch })
  if (batch && said.batch === undefined && (await answerer.sealed())) said = await publisher.say({ batch })
  const encoded = await encodeMessage({ from: register, answers: message.id, ...said, ...(failed && { error: errorFields(failed) }) })
  publisher.readAhead()
  return encoded
}

function newId(): string {
  return randomBytes(9).toString('base64url')
}
