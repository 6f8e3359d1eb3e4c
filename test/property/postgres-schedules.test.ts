import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import t from 'tap'
import { startServer } from '../support/postgres.ts'
import { isComplete, openTill } from '../support/postgres-till.ts'
import { argument, budgetOfRun, Random, roundsOfRun, seedOfRun } from '../support/random.ts'

const seed = seedOfRun()
const schedules = Number(argument('schedules') ?? 25)
const timeout = budgetOfRun(60_000) + 60_000
t.setTimeout(timeout + 60_000)
t.comment(`--seed=${seed}`)
const server = await startServer(t)

/** What a cashier's transaction does to two receipts; `#` is a number of its own. */
const CHANGES = [
  'UPDATE receipts SET total = total + 1 WHERE id = 1',
  'UPDATE receipts SET total = total + 1 WHERE id = 2',
  `UPDATE receipts SET status = CASE status WHEN 'open' THEN 'posted' ELSE 'open' END WHERE id = 1`,
  `INSERT INTO receipt_lines VALUES (#, 1, 'A')`,
  `INSERT INTO receipt_lines VALUES (#, 2, 'B')`,
  'UPDATE receipt_lines SET receipt_id = 3 - receipt_id',
  'DELETE FROM receipt_lines WHERE receipt_id = 1',
  'DELETE FROM receipts WHERE id = 2',
  `INSERT INTO receipts VALUES (2, 'posted', #) ON CONFLICT (id) DO UPDATE SET total = excluded.total`,
  'INSERT INTO receipt_lines SELECT #, id, total::text FROM receipts ORDER BY id LIMIT 1',
  'SAVEPOINT s; DELETE FROM receipts; ROLLBACK TO SAVEPOINT s',
]

/** A session whose statements may have to wait for another's. */
class Cashier {
  readonly client: pg.Client
  private waiting: Promise<unknown> | undefined
  private pid = 0

  constructor(client: pg.Client) {
    this.client = client
  }

  async open(): Promise<void> {
    await this.client.connect()
    this.pid = (await this.client.query('SELECT pg_backend_pid() AS pid')).rows[0].pid
  }

  /** Runs it, or finds that it waits for another session. A deadlock ends the transaction, as it would the cashier's. */
  async run(sql: string, pool: pg.Pool): Promise<void> {
    const running: Promise<unknown> = (this.waiting ?? Promise.resolve())
      .then(() => this.client.query(sql))
      .catch(() => undefined)
      .then(() => {
        if (this.waiting === running) this.waiting = undefined
      })
    this.waiting = running
    await this.quiet(pool)
  }

  /** Until it has nothing to do, or waits for another session. */
  async quiet(pool: pg.Pool): Promise<void> {
    while (this.waiting !== undefined && !(await this.isBlocked(pool))) await pause(1)
  }

  async settle(): Promise<void> {
    await this.waiting
    await this.client.query('ROLLBACK')
  }

  /** Waits for a session that will not go on by itself; in a circle PostgreSQL ends one of them soon. */
  private async isBlocked(pool: pg.Pool): Promise<boolean> {
    const { rows } = await pool.query(
      `WITH RECURSIVE waits(from_pid, to_pid) AS (
         SELECT $1::int, unnest(pg_blocking_pids($1))
         UNION SELECT to_pid, unnest(pg_blocking_pids(to_pid)) FROM waits),
       reached(start, pid) AS (SELECT from_pid, to_pid FROM waits UNION SELECT r.start, w.to_pid FROM reached r JOIN waits w ON w.from_pid = r.pid)
       SELECT EXISTS (SELECT FROM waits) AND NOT EXISTS (SELECT FROM reached WHERE start = pid) AS blocked`,
      [this.pid],
    )
    return rows[0].blocked
  }
}

t.test(
  'whatever the order in which three transactions work on two documents, all that is committed is sealed, and only that',
  { timeout },
  async (t) => {
    const till = await openTill(t, server)
    const random = new Random(seed)
    const { host, port, user, password, database } = till.pool.options
    const make = () => new Cashier(new pg.Client({ host, port, user, password: password as string, database }))
    const cashiers = [make(), make(), make()]
    for (const cashier of cashiers) await cashier.open()
    t.teardown(() => Promise.all(cashiers.map(({ client }) => client.end())))
    await till.pool.query(`ALTER SYSTEM SET deadlock_timeout = '20ms'; `)
    await till.pool.query('SELECT pg_reload_conf()')
    const broken = (schedule: number) => t.comment(`--seed=${seed} --schedules=${schedule + 1}`)
    let number = 100
    for (const schedule of roundsOfRun(schedules)) {
      await till.pool.query(`INSERT INTO receipts VALUES (1, 'posted', 1), (2, 'posted', 2) ON CONFLICT (id) DO UPDATE SET status = 'posted'`)
      const steps = cashiers.map(() => [
        random.chance(0.2) ? 'BEGIN ISOLATION LEVEL REPEATABLE READ' : 'BEGIN',
        random.pick(CHANGES).replaceAll('#', String(++number)),
        random.pick(CHANGES).replaceAll('#', String(++number)),
        random.chance(0.8) ? 'COMMIT' : 'ROLLBACK',
      ])
      const order = random.shuffle(steps.flatMap((own, cashier) => own.map(() => cashier)))
      const story: string[] = []
      for (const cashier of order) {
        const sql = steps[cashier]?.shift() ?? ''
        story.push(`${cashier}: ${sql}`)
        await cashiers[cashier]?.run(sql, till.pool)
        // One that was blocked may go on now, and let another one go on.
        for (const _ of cashiers) for (const one of cashiers) await one.quiet(till.pool)
        if (random.chance(0.3) && !(await isComplete(t, till, `schedule ${schedule}, after ${story.join(' | ')}`))) return broken(schedule)
      }
      for (const cashier of cashiers) await cashier.settle()
      if (!(await isComplete(t, till, `schedule ${schedule}: ${story.join(' | ')}`))) return broken(schedule)
      if (!t.equal((await till.replica.status()).unsealed, 0)) return broken(schedule)
    }
  },
)
