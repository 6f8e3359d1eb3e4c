import { setTimeout as pause } from 'node:timers/promises'
import { TillsyncError } from '../errors.ts'
import type { Link } from '../ports.ts'

/** What becomes of a message and its answer. */
export type Fate =
  | 'delivered'
  /** The message does not arrive. */
  | 'message lost'
  /** It arrives, its answer does not. */
  | 'answer lost'
  /** It arrives twice. */
  | 'message doubled'
  /** It does not arrive for now; `deliverKept` brings it later. */
  | 'message late'
  | 'message cut'
  | 'answer cut'
  | 'answer empty'
  | 'answer garbage'
  /** The answer to an earlier message comes instead. */
  | 'answer of another'
  | 'slow'

export const FATES: readonly Fate[] = [
  'message lost',
  'answer lost',
  'message doubled',
  'message late',
  'message cut',
  'answer cut',
  'answer empty',
  'answer garbage',
  'answer of another',
  'slow',
]

const SLOW_MS = 30

/** Stands before a link, does with messages what it is told to, and keeps a copy of each. */
export class Carrier {
  /** What becomes of the next messages; those beyond are delivered. */
  fates: Fate[] = []
  /** Every message that was given to it. */
  readonly recorded: Uint8Array[] = []
  private readonly kept: Uint8Array[] = []
  private former: Uint8Array | undefined

  async exchange(inner: Link, given: Uint8Array, options: { readonly signal: AbortSignal }): Promise<Uint8Array> {
    const message = Uint8Array.from(given)
    this.recorded.push(message)
    const fate = this.fates.shift() ?? 'delivered'
    if (fate === 'message lost') throw lost()
    if (fate === 'message late') {
      this.kept.push(message)
      throw lost()
    }
    if (fate === 'message doubled') await inner.exchange(message, options)
    if (fate === 'slow') await pause(SLOW_MS)
    const answer = await inner.exchange(fate === 'message cut' ? message.subarray(0, message.length >> 1) : message, options)
    const former = this.former
    this.former = answer
    if (fate === 'slow') await pause(SLOW_MS)
    if (fate === 'answer lost') throw lost()
    if (fate === 'answer cut') return answer.subarray(0, answer.length >> 1)
    if (fate === 'answer empty') return new Uint8Array()
    if (fate === 'answer garbage') return Buffer.from('<html><title>Sign in to this network</title></html>')
    return fate === 'answer of another' && former !== undefined ? former : answer
  }

  /** What was late arrives, the last first; nobody waits for the answers any more. */
  async deliverKept(inner: Link, signal: AbortSignal): Promise<void> {
    for (const message of this.kept.splice(0).reverse()) await inner.exchange(message, { signal }).catch(expectCode)
  }
}

/** A refusal is an answer too, as long as it has a code. */
export function expectCode(thrown: unknown): TillsyncError {
  if (thrown instanceof TillsyncError) return thrown
  throw new Error('The link threw something else than a TillsyncError', { cause: thrown })
}

function lost(): TillsyncError {
  return new TillsyncError('ERR_LINK', 'The line is down', { retryable: true })
}
