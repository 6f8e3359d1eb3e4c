/**
 * How long to wait before the next try: exponential with full jitter (every wait from nothing to the bound is equally
 * likely), so that a thousand registers do not come back in step when the line does.
 * https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
 */
export function backoffMs(failures: number, bounds: { readonly minMs: number; readonly maxMs: number }, random: () => number): number {
  const bound = Math.min(bounds.maxMs, bounds.minMs * 2 ** Math.min(30, failures - 1))
  return Math.round(random() * bound)
}
