import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { linkContract } from '../../src/testing.ts'
import { httpLink } from '../../src/transport/http.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { inContract, serve, TIMEOUT_MS, tillDatabase } from './links.ts'

const server = await startServer(t)
const pool = await createPool(t, server)

const { test, seed } = inContract(t)

linkContract(test, {
  seed,
  database: () => postgres(pool),
  tillDatabase,
  timeoutMs: TIMEOUT_MS,
  async link(central, _register, token) {
    const { url, close } = await serve(central)
    return { ...httpLink({ url, token, timeoutMs: TIMEOUT_MS }), close }
  },
})
