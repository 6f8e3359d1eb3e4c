import pg from 'pg'
import { postgres } from '../src/adapters/postgres/adapter.ts'
import { type AnyTables, type AudienceRules, type Central, createCentral } from '../src/index.ts'
import { Listener } from '../test/support/listener.ts'
import { type Bench, expect, type Result, type Took, take, toResult } from './measure.ts'
import { withPostgres } from './shop-postgres.ts'

const LOCATIONS = 100
const REGISTERS_EACH = 10
const ITEMS = 20_000
const CHANGES = 2_000
/** Each location's assortment: every so many-th item. */
const EVERY = 5

const PUBLISH: AudienceRules<AnyTables> = {
  items: {
    where: (eb, register) =>
      eb.exists(
        eb
          .selectFrom('assortments')
          .select('assortments.item_no')
          .whereRef('assortments.item_no', '=', 'items.item_no')
          .where('assortments.location', '=', register.location),
      ),
    dependsOn: { assortments: { item_no: 'item_no' } },
  },
}

interface Chain {
  readonly pool: pg.Pool
  readonly central: Central
  readonly listeners: readonly Listener[]
  /** What was said to all, unpacked, in bytes. */
  bytes: number
}

/** Head office with registers that have all that is meant for them. */
async function openChain(config: pg.PoolConfig, locations: number, each: number): Promise<Chain> {
  const pool = new pg.Pool({ ...config, max: 8 })
  pool.on('error', () => undefined)
  await pool.query(`CREATE TABLE items (item_no text PRIMARY KEY, name text, unit_price numeric(12, 2), vat_code text);
    CREATE TABLE assortments (location text, item_no text, PRIMARY KEY (item_no, location));
    INSERT INTO items SELECT 'I' || n, 'Item number ' || n, n / 100.0, 'S' FROM generate_series(1, ${ITEMS}) n;
    INSERT INTO assortments SELECT 'L' || l, 'I' || n FROM generate_series(1, ${locations}) l, generate_series(1, ${ITEMS}) n WHERE (n + l) % ${EVERY} = 0; ANALYZE`)
  const central = createCentral({ database: postgres(pool), subscribe: {}, publish: PUBLISH, pull: { token: () => '' } })
  await central.install()
  await central.synchronize()
  const chain = { pool, central, listeners: [] as Listener[], bytes: 0 }
  const fetch = async (request: Request) => {
    const response = await central.fetch(request)
    const body = await response.arrayBuffer()
    chain.bytes += body.byteLength
    return new Response(body, response)
  }
  for (let location = 1; location <= locations; location++) {
    for (let n = 1; n <= each; n++) {
      const name = { location: `L${location}`, register: `POS${n}` }
      const { token } = await central.registers.add(name)
      const listener = new Listener(fetch, name, token, ['items'])
      // The registers of a location share a stream: one has heard it for all.
      if (n > 1) listener.restore((chain.listeners.at(-1) as Listener).backup())
      else await listener.drain()
      chain.listeners.push(listener)
    }
  }
  return chain
}

/** Changes prices, seals that, and delivers it to all. */
async function change({ pool, central, listeners }: Chain): Promise<{ readonly sealed: Took; readonly delivered: Took; readonly documents: number }> {
  await pool.query(`UPDATE items SET unit_price = unit_price + 1 WHERE substr(item_no, 2)::int <= ${CHANGES}`)
  const sealed = await take(() => central.synchronize())
  let documents = 0
  const delivered = await take(async () => {
    for (const listener of listeners) documents += await listener.drain()
  })
  expect('the documents that arrived', documents, (listeners.length * CHANGES) / EVERY)
  return { sealed, delivered, documents }
}

async function withChain<T>(locations: number, each: number, work: (chain: Chain) => Promise<T>): Promise<T> {
  return withPostgres(async (server) => {
    const { config } = await server.createDatabase()
    const chain = await openChain(config, locations, each)
    try {
      return await work(chain)
    } finally {
      await chain.central.stop()
      await chain.pool.end()
    }
  })
}

export const audiences: Bench = {
  name: 'audiences',
  about: `${CHANGES.toLocaleString('en')} price changes at central, brought to ${(LOCATIONS * REGISTERS_EACH).toLocaleString('en')} registers in ${LOCATIONS} locations that carry ${ITEMS / EVERY} of ${ITEMS.toLocaleString('en')} items; and what 100 registers of one location cost against one`,
  rounds: 3,
  async run({ rounds, note }) {
    const results: Result[] = []
    const alone: number[] = []
    const shared: number[] = []
    await withChain(1, 1, (one) =>
      withChain(1, 100, async (many) => {
        for (let round = 0; round <= rounds; round++) {
          const [first, second] = [await change(one), await change(many)]
          if (round === 0) continue
          alone.push(first.sealed.wallMs)
          shared.push(second.sealed.wallMs)
        }
      }),
    )
    results.push(toResult('audiences: sealing for 100 registers of one location', 'ms', shared, alone, { of: 'ratio', bound: '≤', value: 2 }))
    await withChain(LOCATIONS, REGISTERS_EACH, async (chain) => {
      note(`${chain.listeners.length.toLocaleString('en')} registers have their items`)
      const rates: number[] = []
      const each: number[] = []
      const bytes: number[] = []
      for (let round = 0; round < rounds; round++) {
        const before = chain.bytes
        const { sealed, delivered, documents } = await change(chain)
        note(
          `sealed in ${Math.round(sealed.wallMs)} ms, delivered in ${Math.round(delivered.wallMs)} ms, ${documents.toLocaleString('en')} documents`,
        )
        rates.push(documents / ((sealed.wallMs + delivered.wallMs) / 1_000))
        each.push(((sealed.cpuMs + delivered.cpuMs) * 1_000) / documents)
        bytes.push((chain.bytes - before) / documents)
      }
      results.push(toResult('audiences: delivered', 'documents/s', rates))
      results.push(toResult('audiences: CPU of central and the registers', 'µs/document', each))
      results.push(toResult('audiences: on the wire', 'bytes/document', bytes))
    })
    return results
  },
}
