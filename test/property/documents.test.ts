import Database from 'better-sqlite3'
import fc from 'fast-check'
import type { Pool } from 'pg'
import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import {
  type AnyDocument,
  type Central,
  createCentral,
  createRegister,
  type Movement,
  mirror,
  stockMovements,
  TillsyncError,
} from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { playHistories } from '../support/histories.ts'
import { scripted } from '../support/links.ts'
import { openPool, startServer } from '../support/postgres.ts'
import { argument, budgetOfRun, seedOfRun } from '../support/random.ts'

const budgetMs = budgetOfRun(3_000)
t.setTimeout(budgetMs + 165_000)
const server = await startServer(t)
const pool = openPool(t, (await server.createDatabase()).config)
const seed = seedOfRun()
const path = argument('path')
t.comment(`--seed=${seed}${path === undefined ? '' : ` --path=${path}`}`)

/** What a host's schema may look like, as far as it matters: kinds of keys, with or without filter, identity and parts of parts; and whether all is replayed in the end. */
const shapes = fc.record({
  key: fc.constantFrom('integer', 'text', 'composite'),
  filter: fc.boolean(),
  identity: fc.boolean(),
  parts: fc.constantFrom(1, 2),
  recordsPerRun: fc.integer({ min: 1, max: 12 }),
  replayed: fc.boolean(),
})
type Shape = typeof shapes extends fc.Arbitrary<infer S> ? S : never

const doc = fc.integer({ min: 1, max: 4 })
const line = fc.integer({ min: 1, max: 6 })
const sub = fc.integer({ min: 1, max: 4 })
const value = fc.integer({ min: -3, max: 9 })
const status = fc.constantFrom('posted', 'posted', 'voided', 'open')

/** What happens at a till. Names of documents and lines are few, so that they are used again and again. */
const event = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('create' as const), doc, status, lines: fc.array(fc.tuple(line, value), { maxLength: 3 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('correct' as const), doc, status, value }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('delete' as const), doc }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('line' as const), doc, line, value }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('move' as const), doc, line }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('delete line' as const), line }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('rename line' as const), line, to: line }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('sub' as const), line, sub, value }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('delete sub' as const), sub }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('export' as const), doc }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reseal' as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('seal' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('synchronize' as const) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('lose the answer' as const) }) },
)
type Event = typeof event extends fc.Arbitrary<infer E> ? E : never
/** Events in transactions; 'seal' and the like stand between them. Long ones: to begin costs more than to go on, and what breaks takes a few steps. */
const history = fc.array(fc.array(event, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 25, size: 'max' })

const OUTSIDE = ['export', 'reseal', 'seal', 'synchronize', 'lose the answer']

function keyColumns({ key }: Shape): string[] {
  return key === 'composite' ? ['series', 'no'] : ['no']
}

function keyOf({ key }: Shape, doc: number): unknown[] {
  if (key === 'integer') return [doc]
  return key === 'text' ? [`Beleg ${doc}`] : [doc % 2 === 0 ? 'A' : 'B', doc]
}

function tillSchema(shape: Shape): string {
  const type = shape.key === 'text' ? 'TEXT' : 'INTEGER'
  const key = keyColumns(shape)
  const series = shape.key === 'composite' ? 'series TEXT NOT NULL,' : ''
  return `
    CREATE TABLE docs (${series} no ${type} NOT NULL, born INTEGER, status TEXT, value INTEGER, PRIMARY KEY (${key}));
    CREATE TABLE lines (id INTEGER PRIMARY KEY, ${series} no ${type}, value INTEGER, FOREIGN KEY (${key}) REFERENCES docs ON DELETE CASCADE);
    CREATE INDEX lines_doc ON lines (${key});
    CREATE TABLE subs (id INTEGER PRIMARY KEY, line_id INTEGER REFERENCES lines ON DELETE CASCADE ON UPDATE CASCADE, value INTEGER);
    CREATE INDEX subs_line ON subs (line_id)`
}

function centralSchema(shape: Shape, schema: string): string {
  const type = shape.key === 'text' ? 'text' : 'bigint'
  const series = shape.key === 'composite' ? 'series text,' : ''
  return `
    CREATE SCHEMA ${schema};
    CREATE TABLE ${schema}.docs (${series} no ${type}, born bigint, status text, value bigint, PRIMARY KEY (${keyColumns(shape)}));
    CREATE TABLE ${schema}.lines (id bigint PRIMARY KEY, ${series} no ${type}, value bigint);
    CREATE TABLE ${schema}.subs (id bigint PRIMARY KEY, line_id bigint, value bigint)`
}

/** How often each quantity counts: it is mended in the end. */
let factor = 1

/** One item a line, and its parts add to it. */
function movements(document: AnyDocument): Movement[] {
  if (document.status === 'voided') return []
  const { lines = [], subs = [] } = document.parts
  return [...lines.map((line) => ({ item: `L${line.id}`, value: line.value })), ...subs.map((sub) => ({ item: `S${sub.id}`, value: sub.value }))].map(
    ({ item, value }) => ({ item, location: 'BA01', quantity: BigInt(value * factor) }),
  )
}

/** Plain SQL of a POS application; what breaks one of its own constraints does not happen. */
class Host {
  readonly db = new Database(':memory:')
  private readonly shape: Shape
  private born = 0

  constructor(shape: Shape) {
    this.shape = shape
    this.db.pragma('foreign_keys = ON')
    this.db.exec(tillSchema(shape))
  }

  run(events: readonly Event[]): void {
    try {
      this.db.transaction(() => {
        for (const event of events) this.apply(event)
      })()
    } catch (error) {
      if (!(error as { code?: string }).code?.startsWith('SQLITE_CONSTRAINT')) throw error
    }
  }

  private apply(event: Event): void {
    const keys = keyColumns(this.shape)
    const is = keys.map((name) => `${name} = ?`).join(' AND ')
    const marks = keys.map(() => '?')
    const run = (sql: string, ...values: unknown[]) => this.db.prepare(sql).run(...values)
    switch (event.do) {
      case 'create':
        run(`INSERT INTO docs (${keys}, born, status, value) VALUES (${marks}, ?, ?, 0)`, ...keyOf(this.shape, event.doc), ++this.born, event.status)
        for (const [id, value] of event.lines)
          run(`INSERT OR IGNORE INTO lines (id, ${keys}, value) VALUES (?, ${marks}, ?)`, id, ...keyOf(this.shape, event.doc), value)
        return
      case 'correct':
        return void run(`UPDATE docs SET status = ?, value = ? WHERE ${is}`, event.status, event.value, ...keyOf(this.shape, event.doc))
      case 'delete':
        return void run(`DELETE FROM docs WHERE ${is}`, ...keyOf(this.shape, event.doc))
      case 'line':
        return void run(
          `INSERT OR REPLACE INTO lines (id, ${keys}, value) VALUES (?, ${marks}, ?)`,
          event.line,
          ...keyOf(this.shape, event.doc),
          event.value,
        )
      case 'move':
        return void run(`UPDATE lines SET (${keys}) = (${marks}) WHERE id = ?`, ...keyOf(this.shape, event.doc), event.line)
      case 'delete line':
        return void run('DELETE FROM lines WHERE id = ?', event.line)
      case 'rename line':
        return void run('UPDATE OR REPLACE lines SET id = ? WHERE id = ?', event.to, event.line)
      case 'sub':
        return void run('INSERT OR REPLACE INTO subs VALUES (?, ?, ?)', event.sub, event.line, event.value)
      case 'delete sub':
        return void run('DELETE FROM subs WHERE id = ?', event.sub)
    }
  }
}

let runs = 0

/** Lives through a history at a till and a head office of their own, then compares. */
async function live(shape: Shape, transactions: readonly (readonly Event[])[]): Promise<void> {
  const schema = `run_${++runs}`
  await pool.query(centralSchema(shape, schema))
  const central = createCentral({ database: postgres(pool, { schema }), subscribe: { docs: [mirror(), stockMovements(movements)] } })
  await central.install()
  const { token } = await central.registers.add({ location: 'BA01', register: 'POS1' })
  const host = new Host(shape)
  let lose = false
  const fetch = (url: string | URL | Request, init?: RequestInit) => central.fetch(new Request(url, init))
  const link = scripted(httpLink({ url: 'http://central/', token, fetch }), () => (lose ? 'answer lost' : 'whole'))
  const keys = keyColumns(shape)
  const till = createRegister({
    location: 'BA01',
    register: 'POS1',
    database: sqlite(host.db),
    publish: {
      docs: { ...(shape.filter && { where: (eb) => eb('status', '<>', 'open') }), ...(shape.identity && { identity: ['born'] }) },
      lines: { partOf: { docs: Object.fromEntries(keys.map((name) => [name, name])) } },
      ...(shape.parts === 2 && { subs: { partOf: { lines: { line_id: 'id' } } } }),
    },
    transfer: { type: 'push', link, recordsPerRun: shape.recordsPerRun },
  })
  try {
    await till.install()
    for (const events of transactions) {
      host.run(events.filter((event) => !OUTSIDE.includes(event.do)))
      for (const event of events) {
        if (event.do === 'seal') await till.seal()
        if (event.do === 'reseal') await till.reseal('docs')
        if (event.do === 'synchronize') await till.synchronize()
        if (event.do === 'export') await till.export('docs', Object.fromEntries(keyOf(shape, event.doc).map((key, n) => [keys[n], key])))
        if (event.do !== 'lose the answer') continue
        lose = true
        await till.synchronize().catch((error) => {
          if (!(error instanceof TillsyncError) || error.code !== 'ERR_LINK') throw error
        })
        lose = false
      }
    }
    await till.synchronize()
    const { pending, unsealed, parked } = await till.status()
    same({ pending, unsealed, parked }, { pending: 0, unsealed: 0, parked: [] }, 'everything was sent')
    await compare(shape, host.db, schema)
    if (shape.replayed) await replayAll(central, shape, host.db, schema)
  } finally {
    factor = 1
    await till.stop()
    await central.stop()
    host.db.close()
    await pool.query(`DROP SCHEMA ${schema} CASCADE`)
  }
}

/** What is archived goes through the handlers again: for nothing; when copies were lost; when the mapping was mended. */
async function replayAll(central: Central, shape: Shape, db: Database.Database, schema: string): Promise<void> {
  const idle = { postings: 0, quarantined: 0, released: 0, refused: 0 }
  const replay = async () => {
    const { documents: _, ...done } = await central.replay({ table: 'docs' })
    return done
  }
  same(await replay(), idle, 'nothing was mended')
  const before = await office(shape, schema)
  await pool.query(`TRUNCATE ${schema}.docs, ${schema}.lines, ${schema}.subs`)
  same(await replay(), idle, 'copies were lost')
  const [keys, inside] = [keyColumns(shape), insideOf(shape, db)]
  const after = await office(shape, schema)
  for (const table of Object.keys(after))
    same(texts(belonging(after, inside, keys)[table] ?? []), texts(belonging(before, inside, keys)[table] ?? []), `${table}: filled again`)
  same(texts(after.docs ?? []), texts(before.docs ?? []), 'what was purged too')
  factor = 3
  same({ ...(await replay()), postings: 0 }, idle, 'mended')
  await comparePostings(replayEntries(db), schema)
  same(await replay(), idle, 'and done')
}

type Record_ = Readonly<Record<string, unknown>>

/** A document by its entries: the latest version of one life of a key. */
interface Life {
  readonly recordId: string
  readonly incarnation: number
  removed: boolean
  records: { table: string; record: Record_ }[]
}

/** The documents that reading all entries from the first to the last gives. */
function replayEntries(db: Database.Database): Life[] {
  const rows = db.prepare('SELECT table_name, operation, record_id, record, document FROM sync_entries ORDER BY entry_no').all() as {
    table_name: string
    operation: string
    record_id: string
    record: string | null
    document: string
  }[]
  const lives = new Map<string, Life[]>()
  for (const row of rows) {
    const all = lives.get(row.document) ?? []
    lives.set(row.document, all)
    const isRoot = row.document === `["${row.table_name}",${row.record_id}]`
    let life = all.at(-1)
    if (isRoot && row.operation === 'upsert') {
      if (life === undefined || life.removed)
        all.push({ recordId: row.record_id, incarnation: (life?.incarnation ?? 0) + 1, removed: false, records: [] })
      life = all.at(-1) as Life
      life.records = []
    }
    if (life === undefined) throw new Error('An entry without a document')
    if (row.operation === 'remove') life.removed = true
    else life.records.push({ table: row.table_name, record: JSON.parse(row.record as string) as Record_ })
  }
  return [...lives.values()].flat()
}

function tablesOf(shape: Shape): string[] {
  return ['docs', 'lines', 'subs'].slice(0, 1 + shape.parts)
}

async function office(shape: Shape, schema: string): Promise<Record<string, Record_[]>> {
  return Object.fromEntries(await Promise.all(tablesOf(shape).map(async (table) => [table, await rowsOf(pool, `${schema}.${table}`)] as const)))
}

/** The documents at the till that are published. */
function insideOf(shape: Shape, db: Database.Database): readonly Record_[] {
  return (db.prepare('SELECT * FROM docs').all() as Record_[]).filter((doc) => !shape.filter || (doc.status as string) !== 'open')
}

async function compare(shape: Shape, db: Database.Database, schema: string): Promise<void> {
  const keys = keyColumns(shape)
  const tables = tablesOf(shape)
  const till = Object.fromEntries(tables.map((table) => [table, db.prepare(`SELECT * FROM ${table}`).all() as Record_[]]))
  const there = await office(shape, schema)
  const inside = insideOf(shape, db)
  const lives = replayEntries(db)

  const alive = lives.filter((life) => !life.removed)
  for (const table of tables) {
    const replayed = alive.flatMap((life) => life.records.filter((one) => one.table === table).map(({ record }) => record))
    same(texts(replayed), texts(belonging(till, inside, keys)[table] ?? []), `${table}: the entries, replayed, are what stands at the till`)
    same(texts(belonging(there, inside, keys)[table] ?? []), texts(replayed), `${table}: head office has the same`)
  }
  // What was purged or went outside the filter: head office keeps its copy, but for lines that live on elsewhere.
  const gone = (there.docs ?? []).filter((doc) => !inside.some((other) => keys.every((name) => other[name] === doc[name])))
  const last = new Map(lives.filter((life) => life.removed).map((life) => [life.recordId, life]))
  const copies = [...last.values()].filter((life) => !alive.some((other) => other.recordId === life.recordId))
  same(texts(gone), texts(copies.map((life) => life.records[0]?.record as Record_)), 'what is gone at the till stays at head office')
  const known = new Set(copies.flatMap((life) => life.records.map(({ record }) => text(record))))
  for (const table of tables.slice(1)) {
    const strangers = (belonging(there, gone, keys)[table] ?? []).filter((row) => !known.has(text(row)))
    same(strangers, [], `${table}: nothing hangs on a purged document that was not its own`)
  }
  await comparePostings(lives, schema)
}

/** Posted sums per life of a document are what the mapping says of its latest version; levels are their sum. */
async function comparePostings(lives: readonly Life[], schema: string): Promise<void> {
  const wanted = lives.flatMap(({ recordId, incarnation, records }) => {
    const [root] = records
    const parts = Object.fromEntries(
      ['lines', 'subs'].map((table) => [table, records.filter((one) => one.table === table).map(({ record }) => record)]),
    )
    const sums = new Map<string, number>()
    for (const { item, quantity } of movements({ ...root?.record, parts } as AnyDocument)) sums.set(item, (sums.get(item) ?? 0) + Number(quantity))
    return [...sums].filter(([, quantity]) => quantity !== 0).map(([item, quantity]) => `${recordId} ${incarnation} ${item} ${quantity}`)
  })
  const { rows } = await pool.query<{ posted: string }>(
    `SELECT record_id || ' ' || incarnation || ' ' || item_no || ' ' || sum(quantity)::bigint AS posted
     FROM ${schema}.stock_movements GROUP BY record_id, incarnation, item_no HAVING sum(quantity) <> 0`,
  )
  same(rows.map((row) => row.posted).sort(), wanted.sort(), 'what was posted for each life of a document')
  const { rows: wrong } = await pool.query(
    `SELECT item_no FROM (SELECT item_no, sum(quantity) AS quantity FROM ${schema}.stock_movements GROUP BY 1) m
     FULL JOIN ${schema}.stock_levels l USING (item_no) WHERE coalesce(m.quantity, 0) <> coalesce(l.quantity, 0)`,
  )
  same(wrong, [], 'levels are the sum of movements')
}

/** Of each table the rows that belong to these documents. */
function belonging(
  all: Readonly<Record<string, readonly Record_[]>>,
  docs: readonly Record_[],
  keys: readonly string[],
): Record<string, readonly Record_[]> {
  const has = (list: readonly Record_[] | undefined, row: Record_) => (list ?? []).some((other) => keys.every((name) => other[name] === row[name]))
  const lines = (all.lines ?? []).filter((row) => has(docs, row))
  const ids = new Set(lines.map((row) => row.id))
  return { docs: (all.docs ?? []).filter((row) => has(docs, row)), lines, subs: (all.subs ?? []).filter((row) => ids.has(row.line_id)) }
}

async function rowsOf(pool: Pool, table: string): Promise<Record_[]> {
  const { rows } = await pool.query<{ row: Record_ }>(`SELECT row_to_json(t) AS row FROM ${table} t`)
  return rows.map(({ row }) => row)
}

function text(row: Record_): string {
  return JSON.stringify(Object.entries(row).sort(([a], [b]) => (a < b ? -1 : 1)))
}

function texts(rows: readonly Record_[]): string[] {
  return rows.map(text).sort()
}

function same(found: unknown, wanted: unknown, message: string): void {
  if (JSON.stringify(found) !== JSON.stringify(wanted))
    throw new Error(`${message}\nfound:  ${JSON.stringify(found)}\nwanted: ${JSON.stringify(wanted)}`)
}

t.test(
  'whatever happens to documents, and whenever it is sealed and sent, head office ends with what stands at the till',
  { timeout: budgetMs + 120_000 },
  (t) => playHistories(t, fc.asyncProperty(shapes, history, live), { seed, path, budgetMs }),
)
