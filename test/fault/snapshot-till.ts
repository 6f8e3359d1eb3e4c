import { setTimeout as pause } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister, mirror } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'

export interface SnapshotTill {
  readonly location: string
  readonly register: string
  readonly file: string
  readonly url: string
  readonly token: string
}

/** A till in a process of its own: takes what head office publishes, and sells meanwhile. */
const { location, register, file, url, token } = JSON.parse(process.argv[2] ?? '{}') as SnapshotTill
process.on('disconnect', () => process.exit())
const db = new Database(file)
const replica = createRegister({
  location,
  register,
  database: sqlite(() => new Database(file), { host: db }),
  publish: { receipts: {} },
  subscribe: { items: mirror({ notify: ['name'] }), item_barcodes: mirror() },
  transfer: { type: 'push', link: httpLink({ url, token }), everyMs: 50, recordsPerRun: 200, backoff: { minMs: 5, maxMs: 50 } },
})
replica.on('failed', ({ error }) => process.send?.({ failed: `${error.code} ${error.message}` }))
await replica.install()
await replica.start()
// Whether items have come or not: on a busy machine it may be killed each time before they have.
const sell = () => db.exec('INSERT INTO receipts (item_no) VALUES ((SELECT item_no FROM items ORDER BY random() LIMIT 1))')
sell()
process.send?.('started')
for (;;) {
  await pause(3)
  sell()
}
