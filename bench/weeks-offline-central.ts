// Head office of the bench `weeks-offline`, in a process of its own. Says its port and a token, and when it is asked, what memory it has.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import { postgres } from '../src/adapters/postgres/adapter.ts'
import { createCentral, negate, stockMovements } from '../src/index.ts'
import { toNodeHandler } from '../src/transport/http.ts'
import { memoryNow } from './memory.ts'

const { config } = JSON.parse(process.argv[2] as string) as { config: pg.PoolConfig }
const pool = new pg.Pool(config)
const central = createCentral({
  database: postgres(pool),
  subscribe: {
    receipts: stockMovements((receipt) =>
      (receipt.parts.receipt_lines ?? []).map((line) => ({
        item: line.item_no,
        location: 'BA01',
        businessDate: receipt.business_date,
        document: receipt.receipt_no,
        quantity: negate(line.quantity),
        amount: line.net_amount,
      })),
    ),
  },
})
await central.install()
const { token } = await central.registers.add({ location: 'BA01', register: 'POS1' })
const server = createServer(toNodeHandler(central.fetch))
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port, token }))
process.on('message', async (asked) => {
  if (asked === 'memory') return process.send?.(memoryNow())
  await central.stop()
  const { rows } = await pool.query('SELECT count(*)::int AS movements FROM stock_movements')
  process.send?.(rows[0].movements)
  await pool.end()
  server.close()
  server.closeAllConnections()
  process.disconnect?.()
})
