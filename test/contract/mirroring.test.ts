import t, { type Test } from 'tap'
import type { MirrorOthers } from '../../src/mirroring.ts'
import { noteWrites, onEach, put, rowsOf, type Stage, transact, upsertOf, writes } from '../support/mirroring.ts'
import { startServer } from '../support/postgres.ts'

const server = await startServer(t)
const on = (name: string, tables: string, test: (t: Test, stage: Stage) => Promise<void>) => onEach(t, server, name, tables, test)

const ITEMS = "CREATE TABLE items (id integer PRIMARY KEY, name text, price numeric, owned text DEFAULT 'new')"

on('what is new is inserted, what differs updated, and nothing else written', ITEMS, async (t, stage) => {
  await noteWrites(stage, 'items', 'id')
  const records = [
    { id: 1, name: 'a', price: '1.50' },
    { id: 2, name: null, price: null },
    { id: 3, name: "it's ä", price: '3' },
  ]
  for (const rows of ['new', 'known'] as const) {
    await put(stage, 'items', records, { rows })
    t.same(await stage.rows('SELECT id, name, CAST(price AS double precision), owned FROM items ORDER BY id'), [
      [1, 'a', 1.5, 'new'],
      [2, null, null, 'new'],
      [3, "it's ä", 3, 'new'],
    ])
    t.same(await writes(stage), rows === 'new' ? ['insert 1', 'insert 2', 'insert 3'] : [])
  }
  await stage.exec("UPDATE items SET owned = 'mine'")
  await writes(stage)
  const changed = [{ id: 4, name: 'd', price: '4' }, { ...records[0], name: null }, { ...records[1], name: 'b' }, records[2] as object]
  await put(stage, 'items', changed as typeof records)
  t.same(await writes(stage), ['insert 4', 'update 1', 'update 2'])
  t.same(await stage.rows('SELECT id, name, owned FROM items ORDER BY id'), [
    [1, null, 'mine'],
    [2, 'b', 'mine'],
    [3, "it's ä", 'mine'],
    [4, 'd', 'new'],
  ])
})

on('of rows whose existence the other side owns none is inserted, and only named columns are written', ITEMS, async (t, stage) => {
  await stage.exec("INSERT INTO items VALUES (1, 'a', 1, 'mine'), (2, 'b', 2, 'mine')")
  await noteWrites(stage, 'items', 'id')
  const records = [1, 2, 3].map((id) => ({ id, name: 'b', price: '9' }))
  await put(stage, 'items', records, { rows: 'update', written: ['name'] })
  t.same(await stage.rows('SELECT id, name, CAST(price AS integer), owned FROM items ORDER BY id'), [
    [1, 'b', 1, 'mine'],
    [2, 'b', 2, 'mine'],
  ])
  t.same(await writes(stage), ['update 1'])
  await put(stage, 'items', [{ id: 7, name: 'g', price: '9' }], { written: ['name'] })
  t.same(await stage.rows('SELECT id, name, price FROM items WHERE id = 7'), [[7, 'g', null]], 'a new one has its key')
})

on(
  'constants are part of the key, and members have other names than columns',
  'CREATE TABLE lines (location text, no integer, id integer, note text, PRIMARY KEY (id, location, no))',
  async (t, stage) => {
    const members = { id: 'line_id', note: 'select' }
    const record = { line_id: 1, no: 2, select: 'x' }
    for (const location of ['A', "B'"]) await put(stage, 'lines', [record], { members, constants: { location } })
    await put(stage, 'lines', [{ ...record, select: 'y' }], { members, constants: { location: 'A' } })
    t.same(await stage.rows('SELECT * FROM lines ORDER BY location'), [
      ['A', 2, 1, 'y'],
      ["B'", 2, 1, 'x'],
    ])
    await transact(stage, ['lines'], (targets) =>
      stage.database.mirroring.remove(rowsOf(targets, 'lines', [{ line_id: 1, no: 2 }], { members, constants: { location: "B'" } })),
    )
    t.same(await stage.rows('SELECT location FROM lines'), [['A']])
  },
)

on(
  'tables are known with key, columns and references; what is no table is absent',
  `CREATE TABLE groups (id integer PRIMARY KEY, above integer REFERENCES groups); CREATE TABLE "it's ""x"" y" (b text, a integer, grp integer REFERENCES groups (id), PRIMARY KEY (a, b));
    CREATE TABLE alone (id integer PRIMARY KEY, twice integer GENERATED ALWAYS AS (id * 2) STORED); CREATE VIEW seen AS SELECT 1 AS id`,
  async (t, stage) => {
    const odd = `it's "x" y`
    const targets = await transact(stage, [], function* () {
      return yield* stage.database.mirroring.targets(['groups', odd, 'alone', 'seen', 'nowhere', 'groups'])
    })
    t.same([...targets.keys()].sort(), ['alone', 'groups', odd])
    t.match(targets.get(odd), { key: ['a', 'b'], columns: [{ name: 'b' }, { name: 'a' }, { name: 'grp' }], isReferredTo: false })
    t.match(targets.get(odd)?.foreignKeys, [{ name: `${odd}_grp_fkey`, columns: ['grp'], refersTo: 'groups' }])
    t.match(targets.get('groups'), { key: ['id'], foreignKeys: [{ name: 'groups_above_fkey', refersTo: 'groups' }], isReferredTo: true })
    t.match(targets.get('alone'), { foreignKeys: [], isReferredTo: false, isDeferrable: false, columns: [{}, { name: 'twice', generated: true }] })
    await put(stage, 'alone', [{ id: 4 }])
    await stage.exec('ALTER TABLE alone ADD COLUMN more text')
    await put(stage, 'alone', [{ id: 4, more: 'x' }])
    t.same(await stage.rows('SELECT id, twice, more FROM alone'), [[4, 8, 'x']], 'a column that was added meanwhile')
  },
)

const UNIQUE = `CREATE TABLE items (id integer PRIMARY KEY, barcode text UNIQUE, plu integer NOT NULL UNIQUE, name text);
  CREATE UNIQUE INDEX items_name ON items (lower(name)) WHERE name <> ''`

on('rows that exchange unique values, or take those of rows that change or go', UNIQUE, async (t, stage) => {
  const all = () => stage.rows('SELECT id, barcode, plu, name FROM items ORDER BY id')
  const row = (id: number, barcode: string | null, plu: number, name: string) => ({ id, barcode, plu, name })
  await put(stage, 'items', [row(1, 'a', 10, 'x'), row(2, 'b', 20, 'y'), row(3, 'c', 30, 'z'), row(4, null, 40, '')])
  await put(stage, 'items', [row(1, 'b', 20, 'Y'), row(2, 'c', 30, 'Z'), row(3, 'a', 10, 'X')])
  t.same((await all()).slice(0, 3), [
    [1, 'b', 20, 'Y'],
    [2, 'c', 30, 'Z'],
    [3, 'a', 10, 'X'],
  ])
  await put(stage, 'items', [row(5, 'a', 10, 'x'), row(3, 'd', 50, 'v')])
  t.same((await all()).slice(2), [
    [3, 'd', 50, 'v'],
    [4, null, 40, ''],
    [5, 'a', 10, 'x'],
  ])
  const going = (targets: Parameters<typeof rowsOf>[0]) => [rowsOf(targets, 'items', [{ id: 5 }])]
  await transact(stage, ['items'], function* (targets) {
    yield* stage.database.mirroring.upsert(upsertOf(targets, 'items', [row(6, 'a', 10, 'X')], { others: going }))
    yield* stage.database.mirroring.remove(rowsOf(targets, 'items', [{ id: 5 }]))
  })
  t.same((await all()).slice(3), [
    [4, null, 40, ''],
    [6, 'a', 10, 'X'],
  ])
  const before = await all()
  for (const [taken, constraint] of [
    [row(7, 'a', 70, 'w'), stage.dialect === 'sqlite' ? 'items.barcode' : 'items_barcode_key'],
    [row(7, 'w', 10, 'w'), stage.dialect === 'sqlite' ? 'items.plu' : 'items_plu_key'],
    [row(7, 'w', 70, 'Z'), stage.dialect === 'sqlite' ? "index 'items_name'" : 'items_name'],
  ] as const)
    await t.rejects(
      put(stage, 'items', [taken, row(8, 'q', 80, 'q')]),
      { code: 'ERR_MIRROR', context: { table: 'items', constraint } },
      'of a row that stays as it is',
    )
  t.same(await all(), before)
})

on(
  'records that were left out of a batch, or written in another way, give up their values too',
  'CREATE TABLE codes (id integer PRIMARY KEY, item integer NOT NULL, no integer NOT NULL, note text, UNIQUE (item, no))',
  async (t, stage) => {
    await put(
      stage,
      'codes',
      [1, 2, 3].map((no) => ({ id: no, item: 1, no, note: 'x' })),
    )
    await put(
      stage,
      'codes',
      [1, 2, 3].map((no) => ({ id: no, item: 1, no: 4 - no, note: 'x' })),
    )
    const all = () => stage.rows('SELECT id, item, no FROM codes ORDER BY id')
    t.same(await all(), [
      [1, 1, 3],
      [2, 1, 2],
      [3, 1, 1],
    ])
    await transact(stage, ['codes'], function* (targets) {
      const later = { id: 3, item: 2, no: 3, note: 'y' }
      const others = (): readonly MirrorOthers[] => [{ ...rowsOf(targets, 'codes', [later]), written: ['item', 'no', 'note'] }]
      yield* stage.database.mirroring.upsert(upsertOf(targets, 'codes', [{ id: 9, item: 1, no: 1 }], { others }))
      yield* stage.database.mirroring.upsert(upsertOf(targets, 'codes', [later]))
    })
    t.same(await all(), [
      [1, 1, 3],
      [2, 1, 2],
      [3, 2, 3],
      [9, 1, 1],
    ])
  },
)

const LISTS = `CREATE TABLE items (id integer PRIMARY KEY, above integer REFERENCES items DEFERRABLE);
  CREATE TABLE lists (id integer PRIMARY KEY, best integer); CREATE TABLE lines (id integer PRIMARY KEY, list integer NOT NULL REFERENCES lists DEFERRABLE, item integer NOT NULL REFERENCES items DEFERRABLE)`

on('a reference that is not satisfied is said with table and constraint, and refusedBy does nothing of it', LISTS, async (t, stage) => {
  const { mirroring } = stage.database
  const line = { id: 1, list: 1, item: 7 }
  await stage.exec('INSERT INTO lists (id) VALUES (1); INSERT INTO items VALUES (5, NULL)')
  await t.rejects(put(stage, 'lines', [line]), { code: 'ERR_REFERENCE', context: { table: 'lines', constraint: 'lines_item_fkey' } })
  await put(stage, 'lines', [{ ...line, item: 5 }])
  await t.rejects(put(stage, 'lines', [{ ...line, list: 8, item: 5 }]), {
    code: 'ERR_REFERENCE',
    context: { table: 'lines', constraint: 'lines_list_fkey' },
  })
  const remove = transact(stage, ['items'], (targets) => mirroring.remove(rowsOf(targets, 'items', [{ id: 5 }])))
  await t.rejects(remove, { code: 'ERR_REFERENCE', context: { table: 'lines', constraint: 'lines_item_fkey' } })
  const refused = await transact(stage, ['items', 'lines'], function* (targets) {
    const first = yield* mirroring.refusedBy(function* () {
      yield* mirroring.upsert(upsertOf(targets, 'items', [{ id: 6, above: null }]))
      yield* mirroring.upsert(upsertOf(targets, 'lines', [{ id: 2, list: 1, item: 6 }, line]))
    })
    const second = yield* mirroring.refusedBy(() => mirroring.upsert(upsertOf(targets, 'items', [{ id: 8, above: 8 }])))
    const third = yield* mirroring.refusedBy(() => mirroring.remove(rowsOf(targets, 'items', [{ id: 5 }])))
    return [first, second, third]
  })
  t.same(refused, ['lines_item_fkey', undefined, 'lines_item_fkey'])
  t.same(await stage.rows('SELECT id FROM items ORDER BY id'), [[5], [8]])
  t.same(await stage.rows('SELECT id, item FROM lines'), [[1, 5]])
})

on('what may wait is satisfied in any order, and looked at when it is settled', LISTS, async (t, stage) => {
  const { mirroring } = stage.database
  const tables = ['items', 'lists', 'lines']
  await transact(stage, tables, function* (targets) {
    yield* mirroring.defer()
    yield* mirroring.upsert(upsertOf(targets, 'lines', [{ id: 1, list: 1, item: 3 }]))
    yield* mirroring.upsert(
      upsertOf(
        targets,
        'items',
        [3, 2, 1].map((id) => ({ id, above: id > 1 ? id - 1 : 3 })),
      ),
    )
    yield* mirroring.upsert(upsertOf(targets, 'lists', [{ id: 1 }]))
    yield* mirroring.settle()
  })
  await transact(stage, tables, function* (targets) {
    yield* mirroring.defer()
    yield* mirroring.remove(rowsOf(targets, 'items', [{ id: 1 }, { id: 3 }]))
    yield* mirroring.upsert(upsertOf(targets, 'items', [{ id: 2, above: 4 }]))
    yield* mirroring.upsert(upsertOf(targets, 'lines', [{ id: 1, list: 1, item: 4 }]))
    yield* mirroring.upsert(upsertOf(targets, 'items', [{ id: 4, above: 2 }]))
    yield* mirroring.settle()
  })
  const rows = () => stage.rows("SELECT 'item', id, above FROM items UNION ALL SELECT 'line', id, item FROM lines ORDER BY 1, 2")
  const there = [
    ['item', 2, 4],
    ['item', 4, 2],
    ['line', 1, 4],
  ]
  t.same(await rows(), there)
  for (const [change, context] of [
    [
      { item: 9, above: 8 },
      { table: 'items', constraint: 'items_above_fkey' },
    ],
    [
      { line: 9, list: 7 },
      { table: 'lines', constraint: 'lines_list_fkey' },
    ],
    [{ remove: 4 }, {}],
  ] as const) {
    const attempt = transact(stage, tables, function* (targets) {
      yield* mirroring.defer()
      if ('item' in change) yield* mirroring.upsert(upsertOf(targets, 'items', [{ id: change.item, above: change.above }]))
      if ('line' in change) yield* mirroring.upsert(upsertOf(targets, 'lines', [{ id: change.line, list: change.list, item: 4 }]))
      if ('remove' in change) yield* mirroring.remove(rowsOf(targets, 'items', [{ id: change.remove }]))
      yield* mirroring.settle()
    })
    await t.rejects(attempt, { code: 'ERR_REFERENCE', context }, JSON.stringify(change))
    t.equal(stage.database.faultOf(await attempt.catch((error) => error)), 'missing')
    t.same(await rows(), there, 'nothing of it is done')
  }
  await transact(stage, tables, function* (targets) {
    yield* mirroring.defer()
    yield* mirroring.remove(rowsOf(targets, 'lines', [{ id: 1 }]))
    yield* mirroring.remove(rowsOf(targets, 'items', [{ id: 2 }, { id: 4 }]))
    yield* mirroring.settle()
  })
  t.same(await rows(), [], 'rows that refer to each other go together')
})

on(
  'strays: rows of the parents that are none of the kept ones',
  `CREATE TABLE orders (id integer PRIMARY KEY, code text UNIQUE); CREATE TABLE lines (place text, no integer, code text, note text, PRIMARY KEY (place, no, code));
    INSERT INTO lines VALUES ('A', 1, 'x', NULL), ('A', 2, 'x', 'b'), ('A', 1, 'y', 'c'), ('B', 1, 'x', 'd'), ('A', 3, 'z', 'e')`,
  async (t, stage) => {
    const { mirroring } = stage.database
    const find = (parents: readonly object[], kept: readonly object[]) =>
      transact(stage, ['orders', 'lines'], function* (targets) {
        const keep = kept.length === 0 ? [] : [rowsOf(targets, 'lines', kept as [], { constants: { place: 'A' } })]
        const of = { table: targets.get('lines') as never, constants: { place: 'A' } }
        const found = yield* mirroring.strays(of, { code: 'code' }, rowsOf(targets, 'orders', parents as []), keep)
        // What is found is read again by the same database only.
        yield* mirroring.remove({ ...of, columns: ['no', 'code'], records: found })
        return found.length
      })
    const left = () => stage.rows('SELECT place, no, code FROM lines ORDER BY 1, 3, 2')
    t.equal(await find([{ code: null }, { code: 'q' }], []), 0)
    t.equal(
      await find(
        [{ code: 'x' }, { code: 'y' }],
        [
          { no: 2, code: 'x' },
          { no: 1, code: 'x' },
          { no: 9, code: 'y' },
        ],
      ),
      1,
    )
    t.same(await left(), [
      ['A', 1, 'x'],
      ['A', 2, 'x'],
      ['A', 3, 'z'],
      ['B', 1, 'x'],
    ])
    t.equal(await find([{ code: 'x' }], [{ no: 2, code: 'x' }]), 1)
    t.equal(await find([{ code: 'x' }], []), 1)
    t.same(await left(), [
      ['A', 3, 'z'],
      ['B', 1, 'x'],
    ])
  },
)

on(
  'what the host’s schema refuses is said with table and column or constraint, and changes nothing',
  'CREATE TABLE items (id integer PRIMARY KEY, name text NOT NULL, price numeric CONSTRAINT positive CHECK (price >= 0))',
  async (t, stage) => {
    for (const [record, context] of [
      [{ id: 1, price: '1' }, { column: 'name' }],
      [{ id: 1, name: null, price: '1' }, { column: 'name' }],
      [{ id: 1, name: 'a', price: '-1' }, { constraint: 'positive' }],
    ] as const) {
      const attempt = put(stage, 'items', [{ ...record, id: 2, price: '5', name: 'b' }, { ...record }], { written: Object.keys(record) })
      const error = await attempt.then(
        () => undefined,
        (error) => error,
      )
      t.match(error, { code: 'ERR_MIRROR', context: { table: 'items', ...context } })
      t.equal(stage.database.faultOf(error), 'other')
    }
    t.same(await stage.rows('SELECT * FROM items'), [])
  },
)
