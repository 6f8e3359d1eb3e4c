import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import Database from 'better-sqlite3'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import type { CapturingDatabase } from '../../src/ports.ts'
import type { Answering } from '../../src/testing.ts'
import { toNodeHandler } from '../../src/transport/http.ts'

/** How long a link of these tests waits for an answer. */
export const TIMEOUT_MS = 2_000

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
