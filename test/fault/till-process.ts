import { setTimeout as pause } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { Random } from '../support/random.ts'
import { Cashier } from '../support/sales.ts'
import { PUBLISH } from '../support/shop.ts'

export interface TillArguments {
  readonly location: string
  readonly register: string
  readonly file: string
  readonly url: string
  readonly token: string
  readonly seed: number
}

/** A till in a process of its own: sells and corrects without end, and says each receipt number once it is committed. */
const { location, register, file, url, token, seed } = JSON.parse(process.argv[2] ?? '{}') as TillArguments
process.on('disconnect', () => process.exit())
const random = new Random(seed)
const db = new Database(file)
db.pragma('foreign_keys = ON')
const cashier = new Cashier(db, location)
const replica = createRegister({
  location,
  register,
  database: sqlite(() => new Database(file), { host: db }),
  publish: PUBLISH,
  transfer: { type: 'push', link: httpLink({ url, token, timeoutMs: 5_000 }), everyMs: 50, recordsPerRun: 25, backoff: { minMs: 5, maxMs: 100 } },
})
replica.on('failed', ({ error }) => process.send?.({ failed: `${error.code} ${error.retryable} ${error.message}` }))
await replica.install()
await replica.start()
for (;;) {
  const receiptNo = `R-${db.prepare('SELECT coalesce(max(id), 0) + 1 FROM receipts').pluck().get()}`
  cashier.sellAnything(random, receiptNo)
  process.send?.({ sold: receiptNo })
  if (random.chance(0.3)) cashier.changeSomething(random)
  if (random.chance(0.02)) await replica.export('receipts', (eb) => eb('id', '<=', random.int(1, 20)))
  await pause(random.int(1, 8))
}
