import assert from 'node:assert/strict'
import { FATES, type Fate } from './carrier.ts'
import { type Clause, calm, codeOf, dice, synchronize, tryToSynchronize } from './clause.ts'
import type { Manner } from './door.ts'
import { within } from './patience.ts'

const LIFTED: Readonly<Record<Exclude<Fate, 'delivered'>, string>> = {
  'message lost': 'messages are lost',
  'answer lost': 'answers are lost',
  'message doubled': 'messages arrive twice',
  'message late': 'messages arrive late, and in another order',
  'message cut': 'messages are cut off',
  'answer cut': 'answers are cut off',
  'answer empty': 'answers are empty',
  'answer garbage': 'something else answers',
  'answer of another': 'answers belong to earlier messages',
  slow: 'messages and answers take their time',
}

const TURNS = 6
const STORM = 60

/** Whether nothing is lost and nothing is doubled when messages meet one fate, and when they meet all. */
const ON_THE_WAY: readonly Clause[] = FATES.map((fate) => ({
  name: `nothing is lost or doubled where ${LIFTED[fate as Exclude<Fate, 'delivered'>]}`,
  async act(scene) {
    const till = await scene.addTill()
    await till.sell(2)
    await synchronize(scene, till)
    for (let turn = 0; turn < TURNS; turn++) {
      await till.sell(5)
      // The first of a run, the second, the third; then one after another.
      till.carrier.fates = turn < 3 ? [...Array<Fate>(turn).fill('delivered'), fate] : Array<Fate>(turn - 1).fill(fate)
      for (let run = 0; run < TURNS && (run === 0 || till.carrier.fates.length > 0); run++) await tryToSynchronize(scene, till)
    }
    await till.sell(2)
    await calm(scene, till, `after "${fate}"`)
    await till.carrier.deliverKept(till.link, AbortSignal.timeout(scene.options.withinMs))
    await calm(scene, till, 'after what was late')
  },
}))

const BEHIND: readonly (readonly [Manner, string])[] = [
  ['breaks', 'the other side breaks off'],
  ['foreign', 'a proxy answers in its place'],
  ['cut', 'half of an answer arrives'],
]

/** The same where the other side behaves oddly, so that the link itself must notice. */
const AT_THE_OTHER_SIDE: readonly Clause[] = BEHIND.map(([manner, words]) => ({
  name: `it is an error with a code where ${words}, and goes well again after it`,
  async act(scene) {
    const till = await scene.addTill()
    const door = scene.doorOf(till)
    for (let turn = 0; turn < 3; turn++) {
      await till.sell(3)
      door.manner = manner
      assert.ok((await tryToSynchronize(scene, till)) !== undefined, 'it does not go well')
      if (manner === 'breaks') {
        // Of its own: a register would take whatever has no code for that.
        const error = await codeOf(till.link.exchange(await till.hello(`breaks-${turn}`), { signal: AbortSignal.timeout(scene.options.withinMs) }))
        assert.equal(error?.code, 'ERR_LINK', 'what the line does is ERR_LINK')
        assert.ok(error.retryable, 'and can be tried again')
      }
      door.manner = 'answers'
      if (turn === 1) await synchronize(scene, till)
    }
    await calm(scene, till, `after "${manner}"`)
  },
}))

export const FAULTS: readonly Clause[] = [
  ...ON_THE_WAY,
  ...AT_THE_OTHER_SIDE,
  {
    name: 'nothing is lost or doubled where all of it happens at once, to several registers',
    async act(scene) {
      const { seed } = scene.options
      const random = dice(seed)
      const tills = [await scene.addTill('POS1'), await scene.addTill('POS2')]
      for (let turn = 0; turn < STORM / 6; turn++) {
        for (const till of tills) {
          await till.sell(1 + Math.floor(random() * 6))
          till.carrier.fates = Array.from({ length: 6 }, () => (random() < 0.6 ? (FATES[Math.floor(random() * FATES.length)] as Fate) : 'delivered'))
        }
        await Promise.all(tills.map((till) => tryToSynchronize(scene, till)))
        const [till] = random() < 0.5 ? tills : [...tills].reverse()
        if (random() < 0.3) await till?.carrier.deliverKept(till.link, AbortSignal.timeout(scene.options.withinMs))
      }
      for (const till of tills) {
        await calm(scene, till, `after a storm, seed ${seed}`)
        await till.carrier.deliverKept(till.link, AbortSignal.timeout(scene.options.withinMs))
        await calm(scene, till, `after what was late, seed ${seed}`)
      }
    },
  },
  {
    name: 'a side that is stopped says so or is not reached, and goes on when it is started again',
    async act(scene) {
      const till = await scene.addTill()
      await till.sell(3)
      const side = scene.isPulled ? till.register : scene.central
      await side.stop()
      const error = await within(scene.options.withinMs + scene.options.timeoutMs, 'a refusal', codeOf(scene.synchronize(till)))
      assert.ok(error?.code === 'ERR_STOPPED' || error?.code === 'ERR_LINK', `${error?.code}`)
      assert.ok(error.retryable, 'it can be tried again')
      await side.start()
      await calm(scene, till, 'after it was started again')
    },
  },
]
