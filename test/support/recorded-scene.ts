import type { Test } from 'tap'
import type { RegisterOptions } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { CONTENT_TYPE } from '../../src/transport/http-client.ts'
import type { Message } from '../../src/transport/message.ts'
import { VERSION } from '../../src/version.ts'
import type { Conversation, RecordedStep } from '../fixtures/wire/recording.ts'
import type { Till } from '../fixtures/wire/till.ts'
import { Drawn } from './recorded.ts'

type Transfer = NonNullable<RegisterOptions<unknown>['transfer']>

/** As the registers of all recordings have it. */
export const RECORDS_PER_RUN = 6
export const TOKEN = 'x'.repeat(43)

/** Where a conversation has come to, and what the register says in it. */
export class Scene {
  readonly drawn = new Drawn()
  at = 0
  private readonly t: Test
  private readonly talk: Conversation
  private readonly more: readonly string[]

  /** @param more what today's register says of that one of then could not */
  constructor(t: Test, talk: Conversation, more: readonly string[] = []) {
    this.t = t
    this.talk = talk
    this.more = more
  }

  get step(): RecordedStep | undefined {
    return this.talk.steps[this.at]
  }

  private get isKnown(): boolean {
    return this.talk.steps.slice(0, this.at).some(({ from, message }) => from === 'central' && (message as Message).subscribe?.standing !== undefined)
  }

  /** The register says it; another one than was recorded fails. */
  async says(bytes: Uint8Array): Promise<void> {
    const { step, t } = this
    t.equal(step?.from, 'register', 'it is its turn')
    if (step === undefined) throw new Error('Nothing more was said')
    const { said, was } = await this.drawn.compared(bytes, step.bytes)
    for (const field of this.more) {
      t.ok(said[field], `it says ${field}`)
      delete said[field]
    }
    const { publish } = said as { publish?: { version?: string } }
    if (publish !== undefined && !(was.publish as typeof publish)?.version) {
      t.equal(
        publish.version,
        said.batch === undefined || !this.isKnown ? VERSION : undefined,
        'it says its version where it sends no batch, or central has not said where it stands, as those of then did not',
      )
      delete publish.version
    }
    t.same(said, was, `${this.talk.name} ${this.at + 1}: ${step.shows}`)
    this.at++
  }

  /** What central says then. */
  heard(): Uint8Array {
    const { step } = this
    if (step?.from !== 'central') throw new Error('Central has nothing to say')
    this.at++
    return this.drawn.asToday(step.bytes)
  }
}

/** A register that starts the exchanges. */
export function pushed(scene: Scene): Transfer {
  const fetch = async (_url: unknown, init?: RequestInit) => {
    await scene.says(new Uint8Array(init?.body as Uint8Array))
    const status = scene.step?.status ?? 200
    return new Response(scene.heard() as Uint8Array<ArrayBuffer>, { status, headers: { 'content-type': CONTENT_TYPE } })
  }
  return { type: 'push', link: httpLink({ url: 'http://central/', token: TOKEN, fetch }), recordsPerRun: RECORDS_PER_RUN }
}

/** A register that is pulled answers what central says. */
export async function answer(scene: Scene, till: Till): Promise<void> {
  const headers = { authorization: `Bearer ${TOKEN}`, 'content-type': CONTENT_TYPE }
  const response = await till.replica.fetch(new Request('http://till/', { method: 'POST', headers, body: scene.heard() as Uint8Array<ArrayBuffer> }))
  await scene.says(new Uint8Array(await response.arrayBuffer()))
}
