import type { TillsyncError } from '../../../src/errors.ts'
import { Break } from '../differential/break.ts'
import type { Machine } from './machine.ts'
import { asExpected, keep, reset } from './play.ts'
import type { Seat, World } from './world.ts'

/** Runs that a till needs at most, with an operator who does what he is told to. */
const MOST_RUNS = 8

/** The network works again, every letter has arrived, and of each register one copy goes on: the answer names it. */
export async function calm(world: World, last: number): Promise<ReadonlyMap<Seat, Machine>> {
  const { network } = world
  network.expect([])
  while (network.letters.length > 0) await network.deliverLetter(0).catch(asExpected)
  const live = new Map<Seat, Machine>()
  for (const seat of world.seats) {
    const machine = seat.copy(last)
    live.set(seat, machine)
    for (const other of seat.machines) if (other !== machine) await synchronize(world, seat, other)
    await settle(world, seat, machine)
    for (const other of seat.machines) if (other !== machine) await synchronize(world, seat, other)
    await settle(world, seat, machine)
  }
  return live
}

/** Until a run of the till has nothing to say. */
export async function settle(world: World, seat: Seat, machine: Machine): Promise<void> {
  let said = ''
  for (let run = 0; run < MOST_RUNS; run++) {
    const before = JSON.stringify((await machine.replica.status()).standing)
    const error = await synchronize(world, seat, machine)
    const { standing, head, pending, unsealed, resealing } = await machine.replica.status()
    said = `${error?.code ?? ''} ${JSON.stringify({ standing, head, pending, unsealed, resealing })}`
    if (error?.code === 'ERR_CLONED' && (await keep(world, seat, machine))) continue
    if (error?.code === 'ERR_FORKED' || error?.code === 'ERR_CLONED') await reset(world, seat)
    else if (error !== undefined) throw new Break(`stuck ${error.code}`, error.stack ?? error.message)
    else if (pending === 0 && unsealed === 0 && resealing.length === 0 && JSON.stringify(standing) === before) return
  }
  throw new Break('stuck', `After ${MOST_RUNS} runs: ${said}`)
}

async function synchronize(world: World, seat: Seat, machine: Machine): Promise<TillsyncError | undefined> {
  world.network.expect([])
  world.post.begin()
  const error = await world.synchronize(seat, machine).then(() => undefined, asExpected)
  world.post.check()
  return error
}
