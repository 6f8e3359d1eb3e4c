import { randomBytes } from 'node:crypto'
import { asTillsyncError, TillsyncError, type TillsyncErrorCode } from '../errors.ts'
import type { RegisterName, Takes } from '../model.ts'
import type { Proof } from '../ports.ts'
import { readBody, refuseLength } from './body.ts'
import { encodeMessage } from './codec.ts'
import type { Admission, Gate, Refusal } from './gate.ts'
import { CONTENT_TYPE } from './http-client.ts'
import type { HttpAnswer, HttpRequest } from './http-request.ts'
import type { Message } from './message.ts'
import { type RequestSource, Voucher } from './source.ts'

/** What the server side of the HTTP link needs. */
export interface HttpServer {
  /** As whom it speaks. */
  readonly from: Message['from']
  readonly maxMessageBytes: number
  /** What a refusal says of it, so that the other side can keep to it. */
  readonly takes?: Takes | undefined
  readonly gate: Gate
  /** @throws ERR_CREDENTIAL where the proof does not hold any more */
  answer(register: RegisterName, message: Uint8Array, source: string | undefined, proof: Proof): Promise<Uint8Array>
  onRefused(refusal: Refusal): void
}

const STATUS: Partial<Readonly<Record<TillsyncErrorCode, number>>> = {
  ERR_CREDENTIAL: 401,
  ERR_FOREIGN_REGISTER: 403,
  ERR_LOCKED_OUT: 429,
  ERR_RATE_LIMIT: 429,
  ERR_TOO_LARGE: 413,
  ERR_MESSAGE: 400,
  ERR_VERSION: 400,
  ERR_BUSY: 503,
  ERR_STOPPED: 503,
}
const RETRY_AFTER_MS = 1_000

/** Answers the other side's request. Whatever comes, it resolves; what it refuses, it refuses before it reads more than it must. */
export async function serve(server: HttpServer, request: HttpRequest, from: RequestSource | undefined): Promise<HttpAnswer> {
  const source = sourceOf(from)
  let admission: Admission | undefined
  try {
    if (request.method !== 'POST') return { status: 405, headers: { allow: 'POST' }, body: null }
    const credential = from instanceof Voucher ? from : request.header('authorization')
    admission = await server.gate.admit(credential, source)
    refuseLength(Number(request.header('content-length') ?? 0), server.maxMessageBytes)
    if (request.isRead) throw bodyRead()
    const body = await readBody(request.body, server.maxMessageBytes)
    if (body.length === 0) throw bodyRead()
    const answer = await answerTo(server, admission, body, source)
    server.gate.proven(admission)
    return respond(200, answer)
  } catch (thrown) {
    const error = asTillsyncError(thrown, 'ERR_DATABASE', 'The exchange failed')
    const register = admission?.register
    if (admission) server.gate.refused(admission, error)
    // Who is held off is said by the gate, once.
    if (STATUS[error.code] !== 429) server.onRefused({ register, source, error })
    return refuse(server, error)
  }
}

async function answerTo({ gate, answer }: HttpServer, admission: Admission, body: Uint8Array, source: string | undefined): Promise<Uint8Array> {
  const { register, proof } = admission
  try {
    return await answer(register, body, source, proof)
  } catch (thrown) {
    if (!(thrown instanceof TillsyncError) || thrown.code !== 'ERR_CREDENTIAL' || !(await gate.isStill(admission))) throw thrown
    return answer(register, body, source, proof)
  }
}

/** Some servers pass a second argument of their own to what they mount. */
function sourceOf(from: RequestSource | undefined): string | undefined {
  return typeof from?.source === 'string' && from.source !== '' ? from.source : undefined
}

function bodyRead(): TillsyncError {
  return new TillsyncError('ERR_MESSAGE', 'The request has no body, or another middleware has read it', {
    hint: 'Mount `fetch` before any body parser.',
  })
}

async function refuse({ from, takes }: HttpServer, error: TillsyncError): Promise<HttpAnswer> {
  const status = STATUS[error.code] ?? 500
  const message = await encodeMessage({
    from,
    id: randomBytes(9).toString('base64url'),
    ...(error.code === 'ERR_TOO_LARGE' && { takes }),
    // What failed inside is this side's business; the other one learns the code.
    error: {
      code: error.code,
      message: status === 500 ? `The exchange failed at ${from === 'central' ? from : 'the register'}` : error.message.slice(0, 2_000),
      retryable: error.retryable || status >= 500,
    },
  })
  if (status !== 503 && status !== 429) return respond(status, message)
  const retryAfterMs = Number(error.context.retryAfterMs ?? RETRY_AFTER_MS)
  return respond(status, message, { 'retry-after': String(Math.ceil(retryAfterMs / 1_000)) })
}

function respond(status: number, body: Uint8Array, headers: Readonly<Record<string, string>> = {}): HttpAnswer {
  return { status, headers: { 'content-type': CONTENT_TYPE, ...headers }, body }
}
