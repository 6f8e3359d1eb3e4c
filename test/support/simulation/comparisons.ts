import { setTimeout as pause } from 'node:timers/promises'
import type { TillsyncError } from '../../../src/errors.ts'
import type { Comparison } from '../../../src/index.ts'
import { Break } from '../differential/break.ts'
import type { Machine } from './machine.ts'
import type { Seat, World } from './world.ts'

/** What a comparison may end with while things go wrong. */
const EXPECTED = ['ERR_ABORTED', 'ERR_STOPPED', 'ERR_UNANSWERED', 'ERR_CLONED']
/** Runs that a till needs at most until it has answered all; central may take longer over what it is told than the till over having nothing to say. */
const MOST_RUNS = 50
const PATIENCE_MS = 20_000

/** Comparisons that are under way while everything else goes on. */
export class Comparisons {
  private readonly ending = new AbortController()
  private readonly running: Promise<unknown>[] = []

  /** Nobody waits for it. Of a till that has one copy nothing ever differs: what it has not sent, or has lost, is known. */
  ask(world: World, seat: Seat, repair: boolean): void {
    const comparing = world.office.central.compare('receipts', seat.name, { repair, signal: this.ending.signal }).then(
      (comparison) => {
        if (seat.machines.length === 1 && !seat.isReset) requireEqual(world, comparison)
      },
      (error: TillsyncError) => {
        if (!EXPECTED.includes(error.code)) throw error
      },
    )
    comparing.catch(() => undefined)
    this.running.push(comparing)
  }

  async end(): Promise<void> {
    this.ending.abort()
    await Promise.all(this.running)
  }
}

/** Nothing differs, once nothing moves any more. */
export async function checkAlike(world: World, seat: Seat, machine: Machine): Promise<void> {
  const { office, network } = world
  // What was set up anew and has not sealed anything yet is not known to central: it does not know which database answers.
  if (seat.isReset && (await machine.replica.status()).head.entryNo === 0) return
  let isOver = false
  const ending = new AbortController()
  const comparing = office.central.compare('receipts', seat.name, { signal: ending.signal })
  const over = () => {
    isOver = true
  }
  comparing.then(over, over)
  const patience = performance.now() + PATIENCE_MS
  for (let runs = 0; !isOver && (runs < MOST_RUNS || performance.now() < patience); runs++) {
    network.expect([])
    await world.synchronize(seat, machine)
    if (runs >= MOST_RUNS) await pause(20)
  }
  if (!isOver) {
    ending.abort()
    await comparing.catch(() => undefined)
    throw new Break('unanswered', `Not compared after ${MOST_RUNS} runs and ${PATIENCE_MS} ms`)
  }
  requireEqual(world, await comparing)
}

/** Where a till forgets central, that does not hear of what was deleted meanwhile. */
function requireEqual({ forgets }: World, comparison: Comparison): void {
  const { differing, differences } = comparison
  if (differing > 0 && !(forgets && differences.every(({ kind }) => kind === 'surplus'))) throw new Break('differs', JSON.stringify(comparison))
}
