import { randomBytes } from 'node:crypto'
import { TillsyncError, type TillsyncErrorCode } from '../errors.ts'
import { type Point, type RegisterName, START, type Standing } from '../model.ts'
import type { Link } from '../ports.ts'
import { decodeMessage, encodeMessage } from './codec.ts'
import type { Message, OutgoingMessage } from './message.ts'
import type { Peer } from './peers.ts'
import { judge } from './session.ts'

/** What an exchange needs of the register that starts it. */
export interface Sender {
  readonly from: RegisterName
  readonly link: Link
  readonly maxMessageBytes: number
  readonly now: () => number
  /** The epoch of our stream. */
  epoch(): Promise<string>
  digestAt(entryNo: number): Promise<string | undefined>
  /** The next batch after a point of our stream, packed. */
  read(after: Point): Promise<PackedBatch | undefined>
  /** Begins to read what will most likely be wanted next, while the answer is on its way. */
  readAhead(after: Point): void
  peer(): Promise<Peer | undefined>
  savePeer(peer: Peer): Promise<void>
}

/** A batch ready to be sent, and where it ends. */
export interface PackedBatch {
  readonly through: Point
  readonly bytes: Uint8Array
}

export interface Exchanged {
  /** How many entries central acknowledged beyond what it had acknowledged before. */
  readonly sent: number
  /** Whether central's standing is another than the one we knew, be it further back. */
  readonly moved: boolean
}

/**
 * One message to central and one back: the next batch after what central has acknowledged, and its new standing.
 *
 * @throws ERR_LINK (retryable), ERR_FORKED, and what central refuses with
 */
export async function exchange(sender: Sender, signal: AbortSignal): Promise<Exchanged> {
  const peer = await sender.peer()
  const batch = await sender.read(peer?.standing ?? START)
  const message: OutgoingMessage = {
    from: sender.from,
    number: (peer?.number ?? 0) + 1,
    nonce: randomBytes(12).toString('base64url'),
    answers: 0,
    standing: undefined,
    batch: batch?.bytes,
  }
  const answered = sender.link.exchange(await encodeMessage(message), { signal })
  if (batch) sender.readAhead(batch.through)
  const bytes = await answered
  const answer = await decodeMessage(bytes, sender.maxMessageBytes)
  if (answer.answers !== message.number) {
    // A refusal that came before the message was read answers none.
    if (answer.error) throw refusal(answer.error)
    throw new TillsyncError('ERR_MESSAGE', 'The answer belongs to another message', { retryable: true })
  }
  const standing = await settle(sender, answer)
  if (standing !== undefined) await sender.savePeer({ number: message.number, standing, contactAt: new Date(sender.now()).toISOString() })
  const moved = (standing?.entryNo ?? 0) - (peer?.standing.entryNo ?? 0)
  // Central was further back than we knew: what it said puts the next batch right.
  if (answer.error && !(answer.error.code === 'ERR_NOT_NEXT' && moved !== 0)) throw refusal(answer.error)
  return { sent: Math.max(0, moved), moved: moved !== 0 }
}

/** Central's standing, if it is a point of our history. */
async function settle(sender: Sender, answer: Message): Promise<Standing | undefined> {
  const epoch = await sender.epoch()
  const there = answer.standing && (await sender.digestAt(answer.standing.entryNo))
  const verdict = judge(epoch, answer.standing, there)
  if (verdict.kind === 'follow') return { epoch, ...verdict.after }
  throw new TillsyncError('ERR_FORKED', 'Central stands at an entry that this database does not have', {
    hint: 'This database, or central, was restored from a backup or exchanged. Nothing is sent until that is settled; nothing is lost.',
    context: { entryNo: answer.standing?.entryNo },
  })
}

function refusal(error: NonNullable<Message['error']>): TillsyncError {
  return new TillsyncError(error.code as TillsyncErrorCode, `Central: ${error.message}`, { retryable: error.retryable })
}
