import { jetstreamManager } from '@nats-io/jetstream'
import { connect, nkeys } from '@nats-io/transport-node'
import t from 'tap'
import { startNats } from '../../examples/support/nats.ts'
import { centralNatsMailbox, natsConfiguration, provisionNats } from '../../src/transport/nats.ts'
import { eventually } from '../support/eventually.ts'
import { bytesOf, listening, mailboxOf, noNats, openHub, rawOptions, textOf } from '../support/nats.ts'

const POS1 = { location: 'BA01', register: 'POS1' }
const POS2 = { location: 'BA01', register: 'POS2' }
const FULL = { code: 'ERR_MAILBOX_FULL', retryable: true }
const options = { skip: noNats }

t.test('a register whose part of the stream is full is refused until central has fetched; the others are not', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1, POS2], toCentral: { maxLettersPerRegister: 3 } })
  const till = hub.mailbox(POS1)
  for (const name of ['1', '2', '3']) await till.send(bytesOf(name))
  await t.rejects(till.send(bytesOf('4')), FULL)
  await t.rejects(till.send(bytesOf('4')), FULL, 'what was refused is not taken for known')
  await hub.mailbox(POS2).send(bytesOf('of another one'))
  const came = listening(t, hub.centralMailbox())
  for (let taken = 0; taken < 2; taken++) await (await came.next()).acknowledge()
  await eventually('there is room', () =>
    till.send(bytesOf('4')).then(
      () => true,
      () => false,
    ),
  )
})

t.test('a stream that is full by its bytes refuses all, and loses nothing that lies in it', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1, POS2], toCentral: { maxBytes: 1_048_576 } })
  const [till, other] = [hub.mailbox(POS1), hub.mailbox(POS2)]
  const sent: number[] = []
  await t.rejects(async () => {
    for (let number = 0; ; number++) {
      const letter = Buffer.alloc(100_000, 1)
      letter.writeUInt32BE(number)
      await till.send(letter)
      sent.push(number)
    }
  }, FULL)
  t.equal(sent.length, 10)
  await t.rejects(other.send(Buffer.alloc(100_000)), FULL)
  const came = listening(t, hub.centralMailbox())
  const numbers: number[] = []
  while (numbers.length < sent.length) {
    const letter = await came.next()
    numbers.push(Buffer.from(letter.message).readUInt32BE())
    await letter.acknowledge()
  }
  t.same(numbers, sent)
})

t.test('where a register fetches nothing, the oldest of central’s letters go', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1, POS2], toRegisters: { maxLettersPerRegister: 2 } })
  const central = hub.centralMailbox()
  await central.send(POS2, bytesOf('of another one'))
  for (const name of ['1', '2', '3', '4']) await central.send(POS1, bytesOf(name))
  const came = listening(t, hub.mailbox(POS1))
  t.same([textOf(await came.next()), textOf(await came.next())], ['3', '4'])
  t.equal(textOf(await listening(t, hub.mailbox(POS2)).next()), 'of another one')
})

t.test('a server that is away is ERR_LINK, and what lay there is there when it is back', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1], ackWaitMs: 1_000 })
  const [server] = hub.servers
  const [till, central] = [hub.mailbox(POS1), hub.centralMailbox()]
  const [came, answers] = [listening(t, central), listening(t, till)]
  await till.send(bytesOf('1'))
  const open = await came.next()
  await central.send(POS1, bytesOf('answer 1'))
  const answer = await answers.next()
  await till.send(bytesOf('2'))
  await server?.kill()
  await t.rejects(came.over, { code: 'ERR_LINK', retryable: true })
  await t.rejects(answers.over, { code: 'ERR_LINK', retryable: true })
  await t.rejects(till.send(bytesOf('3')), { code: 'ERR_LINK', retryable: true })
  await t.rejects(listening(t, central).over, { code: 'ERR_LINK', retryable: true })
  await open.acknowledge()
  await answer.release()
  await server?.start()
  await till.send(bytesOf('3'))
  const later = listening(t, central)
  const names: string[] = []
  while (!names.includes('3')) {
    const letter = await later.next()
    names.push(textOf(letter))
    await letter.acknowledge()
  }
  t.same(names, ['1', '2', '3'], 'the acknowledgement did not arrive')
  t.equal(textOf(await listening(t, till).next()), 'answer 1')
})

t.test('a server that takes nobody, or not this one, says so by code', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1] })
  const as = hub.as(POS1)
  const { user, pass: password } = rawOptions(as)
  const wrong = mailboxOf({ ...as, ...POS1, credentials: { user, password: 'wrong' } })
  await t.rejects(wrong.send(bytesOf('sale')), { code: 'ERR_CREDENTIAL' })
  await t.rejects(listening(t, wrong).over, { code: 'ERR_CREDENTIAL' })
  await t.rejects(mailboxOf({ servers: as.servers, ...POS1 }).send(bytesOf('sale')), { code: 'ERR_CREDENTIAL' })
  const asked: string[] = []
  const rotated = mailboxOf({
    ...as,
    ...POS1,
    credentials: { user, password: async () => (asked.push('asked') && asked.length === 1 ? 'old' : password) },
  })
  t.teardown(() => rotated.close?.())
  await t.rejects(rotated.send(bytesOf('sale')), { code: 'ERR_CREDENTIAL' })
  await rotated.send(bytesOf('sale'))
  const failing = mailboxOf({ ...as, ...POS1, credentials: { user, password: () => Promise.reject(new Error('no vault')) } })
  await t.rejects(failing.send(bytesOf('sale')), { code: 'ERR_CREDENTIAL', retryable: true, message: /no vault/ })
  const nobody = mailboxOf({ servers: 'nats://127.0.0.1:1', ...POS1 })
  await t.rejects(nobody.send(bytesOf('sale')), { code: 'ERR_LINK', retryable: true })
})

t.test('nkeys do instead of passwords, and no secret stands in the configuration', options, async (t) => {
  const [central, till] = [nkeys.createUser(), nkeys.createUser()]
  const configuration = natsConfiguration({ central: { nkey: central.getPublicKey() }, registers: [{ ...POS1, nkey: till.getPublicKey() }] })
  const seedOf = (pair: typeof till) => new TextDecoder().decode(pair.getSeed())
  t.notMatch(configuration, seedOf(till))
  const server = await startNats({ configuration })
  t.teardown(() => server.stop())
  const asCentral = { servers: server.url, credentials: { seed: seedOf(central) } }
  await provisionNats({ ...asCentral, registers: [POS1] })
  const mailbox = mailboxOf({ servers: server.url, credentials: { seed: async () => seedOf(till) }, ...POS1 })
  t.teardown(() => mailbox.close?.())
  await mailbox.send(bytesOf('sale'))
  const other = centralNatsMailbox(asCentral)
  t.teardown(() => other.close?.())
  t.same((await listening(t, other).next()).from, POS1)
  await t.rejects(mailboxOf({ servers: server.url, credentials: { seed: 'SUAWRONG' }, ...POS1 }).send(bytesOf('sale')), { code: 'ERR_LINK' })
})

t.test('what a server is set up with can be changed while letters lie there', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1] })
  const nats = await connect(rawOptions(hub.central))
  t.teardown(() => nats.close())
  const manager = await jetstreamManager(nats)
  await hub.mailbox(POS1).send(bytesOf('sale'))
  await hub.provision()
  await hub.provision({ registers: [POS2], ackWaitMs: 2_000, toCentral: { maxBytes: 2_097_152, maxLettersPerRegister: 5, maxAgeMs: 240_000 } })
  const { config, state } = await manager.streams.info('TILLSYNC_TO_CENTRAL')
  t.match(config, { max_bytes: 2_097_152, max_msgs_per_subject: 5, max_age: 240_000_000_000, discard: 'new', retention: 'workqueue' })
  t.equal(state.messages, 1)
  t.equal((await manager.consumers.info('TILLSYNC_TO_CENTRAL', 'part-31')).config.ack_wait, 2_000_000_000)
  t.equal((await manager.streams.info('TILLSYNC_TO_REGISTERS')).state.consumer_count, 2, 'the first register’s stays')
  t.equal(textOf(await listening(t, hub.centralMailbox()).next()), 'sale')
})

t.test('a server that can’t be set up so says why', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1] })
  await t.rejects(hub.provision({ replicas: 3 }), { code: 'ERR_LINK', message: /replicas/ }, 'one server is no cluster')
  await t.rejects(hub.provision({ toCentral: { maxBytes: 2 ** 50 } }), FULL)
  await t.rejects(provisionNats({ ...hub.as(POS1), registers: [] }), { code: 'ERR_CREDENTIAL' }, 'a register may not')
  const wrong: object[] = [
    { registers: 'all' },
    { registers: [{ location: 'BA01' }] },
    { replicas: 2 },
    { ackWaitMs: 10 },
    { toCentral: { maxBytes: 1 } },
    { toRegisters: { maxLettersPerRegister: 0 } },
    { toRegisters: { maxAgeMs: 1 } },
    { toRegisters: { maxAge: 1 } },
    { stream: 'x' },
  ]
  for (const one of wrong) await t.rejects(hub.provision(one as never), { code: 'ERR_OPTION' }, JSON.stringify(one))
})

t.test('where streams are not there, both sides try again, and go on when they are', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1] })
  const nats = await connect(rawOptions(hub.central))
  t.teardown(() => nats.close())
  const manager = await jetstreamManager(nats)
  for (const stream of ['TILLSYNC_TO_CENTRAL', 'TILLSYNC_TO_REGISTERS']) await manager.streams.delete(stream)
  const missing = { code: 'ERR_LINK', retryable: true, hint: /provisionNats/ }
  const till = mailboxOf({ ...hub.as(POS1), ...POS1, timeoutMs: 500 })
  t.teardown(() => till.close?.())
  const central = hub.centralMailbox({ timeoutMs: 500 })
  await t.rejects(till.send(bytesOf('sale')), missing)
  await t.rejects(listening(t, central).over, missing)
  await t.rejects(central.send(POS1, bytesOf('answer')), missing)
  await hub.provision()
  await till.send(bytesOf('another sale'))
  t.equal(textOf(await listening(t, central).next()), 'another sale')
})

t.test('a register is added, and shut out again, while the others go on', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1] })
  const [first, central] = [hub.mailbox(POS1), hub.centralMailbox()]
  const [came, answers] = [listening(t, central, { again: true }), listening(t, first, { again: true })]
  await first.send(bytesOf('sale'))
  await (await came.next()).acknowledge()
  await hub.add(POS2)
  const second = hub.mailbox(POS2)
  await second.send(bytesOf('sale'))
  t.same((await came.next()).from, POS2)
  await first.send(bytesOf('another sale'))
  t.same((await came.next()).from, POS1)
  await central.send(POS1, bytesOf('answer'))
  await central.send(POS2, bytesOf('answer'))
  await listening(t, second).next()
  t.equal(textOf(await answers.next(30_000)), 'answer')
  const known = hub.as(POS2)
  await hub.removeLast()
  await t.rejects(second.send(bytesOf('after all')), { code: /ERR_LINK|ERR_CREDENTIAL/ }, 'it is cut off')
  const late = mailboxOf({ ...known, ...POS2 })
  await t.rejects(late.send(bytesOf('after all')), { code: 'ERR_CREDENTIAL' })
  await first.send(bytesOf('going on'))
})
