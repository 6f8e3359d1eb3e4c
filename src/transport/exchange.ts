import { randomBytes } from 'node:crypto'
import { TillsyncError, type TillsyncErrorCode } from '../errors.ts'
import { type DocumentName, type Point, type Publication, type RegisterName, START, type Standing, type Subscription } from '../model.ts'
import type { Link } from '../ports.ts'
import { decodeMessage, encodeMessage } from './codec.ts'
import type { Message } from './message.ts'
import { judge, type Known, pointOf, type State } from './session.ts'

/** What an exchange needs of the register that starts it. */
export interface Sender {
  readonly from: RegisterName
  readonly link: Link
  readonly maxMessageBytes: number
  known(): Promise<Known>
  /** Our digests at these numbers, where there are any. */
  digestsAt(entryNos: readonly number[]): Promise<ReadonlyMap<number, string>>
  /** The next batch after a point of our stream, packed. */
  read(epoch: string, after: Point): Promise<PackedBatch | undefined>
  /** Begins to read what will most likely be wanted next, while the answer is on its way. */
  readAhead(epoch: string, after: Point): void
  /** Where central stood when it last said so. */
  standing(): Promise<Standing | undefined>
  heard(standing: Standing | undefined): Promise<void>
  /** Goes on behind a common point, in a new epoch, with `anew` sealing all that is published again. */
  branch(known: Known, from: Standing, common: Point, anew: boolean): Promise<void>
  /** Documents that central wants to have once more. */
  sealAgain(documents: readonly DocumentName[]): Promise<void>
}

/** A batch ready to be sent, and where it ends. */
export interface PackedBatch {
  readonly through: Point
  readonly bytes: Uint8Array
}

export interface Exchanged {
  /** How many entries central acknowledged beyond what it had acknowledged before. */
  readonly sent: number
  /** Whether central's standing is another than the one we knew, be it further back. */
  readonly moved: boolean
  /** Whether something is under way that the next exchange goes on with, though there be no entry to send. */
  readonly unfinished: boolean
  /** Where our history and central's parted, if that was found now. */
  readonly branched?: { readonly common: Point; readonly anew: boolean } | undefined
}

/** A register's exchanges with central, one after another. What it has in mind is lost without harm: the next answer says it again. */
export class Exchanges {
  private readonly sender: Sender
  private state: State = { kind: 'sending' }
  private readonly asked = new Set<string>()

  constructor(sender: Sender) {
    this.sender = sender
  }

  /**
   * One message to central and one back: the next batch after what central has acknowledged, and its new standing.
   *
   * @throws ERR_LINK (retryable), ERR_FORKED, ERR_CLONED, and what central refuses with
   */
  async next(signal: AbortSignal): Promise<Exchanged> {
    const { sender } = this
    const [known, standing] = [await sender.known(), await sender.standing()]
    const publish = publicationOf(this.state, known, standing)
    const after = publish.start ?? publish.parent ?? standing ?? START
    // What comes next may be pruned; then central's word says how to go on.
    const isReady = this.state.kind === 'sending' && after.entryNo + 1 >= known.first
    const batch = isReady ? await sender.read(known.epoch, after) : undefined
    const id = randomBytes(9).toString('base64url')
    const bytes = await encodeMessage({ from: sender.from, id, publish, ...(batch && { batch: batch.bytes }) })
    const answered = sender.link.exchange(bytes, { signal })
    if (batch) sender.readAhead(known.epoch, batch.through)
    const answer = await decodeMessage(await answered, sender.maxMessageBytes)
    if (answer.answers !== id) {
      // A refusal that came before the message was read answers none.
      if (answer.error) throw refusal(answer.error)
      throw new TillsyncError('ERR_MESSAGE', 'The answer belongs to another message', { retryable: true })
    }
    const exchanged = answer.subscribe === undefined ? NOTHING : await this.settle(known, standing, answer.subscribe)
    // Central was elsewhere than we knew: what it said puts the next batch right.
    if (answer.error && !(answer.error.code === 'ERR_NOT_NEXT' && exchanged.moved)) throw refusal(answer.error)
    return exchanged
  }

  private async settle(known: Known, before: Standing | undefined, word: Subscription): Promise<Exchanged> {
    const { sender } = this
    const digests = await sender.digestsAt(numbersIn(word))
    // What was acknowledged is of our history, be the entry pruned by now.
    const digestAt = (entryNo: number) => digests.get(entryNo) ?? (before?.entryNo === entryNo ? before.digest : undefined)
    const verdict = judge(this.state, known, word, digestAt)
    this.state = { kind: 'sending' }
    switch (verdict.kind) {
      case 'follow': {
        await this.sealAgain(word.again ?? [])
        const { standing } = verdict
        await sender.heard(standing)
        const moved = (standing?.entryNo ?? 0) - (before?.entryNo ?? 0)
        return { sent: Math.max(0, moved), moved: moved !== 0 || standing?.epoch !== before?.epoch, unfinished: false }
      }
      case 'seek':
        this.state = { kind: 'seeking', search: verdict.search }
        return UNFINISHED
      case 'branch': {
        const { from, common, epoch, anew } = verdict
        if (epoch) await sender.branch(known, from, common, anew)
        await sender.heard({ epoch: from.epoch, ...pointOf(common) })
        return { ...UNFINISHED, branched: { common, anew } }
      }
      case 'cloned':
        this.state = verdict
        // Central is told before anything else is.
        return UNFINISHED
      case 'stranger':
        throw new TillsyncError(
          'ERR_FORKED',
          'Central knows another history by the name of this register, with which this database has nothing in common',
          {
            hint: 'Was this database set up anew? Then say so at central: registers.reset(). Nothing is sent until then; nothing is lost.',
            context: { entryNo: word.standing?.entryNo },
          },
        )
    }
  }

  /** Each once: it is asked for again until it has arrived. */
  private async sealAgain(documents: readonly DocumentName[]): Promise<void> {
    const fresh = documents.filter(({ table, recordId }) => !this.asked.has(`${table}\n${recordId}`))
    if (fresh.length > 0) await this.sender.sealAgain(fresh)
    this.asked.clear()
    for (const { table, recordId } of documents) this.asked.add(`${table}\n${recordId}`)
  }
}

const NOTHING: Exchanged = { sent: 0, moved: false, unfinished: false }
const UNFINISHED: Exchanged = { sent: 0, moved: true, unfinished: true }

function publicationOf(state: State, known: Known, standing: Standing | undefined): Publication {
  const { epoch, head, first, branch } = known
  const publication: Publication = { epoch, head: head.entryNo }
  if (state.kind === 'cloned') return { ...publication, cloned: true }
  if (state.kind === 'seeking') return { ...publication, seek: [state.search.low.entryNo, state.search.high] }
  if (standing === undefined || standing.epoch === epoch) return publication
  const parent = pointOf(standing)
  return { ...publication, parent, ...(standing.entryNo + 1 < first && branch?.start && { start: branch.start }) }
}

function numbersIn({ standing, superseded, points }: Subscription): readonly number[] {
  return [standing, superseded, ...(points ?? [])].flatMap((point) => (point ? [point.entryNo] : []))
}

function refusal(error: NonNullable<Message['error']>): TillsyncError {
  return new TillsyncError(error.code as TillsyncErrorCode, `Central: ${error.message}`, { retryable: error.retryable })
}
