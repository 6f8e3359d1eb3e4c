import { setTimeout as sleep } from 'node:timers/promises'
import type { Database as Connection } from 'better-sqlite3'
import { TillsyncError } from '../../errors.ts'
import type { ReadOptions, WriteOptions } from '../../ports.ts'
import { turn } from '../../turns.ts'
import type { Work } from '../../work.ts'
import { classify, isBusy, isForeignKey, unsatisfiedAtEnd } from './errors.ts'
import { refuseHidden } from './hidden.ts'
import { LogGrowth } from './log-growth.ts'
import type { SqliteMirroring } from './mirroring.ts'
import type { Opening } from './opening.ts'
import { Pace, Slicing } from './pace.ts'
import type { Steps } from './steps.ts'
import { syncLog } from './sync.ts'

/** How long a transaction waits for its turn before it gives up for now. */
const PATIENCE_MS = 10_000
/** How long is read in one turn of the event loop. */
const TURN_MS = 2

/** What the transactions of one database have in common. */
interface TransactionsOptions {
  readonly opening: Opening
  readonly mirroring: SqliteMirroring
  /** The host's connection in this process, which we do not write beside while it has a transaction open. */
  readonly host: Connection | undefined
  /** Whether the library works on the host's connection. */
  readonly shared: boolean
  /** The host's tables that are named on the connection. */
  readonly named: ReadonlySet<string>
}

/** The library's transactions: synchronous and short, in turns of the event loop, waiting by timers while somebody else writes. */
export class Transactions {
  private readonly opening: Opening
  private readonly mirroring: SqliteMirroring
  private readonly host: Connection | undefined
  private readonly shared: boolean
  private readonly named: ReadonlySet<string>
  private readonly pace = new Pace()
  private readonly slicing = new Slicing()
  private readonly growth = new LogGrowth()
  private lastWrite: Promise<unknown> = Promise.resolve()

  constructor({ opening, mirroring, host, shared, named }: TransactionsOptions) {
    this.opening = opening
    this.mirroring = mirroring
    this.host = host
    this.shared = shared
    this.named = named
  }

  /** Whether others write too. */
  get isShared(): boolean {
    return this.pace.isShared
  }

  read<T>(work: () => Work<T>, { signal }: ReadOptions = {}): Promise<T> {
    return this.transact('BEGIN', work, signal)
  }

  async write<T>(work: () => Work<T>, { signal, alone, lazily, readsFirst, onHeld }: WriteOptions = {}): Promise<T> {
    return this.inTurn(async () => {
      const value = await this.transact(alone || readsFirst ? 'sliced' : 'BEGIN IMMEDIATE', work, signal, onHeld)
      await this.checkpoint()
      if (!lazily && !alone) await this.settle()
      return value
    })
  }

  async settle(): Promise<void> {
    const opened = this.opening.current
    if (opened === undefined) return
    try {
      if (!(await syncLog(opened.file)) && !this.shared) opened.connection.pragma('wal_checkpoint(PASSIVE)')
    } catch (error) {
      throw classify(error, 'Writing to the disk')
    }
  }

  /** One after another, so that our own transactions are not in each other's way while one of them reads in slices. */
  private inTurn<T>(run: () => Promise<T>): Promise<T> {
    const done = this.lastWrite.then(run)
    this.lastWrite = done.catch(() => undefined)
    return done
  }

  private async transact<T>(
    mode: 'BEGIN' | 'BEGIN IMMEDIATE' | 'sliced',
    work: () => Work<T>,
    signal: AbortSignal | undefined,
    onHeld?: (ms: number) => void,
  ): Promise<T> {
    const patience = performance.now() + PATIENCE_MS
    for (let attempt = 0, overtaken = 0; ; attempt++) {
      await turn()
      const sliced = mode === 'sliced' && this.slicing.isTried
      if (mode !== 'BEGIN' && !sliced) await this.pace.rest()
      const done = sliced ? await this.attemptSliced(work, onHeld) : this.attempt(mode === 'BEGIN' ? mode : 'BEGIN IMMEDIATE', work, onHeld)
      if (typeof done === 'object') {
        if (mode === 'sliced') this.slicing.done(sliced)
        return done.value
      }
      if (signal?.aborted) throw new TillsyncError('ERR_ABORTED', 'The wait for the database was aborted', { cause: signal.reason })
      if (performance.now() > patience) {
        throw new TillsyncError('ERR_BUSY', `The database was busy for ${PATIENCE_MS} ms`, {
          retryable: true,
          hint: 'Another connection holds a transaction open for long.',
        })
      }
      if (done === undefined) await sleep(1 + Math.random() * Math.min(20, 2 ** attempt))
      else this.slicing.overtaken(++overtaken)
    }
  }

  /** One try, synchronously; undefined when it is not our turn. */
  private attempt<T>(begin: string, work: () => Work<T>, onHeld: ((ms: number) => void) | undefined): { readonly value: T } | undefined {
    const { connection, steps } = this.opening.require()
    try {
      if (!this.begin(connection, begin)) return undefined
      if (begin !== 'BEGIN') this.look(steps)
      const began = performance.now()
      if (begin !== 'BEGIN') this.pace.look(steps.dataVersion())
      if (begin !== 'BEGIN') this.mirroring.begin()
      steps.begin()
      const value = steps.drive(work)
      this.commit(connection)
      if (begin !== 'BEGIN') this.held(performance.now() - began, onHeld)
      steps.committed()
      return { value }
    } catch (error) {
      return this.undo(connection, error)
    }
  }

  /**
   * One try, in which what is read before the first write is read in turns of the event loop, each in a transaction of its own:
   * they are as good as one where nobody has written in between. Undefined when it is not our turn.
   */
  private async attemptSliced<T>(
    work: () => Work<T>,
    onHeld: ((ms: number) => void) | undefined,
  ): Promise<{ readonly value: T } | 'overtaken' | undefined> {
    const { connection, steps } = this.opening.require()
    try {
      if (!this.begin(connection, 'BEGIN')) return undefined
      this.look(steps)
      const seen = steps.version()
      this.mirroring.begin()
      steps.begin()
      const running = work()
      let next = running.next()
      let began = performance.now()
      for (; next.done !== true; next = steps.advance(running, next.value)) {
        const writes = next.value.kind === 'writing' || steps.isWrite(next.value)
        if (!writes && performance.now() - began < TURN_MS) continue
        connection.exec('COMMIT')
        if (next.value.kind === 'writing' || !writes) await turn()
        if (writes) await this.pace.rest()
        if (this.opening.current?.connection !== connection || !this.begin(connection, writes ? 'BEGIN IMMEDIATE' : 'BEGIN')) return undefined
        this.look(steps)
        began = performance.now()
        this.pace.look(steps.dataVersion())
        if (steps.version() !== seen) {
          connection.exec('ROLLBACK')
          return 'overtaken'
        }
        if (writes) break
      }
      while (!next.done) next = steps.advance(running, next.value)
      this.commit(connection)
      this.held(performance.now() - began, onHeld)
      steps.committed()
      return { value: next.value }
    } catch (error) {
      return this.undo(connection, error)
    }
  }

  private held(ms: number, onHeld: ((ms: number) => void) | undefined): void {
    this.pace.held(ms)
    onHeld?.(ms)
  }

  private begin(connection: Connection, begin: string): boolean {
    if (this.host?.inTransaction) return false
    try {
      connection.exec(begin)
      return true
    } catch (error) {
      if (isBusy(error)) return false
      throw classify(error, begin)
    }
  }

  /** A host that shares its connection may have made a temporary table a moment ago; that changes nothing in the file. */
  private look(steps: Steps): void {
    if (this.shared) steps.drive(() => refuseHidden(this.named))
  }

  private commit(connection: Connection): void {
    try {
      connection.exec('COMMIT')
    } catch (error) {
      throw isForeignKey(error) ? unsatisfiedAtEnd(this.mirroring.written, error) : error
    }
  }

  /** Undefined where the transaction met another one; the same one works later. */
  private undo(connection: Connection, error: unknown): undefined {
    if (connection.open && connection.inTransaction) connection.exec('ROLLBACK')
    if (!isBusy(error)) throw classify(error, 'A transaction failed')
  }

  /** Returns in another turn of the event loop than the one that it has used. */
  private async checkpoint(): Promise<void> {
    const opened = this.opening.current
    if (opened === undefined || this.shared) return
    const { connection, steps, file } = opened
    const { inserted } = steps
    steps.inserted = 0
    if (!this.growth.isDue(file, inserted, this.pace.others)) return
    await turn()
    try {
      connection.pragma('wal_checkpoint(PASSIVE)')
    } catch {
      // Nothing depends on it: what can't be copied now stays in the -wal file, until the next one or the end of the last connection.
    }
  }
}
