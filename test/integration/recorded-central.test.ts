// Plays recorded conversations of which each deed at either side is recorded too (test/fixtures/wire/v1, those with `played`): today's central, on a PostgreSQL of its own, hears what a recorded
// register said, must say what the recorded central said, and have the same in the end; recorded-register.test.ts plays the other side. What is drawn at random or follows from the time is put in
// its place (`Drawn`), so they may be recorded again for a new version of the wire or of the library: `node test/fixtures/wire/record.ts [edition]`. What stands there stays.

import t, { type Test } from 'tap'
import type { CentralOptions } from '../../src/index.ts'
import { centralFileMailbox } from '../../src/transport/file.ts'
import { sealFile } from '../../src/transport/file-seal.ts'
import { CONTENT_TYPE } from '../../src/transport/http-client.ts'
import type { Message } from '../../src/transport/message.ts'
import { HeadOffice, LETTER_KEY } from '../fixtures/wire/deeds.ts'
import type { Letter, RecordedStep } from '../fixtures/wire/recording.ts'
import { arrived, POS1 } from '../fixtures/wire/scene.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { Drawn, endOf, LetterFolder, playedTalks, readLetter, type Talk } from '../support/recorded.ts'

const server = await startServer(t)
const conversations = playedTalks()

t.test('what was recorded shows all that may be left out of a message', async (t) => {
  t.same(new Set(conversations.map(({ name }) => name)), new Set(['comparison', 'audiences', 'sent-back', 'pulled-both-ways', 'letters']))
  const carriers = (shown: (message: Message) => unknown) =>
    new Set(conversations.flatMap(({ played, steps }) => steps.flatMap(({ message }) => (shown(message as Message) ? [played.carrier] : []))))
  const all = new Set(['push', 'pull', 'letters'])
  t.same(
    carriers(({ subscribe }) => subscribe?.compare?.list === false),
    all,
    'a question for digests',
  )
  t.same(
    carriers(({ subscribe }) => subscribe?.compare?.list),
    all,
    'a question for names',
  )
  t.same(
    carriers(({ publish }) => publish?.compared?.parts.some(({ digest }) => digest)),
    all,
    'digests',
  )
  t.same(
    carriers(({ publish }) => publish?.compared?.parts.some(({ documents }) => documents)),
    all,
    'names',
  )
  t.same(
    carriers(({ publish }) => publish?.compared?.refused),
    new Set(['push']),
    'a comparison that is refused',
  )
  t.same(
    carriers(({ audiences }) => audiences?.standings.some(({ stream }) => stream === undefined)),
    all,
    'a register that has nothing',
  )
  t.same(
    carriers(({ audiences }) => audiences?.standings.some(({ mark }) => mark)),
    all,
    'a standing',
  )
  t.same(
    carriers(({ published }) => published?.more),
    all,
    'a slice that more comes behind',
  )
  t.same(
    carriers(({ published }) => published?.batches.some(({ isEnd }) => isEnd)),
    all,
    'the end of a snapshot',
  )
  const isRemoved = ({ published }: Message) => published?.batches.some(({ documents }) => documents.some(({ records }) => records.length === 0))
  t.same(carriers(isRemoved), new Set(['push']), 'a removal')
  t.same(
    carriers(({ audiences }) => audiences?.unapplied.length),
    new Set(['push']),
    'a document that the till does not take',
  )
  t.same(
    carriers(({ subscribe }) => subscribe?.back),
    all,
    'a document that is sent back',
  )
  t.same(
    carriers(({ publish }) => publish?.back && !publish.back.refused),
    all,
    'that it was entered',
  )
  t.same(
    carriers(({ publish }) => publish?.back?.refused),
    new Set(['push']),
    'that it was refused',
  )
  const { steps } = conversations.find(({ name }) => name === 'letters') as Talk
  t.ok(
    steps.slice(0, 3).every(({ from }) => from === 'register'),
    'several letters on their way at a time',
  )
  t.ok(steps.every(({ letter }) => letter !== undefined))
})

async function openOffice(t: Test, isPulled: boolean, options: Partial<CentralOptions<never>> = {}): Promise<HeadOffice> {
  const office = new HeadOffice(await createPool(t, server), options)
  t.teardown(() => office.central.stop())
  await office.open(isPulled)
  return office
}

async function ended(t: Test, talk: Talk, { pool, comparisons }: HeadOffice): Promise<void> {
  t.same(await arrived(pool), talk.arrived, 'the documents have arrived')
  t.same(comparisons, talk.played.comparisons, 'it concludes the same from what it compares')
}

async function hearPushes(t: Test, talk: Talk): Promise<void> {
  const office = await openOffice(t, false)
  const drawn = new Drawn()
  for (const [n, deed] of talk.played.deeds.entries()) {
    await office.do(deed)
    for (let at = deed.after; at < endOf(talk, n); at += 2) {
      const [said, answer] = talk.steps.slice(at, at + 2) as [RecordedStep, RecordedStep]
      await office.atRest()
      const headers = { authorization: `Bearer ${office.token}`, 'content-type': CONTENT_TYPE }
      const body = drawn.asToday(said.bytes) as Uint8Array<ArrayBuffer>
      const response = await office.central.fetch(new Request('http://central/', { method: 'POST', headers, body }))
      t.equal(response.status, answer.status)
      const { said: now, was } = await drawn.compared(new Uint8Array(await response.arrayBuffer()), answer.bytes)
      t.same(now, was, `${talk.name} ${at + 2}: ${answer.shows}`)
    }
  }
  await ended(t, talk, office)
}

async function pull(t: Test, talk: Talk): Promise<void> {
  const drawn = new Drawn()
  let at = 0
  const fetch = async (_url: unknown, init?: RequestInit) => {
    const [asked, answer] = talk.steps.slice(at, at + 2) as [RecordedStep, RecordedStep]
    at += 2
    const { said, was } = await drawn.compared(new Uint8Array(init?.body as Uint8Array), asked.bytes)
    t.same(said, was, `${talk.name} ${at - 1}: ${asked.shows}`)
    return new Response(drawn.asToday(answer.bytes) as Uint8Array<ArrayBuffer>, { headers: { 'content-type': CONTENT_TYPE } })
  }
  const office: HeadOffice = await openOffice(t, true, { pull: { token: () => office.token, fetch } })
  for (const [n, deed] of talk.played.deeds.entries()) {
    await office.do(deed)
    if (deed.does === 'synchronize') await office.central.synchronize(POS1)
    if (deed.does !== 'compare') t.equal(at, endOf(talk, n), `after ${deed.does}`)
  }
  await ended(t, talk, office)
}

/** A recorded letter as the register would have written it today. */
async function letterAsToday(drawn: Drawn, { letter, bytes, from }: RecordedStep): Promise<Letter> {
  const { name } = letter as Letter
  return { name, bytes: await sealFile(Buffer.from(LETTER_KEY, 'base64url'), name, POS1, from === 'register' ? 'up' : 'down', drawn.asToday(bytes)) }
}

async function hearLetters(t: Test, talk: Talk): Promise<void> {
  const folder = new LetterFolder(t, POS1)
  const mailbox = centralFileMailbox({ folder: folder.root, keys: () => LETTER_KEY, lookMs: 10 })
  const office = await openOffice(t, false, { mailboxes: [mailbox] })
  await office.central.start()
  const drawn = new Drawn()
  const answers: ReturnType<typeof readLetter>[] = []
  for (const [n, deed] of talk.played.deeds.entries()) {
    await office.do(deed)
    for (const [at, step] of talk.steps.entries()) {
      if (at < deed.after || at >= endOf(talk, n)) continue
      if (step.from === 'register') {
        await office.atRest()
        folder.put(await letterAsToday(drawn, step))
        const { name, bytes } = await folder.next('down')
        answers.push(readLetter(LETTER_KEY, { name, bytes }))
      } else {
        const answer = answers.shift()
        t.same(answer?.says, step.letter && readLetter(LETTER_KEY, step.letter).says, 'its file says the same of itself')
        const { said, was } = await drawn.compared(answer?.message as Uint8Array, step.bytes)
        t.same(said, was, `${talk.name} ${at + 1}: ${step.shows}`)
      }
    }
  }
  await ended(t, talk, office)
}

const CENTRALS = { push: hearPushes, pull, letters: hearLetters }
for (const talk of conversations)
  t.test(`today's central says to a register of ${talk.edition} what its own did: ${talk.shows}`, (t) => CENTRALS[talk.played.carrier](t, talk))
