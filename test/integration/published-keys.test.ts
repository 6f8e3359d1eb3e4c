import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type AnyTables, type AudienceRules, createCentral } from '../../src/index.ts'
import { eventually } from '../support/eventually.ts'
import { Listener } from '../support/listener.ts'
import { createPool, startServer } from '../support/postgres.ts'

// Head office gives a table that it publishes another key, or changes what a filter names: its registers end with what there is, and nothing else is held up.

const server = await startServer(t)
const POS1 = { location: 'BA01', register: 'POS1' }
const KEYS = { wider: ['item_no', 'item_no, variant'], narrower: ['item_no, variant', 'item_no'], other: ['item_no', 'variant'] } as const
const table = (key: string) => `CREATE TABLE items (item_no text, variant int NOT NULL DEFAULT 0, name text, PRIMARY KEY (${key}));
  INSERT INTO items SELECT 'I' || n, n, 'Item ' || n FROM generate_series(1, 6) n`
const change = (key: string) =>
  `ALTER TABLE items DROP CONSTRAINT items_pkey; ALTER TABLE items ADD PRIMARY KEY (${key}); UPDATE items SET name = 'new' WHERE item_no = 'I2'; DELETE FROM items WHERE item_no = 'I5'`

for (const [how, [before, after]] of Object.entries(KEYS)) {
  for (const isBegun of [false, true]) {
    t.test(`a key that becomes ${how} ${isBegun ? 'behind' : 'within'} a snapshot`, async (t) => {
      const pool = await createPool(t, server)
      await pool.query(table(before))
      const central = createCentral({ database: postgres(pool), subscribe: {}, publish: { items: {} } })
      const failed: string[] = []
      central.on('failed', ({ error }) => void failed.push(`${error.code} ${error.message}`))
      t.teardown(() => central.stop())
      await central.install()
      const { token } = await central.registers.add(POS1)
      const till = new Listener((request) => central.fetch(request), POS1, token, ['items'])
      till.records = 2
      if (isBegun) await till.drain()
      else await till.exchange()
      await pool.query(change(after))
      await till.drain()
      const { rows } = await pool.query("SELECT item_no || ' ' || variant || ' ' || name AS item FROM items ORDER BY 1")
      t.same(
        till
          .rows('items')
          .map((row) => JSON.parse(row))
          .map(({ item_no, variant, name }) => `${item_no} ${variant} ${name}`)
          .sort(),
        rows.map(({ item }) => item),
      )
      t.same(failed, [])
      await pool.query("UPDATE items SET name = 'newer'")
      await till.drain()
      t.equal(till.rows('items').filter((row) => row.includes('newer')).length, 5)
      t.same((await pool.query('SELECT FROM sync_audiences')).rows.length, 1, 'nothing is sealed for the former key any more')
    })
  }
}

for (const [from, to] of [
  ['int', 'text'],
  ['text', 'numeric'],
]) {
  t.test(`a key whose type becomes ${to}: what has gone is told by the former one, and nothing else`, async (t) => {
    const pool = await createPool(t, server)
    await pool.query(
      `CREATE TABLE items (id ${from} PRIMARY KEY, name text); INSERT INTO items SELECT n::text::${from}, 'Item ' || n FROM generate_series(1, 4) n`,
    )
    const central = createCentral({ database: postgres(pool), subscribe: {}, publish: { items: {} } })
    t.teardown(() => central.stop())
    await central.install()
    const tills = []
    for (const register of ['POS1', 'POS2', 'POS3']) {
      const { token } = await central.registers.add({ location: 'BA01', register })
      const till = new Listener((request) => central.fetch(request), { location: 'BA01', register }, token, ['items'])
      till.records = 1
      tills.push(till)
    }
    const [ahead, behind, late] = tills as [Listener, Listener, Listener]
    for (const till of [ahead, behind]) await till.drain()
    await pool.query(`UPDATE items SET name = 'new' WHERE id = '2'; UPDATE items SET name = 'new' WHERE id = '3'`)
    await ahead.drain()
    await behind.exchange()
    await pool.query(`ALTER TABLE items ALTER COLUMN id TYPE ${to} USING id::${to}; DELETE FROM items WHERE id = '4'`)
    await late.exchange()
    for (const till of tills) await till.drain()
    await central.start()
    await eventually('all was compared', async () => (await central.status()).resealing.length === 0)
    for (const till of tills) {
      await till.drain()
      const rows = till.rows('items').map((row) => JSON.parse(row))
      t.same(
        rows.map(({ id, name }) => `${typeof id} ${id} ${name}`),
        ['1 Item 1', '2 new', '3 new'].map((row) => `string ${row}`),
        till.name.register,
      )
    }
  })
}

t.test('a filter of former rules whose column is renamed holds nothing up', async (t) => {
  const pool = await createPool(t, server)
  await pool.query(`${table('item_no')}; CREATE TABLE contacts (id int PRIMARY KEY, name text)`)
  const office = async (column: string) => {
    const publish: AudienceRules<AnyTables> = { items: { where: (eb) => eb(column, '<', 4) }, contacts: {} }
    const central = createCentral({ database: postgres(pool), subscribe: {}, publish })
    t.teardown(() => central.stop())
    await central.install()
    return central
  }
  let central = await office('variant')
  const { token } = await central.registers.add(POS1)
  const till = new Listener((request) => central.fetch(request), POS1, token, ['items', 'contacts'])
  await till.drain()
  await central.stop()
  await pool.query(`ALTER TABLE items RENAME variant TO size; UPDATE items SET name = 'new'; INSERT INTO contacts VALUES (1, 'Ann')`)
  central = await office('size')
  const failed: string[] = []
  central.on('failed', ({ error }) => void failed.push(error.code))
  await till.drain()
  t.same(
    till.rows('items').map((row) => JSON.parse(row).name),
    ['new', 'new', 'new'],
  )
  t.equal(till.rows('contacts').length, 1)
  t.same(new Set(failed), new Set(['ERR_FILTER']))
})

t.test('two columns of a filter that swap their names: it selects by what they hold by now', async (t) => {
  const pool = await createPool(t, server)
  await pool.query(`CREATE TABLE items (id int PRIMARY KEY, size int, height int); INSERT INTO items SELECT n, n, 7 - n FROM generate_series(1, 6) n`)
  const publish: AudienceRules<AnyTables> = { items: { where: (eb) => eb('size', '<=', 2), except: ['size', 'height'] } }
  const central = createCentral({ database: postgres(pool), subscribe: {}, publish })
  t.teardown(() => central.stop())
  await central.install()
  await central.start()
  const { token } = await central.registers.add(POS1)
  const till = new Listener((request) => central.fetch(request), POS1, token, ['items'])
  await till.drain()
  t.same(till.rows('items'), ['{"id":1}', '{"id":2}'])
  await pool.query(
    'BEGIN; ALTER TABLE items RENAME size TO other; ALTER TABLE items RENAME height TO size; ALTER TABLE items RENAME other TO height; COMMIT',
  )
  await eventually('the others came', async () => {
    await till.drain()
    return till.rows('items').join() === '{"id":5},{"id":6}'
  })
})

t.test('a register is changed by the tables as they stand, seen or not', async (t) => {
  const pool = await createPool(t, server)
  await pool.query(table('item_no'))
  const publish: AudienceRules<AnyTables> = { items: { where: (eb, { attributes }) => eb('variant', '<', attributes.most as never) } }
  const central = createCentral({ database: postgres(pool), subscribe: {}, publish })
  t.teardown(() => central.stop())
  await central.install()
  await central.registers.add({ ...POS1, attributes: { most: 3 } })
  await pool.query('ALTER TABLE items ALTER COLUMN item_no TYPE int USING substr(item_no, 2)::int')
  await central.registers.change(POS1, { attributes: { most: 4 } })
  t.same((await central.registers.list())[0]?.attributes, { most: 4 })
})

t.test('what a change of the schema made of a document, was told and is taken back before all is compared, comes again', async (t) => {
  const pool = await createPool(t, server)
  await pool.query(`CREATE TABLE items (id int PRIMARY KEY, size int, height int); INSERT INTO items SELECT n, 1, 5 FROM generate_series(1, 4) n`)
  const publish: AudienceRules<AnyTables> = { items: { where: (eb) => eb('size', '<=', 2), except: ['size', 'height'] } }
  const central = createCentral({ database: postgres(pool), subscribe: {}, publish })
  t.teardown(() => central.stop())
  await central.install()
  const { token } = await central.registers.add(POS1)
  const till = new Listener((request) => central.fetch(request), POS1, token, ['items'])
  till.records = 1
  await till.exchange()
  t.equal(till.rows('items').length, 1)
  await pool.query(
    'BEGIN; ALTER TABLE items RENAME size TO other; ALTER TABLE items RENAME height TO size; ALTER TABLE items RENAME other TO height; COMMIT',
  )
  await till.exchange()
  await pool.query('UPDATE items SET size = height, height = size')
  await till.drain()
  await central.start()
  await eventually('all was compared', async () => (await central.status()).resealing.length === 0)
  await till.drain()
  t.same(till.rows('items'), ['{"id":1}', '{"id":2}', '{"id":3}', '{"id":4}'])
})
