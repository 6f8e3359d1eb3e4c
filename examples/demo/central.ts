import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import pg from 'pg'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type Central, createCentral, mirror, negate, stockMovements } from '../../src/index.ts'
import { toNodeHandler } from '../../src/transport/http.ts'
import { startPostgres } from '../support/postgres.ts'
import { type FromCentral, LOCATION, type ToCentral } from './messages.ts'
import { CENTRAL_SCHEMA, type TillTables } from './tables.ts'

// Head office: one process with a real PostgreSQL, and tillsync behind a node:http server.

process.on('SIGINT', () => undefined) // a Ctrl-C is for the director, who ends us
process.on('disconnect', () => process.exit())
process.once('message', (start: ToCentral) => {
  if (start.type !== 'start') return
  const started = run(start.folder, start.registers)
  process.once('message', async () => {
    const stop = await started
    await stop()
    process.exit()
  })
})

/** Returns what ends it. */
async function run(folder: string, registers: readonly string[]): Promise<() => Promise<void>> {
  const server = await startPostgres({ folder: join(folder, 'head-office') })
  const { config, connectionString } = await server.createDatabase('head_office')
  const pool = new pg.Pool({ ...config, max: 8 })
  pool.on('error', () => undefined)
  await pool.query(CENTRAL_SCHEMA)

  const central = createHeadOffice(pool)
  await central.install()
  central.on('applied', ({ register, entries }) => say({ type: 'applied', register: register.register, entries }))
  central.on('refused', ({ error }) => say({ type: 'refused', why: `${error.code}: ${error.message}` }))
  const tokens: Record<string, string> = {}
  for (const register of registers) tokens[register] = (await central.registers.add({ location: LOCATION, register })).token

  const http = createServer(toNodeHandler(central.fetch)).listen(0, '127.0.0.1')
  await once(http, 'listening')
  say({ type: 'ready', port: (http.address() as AddressInfo).port, connectionString, tokens })

  return async () => {
    http.close()
    http.closeAllConnections()
    await central.stop()
    await pool.end()
    await server.stop()
  }
}

/** All that head office does with what the tills send. */
function createHeadOffice(pool: pg.Pool): Central {
  return createCentral<unknown, TillTables>({
    database: postgres(pool),
    subscribe: {
      receipts: [
        mirror({ origin: ['location', 'register'] }),
        stockMovements((receipt) =>
          receipt.parts.receipt_lines.map((line) => ({
            item: line.item_no,
            location: LOCATION,
            businessDate: receipt.business_date,
            document: receipt.receipt_no,
            customer: receipt.customer_no,
            line: line.line_no,
            quantity: negate(line.quantity),
            amount: line.net_amount,
          })),
        ),
      ],
    },
  })
}

function say(message: FromCentral): void {
  if (process.connected) process.send?.(message)
}
