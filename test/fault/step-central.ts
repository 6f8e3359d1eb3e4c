import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type pg from 'pg'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createCentral } from '../../src/index.ts'
import { toNodeHandler } from '../../src/transport/http.ts'
import { poolUntil, type StepAt } from '../support/fault/step.ts'
import { SUBSCRIBE } from '../support/shop.ts'

export interface StepCentralArguments {
  readonly config: pg.PoolConfig
  readonly at?: StepAt
}

/** Head office in a process of its own, which may end at a named step by SIGKILL. Says its port when it listens, and when it is asked, what memory it has, in bytes. */
const { config, at } = JSON.parse(process.argv[2] ?? '{}') as StepCentralArguments
const central = createCentral({ database: postgres(poolUntil(config, at)), subscribe: SUBSCRIBE })
await central.start()
const server = createServer(toNodeHandler(central.fetch))
server.listen(0, '127.0.0.1', () => process.send?.((server.address() as AddressInfo).port))
process.on('message', () => {
  global.gc?.()
  process.send?.(process.memoryUsage().rss)
})
process.on('disconnect', () => process.exit())
