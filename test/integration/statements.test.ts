import type { Pool, PoolClient } from 'pg'
import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createRegister } from '../../src/index.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { PUBLISH, TABLES } from '../support/postgres-till.ts'
import { openShop } from '../support/shop.ts'
import { Machine } from '../support/world.ts'

const server = await startServer(t)
const line = { item: 'A', quantity: '1', amount: '1' }

function leading(sql: string): string {
  return /^(?:BEGIN|SELECT|WITH|SET|COMMIT|(?:INSERT INTO|UPDATE) "[^"]*"\."\w+")/.exec(sql)?.[0]?.replace(/"[^"]*"\./, '') ?? sql
}

/** All that is asked of the pool from here on, way by way: statements that go together stand together. */
function watch(pool: Pool, shown = (sql: string) => sql): string[] {
  const statements: string[] = []
  const watched = new WeakSet<PoolClient>()
  pool.on('acquire', (client) => {
    if (watched.has(client)) return
    watched.add(client)
    const query = client.query as (...args: unknown[]) => unknown
    client.query = ((first: string | { readonly text: string; readonly statements?: readonly { readonly text: string }[] }, ...args: unknown[]) => {
      const texts = typeof first === 'string' ? [first] : (first.statements ?? [first]).map(({ text }) => text)
      // A transaction of more than 200 ms, on a slow machine.
      if (!texts[0]?.includes('pg_blocking_pids')) statements.push(texts.map(shown).join(', '))
      return query.call(client, first, ...args)
    }) as typeof client.query
  })
  return statements
}

t.test(
  "each way from central to its database is a part of the lag: an exchange with nothing to say costs one, one with a sale three and its mirror's",
  async (t) => {
    const shop = await openShop(t, server)
    const statements = watch(shop.pool, leading)
    let exchanges = 0
    const till = await shop.addTill('POS1', {
      link: (inner) => ({
        exchange(message, options) {
          exchanges++
          return inner.exchange(message, options)
        },
      }),
    })
    const statementsOf = async (): Promise<readonly string[]> => {
      statements.length = 0
      exchanges = 0
      await till.replica.synchronize()
      t.equal(exchanges, 1)
      return [...statements]
    }
    await till.replica.synchronize()
    await till.replica.synchronize()
    t.equal((await statementsOf()).length, 1, 'of one that never had anything to say')
    till.cashier.sell('R-1', [line])
    await till.replica.synchronize()
    await till.replica.synchronize()
    t.equal((await statementsOf()).length, 1, 'it reads the row, with the token')
    till.cashier.sell('R-2', [line])
    t.same(await statementsOf(), [
      'BEGIN, SELECT, SELECT', // its settings; where it stands, locked
      'WITH, INSERT INTO "sync_documents"', // archived; what waits in quarantine
      // The shop's mirror: what it knows of its tables, and what it writes.
      'SELECT',
      'SELECT',
      'INSERT INTO "receipts"',
      'INSERT INTO "receipt_lines"',
      'INSERT INTO "tender_lines"',
      'WITH, SET, INSERT INTO "stock_levels", UPDATE "sync_registers", COMMIT', // posted
    ])
    t.equal(await shop.stock('A'), -2)
  },
)

t.test('a first install makes nothing twice: what it is going to lock is known before it writes', async (t) => {
  const pool = await createPool(t, server)
  await pool.query(TABLES)
  const statements = watch(pool)
  const till = createRegister({ location: 'BA01', register: 'POS1', database: postgres(pool), publish: PUBLISH })
  t.teardown(() => till.stop())
  await till.install()
  for (const made of [
    /^CREATE TABLE "public"."sync_entries"/m,
    /^CREATE TABLE "public"."sync_touches"/m,
    /^CREATE OR REPLACE TRIGGER sync_touch .* ON public.receipts /m,
  ])
    t.equal(statements.filter((sql) => made.test(sql)).length, 1, `${made}`)
  statements.length = 0
  await till.install()
  t.notOk(
    statements.find((sql) => /^(CREATE|ALTER|DROP)|LOCK TABLE/m.test(sql)),
    'and a later one nothing at all',
  )
})

t.test('orphans are listed by as many statements as one of them', async (t) => {
  const shop = await openShop(t, server)
  const machine = new Machine(t, await shop.addTill())
  const empty = machine.backup()
  for (let n = 1; n <= 5; n++) machine.cashier.sell(`R-${n}`, [line])
  await machine.replica.synchronize()
  await machine.restore(empty)
  await machine.replica.synchronize()
  const statements = watch(shop.pool)
  const counts: number[] = []
  for (const limit of [1, 5]) {
    statements.length = 0
    t.equal((await shop.central.orphans.list({ limit })).length, limit)
    counts.push(statements.length)
  }
  t.equal(counts[0], counts[1])
})
