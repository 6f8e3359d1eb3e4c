import type { Pool, PoolClient } from 'pg'
import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { systemClock } from '../../src/clock.ts'
import { createCentral, createRegister, mirror } from '../../src/index.ts'
import { memoryLink } from '../../src/transport/memory.ts'
import { createPool, startServer } from '../support/postgres.ts'

const server = await startServer(t)

/** Each statement takes so long on its way; says how often rows of a table were written. */
function delayed(pool: Pool, ms: number, table: string): () => number {
  let written = 0
  pool.on('connect', (client: PoolClient) => {
    const { query } = client
    Object.assign(client, {
      async query(...all: unknown[]) {
        const [first] = all as [string | { readonly text?: string }]
        const text = (typeof first === 'string' ? first : first.text) ?? ''
        if (text.includes(`INSERT INTO "public"."${table}"`)) written++
        await systemClock.sleep(ms)
        return Reflect.apply(query, client, all)
      },
    })
  })
  return () => written
}

t.test('a till whose database is far away, or busy, still takes what comes in large steps', async (t) => {
  const office = await createPool(t, server)
  await office.query("CREATE TABLE items (id bigint PRIMARY KEY, name text); INSERT INTO items SELECT n, 'n' FROM generate_series(1, 1280) n")
  const central = createCentral({ database: postgres(office), subscribe: {}, publish: { items: {} } })
  t.teardown(() => central.stop())
  await central.install()
  const name = { location: 'BA01', register: 'POS1' }
  await central.registers.add(name)
  const pool = await createPool(t, server)
  const written = delayed(pool, 5, 'items')
  await pool.query('CREATE TABLE items (id bigint PRIMARY KEY, name text)')
  const transfer = { type: 'push', link: memoryLink(central, name) } as const
  const till = createRegister({ ...name, database: postgres(pool), publish: {}, subscribe: { items: mirror() }, transfer })
  t.teardown(() => till.stop())
  await till.install()
  t.match(await till.synchronize(), { applied: 1_280 })
  t.ok(written() > 0 && written() <= 40, `${written()} times`)
})
