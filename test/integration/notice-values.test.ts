import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { countsOn } from '../../src/apply/notice-days.ts'
import { createCentral, mirror } from '../../src/index.ts'
import type { RegisterDatabase } from '../../src/ports.ts'
import { RegisterReplica } from '../../src/register.ts'
import { memoryLink } from '../../src/transport/memory.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { openDatabase } from '../support/shop.ts'

process.env.TZ = 'Europe/Berlin'
const server = await startServer(t)

const TABLE = `
  CREATE TABLE prices (list_id bigint NOT NULL, is_vip boolean NOT NULL, unit_price numeric(10, 2), units bigint, weight double precision, is_net boolean, changed_at timestamp, code bytea,
    valid_from timestamptz, valid_to timestamptz, PRIMARY KEY (list_id, is_vip))`
const COLUMNS = ['unit_price', 'units', 'weight', 'is_net', 'changed_at', 'code']

/** A till that follows `prices`, on a clock of its own. */
async function open(t: Test, database: RegisterDatabase) {
  const pool = await createPool(t, server)
  await pool.query(TABLE)
  const central = createCentral({ database: postgres(pool), subscribe: {}, publish: { prices: {} } })
  t.teardown(() => central.stop())
  await central.install()
  const name = { location: 'BA01', register: 'POS1' }
  await central.registers.add(name)
  let now = Date.parse('2026-03-27T12:00:00Z')
  const sleep = (_: number, signal?: AbortSignal) => new Promise<void>((_, reject) => signal?.addEventListener('abort', reject))
  const clock = { now: () => now, ticks: () => now, random: () => 0.5, sleep }
  const transfer = { type: 'push', link: memoryLink(central, name) } as const
  const till = new RegisterReplica({ ...name, database, publish: {}, subscribe: { prices: mirror({ notify: COLUMNS }) }, transfer }, clock)
  t.teardown(() => till.stop())
  await till.install()
  const setClock = (at: string) => {
    now = Date.parse(at)
  }
  const change = async (sql: string, at?: string) => {
    if (at !== undefined) setClock(at)
    await pool.query(sql)
    await till.synchronize()
    return till.notices.list()
  }
  return { change, till, setClock }
}

const ROW = `1.50, 9007199254740993, 'Infinity', true, '2026-03-01 10:00', '\\x00ff'`
const VALUES = {
  unit_price: '1.50',
  units: 9007199254740993n,
  weight: Infinity,
  is_net: true,
  changed_at: '2026-03-01T10:00:00.000000',
  code: Buffer.from([0, 255]),
}

t.test('PostgreSQL: notices have keys and values as handlers have them', async (t) => {
  const { change } = await open(t, await onPostgres(t))
  const [notice] = await change(`INSERT INTO prices VALUES (9007199254740993, false, ${ROW})`)
  t.strictSame([notice?.recordId, notice?.kind, notice?.new], [[9007199254740993n, false], 'new', VALUES])
})

t.test('SQLite: notices have keys and values as the till stores them', async (t) => {
  const { change } = await open(t, onSqlite(t))
  const [notice] = await change(`INSERT INTO prices VALUES (9007199254740993, false, ${ROW})`)
  t.strictSame([notice?.recordId, notice?.kind, notice?.new], [[9007199254740993n, 0], 'new', { ...VALUES, unit_price: 1.5, is_net: 1 }])
})

const eachDatabase = (named: string, test: (t: Test, database: RegisterDatabase) => Promise<void>) => {
  t.test(`SQLite: ${named}`, (t) => test(t, onSqlite(t)))
  t.test(`PostgreSQL: ${named}`, async (t) => test(t, await onPostgres(t)))
}

eachDatabase('keys that a double can not tell apart have a notice each', async (t, database) => {
  const { change } = await open(t, database)
  const row = `false, ${ROW}`
  const notices = await change(`INSERT INTO prices VALUES (9007199254740992, ${row}), (9007199254740993, ${row}), (9007199254740994, ${row})`)
  t.strictSame(notices.map(({ recordId }) => BigInt(recordId[0] as number)).sort(), [9007199254740992n, 9007199254740993n, 9007199254740994n])
})

eachDatabase('a time with an offset counts from the day that it is where the till stands, over a change to summer time', async (t, database) => {
  const { change, till } = await open(t, database)
  // Midnight in Berlin, an hour earlier by UTC before the 29th of March, two hours behind it.
  const add = await change(
    `INSERT INTO prices VALUES (1, false, ${ROW}, '2026-03-28T23:00:00Z', '2026-03-29T21:59:59Z'), (2, false, ${ROW}, '2026-03-29T22:00:00Z', NULL)`,
  )
  const said = async (at: string) => (await change('SELECT', at)).map(({ recordId, kind }) => `${recordId[0]} ${kind}`)
  t.same(add, [], 'none counts yet')
  t.same(await said('2026-03-28T22:59:00Z'), [])
  t.same(await said('2026-03-28T23:00:00Z'), ['1 starts'])
  t.same(await said('2026-03-29T21:59:00Z'), ['1 starts'])
  t.same(await said('2026-03-29T22:00:00Z'), ['2 starts'], 'what began and ended untold leaves none')
  t.same(await till.notices.list({ table: 'prices' }), await till.notices.list())
  await t.rejects(
    till.notices.list({ table: 'price' }),
    { code: 'ERR_UNKNOWN_TABLE', hint: /subscribe/ },
    'a misspelt one has none for another reason',
  )
  await till.notices.acknowledge((await till.notices.list()).map(({ id }) => id))
  t.same(await said('2026-03-27T12:00:00Z'), ['2 ends'], 'the clock is set back')
  t.same(await said('2026-04-01T12:00:00Z'), [])
})

t.test('a time with an offset counts from that day however it is written', async (t) => {
  for (const midnight of [
    '2026-03-29 22:00:00+00',
    '2026-03-30T00:00:00+02',
    '2026-03-30 00:00 +0200',
    '2026-03-29 22:00:00.000001z',
    '2026-03-29t22:00Z',
  ])
    t.same([countsOn('2026-03-29', midnight, null), countsOn('2026-03-30', midnight, null)], [false, true], midnight)
  for (const day of ['2026-03-30', '2026-03-30 00:00:00', '2026-03-30 early-05']) t.same(countsOn('2026-03-29', day, null), false, day)
})

eachDatabase('a price counts until the last moment that there is, and from none that never comes', async (t, database) => {
  const { change } = await open(t, database)
  // East of Greenwich the last moment of 9999 is one of the year after.
  const notices = await change(`INSERT INTO prices VALUES (1, false, ${ROW}, '2000-01-01T00:00:00Z', '9999-12-31T23:59:59.999999Z'),
    (2, false, ${ROW}, '0999-12-31T00:00:00Z', '20000-01-01T00:00:00Z'), (3, false, ${ROW}, '20000-01-01T00:00:00Z', NULL), (4, false, ${ROW}, NULL, '0999-12-31T00:00:00Z'),
    (5, false, ${ROW}, '-infinity', 'infinity'), (6, false, ${ROW}, 'infinity', NULL), (7, false, ${ROW}, NULL, '-infinity'), (8, false, ${ROW}, NULL, '4044-03-15 BC')`)
  t.same(
    notices.map(({ recordId, kind }) => `${recordId[0]} ${kind}`),
    ['1 new', '2 new', '5 new'],
  )
})

eachDatabase('what has come or gone, and is not told yet, did so as it was noted then, whatever changes of it', async (t, database) => {
  const { change, till } = await open(t, database)
  const said = async (sql: string, at?: string) => (await change(sql, at)).map(({ recordId, kind }) => `${recordId[0]} ${kind}`).sort()
  await change(`INSERT INTO prices VALUES (1, false, ${ROW}, NULL, NULL), (2, false, ${ROW}, '2026-03-28T12:00:00Z', NULL)`)
  t.same(await said('UPDATE prices SET unit_price = 2'), ['1 new'])
  t.same(await said('SELECT', '2026-03-28T12:00:00Z'), ['1 new', '2 starts'])
  t.same(await said('UPDATE prices SET unit_price = 3'), ['1 new', '2 starts'])
  await till.notices.acknowledge((await till.notices.list()).map(({ id }) => id))
  t.same(await said(`UPDATE prices SET valid_to = '2026-03-29T12:00:00Z'; DELETE FROM prices WHERE list_id = 1`), ['1 removed'])
  t.same(await said(`INSERT INTO prices VALUES (1, false, ${ROW}, '2026-06-01', NULL)`, '2026-03-30T12:00:00Z'), ['1 removed', '2 ends'])
  t.same(await said('UPDATE prices SET unit_price = 4'), ['1 removed', '2 ends'], 'neither counts')
  t.same(await said('DELETE FROM prices'), ['1 removed', '2 ends'])
})

eachDatabase('what starts on a day is found among more rows than are looked at in one go', async (t, database) => {
  const { change } = await open(t, database)
  await change(`INSERT INTO prices SELECT n, n % 2 = 0, ${ROW}, '2026-03-30T12:00:00Z', NULL FROM generate_series(1, 450) n`)
  t.equal((await change('SELECT', '2026-03-30T12:00:00Z')).filter(({ kind }) => kind === 'starts').length, 450)
})

function onSqlite(t: Test): RegisterDatabase {
  const { file } = openDatabase(t, TABLE.replaceAll(/bytea/g, 'blob'))
  return sqlite(() => new Database(file))
}

async function onPostgres(t: Test): Promise<RegisterDatabase> {
  const pool = await createPool(t, server)
  await pool.query(TABLE)
  return postgres(pool)
}

t.test('what waited is tried when the day has begun for all rows, or for none', async (t) => {
  const { file, db } = openDatabase(
    t,
    `${TABLE.replaceAll(/bytea/g, 'blob')};
    CREATE TRIGGER dear BEFORE UPDATE ON prices WHEN NEW.unit_price > 100 BEGIN SELECT RAISE(ABORT, 'too dear'); END`,
  )
  const { change, till, setClock } = await open(
    t,
    sqlite(() => new Database(file)),
  )
  // The first is looked at first; the others, with which the day takes its time to begin, never count.
  await change(
    `INSERT INTO prices SELECT n, false, ${ROW}, CASE n WHEN 1 THEN '2026-03-28T12:00:00Z' ELSE '2027-01-01' END::timestamptz, NULL FROM generate_series(1, 5000) n`,
  )
  t.same(await change('UPDATE prices SET unit_price = 200 WHERE list_id = 1'), [])
  t.equal((await till.status()).unapplied.length, 1, 'its new price waits')
  await till.stop()
  db.exec('DROP TRIGGER dear')
  const tried = new Promise((resolve) => till.on('applied', resolve))
  setClock('2026-03-28T12:00:00Z')
  await till.start()
  await tried
  const notices = await change('SELECT')
  t.same(
    notices.map(({ recordId, kind, new: now }) => [recordId[0], kind, (now as { unit_price: number }).unit_price]),
    [[1, 'starts', 200]],
  )
})
