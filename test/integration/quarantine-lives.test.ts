import t from 'tap'
import { mirror, stockMovements } from '../../src/index.ts'
import { query } from '../../src/work.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { count, eventsOf, handlerOf, itemsOf, line, poisoned } from '../support/quarantine.ts'
import { movementsAt, openShop, type ShopOptions } from '../support/shop.ts'
import { CENTRAL_SCHEMA } from '../support/tables.ts'
import { Machine } from '../support/world.ts'

const server = await startServer(t)
const MIRROR = mirror({ origin: ['location', 'register'] })

async function scene(t: Parameters<typeof openShop>[0], options: ShopOptions = {}) {
  const poison = poisoned()
  const shop = await openShop(t, server, { subscribe: { receipts: [MIRROR, poison.handler] }, ...options })
  const machine = new Machine(t, await shop.addTill('POS1'))
  const held = async () => (await shop.central.quarantine.list()).map(({ recordId, removed, applied }) => ({ recordId, removed, applied }))
  return { shop, machine, poison: poison.state, held, retry: () => shop.central.quarantine.retry({}) }
}

t.test('a document that the till purges while it waits is posted all the same', async (t) => {
  const { shop, machine, poison, held, retry } = await scene(t)
  machine.cashier.sell('R-1', [line('POISON', '2')])
  await machine.replica.synchronize()
  machine.db.exec('DELETE FROM receipts')
  await machine.replica.synchronize()
  t.same(await held(), [{ recordId: '[1]', removed: true, applied: false }])
  t.match(await shop.central.quarantine.list(), [{ document: { receipt_no: 'R-1' } }])
  poison.mended = true
  t.same(await retry(), { released: 1, waiting: 0 })
  t.equal(await shop.stock('POISON'), -2)
  t.equal(await count(shop.pool, 'receipts'), 1, 'head office keeps its copy')
  t.same(await held(), [])
})

t.test('a key that is used again is another document: the former one waits on, is posted, and takes nothing from the mirror', async (t) => {
  const { shop, machine, poison, held, retry } = await scene(t)
  machine.cashier.sell('R-1', [line('POISON', '2')])
  await machine.replica.synchronize()
  machine.db.exec('DELETE FROM receipts')
  await machine.replica.synchronize()
  machine.cashier.sell('R-2', [line('A', '5')])
  await machine.replica.synchronize()
  t.equal(await shop.stock('A'), -5)
  t.same(await held(), [{ recordId: '[1]', removed: true, applied: false }])
  poison.mended = true
  t.same(await retry(), { released: 1, waiting: 0 })
  t.equal(await shop.stock('A'), -5)
  t.equal(await shop.stock('POISON'), -2)
  const { rows } = await shop.pool.query('SELECT receipt_no FROM receipts')
  t.same(rows, [{ receipt_no: 'R-2' }])
})

t.test('sold, removed and sold again under one key, all in one batch', async (t) => {
  const { shop, machine, poison, retry } = await scene(t)
  for (const item of ['POISON', 'A', 'POISON']) {
    machine.cashier.sell(`R-${item}`, [line(item)])
    await machine.replica.seal()
    machine.db.exec('DELETE FROM receipts')
    await machine.replica.seal()
  }
  machine.cashier.sell('R-last', [line('B')])
  t.match(await machine.replica.synchronize(), { quarantined: 2 })
  t.equal((await shop.central.quarantine.list()).length, 2)
  t.equal(await shop.stock('A'), -1)
  poison.mended = true
  t.same(await retry(), { released: 2, waiting: 0 })
  t.equal(await shop.stock('POISON'), -2)
  t.same((await shop.pool.query('SELECT receipt_no FROM receipts')).rows, [{ receipt_no: 'R-last' }])
})

t.test('where a handler takes back what is removed, a removal clears what waits', async (t) => {
  const taken: unknown[] = []
  const handler = handlerOf(
    function* (documents) {
      for (const document of documents) {
        if (itemsOf(document).includes('POISON')) throw new Error('poison')
        taken.push([document.removed ? 'removed' : 'applied', document.isNew])
        yield* query({ sql: 'SELECT 1', parameters: [] })
      }
    },
    { removals: 'apply' },
  )
  const { machine, held } = await scene(t, { subscribe: { receipts: handler } })
  const id = machine.cashier.sell('R-1', [line('A')])
  await machine.replica.synchronize()
  machine.db.prepare("UPDATE receipt_lines SET item_no = 'POISON' WHERE receipt_id = ?").run(id)
  await machine.replica.synchronize()
  t.same(await held(), [{ recordId: '[1]', removed: false, applied: true }])
  machine.db.exec('DELETE FROM receipts')
  await machine.replica.synchronize()
  t.same(await held(), [])
  t.same(taken, [
    ['applied', true],
    ['removed', false],
  ])
})

t.test('a document is new until a version of it is applied', async (t) => {
  const seen: unknown[] = []
  const handler = handlerOf(function* (documents) {
    for (const document of documents) {
      if (itemsOf(document).includes('POISON')) throw new Error('poison')
      seen.push([itemsOf(document).join(), document.isNew])
      yield* query({ sql: 'SELECT 1', parameters: [] })
    }
  })
  const { shop, machine } = await scene(t, { subscribe: { receipts: handler } })
  const set = (item: string) => machine.db.prepare('UPDATE receipt_lines SET item_no = ?').run(item)
  machine.cashier.sell('R-1', [line('POISON')])
  await machine.replica.synchronize()
  set('A')
  await machine.replica.synchronize()
  set('POISON')
  await machine.replica.synchronize()
  const [held] = await shop.central.quarantine.list()
  await shop.central.quarantine.discard(held?.id as number, { reason: 'nonsense' })
  set('B')
  await machine.replica.synchronize()
  t.same(seen, [
    ['A', true],
    ['B', false],
  ])
})

t.test('of what stood there before, only the change is posted, however long it waits', async (t) => {
  const { shop, machine, poison, retry } = await scene(t)
  await machine.replica.stop()
  machine.db.exec("DELETE FROM sync_state WHERE key LIKE 'published.%'")
  machine.cashier.sell('R-old', [line('OLD', '4')])
  machine.cashier.sell('R-other', [line('OTHER', '4')])
  machine.db.exec('DELETE FROM sync_touches')
  await machine.replica.install()
  await machine.replica.synchronize()
  machine.db.exec("UPDATE receipt_lines SET item_no = 'POISON'")
  await machine.replica.synchronize()
  t.equal((await shop.central.quarantine.list()).length, 2)
  machine.db.exec("UPDATE receipt_lines SET item_no = 'NEW' WHERE receipt_id = 1")
  await machine.replica.synchronize()
  t.equal(await shop.stock('OLD'), 4, 'what the host had booked itself is taken back')
  t.equal(await shop.stock('NEW'), -4)
  poison.mended = true
  t.same(await retry(), { released: 1, waiting: 0 })
  t.equal(await shop.stock('OTHER'), 4)
  t.equal(await shop.stock('POISON'), -4)
})

t.test('a sale that waits and is lost by a restore: it is posted when it is mended, or withdrawn with what waits', async (t) => {
  for (const end of ['mended', 'withdrawn', 'back'] as const) {
    await t.test(end, async (t) => {
      const { shop, machine, poison, held, retry } = await scene(t)
      machine.cashier.sell('R-old', [line('OLD')])
      await machine.replica.synchronize()
      const backup = machine.backup()
      machine.cashier.sell('R-lost', [line('POISON', '3')])
      await machine.replica.synchronize()
      t.same(await held(), [{ recordId: '[2]', removed: false, applied: false }])
      await machine.restore(backup)
      if (end !== 'back') machine.cashier.sell('R-new', [line('NEW', '5')])
      else {
        poison.mended = true
        machine.cashier.sell('R-lost', [line('POISON', '3')])
      }
      await machine.replica.synchronize()
      if (end !== 'back') {
        t.equal(await shop.stock('NEW'), -5, 'under the same key')
        t.same(await held(), [{ recordId: '[2]', removed: false, applied: false }])
      }
      const orphans = await shop.central.orphans.list()
      if (end === 'mended') {
        poison.mended = true
        t.same(await retry(), { released: 1, waiting: 0 })
        t.equal(await shop.stock('POISON'), -3)
        t.same((await shop.pool.query('SELECT receipt_no FROM receipts ORDER BY id')).rows, [{ receipt_no: 'R-old' }, { receipt_no: 'R-new' }])
        await shop.central.orphans.withdraw(orphans[0]?.id as number, { reason: 'entered again' })
        t.equal(await shop.stock('POISON'), 0)
      } else if (end === 'withdrawn') {
        await shop.central.orphans.withdraw(orphans[0]?.id as number, { reason: 'entered again' })
        poison.mended = true
        t.same(await retry(), { released: 0, waiting: 0 })
        t.equal(await shop.stock('POISON'), 0)
        t.match(await shop.central.quarantine.list({ state: 'discarded' }), [{ reason: 'entered again' }])
      } else {
        t.same(orphans, [])
        t.same(await held(), [])
        t.equal(await shop.stock('POISON'), -3)
        await shop.balances(t, { ...machine.till, db: machine.db })
      }
    })
  }
})

t.test('a version that waits and that the till has lost: the earlier one comes again and clears it', async (t) => {
  const { shop, machine, held } = await scene(t)
  machine.cashier.sell('R-1', [line('A', '2')])
  await machine.replica.synchronize()
  const backup = machine.backup()
  machine.db.exec("UPDATE receipt_lines SET item_no = 'POISON'")
  await machine.replica.synchronize()
  t.same(await held(), [{ recordId: '[1]', removed: false, applied: true }])
  await machine.restore(backup)
  await machine.replica.synchronize()
  await machine.replica.synchronize()
  t.same(await held(), [])
  t.equal(await shop.stock('A'), -2)
  await shop.balances(t, { ...machine.till, db: machine.db })
})

t.test('a late sale of a copy that can’t be applied waits as an orphan, and is posted when it is mended', async (t) => {
  const { shop, machine, poison, held, retry } = await scene(t)
  machine.cashier.sell('R-1', [line('OLD')])
  await machine.replica.synchronize()
  const { till } = new Machine(t, await shop.addTill('POS2'))
  const twin = new Machine(t, { ...till, again: (options) => till.again({ ...options, as: 'POS1', token: machine.till.token }) })
  await twin.restore(machine.backup())
  machine.cashier.sell('R-2', [line('ORIGINAL')])
  await machine.replica.synchronize()
  twin.cashier.sell('R-t', [line('TWIN'), line('TWIN'), line('TWIN')])
  await twin.replica.synchronize()
  machine.cashier.sell('R-3', [line('POISON', '7')])
  await t.rejects(machine.replica.synchronize(), { code: 'ERR_CLONED' })
  t.same(await held(), [{ recordId: '[3]', removed: false, applied: false }])
  t.match(await shop.central.orphans.list(), [{ document: { receipt_no: 'R-2' } }, { document: { receipt_no: 'R-3' } }])
  t.equal(await shop.stock('POISON'), 0)
  poison.mended = true
  t.same(await retry(), { released: 1, waiting: 0 })
  t.equal(await shop.stock('POISON'), -7)
  const { rows } = await shop.pool.query("SELECT receipt_id::int, id::int FROM receipt_lines WHERE item_no = 'TWIN' ORDER BY id")
  t.same(
    rows,
    [2, 3, 4].map((id) => ({ receipt_id: 2, id })),
    'no line was taken from the receipt that stands in the mirror',
  )
})

t.test('what refers to something missing is applied when that has come, in whatever order', async (t) => {
  const shop = await openShop(t, server, {
    schema: `${CENTRAL_SCHEMA} ALTER TABLE receipts ADD FOREIGN KEY (location, register, process_id) REFERENCES pos_processes`,
    subscribe: { receipts: [MIRROR, stockMovements(movementsAt('BA01'))], pos_processes: MIRROR },
    retry: { minMs: 100, maxMs: 100 },
  })
  const events = eventsOf(shop)
  const till = await shop.addTill('POS1', { transfer: { recordsPerRun: 1 } })
  till.db.exec('PRAGMA foreign_keys = OFF')
  till.cashier.sell('R-1', [line('A')], { process: 7 })
  t.match(await till.replica.synchronize(), { quarantined: 1 })
  till.db.exec("INSERT INTO pos_processes VALUES (7, '2026-11-21T09:00:00Z')")
  t.match(await till.replica.synchronize(), { quarantined: 0 })
  t.same(await shop.central.quarantine.list(), [], 'with the batch that brought it')
  t.equal(events.released.length, 1)
  await shop.balances(t, till)
  const other = await shop.addTill('POS2')
  other.db.exec('PRAGMA foreign_keys = OFF')
  other.cashier.sell('R-1', [line('A')], { process: 1 })
  other.db.exec("INSERT INTO pos_processes VALUES (1, '2026-11-21T09:00:00Z')")
  t.match(await other.replica.synchronize(), { quarantined: 0 }, 'both in one batch, in the wrong order')
  t.equal(events.quarantined.length, 1)
  await shop.balances(t, other)
  await t.test('also when the host brings it itself', async (t) => {
    other.cashier.sell('R-2', [line('B')], { process: 2 })
    t.match(await other.replica.synchronize(), { quarantined: 1 })
    await shop.pool.query("INSERT INTO pos_processes VALUES ('BA01', 'POS2', 2, now())")
    await shop.central.start()
    await eventually('it is applied', async () => (await shop.central.quarantine.list()).length === 0)
    await shop.balances(t, other)
  })
})

t.test('what waits is tried again though central’s clock was a year ahead when it was tried last', async (t) => {
  const { shop, machine, poison } = await scene(t, { retry: { minMs: 50, maxMs: 60_000 } })
  machine.cashier.sell('R-1', [line('POISON')])
  await machine.replica.synchronize()
  await shop.pool.query("UPDATE sync_quarantine SET tried_at = tried_at + interval '1 year', retry_at = retry_at + interval '1 year'")
  poison.mended = true
  await shop.central.start()
  await eventually('it is applied', async () => (await shop.central.quarantine.list()).length === 0)
  await shop.balances(t, { ...machine.till, db: machine.db })
})

t.test('what waits is tried again by itself, with growing pauses', async (t) => {
  const { shop, machine, poison } = await scene(t, { retry: { minMs: 50, maxMs: 60_000, perTurn: 3 } })
  for (let n = 0; n < 10; n++) machine.cashier.sell(`R-${n}`, [line('POISON')])
  machine.cashier.sell('R-10', [line('A')])
  await machine.replica.synchronize()
  await shop.central.start()
  await eventually('all were tried again', async () => (await shop.central.quarantine.list()).every(({ attempts }) => attempts > 2))
  for (const { attempts, triedAt, retryAt } of await shop.central.quarantine.list())
    t.equal(Date.parse(retryAt as string) - Date.parse(triedAt), 50 * 2 ** (attempts - 1))
  poison.mended = true
  await eventually('all are applied', async () => (await shop.central.quarantine.list()).length === 0)
  await shop.balances(t, { ...machine.till, db: machine.db })
})

t.test('several central processes retry, discard and apply at the same time', async (t) => {
  const { shop, machine, poison } = await scene(t, { retry: { minMs: 20, maxMs: 50, perTurn: 5 } })
  const others = [shop.again(), shop.again()]
  const released: number[] = []
  for (const central of [shop.central, ...others]) central.on('released', ({ documents }) => released.push(...documents.map(({ id }) => id)))
  for (let n = 0; n < 40; n++) machine.cashier.sell(`R-${n}`, [line(n % 2 === 0 ? 'POISON' : 'A')])
  await machine.replica.synchronize()
  const before = await shop.central.quarantine.list()
  t.equal(before.length, 20)
  poison.mended = true
  await Promise.all([
    ...[shop.central, ...others].map((central) => central.start()),
    ...[shop.central, ...others].map((central) => central.quarantine.retry({ register: 'POS1' })),
    (async () => {
      for (let n = 100; n < 120; n++) {
        machine.cashier.sell(`R-${n}`, [line('B')])
        await machine.replica.synchronize()
      }
    })(),
  ])
  await eventually('all are applied', async () => (await shop.central.quarantine.list()).length === 0)
  t.same(
    released.toSorted((a, b) => a - b),
    before.map(({ id }) => id),
    'each once',
  )
  await shop.balances(t, { ...machine.till, db: machine.db })
})

t.test('the host’s default isolation is no matter', async (t) => {
  const { shop, machine, poison, retry } = await scene(t)
  const { database } = (await shop.pool.query('SELECT current_database() AS database')).rows[0]
  await shop.pool.query(`ALTER DATABASE ${database} SET default_transaction_isolation = 'repeatable read'`)
  for (let n = 0; n < 10; n++) machine.cashier.sell(`R-${n}`, [line(n === 4 ? 'POISON' : 'A')])
  await machine.replica.synchronize()
  poison.mended = true
  t.same(await retry(), { released: 1, waiting: 0 })
  await shop.balances(t, { ...machine.till, db: machine.db })
})
