// Head office of the bench `snapshot`: publishes items with their barcodes over a socket.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import { postgres } from '../src/adapters/postgres/adapter.ts'
import { createCentral } from '../src/index.ts'
import { toNodeHandler } from '../src/transport/http.ts'
import type { SnapshotOffice } from './snapshot.ts'

const { config, items, registers } = JSON.parse(process.argv[2] as string) as SnapshotOffice
const pool = new pg.Pool(config)
await pool.query(`CREATE TABLE items (item_no text PRIMARY KEY, name text NOT NULL, unit_price numeric(12, 2) NOT NULL, vat_code text);
  CREATE TABLE item_barcodes (barcode text PRIMARY KEY, item_no text NOT NULL REFERENCES items);
  CREATE INDEX ON item_barcodes (item_no);
  INSERT INTO items SELECT 'I' || n, 'Item number ' || n, n / 100.0, 'S' FROM generate_series(1, ${items}) n;
  INSERT INTO item_barcodes SELECT (4000000000000 + n)::text, 'I' || n FROM generate_series(1, ${items}) n; ANALYZE`)
const publish = { items: {}, item_barcodes: { partOf: { items: { item_no: 'item_no' } } } }
const central = createCentral({ database: postgres(pool), subscribe: {}, publish, pull: { token: () => '' } })
await central.install()
await central.synchronize()
const tokens: string[] = []
for (let n = 0; n < registers; n++) tokens.push((await central.registers.add({ location: 'BA01', register: `POS${n}` })).token)

const server = createServer(toNodeHandler(central.fetch))
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port, tokens }))
process.once('message', async () => {
  server.close()
  server.closeAllConnections()
  await central.stop()
  await pool.end()
  process.send?.('stopped', () => process.disconnect?.())
})
