import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createRegister, mirror } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { openShop } from '../support/shop.ts'

t.setTimeout(120_000)
const server = await startServer(t)

/** A till with the table `things`, and head office's. */
async function open(t: Test, till: string, office: string, publish = { things: {} }) {
  const pool = await createPool(t, server, { options: '-c TimeZone=UTC' })
  await pool.query(office)
  const shop = await openShop(t, server, { pool, subscribe: { things: mirror() } })
  const one = await shop.addTill('POS1', { schema: till, publish })
  return {
    pool,
    till: one,
    async sell(sql: string): Promise<void> {
      one.db.exec(sql)
      await one.deliver()
    },
    rows: async (sql: string) => (await pool.query({ text: sql, rowMode: 'array' })).rows,
  }
}

/** Declared at the till, what stands there, the type at head office, what stands there then; undefined: refused. */
const CONVERSIONS: readonly (readonly [string, string, string, string | undefined])[] = [
  ['INTEGER', '1', 'boolean', 'true'],
  ['INTEGER', '0', 'boolean', 'false'],
  ['REAL', '1.0', 'boolean', 'true'],
  ['TEXT', "'yes'", 'boolean', 'true'],
  ['INTEGER', '2', 'boolean', undefined],
  ['TEXT', "'0.5'", 'boolean', undefined],
  ['INTEGER', '9223372036854775807', 'bigint', '9223372036854775807'],
  ['INTEGER', '9223372036854775807', 'numeric', '9223372036854775807'],
  ['INTEGER', '9223372036854775807', 'text', '9223372036854775807'],
  ['INTEGER', '40000', 'smallint', undefined],
  ['TEXT', "'true'", 'integer', undefined],
  ['TEXT', "'false'", 'boolean', 'false'],
  ['REAL', '5.0', 'integer', '5'],
  ['REAL', '5.5', 'integer', undefined],
  ['REAL', '0.1', 'numeric', '0.1'],
  ['REAL', '9e999', 'double precision', 'Infinity'],
  ['TEXT', "'12.345678901234567890123'", 'numeric', '12.345678901234567890123'],
  ['TEXT', "'12.345'", 'numeric(8, 2)', '12.35'],
  ['TEXT', "'1234567.00'", 'numeric(8, 2)', undefined],
  ['TEXT', "'2026-02-30'", 'date', undefined],
  ['TEXT', "'2026-11-21T10:00:00+02:00'", 'timestamptz', '2026-11-21 08:00:00+00'],
  ['TEXT', "'2026-11-21 10:00'", 'timestamptz', '2026-11-21 10:00:00+00'],
  ['TEXT', "'2026-11-21 10:00:00.123456'", 'timestamp', '2026-11-21 10:00:00.123456'],
  ['TEXT', "'10:30'", 'time', '10:30:00'],
  ['TEXT', "'P1DT2H'", 'interval', '1 day 02:00:00'],
  ['TEXT', "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", 'uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'],
  ['BLOB', "x'a0eebc999c0b4ef8bb6d6bb9bd380a11'", 'uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'],
  ['BLOB', "CAST('a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11' AS BLOB)", 'uuid', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'],
  ['TEXT', "'nonsense'", 'uuid', undefined],
  ['BLOB', "x'00ff'", 'bytea', '\\x00ff'],
  ['BLOB', "CAST('ä' AS BLOB)", 'text', 'ä'],
  ['BLOB', "x'00ff'", 'text', undefined],
  ['TEXT', "'a' || char(0)", 'text', undefined],
  ['TEXT', `'{"b": [1, null], "a": "x"}'`, 'jsonb', '{"a": "x", "b": [1, null]}'],
  ['TEXT', `'{"b": 1}'`, 'json', '{"b": 1}'],
  ['TEXT', "'{'", 'jsonb', undefined],
  ['TEXT', "'{1,NULL,3}'", 'integer[]', '{1,NULL,3}'],
  ['TEXT', "'{abcdef}'", 'varchar(3)[]', undefined],
  ['TEXT', "'open'", 'state', 'open'],
  ['TEXT', "'shut'", 'state', undefined],
  ['TEXT', "'abc'", 'short', 'abc'],
  ['TEXT', "'abcd'", 'short', undefined],
  ['INTEGER', '5', 'positive', '5'],
  ['INTEGER', '-5', 'positive', undefined],
  ['TEXT', "'abcdef'", 'varchar(6)', 'abcdef'],
  ['TEXT', "'abcdefg'", 'varchar(6)', undefined],
  ['TEXT', "'abcdefg'", 'char(6)', undefined],
  ['TEXT', "'ab'", 'char(4)', 'ab'],
  ['TEXT', "'1011'", 'bit(4)', '1011'],
  ['TEXT', "'10111'", 'bit(4)', undefined],
  ['TEXT', "'10111'", 'bit varying(4)', undefined],
  ['TEXT', "'[1,5)'", 'int4range', '[1,5)'],
  ['TEXT', "'10.0.0.0/8'", 'cidr', '10.0.0.0/8'],
]
const TYPES = `CREATE TYPE state AS ENUM ('open'); CREATE DOMAIN short AS varchar(3); CREATE DOMAIN positive AS integer CHECK (VALUE > 0)`

/** How the columns of a row are read depends on what else it holds: nothing that JSON does not have, or a blob. */
for (const [where, blob] of [
  ['', 'NULL'],
  [', beside a blob', "x'00'"],
])
  t.test(`values become the types of head office, exactly, or are refused${where}`, async (t) => {
    const columns = CONVERSIONS.map(([declared], n) => `c${n} ${declared}`)
    const types = CONVERSIONS.map(([, , type], n) => `c${n} ${type}`)
    const { till, sell, rows } = await open(
      t,
      `CREATE TABLE things (id INTEGER PRIMARY KEY, blob BLOB DEFAULT (${blob}), ${columns.join(', ')})`,
      `${TYPES}; CREATE TABLE things (id bigint PRIMARY KEY, blob bytea, ${types.join(', ')})`,
    )
    await sell('INSERT INTO things (id) VALUES (1)')
    for (const [n, [declared, value, type, result]] of CONVERSIONS.entries()) {
      const name = `${declared} ${value} → ${type}`
      till.db.exec(`UPDATE things SET c${n} = ${value}`)
      for (const already of [false, true]) {
        if (result === undefined) await t.rejects(till.deliver(), { code: 'ERR_MIRROR' }, name)
        else {
          await till.deliver()
          t.same((await rows(`SELECT c${n}::text FROM things`))[0], [result], name)
          if (!already) await till.replica.export('things', { id: 1 })
        }
      }
      await sell(`UPDATE things SET c${n} = NULL`)
    }
    await sell('DELETE FROM things')
  })

t.test("a till on PostgreSQL: its booleans and times become the other's numbers and texts", async (t) => {
  const office = await createPool(t, server)
  await office.query('CREATE TABLE things (id bigint PRIMARY KEY, a smallint, b text, c numeric, d integer[], e text, f text)')
  const shop = await openShop(t, server, { pool: office, subscribe: { things: mirror() } })
  const { token } = await shop.central.registers.add({ location: 'BA01', register: 'POS1' })
  const pool = await createPool(t, server)
  await pool.query('CREATE TABLE things (id bigint PRIMARY KEY, a boolean, b boolean, c boolean, d integer[], e timestamptz, f numeric)')
  const till = createRegister({
    location: 'BA01',
    register: 'POS1',
    database: postgres(pool),
    publish: { things: {} },
    transfer: { type: 'push', link: httpLink({ url: shop.url, token }) },
  })
  t.teardown(() => till.stop())
  await till.install()
  await pool.query("INSERT INTO things VALUES (1, true, true, false, '{1,NULL}', '2026-11-21 10:00+00', 1.50)")
  await till.synchronize()
  t.same((await office.query({ text: 'SELECT *, d::text AS d FROM things', rowMode: 'array' })).rows, [
    ['1', 1, 'true', '0', [1, null], '2026-11-21T10:00:00.000000Z', '1.50', '{1,NULL}'],
  ])
  // Without anything that looks like a value that JSON does not have.
  await pool.query('DELETE FROM things; INSERT INTO things VALUES (2, false, false, true, NULL, NULL, -0.5)')
  await till.synchronize()
  t.same((await office.query({ text: 'SELECT * FROM things WHERE id = 2', rowMode: 'array' })).rows, [['2', 0, 'false', '1', null, null, '-0.5']])
})

t.test('columns that head office computes or numbers are left to it; a key that it would number is the till’s', async (t) => {
  const { sell, rows } = await open(
    t,
    'CREATE TABLE things (id INTEGER PRIMARY KEY, price TEXT, twice TEXT, no INTEGER)',
    `CREATE TABLE things (no bigint GENERATED ALWAYS AS IDENTITY, twice numeric GENERATED ALWAYS AS (price * 2) STORED,
      price numeric CHECK (price >= 0), id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, seen bigint GENERATED BY DEFAULT AS IDENTITY)`,
  )
  await sell("INSERT INTO things VALUES (50, '1.25', '99', 7), (51, '2', NULL, 7)")
  await sell("UPDATE things SET price = '3', twice = '5' WHERE id = 50")
  t.same(await rows('SELECT id, price::text, twice::text, no, seen FROM things ORDER BY id'), [
    ['50', '3', '6', '1', '1'],
    ['51', '2', '4', '2', '2'],
  ])
})

t.test('a partitioned table takes rows, moves them between its partitions, and gives them up', async (t) => {
  const { sell, rows, till } = await open(
    t,
    'CREATE TABLE things (id INTEGER, day TEXT, name TEXT UNIQUE, PRIMARY KEY (id, day)) WITHOUT ROWID',
    `CREATE TABLE things (id bigint, day date, name text, PRIMARY KEY (id, day), UNIQUE (name, day)) PARTITION BY RANGE (day);
      CREATE TABLE things_1 PARTITION OF things FOR VALUES FROM ('2026-01-01') TO ('2026-02-01'); CREATE TABLE things_2 PARTITION OF things FOR VALUES FROM ('2026-02-01') TO ('2026-03-01')`,
  )
  await sell("INSERT INTO things VALUES (1, '2026-01-05', 'a'), (2, '2026-01-05', 'b'), (3, '2026-02-05', 'c')")
  await sell("UPDATE things SET name = 'x' WHERE id = 1; UPDATE things SET name = 'a' WHERE id = 2; UPDATE things SET name = 'b' WHERE id = 1")
  t.same(await rows('SELECT id, name, tableoid::regclass::text FROM things ORDER BY id'), [
    ['1', 'b', 'things_1'],
    ['2', 'a', 'things_1'],
    ['3', 'c', 'things_2'],
  ])
  till.db.exec("INSERT INTO things VALUES (4, '2030-01-01', 'd')")
  await t.rejects(till.deliver(), { code: 'ERR_MIRROR' }, 'no partition for it')
})

t.test('keys whose collation takes different texts for equal are one row, and written as they came last', async (t) => {
  const { sell, rows } = await open(
    t,
    'CREATE TABLE things (id TEXT PRIMARY KEY NOT NULL, name TEXT)',
    `CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
      CREATE TABLE things (id text COLLATE loose PRIMARY KEY, name text COLLATE loose)`,
  )
  await sell("INSERT INTO things VALUES ('abc', 'x')")
  await sell("UPDATE things SET name = 'X'")
  t.same(await rows('SELECT id, name FROM things'), [['abc', 'X']])
  await sell("UPDATE things SET id = 'ABC'")
  t.same(await rows('SELECT id, name FROM things'), [['ABC', 'X']])
  await sell("INSERT INTO things VALUES ('def', 'y'), ('DEF', 'z')")
  t.same(
    await rows('SELECT id, name FROM things ORDER BY 1'),
    [
      ['ABC', 'X'],
      ['DEF', 'z'],
    ].toSorted(),
  )
})

t.test('200 columns with names of every kind', async (t) => {
  const names = Array.from({ length: 200 }, (_, n) => `${['select', 'Ünï', "it's", 'a "b"', 'a.b', '$1', 'x', ' '][n % 8]}${n}`)
  const q = (name: string) => `"${name.replaceAll('"', '""')}"`
  const { sell, rows } = await open(
    t,
    `CREATE TABLE things (id INTEGER PRIMARY KEY, ${names.map((name) => `${q(name)} TEXT`).join(', ')})`,
    `CREATE TABLE things (${names
      .toReversed()
      .map((name) => `${q(name)} text`)
      .join(', ')}, id bigint PRIMARY KEY)`,
  )
  await sell(`INSERT INTO things VALUES (1, ${names.map((_, n) => `'${n}'`).join(', ')})`)
  await sell(`UPDATE things SET ${q(names[199] as string)} = 'last'`)
  t.same(await rows(`SELECT ${names.map(q).join(', ')} FROM things`), [[...Array.from({ length: 199 }, (_, n) => `${n}`), 'last']])
})
