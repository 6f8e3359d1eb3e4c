import type { Central } from '../central-face.ts'
import { expectCode } from './carrier.ts'
import { type Clause, calm, codeOf, dice, synchronize } from './clause.ts'
import type { ContractScene } from './contract-scene.ts'
import type { ContractTill } from './contract-till.ts'
import { Door } from './door.ts'
import { within } from './patience.ts'

/** Every message that was ever given to the link arrives again. */
async function replay(scene: ContractScene, till: ContractTill, messages: readonly Uint8Array[]): Promise<void> {
  for (const message of messages) {
    const signal = AbortSignal.timeout(scene.options.withinMs)
    await within(scene.options.withinMs, 'a message of long ago', till.link.exchange(message, { signal }).catch(expectCode))
  }
}

/** What happens to histories: messages of long ago, backups that are restored, several centrals. */
export const HISTORIES: readonly Clause[] = [
  {
    name: 'messages of 30 days ago change nothing when they arrive again, restores in between or not',
    async act(scene) {
      const till = await scene.addTill()
      await till.sell(8)
      await calm(scene, till, 'on the first day')
      const backup = await till.backup()
      await till.sell(8)
      await calm(scene, till, 'before the restore')
      const early = [...till.carrier.recorded]
      await till.restore(backup)
      await till.sell(8)
      await calm(scene, till, 'after the restore')
      await till.register.prune()
      await till.sell(8)
      await calm(scene, till, 'after 30 days')
      await replay(scene, till, early)
      await till.sell(2)
      await calm(scene, till, 'after the first messages came again')
      const all = [...till.carrier.recorded]
      await till.restore(backup)
      await replay(scene, till, all)
      await till.sell(2)
      await calm(scene, till, 'after all messages came again, the last first')
      await replay(scene, till, [...till.carrier.recorded].reverse())
      await calm(scene, till, 'after all of them in another order')
    },
  },
  {
    name: 'two centrals on one database take turns, and get in each other’s way',
    async act(scene) {
      const till = await scene.addTill()
      const takeTurns = await twoCentrals(scene, till)
      for (let turn = 0; turn < 12; turn++) {
        await till.sell(4)
        await takeTurns(turn % 3 === 2)
      }
      await calm(scene, till, `after two centrals, seed ${scene.options.seed}`)
      await till.sell(2)
      await synchronize(scene, till)
      await calm(scene, till, 'and once more')
    },
  },
]

/** How the till is synchronized with one of two centrals, or with both at the same time. */
async function twoCentrals(scene: ContractScene, till: ContractTill): Promise<(both: boolean) => Promise<unknown>> {
  const random = dice(scene.options.seed)
  const other = scene.another()
  const centrals: readonly Central[] = random() < 0.5 ? [scene.central, other] : [other, scene.central]
  if (scene.isPulled) {
    const by = (central?: Central) => codeOf(scene.synchronize(till, central ? { central } : {}))
    return (both) => (both ? Promise.all(centrals.map(by)) : by(random() < 0.5 ? centrals[0] : centrals[1]))
  }
  const links = [till.link, await scene.linkOf(till.name, till.token, new Door(() => other))] as const
  let both = false
  till.link = {
    waitMs: till.link.waitMs,
    async exchange(message, options) {
      const [first, second] = random() < 0.5 ? links : [links[1], links[0]]
      const alongside = both ? second.exchange(message, options).catch(expectCode) : undefined
      const answer = await first.exchange(message, options)
      await alongside
      return answer
    },
  }
  return (atOnce) => {
    both = atOnce
    return codeOf(scene.synchronize(till))
  }
}
