import type pg from 'pg'
import t from 'tap'
import { copyRows } from '../../src/adapters/postgres/copy.ts'
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

/** As OpenTelemetry's and Datadog's do: what can be redefined is, what has no name is sent as a copy. */
function traced(client: pg.PoolClient, comment: string): void {
  const { query } = client
  const commented = (first: { text: string; readonly name?: string }): object => {
    const text = `/* ${comment} */ ${first.text}`
    if (first.name === undefined) return { ...first, text }
    if (Object.getOwnPropertyDescriptor(first, 'text')?.configurable !== false) Object.defineProperty(first, 'text', { get: () => text })
    return first
  }
  Object.assign(client, {
    query: (first: string | { text: string }, ...more: unknown[]) =>
      Reflect.apply(query, client, [typeof first === 'string' ? first : commented(first), ...more]),
  })
}

t.test('a tracer that puts comments into texts changes nothing', async (t) => {
  const pool = await createPool(t, server, { max: 1 })
  const client = await pool.connect()
  t.teardown(() => client.release())
  traced(client, 'a trace')
  const one = sent('SELECT $1::int AS n', [1], 'one')
  for (const begin of [undefined, 'begin'])
    for (let n = 0; n < 2; n++) t.same((await sendTogether(client, [sent('BEGIN', [], begin), one, sent('COMMIT', [], 'commit')]))[1], [{ n: 1 }])
  t.same(await sendTogether(client, [one]), [[{ n: 1 }]], 'alone too')
  t.same((await sendTogether(client, [sent('BEGIN'), one, sent('COMMIT')]))[1], [{ n: 1 }])
  await client.query('CREATE TEMPORARY TABLE copied (n int)')
  await copyRows(client, 'copied', [[1], [2]])
  t.same((await client.query('SELECT n FROM copied ORDER BY n')).rows, [{ n: 1 }, { n: 2 }])
})

t.test('what was sent in place of statements that go together does not count as done', async (t) => {
  const pool = await createPool(t, server, { max: 1 })
  const client = await pool.connect()
  t.teardown(() => client.release())
  const { query } = client
  Object.assign(client, { query: (first: { text: string }) => Reflect.apply(query, client, [{ ...first, text: first.text }]) })
  await t.rejects(sendTogether(client, [sent('BEGIN'), sent('SELECT 1'), sent('COMMIT')]), /in place of/)
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
