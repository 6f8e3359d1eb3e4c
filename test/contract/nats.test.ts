import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { mailboxContract } from '../../src/testing.ts'
import { noNats, openHub } from '../support/nats.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { inContract, tillDatabase } from './links.ts'

const server = noNats ? undefined : await startServer(t)
if (server === undefined) t.pass(`left out: ${noNats}`, { skip: noNats })
else {
  const pool = await createPool(t, server)
  const { test, seed } = inContract(t)
  mailboxContract(test, {
    seed,
    database: () => postgres(pool),
    tillDatabase,
    withinMs: 20_000,
    async open(location) {
      const endings: (() => unknown)[] = []
      const registers = ['POS1', 'POS2', 'POS3'].map((register) => ({ location, register }))
      const hub = await openHub({ teardown: (end) => endings.push(end) }, { registers, ackWaitMs: 1_000 })
      return {
        central: () => hub.centralMailbox(),
        register: (name) => hub.mailbox(name),
        async close() {
          for (const end of endings.reverse()) await end()
        },
      }
    },
  })
}
