import { execFileSync } from 'node:child_process'
import Database from 'better-sqlite3'
import type { Pool } from 'pg'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { type AnyTables, createCentral, createRegister, mirror, stockMovements } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { sealedBy } from '../support/each-database.ts'
import { eventually } from '../support/eventually.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { listen, openDatabase } from '../support/shop.ts'

// Whatever a host's connection to SQLite is set to do, the library reads and writes exactly.

const server = await startServer(t)
const NAME = { location: 'BA01', register: 'POS1' }
const ITEMS = 'CREATE TABLE items (item_no text PRIMARY KEY, name text NOT NULL, unit_price numeric(12, 2), stock bigint)'
const OFFICE = `${ITEMS};
  CREATE TABLE receipts (id bigint PRIMARY KEY, receipt_no text NOT NULL, big bigint, ratio float8, raw bytea);
  CREATE TABLE receipt_lines (receipt_id bigint, line_no int, item_no text, quantity numeric(12, 3), net_amount numeric(12, 2), PRIMARY KEY (receipt_id, line_no))`
const TILL = `CREATE TABLE items (item_no TEXT PRIMARY KEY, name TEXT NOT NULL, unit_price REAL, stock INTEGER);
  CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT NOT NULL, big INTEGER, ratio REAL, raw BLOB);
  CREATE TABLE receipt_lines (receipt_id INTEGER REFERENCES receipts ON DELETE CASCADE, line_no INTEGER, item_no TEXT, quantity NUMERIC, net_amount NUMERIC, PRIMARY KEY (receipt_id, line_no)) WITHOUT ROWID`
const SALES = 120
const SELL = `
  WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ${SALES})
  INSERT INTO receipts (receipt_no, big, ratio, raw) SELECT 'R' || n, 9007199254740993 + n, 0.1 + n, randomblob(16) FROM n;
  INSERT INTO receipt_lines SELECT id, l, 'A' || l, 1.5, 12.34 FROM receipts, (SELECT 1 AS l UNION SELECT 2 UNION SELECT 3);
  UPDATE receipts SET ratio = -ratio WHERE id % 3 = 0;
  DELETE FROM receipt_lines WHERE receipt_id % 10 = 0;
  DELETE FROM receipts WHERE id % 10 = 0;
  INSERT OR REPLACE INTO receipts (id, receipt_no, big) VALUES (5, 'again', 7)`

type Furnish = (connection: Database.Database) => void

async function runs(t: Test, furnish: Furnish, shared: boolean) {
  const office = await createPool(t, server)
  await office.query(OFFICE)
  const { file, db } = openDatabase(t, TILL)
  db.pragma('foreign_keys = ON')
  furnish(db)
  const open = () => {
    const connection = new Database(file)
    furnish(connection)
    return connection
  }
  const central = createCentral({
    database: postgres(office),
    subscribe: {
      receipts: [
        mirror({ removals: 'apply' }),
        stockMovements((receipt) =>
          (receipt.parts.receipt_lines ?? []).map((line) => ({
            item: line.item_no,
            location: 'BA01',
            quantity: line.quantity,
            amount: line.net_amount,
          })),
        ),
      ],
    },
    publish: { items: {} },
  })
  t.teardown(() => central.stop())
  await central.install()
  const { token } = await central.registers.add(NAME)
  const url = await listen(t, central.fetch)
  const create = () => {
    const replica = createRegister<AnyTables>({
      ...NAME,
      database: shared ? sqlite(db) : sqlite(open),
      publish: { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
      subscribe: { items: mirror() },
      transfer: { type: 'push', link: httpLink({ url, token }), everyMs: 200 },
    })
    t.teardown(() => replica.stop())
    return replica
  }
  let register = create()
  await register.install()
  await register.start()
  db.exec(SELL)
  await office.query(`INSERT INTO items SELECT 'A' || n, 'Ä ' || n, n + 0.25, 9007199254740993 + n FROM generate_series(1, 300) n`)
  const isEqual = async () => {
    const rows = async (pool: Pool, sql: string) => (await pool.query({ text: sql, rowMode: 'array' })).rows.map((row) => row.map(String))
    const own = (sql: string) => {
      const reader = new Database(file, { readonly: true })
      const found = reader.prepare(sql).safeIntegers().raw().all() as unknown[][]
      reader.close()
      return found.map((row) => row.map(String))
    }
    const receipts = 'SELECT id, receipt_no, coalesce(big, 0), coalesce(ratio, 0) FROM receipts ORDER BY id'
    const lines =
      'SELECT receipt_id, line_no, item_no, CAST(quantity * 1000 AS integer), CAST(net_amount * 100 AS integer) FROM receipt_lines ORDER BY 1, 2'
    const items = 'SELECT item_no, name, CAST(unit_price * 100 AS integer), stock FROM items ORDER BY name'
    const pairs = await Promise.all(
      [receipts, lines, items].map(async (sql) => [(await rows(office, sql)).sort().join('\n'), own(sql).sort().join('\n')]),
    )
    return pairs.every(([a, b]) => a === b) && pairs.every(([a]) => (a as string).length > 1_000)
  }
  await eventually('both ends are equal', async () => {
    await register.synchronize()
    return (await isEqual()) && (await register.status()).pending === 0
  })
  await register.stop()
  db.exec(`UPDATE receipts SET ratio = 2 WHERE id = 7; DELETE FROM receipt_lines WHERE receipt_id = 8; DELETE FROM receipts WHERE id = 8`)
  await office.query(`UPDATE items SET unit_price = unit_price + 1 WHERE item_no = 'A7'; DELETE FROM items WHERE item_no = 'A8'`)
  register = create()
  await register.start()
  await eventually('both ends are equal again', async () => {
    await register.synchronize()
    return (await isEqual()) && (await register.status()).pending === 0
  })
  t.same((await register.status()).lastError, undefined)
  t.same((await register.status()).unapplied, [])
  t.same(await central.quarantine.list(), [])
  t.equal((await register.reseal('receipts')).entries, 0, 'nothing is sealed twice')
}

const pragmas =
  (...all: readonly string[]): Furnish =>
  (connection) => {
    for (const pragma of all) connection.pragma(pragma)
  }
const CONNECTIONS: Readonly<Record<string, Furnish>> = {
  'that reads integers as BigInt': (connection) => void connection.defaultSafeIntegers(true),
  'that reads backwards where no order is asked for': pragmas('reverse_unordered_selects = ON'),
  'that trusts no schema': pragmas('trusted_schema = OFF', 'cell_size_check = ON', 'secure_delete = ON'),
  'with recursive triggers and cases that count': pragmas('recursive_triggers = ON', 'case_sensitive_like = ON', 'automatic_index = OFF'),
  'that keeps temporary tables in a file and reads what is not committed': pragmas('temp_store = FILE', 'read_uncommitted = ON', 'cache_size = 10'),
  'that checks nothing': pragmas('foreign_keys = OFF', 'ignore_check_constraints = ON'),
  'in unsafe mode': (connection) => void connection.unsafeMode(),
  'that has functions of the host by known names': (connection) => {
    for (const name of ['upper', 'lower', 'hex', 'quote', 'typeof', 'json_object', 'json_array', 'coalesce', 'length', 'printf', 'format'])
      try {
        connection.function(name, { varargs: true }, () => 'host')
      } catch {
        // It can't be replaced.
      }
  },
}

const ODD = { full_column_names: 'ON', short_column_names: 'OFF', count_changes: 'ON' }
for (const [name, value] of Object.entries(ODD))
  t.test(`a shared connection with ${name}, by which SQLite answers otherwise, is refused`, async (t) => {
    const { db } = openDatabase(t, TILL)
    db.pragma(`${name} = ${value}`)
    const replica = createRegister({ ...NAME, database: sqlite(db), publish: { receipts: {} } })
    await t.rejects(replica.install(), { code: 'ERR_CONNECTION', context: { pragma: name } })
    db.pragma(`${name} = ${value === 'ON' ? 'OFF' : 'ON'}`)
    await replica.install()
    await replica.stop()
  })

for (const [name, furnish] of Object.entries(CONNECTIONS))
  for (const shared of [false, true]) t.test(`a connection ${name}${shared ? ', shared' : ''}`, (t) => runs(t, furnish, shared))
t.test('a connection of its own that answers otherwise', (t) =>
  runs(t, pragmas(...Object.entries(ODD).map(([name, value]) => `${name} = ${value}`)), false),
)

t.test('SQLite: while another connection has the database for itself, a till that starts waits for it, and the host goes on', async (t) => {
  const { file, db } = openDatabase(t, 'CREATE TABLE items (id INTEGER PRIMARY KEY)')
  const till = createRegister({ ...NAME, database: sqlite(() => new Database(file)), publish: { items: {} } })
  t.teardown(() => till.stop())
  await till.install()
  await till.stop()
  db.pragma('locking_mode = EXCLUSIVE')
  db.exec('INSERT INTO items VALUES (1)')
  const sealing = t.rejects(till.seal(), { code: 'ERR_STOPPED' }, 'what waits does so until the till is stopped')
  await till.stop()
  await sealing
  setImmediate(() => db.close())
  await till.start()
  t.match(await till.status(), { lastError: undefined })
})

/** Another process of the host's, by Node's own SQLite: what it records on the first till's database it applies to the second's. */
const CARRY = `
  import { DatabaseSync } from 'node:sqlite'
  const [from, to] = process.argv.slice(1).map((file) => new DatabaseSync(file, { timeout: 1_000 }))
  const session = from.createSession()
  from.exec("INSERT INTO items VALUES (1, 'A'), (2, 'B'); UPDATE items SET code = 'C' WHERE id = 7; DELETE FROM items WHERE id = 8")
  console.log(to.applyChangeset(session.changeset(), { filter: (table) => !table.startsWith('sync_') }))`

t.test('SQLite: what a changeset brings that a session has recorded on another till is sealed, where it leaves out our tables', async (t) => {
  const tills = []
  for (const register of ['POS1', 'POS2']) {
    const { db, file } = openDatabase(t, 'CREATE TABLE items (id INTEGER PRIMARY KEY, code TEXT UNIQUE)')
    const till = createRegister({ ...NAME, register, database: sqlite(() => new Database(file)), publish: { items: {} } })
    t.teardown(() => till.stop())
    await till.install()
    const sealed = sealedBy(till)
    db.exec(`INSERT INTO items VALUES (7, 'X'), (8, 'Y')`)
    await sealed()
    db.exec(`INSERT INTO items VALUES (9, 'Z')`)
    tills.push({ file, sealed })
  }
  t.equal(execFileSync(process.execPath, ['--input-type=module', '-e', CARRY, ...tills.map(({ file }) => file)], { encoding: 'utf8' }).trim(), 'true')
  const all = ['remove items[8]', 'upsert items[1]', 'upsert items[2]', 'upsert items[7]', 'upsert items[9]']
  for (const { sealed } of tills) t.same((await sealed()).sort(), all)
})
