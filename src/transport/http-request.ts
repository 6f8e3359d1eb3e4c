import type { RequestSource } from './source.ts'

/** A request as it is answered, be it the host's `Request` or one of node:http. */
export interface HttpRequest {
  readonly method: string | undefined
  /** Whether somebody has read the body before. */
  readonly isRead: boolean
  readonly body: AsyncIterable<Uint8Array> | null
  /** By its name in lower case; null where there is none. */
  header(name: string): string | null
}

/** The answer to one. */
export interface HttpAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array | null
}

export type Serve = (request: HttpRequest, from: RequestSource | undefined) => Promise<HttpAnswer>
export type Fetch = (request: Request, from?: RequestSource) => Promise<Response>

/** How functions made by `fetchBy` answer what is no `Request`. */
const serving = new WeakMap<Fetch, Serve>()

/** What hosts mount. */
export function fetchBy(serve: Serve): Fetch {
  const fetch = async (request: Request, from?: RequestSource): Promise<Response> => {
    const { status, headers, body } = await serve(httpRequestOf(request), from)
    return new Response(body as Uint8Array<ArrayBuffer> | null, { status, headers })
  }
  serving.set(fetch, serve)
  return fetch
}

/** For a carrier that has no `Request` by itself: to make one, with its headers, stream and signal, costs more than most answers, and holds kilobytes for as long as one is held back. */
export function servingOf(fetch: Fetch): Serve | undefined {
  return serving.get(fetch)
}

function httpRequestOf(request: Request): HttpRequest {
  return {
    method: request.method,
    get isRead() {
      return request.bodyUsed
    },
    get body() {
      return request.body
    },
    header: (name) => request.headers.get(name),
  }
}
