// Head office of the benches that watch it, in a process of its own: posts what comes, says when each batch was committed, and what it uses.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import { postgres } from '../src/adapters/postgres/adapter.ts'
import { createCentral, negate, stockMovements } from '../src/index.ts'
import { toNodeHandler } from '../src/transport/http.ts'

/** What it says when it is ready: `tokens` by the registers' names, all at BA01. */
export interface CentralReady {
  readonly port: number
  readonly tokens: Readonly<Record<string, string>>
  readonly used: Used
}

/** Said after each batch: how far central is, and when, in milliseconds since 1970. */
export interface Committed {
  readonly register: string
  readonly through: number
  readonly at: number
}

/** What the process has used so far, in milliseconds of CPU, and holds now, in bytes. */
export interface Used {
  readonly cpuMs: number
  readonly bytes: number
}

const { config, registers } = JSON.parse(process.argv[2] as string) as { config: pg.PoolConfig; registers: readonly string[] }
const pool = new pg.Pool(config)
const central = createCentral({
  database: postgres(pool),
  subscribe: {
    receipts: stockMovements((receipt) =>
      (receipt.parts.receipt_lines ?? []).map((line) => ({
        item: line.item_no,
        location: 'BA01',
        quantity: negate(line.quantity),
        amount: line.net_amount,
      })),
    ),
  },
})
await central.install()
await central.start()
const tokens: Record<string, string> = {}
for (const register of registers) tokens[register] = (await central.registers.add({ location: 'BA01', register })).token
central.on('applied', ({ register: { register }, through }) => {
  process.send?.({ register, through, at: performance.timeOrigin + performance.now() } satisfies Committed)
})

function used(): Used {
  const { user, system } = process.cpuUsage()
  return { cpuMs: (user + system) / 1_000, bytes: process.memoryUsage.rss() }
}

const server = createServer(toNodeHandler(central.fetch))
server.listen(0, '127.0.0.1', () => {
  globalThis.gc?.()
  process.send?.({ port: (server.address() as AddressInfo).port, tokens, used: used() } satisfies CentralReady)
})
process.on('message', async (message) => {
  if (message === 'use') {
    process.send?.({ used: used() })
    return
  }
  await central.stop()
  await pool.end()
  server.close()
  server.closeAllConnections()
  process.send?.('stopped', () => process.disconnect?.())
})
