import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import Database from 'better-sqlite3'
import { startPostgres } from '../examples/support/postgres.ts'
import type { PushTransfer } from '../src/index.ts'
import { httpLink } from '../src/transport/http.ts'
import { type Bench, expect, interleave, toResult } from './measure.ts'
import { startProgram } from './program.ts'
import { LINES, openTill, ROWS, register, seller, temporaryFolder } from './shop.ts'

const ENTRIES = 200_000
/** Entries in a batch, for both sides alike. */
const BATCH = 5_000

/** What the central process says at the end: what really stands in the database. */
export interface Counted {
  readonly movements: number
  /** All that moved, and all that lies in stock: the same. */
  readonly moved: string
  readonly level: string
  readonly copies: number
}

/** What the central process says when it is ready. */
export interface Ready {
  readonly port: number
  /** A new register and its token. */
  readonly tokens: readonly { readonly register: string; readonly token: string }[]
}

/** A till with so many entries sealed, or the rest of a sale more. */
export async function sealedTill(file: string, wanted = ENTRIES): Promise<number> {
  const db = openTill(file, 'OFF')
  const till = register(file, 'POS1')
  await till.install()
  const sell = seller(db)
  for (let no = 1; no <= Math.ceil(wanted / ROWS); no++) sell(no)
  const { entries } = await till.seal()
  await till.stop()
  db.close()
  return entries
}

/** Entries a second, until central has acknowledged all. */
export async function drain(file: string, name: string, transfer: PushTransfer, entries: number): Promise<number> {
  const till = register(file, name, { transfer })
  await till.status() // opens it
  const began = performance.now()
  const { sent } = await till.synchronize()
  const seconds = (performance.now() - began) / 1_000
  await till.stop()
  expect('the number of entries sent', sent, entries)
  return sent / seconds
}

/** Reads, posts by HTTP, and the other side inserts into one table: no checks, no documents, no postings. */
async function copy(file: string, port: number, entries: number): Promise<number> {
  const db = new Database(file, { readonly: true })
  const read = db
    .prepare('SELECT entry_no, table_name, record_id, record, sealed_at FROM sync_entries WHERE entry_no > ? ORDER BY entry_no LIMIT ?')
    .raw()
  const began = performance.now()
  let last = 0
  while (last < entries) {
    const rows = read.all(last, BATCH) as [number, ...unknown[]][]
    const body = gzipSync(JSON.stringify(rows), { level: 1 })
    const response = await fetch(`http://127.0.0.1:${port}/copy`, { method: 'POST', body })
    if (!response.ok) throw new Error(`The baseline's server answered ${response.status}`)
    await response.arrayBuffer()
    last = rows.at(-1)?.[0] ?? entries
  }
  db.close()
  return entries / ((performance.now() - began) / 1_000)
}

export const pipeline: Bench = {
  name: 'pipeline',
  about: `entries a second from ${ENTRIES.toLocaleString('en')} sealed entries to posted movements and levels over loopback HTTP, beside reading, posting by HTTP and inserting into one table`,
  rounds: 3,
  async run({ rounds, note }) {
    const folder = temporaryFolder()
    const template = join(folder, 'sealed.sqlite')
    const entries = await sealedTill(template)
    note(`${entries.toLocaleString('en')} entries sealed`)
    const server = await startPostgres()
    try {
      const { config } = await server.createDatabase()
      const { ready, stop } = await startProgram<Ready>('pipeline-central.ts', { config, rounds: rounds + 1 })
      const tokens = [...ready.tokens]
      const { moved, copied } = await interleave(rounds, {
        moved: () => {
          const own = tokens.shift() as Ready['tokens'][number]
          const file = join(folder, `${own.register}.sqlite`)
          copyFileSync(template, file)
          const link = httpLink({ url: `http://127.0.0.1:${ready.port}/sync`, token: own.token })
          return drain(file, own.register, { type: 'push', link, recordsPerRun: BATCH, bytesPerRun: 16_777_216 }, entries)
        },
        copied: () => copy(template, ready.port, entries),
      })
      const counted = (await stop()) as Counted
      expect('the number of movements', counted.movements, (rounds + 1) * (entries / ROWS) * LINES)
      expect('the stock of all articles', counted.level, counted.moved)
      expect('the number of copied entries', counted.copies, (rounds + 1) * entries)
      return [toResult('pipeline', 'entries/s', moved, copied, { of: 'ratio', bound: '≥', value: 0.4 })]
    } finally {
      await server.stop()
    }
  },
}
