import { CredentialBook } from './credential-book.ts'
import type { TillsyncError } from './errors.ts'
import type { CentralEvents, Events } from './events.ts'
import type { RegisterName, Takes } from './model.ts'
import type { ApplyingDatabase, AudiencePublisher, CentralMailbox, Clock, Proof, Subscriber } from './ports.ts'
import { Postman } from './postman.ts'
import { answer } from './transport/answer.ts'
import { Gate, type GateOptions, type Refusal } from './transport/gate.ts'
import type { Holds } from './transport/holds.ts'
import type { HttpAnswer, HttpRequest } from './transport/http-request.ts'
import { type HttpServer, serve } from './transport/http-server.ts'
import type { RequestSource } from './transport/source.ts'

export interface CentralDoorsOptions {
  readonly database: ApplyingDatabase
  readonly clock: Clock
  readonly events: Events<CentralEvents>
  readonly subscriber: Subscriber
  readonly audiences: AudiencePublisher | undefined
  readonly holds: Holds
  readonly limits: GateOptions['limits']
  readonly takes: Takes
  readonly mailboxes: readonly CentralMailbox[]
  readonly lanes: number
  /** Central is open, or it throws. */
  ready(): Promise<void>
  /** A stop waits for it. */
  awaited<T>(work: Promise<T>): Promise<T>
}

/** Where a letter comes from. */
const MAILBOX = Symbol('mailbox')

/** By what messages of registers reach central, requests and letters: credentials are looked at before anything else is. */
export class CentralDoors {
  readonly postman: Postman
  private readonly options: CentralDoorsOptions
  private readonly server: HttpServer

  constructor(options: CentralDoorsOptions) {
    this.options = options
    const { database, clock, events, limits, takes, mailboxes, lanes, ready } = options
    const credentials = new CredentialBook(database, clock)
    const identify = async (token: string) => {
      await ready()
      return credentials.identify(token)
    }
    const isKnown = async (register: RegisterName) => {
      await ready()
      return credentials.isKnown(register)
    }
    const onRefused = (refusal: Refusal) => events.emit('refused', refusal)
    const gate = new Gate({ limits, clock, identify, isKnown, isProvenLater: true, onRefused })
    this.server = {
      from: 'central',
      maxMessageBytes: takes.message,
      takes,
      gate,
      onRefused,
      answer: (register, message, source, proof) => this.answerTo(register, message, takes, source, proof),
    }
    this.postman = new Postman({
      mailboxes,
      clock,
      events,
      gate,
      takes,
      lanes,
      answer: (register, message, carried, proof) => this.answerTo(register, message, carried, MAILBOX, proof),
    })
  }

  serve(request: HttpRequest, from: RequestSource | undefined): Promise<HttpAnswer> {
    return serve(this.server, request, from)
  }

  private async answerTo(
    register: RegisterName,
    message: Uint8Array,
    takes: Takes,
    source: string | typeof MAILBOX | undefined,
    proof: Proof,
  ): Promise<Uint8Array> {
    const { subscriber, audiences, holds, ready, awaited, events } = this.options
    const onRefused = (register: RegisterName, error: TillsyncError) => {
      // Letters that come before those that they follow are no news: the register sends them again.
      if (source === MAILBOX && error.code === 'ERR_NOT_NEXT') return
      events.emit('refused', { register, source: source === MAILBOX ? undefined : source, error })
    }
    // What takes long to arrive may come behind a stop.
    await ready()
    return awaited(answer({ subscriber, takes, holds, audiences, proof, ready, onRefused }, register, message))
  }
}
