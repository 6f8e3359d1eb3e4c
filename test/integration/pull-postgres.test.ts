import { randomBytes } from 'node:crypto'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type AnyTables, type Central, createCentral, createRegister, mirror, type Register, stockMovements } from '../../src/index.ts'
import { eventually } from '../support/eventually.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { listen } from '../support/shop.ts'

// Central pulls tills that are on PostgreSQL.

const server = await startServer(t)
const NAME = { location: 'BA01', register: 'POS1' }
const ITEMS = 'CREATE TABLE items (item_no text PRIMARY KEY, name text NOT NULL, unit_price numeric(12, 2))'
const TILL = `${ITEMS};
  CREATE TABLE receipts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, receipt_no text NOT NULL, business_date date NOT NULL DEFAULT '2026-11-21');
  CREATE TABLE receipt_lines (receipt_id bigint REFERENCES receipts, line_no int, item_no text REFERENCES items, quantity numeric(12, 3), net_amount numeric(12, 2), PRIMARY KEY (receipt_id, line_no))`

async function open(t: Test) {
  const [office, till] = [await createPool(t, server), await createPool(t, server)]
  await office.query(ITEMS)
  await till.query(TILL)
  const token = randomBytes(32).toString('base64url')
  const create = (recordsPerRun: number): Register => {
    const replica = createRegister<AnyTables>({
      ...NAME,
      database: postgres(till),
      publish: { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
      subscribe: { items: mirror() },
      transfer: { type: 'pull', token, recordsPerRun, maxMessageBytes: 65_536 },
    })
    t.teardown(() => replica.stop())
    return replica
  }
  const seat = { replica: create(20) }
  await seat.replica.install()
  const url = await listen(t, (request, from) => seat.replica.fetch(request, from))
  const central: Central = createCentral({
    database: postgres(office),
    subscribe: {
      receipts: stockMovements((receipt) =>
        (receipt.parts.receipt_lines ?? []).map((line) => ({
          item: line.item_no,
          location: 'BA01',
          businessDate: receipt.business_date,
          document: receipt.receipt_no,
          quantity: line.quantity,
          amount: line.net_amount,
        })),
      ),
    },
    publish: { items: {} },
    pull: { token: () => token, everyMs: 20 },
  })
  t.teardown(() => central.stop())
  await central.install()
  await central.registers.add({ ...NAME, pull: { url } })
  let receipts = 0
  const sell = async (client: Pick<typeof till, 'query'> = till): Promise<void> => {
    const no = `R-${++receipts}`
    await client.query(
      `WITH r AS (INSERT INTO receipts (receipt_no) VALUES ('${no}') RETURNING id) INSERT INTO receipt_lines SELECT id, n, 'A', 1.5, 3.00 FROM r, generate_series(1, 3) n`,
    )
  }
  const posted = async () => (await office.query('SELECT count(*)::int AS n, coalesce(sum(quantity), 0)::float AS q FROM stock_movements')).rows[0]
  return { office, till, token, create, seat, url, central, sell, posted, sold: () => receipts }
}

t.test('what a till sells arrives, and what head office publishes comes, while it goes on selling, and over a restart', async (t) => {
  const { office, till, create, seat, central, sell, posted, sold } = await open(t)
  await office.query(`INSERT INTO items SELECT CASE n WHEN 1 THEN 'A' ELSE 'I' || n END, 'n', 1 FROM generate_series(1, 400) n`)
  await central.start()
  await seat.replica.start()
  await eventually('items', async () => (await till.query('SELECT FROM items')).rowCount === 400, 60_000)
  for (let n = 0; n < 20; n++) await sell()
  // One that commits late, behind others that have gone.
  const late = await till.connect()
  try {
    await late.query('BEGIN')
    await sell(late)
    const before = sold() - 1
    await eventually('all but the late one', async () => (await posted()).q === before * 4.5)
    await seat.replica.stop()
    await sell()
    seat.replica = create(50)
    await office.query(`UPDATE items SET unit_price = 2; DELETE FROM items WHERE item_no = 'I7'`)
    await seat.replica.start()
    await late.query('COMMIT')
  } finally {
    late.release()
  }
  await eventually('the late one, and prices', async () => {
    const prices = await till.query('SELECT FROM items WHERE unit_price = 2')
    return (await posted()).q === sold() * 4.5 && prices.rowCount === 399
  })
  t.same(await till.query('SELECT count(*)::int AS n FROM items').then(({ rows }) => rows), [{ n: 399 }])
  await eventually('it is acknowledged', async () => (await seat.replica.status()).pending === 0)
  const { unapplied, problems } = await seat.replica.status()
  t.same([unapplied, problems], [[], []])
  t.match(await central.registers.list(), [{ pending: 0, quarantined: 0 }])
})

t.test('what waits at a till is tried again with each exchange, though nothing comes', async (t) => {
  const { office, till, seat, central } = await open(t)
  await till.query('ALTER TABLE items ADD CONSTRAINT cheap CHECK (unit_price < 100)')
  await office.query(`INSERT INTO items VALUES ('A', 'n', 1), ('B', 'n', 150)`)
  await central.synchronize(NAME)
  t.match((await seat.replica.status()).unapplied, [{ recordId: ['B'], code: 'ERR_MIRROR' }])
  await till.query('ALTER TABLE items DROP CONSTRAINT cheap')
  await central.synchronize(NAME)
  t.same((await seat.replica.status()).unapplied, [])
  t.equal((await till.query('SELECT FROM items')).rowCount, 2)
})

t.test('what strangers send to a till changes nothing there, and central gets on with it', async (t) => {
  const { office, till, token, url, seat, central, sell, posted } = await open(t)
  await office.query(`INSERT INTO items VALUES ('A', 'n', 1)`)
  await central.synchronize(NAME)
  await sell()
  const send = async (authorization: string | undefined, body: Uint8Array) => {
    const headers = { 'content-type': 'application/vnd.tillsync', ...(authorization && { authorization }) }
    const response = await fetch(url, { method: 'POST', headers, body })
    await response.arrayBuffer()
    return response.status
  }
  t.equal(await send(undefined, randomBytes(50)), 401)
  t.equal(await send(`Bearer ${randomBytes(32).toString('base64url')}`, randomBytes(50)), 401)
  t.equal(await send(`Bearer ${token}`, randomBytes(50)), 400)
  t.equal(await send(`Bearer ${token}`, randomBytes(70_000)), 413)
  t.equal((await till.query('SELECT FROM items')).rowCount, 1)
  // A document that fits into no message that the till reads, beside others that do.
  await office.query(`INSERT INTO items VALUES ('B', 'n', 1), ('C', repeat('x', 100000), 1), ('D', 'n', 1)`)
  const failed: string[] = []
  central.on('failed', ({ error }) => failed.push(error.code))
  await central.synchronize(NAME)
  t.same(failed, ['ERR_TOO_LARGE'])
  t.same(
    (await till.query('SELECT item_no FROM items ORDER BY 1')).rows.map(({ item_no }) => item_no),
    ['A', 'B', 'D'],
  )
  t.equal((await posted()).q, 4.5)
  await seat.replica.stop()
  await t.rejects(central.synchronize(NAME), { code: 'ERR_STOPPED', retryable: true })
})
