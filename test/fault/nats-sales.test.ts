import t, { type Test } from 'tap'
import { mirror } from '../../src/index.ts'
import type { Mailbox } from '../../src/ports.ts'
import { eventually } from '../support/eventually.ts'
import { type Hub, type HubOptions, noNats, openHub } from '../support/nats.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { openShop, type Shop, type Till, type TillOptions } from '../support/shop.ts'
import { CENTRAL_SCHEMA, TILL_SCHEMA } from '../support/tables.ts'
import { Machine } from '../support/world.ts'

const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const random = new Random(seed)
const options = { skip: noNats }

const POS1 = { location: 'BA01', register: 'POS1' }
const ITEMS = 'CREATE TABLE items (item_no text PRIMARY KEY, name text)'

interface Scene {
  readonly hub: Hub
  readonly shop: Shop
  readonly till: Till
}

async function scene(t: Test, hubOptions: HubOptions = {}, tillOptions: Partial<NonNullable<TillOptions['mailed']>> = {}): Promise<Scene> {
  const hub = await openHub(t, { registers: [POS1], ackWaitMs: 1_000, ...hubOptions })
  const shop = await openShop(t, server, { mailboxes: [hub.centralMailbox()], schema: CENTRAL_SCHEMA + ITEMS, publish: { items: {} } })
  const till = await shop.addTill('POS1', {
    schema: TILL_SCHEMA + ITEMS,
    subscribe: { items: mirror() },
    mailed: mailedBy(hub.mailbox(POS1), tillOptions),
  })
  return { hub, shop, till }
}

function mailedBy(mailbox: Mailbox, more: Partial<NonNullable<TillOptions['mailed']>> = {}): NonNullable<TillOptions['mailed']> {
  return { mailbox, everyMs: 50, recordsPerRun: 20, answerMs: 20_000, resend: { minMs: 2_000, maxMs: 4_000 }, ...more }
}

function sell(till: Till, from: number, through: number): void {
  for (let n = from; n <= through; n++) till.cashier.sellAnything(random, `R-${n}`)
}

const itemsOf = (till: Till) => till.db.prepare('SELECT count(*) FROM items').pluck().get()
const isDone = (till: Till, replica = till.replica) => eventually('central has all', async () => (await replica.status()).pending === 0, 30_000)

t.test('sales go up and items come down by NATS', options, async (t) => {
  const { shop, till } = await scene(t)
  await shop.central.start()
  await shop.pool.query("INSERT INTO items SELECT 'I' || n, 'Item ' || n FROM generate_series(1, 300) n")
  sell(till, 1, 80)
  const { sent } = await till.replica.synchronize()
  t.ok(sent > 80)
  await shop.balances(t, till)
  t.equal(itemsOf(till), 300)
  await till.replica.start()
  sell(till, 81, 100)
  await shop.pool.query("DELETE FROM items WHERE item_no = 'I1'")
  await eventually('what changed is there', () => itemsOf(till) === 299)
  await isDone(till)
  await shop.balances(t, till)
})

t.test('a register moved from HTTP to NATS and back loses nothing and doubles nothing', options, async (t) => {
  const { hub, shop, till } = await scene(t)
  await shop.central.start()
  await shop.pool.query("INSERT INTO items VALUES ('I1', 'one')")
  let replica = till.replica
  for (const [round, mailed] of [true, false, true, false, true].entries()) {
    await replica.stop()
    replica = till.again({ mailed: mailed ? mailedBy(hub.mailbox(POS1)) : undefined, subscribe: { items: mirror() } })
    await replica.install()
    await replica.start()
    // What is on its way when it moves comes by both, and late.
    sell(till, round * 30 + 1, round * 30 + 30)
    await replica.seal()
    if (round % 2 === 0) await shop.pool.query(`INSERT INTO items VALUES ('M${round}', 'moved')`)
  }
  await isDone(till, replica)
  await eventually('all items are there', () => itemsOf(till) === 4)
  await shop.balances(t, till)
  t.equal((await shop.central.orphans.list()).length, 0)
})

t.test('a till restored from a backup goes on by NATS: nothing lost that is known, nothing doubled', options, async (t) => {
  const { hub, shop, till } = await scene(t)
  await shop.central.start()
  const machine = new Machine(t, {
    ...till,
    again: (more) => till.again({ mailed: mailedBy(hub.mailbox(POS1)), subscribe: { items: mirror() }, ...more }),
  })
  const line = (item: string) => ({ item, quantity: '1', amount: '1' })
  machine.cashier.sell('R-1', [line('OLD')])
  await machine.replica.synchronize()
  const backup = machine.backup()
  machine.cashier.sell('R-2', [line('LOST')])
  await machine.replica.synchronize()
  await machine.restore(backup)
  machine.cashier.sell('R-3', [line('NEW')])
  await machine.replica.synchronize()
  t.same([await shop.stock('OLD'), await shop.stock('LOST'), await shop.stock('NEW')], [-1, -1, -1])
  t.equal((await shop.central.orphans.list()).length, 1)
})

t.test('a stream that is full holds sales back at the till until central has fetched', options, async (t) => {
  const { shop, till } = await scene(t, { toCentral: { maxLettersPerRegister: 3 } }, { unanswered: 50 })
  const failed: string[] = []
  till.replica.on('failed', ({ error }) => failed.push(error.code))
  sell(till, 1, 150)
  await till.replica.start()
  await eventually('it is full', () => failed.includes('ERR_MAILBOX_FULL'))
  t.ok((await till.replica.status()).pending > 0)
  await shop.central.start()
  await isDone(till)
  await shop.balances(t, till)
})

t.test('a server that is restarted while sales go on holds up nobody for long', options, async (t) => {
  const { hub, shop, till } = await scene(t)
  const events: string[] = []
  till.replica.on('offline', ({ error }) => events.push(error.code))
  till.replica.on('online', () => events.push('online'))
  await shop.central.start()
  await till.replica.start()
  sell(till, 1, 40)
  await till.replica.seal()
  await hub.servers[0]?.kill()
  sell(till, 41, 80)
  await eventually('it is noticed', () => events.includes('ERR_LINK'))
  await hub.servers[0]?.start()
  sell(till, 81, 100)
  await isDone(till)
  await shop.balances(t, till)
  t.same(events.slice(0, 2), ['ERR_LINK', 'online'])
})

t.test('documents larger than the server takes at once go in frames', options, async (t) => {
  const { shop, till } = await scene(t, { configuration: 'max_payload: 1048576' }, { bytesPerRun: 8_388_608, recordsPerRun: 100_000 })
  await shop.central.start()
  // Nothing that could be packed: each line names an item of its own.
  const name = () => Array.from({ length: 60 }, () => random.pick([...'abcdefghijklmnopqrstuvwxyz0123456789äöüßéè中文字符店铺货'])).join('')
  till.cashier.sell(
    'R-large',
    Array.from({ length: 20_000 }, () => ({ item: name(), quantity: '1', amount: '1' })),
  )
  await till.replica.synchronize()
  await shop.balances(t, till)
})
