import { appendFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createCentral } from '../../src/index.ts'
import { toNodeHandler } from '../../src/transport/http.ts'

/** Head office with a printer, which is a file. Arguments: the pool's configuration as JSON, the port (0: any), the file. Says its port when it listens. */
const [, , config = '{}', port = '0', file = ''] = process.argv
const pool = new pg.Pool(JSON.parse(config))
pool.on('error', () => undefined)
const central = createCentral({
  database: postgres(pool),
  handlerTimeoutMs: 200, // nobody else waits longer for what this process owes
  subscribe: {
    receipts: (changes, { once }) => {
      for (const { document } of changes) {
        if (document === undefined) continue
        once(`print ${document.receipt_no}`, async (key) => {
          appendFileSync(file, `begin ${key}\n`)
          await pause(5)
          appendFileSync(file, `end ${key}\n`)
        })
      }
    },
  },
})
await central.install().catch(() => undefined)
const server = createServer(toNodeHandler(central.fetch))
server.listen(Number(port), '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port))
process.on('disconnect', () => process.exit())
