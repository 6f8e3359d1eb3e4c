import { messageOf, TillsyncError } from '../errors.ts'
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

/**
 * What comes back, or the end by `signal`, be it that a host's link does not end with it: what it answers then is nobody's.
 *
 * @throws ERR_LINK (retryable), ERR_ABORTED, and what has a code
 */
export async function exchangeBy(link: Link, message: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
  try {
    return await unlessAborted(link.exchange(message, { signal }), signal)
  } catch (thrown) {
    throw lineError(thrown, signal)
  }
}
