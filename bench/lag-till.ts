// A till of the bench `lag`, in a process of its own: sells when it is told to, and says when the sale was committed.
import { join } from 'node:path'
import Database from 'better-sqlite3'
import pg from 'pg'
import { postgres } from '../src/adapters/postgres/adapter.ts'
import { sqlite } from '../src/adapters/sqlite/adapter.ts'
import { createRegister } from '../src/index.ts'
import { httpLink } from '../src/transport/http.ts'
import type { LagTill } from './lag.ts'
import { openTill, RULES, seller, temporaryFolder } from './shop.ts'
import { connect, SCHEMA as POSTGRES_SCHEMA, seller as postgresSeller } from './shop-postgres.ts'

const { dialect, config, port, register, token } = JSON.parse(process.argv[2] as string) as LagTill

async function openSqlite() {
  const file = join(temporaryFolder(), 'till.sqlite')
  const db = openTill(file, 'FULL')
  return { database: sqlite(() => new Database(file), { host: db }), sell: seller(db), close: async () => void db.close() }
}

async function openPostgres() {
  const client = await connect(config as pg.ClientConfig)
  await client.query(POSTGRES_SCHEMA)
  const pool = new pg.Pool(config as pg.PoolConfig)
  const close = async () => {
    await client.end()
    await pool.end()
  }
  return { database: postgres(pool), sell: postgresSeller(client), close }
}

const { database, sell, close } = dialect === 'sqlite' ? await openSqlite() : await openPostgres()
const link = httpLink({ url: `http://127.0.0.1:${port}/`, token })
const till = createRegister({ location: 'BA01', register, database, publish: RULES, transfer: { type: 'push', link } })
await till.install()
await till.start()

let no = 0
process.on('message', async (message) => {
  if (message === 'use') {
    const { user, system } = process.cpuUsage()
    process.send?.({ cpuMs: (user + system) / 1_000 })
  } else if (message === 'sell') {
    await sell(++no)
    process.send?.({ sold: performance.timeOrigin + performance.now() })
  } else {
    await till.stop()
    await close()
    process.send?.('stopped', () => process.disconnect?.())
  }
})
process.send?.('ready')
