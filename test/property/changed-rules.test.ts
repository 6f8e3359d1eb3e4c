import Database from 'better-sqlite3'
import { type SqlBool, sql } from 'kysely'
import pg from 'pg'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { type AnyTables, createRegister, type PublishRules, type Register, type RegisterOptions, TillsyncError } from '../../src/index.ts'
import { follow, START } from '../support/differential/chain.ts'
import { startServer } from '../support/postgres.ts'
import { budgetOfRun, Random, roundsOfRun, seedOfRun } from '../support/random.ts'
import { openDatabase } from '../support/shop.ts'

// Versions of a host that follow each other, run beside each other and are killed, each with rules of its own: what is sealed in the end adds up to what the last
// rules select, and what stood there at first and never changed is not told, or comes to nothing.

const timeout = budgetOfRun(60_000) + 120_000
t.setTimeout(timeout)
const seed = seedOfRun()
const STEPS = 40

const TABLES = `
  CREATE TABLE receipts (id integer PRIMARY KEY, no text, status text, grp integer, total integer);
  CREATE TABLE receipt_lines (id integer PRIMARY KEY, receipt_id integer, quantity integer); CREATE INDEX by_receipt ON receipt_lines (receipt_id);
  CREATE TABLE discounts (id integer PRIMARY KEY, line_id integer, amount integer); CREATE INDEX by_line ON discounts (line_id);
  CREATE TABLE groups (grp integer PRIMARY KEY, active integer); CREATE INDEX by_group ON receipts (grp)`

type Row = Readonly<Record<string, string | number | null>>
type Rows = Readonly<Record<'receipts' | 'receipt_lines' | 'discounts' | 'groups', readonly Row[]>>

/** As the library takes them, and what they mean. */
const FILTERS: Readonly<Record<string, readonly [sql: string, selects: (receipt: Row, rows: Rows) => boolean]>> = {
  any: ['1 = 1', () => true],
  posted: [`receipts.status = 'posted'`, ({ status }) => status === 'posted'],
  large: ['receipts.total > 3', ({ total }) => Number(total) > 3],
  larger: ['receipts.total > 5', ({ total }) => Number(total) > 5],
  grouped: [
    'EXISTS (SELECT 1 FROM groups WHERE groups.grp = receipts.grp AND active = 1)',
    ({ grp }, { groups }) => groups.some((group) => group.grp === grp && group.active === 1),
  ],
  lined: [
    'EXISTS (SELECT 1 FROM receipt_lines WHERE receipt_id = receipts.id AND quantity > 2)',
    ({ id }, rows) => rows.receipt_lines.some(({ receipt_id, quantity }) => receipt_id === id && Number(quantity) > 2),
  ],
}

/** Rules as plain data. */
interface Rules {
  readonly where: string
  readonly except: readonly string[]
  readonly lines: 'part' | 'root' | 'none'
  readonly discounts: boolean
  readonly identity: readonly string[]
  readonly groups: boolean
}

function someRules(random: Random, filters: readonly string[]): Rules {
  const lines = random.pick(['part', 'part', 'none', 'root'] as const)
  const where = random.pick(filters)
  const except = random.pick([[], [], ['total'], ['no']])
  return {
    where: where === 'lined' && lines !== 'part' ? 'any' : where,
    except,
    lines,
    discounts: lines !== 'none' && random.chance(0.5),
    identity: random.chance(0.3) && !except.includes('no') ? ['no'] : [],
    groups: random.chance(0.3),
  }
}

function filterOf(name: string): () => ReturnType<typeof sql.raw<SqlBool>> {
  return () => sql.raw<SqlBool>(FILTERS[name]?.[0] as string)
}

/** What stands there at first is withheld from `existing`'s filter on; of the other tables nothing. */
function publishOf({ where, except, lines, discounts, identity, groups }: Rules, existing: string): PublishRules<AnyTables> {
  return {
    receipts: {
      except,
      identity,
      existing: existing in FILTERS ? filterOf(existing) : existing,
      ...(where !== 'any' && { where: filterOf(where) }),
      ...(where === 'grouped' && { dependsOn: { groups: { grp: 'grp' } } }),
    },
    ...(lines === 'part' && { receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } }),
    ...(lines === 'root' && { receipt_lines: { existing: 'all' } }),
    ...(discounts && { discounts: { partOf: { receipt_lines: { line_id: 'id' } } } }),
    ...(groups && { groups: { existing: 'all' } }),
  } as PublishRules<AnyTables>
}

/** What the rules select, without what is withheld: the records of each table, as texts. */
function selectedBy(
  { where, except, lines, discounts, groups }: Rules,
  rows: Rows,
  withheld: ReadonlySet<unknown>,
): Readonly<Record<string, string[]>> {
  const receipts = rows.receipts.filter((receipt) => !withheld.has(receipt.id) && FILTERS[where]?.[1](receipt, rows))
  const receiptLines = rows.receipt_lines.filter(({ receipt_id }) => lines === 'root' || receipts.some(({ id }) => id === receipt_id))
  return {
    receipts: texts(receipts.map((row) => Object.fromEntries(Object.entries(row).filter(([name]) => !except.includes(name))))),
    receipt_lines: lines === 'none' ? [] : texts(receiptLines),
    discounts: discounts ? texts(rows.discounts.filter(({ line_id }) => receiptLines.some(({ id }) => id === line_id))) : [],
    groups: groups ? texts(rows.groups) : [],
  }
}

function texts(rows: readonly Row[]): string[] {
  return rows.map((row) => JSON.stringify(Object.entries(row).sort())).sort()
}

/** All that a filter or a part may make of a receipt. */
function contentOf(receipt: Row, rows: Rows): string {
  const lines = rows.receipt_lines.filter(({ receipt_id }) => receipt_id === receipt.id)
  const discounts = rows.discounts.filter(({ line_id }) => lines.some(({ id }) => id === line_id))
  return JSON.stringify([receipt, texts(lines), texts(discounts), rows.groups.filter(({ grp }) => grp === receipt.grp)])
}

function receiptOf(random: Random, id: number): string {
  return `INSERT INTO receipts VALUES (${id}, 'n${random.int(0, 4)}', '${random.pick(['open', 'posted'])}', ${random.int(0, 3)}, ${random.int(0, 7)})
    ON CONFLICT (id) DO UPDATE SET no = excluded.no, status = excluded.status, grp = excluded.grp, total = excluded.total`
}

function statement(random: Random): string {
  const id = random.int(1, 12)
  const status = random.pick(['open', 'posted'])
  return random.pick([
    ...Array(3).fill(receiptOf(random, id)),
    ...Array(2).fill(
      `INSERT INTO receipt_lines VALUES (${random.int(0, 19)}, ${id}, ${random.int(0, 5)}) ON CONFLICT (id) DO UPDATE SET receipt_id = excluded.receipt_id, quantity = excluded.quantity`,
    ),
    `INSERT INTO discounts VALUES (${random.int(0, 19)}, ${random.int(0, 19)}, ${random.int(0, 5)}) ON CONFLICT (id) DO UPDATE SET line_id = excluded.line_id, amount = excluded.amount`,
    `INSERT INTO groups VALUES (${random.int(0, 3)}, ${random.int(0, 1)}) ON CONFLICT (grp) DO UPDATE SET active = excluded.active`,
    `UPDATE receipts SET status = '${status}' WHERE id % 3 = ${random.int(0, 2)}`,
    `UPDATE receipts SET total = ${random.int(0, 7)} WHERE id = ${id}`,
    `UPDATE receipts SET grp = ${random.int(0, 3)} WHERE id = ${id}`,
    `UPDATE receipts SET id = id + 20 WHERE id = ${random.int(1, 3)} AND NOT EXISTS (SELECT 1 FROM receipts WHERE id > 20)`,
    `DELETE FROM receipts WHERE id = ${id}`,
    'DELETE FROM receipts WHERE id > 20',
    'DELETE FROM receipts WHERE total = 1',
    `UPDATE receipt_lines SET receipt_id = ${id} WHERE id % 4 = ${random.int(0, 3)}`,
    'UPDATE receipt_lines SET quantity = quantity + 1',
    `DELETE FROM receipt_lines WHERE id = ${random.int(0, 19)}`,
    'DELETE FROM discounts',
  ])
}

/** A till's database, and the processes of a host that work on it. */
interface Place {
  exec(sql: string): Promise<void>
  query(sql: string): Promise<readonly Row[]>
  /** What a process of its own connects by, and how its end takes that away. */
  connect(): { readonly database: RegisterOptions<AnyTables>['database']; kill(): Promise<unknown> }
}

function onSqlite(t: Test): Place {
  const { db, file } = openDatabase(t, TABLES)
  db.pragma('synchronous = OFF')
  return {
    exec: async (sql) => void db.exec(sql),
    query: async (sql) => db.prepare<[], Row>(sql).all(),
    connect: () => {
      let opened: Database.Database | undefined
      const open = () => {
        opened = new Database(file)
        return opened
      }
      return { database: sqlite(open), kill: async () => opened?.close() }
    },
  }
}

const server = await startServer(t)

async function onPostgres(t: Test): Promise<Place> {
  const { config, drop } = await server.createDatabase()
  t.teardown(drop)
  const open = (name: string): pg.Pool => {
    const pool = new pg.Pool({ ...config, application_name: name, max: 4 })
    pool.on('error', () => undefined)
    t.teardown(() => pool.end())
    return pool
  }
  const host = open('host')
  await host.query(TABLES)
  let processes = 0
  return {
    exec: async (sql) => void (await host.query(sql)),
    query: async (sql) => (await host.query(sql)).rows,
    connect: () => {
      const name = `process ${++processes}`
      const kill = () => host.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1', [name])
      return { database: postgres(open(name)), kill }
    },
  }
}

interface Process {
  readonly till: Register
  readonly rules: Rules
  kill(): Promise<unknown>
}

/** What a process may meet whose connections are gone, or whose rules are those of no one any more. */
const MAY_BE = ['ERR_SCHEMA_NEWER', 'ERR_STOPPED', 'ERR_ABORTED', 'ERR_NOT_INSTALLED', 'ERR_UNKNOWN_TABLE']
function mayBe(error: unknown): boolean {
  if (!(error instanceof TillsyncError)) return false
  const causes = `${error.message} ${(error.cause as Error | undefined)?.message}`
  return error.retryable || MAY_BE.includes(error.code) || (error.code === 'ERR_DATABASE' && /closed|not open|terminat/i.test(causes))
}

async function round(t: Test, random: Random, place: Place): Promise<boolean> {
  const story: string[] = []
  const odd: unknown[] = []
  const processes: Process[] = []
  const background: Promise<void>[] = []
  const filters = random.shuffle(Object.keys(FILTERS)).slice(0, random.pick([1, 1, 2, 6]))
  const existing = random.pick(['all', 'none', ...Object.keys(FILTERS).filter((name) => name !== 'lined')])
  /** What is withheld at first and was never outside the rules of a process, nor another document, since; `content` as long as it has not changed. */
  const kept = new Map<unknown, { readonly receipt: Row; content: string | undefined }>()

  const rowsNow = async (): Promise<Rows> => {
    const all = ['receipts', 'receipt_lines', 'discounts', 'groups'].map(async (table) => [table, await place.query(`SELECT * FROM ${table}`)])
    return Object.fromEntries(await Promise.all(all))
  }
  const run = async (sql: string): Promise<void> => {
    story.push(sql)
    await place.exec(sql)
    await look()
  }
  const look = async (): Promise<void> => {
    const rows = await rowsNow()
    for (const [id, one] of kept) {
      const receipt = rows.receipts.find((receipt) => receipt.id === id)
      const isOut = receipt === undefined || processes.some(({ rules }) => !FILTERS[rules.where]?.[1](receipt, rows))
      if (isOut || receipt.no !== one.receipt.no) kept.delete(id)
      else if (contentOf(receipt, rows) !== one.content) one.content = undefined
    }
  }
  const begin = async (rules: Rules): Promise<Process> => {
    story.push(`rules ${JSON.stringify(rules)}`)
    const { database, kill } = place.connect()
    const till = createRegister({ location: 'BA01', register: 'POS1', database, publish: publishOf(rules, existing) })
    const begun = { till, rules, kill }
    processes.push(begun)
    await look()
    return begun
  }
  const goesOn = async (what: string, work: Promise<unknown>): Promise<void> => {
    story.push(what)
    await work.catch((error) => {
      if (!mayBe(error)) odd.push([what, error])
    })
  }
  const sometimesWait = async (work: Promise<void>): Promise<void> => {
    if (random.chance(0.6)) await work
    else background.push(work)
  }

  for (let id = 1; id <= 8; id++) await run(receiptOf(random, id))
  for (let n = 0; n < 8; n++) await run(statement(random))
  const first = await rowsNow()
  for (const receipt of existing === 'all' ? [] : first.receipts)
    if (!FILTERS[existing]?.[1](receipt, first)) kept.set(receipt.id, { receipt, content: contentOf(receipt, first) })
  let { till, rules } = await begin(someRules(random, filters))
  await till.install()
  await till.seal()

  for (let step = 0; step < STEPS; step++) {
    const one = random.pick(processes)
    const kinds: (() => Promise<void>)[] = [
      ...Array(9).fill(() => run(statement(random))),
      ...Array(3).fill(() => sometimesWait(goesOn('seal', one.till.seal()))),
      ...Array(2).fill(async () => {
        const next = await begin(random.chance(0.3) ? rules : someRules(random, filters))
        rules = next.rules
        await sometimesWait(random.chance(0.5) ? goesOn('install', next.till.install()) : goesOn('start', next.till.start()))
      }),
      async () => {
        story.push('kill')
        await one.kill()
      },
      () => goesOn('stop', one.till.stop()),
      () => sometimesWait(goesOn('start', one.till.start())),
      () => sometimesWait(goesOn('reseal', one.till.reseal('receipts'))),
      async () => {
        const id = random.int(1, 12)
        await sometimesWait(goesOn(`export ${id}`, one.till.export('receipts', { id })))
      },
      () => run(random.pick(['DROP INDEX IF EXISTS by_group', 'CREATE INDEX IF NOT EXISTS by_group ON receipts (grp)'])),
    ]
    await random.pick(kinds)()
  }
  await Promise.all(background)
  for (const { till } of processes) await goesOn('stop', till.stop())
  ;({ till, rules } = await begin(someRules(random, filters)))
  await till.install()
  await till.seal()

  const rows = await rowsNow()
  const entries = (await place.query(
    `SELECT entry_no AS "entryNo", table_name AS "table", operation, record_id AS "recordId", record, document, sealed_at AS "sealedAt", digest FROM sync_entries ORDER BY entry_no`,
  )) as unknown as readonly (EntryOf & { readonly digest: Uint8Array })[]
  const told = toldBy(entries.map((entry) => ({ ...entry, entryNo: Number(entry.entryNo), digest: Buffer.from(entry.digest).toString('hex') })))
  const members = await place.query(`SELECT record_id FROM sync_members WHERE table_name = 'receipts' AND state = 'withheld'`)
  const withheld = new Set(members.map(({ record_id }) => (JSON.parse(String(record_id)) as unknown[])[0]))
  const stood = new Set<unknown>(existing === 'all' ? [] : first.receipts.map(({ id }) => id))
  const published = publishOf(rules, existing)
  const found = (table: string) =>
    texts(
      told.latest
        .filter(({ root }) => published[root] && !('partOf' in (published[root] ?? {})))
        .flatMap(({ records }) => records.filter((one) => one.table === table).map((one) => one.record)),
    )
  let isGood = t.same(odd, [], 'nothing fails but for a reason')
  for (const [table, wanted] of Object.entries(selectedBy(rules, rows, withheld))) isGood = t.same(found(table), wanted, table) && isGood
  const odder = [...withheld].filter((id) => !stood.has(id))
  isGood = t.same(odder, [], 'only what stood there at first is withheld') && isGood
  for (const [id, { receipt, content }] of kept) {
    const versions = told.versions.get(`["receipts",[${id}]]`) ?? []
    const [baseline, next] = versions
    if (versions.length === 0) continue
    const [was] = baseline?.records ?? []
    const counts = content === undefined ? [receipt.status, receipt.grp] : [receipt.status, receipt.grp, next?.records]
    const said = [was?.record.status, was?.record.grp, ...(content === undefined ? [] : [baseline?.records])]
    isGood = t.same([baseline?.operation, ...said], ['baseline', ...counts], `of receipt ${id} only a change counts`) && isGood
  }
  isGood = t.match(await till.status(), { problems: [], parked: [], resealing: [], unsealed: 0 }) && isGood
  await till.stop()
  if (!isGood) t.comment(story.join('\n'))
  return isGood
}

type EntryOf = Parameters<typeof follow>[1][number]

interface Version {
  readonly document: string
  readonly operation: string
  readonly root: string
  readonly records: { readonly table: string; readonly record: Row }[]
}

/** What the entries add up to: all that was said of each document, and the latest version of those that there are. */
function toldBy(entries: readonly EntryOf[]) {
  if (entries.some(({ entryNo }, n) => entryNo !== n + 1)) throw new Error('a number is missing')
  follow(START, entries)
  const all: Version[] = []
  for (const { document, table, operation, recordId, record } of entries) {
    if (document === `[${JSON.stringify(table)},${recordId}]`) all.push({ document, operation, root: table, records: [] })
    if (record !== null) all.at(-1)?.records.push({ table, record: JSON.parse(record) })
  }
  const versions = Map.groupBy(all, ({ document }) => document)
  const latest = [...versions.values()].map((said) => said.at(-1) as Version).filter(({ operation }) => operation !== 'remove')
  return { versions, latest }
}

t.test(
  'whatever rules follow each other, what is sealed adds up to what the last ones select, and what stood there at first is not told',
  { timeout },
  async (t) => {
    for (const n of roundsOfRun(4)) {
      const own = seed + n
      t.comment(`round ${n}: --seed=${own}`)
      const places: [string, (t: Test) => Place | Promise<Place>][] = [
        ['SQLite', onSqlite],
        ['PostgreSQL', onPostgres],
      ]
      // One on PostgreSQL takes as long as eight others.
      for (const [name, open] of n % 8 === 0 ? places : places.slice(0, 1)) {
        let isGood = false
        await t.test(name, async (t) => {
          isGood = await round(t, new Random(own), await open(t))
        })
        if (!isGood) return
      }
    }
  },
)
