import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type Clause, calm, codeOf, exchangeByHand, synchronize } from './clause.ts'
import { checkBooks } from './contract-books.ts'
import { within } from './patience.ts'

const REGISTERS = 6
const AT_ONCE = 8
const BIG_BYTES = 3_000_000

/** What a link does where nothing goes wrong. */
export const CARRYING: readonly Clause[] = [
  {
    name: 'what is sold arrives, and what central says to it comes back',
    async act(scene) {
      const till = await scene.addTill()
      for (const receipts of [1, 15, 2]) {
        await till.sell(receipts)
        await synchronize(scene, till)
        await checkBooks(scene, till, 'after a run')
        const { head, standing, pending } = await till.register.status()
        assert.equal(pending, 0, 'the register knows that central has everything')
        assert.deepEqual(standing, head)
      }
      const before = till.carrier.recorded.length
      await synchronize(scene, till)
      assert.ok(till.carrier.recorded.length > before, 'an exchange without anything to say takes place too')
    },
  },
  {
    name: 'the bytes of a message and of its answer arrive as they are, and stay as they are',
    async act(scene) {
      const till = await scene.addTill()
      const door = scene.doorOf(till)
      for (const id of ['a', 'b'.repeat(64), 'ä€😀']) {
        const message = await till.hello(id)
        const given = Uint8Array.from(message)
        const answer = await within(
          scene.options.withinMs,
          'an exchange',
          till.link.exchange(given, { signal: AbortSignal.timeout(scene.options.withinMs) }),
        )
        assert.ok(answer instanceof Uint8Array, 'an answer is a Uint8Array')
        assert.ok(Buffer.from(door.taken).equals(message), 'the message arrives as it is')
        assert.ok(Buffer.from(answer).equals(door.given), 'the answer arrives as it is')
        assert.ok(Buffer.from(given).equals(message), 'the link does not write into a message')
        const kept = Uint8Array.from(answer)
        await till.link.exchange(await till.hello('next'), { signal: AbortSignal.timeout(scene.options.withinMs) })
        assert.ok(Buffer.from(answer).equals(kept), 'nor into an answer that it has given away')
      }
    },
  },
  {
    name: 'messages of megabytes arrive',
    async act(scene) {
      const till = await scene.addTill()
      // Random, so that compression makes no small one of it; not hexadecimal, on which it works hard for the half.
      await till.sell(1, randomBytes(BIG_BYTES).toString('base64'))
      await till.sell(3)
      await till.sell(1, randomBytes(BIG_BYTES / 2).toString('base64'))
      await calm(scene, till, 'after big messages')
    },
  },
  {
    name: 'registers exchange at the same time, each with its own stream',
    async act(scene) {
      const tills = []
      for (let n = 1; n <= REGISTERS; n++) tills.push(await scene.addTill(`POS${n}`))
      for (const [n, till] of tills.entries()) await till.sell(4 + 3 * n)
      const ended = await Promise.all(tills.map((till) => codeOf(synchronize(scene, till))))
      for (const error of ended) assert.ok(error === undefined || error.retryable, `${error?.code}: ${error?.message}`)
      for (const till of tills) await calm(scene, till, `after exchanges at the same time, ${till.name.register}`)
    },
  },
  {
    name: 'each of several exchanges under way gets the answer to its own message',
    async act(scene) {
      const tills = [await scene.addTill('POS1'), await scene.addTill('POS2')]
      const signal = AbortSignal.timeout(scene.options.withinMs)
      for (let round = 0; round < 4; round++) {
        const all = tills.flatMap((till) => Array.from({ length: AT_ONCE }, (_, n) => ({ till, id: `${till.name.register}-${round}-${n}` })))
        const answers = await within(
          scene.options.withinMs,
          'exchanges at the same time',
          Promise.all(all.map(async ({ till, id }) => exchangeByHand(till.link, await till.hello(id), signal))),
        )
        for (const [n, { answers: answered, code }] of answers.entries()) {
          assert.ok(code === undefined || code === 'ERR_BUSY', `an exchange beside others is refused with ${code}`)
          if (code === undefined) assert.equal(answered, all[n]?.id, 'an answer belongs to its message')
        }
      }
    },
  },
  {
    name: 'who is refused learns why, by the code',
    async act(scene) {
      const till = await scene.addTill()
      const { token } = till
      await till.sell(3)
      await synchronize(scene, till)
      await till.sell(3)
      await scene.lockOut(till)
      const refused = await within(scene.options.withinMs, 'a refusal', codeOf(scene.synchronize(till)))
      assert.equal(refused?.code, 'ERR_CREDENTIAL', 'a credential that does not hold')
      await scene.letIn(till, token)
      const signal = AbortSignal.timeout(scene.options.withinMs)
      const foreign = await exchangeByHand(till.link, await till.hello('x', { ...till.name, register: 'POS9' }), signal)
      assert.equal(foreign.code, 'ERR_FOREIGN_REGISTER', 'a message of another register')
      const nonsense = await exchangeByHand(till.link, Buffer.from('no message'), signal)
      assert.equal(nonsense.code, 'ERR_MESSAGE', 'bytes that are no message')
      await calm(scene, till, 'after a refusal')
    },
  },
]
