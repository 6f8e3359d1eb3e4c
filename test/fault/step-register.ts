import Database from 'better-sqlite3'
import pg from 'pg'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister } from '../../src/index.ts'
import type { Link } from '../../src/ports.ts'
import { decodeMessage } from '../../src/transport/codec.ts'
import { httpLink } from '../../src/transport/http.ts'
import { die, poolUntil, type StepAt, verboseUntil } from '../support/fault/step.ts'
import { PUBLISH } from '../support/shop.ts'

export interface StepRegisterArguments {
  readonly location: string
  readonly register: string
  readonly token: string
  readonly url: string
  /** Its database: an SQLite file, or PostgreSQL's pool configuration. */
  readonly file?: string
  readonly config?: pg.PoolConfig
  /** The statement at which it ends. */
  readonly at?: StepAt
  /** Where between statements it ends. */
  readonly link?: 'batch read' | 'answer heard' | 'frame taken'
  /** Statements of the POS application, each a transaction. */
  readonly sales: readonly string[]
  readonly prune?: boolean
}

/** A till in a process of its own: sells, seals, exchanges, prunes, and ends; at a named step by SIGKILL. */
const { location, register, token, url, file, config, at, link, sales, prune } = JSON.parse(process.argv[2] ?? '{}') as StepRegisterArguments
const inner = httpLink({ url, token, timeoutMs: 10_000 })
const between: Link = {
  async exchange(message, options) {
    if (link === 'batch read') die()
    const answer = await inner.exchange(message, options)
    if (link === 'answer heard') die()
    if (link === 'frame taken' && (await decodeMessage(answer, 1_000_000)).subscribe?.staged !== undefined) die()
    return answer
  },
}
const replica = createRegister({
  location,
  register,
  database: config ? postgres(poolUntil(config, at)) : sqlite(() => new Database(file, { verbose: verboseUntil(at) })),
  publish: PUBLISH,
  transfer: { type: 'push', link: between, recordsPerRun: 20, bytesPerRun: 1_024 },
  retainMs: 0,
})
if (config) {
  const host = new pg.Client(config)
  await host.connect()
  for (const sale of sales) await host.query(`BEGIN; ${sale}; COMMIT`)
  await host.end()
} else {
  const host = new Database(file)
  for (const sale of sales) host.exec(`BEGIN IMMEDIATE; ${sale}; COMMIT`)
  host.close()
}
await replica.seal()
await replica.synchronize()
if (prune) await replica.prune()
process.exit(0)
