import { TillsyncError } from '../../src/errors.ts'
import type { Link } from '../../src/ports.ts'

export interface RecordingLink extends Link {
  /** Every message that was sent, in order. */
  readonly sent: Uint8Array[]
}

/** Carries everything on, and keeps a copy of what was sent. */
export function recording(inner: Link): RecordingLink {
  const sent: Uint8Array[] = []
  return {
    sent,
    exchange(message, options) {
      sent.push(Uint8Array.from(message))
      return inner.exchange(message, options)
    },
  }
}

/** What becomes of a message: it arrives, it does not, or its answer gets lost on the way back. */
export type Fate = 'whole' | 'message lost' | 'answer lost'

/** A line with a script: each message meets the fate that `next` says. */
export function scripted(inner: Link, next: () => Fate): Link {
  return {
    async exchange(message, options) {
      const fate = next()
      if (fate === 'message lost') throw lost()
      const answer = await inner.exchange(message, options)
      if (fate === 'answer lost') throw lost()
      return answer
    },
  }
}

function lost(): TillsyncError {
  return new TillsyncError('ERR_LINK', 'The line is down', { retryable: true })
}
