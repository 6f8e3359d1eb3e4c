import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import Database from 'better-sqlite3'
import type { Test } from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import type { CapturingDatabase } from '../../src/ports.ts'
import type { Answering, ContractTest } from '../../src/testing.ts'
import { toNodeHandler } from '../../src/transport/http.ts'
import { seedOfRun } from '../support/random.ts'

/** How long a link of these tests waits for an answer. */
export const TIMEOUT_MS = 3_000
/** How many promises are looked at at a time: some of them do nothing but wait. */
const AT_A_TIME = 3

/** Tests of a contract, some at a time, and the seed of its dice. */
export function inContract(t: Test): { readonly test: ContractTest; readonly seed: number } {
  const seed = seedOfRun()
  t.comment(`--seed=${seed}`)
  t.jobs = AT_A_TIME
  const test: ContractTest = (name, run) => t.test(name, { buffered: true }, run)
  return { test, seed }
}

export function tillDatabase(file: string): CapturingDatabase {
  return sqlite(() => {
    const db = new Database(file)
    db.pragma('journal_mode = WAL')
    return db
  })
}

/** Serves it on a socket, until `close`. */
export async function serve(answering: Answering): Promise<{ readonly url: string; close(): void }> {
  const http = createServer(toNodeHandler(answering.fetch)).listen(0, '127.0.0.1')
  await once(http, 'listening')
  return {
    url: `http://127.0.0.1:${(http.address() as AddressInfo).port}/sync`,
    close() {
      http.close()
      http.closeAllConnections()
    },
  }
}
