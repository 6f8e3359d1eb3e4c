import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createCentral, mirror, stockMovements, type TillsyncError } from '../../src/index.ts'
import { toNodeHandler } from '../../src/transport/http.ts'
import { movementsAt } from '../support/shop.ts'

/** What one of several central processes is told to do. */
export type Order = { readonly do: 'replay' | 'retry' } | { readonly do: 'map'; readonly isMended?: boolean; readonly factor?: number }

/** What it says: its port when it listens, what became of an order, and whatever a host would hear of as a failure. */
export type Said =
  | { readonly port: number }
  | { readonly done: number; readonly result?: object; readonly error?: string }
  | { readonly event: 'refused' | 'failed'; readonly error: string }

const [, , config = '{}'] = process.argv
const pool = new pg.Pool(JSON.parse(config))
pool.on('error', () => undefined)

const mapping = { isMended: false, factor: 1 }
const movements = movementsAt('BA01')
const ORIGIN = mirror({ origin: ['location', 'register'] })
const central = createCentral({
  database: postgres(pool),
  subscribe: {
    pos_processes: ORIGIN,
    receipts: [
      ORIGIN,
      stockMovements((receipt) => {
        const all = movements(receipt)
        if (!mapping.isMended && all.some(({ item }) => item === 'POISON')) throw new Error('poison')
        return all.map((one) => ({ ...one, quantity: BigInt(one.quantity as string) * BigInt(mapping.factor) }))
      }),
    ],
  },
  retry: { minMs: 50, maxMs: 1_000 },
})
for (const event of ['refused', 'failed'] as const) central.on(event, ({ error }) => say({ event, error: textOf(error) }))
await central.start()
const server = createServer(toNodeHandler(central.fetch))
server.listen(0, '127.0.0.1', () => say({ port: (server.address() as AddressInfo).port }))
process.on('message', ({ number, order }: { number: number; order: Order }) => {
  obey(order).then(
    (result) => say({ done: number, ...(result && { result }) }),
    (error) => say({ done: number, error: textOf(error) }),
  )
})
process.on('disconnect', () => process.exit())

async function obey(order: Order): Promise<object | undefined> {
  if (order.do === 'replay') return central.replay({ table: 'receipts' })
  if (order.do === 'retry') return central.quarantine.retry({})
  Object.assign(mapping, order)
  return undefined
}

function say(said: Said): void {
  process.send?.(said)
}

/** With all that caused it: a deadlock would be told there. */
function textOf(error: TillsyncError): string {
  const texts: string[] = []
  for (let at: unknown = error; at instanceof Error; at = at.cause) texts.push(`${(at as { code?: string }).code ?? at.name} ${at.message}`)
  return texts.join(' < ')
}
