import { randomBytes } from 'node:crypto'
import { asTillsyncError, TillsyncError, type TillsyncErrorCode } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import { encodeMessage } from './codec.ts'
import { bearerToken } from './credentials.ts'
import { CONTENT_TYPE } from './http.ts'

/** What the server side of the HTTP link needs. */
export interface HttpServer {
  readonly maxMessageBytes: number
  /** Whose token it is; undefined where it is nobody's. */
  identify(token: string): Promise<RegisterName | undefined>
  answer(register: RegisterName, message: Uint8Array): Promise<Uint8Array>
  onRefused(register: RegisterName | undefined, error: TillsyncError): void
}

const STATUS: Partial<Readonly<Record<TillsyncErrorCode, number>>> = {
  ERR_CREDENTIAL: 401,
  ERR_FOREIGN_REGISTER: 403,
  ERR_TOO_LARGE: 413,
  ERR_MESSAGE: 400,
  ERR_VERSION: 400,
  ERR_BUSY: 503,
  ERR_STOPPED: 503,
}
const RETRY_AFTER_SECONDS = 1

/** Answers a register's request. Whatever comes, it resolves; what it refuses, it refuses before it reads more than it must. */
export async function serve(server: HttpServer, request: Request): Promise<Response> {
  let register: RegisterName | undefined
  try {
    if (request.method !== 'POST') return new Response(null, { status: 405, headers: { allow: 'POST' } })
    refuseLength(Number(request.headers.get('content-length') ?? 0), server.maxMessageBytes)
    register = await identify(server, request)
    const body = await readBody(request, server.maxMessageBytes)
    return respond(200, await server.answer(register, body))
  } catch (thrown) {
    const error = asTillsyncError(thrown, 'ERR_DATABASE', 'The exchange failed')
    server.onRefused(register, error)
    return refuse(error)
  }
}

async function identify(server: HttpServer, request: Request): Promise<RegisterName> {
  const token = bearerToken(request.headers.get('authorization'))
  const register = token === undefined ? undefined : await server.identify(token)
  if (register !== undefined) return register
  throw new TillsyncError('ERR_CREDENTIAL', 'The token is not known', { hint: "A register's token comes from central's registers.add()." })
}

async function readBody(request: Request, maxBytes: number): Promise<Uint8Array> {
  if (request.bodyUsed) throw bodyRead()
  const chunks: Uint8Array[] = []
  let length = 0
  try {
    for await (const chunk of request.body ?? []) {
      length += chunk.length
      refuseLength(length, maxBytes)
      chunks.push(chunk)
    }
  } catch (error) {
    throw asTillsyncError(error, 'ERR_MESSAGE', 'The body did not arrive whole')
  }
  if (length === 0) throw bodyRead()
  return Buffer.concat(chunks)
}

function bodyRead(): TillsyncError {
  return new TillsyncError('ERR_MESSAGE', 'The request has no body, or another middleware has read it', {
    hint: 'Mount central.fetch before any body parser.',
  })
}

function refuseLength(length: number, maxBytes: number): void {
  if (length > maxBytes) throw new TillsyncError('ERR_TOO_LARGE', `The message is over ${maxBytes} bytes`, { context: { maxBytes } })
}

async function refuse(error: TillsyncError): Promise<Response> {
  const status = STATUS[error.code] ?? 500
  const message = await encodeMessage({
    from: 'central',
    id: randomBytes(9).toString('base64url'),
    // What failed inside is central's business; the register learns the code.
    error: {
      code: error.code,
      message: status === 500 ? 'The exchange failed at central' : error.message.slice(0, 2_000),
      retryable: error.retryable || status >= 500,
    },
  })
  const response = respond(status, message)
  if (status === 503) response.headers.set('retry-after', String(RETRY_AFTER_SECONDS))
  return response
}

function respond(status: number, body: Uint8Array): Response {
  return new Response(body as Uint8Array<ArrayBuffer>, { status, headers: { 'content-type': CONTENT_TYPE } })
}
