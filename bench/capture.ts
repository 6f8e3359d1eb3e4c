import { join } from 'node:path'
import { type Bench, expect, interleave, roundsOf, toResult } from './measure.ts'
import { openTill, ROWS, register, seller, temporaryFolder } from './shop.ts'

const UNIT = 'µs a sale'
/** The two take turns this often in a round. */
const TURNS = 40

/**
 * The same till with and without the triggers; nothing is sealed meanwhile, the touches pile up. Each pays for the
 * checkpoints that its writing brings about.
 */
async function measure(synchronous: 'OFF' | 'FULL', sales: number, rounds: number, cost: () => number) {
  const folder = temporaryFolder()
  let next = 1
  const variant = async (name: string, capture: boolean) => {
    const file = join(folder, `${name}.sqlite`)
    const db = openTill(file, synchronous)
    if (capture) {
      const till = register(file, name)
      await till.install()
      await till.stop()
    }
    const sell = seller(db)
    const turn = () => {
      const before = cost()
      for (let n = 0; n < sales; n++) sell(next++)
      return (cost() - before) / sales
    }
    return { db, turn }
  }
  const [bareTill, capturedTill] = [await variant('bare', false), await variant('captured', true)]
  const { bare, captured } = await interleave(rounds, { bare: bareTill.turn, captured: capturedTill.turn }, TURNS)
  expect('the number of touches', capturedTill.db.prepare('SELECT count(*) FROM sync_touches').pluck().get(), (rounds + 1) * TURNS * sales * ROWS)
  return { bare: roundsOf(bare, TURNS), captured: roundsOf(captured, TURNS) }
}

const cpu = () => {
  const { user, system } = process.cpuUsage()
  return user + system
}
const wall = () => performance.now() * 1_000

export const captureOff: Bench = {
  name: 'capture-off',
  about: "CPU time of a sale with the triggers against one without, synchronous = OFF: what capture costs where the disk doesn't count",
  rounds: 15,
  async run(rounds) {
    const { bare, captured } = await measure('OFF', 50, rounds, cpu)
    return [toResult('capture-off', UNIT, captured, bare, { of: 'ratio', bound: '≤', value: 1.35 })]
  },
}

export const captureFull: Bench = {
  name: 'capture-full',
  about: 'wall time of a sale with the triggers against one without, synchronous = FULL: what the cashier feels',
  rounds: 15,
  async run(rounds) {
    const { bare, captured } = await measure('FULL', 10, rounds, wall)
    return [toResult('capture-full', UNIT, captured, bare, { of: 'ratio', bound: '≤', value: 1.15 })]
  },
}
