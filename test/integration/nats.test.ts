import { setTimeout as sleep } from 'node:timers/promises'
import { connect } from '@nats-io/transport-node'
import t from 'tap'
import type { TillsyncError } from '../../src/errors.ts'
import { natsMailbox } from '../../src/transport/nats.ts'
import { eventually } from '../support/eventually.ts'
import { bytesOf, listening, noNats, openHub, rawOptions, retryable, textOf } from '../support/nats.ts'

const POS1 = { location: 'BA01', register: 'POS1' }
const POS2 = { location: 'BA01', register: 'POS2' }
const options = { skip: noNats }

t.test('letters go both ways, each until it is acknowledged', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1, POS2] })
  const [till, other, central] = [hub.mailbox(POS1), hub.mailbox(POS2), hub.centralMailbox()]
  const came = listening(t, central)
  await till.send(bytesOf('sale 1'))
  await other.send(bytesOf('sale 1'))
  await till.send(bytesOf('sale 2'))
  const letters = [await came.next(), await came.next()]
  t.same(letters.map((letter) => [letter.from.register, textOf(letter)]).sort(), [
    ['POS1', 'sale 1'],
    ['POS2', 'sale 1'],
  ])
  for (const letter of letters) await letter.acknowledge()
  t.equal(textOf(await came.next()), 'sale 2')
  const answers = listening(t, till)
  await central.send(POS1, bytesOf('answer'))
  const answer = await answers.next()
  t.equal(textOf(answer), 'answer')
  t.equal(answer.from, undefined)
  await answer.acknowledge()
  await answer.acknowledge()
  await answers.end()
  await central.send(POS1, bytesOf('another answer'))
  const later = listening(t, till)
  t.equal(textOf(await later.next()), 'another answer', 'what was acknowledged does not come again')
})

t.test('names with dots, wildcards, umlauts and cases stay apart', options, async (t) => {
  const names = ['a.b', 'a', '*', '>', 'Köln Süd', 'pos', 'POS', '=41', 'A', 'a b', 'a\tb', '$JS.API', '收银台🧾', '€'.repeat(200)]
  const registers = names.flatMap((name) => [
    { location: name, register: 'b' },
    { location: 'b', register: name },
  ])
  const hub = await openHub(t, { registers })
  const central = hub.centralMailbox()
  const came = listening(t, central)
  for (const register of registers) {
    const till = hub.mailbox(register)
    await till.send(bytesOf('from it'))
    const letter = await came.next()
    t.same(letter.from, register)
    await letter.acknowledge()
    await central.send(register, bytesOf(JSON.stringify(register)))
    const answers = listening(t, till)
    t.same(JSON.parse(textOf(await answers.next())), register)
    await answers.end()
    await till.close?.()
  }
  t.same(came.letters, [])
})

t.test('what is sent twice lies there once', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1] })
  const till = hub.mailbox(POS1)
  await till.send(bytesOf('sale'))
  await till.send(bytesOf('sale'))
  await till.send(bytesOf('end'))
  const came = listening(t, hub.centralMailbox())
  const first = await came.next()
  t.equal(textOf(first), 'sale')
  await first.acknowledge()
  t.equal(textOf(await came.next()), 'end')
})

t.test('each register’s letters are taken one after another, in order, though two workers share them', options, async (t) => {
  const registers = Array.from({ length: 12 }, (_, at) => ({ location: 'BA01', register: `POS${at}` }))
  const hub = await openHub(t, { registers })
  const taken = new Map<string, number[]>()
  const busy = new Set<string>()
  const byWorker = [0, 0]
  for (const worker of [0, 1]) {
    const ended = new AbortController()
    t.teardown(() => ended.abort())
    const work = async () => {
      for await (const letter of hub.centralMailbox().receive({ signal: ended.signal })) {
        const name = letter.from.register
        t.notOk(busy.has(name), 'nobody else has one of this register')
        busy.add(name)
        setTimeout(() => {
          byWorker[worker] = (byWorker[worker] ?? 0) + 1
          taken.set(name, [...(taken.get(name) ?? []), Number(textOf(letter))])
          busy.delete(name)
          letter.acknowledge()
        }, Math.random() * 10)
      }
    }
    work().catch((error) => ended.signal.aborted || t.fail(error))
  }
  const numbers = Array.from({ length: 20 }, (_, at) => at)
  await Promise.all(
    registers.map(async (register) => {
      const till = hub.mailbox(register)
      // A busy machine may take longer than the server is waited for; what is sent again lies there once.
      for (const number of numbers) await eventually('it is sent', () => till.send(bytesOf(String(number))).then(() => true, retryable))
    }),
  )
  await eventually('all are taken', () => [...taken.values()].flat().length === registers.length * numbers.length)
  for (const register of registers) t.same(taken.get(register.register), numbers)
  t.ok(Math.min(...byWorker) > 0, `both worked: ${byWorker.join(' and ')} letters`)
})

t.test('a letter that is worked on for long goes to nobody else; one whose worker is gone does', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1], ackWaitMs: 1_000 })
  await hub.mailbox(POS1).send(bytesOf('sale'))
  const worker = hub.centralMailbox()
  const slow = listening(t, worker)
  await slow.next()
  const other = listening(t, hub.centralMailbox())
  await sleep(2_500)
  t.equal(other.letters.length, 0)
  await worker.close?.()
  t.equal(textOf(await other.next()), 'sale')
  await t.rejects(slow.over, { code: 'ERR_LINK', retryable: true })
})

t.test('a letter that is released comes again, before the next of its register; what was not taken goes to another worker', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1], ackWaitMs: 1_000 })
  const till = hub.mailbox(POS1)
  await till.send(bytesOf('1'))
  await till.send(bytesOf('2'))
  const first = listening(t, hub.centralMailbox())
  await (await first.next()).release()
  const again = await first.next()
  t.equal(textOf(again), '1')
  // Asked for, and taken by nobody: the iteration stands at the letter before.
  const idle = hub.centralMailbox().receive({ signal: new AbortController().signal })[Symbol.asyncIterator]()
  await first.end()
  await again.acknowledge()
  const letter = await idle.next()
  t.equal(textOf(letter.value), '2')
  await till.send(bytesOf('3'))
  await letter.value.acknowledge()
  await sleep(200)
  await idle.return?.()
  t.equal(textOf(await listening(t, hub.centralMailbox()).next()), '3')
})

t.test('what a worker has fetched and not taken goes to another one at once when it stops', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1, POS2], ackWaitMs: 60_000 })
  const first = hub.centralMailbox().receive({ signal: new AbortController().signal })[Symbol.asyncIterator]()
  const taking = first.next()
  await hub.mailbox(POS1).send(bytesOf('taken'))
  await taking
  await hub.mailbox(POS2).send(bytesOf('fetched'))
  await sleep(200)
  const second = listening(t, hub.centralMailbox())
  await sleep(200)
  t.same(second.letters, [])
  await first.return?.()
  t.equal(textOf(await second.next()), 'fetched')
})

t.test('a message larger than the server takes is refused, and the mailbox says how large one may be', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1], configuration: 'max_payload: 200000' })
  const till = hub.mailbox(POS1)
  t.equal(till.maxBytes, 1_048_576 - 512, 'what servers usually take, before the first connection')
  await t.rejects(till.send(Buffer.alloc(200_000)), { code: 'ERR_TOO_LARGE', retryable: false })
  t.equal(till.maxBytes, 200_000 - 512)
  await till.send(Buffer.alloc(till.maxBytes as number))
  t.equal((await listening(t, hub.centralMailbox()).next()).message.length, till.maxBytes)
})

t.test('waiting ends by its signal', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1] })
  const ended = AbortSignal.abort()
  await t.rejects(hub.mailbox(POS1).send(bytesOf('sale'), { signal: ended }), { code: 'ERR_ABORTED' })
  const came = listening(t, hub.centralMailbox())
  await sleep(100)
  await came.end()
  await t.rejects(hub.centralMailbox().receive({ signal: ended })[Symbol.asyncIterator]().next(), { code: 'ERR_ABORTED' })
})

t.test('a letter under a subject that is no register’s is told of, and the rest goes on', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1] })
  const nats = await connect(rawOptions(hub.central))
  t.teardown(() => nats.close())
  const forged = ['tillsync.to-central.0.BA01.POS1', 'tillsync.to-central.1.BA01.=50OS1', 'tillsync.to-central.7.%.x']
  for (const subject of forged) await nats.request(subject, bytesOf('sale'))
  await hub.mailbox(POS1).send(bytesOf('sale'))
  const refused: TillsyncError[] = []
  const came = listening(t, hub.centralMailbox(), { onRefused: (error) => refused.push(error) })
  t.equal(textOf(await came.next()), 'sale')
  await eventually('all are told of', () => refused.length >= forged.length)
  t.same(
    refused.map(({ code }) => code),
    Array(refused.length).fill('ERR_MESSAGE'),
  )
  t.same(came.letters, [])
})

t.test('a mailbox that was closed may be used again', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1] })
  const till = hub.mailbox(POS1)
  await till.close?.()
  await till.send(bytesOf('1'))
  await till.close?.()
  await till.close?.()
  await till.send(bytesOf('2'))
  const came = listening(t, hub.centralMailbox())
  const letter = await came.next()
  t.equal(textOf(letter), '1')
  await letter.acknowledge()
  t.equal(textOf(await came.next()), '2')
})

t.test('options that can’t be are refused when the mailbox is made', async (t) => {
  const servers = 'nats://127.0.0.1:4222'
  const wrong: object[] = [
    {},
    { servers: [], ...POS1 },
    { servers: 'nats://user:secret@127.0.0.1', ...POS1 },
    { servers: 'http://127.0.0.1', ...POS1 },
    { servers, location: 'BA01' },
    { servers, location: '', register: 'POS1' },
    { servers, location: 'BA01', register: '\ud800' },
    { servers, ...POS1, timeoutMs: 1 },
    { servers, ...POS1, credentials: { user: 'pos1' } },
    { servers, ...POS1, credentials: { user: 'pos1', password: 'x', seed: 'SU' } },
    { servers, ...POS1, tls: 'yes' },
    { servers, ...POS1, stream: 'other' },
  ]
  for (const one of wrong) t.throws(() => natsMailbox(one as never), { code: 'ERR_OPTION' }, JSON.stringify(one))
})
