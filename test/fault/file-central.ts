import pg from 'pg'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createCentral } from '../../src/index.ts'
import { centralFileMailbox } from '../../src/transport/file.ts'
import { SUBSCRIBE } from '../support/shop.ts'

/** Head office that receives from a folder. Arguments: the pool's configuration as JSON, the folder, the key of all registers. */
const [, , config = '{}', folder = '', key = ''] = process.argv
const pool = new pg.Pool(JSON.parse(config))
pool.on('error', () => undefined)
const central = createCentral({
  database: postgres(pool),
  subscribe: SUBSCRIBE,
  mailboxes: [centralFileMailbox({ folder, keys: () => key, lookMs: 10 })],
})
await central.start()
process.send?.('up')
process.on('disconnect', () => process.exit())
