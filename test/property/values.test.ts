import pg from 'pg'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createRegister, type Handler, mirror, type Register, stockMovements } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { archived, Documents, ENTRY_COLUMNS, type EntryRow, listed, shownDocument, shownEntry } from '../support/entries.ts'
import { exact, literal, type Read, row } from '../support/exact.ts'
import { openPool, startServer } from '../support/postgres.ts'
import { nastySettings, openValues, typesOf } from '../support/postgres-values.ts'
import { type KeyTables, PostgresHost } from '../support/postgres-values-host.ts'
import { argument, budgetOfRun, Random, roundsOfRun, seedOfRun } from '../support/random.ts'
import { openShop, type Shop, type Till } from '../support/shop.ts'
import { type ENCODINGS, PUBLISH_VALUES, SqliteHost, VALUES_TARGET, valuesMirrored, valuesOf, valuesSchema } from '../support/sqlite-values.ts'

const timeout = budgetOfRun(30_000) + 60_000
t.setTimeout(timeout + 60_000)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const server = await startServer(t)
const LONG = 500_000

/** Rows that must be the same; a difference ends the test. */
type Compare = (found: readonly string[], wanted: readonly string[], message: string) => void

function comparing(t: Test, round: number): Compare {
  return (found, wanted, message) => {
    const [has, needs] = [new Set(found), new Set(wanted)]
    const [extra, missing] = [found.filter((one) => !needs.has(one)), wanted.filter((one) => !has.has(one))]
    const differences = [...extra.map((one) => `has ${unlike(one, missing)}`), ...missing.map((one) => `lacks ${unlike(one, extra)}`)]
    const is = { count: found.length, differences: differences.slice(0, 6).map((text) => text.slice(0, 2_000)) }
    if (t.same(is, { count: wanted.length, differences: [] }, `round ${round}: ${message}`)) return
    throw new Error('What comes next would only follow from it')
  }
}

/** Rounds with a share of the budget, or so many; one that breaks says how to see it again. */
async function inRounds(t: Test, usual: number, share: number, run: (round: number) => Promise<void>): Promise<void> {
  for (const round of roundsOfRun(Number(argument('rounds') ?? usual), share)) {
    try {
      await run(round)
    } catch (error) {
      t.comment(`--seed=${seed} --rounds=${round + 1}`)
      throw error
    }
  }
}

/** Of a row the columns that the row most like it has otherwise. */
function unlike(row: string, others: readonly string[]): string {
  const columns = row.split(' | ')
  const shorter = others.map((other) => {
    const its = new Set(other.split(' | '))
    return columns.filter((column) => !its.has(column))
  })
  return shorter.reduce((best, one) => (one.length < best.length ? one : best), columns).join(' | ')
}

/** Handlers that note what they get. */
class Watch {
  readonly seen = new Set<string>()

  handler(table: string): Handler {
    return stockMovements((document) => {
      this.seen.add(shownDocument(table, document))
      return []
    })
  }

  /** The documents as they must have been seen among others; the next ones are seen from here on. */
  take(documents: readonly string[]): string[] {
    const taken = documents.filter((one) => this.seen.has(one))
    this.seen.clear()
    return taken
  }
}

/** What is the same for both kinds of till: nothing waits, and entries, archive and handlers say the same. */
async function compareEntries(
  is: Compare,
  shop: Shop,
  till: { readonly replica: Register; readonly location: string; readonly register: string; last: number },
  entries: readonly EntryRow[],
  seen: (changed: readonly string[]) => string[],
  documents: Documents,
): Promise<void> {
  const { parked, unsealed, pending } = await till.replica.status()
  is([JSON.stringify({ parked, unsealed, pending })], ['{"parked":[],"unsealed":0,"pending":0}'], 'nothing waits')
  const texts = (rows: readonly EntryRow[]) => rows.map((entry) => JSON.stringify(entry))
  is(texts(await archived(shop.pool, till, till.last)), texts(entries), 'the archive has the entries')
  is(await listed(till.replica, till.last), entries.map(shownEntry), 'entries() gives the values')
  const changed = documents.add(entries)
  is(seen(changed), changed, 'handlers get the documents')
  till.last = entries.at(-1)?.entry_no ?? till.last
}

async function resealsNothing(is: Compare, replica: Register, table: string): Promise<void> {
  is([JSON.stringify(await replica.reseal(table))], ['{"documents":0,"entries":0}'], `a reseal of ${table} finds nothing`)
}

t.test('SQLite: a value of any storage class in any column is the same in entry, archive, handler and mirror, to the bit', { timeout }, async (t) => {
  const watch = new Watch()
  const shop = await openShop(t, server, {
    schema: VALUES_TARGET,
    subscribe: {
      loose: watch.handler('loose'),
      strict: watch.handler('strict'),
      keyed: watch.handler('keyed'),
      sendable: [mirror({ origin: ['location', 'register'] }), watch.handler('sendable')],
    },
  })
  const open = async (encoding: (typeof ENCODINGS)[number]) => {
    const till: Till = await shop.addTill(encoding, { schema: valuesSchema(encoding), publish: PUBLISH_VALUES })
    return {
      ...till,
      encoding,
      host: new SqliteHost(till.db, encoding),
      documents: new Documents((table) => table !== 'parts', { own: 'k', root: 'k' }),
      last: 0,
    }
  }
  const tills = [await open('UTF-8'), await open('UTF-16le'), await open('UTF-16be')]
  const random = new Random(seed)
  await inRounds(t, 6, 0.4, async (round) => {
    for (const till of tills) {
      const { db, replica, encoding, documents, host } = till
      const is: Compare = (found, wanted, message) => comparing(t, round)(found, wanted, `${encoding}: ${message}`)
      host.write(random, random.int(1, 12), round === 0 ? LONG : 0)
      if (random.chance(0.5)) await replica.seal()
      if (random.chance(0.5)) host.write(random, random.int(1, 12))
      await replica.synchronize()
      const entries = db.prepare(`SELECT ${ENTRY_COLUMNS} FROM sync_entries WHERE entry_no > ? ORDER BY entry_no`).all(till.last) as EntryRow[]
      await compareEntries(is, shop, till, entries, (changed) => watch.take(changed), documents)

      const standing = (table: string, where?: string) => valuesOf(db, encoding, table, where).map((one) => row(one, String))
      const replayed = (table: string) => documents.of(table).map(({ columns }) => row(columns, exact))
      for (const table of ['loose', 'strict', 'sendable', 'keyed'])
        is(replayed(table), standing(table), `${table}: the entries are what stands there`)
      is(
        replayed('parts'),
        standing('parts', 'EXISTS (SELECT 1 FROM keyed WHERE keyed.k = parts.k)'),
        'parts: the entries are what belongs to a document',
      )
      for (const [table, key] of Object.entries({ loose: ['id'], sendable: ['k'], keyed: ['k'], parts: ['a', 'b'] })) {
        const records = documents.of(table)
        const keys = records.map(({ columns }) => key.map((name) => exact(columns[name] as Read)).join())
        is(records.map(({ id }) => id), keys, `${table}: record ids are the keys`) // biome-ignore format: one thing
      }
      is(await valuesMirrored(shop.pool, till, documents.of('sendable')), standing('sendable'), 'the mirror has the same')
      await resealsNothing(is, replica, random.pick(['loose', 'strict', 'sendable', 'keyed']))
    }
  })
})

t.test(
  'PostgreSQL: a value of any type, in any column or key, is the same in entry, archive, handler and mirror, to the bit',
  { timeout },
  async (t) => {
    const random = new Random(seed)
    const probe = await openValues(t, server, '', [])
    const host = new PostgresHost(await typesOf(probe.pool))
    await host.learn(probe.pool)
    const settings = [nastySettings(random), nastySettings(random)] as const
    t.comment(`the databases of till and head office are set to ${settings.map((set) => set.join(' ')).join(', ')}`)
    const source = await openValues(t, server, host.tables, settings[0])
    const target = await openValues(t, server, host.tables, settings[1])
    const watch = new Watch()
    const tables = ['things', ...host.keys.map(({ roots }) => roots.name)]
    const shop = await openShop(t, server, {
      pool: openPool(t, target.config),
      subscribe: Object.fromEntries(tables.map((name) => [name, [mirror(), watch.handler(name)]])),
    })
    shop.central.on('refused', ({ error }) => t.comment(`${error.message}: ${error.cause}`))
    const name = { location: 'BA01', register: 'POS1' }
    const link = httpLink({ url: shop.url, token: (await shop.central.registers.add(name)).token })
    const database = postgres(openPool(t, source.config))
    const replica = createRegister({ ...name, database, publish: host.publish, transfer: { type: 'push', link } })
    t.teardown(() => replica.stop())
    await replica.install()
    const session = new pg.Client(source.config)
    await session.connect()
    t.teardown(() => session.end())
    const till = { ...name, replica, last: 0 }
    const documents = new Documents((table) => tables.includes(table), { own: 'owner', root: 'id' })

    await inRounds(t, 4, 0.6, async (round) => {
      const is = comparing(t, round)
      const keys = random.shuffle(host.keys).slice(0, 10)
      await host.write(source.pool, session, random, keys, round === 0 ? LONG : 0)
      if (random.chance(0.5)) await replica.seal()
      if (random.chance(0.5)) await host.write(source.pool, session, random, keys, 0)
      await replica.synchronize()
      const { rows: entries } = await source.pool.query<EntryRow>(
        `SELECT ${ENTRY_COLUMNS.replace('entry_no', 'entry_no::int')} FROM sync_entries WHERE entry_no > $1 ORDER BY entry_no`,
        [till.last],
      )
      await compareEntries(is, shop, till, entries, (changed) => watch.take(changed), documents)
      const standing = await host.things.standing(source.pool)
      is(await host.things.read(source.pool, documents.of('things')), standing, 'the entries are what stands there')
      const ids = documents.of('things').map(({ columns }) => literal(columns.id as Read))
      is(await host.things.standing(target.pool, 'id = ANY($1)', [ids]), standing, 'the mirror has the same')
      for (const key of keys) await compareKeys(is, key, documents, source.pool, target.pool)
      await resealsNothing(is, replica, random.pick(['things', ...keys.map(({ roots }) => roots.name)]))
    })
  },
)

async function compareKeys(is: Compare, { type, roots, parts }: KeyTables, documents: Documents, source: pg.Pool, target: pg.Pool): Promise<void> {
  const live = documents.of(roots.name)
  const own = live.map(({ columns }) => literal(columns.id as Read))
  const among = (column: string) => `${column} IN (SELECT v::${type.type} FROM unnest($1::text[]) v)`
  const standing = await roots.standing(source)
  is(await roots.read(source, live), standing, `${type.type} as key: the entries are what stands there`)
  is(await roots.standing(target, among('id'), [own]), standing, `${type.type} as key: the mirror has the same`)
  const records = [...live, ...documents.of(parts.name)]
  is(records.map(({ id }) => id), records.map(({ columns }) => exact(columns.id as Read)), `${type.type}: record ids are the keys`) // biome-ignore format: one thing
  const belonging = await parts.standing(source, among('owner'), [own])
  is(await parts.read(source, documents.of(parts.name)), belonging, `${type.type} as key of a part: the entries are what belongs to a document`)
  // A document whose key is now written otherwise, equal as it is, is a new one to the mirror, which leaves the former one's parts.
  const there = await parts.standing(target, among('owner'), [own])
  const mirrored = await parts.read(source, documents.mirrored(parts.name))
  is(type.alike === undefined ? there : there.filter((one) => mirrored.includes(one)), mirrored, `${type.type} as key of a part: the mirror too`)
}
