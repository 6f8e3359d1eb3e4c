import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createCentral } from '../../src/index.ts'
import { type Between, interpose } from '../support/interposed.ts'
import { Listener } from '../support/listener.ts'
import { openPool, startServer } from '../support/postgres.ts'

// Sealing in the background comes between any two statements of an exchange. What was committed before the exchange goes with it all the same, and whole.

const server = await startServer(t)

async function openOffice(t: Test) {
  const { config } = await server.createDatabase()
  const host = openPool(t, config)
  await host.query("CREATE TABLE items (item_no int PRIMARY KEY, name text); INSERT INTO items SELECT n, 'Item ' || n FROM generate_series(1, 3) n")
  const pool = openPool(t, config)
  /** What it does itself is not counted. */
  let before: ((between: Between) => Promise<unknown> | undefined) | undefined
  interpose(pool, (between) => {
    const work = before
    before = undefined
    const done = work?.(between)
    if (done === undefined) before = work
    return done?.finally(() => {
      before = work
    })
  })
  const central = createCentral({ database: postgres(pool), subscribe: {}, publish: { items: {} }, pull: { token: () => '' } })
  t.teardown(() => central.stop())
  await central.install()
  const name = { location: 'BA01', register: 'POS1' }
  const { token } = await central.registers.add(name)
  const till = new Listener((request) => central.fetch(request), name, token, ['items'])
  await till.drain()
  return {
    host,
    till,
    /** As the background does. No register is pulled. */
    seal: () => central.synchronize(),
    rows: () => till.rows('items').map((row) => JSON.parse(row)),
    /** An exchange at whose `at`th place of these `work` is done; says how many there were. */
    async exchange(place: Between, at: number, work: () => Promise<unknown>): Promise<number> {
      let places = 0
      before = (between) => (between === place && ++places === at ? work() : undefined)
      await till.exchange()
      before = undefined
      return places
    },
  }
}

t.test('what the same process seals between any two statements of an exchange goes with it', async (t) => {
  const { host, seal, rows, exchange } = await openOffice(t)
  for (let at = 1, places = at; at <= places; at++) {
    await host.query('UPDATE items SET name = $1 WHERE item_no = 1', [`changed ${at}`])
    places = await exchange('answer', at, seal)
    t.equal(rows()[0].name, `changed ${at}`, `sealed behind the ${at}. statement`)
  }
})

t.test('a column that is added while an exchange begins comes with the values that it was given', async (t) => {
  const { host, till, seal, rows, exchange } = await openOffice(t)
  for (let at = 1, places = at; at <= places; at++) {
    await host.query('UPDATE items SET name = $1 WHERE item_no = 2', [`changed ${at}`])
    places = await exchange('begin', at, async () => {
      await host.query(`ALTER TABLE items ADD COLUMN added_${at} text; UPDATE items SET added_${at} = 'new' WHERE item_no = 1`)
      await seal()
    })
    await till.drain()
    t.match(rows(), [{ [`added_${at}`]: 'new' }, { name: `changed ${at}` }], `before the ${at}. look`)
  }
})

t.test('a column that goes while an exchange begins keeps nothing from coming with it', async (t) => {
  const { host, seal, rows, exchange } = await openOffice(t)
  await host.query('ALTER TABLE items ADD COLUMN gone_1 int, ADD COLUMN gone_2 int, ADD COLUMN gone_3 int, ADD COLUMN gone_4 int')
  await exchange('begin', 0, seal)
  for (let at = 1, places = at; at <= places; at++) {
    await host.query('UPDATE items SET name = $1 WHERE item_no = 1', [`changed ${at}`])
    places = await exchange('begin', at, async () => {
      await host.query(`ALTER TABLE items DROP COLUMN gone_${at}`)
      await seal()
    })
    t.equal(rows()[0].name, `changed ${at}`, `before the ${at}. look`)
  }
})
