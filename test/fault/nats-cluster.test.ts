import t from 'tap'
import { eventually } from '../support/eventually.ts'
import { bytesOf, listening, type Nats, noNats, openHub, textOf } from '../support/nats.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { openShop } from '../support/shop.ts'

t.setTimeout(180_000)
const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)

const POS1 = { location: 'BA01', register: 'POS1' }
const PATIENCE_MS = 60_000

t.test(
  'of three servers each is killed and started again in turn while sales go on: nothing is lost, nothing doubled',
  { skip: noNats },
  async (t) => {
    const random = new Random(seed)
    const hub = await openHub(t, { registers: [POS1], size: 3, replicas: 3, ackWaitMs: 2_000 })
    const shop = await openShop(t, server, { mailboxes: [hub.centralMailbox()] })
    const till = await shop.addTill('POS1', {
      mailed: { mailbox: hub.mailbox(POS1), everyMs: 50, recordsPerRun: 10, resend: { minMs: 3_000, maxMs: 6_000 } },
    })
    await shop.central.start()
    await till.replica.start()
    let sold = 0
    const sell = (count: number) => {
      for (let n = 0; n < count; n++) till.cashier.sellAnything(random, `R-${sold++}`)
    }
    const arrive = async (what: string) => {
      await till.replica.seal()
      await eventually(what, async () => (await till.replica.status()).pending === 0, PATIENCE_MS)
    }
    sell(20)
    await arrive('all servers there')
    for (const [at, one] of hub.servers.entries()) {
      await (one as Nats).kill()
      sell(40)
      await arrive(`without server ${at}`)
      await (one as Nats).start()
      sell(20)
      await arrive(`with server ${at} again`)
    }
    await shop.balances(t, till)
  },
)

t.test('a letter that counts as sent is there though the server that took it is gone', { skip: noNats }, async (t) => {
  const hub = await openHub(t, { registers: [POS1], size: 3, replicas: 3, ackWaitMs: 2_000 })
  const [first] = hub.servers
  const till = hub.mailbox(POS1)
  const sent: string[] = []
  for (let n = 0; n < 50; n++) {
    await till.send(bytesOf(`sale ${n}`))
    sent.push(`sale ${n}`)
  }
  await first?.kill()
  const came = listening(t, hub.centralMailbox(), { again: true })
  const names: string[] = []
  while (names.length < sent.length) {
    const letter = await came.next(PATIENCE_MS)
    if (!names.includes(textOf(letter))) names.push(textOf(letter))
    await letter.acknowledge()
  }
  t.same(names, sent, 'in order')
})
