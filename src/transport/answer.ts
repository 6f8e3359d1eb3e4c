import { randomBytes } from 'node:crypto'
import { asTillsyncError, TillsyncError } from '../errors.ts'
import type { RegisterName, Standing } from '../model.ts'
import type { Applied, Subscriber } from '../ports.ts'
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
  const { standing, error } = await receive(answerer, register, message)
  if (error) answerer.onRefused(register, error)
  return encodeMessage({
    from: 'central',
    number: 0,
    nonce: randomBytes(12).toString('base64url'),
    answers: message.number,
    standing,
    ...(error && { error: { code: error.code, message: error.message.slice(0, 2_000), retryable: error.retryable } }),
  })
}

async function receive(
  answerer: Answerer,
  register: RegisterName,
  message: Message,
): Promise<{ standing: Standing | undefined; error?: TillsyncError }> {
  const { subscriber } = answerer
  if (message.batch === undefined) return { standing: await subscriber.standing(register) }
  try {
    const applied = await subscriber.apply(register, message.batch)
    const error = refusalOf(applied)
    return { standing: applied.standing, ...(error && { error }) }
  } catch (thrown) {
    const error = asTillsyncError(thrown, 'ERR_DATABASE', 'Applying failed')
    if (error.code === 'ERR_BUSY') throw error
    return { standing: await subscriber.standing(register), error }
  }
}

function refusalOf(applied: Applied): TillsyncError | undefined {
  switch (applied.outcome) {
    case 'applied':
    case 'already':
      return undefined
    case 'not next':
      return new TillsyncError('ERR_NOT_NEXT', 'The batch does not follow where central stands', { retryable: true })
    case 'other epoch':
      return new TillsyncError('ERR_FORKED', 'The batch is of another history than the one that central knows by this name', {
        hint: 'A new database under an old name must be provisioned anew.',
      })
  }
}
