import type { IncomingMessage, ServerResponse } from 'node:http'
import { Readable } from 'node:stream'
import { asTillsyncError, messageOf, TillsyncError, type TillsyncErrorCode } from '../errors.ts'
import type { Link } from '../ports.ts'
import { decodeMessage } from './codec.ts'
import type { RequestSource } from './source.ts'

export const CONTENT_TYPE = 'application/vnd.tillsync'

export interface HttpLinkOptions {
  /** Where central's `fetch` is mounted, e.g. `https://hq.example.com/sync`. */
  readonly url: string | URL
  /**
   * The register's token, from central's `registers.add()` or `rotate()`. A function is asked at each exchange, so that a rotated
   * token needs no restart.
   */
  readonly token: string | (() => string | Promise<string>)
  /** The host's own `fetch`, e.g. with a proxy or a client certificate. Default: Node's. */
  readonly fetch?: typeof globalThis.fetch
  /** How long an exchange may take, in milliseconds. Default 60,000; at least 1. */
  readonly timeoutMs?: number
}

const TIMEOUT_MS = 60_000
const LONGEST_MS = 2_147_483_647
/** As long as central locks anybody out; what a proxy asks for beyond that would silence a register, or overflow Node's timers into a loop. */
const LONGEST_RETRY_AFTER_MS = 24 * 3_600_000
const TOKEN = /^[\x21-\x7e]+$/
/** An error's body is a small message; anything longer is not ours. */
const MAX_ERROR_BYTES = 65_536

/**
 * Carries exchanges by HTTP POST.
 *
 * @throws ERR_OPTION where `url` or `token` is missing or malformed
 */
export function httpLink(options: HttpLinkOptions): Link {
  const url = readUrl(options?.url)
  const { token, timeoutMs = TIMEOUT_MS, fetch = globalThis.fetch } = options
  if (typeof token !== 'function') checkToken(token)
  if (!Number.isSafeInteger(timeoutMs) || timeoutMs < 1 || timeoutMs > LONGEST_MS)
    throw badOption('timeoutMs', `a whole number from 1 to ${LONGEST_MS}`, timeoutMs)
  return {
    async exchange(message, { signal }) {
      const credential = typeof token === 'function' ? await ask(token) : token
      const timeout = AbortSignal.timeout(timeoutMs)
      try {
        const response = await fetch(url, {
          method: 'POST',
          headers: { authorization: `Bearer ${credential}`, 'content-type': CONTENT_TYPE },
          body: message as Uint8Array<ArrayBuffer>,
          redirect: 'error',
          signal: AbortSignal.any([signal, timeout]),
        })
        const body = new Uint8Array(await response.arrayBuffer())
        if (!isOurs(response)) throw notCentral(response)
        if (response.ok) return body
        throw await refusal(response, body)
      } catch (error) {
        if (error instanceof TillsyncError) throw error
        if (signal.aborted) throw new TillsyncError('ERR_ABORTED', 'The exchange was aborted', { cause: error })
        throw new TillsyncError('ERR_LINK', timeout.aborted ? `No answer within ${timeoutMs} ms` : `Central was not reached: ${reason(error)}`, {
          retryable: true,
          cause: error,
        })
      }
    },
  }
}

function checkToken(token: unknown): void {
  if (typeof token !== 'string' || !TOKEN.test(token)) throw badOption('token', 'text without white space, as it was shown', token)
}

async function ask(host: () => string | Promise<string>): Promise<string> {
  let token: string
  try {
    token = await host()
  } catch (cause) {
    const hint = 'What threw is the function that was given to httpLink as `token`.'
    throw new TillsyncError('ERR_CREDENTIAL', `There is no token: ${messageOf(cause)}`, { retryable: true, hint, cause })
  }
  checkToken(token)
  return token
}

function readUrl(url: unknown): URL {
  const read = url instanceof URL ? url : typeof url === 'string' && URL.canParse(url) ? new URL(url) : undefined
  if (read !== undefined && ['http:', 'https:'].includes(read.protocol)) return read
  throw badOption('url', 'an absolute http or https URL', url)
}

function badOption(option: string, expected: string, got: unknown): TillsyncError {
  return new TillsyncError('ERR_OPTION', `Expected httpLink's \`${option}\` to be ${expected}, got ${got === '' ? "''" : typeof got}`, {
    hint: "httpLink({ url: 'https://hq.example.com/sync', token })",
  })
}

/** Node's fetch says "fetch failed" and hides the reason one level below. */
function reason(error: unknown): string {
  return error instanceof Error && error.cause instanceof Error ? messageOf(error.cause) : messageOf(error)
}

function isOurs(response: Response): boolean {
  return response.headers.get('content-type') === CONTENT_TYPE
}

/** What a proxy, a captive portal or a crashed server says. */
function notCentral(response: Response, cause?: unknown): TillsyncError {
  return new TillsyncError('ERR_LINK', `The answer is not central's: HTTP status ${response.status}`, {
    retryable: true,
    hint: 'Is `url` where central.fetch is mounted, and does a proxy stand in between?',
    context: contextOf(response),
    cause,
  })
}

function contextOf(response: Response): Record<string, number> {
  const retryAfterMs = Math.min(Number(response.headers.get('retry-after')) * 1_000, LONGEST_RETRY_AFTER_MS)
  return { status: response.status, ...(retryAfterMs > 0 && { retryAfterMs }) }
}

async function refusal(response: Response, body: Uint8Array): Promise<TillsyncError> {
  try {
    const { error } = await decodeMessage(body, MAX_ERROR_BYTES)
    if (!error) return notCentral(response)
    return new TillsyncError(error.code as TillsyncErrorCode, `Central: ${error.message}`, {
      retryable: error.retryable,
      context: contextOf(response),
    })
  } catch (error) {
    return notCentral(response, error)
  }
}

export interface NodeHandlerOptions {
  /**
   * Where a request comes from. Default: the socket's remote address. Behind a proxy that is the proxy's own for everybody; let it say what the
   * proxy knows, from a header that the proxy overwrites.
   */
  readonly source?: (request: IncomingMessage) => string | undefined
}

/**
 * A handler for node:http (and Express) from `central.fetch`. Mount it before any middleware that reads the body: one
 * that was read already is answered with ERR_MESSAGE.
 *
 * @throws ERR_OPTION
 */
export function toNodeHandler(
  fetch: (request: Request, from: RequestSource) => Promise<Response>,
  options: NodeHandlerOptions = {},
): (request: IncomingMessage, response: ServerResponse) => void {
  const { source = (request: IncomingMessage) => request.socket.remoteAddress } = options
  if (typeof source !== 'function') {
    throw new TillsyncError('ERR_OPTION', `Expected toNodeHandler's \`source\` to be a function, got ${typeof source}`, {
      hint: "toNodeHandler(central.fetch, { source: (request) => String(request.headers['x-forwarded-for']) })",
    })
  }
  const sourceOf = (incoming: IncomingMessage): string | undefined => {
    try {
      return source(incoming)
    } catch (thrown) {
      process.emitWarning(asTillsyncError(thrown, 'ERR_LISTENER', 'The function that was given to toNodeHandler as `source` threw'))
      throw thrown
    }
  }
  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> =>
    send(await fetch(toRequest(incoming), { source: sourceOf(incoming) }), incoming, outgoing)
  return (incoming, outgoing) => {
    handle(incoming, outgoing).catch(() => outgoing.destroy())
  }
}

function toRequest(incoming: IncomingMessage): Request {
  const headers = new Headers()
  for (const [name, value] of Object.entries(incoming.headersDistinct)) for (const one of value ?? []) headers.append(name, one)
  const method = incoming.method ?? 'GET'
  const hasBody = method !== 'GET' && method !== 'HEAD'
  // Where it is mounted is the host's business, and what stands in the request line is anybody's: neither is read.
  return new Request('http://central/', {
    method,
    headers,
    ...(hasBody && { body: Readable.toWeb(incoming) as ReadableStream, duplex: 'half' }),
  })
}

async function send(response: Response, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  const body = new Uint8Array(await response.arrayBuffer())
  // A body that was refused before it was read must not be mistaken for the next request.
  const close = incoming.complete ? {} : { connection: 'close' }
  outgoing.writeHead(response.status, { ...Object.fromEntries(response.headers), 'content-length': body.length, ...close })
  outgoing.end(body)
}
