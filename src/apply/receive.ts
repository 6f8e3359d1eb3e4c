import type { ComparisonAnswer } from '../comparison.ts'
import { TillsyncError } from '../errors.ts'
import { type Batch, MOST_POINTS, type Point, type Publication, START, type Subscription } from '../model.ts'
import type { ApplyingDatabase, Received } from '../ports.ts'
import { query, type Statement, send, sendRows, type Work } from '../work.ts'
import { applyBatch, type Place, type Try } from './batch.ts'
import { hearAnswer } from './compare-questions.ts'
import { digestOnLine, type EpochRow, lineOf, pointsBetween, readEpochs } from './epochs.ts'
import { finish } from './finish.ts'
import { forgetAll, forkOf, type Parted, part } from './fork.ts'
import { dropFrames, stageFrame } from './frames.ts'
import type { Subscribed } from './handling.ts'
import { hearTaken } from './orphan-returns.ts'
import { pointOf, type RegisterRow, readRegister, type Sender, subscriptionOf } from './register-row.ts'
import { StockLevels } from './stock-levels.ts'
import { EPOCHS, REGISTERS } from './tables.ts'

/** What a message says of its sender's stream. */
export interface Incoming extends Sender {
  /** Undefined where it says nothing. */
  readonly publish: Publication | undefined
  readonly batch: Batch | undefined
  /** The largest document that may come in frames. */
  readonly maxDocumentBytes: number
}

/** The answer to a message without a batch that changes nothing; undefined where `receive` is needed. */
export function* standingFor(database: ApplyingDatabase, incoming: Incoming): Work<Received | undefined> {
  const { publish } = incoming
  const register = yield* readRegister(database, incoming, '')
  const isPlain =
    publish === undefined ||
    (isNoNews(publish, register) && publish.seek === undefined && comparedIn(publish) === undefined && publish.back === undefined)
  if (register.held || !isPlain || parkedText(publish, register) !== register.parked || isNewVersion(publish, register)) return undefined
  return { subscription: yield* subscriptionOf(database, register, publish !== undefined) }
}

/** Whether it speaks of the epoch that is known, or, of one of which nothing has come, from a register of which nothing ever has. */
function isNoNews({ epoch, parent }: Publication, register: RegisterRow): boolean {
  return epoch === register.epoch || (register.epoch_no === 0 && !register.reset && parent === undefined)
}

/**
 * Takes what a register says of its stream, inside the caller's transaction: a batch that follows, an epoch that goes on from a point of the known history, late
 * batches of one that was superseded. Refuses the rest by an `error` beside the standing.
 *
 * @throws ERR_CREDENTIAL where the proof does not hold; ERR_BUSY (retryable) where another process works for this register; and what handlers throw by no fault of a document
 */
export function* receive(database: ApplyingDatabase, subscribed: Subscribed, incoming: Incoming, attempt: Try): Work<Received> {
  const { publish, batch } = incoming
  let register = yield* readRegister(database, incoming, 'FOR UPDATE OF r NOWAIT')
  if (isNewVersion(publish, register)) {
    const sql = `UPDATE ${database.qualify(REGISTERS.name)} SET version = $2 WHERE register_id = $1`
    yield* send({ sql, parameters: [register.register_id, publish?.version], keepsPlan: true })
  }
  const { back } = publish ?? {}
  const compared = publish && comparedIn(publish)
  if (publish !== undefined && (compared ?? back) !== undefined && !register.held) {
    if (compared) yield* hearAnswer(database, register.register_id, register.asked, publish.epoch, compared)
    if (back) yield* hearTaken(database, register.register_id, back)
    register = yield* readRegister(database, incoming, '')
  }
  if (publish === undefined) return register.held ? refused({}, cloned()) : { subscription: yield* subscriptionOf(database, register, false) }
  const reception = new Reception(database, subscribed, incoming, register, attempt)
  if (publish.epoch === register.epoch) return register.held ? refused({}, cloned()) : yield* reception.goOn(batch)
  return yield* reception.meet(publish)
}

class Reception {
  private readonly database: ApplyingDatabase
  private readonly subscribed: Subscribed
  private readonly incoming: Incoming
  private readonly attempt: Try
  private register: RegisterRow
  private epochs: readonly EpochRow[] = []

  constructor(database: ApplyingDatabase, subscribed: Subscribed, incoming: Incoming, register: RegisterRow, attempt: Try) {
    this.database = database
    this.subscribed = subscribed
    this.incoming = incoming
    this.register = register
    this.attempt = attempt
  }

  /** In the epoch in which central stands. */
  *goOn(batch: Batch | undefined): Work<Received> {
    const { database, register } = this
    const { register_id, epoch_no, unsettled } = register
    const isNews = yield* this.hearParked()
    if (batch === undefined) {
      // What was parked may hold up what is complete by now.
      if (isNews) yield* finish(this.subscribed.handlers, { database, registerId: register_id, levels: new StockLevels(), isStrict: true })
      return yield* this.answer(true)
    }
    const place: Place = { origin: this.origin(epoch_no), standing: pointOf(register), unsettled }
    const whole = yield* this.wholeOf(batch, place)
    if (whole === undefined) return yield* this.answer(true)
    const applied = yield* applyBatch(database, this.subscribed, place, whole, this.attempt)
    if (applied.outcome === 'not next') return refused(yield* this.answer(true), notNext())
    if (applied.outcome !== 'applied') return yield* this.answer(true)
    const { through, documents, entries, quarantined, released } = applied
    // Only the host's own code could take the row away.
    const hasHosts = [...this.subscribed.handlers.values()].some((all) => all.some(({ isHosts }) => isHosts))
    yield* (hasHosts ? stand : send)({
      sql: `UPDATE ${database.qualify(REGISTERS.name)} SET entry_no = $2, digest = $3, contact_at = $4, head_no = $5, reset = false WHERE register_id = $1 RETURNING 1`,
      parameters: [register_id, through.entryNo, through.digest, new Date(this.attempt.now).toISOString(), this.incoming.publish?.head ?? null],
      keepsPlan: true,
    })
    if (register.staged_no !== null) yield* dropFrames(database, register_id, epoch_no)
    this.register = { ...register, entry_no: through.entryNo, digest: through.digest, staged_no: null }
    const { subscription } = yield* this.answer(true)
    const count = quarantined.length > 0 && { quarantined: quarantined.length }
    return { subscription: { ...subscription, ...count }, applied: { documents, entries, through: through.entryNo }, quarantined, released }
  }

  /** What is to be applied: the batch itself, or with its last frame the document; undefined where more frames are to come. */
  private *wholeOf(batch: Batch, { origin, standing }: Place): Work<Batch | undefined> {
    if (batch.frame === undefined) return batch
    const limits = { current: this.register.epoch_no, maxBytes: this.incoming.maxDocumentBytes }
    const staged = yield* stageFrame(this.database, origin, standing, batch, limits)
    if (staged.outcome === 'staged') {
      const { entryNo, digest } = staged.through
      if (origin.epochNo === this.register.epoch_no)
        this.register = { ...this.register, staged_no: entryNo, staged_digest: digest, base_no: standing.entryNo }
      return undefined
    }
    return staged.outcome === 'whole' ? staged.batch : batch
  }

  /** Which documents the register can't read. Says whether that is news. */
  private *hearParked(): Work<boolean> {
    const { database, register } = this
    const parked = parkedText(this.incoming.publish, register)
    if (parked === register.parked) return false
    yield* query({
      sql: `UPDATE ${database.qualify(REGISTERS.name)} SET parked = $2 WHERE register_id = $1`,
      parameters: [register.register_id, parked],
    })
    return true
  }

  /** In another one. */
  *meet(publish: Publication): Work<Received> {
    const { database, register } = this
    this.epochs = register.epoch === null ? [] : yield* readEpochs(database, register.register_id)
    const known = this.epochs.find(({ epoch }) => epoch === publish.epoch)
    if (known?.state === 'kept') return yield* this.answerKnown()
    const isSettled = this.epochs.some(({ state }) => state === 'kept')
    if (known?.state === 'dismissed' || (register.held && (known !== undefined || !isSettled))) return refused({}, cloned())
    if (known !== undefined) return yield* this.meetAgain(known, publish)
    const { batch } = this.incoming
    const common = yield* this.commonWith(publish)
    const start = publish.start ?? common
    // Of one that was set up anew and has nothing to send yet it is known all the same whose documents count from now on.
    const isTold = publish.parent !== undefined || (this.isAnew && publish.head === 0)
    const follows = batch === undefined ? isTold : isSame(baseOf(batch), start)
    if (common !== undefined && start !== undefined && follows) return yield* this.begin(publish.epoch, common, start)
    const isFormer = this.epochs.some(({ epoch }) => publish.ancestors?.includes(epoch))
    const answer = isFormer ? yield* this.answerKnown() : yield* this.answer(!this.isAnew)
    return batch === undefined ? answer : refused(answer, notNext())
  }

  /** An epoch that was superseded: a late batch of it, or a copy that does not know yet, or is not the one that was restored. */
  private *meetAgain(known: EpochRow, publish: Publication): Work<Received> {
    const { database, register } = this
    if (publish.cloned) {
      yield* query({ sql: `UPDATE ${database.qualify(REGISTERS.name)} SET held = true WHERE register_id = $1`, parameters: [register.register_id] })
      yield* query({
        sql: `UPDATE ${database.qualify(EPOCHS.name)} SET state = 'cloned' WHERE register_id = $1 AND epoch_no = $2`,
        parameters: [register.register_id, known.epoch_no],
      })
      return { ...refused({}, cloned()), cloned: true }
    }
    const { takenOver, parted } = forkOf(this.epochs, known.epoch_no)
    let standing: Point = { entryNo: known.entry_no as number, digest: known.digest as string }
    const { batch } = this.incoming
    let late: Received['applied']
    const place: Place = { origin: this.origin(known.epoch_no, known.epoch), standing, unsettled: false, late: { fork: parted } }
    const whole = batch !== undefined && isSame(baseOf(batch), standing) ? yield* this.wholeOf(batch, place) : undefined
    let settled: Pick<Received, 'quarantined' | 'released'> = {}
    if (whole !== undefined) {
      const applied = yield* applyBatch(database, this.subscribed, place, whole, this.attempt)
      if (applied.outcome === 'applied') {
        yield* dropFrames(database, register.register_id, known.epoch_no)
        const { documents, entries, through, quarantined, released } = applied
        settled = { quarantined, released }
        late = { documents, entries, through: through.entryNo }
        standing = through
        yield* stand({
          sql: `UPDATE ${database.qualify(EPOCHS.name)} SET entry_no = $3, digest = $4 WHERE register_id = $1 AND epoch_no = $2 RETURNING 1`,
          parameters: [register.register_id, known.epoch_no, through.entryNo, through.digest],
        })
        yield* query({
          sql: `UPDATE ${database.qualify(REGISTERS.name)} SET unsettled = true WHERE register_id = $1`,
          parameters: [register.register_id],
        })
      }
    }
    const { subscription } = yield* this.answerKnown()
    return {
      subscription: { ...subscription, ...(standing.entryNo > takenOver && { superseded: standing }) },
      ...(late && { applied: late }),
      ...settled,
    }
  }

  /** Where an epoch that was never heard of goes on: undefined where it does not. */
  private *commonWith({ parent }: Publication): Work<Point | undefined> {
    const { register } = this
    if (register.epoch === null || this.isAnew) return START
    if (parent === undefined) return undefined
    const digest = yield* digestOnLine(this.database, register.register_id, this.line(), parent.entryNo)
    return digest === parent.digest ? parent : undefined
  }

  private *begin(epoch: string, common: Point, start: Point): Work<Received> {
    const { database, register } = this
    const { register_id } = register
    let parted: Parted | undefined
    if (register.epoch !== null) {
      const head = register.entry_no
      parted = this.isAnew
        ? yield* forgetAll(database, register_id)
        : head > common.entryNo
          ? yield* part(database, register_id, this.line(), common.entryNo)
          : { orphaned: 0, wanted: 0 }
      yield* send({
        sql: `UPDATE ${database.qualify(EPOCHS.name)} SET state = CASE WHEN state = 'current' AND $4 THEN 'dismissed' WHEN state IN ('current', 'kept') THEN 'superseded' ELSE state END,
                entry_no = CASE state WHEN 'current' THEN $2 ELSE entry_no END, digest = CASE state WHEN 'current' THEN $3 ELSE digest END
              WHERE register_id = $1`,
        parameters: [register_id, register.entry_no, register.digest, register.held],
      })
    }
    const epochNo = register.epoch_no + 1
    yield* sendRows([{ table: EPOCHS, rows: [[register_id, epochNo, epoch, common.entryNo, start.entryNo, start.digest, null, null, 'current']] }])
    yield* send({
      sql: `UPDATE ${database.qualify(REGISTERS.name)} SET epoch_no = $2, epoch = $3, entry_no = $4, digest = $5, reset = false, held = false, contact_at = $6, head_no = $7 WHERE register_id = $1`,
      parameters: [
        register_id,
        epochNo,
        epoch,
        start.entryNo,
        start.digest,
        new Date(this.attempt.now).toISOString(),
        this.incoming.publish?.head ?? null,
      ],
    })
    this.register = yield* readRegister(database, this.incoming, '')
    const received = yield* this.goOn(this.incoming.batch)
    return { ...received, ...(parted && { forked: { epoch, common: common.entryNo, ...parted } }) }
  }

  /** To a database whose epoch, or a former one, is another one of this register's: it goes on in a new one, whatever they have in common. */
  private *answerKnown(): Work<{ readonly subscription: Subscription }> {
    const { subscription } = yield* this.answer(true)
    return { subscription: { ...subscription, known: true } }
  }

  private *answer(isKnown: boolean): Work<{ readonly subscription: Subscription }> {
    const { database, register, incoming } = this
    const seek = incoming.publish?.seek
    const subscription = yield* subscriptionOf(database, register, isKnown)
    if (seek === undefined || register.epoch === null) return { subscription }
    if (this.epochs.length === 0) this.epochs = yield* readEpochs(database, register.register_id)
    return { subscription: { ...subscription, points: yield* pointsBetween(database, register.register_id, this.line(), seek, MOST_POINTS) } }
  }

  /** Whether it is the database that was set up anew, not one that knows of what was before. */
  private get isAnew(): boolean {
    return this.register.reset && (this.incoming.publish?.parent?.entryNo ?? 0) === 0
  }

  private line() {
    return lineOf(this.epochs, this.register.entry_no)
  }

  private origin(epochNo: number, epoch = this.register.epoch as string) {
    return { ...this.incoming.from, registerId: this.register.register_id, epoch, epochNo }
  }
}

/** Where the subscriber must stand for a batch to be next. */
function baseOf(batch: Batch): Point {
  return batch.frame?.base ?? batch.after
}

/** Writes down how far central has come. What stands nowhere must not be acknowledged. @throws ERR_HANDLER */
function* stand(statement: Statement): Work<void> {
  if ((yield* query(statement)).length > 0) return
  throw new TillsyncError('ERR_HANDLER', "The register's row is gone, with which the batch began", {
    hint: "Does a handler, or a trigger of the host's, write to the library's tables (sync_…)? They are the library's alone.",
  })
}

function comparedIn({ compared, unread }: Publication): ComparisonAnswer | 'unread' | undefined {
  return unread?.has('compared') ? 'unread' : compared
}

/** As it is stored, so that it is the same as long as nothing is new. */
function parkedText(publish: Publication | undefined, register: RegisterRow): string | null {
  if (publish?.unread?.has('parked')) return register.parked
  const parked = publish?.parked ?? []
  return parked.length === 0 ? null : JSON.stringify(parked.map(({ table, recordId }) => [table, recordId]))
}

/** Not every message says one; of a former epoch it may be an old letter's. */
function isNewVersion(publish: Publication | undefined, { version, epoch }: RegisterRow): boolean {
  return publish?.version !== undefined && (epoch === null || publish.epoch === epoch) && publish.version !== version
}

function isSame(a: Point, b: Point | undefined): boolean {
  return a.entryNo === b?.entryNo && a.digest === b.digest
}

function refused(answer: { readonly subscription?: Subscription }, error: TillsyncError): Received {
  return { subscription: answer.subscription, error }
}

function notNext(): TillsyncError {
  return new TillsyncError('ERR_NOT_NEXT', 'The batch does not follow where central stands', { retryable: true })
}

function cloned(): TillsyncError {
  return new TillsyncError('ERR_CLONED', 'Two copies of the database of this register speak to central', {
    hint: 'Nothing is taken from either until an operator chooses the one that goes on: registers.keep(). The other one must be set up anew.',
  })
}
