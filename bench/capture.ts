import { join } from 'node:path'
import { type Bench, interleave, toResult } from './measure.ts'
import { openTill, register, seller, temporaryFolder } from './shop.ts'

const UNIT = 'µs a sale'

/** The same till with and without the triggers; nothing is sealed meanwhile, the touches pile up. */
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
    return () => {
      const before = cost()
      for (let n = 0; n < sales; n++) sell(next++)
      const figure = (cost() - before) / sales
      // Each begins the next round with an empty log, so that neither pays for the other's checkpoints.
      db.pragma('wal_checkpoint(TRUNCATE)')
      return figure
    }
  }
  return interleave(rounds, { bare: await variant('bare', false), captured: await variant('captured', true) })
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
    const { bare = [], captured = [] } = await measure('OFF', 2_000, rounds, cpu)
    return [toResult('capture-off', UNIT, captured, bare, { of: 'ratio', bound: '≤', value: 1.35 })]
  },
}

export const captureFull: Bench = {
  name: 'capture-full',
  about: 'wall time of a sale with the triggers against one without, synchronous = FULL: what the cashier feels',
  rounds: 15,
  async run(rounds) {
    const { bare = [], captured = [] } = await measure('FULL', 400, rounds, wall)
    return [toResult('capture-full', UNIT, captured, bare, { of: 'ratio', bound: '≤', value: 1.15 })]
  },
}
