import { fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import Database from 'better-sqlite3'
import t from 'tap'
import { mirror } from '../../src/index.ts'
import { startServer } from '../support/postgres.ts'
import { argument, budgetOfRun, Random, roundsOfRun, seedOfRun } from '../support/random.ts'
import { openShop } from '../support/shop.ts'
import type { SnapshotTill } from './snapshot-till.ts'

const ROUNDS = Number(argument('rounds') ?? 25)
const ITEMS = 4_000
t.setTimeout(budgetOfRun(60_000) + 120_000)
const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed} (when it is killed; not where in its work that is)`)

const OFFICE = `CREATE TABLE items (item_no int PRIMARY KEY, name text NOT NULL); CREATE TABLE item_barcodes (barcode text PRIMARY KEY, item_no int NOT NULL REFERENCES items);
  CREATE INDEX ON item_barcodes (item_no); CREATE TABLE receipts (location text, register text, id int, item_no int, PRIMARY KEY (location, register, id))`
const TILL = `CREATE TABLE items (item_no INTEGER PRIMARY KEY, name TEXT NOT NULL); CREATE TABLE item_barcodes (barcode TEXT PRIMARY KEY, item_no INTEGER NOT NULL REFERENCES items);
  CREATE INDEX item_barcodes_item ON item_barcodes (item_no); CREATE TABLE receipts (id INTEGER PRIMARY KEY, item_no INTEGER)`

t.test(
  'a till that is killed again and again while all items come down, and change, has them in the end, and its sales are at head office',
  async (t) => {
    const random = new Random(seed)
    const publish = { items: {}, item_barcodes: { partOf: { items: { item_no: 'item_no' } } } }
    const shop = await openShop(t, server, { schema: OFFICE, publish, subscribe: { receipts: mirror({ origin: ['location', 'register'] }) } })
    const subscribe = { items: mirror({ notify: ['name'] }), item_barcodes: mirror() }
    const till = await shop.addTill('POS1', { schema: TILL, publish: { receipts: {} }, subscribe })
    await till.replica.stop()
    till.db.close()
    await shop.pool.query(
      `INSERT INTO items SELECT n, 'Item ' || n FROM generate_series(1, ${ITEMS}) n; INSERT INTO item_barcodes SELECT 'b' || n, n FROM generate_series(1, ${ITEMS}) n`,
    )
    await shop.central.start()
    const options: SnapshotTill = { location: till.location, register: till.register, file: till.file, url: shop.url, token: till.token }
    const failures: string[] = []
    for (const _ of roundsOfRun(ROUNDS)) {
      const child = fork(join(import.meta.dirname, 'snapshot-till.ts'), [JSON.stringify(options)], { execArgv: [] })
      const gone = once(child, 'exit')
      child.on('message', (message: { failed?: string }) => message.failed !== undefined && failures.push(message.failed))
      await Promise.race([once(child, 'message'), gone])
      await pause(random.int(5, 250))
      const at = random.int(1, ITEMS)
      if (random.chance(0.5)) await shop.pool.query(`UPDATE items SET name = name || '.' WHERE item_no BETWEEN ${at} AND ${at + 200}`)
      if (random.chance(0.3)) await shop.pool.query(`DELETE FROM item_barcodes WHERE item_no = ${at}; DELETE FROM items WHERE item_no = ${at}`)
      child.kill('SIGKILL')
      const [, signal] = await gone
      t.equal(signal, 'SIGKILL', 'it had not ended by itself')
    }
    t.same(failures, [])
    const db = new Database(till.file)
    t.teardown(() => db.close())
    t.equal(db.pragma('integrity_check', { simple: true }), 'ok')
    const last = till.again()
    await last.synchronize()
    await last.synchronize()
    const { subscriptions, unapplied } = await last.status()
    t.match(subscriptions, [{ table: 'items', isComplete: true, waiting: 0 }])
    t.same(unapplied, [])
    for (const table of ['items', 'item_barcodes']) {
      const { rows } = await shop.pool.query({ text: `SELECT * FROM ${table} ORDER BY item_no`, rowMode: 'array' })
      t.same(db.prepare(`SELECT * FROM ${table} ORDER BY item_no`).raw().all(), rows, table)
    }
    const { rows } = await shop.pool.query({ text: 'SELECT id, item_no FROM receipts ORDER BY id', rowMode: 'array' })
    const sold = db.prepare('SELECT id, item_no FROM receipts ORDER BY id').raw().all()
    t.ok(sold.length > 0)
    t.same(rows, sold)
  },
)
