import { copyFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import type { Postgres } from '../examples/support/postgres.ts'
import { postgres } from '../src/adapters/postgres/adapter.ts'
import { createRegister, type Register } from '../src/index.ts'
import { httpLink } from '../src/transport/http.ts'
import { expect } from './measure.ts'
import { startProgram } from './program.ts'
import { LINES, openTill as openSqliteTill, type RegisterMore, ROWS, RULES, register, seller, temporaryFolder } from './shop.ts'
import { copyDatabase, openTill as openPostgresTill, sellMany, withRegister } from './shop-postgres.ts'

/** Sales of 7 records, a hundred of 100 and ten of 1,000: 100,000 records in all. */
const SALES = 11_538
const LARGE = [
  { every: 1_153, records: 1_000 },
  { every: 115, records: 100 },
] as const

function linesOf(sale: number): number {
  const large = LARGE.find(({ every }) => sale % every === every - 1)
  return large ? large.records - 2 : LINES
}

const BACKLOG = Array.from({ length: SALES }, (_, n) => linesOf(n + 1) + 2).reduce((sum, records) => sum + records, 0)

/** Where the cashier sells. */
export type Place = { readonly file: string } | { readonly config: pg.PoolConfig }

/** A till with a backlog that is touched, and nothing else. */
export interface Backlog {
  readonly till: Register
  readonly place: Place
  close(): Promise<void>
}

/** Opens another copy each time. */
export type OpenBacklog = () => Promise<Backlog>

/** All that head office does here is to acknowledge: its work would be measured along on the same machine. */
export async function startHeadOffice(): Promise<{ readonly port: number; stop(): Promise<void> }> {
  const { ready, stop } = await startProgram<{ port: number }>('head-office.ts', {})
  return {
    port: ready.port,
    async stop() {
      await stop()
    },
  }
}

let registers = 0
/** A name of its own, since each copy begins a stream. Entries are pruned as soon as they are acknowledged. */
function named(port: number): { name: string; more: RegisterMore } {
  const name = `POS${++registers}`
  const link = httpLink({ url: `http://127.0.0.1:${port}/`, token: name })
  return { name, more: { transfer: { type: 'push', link }, retainMs: 0 } }
}

export async function sqliteBacklog(port: number): Promise<OpenBacklog> {
  const folder = temporaryFolder()
  const template = join(folder, 'touched.sqlite')
  const db = openSqliteTill(template, 'OFF')
  const till = register(template, 'POS')
  await till.install()
  await till.stop()
  const sell = seller(db)
  for (let no = 1; no <= SALES; no++) sell(no, linesOf(no))
  db.close()
  return async () => {
    const { name, more } = named(port)
    const file = join(folder, `${name}.sqlite`)
    copyFileSync(template, file)
    const till = register(file, name, more)
    const close = async () => {
      await till.stop()
      for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true })
    }
    return { till, place: { file }, close }
  }
}

export async function postgresBacklog(server: Postgres, port: number): Promise<OpenBacklog> {
  const { client, database } = await openPostgresTill(server)
  await withRegister(database.config, {}, async () => undefined)
  for (let no = 1, next = 1; no <= SALES; no = next) {
    while (next <= SALES && linesOf(next) === linesOf(no)) next++
    await sellMany(client, no, next - no, linesOf(no))
  }
  await client.query('VACUUM ANALYZE')
  await client.end()
  return async () => {
    const { name, more } = named(port)
    const copy = await copyDatabase(server, database.config.database)
    const pool = new pg.Pool(copy.config).on('error', () => undefined)
    const till = createRegister({ location: 'BA01', register: name, database: postgres(pool), publish: RULES, ...more })
    const close = async () => {
      await till.stop()
      await pool.end()
      await copy.drop()
    }
    return { till, place: { config: copy.config }, close }
  }
}

/** Seals, sends and prunes the backlog, as it goes by itself once started; what is sold meanwhile too. */
export async function workOff({ till }: Backlog): Promise<void> {
  let sent = 0
  const acknowledged = new Promise<void>((resolve, reject) => {
    till.on('failed', ({ error }) => reject(error))
    till.on('offline', ({ error }) => reject(error))
    till.on('exchanged', (exchanged) => {
      sent += exchanged.sent
      if (sent >= BACKLOG) resolve()
    })
  })
  await till.start()
  await acknowledged
  const { entries } = await till.prune()
  expect('that the backlog was pruned', entries >= BACKLOG - ROWS, true)
}
