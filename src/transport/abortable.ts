import { TillsyncError } from '../errors.ts'

/** What is ended may go on for so long by itself: most carriers give back in that time what they hold. */
const LEAVING_MS = 1_000

/** What `work` gives, or ERR_ABORTED as soon as `signal` aborts; the work itself goes on. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const abort = () => reject(new TillsyncError('ERR_ABORTED', 'The wait was ended by its signal'))
  if (signal.aborted) abort()
  else signal.addEventListener('abort', abort, { once: true })
  try {
    return await Promise.race([work, aborted])
  } finally {
    signal.removeEventListener('abort', abort)
  }
}

/** As `unlessAborted`, for what ends with `signal` by itself: ERR_ABORTED where it still has not a moment later. */
export async function unlessLeft<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const left = new AbortController()
  let timer: NodeJS.Timeout | undefined
  const leave = () => {
    timer = setTimeout(() => left.abort(), LEAVING_MS)
  }
  if (signal.aborted) leave()
  else signal.addEventListener('abort', leave, { once: true })
  try {
    return await unlessAborted(work, left.signal)
  } finally {
    signal.removeEventListener('abort', leave)
    clearTimeout(timer)
  }
}
