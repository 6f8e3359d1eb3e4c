import { randomBytes } from 'node:crypto'
import type { ComparisonAnswer, ComparisonQuestion } from '../comparison.ts'
import { TillsyncError } from '../errors.ts'
import { type DocumentName, type Point, type Publication, START, type Standing, type Subscription, type Takes } from '../model.ts'
import { Inquiry } from './inquiry.ts'
import type { Message } from './message.ts'
import { judge, type Known, pointOf, type State } from './session.ts'

/** What a publisher needs of the register whose stream it is. */
export interface Source {
  known(): Promise<Known>
  /** Resolves when our stream up to this entry would survive a power cut, whichever process has sealed it. */
  settle(epoch: string, through: number): Promise<void>
  /** Our digests at these numbers, where there are any. */
  digestsAt(entryNos: readonly number[]): Promise<ReadonlyMap<number, string>>
  /** The next batch after a point of our stream, packed; the next frame of the document that begins at `base`, where that is given. */
  read(epoch: string, after: Point, base: Point | undefined): Promise<PackedBatch | undefined>
  /** Begins to read what will most likely be wanted next, while the other side works. */
  readAhead(epoch: string, after: Point, base: Point | undefined): void
  /** What central takes at most, as it now says. Answers whether that is news. */
  learn(takes: Takes): Promise<boolean>
  /** Where central stood when it last said so. */
  standing(): Promise<Standing | undefined>
  heard(standing: Standing | undefined): Promise<void>
  /** Goes on behind a common point, in a new epoch, with `anew` sealing all that is published again. */
  branch(known: Known, from: Standing, common: Point, anew: boolean): Promise<void>
  /** Documents that can't be read, at most `MOST_PARKED`. */
  parked(): Promise<readonly DocumentName[]>
  /** Documents that central wants to have once more. */
  sealAgain(documents: readonly DocumentName[]): Promise<void>
  /** What of the documents that central asks for was published; undefined where that can't be said just now. */
  compare(epoch: string, question: ComparisonQuestion): Promise<ComparisonAnswer | undefined>
}

/** A batch ready to be sent, and where it ends. */
export interface PackedBatch {
  readonly through: Point
  /** Where the document began that goes on behind it. */
  readonly base: Point | undefined
  readonly bytes: Uint8Array
}

/** What a register says in a message. */
export interface Said {
  readonly id: string
  readonly publish: Publication
  readonly batch?: Uint8Array
}

/** What came of central's word. */
export interface Exchanged {
  /** How many entries central acknowledged beyond what it had acknowledged before. */
  readonly sent: number
  /** How many documents among them central could not apply: they wait there. */
  readonly quarantined: number
  /** Whether central's standing is another than the one we knew, be it further back. */
  readonly moved: boolean
  /** Whether something is under way that the next exchange goes on with, though there be no entry to send. */
  readonly unfinished: boolean
  /** Where our history and central's parted, if that was found now. */
  readonly branched?: { readonly common: Point; readonly anew: boolean } | undefined
}

interface Outlook {
  readonly known: Known
  readonly standing: Standing | undefined
}

/**
 * A register's side of its exchanges with central, one after another, whoever starts them: `say` what comes next, `hear` what central says to
 * it. What it has in mind is lost without harm: central's next word says it again.
 */
export class Publisher {
  private readonly source: Source
  private state: State = { kind: 'sending' }
  private last: (Outlook & { readonly id: string; readonly batch: PackedBatch | undefined }) | undefined
  /** How much central has of the document that comes next, where it comes in frames. */
  private staged: Point | undefined
  /** Central's last word calls for a decision that only an answer to us may bring about. */
  private unsure = false
  private readonly inquiry: Inquiry
  private readonly asked = new Set<string>()

  constructor(source: Source) {
    this.source = source
    this.inquiry = new Inquiry(source)
  }

  /** The id of what was said last. */
  get lastSaid(): string | undefined {
    return this.last?.id
  }

  /** Our publication, and with `batch` the entries after what central has acknowledged. */
  async say(options: { readonly batch: boolean }): Promise<Said> {
    const { known, standing } = await this.look()
    const publish = publicationOf(this.state, known, standing)
    const after = publish.start ?? publish.parent ?? standing ?? START
    // What comes next may be pruned; then central's word says how to go on.
    const isSending = options.batch && !this.unsure && this.state.kind === 'sending' && after.entryNo + 1 >= known.first
    const batch = isSending ? await this.read(known.epoch, after) : undefined
    // After the batch is read: what was parked before the last of its documents was sealed is named with it.
    const parked = await this.source.parked()
    const compared = this.unsure || this.state.kind !== 'sending' ? undefined : await this.inquiry.answer(known.epoch)
    const last = compared?.parts.reduce((most, { entryNo }) => Math.max(most, entryNo), 0) ?? 0
    // Central must never have what our next start has not.
    await this.source.settle(known.epoch, Math.max(known.head.entryNo, batch?.through.entryNo ?? 0, last))
    const id = randomBytes(9).toString('base64url')
    this.last = { id, known, standing, batch }
    return { id, publish: { ...publish, ...(parked.length > 0 && { parked }), ...(compared && { compared }) }, ...(batch && { batch: batch.bytes }) }
  }

  private async read(epoch: string, after: Point): Promise<PackedBatch | undefined> {
    const { staged } = this
    const goesOn = staged !== undefined && staged.entryNo > after.entryNo
    return (goesOn ? await this.source.read(epoch, staged, after) : undefined) ?? this.source.read(epoch, after, undefined)
  }

  /** While what was said is on its way, what comes next is read. */
  readAhead(): void {
    if (this.last?.batch) this.source.readAhead(this.last.known.epoch, this.last.batch.through, this.last.batch.base)
  }

  /** What central takes at most. Answers whether that is news. */
  learn(takes: Takes): Promise<boolean> {
    return this.source.learn(takes)
  }

  /**
   * Settles central's word. One that does not answer what we said last may be an old letter: it moves us to where it stands, and nothing else.
   *
   * @throws ERR_FORKED
   */
  async hear({ answers, subscribe, takes }: Pick<Message, 'answers' | 'subscribe' | 'takes'>): Promise<Exchanged> {
    if (takes) await this.learn(takes)
    if (subscribe === undefined) return NOTHING
    const { last } = this
    const isAnswer = last !== undefined && answers === last.id
    return this.settle(isAnswer ? last : await this.look(), isAnswer ? subscribe : fresh(subscribe), isAnswer)
  }

  private async settle({ known, standing: before }: Outlook, word: Subscription, isAnswer: boolean): Promise<Exchanged> {
    const { source } = this
    const digests = await source.digestsAt(numbersIn(word))
    // What was acknowledged is of our history, be the entry pruned by now.
    const digestAt = (entryNo: number) => digests.get(entryNo) ?? (before?.entryNo === entryNo ? before.digest : undefined)
    const verdict = judge(this.state, known, word, digestAt)
    this.state = { kind: 'sending' }
    this.unsure = !isAnswer && verdict.kind !== 'follow' && verdict.kind !== 'seek'
    if (this.unsure) return UNFINISHED
    switch (verdict.kind) {
      case 'follow': {
        await this.sealAgain(word.again ?? [])
        const { standing } = verdict
        await source.heard(standing)
        const moved = (standing?.entryNo ?? 0) - (before?.entryNo ?? 0)
        const isStaged = this.stage(word, digestAt) && moved === 0
        const isAsked = this.inquiry.hear(word.compare)
        return {
          sent: Math.max(0, moved),
          quarantined: isAnswer ? (word.quarantined ?? 0) : 0,
          moved: moved !== 0 || isStaged || standing?.epoch !== before?.epoch,
          unfinished: isStaged || isAsked,
        }
      }
      case 'seek':
        this.state = { kind: 'seeking', search: verdict.search }
        return UNFINISHED
      case 'branch': {
        const { from, common, epoch, anew } = verdict
        if (epoch) await source.branch(known, from, common, anew)
        await source.heard({ epoch: from.epoch, ...pointOf(common) })
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

  /** Notes how much central has of a document that comes in frames, if it is of our history. Answers whether that is other than before. */
  private stage({ staged, standing }: Subscription, digestAt: (entryNo: number) => string | undefined): boolean {
    const before = this.staged
    const isOurs = staged !== undefined && staged.entryNo > (standing?.entryNo ?? 0) && digestAt(staged.entryNo) === staged.digest
    this.staged = isOurs ? pointOf(staged) : undefined
    return before?.digest !== this.staged?.digest
  }

  /** Each once: it is asked for again until it has arrived. */
  private async sealAgain(documents: readonly DocumentName[]): Promise<void> {
    const fresh = documents.filter(({ table, recordId }) => !this.asked.has(`${table}\n${recordId}`))
    if (fresh.length > 0) await this.source.sealAgain(fresh)
    this.asked.clear()
    for (const { table, recordId } of documents) this.asked.add(`${table}\n${recordId}`)
  }

  private async look(): Promise<Outlook> {
    return { known: await this.source.known(), standing: await this.source.standing() }
  }
}

const NOTHING: Exchanged = { sent: 0, moved: false, unfinished: false, quarantined: 0 }
export const UNFINISHED: Exchanged = { sent: 0, quarantined: 0, moved: true, unfinished: true }

function publicationOf(state: State, known: Known, standing: Standing | undefined): Publication {
  const { epoch, head, first, branch } = known
  const publication: Publication = { epoch, head: head.entryNo }
  if (state.kind === 'cloned') return { ...publication, cloned: true }
  if (state.kind === 'seeking') return { ...publication, seek: [state.search.low.entryNo, state.search.high] }
  if (standing === undefined || standing.epoch === epoch) return publication
  const parent = pointOf(standing)
  return { ...publication, parent, ...(standing.entryNo + 1 < first && branch?.start && { start: branch.start }) }
}

/** What a word says of itself, without what it would say to us only. */
function fresh({ standing, staged, again, compare }: Subscription): Subscription {
  return { standing, staged, again, compare }
}

function numbersIn({ standing, staged, superseded, points }: Subscription): readonly number[] {
  return [standing, staged, superseded, ...(points ?? [])].flatMap((point) => (point ? [point.entryNo] : []))
}
