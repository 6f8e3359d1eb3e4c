import { randomBytes } from 'node:crypto'
import { asTillsyncError, TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import type { Received, Subscriber } from '../ports.ts'
import { decodeMessage, encodeMessage } from './codec.ts'
import type { Message } from './message.ts'

/** Central's side of an exchange: one message of a register whose credential was checked, and the answer to it. */
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
export async function answer(answerer: Answerer, register: RegisterName, bytes: Uint8Array): Promise<Uint8Array> {
  const message = await decodeMessage(bytes, answerer.maxMessageBytes)
  if (message.from === 'central' || message.from.location !== register.location || message.from.register !== register.register) {
    throw new TillsyncError('ERR_FOREIGN_REGISTER', "The message speaks for another register than its credential's", {
      hint: "Give each register its own token, from central's registers.add().",
    })
  }
  const { subscription, error } = await receive(answerer, register, message)
  if (error) answerer.onRefused(register, error)
  return encodeMessage({
    from: 'central',
    id: randomBytes(9).toString('base64url'),
    answers: message.id,
    subscribe: subscription,
    ...(error && { error: { code: error.code, message: error.message.slice(0, 2_000), retryable: error.retryable } }),
  })
}

async function receive(
  { subscriber }: Answerer,
  register: RegisterName,
  { publish, batch }: Message,
): Promise<Pick<Received, 'subscription' | 'error'>> {
  try {
    return await subscriber.receive(register, publish, batch)
  } catch (thrown) {
    const error = asTillsyncError(thrown, 'ERR_DATABASE', 'Applying failed')
    if (error.code === 'ERR_BUSY' || batch === undefined) throw error
    // It could not be applied; where central stands helps the register all the same.
    return { ...(await subscriber.receive(register, undefined, undefined)), error }
  }
}
