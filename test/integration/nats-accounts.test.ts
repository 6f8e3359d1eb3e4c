import { setTimeout as sleep } from 'node:timers/promises'
import { jetstreamManager } from '@nats-io/jetstream'
import { connect, type NatsConnection } from '@nats-io/transport-node'
import t from 'tap'
import type { RegisterName } from '../../src/model.ts'
import { type NatsConfigurationOptions, natsConfiguration } from '../../src/transport/nats.ts'
import { bytesOf, type Hub, listening, mailboxOf, noNats, openHub, rawOptions, textOf } from '../support/nats.ts'

const POS1 = { location: 'BA01', register: 'POS1' }
const POS2 = { location: 'BA01', register: 'POS2' }
const STREAMS = ['TILLSYNC_TO_CENTRAL', 'TILLSYNC_TO_REGISTERS']
const options = { skip: noNats }

/** What lies where. */
async function lying(nats: NatsConnection): Promise<unknown> {
  const manager = await jetstreamManager(nats)
  return Promise.all(STREAMS.map(async (stream) => (await manager.streams.info(stream, { subjects_filter: '>' })).state.subjects))
}

async function open(t: Tap, hub: Hub, register?: RegisterName): Promise<NatsConnection> {
  const nats = await connect(rawOptions(register ? hub.as(register) : hub.central))
  t.teardown(() => nats.close())
  return nats
}
type Tap = Parameters<typeof openHub>[0]

t.test('a register can’t send, fetch or acknowledge under another one’s name', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1, POS2] })
  const as2 = mailboxOf({ ...hub.as(POS1), ...POS2 })
  t.teardown(() => as2.close?.())
  await t.rejects(as2.send(bytesOf('forged')), { code: 'ERR_CREDENTIAL', retryable: false, context: { operation: 'publish' } })
  const central = hub.centralMailbox()
  await central.send(POS2, bytesOf('secret'))
  const stolen = listening(t, as2)
  await sleep(300)
  t.same(stolen.letters, [])
  await stolen.end().catch(() => undefined)
  const letters = listening(t, hub.mailbox(POS2))
  const letter = await letters.next()
  t.equal(textOf(letter), 'secret')
})

t.test('a register reaches nothing of the server but its own letters', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1, POS2] })
  await hub.mailbox(POS2).send(bytesOf('sale'))
  await hub.centralMailbox().send(POS2, bytesOf('answer'))
  const [nats, central] = [await open(t, hub, POS1), await open(t, hub)]
  const before = await lying(central)
  const consumer = (await (await jetstreamManager(central)).consumers.list('TILLSYNC_TO_REGISTERS').next()).find(({ config }) =>
    config.filter_subject?.endsWith('POS2'),
  )?.name
  const foreign = [
    ...Object.keys((before as Record<string, number>[])[0] ?? {}),
    'tillsync.to-register.BA01.POS1',
    'tillsync.to-register.BA01.POS2',
    '$JS.API.INFO',
    '$JS.API.STREAM.LIST',
    '$JS.API.STREAM.PURGE.TILLSYNC_TO_CENTRAL',
    '$JS.API.STREAM.DELETE.TILLSYNC_TO_CENTRAL',
    '$JS.API.STREAM.MSG.GET.TILLSYNC_TO_REGISTERS',
    '$JS.API.CONSUMER.CREATE.TILLSYNC_TO_REGISTERS',
    `$JS.API.CONSUMER.DELETE.TILLSYNC_TO_REGISTERS.${consumer}`,
    `$JS.API.CONSUMER.MSG.NEXT.TILLSYNC_TO_REGISTERS.${consumer}`,
    '$JS.API.CONSUMER.MSG.NEXT.TILLSYNC_TO_CENTRAL.part-0',
    `$JS.ACK.TILLSYNC_TO_REGISTERS.${consumer}.1.1.1.1.0`,
    '$SYS.REQ.USER.INFO.x',
  ]
  for (const subject of foreign) await t.rejects(nats.request(subject, '', { timeout: 300 }), /Permissions Violation/, subject)
  for (const subject of ['>', 'tillsync.>', 'tillsync.to-register.BA01.POS2', '$JS.>']) {
    const refused = Promise.withResolvers<unknown>()
    nats.subscribe(subject, { callback: (error) => refused.resolve(error) })
    t.match(await refused.promise, { message: /Permissions Violation/ }, subject)
  }
  t.same(await lying(central), before)
})

t.test('no answer of the server can be turned to another one’s subject, or against a stream', options, async (t) => {
  const hub = await openHub(t, { registers: [POS1, POS2] })
  await hub.mailbox(POS2).send(bytesOf('sale'))
  const [nats, central] = [await open(t, hub, POS1), await open(t, hub)]
  const [sent = {}] = (await lying(central)) as Record<string, number>[]
  const others = Object.keys(sent)
  const mine = rawSubject(POS1, others)
  const turned = [
    ...others,
    'tillsync.to-register.BA01.POS2',
    '$JS.API.STREAM.PURGE.TILLSYNC_TO_CENTRAL',
    '$JS.API.STREAM.DELETE.TILLSYNC_TO_CENTRAL',
  ]
  for (const reply of turned) nats.publish(mine, bytesOf('sale'), { reply })
  await hub.centralMailbox().send(POS1, bytesOf('answer'))
  const next = `$JS.API.CONSUMER.MSG.NEXT.TILLSYNC_TO_REGISTERS.${await consumerOf(central, 'POS1')}`
  for (const reply of turned) nats.publish(next, '{"batch":1,"no_wait":true}', { reply })
  await nats.flush()
  await sleep(300)
  const [after = {}, down = {}] = (await lying(central)) as Record<string, number>[]
  t.same(after, { ...sent, [mine]: turned.length }, 'its own letters came, and nothing else')
  t.notOk(Object.keys(down).some((subject) => subject.endsWith('POS2')))
})

async function consumerOf(central: NatsConnection, register: string): Promise<string | undefined> {
  const consumers = await (await jetstreamManager(central)).consumers.list('TILLSYNC_TO_REGISTERS').next()
  return consumers.find(({ config }) => config.filter_subject?.endsWith(register))?.name
}

/** The subject of a register, by what another mailbox of the same server would be refused for. */
function rawSubject({ location, register }: RegisterName, others: readonly string[]): string {
  const configuration = natsConfiguration({ central: { user: 'c', password: 'c' }, registers: [{ location, register, user: 'u', password: 'p' }] })
  const found = /tillsync\.to-central\.\d+\.[^"]+/.exec(configuration)?.[0]
  if (found === undefined || others.includes(found)) throw new Error('there is no subject of its own')
  return found
}

t.test('a configuration that can’t be is refused', async (t) => {
  const central = { user: 'central', password: 'secret' }
  const till = { ...POS1, user: 'pos1', password: 'secret' }
  const wrong: unknown[] = [
    undefined,
    { central },
    { central: {}, registers: [] },
    { central: { nkey: 'SUSEED' }, registers: [] },
    { central: { ...central, nkey: 'UAAA' }, registers: [] },
    { central, registers: [till, till] },
    { central, registers: [till, { ...till, register: 'POS2' }] },
    { central, registers: [till, { ...till, user: 'other' }] },
    { central, registers: [{ ...till, password: 'a\nb' }] },
    { central, registers: [{ ...till, location: '' }] },
    { central, registers: [{ ...till, user: 'central' }] },
    { central, registers: [], servers: 'x' },
  ]
  for (const one of wrong) t.throws(() => natsConfiguration(one as NatsConfigurationOptions), { code: 'ERR_OPTION' }, JSON.stringify(one))
})
