import type { Pool } from 'pg'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type AnyTables, type AudienceRules, type Central, createCentral } from '../../src/index.ts'
import { Listener } from '../support/listener.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { type RowBackup, Rows } from '../support/simulation/row-backup.ts'

// A snapshot comes in batches, and head office goes on working between any two of them: whatever it changes at the edge of what was sent, in the end a register has what it is to have.

const ITEMS = 4
const server = await startServer(t)

const PUBLISH: AudienceRules<AnyTables> = {
  items: { where: (eb) => eb('blocked', '=', false) },
  item_barcodes: { partOf: { items: { item_no: 'item_no' } } },
}

/** What is done at an item: the one that was sent last, the next one, and those beside them. */
const CHANGES: Readonly<Record<string, (item: number) => string>> = {
  changed: (item) => `UPDATE items SET name = name || '!' WHERE item_no = ${item}`,
  deleted: (item) => `DELETE FROM items WHERE item_no = ${item}`,
  'left out': (item) => `UPDATE items SET blocked = true WHERE item_no = ${item}`,
  'let in': (item) => `UPDATE items SET blocked = false WHERE item_no = ${item + 100}; UPDATE items SET name = 'again' WHERE item_no = ${item + 100}`,
  'given another key': (item) => `UPDATE items SET item_no = ${item + 50} WHERE item_no = ${item}`,
  'given a part': (item) => `INSERT INTO item_barcodes SELECT 'new' || item_no, item_no FROM items WHERE item_no = ${item}`,
  'without a part': (item) => `DELETE FROM item_barcodes WHERE item_no = ${item}`,
  'deleted and entered again': (item) => `DELETE FROM items WHERE item_no = ${item}; INSERT INTO items (item_no, name) VALUES (${item}, 'anew')`,
  'without its part, which another item has now': (item) => `UPDATE item_barcodes SET item_no = ${item} + 1 WHERE item_no = ${item}`,
}

/** @param wrapped what is to happen to its transactions */
async function openOffice(
  t: Test,
  wrapped = (database: ReturnType<typeof postgres>) => database,
): Promise<{ readonly pool: Pool; readonly central: Central }> {
  const pool = await createPool(t, server)
  await pool.query(
    'CREATE TABLE items (item_no int PRIMARY KEY, name text, blocked boolean NOT NULL DEFAULT false); CREATE TABLE item_barcodes (barcode text PRIMARY KEY, item_no int NOT NULL); CREATE INDEX ON item_barcodes (item_no)',
  )
  const central = createCentral({ database: wrapped(postgres(pool)), subscribe: {}, publish: PUBLISH })
  t.teardown(() => central.stop())
  await central.install()
  return { pool, central }
}

function boundTo<T extends object>(target: T, name: string | symbol): unknown {
  const value = Reflect.get(target, name, target)
  return typeof value === 'function' ? value.bind(target) : value
}

async function listen(central: Central, number: number, records: number): Promise<Listener> {
  const name = { location: 'BA01', register: `POS${number}` }
  const { token } = await central.registers.add(name)
  const till = new Listener((request) => central.fetch(request), name, token, ['items'])
  till.records = records
  return till
}

for (const records of [2, 4]) {
  t.test(`batches of ${records} records`, { timeout: 120_000 }, async (t) => {
    const { pool, central } = await openOffice(t)
    let registers = 0
    for (const [what, change] of Object.entries(CHANGES)) {
      // Each item with its barcode; the last round is behind the end.
      for (let sent = 0; sent <= (ITEMS * 2) / records + 1; sent++) {
        await pool.query(`TRUNCATE items, item_barcodes; INSERT INTO items SELECT n, 'Item ' || n, n > 100 FROM generate_series(1, ${ITEMS}) i, unnest(ARRAY[i, i + 100]) n;
          INSERT INTO item_barcodes SELECT 'b' || n, n FROM generate_series(1, ${ITEMS}) n`)
        const till = await listen(central, ++registers, records)
        for (let batch = 0; batch < sent; batch++) await till.exchange()
        const last = Math.min(ITEMS, (sent * records) / 2)
        for (const item of new Set([Math.max(1, last), Math.min(ITEMS, last + 1)])) await pool.query(`BEGIN; ${change(item)}; COMMIT`)
        await till.drain()
        const wanted = async (sql: string) => (await pool.query(sql)).rows.map((row) => JSON.stringify(row)).sort()
        t.same(till.rows('items'), await wanted('SELECT item_no, name, blocked FROM items WHERE NOT blocked'), `${what} after ${sent} batches`)
        t.same(
          till.rows('item_barcodes'),
          await wanted('SELECT barcode, item_no FROM item_barcodes WHERE item_no IN (SELECT item_no FROM items WHERE NOT blocked)'),
          `${what} after ${sent} batches: parts`,
        )
      }
    }
  })
}

t.test('what had moved behind a batch, and stands before its end again where head office was restored, comes', async (t) => {
  const { pool, central } = await openOffice(t)
  await pool.query("INSERT INTO items SELECT n, 'Item ' || n FROM generate_series(1, 6) n")
  const whole = await listen(central, 1, 500)
  const till = await listen(central, 2, 2)
  await whole.drain()
  const rows = new Rows(pool, 'public')
  const backup = await rows.backup()
  // Item 1 moves to the end, behind what the till has got when head office is restored.
  await pool.query("UPDATE items SET name = 'new' WHERE item_no = 1")
  await whole.drain()
  await till.exchange()
  t.same(
    till.rows('items').map((row) => JSON.parse(row).item_no),
    [2, 3],
  )
  await rows.restore(backup)
  await till.drain()
  await whole.drain()
  t.same(
    till.rows('items').map((row) => JSON.parse(row).name),
    [1, 2, 3, 4, 5, 6].map((n) => `Item ${n}`),
  )
  t.same(whole.rows('items'), till.rows('items'))
})

t.test('a till restored to before its last snapshot hears of what was removed before that began', async (t) => {
  const { pool, central } = await openOffice(t)
  await pool.query("INSERT INTO items SELECT n, 'Item ' || n FROM generate_series(1, 6) n")
  const till = await listen(central, 1, 2)
  await till.drain()
  const old = till.backup()
  const rows = new Rows(pool, 'public')
  const backup = await rows.backup()
  await pool.query("UPDATE items SET name = 'lost' WHERE item_no = 3")
  await till.drain()
  await rows.restore(backup)
  await pool.query('DELETE FROM items WHERE item_no = 1')
  // Central knows nothing of what it has lost: a snapshot is under way when the till is restored.
  await till.exchange()
  till.restore(old)
  await till.drain()
  t.same(
    till.rows('items').map((row) => JSON.parse(row).name),
    [2, 3, 4, 5, 6].map((n) => `Item ${n}`),
  )
})

t.test('a till that begins when removals were forgotten long ago gets all in batches', async (t) => {
  const { pool, central } = await openOffice(t)
  await pool.query("INSERT INTO items SELECT n, 'Item ' || n FROM generate_series(1, 6) n")
  const old = await listen(central, 1, 500)
  await old.drain()
  await pool.query('DELETE FROM items WHERE item_no = 1')
  await old.drain()
  await old.exchange()
  await pool.query("UPDATE sync_audience_points SET sealed_at = sealed_at - interval '40 days'")
  await central.prune()
  t.equal((await pool.query('SELECT FROM sync_audience_members WHERE removed')).rowCount, 0)
  const till = await listen(central, 2, 2)
  for (let batch = 1; batch <= 3; batch++) await till.exchange()
  t.same(till.rows('items'), old.rows('items'))
  t.equal(await till.drain(), 0)
})

t.test('what a till gets of a change that head office then loses is put right', async (t) => {
  const { pool, central } = await openOffice(t)
  await pool.query("INSERT INTO items SELECT n, 'Item ' || n FROM generate_series(1, 3) n")
  const whole = await listen(central, 1, 500)
  const till = await listen(central, 2, 500)
  await till.drain()
  await pool.query("UPDATE items SET name = 'sealed' WHERE item_no = 1")
  await whole.drain()
  const rows = new Rows(pool, 'public')
  const backup = await rows.backup()
  // The till is to get the former change, and finds this one.
  await pool.query("UPDATE items SET name = 'lost' WHERE item_no = 1")
  await till.exchange()
  await rows.restore(backup)
  await till.drain()
  t.same(
    till.rows('items').map((row) => JSON.parse(row).name),
    ['sealed', 'Item 2', 'Item 3'],
  )
})

t.test('a till restored to before it had moved to another audience and back hears of what was removed before it came back', async (t) => {
  const pool = await createPool(t, server)
  await pool.query("CREATE TABLE items (item_no int PRIMARY KEY, name text, price_group text NOT NULL DEFAULT 'A')")
  const publish: AudienceRules<AnyTables> = { items: { where: (eb, { attributes }) => eb('price_group', '=', attributes.priceGroup) } }
  const central = createCentral({ database: postgres(pool), subscribe: {}, publish, pull: { token: () => '' } })
  t.teardown(() => central.stop())
  await central.install()
  await pool.query("INSERT INTO items SELECT n, 'Item ' || n FROM generate_series(1, 4) n")
  const name = { location: 'BA01', register: 'POS1' }
  const { token } = await central.registers.add({ ...name, attributes: { priceGroup: 'A' } })
  const till = new Listener((request) => central.fetch(request), name, token, ['items'])
  till.records = 1
  await till.drain()
  for (const change of ["UPDATE items SET name = 'new' WHERE item_no IN (2, 3)", 'DELETE FROM items WHERE item_no = 1']) {
    await pool.query(change)
    await central.synchronize()
  }
  // It has one of the changes, and is still to hear of the removal.
  await till.exchange()
  const backup = till.backup()
  for (const priceGroup of ['B', 'A']) {
    await central.registers.change(name, { attributes: { priceGroup } })
    await till.drain()
  }
  till.restore(backup)
  await till.drain()
  t.same(
    till.rows('items').map((row) => JSON.parse(row).name),
    ['new', 'new', 'Item 4'],
  )
})

/** Head office, with somebody who works there just before and after it seals, and behind each time that it reads. */
async function openBusyOffice(t: Test) {
  const busy: { before?: () => Promise<unknown>; after?: () => Promise<unknown>; read?: () => Promise<unknown> } = {}
  const once = async (when: 'before' | 'after') => {
    const work = busy[when]
    delete busy[when]
    await work?.()
  }
  const office = await openOffice(t, (database) => {
    const write: typeof database.write = async (work, options) => {
      if (options?.alone) await once('before')
      const value = await database.write(work, options)
      if (options?.alone) await once('after')
      return value
    }
    const read: typeof database.read = async (work, options) => {
      const value = await database.read(work, options)
      await busy.read?.()
      return value
    }
    const own = { write, read }
    return new Proxy(database, { get: (target, name) => own[name as keyof typeof own] ?? boundTo(target, name) })
  })
  await office.pool.query("INSERT INTO items SELECT n, 'Item ' || n FROM generate_series(1, 3) n")
  const till = await listen(office.central, 1, 500)
  const other = await listen(office.central, 2, 500)
  await till.drain()
  await other.drain()
  const call = (name: string) => office.pool.query(`UPDATE items SET name = '${name}' WHERE item_no = 1`)
  return { ...office, busy, till, other, call, names: () => till.rows('items').map((row) => JSON.parse(row).name) }
}

t.test('what a till gets of a change that is made while the one before is sealed, and that head office then loses, is put right', async (t) => {
  const { pool, busy, till, other, call, names } = await openBusyOffice(t)
  await call('sealed')
  const rows = new Rows(pool, 'public')
  let backup: RowBackup | undefined
  busy.after = async () => {
    backup = await rows.backup()
    await call('lost')
  }
  await till.exchange()
  t.same(names(), ['lost', 'Item 2', 'Item 3'])
  await rows.restore(backup as RowBackup)
  await till.drain()
  t.same(names(), ['sealed', 'Item 2', 'Item 3'])
  await other.drain()
  t.same(other.rows('items'), till.rows('items'))
})

t.test('a change that is taken back before it is sealed, and that a till was about to get, it does not keep', async (t) => {
  const { busy, till, other, call, names } = await openBusyOffice(t)
  await call('sealed')
  await other.drain()
  // The till is to get what is sealed, and finds what is there for a moment.
  await call('for a moment')
  busy.before = () => call('sealed')
  await till.drain()
  t.same(names(), ['sealed', 'Item 2', 'Item 3'])
  await call('sealed again')
  busy.after = async () => {
    await call('for a moment')
    busy.before = () => call('sealed again')
  }
  await till.drain()
  t.same(names(), ['sealed again', 'Item 2', 'Item 3'])
})

t.test('what was committed before an exchange goes with it, whoever seals it meanwhile', async (t) => {
  const { pool, busy, till, call, names } = await openBusyOffice(t)
  const beside = createCentral({ database: postgres(pool), subscribe: {}, publish: PUBLISH, pull: { token: () => '' } })
  t.teardown(() => beside.stop())
  for (let at = 1, reads = Number.POSITIVE_INFINITY; at <= reads; at++) {
    reads = 0
    busy.read = async () => {
      if (++reads === at) await beside.synchronize()
    }
    await call(`changed ${at}`)
    await till.exchange()
    t.equal(names()[0], `changed ${at}`, `sealed behind the ${at}. time that something is read`)
  }
})
