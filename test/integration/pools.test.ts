import type pg from 'pg'
import type { PoolConfig } from 'pg'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type AnyTables, createCentral, createRegister, mirror, stockMovements } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { query } from '../../src/work.ts'
import { eventually } from '../support/eventually.ts'
import { createPool, openPool, startServer } from '../support/postgres.ts'
import { listen } from '../support/shop.ts'

// Whatever a host's pool is set to do, the library reads and writes exactly.

const server = await startServer(t)
const NAME = { location: 'BA01', register: 'POS1' }
const ITEMS =
  'CREATE TABLE items (item_no text PRIMARY KEY, name text NOT NULL, unit_price numeric(12, 2), photo bytea, changed timestamptz, tags text[])'
const TILL = `${ITEMS};
  CREATE TABLE receipts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, receipt_no text NOT NULL, sold_at timestamptz, big bigint, ratio float8, raw bytea);
  CREATE TABLE receipt_lines (receipt_id bigint REFERENCES receipts, line_no int, item_no text, quantity numeric(12, 3), net_amount numeric(12, 2), PRIMARY KEY (receipt_id, line_no))`
const POSTED = 'CREATE TABLE posted (receipt_no text PRIMARY KEY, lines int)'
const MIRRORS = `CREATE TABLE receipts (id bigint PRIMARY KEY, receipt_no text NOT NULL, sold_at timestamptz, big bigint, ratio float8, raw bytea);
  CREATE TABLE receipt_lines (receipt_id bigint, line_no int, item_no text, quantity numeric(12, 3), net_amount numeric(12, 2), PRIMARY KEY (receipt_id, line_no))`
const SALES = 200

async function runs(t: Test, options: PoolConfig) {
  const [office, till] = [await createPool(t, server), await createPool(t, server)]
  await office.query(`${ITEMS}; ${POSTED}; ${MIRRORS}`)
  await till.query(TILL)
  const own = (of: pg.Pool) => openPool(t, { ...of.options, password: server.password, ...options })
  const central = createCentral({
    database: postgres(own(office)),
    subscribe: {
      receipts: [
        mirror(),
        stockMovements((receipt) =>
          (receipt.parts.receipt_lines ?? []).map((line) => ({
            item: line.item_no,
            location: 'BA01',
            quantity: line.quantity,
            amount: line.net_amount,
          })),
        ),
        async (changes, { trx }) => {
          const sold = changes.flatMap(({ document }) => document ?? [])
          await trx
            .insertInto('posted')
            .values(sold.map(({ receipt_no, parts }) => ({ receipt_no, lines: parts.receipt_lines?.length ?? 0 })))
            .execute()
        },
      ],
    },
    publish: { items: {} },
  })
  t.teardown(() => central.stop())
  await central.install()
  await central.start()
  const { token } = await central.registers.add(NAME)
  const url = await listen(t, central.fetch)
  const register = createRegister<AnyTables>({
    ...NAME,
    database: postgres(own(till)),
    publish: { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
    subscribe: { items: mirror() },
    transfer: { type: 'push', link: httpLink({ url, token }), everyMs: 200 },
  })
  t.teardown(() => register.stop())
  await register.install()
  await register.start()
  await till.query(`BEGIN;
    INSERT INTO receipts (receipt_no, sold_at, big, ratio, raw)
      SELECT 'R' || n, '2026-03-29 01:30:00.123456+01', 9007199254740993 + n, 0.1 + n, decode(md5(n::text), 'hex') FROM generate_series(1, ${SALES}) n;
    INSERT INTO receipt_lines SELECT id, l, 'A' || l, 1.5, 12.34 FROM receipts, generate_series(1, 3) l;
    COMMIT`)
  await office.query(
    `INSERT INTO items SELECT 'A' || n, 'Ä ' || n, n + 0.1, decode(md5(n::text), 'hex'), '2026-10-25 02:30:00+02', ARRAY['a', NULL, 'b"c'] FROM generate_series(1, 500) n`,
  )
  const all = async (of: pg.Pool, table: string) =>
    (await of.query(`SELECT count(*) AS n, md5(string_agg(r::text, '|' ORDER BY r::text)) AS hash FROM ${table} r`)).rows
  await eventually('both ends are equal', async () => {
    await register.synchronize()
    return (await all(office, 'receipts'))[0].n === `${SALES}` && (await all(till, 'items'))[0].n === '500' && (await register.status()).pending === 0
  })
  for (const table of ['items', 'receipts', 'receipt_lines']) t.same(await all(office, table), await all(till, table), table)
  t.same((await office.query('SELECT count(*) AS n, sum(lines) AS lines FROM posted')).rows, [{ n: `${SALES}`, lines: `${3 * SALES}` }])
  t.equal(Number((await office.query('SELECT sum(quantity) AS quantity FROM stock_levels')).rows[0].quantity), SALES * 3 * 1.5)
  t.same((await central.status()).lastError, undefined)
  t.same((await register.status()).lastError, undefined)
}

const POOLS: Readonly<Record<string, PoolConfig>> = {
  'of one connection': { max: 1 },
  'whose connections are closed after a few uses': { maxUses: 5 },
  'that sends statements without waiting for answers': { pipeline: true },
  'with parsers of the host': { types: { getTypeParser: () => () => 'unreadable' } } as unknown as PoolConfig,
  'with a limit for each statement': { query_timeout: 20_000, statement_timeout: 20_000 },
  'whose transactions are serializable': { options: '-c default_transaction_isolation=serializable' },
  'of other notations': {
    options:
      '-c DateStyle=German -c IntervalStyle=sql_standard -c bytea_output=escape -c extra_float_digits=-5 -c TimeZone=Asia/Kathmandu -c standard_conforming_strings=off -c array_nulls=off',
  },
}

for (const [name, options] of Object.entries(POOLS)) t.test(`a pool ${name}`, (t) => runs(t, options))

t.test('what the library does for itself has no limit of time that is meant for users', async (t) => {
  const since17 = Number((await (await createPool(t, server)).query('SHOW server_version_num')).rows[0].server_version_num) >= 170_000
  const limits = ['statement_timeout', 'idle_in_transaction_session_timeout', ...(since17 ? ['transaction_timeout'] : [])]
  const pool = await createPool(t, server, { options: limits.map((name) => `-c ${name}=5s`).join(' ') })
  const database = postgres(pool)
  await database.open()
  t.teardown(() => database.close())
  const show = () =>
    query<{ value: string }>({ sql: 'SELECT pg_catalog.current_setting(name) AS value FROM unnest($1::text[]) AS s(name)', parameters: [limits] })
  const none = limits.map(() => ({ value: '0' }))
  t.same(await database.read(show), none)
  t.same(await database.write(show, { alone: true }), none)

  let looks = 0
  pool.on('acquire', () => void looks++)
  const sql = `SELECT 1 FROM pg_catalog.pg_settings WHERE name = ANY ('{${limits.join()}}') HAVING bool_and(setting = '0')`
  Object.assign(database.capture, { poll: () => ({ sql, parameters: [] }) })
  await new Promise<void>((resolve) => t.teardown(database.watch(resolve)))
  t.equal(looks, 1, 'a look for touches, which finds that it has none')
})

t.test('a pool that asks for binary answers is refused', async (t) => {
  const pool = await createPool(t, server, { binary: true } as PoolConfig)
  const central = createCentral({ database: postgres(pool), subscribe: {} })
  await t.rejects(central.install(), { code: 'ERR_CONNECTION', hint: /without `binary`/ })
})

async function encoded(t: Test, encoding: string): Promise<pg.Pool> {
  const admin = await createPool(t, server)
  const name = `in_${encoding.toLowerCase()}_${Math.random().toString(36).slice(2)}`
  await admin.query(`CREATE DATABASE ${name} ENCODING '${encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`)
  return openPool(t, server.database(name).config)
}

t.test('a till in another encoding sends its texts; it takes none, and head office is in no such', async (t) => {
  const [office, till, latin] = [await createPool(t, server), await encoded(t, 'LATIN1'), await encoded(t, 'WIN1252')]
  const table = 'CREATE TABLE customers (id int PRIMARY KEY, name text, note json)'
  for (const pool of [office, till]) await pool.query(table)
  const central = createCentral({ database: postgres(office), subscribe: { customers: mirror() }, publish: {} })
  t.teardown(() => central.stop())
  await central.install()
  const { token } = await central.registers.add(NAME)
  const url = await listen(t, central.fetch)
  const transfer = { type: 'push', link: httpLink({ url, token }) } as const
  const register = createRegister({ ...NAME, database: postgres(till), publish: { customers: {} }, transfer })
  t.teardown(() => register.stop())
  await register.install()
  await till.query(`INSERT INTO customers VALUES (1, 'Müller & Söhne ÿ', '{"straße": "ß"}')`)
  await register.synchronize()
  t.same((await office.query('SELECT * FROM customers')).rows, (await till.query('SELECT * FROM customers')).rows)

  const refused = { code: 'ERR_CONNECTION', message: /LATIN1|WIN1252/, hint: /ENCODING 'UTF8'/ }
  await till.query('CREATE TABLE items (id int PRIMARY KEY)')
  const taking = createRegister({ ...NAME, database: postgres(till), publish: {}, subscribe: { items: mirror() }, transfer })
  t.teardown(() => taking.stop())
  await t.rejects(taking.install(), refused)
  const inLatin = createCentral({ database: postgres(latin), subscribe: {} })
  t.teardown(() => inLatin.stop())
  await t.rejects(inLatin.install(), refused)
  t.same((await latin.query("SELECT 1 FROM pg_tables WHERE tablename LIKE 'sync%'")).rows, [], 'nothing was made')
})

t.test('a database of no encoding is refused: its texts can not be read exactly', async (t) => {
  const pool = await encoded(t, 'SQL_ASCII')
  await pool.query('CREATE TABLE customers (id int PRIMARY KEY, name text)')
  const register = createRegister({ ...NAME, database: postgres(pool), publish: { customers: {} } })
  t.teardown(() => register.stop())
  await t.rejects(register.install(), { code: 'ERR_CONNECTION', message: /SQL_ASCII/ })
})

t.test('head office and a register that would publish from the same schema are refused, whoever comes second', async (t) => {
  const refused = { code: 'ERR_OPTION', hint: /schema/ }
  for (const isCentralFirst of [true, false]) {
    const pool = await createPool(t, server)
    await pool.query(
      'CREATE TABLE items (id int PRIMARY KEY); CREATE TABLE receipts (id int PRIMARY KEY); CREATE SCHEMA till; CREATE TABLE till.receipts (id int PRIMARY KEY)',
    )
    const central = createCentral({ database: postgres(pool), subscribe: {}, publish: { items: {} } })
    const register = createRegister({ ...NAME, database: postgres(pool), publish: { receipts: {} } })
    const apart = createRegister({ ...NAME, database: postgres(pool, { schema: 'till' }), publish: { receipts: {} } })
    for (const each of [central, register, apart]) t.teardown(() => each.stop())
    await (isCentralFirst ? central : register).install()
    await t.rejects(Promise.resolve((isCentralFirst ? register : central).install()).then(), refused)
    if (isCentralFirst) await t.rejects(register.install({ dryRun: true }), refused)
    await apart.install()
  }
})
