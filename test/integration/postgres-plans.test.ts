import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createRegister } from '../../src/index.ts'
import { query } from '../../src/work.ts'
import { eventually } from '../support/eventually.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { openShop } from '../support/shop.ts'

const server = await startServer(t)

const line = { item: 'A', quantity: '1', amount: '1' }

t.test('plans are kept on a connection, those of two schemas apart', async (t) => {
  const pool = await createPool(t, server, { max: 1 })
  const tills = await Promise.all(
    ['north', 'south'].map(async (schema) => {
      await pool.query(`CREATE SCHEMA ${schema}; CREATE TABLE ${schema}.receipts (id INTEGER PRIMARY KEY)`)
      const till = createRegister({ location: 'BA01', register: 'POS1', database: postgres(pool, { schema }), publish: { receipts: {} } })
      t.teardown(() => till.stop())
      await till.install()
      return { schema, till }
    }),
  )
  for (let n = 1; n <= 3; n++) {
    for (const { schema, till } of tills) {
      await pool.query(`INSERT INTO ${schema}.receipts VALUES (${n})`)
      t.equal((await till.seal()).documents, 1)
    }
  }
  t.ok((await pool.query("SELECT FROM pg_prepared_statements WHERE name LIKE 'sync_%'")).rows.length > 2)
})

t.test('connections on which nothing that is prepared stays are as good', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill('POS1')
  const { cashier, replica } = till
  cashier.sell('R-1', [line])
  await replica.synchronize()
  // As a pooler between does that gives each transaction another connection, or a pool that resets what comes back.
  shop.pool.on('acquire', (client) => void client.query('DEALLOCATE ALL').catch(() => undefined))
  for (const receipt of ['R-2', 'R-3', 'R-4']) {
    cashier.sell(receipt, [line])
    await replica.synchronize()
  }
  t.equal(await shop.stock('A'), -4)
  t.same((await replica.status()).pending, 0)
})

t.test('so it is for several transactions that find it out at the same time', async (t) => {
  const pool = await createPool(t, server)
  const database = postgres(pool)
  await database.open()
  t.teardown(() => database.close())
  const host = await pool.connect()
  t.teardown(() => host.release())
  await host.query('SELECT pg_advisory_lock(1)')
  const asked = { sql: 'SELECT $1::int AS asked', parameters: [1], keepsPlan: true }
  const run = () => {
    let isFirst = true
    return database.write(function* () {
      yield* query(asked)
      if (isFirst) yield* query({ sql: 'SELECT pg_advisory_xact_lock_shared(1)', parameters: [] })
      if (isFirst) yield* query({ sql: 'DEALLOCATE ALL', parameters: [] })
      isFirst = false
      return yield* query(asked)
    })
  }
  const running = [run(), run()]
  await eventually('both have begun while plans were kept', async () => (await host.query('SELECT FROM pg_locks WHERE NOT granted')).rowCount === 2)
  await host.query('SELECT pg_advisory_unlock(1)')
  t.same(await Promise.all(running), [[{ asked: 1 }], [{ asked: 1 }]])
})
