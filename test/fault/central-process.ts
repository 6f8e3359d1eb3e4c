import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import pg from 'pg'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createCentral } from '../../src/index.ts'
import { toNodeHandler } from '../../src/transport/http.ts'
import { SUBSCRIBE } from '../support/shop.ts'

/** Head office in a process of its own. Arguments: the pool's configuration as JSON, the port (0: any). Says its port when it listens. */
const [, , config = '{}', port = '0'] = process.argv
const pool = new pg.Pool(JSON.parse(config))
pool.on('error', () => undefined)
const central = createCentral({ database: postgres(pool), subscribe: SUBSCRIBE })
await central.install().catch(() => undefined) // the database may be away just now; the first request asks again
const server = createServer(toNodeHandler(central.fetch))
server.listen(Number(port), '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port))
process.on('disconnect', () => process.exit())
