import { rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import pg from 'pg'
import type { Postgres } from '../examples/support/postgres.ts'
import { postgres } from '../src/adapters/postgres/adapter.ts'
import { sqlite } from '../src/adapters/sqlite/adapter.ts'
import { cutBatch } from '../src/capture/log.ts'
import { pruneSlice } from '../src/capture/prune.ts'
import { createRegister, type Register } from '../src/index.ts'
import type { CapturingDatabase } from '../src/ports.ts'
import { readPeer, writePeer } from '../src/transport/peers.ts'
import { type BuiltLog, logStatements, POSTGRES_LOG, type SealedEntry, SQLITE_LOG } from './log-builder.ts'
import { type Bench, expect, interleave, median, type Result, type Run, roundsOf, toResult } from './measure.ts'
import { LINES, openTill as openSqliteTill, ROWS, RULES, seller, temporaryFolder } from './shop.ts'
import { openTill as openPostgresTill, sellMany, withPostgres } from './shop-postgres.ts'

const SMALL = 5_000
const ENTRIES_PER_MEMBER = 5
const TURNS = 20
/** Sales in a turn: about as many entries come as a slice of pruning takes, so that a log keeps its size. */
const SALES = 72
const BATCHES = 4
const STATUSES = 10
const LIMITS = { records: 500, bytes: 1_048_576 }
const SLICE = 500

/** A till with a built log. */
interface Till {
  readonly register: Register
  readonly database: CapturingDatabase
  readonly entries: number
  sell(sales: number): Promise<void> | void
  close(): Promise<void>
}

const DEEDS = ['seal', 'read', 'prune', 'status'] as const
type Figures = Readonly<Record<(typeof DEEDS)[number], number>>

/** What each costs, in milliseconds. Half of the log is acknowledged. */
async function turn({ register, database, entries, sell }: Till): Promise<Figures> {
  await sell(SALES)
  const seal = await timed(1, async () => expect('the number of sealed entries', (await register.seal()).entries, SALES * ROWS))
  const { head } = await register.status()
  const acknowledged = head.entryNo - Math.floor(entries / 2)
  await database.write(() => writePeer('central', { standing: { ...head, entryNo: acknowledged }, contactAt: new Date().toISOString() }))
  let after = { entryNo: acknowledged, digest: '' }
  const read = await timed(BATCHES, async () => {
    const batch = await database.read(() => cutBatch(database, head.epoch, after, LIMITS))
    after = batch?.through ?? after
  })
  expect('that batches were read', after.entryNo > acknowledged + (BATCHES * LIMITS.records) / 2, true)
  const limits = { acknowledged, now: Date.now(), retainMs: 0 }
  const prune = await timed(1, async () => expect('the number of pruned entries', await database.write(() => pruneSlice(database, limits)), SLICE))
  const status = await timed(STATUSES, async () => expect('what is pending', (await register.status()).pending, head.entryNo - acknowledged))
  expect('the standing', (await database.read(() => readPeer(database, 'central')))?.standing?.entryNo, acknowledged)
  return { seal, read, prune, status }
}

async function timed(times: number, work: () => Promise<void>): Promise<number> {
  const began = performance.now()
  for (let n = 0; n < times; n++) await work()
  return (performance.now() - began) / times
}

async function compare(dialect: string, small: Till, large: Till, rounds: number): Promise<Result[]> {
  const figures = await interleave(rounds, { small: () => turn(small), large: () => turn(large) }, TURNS)
  const of = (which: 'small' | 'large', deed: (typeof DEEDS)[number]) =>
    roundsOf(
      figures[which].map((figure) => figure[deed]),
      TURNS,
      median,
    )
  for (const till of [small, large]) await till.close()
  return DEEDS.map((deed) =>
    toResult(`large-log, ${dialect}: ${deed}`, 'ms', of('large', deed), of('small', deed), { of: 'ratio', bound: '≤', value: 1.3 }),
  )
}

/** The sale that the log is made of comes after its last; ids are as long in a small log as in a large one. */
function logOf(entries: number, largest: number): BuiltLog {
  const members = (of: number) => Math.ceil(of / ENTRIES_PER_MEMBER)
  return { entries, members: members(entries), lastId: 2 * 10 ** Math.ceil(Math.log10(members(largest))) }
}

/** What is taken from the first new id on. */
const idsFrom = ({ lastId }: BuiltLog) => ({ receipts: lastId, receipt_lines: lastId * LINES, tender_lines: lastId })

async function sealedSale(register: Register, sell: Till['sell'], read: () => Promise<SealedEntry[]> | SealedEntry[]): Promise<SealedEntry[]> {
  await register.install()
  await sell(1)
  await register.seal()
  const sale = await read()
  expect('the number of entries of a sale', sale.length, ROWS)
  return sale
}

const SALE = 'SELECT table_name, record FROM sync_entries ORDER BY entry_no'

async function sqliteTill(file: string, log: BuiltLog): Promise<Till> {
  const db = openSqliteTill(file, 'FULL')
  // A rowid follows the highest there is; this sale is open, so that nobody hears of it.
  const { receipts, receipt_lines, tender_lines } = idsFrom(log)
  db.exec(`INSERT INTO receipts VALUES (${receipts}, 'R-0', 'A', '2026-11-21', '2026-11-21', NULL, 'cashier', 'open', '0', '0', '0');
    INSERT INTO receipt_lines VALUES (${receipt_lines}, ${receipts}, 1, 'item', 'Article', 1, '0', 'S', '0', '0');
    INSERT INTO tender_lines VALUES (${tender_lines}, ${receipts}, 'cash', '0')`)
  const database = sqlite(() => new Database(file))
  const register = createRegister({ location: 'BA01', register: 'POS1', database, publish: RULES })
  const sellOne = seller(db)
  let no = 1
  const sell = (sales: number) => {
    for (let n = 0; n < sales; n++) sellOne(no++)
  }
  const sale = await sealedSale(register, sell, () => db.prepare(SALE).all() as SealedEntry[])
  db.pragma('synchronous = OFF')
  for (const sql of logStatements(SQLITE_LOG, sale, log)) db.exec(sql)
  db.pragma('synchronous = FULL')
  db.pragma('wal_checkpoint(TRUNCATE)')
  const close = async () => {
    await register.stop()
    db.close()
  }
  return { register, database, entries: log.entries, sell, close }
}

async function postgresTill(server: Postgres, log: BuiltLog): Promise<Till> {
  const { client, database: own } = await openPostgresTill(server)
  for (const [table, id] of Object.entries(idsFrom(log))) await client.query(`ALTER TABLE ${table} ALTER id RESTART WITH ${id + 1}`)
  const pool = new pg.Pool(own.config).on('error', () => undefined)
  const database = postgres(pool)
  const register = createRegister({ location: 'BA01', register: 'POS1', database, publish: RULES })
  let no = 1
  const sell = async (sales: number) => {
    await sellMany(client, no, sales)
    no += sales
  }
  const sale = await sealedSale(register, sell, async () => (await client.query<SealedEntry>(SALE)).rows)
  await client.query('SET synchronous_commit = off')
  for (const sql of logStatements(POSTGRES_LOG, sale, log)) await client.query(sql)
  await client.query('VACUUM ANALYZE') // as autovacuum does in time
  await client.query('CHECKPOINT')
  const close = async () => {
    await register.stop()
    await pool.end()
    await client.end()
  }
  return { register, database, entries: log.entries, sell, close }
}

async function onSqlite({ entries, rounds, note }: Run): Promise<Result[]> {
  const folder = temporaryFolder()
  const build = (name: string, of: number) => sqliteTill(join(folder, name), logOf(of, entries))
  const began = performance.now()
  const large = await build('large.sqlite', entries)
  note(`SQLite: ${said(entries, began, statSync(join(folder, 'large.sqlite')).size)}`)
  const results = await compare('SQLite', await build('small.sqlite', SMALL), large, rounds)
  rmSync(folder, { recursive: true })
  return results
}

function onPostgres({ entries, rounds, note }: Run): Promise<Result[]> {
  return withPostgres(async (server) => {
    const admin = (await openPostgresTill(server)).client
    const settle = async (setting: string) => {
      await admin.query(`ALTER SYSTEM ${setting}`)
      await admin.query('SELECT pg_reload_conf()')
    }
    await settle("SET max_wal_size = '256MB'") // spares the disk while the log is built
    const began = performance.now()
    const large = await postgresTill(server, logOf(entries, entries))
    const { rows } = await admin.query('SELECT sum(pg_database_size(oid))::float8 AS bytes FROM pg_database')
    note(`PostgreSQL: ${said(entries, began, rows[0].bytes)}`)
    const small = await postgresTill(server, logOf(SMALL, entries))
    await settle('RESET max_wal_size')
    const results = await compare('PostgreSQL', small, large, rounds)
    await admin.end()
    return results
  })
}

function said(entries: number, began: number, bytes: number): string {
  return `a log of ${entries.toLocaleString('en')} entries in ${((performance.now() - began) / 1_000).toFixed(1)} s, ${Math.round(bytes / 1_048_576)} MB`
}

export const largeLog: Bench = {
  name: 'large-log',
  about: `what sealing ${SALES} fresh sales, reading a batch, pruning a slice and status() cost with a large log (--entries) against one of ${SMALL.toLocaleString('en')}`,
  rounds: 5,
  entries: 5_000_000,
  run: async (run) => [...(await onSqlite(run)), ...(await onPostgres(run))],
}
