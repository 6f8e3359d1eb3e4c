import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { TillsyncError } from '../errors.ts'
import { readState, STATE, writeState } from '../migrate.ts'
import type { RegisterDatabase } from '../ports.ts'
import { erase, type Work } from '../work.ts'

/** By this key it is kept which process applies what central has sent, and when it last wrote any of it, by its own clock. */
const RECEIVING = 'subscribed.turn'
/** Who has written nothing for so long is taken for gone: another one may have the turn. */
const GONE_MS = 1_000
/** How often it is looked whether the turn is free. */
const LOOK_MS = 25
/** How long another one is waited for that goes on and on. */
const PATIENCE_MS = 30_000

/**
 * Of several processes of a register one at a time applies what central has sent: each has a batch of its own, cut at another moment, and what they wrote in between each other's slices would in the end be older
 * than what is said to be here. Work that ends with its transaction needs no turn, but waits for whoever has it; what goes on in another transaction keeps it until `release()`. Who ends without that loses
 * it, and who was only slow finds out in its next transaction.
 */
export class ReceivingTurn {
  private readonly database: RegisterDatabase
  private readonly name = `${randomBytes(9).toString('base64url')} `
  private mine = false

  constructor(database: RegisterDatabase) {
    this.database = database
  }

  /** Whether it is this process's turn: what it has read since cannot have been changed by another one. */
  get isMine(): boolean {
    return this.mine
  }

  /** At the beginning of a transaction: false where another process has the turn. @throws ERR_BUSY where it has lost its own */
  *begin(): Work<boolean> {
    yield* this.database.lockReceiving()
    const value = yield* readState(this.database, RECEIVING)
    const isMine = value?.startsWith(this.name) ?? false
    if (this.mine && !isMine) throw lost()
    return value === undefined || isMine
  }

  /** At the end of a transaction behind which it goes on; when that is committed, `kept()` says so. */
  keep(): Work<void> {
    return writeState(RECEIVING, `${this.name}${performance.now()}`)
  }

  kept(): void {
    this.mine = true
  }

  /** At the beginning of a transaction that has the turn already, and only writes. @throws ERR_BUSY where it has lost it */
  *goOn(): Work<void> {
    yield* this.begin()
    yield* this.keep()
  }

  /** Waits for the turn, if it has to. @throws ERR_BUSY, ERR_STOPPED */
  async acquire(signal: AbortSignal): Promise<void> {
    while (!this.mine) {
      const isMine = await this.database.write(() => this.enter(), { signal, lazily: true })
      if (isMine) this.mine = true
      else await this.wait(signal)
    }
  }

  /** Until nobody else has it. @throws ERR_BUSY, ERR_STOPPED */
  async wait(signal: AbortSignal): Promise<void> {
    const patience = performance.now() + PATIENCE_MS
    let [seen, since] = [await this.read(), performance.now()]
    while (seen !== undefined) {
      if (signal.aborted) throw new TillsyncError('ERR_STOPPED', 'The register is stopped', { retryable: true })
      if (performance.now() > patience) throw busy('Another process applies what central sends, without end')
      await sleep(LOOK_MS)
      const now = await this.read()
      if (now !== seen) [seen, since] = [now, performance.now()]
      else if (performance.now() - since > GONE_MS) return this.takeOver(seen)
    }
  }

  /** Others may go on. What can't be written now they find out by themselves. */
  async release(signal: AbortSignal): Promise<void> {
    if (!this.mine) return
    this.mine = false
    await this.database.write(() => this.leave(), { signal, lazily: true }).catch(() => undefined)
  }

  private *enter(): Work<boolean> {
    if (!(yield* this.begin())) return false
    yield* this.keep()
    return true
  }

  private *leave(): Work<void> {
    if ((yield* readState(this.database, RECEIVING))?.startsWith(this.name)) yield* erase(STATE, STATE.primaryKey, [[RECEIVING]])
  }

  private async takeOver(seen: string): Promise<void> {
    const { database } = this
    await database.write(
      function* () {
        yield* database.lockReceiving()
        if ((yield* readState(database, RECEIVING)) === seen) yield* erase(STATE, STATE.primaryKey, [[RECEIVING]])
      },
      { lazily: true },
    )
  }

  private read(): Promise<string | undefined> {
    const { database } = this
    return database.read(() => readState(database, RECEIVING), { loosely: true })
  }
}

function lost(): TillsyncError {
  return busy('Another process has taken what central sent')
}

function busy(message: string): TillsyncError {
  return new TillsyncError('ERR_BUSY', message, { retryable: true, hint: 'It is tried again with the next exchange.' })
}
