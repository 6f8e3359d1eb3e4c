import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import { type Clause, calm, codeOf, exchangeByHand, synchronize } from './clause.ts'
import type { ContractScene } from './contract-scene.ts'
import type { Manner } from './door.ts'
import { eventually, within } from './patience.ts'

const NEVER = new AbortController().signal
const NOTICE_MS = 50

/** An exchange that waits for an answer which does not come is ended by its signal, and leaves nothing behind. */
async function abortWhile(scene: ContractScene, manner: Manner): Promise<void> {
  const till = await scene.addTill()
  const door = scene.doorOf(till)
  const { withinMs } = scene.options
  for (let turn = 0; turn < 3; turn++) {
    door.manner = manner
    const ending = new AbortController()
    const waiting = codeOf(till.link.exchange(await till.hello(`ended-${turn}`), { signal: ending.signal }))
    await pause(NOTICE_MS)
    ending.abort()
    const error = await within(withinMs, 'the end of an exchange by its signal', waiting)
    assert.equal(error?.code, 'ERR_ABORTED')
    door.manner = 'answers'
    door.close()
    const { answers, code } = await within(
      withinMs,
      'the next exchange',
      exchangeByHand(till.link, await till.hello(`next-${turn}`), AbortSignal.timeout(withinMs)),
    )
    assert.equal(code, undefined)
    assert.equal(answers, `next-${turn}`, 'the answer to an exchange that was ended is not given to the next one')
  }
}

/** What happens where an answer takes long, or for ever. */
export const WAITING: readonly Clause[] = [
  { name: 'an exchange ends with its signal, where the message arrives at nobody', act: (scene) => abortWhile(scene, 'silent') },
  { name: 'an exchange ends with its signal, where the answer does not come', act: (scene) => abortWhile(scene, 'mute') },
  {
    name: 'with a signal that is aborted already nothing is waited for',
    async act(scene) {
      const till = await scene.addTill()
      scene.doorOf(till).manner = 'silent'
      const error = await within(
        scene.options.withinMs,
        'an exchange that was aborted before',
        codeOf(till.link.exchange(await till.hello('x'), { signal: AbortSignal.abort() })),
      )
      assert.equal(error?.code, 'ERR_ABORTED')
    },
  },
  {
    name: 'a synchronization that is ended loses nothing and doubles nothing',
    async act(scene) {
      const till = await scene.addTill()
      const door = scene.doorOf(till)
      await till.sell(2)
      await synchronize(scene, till)
      for (const manner of ['mute', 'silent', 'mute'] as const) {
        await till.sell(3)
        door.manner = manner
        const ending = new AbortController()
        const waiting = codeOf(scene.synchronize(till, { signal: ending.signal }))
        await pause(NOTICE_MS)
        ending.abort()
        const error = await within(scene.options.withinMs, 'the end of a synchronization by its signal', waiting)
        assert.equal(error?.code, 'ERR_ABORTED')
        door.manner = 'answers'
        door.close()
      }
      await calm(scene, till, 'after synchronizations that were ended')
    },
  },
  {
    name: 'a connection that is half open is given up by itself, with ERR_LINK',
    async act(scene) {
      const till = await scene.addTill()
      const door = scene.doorOf(till)
      const patienceMs = scene.options.timeoutMs + scene.options.withinMs
      await till.sell(2)
      await synchronize(scene, till)
      door.manner = 'silent'
      const error = await within(patienceMs, 'that the link gives up', codeOf(till.link.exchange(await till.hello('x'), { signal: NEVER })))
      assert.equal(error?.code, 'ERR_LINK')
      assert.ok(error.retryable, 'it can be tried again')
      await till.sell(3)
      door.manner = 'mute'
      const ended = await within(patienceMs, 'that a synchronization gives up', codeOf(scene.synchronize(till)))
      assert.equal(ended?.code, 'ERR_LINK')
      door.manner = 'answers'
      door.close()
      await synchronize(scene, till)
      await calm(scene, till, 'after half-open connections')
    },
  },
  {
    name: 'an answer that is held back does not hold up what is sold meanwhile',
    onlyPush: true,
    async act(scene) {
      const till = await scene.addTill()
      const { waitMs } = till.link
      assert.ok(
        waitMs === undefined || (waitMs > 0 && waitMs < scene.options.timeoutMs),
        'a link is not kept waiting for as long as it gives up after',
      )
      await till.register.start()
      for (let turn = 0; turn < 4; turn++) {
        await till.sell(2)
        await eventually(scene.options.withinMs, 'what was sold is there', async () => {
          const { pending, unsealed, standing } = await till.register.status()
          return pending === 0 && unsealed === 0 && standing !== undefined
        })
        await pause(NOTICE_MS)
      }
      await within(scene.options.withinMs, 'the end of the register', till.register.stop())
      await till.register.start()
      await calm(scene, till, 'after answers that were held back')
    },
  },
]
