import { asTillsyncError, TillsyncError, type TillsyncErrorCode } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import type { Received, Subscriber } from '../ports.ts'
import type { Message, MessageError } from './message.ts'

/** What central says of a register's stream: where it stands, and why it took nothing where it did not. */
export type Word = Pick<Received, 'subscription' | 'error' | 'applied'>

/**
 * Central's side of an exchange, whoever starts it: takes what a register says, and has a word about it. Nothing that was refused is lost to the
 * register, which learns with the refusal where central stands.
 *
 * @throws ERR_BUSY, and what fails without a batch
 */
export async function receive(subscriber: Subscriber, register: RegisterName, { publish, batch }: Pick<Message, 'publish' | 'batch'>): Promise<Word> {
  try {
    return await subscriber.receive(register, publish, batch)
  } catch (thrown) {
    const error = asTillsyncError(thrown, 'ERR_DATABASE', 'Applying failed')
    if (error.code === 'ERR_BUSY' || batch === undefined) throw error
    return { ...(await subscriber.receive(register, undefined, undefined)), error }
  }
}

/** The word as fields of a message. */
export function wordFields({ subscription, error }: Word): Pick<Message, 'subscribe' | 'error'> {
  return { subscribe: subscription, ...(error && { error: errorFields(error) }) }
}

export function errorFields({ code, message, retryable }: TillsyncError): MessageError {
  return { code, message: message.slice(0, 2_000), retryable }
}

/** What the other side refused, as an error here. */
export function refusal(by: string, { code, message, retryable }: MessageError, context: Readonly<Record<string, unknown>> = {}): TillsyncError {
  return new TillsyncError(code as TillsyncErrorCode, `${by}: ${message}`, { retryable, context })
}

/** @throws ERR_FOREIGN_REGISTER where a message does not come from, or is not meant for, this register */
export function requireRegister(named: Message['from'] | undefined, register: RegisterName, what: string): void {
  if (named !== undefined && named !== 'central' && named.location === register.location && named.register === register.register) return
  throw new TillsyncError('ERR_FOREIGN_REGISTER', `The message ${what} another register than its credential's`, {
    hint: "Give each register its own token, from central's registers.add().",
  })
}
