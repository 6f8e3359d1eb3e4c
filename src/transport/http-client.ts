import { messageOf, TillsyncError } from '../errors.ts'
import type { Link } from '../ports.ts'
import { unlessAborted } from './abortable.ts'
import { LONGEST_RETRY_AFTER_MS } from './backoff.ts'
import { readBody } from './body.ts'
import { decodeMessage } from './codec.ts'
import { refusal } from './reception.ts'

export const CONTENT_TYPE = 'application/vnd.tillsync'

export interface HttpClientOptions {
  readonly url: URL
  readonly fetch: typeof globalThis.fetch
  readonly timeoutMs: number
  /** What is read of an answer at most. */
  readonly maxBytes: number
  token(): string | Promise<string>
  /** For messages: the other side, what it mounts there, and who was given the token. */
  readonly names: { readonly peer: string; readonly server: string; readonly asker: string }
}

/** Of what is no message of ours: a proxy that expects to be away for a day is not to silence a register when it is back in a minute. */
const LONGEST_FOREIGN_RETRY_AFTER_MS = 60_000
const TOKEN = /^[\x21-\x7e]+$/
/** An error's body is a small message; anything longer is not ours. */
const MAX_ERROR_BYTES = 65_536
/** The end of the time that an answer has, in which one that was held back is still to come. */
const REST_MS = 10_000

/** How long an answer may be held back of which it is given up after so long. */
export function waitOf(timeoutMs: number): number {
  return timeoutMs - Math.min(REST_MS, Math.ceil(timeoutMs / 2))
}

/** Carries exchanges by HTTP POST to the other side's `fetch`. */
export function httpClient(options: HttpClientOptions): Link {
  const { timeoutMs, names } = options
  return {
    async exchange(message, { signal }) {
      // Not AbortSignal.timeout(): each would live on, with what hangs on it, until its time is over.
      const late = new AbortController()
      const timer = setTimeout(() => late.abort(), timeoutMs).unref()
      const ended = AbortSignal.any([signal, late.signal])
      try {
        // Be it that the host's `fetch` or token function does not end with the signal.
        return await unlessAborted(post(options, message, ended), ended)
      } catch (error) {
        if (error instanceof TillsyncError && error.code !== 'ERR_ABORTED') throw error
        if (signal.aborted) throw new TillsyncError('ERR_ABORTED', 'The exchange was aborted', { cause: error })
        throw new TillsyncError(
          'ERR_LINK',
          late.signal.aborted ? `No answer within ${timeoutMs} ms` : `${names.peer} was not reached: ${reason(error)}`,
          {
            retryable: true,
            hint: `Nothing is lost, it is tried again by itself. Where the line is up: is \`url\` where ${names.server} is mounted, http or https as it is there?`,
            cause: error,
          },
        )
      } finally {
        clearTimeout(timer)
      }
    },
  }
}

async function post(options: HttpClientOptions, message: Uint8Array, signal: AbortSignal): Promise<Uint8Array> {
  const { url, fetch, maxBytes } = options
  const token = await ask(options)
  signal.throwIfAborted()
  const response = await fetch(url, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': CONTENT_TYPE },
    body: message as Uint8Array<ArrayBuffer>,
    redirect: 'error',
    signal,
  })
  if (mediaTypeOf(response) !== CONTENT_TYPE) {
    await response.body?.cancel()
    throw foreign(options, response)
  }
  if (response.ok) return await readWhole(response, maxBytes)
  throw await refused(options, response)
}

/** Undefined where it is not the URL of an HTTP server; one with a user and password is refused by `fetch`. */
export function readUrl(url: unknown): URL | undefined {
  const read = url instanceof URL ? url : typeof url === 'string' && URL.canParse(url) ? new URL(url) : undefined
  return read !== undefined && ['http:', 'https:'].includes(read.protocol) && read.username === '' && read.password === '' ? read : undefined
}

/** @throws ERR_OPTION */
export function checkToken(token: unknown, asker: string): asserts token is string {
  if (typeof token === 'string' && TOKEN.test(token)) return
  throw new TillsyncError(
    'ERR_OPTION',
    `Expected ${asker}'s \`token\` to be text without white space, as it was shown, got ${token === '' ? "''" : typeof token}`,
    {
      hint: "A token comes from central's registers.add() or rotate().",
    },
  )
}

async function ask({ token: host, names: { asker } }: HttpClientOptions): Promise<string> {
  let token: unknown
  try {
    token = await host()
  } catch (cause) {
    const hint = `What threw is the function that was given to ${asker} as \`token\`.`
    throw new TillsyncError('ERR_CREDENTIAL', `There is no token: ${messageOf(cause)}`, { retryable: true, hint, cause })
  }
  checkToken(token, asker)
  return token
}

/** A body that breaks off is the line's fault; one that is too large is the other side's. */
async function readWhole(response: Response, maxBytes: number): Promise<Uint8Array> {
  try {
    return await readBody(response.body, maxBytes)
  } catch (error) {
    throw error instanceof TillsyncError && error.code === 'ERR_MESSAGE' ? error.cause : error
  }
}

/** Node's fetch says "fetch failed" and hides the reason, if it has one, one level below. */
function reason(error: unknown): string {
  return (error instanceof Error && error.cause instanceof Error && messageOf(error.cause)) || messageOf(error)
}

/** In any case, and without what a gateway may have added (RFC 9110, 8.3.1). */
function mediaTypeOf({ headers }: Response): string | undefined {
  return headers.get('content-type')?.split(';')[0]?.trim().toLowerCase()
}

/** It will not take the next try either. */
const TOO_LARGE =
  'A proxy in between takes less than a message has: let it take what the other side does (`maxMessageBytes`), or set `bytesPerRun` lower.'

/** What a proxy, a captive portal or a crashed server says. */
function foreign({ names }: HttpClientOptions, response: Response, cause?: unknown): TillsyncError {
  return new TillsyncError(
    'ERR_LINK',
    `The answer is not ${names.peer.replace(/^[A-Z]/, (first) => first.toLowerCase())}'s: HTTP status ${response.status}`,
    {
      retryable: true,
      hint: response.status === 413 ? TOO_LARGE : `Is \`url\` where ${names.server} is mounted, and does a proxy stand in between?`,
      context: contextOf(response, LONGEST_FOREIGN_RETRY_AFTER_MS),
      cause,
    },
  )
}

function contextOf(response: Response, longestMs: number): Record<string, number> {
  const retryAfterMs = Math.min(Number(response.headers.get('retry-after')) * 1_000, longestMs)
  return { status: response.status, ...(retryAfterMs > 0 && { retryAfterMs }) }
}

async function refused(options: HttpClientOptions, response: Response): Promise<TillsyncError> {
  try {
    const { error, takes } = await decodeMessage(await readBody(response.body, MAX_ERROR_BYTES), MAX_ERROR_BYTES)
    return error
      ? refusal(options.names.peer, error, { ...contextOf(response, LONGEST_RETRY_AFTER_MS), ...(takes && { takes }) })
      : foreign(options, response)
  } catch (error) {
    // Of a later version: it is the other side's, and nothing of it can be read but that.
    return error instanceof TillsyncError && error.code === 'ERR_VERSION' ? error : foreign(options, response, error)
  }
}
