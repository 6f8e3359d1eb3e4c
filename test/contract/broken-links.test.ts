import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { TillsyncError } from '../../src/index.ts'
import type { Link } from '../../src/ports.ts'
import { type ContractLink, linkContract, memoryLink } from '../../src/testing.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { tillDatabase } from './links.ts'

const server = await startServer(t)
/** Most of them do nothing but wait until the patience of a promise is over. */
t.jobs = 3
const TIMEOUT_MS = 400
const NEVER = new AbortController().signal

/** What is broken, and the words of the promises that must be found broken by it; others may be too. */
type Broken = readonly [what: string, make: (good: Link) => Link, found: readonly RegExp[]]

/** Answers of whoever comes first go to whoever comes next. */
function mixedUp(): (good: Link) => Link {
  let held: ((answer: Uint8Array | undefined) => void) | undefined
  let under = 0
  const give = (answer: Uint8Array | undefined): void => {
    held?.(answer)
    held = undefined
  }
  return (good) => ({
    async exchange(message, options) {
      under++
      let answer: Uint8Array
      try {
        answer = await good.exchange(message, options)
      } catch (error) {
        if (--under === 1) give(undefined)
        throw error
      }
      if (held !== undefined) give(answer)
      else if (under > 1) {
        const other = new Promise<Uint8Array | undefined>((resolve) => {
          held = resolve
        })
        answer = (await other) ?? answer
      }
      under--
      return answer
    },
  })
}

/** One connection: what was ended is answered to the next one who asks. */
function lagging(good: Link): Link {
  let missed: Promise<Uint8Array> | undefined
  return {
    async exchange(message, { signal }) {
      const former = missed
      const mine = good.exchange(message, { signal: NEVER })
      mine.catch(() => undefined)
      const aborted = new Promise<never>((_, reject) => {
        signal.addEventListener('abort', () => reject(new TillsyncError('ERR_ABORTED', 'ended')), { once: true })
      })
      try {
        const answer = await Promise.race([former ?? mine, aborted])
        missed = former === undefined ? undefined : mine
        return answer
      } catch (error) {
        missed = mine
        throw error
      }
    },
  }
}

const flipped = (bytes: Uint8Array): Uint8Array => bytes.map((byte, at) => (at === bytes.length - 3 ? byte ^ 1 : byte))

const BROKEN: readonly Broken[] = [
  [
    'drops every answer and says nothing',
    (good) => ({
      async exchange(message, options) {
        await good.exchange(message, options)
        return new Uint8Array()
      },
    }),
    [/what is sold arrives/, /of several exchanges/],
  ],
  ['drops every message and answers it itself', () => ({ exchange: async (message) => message }), [/messages of 30 days ago/, /two centrals/]],
  ['alters messages', (good) => ({ exchange: (message, options) => good.exchange(flipped(message), options) }), [/bytes of a message/]],
  ['alters answers', (good) => ({ exchange: async (message, options) => flipped(await good.exchange(message, options)) }), [/bytes of a message/]],
  [
    'writes into messages',
    (good) => ({
      async exchange(message, options) {
        const answer = await good.exchange(message, options)
        message.fill(0)
        return answer
      },
    }),
    [/bytes of a message/],
  ],
  ["mixes up two registers' answers", mixedUp(), [/of several exchanges/]],
  [
    'never honours the signal',
    (good) => ({ exchange: (message) => good.exchange(message, { signal: NEVER }) }),
    [/aborted already/, /where the message arrives at nobody/, /where the answer does not come/],
  ],
  ['gives the answer to what was ended to the next one', lagging, [/where the answer does not come/]],
  [
    'never gives up',
    (good) => ({
      async exchange(message, options) {
        for (let tries = 0; ; tries++) {
          try {
            return await good.exchange(message, options)
          } catch (error) {
            // Not for ever, so that the test ends.
            if (options.signal.aborted || tries > 8) throw error
            await pause(5)
          }
        }
      },
    }),
    [/half open/],
  ],
  [
    'throws errors of its own',
    (good) => ({
      async exchange(message, options) {
        try {
          return await good.exchange(message, options)
        } catch (cause) {
          throw new Error('socket hang up', { cause })
        }
      },
    }),
    [/breaks off/],
  ],
  [
    'takes small messages only',
    (good) => ({
      async exchange(message, options) {
        if (message.length > 1_048_576) throw new TillsyncError('ERR_LINK', 'too large', { retryable: true })
        return good.exchange(message, options)
      },
    }),
    [/messages of megabytes/],
  ],
  [
    'takes any token for any register',
    (good) => ({
      async exchange(message, options) {
        try {
          return await good.exchange(message, options)
        } catch (error) {
          if ((error as TillsyncError).code === 'ERR_CREDENTIAL') throw new TillsyncError('ERR_LINK', 'try again', { retryable: true })
          throw error
        }
      },
    }),
    [/why, by the code/],
  ],
  ['is kept waiting for longer than it waits', (good) => ({ ...good, waitMs: 10 * TIMEOUT_MS }), [/does not hold up/]],
]

for (const [what, make, found] of BROKEN) {
  t.test(`a link that ${what} does not pass`, { buffered: true }, async (t) => {
    const pool = await createPool(t, server)
    const promises = new Map<string, () => Promise<void>>()
    linkContract((name, run) => promises.set(name, run), {
      database: () => postgres(pool),
      tillDatabase,
      timeoutMs: TIMEOUT_MS,
      withinMs: 1_500,
      link: (central, register): ContractLink => make(memoryLink(central, { ...register, timeoutMs: TIMEOUT_MS })),
    })
    for (const words of found) {
      const [name, run] = [...promises].find(([name]) => words.test(name)) ?? []
      const broken = await run?.().then(
        () => undefined,
        (error: unknown) => String(error),
      )
      t.ok(broken, `it breaks the promise: ${name}`)
      t.comment(broken?.split('\n')[0] ?? '')
    }
  })
}
