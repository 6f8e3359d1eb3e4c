import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createRegister, mirror, type PublishRules, type Register } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { createPool, openPool, startServer } from '../support/postgres.ts'
import { openShop, type Shop } from '../support/shop.ts'

const server = await startServer(t)

interface Mirrored {
  /** Runs statements as the host of the till. */
  run(sql: string): Promise<unknown>
  /** What a statement answers at both sides. */
  both(sql: string): Promise<[office: unknown[], till: unknown[]]>
  readonly replica: Register
}

/** A till on PostgreSQL and a head office with the same tables, whose database is set otherwise. */
async function openMirrored(t: Test, tables: string, rules: PublishRules<Record<string, Record<string, unknown>>>, settings = {}): Promise<Mirrored> {
  const { config } = await server.createDatabase()
  for (const [name, value] of Object.entries(settings))
    await openPool(t, config).query(`ALTER DATABASE "${config.database}" SET ${name} = '${value}'`)
  const office = openPool(t, config)
  const pool = await createPool(t, server)
  for (const one of [office, pool]) await one.query(tables)
  const roots = Object.entries(rules).flatMap(([table, rule]) => (rule?.partOf ? [] : [table]))
  const shop: Shop = await openShop(t, server, { pool: office, subscribe: Object.fromEntries(roots.map((table) => [table, mirror()])) })
  const { token } = await shop.central.registers.add({ location: 'BA01', register: 'POS1' })
  const link = httpLink({ url: shop.url, token })
  const replica = createRegister({ location: 'BA01', register: 'POS1', database: postgres(pool), publish: rules, transfer: { type: 'push', link } })
  t.teardown(() => replica.stop())
  await replica.install()
  return {
    run: (sql) => pool.query(sql),
    both: async (sql) => [(await office.query(sql)).rows, (await pool.query(sql)).rows],
    replica,
  }
}

t.test('a key that becomes an equal one, written otherwise, is the same row at head office, and written so', async (t) => {
  const { run, both, replica } = await openMirrored(t, 'CREATE TABLE sizes (size numeric PRIMARY KEY, name text)', { sizes: {} })
  await run(`INSERT INTO sizes VALUES (1.0, 'a'), (2.0, 'b')`)
  await replica.synchronize()
  await run(`UPDATE sizes SET size = 1.00 WHERE size = 1`)
  await replica.synchronize()
  t.same(...(await both('SELECT size::text, name FROM sizes ORDER BY 1')))
  await run(`UPDATE sizes SET size = 1.000, name = 'c' WHERE size = 1`)
  await replica.seal()
  await run(`UPDATE sizes SET size = 1, name = 'd' WHERE size = 1`)
  await t.resolves(replica.synchronize(), 'both in one batch')
  t.same(...(await both('SELECT size::text, name FROM sizes ORDER BY 1')))
})

t.test('parts with keys of any type are gone at head office when they are gone', async (t) => {
  const keys = {
    'integer[]': ['{1,NULL}', '{}'],
    jsonb: ['null', '{"a": [1.50]}'],
    pair: ['(,)', '(1,"x y")'],
    'character(3)': ['a', 'b c'],
    timestamptz: ['infinity', '0044-03-15 00:00:00+00 BC'],
    'double precision': ['NaN', '-Infinity'],
    bytea: ['\\xff', '\\x'],
    interval: ['-1 mon 2 days', '0.000001 s'],
  }
  const types = Object.entries(keys)
  const tables = types.map(
    ([type], n) => `CREATE TABLE lists_${n} (id bigint PRIMARY KEY); CREATE TABLE lines_${n} (id ${type} PRIMARY KEY, list_id bigint);
      CREATE TABLE notes_${n} (no bigint PRIMARY KEY, line ${type})`,
  )
  const rules = types.map((_, n) => ({
    [`lists_${n}`]: {},
    [`lines_${n}`]: { partOf: { [`lists_${n}`]: { list_id: 'id' } } },
    [`notes_${n}`]: { partOf: { [`lines_${n}`]: { line: 'id' } } },
  }))
  const { run, both, replica } = await openMirrored(t, `CREATE TYPE pair AS (a integer, b text); ${tables.join(';')}`, Object.assign({}, ...rules))
  for (const [n, [, values]] of types.entries()) {
    const inserts = values.map((value, no) => `INSERT INTO lines_${n} VALUES ('${value}', 1); INSERT INTO notes_${n} VALUES (${no}, '${value}')`)
    await run(`INSERT INTO lists_${n} VALUES (1), (2); ${inserts.join('; ')}`)
  }
  await replica.synchronize()
  for (const [n, [type]] of types.entries()) {
    t.same(...(await both(`SELECT l.id::text, no FROM lines_${n} l JOIN notes_${n} n ON n.line = l.id ORDER BY 1`)), `${type}: there`)
    await run(`DELETE FROM lines_${n}; DELETE FROM notes_${n}`)
  }
  await replica.synchronize()
  for (const [n, [type]] of types.entries())
    t.same(await both(`SELECT id::text FROM lines_${n} UNION ALL SELECT line::text FROM notes_${n}`), [[], []], `${type}: gone`)
})

t.test('what a host has set for its database changes nothing of what is written there', async (t) => {
  const settings = {
    array_nulls: 'off',
    xmloption: 'document',
    standard_conforming_strings: 'off',
    quote_all_identifiers: 'on',
    DateStyle: 'German',
    extra_float_digits: '-5',
  }
  const tables = 'CREATE TABLE things (id bigint PRIMARY KEY, names text[], note xml, raw bytea, at date, ratio double precision)'
  const { run, both, replica } = await openMirrored(t, tables, { things: {} }, settings)
  await run(`INSERT INTO things VALUES (100, ARRAY['a', NULL, 'NULL'], 'a &amp; b', '\\xff00', '2026-03-04', 0.1::float8 + 0.2)`)
  await replica.synchronize()
  t.same(...(await both(`SELECT id, names, note::text, encode(raw, 'hex') AS raw, to_char(at, 'DDD') AS at, float8send(ratio) AS ratio FROM things`)))
})
