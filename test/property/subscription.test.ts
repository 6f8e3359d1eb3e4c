import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister, mirror, type Register } from '../../src/index.ts'
import type { AudienceBatch } from '../../src/model.ts'
import type { RegisterDatabase } from '../../src/ports.ts'
import { AudienceStream, type StreamRow, subscriberOf } from '../support/audience-stream.ts'
import { eventually } from '../support/eventually.ts'
import { type Faults, faulty } from '../support/faulty-database.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { argument, budgetOfRun, Random, roundsOfRun, seedOfRun } from '../support/random.ts'
import { openDatabase } from '../support/shop.ts'

// Whatever central changes, whichever batches come, twice, late, in any order, interrupted anywhere, and whatever the till has by itself: in the end its tables hold what is
// published, and its own.

const ROUNDS = Number(argument('rounds') ?? 4)
const STEPS = Number(argument('steps') ?? 40)
t.setTimeout(budgetOfRun(60_000) + 120_000)
const server = await startServer(t)
const seed = seedOfRun()

const TABLES = `
  CREATE TABLE categories (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES categories (id), name VARCHAR(20));
  CREATE TABLE items (item_no VARCHAR(10) PRIMARY KEY, category INTEGER REFERENCES categories (id), plu INTEGER UNIQUE, name VARCHAR(20) NOT NULL);
  CREATE TABLE item_barcodes (barcode VARCHAR(20) PRIMARY KEY, item_no VARCHAR(10) NOT NULL REFERENCES items (item_no));
  CREATE INDEX item_barcodes_item ON item_barcodes (item_no);
  CREATE TABLE price_lists (id INTEGER PRIMARY KEY, name VARCHAR(20));
  CREATE TABLE price_list_lines (list_id INTEGER NOT NULL REFERENCES price_lists (id), item_no VARCHAR(10) NOT NULL REFERENCES items (item_no), price INTEGER, PRIMARY KEY (list_id, item_no));
  CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, item_no VARCHAR(10) NOT NULL REFERENCES items (item_no))`
const SUBSCRIBED = ['price_lists', 'categories', 'items']
const COLUMNS: Readonly<Record<string, readonly string[]>> = {
  categories: ['id', 'parent', 'name'],
  items: ['item_no', 'category', 'plu', 'name'],
  item_barcodes: ['barcode', 'item_no'],
  price_lists: ['id', 'name'],
  price_list_lines: ['list_id', 'item_no', 'price'],
}

/** Head office: rows that refer to each other as the till's foreign keys want it. */
class Office {
  readonly streams = {
    categories: new AudienceStream('categories', ['id']),
    items: new AudienceStream('items', ['item_no'], [{ table: 'item_barcodes', columns: { item_no: 'item_no' }, parts: [] }], {
      item_barcodes: ['barcode'],
    }),
    price_lists: new AudienceStream('price_lists', ['id'], [{ table: 'price_list_lines', columns: { list_id: 'id' }, parts: [] }]),
  }
  private readonly random: Random
  private readonly categories = new Map<number, { id: number; parent: number | null; name: string }>()
  private readonly items = new Map<string, { item_no: string; category: number | null; plu: number; name: string }>()
  private readonly barcodes = new Map<string, string>()
  private readonly lists = new Map<number, { id: number; name: string; lines: Map<string, number> }>()
  private plu = 1

  constructor(random: Random) {
    this.random = random
  }

  change(): void {
    const { random } = this
    const id = random.int(1, 8)
    const no = `I${random.int(1, 12)}`
    const removeList = () => {
      this.lists.delete(id)
      this.streams.price_lists.remove([id])
    }
    random.pick([
      () => this.putCategory(id),
      () => this.removeCategory(id),
      () => this.putItem(no),
      () => this.putItem(no),
      () => this.putItem(no),
      () => this.removeItem(no),
      () => this.exchange(),
      () => this.moveBarcode(`B${random.int(1, 10)}`, no),
      () => this.putList(id),
      removeList,
    ])()
  }

  /** Nobody is where he was: another stream, from the beginning. */
  renew(): void {
    this.random.pick(Object.values(this.streams)).renew()
  }

  rows(table: string): StreamRow[] {
    if (table === 'categories') return [...this.categories.values()]
    if (table === 'items') return [...this.items.values()]
    if (table === 'item_barcodes') return [...this.barcodes].map(([barcode, item_no]) => ({ barcode, item_no }))
    if (table === 'price_lists') return [...this.lists.values()].map(({ id, name }) => ({ id, name }))
    return [...this.lists.values()].flatMap(({ id, lines }) => [...lines].map(([item_no, price]) => ({ list_id: id, item_no, price })))
  }

  private putCategory(id: number): void {
    const above = [...this.categories.keys()].filter((other) => other !== id && !this.isBelow(other, id))
    this.categories.set(id, {
      id,
      parent: above.length === 0 || this.random.chance(0.4) ? null : this.random.pick(above),
      name: `c${this.random.int(0, 9)}`,
    })
    this.streams.categories.put(this.categories.get(id) as StreamRow)
  }

  private isBelow(id: number, other: number): boolean {
    for (let at: number | null | undefined = id; typeof at === 'number'; at = this.categories.get(at)?.parent) if (at === other) return true
    return false
  }

  private removeCategory(id: number): void {
    if (!this.categories.delete(id)) return
    for (const one of this.categories.values()) if (one.parent === id) this.streams.categories.put(Object.assign(one, { parent: null }))
    for (const one of this.items.values()) if (one.category === id) this.sendItem(Object.assign(one, { category: null }).item_no)
    this.streams.categories.remove([id])
  }

  private putItem(item_no: string): void {
    const category = this.categories.size === 0 || this.random.chance(0.3) ? null : this.random.pick([...this.categories.keys()])
    const plu = this.items.get(item_no)?.plu ?? this.plu++
    this.items.set(item_no, { item_no, category, plu: this.random.chance(0.2) ? this.plu++ : plu, name: `n${this.random.int(0, 9)}` })
    this.sendItem(item_no)
  }

  private sendItem(item_no: string): void {
    const barcodes = [...this.barcodes].filter(([, of]) => of === item_no).map(([barcode]) => ({ barcode, item_no }))
    this.streams.items.put({ row: { ...this.items.get(item_no) }, parts: { item_barcodes: barcodes } })
  }

  private removeItem(item_no: string): void {
    if (!this.items.delete(item_no)) return
    for (const [barcode, of] of this.barcodes) if (of === item_no) this.barcodes.delete(barcode)
    for (const list of this.lists.values()) if (list.lines.delete(item_no)) this.sendList(list.id)
    this.streams.items.remove([item_no])
  }

  private exchange(): void {
    const [a, b, c] = this.random.shuffle([...this.items.values()])
    if (a === undefined || b === undefined || c === undefined) return
    const { plu } = a
    Object.assign(a, { plu: b.plu })
    Object.assign(b, { plu: c.plu })
    Object.assign(c, { plu })
    for (const { item_no } of this.random.shuffle([a, b, c])) this.sendItem(item_no)
  }

  private moveBarcode(barcode: string, item_no: string): void {
    const former = this.barcodes.get(barcode)
    if (this.random.chance(0.3)) this.barcodes.delete(barcode)
    else if (this.items.has(item_no)) this.barcodes.set(barcode, item_no)
    for (const one of new Set([former, item_no])) if (one !== undefined && this.items.has(one)) this.sendItem(one)
  }

  private putList(id: number): void {
    const lines = this.random.shuffle([...this.items.keys()]).slice(0, this.random.int(0, 5))
    this.lists.set(id, { id, name: `l${this.random.int(0, 9)}`, lines: new Map(lines.map((item_no) => [item_no, this.random.int(1, 99)])) })
    this.sendList(id)
  }

  private sendList(id: number): void {
    const { name, lines } = this.lists.get(id) as { name: string; lines: Map<string, number> }
    this.streams.price_lists.put({
      row: { id, name },
      parts: { price_list_lines: [...lines].map(([item_no, price]) => ({ list_id: id, item_no, price })) },
    })
  }
}

/** A till's database, as its host has it. */
interface Host {
  readonly database: () => RegisterDatabase
  query(sql: string): Promise<readonly Record<string, unknown>[]>
}

async function hostOn(t: Test, dialect: 'sqlite' | 'postgres'): Promise<Host> {
  if (dialect === 'postgres') {
    const pool = await createPool(t, server)
    await pool.query(TABLES)
    return { database: () => postgres(pool), query: async (sql) => (await pool.query(sql)).rows }
  }
  const { db, file } = openDatabase(t, TABLES)
  const query = async (sql: string) => {
    const statement = db.prepare(sql)
    if (statement.reader) return statement.all() as Record<string, unknown>[]
    statement.run()
    return []
  }
  return { database: () => sqlite(() => new Database(file), { host: db }), query }
}

async function play(t: Test, dialect: 'sqlite' | 'postgres', random: Random): Promise<void> {
  const host = await hostOn(t, dialect)
  let failing = 0
  const faults: Faults = {
    next: () => (random.chance(failing) ? random.pick(['lost', 'unheard'] as const) : undefined),
  }
  const open = async (): Promise<Register> => {
    const subscribe = Object.fromEntries(random.shuffle(Object.keys(COLUMNS)).map((table) => [table, mirror()]))
    const till = createRegister({ location: 'BA01', register: 'POS1', database: faulty(host.database(), faults), publish: {}, subscribe })
    t.teardown(() => till.stop())
    await till.install()
    return till
  }
  const office = new Office(random)
  let till = await open()
  let former: readonly AudienceBatch[] = []
  const deliver = async (most: number): Promise<boolean> => {
    const subscriber = subscriberOf(till)
    const standings = (await subscriber.standings()).filter(({ table }) => SUBSCRIBED.includes(table))
    const batches = standings.flatMap((standing) => {
      const batch = office.streams[standing.table as keyof Office['streams']].next(standing, most)
      return standing.stream === batch.stream && standing.entryNo === batch.through ? [] : [batch]
    })
    // Some are lost, some come late, twice, or before their time.
    const beyond = batches.map((batch) =>
      office.streams[batch.table as keyof Office['streams']].next({ stream: batch.stream, entryNo: batch.through }, most),
    )
    const odd = [...former, ...beyond, ...batches].filter(() => random.chance(0.1))
    const chosen = failing === 0 ? batches : random.shuffle([...batches.filter(() => random.chance(0.7)), ...odd])
    former = batches
    await subscriber.take(chosen)
    return batches.length > 0
  }
  for (let step = 0; step < STEPS; step++) {
    for (let changes = random.int(0, 6); changes > 0; changes--) office.change()
    if (random.chance(0.1)) {
      for (let changes = random.int(0, 15); changes > 0; changes--) office.change()
      office.renew()
    }
    const own = random.int(1, 5)
    if (random.chance(0.3))
      await host.query(`INSERT INTO items (item_no, plu, name) VALUES ('OWN${own}', ${1_000_000 + own}, 'own') ON CONFLICT (item_no) DO NOTHING`)
    if (random.chance(0.2)) await host.query(`DELETE FROM items WHERE item_no = 'OWN${own}'`)
    if (random.chance(0.2))
      await host.query(
        `INSERT INTO receipt_lines SELECT coalesce((SELECT max(id) FROM receipt_lines), 0) + 1, min(item_no) FROM items WHERE item_no NOT LIKE 'OWN%' HAVING min(item_no) IS NOT NULL`,
      )
    failing = 0.1
    await deliver(random.int(1, 8)).catch(() => undefined)
    failing = 0
    if (!random.chance(0.1)) continue
    await till.stop()
    till = await open()
  }
  await host.query('DELETE FROM receipt_lines')
  while (await deliver(random.int(1, 8)));
  await till.start()
  await eventually('nothing waits', async () => (await till.status()).unapplied.length === 0).catch(async () =>
    t.same((await till.status()).unapplied, []),
  )
  for (const [table, columns] of Object.entries(COLUMNS)) {
    const found = (await host.query(`SELECT ${columns.join(', ')} FROM ${table}`)).map((row) => JSON.stringify(columns.map((column) => row[column])))
    const wanted = office.rows(table).map((row) => JSON.stringify(columns.map((column) => row[column])))
    const own = found.filter((row) => table === 'items' && row.startsWith('["OWN'))
    t.same(found.toSorted(), [...wanted, ...own].toSorted(), table)
  }
  t.same(
    (await till.status()).subscriptions.map(({ isComplete, waiting }) => ({ isComplete, waiting })),
    SUBSCRIBED.map(() => ({ isComplete: true, waiting: 0 })),
  )
  await till.stop()
}

for (const [dialect, rounds] of [
  ['sqlite', ROUNDS],
  ['postgres', Math.ceil(ROUNDS / 4)],
] as const) {
  t.test(`${dialect}: in the end a till holds what is published for it, and its own`, async (t) => {
    for (const round of roundsOfRun(rounds, 0.5)) {
      t.comment(`--seed=${seed + round}`)
      await t.test(`seed ${seed + round}`, (t) => play(t, dialect, new Random(seed + round)))
      if (!t.passing()) return
    }
  })
}
