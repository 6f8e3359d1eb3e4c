import pg from 'pg'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createCentral, mirror, stockMovements } from '../../src/index.ts'
import { centralNatsMailbox } from '../../src/transport/nats.ts'
import { movementsAt } from '../support/shop.ts'

/** One of several workers of head office. Arguments: the pool's configuration and the server's options as JSON. Says how many batches it has applied, each time. */
const [, , config = '{}', options = '{}'] = process.argv
const pool = new pg.Pool(JSON.parse(config))
pool.on('error', () => undefined)
const ORIGIN = mirror({ origin: ['location', 'register'] })
const central = createCentral({
  database: postgres(pool),
  subscribe: { pos_processes: ORIGIN, receipts: [ORIGIN, stockMovements(movementsAt('BA01'))] },
  mailboxes: [centralNatsMailbox(JSON.parse(options))],
})
let applied = 0
central.on('applied', () => process.send?.(++applied))
process.on('disconnect', () => process.exit())
await central.start()
process.send?.(applied)
