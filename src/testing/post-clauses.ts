import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { dice } from './clause.ts'
import { POSTAGES, type Postage } from './mail-carrier.ts'
import type { MailboxClause } from './mailbox-contract.ts'

const LIFTED: Readonly<Record<Exclude<Postage, 'delivered'>, string>> = {
  lost: 'letters are lost',
  twice: 'letters arrive twice',
  late: 'letters arrive late, and in another order',
  cut: 'letters are cut off',
}
const TURNS = 4
const STORM = 8
const NOTE_BYTES = 200_000

/** Whether nothing is lost and nothing is doubled when letters of one way meet one fate. */
const ON_THE_WAY: readonly MailboxClause[] = POSTAGES.flatMap((fate) =>
  (['up', 'down'] as const).map((way) => ({
    name: `nothing is lost or doubled where ${LIFTED[fate]} on the way ${way === 'up' ? 'to central' : 'to the register'}`,
    async act(scene) {
      const of = await scene.addTill()
      await scene.central.start()
      await of.till.sell(2)
      await scene.calm(of, 'at the beginning')
      for (let turn = 0; turn < TURNS; turn++) {
        await of.till.sell(6)
        of.carrier.fates[way] = [...Array<Postage>(turn % 3).fill('delivered'), ...Array<Postage>(1 + (turn >> 1)).fill(fate)]
        await scene.tryToSynchronize(of)
      }
      await of.till.sell(2)
      await scene.calm(of, `after "${fate}"`)
      await of.carrier.deliverKept(of.mailbox)
      await of.till.sell(1)
      await scene.calm(of, 'after what was late')
    },
  })),
)

/** What becomes of sales that go by mailbox. */
export const POST: readonly MailboxClause[] = [
  {
    name: 'what is sold arrives, small and large, and what central says to it comes back',
    async act(scene) {
      const of = await scene.addTill()
      await scene.central.start()
      for (const receipts of [1, 15, 2]) {
        await of.till.sell(receipts)
        await scene.calm(of, 'after a run')
        const { head, standing } = await of.till.register.status()
        assert.deepEqual(standing, head, 'the register knows that central has everything')
      }
      await of.till.sell(3, randomBytes(NOTE_BYTES).toString('base64'))
      await scene.calm(of, 'after large ones')
    },
  },
  ...ON_THE_WAY,
  {
    name: 'the two are never there at the same time',
    async act(scene) {
      const of = await scene.addTill()
      for (let visit = 0; visit < 3; visit++) {
        await of.till.sell(10)
        const error = await scene.tryToSynchronize(of)
        assert.ok(error === undefined || error.code === 'ERR_UNANSWERED', `nobody answers: ${error?.code}`)
        await of.till.register.stop()
        await scene.central.start()
        // It receives what lies there, and answers into the mailbox.
        await new Promise((done) => setTimeout(done, 500))
        await scene.central.stop()
      }
      await scene.central.start()
      await scene.calm(of, 'after three visits')
    },
  },
  {
    name: 'nothing is lost or doubled where all of it happens at once, to several registers',
    async act(scene) {
      const { seed } = scene.options
      const random = dice(seed)
      const tills = [await scene.addTill('POS1'), await scene.addTill('POS2')]
      await scene.central.start()
      const fate = (): Postage => (random() < 0.5 ? (POSTAGES[Math.floor(random() * POSTAGES.length)] as Postage) : 'delivered')
      for (let turn = 0; turn < STORM; turn++) {
        for (const { till, carrier } of tills) {
          await till.sell(1 + Math.floor(random() * 6))
          carrier.fates.up = Array.from({ length: 4 }, fate)
          carrier.fates.down = Array.from({ length: 4 }, fate)
        }
        await Promise.all(tills.map((of) => scene.tryToSynchronize(of)))
        const of = tills[random() < 0.5 ? 0 : 1]
        if (of && random() < 0.4) await of.carrier.deliverKept(of.mailbox)
      }
      for (const of of tills) {
        await scene.calm(of, `after a storm, seed ${seed}`)
        await of.carrier.deliverKept(of.mailbox)
        await of.till.sell(1)
        await scene.calm(of, `after what was late, seed ${seed}`)
      }
    },
  },
  {
    name: 'letters of 30 days ago change nothing when they arrive again, restores in between or not',
    async act(scene) {
      const of = await scene.addTill()
      const { till, carrier, mailbox } = of
      await scene.central.start()
      const replay = async (messages: readonly Uint8Array[], answers: readonly Uint8Array[]) => {
        for (const message of messages) await mailbox.send(message, { id: carrier.nextId() })
        carrier.repeat(answers)
      }
      await till.sell(8)
      await scene.calm(of, 'on the first day')
      const backup = await till.backup()
      await till.sell(8)
      await scene.calm(of, 'before the restore')
      const [up, down] = [[...carrier.recorded.up], [...carrier.recorded.down]]
      await till.restore(backup)
      await till.sell(8)
      await scene.calm(of, 'after the restore')
      await till.register.prune()
      await till.sell(8)
      await scene.calm(of, 'after 30 days')
      await replay(up, down)
      await till.sell(2)
      await scene.calm(of, 'after the first letters came again')
      const [allUp, allDown] = [[...carrier.recorded.up], [...carrier.recorded.down]]
      await till.restore(backup)
      await replay(allUp, allDown)
      await till.sell(2)
      await scene.calm(of, 'after all letters came again')
      await replay([...carrier.recorded.up].reverse(), [...carrier.recorded.down].reverse())
      await till.sell(1)
      await scene.calm(of, 'after all of them in another order')
    },
  },
  {
    name: 'two centrals receive from the same mailboxes, and either may stop at any time',
    async act(scene) {
      const tills = [await scene.addTill('POS1'), await scene.addTill('POS2')]
      const other = await scene.another()
      await Promise.all([scene.central.start(), other.start()])
      for (let turn = 0; turn < 6; turn++) {
        for (const { till } of tills) await till.sell(6)
        const running = Promise.all(tills.map((of) => scene.tryToSynchronize(of)))
        if (turn === 2) await other.stop()
        if (turn === 3) await other.start()
        if (turn === 4) await scene.central.stop()
        if (turn === 5) await scene.central.start()
        await running
      }
      for (const of of tills) await scene.calm(of, `after two centrals, ${of.till.name.register}`)
    },
  },
  {
    name: 'who is not let in any more is told so, and goes on when he is',
    async act(scene) {
      const of = await scene.addTill()
      await scene.central.start()
      await of.till.sell(2)
      await scene.calm(of, 'before')
      await scene.central.registers.revoke(of.till.name)
      await of.till.sell(2)
      const error = await scene.tryToSynchronize(of)
      assert.equal(error?.code, 'ERR_CREDENTIAL')
      await scene.central.registers.rotate(of.till.name)
      await scene.calm(of, 'let in again')
    },
  },
]
