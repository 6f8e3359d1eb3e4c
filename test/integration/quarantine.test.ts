import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createCentral, mirror } from '../../src/index.ts'
import { startServer } from '../support/postgres.ts'
import { count, eventsOf, line, poisoned } from '../support/quarantine.ts'
import { openShop } from '../support/shop.ts'

const server = await startServer(t)

t.test('one bad document holds up itself, nothing else', async (t) => {
  const { handler, state } = poisoned()
  const shop = await openShop(t, server, { subscribe: { receipts: [mirror({ origin: ['location', 'register'] }), handler] } })
  const events = eventsOf(shop)
  const till = await shop.addTill()
  for (let n = 1; n <= 30; n++) till.cashier.sell(`R-${n}`, [line(n === 17 ? 'POISON' : 'A')])
  const bad = 17
  await till.replica.synchronize()
  t.equal((await till.replica.status()).pending, 0, 'the till has sent everything')
  t.equal(await shop.stock('A'), -29)
  t.equal(await shop.stock('POISON'), 0)
  t.equal(await count(shop.pool, 'receipts'), 29, 'nor is it mirrored: a document is applied whole')
  t.equal(await count(shop.pool, 'sync_archive', `record_id = '[${bad}]' AND table_name = 'receipts'`), 1, 'it is archived')
  const [held, ...others] = await shop.central.quarantine.list()
  t.same(others, [])
  t.match(held, {
    location: 'BA01',
    register: 'POS1',
    table: 'receipts',
    recordId: `[${bad}]`,
    document: { receipt_no: 'R-17' },
    state: 'waiting',
    code: 'ERR_HANDLER',
    message: /the item is poison/,
    attempts: 1,
    applied: false,
    removed: false,
  })
  t.match(events.quarantined, [
    { register: { location: 'BA01', register: 'POS1' }, documents: [{ id: held?.id, table: 'receipts', recordId: '[17]' }] },
  ])
  await t.test('tried by hand before its cause is gone, it waits on', async (t) => {
    t.same(await shop.central.quarantine.retry(held?.id as number), { released: 0, waiting: 1 })
    t.match(await shop.central.quarantine.list(), [{ attempts: 2, id: held?.id }])
  })
  state.mended = true
  t.same(await shop.central.quarantine.retry(held?.id as number), { released: 1, waiting: 0 })
  t.same(await shop.central.quarantine.list(), [])
  t.match(events.released, [{ documents: [{ id: held?.id, recordId: '[17]' }] }])
  await shop.balances(t, till)
  await t.rejects(shop.central.quarantine.retry(held?.id as number), { code: 'ERR_QUARANTINE' })
})

t.test('what another process applies while it is tried by hand is applied, and waits no more', async (t) => {
  const { handler, state } = poisoned()
  const subscribe = { receipts: [mirror({ origin: ['location', 'register'] }), handler] }
  const shop = await openShop(t, server, { subscribe })
  const till = await shop.addTill()
  for (let n = 1; n <= 3; n++) till.cashier.sell(`R-${n}`, [line('POISON')])
  await till.replica.synchronize()
  state.mended = true
  const database = postgres(shop.pool)
  let between: (() => Promise<unknown>) | undefined
  const read: typeof database.read = async (work, options) => {
    const value = await database.read(work, options)
    if (Array.isArray(value) && value.length === 3) await between?.()
    return value
  }
  const central = createCentral({
    subscribe,
    database: new Proxy(database, {
      get(target, name) {
        const value = name === 'read' ? read : Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    }),
  })
  t.teardown(() => central.stop())
  between = async () => {
    between = undefined
    t.same(await shop.central.quarantine.retry({}), { released: 3, waiting: 0 })
  }
  t.same(await central.quarantine.retry({}), { released: 3, waiting: 0 })
  await shop.balances(t, till)
})

t.test('a newer version takes the place of the one that waits, and clears it', async (t) => {
  const { handler } = poisoned()
  const shop = await openShop(t, server, { subscribe: { receipts: [mirror({ origin: ['location', 'register'] }), handler] } })
  const till = await shop.addTill()
  const id = till.cashier.sell('R-1', [line('A', '3')])
  await till.replica.synchronize()
  t.equal(await shop.stock('A'), -3)
  till.db.prepare("UPDATE receipt_lines SET item_no = 'POISON' WHERE receipt_id = ?").run(id)
  await till.replica.synchronize()
  t.equal(await shop.stock('A'), -3, 'what is posted is the version that was applied last')
  t.equal(await count(shop.pool, 'receipt_lines', "item_no = 'A'"), 1)
  const [first] = await shop.central.quarantine.list()
  t.match(first, { applied: true, attempts: 1 })
  till.cashier.addLine(id, line('B'))
  await till.replica.synchronize()
  const [second, ...others] = await shop.central.quarantine.list()
  t.same(others, [])
  t.match(second, { id: first?.id, attempts: 1, applied: true })
  t.ok((second?.entryNo ?? 0) > (first?.entryNo ?? 0), 'the newer version waits')
  till.db.prepare("UPDATE receipt_lines SET item_no = 'C' WHERE receipt_id = ? AND item_no = 'POISON'").run(id)
  await till.replica.synchronize()
  t.same(await shop.central.quarantine.list(), [])
  t.equal(await shop.stock('A'), 0)
  t.equal(await shop.stock('B'), -1)
  t.equal(await shop.stock('C'), -3)
  await shop.balances(t, till)
})

t.test('what is discarded is not posted, the reason is kept, and a newer version lives normally again', async (t) => {
  const { handler } = poisoned()
  const shop = await openShop(t, server, { subscribe: { receipts: [mirror({ origin: ['location', 'register'] }), handler] } })
  const till = await shop.addTill()
  const id = till.cashier.sell('R-1', [line('POISON')])
  await till.replica.synchronize()
  const [held] = await shop.central.quarantine.list()
  const quarantineId = held?.id as number
  await t.rejects(shop.central.quarantine.discard(quarantineId, { reason: ' ' }), { code: 'ERR_OPTION' })
  await t.rejects(shop.central.quarantine.discard(quarantineId + 1, { reason: 'x' }), { code: 'ERR_QUARANTINE' })
  await shop.central.quarantine.discard(quarantineId, { reason: 'a training sale' })
  await t.rejects(shop.central.quarantine.discard(quarantineId, { reason: 'again' }), { code: 'ERR_QUARANTINE' })
  await t.rejects(shop.central.quarantine.retry(quarantineId), { code: 'ERR_QUARANTINE' })
  t.same(await shop.central.quarantine.list(), [])
  t.match(await shop.central.quarantine.list({ state: 'discarded' }), [{ id: quarantineId, reason: 'a training sale', retryAt: undefined }])
  t.equal(await count(shop.pool, 'stock_movements'), 0)
  till.db.prepare("UPDATE receipt_lines SET item_no = 'A' WHERE receipt_id = ?").run(id)
  await till.replica.synchronize()
  await shop.balances(t, till)
  till.db.prepare("UPDATE receipt_lines SET item_no = 'POISON' WHERE receipt_id = ?").run(id)
  await till.replica.synchronize()
  t.match(await shop.central.quarantine.list(), [{ applied: true }])
  t.equal(await shop.stock('A'), -1)
  t.match(await shop.central.quarantine.list({ state: 'discarded' }), [{ reason: 'a training sale' }], 'the reason stays')
})
