import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { ENTRIES, MEMBERS } from '../../src/capture/tables.ts'
import {
  type AnyTables,
  type AudienceRules,
  createCentral,
  createRegister,
  type Link,
  type MirrorRules,
  mirror,
  type PublishRules,
  type Register,
  TillsyncError,
} from '../../src/index.ts'
import { migrate, migrationStatements } from '../../src/migrate.ts'
import type { RegisterDatabase } from '../../src/ports.ts'
import { anotherVersion } from '../support/another-version.ts'
import { AudienceStream, deliver } from '../support/audience-stream.ts'
import { type Host, onEachDatabase, onPostgres } from '../support/each-database.ts'
import { eventually } from '../support/eventually.ts'
import { oneByOne } from '../support/interposed.ts'
import { createPool, openPool, startServer } from '../support/postgres.ts'

// A new version of the host is started while the old one still runs: two processes on one database, with rules that differ.

const server = await startServer(t)
const NAME = { location: 'BA01', register: 'POS1' }
const TABLES = 'CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT, status TEXT); CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)'
const OLD: PublishRules<AnyTables> = { receipts: { except: ['status'] } }
const NEW: PublishRules<AnyTables> = { receipts: {}, items: {} }

/** What changes whenever somebody makes or drops a trigger. */
async function schemaOf(host: Host): Promise<unknown> {
  return host.query(
    host.dialect === 'sqlite'
      ? 'PRAGMA schema_version'
      : `SELECT p.proname, p.xmin::text, t.tgname, t.xmin::text AS made FROM pg_proc p LEFT JOIN pg_trigger t ON t.tgfoid = p.oid
         WHERE starts_with(p.proname, 'sync_touch_') ORDER BY 1, 3`,
  )
}

async function running(
  host: Host,
  publish: PublishRules<AnyTables>,
  by?: typeof createRegister,
): Promise<{ readonly till: Register; readonly failed: string[] }> {
  const till = host.create(publish, {}, by)
  const failed: string[] = []
  till.on('failed', ({ error }) => failed.push(error.code))
  await till.install()
  await till.start()
  return { till, failed }
}

async function standsStill(till: Register): Promise<void> {
  await eventually('the older one says why it stands still', async () => (await till.status()).lastError?.code === 'ERR_SCHEMA_NEWER')
}

/** The same without waiting for its next look. */
async function isRefused(t: Test, till: Register): Promise<void> {
  await t.rejects(till.seal(), { code: 'ERR_SCHEMA_NEWER' })
}

async function sell(host: Host, first: number, till: Register): Promise<void> {
  for (let id = first; id < first + 10; id++) await host.exec(`INSERT INTO receipts (id, receipt_no, status) VALUES (${id}, 'R-${id}', 'posted')`)
  await till.seal()
  const entries = await till.entries({ table: 'receipts', limit: 1_000 })
  if (!entries.some(({ recordId }) => recordId[0] === first + 9)) throw new Error('It was not sealed')
}

onEachDatabase(t, server, 'the rules that were installed last are in force; the older process stands still and says so', TABLES, async (t, host) => {
  const old = await running(host, OLD)
  await sell(host, 1, old.till)
  const next = await running(host, NEW)
  await standsStill(old.till)
  t.ok(old.failed.includes('ERR_SCHEMA_NEWER'))
  await eventually('what was sold before is sealed by the new rules', async () => (await next.till.status()).resealing.length === 0)
  const schema = await schemaOf(host)
  await sell(host, 11, next.till)
  await host.exec(`INSERT INTO items VALUES (1, 'bread')`)
  await next.till.seal()
  for (const refused of [() => old.till.seal(), () => old.till.reseal('receipts'), () => old.till.export('receipts', { id: 1 })])
    await t.rejects(refused(), { code: 'ERR_SCHEMA_NEWER' })
  await t.rejects(
    old.till.migrate(() => host.exec('DROP TABLE items')),
    { code: 'ERR_SCHEMA_NEWER' },
  )
  t.same(await schemaOf(host), schema, 'nobody makes a trigger anew')
  t.match(
    await old.till.check(),
    [{ code: 'DRIFT', table: undefined, message: /other rules/, hint: /out of date/ }],
    'the triggers are right, its rules are not',
  )
  t.same(
    (await next.till.check()).filter(({ code }) => code === 'DRIFT'),
    [],
  )
  t.same(next.failed, [])
  const entries = await next.till.entries({ limit: 1_000 })
  t.equal(entries.length, 31, 'ten by the old rules, ten of them again and ten more by the new ones, and an item')
  t.ok(entries.slice(10).every(({ table, record }) => table === 'items' || record?.status === 'posted'))
})

onEachDatabase(t, server, 'who installs again is the newer one again; a start counts as well', TABLES, async (t, host) => {
  const old = await running(host, OLD)
  const next = await running(host, NEW)
  await isRefused(t, old.till)
  await old.till.install()
  await isRefused(t, next.till)
  await sell(host, 1, old.till)
  await eventually('it says nothing of it any more', async () => (await old.till.status()).lastError === undefined)
  await next.till.stop()
  await next.till.start()
  await isRefused(t, old.till)
  await sell(host, 11, next.till)
  await eventually('neither does the other', async () => (await next.till.status()).lastError === undefined)
})

onEachDatabase(
  t,
  server,
  'what the newer one has sealed the older one does not send, for which it hangs together otherwise',
  TABLES,
  async (t, host) => {
    const messages: Uint8Array[] = []
    const link: Link = {
      exchange: async (message) => {
        messages.push(message)
        throw new TillsyncError('ERR_LINK', 'No network', { retryable: true })
      },
    }
    const old = host.create(OLD, { transfer: { type: 'push', link, everyMs: 60_000 } })
    await old.install()
    await old.start()
    await host.exec(`INSERT INTO receipts VALUES (1, 'R-1', 'posted')`)
    await eventually('it sends what it has sealed', () => messages.length > 0)
    const next = await running(host, { receipts: {}, items: { partOf: { receipts: { id: 'id' } } } })
    await isRefused(t, old)
    await host.exec(`INSERT INTO receipts VALUES (2, 'R-2', 'posted'); INSERT INTO items VALUES (2, 'bread')`)
    await next.till.seal()
    const sent = messages.length
    await t.rejects(old.synchronize(), { code: 'ERR_SCHEMA_NEWER' })
    t.equal(messages.length, sent)
  },
)

onEachDatabase(t, server, 'rules that differ in a filter alone, by which triggers are the same', TABLES, async (t, host) => {
  const by = (status: string): PublishRules<AnyTables> => ({ receipts: { where: (eb) => eb('status', '=', status) } })
  const old = await running(host, by('posted'))
  const next = await running(host, by('closed'))
  await host.exec(`INSERT INTO receipts VALUES (1, 'R-1', 'posted'), (2, 'R-2', 'closed')`)
  await isRefused(t, old.till)
  await next.till.seal()
  t.same(
    (await next.till.entries()).map(({ operation, recordId }) => [operation, ...recordId]),
    [['upsert', 2]],
  )
})

onEachDatabase(t, server, 'processes of the same rules leave each other alone, and none is refused', TABLES, async (t, host) => {
  const rules = (existing: 'none' | 'all'): PublishRules<AnyTables> => ({
    receipts: { where: (eb) => eb('id', '<', eb.val(1_000 + Math.random() * 0)), existing },
  })
  const one = await running(host, rules('none'))
  const schema = await schemaOf(host)
  const other = await running(host, rules('all'))
  await sell(host, 1, one.till)
  await one.till.seal()
  await other.till.seal()
  t.same(await schemaOf(host), schema)
  t.same([...one.failed, ...other.failed], [])
  t.equal((await other.till.entries()).length, 10)
})

onEachDatabase(t, server, 'of two versions of the library the one that came last makes triggers, whatever the rules', TABLES, async (t, host) => {
  const { createRegister: another } = await anotherVersion()
  const old = await running(host, NEW)
  await sell(host, 1, old.till)
  const next = await running(host, NEW, another)
  await isRefused(t, old.till)
  const schema = await schemaOf(host)
  await sell(host, 11, next.till)
  t.same(await schemaOf(host), schema)
  t.same(next.failed, [])
  t.match(
    (await next.till.entries()).map(({ recordId }) => recordId[0]),
    [...Array(20).keys()].map((at) => at + 1),
    'nothing is sealed twice',
  )
})

onEachDatabase(t, server, 'two processes that change the schema, or take the library out, at the same time do not meet', TABLES, async (t, host) => {
  const tills = [host.create(NEW), host.create(NEW)]
  for (const till of tills) await till.install()
  for (let n = 0; n < 5; n++) await t.resolves(Promise.all(tills.map((till) => till.migrate(() => undefined))))
  await sell(host, 1, tills[0] as Register)
  await t.resolves(Promise.all(tills.map((till) => till.uninstall())))
})

onEachDatabase(t, server, 'a filter that answers otherwise each time is no other rule', TABLES, async (t, host) => {
  let asked = 0
  const { till, failed } = await running(host, { receipts: { where: (eb) => eb('id', '<', 1_000 + ++asked) } })
  await sell(host, 1, till)
  await host.exec('ALTER TABLE receipts ADD COLUMN note TEXT')
  await sell(host, 11, till)
  t.same(failed, [])
})

onEachDatabase(t, server, "after the host's own DDL the one whose rules are in force mends triggers", TABLES, async (t, host) => {
  const old = await running(host, OLD)
  const next = await running(host, NEW)
  await isRefused(t, old.till)
  await host.exec(
    `DROP TABLE receipts; CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT, status TEXT); INSERT INTO items VALUES (1, 'bread')`,
  )
  await sell(host, 1, next.till)
  await eventually('it is compared', async () => (await next.till.status()).resealing.length === 0)
  const schema = await schemaOf(host)
  await sell(host, 11, next.till)
  t.same(await schemaOf(host), schema)
  t.equal((await next.till.entries()).length, 21)
})

/** A database as a process has it whose transactions wait for somebody from now on. */
function heldUp(database: RegisterDatabase): { readonly waits: () => boolean; readonly release: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>()
  const { write } = database
  let waits = false
  Object.assign(database, {
    async write(...all: Parameters<typeof write>) {
      waits = true
      await promise
      return Reflect.apply(write, database, all)
    },
  })
  return { waits: () => waits, release: resolve }
}

for (const step of ['install', 'start'] as const)
  onEachDatabase(t, server, `who was held up in ${step}() longer than one that came later does not undo its rules`, TABLES, async (t, host) => {
    await running(host, OLD)
    const database = host.open()
    const old = host.create(OLD, { database })
    const { waits, release } = heldUp(database)
    const held = old[step]().catch((error: TillsyncError) => error.code)
    await eventually('it waits', waits)
    const now = Date.now()
    await eventually('time has passed', () => Date.now() > now)
    const next = await running(host, NEW)
    await sell(host, 1, next.till)
    const schema = await schemaOf(host)
    release()
    t.equal(await held, 'ERR_SCHEMA_NEWER')
    await isRefused(t, old)
    t.same(await schemaOf(host), schema)
    await sell(host, 11, next.till)
    t.same(next.failed, [])
    await old.install()
    await isRefused(t, next.till)
  })

onEachDatabase(t, server, 'who waits while one that came before installs has its own rules in force after it', TABLES, async (t, host) => {
  const begin = async (publish: PublishRules<AnyTables>) => {
    const database = host.open()
    const till = host.create(publish, { database })
    const { waits, release } = heldUp(database)
    const installed = till.install()
    await eventually('it waits', waits)
    return { till, installed, release }
  }
  const [old, next] = [await begin(OLD), await begin(NEW)]
  old.release()
  await old.installed
  next.release()
  await next.installed
  await isRefused(t, old.till)
  await sell(host, 1, next.till)
})

onEachDatabase(t, server, 'who only looks puts nothing in force, who seals does', TABLES, async (t, host) => {
  const old = await running(host, OLD)
  const next = host.create(NEW)
  t.not((await next.install({ dryRun: true })).length, 0)
  t.not((await next.check()).length, 0)
  await sell(host, 1, old.till)
  await next.seal()
  await isRefused(t, old.till)
  await sell(host, 11, next)
})

onEachDatabase(t, server, 'a schema change of the host by a process that has only begun leaves its own triggers', TABLES, async (t, host) => {
  const old = await running(host, OLD)
  const next = host.create(NEW)
  await next.migrate(() => host.exec('ALTER TABLE receipts ADD COLUMN note TEXT'))
  await isRefused(t, old.till)
  await sell(host, 1, next)
  t.equal((await next.status()).unsealed, 0)
})

t.test(
  'PostgreSQL: where a backup of the older rules is restored the newer process stands still until it is started again, and nothing is lost',
  async (t) => {
    const [admin, { config }] = [await createPool(t, server), await server.createDatabase()]
    const [name, backup] = [config.database, `${config.database}_backup`]
    const copy = async (from: string, to: string) => {
      await admin.query(`ALTER DATABASE ${from} ALLOW_CONNECTIONS false`)
      await admin.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${from}'`)
      await eventually('it can be copied', () => admin.query(`CREATE DATABASE ${to} TEMPLATE ${from}`).catch(() => undefined))
      await admin.query(`ALTER DATABASE ${from} ALLOW_CONNECTIONS true`)
    }
    const host = await onPostgres(t, openPool(t, config), TABLES)
    const old = await running(host, OLD)
    await sell(host, 1, old.till)
    await old.till.stop()
    await copy(name, backup)
    const next = await running(host, NEW)
    await sell(host, 11, next.till)
    await admin.query(`DROP DATABASE ${name} WITH (FORCE)`)
    await copy(backup, name)
    await standsStill(next.till)
    await host.exec(`INSERT INTO receipts VALUES (11, 'R-11 again', 'posted')`)
    t.equal((await next.till.status()).unsealed, 1, 'what the triggers of the backup note')
    await next.till.stop()
    await next.till.start()
    await eventually('all is compared', async () => (await next.till.status()).resealing.length === 0 && (await next.till.status()).unsealed === 0)
    const entries = await next.till.entries({ limit: 1_000 })
    const latest = new Map(entries.map(({ table, recordId, record }) => [`${table}${recordId}`, record]))
    t.equal(latest.size, 11)
    t.match(latest.get('receipts11'), { receipt_no: 'R-11 again' })
    t.ok(
      [...latest].every(([key, record]) => key === 'items1' || record?.status === 'posted'),
      'by the newer rules',
    )
  },
)

t.test('PostgreSQL: other rules that come in force in the midst of a reseal end it with the code that says so', async (t) => {
  const { config } = await server.createDatabase()
  const [pool, others] = [openPool(t, config), openPool(t, config)]
  await others.query(TABLES)
  let between: (() => Promise<unknown>) | undefined
  pool.on('connect', (client) => {
    oneByOne(client)
    const { query } = client
    Object.assign(client, {
      query(...all: unknown[]) {
        const answer = Reflect.apply(query, client, all)
        const { text = '' } = Object(all[0]) as { readonly text?: string }
        const work = text.includes('AS versions') ? between : undefined
        if (work === undefined) return answer
        between = undefined
        return answer.then(async (rows: unknown) => {
          await work()
          return rows
        })
      },
    })
  })
  const [old, next] = [
    createRegister({ ...NAME, database: postgres(pool), publish: OLD }),
    createRegister({ ...NAME, database: postgres(others), publish: NEW }),
  ]
  for (const till of [old, next]) t.teardown(() => till.stop())
  await old.install()
  await old.seal()
  between = async () => {
    await next.install()
    await isRefused(t, old)
  }
  await t.rejects(old.reseal('receipts'), { code: 'ERR_SCHEMA_NEWER' })
  t.equal(between, undefined)
})

t.test('head office: the rules of the process that came last are in force, be it that it publishes nothing', async (t) => {
  const pool = await createPool(t, server)
  await pool.query('CREATE TABLE items (item_no int PRIMARY KEY, name text, price int); CREATE TABLE contacts (id int PRIMARY KEY)')
  const running = async (publish: AudienceRules<AnyTables> | undefined) => {
    const central = createCentral({ database: postgres(pool), subscribe: {}, ...(publish && { publish }) })
    t.teardown(() => central.stop())
    await central.install()
    await central.start()
    return central
  }
  const code = async (central: Awaited<ReturnType<typeof running>>) => (await central.status()).lastError?.code
  const triggers = async () =>
    (await pool.query(`SELECT tgrelid::regclass::text AS name FROM pg_trigger WHERE tgname = 'sync_touch' ORDER BY 1`)).rows
  const old = await running({ items: { except: ['price'] } })
  const next = await running({ items: {}, contacts: {} })
  await eventually('the older one stands still', async () => (await code(old)) === 'ERR_SCHEMA_NEWER')
  await pool.query('INSERT INTO items VALUES (1)')
  t.match(await old.check(), [{ code: 'DRIFT', message: /other rules/ }])
  await eventually('it is sealed', async () => (await next.status()).unsealed === 0)
  t.same(await triggers(), [{ name: 'contacts' }, { name: 'items' }])
  t.equal(await code(next), undefined)
  await next.stop()
  await running(undefined)
  t.same(await triggers(), [])
  await t.rejects(old.export('items', { item_no: 1 }), { code: 'ERR_SCHEMA_NEWER' })
  t.same(await triggers(), [])
  const last = await running({ items: {} })
  t.same(await triggers(), [{ name: 'items' }], 'what publishes again has its triggers')
  const said = new Set<string>()
  last.on('failed', ({ error }) => said.add(error.code))
  await next.uninstall()
  await eventually('it says that nothing is installed any more', () => said.size > 0)
  t.same([...said], ['ERR_NOT_INSTALLED'])
})

onEachDatabase(
  t,
  server,
  "a later version adds columns to the library's own tables, once, whoever installs at the same time",
  TABLES,
  async (t, host) => {
    const { till } = await running(host, NEW)
    await sell(host, 1, till)
    await till.stop()
    const later = {
      ...ENTRIES,
      columns: { ...ENTRIES.columns, origin: 'text', weight: 'decimal' },
      nullable: [...(ENTRIES.nullable ?? []), 'origin', 'weight'],
    } as const
    const steps = [{ create: [later, MEMBERS] }, { add: [{ table: later, columns: ['origin'] }] }, { add: [{ table: later, columns: ['weight'] }] }]
    const all = [{ component: 'capture', steps }]
    const [one, other] = [host.open(), host.open()]
    for (const database of [one, other]) {
      await database.open()
      t.teardown(() => database.close())
    }
    const shown = await one.read(() => migrationStatements(one, all))
    t.match(shown, [/ADD COLUMN "origin"/, /ADD COLUMN "weight"/])
    const done = await Promise.all([one, other].map((database) => database.write(() => migrate(database, all))))
    t.same(
      done.filter((statements) => statements.length > 0),
      [shown],
      'one of them finds it done',
    )
    const rows = await host.query('SELECT origin, weight FROM sync_entries')
    t.equal(rows.length, 10, 'what stood there stays')
    t.same(rows[0], { origin: null, weight: null })
    await t.rejects(till.start(), { code: 'ERR_SCHEMA_NEWER' })
    await t.rejects(till.install(), { code: 'ERR_SCHEMA_NEWER' })
    await host.exec('ALTER TABLE sync_entries DROP COLUMN record')
    await t.rejects(
      one.write(() => migrate(one, all)),
      { code: 'ERR_UNKNOWN_COLUMN', hint: /rename it/, context: { table: 'sync_entries', column: 'record' } },
    )
  },
)

onEachDatabase(
  t,
  server,
  'of what is received the rules of the process that came last hold, table by table, and nothing comes again and again',
  'CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, shelf TEXT); CREATE TABLE contacts (id INTEGER PRIMARY KEY, name TEXT)',
  async (t, host) => {
    const create = (subscribe: MirrorRules<AnyTables>) => host.create({}, { subscribe })
    const [older, newer] = [create({ items: mirror(), contacts: mirror() }), create({ items: mirror({ except: ['shelf'] }), contacts: mirror() })]
    await older.install()
    const item = (name: string) => ({ id: 1, name, shelf: name })
    const [items, contacts] = [new AudienceStream('items', ['id']).put(item('a')), new AudienceStream('contacts', ['id']).put({ id: 1, name: 'a' })]
    const comes = (till: Register) => deliver(till, [items, contacts])
    const problems = async (till: Register) => (await till.status()).problems.map(({ table, error }) => `${table} ${error.code}`)
    const stands = async () => (await host.query('SELECT name, shelf FROM items'))[0]
    t.equal(await comes(older), 2)
    t.same(await problems(newer), [], 'who only looks has nothing to say')
    t.equal(await comes(newer), 1, 'by other rules all of it comes again')
    t.equal(await comes(older), 0)
    t.same([await problems(older), await problems(newer)], [['items ERR_SCHEMA_NEWER'], []])
    t.match((await older.check()).at(-1), { code: 'DRIFT', table: 'items', hint: /install/ })
    items.put(item('b'))
    contacts.put({ id: 1, name: 'b' })
    t.equal(await comes(older), 1, 'what both take by the same rules either takes')
    t.equal(await comes(newer), 1)
    t.same(await stands(), { name: 'b', shelf: 'a' })
    await older.install()
    t.equal(await comes(older), 1)
    t.equal(await comes(newer), 0)
    t.same([await problems(older), await problems(newer)], [[], ['items ERR_SCHEMA_NEWER']])
    t.same(await stands(), { name: 'b', shelf: 'b' })
    await newer.start()
    t.equal(await comes(newer), 1, 'a start counts as well')
    await older.stop()
    await older.start()
    t.equal(await comes(older), 1, 'and one behind a stop')
    t.equal(await comes(newer), 0)
  },
)
