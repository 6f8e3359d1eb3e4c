import PQueue from 'p-queue'
import { TillsyncError } from './errors.ts'

/** Work that is done one at a time, in the order in which it was asked for. */
export class OneAtATime {
  private readonly queue = new PQueue({ concurrency: 1 })

  /** @throws ERR_ABORTED where `signal` aborts before its turn has come; what has begun is to end by itself */
  async turn<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const waiting = new AbortController()
    const leave = () => waiting.abort(new TillsyncError('ERR_ABORTED', 'The exchange was aborted', { cause: signal?.reason }))
    if (signal?.aborted) leave()
    else signal?.addEventListener('abort', leave, { once: true })
    const begin = () => {
      signal?.removeEventListener('abort', leave)
      return work()
    }
    try {
      return (await this.queue.add(begin, { signal: waiting.signal })) as T
    } finally {
      signal?.removeEventListener('abort', leave)
    }
  }

  /** Resolves when nothing is under way, and nothing waits. */
  onIdle(): Promise<void> {
    return this.queue.onIdle()
  }
}
