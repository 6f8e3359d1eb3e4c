import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Http2ServerRequest, Http2ServerResponse } from 'node:http2'
import { Readable } from 'node:stream'
import { asTillsyncError, TillsyncError } from '../errors.ts'
import { known } from '../options.ts'
import type { Link } from '../ports.ts'
import { checkToken, httpClient, readUrl, waitOf } from './http-client.ts'
import { type Fetch, type HttpAnswer, type HttpRequest, servingOf } from './http-request.ts'
import type { RequestSource } from './source.ts'

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
/** So long who is refused may go on sending over HTTP/2: closed at once, some clients lose the answer. */
const REFUSED_MS = 1_000
const LONGEST_MS = 2_147_483_647
/** What central's answers hold at most; larger than any that it makes. */
const MAX_ANSWER_BYTES = 67_108_864

/**
 * Carries exchanges by HTTP POST.
 *
 * @throws ERR_OPTION where `url` or `token` is missing or malformed, and for an option that there is not
 */
export function httpLink(options: HttpLinkOptions): Link {
  const url = readUrl(options?.url)
  if (url === undefined) throw badOption('url', 'an absolute http or https URL without a user', options?.url)
  known('httpLink', options, ['url', 'token', 'fetch', 'timeoutMs'])
  const { token, timeoutMs = TIMEOUT_MS, fetch = globalThis.fetch } = options
  if (typeof fetch !== 'function') throw badOption('fetch', 'a function like fetch', fetch)
  if (typeof token !== 'function') checkToken(token, 'httpLink')
  if (!Number.isSafeInteger(timeoutMs) || timeoutMs < 1 || timeoutMs > LONGEST_MS)
    throw badOption('timeoutMs', `a whole number from 1 to ${LONGEST_MS}`, timeoutMs)
  const client = httpClient({
    url,
    fetch,
    timeoutMs,
    maxBytes: MAX_ANSWER_BYTES,
    token: typeof token === 'function' ? token : () => token,
    names: { peer: 'Central', server: 'central.fetch', asker: 'httpLink' },
  })
  return { exchange: client.exchange, waitMs: waitOf(timeoutMs) }
}

function badOption(option: string, expected: string, got: unknown): TillsyncError {
  return new TillsyncError('ERR_OPTION', `Expected httpLink's \`${option}\` to be ${expected}, got ${got === '' ? "''" : typeof got}`, {
    hint: "httpLink({ url: 'https://hq.example.com/sync', token })",
  })
}

export interface NodeHandlerOptions {
  /**
   * Where a request comes from. Default: the socket's remote address. Behind a proxy that is the proxy's own for everybody; let it say what the
   * proxy knows, from a header that the proxy overwrites.
   */
  readonly source?: (request: IncomingMessage) => string | undefined
}

/**
 * A handler for node:http, node:http2 and Express from `central.fetch` or a register's `fetch`. Mount it before any middleware that reads the body: one
 * that was read already is answered with ERR_MESSAGE.
 *
 * @throws ERR_OPTION
 */
export function toNodeHandler(
  fetch: (request: Request, from: RequestSource) => Promise<Response>,
  options: NodeHandlerOptions = {},
): (request: IncomingMessage | Http2ServerRequest, response: ServerResponse | Http2ServerResponse) => void {
  if (typeof fetch !== 'function') {
    throw new TillsyncError('ERR_OPTION', `Expected toNodeHandler to be given a function, got ${fetch === null ? 'null' : typeof fetch}`, {
      hint: 'toNodeHandler(central.fetch), or toNodeHandler(till.fetch) at a register that is pulled',
    })
  }
  known('toNodeHandler', options, ['source'])
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
  const serve = servingOf(fetch as Fetch)
  const answered = async (incoming: IncomingMessage): Promise<HttpAnswer> => {
    const from = { source: sourceOf(incoming) }
    return serve ? serve(httpRequestOf(incoming), from) : httpAnswerOf(await fetch(toRequest(incoming), from))
  }
  const handle = async (incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> => send(await answered(incoming), incoming, outgoing)
  return (incoming, outgoing) => {
    // Those of HTTP/2 have all that is used of them.
    handle(incoming as IncomingMessage, outgoing as ServerResponse).catch(() => outgoing.destroy())
  }
}

function toRequest(incoming: IncomingMessage): Request {
  const headers = new Headers()
  for (const name of Object.keys(incoming.headers))
    if (!name.startsWith(':')) for (const value of valuesOf(incoming, name)) headers.append(name, value)
  const method = incoming.method ?? 'GET'
  const hasBody = method !== 'GET' && method !== 'HEAD'
  // Where it is mounted is the host's business, and what stands in the request line is anybody's: neither is read.
  return new Request('http://central/', {
    method,
    headers,
    ...(hasBody && { body: Readable.toWeb(incoming) as ReadableStream, duplex: 'half' }),
  })
}

function httpRequestOf(incoming: IncomingMessage): HttpRequest {
  return {
    method: incoming.method,
    isRead: incoming.readableDidRead,
    get body() {
      // What is not read of it must not end the connection before the answer is sent.
      return incoming.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>
    },
    header: (name) => valuesOf(incoming, name).join(', ') || null,
  }
}

/** All that were sent by this name in lower case: of two credentials `headers` has the first alone, and HTTP/2 has no `headersDistinct`. */
function valuesOf({ rawHeaders }: IncomingMessage, name: string): string[] {
  return rawHeaders.filter((_, at) => at % 2 === 1 && rawHeaders[at - 1]?.toLowerCase() === name)
}

async function httpAnswerOf(response: Response): Promise<HttpAnswer> {
  return { status: response.status, headers: Object.fromEntries(response.headers), body: new Uint8Array(await response.arrayBuffer()) }
}

function send({ status, headers, body }: HttpAnswer, incoming: IncomingMessage, outgoing: ServerResponse): void {
  const isRefused = !incoming.complete
  const hasStreams = incoming.httpVersionMajor > 1
  // A body that was refused before it was read must not be mistaken for the next request; HTTP/2 keeps them apart, each in a stream that stays open for the rest.
  const close = isRefused && !hasStreams ? { connection: 'close' } : {}
  outgoing.writeHead(status, { ...headers, 'content-length': body?.length ?? 0, ...close })
  outgoing.end(body)
  const { stream } = outgoing as unknown as Http2ServerResponse
  if (isRefused && hasStreams) setTimeout(() => stream.destroy(), REFUSED_MS).unref()
}
