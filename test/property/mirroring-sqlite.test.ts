import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { TillsyncError } from '../../src/errors.ts'
import type { Mirroring, MirrorOthers, MirrorUpsert } from '../../src/mirroring.ts'
import { encodeBlob, encodeReal } from '../../src/record.ts'
import type { Work } from '../../src/work.ts'
import { Json, onSqlite, rowsOf, type Targets, transact, upsertOf } from '../support/mirroring.ts'
import { argument, budgetOfRun, Random, roundsOfRun, seedOfRun } from '../support/random.ts'

const BATCHES = Number(argument('batches') ?? 12)
/** Changes of a batch that brings more rows than one statement inserts. */
const MANY = 150
const ROUNDS = Number(argument('rounds') ?? 30)
t.setTimeout(budgetOfRun(30_000) + 60_000)
const seed = seedOfRun()

type Value = bigint | number | string | boolean | Buffer | null
type Row = Readonly<Record<string, Value>>
type Rows = Map<string, Row>

interface Column {
  readonly name: string
  readonly type: string
  readonly value: (random: Random) => Value
}

interface Table {
  readonly name: string
  readonly sql: string
  readonly key: readonly string[]
  readonly columns: readonly Column[]
  readonly uniques: readonly { readonly columns: readonly string[]; readonly fold: boolean }[]
  readonly references: readonly { readonly name: string; readonly to: string; readonly needed: boolean }[]
}

const q = (name: string) => `"${name.replaceAll('"', '""')}"`
const NASTY = ['', ' ', "it's", '"', '\\', '{}', 'ä€𝄞', 'NULL', '\n', '?', '1.0', ' 7', '0x1', 'a\0b', '\ufffd', 'x'.repeat(300)]
const NAMES = ['select', 'Name', 'ä "b"', "it's", 'x', 'order', 'rowid', 't', '?', 'a.b', '$1', ' ', 'excluded', '__proto__']
const text = (random: Random) => random.pick(NASTY)
const whole = (random: Random) => (random.chance(0.2) ? random.pick([2n ** 63n - 1n, -(2n ** 63n), 2n ** 53n + 1n, 0n]) : BigInt(random.int(-9, 9)))
const real = (random: Random) => random.pick([0.1, -2.5, 5, 1e300, 5e-324, Infinity, 0.1 + 0.2, -0])
const decimal = (random: Random) => `${random.int(-999, 999)}.${random.int(10, 99)}`
const time = (random: Random) => `2026-11-${random.int(10, 28)}T06:30:00.000001Z`

/** By declared type the values that it may get; what they become SQLite itself says in a twin. */
const KINDS: Readonly<Record<string, readonly ((random: Random) => Value)[]>> = {
  INTEGER: [whole, real, text, (random) => random.chance(0.5), decimal],
  'NUMERIC(18, 6)': [decimal, whole, time],
  REAL: [real, decimal, (random) => BigInt(random.int(-9, 9))],
  TEXT: [text, whole, time, decimal],
  'VARCHAR(20) COLLATE NOCASE': [(random) => random.pick(['a', 'A', 'b', 'ß'])],
  DATETIME: [time],
  BLOB: [(random) => random.bytes(random.int(0, 9)), text, whole, real],
  '': [text, whole, real, (random) => random.bytes(3), (random) => random.chance(0.5)],
}
const STRICT: Readonly<Record<string, readonly ((random: Random) => Value)[]>> = {
  INTEGER: [whole, (random) => random.chance(0.5), (random) => `${random.int(0, 9)}`],
  REAL: [real, decimal, (random) => BigInt(random.int(-9, 9))],
  TEXT: [text, whole, time],
  BLOB: [(random) => random.bytes(4)],
  ANY: [text, whole, real, (random) => random.bytes(3)],
}

function schema(random: Random): readonly Table[] {
  const names = ['items', 'Price "lists"', 'lines'].slice(0, random.int(1, 3))
  return names.map((name, n) => {
    const strict = random.chance(0.3)
    const kinds = strict ? STRICT : KINDS
    const key = random.pick([
      ['id INTEGER PRIMARY KEY', 'id'],
      ['id INTEGER PRIMARY KEY AUTOINCREMENT', 'id'],
      ['id TEXT NOT NULL PRIMARY KEY', 'id'],
      ['id TEXT, PRIMARY KEY (id COLLATE NOCASE)', 'id'],
      [`id ${strict ? 'ANY' : ''} PRIMARY KEY`, 'id'],
      ['id INTEGER, place TEXT, PRIMARY KEY (place, id)', 'place', 'id'],
    ])
    const [declared = '', ...keys] = key
    const columns = random
      .shuffle(NAMES)
      .slice(0, random.int(0, 6))
      .map((column): Column => {
        const type = random.pick(Object.keys(kinds))
        const of = random.pick(kinds[type] as readonly ((random: Random) => Value)[])
        return { name: column, type, value: (random) => (random.chance(0.15) ? null : of(random)) }
      })
    // What others refer to has one key column; a table refers to itself, and to those before it, which may refer to later ones too, if they can be without.
    const references = names
      .slice(0, n + 1)
      .flatMap((to, at) => (random.chance(0.4) ? [{ name: `to_${at}`, to, needed: at < n && random.chance(0.4) }] : []))
    const code = random.chance(0.7)
    const uniques: { columns: string[]; fold: boolean; sql: string }[] = []
    if (code) {
      const [one] = references
      const how = random.int(0, 3)
      if (how === 0) uniques.push({ columns: ['code'], fold: false, sql: `(code)` })
      if (how === 1) uniques.push({ columns: ['code'], fold: true, sql: `(lower(code))` })
      if (how === 2) uniques.push({ columns: ['code'], fold: false, sql: `(code) WHERE code <> ''` })
      if (how === 3) uniques.push({ columns: one ? [one.name, 'code'] : ['code'], fold: false, sql: one ? `(${one.name}, code)` : '(code)' })
    }
    const [parts, constraint] = declared.split(', PRIMARY KEY ') as [string, string | undefined]
    const action = random.pick(['', 'ON DELETE RESTRICT', 'DEFERRABLE INITIALLY DEFERRED'])
    const all = [
      parts,
      ...(code ? [`code TEXT ${random.chance(0.5) ? 'NOT NULL' : ''}`] : []),
      ...columns.map((column) => `${q(column.name)} ${column.type}`),
      ...references.map((one) => `${one.name} ${strict ? 'ANY' : ''} ${one.needed ? 'NOT NULL' : ''} REFERENCES ${q(one.to)} (id) ${action}`),
      ...(constraint ? [`PRIMARY KEY ${constraint}`] : []),
    ]
    // A foreign key needs a unique `id` of its own collation.
    const unique = keys.length > 1 || constraint ? `; CREATE UNIQUE INDEX ${q(`${name} id`)} ON ${q(name)} (id)` : ''
    const options = [
      ...(strict ? ['STRICT'] : []),
      ...(random.chance(0.3) && !declared.includes('AUTO') && !/^id\s+(ANY)?\s*PRIMARY/.test(declared) ? ['WITHOUT ROWID'] : []),
    ]
    const same = [...keys, ...(code ? ['code'] : []), ...columns.map((column) => column.name), ...references.map((one) => one.name)]
      .map((column) => `OLD.${q(column)} IS NEW.${q(column)} COLLATE BINARY AND typeof(OLD.${q(column)}) = typeof(NEW.${q(column)})`)
      .join(' AND ')
    return {
      name,
      key: keys,
      columns,
      uniques,
      references,
      sql: `CREATE TABLE ${q(name)} (${all.join(', ')}) ${options.join(', ')}${unique}; ${uniques.map((one, at) => `CREATE UNIQUE INDEX ${q(`${name} u${at}`)} ON ${q(name)} ${one.sql};`).join(' ')};
        CREATE TRIGGER ${q(`${name} needless`)} BEFORE UPDATE ON ${q(name)} WHEN ${same} BEGIN SELECT RAISE(ABORT, 'needless update'); END`,
    }
  })
}

/** What central has: the rows that the till's tables must come to. */
class Model {
  private readonly random: Random
  private readonly tables: readonly Table[]
  state: ReadonlyMap<string, Rows>
  private next = 1

  constructor(random: Random, tables: readonly Table[]) {
    this.random = random
    this.tables = tables
    this.state = new Map(tables.map(({ name }) => [name, new Map()]))
  }

  change(): void {
    const state = new Map([...this.state].map(([name, rows]) => [name, new Map(rows)]))
    for (let n = this.random.chance(0.08) ? MANY : this.random.int(1, 12); n > 0; n--) this.changeOne(this.random.pick(this.tables), state)
    this.mend(state)
    this.state = state
  }

  private changeOne(table: Table, state: ReadonlyMap<string, Rows>): void {
    const { random } = this
    const rows = state.get(table.name) as Rows
    const id = rows.size > 0 ? random.pick([...rows.keys()]) : undefined
    const what = random.int(0, 9)
    if (id === undefined || what < 4) {
      const number = this.next++
      const key: Row = {
        id: table.sql.includes('id INTEGER') ? BigInt(number) : `K${number}`,
        ...(table.key.includes('place') && { place: random.pick(['A', 'b', "it's"]) }),
      }
      rows.set(String(number), {
        ...key,
        ...(table.sql.includes('code TEXT') && { code: `C${this.next++}` }),
        ...this.values(table, 1),
        ...this.references(table, state),
      })
    } else if (what === 4) rows.delete(id)
    else if (what < 7) this.exchange(rows, table)
    else if (what === 7) this.set(rows, id, this.references(table, state))
    else this.set(rows, id, this.values(table, 0.5))
  }

  private values({ columns }: Table, share: number): Row {
    return Object.fromEntries(columns.filter(() => this.random.chance(share)).map(({ name, value }) => [name, value(this.random)]))
  }

  private references({ references }: Table, state: ReadonlyMap<string, Rows>): Row {
    return Object.fromEntries(
      references.map(({ name, to, needed }) => {
        const ids = [...(state.get(to) as Rows).values()].map(({ id }) => id as Value)
        return [name, ids.length === 0 || (!needed && this.random.chance(0.4)) ? null : this.random.pick(ids)]
      }),
    )
  }

  /** Codes go round among some rows, and one may come to be free. */
  private exchange(rows: Rows, table: Table): void {
    if (!table.sql.includes('code TEXT')) return
    const some = this.random.shuffle([...rows.keys()]).slice(0, this.random.int(1, 4))
    const codes = some.map((id) => rows.get(id)?.code as string)
    const how = this.random.int(0, 3)
    if (how === 0) codes[0] = `c${this.next++}`
    if (how === 1) codes[0] = codes[0]?.toLowerCase() as string
    for (const [n, id] of some.entries()) this.set(rows, id, { code: codes[(n + 1) % some.length] as string })
  }

  private set(rows: Rows, id: string, changed: Row): void {
    rows.set(id, { ...(rows.get(id) as Row), ...changed })
  }

  private mend(state: ReadonlyMap<string, Rows>): void {
    for (let changes = 1; changes > 0; ) {
      changes = 0
      for (const table of this.tables) {
        const rows = state.get(table.name) as Rows
        for (const { name, to, needed } of table.references) {
          const there = new Set([...(state.get(to) as Rows).values()].map(({ id }) => id))
          for (const [id, row] of rows) {
            if (row[name] === null ? !needed : there.has(row[name] as Value)) continue
            if (needed) rows.delete(id)
            else this.set(rows, id, { [name]: null })
            changes++
          }
        }
      }
    }
  }
}

function sealed(row: Row): Readonly<Record<string, unknown>> {
  return Object.fromEntries(
    Object.entries(row).map(([name, value]) => {
      if (typeof value === 'number') return [name, new Json(encodeReal(value))]
      return [name, value instanceof Buffer ? new Json(encodeBlob(value)) : value]
    }),
  )
}

/** What SQLite makes of the same values by itself. */
function inTwin(tables: readonly Table[], state: ReadonlyMap<string, Rows>): Database.Database {
  const twin = new Database(':memory:')
  twin.pragma('foreign_keys = OFF')
  for (const table of tables) {
    twin.exec(table.sql)
    for (const row of (state.get(table.name) as Rows).values()) {
      const names = Object.keys(row)
      const values = Object.values(row).map((value) => (typeof value === 'boolean' ? BigInt(value) : value))
      twin.prepare(`INSERT INTO ${q(table.name)} (${names.map(q)}) VALUES (${names.map(() => '?')})`).run(values)
    }
  }
  return twin
}

function contents(db: Database.Database, { name, key, columns, references, sql }: Table): unknown[] {
  const names = [
    ...key,
    ...(sql.includes('code TEXT') ? ['code'] : []),
    ...columns.map((column) => column.name),
    ...references.map((one) => one.name),
  ]
  const shown = names.map((column) => `typeof(${q(column)}) || ' ' || quote(${q(column)})`)
  return (
    db
      .prepare(`SELECT ${shown.map((one, n) => `${one} AS c${n}`)} FROM ${q(name)}`)
      .raw()
      .all() as string[][]
  )
    .map((row) => row.join(' | '))
    .sort()
}

/** What a table's rows were and are: those that come, in groups of the same columns, and those that go. */
function difference(
  random: Random,
  table: Table,
  before: Rows,
  after: Rows,
): { groups: Readonly<Record<string, unknown>>[][]; gone: Readonly<Record<string, unknown>>[] } {
  const groups = new Map<string, Readonly<Record<string, unknown>>[]>()
  const keyOf = (row: Row) => Object.fromEntries(table.key.map((name) => [name, row[name] as Value]))
  for (const [id, row] of random.shuffle([...after])) {
    const former = before.get(id)
    const isChanged = former === undefined || Object.keys(row).some((name) => row[name] !== former[name])
    if (!isChanged && random.chance(0.7)) continue
    const names = Object.keys(row).filter(
      (name) => former === undefined || table.key.includes(name) || row[name] !== former[name] || random.chance(0.8),
    )
    const record = sealed(Object.fromEntries(names.map((name) => [name, row[name] as Value])))
    groups.set(names.join(), [...(groups.get(names.join()) ?? []), record])
  }
  return { groups: [...groups.values()], gone: [...before].filter(([id]) => !after.has(id)).map(([, row]) => sealed(keyOf(row))) }
}

type Sealed = ReturnType<typeof sealed>

/** A change by which a reference of the new state is not satisfied any more. */
function spoiling(
  random: Random,
  tables: readonly Table[],
  state: ReadonlyMap<string, Rows>,
): { readonly table: string; readonly record: Sealed } | { readonly table: string; readonly gone: Sealed } | undefined {
  const all = tables.flatMap((table) =>
    [...(state.get(table.name) as Rows).values()].flatMap((row) => table.references.map((one) => ({ table, row, ...one }))),
  )
  if (all.length === 0) return undefined
  const { table, row, name, to } = random.pick(all)
  if (random.chance(0.5)) return { table: table.name, record: sealed({ ...row, [name]: 'nowhere' }) }
  const above = [...(state.get(to) as Rows).values()].find(({ id }) => id === row[name])
  // One that refers to itself alone goes without harm.
  if (above === undefined || above === row) return undefined
  const keys = tables.find((one) => one.name === to)?.key ?? []
  return { table: to, gone: sealed(Object.fromEntries(keys.map((key) => [key, above[key] as Value]))) }
}

/** Removes all there is, and is taken back. */
function* inVain(mirroring: Mirroring, targets: Targets, tables: readonly Table[], state: ReadonlyMap<string, Rows>): Work<void> {
  for (const { name, key } of tables) {
    const rows = [...(state.get(name) as Rows).values()].map((row) => sealed(Object.fromEntries(key.map((one) => [one, row[one] as Value]))))
    if (rows.length > 0) yield* mirroring.remove(rowsOf(targets, name, rows))
  }
  throw new TillsyncError('ERR_REFERENCE', 'as if')
}

async function play(t: Test, random: Random): Promise<void> {
  const tables = schema(random)
  const stage = await onSqlite(t, tables.map(({ sql }) => sql).join('; '))
  const { mirroring } = stage.database
  const model = new Model(random, tables)
  const show = () => tables.map((table) => contents(stage.db, table))
  for (let batch = 0; batch < BATCHES; batch++) {
    const before = model.state
    model.change()
    const changes = tables.map((table) => difference(random, table, before.get(table.name) as Rows, model.state.get(table.name) as Rows))
    const spoils = random.chance(0.3) ? spoiling(random, tables, model.state) : undefined
    const write = function* (targets: Targets): Work<void> {
      yield* mirroring.defer()
      const all = random.shuffle([...tables.entries()]).map(([n, table]) => {
        const { groups, gone } = changes[n] as (typeof changes)[number]
        const going = gone.length === 0 ? [] : [rowsOf(targets, table.name, gone)]
        const removesFirst = random.chance(0.5)
        const coming = groups.map((records) => ({ records, rows: rowsOf(targets, table.name, records) }))
        const others = (): readonly MirrorOthers[] => [
          ...coming.map(({ rows }) => ({ ...rows, written: rows.columns })),
          ...(removesFirst ? [] : going),
        ]
        const how: MirrorUpsert['rows'] = random.pick(['new', 'known'])
        return { going, removesFirst, given: coming.map(({ records }) => upsertOf(targets, table.name, records, { others, rows: how })) }
      })
      if (random.chance(0.6)) yield* mirroring.foresee(all.flatMap(({ given }) => given))
      if (random.chance(0.3)) yield* mirroring.refusedBy(() => inVain(mirroring, targets, tables, before))
      for (const { going, removesFirst, given } of all) {
        if (removesFirst) for (const rows of going) yield* mirroring.remove(rows)
        for (const one of given) t.equal(yield* mirroring.refusedBy(() => mirroring.upsert(one)), undefined)
        if (!removesFirst) for (const rows of going) yield* mirroring.remove(rows)
      }
      if (spoils !== undefined && 'record' in spoils) yield* mirroring.upsert(upsertOf(targets, spoils.table, [spoils.record]))
      if (spoils !== undefined && 'gone' in spoils) yield* mirroring.remove(rowsOf(targets, spoils.table, [spoils.gone]))
      yield* mirroring.settle()
    }
    const names = tables.map(({ name }) => name)
    const isSpoilt = spoils !== undefined
    const former = show()
    const error = await transact(stage, names, write).then(
      () => undefined,
      (error) => error,
    )
    const fails = isSpoilt ? error?.code === 'ERR_REFERENCE' && error.context.constraint !== undefined : error === undefined
    const twin = inTwin(tables, model.state)
    const wanted = isSpoilt ? former : tables.map((table) => contents(twin, table))
    twin.close()
    if (!fails || !t.same(show(), wanted, `batch ${batch}`)) {
      t.fail(`batch ${batch}: ${error?.stack} ${error?.cause}`)
      t.comment(tables.map(({ sql }) => sql).join('\n'))
      return
    }
    t.same(stage.db.pragma('foreign_key_check'), [])
    if (isSpoilt) model.state = before
  }
}

t.test('whatever the schema and the changes, the tables hold what a plain model holds, and nothing is written in vain', async (t) => {
  for (const round of roundsOfRun(ROUNDS)) {
    t.comment(`--seed=${seed + round}`)
    await t.test(`seed ${seed + round}`, (t) => play(t, new Random(seed + round)))
    if (!t.passing()) return
  }
})
