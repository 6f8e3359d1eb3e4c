import { answerComparison } from './capture/compare.ts'
import { digestsAt, endsAt } from './capture/digests.ts'
import { branchOff, claimHistory, type History, readHistory } from './capture/history.ts'
import { readTakes, roomIn, writeTakes } from './capture/limits.ts'
import { parkedNames } from './capture/parked.ts'
import type { Sealer } from './capture/sealer.ts'
import { readBatch } from './capture/stream.ts'
import { TillsyncError } from './errors.ts'
import type { Point, RegisterName, Standing, Takes } from './model.ts'
import type { CapturingDatabase, Clock, RegisterDatabase } from './ports.ts'
import { takeBack } from './register-returns.ts'
import { BatchReader } from './transport/batch-reader.ts'
import { CENTRAL, type Peer, readPeer, writePeer } from './transport/peers.ts'
import type { Outlook, Source } from './transport/publisher.ts'
import { together } from './work.ts'

export interface RegisterSourceOptions {
  readonly name: RegisterName
  readonly database: CapturingDatabase
  readonly clock: Clock
  readonly sealer: Sealer
  /** Whether what central publishes may remove documents of a table. */
  isRemovedFrom(table: string): boolean
  /** All may be to be sealed anew. */
  onReseal(): void
}

/** How much of the stream goes into a message. */
export interface SourceLimits {
  readonly recordsPerRun: number
  readonly bytesPerRun: number
  /** The largest message that what carries it takes, as it is known now. */
  mostCarried(): number
}

/** How often it is written down that central was reached, where nothing else is new. */
const CONTACT_EVERY_MS = 60_000
/** How much of what central takes an answer of a comparison may be: there is room for it beside a batch. */
const COMPARED_SHARE = 1 / 8
const MOST_COMPARED_BYTES = 262_144

/** What a register's side of its exchanges reads and writes in its database. */
export class RegisterSource {
  private readonly options: RegisterSourceOptions
  /** What central takes at most, as it last said. */
  private takes: Takes | undefined
  /** How far our stream is known to be on the disk; its history is noted as this register's. */
  private settled: { readonly epoch: string; readonly through: number } | undefined
  /** When central was last heard of in this process: what is written down may be a minute older. */
  lastContact: string | undefined

  constructor(options: RegisterSourceOptions) {
    this.options = options
  }

  /** What central has said of itself. */
  peer(): Promise<Peer | undefined> {
    const { database } = this.options
    return database.read(() => readPeer(database, CENTRAL), { loosely: true })
  }

  async history(): Promise<History> {
    return (await this.outlook()).known
  }

  private async outlook(): Promise<Outlook & { readonly known: History }> {
    const { database } = this.options
    const [known, peer] = await database.read(() => together(readHistory(database), readPeer(database, CENTRAL)))
    if (known !== undefined) return { known, standing: peer?.standing }
    throw new TillsyncError('ERR_NOT_INSTALLED', "The library's tables hold no epoch", { hint: 'Call install().' })
  }

  /** As a publisher needs it. */
  within({ recordsPerRun, bytesPerRun, mostCarried }: SourceLimits): Source {
    const { database, sealer } = this.options
    const carried = ({ message, document }: Takes): Takes => ({ message: Math.min(message, mostCarried()), document })
    const reader = new BatchReader(async (epoch, after, base) => {
      const plan = await sealer.planning.planned()
      return database.read(function* () {
        const [digests, takes] = yield* together(
          digestsAt(database, [after.entryNo]),
          readTakes(database),
          // What others have sealed by other rules hangs together otherwise.
          sealer.planning.requireInForce(),
        )
        // Where somebody has put a backup in the database's place while we run, what central has is not what our entries go on from: its next word says so.
        const own = digests.get(after.entryNo)
        if (own !== undefined && own !== after.digest) return undefined
        const bytes = Math.min(bytesPerRun, roomIn(carried(takes)))
        return yield* readBatch(database, plan, epoch, after, { records: recordsPerRun, bytes }, base)
      })
    })
    return {
      outlook: () => this.outlook(),
      settle: (epoch, through) => this.settle(epoch, through),
      endsAt: (points) => database.read(() => endsAt(database, points)),
      has: async ({ entryNo, digest }) => (await database.read(() => digestsAt(database, [entryNo]))).get(entryNo) === digest,
      read: (epoch, after, base) => reader.read(epoch, after, base),
      readAhead: (epoch, after, base) => reader.readAhead(epoch, after, base),
      learn: async (takes) => {
        const isNew = await this.learn(carried(takes))
        if (isNew) reader.forget()
        return isNew
      },
      heard: (standing) => this.heard(standing),
      branch: (known, from, common, anew) => this.branch(known as History, from, common, anew),
      parked: () => database.read(() => parkedNames(database), { loosely: true }),
      sealAgain: (documents) => sealer.sealAgain(documents),
      takeBack: (document) => takeBack(database as RegisterDatabase, sealer, this.options.name, document),
      compare: async (epoch, question) => {
        const { message } = await database.read(() => readTakes(database))
        const bytes = Math.min(MOST_COMPARED_BYTES, Math.floor(message * COMPARED_SHARE))
        return answerComparison(database, await sealer.planning.kept(), epoch, question, { bytes, both: this.options.isRemovedFrom(question.table) })
      },
    }
  }

  private async settle(epoch: string, through: number): Promise<void> {
    const { settled } = this
    const { database, name } = this.options
    if (settled?.epoch === epoch && through <= settled.through) return
    if (settled?.epoch !== epoch) {
      await database.write(() => claimHistory(database, name))
      // It may stand in tables that were made anew.
      this.takes = undefined
    }
    await database.settle()
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
    const now = clock.now()
    const contactAt = new Date(now).toISOString()
    this.lastContact = contactAt
    const known = await this.peer()
    const isKnown = known?.standing?.epoch === standing?.epoch && known?.standing?.entryNo === standing?.entryNo
    if (known !== undefined && isKnown && Math.abs(now - Date.parse(known.contactAt)) < CONTACT_EVERY_MS) return
    await database.write(() => writePeer(CENTRAL, { standing, contactAt }), { lazily: true })
  }

  private async branch(known: History, from: Standing, common: Point, anew: boolean): Promise<void> {
    const { database, sealer, onReseal } = this.options
    const tables = [...(await sealer.planning.planned()).roots.keys()]
    const work = function* () {
      yield* sealer.planning.requireInForce()
      yield* branchOff(database, known, { from, common, anew }, tables)
    }
    await database.write(work, { alone: true })
    onReseal()
  }
}
