import Database from 'better-sqlite3'
import fc from 'fast-check'
import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { type AnyDocument, type Central, createCentral, createRegister, type Register, TillsyncError } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { CLOSING_PUBLISH, CLOSING_TILL, ClosingCashier, computed, receiptLines } from '../support/closings.ts'
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

const REGISTERS = 2
const register = fc.integer({ min: 0, max: REGISTERS - 1 })
const item = fc.constantFrom('A', 'B', 'C')
const warehouse = fc.constantFrom(null, null, 'WH')
const customer = fc.constantFrom(null, null, 'C1')
const code = fc.constantFrom('A', 'A', 'B')
const quantity = fc.integer({ min: -2, max: 5 })
const receipt = fc.integer({ min: 0, max: 9 })
const closing = fc.integer({ min: 0, max: 3 })
const lines = fc.array(fc.record({ item, warehouse, code, quantity }), { maxLength: 3 })

/** What happens at the tills of one warehouse. Receipts and closings are named by their place among those that are there. */
const event = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('sell' as const), register, customer, lines, skip: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('close' as const), register, day: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('late' as const), register, receipt, lines }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('correct' as const), register, receipt, customer, lines }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('void' as const), register, receipt }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('renumber' as const), register, receipt, to: fc.integer({ min: 1, max: 12 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('purge' as const), register, receipt }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('move date' as const), register, closing, day: fc.integer({ min: 1, max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('void closing' as const), register, closing }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('give up the last' as const), register, closing }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('export' as const), register }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('seal' as const), register }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('synchronize' as const), register }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('lose the answer' as const), register }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('back up' as const), register }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('restore' as const), register }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('replay' as const), register, table: fc.constantFrom('receipts', 'plu_closings') }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('move stock' as const), register, moves: fc.boolean() }) },
)
type Event = typeof event extends fc.Arbitrary<infer E> ? E : never
const history = fc.record({
  recordsPerRun: fc.integer({ min: 1, max: 9 }),
  isMended: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
  events: fc.array(event, { minLength: 1, maxLength: 40, size: 'max' }),
})

/** A till: a database that may be put back to an earlier moment, with its register. */
class Till {
  db = new Database(':memory:')
  replica: Register
  lose = false
  isRestored = false
  private saved: Buffer | undefined
  private readonly open: (till: Till) => Register

  constructor(open: (till: Till) => Register) {
    this.open = open
    this.db.exec(CLOSING_TILL)
    this.replica = open(this)
  }

  backUp(): void {
    this.saved = this.db.serialize()
  }

  async restore(): Promise<void> {
    if (this.saved === undefined) return
    this.isRestored = true
    await this.replica.stop()
    this.db.close()
    this.db = new Database(this.saved)
    this.replica = this.open(this)
    await this.replica.install()
  }

  async stop(): Promise<void> {
    await this.replica.stop()
    this.db.close()
  }

  ids(table: string): number[] {
    return this.db.prepare(`SELECT id FROM ${table} ORDER BY id`).pluck().all() as number[]
  }

  pick(table: string, n: number): number | undefined {
    const ids = this.ids(table)
    return ids[n % ids.length]
  }

  /** The plain SQL of a POS application. */
  run(event: Event): unknown {
    const cashier = new ClosingCashier(this.db)
    const next = () => 1 + Math.max(0, (this.db.prepare('SELECT max(number) FROM receipts').pluck().get() as number) ?? 0, this.last())
    const write = (id: number, all: readonly { item: string; warehouse: string | null; code: string; quantity: number }[]) => {
      for (const { item, warehouse, code, quantity } of all)
        cashier.addLine(id, { item, quantity: `${quantity}`, net: `${quantity * 10}`, vat: `${quantity * 2}`, code, location: warehouse })
    }
    switch (event.do) {
      case 'sell':
        return write(cashier.sell('sale', next() + (event.skip ? 1 : 0), [], { customer: event.customer, date: this.born() }), event.lines)
      case 'late': {
        // A number that was skipped.
        const taken = new Set(this.db.prepare('SELECT number FROM receipts').pluck().all() as number[])
        const free = Array.from({ length: this.last() }, (_, n) => n + 1).filter((n) => !taken.has(n))
        const number = free[event.receipt % free.length]
        return number === undefined ? undefined : write(cashier.sell('sale', number, [], { date: this.born() }), event.lines)
      }
      case 'close': {
        const from = this.last() + 1
        const through = next() - 1
        return void cashier.closeRange(this.born(), from > through ? null : [from, through], null, { date: `2026-11-0${event.day}` })
      }
      case 'correct': {
        const id = this.pick('receipts', event.receipt)
        if (id === undefined) return
        this.db.prepare('DELETE FROM receipt_lines WHERE receipt_id = ?').run(id)
        this.db.prepare("UPDATE receipts SET customer_no = ?, status = 'posted' WHERE id = ?").run(event.customer, id)
        return write(id, event.lines)
      }
      case 'void':
        return void this.db.prepare("UPDATE receipts SET status = 'voided' WHERE id = ?").run(this.pick('receipts', event.receipt))
      case 'renumber':
        return void this.db.prepare('UPDATE OR IGNORE receipts SET number = ? WHERE id = ?').run(event.to, this.pick('receipts', event.receipt))
      case 'purge':
        return void this.db.prepare('DELETE FROM receipts WHERE id = ?').run(this.pick('receipts', event.receipt))
      case 'move date':
        return void this.db
          .prepare('UPDATE plu_closings SET business_date = ? WHERE id = ?')
          .run(`2026-11-0${event.day}`, this.pick('plu_closings', event.closing))
      case 'void closing':
        return void this.db.prepare("UPDATE plu_closings SET status = 'voided' WHERE id = ?").run(this.pick('plu_closings', event.closing))
      case 'give up the last':
        return void this.db
          .prepare('UPDATE plu_closings SET last_sale = last_sale - 1 WHERE id = ? AND last_sale > first_sale')
          .run(this.pick('plu_closings', event.closing))
    }
  }

  /** What tells a document from another under its key, after a restore too. */
  private born(): string {
    return `${++births}`
  }

  /** The last receipt that is closed. */
  private last(): number {
    return (this.db.prepare('SELECT max(last_sale) FROM plu_closings').pluck().get() as number) ?? 0
  }
}

const schema = 'public'
/** How often each line of a receipt counts: it is mended in the end. */
let factor = 1
const scaled = (value: unknown) => `${Number(value) * factor}`
const scaledLines = (receipt: AnyDocument) =>
  receiptLines(receipt).map((one) => ({ ...one, quantity: scaled(one.quantity), netAmount: scaled(one.netAmount), vatAmount: scaled(one.vatAmount) }))
/** Head office as it is deployed: with closings that move stock, or without. */
const [moving, still] = [true, false].map((moveStock) =>
  createCentral({ database: postgres(pool), subscribe: computed(moveStock, scaledLines) }),
) as [Central, Central]
let central = moving
/** Whether it was deployed otherwise since the last replay of closings. */
let isSwitched = false
for (const one of [moving, still]) {
  await one.install()
  t.teardown(() => one.stop())
}

/** All but the library's own version: to install anew takes longer than to live through a history. */
async function tablesToEmpty(): Promise<string> {
  const { rows } = await pool.query<{ name: string }>(
    "SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'sync_state'",
  )
  return rows.map(({ name }) => name).join(', ')
}

let births = 0
let runs = 0

/** Lives through a history at two tills and a head office of their own, then adds up. */
async function live({ recordsPerRun, isMended, events }: { recordsPerRun: number; isMended: boolean; events: readonly Event[] }): Promise<void> {
  if (++runs > 1) await pool.query(`TRUNCATE ${await tablesToEmpty()} RESTART IDENTITY`)
  const fetch = (url: string | URL | Request, init?: RequestInit) => central.fetch(new Request(url, init))
  const tills: Till[] = []
  for (let n = 0; n < REGISTERS; n++) {
    const name = { location: 'BA01', register: `POS${n}` }
    const { token } = await central.registers.add(name)
    tills.push(
      new Till((till) =>
        createRegister({
          ...name,
          database: sqlite(till.db),
          publish: { ...CLOSING_PUBLISH, receipts: { identity: ['business_date'] }, plu_closings: { identity: ['closing_no'] } },
          transfer: {
            type: 'push',
            link: scripted(httpLink({ url: 'http://central/', token, fetch }), () => (till.lose ? 'answer lost' : 'whole')),
            recordsPerRun,
          },
        }),
      ),
    )
  }
  const posted: string[] = []
  try {
    for (const till of tills) await till.replica.install()
    for (const event of events) {
      const till = tills[event.register] as Till
      till.run(event)
      await operate(till, event)
      if (event.do === 'replay') await replay(event.table)
      if (event.do === 'move stock') {
        const before = central
        central = event.moves ? moving : still
        isSwitched ||= central !== before
      }
      if (event.do === 'synchronize') posted.push(...(await postedRows(schema)))
    }
    for (const till of tills) await till.replica.synchronize()
    isSwitched ||= central !== moving
    central = moving
    await replay('plu_closings')
    const after = new Set(await postedRows(schema))
    same(
      posted.filter((row) => !after.has(row)),
      [],
      'posted rows never change',
    )
    await compare(
      schema,
      tills.some(({ isRestored }) => isRestored),
    )
    await prove()
    for (const till of tills) {
      await till.replica.export('receipts', (eb) => eb('id', '>', 0))
      await till.replica.export('plu_closings', (eb) => eb('id', '>', 0))
      await till.replica.synchronize()
    }
    same((await postedRows(schema)).length, after.size, 're-exported, it posts nothing')
    if (isMended) await mend()
  } finally {
    factor = 1
    isSwitched = false
    central = moving
    for (const till of tills) await till.stop()
  }
}

/** What closings move is posted where they move it since, or do not; else nothing is. */
async function replay(table: string): Promise<void> {
  if (!isSwitched) return replayIdly(table)
  const { quarantined, refused } = await central.replay({ table })
  same([quarantined, refused], [0, 0], 'all is replayed')
  if (table !== 'plu_closings') return
  isSwitched = false
  await replayIdly(table)
}

async function replayIdly(table: string): Promise<void> {
  const before = (await postedRows(schema)).sort()
  const { documents: _, ...done } = await central.replay({ table })
  same(done, { postings: 0, quarantined: 0, released: 0, refused: 0 }, 'nothing was mended')
  same((await postedRows(schema)).sort(), before, 'nothing was posted')
}

/** The mapping of receipts is mended: each closing of which something differs has one supplementary closing more in each warehouse, and all sums are what they should be. */
async function mend(): Promise<void> {
  await replayIdly('plu_closings')
  const { rows: open } = await pool.query('SELECT FROM sync_open_closings')
  // A closing that waits for what another one has keeps what it had.
  if (open.length > 0) return
  const [before, rows] = [await postedSums(), await postedRows(schema)]
  const { rows: counted } = await pool.query('SELECT count(*)::int AS closings FROM posted_plu_closings')
  factor = 3
  await central.replay({ table: 'plu_closings' })
  const after = new Set(await postedRows(schema))
  same(
    rows.filter((row) => !after.has(row)),
    [],
    'posted rows never change',
  )
  const wanted = before.map((one) => ({ ...one, quantity: one.quantity * factor, returned: one.returned * factor, net: one.net * factor }))
  same(await postedSums(), wanted, 'each line counts three times')
  const { rows: now } = await pool.query('SELECT count(*)::int AS closings FROM posted_plu_closings')
  same(now[0].closings - counted[0].closings, new Set(before.map(({ sheet }) => sheet)).size, 'one supplementary closing each')
  for (const [name, sql] of Object.entries(invariants(schema))) same((await pool.query(sql)).rows, [], name)
  factor = 1
  await central.replay({ table: 'receipts' })
  same(await postedSums(), before, 'and back')
  await replayIdly('plu_closings')
}

interface PostedSum {
  /** What is posted together: a closing in one warehouse, of one date and number. */
  readonly sheet: string
  readonly line: string
  readonly quantity: number
  /** What of it was taken back: it may be so much that nothing else is left. */
  readonly returned: number
  readonly net: number
}

async function postedSums(): Promise<readonly PostedSum[]> {
  const { rows } = await pool.query<PostedSum>(
    `SELECT concat_ws(' ', register_id, record_id, incarnation, c.location, business_date, document_no) AS sheet, concat_ws(' ', item_no, vat_code, customer_no) AS line,
            sum(l.quantity)::float8 AS quantity, sum(l.return_quantity)::float8 AS returned, sum(l.net_amount)::float8 AS net
     FROM posted_plu_closings c JOIN posted_plu_closing_lines l USING (location, closing_no) GROUP BY 1, 2
     HAVING sum(l.quantity) <> 0 OR sum(l.return_quantity) <> 0 OR sum(l.net_amount) <> 0 ORDER BY 1, 2`,
  )
  return rows
}

async function operate(till: Till, event: Event): Promise<void> {
  if (event.do === 'seal') await till.replica.seal()
  if (event.do === 'export') await till.replica.export('receipts', (eb) => eb('id', '>', 0))
  if (event.do === 'synchronize') await till.replica.synchronize()
  if (event.do === 'back up') till.backUp()
  if (event.do === 'restore') await till.restore()
  if (event.do !== 'lose the answer') return
  till.lose = true
  await till.replica.synchronize().catch(expecting('ERR_LINK'))
  till.lose = false
}

function expecting(code: string): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof TillsyncError) || error.code !== code) throw error
  }
}

async function postedRows(schema: string): Promise<string[]> {
  const { rows } = await pool.query<{ row: string }>(
    `SELECT c::text AS row FROM ${schema}.posted_plu_closings c UNION ALL SELECT l::text FROM ${schema}.posted_plu_closing_lines l UNION ALL SELECT p::text FROM ${schema}.sync_postings p`,
  )
  return rows.map(({ row }) => row)
}

/** A document in one life of its key, in the latest version that was archived. */
interface Life {
  readonly register: string
  readonly table: string
  removed: boolean
  root: AnyDocument
  lines: AnyDocument[]
}

/** What reading the archive from the first entry to the last gives; of registers that were never restored. */
async function latest(schema: string): Promise<readonly Life[]> {
  const { rows } = await pool.query<{
    register_id: string
    operation: string
    table_name: string
    record_id: string
    record: string | null
    is_root: boolean
  }>(
    `SELECT register_id, operation, table_name, record_id, record, entry_no = document_no AS is_root FROM ${schema}.sync_archive ORDER BY register_id, entry_no`,
  )
  const lives = new Map<string, Life[]>()
  let current: Life | undefined
  for (const { register_id, operation, table_name, record_id, record, is_root } of rows) {
    const document = record === null ? undefined : (JSON.parse(record) as AnyDocument)
    if (!is_root) {
      current?.lines.push(document as AnyDocument)
      continue
    }
    const name = `${register_id} ${table_name} ${record_id}`
    const all = lives.get(name) ?? []
    lives.set(name, all)
    current = all.at(-1)
    if (operation === 'remove') (current as Life).removed = true
    else if (current === undefined || current.removed) {
      current = { register: register_id, table: table_name, removed: false, root: document as AnyDocument, lines: [] }
      all.push(current)
    } else Object.assign(current, { root: document, lines: [] })
  }
  return [...lives.values()].flat()
}

/** What closings are to be, by all lives of closings and receipts: a till that purges takes nothing back. */
function wantedOf(lives: readonly Life[]): string[] {
  const sums = new Map<string, { quantity: number; gross: number }>()
  for (const { register, root } of lives.filter(
    ({ table, root }) => table === 'plu_closings' && root.status === 'posted' && root.first_sale !== null,
  )) {
    for (const receipt of lives.filter((one) => one.table === 'receipts' && one.register === register && one.root.status === 'posted')) {
      if (receipt.root.number < root.first_sale || receipt.root.number > root.last_sale) continue
      for (const line of receipt.lines) {
        const name = [
          line.location ?? 'BA01',
          root.business_date,
          root.closing_no,
          line.item_no,
          line.vat_code,
          receipt.root.customer_no ?? '-',
        ].join(' ')
        const { quantity, gross } = sums.get(name) ?? { quantity: 0, gross: 0 }
        sums.set(name, { quantity: quantity + Number(line.quantity), gross: gross + Number(line.net_amount) + Number(line.vat_amount) })
      }
    }
  }
  return [...sums]
    .filter(([, { quantity, gross }]) => quantity !== 0 || gross !== 0)
    .map(([name, { quantity, gross }]) => `${name} ${quantity} ${gross}`)
}

/** Posted sums = what the latest documents say, by warehouse, date, closing, article, VAT and customer; and the same moved. */
async function compare(schema: string, isRestored: boolean): Promise<void> {
  const { rows: found } = await pool.query<{ row: string }>(
    `SELECT concat_ws(' ', c.location, business_date, document_no, item_no, vat_code, coalesce(customer_no, '-'), sum(l.quantity)::int, sum(l.gross_amount)::int) AS row
     FROM ${schema}.posted_plu_closings c JOIN ${schema}.posted_plu_closing_lines l USING (location, closing_no) GROUP BY c.location, business_date, document_no, item_no, vat_code, customer_no
     HAVING sum(l.quantity) <> 0 OR sum(l.gross_amount) <> 0`,
  )
  const posted = found.map(({ row }) => row).sort()
  if (!isRestored) same(posted, wantedOf(await latest(schema)).sort(), 'posted = what the latest documents say')
  // After a restore what is lost stays: each closing's books, whose contents are compared with the archive below.
  const { rows: wanted } = await pool.query<{ row: string }>(
    `SELECT concat_ws(' ', coalesce(line ->> 'location', closing ->> 'location'), closing ->> 'businessDate', closing ->> 'document', line ->> 'item', line ->> 'vatCode', coalesce(line ->> 'customer', '-'),
                      sum((line ->> 'quantity')::numeric)::int, sum((line ->> 'grossAmount')::numeric)::int) AS row
     FROM ${schema}.sync_closings c JOIN ${schema}.sync_closing_ranges r USING (register_id, table_name, record_id, incarnation)
     JOIN ${schema}.sync_closing_receipts b ON b.register_id = r.register_id AND b.series = r.series AND b.number BETWEEN r.first_no AND r.last_no, json_array_elements(b.lines) AS line
     WHERE NOT EXISTS (SELECT FROM ${schema}.sync_open_closings o WHERE (o.register_id, o.record_id, o.incarnation) = (c.register_id, c.record_id, c.incarnation))
     GROUP BY coalesce(line ->> 'location', closing ->> 'location'), closing ->> 'businessDate', closing ->> 'document', line ->> 'item', line ->> 'vatCode', line ->> 'customer'
     HAVING sum((line ->> 'quantity')::numeric) <> 0 OR sum((line ->> 'grossAmount')::numeric) <> 0`,
  )
  const { rows: open } = await pool.query<{ why: string }>(`SELECT waits ->> 'why' AS why FROM ${schema}.sync_open_closings`)
  if (open.length === 0) same(posted, wanted.map(({ row }) => row).sort(), 'posted = wanted')
  // A closing that a restored till has lost keeps its receipts until it is withdrawn.
  same(
    open.filter(({ why }) => !isRestored || why !== 'taken'),
    [],
    'no closing waits',
  )
  await compareBooks(schema)
  for (const [name, sql] of Object.entries(invariants(schema))) same((await pool.query(sql)).rows, [], name)
}

/** Proofs are clean but for what is known to be open. */
async function prove(): Promise<void> {
  const waiting = await central.waitingClosings()
  for (const businessDate of ['2026-11-01', '2026-11-02', '2026-11-03']) {
    const { differences } = await central.reconcile({ location: 'BA01', businessDate })
    same(
      differences.map(({ register, recordId, why }) => `${register} ${recordId} ${why}`).sort(),
      waiting.flatMap((closing) => (closing.businessDate === businessDate ? [`${closing.register} ${closing.recordId} waiting`] : [])).sort(),
      `reconciled: ${businessDate}`,
    )
  }
  const orphans = await central.orphans.list({ limit: 1_000 })
  const { registers } = await central.audit({ location: 'BA01' })
  same(
    registers.flatMap(({ findings }) => findings.map((finding) => ('id' in finding ? `${finding.code} ${finding.id}` : finding.code))).sort(),
    orphans.map(({ id }) => `ORPHANED ${id}`).sort(),
    'audited',
  )
}

/** Each receipt's contribution, and each closing's ranges, against the latest versions in the archive. */
async function compareBooks(schema: string): Promise<void> {
  const { rows } = await pool.query<{
    register_id: string
    record_id: string
    number: string
    lines: { quantity: string }[]
    record: AnyDocument
    sold: AnyDocument[] | null
  }>(
    `SELECT b.register_id, b.record_id, b.number, b.lines, a.record::json AS record,
            (SELECT json_agg(p.record::json) FROM ${schema}.sync_archive p WHERE p.register_id = d.register_id AND p.epoch_no = d.epoch_no AND p.entry_no > d.entry_no AND p.entry_no < d.entry_no + d.entries) AS sold
     FROM ${schema}.sync_documents d JOIN ${schema}.sync_archive a USING (register_id, epoch_no, entry_no)
     LEFT JOIN ${schema}.sync_closing_receipts b ON b.register_id = d.register_id AND b.table_name = d.table_name AND b.record_id = d.record_id AND b.incarnation = d.incarnation
     WHERE d.table_name = 'receipts' AND NOT d.removed`,
  )
  for (const { record_id, number, lines, record, sold } of rows) {
    const total = record.status === 'voided' ? 0 : (sold ?? []).reduce((sum, line) => sum + Number(line.quantity), 0)
    same(
      [record_id, Number(number), (lines ?? []).reduce((sum, line) => sum + Number(line.quantity), 0)],
      [record_id, record.number, total],
      'what a receipt brings',
    )
  }
  const { rows: closings } = await pool.query<{ record_id: string; record: AnyDocument; first: string | null; last: string | null }>(
    `SELECT d.record_id, a.record::json AS record, r.first_no AS first, r.last_no AS last FROM ${schema}.sync_documents d JOIN ${schema}.sync_archive a USING (register_id, epoch_no, entry_no)
     JOIN ${schema}.sync_closings c ON (c.register_id, c.table_name, c.record_id, c.incarnation) = (d.register_id, d.table_name, d.record_id, d.incarnation)
     LEFT JOIN ${schema}.sync_closing_ranges r ON (r.register_id, r.table_name, r.record_id, r.incarnation) = (d.register_id, d.table_name, d.record_id, d.incarnation)
     WHERE d.table_name = 'plu_closings' AND NOT d.removed AND c.entry_no = d.entry_no AND c.epoch_no = d.epoch_no
       AND NOT EXISTS (SELECT FROM ${schema}.sync_open_closings o WHERE (o.register_id, o.record_id, o.incarnation) = (c.register_id, c.record_id, c.incarnation))`,
  )
  for (const { record_id, record, first, last } of closings) {
    const range = record.status === 'voided' || record.first_sale === null ? [null, null] : [record.first_sale, record.last_sale]
    same([record_id, first && Number(first), last && Number(last)], [record_id, ...range], 'what a closing takes')
  }
}

/** Each finds what must not be. */
function invariants(schema: string): Readonly<Record<string, string>> {
  return {
    'numbers are contiguous': `SELECT location FROM ${schema}.posted_plu_closings GROUP BY 1 HAVING count(*) <> max(closing_no) OR min(closing_no) <> 1`,
    'ranges do not overlap': `SELECT a.first_no FROM ${schema}.sync_closing_ranges a JOIN ${schema}.sync_closing_ranges b
      ON a.register_id = b.register_id AND a.series = b.series AND a.first_no < b.first_no AND a.last_no >= b.first_no`,
    'header = lines': `SELECT location, closing_no FROM ${schema}.posted_plu_closings c WHERE (quantity, net_amount, gross_amount) <> (
      SELECT coalesce(sum(quantity), 0), coalesce(sum(net_amount), 0), coalesce(sum(gross_amount), 0) FROM ${schema}.posted_plu_closing_lines l WHERE (l.location, l.closing_no) = (c.location, c.closing_no))`,
    'closing quantity = − movements': `SELECT * FROM (
        SELECT c.location, business_date, item_no, customer_no, sum(l.quantity) AS q, sum(l.net_amount) AS n FROM ${schema}.posted_plu_closings c JOIN ${schema}.posted_plu_closing_lines l USING (location, closing_no) GROUP BY 1, 2, 3, 4) c
      FULL JOIN (SELECT location, business_date, item_no, customer_no, -sum(quantity) AS q, sum(amount) AS n FROM ${schema}.stock_movements GROUP BY 1, 2, 3, 4) m
        ON (c.location, c.business_date, c.item_no) = (m.location, m.business_date, m.item_no) AND c.customer_no IS NOT DISTINCT FROM m.customer_no
      WHERE coalesce(c.q, 0) <> coalesce(m.q, 0) OR coalesce(c.n, 0) <> coalesce(m.n, 0)`,
    'levels are the sum of movements': `SELECT item_no FROM (SELECT item_no, location, sum(quantity) AS q FROM ${schema}.stock_movements GROUP BY 1, 2) m
      FULL JOIN ${schema}.stock_levels l USING (item_no, location) WHERE coalesce(q, 0) <> coalesce(quantity, 0)`,
    'supplementary closings are numbered': `SELECT location FROM ${schema}.posted_plu_closings GROUP BY location, register_id, record_id, incarnation
      HAVING max(supplement_no) <> count(*) - 1 OR count(DISTINCT supplement_no) <> count(*) OR count(*) FILTER (WHERE supplements IS NULL) <> 1`,
  }
}

function same(found: unknown, wanted: unknown, message: string): void {
  if (JSON.stringify(found) !== JSON.stringify(wanted))
    throw new Error(`${message}\nfound:  ${JSON.stringify(found)}\nwanted: ${JSON.stringify(wanted)}`)
}

t.test('whatever happens to receipts and closings, what is posted is what their latest versions say', { timeout: budgetMs + 120_000 }, (t) =>
  playHistories(t, fc.asyncProperty(history, live), { seed, path, budgetMs }),
)
