import { TillsyncError } from '../errors.ts'

/** What is ended may go on for so long by itself: most carriers give back in that time what they hold. */
const LEAVING_MS = 1_000
/** How long a function of the host's may take to say a secret. */
const ASKING_MS = 10_000

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

/** What a function of the host's says, e.g. of a key store: one that does not answer is to hold up nobody for good. */
export async function askHost<T>(ask: () => T | Promise<T>): Promise<T> {
  const late = new AbortController()
  const timer = setTimeout(() => late.abort(), ASKING_MS)
  try {
    return await unlessAborted(Promise.resolve(ask()), late.signal)
  } catch (thrown) {
    throw late.signal.aborted ? new Error(`It has not answered within ${ASKING_MS} ms`, { cause: thrown }) : thrown
  } finally {
    clearTimeout(timer)
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
