import { join } from 'node:path'
import { type Bench, expect, interleave, type Result, roundsOf, toResult } from './measure.ts'
import { CHANGE_LOG, OLDER_WAYS, type OlderWay, olderTriggersOfSqlite } from './older-triggers.ts'
import { type Connection, openTill, ROWS, register, seller, TABLES, temporaryFolder } from './shop.ts'

/** The ways take turns this often in a round. */
const TURNS = 40
/** Sales whose rows are updated. */
const SOLD = 2_000

/** What is done, `times` in a turn; each time leaves `touches`. */
interface Deed {
  readonly times: number
  readonly touches: number
  prepare(db: Connection): (n: number) => void
}

const sale = (times: number): Deed => ({ times, touches: ROWS, prepare: seller })

/** One statement, which is a transaction of its own: nothing else hides what the trigger costs. */
const update = (times: number, sql: string): Deed => ({
  times,
  touches: 1,
  prepare(db) {
    const sell = seller(db)
    for (let no = 1; no <= SOLD; no++) sell(no)
    const statement = db.prepare(sql)
    return (n) => statement.run(n, 1 + (n % SOLD))
  },
})
const A_RECEIPT = 'UPDATE receipts SET cashier = ? WHERE id = ?'
const A_LINE = 'UPDATE receipt_lines SET quantity = ? WHERE id = ?'

interface Cost {
  readonly unit: string
  now(): number
}

const CPU: Cost = {
  unit: 'CPU µs',
  now() {
    const { user, system } = process.cpuUsage()
    return user + system
  },
}
const WALL: Cost = { unit: 'wall µs', now: () => performance.now() * 1_000 }

/** A way of capturing: makes its triggers, and says where they write. */
interface Way {
  readonly log: string | undefined
  install(file: string, db: Connection): Promise<void> | void
}

const BARE: Way = { log: undefined, install() {} }
const TILLSYNC: Way = {
  log: 'sync_touches',
  async install(file) {
    const till = register(file, 'POS1')
    await till.install()
    await till.stop()
  },
}
const older = (way: OlderWay): Way => ({
  log: CHANGE_LOG,
  install(_file, db) {
    db.exec(`CREATE TABLE ${CHANGE_LOG} (id INTEGER PRIMARY KEY, table_name TEXT NOT NULL, operation TEXT NOT NULL, record TEXT NOT NULL)`)
    for (const table of TABLES) {
      const columns = (db.pragma(`table_info(${table})`) as { name: string }[]).map(({ name }) => name)
      db.exec(olderTriggersOfSqlite(way, table, columns))
    }
  },
})

/**
 * The same till with each way of capturing, and without; nothing is sealed meanwhile, the touches pile up. Each pays for the
 * checkpoints that its writing brings about.
 */
async function measure<K extends string>(ways: Readonly<Record<K, Way>>, synchronous: 'OFF' | 'FULL', deed: Deed, cost: Cost, rounds: number) {
  const folder = temporaryFolder()
  const names = Object.keys(ways) as K[]
  const tills = await Promise.all(
    names.map(async (name) => {
      const { log, install } = ways[name]
      const file = join(folder, `${name}.sqlite`)
      const db = openTill(file, synchronous)
      await install(file, db)
      const act = deed.prepare(db)
      const count = () => (log === undefined ? 0 : (db.prepare(`SELECT count(*) FROM ${log}`).pluck().get() as number))
      return { name, log, db, act, count, before: count() }
    }),
  )
  let next = SOLD + 1
  const turns = tills.map(({ name, act }) => {
    const turn = () => {
      const began = cost.now()
      for (let n = 0; n < deed.times; n++) act(next++)
      return (cost.now() - began) / deed.times
    }
    return [name, turn]
  })
  const figures = await interleave(rounds, Object.fromEntries(turns) as Record<K, () => number>, TURNS)
  const touches = (rounds + 1) * TURNS * deed.times * deed.touches
  for (const { log, db, count, before } of tills) {
    if (log !== undefined) expect(`what was written into ${log}`, count() - before, touches)
    db.close()
  }
  return Object.fromEntries(names.map((name) => [name, roundsOf(figures[name], TURNS)])) as Record<K, readonly number[]>
}

async function againstOlderWays(name: string, synchronous: 'OFF' | 'FULL', times: number, cost: Cost, most: number, rounds: number) {
  const ways = { bare: BARE, tillsync: TILLSYNC, CSV: older('CSV'), JSON: older('JSON') }
  const unit = `${cost.unit} a sale`
  const figures = await measure(ways, synchronous, sale(times), cost, rounds)
  return [
    toResult(name, unit, figures.tillsync, figures.bare, { of: 'ratio', bound: '≤', value: most }),
    ...OLDER_WAYS.map((way) => toResult(`${name}: ${way} triggers`, unit, figures[way], figures.bare)),
  ]
}

export const captureOff: Bench = {
  name: 'capture-off',
  about: "CPU time of a sale with the triggers against one without, synchronous = OFF: what capture costs where the disk doesn't count",
  rounds: 15,
  run: ({ rounds }) => againstOlderWays('capture-off', 'OFF', 50, CPU, 1.3, rounds),
}

export const captureFull: Bench = {
  name: 'capture-full',
  about: 'wall time of a sale with the triggers against one without, synchronous = FULL: what the cashier feels',
  rounds: 15,
  run: ({ rounds }) => againstOlderWays('capture-full', 'FULL', 10, WALL, 1.12, rounds),
}

export const updateRow: Bench = {
  name: 'update-row',
  about: 'one UPDATE of one row with the triggers against one without: CPU time with synchronous = OFF, wall time with FULL',
  rounds: 15,
  async run({ rounds }) {
    const results: Result[] = []
    const one = async (name: string, synchronous: 'OFF' | 'FULL', deed: Deed, cost: Cost) => {
      const { tillsync, bare } = await measure({ bare: BARE, tillsync: TILLSYNC }, synchronous, deed, cost, rounds)
      results.push(toResult(`update-row: ${name}`, `${cost.unit} an update`, tillsync, bare, { of: 'ratio', bound: '≤', value: 1.5 }))
    }
    await one('receipt', 'OFF', update(400, A_RECEIPT), CPU)
    await one('line', 'OFF', update(400, A_LINE), CPU)
    await one('receipt, FULL', 'FULL', update(10, A_RECEIPT), WALL)
    return results
  },
}
