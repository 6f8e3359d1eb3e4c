import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import Database from 'better-sqlite3'
import pg from 'pg'
import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createCentral, createRegister, type Link, mirror, stockMovements, type TillsyncError, type TillsyncErrorCode } from '../../src/index.ts'
import { httpLink, toNodeHandler } from '../../src/transport/http.ts'
import { natsMailbox } from '../../src/transport/nats.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { refused } from '../support/refused.ts'
import { openDatabase } from '../support/shop.ts'
import { schemaOf, snapshotOf, tablesOf } from '../support/snapshots.ts'

const server = await startServer(t)

// biome-ignore lint/suspicious/noExplicitAny: what comes in here is wrong on purpose
type Wrong = any

const link: Link = { exchange: async (message) => message }
const SCHEMA = `
  CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT UNIQUE, code TEXT, status TEXT, other_id INTEGER);
  CREATE UNIQUE INDEX receipts_code ON receipts (code) WHERE status = 'open';
  CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER, receipt_no TEXT, code TEXT);
  CREATE TABLE line_discounts (id INTEGER PRIMARY KEY, line_id INTEGER);
  CREATE TABLE keyless (id INTEGER, name TEXT);
  CREATE VIEW receipt_view AS SELECT * FROM receipts;
  CREATE VIRTUAL TABLE words USING fts5 (word);
  CREATE TABLE "" (id INTEGER PRIMARY KEY);
  CREATE TABLE long_key ("${'k'.repeat(201)}" INTEGER PRIMARY KEY);
  INSERT INTO receipts VALUES (1, 'R-1', 'c', 'posted', NULL)`

function register(options: Wrong) {
  return createRegister({ location: 'BA01', register: 'POS1', ...options })
}

t.test('what rules say wrongly is refused, by construction or install, and the database is as it was', async (t) => {
  const { db, file } = openDatabase(t, SCHEMA)
  const parts = { receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } }
  const date = (eb: Wrong) => eb('status', '=', new Date(0))
  const cases: readonly (readonly [string, TillsyncErrorCode, Wrong])[] = [
    ['a table without a key', 'ERR_NO_KEY', { keyless: {} }],
    ['a part without a key', 'ERR_NO_KEY', { receipts: {}, keyless: { partOf: { receipts: { id: 'id' } } } }],
    ['a table without a name', 'ERR_RULE', { '': {} }],
    ['a key by a name that no message holds', 'ERR_RULE', { long_key: {} }],
    ['an unknown table', 'ERR_UNKNOWN_TABLE', { receipt: {} }],
    ['a table in other letters', 'ERR_UNKNOWN_TABLE', { Receipts: {} }],
    ['a view', 'ERR_UNKNOWN_TABLE', { receipt_view: {} }],
    ['a virtual table', 'ERR_UNKNOWN_TABLE', { words: {} }],
    ['an unknown column in except', 'ERR_UNKNOWN_COLUMN', { receipts: { except: ['pin'] } }],
    ['an unknown column in only', 'ERR_UNKNOWN_COLUMN', { receipts: { only: ['pin'] } }],
    ['an unknown column in identity', 'ERR_UNKNOWN_COLUMN', { receipts: { identity: ['pin'] } }],
    ['identity by a column left out', 'ERR_UNKNOWN_COLUMN', { receipts: { except: ['code'], identity: ['code'] } }],
    ['an unknown column of the part', 'ERR_UNKNOWN_COLUMN', { receipts: {}, receipt_lines: { partOf: { receipts: { receipt: 'id' } } } }],
    ['an unknown column of the parent', 'ERR_UNKNOWN_COLUMN', { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'no' } } } }],
    ['a part of a table that is not published', 'ERR_RULE', parts],
    ['a part by columns that are not unique', 'ERR_RULE', { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'other_id' } } } }],
    ['a part by columns that are unique in part', 'ERR_RULE', { receipts: {}, receipt_lines: { partOf: { receipts: { code: 'code' } } } }],
    ['a key in except', 'ERR_RULE', { receipts: { except: ['id'] } }],
    ['a reference in except', 'ERR_RULE', { receipts: {}, receipt_lines: { ...parts.receipt_lines, except: ['receipt_id'] } }],
    ['only and except', 'ERR_RULE', { receipts: { only: ['id'], except: ['code'] } }],
    ['a circle of one', 'ERR_RULE', { receipts: { partOf: { receipts: { other_id: 'id' } } } }],
    [
      'a circle of two',
      'ERR_RULE',
      { receipts: { partOf: { receipt_lines: { other_id: 'id' } } }, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
    ],
    [
      'a circle beside a root',
      'ERR_RULE',
      {
        keyless: {},
        receipts: { partOf: { line_discounts: { other_id: 'id' } } },
        ...parts,
        line_discounts: { partOf: { receipt_lines: { line_id: 'id' } } },
      },
    ],
    [
      'partOf two tables',
      'ERR_OPTION',
      { receipts: {}, line_discounts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' }, line_discounts: { id: 'id' } } } },
    ],
    ['partOf a name', 'ERR_OPTION', { receipts: {}, receipt_lines: { partOf: 'receipts' } }],
    ['partOf no columns', 'ERR_OPTION', { receipts: {}, receipt_lines: { partOf: { receipts: {} } } }],
    ['partOf null', 'ERR_OPTION', { receipts: {}, receipt_lines: { partOf: null } }],
    ['a filter on a part', 'ERR_OPTION', { receipts: {}, receipt_lines: { ...parts.receipt_lines, where: () => true } }],
    ['related to a table that is not published', 'ERR_RULE', { receipts: { relatedTo: { pos_processes: { other_id: 'id' } } } }],
    ['related to a part', 'ERR_RULE', { receipts: { relatedTo: { receipt_lines: { other_id: 'id' } } }, ...parts }],
    ['related by an unknown column', 'ERR_UNKNOWN_COLUMN', { receipts: { relatedTo: { line_discounts: { process: 'id' } } }, line_discounts: {} }],
    ['a misspelt option', 'ERR_OPTION', { receipts: { were: () => true } }],
    ['a rule that is none', 'ERR_OPTION', { receipts: true }],
    ['a rule that is null', 'ERR_OPTION', { receipts: null }],
    ['except that is text', 'ERR_OPTION', { receipts: { except: 'code' } }],
    ['a filter that is text', 'ERR_OPTION', { receipts: { where: "status = 'posted'" } }],
    ['existing that is unknown', 'ERR_OPTION', { receipts: { existing: 'some' } }],
    [
      'a filter that throws',
      'ERR_FILTER',
      {
        receipts: {
          where: () => {
            throw new Error('no')
          },
        },
      },
    ],
    ['a filter that returns nothing', 'ERR_FILTER', { receipts: { where: () => undefined } }],
    ['a filter that returns true', 'ERR_FILTER', { receipts: { where: () => true } }],
    ['a filter that returns a promise', 'ERR_FILTER', { receipts: { where: async (eb: Wrong) => eb('status', '=', 'posted') } }],
    ['a filter that reads another table', 'ERR_FILTER', { receipts: { where: (eb: Wrong) => eb.exists(eb.selectFrom('keyless').select('name')) } }],
    [
      'a filter that reads another table by an alias',
      'ERR_FILTER',
      { receipts: { where: (eb: Wrong) => eb.exists(eb.selectFrom('keyless as receipts').select('name')) } },
    ],
    [
      'a filter of existing that reads another table',
      'ERR_FILTER',
      { receipts: { existing: (eb: Wrong) => eb.exists(eb.selectFrom('keyless').select('name')) } },
    ],
    ['a filter with an unknown column', 'ERR_FILTER', { receipts: { where: (eb: Wrong) => eb('statsu', '=', 'posted') } }],
    ['a filter with a value that SQLite has not', 'ERR_FILTER', { receipts: { where: date } }],
    ['a filter of existing with an unknown column', 'ERR_FILTER', { receipts: { existing: (eb: Wrong) => eb('statsu', '=', 'posted') } }],
    ['nothing at all', 'ERR_OPTION', {}],
    ['no rules', 'ERR_OPTION', null],
  ]
  for (const [name, code, publish] of cases) {
    const before = snapshotOf(db)
    const install = async (): Promise<void> => {
      const replica = register({ database: sqlite(() => new Database(file)), publish })
      await replica.install().finally(() => replica.stop())
    }
    await refused(t, install, code, name)
    t.equal(snapshotOf(db), before, `${name}: the database is as it was`)
  }
})

t.test('a filter that raises over some rows parks those and no other', async (t) => {
  const { db, file } = openDatabase(t, `${SCHEMA}; DELETE FROM receipts`)
  const replica = register({
    database: sqlite(() => new Database(file)),
    publish: { receipts: { where: (eb: Wrong) => eb(eb.fn('json_extract', ['code', eb.val('$.ok')]), '=', 1) } },
  })
  t.teardown(() => replica.stop())
  await replica.install()
  db.exec(
    `INSERT INTO receipts VALUES (2, 'R-2', '{"ok":1}', 'posted', NULL), (3, 'R-3', 'no json', 'posted', NULL), (4, 'R-4', '{"ok":1}', 'posted', NULL)`,
  )
  t.same(await replica.seal(), { documents: 2, entries: 2 })
  t.match((await replica.status()).parked, [{ table: 'receipts', recordId: [3], code: 'ERR_FILTER' }])
  db.exec(`UPDATE receipts SET code = '{"ok":1}' WHERE id = 3`)
  t.same(await replica.seal(), { documents: 1, entries: 1 })
  t.same((await replica.status()).parked, [])
})

t.test('a database that is not in WAL mode, not there or not writable is refused and left alone', async (t) => {
  const { db, file } = openDatabase(t, SCHEMA)
  db.pragma('journal_mode = DELETE')
  const before = snapshotOf(db)
  const publish = { receipts: {} }
  const install = async (open: () => Database.Database): Promise<void> => {
    const replica = register({ database: sqlite(open), publish })
    await replica.install().finally(() => replica.stop())
  }
  await refused(t, () => install(() => new Database(file)), 'ERR_NOT_WAL')
  t.equal(db.pragma('journal_mode', { simple: true }), 'delete', 'the mode is the host’s')
  t.equal(snapshotOf(db), before)
  db.pragma('journal_mode = WAL')
  await refused(t, () => install(() => new Database(file, { readonly: true })), 'ERR_CONNECTION')
  await refused(t, () => install(() => new DatabaseSync(file) as Wrong), 'ERR_CONNECTION', 'a connection of another driver')
  await refused(t, () => install((async () => new Database(file)) as Wrong), 'ERR_CONNECTION', 'a promise of a connection')
  await t.rejects(
    install(() => new Database('/nowhere/till.sqlite')),
    { name: 'TillsyncError' },
    'no such folder',
  )
  await t.rejects(
    install(() => undefined as Wrong),
    { name: 'TillsyncError' },
    'a host that opens nothing',
  )
  await t.rejects(
    install(() => {
      throw new Error('the key store is locked')
    }),
    { name: 'TillsyncError' },
    'a host that throws',
  )
})

t.test('options that are missing or wrong are refused at construction', async (t) => {
  const { file } = openDatabase(t, SCHEMA)
  const pool = await createPool(t, server)
  const database = sqlite(() => new Database(file))
  const good = { location: 'BA01', register: 'POS1', database, publish: { receipts: {} } }
  const transfer = { type: 'push', link }
  const registers: readonly (readonly [string, Wrong])[] = [
    ['nothing', undefined],
    ['null', null],
    ['no location', { ...good, location: undefined }],
    ['an empty location', { ...good, location: '' }],
    ['a location that is a number', { ...good, location: 1 }],
    ['a register of 201 characters', { ...good, register: 'x'.repeat(201) }],
    ['no database', { ...good, database: undefined }],
    ['a file name as database', { ...good, database: file }],
    ['a bare connection as database', { ...good, database: new Database(':memory:') }],
    ['no rules', { ...good, publish: undefined }],
    ...[new Map(), new Date(), Promise.resolve({})].map((publish) => ['rules that are no object', { ...good, publish }] as const),
    ...[null, 0, '', false, Number.NaN, new Map(), new Date()].map((subscribe) => ['mirrors that are no object', { ...good, subscribe }] as const),
    ['an option that nobody reads', { ...good, tables: [] }],
    ['a transfer without a link', { ...good, transfer: { type: 'push' } }],
    ['a link that is an address', { ...good, transfer: { type: 'push', link: 'http://hq' } }],
    ['a transfer without a type', { ...good, transfer: { link } }],
    ['an unknown type', { ...good, transfer: { type: 'pull', link } }],
    ['a misspelt option of transfer', { ...good, transfer: { ...transfer, every: 5 } }],
    ['a misspelt option of backoff', { ...good, transfer: { ...transfer, backoff: { min: 5 } } }],
    ['a backoff that is a number', { ...good, transfer: { ...transfer, backoff: 5 } }],
    ['maxMs below minMs', { ...good, transfer: { ...transfer, backoff: { minMs: 50, maxMs: 5 } } }],
    ...[0, 9, -1, 10.5, Number.NaN, Infinity, '5000', 2 ** 31].map(
      (everyMs) => [`everyMs ${everyMs}`, { ...good, transfer: { ...transfer, everyMs } }] as const,
    ),
    ...[0, -1, 1.5, '500', Infinity].map(
      (recordsPerRun) => [`recordsPerRun ${recordsPerRun}`, { ...good, transfer: { ...transfer, recordsPerRun } }] as const,
    ),
    ...[0, 1_023, '1'].map((bytesPerRun) => [`bytesPerRun ${bytesPerRun}`, { ...good, transfer: { ...transfer, bytesPerRun } }] as const),
  ]
  for (const [name, options] of registers) await refused(t, () => createRegister(options), 'ERR_OPTION', `register: ${name}`)

  const head = { database: postgres(pool), subscribe: { receipts: mirror() } }
  const centrals: readonly (readonly [string, Wrong])[] = [
    ['nothing', undefined],
    ['SQLite at central', { ...head, database }],
    ['a bare pool as database', { ...head, database: pool }],
    ['no handlers', { ...head, subscribe: undefined }],
    ['a handler that was not called', { ...head, subscribe: { receipts: mirror } }],
    ['a list with something else in it', { ...head, subscribe: { receipts: [mirror(), null] } }],
    ['a handler of another name', { ...head, subscribers: {} }],
    ['a numbering that is a Map', { ...head, numbering: new Map([['receipts', { column: 'no' }]]) }],
    ...[0, 1.5, '4', Infinity].map((lanes) => [`lanes ${lanes}`, { ...head, lanes }] as const),
    ...[1, 65_535, Infinity, '1e9'].map((maxMessageBytes) => [`maxMessageBytes ${maxMessageBytes}`, { ...head, maxMessageBytes }] as const),
  ]
  for (const [name, options] of centrals) await refused(t, () => createCentral(options), 'ERR_OPTION', `central: ${name}`)

  const twice = { receipts: [stockMovements(() => []), stockMovements(() => [])] }
  t.throws(() => createCentral({ database: postgres(pool), subscribe: twice }), { name: 'TillsyncError' }, 'stockMovements twice over one table')

  const others: readonly (readonly [string, () => unknown])[] = [
    ['sqlite() without anything', () => sqlite(undefined as Wrong)],
    ['sqlite(file)', () => sqlite(file as Wrong)],
    ['postgres() without anything', () => postgres(undefined as Wrong)],
    ['postgres(connection string)', () => postgres('postgres://localhost' as Wrong)],
    ['postgres() with an empty schema', () => postgres(pool, { schema: '' })],
    ['postgres() with a schema that is no text', () => postgres(pool, { schema: 5 as Wrong })],
    ['postgres() with a misspelt option', () => postgres(pool, { shema: 'pos' } as Wrong)],
    ['postgres(pool, schema)', () => postgres(pool, 'pos' as Wrong)],
    ['sqlite() with a misspelt option', () => sqlite(() => new Database(file), { hots: new Database(':memory:') } as Wrong)],
    ['sqlite() with a file as host', () => sqlite(() => new Database(file), { host: file as Wrong })],
    ['sqlite(connection) of another driver', () => sqlite(new DatabaseSync(':memory:') as Wrong)],
    ['httpLink() with a misspelt option', () => httpLink({ url: 'http://hq', token: 'x', timeout: 5 } as Wrong)],
    ['httpLink() with a fetch that is none', () => httpLink({ url: 'http://hq', token: 'x', fetch: {} as Wrong })],
    ['httpLink() without anything', () => httpLink(undefined as Wrong)],
    ['httpLink() with a relative URL', () => httpLink({ url: '/sync', token: 'x' })],
    ['httpLink() to a file', () => httpLink({ url: 'file:///etc/passwd', token: 'x' })],
    ['httpLink() without a token', () => httpLink({ url: 'http://hq' } as Wrong)],
    ['httpLink() with a token that breaks the header', () => httpLink({ url: 'http://hq', token: 'a\r\nb' })],
    ['httpLink() with no time at all', () => httpLink({ url: 'http://hq', token: 'x', timeoutMs: 0 })],
    ['httpLink() with endless time', () => httpLink({ url: 'http://hq', token: 'x', timeoutMs: Infinity })],
    ['mirror() with an unknown option', () => mirror({ orign: [] } as Wrong)],
    ['mirror() with another origin', () => mirror({ origin: ['register', 'location'] as Wrong })],
    ['mirror(null)', () => mirror(null as Wrong)],
    ['stockMovements() without a function', () => stockMovements({} as Wrong)],
    ['a scale that is a Map', () => stockMovements(() => [], { scale: new Map([['quantity', 3]]) as Wrong })],
    ['columns that are a Map', () => mirror({ rename: { columns: new Map([['no', 'number']]) as Wrong } })],
    ['toNodeHandler() without a function', () => toNodeHandler({} as Wrong)],
    ['toNodeHandler() with a misspelt option', () => toNodeHandler(async () => new Response(), { sources: () => '' } as Wrong)],
    ['toNodeHandler() with null as options', () => toNodeHandler(async () => new Response(), null as Wrong)],
    ['natsMailbox() with null as credentials', () => natsMailbox({ servers: 'hub', credentials: null as Wrong, location: 'BA01', register: 'POS1' })],
  ]
  for (const [name, make] of others) await refused(t, make, 'ERR_OPTION', name)
})

t.test('calls with wrong arguments are refused and change nothing', async (t) => {
  const { db, file } = openDatabase(t, SCHEMA)
  const replica = register({
    database: sqlite(() => new Database(file)),
    publish: { receipts: { except: ['code'] }, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
  })
  t.teardown(() => replica.stop())
  await refused(t, () => replica.seal(), 'ERR_NOT_INSTALLED', 'before install()')
  await refused(t, () => replica.start(), 'ERR_NOT_INSTALLED', 'start() before install()')
  await refused(t, () => replica.status(), 'ERR_NOT_INSTALLED', 'status() before install()')
  await replica.install()
  await replica.seal()
  const before = snapshotOf(db)
  await refused(t, () => replica.synchronize(), 'ERR_OPTION', 'no transfer')
  await refused(t, () => replica.export('items', { id: 1 }), 'ERR_UNKNOWN_TABLE', 'a table that is not published')
  await refused(t, () => replica.export('receipt_lines', { id: 1 }), 'ERR_UNKNOWN_TABLE', 'a part')
  await refused(t, () => replica.export('receipts', { no: 1 } as Wrong), 'ERR_UNKNOWN_COLUMN', 'an unknown column')
  await refused(t, () => replica.export('receipts', { code: 'c' } as Wrong), 'ERR_UNKNOWN_COLUMN', 'a column left out')
  await refused(t, () => replica.export('receipts', {} as Wrong), 'ERR_OPTION', 'by nothing')
  await refused(t, () => replica.export('receipts', [{}] as Wrong), 'ERR_OPTION', 'by a list of nothing')
  await refused(t, () => replica.export('receipts', null as Wrong), 'ERR_OPTION', 'by null')
  await refused(t, () => replica.export('receipts', { id: 1 } as Wrong, { relatd: true } as Wrong), 'ERR_OPTION', 'a misspelt option')
  await refused(t, () => replica.export('receipts', { id: { or: 1 } } as Wrong), 'ERR_OPTION', 'a value that is none')
  await refused(t, () => replica.export('receipts', { id: new Date(0) } as Wrong), 'ERR_OPTION', 'a value that SQLite has not')
  await refused(t, () => replica.export('receipts', ((eb: Wrong) => eb('nope', '=', 1)) as Wrong), 'ERR_FILTER', 'a filter with an unknown column')
  await refused(
    t,
    () =>
      replica.export('receipts', (() => {
        throw new Error('no')
      }) as Wrong),
    'ERR_FILTER',
    'a filter that throws',
  )
  await refused(t, () => replica.entries({ limit: 0 }), 'ERR_OPTION', 'limit 0')
  await refused(t, () => replica.entries({ limit: 5_000 }), 'ERR_OPTION', 'more than a page')
  await refused(t, () => replica.notices.list({ limit: 5_000 }), 'ERR_OPTION', 'more notices than a page')
  await refused(t, () => replica.entries({ after: -1 }), 'ERR_OPTION', 'after -1')
  await refused(t, () => replica.entries({ table: 5 } as Wrong), 'ERR_OPTION', 'a table that is none')
  await refused(t, () => replica.entries(null as Wrong), 'ERR_OPTION', 'entries() of null')
  await refused(t, () => replica.prune({ before: '2026-01-01' } as Wrong), 'ERR_OPTION', 'a misspelt option of prune()')
  await refused(t, () => replica.prune(30 as Wrong), 'ERR_OPTION', 'prune() of a number')
  await refused(t, () => replica.prune({ signal: 'now' } as Wrong), 'ERR_OPTION', 'a signal that is none')
  await refused(t, () => replica.reseal('receipts', { signal: {} } as Wrong), 'ERR_OPTION', 'another signal that is none')
  await refused(t, () => replica.install({ dryRun: 'yes' } as Wrong), 'ERR_OPTION', 'neither dry nor not')
  await refused(t, () => replica.export('receipts', { id: 1 } as Wrong, { related: 'no' } as Wrong), 'ERR_OPTION', 'neither related nor not')
  await refused(t, () => replica.entries({ from: 1 } as Wrong), 'ERR_OPTION', 'a misspelt option of entries()')
  await refused(t, () => replica.migrate(undefined as Wrong), 'ERR_OPTION', 'migrate() without a function')
  await refused(t, () => replica.on('sealled' as Wrong, () => undefined), 'ERR_OPTION', 'an event that there is not')
  await refused(t, () => replica.on('toString' as Wrong, () => undefined), 'ERR_OPTION', 'an event that every object has')
  await refused(t, () => replica.on('sealed', undefined as Wrong), 'ERR_OPTION', 'no listener')
  t.equal(snapshotOf(db), before, 'the database is as it was')
})

t.test('a later version’s tables are not touched by an earlier library', async (t) => {
  const { db, file } = openDatabase(t, SCHEMA)
  const replica = register({ database: sqlite(() => new Database(file)), publish: { receipts: {} } })
  t.teardown(() => replica.stop())
  await replica.install()
  db.exec("UPDATE sync_state SET value = '99' WHERE key = 'version.capture'")
  const before = snapshotOf(db)
  const older = register({ database: sqlite(() => new Database(file)), publish: { receipts: {} } })
  t.teardown(() => older.stop())
  await refused(t, () => older.install(), 'ERR_SCHEMA_NEWER')
  await refused(t, () => older.start(), 'ERR_SCHEMA_NEWER')
  t.equal(snapshotOf(db), before)
})

t.test('central refuses what it can’t work with, and its database is as it was', async (t) => {
  const none = stockMovements(() => [])
  const origin = ['location', 'register'] as const
  const cases: readonly (readonly [string, TillsyncErrorCode, string, Wrong])[] = [
    ['mirror() to a table that is not there', 'ERR_UNKNOWN_TABLE', '', { receipts: mirror(), items: mirror() }],
    ['mirror() to a view', 'ERR_UNKNOWN_TABLE', 'CREATE VIEW receipt_view AS SELECT * FROM receipts', { receipt_view: mirror() }],
    ['mirror() to a table without a key', 'ERR_NO_KEY', 'CREATE TABLE keyless (id bigint)', { keyless: mirror() }],
    ['origin columns that the target lacks', 'ERR_UNKNOWN_COLUMN', '', { receipts: mirror({ origin }) }],
    ['origin columns outside the key', 'ERR_RULE', 'ALTER TABLE receipts ADD location text, ADD register text', { receipts: mirror({ origin }) }],
    ['a ledger of the host’s in the way', 'ERR_UNKNOWN_COLUMN', 'CREATE TABLE stock_levels (item text PRIMARY KEY)', { receipts: [mirror(), none] }],
  ]
  for (const [name, code, schema, subscribe] of cases) {
    const pool = await createPool(t, server)
    await pool.query(`CREATE TABLE receipts (id bigint PRIMARY KEY); ${schema}`)
    const before = await tablesOf(pool)
    const central = createCentral({ database: postgres(pool), subscribe })
    await refused(t, () => central.install(), code, name)
    await central.stop()
    t.same(await tablesOf(pool), before, `${name}: the database is as it was`)
  }

  const pool = await createPool(t, server)
  await pool.query('CREATE TABLE receipts (id bigint PRIMARY KEY)')
  const central = createCentral({ database: postgres(pool), subscribe: { receipts: mirror() } })
  t.teardown(() => central.stop())
  await refused(t, () => central.start(), 'ERR_NOT_INSTALLED', 'start() before install()')
  await refused(t, () => central.registers.add({ location: 'BA01', register: 'POS1' }), 'ERR_NOT_INSTALLED', 'registers.add() before install()')
  await central.install()
  await central.registers.add({ location: 'BA01', register: 'POS1' })
  await refused(t, () => central.registers.add({ location: 'BA01', register: 'POS1' }), 'ERR_REGISTER', 'a register twice')
  await refused(t, () => central.registers.add({ location: '', register: 'POS1' }), 'ERR_OPTION', 'a register without a location')
  await refused(t, () => central.registers.add(undefined as Wrong), 'ERR_OPTION', 'no register')
  const misspelt = { location: 'BA01', register: 'POS2', attribute: { priceGroup: 'A' } } as Wrong
  await refused(t, () => central.registers.add(misspelt), 'ERR_OPTION', 'a misspelt option of registers.add()')
  await refused(t, () => central.on('error' as Wrong, () => undefined), 'ERR_OPTION', 'an event that there is not')
  t.equal((await central.registers.list()).length, 1)
})

t.test('a PostgreSQL that is not there, or whose schema is not there, is a coded error', async (t) => {
  const { config } = await server.createDatabase()
  const lost = new pg.Pool({ ...config, port: 1, connectionTimeoutMillis: 2_000 })
  t.teardown(() => lost.end())
  await t.rejects(createCentral({ database: postgres(lost), subscribe: {} }).install(), { name: 'TillsyncError', retryable: true })
  const pool = await createPool(t, server)
  const installs = (given: pg.Pool, schema?: string) =>
    createCentral({ database: postgres(given, { ...(schema && { schema }) }), subscribe: {} }).install()
  await refused(t, () => installs(pool, 'nowhere'), 'ERR_DATABASE', 'no such schema')
  for (const wrong of [{ password: 'wrong' }, { database: 'nowhere' }]) {
    const refusing = new pg.Pool({ ...config, ...wrong })
    t.teardown(() => refusing.end())
    await refused(t, () => installs(refusing), 'ERR_DATABASE', Object.keys(wrong)[0])
  }
})

t.test('a pool or a shared connection that the host closes too early is said', async (t) => {
  const { config } = await server.createDatabase()
  const pool = new pg.Pool(config)
  const central = createCentral({ database: postgres(pool), subscribe: {} })
  t.teardown(() => central.stop())
  await central.install()
  await pool.end()
  await refused(t, () => central.registers.list(), 'ERR_DATABASE', 'the pool')
  await central.stop()
  await refused(t, () => central.start(), 'ERR_DATABASE', 'the pool, by a central that starts again')

  const { db } = openDatabase(t, SCHEMA)
  const replica = register({ database: sqlite(db), publish: { receipts: {} } })
  t.teardown(() => replica.stop())
  await replica.install()
  await replica.status()
  db.close()
  await refused(t, () => replica.status(), 'ERR_DATABASE', 'the connection')
})

t.test('what central refuses says at the till what to do', async (t) => {
  const pool = await createPool(t, server)
  const central = createCentral({ database: postgres(pool), subscribe: {} })
  t.teardown(() => central.stop())
  await central.install()
  const { token } = await central.registers.add({ location: 'BA01', register: 'POS1' })
  const fetch: typeof globalThis.fetch = (url, init) => central.fetch(new Request(url, init))
  for (const [code, name, shown] of [
    ['ERR_CREDENTIAL', 'POS1', 'x'.repeat(43)],
    ['ERR_FOREIGN_REGISTER', 'POS2', token],
  ] as const) {
    const { file } = openDatabase(t, SCHEMA)
    const database = sqlite(() => new Database(file))
    const replica = register({
      register: name,
      database,
      publish: { receipts: {} },
      transfer: { type: 'push', link: httpLink({ url: 'http://hq', token: shown, fetch }) },
    })
    t.teardown(() => replica.stop())
    await replica.install()
    await refused(t, () => replica.synchronize(), code)
  }
})

t.test('install() twice changes nothing; uninstall() leaves nothing', async (t) => {
  const { db, file } = openDatabase(t, SCHEMA)
  const schema = schemaOf(db)
  const publish = { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } }
  const make = (rules: Wrong = publish) => {
    const replica = register({ database: sqlite(() => new Database(file)), publish: rules })
    t.teardown(() => replica.stop())
    return replica
  }
  const replica = make()
  await replica.install()
  await replica.seal()
  const installed = snapshotOf(db)
  await replica.install()
  await make().install()
  await Promise.all([make().install(), make().install()])
  t.equal(snapshotOf(db), installed, 'installed once, whoever asks')

  await make({ ...publish, line_discounts: {} }).install()
  t.ok(
    Object.keys(schemaOf(db)).some((name) => name.includes('line_discounts_insert')),
    'a table more',
  )
  await make().install()
  t.same(
    Object.keys(schemaOf(db)).filter((name) => name.startsWith('trigger') && name.includes('line_discounts')),
    [],
    'a table less',
  )

  db.exec("INSERT INTO receipts (status) VALUES ('posted')")
  await replica.seal()
  await replica.start()
  const other = make()
  const failed = new Promise<TillsyncError>((resolve) => other.on('failed', ({ error }) => resolve(error)))
  await other.start()
  await replica.uninstall()
  t.match(await failed, { code: 'ERR_NOT_INSTALLED', hint: /install\(\)/ }, 'another process, that still runs, says what to do')
  await other.stop()
  t.same(schemaOf(db), schema)
  t.equal(db.prepare('SELECT count(*) FROM receipts').pluck().get(), 2, 'the host’s rows stay')
  db.exec("INSERT INTO receipts (status) VALUES ('posted')")
  await replica.uninstall()
  await replica.install()
  db.exec("INSERT INTO receipts (status) VALUES ('posted')")
  t.same(await replica.seal(), { documents: 1, entries: 1 }, 'installed anew, it begins anew')
  t.match(await replica.entries(), [{ entryNo: 1 }])
})

t.test('uninstalling central leaves the ledger and the mirrored tables', async (t) => {
  const pool = await createPool(t, server)
  await pool.query('CREATE TABLE receipts (id bigint PRIMARY KEY)')
  const central = createCentral({ database: postgres(pool), subscribe: { receipts: [mirror(), stockMovements(() => [])] } })
  await central.install()
  await central.install()
  const other = createCentral({ database: postgres(pool), subscribe: { receipts: [mirror(), stockMovements(() => [])] } })
  await Promise.all([central.install(), other.install()])
  t.same(await other.registers.list(), [])
  await central.uninstall()
  await refused(t, () => other.registers.list(), 'ERR_NOT_INSTALLED', 'another process, whose tables are gone')
  t.same(Object.keys(await tablesOf(pool)), ['receipts', 'stock_levels', 'stock_movements'])
  await central.install()
  t.ok((await central.registers.add({ location: 'BA01', register: 'POS1' })).token)
  await central.stop()
  await other.stop()
})

t.test('a process ends by itself after stop(), however the register was started', async (t) => {
  const { file } = openDatabase(t, SCHEMA)
  const cases = {
    'never started': 'await till.install(); await till.seal()',
    'started once': 'await till.install(); await till.start()',
    'started twice': 'await till.install(); await till.start(); await till.start()',
    'started twice at the same time': 'await till.install(); await Promise.all([till.start(), till.start()])',
    'stopped while it starts': 'await till.install(); void till.start()',
    'stopped and started again': 'await till.install(); await till.start(); await till.stop(); await till.start()',
    'asked after stop()': 'await till.install(); await till.stop(); await till.status()',
  }
  await Promise.all(Object.entries(cases).map(async ([name, code]) => t.ok(await ends(file, code), name)))
})

/** Whether a process of its own that does this to a register, and then stops it, ends. */
async function ends(file: string, code: string): Promise<boolean> {
  const source = (path: string) => JSON.stringify(join(import.meta.dirname, '../../src', path))
  const child = spawn(
    process.execPath,
    [
      '--input-type=module',
      '--eval',
      `import { createRequire } from 'node:module'
       import { createRegister } from ${source('index.ts')}
       import { sqlite } from ${source('adapters/sqlite/adapter.ts')}
       const Database = createRequire(${source('index.ts')})('better-sqlite3')
       const link = { exchange: () => new Promise(() => undefined) }
       const database = sqlite(() => new Database(${JSON.stringify(file)}))
       const till = createRegister({ location: 'BA01', register: 'POS1', database, publish: { receipts: {} }, transfer: { type: 'push', link: { exchange: async () => { throw new Error('down') } } } })
       ${code}
       await till.stop()`,
    ],
    { stdio: ['ignore', 'inherit', 'inherit'], timeout: 60_000, killSignal: 'SIGKILL' },
  )
  const [exitCode] = await once(child, 'exit')
  return exitCode === 0
}
