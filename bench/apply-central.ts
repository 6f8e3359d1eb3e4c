// Head office of the benches of apply, in a process of its own: the demo's tables and handlers. Says what memory it has when it is asked.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import type { TillTables } from '../examples/demo/tables.ts'
import { postgres } from '../src/adapters/postgres/adapter.ts'
import { createCentral, type Document, mirror, negate, pluClosings, stockMovements } from '../src/index.ts'
import { toNodeHandler } from '../src/transport/http.ts'
import { memoryNow } from './memory.ts'

/** Its database has the demo's tables. */
export interface ApplyCentral {
  readonly config: pg.PoolConfig
  /** New ones, all at BA01. */
  readonly registers: readonly string[]
  /** Whether days are closed, too. */
  readonly closings: boolean
}

/** What it says when it is ready: `tokens` by the registers' names. */
export interface ApplyCentralReady {
  readonly port: number
  readonly tokens: Readonly<Record<string, string>>
}

const { config, registers, closings } = JSON.parse(process.argv[2] as string) as ApplyCentral
const pool = new pg.Pool(config)
const days = pluClosings<Document<TillTables, 'plu_closings'>>({
  closing: (closing) => ({
    location: 'BA01',
    businessDate: closing.business_date,
    document: closing.closing_no,
    ranges: closing.parts.plu_closing_ranges.map(({ series, first_no, last_no }) => ({ series, from: first_no, through: last_no })),
  }),
  receipts: {
    table: 'receipts',
    number: 'number',
    series: 'series',
    date: 'business_date',
    lines: (receipt) =>
      receipt.parts.receipt_lines.map((line) => ({
        item: line.item_no,
        vatRate: line.vat_rate,
        customer: receipt.customer_no,
        quantity: line.quantity,
        netAmount: line.net_amount,
        vatAmount: line.vat_amount,
      })),
  },
})
const central = createCentral<object, TillTables>({
  database: postgres(pool),
  subscribe: {
    receipts: [
      mirror({ origin: ['location', 'register'] }),
      stockMovements((receipt) =>
        receipt.parts.receipt_lines.map((line) => ({
          item: line.item_no,
          location: 'BA01',
          businessDate: receipt.business_date,
          document: receipt.receipt_no,
          customer: receipt.customer_no,
          quantity: negate(line.quantity),
          amount: line.net_amount,
        })),
      ),
    ],
    ...(closings && { plu_closings: days }),
  },
})
await central.install()
const tokens: Record<string, string> = {}
for (const register of registers) tokens[register] = (await central.registers.add({ location: 'BA01', register })).token
central.on('refused', ({ error }) => console.error(error))
central.on('quarantined', ({ documents }) => console.error(documents[0]))
const server = createServer(toNodeHandler(central.fetch))
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port, tokens } satisfies ApplyCentralReady))
process.on('message', async (asked) => {
  if (asked === 'memory') return process.send?.(memoryNow())
  await central.stop()
  await pool.end()
  server.close()
  server.closeAllConnections()
  process.send?.('stopped', () => process.disconnect?.())
})
