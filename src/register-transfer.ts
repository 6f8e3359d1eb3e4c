import PQueue from 'p-queue'
import { answerComparison } from './capture/compare.ts'
import { branchOff, type History, readHistory } from './capture/history.ts'
import { readTakes, roomIn, writeTakes } from './capture/limits.ts'
import { parkedNames } from './capture/parked.ts'
import { digestsAt } from './capture/prune.ts'
import type { Sealer } from './capture/sealer.ts'
import { readBatch } from './capture/stream.ts'
import { Courier, type Progress, type RunResult, type SynchronizeOptions } from './courier.ts'
import { TillsyncError } from './errors.ts'
import type { Events, RegisterEvents } from './events.ts'
import type { Point, RegisterName, Standing, Takes } from './model.ts'
import { checkPullToken, defaultLimits, type Push, type Served } from './options.ts'
import type { AudienceSubscriber, CapturingDatabase, Clock } from './ports.ts'
import { answerCentral } from './transport/answer.ts'
import { BatchReader } from './transport/batch-reader.ts'
import { hashToken, isToken } from './transport/credentials.ts'
import { type Asking, push } from './transport/exchange.ts'
import { Gate, type Refusal } from './transport/gate.ts'
import { type HttpServer, serve } from './transport/http-server.ts'
import { CENTRAL, type Peer, readPeer, writePeer } from './transport/peers.ts'
import { type Exchanged, Publisher } from './transport/publisher.ts'
import type { RequestSource } from './transport/source.ts'

export interface RegisterTransferOptions {
  readonly name: RegisterName
  readonly database: CapturingDatabase
  readonly clock: Clock
  readonly events: Events<RegisterEvents>
  readonly sealer: Sealer
  /** Undefined where the register only captures. */
  readonly transfer: Push | Served | undefined
  /** Where the register subscribes to what central publishes. */
  readonly audiences: AudienceSubscriber | undefined
  /** Whether what central publishes may remove documents of a table. */
  isRemovedFrom(table: string): boolean
  /** Open and installed, or it throws. */
  ready(): Promise<void>
  /** All may be to be sealed anew. */
  onReseal(): void
}

/** How often it is written down that central was reached, where nothing else is new. */
const CONTACT_EVERY_MS = 60_000
/** Who asks for more at the same time is no central. */
const WAITING = 16
/** How much of what central takes an answer of a comparison may be: there is room for it beside a batch. */
const COMPARED_SHARE = 1 / 8
const MOST_COMPARED_BYTES = 262_144
/** How long central waits for what is touched to be sealed; what is not by then goes with a later run. */
const SEAL_MS = 1_000

/** The transport side of a register: its exchanges with central, started by it or by central. */
export class RegisterTransfer {
  private readonly options: RegisterTransferOptions
  private readonly courier: Courier | undefined
  private readonly server: HttpServer | undefined
  private readonly answers = new PQueue({ concurrency: 1 })
  private pulledFailure: TillsyncError | undefined
  private sealing: Promise<boolean> | undefined
  /** What central takes at most, as it last said. */
  private takes: Takes | undefined
  /** How far our stream is known to be on the disk. */
  private settled: { readonly epoch: string; readonly through: number } | undefined
  private stopping = new AbortController()

  constructor(options: RegisterTransferOptions) {
    this.options = options
    const { transfer } = options
    if (transfer === undefined) return
    const publisher = this.createPublisher(transfer)
    if (transfer.type === 'push') this.courier = this.createCourier(transfer, publisher)
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
    return (this.courier as Courier).synchronize(options)
  }

  /** Answers central. Whatever comes, it resolves. */
  async fetch(request: Request, from: RequestSource | undefined): Promise<Response> {
    if (this.server !== undefined) return serve(this.server, request, from)
    throw new TillsyncError('ERR_OPTION', 'Nothing is served where the register is not pulled', { hint: "transfer: { type: 'pull', token }" })
  }

  /** What central has said of itself. */
  peer(): Promise<Peer | undefined> {
    const { database } = this.options
    return database.read(() => readPeer(database, CENTRAL))
  }

  async history(): Promise<History> {
    const { database } = this.options
    const history = await database.read(() => readHistory(database))
    if (history !== undefined) return history
    throw new TillsyncError('ERR_NOT_INSTALLED', "The library's tables hold no epoch", { hint: 'Call install().' })
  }

  private createPublisher({ recordsPerRun, bytesPerRun }: Push | Served): Publisher {
    const { database, sealer } = this.options
    const reader = new BatchReader(async (epoch, after, base) => {
      const plan = await sealer.planned()
      return database.read(function* () {
        const bytes = Math.min(bytesPerRun, roomIn(yield* readTakes(database)))
        return yield* readBatch(database, plan, epoch, after, { records: recordsPerRun, bytes }, base)
      })
    })
    return new Publisher({
      known: () => this.history(),
      settle: (epoch, through) => this.settle(epoch, through),
      digestsAt: (entryNos) => database.read(() => digestsAt(database, entryNos)),
      read: (epoch, after, base) => reader.read(epoch, after, base),
      readAhead: (epoch, after, base) => reader.readAhead(epoch, after, base),
      learn: async (takes) => {
        const isNew = await this.learn(takes)
        if (isNew) reader.forget()
        return isNew
      },
      standing: async () => (await this.peer())?.standing,
      heard: (standing) => this.heard(standing),
      branch: (known, from, common, anew) => this.branch(known as History, from, common, anew),
      parked: () => database.read(() => parkedNames(database)),
      sealAgain: (documents) => sealer.sealAgain(documents),
      compare: async (epoch, question) => {
        const { message } = await database.read(() => readTakes(database))
        const bytes = Math.min(MOST_COMPARED_BYTES, Math.floor(message * COMPARED_SHARE))
        return answerComparison(database, await sealer.kept(), epoch, question, { bytes, both: this.options.isRemovedFrom(question.table) })
      },
    })
  }

  private asking({ recordsPerRun, bytesPerRun, maxMessageBytes }: Push | Served): Asking | undefined {
    const { audiences } = this.options
    return audiences && { subscriber: audiences, limits: { records: recordsPerRun, bytes: bytesPerRun, message: maxMessageBytes } }
  }

  private createCourier(transfer: Push, publisher: Publisher): Courier {
    const { name, clock, events } = this.options
    const starter = { register: name, link: transfer.link, maxMessageBytes: transfer.maxMessageBytes, asking: this.asking(transfer) }
    return new Courier({
      clock,
      transfer,
      events,
      isPending: () => this.isPending(),
      pending: async () => (await this.history()).head.entryNo - ((await this.peer())?.standing?.entryNo ?? 0),
      exchange: async (signal, idle) => {
        const exchanged = await push(starter, publisher, signal, idle)
        this.tellFork(exchanged)
        return exchanged
      },
    })
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
    const own = typeof token === 'function' ? await token() : token
    checkPullToken(own)
    return isToken(shown, hashToken(own)) ? this.options.name : undefined
  }

  private requireRunning(): void {
    if (this.stopping.signal.aborted) throw new TillsyncError('ERR_STOPPED', 'The register is stopped', { retryable: true })
  }

  /** What was sold a moment ago is to go with this run. What fails here is said by the sealing in the background. */
  private async sealed(): Promise<boolean> {
    const { sealer, clock } = this.options
    const waiting = new AbortController()
    this.sealing ??= sealer
      .seal(this.stopping.signal)
      .then(
        ({ entries }) => entries > 0,
        () => false,
      )
      .finally(() => {
        this.sealing = undefined
      })
    const late = clock.sleep(SEAL_MS, waiting.signal).then(
      () => false,
      () => false,
    )
    const sealed = await Promise.race([this.sealing, late])
    waiting.abort()
    return sealed
  }

  private tellFork({ branched }: Exchanged): void {
    if (branched) this.options.events.emit('forked', branched)
  }

  private async settle(epoch: string, through: number): Promise<void> {
    const { settled } = this
    if (settled?.epoch === epoch && through <= settled.through) return
    await this.options.database.settle()
    this.settled = { epoch, through }
  }

  /** Remembers what central takes at most: what is sealed from now on keeps to it. Answers whether it is new. */
  private async learn({ message, document }: Takes): Promise<boolean> {
    const { database } = this.options
    const known = this.takes ?? (await database.read(() => readTakes(database)))
    this.takes = known
    if (known.message === message && known.document === document) return false
    await database.write(() => writeTakes({ message, document }))
    this.takes = { message, document }
    return true
  }

  /** Writes only what is new: central is asked every few seconds, and mostly says the same. */
  private async heard(standing: Standing | undefined): Promise<void> {
    const { database, clock } = this.options
    const known = await this.peer()
    const isKnown = known?.standing?.epoch === standing?.epoch && known?.standing?.entryNo === standing?.entryNo
    if (known !== undefined && isKnown && clock.now() - Date.parse(known.contactAt) < CONTACT_EVERY_MS) return
    await database.write(() => writePeer(CENTRAL, { standing, contactAt: new Date(clock.now()).toISOString() }), { lazily: true })
  }

  private async branch(known: History, from: Standing, common: Point, anew: boolean): Promise<void> {
    const { database, sealer, onReseal } = this.options
    const tables = [...(await sealer.planned()).roots.keys()]
    await database.write(() => branchOff(database, known, { from, common, anew }, tables))
    onReseal()
  }

  private isPending(): Promise<boolean> {
    const { database } = this.options
    return database.read(function* () {
      const peer = yield* readPeer(database, CENTRAL)
      const history = yield* readHistory(database)
      // That our history goes on in another epoch is news, be it without an entry.
      return (
        history !== undefined &&
        (history.head.entryNo > (peer?.standing?.entryNo ?? 0) || (peer?.standing && peer.standing.epoch !== history.epoch) === true)
      )
    })
  }
}
