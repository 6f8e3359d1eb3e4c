// The other side of recorded-central.test.ts: today's register, on an SQLite file of its own, does what was done at the recorded one, hears what the recorded central said, and must say the same, and
// have the same in the end. Recorded again as is said there.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import type { Mailbox } from '../../src/ports.ts'
import { centralFileMailbox, fileMailbox } from '../../src/transport/file.ts'
import { LETTER_KEY, TillHand } from '../fixtures/wire/deeds.ts'
import type { Letter } from '../fixtures/wire/recording.ts'
import { kept, POS1, TAKE } from '../fixtures/wire/scene.ts'
import { Till, type TillOptions } from '../fixtures/wire/till.ts'
import { eventually } from '../support/eventually.ts'
import { endOf, LetterFolder, playedTalks, readLetter, type Talk } from '../support/recorded.ts'
import { answer, pushed, RECORDS_PER_RUN, Scene, TOKEN } from '../support/recorded-scene.ts'

const conversations = playedTalks()

/** What it writes lies in a file, as ever; a letter of central's comes when it was heard. */
function mailed(t: Test, scene: Scene): TillOptions['transfer'] & object {
  const folder = new LetterFolder(t, POS1)
  const inner = fileMailbox({ ...POS1, folder: folder.root, key: LETTER_KEY, lookMs: 10 })
  const mailbox: Mailbox = {
    ...inner,
    async send(message, options) {
      await inner.send(message, options)
      const letter = await folder.next('up')
      const { says, message: written } = readLetter(LETTER_KEY, letter)
      t.same(written, Buffer.from(message), 'its file holds what it says')
      t.same(says, scene.step?.letter && readLetter(LETTER_KEY, scene.step.letter).says, 'and says the same of itself')
      t.equal(letter.name.slice(16), `${Buffer.from(options.id, 'base64url').toString('hex')}.up`)
      t.equal(letter.name.length, scene.step?.letter?.name.length)
      await scene.says(written)
    },
    async *receive({ signal }) {
      while (!signal.aborted) {
        await eventually('central has something to say', () => signal.aborted || scene.step?.from === 'central')
        if (!signal.aborted) yield { message: scene.heard(), acknowledge: async () => undefined, release: async () => undefined }
      }
    },
  }
  return { type: 'push', mailbox, recordsPerRun: RECORDS_PER_RUN }
}

async function play(t: Test, talk: Talk): Promise<void> {
  const scene = new Scene(t, talk)
  const folder = mkdtempSync(join(tmpdir(), 'tillsync-recorded-'))
  const { carrier, deeds } = talk.played
  const pulled = { type: 'pull', token: TOKEN, recordsPerRun: RECORDS_PER_RUN } as const
  const transfer = carrier === 'pull' ? pulled : carrier === 'push' ? pushed(scene) : mailed(t, scene)
  const till = new Till(join(folder, 'till.sqlite'), { subscribe: TAKE, transfer })
  t.teardown(async () => {
    await till.close()
    rmSync(folder, { recursive: true, force: true })
  })
  const hand = new TillHand(till)
  for (const [n, deed] of deeds.entries()) {
    await hand.do(deed)
    if (carrier === 'pull') while (scene.at < endOf(talk, n)) await answer(scene, till)
    else if (deed.does === 'synchronize') await till.replica.synchronize()
    t.equal(scene.at, endOf(talk, n), `after ${deed.does}`)
  }
  t.same(kept(till.db), talk.played.kept, 'it has the same')
}

for (const talk of conversations)
  t.test(`today's register says to a central of ${talk.edition} what one of then did: ${talk.shows}`, (t) => play(t, talk))

t.test('a letter of then is read at either side, from the file that was written then', async (t) => {
  const { steps } = conversations.find(({ name }) => name === 'letters') as Talk
  for (const direction of ['up', 'down'] as const) {
    const written = steps.filter(({ from }) => (from === 'register') === (direction === 'up'))
    const folder = new LetterFolder(t, POS1)
    for (const { letter, bytes } of written) {
      t.same(readLetter(LETTER_KEY, letter as Letter).message, Buffer.from(bytes))
      folder.put(letter as Letter)
    }
    const mailbox =
      direction === 'up'
        ? centralFileMailbox({ folder: folder.root, keys: () => LETTER_KEY, lookMs: 10 })
        : fileMailbox({ ...POS1, folder: folder.root, key: LETTER_KEY, lookMs: 10 })
    const found: Buffer[] = []
    for await (const { message } of mailbox.receive({ signal: new AbortController().signal, onRefused: (error) => t.error(error) })) {
      found.push(Buffer.from(message))
      if (found.length === written.length) break
    }
    const inOrder = written.toSorted((a, b) => ((a.letter as Letter).name < (b.letter as Letter).name ? -1 : 1))
    t.same(
      found,
      inOrder.map(({ bytes }) => Buffer.from(bytes)),
    )
  }
})
