import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createCentral, createRegister, mirror } from '../../src/index.ts'
import { httpLink, toNodeHandler } from '../../src/transport/http.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { openTill } from '../support/postgres-till.ts'

const server = await startServer(t)

/** By type: values as SQL, and what their record says. */
const VALUES: Readonly<Record<string, readonly (readonly [sql: string, json: string])[]>> = {
  smallint: [['-32768', '-32768']],
  integer: [['2147483647', '2147483647']],
  bigint: [
    ['9223372036854775807', '9223372036854775807'],
    ['-9223372036854775808', '-9223372036854775808'],
    ['0', '0'],
  ],
  'double precision': [
    ['0.1', '0.1'],
    ["'-0'", '{"$real":"-0.0"}'],
    ["'NaN'", '{"$real":"NaN"}'],
    ["'-Infinity'", '{"$real":"-Infinity"}'],
    ['1', '1.0'],
    ['1e300', '1e+300'],
    ["'4.9406564584124654e-324'", '5e-324'],
    ['0.1::float8 + 0.2::float8', '0.30000000000000004'],
  ],
  real: [
    ['0.1', '0.1'],
    ['16777217', '16777216.0'],
  ],
  numeric: [
    ['1.50', '"1.50"'],
    ['123456789012345678901234567890.123456789', '"123456789012345678901234567890.123456789"'],
    ["'NaN'", '"NaN"'],
  ],
  'numeric(10,2)': [['1', '"1.00"']],
  boolean: [
    ['true', 'true'],
    ['false', 'false'],
  ],
  bytea: [
    [`'\\x00ff7b22'`, '{"$blob":"AP97Ig=="}'],
    [`''`, '{"$blob":""}'],
  ],
  text: [
    [`'ä€😀"\\ {"$blob":"AA=="}'`, JSON.stringify('ä€😀"\\ {"$blob":"AA=="}')],
    [`''`, '""'],
    [`E'\\t\\r\\n\\u0001'`, '"\\t\\r\\n\\u0001"'],
    [`'NULL'`, '"NULL"'],
  ],
  'character varying(5)': [[`'a  '`, '"a  "']],
  'character(5)': [[`'a'`, '"a    "']],
  uuid: [[`'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'`, '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"']],
  date: [
    [`'2026-11-21'`, '"2026-11-21"'],
    [`'infinity'`, '"infinity"'],
    [`'0044-03-15 BC'`, '"0044-03-15 BC"'],
  ],
  'timestamp with time zone': [
    [`'2026-11-21 12:00:00.000001+05:30'`, '"2026-11-21T06:30:00.000001Z"'],
    [`'2026-11-21 12:00:00Z'`, '"2026-11-21T12:00:00.000000Z"'],
    [`'-infinity'`, '"-infinity"'],
    [`'12026-01-01 00:00:00Z'`, '"12026-01-01 00:00:00+00"'],
  ],
  'timestamp without time zone': [[`'2026-11-21 12:00:00.5'`, '"2026-11-21T12:00:00.500000"']],
  'time without time zone': [[`'23:59:59.999999'`, '"23:59:59.999999"']],
  'time with time zone': [[`'10:00+02'`, '"10:00:00+02"']],
  interval: [[`'1 year 2 months 3 days 04:05:06.5'`, '"P1Y2M3DT4H5M6.5S"']],
  json: [[`'{"a" : 1.10, "a":2}'`, JSON.stringify('{"a" : 1.10, "a":2}')]],
  jsonb: [[`'{"b":1,"a":1.10}'`, JSON.stringify('{"a": 1.10, "b": 1}')]],
  'integer[]': [
    [`'{1,NULL,3}'`, '"{1,NULL,3}"'],
    [`'[0:1]={1,2}'`, '"[0:1]={1,2}"'],
  ],
  'text[]': [[`ARRAY['a,b', 'c"d', NULL, '']`, JSON.stringify('{"a,b","c\\"d",NULL,""}')]],
  'timestamp with time zone[]': [[`ARRAY['2026-11-21 12:00+02'::timestamptz]`, JSON.stringify('{"2026-11-21 10:00:00+00"}')]],
  mood: [[`'glad'`, '"glad"']],
  amount: [['1.5', '"1.500"']],
  ratio: [["'-0'", '{"$real":"-0.0"}']],
  inet: [[`'10.0.0.1'`, '"10.0.0.1"']],
  money: [['1234.5', '"$1,234.50"']],
  int4range: [[`'[1,5)'`, '"[1,5)"']],
  xml: [[`'<a/>'`, '"<a/>"']],
  'bit(3)': [[`B'101'`, '"101"']],
  place: [[`ROW(1.5, 'x y', '2026-11-21 12:00+02')`, JSON.stringify('(1.5,"x y","2026-11-21 10:00:00+00")')]],
}
const TYPES = `
  CREATE TYPE mood AS ENUM ('sad', 'glad'); CREATE DOMAIN amount_base AS numeric(12, 3); CREATE DOMAIN amount AS amount_base CHECK (VALUE > 0);
  CREATE DOMAIN ratio AS double precision; CREATE TYPE place AS (x double precision, name text, at timestamptz)`
/** As different from the library's own as can be. */
const SETTINGS = `SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Kathmandu'; SET extra_float_digits = -5; SET bytea_output = 'escape'; SET IntervalStyle = 'sql_standard'`
const types = Object.keys(VALUES)
const cases = types.flatMap((type, at) => (VALUES[type] ?? []).map(([sql, json]) => ({ type, column: `c${at}`, sql, json })))
const TABLE = `CREATE TABLE things (id bigint PRIMARY KEY, ${types.map((type, at) => `c${at} ${type}`).join(', ')})`

t.test('values of every type are sealed as documented, and arrive bit for bit', async (t) => {
  const office = await createPool(t, server)
  await office.query(`${TYPES}; ${TABLE}`)
  const central = createCentral({ database: postgres(office), subscribe: { things: mirror() } })
  await central.install()
  const { token } = await central.registers.add({ location: 'A', register: '1' })
  const http = createServer(toNodeHandler(central.fetch)).listen(0, '127.0.0.1')
  await new Promise((resolve) => http.once('listening', resolve))
  const pool = await createPool(t, server)
  await pool.query(`${TYPES}; ${TABLE}; SET lc_monetary = 'C'`)
  const link = httpLink({ url: `http://127.0.0.1:${(http.address() as AddressInfo).port}`, token })
  const till = createRegister({ location: 'A', register: '1', database: postgres(pool), publish: { things: {} }, transfer: { type: 'push', link } })
  t.teardown(async () => {
    await till.stop()
    await central.stop()
    http.close()
    http.closeAllConnections()
  })
  await till.install()
  const inserts = cases.map(({ column, sql, type }, n) => `INSERT INTO things (id, ${column}) VALUES (${n}, (${sql})::${type})`)
  await pool.query(`${SETTINGS}; ${inserts.join('; ')}`)
  await till.synchronize()
  const { rows } = await pool.query('SELECT record FROM sync_entries ORDER BY entry_no')
  t.equal(rows.length, cases.length)
  for (const [n, { column, type, sql, json }] of cases.entries()) {
    t.ok(rows[n].record.includes(`"${column}":${json}`), `${type}: ${sql} → ${json}`)
  }
  const binary = types.map((type, at) => (/^(json|xml)$/.test(type) ? `c${at}::text` : `c${at}`)).join(', ')
  const dump = async (from: pg.Pool) =>
    (await from.query(`SELECT md5(string_agg(row::text, '|' ORDER BY id)) FROM (SELECT id, ROW(${binary}) AS row FROM things) x`)).rows
  for (const one of [pool, office]) await one.query('RESET ALL')
  t.same(await dump(office), await dump(pool), 'the mirror holds the same')
})

t.test('keys of every type find their record again, whatever the session that wrote it was set to', async (t) => {
  const keys = cases.filter(({ type }) => !/^(json|xml|place)$/.test(type)).map((one, n) => ({ ...one, table: `things_${n}` }))
  const { pool, replica } = await openTill(t, server, {
    tables: `${TYPES}; ${keys.map(({ table, type }) => `CREATE TABLE ${table} (id ${type} PRIMARY KEY, note text)`).join('; ')}`,
    publish: Object.fromEntries(keys.map(({ table }) => [table, {}])),
  })
  const host = new pg.Client({ ...pool.options, password: pool.options.password as string })
  await host.connect()
  t.teardown(() => host.end())
  await host.query(SETTINGS)
  for (const { table, type, sql } of keys) await host.query(`INSERT INTO ${table} VALUES ((${sql})::${type}, 'a')`)
  await replica.seal()
  const entries = async (table: string) =>
    (await pool.query('SELECT operation, record_id FROM sync_entries WHERE table_name = $1 ORDER BY entry_no', [table])).rows
  for (const { table, type, sql, json } of keys) {
    t.same(await entries(table), [{ operation: 'upsert', record_id: `[${json}]` }], `${type}: ${sql}`)
    t.same(await replica.reseal(table), { documents: 0, entries: 0 }, `${type}: a reseal finds nothing`)
    await replica.export(table, (eb) => eb('note', '=', 'a'))
    t.equal((await entries(table)).length, 2, `${type}: it can be exported`)
    await host.query(`ALTER TABLE ${table} DISABLE TRIGGER sync_touch; DELETE FROM ${table}; ALTER TABLE ${table} ENABLE ALWAYS TRIGGER sync_touch`)
    await replica.reseal(table)
    t.match((await entries(table)).at(-1), { operation: 'remove', record_id: `[${json}]` }, `${type}: a reseal finds it gone`)
  }
})

t.test('keys of several columns, in any order, with any names and collations', async (t) => {
  const till = await openTill(t, server, {
    tables: `CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
      CREATE TABLE "Wäre ""n" (a int, "select" text COLLATE blind, "b c" timestamptz, v int, PRIMARY KEY ("b c", a, "select"));
      CREATE TABLE "Teile %s" ("§" int PRIMARY KEY, a int, "select" text COLLATE blind, "b c" timestamptz)`,
    publish: { 'Wäre "n': {}, 'Teile %s': { partOf: { 'Wäre "n': { 'b c': 'b c', a: 'a', select: 'select' } } } },
  })
  await till.pool.query(
    `INSERT INTO "Wäre ""n" VALUES (1, 'x', '2026-11-21 12:00Z', 1), (1, 'y', '2026-11-21 12:00Z', 1); INSERT INTO "Teile %s" VALUES (1, 1, 'x', '2026-11-21 12:00Z')`,
  )
  t.same(await till.sealed(), [
    'upsert Wäre "n["2026-11-21T12:00:00.000000Z",1,"x"]',
    'upsert Teile %s[1]',
    'upsert Wäre "n["2026-11-21T12:00:00.000000Z",1,"y"]',
  ])
  await till.pool.query(`UPDATE "Wäre ""n" SET "select" = 'X' WHERE "select" = 'x'`)
  t.same(
    (await till.sealed()).sort(),
    ['remove Wäre "n["2026-11-21T12:00:00.000000Z",1,"x"]', 'upsert Teile %s[1]', 'upsert Wäre "n["2026-11-21T12:00:00.000000Z",1,"X"]'].sort(),
    'a key that only changes its case is another record',
  )
})
