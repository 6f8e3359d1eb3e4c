import Database from 'better-sqlite3'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister } from '../../src/index.ts'
import { fileMailbox } from '../../src/transport/file.ts'
import { PUBLISH } from '../support/shop.ts'

/** A till that leaves its letters in a folder. Arguments: the database's file, the folder, the key. */
const [, , file = '', folder = '', key = ''] = process.argv
const name = { location: 'BA01', register: 'POS1' }
const till = createRegister({
  ...name,
  database: sqlite(() => new Database(file)),
  publish: PUBLISH,
  transfer: {
    type: 'push',
    mailbox: fileMailbox({ ...name, folder, key, lookMs: 10 }),
    everyMs: 20,
    recordsPerRun: 50,
    backoff: { minMs: 5, maxMs: 50 },
    resend: { minMs: 200, maxMs: 400 },
  },
})
await till.install()
await till.start()
process.send?.('up')
process.on('disconnect', () => process.exit())
