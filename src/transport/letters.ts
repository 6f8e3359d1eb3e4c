import type { Letter } from '../ports.ts'
import { unlessLeft } from './abortable.ts'

/**
 * The letters of a mailbox, until `signal` aborts, be it that the mailbox does not end with it: a share that hangs, a host's own. One that it still gives then is released.
 *
 * @throws ERR_ABORTED, and what the mailbox throws
 */
export async function* lettersUntil<L extends Letter>(
  letters: AsyncIterable<L>,
  signal: AbortSignal,
): AsyncGenerator<Letter & { readonly from: L['from'] }> {
  const iterator = letters[Symbol.asyncIterator]()
  let isLeft = false
  try {
    for (;;) {
      const next = iterator.next()
      const { done, value } = await unlessLeft(next, signal).catch((thrown) => {
        isLeft = true
        next.then((late) => (late.done ? undefined : late.value.release())).catch(() => undefined)
        throw thrown
      })
      if (done) return
      yield {
        message: value.message,
        from: value.from,
        acknowledge: () => unlessLeft(value.acknowledge(), signal),
        release: () => unlessLeft(value.release(), signal),
      }
    }
  } finally {
    const ended = Promise.resolve(iterator.return?.())
    if (isLeft) ended.catch(() => undefined)
    else await unlessLeft(ended, signal)
  }
}

/** Lets go of a mailbox, as far as it does in a moment. */
export async function closeMailbox(mailbox: { close?(): Promise<void> }): Promise<void> {
  const closed = AbortSignal.abort()
  await unlessLeft(Promise.resolve(mailbox.close?.()), closed).catch((thrown) => {
    if ((thrown as { code?: unknown }).code !== 'ERR_ABORTED') throw thrown
  })
}
