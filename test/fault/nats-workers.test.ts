import { type ChildProcess, fork } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { eventually } from '../support/eventually.ts'
import { type Hub, noNats, openHub } from '../support/nats.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { budgetOfRun, Random, seedOfRun } from '../support/random.ts'
import { openShop, type Till } from '../support/shop.ts'
import { CENTRAL_SCHEMA } from '../support/tables.ts'

const REGISTERS = 6
const budgetMs = budgetOfRun(4_000)
t.setTimeout(8 * budgetMs + 120_000)
const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)

/** A worker of head office that is killed in the middle of its work, and another one started. */
class Worker {
  applied = 0
  private child: ChildProcess
  private readonly program: () => ChildProcess

  constructor(t: Test, config: object, hub: Hub) {
    this.program = () =>
      fork(join(import.meta.dirname, 'nats-central.ts'), [JSON.stringify(config), JSON.stringify(hub.central)], {
        execArgv: [],
        stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      })
    this.child = this.start()
    t.teardown(() => this.child.kill('SIGKILL'))
  }

  killAndStart(): void {
    this.child.kill('SIGKILL')
    this.child = this.start()
  }

  private start(): ChildProcess {
    const child = this.program()
    let before = 0
    child.on('message', (applied: number) => {
      this.applied += applied - before
      before = applied
    })
    return child
  }
}

t.test('workers that share the streams are killed again and again: nothing is lost, nothing is posted twice', { skip: noNats }, async (t) => {
  const random = new Random(seed)
  const registers = Array.from({ length: REGISTERS }, (_, n) => ({ location: 'BA01', register: `POS${n}` }))
  const hub = await openHub(t, { registers, ackWaitMs: 1_000 })
  const pool = await createPool(t, server)
  await pool.query(CENTRAL_SCHEMA)
  const { rows } = await pool.query('SELECT current_database() AS name')
  const shop = await openShop(t, server, { pool })
  const tills = await Promise.all(
    registers.map((name) =>
      shop.addTill(name.register, {
        mailed: { mailbox: hub.mailbox(name), everyMs: 50, recordsPerRun: random.pick([5, 30]), resend: { minMs: 1_000, maxMs: 4_000 } },
      }),
    ),
  )
  const workers = [0, 1].map(() => new Worker(t, { ...server.database(rows[0].name).config, max: 6 }, hub))
  for (const till of tills) await till.replica.start()
  const deadline = Date.now() + budgetMs
  const isOver = () => Date.now() > deadline
  const killing = (async () => {
    for (let turn = 0; !isOver(); turn++) {
      const worker = workers[turn % 2] as Worker
      const before = worker.applied
      await eventually('it works', () => worker.applied > before || isOver(), 30_000)
      await pause(random.int(0, 30))
      worker.killAndStart()
    }
  })()
  await Promise.all([killing, ...tills.map((till) => sell(till, random, isOver))])
  for (const till of tills) await done(till)
  for (const till of tills) await shop.balances(t, till, till.register)
  const { rows: held } = await pool.query('SELECT count(*)::int AS quarantined FROM sync_quarantine')
  t.same(held, [{ quarantined: 0 }])
  t.ok(
    workers.every(({ applied }) => applied > 0),
    'both have worked',
  )
})

/** However much there is to be sent: as long as it becomes less. */
async function done({ register, replica }: Till): Promise<void> {
  const less = async (before: number) => {
    const { pending } = await replica.status()
    return pending < before ? { pending } : undefined
  }
  for (let left = Number.POSITIVE_INFINITY; left > 0; ) left = (await eventually(`${register} sends more`, () => less(left), 60_000)).pending
}

async function sell(till: Till, random: Random, isOver: () => boolean): Promise<void> {
  for (let n = 0; !isOver(); n++) {
    for (let sale = 0; sale < 3; sale++) till.cashier.sellAnything(random, `${till.register}-${n}-${sale}`)
    if (random.chance(0.3)) till.cashier.changeSomething(random)
    await pause(random.int(5, 40))
  }
}
