// A worker of head office for the bench `nats`, in a process of its own: fetches letters, and answers at an HTTP server too. Says how far it has come.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import { postgres } from '../src/adapters/postgres/adapter.ts'
import { createCentral, negate, stockMovements } from '../src/index.ts'
import { toNodeHandler } from '../src/transport/http.ts'
import { centralNatsMailbox, type NatsServerOptions } from '../src/transport/nats.ts'
import { type Memory, memoryNow } from './memory.ts'

export interface WorkerOptions {
  readonly config: pg.PoolConfig
  readonly hub: NatsServerOptions
}

export interface WorkerReady {
  readonly port: number
}

/** Said every tenth of a second while something is applied: entries since the start, and the moment of the last; the memory where it is asked for. */
export interface WorkerSaid {
  readonly applied: number
  readonly at: number
  readonly memory?: Memory
}

const { config, hub } = JSON.parse(process.argv[2] as string) as WorkerOptions
const pool = new pg.Pool({ ...config, max: 8 })
const central = createCentral({
  database: postgres(pool),
  subscribe: {
    receipts: stockMovements((receipt, { location }) =>
      (receipt.parts.receipt_lines ?? []).map((line) => ({
        item: line.item_no,
        location,
        quantity: negate(line.quantity),
        amount: line.net_amount,
      })),
    ),
  },
  mailboxes: [centralNatsMailbox(hub)],
})
await central.install()
let applied = 0
let at = 0
central.on('applied', ({ entries }) => {
  applied += entries
  at = performance.timeOrigin + performance.now()
})
central.on('failed', ({ error }) => console.error(`worker: ${error.code} ${error.message}`))
central.on('refused', ({ error }) => console.error(`worker: ${error.code} ${error.message}`))

let said = 0
const saying = setInterval(() => {
  if (applied === said) return
  said = applied
  process.send?.({ applied, at } satisfies WorkerSaid)
}, 100)
const server = createServer(toNodeHandler(central.fetch))
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port } satisfies WorkerReady))
process.on('message', async (message) => {
  if (message === 'start') return central.start()
  if (message === 'memory') return void process.send?.({ applied, at, memory: memoryNow() } satisfies WorkerSaid)
  clearInterval(saying)
  await central.stop()
  await pool.end()
  server.close()
  server.closeAllConnections()
  process.send?.('stopped', () => process.disconnect?.())
})
