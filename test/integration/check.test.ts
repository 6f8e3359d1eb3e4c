import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { type AnyTables, createRegister, type Finding, type PublishRules, type Register } from '../../src/index.ts'
import { type Host, onEachDatabase } from '../support/each-database.ts'
import { openPool, startServer } from '../support/postgres.ts'
import { openDatabase } from '../support/shop.ts'

const server = await startServer(t)

const TABLES = `
  CREATE TABLE receipts (receipt_no VARCHAR(20) NOT NULL PRIMARY KEY, status TEXT);
  CREATE TABLE receipt_lines (id VARCHAR(20) NOT NULL PRIMARY KEY, receipt_no VARCHAR(20) NOT NULL, item_no TEXT);
  CREATE TABLE items (item_no VARCHAR(20) NOT NULL PRIMARY KEY, kind TEXT)`
const INDEX = 'CREATE INDEX receipt_lines_receipt_no ON receipt_lines (receipt_no)'
const PUBLISH: PublishRules<AnyTables> = {
  receipts: { where: (eb) => eb('status', '=', 'posted') },
  receipt_lines: { partOf: { receipts: { receipt_no: 'receipt_no' } } },
}

const each = (name: string, test: (t: Test, host: Host) => Promise<void>) => onEachDatabase(t, server, name, TABLES, test)
/** Without what the databases of tests are set up like: they need to survive no power cut. */
const check = async (till: Register) => (await till.check()).filter(({ code }) => code !== 'NOT_DURABLE')
const brief = (findings: readonly Finding[]) => findings.map(({ code, table }) => [code, table])

each('check() finds nothing where nothing is to be found', async (t, host) => {
  await host.exec(INDEX)
  const till = host.create(PUBLISH)
  await t.rejects(till.check(), { code: 'ERR_NOT_INSTALLED' }, 'not even installed')
  await till.install()
  t.same(await check(till), [])
})

each('check() names lookups that no index serves, and only those', async (t, host) => {
  const till = host.create({
    ...PUBLISH,
    items: {
      where: (eb) => eb.exists(eb.selectFrom('receipt_lines').select('id').whereRef('receipt_lines.item_no', '=', 'items.item_no')),
      dependsOn: { receipt_lines: { item_no: 'item_no' } },
    },
  })
  await till.install()
  t.same(brief(await check(till)), [
    ['NO_INDEX', 'receipt_lines'],
    ['NO_INDEX', 'receipt_lines'],
  ])
  await host.exec(INDEX)
  t.match(await check(till), [{ code: 'NO_INDEX', table: 'receipt_lines', message: /`items`/, hint: /index/ }], 'the filter of items still walks')
  await host.exec('CREATE INDEX receipt_lines_item_no ON receipt_lines (item_no)')
  t.same(await check(till), [])
})

each('check() sees what drifted, and changes nothing', async (t, host) => {
  await host.exec(INDEX)
  const till = host.create(PUBLISH)
  await till.install()
  await host.exec(host.dialect === 'sqlite' ? 'DROP TRIGGER sync_receipts_insert' : 'ALTER TABLE receipts DISABLE TRIGGER sync_touch')
  t.same(brief(await check(till)), [['DRIFT', 'receipts']])
  t.same(brief(await check(till)), [['DRIFT', 'receipts']], 'and sees it again')
  await till.install()
  t.same(await check(till), [])
  await host.exec('DROP TABLE receipt_lines')
  t.match(await check(till), [{ code: 'DRIFT', table: 'receipts', message: /receipt_lines/ }])
})

each('check() asks for an identity where keys come back', async (t, host) => {
  await host.exec('CREATE TABLE orders (id INTEGER PRIMARY KEY, made_at TEXT); CREATE TABLE kinds (name TEXT NOT NULL PRIMARY KEY)')
  await host.exec(`CREATE TABLE numbered (id ${host.dialect === 'sqlite' ? 'INTEGER PRIMARY KEY AUTOINCREMENT' : 'SERIAL PRIMARY KEY'})`)
  const till = host.create({ orders: {}, kinds: {}, numbered: {} })
  await till.install()
  t.same(brief(await check(till)), [['NO_IDENTITY', 'orders']])
  const other = host.create({ orders: { identity: ['made_at'] }, kinds: {}, numbered: {} })
  await other.install()
  t.same(await check(other), [])
})

each('install({ dryRun: true }) says what it would do, and does nothing', async (t, host) => {
  const objects = () => host.query(host.dialect === 'sqlite' ? 'SELECT * FROM sqlite_schema' : 'SELECT oid, relname FROM pg_class ORDER BY oid')
  const before = await objects()
  const till = host.create(PUBLISH)
  const planned = await till.install({ dryRun: true })
  t.same(await objects(), before)
  t.ok(planned.some((sql) => /CREATE TABLE .*sync_entries/.test(sql)))
  t.ok(planned.some((sql) => /CREATE (OR REPLACE )?TRIGGER/.test(sql)))
  t.same(await till.install(), planned, 'install() does and returns the same')
  t.same(await till.install({ dryRun: true }), [], 'nothing is left to do')
  t.same(await till.install(), [])
  await host.exec('CREATE TABLE more (id INTEGER PRIMARY KEY)')
  const other = host.create({ ...PUBLISH, more: { existing: 'all' } })
  const added = await other.install({ dryRun: true })
  t.ok(added.length > 0 && added.every((sql) => sql.includes('more')), 'only what is new')
  await t.rejects(other.install({ dryrun: true } as never), { code: 'ERR_OPTION' }, 'a misspelt option')
  await t.rejects(
    async () => host.create({ nowhere: {} }).install({ dryRun: true }),
    { code: 'ERR_UNKNOWN_TABLE' },
    'bad rules are refused as by install()',
  )
})

t.test('SQLite: check() tells of settings of the host that lose sales or fail them', async (t) => {
  const { db, file } = openDatabase(t, TABLES)
  db.exec(INDEX)
  const till = createRegister({ location: 'A', register: '1', database: sqlite(() => new Database(file), { host: db }), publish: PUBLISH })
  t.teardown(() => till.stop())
  await till.install()
  db.pragma('synchronous = NORMAL')
  db.pragma('busy_timeout = 100')
  t.match(await till.check(), [
    { code: 'NOT_DURABLE', hint: /FULL/ },
    { code: 'BUSY_TIMEOUT', hint: /250/ },
  ])
})

t.test('SQLite: check() tells of keys that may be NULL and of indexes over expressions', async (t) => {
  const { file } = openDatabase(
    t,
    `CREATE TABLE loose (code TEXT PRIMARY KEY, name TEXT); CREATE UNIQUE INDEX loose_name ON loose (lower(name));
     CREATE TABLE tight (code TEXT PRIMARY KEY, name TEXT UNIQUE) WITHOUT ROWID; CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT)`,
  )
  const till = createRegister({
    location: 'A',
    register: '1',
    database: sqlite(() => new Database(file)),
    publish: { loose: {}, tight: {}, numbered: {} },
  })
  t.teardown(() => till.stop())
  await till.install()
  t.same(brief(await check(till)), [
    ['NULLABLE_KEY', 'loose'],
    ['EXPRESSION_INDEX', 'loose'],
  ])
})

t.test('PostgreSQL: check() tells of policies that hide rows from the library, and of a server that forgets commits', async (t) => {
  const { config } = await server.createDatabase()
  const everything = openPool(t, config)
  await everything.query(`DROP ROLE IF EXISTS guarded; CREATE ROLE guarded LOGIN PASSWORD 'secret'; GRANT ALL ON SCHEMA public TO guarded`)
  const pool = openPool(t, { ...config, user: 'guarded', password: 'secret' })
  await pool.query(`${TABLES}; ALTER TABLE receipts ENABLE ROW LEVEL SECURITY; ALTER TABLE receipts FORCE ROW LEVEL SECURITY`)
  const till = createRegister({ location: 'A', register: '1', database: postgres(pool), publish: { receipts: {} } })
  t.teardown(() => till.stop())
  await till.install()
  t.match(await till.check(), [
    { code: 'ROW_SECURITY', table: 'receipts' },
    { code: 'NOT_DURABLE', message: /fsync/ },
  ])
})
