import type { TillsyncError } from '../errors.ts'
import type { Clock } from '../ports.ts'
import type { AudienceCut } from './audience-batch.ts'
import type { Problem } from './plan.ts'

/** A table whose filter took too long is left alone for so long, in milliseconds: no register is to wait for it at each exchange. Where it takes too long again soon after that, for twice as long. */
const REST_MS = 60_000
const LONGEST_REST_MS = 3_600_000
/** For so long after its last word a register for which a filter can't be asked is among the problems, in milliseconds. */
const FAILING_MS = 3_600_000
const MOST_PROBLEMS = 100
const MOST_UNSENDABLE = 1_000

/** A table that is left alone. */
interface Rest {
  readonly until: number
  readonly ms: number
  readonly error: TillsyncError
}

/** What central can't publish just now, and to whom: tables that rest because their filter takes too long, registers for which one can't be asked, and documents that fit into no message. */
export class AudienceTroubles {
  private readonly clock: Clock
  private readonly resting = new Map<string, Rest>()
  /** By table and register: why, and when the register last asked. */
  private readonly failing = new Map<string, { readonly problem: Problem; readonly at: number }>()
  /** By table, register and document, which the register lacks because it fits into no message. */
  private readonly unsendable = new Map<string, Problem>()

  constructor(clock: Clock) {
    this.clock = clock
  }

  isResting(table: string): boolean {
    return (this.resting.get(table)?.until ?? 0) > this.clock.ticks()
  }

  /** Leaves the table alone, if it is a filter that took too long. */
  rest(error: TillsyncError): void {
    const { table } = error.context
    if (error.code !== 'ERR_FILTER' || !error.retryable || typeof table !== 'string') return
    const now = this.clock.ticks()
    const { until, ms } = this.resting.get(table) ?? { until: Number.NEGATIVE_INFINITY, ms: REST_MS }
    if (until > now) return
    const again = now - until < ms ? Math.min(LONGEST_REST_MS, ms * 2) : REST_MS
    this.resting.set(table, { until: now + again, ms: again, error })
  }

  /** Says whether that is news: the register asks every few seconds, and goes on with what it has. */
  fail(registerId: number, table: string, error: TillsyncError): boolean {
    this.rest(error)
    const name = nameOf(registerId, table)
    const before = this.failing.get(name)?.problem.error.message
    this.failing.set(name, { problem: { table, error }, at: this.clock.now() })
    return before !== error.message
  }

  /** What fits into no message for a register it lacks from then on, until it gets it after all. */
  lacks(registerId: number, { batch, unsendable }: AudienceCut): void {
    const name = `${nameOf(registerId, batch.table)}\n`
    for (const known of this.unsendable.keys()) if (batch.after === 0 && known.startsWith(name)) this.unsendable.delete(known)
    if (this.unsendable.size > 0) for (const { recordId } of batch.documents) this.unsendable.delete(name + recordId)
    for (const { recordId, error } of unsendable)
      if (this.unsendable.size < MOST_UNSENDABLE) this.unsendable.set(name + recordId, { table: batch.table, error })
  }

  settle(registerId: number, table: string): void {
    this.failing.delete(nameOf(registerId, table))
  }

  /** Why a table is left alone. */
  get lastError(): TillsyncError | undefined {
    const now = this.clock.ticks()
    return [...this.resting.values()].find(({ until }) => until > now)?.error
  }

  /** What is wrong with filters of registers that still ask, and with documents that they lack; many may fail by the same. */
  get problems(): readonly Problem[] {
    const since = this.clock.now() - FAILING_MS
    const failing = [...this.failing.values()].filter(({ problem, at }) => at > since && !problem.error.retryable).map(({ problem }) => problem)
    const distinct = new Map([...failing, ...this.unsendable.values()].map((problem) => [`${problem.table}\n${problem.error.message}`, problem]))
    return [...distinct.values()].slice(0, MOST_PROBLEMS)
  }
}

function nameOf(registerId: number, table: string): string {
  return `${table}\n${registerId}`
}
