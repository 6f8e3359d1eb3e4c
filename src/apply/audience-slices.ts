import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import type { Clock, RegisterDatabase } from '../ports.ts'
import type { Published, Publishing } from '../two-way.ts'
import type { Work } from '../work.ts'
import { toApplied } from './audience-documents.ts'
import { type Arrival, AudienceSlice, type Outcome } from './audience-slice.ts'
import { contest } from './contested.ts'
import { tablesOf } from './document-set.ts'
import type { HandlersByTable } from './handler.ts'
import { dividing, type Mode } from './quarantine-division.ts'
import { receivedOf } from './received-documents.ts'
import type { ReceivingTurn } from './receiving-turn.ts'
import type { RowWatch } from './row-changes.ts'
import { targetOf } from './subscribed-mirrors.ts'
import { readWaiting, type WaitingName } from './waiting-documents.ts'

export interface AudienceSlicesOptions {
  readonly database: RegisterDatabase
  readonly mirrors: HandlersByTable
  readonly name: RegisterName
  readonly clock: Clock
  readonly turn: ReceivingTurn
  /** Where the register publishes too. */
  readonly publishing: Publishing | undefined
  readonly watch: RowWatch | undefined
}

/** What is done in the transaction of each slice, beside applying it. */
export interface Around {
  /** All in one transaction, however long it takes. */
  readonly isOne?: boolean
  /** Whether it is still to be applied. */
  before?(): Work<boolean>
  after?(outcome: Outcome, isFirst: boolean, isLast: boolean): Work<void>
  /** It is committed. */
  done?(): void
}

/** How many records a transaction writes; it aims at the length that its database says. */
const LIMITS = { first: 16, most: 2_048 }
/** The middle one of the last so many slices says what a record costs; and the next one may be so much larger. */
const [SLICES, GROWTH] = [7, 1.5]
/** How often it is tried where the host's schema is changed at the same time. */
const TRIES = 5

/** Applies documents slice by slice: short transactions, each of whole documents. */
export class AudienceSlices {
  private readonly options: AudienceSlicesOptions
  private limit = LIMITS.first
  /** What a record cost in the last slices, in milliseconds. */
  private costs: readonly number[] = [0.05]
  /** Where documents were refused just now, more may be. */
  private mode: Mode = 'together'

  constructor(options: AudienceSlicesOptions) {
    this.options = options
  }

  /** In order; undefined where it was not to go on. What was done until then stays. */
  async apply(arrivals: readonly Arrival[], around: Around, signal: AbortSignal, told: (outcome: Outcome) => void): Promise<boolean> {
    let from = 0
    do {
      if (signal.aborted) throw new TillsyncError('ERR_STOPPED', 'The register is stopped', { retryable: true })
      const slice = around.isOne ? arrivals : this.next(arrivals, from)
      const isLast = from + slice.length === arrivals.length
      const outcome = await this.one(slice, around, from === 0, isLast, signal)
      if (outcome === undefined) return false
      around.done?.()
      this.mode = outcome.waits.some(({ verdict }) => verdict.cause !== 'changed') ? 'apart' : 'together'
      told(outcome)
      from += slice.length
    } while (from < arrivals.length)
    return true
  }

  /** Whole documents with about as many records as fit. */
  private next(arrivals: readonly Arrival[], from: number): readonly Arrival[] {
    let [to, records] = [from, 0]
    for (const arrival of arrivals.slice(from, from + this.limit)) {
      records += weightOf(arrival)
      if (to > from && records > this.limit) break
      to++
    }
    return arrivals.slice(from, to)
  }

  private async one(slice: readonly Arrival[], around: Around, isFirst: boolean, isLast: boolean, signal: AbortSignal): Promise<Outcome | undefined> {
    const { database, mirrors, name, clock, turn, watch } = this.options
    const goesOn = turn.isMine || !(isFirst && isLast)
    const records = slice.reduce((sum, arrival) => sum + weightOf(arrival), 0)
    const onHeld = (ms: number) => this.learn(ms, records)
    for (let tries = 0; tries < TRIES; ) {
      const published = await this.published(slice, tries > 0)
      const isAlone = published !== undefined
      const done = await dividing(
        database,
        function* (division): Work<Outcome | 'stale' | 'moved' | 'waits'> {
          if (published && !(yield* published.isCurrent())) return 'stale'
          if (!(yield* turn.begin())) return 'waits'
          if (around.before && !(yield* around.before())) return 'moved'
          const reception = { database, mirrors, name, published, watch, now: clock.now() }
          const outcome = yield* new AudienceSlice(reception, slice, division).apply()
          yield* around.after?.(outcome, isFirst, isLast) ?? []
          if (goesOn) yield* turn.keep()
          return outcome
        },
        this.mode,
        { signal, onHeld, ...(isAlone ? { alone: true } : { lazily: true, readsFirst: true }) },
      )
      if (done === 'moved') return undefined
      if (done === 'waits') await turn.wait(signal)
      else if (done === 'stale') tries++
      else {
        if (goesOn) turn.kept()
        return done
      }
    }
    throw unsettled()
  }

  /** Where documents of the slice are written to tables that are published. */
  private async published(slice: readonly Arrival[], isStale: boolean): Promise<Published | undefined> {
    const { publishing, mirrors } = this.options
    if (publishing === undefined) return undefined
    const published = await publishing.published(isStale)
    const names = new Set(slice.flatMap(({ table, shape }) => [table, ...tablesOf(shape)].map((one) => targetOf(mirrors, table, one))))
    return [...names].some((name) => published.tables(name) !== undefined) ? published : undefined
  }

  /** The names of those that must not be applied yet, for they were changed here, which central has not acknowledged. */
  async contested(names: readonly WaitingName[]): Promise<ReadonlySet<string>> {
    const { database, mirrors, publishing } = this.options
    if (publishing === undefined) return new Set()
    for (let tries = 0; tries < TRIES; tries++) {
      const published = await publishing.published(tries > 0)
      const contested = await database.read(function* () {
        if (!(yield* published.isCurrent())) return undefined
        const waiting = yield* readWaiting(database, names)
        const documents = waiting.map((one) => toApplied(one, one.shape, one.keyColumns))
        return (yield* contest(published, mirrors, documents, yield* receivedOf(database, documents))).contested
      })
      if (contested !== undefined) return contested
    }
    throw unsettled()
  }

  /** By what records have cost lately. Slices that took long by chance, as where the machine has much to do, must not make the others short: each costs something whatever it writes. */
  private learn(heldMs: number, records: number): void {
    const { sliceMs, sliceRecords } = this.options.database
    // Of a short one that was not too long most was what each costs.
    if (records === 0 || (records * 2 <= this.limit && heldMs <= sliceMs)) return
    this.costs = [...this.costs, heldMs / records].slice(-SLICES)
    const cost = this.costs.toSorted((a, b) => a - b)[this.costs.length >> 1] as number
    const limit = Math.min(Math.ceil(this.limit * GROWTH), Math.round(sliceMs / cost))
    this.limit = Math.min(LIMITS.most, Math.max(sliceRecords, limit))
  }
}

function unsettled(): TillsyncError {
  return new TillsyncError('ERR_BUSY', 'The schema is changed without end', { retryable: true, hint: 'It is tried again with the next exchange.' })
}

function weightOf({ records }: Arrival): number {
  return Math.max(1, records.length)
}
