import t, { type Test } from 'tap'
import { documentsOf, setsOf } from '../../src/apply/document-set.ts'
import type { ApplyContext, Handler } from '../../src/apply/handler.ts'
import { arrange } from '../../src/apply/references.ts'
import { StockLevels } from '../../src/apply/stock-levels.ts'
import { mirror } from '../../src/index.ts'
import type { Entry, PartShape } from '../../src/model.ts'
import { onPostgres, onSqlite, recordOf, type Stage } from '../support/mirroring.ts'
import { startServer } from '../support/postgres.ts'
import { argument, budgetOfRun, Random, roundsOfRun, seedOfRun } from '../support/random.ts'

const BATCHES = Number(argument('batches') ?? 15)
const ROUNDS = Number(argument('rounds') ?? 6)
t.setTimeout(budgetOfRun(60_000) + 60_000)
const server = await startServer(t)
const seed = seedOfRun()

type Row = Readonly<Record<string, string | number | null>>
type Rows = ReadonlyMap<number, Row>
/** Rows by table and id. */
type State = ReadonlyMap<string, Rows>

const TABLES = ['items', 'lists', 'list_lines', 'line_notes'] as const
/** Columns that refer to another table, and whether they must. */
const REFERENCES: readonly (readonly [table: string, column: string, to: string, isNeeded: boolean])[] = [
  ['items', 'above', 'items', false],
  ['items', 'best_list', 'lists', false],
  ['lists', 'item', 'items', true],
  ['list_lines', 'list', 'lists', true],
  ['list_lines', 'item', 'items', true],
  ['line_notes', 'line', 'list_lines', true],
]
/** What belongs to which document of lists. */
const SHAPE: readonly PartShape[] = [
  { table: 'list_lines', columns: { list: 'id' }, parts: [{ table: 'line_notes', columns: { line: 'id' }, parts: [] }] },
]

function schema(dialect: Stage['dialect']): string {
  const references = (of: string) =>
    REFERENCES.flatMap(([table, column, to]) => (table === of ? [`FOREIGN KEY (${column}) REFERENCES ${to} (id) DEFERRABLE`] : []))
  const columns = {
    items: "id integer PRIMARY KEY, code text NOT NULL UNIQUE, above integer, best_list integer, price numeric, owned text NOT NULL DEFAULT 'new'",
    lists: 'id integer PRIMARY KEY, item integer NOT NULL, name text UNIQUE',
    list_lines: 'id integer PRIMARY KEY, list integer NOT NULL, no integer NOT NULL, item integer NOT NULL, UNIQUE (list, no)',
    line_notes: 'id integer PRIMARY KEY, line integer NOT NULL, note text',
  }
  if (dialect === 'sqlite') return TABLES.map((table) => `CREATE TABLE ${table} (${[columns[table], ...references(table)].join(', ')})`).join('; ')
  const made = TABLES.map((table) => `CREATE TABLE ${table} (${columns[table]})`)
  return [...made, ...TABLES.flatMap((table) => references(table).map((one) => `ALTER TABLE ${table} ADD ${one}`))].join('; ')
}

/** The other side: what it has, and what it sends of a change. */
class Sender {
  private readonly random: Random
  state: State = new Map(TABLES.map((table) => [table, new Map()]))
  private next = 1
  private entryNo = 0
  /** Documents that the receiver has had. */
  private readonly known = new Set<string>()

  constructor(random: Random) {
    this.random = random
  }

  change(): void {
    const state = new Map([...this.state].map(([table, rows]) => [table, new Map(rows)]))
    for (let n = this.random.int(1, 10); n > 0; n--) this.changeOne(this.random.pick(TABLES), state)
    mend(state)
    this.state = state
  }

  private changeOne(table: (typeof TABLES)[number], state: ReadonlyMap<string, Map<number, Row>>): void {
    const { random } = this
    const rows = state.get(table) as Map<number, Row>
    const id = rows.size > 0 ? random.pick([...rows.keys()]) : undefined
    const what = random.int(0, 9)
    if (id === undefined || what < 4) rows.set(this.next, this.row(table, this.next++, state))
    else if (what === 4) rows.delete(id)
    else if (what === 5) rows.set(id, { ...this.row(table, id, state), ...this.unique(table, rows.get(id) as Row) })
    else if (what < 8) this.exchange(table, rows)
    else rows.set(id, { ...(rows.get(id) as Row), ...this.references(table, state) })
  }

  private row(table: string, id: number, state: State): Row {
    const values = {
      items: { code: `C${this.next++}`, price: `${this.random.int(0, 99)}.50` },
      lists: { name: `N${this.next++}` },
      list_lines: { no: this.next++ },
      line_notes: { note: this.random.chance(0.3) ? null : this.random.pick(['', 'ä', "it's"]) },
    }[table]
    return { id, ...values, ...this.references(table, state) }
  }

  /** What is unique stays with the row, but where it is exchanged. */
  private unique(table: string, { code, name, no }: Row): Row {
    return {
      ...(table === 'items' && { code: code as string }),
      ...(table === 'lists' && { name: name as string }),
      ...(table === 'list_lines' && { no: no as number }),
    }
  }

  private references(of: string, state: State): Row {
    const own = REFERENCES.filter(([table]) => table === of)
    return Object.fromEntries(
      own.map(([, column, to, isNeeded]) => {
        const ids = [...(state.get(to)?.keys() ?? [])]
        return [column, ids.length === 0 || (!isNeeded && this.random.chance(0.5)) ? null : this.random.pick(ids)]
      }),
    )
  }

  private exchange(table: string, rows: Map<number, Row>): void {
    const ids = this.random.shuffle([...rows.keys()]).slice(0, 3)
    const values = ids.map((id) => this.unique(table, rows.get(id) as Row))
    for (const [n, id] of ids.entries()) rows.set(id, { ...(rows.get(id) as Row), ...values[(n + 1) % ids.length] })
  }

  /** Entries of all documents that differ from `before`, in any order, some that do not among them. */
  entries(before: State): readonly Entry[] {
    const documents = (['items', 'lists'] as const).flatMap((table) => {
      const ids = new Set([...(before.get(table)?.keys() ?? []), ...(this.state.get(table)?.keys() ?? [])])
      return [...ids].map((id) => ({ table, id, rows: documentOf(this.state, table, id), former: documentOf(before, table, id) }))
    })
    const sent = documents.filter(({ rows, former }) => JSON.stringify(rows) !== JSON.stringify(former) || this.random.chance(0.1))
    return this.random.shuffle(sent).flatMap(({ table, id, rows }) => {
      const document = { table, recordId: `[${id}]` }
      const entry = (of: string, row: Row | undefined): Entry => ({
        entryNo: ++this.entryNo,
        table: of,
        recordId: `[${row?.id ?? id}]`,
        operation: row === undefined ? 'remove' : 'upsert',
        record: row === undefined ? null : recordOf(row),
        document,
        sealedAt: '2026-11-21T06:30:00.000Z',
      })
      return rows.length === 0 ? [entry(table, undefined)] : rows.map(([of, row]) => entry(of, row))
    })
  }

  /** Whether it is the first that the receiver hears of a document. */
  isNew(name: string): boolean {
    const isKnown = this.known.has(name)
    this.known.add(name)
    return !isKnown
  }
}

function documentOf(state: State, table: string, id: number): (readonly [string, Row])[] {
  const root = state.get(table)?.get(id)
  if (root === undefined) return []
  const lines = table === 'items' ? [] : [...(state.get('list_lines')?.values() ?? [])].filter(({ list }) => list === id)
  const notes = [...(state.get('line_notes')?.values() ?? [])].filter(({ line }) => lines.some((one) => one.id === line))
  return [[table, root], ...lines.map((row) => ['list_lines', row] as const), ...notes.map((row) => ['line_notes', row] as const)]
}

function mend(state: ReadonlyMap<string, Map<number, Row>>): void {
  for (let changes = 1; changes > 0; ) {
    changes = 0
    for (const [table, column, to, isNeeded] of REFERENCES)
      for (const [id, row] of state.get(table) as Map<number, Row>) {
        if (row[column] === null ? !isNeeded : state.get(to)?.has(row[column] as number)) continue
        if (isNeeded) state.get(table)?.delete(id)
        else state.get(table)?.set(id, { ...row, [column]: null })
        changes++
      }
  }
}

/** Applies a batch as central does, in one transaction. */
function apply(
  { database }: Stage,
  handlers: ReadonlyMap<string, readonly Handler[]>,
  entries: readonly Entry[],
  isNew: ReadonlySet<string>,
): Promise<void> {
  const documents = documentsOf({ entries, shapes: { items: [], lists: SHAPE }, keys: { items: ['id'], lists: ['id'] } })
  for (const document of documents) document.isNew = isNew.has(`${document.table}${document.recordId}`)
  const origin = { location: 'BA01', register: 'POS1', registerId: 1, epoch: 'e', epochNo: 1 }
  return database.write(function* () {
    for (const set of setsOf(documents)) {
      const { groups, targets } = yield* arrange(database, handlers, set)
      const context: ApplyContext = { database, origin, levels: new StockLevels(), late: false, targets }
      yield* database.mirroring.defer()
      const all = groups.map(([table, group]) => [handlers.get(table)?.[0] as Handler, group] as const)
      for (const [handler, group] of all) yield* handler.apply(group, context)
      for (const isLast of [false, true]) for (const [handler, group] of all) if (handler.complete) yield* handler.complete(group, context, isLast)
      for (const step of ['loosen', 'remove'] as const)
        for (const [handler, group] of all.toReversed()) if (handler.clear) yield* handler.clear(group, context, step)
    }
    yield* database.mirroring.settle()
  })
}

async function contents(stage: Stage): Promise<unknown[]> {
  const all: unknown[] = []
  for (const [table, columns] of Object.entries({
    items: 'id, code, above, best_list, CAST(CAST(price AS double precision) AS text), owned',
    lists: 'id, item, name',
    list_lines: 'id, list, no, item',
    line_notes: 'id, line, note',
  }))
    all.push(table, ...(await stage.rows(`SELECT ${columns} FROM ${table} ORDER BY id`)))
  return all
}

async function play(t: Test, random: Random): Promise<void> {
  const stages = [await onSqlite(t, schema('sqlite')), await onPostgres(t, server, schema('postgres'))] as const
  const handlers = new Map((['lists', 'items'] as const).map((table) => [table, [mirror({ removals: 'apply' }) as Handler]]))
  const sender = new Sender(random)
  for (let batch = 0; batch < BATCHES; batch++) {
    const before = sender.state
    sender.change()
    const entries = sender.entries(before)
    const isNew = new Set([...new Set(entries.map(({ document }) => `${document.table}${document.recordId}`))].filter((name) => sender.isNew(name)))
    const outcomes: string[] = []
    for (const stage of stages)
      outcomes.push(
        await apply(stage, handlers, entries, isNew).then(
          () => 'applied',
          ({ code, message }) => `${code} ${message}`,
        ),
      )
    const [ours, theirs] = await Promise.all(stages.map(contents))
    const there = await Promise.all(stages.map((stage) => stage.rows('SELECT id FROM line_notes ORDER BY id')))
    t.same(
      there[0],
      [...(sender.state.get('line_notes')?.keys() ?? [])].toSorted((a, b) => a - b).map((id) => [id]),
    )
    if (!t.same(outcomes, ['applied', 'applied']) || !t.same(ours, theirs, `batch ${batch}`)) return
    for (const stage of stages) await stage.exec(`UPDATE items SET owned = 'batch ${batch}' WHERE id % 3 = ${batch % 3}`)
  }
}

t.test('a mirror does the same on SQLite as on PostgreSQL', async (t) => {
  for (const round of roundsOfRun(ROUNDS)) {
    t.comment(`--seed=${seed + round}`)
    await t.test(`seed ${seed + round}`, (t) => play(t, new Random(seed + round)))
    if (!t.passing()) return
  }
})
