import { performance } from 'node:perf_hooks'
import t, { type Test } from 'tap'
import type { AppliedDocument } from '../../src/apply/document-set.ts'
import { mirror, stockMovements, TillsyncError } from '../../src/index.ts'
import { call, pause, query, type Step, type Work } from '../../src/work.ts'
import { startServer } from '../support/postgres.ts'
import { count, eventsOf, handlerOf, itemsOf, line } from '../support/quarantine.ts'
import { movementsAt, openShop, type ShopOptions } from '../support/shop.ts'
import { CENTRAL_SCHEMA } from '../support/tables.ts'

const server = await startServer(t)
const MIRROR = mirror({ origin: ['location', 'register'] })

/** A head office whose handler does something with each set, and what it was called with. */
async function scene(t: Test, bad: (documents: readonly AppliedDocument[]) => Iterable<Step> | undefined, options: ShopOptions = {}) {
  const calls: number[] = []
  const handler = handlerOf(function* (documents) {
    calls.push(documents.length)
    yield* (bad(documents) ?? []) as Work<void>
  })
  const shop = await openShop(t, server, { subscribe: { receipts: [MIRROR, handler, stockMovements(movementsAt('BA01'))] }, ...options })
  const till = await shop.addTill('POS1', { transfer: { recordsPerRun: 100_000 } })
  return { shop, till, calls, events: eventsOf(shop) }
}

function* raise(sqlState: string) {
  yield* query({ sql: `DO $$ BEGIN RAISE EXCEPTION 'raised' USING ERRCODE = '${sqlState}'; END $$`, parameters: [] })
}

function refusing(documents: readonly AppliedDocument[]): undefined {
  if (documents.some((document) => itemsOf(document).includes('POISON'))) throw new Error('poison')
}

function* refuse(documents: readonly AppliedDocument[]): Work<void> {
  yield* pause()
  refusing(documents)
}

t.test('one bad document among 10,000 costs a bounded number of attempts', async (t) => {
  const { shop, till, calls } = await scene(t, refusing)
  till.db.transaction(() => {
    for (let n = 1; n <= 10_000; n++) till.cashier.sell(`R-${n}`, [line(n === 6_543 ? 'POISON' : 'A')])
  })()
  let statements = 0
  shop.pool.on('acquire', (client) => {
    const counted = client as unknown as { query: (...all: unknown[]) => unknown; isCounted?: true }
    if (counted.isCounted) return
    counted.isCounted = true
    const inner = counted.query.bind(client)
    counted.query = (...all) => {
      statements++
      return inner(...all)
    }
  })
  const from = performance.now()
  await till.replica.synchronize()
  t.comment(`${Math.round(performance.now() - from)} ms, ${calls.length} calls, ${statements} statements`)
  t.equal((await shop.central.quarantine.list()).length, 1)
  t.equal(await shop.stock('A'), -9_999)
  t.ok(calls.length < 60, `${calls.length} calls`)
  t.ok(calls.reduce((a, b) => a + b, 0) < 60_000, 'documents that were handed to the handler')
  t.ok(statements < 700, `${statements} statements`)
})

t.test('many and all bad ones', async (t) => {
  const { shop, till, calls } = await scene(t, refusing)
  for (let n = 1; n <= 300; n++) till.cashier.sell(`R-${n}`, [line(n % 7 === 0 ? 'POISON' : 'A')])
  await till.replica.synchronize()
  t.equal((await shop.central.quarantine.list()).length, 42)
  t.equal(await shop.stock('A'), -258)
  t.ok(calls.length < 600, `${calls.length} calls`)
  calls.length = 0
  for (let n = 301; n <= 700; n++) till.cashier.sell(`R-${n}`, [line('POISON')])
  t.match(await till.replica.synchronize(), { quarantined: 400 })
  t.equal((await shop.central.quarantine.list({ limit: 1_000 })).length, 442)
  t.ok(calls.length < 450, `${calls.length} calls`)
  t.match(await shop.central.registers.list(), [{ quarantined: 442 }])
  t.equal(await count(shop.pool, 'receipts'), 258)
})

t.test('errors of the surroundings never send a document to quarantine: the register tries again', async (t) => {
  let state = ''
  const { shop, till, events } = await scene(t, function* () {
    if (state !== '') yield* raise(state)
  })
  till.cashier.sell('R-1', [line('A')])
  for (state of ['53100', '53300', '25006', '57P01', 'XX000', '58030', '57014', '08006']) {
    await t.rejects(till.replica.synchronize(), { code: 'ERR_DATABASE', retryable: true }, state)
    t.same(await shop.central.quarantine.list(), [], state)
  }
  state = '40001'
  await t.rejects(till.replica.synchronize(), { code: 'ERR_DATABASE', retryable: true }, 'a conflict that does not end')
  state = ''
  t.ok(events.refused.length >= 9)
  t.match(await till.replica.synchronize(), { quarantined: 0 })
  await shop.balances(t, till)
})

t.test('a retryable error of a handler stops the batch; any other one is the document’s', async (t) => {
  let thrown: unknown
  const { shop, till } = await scene(t, () => {
    if (thrown !== undefined) throw thrown
  })
  till.cashier.sell('R-1', [line('A')])
  thrown = new TillsyncError('ERR_BUSY', 'the ledger is being closed', { retryable: true })
  await t.rejects(till.replica.synchronize(), { code: 'ERR_BUSY' })
  thrown = new Error('wrapped', { cause: Object.assign(new Error('no room'), { code: '53100' }) })
  await t.rejects(till.replica.synchronize(), { code: 'ERR_DATABASE', retryable: true })
  t.same(await shop.central.quarantine.list(), [])
  const odd = [
    null,
    'text',
    {
      toString: () => {
        throw new Error('no text')
      },
    },
    Object.assign(new Error('with \0 in it'), { code: 'EWHATEVER' }),
    new Error('x'.repeat(100_000)),
  ]
  for (const [n, one] of odd.entries()) {
    thrown = one
    till.cashier.sell(`R-odd-${n}`, [line('B')])
    t.match(await till.replica.synchronize(), { quarantined: n === 0 ? 2 : 1 })
  }
  thrown = undefined
  t.same(await shop.central.quarantine.retry({ register: 'POS1' }), { released: 6, waiting: 0 })
  await shop.balances(t, till)
})

t.test('what SQL refuses, in a trigger of the host’s or by a value that does not fit', async (t) => {
  const shop = await openShop(t, server, {
    schema: `${CENTRAL_SCHEMA}
      CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW.item_no = 'BAD' THEN RAISE EXCEPTION 'the item is bad' USING ERRCODE = 'ZZ001'; END IF;
        RETURN NEW; END $$;
      CREATE TRIGGER guard BEFORE INSERT ON receipt_lines FOR EACH ROW EXECUTE FUNCTION guard();
      ALTER TABLE receipts ADD CHECK (customer_no <> 'nobody')`,
  })
  const till = await shop.addTill()
  for (let n = 0; n < 60; n++)
    till.cashier.sell(`R-${n}`, [line(n === 20 ? 'BAD' : 'A', n === 40 ? 'no number' : '1')], { customer: n === 50 ? 'nobody' : null })
  t.match(await till.replica.synchronize(), { quarantined: 3 })
  t.equal(await shop.stock('A'), -57)
  t.equal(await count(shop.pool, 'receipts'), 57)
  t.equal(await count(shop.pool, 'receipt_lines'), 57)
  t.same((await shop.central.quarantine.list()).map(({ recordId }) => recordId).sort(), ['[21]', '[41]', '[51]'])
  await shop.pool.query('ALTER TABLE receipts DROP CONSTRAINT receipts_customer_no_check; DROP TRIGGER guard ON receipt_lines')
  t.same(await shop.central.quarantine.retry({}), { released: 2, waiting: 1 })
})

t.test('what is only found when the transaction is committed, and what only two documents together break', async (t) => {
  const shop = await openShop(t, server, {
    schema: `${CENTRAL_SCHEMA}
      CREATE TABLE customers (customer_no text PRIMARY KEY);
      INSERT INTO customers VALUES ('C1');
      ALTER TABLE receipts ADD FOREIGN KEY (customer_no) REFERENCES customers DEFERRABLE INITIALLY DEFERRED;
      CREATE FUNCTION at_most_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF (SELECT count(*) FROM receipt_lines WHERE item_no = 'ONCE') > 1 THEN RAISE EXCEPTION 'twice'; END IF; RETURN NULL; END $$;
      CREATE CONSTRAINT TRIGGER at_most_one AFTER INSERT ON receipt_lines DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION at_most_one()`,
  })
  const till = await shop.addTill()
  for (let n = 0; n < 40; n++) till.cashier.sell(`R-${n}`, [line(n === 5 || n === 30 ? 'ONCE' : 'A')], { customer: n === 20 ? 'C9' : 'C1' })
  t.match(await till.replica.synchronize(), { quarantined: 2 })
  const held = await shop.central.quarantine.list()
  t.same(
    held.map(({ recordId }) => recordId),
    ['[21]', '[31]'],
    'the first of the two stands',
  )
  t.match(held[0], { message: /foreign key/ })
  t.equal(await shop.stock('A'), -37)
  t.equal(await shop.stock('ONCE'), -1)
  await shop.pool.query("INSERT INTO customers VALUES ('C9'); DROP TRIGGER at_most_one ON receipt_lines")
  till.cashier.sell('R-more', [line('A')])
  await till.replica.synchronize()
  t.match(await shop.central.quarantine.list(), [{ recordId: '[31]' }], 'what missed something is tried again with the next batch')
  t.same(await shop.central.quarantine.retry({ table: 'receipts' }), { released: 1, waiting: 0 })
  await shop.balances(t, till)
})

t.test('a handler that goes on after its statement failed', async (t) => {
  const handler = handlerOf(function* (documents) {
    for (const document of documents) {
      yield* call(async (trx) => {
        if (itemsOf(document).includes('POISON'))
          await trx
            .selectFrom('nothing')
            .selectAll()
            .execute()
            .catch(() => undefined)
      })
    }
  })
  const shop = await openShop(t, server, { subscribe: { receipts: [MIRROR, stockMovements(movementsAt('BA01')), handler] } })
  const till = await shop.addTill()
  for (let n = 0; n < 20; n++) till.cashier.sell(`R-${n}`, [line(n === 7 ? 'POISON' : 'A')])
  t.match(await till.replica.synchronize(), { quarantined: 1 })
  t.match(await shop.central.quarantine.list(), [{ recordId: '[8]', message: /nothing/ }])
  t.equal(await shop.stock('A'), -19)
  t.equal(await count(shop.pool, 'receipts'), 19)
})

t.test('a mapping that changes the document that it gets does not see its own change when it is called again', async (t) => {
  const greedy = stockMovements((receipt) => {
    const lines = receipt.parts.receipt_lines as unknown[]
    return lines.splice(0).map((one) => ({ item: (one as { item_no: string }).item_no, location: 'BA01', quantity: '-1' }))
  })
  const shop = await openShop(t, server, {
    subscribe: {
      receipts: [handlerOf(refuse), greedy],
    },
  })
  const till = await shop.addTill()
  for (let n = 0; n < 10; n++) till.cashier.sell(`R-${n}`, [line(n === 7 ? 'POISON' : 'A')])
  t.match(await till.replica.synchronize(), { quarantined: 1 })
  t.equal(await shop.stock('A'), -9)
})

t.test('a statement that hangs goes to quarantine after the time limit', async (t) => {
  const { shop, till } = await scene(
    t,
    function* (documents: readonly AppliedDocument[]) {
      if (documents.some((document) => itemsOf(document).includes('POISON'))) yield* query({ sql: 'SELECT pg_sleep(100)', parameters: [] })
    },
    { handlerTimeoutMs: 150 },
  )
  for (let n = 0; n < 16; n++) till.cashier.sell(`R-${n}`, [line(n === 11 ? 'POISON' : 'A')])
  t.match(await till.replica.synchronize(), { quarantined: 1 })
  t.match(await shop.central.quarantine.list(), [{ recordId: '[12]', code: 'ERR_TIMEOUT' }])
  t.equal(await shop.stock('A'), -15)
})

t.test('so does the host’s own code that never comes back, though its connection is lost', async (t) => {
  const { shop, till } = await scene(
    t,
    function* (documents: readonly AppliedDocument[]) {
      const isBad = documents.some((document) => itemsOf(document).includes('POISON'))
      yield* call(() => (isBad ? new Promise(() => undefined) : Promise.resolve()))
    },
    { handlerTimeoutMs: 150 },
  )
  for (let n = 0; n < 16; n++) till.cashier.sell(`R-${n}`, [line(n === 5 || n === 11 ? 'POISON' : 'A')])
  t.match(await till.replica.synchronize(), { quarantined: 2 })
  t.match(await shop.central.quarantine.list(), [
    { recordId: '[6]', code: 'ERR_TIMEOUT' },
    { recordId: '[12]', code: 'ERR_TIMEOUT' },
  ])
  t.equal(await shop.stock('A'), -14)
  till.cashier.sell('R-more', [line('A')])
  await till.replica.synchronize()
  t.equal(await shop.stock('A'), -15)
})

t.test('where all hang, three are tried and the rest goes with them', async (t) => {
  const { till, calls } = await scene(
    t,
    function* () {
      yield* query({ sql: 'SELECT pg_sleep(100)', parameters: [] })
    },
    { handlerTimeoutMs: 100 },
  )
  for (let n = 0; n < 16; n++) till.cashier.sell(`R-${n}`, [line('A')])
  t.match(await till.replica.synchronize(), { quarantined: 16 })
  t.ok(calls.length <= 9, `${calls.length} calls`)
})

t.test('a lock that somebody else holds is no document’s fault', async (t) => {
  const { shop, till } = await scene(
    t,
    function* () {
      yield* query({ sql: 'LOCK TABLE held', parameters: [] })
    },
    { handlerTimeoutMs: 200, schema: `${CENTRAL_SCHEMA}; CREATE TABLE held (n int)` },
  )
  till.cashier.sell('R-1', [line('A')])
  const holder = await shop.pool.connect()
  await holder.query('BEGIN; LOCK TABLE held')
  const synchronized = till.replica.synchronize()
  await new Promise((resolve) => setTimeout(resolve, 700))
  t.same((await holder.query('SELECT * FROM sync_quarantine')).rows, [])
  await holder.query('COMMIT')
  holder.release()
  t.match(await synchronized, { quarantined: 0 })
  await shop.balances(t, till)
})

t.test('a statement that an operator cancels is no document’s fault', async (t) => {
  let isSlow = true
  const { shop, till } = await scene(t, function* () {
    if (isSlow) yield* query({ sql: 'SELECT pg_sleep(20)', parameters: [] })
  })
  till.cashier.sell('R-1', [line('A')])
  const synchronized = till.replica.synchronize()
  synchronized.catch(() => undefined)
  const cancel = async (): Promise<boolean> =>
    ((await shop.pool.query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(20)' AND state = 'active'"))
      .rowCount ?? 0) > 0
  const until = Date.now() + 10_000
  while (!(await cancel()) && Date.now() < until) await new Promise((resolve) => setTimeout(resolve, 20))
  await t.rejects(synchronized, { code: 'ERR_DATABASE', retryable: true })
  t.same(await shop.central.quarantine.list(), [])
  isSlow = false
  await till.replica.synchronize()
  await shop.balances(t, till)
})
