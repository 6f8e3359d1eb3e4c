import { randomBytes } from 'node:crypto'
import type { ComparisonAnswer, ComparisonQuestion } from '../comparison.ts'
import { TillsyncError } from '../errors.ts'
import {
  type DocumentName,
  type Point,
  type Publication,
  type SentBack,
  START,
  type Standing,
  type Subscription,
  type TakenBack,
  type Takes,
} from '../model.ts'
import { VERSION } from '../version.ts'
import { Inquiry } from './inquiry.ts'
import type { Message } from './message.ts'
import { Returning } from './returning.ts'
import { judge, type Known, pointOf, type State } from './session.ts'

/** What a publisher needs of the register whose stream it is. */
export interface Source {
  outlook(): Promise<Outlook>
  /** Resolves when our stream up to this entry would survive a power cut, whichever process has sealed it. */
  settle(epoch: string, through: number): Promise<void>
  /** Our digests at the numbers of these points, where there are any; where no document of ours ends, one that is equal to none. */
  endsAt(points: readonly Point[]): Promise<ReadonlyMap<number, string>>
  /** Whether our history has this very entry, be it inside a document. */
  has(point: Point): Promise<boolean>
  /** The next batch after a point of our stream, packed; the next frame of the document that begins at `base`, where that is given. */
  read(epoch: string, after: Point, base: Point | undefined): Promise<PackedBatch | undefined>
  /** Begins to read what will most likely be wanted next, while the other side works. */
  readAhead(epoch: string, after: Point, base: Point | undefined): void
  /** What central takes at most, as it now says. Answers whether that is news. */
  learn(takes: Takes): Promise<boolean>
  heard(standing: Standing | undefined): Promise<void>
  /** Goes on behind a common point, in a new epoch, with `anew` sealing all that is published again. */
  branch(known: Known, from: Standing, common: Point, anew: boolean): Promise<void>
  /** Documents that can't be read, at most `MOST_PARKED`. */
  parked(): Promise<readonly DocumentName[]>
  /** Documents that central wants to have once more. */
  sealAgain(documents: readonly DocumentName[]): Promise<void>
  /** Enters a document that central sends back. */
  takeBack(document: SentBack): Promise<TakenBack>
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

/** How a word is taken: as one to something that was said and not judged by yet, or as one that may be of long ago. */
export type Hearing = 'answer' | 'late'

/** Where the last batch ends that is on its way to central. */
export type Onward = Pick<PackedBatch, 'through' | 'base'>

/** What came of central's word. */
export interface Exchanged {
  /** How many entries central acknowledged beyond what it had acknowledged before. */
  readonly sent: number
  /** How many documents among them central could not apply: they wait there. */
  readonly quarantined: number
  /** How many documents of what central publishes came, and how many were applied. */
  readonly received: number
  readonly applied: number
  /** Whether central's standing is another than the one we knew, be it further back. */
  readonly moved: boolean
  /** Whether something is under way that the next exchange goes on with, though there be no entry to send. */
  readonly unfinished: boolean
  /** Where our history and central's parted, if that was found now. */
  readonly branched?: { readonly common: Point; readonly anew: boolean } | undefined
}

/** What a register knows of its own history, and where central stood when it last said so. */
export interface Outlook {
  readonly known: Known
  readonly standing: Standing | undefined
}

/**
 * A register's side of its exchanges with central, one after another, whoever starts them: `say` what comes next, `hear` what central says to
 * it. What it has in mind is lost without harm: central's next word says it again.
 */
export class Publisher {
  private readonly source: Source
  /** Of which epoch it has something in mind. */
  private epoch: string | undefined
  private state: State = { kind: 'sending' }
  private last: (Outlook & { readonly id: string; readonly batch: PackedBatch | undefined; readonly after: Point }) | undefined
  /** How much central has of the document that comes next, where it comes in frames. */
  private staged: Point | undefined
  /** Central's last word calls for a decision that only an answer to us may bring about. */
  private unsure = false
  private readonly inquiry: Inquiry
  private readonly returning: Returning
  private readonly asked = new Set<string>()

  constructor(source: Source) {
    this.source = source
    this.inquiry = new Inquiry(source)
    this.returning = new Returning(source)
  }

  /** The id of what was said last. */
  get lastSaid(): string | undefined {
    return this.last?.id
  }

  /** Whether what was heard last leaves it to send what comes next; otherwise it has something to find out first. */
  get isSending(): boolean {
    return this.state.kind === 'sending' && !this.unsure
  }

  /** Whether there is something to be said behind what is on its way; where central does not know our epoch yet, or something has to be found out, one message at a time. */
  async hasMore(onward: Onward | undefined, isAnswerDue: boolean): Promise<boolean> {
    const { known, standing } = await this.look()
    if (!this.isSending || (standing !== undefined && standing.epoch !== known.epoch)) return !isAnswerDue
    const after = furthest(onward, known, standing)?.through ?? standing ?? START
    return after.entryNo + 1 >= known.first ? known.head.entryNo > after.entryNo : !isAnswerDue
  }

  /**
   * Our publication, and with `batch` the entries after what central has acknowledged, or after what is on its way. What central has asked of us is answered too, unless
   * that is on its way already.
   */
  async say(options: { readonly batch: boolean; readonly onward?: Onward | undefined; readonly isToldAlready?: boolean }): Promise<Said> {
    const { known, standing } = await this.look()
    const publish = publicationOf(this.state, known, standing)
    const onward = furthest(options.onward, known, standing)
    const after = onward?.through ?? publish.start ?? publish.parent ?? standing ?? START
    // What comes next may be pruned; then central's word says how to go on.
    const isSending = options.batch && !this.unsure && this.state.kind === 'sending' && after.entryNo + 1 >= known.first
    // What is there already reaches the disk while it is read.
    const settling = this.source.settle(known.epoch, known.head.entryNo)
    settling.catch(() => undefined) // it is waited for below
    const batch = isSending ? await this.read(known.epoch, after, onward) : undefined
    // After the batch is read: what was parked before the last of its documents was sealed is named with it.
    const parked = await this.source.parked()
    const compared = options.isToldAlready || !this.isSending ? undefined : await this.inquiry.answer(known.epoch)
    const last = compared?.parts.reduce((most, { entryNo }) => Math.max(most, entryNo), 0) ?? 0
    // Central must never have what our next start has not.
    await settling
    await this.source.settle(known.epoch, Math.max(known.head.entryNo, batch?.through.entryNo ?? 0, last))
    const id = randomBytes(9).toString('base64url')
    this.last = { id, known, standing, batch, after }
    const back = this.returning.word
    return {
      id,
      // With a batch only at the very first: whoever has sent all says it soon enough.
      publish: {
        ...publish,
        ...((batch === undefined || standing === undefined) && { version: VERSION }),
        ...(parked.length > 0 && { parked }),
        ...(compared && { compared }),
        ...(back && { back }),
      },
      ...(batch && { batch: batch.bytes }),
    }
  }

  /** Whether anything was sealed since what was said last was begun. */
  async hasGrown(): Promise<boolean> {
    return (await this.look()).known.head.entryNo > (this.last?.known.head.entryNo ?? 0)
  }

  /** Where the batch of what was said last begins and ends, if it had one. */
  get lastBatch(): (Onward & { readonly after: Point }) | undefined {
    const { batch, after } = this.last ?? {}
    return batch && after && { after, through: batch.through, base: batch.base }
  }

  private async read(epoch: string, after: Point, onward: Onward | undefined): Promise<PackedBatch | undefined> {
    if (onward !== undefined) return this.source.read(epoch, after, onward.base)
    const { staged } = this
    const goesOn = staged !== undefined && staged.entryNo > after.entryNo
    return (goesOn ? await this.source.read(epoch, staged, after) : undefined) ?? this.source.read(epoch, after, undefined)
  }

  /** While what was said is on its way, what comes next is read, if anything does: after a single sale there is nothing, and to look for it would only take from the way of that. */
  readAhead(): void {
    const { batch, known } = this.last ?? {}
    if (batch && known && known.head.entryNo > batch.through.entryNo) this.source.readAhead(known.epoch, batch.through, batch.base)
  }

  /** What central takes at most. Answers whether that is news. */
  learn(takes: Takes): Promise<boolean> {
    return this.source.learn(takes)
  }

  /**
   * Settles central's word. One that does not answer what we said last may be an old letter: it moves us to where it stands, and nothing else. Where several messages
   * may be on their way, the caller says how it is taken; then an old letter moves us forward only.
   *
   * @throws ERR_FORKED
   */
  async hear({ answers, subscribe, takes }: Pick<Message, 'answers' | 'subscribe' | 'takes'>, as?: Hearing): Promise<Exchanged> {
    if (takes) await this.learn(takes)
    if (subscribe === undefined) return NOTHING
    if (as === 'answer') return this.settle(await this.look(), subscribe, true)
    if (as === 'late') return this.hearLate(fresh(subscribe))
    const { last } = this
    const isAnswer = last !== undefined && answers === last.id
    return isAnswer ? this.settle(last, subscribe, true, true) : this.settle(await this.look(), fresh(subscribe), false)
  }

  private async hearLate(word: Subscription): Promise<Exchanged> {
    const outlook = await this.look()
    const { known, standing } = outlook
    if (!this.isSending || (word.standing?.entryNo ?? 0) <= (standing?.entryNo ?? 0)) return NOTHING
    const digests = await this.source.endsAt(pointsIn(word))
    const verdict = judge(this.state, known, word, (entryNo) => digests.get(entryNo))
    return verdict.kind === 'follow' ? this.settle(outlook, word, false) : NOTHING
  }

  /** @param isFormer the outlook is the one of when the message was made that this answers */
  private async settle({ known, standing: before }: Outlook, word: Subscription, isAnswer: boolean, isFormer = false): Promise<Exchanged> {
    const { source } = this
    const digests = await source.endsAt(pointsIn(word))
    // What was acknowledged is of our history, be the entry pruned by now.
    const digestAt = (entryNo: number) => digests.get(entryNo) ?? (before?.entryNo === entryNo ? before.digest : undefined)
    const verdict = judge(this.state, known, word, digestAt)
    if (verdict.kind !== 'follow' && isFormer) return this.settleAnew(known, word)
    this.state = { kind: 'sending' }
    this.unsure = !isAnswer && verdict.kind !== 'follow' && verdict.kind !== 'seek'
    if (this.unsure) return UNFINISHED
    switch (verdict.kind) {
      case 'follow': {
        await this.sealAgain(word.again ?? [])
        const { standing } = verdict
        await source.heard(standing)
        const moved = (standing?.entryNo ?? 0) - (before?.entryNo ?? 0)
        const isStaged = (await this.stage(word)) && moved === 0
        const isAsked = this.inquiry.hear(word.compare)
        const isBack = isAnswer && (await this.returning.hear(word.back))
        return {
          ...NOTHING,
          sent: Math.max(0, moved),
          quarantined: isAnswer ? (word.quarantined ?? 0) : 0,
          moved: moved !== 0 || isStaged || standing?.epoch !== before?.epoch,
          unfinished: isStaged || isAsked || isBack,
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

  /**
   * Central stands where our history did not lead when we last spoke. Meanwhile another process may have sealed more, and central may have taken it; or it may have gone
   * on in a new epoch, of which the answer to ours says nothing. Either way central has moved since, though that process may have written down where to.
   */
  private async settleAnew({ epoch }: Known, word: Subscription): Promise<Exchanged> {
    const outlook = await this.look()
    const isSame = outlook.known.epoch === epoch
    return { ...(await this.settle(outlook, isSame ? word : fresh(word), isSame)), moved: true }
  }

  /** Notes how much central has of a document that comes in frames, if it is of our history. Answers whether that is other than before. */
  private async stage({ staged, standing }: Subscription): Promise<boolean> {
    const before = this.staged
    const isOurs = staged !== undefined && staged.entryNo > (standing?.entryNo ?? 0) && (await this.source.has(staged))
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
    const outlook = await this.source.outlook()
    const { epoch } = outlook.known
    if (epoch !== this.epoch) this.forget()
    this.epoch = epoch
    return outlook
  }

  /** Central can't read what was said: what is sent is not to stand behind what else that was. Nothing is lost by it, for central asks again. */
  drop(): void {
    this.inquiry.drop()
    this.returning.drop()
  }

  /** What was found out of one history says nothing of the next. */
  private forget(): void {
    this.state = { kind: 'sending' }
    this.unsure = false
    this.staged = undefined
    this.last = undefined
    this.asked.clear()
  }
}

const NOTHING: Exchanged = { sent: 0, quarantined: 0, received: 0, applied: 0, moved: false, unfinished: false }
export const UNFINISHED: Exchanged = { ...NOTHING, moved: true, unfinished: true }

/** What is on its way, unless central stands beyond it by now: then it was sent twice. */
function furthest(onward: Onward | undefined, known: Known, standing: Standing | undefined): Onward | undefined {
  return onward !== undefined && standing?.epoch === known.epoch && standing.entryNo >= onward.through.entryNo ? undefined : onward
}

function publicationOf(state: State, known: Known, standing: Standing | undefined): Publication {
  const { epoch, head, first, branch, ancestors } = known
  const publication: Publication = { epoch, head: head.entryNo }
  if (state.kind === 'cloned') return { ...publication, cloned: true }
  if (state.kind === 'seeking') {
    const seek = [state.search.low.entryNo, state.search.high] as const
    return { ...publication, seek, ...(ancestors.length > 0 && { ancestors: ancestors.map((one) => one.epoch) }) }
  }
  if (standing === undefined || standing.epoch === epoch) return publication
  const parent = pointOf(standing)
  return { ...publication, parent, ...(standing.entryNo + 1 < first && branch?.start && { start: branch.start }) }
}

/** What a word says of itself, without what it would say to us only. */
function fresh({ standing, staged, again, compare }: Subscription): Subscription {
  return { standing, staged, again, compare }
}

function pointsIn({ standing, superseded, points }: Subscription): readonly Point[] {
  return [standing, superseded, ...(points ?? [])].filter((point) => point !== undefined)
}
