import PQueue from 'p-queue'
import { type History, readHistory } from './capture/history.ts'
import { defaultLimits } from './central-options.ts'
import { Courier, type Head, type Progress, type RunResult, type SynchronizeOptions } from './courier.ts'
import { TillsyncError } from './errors.ts'
import type { Events, RegisterEvents } from './events.ts'
import { MailCourier } from './mail-courier.ts'
import { readState, writeState } from './migrate.ts'
import type { RegisterName } from './model.ts'
import type { AudienceSubscriber } from './ports.ts'
import { RegisterSource, type RegisterSourceOptions } from './register-source.ts'
import { checkPullToken, type Mailed, type Push, type Served } from './transfer-options.ts'
import { askHost } from './transport/abortable.ts'
import { answerCentral } from './transport/answer.ts'
import { Correspondence, type Saying, type SayingBook } from './transport/correspondence.ts'
import { hashToken, isToken } from './transport/credentials.ts'
import { type Asking, push } from './transport/exchange.ts'
import { Gate, type Refusal } from './transport/gate.ts'
import type { HttpAnswer, HttpRequest } from './transport/http-request.ts'
import { type HttpServer, serve } from './transport/http-server.ts'
import { CENTRAL, type Peer, readPeer } from './transport/peers.ts'
import { type Exchanged, Publisher } from './transport/publisher.ts'
import type { RequestSource } from './transport/source.ts'
import { together } from './work.ts'

export interface RegisterTransferOptions extends RegisterSourceOptions {
  readonly events: Events<RegisterEvents>
  /** Undefined where the register only captures. */
  readonly transfer: Push | Mailed | Served | undefined
  /** Where the register subscribes to what central publishes. */
  readonly audiences: AudienceSubscriber | undefined
  /** Open and installed, or it throws. */
  ready(): Promise<void>
}

/** By this key it is kept which messages may be answered yet. */
const SAYINGS = 'sayings'
/** Who asks for more at the same time is no central. */
const WAITING = 16
/** How long central waits for what is touched to be sealed; what is not by then goes with a later run. */
const SEAL_MS = 1_000

/** The transport side of a register: its exchanges with central, started by it or by central. */
export class RegisterTransfer {
  private readonly options: RegisterTransferOptions
  private readonly source: RegisterSource
  private readonly courier: Courier | MailCourier | undefined
  private readonly server: HttpServer | undefined
  private readonly answers = new PQueue({ concurrency: 1 })
  private pulledFailure: TillsyncError | undefined
  private sealing: Promise<void> | undefined
  private resealing: Promise<void> | undefined
  private stopping = new AbortController()

  constructor(options: RegisterTransferOptions) {
    this.options = options
    this.source = new RegisterSource(options)
    const { transfer } = options
    if (transfer === undefined) return
    const { recordsPerRun, bytesPerRun } = transfer
    const publisher = new Publisher(this.source.within({ recordsPerRun, bytesPerRun, mostCarried: () => this.mostCarried }))
    if ('mailbox' in transfer) this.courier = this.createMailCourier(transfer, publisher)
    else if (transfer.type === 'push') this.courier = this.createCourier(transfer, publisher)
    else this.server = this.createServer(transfer, publisher)
  }

  /** What last failed; undefined as soon as the same goes well again. */
  get failure(): TillsyncError | undefined {
    return this.courier?.failure ?? this.pulledFailure
  }

  start(): void {
    this.stopping = new AbortController()
    this.courier?.start()
  }

  /** Waits for the exchange under way. */
  async stop(): Promise<void> {
    this.stopping.abort()
    await this.courier?.stop()
    await this.answers.onIdle()
    await this.sealing
    await this.resealing
  }

  /** Something is there to be sent. */
  wake(): void {
    this.courier?.wake()
  }

  /** @throws ERR_OPTION where it is not for the register to start an exchange */
  requirePush(): void {
    if (this.courier !== undefined) return
    if (this.server !== undefined) {
      throw new TillsyncError('ERR_OPTION', 'This register is pulled: central starts the exchanges', {
        hint: 'central.synchronize({ location, register }) pulls it now.',
      })
    }
    throw new TillsyncError('ERR_OPTION', 'There is no `transfer` to synchronize by', {
      hint: "transfer: { type: 'push', link: httpLink({ url, token }) }",
    })
  }

  async synchronize(options: SynchronizeOptions<Progress>): Promise<RunResult> {
    this.requirePush()
    return (this.courier as Courier | MailCourier).synchronize(options)
  }

  /** Answers central. Whatever comes, it resolves. */
  async serve(request: HttpRequest, from: RequestSource | undefined): Promise<HttpAnswer> {
    if (this.server !== undefined) return serve(this.server, request, from)
    throw new TillsyncError('ERR_OPTION', 'Nothing is served where the register is not pulled', { hint: "transfer: { type: 'pull', token }" })
  }

  /** What central has said of itself. */
  peer(): Promise<Peer | undefined> {
    return this.source.peer()
  }

  get lastContact(): string | undefined {
    return this.source.lastContact
  }

  history(): Promise<History> {
    return this.source.history()
  }

  /** The largest message that what carries it takes. */
  private get mostCarried(): number {
    const { transfer } = this.options
    return (transfer !== undefined && 'mailbox' in transfer ? transfer.mailbox.maxBytes : undefined) ?? Number.MAX_SAFE_INTEGER
  }

  private asking(transfer: Push | Mailed | Served): Asking | undefined {
    const { audiences } = this.options
    const most = () => Math.min(transfer.maxMessageBytes, this.mostCarried)
    const { records, bytes } = transfer.asks
    if (audiences === undefined) return undefined
    return {
      subscriber: audiences,
      get limits() {
        return { records, bytes, message: most() }
      },
    }
  }

  private createCourier(transfer: Push, publisher: Publisher): Courier {
    const { name, clock, events } = this.options
    const { link, maxMessageBytes } = transfer
    const onUnread = (error: TillsyncError) => events.emit('failed', { error })
    const starter = { register: name, link, maxMessageBytes, onUnread, asking: this.asking(transfer) }
    return new Courier({
      clock,
      transfer,
      events,
      isPending: (until) => this.isPending(until),
      head: async () => {
        const { epoch, head } = await this.history()
        return { epoch, entryNo: head.entryNo }
      },
      pending: () => this.pending(),
      exchange: async (signal, idle) => {
        const exchanged = await push(starter, publisher, signal, idle)
        this.tellFork(exchanged)
        return exchanged
      },
    })
  }

  private createMailCourier(transfer: Mailed, publisher: Publisher): MailCourier {
    const { name, clock, events, ready } = this.options
    const { maxMessageBytes, unanswered } = transfer
    return new MailCourier({
      clock,
      transfer,
      events,
      correspondence: new Correspondence({
        register: name,
        publisher,
        book: this.sayings(),
        maxMessageBytes,
        asking: this.asking(transfer),
        most: unanswered,
      }),
      ready,
      isPending: () => this.isPending(),
      pending: () => this.pending(),
      onExchanged: (exchanged) => this.tellFork(exchanged),
    })
  }

  /** A power cut may undo it: then an answer counts as an old letter, and what it brought is asked for again. */
  private sayings(): SayingBook {
    const { database } = this.options
    return {
      read: async () => JSON.parse((await database.read(() => readState(database, SAYINGS))) ?? '[]') as readonly Saying[],
      write: (sayings) => database.write(() => writeState(SAYINGS, JSON.stringify(sayings)), { lazily: true }),
    }
  }

  private async pending(): Promise<number> {
    return (await this.history()).head.entryNo - ((await this.peer())?.standing?.entryNo ?? 0)
  }

  private createServer(transfer: Served, publisher: Publisher): HttpServer {
    const { token, maxMessageBytes } = transfer
    const { name, clock, events, ready } = this.options
    const onRefused = ({ source, error }: Refusal) => events.emit('refused', { source, error })
    const answerer = {
      publisher,
      maxMessageBytes,
      asking: this.asking(transfer),
      sealed: () => this.sealed(),
      onExchanged: (exchanged: Exchanged) => {
        this.pulledFailure = undefined
        this.tellFork(exchanged)
        events.emit('exchanged', { sent: exchanged.sent })
      },
      onFailed: (error: TillsyncError) => {
        this.pulledFailure = error
        events.emit('failed', { error })
      },
    }
    return {
      from: name,
      maxMessageBytes,
      gate: new Gate({ limits: defaultLimits(), clock, identify: (shown) => this.identify(shown, token), onRefused }),
      onRefused,
      answer: async (_, message) => {
        if (this.answers.size >= WAITING) throw new TillsyncError('ERR_BUSY', 'Other exchanges wait for their turn', { retryable: true })
        return (await this.answers.add(async () => {
          this.requireRunning()
          await ready()
          return answerCentral(answerer, name, message)
        })) as Uint8Array
      },
    }
  }

  private async identify(shown: string, token: Served['token']): Promise<RegisterName | undefined> {
    this.requireRunning()
    const own = typeof token === 'function' ? await askHost(token) : token
    checkPullToken(own)
    return isToken(shown, hashToken(own)) ? this.options.name : undefined
  }

  private requireRunning(): void {
    if (this.stopping.signal.aborted) throw new TillsyncError('ERR_STOPPED', 'The register is stopped', { retryable: true })
  }

  /** What was sold a moment ago is to go with this run. What fails here is said by the sealing in the background. */
  private async sealed(): Promise<void> {
    const { sealer, clock } = this.options
    const waiting = new AbortController()
    this.sealing ??= settled(sealer.seal(this.stopping.signal)).finally(() => {
      this.sealing = undefined
    })
    // It takes long, and a register that is pulled need not be started: what it finds goes with later runs.
    this.resealing ??= settled(this.sealing.then(() => sealer.resealPending(this.stopping.signal))).finally(() => {
      this.resealing = undefined
    })
    await Promise.race([this.sealing, clock.sleep(SEAL_MS, waiting.signal).catch(() => undefined)])
    waiting.abort()
  }

  private tellFork({ branched }: Exchanged): void {
    if (branched) this.options.events.emit('forked', branched)
  }

  private isPending(until?: Head): Promise<boolean> {
    const { database } = this.options
    return database.read(function* () {
      const [peer, history] = yield* together(readPeer(database, CENTRAL), readHistory(database))
      if (history === undefined) return false
      const { entryNo } = until?.epoch === history.epoch ? until : history.head
      // That our history goes on in another epoch is news, be it without an entry.
      return entryNo > (peer?.standing?.entryNo ?? 0) || (peer?.standing && peer.standing.epoch !== history.epoch) === true
    })
  }
}

function settled(work: Promise<unknown>): Promise<void> {
  return work.then(
    () => undefined,
    () => undefined,
  )
}
