import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createCentral, mirror } from '../../src/index.ts'
import { encodeMessage } from '../../src/transport/codec.ts'
import { VERSION } from '../../src/version.ts'
import { ScriptedClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { openShop } from '../support/shop.ts'
import { message, post } from '../support/wire.ts'

// When registers were last heard of, and by which version of the library they speak.

const server = await startServer(t)

t.test('a register that has nothing to send is heard of all the same, and says its version', async (t) => {
  const clock = new ScriptedClock()
  const shop = await openShop(t, server, { clock })
  const till = await shop.addTill('POS1', { clock })
  const listed = async () => (await shop.central.registers.list())[0]
  const at = () => new Date(clock.now()).toISOString()
  t.match(await listed(), { lastContact: undefined, version: undefined, lastBatch: undefined })
  await till.replica.synchronize()
  t.match(await listed(), { lastContact: at(), version: VERSION, lastBatch: undefined }, 'nothing was sold yet')
  clock.advance(1_000)
  await till.replica.synchronize()
  t.equal((await till.replica.status()).lastContact, at(), 'the till says it as exactly, though it is not written down each time')
  till.cashier.sell('R-1', [{ item: 'A', quantity: '1', amount: '1' }])
  clock.advance(1_000)
  const batch = at()
  await till.replica.synchronize()
  clock.advance(60_000)
  await till.replica.synchronize()
  t.match(await listed(), { lastContact: at(), lastBatch: batch })
  const other = createCentral({ database: postgres(shop.pool), subscribe: { receipts: mirror({ origin: ['location', 'register'] }) } })
  t.teardown(() => other.stop())
  t.match(await other.registers.list(), [{ lastContact: batch, version: VERSION }], 'another process hears of it later')
  clock.advance(300_000)
  await till.replica.synchronize()
  await eventually('it is written down', async () => (await other.registers.list())[0]?.lastContact === at())
})

t.test('what a clock wrote down that was years ahead is no contact, as soon as there is another one', async (t) => {
  const clock = new ScriptedClock()
  const shop = await openShop(t, server, { clock })
  const till = await shop.addTill()
  const years = 10 * 365 * 86_400_000
  clock.set(years)
  till.cashier.sell('R-1', [{ item: 'A', quantity: '1', amount: '1' }])
  await till.replica.synchronize()
  clock.set(-years)
  await till.replica.synchronize()
  t.equal((await shop.central.registers.list())[0]?.lastContact, new Date(clock.now()).toISOString())
})

t.test('another version is noticed with the first message that says it, and stays where one says none', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const version = async () => (await shop.central.registers.list())[0]?.version
  await till.replica.synchronize()
  t.equal(await version(), VERSION)
  till.cashier.sell('R-1', [{ item: 'A', quantity: '1', amount: '1' }])
  await till.replica.synchronize()
  await shop.pool.query("UPDATE sync_registers SET version = '0.0.1'")
  await till.replica.synchronize()
  t.equal(await version(), VERSION, 'without a batch')
  t.match(await post(shop.url, till.token, await message(till)), { status: 200 })
  t.equal(await version(), VERSION, 'what speaks of another epoch may be an old letter')
  const { epoch } = (await till.replica.status()).head
  const say = async (version: string | undefined) => {
    const publish = { epoch, head: 0, version }
    const said = await encodeMessage({ from: { location: till.location, register: till.register }, id: 'said', publish })
    t.match(await post(shop.url, till.token, said), { status: 200, code: undefined })
    return version
  }
  await say(undefined)
  t.equal(await version(), VERSION)
  t.equal(await say('99.0.0'), await version())
  const odd = await encodeMessage({
    from: { location: till.location, register: till.register },
    id: 'odd',
    publish: { epoch, head: 0, version: '1\0' },
  })
  const refused: string[] = []
  shop.central.on('refused', ({ error }) => refused.push(error.code))
  t.match(await post(shop.url, till.token, odd), { status: 200, code: undefined })
  t.same(refused, ['ERR_MESSAGE'])
  t.equal(await version(), '99.0.0', 'a text that no database takes')
})
