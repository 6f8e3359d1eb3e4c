import { rm, statfs, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import t, { type Test } from 'tap'
import { accountForPostgres } from '../../examples/support/postgres-programs.ts'
import type { TillsyncError } from '../../src/errors.ts'
import type { Register } from '../../src/index.ts'
import { eventually } from '../support/eventually.ts'
import { KINDS, openSeat, type Seat, settles } from '../support/fault/seat.ts'
import { openPool, type Postgres, startServer } from '../support/postgres.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { CENTRAL_SCHEMA } from '../support/tables.ts'
import { tinyDisk } from '../support/tiny-disk.ts'
import { message, post } from '../support/wire.ts'

t.setTimeout(240_000)
const unhandled: unknown[] = []
process.on('unhandledRejection', (error) => unhandled.push(error))
const [central, local] = await Promise.all([startServer(t), startServer(t)])

/** What the host's own statements may fail with while its server is away: nothing that we have to do with. */
const AWAY = /^(57P0[123]|08|ECONN|EPIPE)|terminated|Connection/

/** Ends the server at once: by SIGKILL, as a power cut; by SIGQUIT, as PostgreSQL's own "immediate" shutdown. */
async function end(server: Postgres, signal: 'SIGKILL' | 'SIGQUIT'): Promise<void> {
  const { pid } = server
  process.kill(pid, signal)
  await eventually('the server is gone', () => !isThere(pid))
}

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** Sells without end until it is stopped; says what failed. */
class Selling {
  readonly failed: string[] = []
  sold = 0
  private readonly seat: Seat
  private isOver = false
  private readonly ended: Promise<void>

  constructor(seat: Seat) {
    this.seat = seat
    this.ended = this.run()
  }

  async stop(): Promise<void> {
    this.isOver = true
    await this.ended
  }

  private async run(): Promise<void> {
    while (!this.isOver) {
      await this.seat.sell(this.seat.sales(1)[0] as string).then(
        () => this.sold++,
        (error) => this.failed.push(`${error.code ?? ''} ${error.message}`),
      )
      await pause(5)
    }
  }
}

interface Scene {
  readonly shop: Shop
  readonly seat: Seat
  readonly replica: Register
  readonly selling: Selling
  /** What the till said of failed exchanges. */
  readonly said: TillsyncError[]
}

/** A pool of a host that does not listen to its errors: those of idle connections end a process where nobody does. */
async function carelessPool(t: Test): Promise<pg.Pool> {
  const { config } = await central.createDatabase()
  const pool = new pg.Pool(config)
  t.teardown(() => pool.end())
  await pool.query(CENTRAL_SCHEMA)
  return pool
}

async function opened(t: Test, kind: (typeof KINDS)[number]): Promise<Scene> {
  const shop = await openShop(t, central, { pool: await carelessPool(t) })
  const seat = await openSeat(t, kind, local, shop)
  const replica = seat.replica(shop.url, { everyMs: 20 })
  const said: TillsyncError[] = []
  replica.on('failed', ({ error }) => said.push(error))
  await replica.install()
  await replica.start()
  const selling = new Selling(seat)
  t.teardown(() => selling.stop())
  await eventually('sales arrive', async () => (await replica.status()).standing?.entryNo)
  return { shop, seat, replica, selling, said }
}

for (const kind of KINDS) {
  for (const signal of ['SIGKILL', 'SIGQUIT'] as const) {
    t.test(`${kind}: central's PostgreSQL ended by ${signal} and started again: sales go on, and all arrives by itself`, async (t) => {
      const { shop, seat, replica, selling, said } = await opened(t, kind)
      await end(central, signal)
      const refused = await post(shop.url, seat.token, await message(seat))
      t.match(
        refused,
        { status: 500, code: 'ERR_DATABASE', message: { error: { retryable: true } } },
        'central answers, and says that it may be tried again',
      )
      await eventually('the till says so', async () => (await replica.status()).lastError?.code)
      const before = selling.sold
      await eventually('sales go on', () => selling.sold > before + 20)
      t.same(selling.failed, [], 'and none has failed')
      await central.restart()
      const { standing } = await replica.status()
      await eventually('exchanges go on', async () => ((await replica.status()).standing?.entryNo ?? 0) > (standing?.entryNo ?? 0))
      await selling.stop()
      await eventually('nothing fails any more', async () => (await replica.status()).lastError === undefined)
      t.same(
        said.filter(({ retryable }) => !retryable),
        [],
        'all that failed may be tried again',
      )
      await settles(t, shop, seat, replica, `${kind} ${signal}`)
      await replica.stop()
    })
  }
}

t.test("a till's own PostgreSQL ended and started again: its sales fail for that alone, and all arrives by itself", async (t) => {
  const { shop, seat, replica, selling, said } = await opened(t, 'postgres')
  for (const signal of ['SIGKILL', 'SIGQUIT'] as const) {
    await end(local, signal)
    await eventually('sales fail', () => selling.failed.length > 0)
    await t.rejects(replica.synchronize(), { code: 'ERR_DATABASE', retryable: true })
    await local.restart()
    const before = selling.sold
    await eventually('sales go on', () => selling.sold > before + 10)
    const { standing } = await replica.status()
    await eventually('and arrive', async () => ((await replica.status()).standing?.entryNo ?? 0) > (standing?.entryNo ?? 0))
  }
  await selling.stop()
  t.same(
    selling.failed.filter((failure) => !AWAY.test(failure)),
    [],
    'sales failed only where there was no server',
  )
  t.same(
    said.filter(({ retryable }) => !retryable),
    [],
  )
  await eventually('nothing fails any more', async () => (await replica.status()).lastError === undefined)
  await settles(t, shop, seat, replica, 'local')
  await replica.stop()
})

t.test('both ended at once, in the middle of exchanges, again and again', async (t) => {
  const { shop, seat, replica, selling, said } = await opened(t, 'postgres')
  for (let round = 0; round < 3; round++) {
    await Promise.all([end(central, 'SIGKILL'), end(local, 'SIGQUIT')])
    await local.restart()
    await central.restart()
    const before = selling.sold
    await eventually('sales go on', () => selling.sold > before + 10)
  }
  await selling.stop()
  t.same(
    selling.failed.filter((failure) => !AWAY.test(failure)),
    [],
  )
  t.same(
    said.filter(({ retryable }) => !retryable),
    [],
  )
  await settles(t, shop, seat, replica, 'both')
  await replica.stop()
})

t.test(
  "central's PostgreSQL comes back as a standby, as in a failover: it may be tried again, and once it is promoted all arrives by itself",
  async (t) => {
    const { shop, seat, replica, selling, said } = await opened(t, 'sqlite')
    const admin = async (sql: string) => {
      const client = new pg.Client(central.database('postgres').config)
      await client.connect()
      await client.query(sql).finally(() => client.end())
    }
    await admin(`DO $$ BEGIN EXECUTE format('COPY (SELECT WHERE false) TO %L', current_setting('data_directory') || '/standby.signal'); END $$`)
    await end(central, 'SIGKILL')
    await central.restart()
    const refused = await post(shop.url, seat.token, await message(seat))
    t.match(refused, { status: 500, code: 'ERR_DATABASE', message: { error: { retryable: true } } })
    t.match(await shop.central.install().catch((error) => error), { code: 'ERR_DATABASE', retryable: true, hint: /standby/ })
    await eventually('the till has heard of it', () => said.some(({ message }) => message.includes('recovery')))
    await admin('SELECT pg_promote()')
    await selling.stop()
    t.same(selling.failed, [], 'no sale has failed')
    await eventually('nothing fails any more', async () => (await replica.status()).lastError === undefined)
    t.same(
      said.filter(({ retryable }) => !retryable),
      [],
    )
    await settles(t, shop, seat, replica, 'standby')
    await replica.stop()
  },
)

t.test("a full disk at central's PostgreSQL: it says that it may be tried again, sales go on, and all arrives when there is room", async (t) => {
  const disk = await tinyDisk(t, 40_000_000, await accountForPostgres())
  if (disk === undefined) return
  const admin = openPool(t, { ...central.database('postgres').config, max: 1 })
  await admin.query(`CREATE TABLESPACE tiny LOCATION '${disk}'`)
  await admin.query('CREATE DATABASE full_central TABLESPACE tiny')
  t.teardown(async () => {
    const last = new pg.Client(central.database('postgres').config)
    await last.connect()
    await last.query('DROP DATABASE full_central WITH (FORCE)')
    await last.query('DROP TABLESPACE tiny')
    await last.end()
  })
  const pool = openPool(t, central.database('full_central').config)
  await pool.query(CENTRAL_SCHEMA)
  const shop = await openShop(t, central, { pool })
  const seat = await openSeat(t, 'sqlite', local, shop)
  const replica = seat.replica(shop.url, { everyMs: 20 })
  const said: TillsyncError[] = []
  replica.on('failed', ({ error }) => said.push(error))
  const states = new Set<unknown>()
  shop.central.on('refused', ({ error }) => states.add(error.context.sqlState))
  await replica.install()
  await replica.start()
  const selling = new Selling(seat)
  t.teardown(() => selling.stop())
  const { bavail, bsize } = await statfs(disk)
  const ballast = join(disk, 'ballast')
  await writeFile(ballast, Buffer.alloc(bavail * bsize - 300_000))
  await eventually('central has no room', () => said.length > 0, 60_000)
  const before = selling.sold
  await eventually('sales go on', () => selling.sold > before + 20)
  t.same(selling.failed, [])
  t.match(said[0], { code: 'ERR_DATABASE', retryable: true })
  t.same([...states], ['53100'], 'for want of room, and for nothing else')
  await rm(ballast)
  await selling.stop()
  await eventually('nothing fails any more', async () => (await replica.status()).lastError === undefined)
  t.same(
    said.filter(({ retryable }) => !retryable),
    [],
  )
  await settles(t, shop, seat, replica, 'full disk')
  await replica.stop()
})

t.test('nothing was rejected that nobody handled', async (t) => {
  t.same(unhandled, [])
})
