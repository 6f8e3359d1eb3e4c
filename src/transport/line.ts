import { messageOf, TillsyncError } from '../errors.ts'
import { LONGEST_MS } from '../options.ts'
import type { Link } from '../ports.ts'
import { unlessAborted } from './abortable.ts'

/** What a link or a mailbox throws that has no code is the line's, or the end that it was asked for. */
export function lineError(thrown: unknown, signal?: AbortSignal): TillsyncError {
  if (thrown instanceof TillsyncError) return thrown
  if (signal?.aborted) return new TillsyncError('ERR_ABORTED', 'The exchange was aborted', { cause: thrown })
  return new TillsyncError('ERR_LINK', `The line failed: ${messageOf(thrown)}`, {
    retryable: true,
    hint: 'Nothing is lost, it is tried again by itself. What carries the messages is to say by ERR_LINK what is wrong.',
    cause: thrown,
  })
}

/** What has carried a message for so long hangs: even by 9,600 bit/s as much as goes into one by default is there sooner. */
export const HANGING_MS = 900_000

/**
 * What comes back, or the end by `signal`, be it that a host's link does not end with it: what it answers then is nobody's. One that gives no sign for `HANGING_MS`, and for as long as an answer may be held back, is given up.
 *
 * @throws ERR_LINK (retryable), ERR_ABORTED, and what has a code
 */
export async function exchangeBy(link: Link, message: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
  const hanging = new AbortController()
  const ended = AbortSignal.any([signal, hanging.signal])
  try {
    const answered = unlessAborted(link.exchange(message, { signal: ended }), signal)
    return await unlessHanging(answered, Math.min(HANGING_MS + (link.waitMs ?? 0), LONGEST_MS), () => hanging.abort())
  } catch (thrown) {
    throw lineError(thrown, signal)
  }
}

/** By the computer's own timers, as what carries messages goes by. @throws ERR_LINK (retryable) where `work` has not ended after `ms`; it goes on by itself */
export async function unlessHanging<T>(work: Promise<T>, ms: number, onHanging?: () => void): Promise<T> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), ms)
  try {
    return await unlessAborted(work, late.signal)
  } catch (thrown) {
    if (!late.signal.aborted) throw thrown
  } finally {
    clearTimeout(timer)
  }
  onHanging?.()
  throw new TillsyncError('ERR_LINK', `What carries the messages has not ended within ${ms} ms`, {
    retryable: true,
    hint: 'Nothing is lost, it is tried again by itself. Is a connection half open, or a share gone? A link is to give up by itself sooner.',
  })
}
