import { randomBytes } from 'node:crypto'
import { type FoundDifference, isAlike, type Judged, judgePart, type Readiness } from './apply/compare-judge.ts'
import { type AskedComparison, ask, forget, nextAnswer, prolong, type Told, type ToldPart } from './apply/compare-questions.ts'
import { settle, stillWanted, wantAgain } from './apply/compare-repair.ts'
import { REGISTERS } from './apply/tables.ts'
import type { CompareOptions, Comparison } from './compare-book.ts'
import { compareIds, MOST_RANGES, type RecordIdRange } from './comparison.ts'
import { refusal, unanswered } from './comparison-errors.ts'
import { TillsyncError } from './errors.ts'
import type { CentralEvents, Events } from './events.ts'
import type { RegisterName } from './model.ts'
import type { ApplyingDatabase, Clock } from './ports.ts'
import { decodeRecordId } from './record.ts'
import { query, type Work } from './work.ts'

/** What a comparison needs of central. */
export interface Means {
  readonly database: ApplyingDatabase
  readonly clock: Clock
  readonly events: Events<CentralEvents>
  /** The register is to be heard soon, whoever starts its exchanges. */
  tell(register: RegisterName): void
  /** Pulls it until it has nothing more to say; false where it is not for this process to start its exchanges. */
  pull(register: RegisterName, signal: AbortSignal): Promise<boolean>
  /** Until something is heard of it, if nothing was since the last time, or for so long. */
  sleep(ms: number): Promise<void>
}

/** What is compared. */
export interface Asked {
  readonly table: string
  readonly register: RegisterName
  readonly options: CompareOptions
  readonly timeoutMs: number
  readonly signal: AbortSignal
}

/** How long a question is asked after nobody has said that its answer is waited for. */
const LEASE_MS = 600_000
/** How often it is looked whether another process has heard the register. */
const LOOK_MS = 1_000
const BUSY_MS = 100
const MOST_DIFFERENCES = 1_000
const MOST_QUESTION_BYTES = 16_384

/** One comparison: first by counts and digests of ranges, then of those that differ document by document. */
export class Comparing {
  private readonly means: Means
  private readonly asked: Asked
  private readonly differences: FoundDifference[] = []
  private readonly counts = { equal: 0, differing: 0, changed: 0, parked: 0, received: 0, wanted: 0 }
  private registerId = 0
  private comparison: AskedComparison = { registerId: 0, comparisonId: '' }
  /** Ranges whose documents are not all the same. */
  private readonly suspect: RecordIdRange[] = []
  /** The last answer that was judged. */
  private step = 0
  private prolongedAt = 0
  /** When something was last heard of the register, and what. */
  private heardAt = 0
  private heard = ''
  /** It was pulled, and nothing came of it. */
  private isPulled = false

  constructor(means: Means, asked: Asked) {
    this.means = means
    this.asked = asked
  }

  /** Undefined where the register's history was left meanwhile. */
  async run(): Promise<Comparison | undefined> {
    const { database, clock } = this.means
    const { table, register, options } = this.asked
    this.heardAt = clock.ticks()
    this.registerId = (await this.look()).registerId
    this.comparison = { registerId: this.registerId, comparisonId: randomBytes(12).toString('base64url') }
    try {
      if (!(await this.put([{ after: '', through: undefined }], false, (told, part) => this.compareDigests(told, part)))) return undefined
      while (this.suspect.length > 0)
        if (!(await this.put(this.takeSuspect(), true, (told, part) => this.compareDocuments(told, part)))) return undefined
    } finally {
      // What is not forgotten now is when its time is over.
      await database.write(() => forget(database, this.comparison)).catch(() => undefined)
    }
    if (options.repair && this.counts.wanted > 0) await this.repaired()
    const { equal, differing, changed, parked, received, wanted } = this.counts
    const differences = this.differences.map(({ recordId, kind }) => ({ recordId: decodeRecordId(recordId), kind }))
    return { ...register, table, equal, differing, differences, changed, parked, received, repaired: wanted }
  }

  /** As many ranges as a question holds. */
  private takeSuspect(): readonly RecordIdRange[] {
    let bytes = 0
    const end = this.suspect.findIndex(({ after, through = '' }, n) => {
      bytes += Buffer.byteLength(after) + Buffer.byteLength(through)
      return n === MOST_RANGES || (n > 0 && bytes > MOST_QUESTION_BYTES)
    })
    return this.suspect.splice(0, end === -1 ? this.suspect.length : end)
  }

  /** Asks, and judges what is answered. False where the register's history was left meanwhile. */
  private async put(ranges: readonly RecordIdRange[], list: boolean, judge: (told: Told, part: ToldPart) => Promise<boolean>): Promise<boolean> {
    const { database, events, tell } = this.means
    const { table, register, options } = this.asked
    await database.write(() => ask(database, this.comparison, { table, list, ranges }, LEASE_MS))
    this.prolongedAt = this.means.clock.ticks()
    tell(register)
    for (;;) {
      const { told, left } = await this.answer()
      if (told.refused !== undefined) throw refusal(told.refused, table, register)
      for (const part of told.parts) if (!(await judge(told, part))) return false
      const { equal, differing, changed, parked, received } = this.counts
      const { onProgress } = options
      if (onProgress) events.tell(onProgress, { ...register, table, compared: equal + differing + changed + parked + received, differing })
      if (!left) return true
    }
  }

  private async answer(): Promise<{ readonly told: Told; readonly left: boolean }> {
    const { database } = this.means
    for (;;) {
      const found = await database.read(() => nextAnswer(database, this.comparison, this.step))
      if (found === undefined)
        throw unanswered(this.asked.register, 'is not asked any more: central was restored, or somebody has deleted the question')
      const { told, step, left } = found
      if (told !== undefined) {
        this.progress()
        this.step = step
        // The last answer may have come between: then nothing is left, and others are there.
        return { told, left: left || (await this.isMore()) }
      }
      await this.wait()
    }
  }

  private progress(): void {
    this.heardAt = this.means.clock.ticks()
    this.isPulled = false
  }

  private async isMore(): Promise<boolean> {
    const { database } = this.means
    return (await database.read(() => nextAnswer(database, this.comparison, this.step)))?.told !== undefined
  }

  private async compareDigests(told: Told, part: ToldPart): Promise<boolean> {
    const { database } = this.means
    const outcome = await this.whenReady(() => isAlike(database, this.registerId, this.asked.table, told, part))
    if (outcome === 'left') return false
    if (outcome.alike) this.counts.equal += part.count
    else this.suspect.push(part.range)
    return true
  }

  private async compareDocuments(told: Told, part: ToldPart): Promise<boolean> {
    const { database } = this.means
    for (let after: string | undefined = part.range.after; after !== undefined; ) {
      const from: string = after
      const rest = { ...part, range: { after: from, through: part.range.through } }
      const judged: Judged | 'left' = await this.whenReady(() => judgePart(database, this.registerId, this.asked.table, told, rest))
      if (judged === 'left') return false
      this.counts.equal += judged.equal
      this.counts.changed += judged.changed
      this.counts.parked += judged.parked
      this.counts.received += judged.received
      this.counts.differing += judged.differences.length
      const found = judged.differences.toSorted((a, b) => compareIds(a.recordId, b.recordId))
      this.differences.push(...found.slice(0, MOST_DIFFERENCES - this.differences.length))
      if (this.asked.options.repair && found.length > 0) this.counts.wanted += await this.want(found)
      after = judged.next
    }
    return true
  }

  /** Waits until central has come as far as the register had when it answered. */
  private async whenReady<T extends object>(work: () => Work<Readiness | T>): Promise<T | 'left'> {
    for (;;) {
      const outcome = await this.means.database.read(work)
      if (outcome === 'left') return outcome
      if (typeof outcome === 'object') return outcome
      await this.wait()
    }
  }

  /** They are asked for from the next exchange on. */
  private async want(found: readonly FoundDifference[]): Promise<number> {
    const { database } = this.means
    return this.whenFree(() => wantAgain(database, this.registerId, this.asked.table, found))
  }

  /** Until the register has sent what it was asked for. */
  private async repaired(): Promise<void> {
    const { database, tell } = this.means
    const { table, register } = this.asked
    tell(register)
    for (let wanted = Number.POSITIVE_INFINITY; ; ) {
      const left = await database.read(() => stillWanted(database, this.registerId, table))
      if (left === 0) break
      if (left < wanted) this.progress()
      wanted = left
      await this.wait()
    }
    await this.whenFree(() => settle(database, this.registerId))
  }

  /** Another process may just apply what the same register has sent. */
  private async whenFree<T>(work: () => Work<T>): Promise<T> {
    for (;;) {
      try {
        return await this.means.database.write(work)
      } catch (error) {
        if (!(error instanceof TillsyncError && error.code === 'ERR_BUSY')) throw error
        await this.wait(BUSY_MS)
      }
    }
  }

  /** Until the register is heard, or it is time to look. @throws ERR_ABORTED, ERR_STOPPED, ERR_UNANSWERED, ERR_REGISTER, ERR_CLONED, and why it can't be pulled */
  private async wait(ms = LOOK_MS): Promise<void> {
    const { clock, database } = this.means
    const { signal, register, timeoutMs } = this.asked
    this.requireGoing()
    const before = this.heard
    const { heard } = await this.look()
    this.heard = heard
    if (heard !== before) this.progress()
    if (clock.ticks() - this.heardAt > timeoutMs) throw unanswered(register, `did not answer for ${timeoutMs} ms`)
    if (clock.ticks() - this.prolongedAt > LEASE_MS / 4) {
      await database.write(() => prolong(database, this.comparison, LEASE_MS))
      this.prolongedAt = clock.ticks()
    }
    // One that has nothing to say though it was asked is not asked again without a pause.
    if (this.isPulled) await clock.sleep(ms, signal).catch(() => undefined)
    this.isPulled = !signal.aborted && (await this.means.pull(register, signal))
    if (!this.isPulled) await this.means.sleep(ms)
    this.requireGoing()
  }

  private requireGoing(): void {
    const { signal } = this.asked
    if (!signal.aborted) return
    if (signal.reason instanceof TillsyncError) throw signal.reason
    throw new TillsyncError('ERR_ABORTED', 'The comparison was aborted', { cause: signal.reason })
  }

  /** How far the register has come, as text: another one whenever something was heard of it. */
  private async look(): Promise<{ readonly registerId: number; readonly heard: string }> {
    const { database } = this.means
    const { location, register } = this.asked.register
    const [row] = await database.read(() =>
      query<{ register_id: number; epoch: string | null; entry_no: number; held: boolean; revoked: boolean }>({
        sql: `SELECT register_id, epoch, entry_no, held, revoked_at IS NOT NULL AS revoked FROM ${database.qualify(REGISTERS.name)} WHERE location = $1 AND register = $2`,
        parameters: [location, register],
      }),
    )
    const context = { location, register }
    if (row === undefined || row.revoked) {
      throw new TillsyncError('ERR_REGISTER', `Register ${register} at ${location} is ${row === undefined ? 'not known' : 'revoked'}`, {
        hint: row === undefined ? 'registers.list() shows who is.' : 'registers.rotate() lets it in again.',
        context,
      })
    }
    if (row.held) {
      throw new TillsyncError('ERR_CLONED', `Two copies of the database of register ${register} at ${location} speak to central`, {
        hint: 'Choose the one that goes on: registers.keep().',
        context,
      })
    }
    return { registerId: row.register_id, heard: `${row.epoch} ${row.entry_no}` }
  }
}
