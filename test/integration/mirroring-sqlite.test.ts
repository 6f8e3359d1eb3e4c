import Database from 'better-sqlite3'
import t from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister } from '../../src/index.ts'
import { query } from '../../src/work.ts'
import { Json, noteWrites, onSqlite, put, rowsOf, type Targets, transact, upsertOf, writes } from '../support/mirroring.ts'

const real = (text: string) => new Json(`{"$real":"${text}"}`)
const blob = (text: string) => new Json(`{"$blob":"${Buffer.from(text, 'latin1').toString('base64')}"}`)
const invalid = (text: string) => new Json(`{"$text":"${Buffer.from(text, 'latin1').toString('base64')}"}`)
const json = (text: string) => new Json(text)
const REFUSED = undefined

/** The type at the till, the value as it was sealed, and what stands there then: storage class and SQL literal. */
const VALUES: readonly (readonly [string, unknown, string | undefined])[] = [
  ['INTEGER', true, 'integer 1'],
  ['BOOLEAN', false, 'integer 0'],
  ['REAL', true, 'real 1.0'],
  ['', true, 'integer 1'],
  ['TEXT', true, "text 'true'"],
  ['INTEGER', 9_223_372_036_854_775_807n, 'integer 9223372036854775807'],
  ['NUMERIC', -9_223_372_036_854_775_808n, 'integer -9223372036854775808'],
  ['', 9_007_199_254_740_993n, 'integer 9007199254740993'],
  ['TEXT', 9_007_199_254_740_993n, "text '9007199254740993'"],
  ['INTEGER', 9_223_372_036_854_775_808n, REFUSED],
  ['BLOB', 9_223_372_036_854_775_808n, REFUSED],
  ['INTEGER', '9007199254740993', 'integer 9007199254740993'],
  ['NUMERIC(20)', '9007199254740993.00', 'integer 9007199254740993'],
  ['DECIMAL(30)', '12345678901234567890', REFUSED],
  ['DECIMAL(30)', '-12345678901234567890.000', REFUSED],
  ['INTEGER', `1${'0'.repeat(400)}`, REFUSED],
  ['REAL', `1${'0'.repeat(400)}`, REFUSED],
  ['REAL', '12345678901234567890', 'real 1.2345678901234567e+19'],
  ['TEXT', '12345678901234567890', "text '12345678901234567890'"],
  ['NUMERIC(18,6)', '1.500000', 'real 1.5'],
  ['NUMERIC', '-0.00', 'integer 0'],
  ['INTEGER', '12.50', 'real 12.5'],
  ['REAL', '0.1', 'real 0.1'],
  ['REAL', '5', 'real 5.0'],
  ['TEXT', '12.345678901234567890123', "text '12.345678901234567890123'"],
  ['TEXT', '1.50', "text '1.50'"],
  ['', '1.50', "text '1.50'"],
  ['INTEGER', ' 7 ', 'integer 7'],
  ['INTEGER', '007', 'integer 7'],
  ['TEXT', '007', "text '007'"],
  ['NUMERIC', '0x10', "text '0x10'"],
  ['NUMERIC', '1e3', 'integer 1000'],
  ['NUMERIC', 'Infinity', "text 'Infinity'"],
  ['INTEGER', 'abc', "text 'abc'"],
  ['INTEGER', json('5.0'), 'integer 5'],
  ['INTEGER', json('5.5'), 'real 5.5'],
  ['INTEGER', json('1e+300'), 'real 1.0e+300'],
  ['TEXT', json('5.0'), "text '5.0'"],
  ['TEXT', 5, "text '5'"],
  ['TEXT', json('0.30000000000000004'), "text '0.30000000000000004'"],
  ['', json('5.0'), 'real 5.0'],
  ['', 5, 'integer 5'],
  ['BLOB', json('5.0'), 'real 5.0'],
  ['REAL', real('Infinity'), 'real 9.0e+999'],
  ['INTEGER', real('-Infinity'), 'real -9.0e+999'],
  ['TEXT', real('-Infinity'), "text '-Infinity'"],
  ['TEXT', real('NaN'), "text 'NaN'"],
  ['REAL', real('NaN'), REFUSED],
  ['', real('NaN'), REFUSED],
  ['REAL', real('-0.0'), 'real 0.0'],
  ['INTEGER', real('-0.0'), 'integer 0'],
  ['', real('-0.0'), 'real 0.0'],
  ['TEXT', real('-0.0'), "text '-0.0'"],
  ['TIMESTAMP', '2026-11-21T06:30:00.000001Z', "text '2026-11-21T06:30:00.000001Z'"],
  ['DATE', '2026-11-21', "text '2026-11-21'"],
  ['TEXT', '{1,NULL,3}', "text '{1,NULL,3}'"],
  ['TEXT', '{"a": [1.50]}', `text '{"a": [1.50]}'`],
  ['BLOB', blob('\0ÿ'), "blob X'00FF'"],
  ['TEXT', blob('ab'), "blob X'6162'"],
  ['INTEGER', blob(''), "blob X''"],
  ['BLOB', 'text', "text 'text'"],
  ['TEXT', invalid('Mü'), 'text 4DFC'],
  ['', invalid('Mü'), 'text 4DFC'],
  ['NUMERIC', invalid('Mü'), 'text 4DFC'],
  ['TEXT', 'a\0b\ufffd', 'text 610062EFBFBD'],
  ['TEXT', '', "text ''"],
  ['TEXT', null, 'null NULL'],
]
const STRICT: typeof VALUES = [
  ['INTEGER', true, 'integer 1'],
  ['INT', '5.00', 'integer 5'],
  ['INTEGER', json('5.0'), 'integer 5'],
  ['INTEGER', '5.5', REFUSED],
  ['INTEGER', 'abc', REFUSED],
  ['INTEGER', blob('a'), REFUSED],
  ['REAL', 5, 'real 5.0'],
  ['REAL', 'abc', REFUSED],
  ['TEXT', 5, "text '5'"],
  ['TEXT', json('5.0'), "text '5.0'"],
  ['TEXT', blob('a'), REFUSED],
  ['TEXT', invalid('Mü'), 'text 4DFC'],
  ['BLOB', blob('a'), "blob X'61'"],
  ['BLOB', 'a', REFUSED],
  ['ANY', '007', "text '007'"],
  ['ANY', 5, 'integer 5'],
  ['ANY', json('5.0'), 'real 5.0'],
  ['ANY', null, 'null NULL'],
]

for (const [strict, values] of [
  ['', VALUES],
  ['STRICT', STRICT],
] as const)
  t.test(`values become what their columns hold, exactly, or are refused ${strict}`, async (t) => {
    const columns = values.map(([type], n) => `c${n} ${type}`)
    const stage = await onSqlite(t, `CREATE TABLE things (id INTEGER PRIMARY KEY, ${columns}) ${strict}`)
    await noteWrites(stage, 'things', 'id')
    for (const [n, [type, value, wanted]] of values.entries()) {
      const name = `${JSON.stringify(value instanceof Json ? value.text : String(value))} → ${type}`
      const record = { id: n, [`c${n}`]: value }
      if (wanted === REFUSED) {
        await t.rejects(put(stage, 'things', [record]), { code: 'ERR_MIRROR', context: { table: 'things', column: `c${n}` }, hint: /./ }, name)
        continue
      }
      await put(stage, 'things', [record])
      await put(stage, 'things', [record])
      t.same(await writes(stage), [`insert ${n}`], `${name}: written once`)
      const isOdd = /^text [0-9A-F]+$/.test(wanted)
      const [[found] = []] = (await stage.rows(
        `SELECT typeof(c${n}) || ' ' || ${isOdd ? `hex(c${n})` : `quote(c${n})`} FROM things WHERE id = ${n}`,
      )) as string[][]
      t.equal(found, wanted, name)
      await stage.exec(`UPDATE things SET c${n} = ${value === null ? "'x'" : 'NULL'}`).catch(() => undefined)
      await put(stage, 'things', [record])
      const [[again] = []] = (await stage.rows(
        `SELECT typeof(c${n}) || ' ' || ${isOdd ? `hex(c${n})` : `quote(c${n})`} FROM things WHERE id = ${n}`,
      )) as string[][]
      t.equal(again, wanted, `${name}: by an update`)
      await stage.exec('DELETE FROM written')
    }
  })

t.test('in a database in UTF-16 text that is not UTF-8 is written readably', async (t) => {
  const stage = await onSqlite(t, "PRAGMA encoding = 'UTF-16le'; CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)")
  if (stage.db.pragma('encoding', { simple: true }) === 'UTF-8') return t.fail('the encoding was set too late')
  await noteWrites(stage, 'things', 'id')
  for (let n = 0; n < 2; n++) await put(stage, 'things', [{ id: 1, name: invalid('Mü') }])
  t.same(await stage.rows('SELECT name FROM things'), [['M\ufffd']])
  t.same(await writes(stage), ['insert 1'])
})

const KEYS: readonly (readonly [string, readonly (readonly [unknown, unknown])[]])[] = [
  ['CREATE TABLE things (id TEXT PRIMARY KEY COLLATE NOCASE, name)', [['abc', 'ABC']]],
  ['CREATE TABLE things (id TEXT, name, PRIMARY KEY (id COLLATE NOCASE))', [['abc', 'ABC']]],
  ['CREATE TABLE things (id TEXT COLLATE NOCASE, name, PRIMARY KEY (id COLLATE RTRIM)) WITHOUT ROWID', [['abc', 'abc  ']]],
  [
    'CREATE TABLE things (id NUMERIC PRIMARY KEY, name)',
    [
      ['1.0', '1.00'],
      ['1', json('1.0')],
    ],
  ],
  [
    'CREATE TABLE things (id INTEGER PRIMARY KEY, name)',
    [
      ['1', json('1.0')],
      [1, '01'],
    ],
  ],
  ['CREATE TABLE things (id INTEGER PRIMARY KEY DESC, name)', [['1', json('1.0')]]],
  ['CREATE TABLE things (id REAL PRIMARY KEY, name) WITHOUT ROWID', [['0.1', '0.10']]],
  ['CREATE TABLE things (id PRIMARY KEY, name)', [[1, json('1.0')]]],
  ['CREATE TABLE things (id BLOB PRIMARY KEY, name) WITHOUT ROWID', [[1, json('1.0')]]],
  ['CREATE TABLE things (id TEXT PRIMARY KEY, name TEXT) STRICT', [[5, '5']]],
  ['CREATE TABLE things (id ANY PRIMARY KEY, name TEXT) STRICT', [[5, json('5.0')]]],
]

t.test('keys that are equal to SQLite, however they are written, are one row, written as they came last', async (t) => {
  for (const [table, pairs] of KEYS)
    for (const [one, other] of pairs) {
      const stage = await onSqlite(t, table)
      const shown = (value: unknown) => (value instanceof Json ? value.text : JSON.stringify(value))
      const name = `${table}: ${shown(one)}, ${shown(other)}`
      await stage.exec('CREATE TABLE twin AS SELECT * FROM things WHERE 0')
      const wanted = async (key: unknown, label: string) => {
        const fresh = await onSqlite(t, table)
        await put(fresh, 'things', [{ id: key, name: label }])
        return fresh.rows('SELECT typeof(id), quote(id), name FROM things')
      }
      const found = () => stage.rows('SELECT typeof(id), quote(id), name FROM things')
      await put(stage, 'things', [{ id: one, name: 'a' }])
      await noteWrites(stage, 'things', 'id')
      await put(stage, 'things', [{ id: other, name: 'b' }])
      t.same(await found(), await wanted(other, 'b'), name)
      await put(stage, 'things', [
        { id: one, name: 'c' },
        { id: other, name: 'd' },
      ])
      t.same(await found(), await wanted(other, 'd'), `${name}: the last of both`)
      t.equal((await writes(stage)).length, 2, `${name}: is written once`)
      await put(stage, 'things', [
        { id: one, name: 'c' },
        { id: other, name: 'd' },
      ])
      t.same(await writes(stage), [], `${name}: and not again`)
      await transact(stage, ['things'], (targets) => stage.database.mirroring.remove(rowsOf(targets, 'things', [{ id: one }])))
      t.same(await found(), [], `${name}: gone by the other`)
      await put(stage, 'things', [
        { id: one, name: 'c' },
        { id: other, name: 'd' },
      ])
      t.same(await found(), await wanted(other, 'd'), `${name}: both new`)
    }
})

t.test('a key that is NULL is refused, where SQLite would number the row or take it again and again', async (t) => {
  for (const table of ['id INTEGER PRIMARY KEY, name', 'id TEXT PRIMARY KEY, name', 'id, no, name, PRIMARY KEY (no, id)']) {
    const stage = await onSqlite(t, `CREATE TABLE things (${table})`)
    const record = table.includes('no') ? { id: null, no: 1, name: 'a' } : { id: null, name: 'a' }
    await t.rejects(put(stage, 'things', [record]), { code: 'ERR_MIRROR', context: { table: 'things', column: 'id' } })
    await t.resolves(put(stage, 'things', [record], { rows: 'update', written: ['name'] }))
    t.same(await stage.rows('SELECT * FROM things'), [])
  }
  const stage = await onSqlite(t, 'CREATE TABLE things (id INTEGER PRIMARY KEY, name)')
  await t.rejects(put(stage, 'things', [{ id: 'abc', name: 'a' }]), { code: 'ERR_MIRROR', context: { sqlite: 'SQLITE_MISMATCH' } })
})

t.test('each row is found by the index of its key, however that is declared', async (t) => {
  for (const [table, key] of [
    ['id TEXT PRIMARY KEY COLLATE NOCASE, no, name', ['id']],
    ['id TEXT, no, name, PRIMARY KEY (id COLLATE NOCASE)', ['id']],
    ['id INTEGER PRIMARY KEY, no, name', ['id']],
    ['id TEXT COLLATE NOCASE, no INTEGER, name, PRIMARY KEY (no, id COLLATE BINARY)', ['id', 'no']],
    ['id, no NUMERIC, name, PRIMARY KEY (id, no)', ['id', 'no']],
  ] as const) {
    for (const options of ['', 'WITHOUT ROWID']) {
      const stage = await onSqlite(t, `CREATE TABLE things (${table}) ${options === '' ? '' : options}`)
      const statements: string[] = []
      const record = { id: 1, no: 2, name: 'x' }
      await transact(stage, ['things'], function* (targets) {
        const { mirroring } = stage.database
        const parents = rowsOf(targets, 'things', [record])
        for (const work of [
          mirroring.upsert(upsertOf(targets, 'things', [record])),
          mirroring.upsert(upsertOf(targets, 'things', [{ ...record, name: 'y' }])),
          mirroring.strays(parents, Object.fromEntries(key.map((name) => [name, name])), parents, [{ ...parents, columns: key }]),
          mirroring.remove({ ...parents, columns: key }),
        ]) {
          for (let next = work.next(); !next.done; ) {
            if ('sql' in next.value) statements.push(next.value.sql)
            next = work.next(yield next.value)
          }
        }
      })
      const plans = statements.flatMap((sql) =>
        (stage.db.prepare(`EXPLAIN QUERY PLAN ${sql}`).all(Array(sql.split('?').length - 1).fill(1)) as { detail: string }[]).map(
          ({ detail }) => detail,
        ),
      )
      t.ok(plans.length >= 5, `${statements.length} statements`)
      t.same(
        plans.filter((plan) => !plan.startsWith('SEARCH')),
        [],
        `${table} ${options}`,
      )
    }
  }
})

t.test('names of every kind, 2,000 columns, and columns that SQLite computes', async (t) => {
  const names = Array.from({ length: 1_996 }, (_, n) => `${['select', 'Ünï', "it's", 'a "b"', 'a.b', '$1', '?', ' '][n % 8]}${n}`)
  const q = (name: string) => `"${name.replaceAll('"', '""')}"`
  const types = ['TEXT', 'INTEGER', '', 'REAL']
  const stage = await onSqlite(
    t,
    `CREATE TABLE "excluded" (rowid TEXT, "__proto__" TEXT, ${names.map((name, n) => `${q(name)} ${types[n % 4]}`)}, ${q('a "key"')} INTEGER, twice AS (rowid || rowid), PRIMARY KEY (${q('a "key"')}, rowid)) WITHOUT ROWID`,
  )
  const record = Object.fromEntries([['rowid', 'r'], ['__proto__', 'p'], ['a "key"', 7], ...names.map((name, n) => [name, n] as const)])
  await put(stage, 'excluded', [record])
  t.same(await stage.rows(`SELECT rowid, twice, __proto__, ${q(names[0] as string)}, ${q(names[1_995] as string)} FROM "excluded"`), [
    ['r', 'rr', 'p', '0', 1995],
  ])
  await noteWrites(stage, '"excluded"', 'rowid')
  await put(stage, 'excluded', [record])
  t.same(await writes(stage), [])
  await put(stage, 'excluded', [{ ...record, [names[1_995] as string]: 'last', [names[70] as string]: 'x', ['__proto__']: null }])
  t.same(await stage.rows(`SELECT ${q(names[70] as string)}, ${q(names[1_995] as string)}, __proto__ FROM "excluded"`), [['x', 'last', null]])
})

t.test('only the columns that differ are set, and no trigger sees a row that stays as it is', async (t) => {
  const stage = await onSqlite(
    t,
    `CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, price NUMERIC, note); CREATE TABLE seen (what, of);
      CREATE TRIGGER a BEFORE INSERT ON items BEGIN INSERT INTO seen VALUES ('insert', NEW.id); END;
      CREATE TRIGGER b BEFORE UPDATE OF price ON items BEGIN INSERT INTO seen VALUES ('price', NEW.id); END;
      CREATE TRIGGER c AFTER UPDATE OF name, note ON items BEGIN INSERT INTO seen VALUES ('name', NEW.id); END`,
  )
  const record = { id: 1, name: 'a', price: '1.50', note: 5 }
  for (const rows of ['new', 'new', 'known', 'update'] as const) await put(stage, 'items', [record], { rows })
  t.same(await stage.rows('SELECT * FROM seen'), [['insert', 1]])
  await put(stage, 'items', [
    { ...record, price: '1.6' },
    { ...record, id: 2 },
  ])
  await put(stage, 'items', [
    { ...record, price: '1.60', note: json('5.0') },
    { ...record, id: 2, name: 'A' },
  ])
  t.same(await stage.rows('SELECT * FROM seen'), [
    ['insert', 1],
    ['price', 1],
    ['insert', 2],
    ['name', 1],
    ['name', 2],
  ])
})

t.test('a row that a trigger deletes as another one is written comes again, and one that it keeps stays', async (t) => {
  const stage = await onSqlite(
    t,
    `CREATE TABLE barcodes (id INTEGER PRIMARY KEY, code TEXT, kept DEFAULT 0, needed TEXT NOT NULL DEFAULT 'x'); CREATE INDEX c ON barcodes (code);
      CREATE TRIGGER one AFTER UPDATE ON barcodes BEGIN DELETE FROM barcodes WHERE code = NEW.code AND id <> NEW.id; END;
      CREATE TRIGGER keep BEFORE UPDATE ON barcodes WHEN OLD.kept BEGIN SELECT RAISE(IGNORE); END`,
  )
  await stage.exec("INSERT INTO barcodes VALUES (1, 'a', 0, 'x'), (2, 'b', 0, 'x'), (3, 'c', 1, 'x')")
  const rows = [2, 1, 3].map((id) => ({ id, code: id === 2 ? 'a' : id === 1 ? 'b' : 'd' }))
  await put(stage, 'barcodes', rows)
  t.same(await stage.rows('SELECT id, code FROM barcodes ORDER BY id'), [
    [1, 'b'],
    [2, 'a'],
    [3, 'c'],
  ])
})

t.test('what is the same is no touch for a till that publishes the table too', async (t) => {
  const stage = await onSqlite(
    t,
    'CREATE TABLE items (id TEXT PRIMARY KEY COLLATE NOCASE NOT NULL, plu INTEGER UNIQUE, price NUMERIC); CREATE TABLE codes (code TEXT, item TEXT, PRIMARY KEY (code, item)) WITHOUT ROWID',
  )
  const rules = { items: { existing: 'all' }, codes: { partOf: { items: { item: 'id' } } } } as const
  const till = createRegister({ location: 'A', register: '1', database: sqlite(() => new Database(stage.db.name)), publish: rules })
  t.teardown(() => till.stop())
  await till.install()
  const touches = () => stage.db.prepare('SELECT count(*) FROM sync_touches').pluck().get()
  const write = async (price: string) => {
    await put(stage, 'items', [
      { id: 'a', plu: 1, price },
      { id: 'b', plu: 2, price: '2.50' },
    ])
    await put(stage, 'codes', [
      { code: '4006', item: 'a' },
      { code: '4007', item: 'a' },
    ])
  }
  await write('1.50')
  t.not(touches(), 0)
  await till.seal()
  for (const rows of ['new', 'known', 'update'] as const) await put(stage, 'codes', [{ code: '4006', item: 'a' }], { rows })
  await write('1.5')
  t.equal(touches(), 0)
  await write('1.6')
  t.same(await till.seal(), { documents: 1, entries: 3 })
})

t.test('a constraint that would rather remove the other row, or leave ours out, does neither', async (t) => {
  for (const clause of ['REPLACE', 'IGNORE', 'ROLLBACK', 'FAIL']) {
    const stage = await onSqlite(t, `CREATE TABLE items (id INTEGER PRIMARY KEY, barcode TEXT UNIQUE ON CONFLICT ${clause}, kept DEFAULT 'ours')`)
    await stage.exec("INSERT INTO items VALUES (1, 'a', 'theirs'), (2, 'b', 'theirs'), (3, 'c', 'theirs')")
    await t.rejects(
      put(stage, 'items', [
        { id: 4, barcode: 'c' },
        { id: 5, barcode: 'd' },
      ]),
      { code: 'ERR_MIRROR', context: { constraint: 'items.barcode' } },
      clause,
    )
    await put(stage, 'items', [
      { id: 1, barcode: 'b' },
      { id: 2, barcode: 'a' },
    ])
    t.same(await stage.rows('SELECT * FROM items ORDER BY id'), [
      [1, 'b', 'theirs'],
      [2, 'a', 'theirs'],
      [3, 'c', 'theirs'],
    ])
  }
})

t.test('a CHECK that refuses one way to give a value up leaves another', async (t) => {
  const stage = await onSqlite(
    t,
    `CREATE TABLE items (id INTEGER PRIMARY KEY, plu INTEGER NOT NULL UNIQUE CHECK (plu > 0), code TEXT NOT NULL UNIQUE CHECK (code GLOB '[0-9]*'), flag INTEGER NOT NULL CHECK (flag IN (0, 1)), seat TEXT)
     STRICT; CREATE UNIQUE INDEX seats ON items (coalesce(seat, 'none'))`,
  )
  const row = (id: number, plu: number, code: string, seat: string | null) => ({ id, plu, code, flag: 0, seat })
  await put(stage, 'items', [row(1, 10, '1', 'x'), row(2, 20, '2', 'y'), row(3, 30, '3', null)])
  await put(stage, 'items', [row(1, 20, '3', null), row(2, 30, '1', 'x'), row(3, 10, '2', 'y')])
  t.same(await stage.rows('SELECT id, plu, code, seat FROM items ORDER BY id'), [
    [1, 20, '3', null],
    [2, 30, '1', 'x'],
    [3, 10, '2', 'y'],
  ])
  await stage.exec(
    'CREATE TABLE flags (id INTEGER PRIMARY KEY, flag INTEGER NOT NULL UNIQUE CHECK (flag IN (0, 1))); INSERT INTO flags VALUES (1, 0), (2, 1)',
  )
  const attempt = put(stage, 'flags', [
    { id: 1, flag: 1 },
    { id: 2, flag: 0 },
  ])
  await t.rejects(attempt, { code: 'ERR_MIRROR', context: { table: 'flags', constraint: 'flags.flag' } }, 'too few values')
  t.same(await stage.rows('SELECT * FROM flags'), [
    [1, 0],
    [2, 1],
  ])
})

const REFERRING = `CREATE TABLE "Groups" (id INTEGER PRIMARY KEY, code TEXT UNIQUE COLLATE NOCASE);
  CREATE TABLE items (id INTEGER PRIMARY KEY, grp INTEGER REFERENCES groups ON DELETE RESTRICT, code TEXT REFERENCES GROUPS (CODE) ON UPDATE CASCADE, a INTEGER, b INTEGER, FOREIGN KEY (a, b) REFERENCES pairs (X, y));
  CREATE TABLE pairs (x INTEGER, y INTEGER, id INTEGER PRIMARY KEY, UNIQUE (x, y))`

t.test('foreign keys are known by the names that PostgreSQL would give, and refuse as the connection says', async (t) => {
  const stage = await onSqlite(t, REFERRING)
  const { mirroring } = stage.database
  const item = { id: 1, grp: null, code: null, a: null, b: null }
  const targets = await transact(stage, ['items', 'Groups', 'pairs'], function* (targets) {
    yield* []
    return targets
  })
  t.same(targets.get('items')?.foreignKeys, [
    { name: 'items_grp_fkey', columns: ['grp'], refersTo: 'Groups', deferrable: true },
    { name: 'items_code_fkey', columns: ['code'], refersTo: 'Groups', deferrable: true },
    { name: 'items_a_b_fkey', columns: ['a', 'b'], refersTo: 'pairs', deferrable: true },
  ])
  t.match(
    [...targets.values()].map(({ isReferredTo }) => isReferredTo),
    [false, true, true],
  )
  await stage.exec('INSERT INTO "Groups" VALUES (1, \'x\'); INSERT INTO pairs VALUES (1, 2, 1)')
  const refused = (record: object) => ({
    code: 'ERR_REFERENCE',
    context: { table: 'items', constraint: `items_${Object.keys(record).join('_')}_fkey` },
  })
  for (const wrong of [{ grp: 7 }, { code: 'y' }, { a: 1, b: 3 }]) {
    await t.rejects(put(stage, 'items', [{ ...item, ...wrong }]), refused(wrong))
    const settled = transact(stage, ['items'], function* (targets) {
      yield* mirroring.defer()
      yield* mirroring.upsert(upsertOf(targets, 'items', [{ ...item, ...wrong }]))
      yield* mirroring.settle()
    })
    await t.rejects(settled, refused(wrong), 'when it is settled')
  }
  await put(stage, 'items', [
    { ...item, grp: 1, code: 'X', a: 1, b: 2 },
    { ...item, id: 2, a: 9 },
  ])
  for (const work of [
    (targets: Targets) => mirroring.remove(rowsOf(targets, 'Groups', [{ id: 1 }])),
    (targets: Targets) => mirroring.upsert(upsertOf(targets, 'pairs', [{ id: 1, x: 1, y: 3 }])),
  ]) {
    await t.rejects(transact(stage, ['Groups', 'pairs'], work), {
      code: 'ERR_REFERENCE',
      context: { table: 'items', constraint: /items_(grp|code|a_b)_fkey/ },
    })
    const settled = transact(stage, ['Groups', 'pairs'], function* (targets) {
      yield* mirroring.defer()
      yield* work(targets)
      yield* mirroring.settle()
    })
    await t.rejects(settled, { code: 'ERR_REFERENCE', context: { table: 'items' } }, 'when it is settled')
  }
  await put(stage, 'Groups', [{ id: 1, code: 'Z' }])
  t.same(
    await stage.rows('SELECT code, a FROM items ORDER BY id'),
    [
      ['Z', 1],
      [null, 9],
    ],
    'actions of the host’s go on',
  )

  const off = await onSqlite(t, REFERRING, (file) => {
    const db = new Database(file)
    db.pragma('foreign_keys = OFF')
    return db
  })
  await transact(off, ['items', 'Groups'], function* (targets) {
    t.equal(targets.get('items')?.isDeferrable, false)
    yield* off.database.mirroring.defer()
    yield* off.database.mirroring.upsert(upsertOf(targets, 'items', [{ ...item, grp: 7 }]))
    yield* off.database.mirroring.settle()
  })
  t.same(await off.rows('SELECT grp FROM items'), [[7]])
})

t.test('foreign keys that are declared to wait are looked at when all is settled, and again in each transaction', async (t) => {
  const stage = await onSqlite(
    t,
    'CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER NOT NULL REFERENCES a DEFERRABLE INITIALLY DEFERRED); CREATE TABLE c (id INTEGER PRIMARY KEY, a INTEGER NOT NULL REFERENCES a)',
  )
  const { mirroring } = stage.database
  for (const table of ['b', 'c'])
    for (let n = 0; n < 3; n++) {
      const write = (a: number) =>
        transact(stage, ['a', table], function* (targets) {
          yield* mirroring.defer()
          yield* mirroring.upsert(upsertOf(targets, table, [{ id: n, a }]))
          if (a > 0) yield* mirroring.upsert(upsertOf(targets, 'a', [{ id: a }]))
          yield* mirroring.settle()
        })
      await t.rejects(write(-1), { code: 'ERR_REFERENCE', context: { table, constraint: `${table}_a_fkey` } })
      await write((table === 'b' ? 10 : 20) + n)
    }
  t.same(await stage.rows('SELECT a FROM b UNION ALL SELECT a FROM c'), [[10], [11], [12], [20], [21], [22]])
  await t.rejects(put(stage, 'b', [{ id: 9, a: 99 }]), { code: 'ERR_REFERENCE', context: { tables: ['b'] } }, 'what nobody settles fails the commit')
  const removed = transact(stage, ['a'], function* (targets) {
    yield* mirroring.remove(rowsOf(targets, 'a', [{ id: 10 }]))
    yield* mirroring.settle()
  })
  await t.rejects(removed, { code: 'ERR_REFERENCE' })
  t.same(await stage.rows('SELECT count(*) FROM a'), [[6]])
})

t.test('what a trigger of the host’s has broken fails the commit, changes nothing, and is a reference', async (t) => {
  const stage = await onSqlite(
    t,
    `CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (id INTEGER PRIMARY KEY, a INTEGER NOT NULL REFERENCES a DEFERRABLE INITIALLY DEFERRED);
      CREATE TABLE items (id INTEGER PRIMARY KEY, name); CREATE TRIGGER spoil AFTER INSERT ON items BEGIN INSERT INTO b VALUES (NEW.id, 99); END`,
  )
  const attempt = transact(stage, ['items'], function* (targets) {
    yield* stage.database.mirroring.upsert(upsertOf(targets, 'items', [{ id: 1, name: 'x' }]))
    yield* stage.database.mirroring.settle()
  })
  const error = await attempt.then(
    () => undefined,
    (error) => error,
  )
  t.match(error, { code: 'ERR_REFERENCE', context: { tables: ['items'] } })
  t.equal(stage.database.faultOf(error), 'missing')
  t.same(await stage.rows('SELECT id FROM items UNION ALL SELECT id FROM b'), [])
  await stage.exec('DROP TRIGGER spoil')
  await put(stage, 'items', [{ id: 1, name: 'x' }])
})

t.test('what a trigger of the host’s makes of rows that were compared before it was run is seen', async (t) => {
  const stage = await onSqlite(
    t,
    `CREATE TABLE items (id INTEGER PRIMARY KEY, name); CREATE TABLE codes (id INTEGER PRIMARY KEY, no);
      CREATE TRIGGER other AFTER INSERT ON items BEGIN UPDATE codes SET no = 0 WHERE id = NEW.id; DELETE FROM codes WHERE id = NEW.id + 10; INSERT INTO codes VALUES (NEW.id + 20, 0); END`,
  )
  const codes = [1, 11, 21].map((id) => ({ id, no: id }))
  await put(stage, 'codes', codes.slice(0, 2))
  const { mirroring } = stage.database
  await transact(stage, ['items', 'codes'], function* (targets) {
    const all = [upsertOf(targets, 'items', [{ id: 1, name: 'x' }]), upsertOf(targets, 'codes', codes)]
    yield* mirroring.foresee(all)
    for (const rows of all) yield* mirroring.upsert(rows)
  })
  t.same(await stage.rows('SELECT id, no FROM codes ORDER BY id'), [
    [1, 1],
    [11, 11],
    [21, 21],
  ])
})

t.test('of many rows that go in together it shows which one is refused, and by what', async (t) => {
  const stage = await onSqlite(
    t,
    `CREATE TABLE grps (id INTEGER PRIMARY KEY);
      CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'bad'), no INTEGER UNIQUE, grp INTEGER REFERENCES grps, above INTEGER REFERENCES items)`,
  )
  const { mirroring } = stage.database
  const row = (id: number, given: object = {}) => ({ id, name: 'x', no: id, grp: null, above: null, ...given })
  const many = (given: object, later: object = {}) => Array.from({ length: 60 }, (_, n) => row(n + 1, n === 20 ? given : n === 44 ? later : {}))
  await t.rejects(put(stage, 'items', many({ name: 'bad' })), { code: 'ERR_MIRROR', context: { table: 'items', constraint: "name <> 'bad'" } })
  await t.rejects(put(stage, 'items', many({ no: 1 })), { code: 'ERR_MIRROR', context: { table: 'items', constraint: 'items.no' } })
  await t.rejects(put(stage, 'items', many({ id: null })), { code: 'ERR_MIRROR', context: { table: 'items', column: 'id' } })
  const write = (given: object, later: object, grps: readonly { id: number }[]) =>
    transact(stage, ['items', 'grps'], function* (targets) {
      yield* mirroring.defer()
      yield* mirroring.upsert(upsertOf(targets, 'items', many(given, later)))
      if (grps.length > 0) yield* mirroring.upsert(upsertOf(targets, 'grps', grps))
      yield* mirroring.settle()
    })
  await t.rejects(write({ grp: 7, above: 39 }, {}, []), { code: 'ERR_REFERENCE', context: { table: 'items', constraint: 'items_grp_fkey' } })
  await t.rejects(write({ grp: 7 }, { above: 99 }, [{ id: 7 }]), {
    code: 'ERR_REFERENCE',
    context: { table: 'items', constraint: 'items_above_fkey' },
  })
  t.same(await stage.rows('SELECT count(*) FROM items'), [[0]])
  await write({ grp: 7, above: 59 }, { grp: 7 }, [{ id: 7 }])
  t.same(await stage.rows('SELECT id, grp, above FROM items WHERE grp IS NOT NULL'), [
    [21, 7, 59],
    [45, 7, null],
  ])
  await put(
    stage,
    'items',
    Array.from({ length: 99 }, (_, n) => row(n + 1, { no: 99 - n })),
  )
  t.same(await stage.rows('SELECT count(*), sum(no = 100 - id) FROM items'), [[99, 99]])
})

t.test('a trigger that rolls the transaction back ends the work, whoever would go on', async (t) => {
  const stage = await onSqlite(
    t,
    `CREATE TABLE items (id INTEGER PRIMARY KEY, name); CREATE TRIGGER never BEFORE INSERT ON items WHEN NEW.id = 2 BEGIN SELECT RAISE(ROLLBACK, 'secret'); END`,
  )
  const { mirroring } = stage.database
  const attempt = transact(stage, ['items'], function* (targets) {
    yield* mirroring.upsert(upsertOf(targets, 'items', [{ id: 1, name: 'x' }]))
    try {
      yield* mirroring.upsert(upsertOf(targets, 'items', [{ id: 2, name: 'x' }]))
    } catch {
      // as one who leaves that document out
    }
    yield* mirroring.upsert(upsertOf(targets, 'items', [{ id: 3, name: 'x' }]))
  })
  const error = await attempt.then(
    () => undefined,
    (error) => error,
  )
  t.match(error, { code: 'ERR_DATABASE' })
  t.equal(stage.database.faultOf(error), 'other')
  t.same(await stage.rows('SELECT id FROM items'), [])
  await put(stage, 'items', [{ id: 3, name: 'x' }])
})

t.test('whose fault an error is', async (t) => {
  const stage = await onSqlite(
    t,
    `CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'bad'), no INTEGER NOT NULL DEFAULT 1); CREATE TRIGGER r BEFORE INSERT ON items WHEN NEW.name = 'raise' BEGIN SELECT RAISE(ABORT, 'secret'); END;
      CREATE TRIGGER s BEFORE INSERT ON items WHEN NEW.name = 'nowhere' BEGIN INSERT INTO nowhere VALUES (1); END; DROP TRIGGER s;
      CREATE TABLE lost (id INTEGER PRIMARY KEY, to_nothing INTEGER REFERENCES nowhere)`,
    (file) => {
      const db = new Database(file)
      db.function('host_function', () => {
        throw new Error('secret')
      })
      return db
    },
  )
  stage.db.function('host_function', () => null)
  const failure = (table: string, record: Readonly<Record<string, unknown>>) =>
    put(stage, table, [record]).then(
      () => undefined,
      (error) => error,
    )
  const isRefused = async (table: string, record: Readonly<Record<string, unknown>>, context: object) => {
    const error = await failure(table, record)
    t.match(error, { code: 'ERR_MIRROR', context: { table, ...context }, retryable: false })
    t.notMatch(error.message, /secret/, 'nothing of what a trigger says, which may be values')
    t.equal(stage.database.faultOf(error), 'other')
  }
  await isRefused('items', { id: 1, name: 'bad' }, { constraint: "name <> 'bad'" })
  await isRefused('items', { id: 1, no: null }, { column: 'no' })
  await isRefused('items', { id: 1, name: 'raise' }, { sqlite: 'SQLITE_CONSTRAINT_TRIGGER' })
  await isRefused('lost', { id: 1, to_nothing: 1 }, { sqlite: 'SQLITE_ERROR' })
  await stage.exec('CREATE TRIGGER f BEFORE INSERT ON lost BEGIN SELECT host_function(); END')
  await isRefused('lost', { id: 1 }, {})
  await stage.exec('DROP TRIGGER f; CREATE TRIGGER g BEFORE INSERT ON items BEGIN INSERT INTO nowhere VALUES (1); END')
  await isRefused('items', { id: 1 }, { sqlite: 'SQLITE_ERROR' })
  const of = (code: string, cause?: unknown) => stage.database.faultOf(Object.assign(new Error('x', { cause }), code === '' ? {} : { code }))
  for (const code of [
    'BUSY',
    'BUSY_SNAPSHOT',
    'LOCKED',
    'IOERR_WRITE',
    'FULL',
    'CORRUPT',
    'NOTADB',
    'NOMEM',
    'READONLY',
    'CANTOPEN',
    'INTERRUPT',
    'PROTOCOL',
  ])
    t.equal(of(`SQLITE_${code}`), undefined, code)
  for (const code of ['CONSTRAINT_CHECK', 'CONSTRAINT_DATATYPE', 'MISMATCH', 'TOOBIG', 'ERROR']) t.equal(of(`SQLITE_${code}`), 'other', code)
  t.equal(of('SQLITE_CONSTRAINT_FOREIGNKEY'), 'missing')
  t.equal(of('SQLITE_CONSTRAINT_UNIQUE'), 'taken')
  t.equal(of(''), 'other', "a handler's own")
  t.equal(of('', Object.assign(new Error('disk'), { code: 'SQLITE_FULL' })), undefined, 'what lies beneath')
  await stage.database.close()
  const closed = await stage.database
    .write(function* () {
      yield* query({ sql: 'SELECT 1', parameters: [] })
    })
    .catch((error) => error)
  t.equal(stage.database.faultOf(closed), undefined, 'stopped')
})

t.test('a file that took the place of another while the library was stopped is read anew', async (t) => {
  const [one, other] = [
    await onSqlite(t, 'CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)'),
    await onSqlite(t, 'CREATE TABLE items (id TEXT PRIMARY KEY, name INTEGER)'),
  ]
  const files = [one.db.name, other.db.name]
  const database = sqlite(() => new Database(files[0] as string))
  t.teardown(() => database.close())
  for (const stage of [one, other]) {
    await database.open()
    await put({ ...stage, database }, 'items', [{ id: '007', name: '007' }])
    await database.close()
    files.shift()
  }
  t.same(await one.rows('SELECT quote(id), quote(name) FROM items'), [['7', "'007'"]])
  t.same(await other.rows('SELECT quote(id), quote(name) FROM items'), [["'007'", '7']])
})
