import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type AnyTables, type AudienceRules, createCentral } from '../../src/index.ts'
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
