import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import type { CentralMailbox, Letter, Mailbox } from '../ports.ts'
import type { MailboxClause } from './mailbox-contract.ts'
import type { MailboxScene } from './mailbox-scene.ts'
import { within } from './patience.ts'

const BIG_BYTES = 3_000_000
/** In which a letter that must not come would have come. */
const QUIET_MS = 400

type Receiving<L extends Letter> = { receive: Mailbox['receive'] | CentralMailbox['receive']; readonly letter?: L }

/** The next letters, as many as are asked for, without acknowledging any. */
async function next(scene: MailboxScene, mailbox: Receiving<Letter>, many: number): Promise<Letter[]> {
  const ending = new AbortController()
  const letters: Letter[] = []
  const all = (async () => {
    while (!ending.signal.aborted) {
      try {
        for await (const letter of mailbox.receive({ signal: ending.signal })) if (letters.push(letter) >= many) return
      } catch (error) {
        if (ending.signal.aborted) return
        if ((error as { code?: string }).code !== 'ERR_LINK') throw error
      }
      await pause(10)
    }
  })()
  try {
    await within(scene.options.withinMs, `${many} letters`, all)
  } finally {
    ending.abort()
  }
  return letters
}

/** Whether nothing comes for a while. */
async function isQuiet(mailbox: Receiving<Letter>): Promise<boolean> {
  const ending = new AbortController()
  const timer = setTimeout(() => ending.abort(), QUIET_MS)
  try {
    for await (const _ of mailbox.receive({ signal: ending.signal })) return false
  } catch (error) {
    if (!ending.signal.aborted && (error as { code?: string }).code !== 'ERR_LINK') throw error
  } finally {
    clearTimeout(timer)
    ending.abort()
  }
  return true
}

const textOf = ({ message }: Letter): string => Buffer.from(message).toString()
const id = (): string => randomBytes(9).toString('base64url')

/** What a mailbox does with letters, whatever they say. */
export const LETTERS: readonly MailboxClause[] = [
  {
    name: 'a message arrives as it is, with the name of the register that the carrier knows it by, and so does the answer',
    async act(scene) {
      const [central, one, two] = [await scene.centralMailbox(), await scene.mailboxOf('POS1'), await scene.mailboxOf('POS2')]
      const most = Math.min(BIG_BYTES, one.maxBytes ?? BIG_BYTES)
      const messages = [Buffer.from('ä€😀'), randomBytes(1), randomBytes(most)]
      for (const message of messages) {
        const given = Uint8Array.from(message)
        await one.send(given, { id: id() })
        assert.ok(Buffer.from(given).equals(message), 'the mailbox does not write into a message')
        const [letter] = (await next(scene, central, 1)) as (Letter & { from: { location: string; register: string } })[]
        assert.ok(Buffer.from(letter?.message as Uint8Array).equals(message), 'a message arrives as it is')
        assert.deepEqual({ ...letter?.from }, { location: scene.location, register: 'POS1' }, 'from whom it is')
        await letter?.acknowledge()
        await central.send({ location: scene.location, register: 'POS1' }, message)
        const [answer] = await next(scene, one, 1)
        assert.ok(Buffer.from(answer?.message as Uint8Array).equals(message), 'an answer arrives as it is')
        await answer?.acknowledge()
      }
      await central.send({ location: scene.location, register: 'POS2' }, Buffer.from('for POS2'))
      assert.ok(await isQuiet(one), 'a register gets no letter of another')
      const [letter] = await next(scene, two, 1)
      await letter?.acknowledge()
    },
  },
  {
    name: 'letters to nobody wait until somebody comes for them, and stay until they are acknowledged',
    async act(scene) {
      const one = await scene.mailboxOf('POS1')
      for (const text of ['a', 'b', 'c']) await one.send(Buffer.from(text), { id: id() })
      const before = await scene.centralMailbox()
      const [first] = await next(scene, before, 1)
      assert.equal(first && textOf(first), 'a', 'where nothing is wrong, in the order in which they were sent')
      await before.close?.()
      const after = await scene.centralMailbox()
      const again: Letter[] = []
      // One by one: the next of a register may come only when the one before is settled.
      for (let taken = 0; taken < 3; taken++) {
        const [letter] = await next(scene, after, 1)
        await letter?.acknowledge()
        if (letter) again.push(letter)
      }
      assert.deepEqual(again.map(textOf), ['a', 'b', 'c'], 'what was not acknowledged comes again, to whoever receives')
      for (const letter of again) await letter.acknowledge()
      assert.ok(await isQuiet(after), 'what was acknowledged does not, and twice is no error')
    },
  },
  {
    name: 'a letter that is released comes again, and holds up no other',
    async act(scene) {
      const [central, one] = [await scene.centralMailbox(), await scene.mailboxOf('POS1')]
      for (const text of ['a', 'b']) await one.send(Buffer.from(text), { id: id() })
      const ending = new AbortController()
      const come: string[] = []
      const all = (async () => {
        for await (const letter of central.receive({ signal: ending.signal })) {
          come.push(textOf(letter))
          if (textOf(letter) === 'a' && come.filter((text) => text === 'a').length < 3) await letter.release()
          else await letter.acknowledge()
          if (come.filter((text) => text === 'a').length === 3 && come.includes('b')) return
        }
      })()
      try {
        await within(scene.options.withinMs, 'a letter that is released comes again', all)
      } finally {
        ending.abort()
      }
      assert.equal(come.filter((text) => text === 'b').length, 1)
    },
  },
  {
    name: 'receiving ends with its signal, and can begin again',
    async act(scene) {
      for (const mailbox of [await scene.centralMailbox(), await scene.mailboxOf('POS1')]) {
        for (let turn = 0; turn < 3; turn++) {
          const ending = new AbortController()
          const ended = (async () => {
            try {
              for await (const letter of mailbox.receive({ signal: ending.signal })) await letter.acknowledge()
            } catch (error) {
              if (!ending.signal.aborted) throw error
            }
          })()
          await pause(20)
          ending.abort()
          await within(scene.options.withinMs, 'the end of receiving', ended)
        }
        await mailbox.close?.()
      }
    },
  },
]
