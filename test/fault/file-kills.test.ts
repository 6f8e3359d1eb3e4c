import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { eventually } from '../support/eventually.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { argument, Random, roundsOfRun, seedOfRun } from '../support/random.ts'
import { openShop } from '../support/shop.ts'
import { Stick } from '../support/stick.ts'
import { CENTRAL_SCHEMA } from '../support/tables.ts'

t.setTimeout(240_000)
const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const random = new Random(seed)
const KILLS = Number(argument('kills') ?? 8)

/** A process that is killed and begun again. */
class Mortal {
  private child: ChildProcess | undefined
  private readonly file: string
  private readonly args: readonly string[]

  constructor(t: Test, file: string, args: readonly string[]) {
    this.file = join(import.meta.dirname, file)
    this.args = args
    t.teardown(() => this.kill())
  }

  async begin(): Promise<void> {
    this.child = fork(this.file, [...this.args], { execArgv: [] })
    await once(this.child, 'message')
  }

  async kill(): Promise<void> {
    const { child } = this
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }
}

t.test(
  'both ends are killed again and again, in the middle of writing and of reading: nothing is lost, nothing doubled, nothing half stays',
  async (t) => {
    const share = new Stick(t)
    share.carry('shop')
    const folder = share.path
    const pool = await createPool(t, server)
    await pool.query(CENTRAL_SCHEMA)
    const shop = await openShop(t, server, { pool })
    const till = await shop.addTill('POS1')
    await till.replica.stop()
    await shop.central.stop()
    const { rows } = await pool.query('SELECT current_database() AS name')
    const { config } = server.database(rows[0].name)
    const ends = [
      new Mortal(t, 'file-process.ts', [till.file, folder, share.key]),
      new Mortal(t, 'file-central.ts', [JSON.stringify(config), folder, share.key]),
    ] as const
    await Promise.all(ends.map((end) => end.begin()))
    let sold = 0
    for (const _ of roundsOfRun(KILLS)) {
      for (const many = sold + random.int(20, 80); sold < many; sold++) till.cashier.sellAnything(random, `R-${sold}`)
      await pause(random.int(1, 250))
      const [end, way] = random.pick([[ends[0], '.up.'] as const, [ends[1], '.down.'] as const])
      await end.kill()
      // What a pulled stick leaves may be half of a file, or one whose bytes never came to it. The other end goes on with its own.
      const left = share.files('.part').filter((path) => path.includes(way))
      for (const path of left) if (random.chance(0.5)) truncateSync(join(folder, path), 0)
      await end.begin()
    }
    const pending = () =>
      till.db.prepare("SELECT (SELECT max(entry_no) FROM sync_entries) - (SELECT entry_no FROM sync_peers WHERE peer = 'central')").pluck().get()
    await eventually(
      'all has arrived, and the till knows',
      () => sold > 0 && pending() === 0 && till.db.prepare('SELECT count(*) FROM sync_touches').pluck().get() === 0,
      60_000,
    )
    await shop.balances(t, till)
    for (const end of ends) await end.kill()
    await ends[0].begin()
    await eventually(
      'what was left behind by the till is cleared away',
      () => !readdirSync(folder, { recursive: true, encoding: 'utf8' }).some((path) => path.includes('.up.')),
    )
  },
)

t.test('a stick that is pulled out while it is written: what stands there is whole or is no letter', async (t) => {
  const stick = new Stick(t)
  stick.carry('shop')
  const { file, db, shop, till } = await tillAlone(t, stick)
  const process = new Mortal(t, 'file-process.ts', [file, stick.at('shop'), stick.key])
  await process.begin()
  for (let n = 0; n < 10; n++) {
    for (let more = 0; more < 40; more++) till.cashier.sellAnything(random, `R-${n}-${more}`)
    await pause(random.int(5, 80))
    stick.carry(undefined)
    // What a stick loses that is pulled out: a letter that was just renamed may be without its last bytes.
    const last = stick.files('.up').at(-1)
    if (last && random.chance(0.5)) {
      const whole = readFileSync(join(stick.path, last))
      writeFileSync(join(stick.path, last), whole.subarray(0, random.int(0, whole.length - 1)))
    }
    await pause(random.int(5, 50))
    stick.carry('shop')
  }
  const known = () => db.prepare("SELECT entry_no FROM sync_peers WHERE peer = 'central'").pluck().get() ?? 0
  const head = () => db.prepare('SELECT max(entry_no) FROM sync_entries').pluck().get()
  await shop.central.start()
  await eventually(
    'all has come',
    async () => {
      stick.carry('office')
      await pause(400)
      stick.carry('shop')
      await pause(400)
      return head() === known() && db.prepare('SELECT count(*) FROM sync_touches').pluck().get() === 0
    },
    120_000,
  )
  await process.kill()
  await shop.balances(t, till)
})

async function tillAlone(t: Test, stick: Stick) {
  const shop = await openShop(t, server, { mailboxes: [stick.central()] })
  const till = await shop.addTill('POS1')
  await till.replica.stop()
  return { file: till.file, db: till.db, shop, till }
}
