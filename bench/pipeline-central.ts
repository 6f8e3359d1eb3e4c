// Head office of the benches `pipeline` and `file`, in a process of its own: tillsync at /sync, and in a folder of letters where there is one; the baseline at /copy.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { gunzipSync } from 'node:zlib'
import pg from 'pg'
import { postgres } from '../src/adapters/postgres/adapter.ts'
import { createCentral, negate, stockMovements } from '../src/index.ts'
import { centralFileMailbox } from '../src/transport/file.ts'
import { toNodeHandler } from '../src/transport/http.ts'
import type { Letters } from './file.ts'
import type { Counted } from './pipeline.ts'

const { config, rounds, letters } = JSON.parse(process.argv[2] as string) as { config: pg.PoolConfig; rounds: number; letters?: Letters }
const pool = new pg.Pool(config)
const central = createCentral({
  database: postgres(pool),
  ...(letters && { mailboxes: [centralFileMailbox({ folder: letters.folder, keys: () => letters.key, lookMs: letters.lookMs })] }),
  subscribe: {
    receipts: stockMovements((receipt) =>
      (receipt.parts.receipt_lines ?? []).map((line) => ({
        item: line.item_no,
        location: 'BA01',
        businessDate: receipt.business_date,
        document: receipt.receipt_no,
        customer: receipt.customer_no,
        quantity: negate(line.quantity),
        amount: line.net_amount,
      })),
    ),
  },
})
await central.install()
if (letters) await central.start()
await pool.query(
  'CREATE TABLE copies (copy_no bigint, entry_no bigint, table_name text, record_id text, record text, sealed_at timestamptz, PRIMARY KEY (copy_no, entry_no))',
)
const tokens: { register: string; token: string }[] = []
for (let n = 1; n <= rounds; n++) {
  const register = `POS${n}`
  tokens.push({ register, ...(await central.registers.add({ location: 'BA01', register })) })
}

let copies = 0
async function copy(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const rows = JSON.parse(gunzipSync(await buffer(request)).toString()) as unknown[][]
  if (rows[0]?.[0] === 1) copies++
  const columns = [0, 1, 2, 3, 4].map((at) => rows.map((row) => row[at]))
  const client = await pool.connect()
  await client.query('BEGIN')
  await client.query('INSERT INTO copies SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::text[], $5::text[], $6::timestamptz[])', [
    copies,
    ...columns,
  ])
  await client.query('COMMIT')
  client.release()
  response.end()
}

async function count(): Promise<Counted> {
  const { rows } = await pool.query(
    `SELECT (SELECT count(*)::int FROM stock_movements) AS movements, (SELECT sum(quantity)::text FROM stock_movements) AS moved,
            (SELECT sum(quantity)::text FROM stock_levels) AS level, (SELECT count(*)::int FROM copies) AS copies`,
  )
  return rows[0] as Counted
}

const sync = toNodeHandler(central.fetch)
const server = createServer((request, response) => {
  if (request.url === '/copy') copy(request, response).catch((error) => response.writeHead(500).end(String(error)))
  else sync(request, response)
})
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port, tokens }))
process.once('message', async () => {
  await central.stop()
  process.send?.(await count())
  await pool.end()
  server.close()
  server.closeAllConnections()
  process.disconnect?.()
})
