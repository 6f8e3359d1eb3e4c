import type { TillsyncError } from '../errors.ts'

/** As long as central locks anybody out. */
export const LONGEST_RETRY_AFTER_MS = 24 * 3_600_000

/**
 * How long to wait before the next try: exponential with full jitter (every wait from nothing to the bound is equally
 * likely), so that a thousand registers do not come back in step when the line does.
 * https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function backoffMs(failures: number, bounds: { readonly minMs: number; readonly maxMs: number }, random: () => number): number {
  const bound = Math.min(bounds.maxMs, bounds.minMs * 2 ** Math.min(30, failures - 1))
  return Math.round(random() * bound)
}

/** How long the other side wants to be left alone, at most for a day; a host's own link may say anything, and no timer waits for longer than 24 days. */
export function retryAfterOf({ context: { retryAfterMs } }: TillsyncError): number {
  return typeof retryAfterMs === 'number' && retryAfterMs > 0 ? Math.min(retryAfterMs, LONGEST_RETRY_AFTER_MS) : 0
}
