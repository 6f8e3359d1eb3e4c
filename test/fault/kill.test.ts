import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { eventually } from '../support/eventually.ts'
import { type Postgres, startServer } from '../support/postgres.ts'
import { argument, budgetOfRun, Random, roundsOfRun, seedOfRun } from '../support/random.ts'
import { openShop, type Shop, type Till } from '../support/shop.ts'
import type { TillArguments } from './till-process.ts'

/** How long there is for the killing of all three tests. */
const budgetMs = budgetOfRun(80_000)
/** With a budget of its own the run may be short, and nothing but the budget bounds it. */
const isUsual = argument('ms') === undefined
t.setTimeout(budgetMs + 150_000)
const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed} (who is killed and what is sold; not the moment in the victim's own work)`)
const random = new Random(seed)
const ROUNDS = Number(argument('rounds') ?? 45)

/** A child process that is started again whenever it was killed. One that ends by itself is a failure. */
class Victim {
  readonly name: string
  readonly died: string[] = []
  private readonly start: () => ChildProcess
  private child: ChildProcess | undefined

  constructor(name: string, start: () => ChildProcess) {
    this.name = name
    this.start = start
  }

  up(): ChildProcess {
    const child = this.start()
    child.once('exit', (code, signal) => {
      if (signal !== 'SIGKILL') this.died.push(`exit code ${code}, signal ${signal}`)
    })
    this.child = child
    return child
  }

  async kill(): Promise<void> {
    const { child } = this
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }
}

interface Scene {
  readonly shop: Shop
  readonly tills: readonly Till[]
  readonly central: Victim
  readonly sellers: readonly Victim[]
  /** Receipt numbers that a till reported after its commit, by register. */
  readonly sold: ReadonlyMap<string, Set<string>>
  readonly failures: string[]
}

async function openScene(t: Test, server: Postgres): Promise<Scene> {
  const shop = await openShop(t, server)
  const { config } = server.database(await nameOf(shop))
  let port = 0
  const central = new Victim('central', () => child('central-process.ts', JSON.stringify({ ...config, max: 5 }), String(port)))
  ;[port] = await once(central.up(), 'message')
  const url = `http://127.0.0.1:${port}/`
  const sold = new Map<string, Set<string>>()
  const failures: string[] = []
  const tills = [await shop.addTill('POS1'), await shop.addTill('POS2')]
  const sellers = tills.map((till) => {
    sold.set(till.register, new Set())
    return new Victim(till.register, () =>
      seller(till, url, (message) => {
        if (message.sold !== undefined) sold.get(till.register)?.add(message.sold)
        if (message.failed !== undefined) failures.push(message.failed)
      }),
    )
  })
  t.teardown(() => Promise.all([central, ...sellers].map((victim) => victim.kill())))
  // Nobody but the till's own process has its file open when it is killed, so that SQLite must recover.
  for (const till of tills) {
    await till.replica.stop()
    till.db.close()
  }
  for (const victim of sellers) victim.up()
  return { shop, tills, central, sellers, sold, failures }
}

async function nameOf(shop: Shop): Promise<string> {
  return (await shop.pool.query('SELECT current_database() AS name')).rows[0].name
}

interface Said {
  readonly sold?: string
  readonly failed?: string
}

function seller({ location, register, file, token }: Till, url: string, onMessage: (message: Said) => void): ChildProcess {
  const options: TillArguments = { location, register, file, url, token, seed: random.int(1, 2 ** 31) }
  return child('till-process.ts', JSON.stringify(options)).on('message', (message) => onMessage(message as Said))
}

function child(file: string, ...args: string[]): ChildProcess {
  return fork(join(import.meta.dirname, file), args, { execArgv: [], stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
}

/** Everybody is ended, what is left is sent, and the books are compared. */
async function settle(t: Test, scene: Scene): Promise<void> {
  await Promise.all([...scene.sellers, scene.central].map((victim) => victim.kill()))
  for (const till of scene.tills) {
    const db = new Database(till.file)
    t.teardown(() => db.close())
    const replica = till.again()
    await replica.synchronize()
    t.match(await replica.status(), { pending: 0, unsealed: 0, parked: [], lastError: undefined })
    const kept = new Set(db.prepare('SELECT receipt_no FROM receipts').pluck().all())
    const lost = [...(scene.sold.get(till.register) ?? [])].filter((receiptNo) => !kept.has(receiptNo))
    t.same(lost, [], `${till.register}: no committed sale was lost by the till`)
    t.ok(kept.size > (isUsual ? 20 : 0), `${till.register}: ${kept.size} receipts`)
    await scene.shop.balances(t, { ...till, db }, till.register)
  }
  for (const victim of [scene.central, ...scene.sellers]) t.same(victim.died, [], `${victim.name} never ended but by being killed`)
  t.same(
    scene.failures.filter((failure) => !failure.includes(' true ')),
    [],
    'nothing failed but what may succeed later',
  )
}

t.test('till and central killed at random moments: everything sold is moved once', { timeout: budgetMs / 2 + 120_000 }, async (t) => {
  const scene = await openScene(t, server)
  await eventually('both sell', () => [...scene.sold.values()].every(({ size }) => size > 0), 40_000)
  const deadline = Date.now() + budgetMs / 2
  let rounds = 0
  for (const round of roundsOfRun(ROUNDS, 1 / 2)) {
    if (Date.now() > deadline) break
    rounds = round + 1
    await pause(random.int(20, 700))
    const victims = random.shuffle([scene.central, ...scene.sellers]).slice(0, random.chance(0.2) ? 2 : 1)
    await Promise.all(victims.map((victim) => victim.kill()))
    await pause(random.chance(0.3) ? random.int(1, 200) : 0)
    for (const victim of victims) victim.up()
  }
  t.comment(`${rounds} rounds`)
  // A busy machine starts processes slowly: what was never up was never killed at work.
  const hasSold = () => scene.tills.every(({ register }) => (scene.sold.get(register)?.size ?? 0) > 20)
  if (isUsual) await eventually('every till has sold', hasSold, 60_000)
  await settle(t, scene)
})

t.test(
  'PostgreSQL killed in the middle of a batch: central outlives it, and everything is moved once',
  { timeout: budgetMs / 4 + 80_000 },
  async (t) => {
    const scene = await openScene(t, server)
    const archived = async () => Number((await scene.shop.pool.query('SELECT count(*) AS entries FROM sync_archive')).rows[0].entries)
    for (const _ of roundsOfRun(3, 1 / 4)) {
      const before = await archived()
      await eventually('batches are coming in', async () => (await archived()) > before + 100)
      await server.kill()
      await pause(random.int(50, 500))
      await server.restart()
    }
    await settle(t, scene)
  },
)

t.test('connections that PostgreSQL ends in the middle of a batch: central goes on', { timeout: budgetMs / 4 + 80_000 }, async (t) => {
  const scene = await openScene(t, server)
  await eventually('both sell', () => [...scene.sold.values()].every(({ size }) => size > 0), 40_000)
  const { pool } = scene.shop
  const ended = { connections: 0 }
  const deadline = Date.now() + budgetMs / 4
  while (ended.connections < (isUsual ? 25 : Infinity) && Date.now() < deadline) {
    const { rowCount } = await pool.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle' LIMIT 1`,
    )
    ended.connections += rowCount ?? 0
    await pause(random.int(1, 20))
  }
  t.ok(ended.connections > (isUsual ? 5 : 0), `${ended.connections} connections were ended`)
  await settle(t, scene)
})
