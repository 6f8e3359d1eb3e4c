import type pg from 'pg'
import t from 'tap'
import { OWN_TYPES } from '../../src/adapters/postgres/parsers.ts'
import { type Sent, sendTogether } from '../../src/adapters/postgres/together.ts'
import { createPool, startServer } from '../support/postgres.ts'

const server = await startServer(t)
const types = OWN_TYPES
const sent = (text: string, values: readonly unknown[] = [], name?: string): Sent => ({ text, values, types, ...(name && { name }) })
const count = async (client: pg.ClientBase): Promise<number> => (await client.query('SELECT count(*)::int AS n FROM t')).rows[0].n

for (const pipeline of [false, true]) {
  t.test(`statements that go one way to the server are one transaction's${pipeline ? ', where the pool pipelines, too' : ''}`, async (t) => {
    const pool = await createPool(t, server, { max: 1, ...{ pipeline } })
    await pool.query('CREATE TABLE t (a int PRIMARY KEY, b text)')
    const client = await pool.connect()
    t.teardown(() => client.release())
    const insert = (a: unknown) => sent('INSERT INTO t VALUES ($1, $2) RETURNING a, b', [a, null], 'insert_t')
    t.same(await sendTogether(client, [sent('BEGIN'), insert(1), insert(2), sent("SELECT 'x' AS x WHERE false"), sent('COMMIT')]), [
      [],
      [{ a: 1, b: null }],
      [{ a: 2, b: null }],
      [],
      [],
    ])
    t.equal(await count(client), 2)

    await t.rejects(
      sendTogether(client, [sent('BEGIN'), insert(3), insert(1), sent('SELECT $1::int AS n', [7], 'never_seen'), sent('COMMIT')]),
      { code: '23505' },
      'what failed, not what failed because of it',
    )
    await client.query('ROLLBACK')
    t.equal(await count(client), 2, 'and nothing is committed')
    t.same(await sendTogether(client, [sent('BEGIN'), sent('SELECT $1::int AS n', [7], 'never_seen'), insert(4), sent('COMMIT')]), [
      [],
      [{ n: 7 }],
      [{ a: 4, b: null }],
      [],
    ])

    const unwritable = {
      toPostgres() {
        throw new Error('no text of it')
      },
    }
    await t.rejects(sendTogether(client, [sent('BEGIN'), insert(5), insert(unwritable), sent('COMMIT')]), { message: 'no text of it' })
    await client.query('ROLLBACK')
    t.equal(await count(client), 3, 'what could not be sent ends it, too')
    await t.rejects(sendTogether(client, [sent('BEGIN'), sent('SELEC 1'), sent('COMMIT')]), { code: '42601' })
    await client.query('ROLLBACK')
    t.same(await sendTogether(client, [sent('SELECT $1::text AS one', ['ä\n"'])]), [[{ one: 'ä\n"' }]])
    t.same(await sendTogether(client, []), [])
  })
}

t.test('a tracer that shows texts of its own, as they do where a text may be redefined, changes nothing', async (t) => {
  const pool = await createPool(t, server, { max: 1 })
  const client = await pool.connect()
  t.teardown(() => client.release())
  const { query } = client
  Object.assign(client, {
    query(first: { readonly text: string }, ...more: unknown[]) {
      const { text } = first
      if (Object.getOwnPropertyDescriptor(first, 'text')?.configurable !== false) Object.defineProperty(first, 'text', { get: () => text })
      return Reflect.apply(query, client, [first, ...more])
    },
  })
  const all = [sent('BEGIN', [], 'begin'), sent('SELECT $1::int AS n', [1], 'one'), sent('COMMIT', [], 'commit')]
  for (let n = 0; n < 2; n++) t.same((await sendTogether(client, all))[1], [{ n: 1 }])
})

t.test('a time limit of the pool, and a connection that breaks off, end what goes together', async (t) => {
  const pool = await createPool(t, server, { max: 1, query_timeout: 100 })
  const client = await pool.connect()
  client.on('error', () => undefined)
  t.teardown(() => client.release(true))
  await t.rejects(sendTogether(client, [sent('BEGIN'), sent('SELECT pg_sleep(2)'), sent('COMMIT')]), { message: /timeout/ })
  const other = await createPool(t, server, { max: 1 })
  const lost = await other.connect()
  lost.on('error', () => undefined)
  t.teardown(() => lost.release(true))
  await t.rejects(sendTogether(lost, [sent('BEGIN'), sent('SELECT pg_terminate_backend(pg_backend_pid())'), sent('COMMIT')]), { code: '57P01' })
  await t.rejects(sendTogether(lost, [sent('BEGIN'), sent('COMMIT')]), /not queryable|terminated/)
})
