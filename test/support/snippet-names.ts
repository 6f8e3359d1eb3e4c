/** What snippets of the docs take for granted, so that they stay short: the package's names where a snippet imports none, and what its host has. */
export const NAMES = `
import type { Database as Sqlite } from 'better-sqlite3'
import type * as http from 'node:http'
import type { Pool } from 'pg'
import type * as tillsync from 'tillsync'
import type { postgres } from 'tillsync/postgres'
import type * as links from 'tillsync/http'

declare global {
  const createRegister: typeof tillsync.createRegister
  const createCentral: typeof tillsync.createCentral
  const mirror: typeof tillsync.mirror
  const stockMovements: typeof tillsync.stockMovements
  const pluClosings: typeof tillsync.pluClosings
  const balanced: typeof tillsync.balanced
  const knownItems: typeof tillsync.knownItems
  const openPeriod: typeof tillsync.openPeriod
  const httpLink: typeof links.httpLink
  const toNodeHandler: typeof links.toNodeHandler
  const createServer: typeof http.createServer
  type Register = tillsync.Register
  type Database = Sqlite

  const pool: Pool
  const till: tillsync.Register
  const central: tillsync.Central
  const database: ReturnType<typeof postgres>
  const publish: { receipts: {} }
  const subscribe: { receipts: () => void }
  const url: string
  const token: string
  const key: string
  const signal: AbortSignal
  const cert: string
  const ca: string
  const servers: string
  const credentials: { user: string; password: string }
  const centralKey: string
  const vault: { read(location: string, register: string): Promise<string> }
  const mailer: { send(letter: { idempotencyKey: string; to: string }): Promise<void> }
  function readSecret(name: string): string
  function show(...what: unknown[]): void
  function pointsOf(document: unknown): number
  function toMovements(document: unknown): tillsync.Movement[]
  function toEntry(posting: tillsync.StockPosting): { item_no: string }

  /** What is left out by an ellipsis: of a register's options, of central's, and of anything else. */
  const REGISTER: { location: string; register: string; database: ReturnType<typeof postgres>; publish: { receipts: {} } }
  const CENTRAL: { database: ReturnType<typeof postgres>; subscribe: { receipts: () => void } }
  const LEFT_OUT: never
}
`
