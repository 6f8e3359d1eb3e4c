import { randomBytes } from 'node:crypto'
import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import { checkName, known, unlessGiven, whole } from '../options.ts'
import type { Link } from '../ports.ts'
import { httpClient, waitOf } from './http-client.ts'
import { type RequestSource, Voucher } from './source.ts'

export interface MemoryLinkOptions extends RegisterName {
  /** How long an exchange may take, in milliseconds. Default 60,000; from 1 up. */
  readonly timeoutMs?: number
}

const TIMEOUT_MS = 60_000
const LONGEST_MS = 2_147_483_647
const MAX_ANSWER_BYTES = 67_108_864
/** Nobody looks it up. */
const URL_OF_CENTRAL = new URL('http://central/')

/**
 * Carries exchanges to a central in this process, without a socket or a token: for the host's own tests. Everything else is as over HTTP, since it is
 * `central.fetch` that answers: a register gets its own stream only, one that is not known or is revoked is refused with ERR_CREDENTIAL, limits and long
 * poll hold, and each side has bytes of its own. Tokens themselves are tested by `httpLink({ …, fetch: (url, init) => central.fetch(new Request(url, init)) })`.
 *
 * @throws ERR_OPTION
 */
export function memoryLink(
  central: { readonly fetch: (request: Request, from?: RequestSource) => Promise<Response> },
  options: MemoryLinkOptions,
): Link {
  if (typeof central?.fetch !== 'function') throw misused(`central, got ${central === null ? 'null' : typeof central}`)
  if (typeof options !== 'object' || options === null) throw misused('the name of a register')
  known('memoryLink', options, ['location', 'register', 'timeoutMs'])
  checkName('location', options.location)
  checkName('register', options.register)
  const timeoutMs = whole('timeoutMs', unlessGiven(options.timeoutMs, TIMEOUT_MS), 1, LONGEST_MS)
  const voucher = new Voucher(options)
  // Where somebody stands in between who does not pass the voucher on, this is nobody's token.
  const token = randomBytes(32).toString('base64url')
  const client = httpClient({
    url: URL_OF_CENTRAL,
    fetch: (url, init) => unlessAborted(init?.signal, () => central.fetch(new Request(url, init), voucher)),
    timeoutMs,
    maxBytes: MAX_ANSWER_BYTES,
    token: () => token,
    names: { peer: 'Central', server: 'central.fetch', asker: 'memoryLink' },
  })
  return {
    exchange: (message, options) => client.exchange(Uint8Array.from(message), options),
    waitMs: waitOf(timeoutMs),
  }
}

/** Ended, it is as a connection that is closed: what was sent goes on at central, nobody hears of it any more. */
async function unlessAborted<T>(signal: AbortSignal | null | undefined, run: () => Promise<T>): Promise<T> {
  signal?.throwIfAborted()
  const { promise: closed, reject } = Promise.withResolvers<never>()
  const close = () => reject(signal?.reason)
  signal?.addEventListener('abort', close, { once: true })
  // As an open connection, it keeps the process alive; the timer of an AbortSignal does not.
  const open = setInterval(() => undefined, LONGEST_MS)
  try {
    return await Promise.race([run(), closed])
  } finally {
    clearInterval(open)
    signal?.removeEventListener('abort', close)
  }
}

function misused(expected: string): TillsyncError {
  return new TillsyncError('ERR_OPTION', `memoryLink needs ${expected}`, { hint: "memoryLink(central, { location: 'BA01', register: 'POS3' })" })
}
