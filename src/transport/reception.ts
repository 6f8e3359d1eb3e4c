import { asTillsyncError, TillsyncError, type TillsyncErrorCode } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import type { Proof, Received, Subscriber } from '../ports.ts'
import type { Message, MessageError } from './message.ts'

/** What central says of a register's stream: where it stands, and why it took nothing where it did not. */
export type Word = Pick<Received, 'subscription' | 'error' | 'applied'>

/**
 * Central's side of an exchange, whoever starts it: takes what a register says, and has a word about it. Nothing that was refused is lost to the
 * register, which learns with the refusal where central stands.
 *
 * @throws ERR_BUSY, ERR_CREDENTIAL, and what fails without a batch
 */
export async function receive(
  subscriber: Subscriber,
  register: RegisterName,
  { publish, batch }: Pick<Message, 'publish' | 'batch'>,
  proof?: Proof,
): Promise<Word> {
  try {
    return await subscriber.receive(register, publish, batch, proof)
  } catch (thrown) {
    const error = asTillsyncError(thrown, 'ERR_DATABASE', 'Applying failed')
    if (error.code === 'ERR_BUSY' || error.code === 'ERR_CREDENTIAL' || batch === undefined) throw error
    return { ...(await subscriber.receive(register, undefined, undefined, proof)), error }
  }
}

/** The word as fields of a message. */
export function wordFields({ subscription, error }: Word): Pick<Message, 'subscribe' | 'error'> {
  return { subscribe: subscription, ...(error && { error: errorFields(error) }) }
}

export function errorFields({ code, message, retryable }: TillsyncError): MessageError {
  return { code, message: message.slice(0, 2_000), retryable }
}

/** What to do about a refusal: messages carry the code alone, and the other side may be of any version. */
const HINTS: Partial<Record<TillsyncErrorCode, string>> = {
  ERR_CREDENTIAL: "Both sides need the same token: one that central's registers.add() or rotate() showed, not revoked. What is not sent is kept.",
  ERR_FOREIGN_REGISTER: 'The token is of another `location` and `register`: give each register its own, or mend the names.',
  ERR_LOCKED_OUT: "Too many wrong tokens came from this address: central's event `refused` names it. It is tried again by itself.",
  ERR_RATE_LIMIT: 'Does something call synchronize() in a loop? It is tried again by itself.',
  ERR_FORKED: 'Was the database set up anew? See docs/operations.md: registers.reset() at central.',
  ERR_CLONED: "Two copies of this database speak: see docs/operations.md, central's registers.keep().",
  ERR_VERSION: 'Update the older side.',
  ERR_MESSAGE:
    "The other side's event `refused` says what could not be read: a body that other middleware has read already, or a field. It is tried again by itself.",
  ERR_NOT_INSTALLED: 'Call install() there; it is safe at every start.',
  ERR_DATABASE: "The other side's event `refused` has the cause. It is tried again by itself.",
}

/** What the other side refused, as an error here. */
export function refusal(by: string, { code, message, retryable }: MessageError, context: Readonly<Record<string, unknown>> = {}): TillsyncError {
  const hint = Object.hasOwn(HINTS, code) ? HINTS[code as TillsyncErrorCode] : undefined
  return new TillsyncError(code as TillsyncErrorCode, `${by}: ${message}`, { retryable, hint, context })
}

/** @throws ERR_FOREIGN_REGISTER where a message does not come from, or is not meant for, this register */
export function requireRegister(named: Message['from'] | undefined, register: RegisterName, what: string): void {
  if (named !== undefined && named !== 'central' && named.location === register.location && named.register === register.register) return
  throw new TillsyncError('ERR_FOREIGN_REGISTER', `The message ${what} another register than its credential's`, {
    hint: "Give each register its own token, from central's registers.add().",
  })
}
