import t, { type Test } from 'tap'
import { type Link, mirror } from '../../src/index.ts'
import { startServer } from '../support/postgres.ts'
import { line, poisoned } from '../support/quarantine.ts'
import { budgetOfRun, Random, roundsOfRun, seedOfRun } from '../support/random.ts'
import { openShop } from '../support/shop.ts'

// Lines that move between receipts, exchange their keys, come and go, while receipts wait in quarantine, are tried again and replayed between any two batches: once all
// is mended, head office has what the till has.

const TIMEOUT_MS = budgetOfRun(60_000) + 180_000
t.setTimeout(TIMEOUT_MS)
const server = await startServer(t)
const seed = seedOfRun()
const STEPS = 14

async function round(t: Test, random: Random): Promise<boolean> {
  const { handler, state } = poisoned()
  const removals = random.chance(0.4) ? 'apply' : 'ignore'
  const shop = await openShop(t, server, { subscribe: { receipts: [mirror({ origin: ['location', 'register'], removals }), handler] } })
  let isCalm = false
  const link = (inner: Link): Link => ({
    async exchange(message, options) {
      if (isCalm) return inner.exchange(message, options)
      if (random.chance(0.1)) throw new Error('the line is down')
      const answer = await inner.exchange(message, options)
      if (random.chance(0.1)) throw new Error('the answer is lost')
      if (random.chance(0.7)) await between()
      return answer
    },
  })
  const till = await shop.addTill('POS1', { link, transfer: { recordsPerRun: random.pick([1, 1, 3, 500]) } })
  const { db, cashier } = till
  db.pragma('foreign_keys = ON')

  async function between(): Promise<void> {
    const nothing = () => undefined
    if (random.chance(0.5)) state.mended = random.chance(0.6)
    if (random.chance(0.6)) await shop.central.quarantine.retry({}).catch(nothing)
    if (random.chance(0.3)) {
      const end = new AbortController()
      const onProgress = () => (random.chance(0.3) ? end.abort() : undefined)
      await shop.central.replay({ table: 'receipts' }, { signal: end.signal, onProgress }).catch(nothing)
    }
  }

  const idsOf = (table: string) => db.prepare(`SELECT id FROM ${table}`).pluck().all() as number[]
  const anyLine = () => line(random.chance(0.25) ? 'POISON' : random.pick(['A', 'B', 'C']), String(random.int(1, 5)))
  let sold = 0
  function change(): void {
    const [receipts, lines] = [idsOf('receipts'), idsOf('receipt_lines')]
    const isFew = receipts.length < 2 || lines.length < 2
    if (isFew || random.chance(0.2)) return void cashier.sell(`R-${++sold}`, Array.from({ length: random.int(0, 3) }, anyLine))
    const [receipt, one] = [random.pick(receipts), random.pick(lines)]
    const [a, b] = random.shuffle(lines)
    const changes = [
      () => db.prepare('UPDATE receipt_lines SET receipt_id = ? WHERE id = ?').run(receipt, one),
      () => db.prepare('UPDATE receipts SET customer_no = ? WHERE id = ?').run(`C${random.int(1, 99)}`, receipt),
      () =>
        db.exec(
          `UPDATE receipt_lines SET id = -1 WHERE id = ${a}; UPDATE receipt_lines SET id = ${a} WHERE id = ${b}; UPDATE receipt_lines SET id = ${b} WHERE id = -1`,
        ),
      () => db.prepare('DELETE FROM receipt_lines WHERE id = ?').run(one),
      () => db.prepare('UPDATE receipt_lines SET item_no = ? WHERE id = ?').run(random.pick(['A', 'B', 'POISON']), one),
      () => cashier.addLine(receipt, anyLine()),
      ...(removals === 'apply' ? [() => db.prepare('DELETE FROM receipts WHERE id = ?').run(receipt)] : []),
    ]
    const move = changes[0] as () => void
    void (random.chance(0.4) ? move : random.pick(changes))()
  }

  for (let step = 0; step < STEPS; step++) {
    for (let n = random.int(1, 4); n > 0; n--) {
      db.transaction(() => {
        for (let more = true; more; more = random.chance(0.4)) change()
      }).immediate()
    }
    if (random.chance(0.3)) await till.replica.seal()
    if (random.chance(0.5)) await till.replica.synchronize().catch(() => undefined)
    if (random.chance(0.4)) await between()
  }
  state.mended = true
  isCalm = true
  await till.replica.synchronize()
  await shop.central.quarantine.retry({})
  t.same(await shop.central.quarantine.list(), [])
  const rows = async (table: string, columns: string) => [
    (await shop.pool.query(`SELECT ${columns} FROM ${table} ORDER BY id`)).rows.map((row) => Object.values(row).map(String)),
    db
      .prepare(`SELECT ${columns} FROM ${table} ORDER BY id`)
      .all()
      .map((row) => Object.values(row as object).map(String)),
  ]
  let isGood = true
  for (const [table, columns] of [
    ['receipts', 'id, customer_no'],
    ['receipt_lines', 'id, receipt_id, item_no, quantity'],
  ] as const) {
    const [mirrored, own] = await rows(table, columns)
    isGood = t.same(mirrored, own, table) && isGood
  }
  if (removals === 'ignore') {
    const sums = db.prepare('SELECT item_no, sum(quantity) AS sum FROM receipt_lines GROUP BY item_no').all() as { item_no: string; sum: number }[]
    for (const { item_no, sum } of sums) isGood = t.equal(await shop.stock(item_no), -sum, item_no) && isGood
  }
  await till.replica.stop()
  await shop.central.stop()
  return isGood
}

t.test('wherever lines go, and whatever waits meanwhile, head office has them where the till has them', { timeout: TIMEOUT_MS }, async (t) => {
  for (const n of roundsOfRun(3)) {
    const own = seed + n
    t.comment(`round ${n}: --seed=${own}`)
    if (!(await round(t, new Random(own)))) return
  }
})
