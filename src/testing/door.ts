import type { RequestSource } from '../transport/source.ts'
import type { Answering } from './link-options.ts'

/** How the side behind a link behaves. */
export type Manner =
  | 'answers'
  /** The message arrives at nobody, and no answer comes: a connection that is half open. */
  | 'silent'
  /** The message is taken, and no answer comes. */
  | 'mute'
  /** It breaks off. */
  | 'breaks'
  /** A proxy or a captive portal answers instead. */
  | 'foreign'
  /** It answers, and half of the answer arrives. */
  | 'cut'

/** Stands behind a link: what the link under test reaches, as it behaves just now. */
export class Door implements Answering {
  manner: Manner = 'answers'
  /** What arrived last, and what was answered to it. */
  taken: Uint8Array = new Uint8Array()
  given: Uint8Array = new Uint8Array()
  private readonly behind: () => Answering
  private readonly waiting = new Set<(response: Response) => void>()

  constructor(behind: () => Answering) {
    this.behind = behind
  }

  readonly fetch = async (request: Request, from?: RequestSource): Promise<Response> => {
    const { manner } = this
    if (manner === 'silent') return this.never()
    if (manner === 'breaks') throw new Error('The connection was reset')
    if (manner === 'foreign') return new Response('<html>502 Bad Gateway</html>', { status: 502, headers: { 'content-type': 'text/html' } })
    const body = new Uint8Array(await request.arrayBuffer())
    const response = await this.behind().fetch(new Request(request.url, { method: request.method, headers: request.headers, body }), from)
    if (manner === 'mute') return this.never()
    const answer = new Uint8Array(await response.arrayBuffer())
    this.taken = body
    this.given = answer
    const { status, headers } = response
    return new Response(manner === 'cut' ? answer.slice(0, answer.length >> 1) : answer, { status, headers })
  }

  /** Ends all waits, so that nothing is left of a test. */
  close(): void {
    for (const answer of this.waiting) answer(new Response(null, { status: 503 }))
    this.waiting.clear()
  }

  private never(): Promise<Response> {
    return new Promise((resolve) => void this.waiting.add(resolve))
  }
}
