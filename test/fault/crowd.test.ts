import { fork } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import type { Link } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { isLedgerSound } from '../support/books.ts'
import { eventually } from '../support/eventually.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { count, line } from '../support/quarantine.ts'
import { budgetOfRun, Random, seedOfRun } from '../support/random.ts'
import { openShop, type Till } from '../support/shop.ts'
import { CENTRAL_SCHEMA } from '../support/tables.ts'
import type { Order, Said } from './crowd-central.ts'

const REGISTERS = 8
const PROCESSES = 3
const budgetMs = budgetOfRun(2_000)
t.setTimeout(budgetMs + 120_000)
const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)

/** One of several processes of the same head office. */
class Process {
  port = 0
  readonly failures: string[] = []
  private readonly child
  private readonly waiting = new Map<number, (said: { readonly result?: object; readonly error?: string }) => void>()
  private orders = 0

  constructor(t: Test, config: object) {
    this.child = fork(join(import.meta.dirname, 'crowd-central.ts'), [JSON.stringify(config)], {
      execArgv: [],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    this.child.on('message', (said: Said) => {
      if ('port' in said) this.port = said.port
      else if ('event' in said) this.failures.push(`${said.event}: ${said.error}`)
      else this.waiting.get(said.done)?.(said)
    })
    this.child.once('exit', (code, signal) => this.failures.push(`ended: ${code} ${signal}`))
    t.teardown(() => {
      this.child.removeAllListeners('exit')
      this.child.kill('SIGKILL')
    })
  }

  /** What fails is kept, to be told in the end. */
  async tell(order: Order): Promise<object | undefined> {
    const number = ++this.orders
    const said = new Promise<{ readonly result?: object; readonly error?: string }>((resolve) => this.waiting.set(number, resolve))
    this.child.send({ number, order })
    const { result, error } = await said
    if (error !== undefined) this.failures.push(`${order.do}: ${error}`)
    return result
  }
}

t.test(
  'eight registers sell the same articles to several processes that replay and retry: nothing deadlocks, nothing is posted twice',
  { timeout: budgetMs + 100_000 },
  async (t) => {
    const random = new Random(seed)
    const pool = await createPool(t, server)
    await pool.query(CENTRAL_SCHEMA)
    const { rows } = await pool.query('SELECT current_database() AS name')
    await pool.query(`ALTER DATABASE "${rows[0].name}" SET default_transaction_isolation = 'repeatable read'`)
    // As if it had been set before anybody came.
    await pool.query('SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()')
    const shop = await openShop(t, server, { pool })
    const { config } = server.database(rows[0].name)
    const processes = Array.from({ length: PROCESSES }, () => new Process(t, { ...config, max: 6 }))
    await eventually('all listen', () => processes.every(({ port }) => port > 0), 60_000)
    let tokens = new Map<string, string>()
    // Each exchange goes to whichever process: a proxy stands before them.
    const spread = (register: string) => (): Link => ({
      exchange: (message, options) => {
        const url = `http://127.0.0.1:${random.pick(processes).port}/`
        return httpLink({ url, token: tokens.get(register) as string }).exchange(message, options)
      },
    })
    const tills = await Promise.all(
      Array.from({ length: REGISTERS }, (_, n) =>
        shop.addTill(`POS${n}`, { link: spread(`POS${n}`), transfer: { recordsPerRun: random.pick([3, 20, 500]) } }),
      ),
    )
    tokens = new Map(tills.map(({ register, token }) => [register, token]))
    const failures: string[] = []
    const deadline = Date.now() + budgetMs
    const isOver = () => Date.now() > deadline
    const orders = processes.map(async (one, n) => {
      for (let rounds = 0; rounds < 2 || !isOver(); rounds++) {
        await pause(random.int(0, 60))
        await one.tell({ do: n === 0 || random.chance(0.3) ? 'retry' : 'replay' })
      }
    })
    await Promise.all([...tills.map((till) => sell(till, random, isOver, failures)), ...orders])
    // One that waits, however chance has it, and however few were sold on a slow machine.
    tills[0]?.cashier.sell('last', [line('POISON', '1')])
    for (const till of tills) await till.replica.synchronize()
    t.ok((await count(pool, 'sync_quarantine')) > 0, 'some wait')
    await Promise.all(processes.map((one) => one.tell({ do: 'map', isMended: true })))
    await Promise.all(processes.map((one) => one.tell({ do: 'replay' })))
    t.equal(await count(pool, 'sync_quarantine'), 0, 'what was mended waits no more')
    for (const till of tills) await shop.balances(t, till, till.register)
    const before = await levels()
    const posted = await count(pool, 'sync_postings')
    await Promise.all(processes.map((one) => one.tell({ do: 'map', factor: 2 })))
    const results = await Promise.all(processes.map((one) => one.tell({ do: 'replay' })))
    const documents = await count(pool, 'sync_documents', "table_name = 'receipts'")
    t.match(results, Array(PROCESSES).fill({ documents, quarantined: 0, refused: 0 }), 'each has gone through all')
    const postings = (results as readonly { readonly postings: number }[]).reduce((sum, one) => sum + one.postings, 0)
    t.equal(postings, (await count(pool, 'sync_postings')) - posted, 'and together they have posted what there is')
    t.same(
      await levels(),
      before.map(({ item_no, quantity }) => ({ item_no, quantity: quantity * 2 })),
      'replayed by all of them at once, each counts twice',
    )
    t.ok(await isLedgerSound(pool))
    t.same([...failures, ...processes.flatMap((one) => one.failures)], [], 'nobody heard of a conflict')

    async function levels(): Promise<readonly { readonly item_no: string; readonly quantity: number }[]> {
      return (await pool.query('SELECT item_no, quantity::float8 FROM stock_levels ORDER BY 1')).rows
    }
  },
)

/** The same twelve articles everywhere, in any order; now and then a receipt that can't be applied yet, or a change of a former one. */
async function sell(till: Till, random: Random, isOver: () => boolean, failures: string[]): Promise<void> {
  const { db, cashier, replica } = till
  for (let n = 0; n < 8 || !isOver(); n++) {
    const items = random.shuffle(Array.from({ length: 12 }, (_, item) => `A${item}`)).slice(0, random.int(1, 12))
    cashier.sell(
      `${till.register}-${n}`,
      [...items, ...(random.chance(0.1) ? ['POISON'] : [])].map((item) => line(item, String(random.int(1, 5)))),
    )
    if (random.chance(0.3))
      db.prepare('UPDATE receipt_lines SET quantity = ? WHERE receipt_id = ?').run(String(random.int(1, 9)), random.int(1, n + 1))
    if (random.chance(0.1)) db.prepare("UPDATE receipts SET status = 'voided' WHERE id = ?").run(random.int(1, n + 1))
    if (random.chance(0.3)) continue
    await replica.synchronize().catch((error) => failures.push(`${till.register}: ${error.code} ${error.message}`))
  }
}
