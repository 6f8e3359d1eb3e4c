import Database from 'better-sqlite3'
import t from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { type AnyTables, createRegister, mirror, negate, type PublishRules, stockMovements } from '../../src/index.ts'
import { startServer } from '../support/postgres.ts'
import { openDatabase, openShop } from '../support/shop.ts'

const server = await startServer(t)

t.test('composite keys, parts of parts, and parts that refer to a unique column', async (t) => {
  const shop = await openShop(t, server, {
    schema: `
      CREATE TABLE receipts (series text, receipt_no bigint, barcode text, status text, PRIMARY KEY (series, receipt_no));
      CREATE TABLE receipt_lines (series text, receipt_no bigint, line_no bigint, item_no text, quantity numeric, PRIMARY KEY (series, receipt_no, line_no));
      CREATE TABLE line_discounts (series text, receipt_no bigint, line_no bigint, discount_no bigint, percent numeric, PRIMARY KEY (series, receipt_no, line_no, discount_no));
      CREATE TABLE tender_lines (id bigint PRIMARY KEY, barcode text, amount numeric)`,
    subscribe: {
      receipts: [
        mirror(),
        stockMovements((receipt) =>
          (receipt.parts.receipt_lines ?? []).map((line) => ({
            item: line.item_no,
            location: 'BA01',
            quantity: negate(line.quantity),
            discounts: receipt.parts.line_discounts?.filter((discount) => discount.line_no === line.line_no).length ?? 0,
          })),
        ),
      ],
    },
  })
  const till = await shop.addTill('POS1', {
    schema: `
      CREATE TABLE receipts (receipt_no INTEGER NOT NULL, series TEXT NOT NULL, status TEXT, barcode TEXT UNIQUE, PRIMARY KEY (series, receipt_no)) WITHOUT ROWID;
      CREATE TABLE receipt_lines (series TEXT NOT NULL, receipt_no INTEGER NOT NULL, line_no INTEGER NOT NULL, item_no TEXT, quantity INTEGER, PRIMARY KEY (series, receipt_no, line_no));
      CREATE TABLE line_discounts (series TEXT, receipt_no INTEGER, line_no INTEGER, discount_no INTEGER, percent REAL, PRIMARY KEY (series, receipt_no, line_no, discount_no));
      CREATE TABLE tender_lines (id INTEGER PRIMARY KEY, barcode TEXT, amount TEXT);
      CREATE INDEX tender_lines_barcode ON tender_lines (barcode)`,
    publish: {
      receipts: {},
      receipt_lines: { partOf: { receipts: { receipt_no: 'receipt_no', series: 'series' } } },
      line_discounts: { partOf: { receipt_lines: { line_no: 'line_no', series: 'series', receipt_no: 'receipt_no' } } },
      tender_lines: { partOf: { receipts: { barcode: 'barcode' } } },
    },
  })
  const { db, replica } = till
  const rows = async () => {
    const one = async (sql: string) => (await shop.pool.query({ text: sql, rowMode: 'array' })).rows.map((row) => row.join(' '))
    return {
      receipts: await one('SELECT series, receipt_no, barcode FROM receipts ORDER BY 1, 2'),
      lines: await one('SELECT series, receipt_no, line_no, quantity FROM receipt_lines ORDER BY 1, 2, 3'),
      discounts: await one('SELECT series, receipt_no, line_no, discount_no, percent FROM line_discounts ORDER BY 1, 2, 3, 4'),
      tenders: await one('SELECT id, barcode, amount FROM tender_lines ORDER BY 1'),
    }
  }
  db.exec(`BEGIN;
    INSERT INTO line_discounts VALUES ('A', 1, 1, 1, 10.5), ('A', 1, 1, 2, 5), ('B', 1, 1, 1, 3);
    INSERT INTO receipt_lines VALUES ('A', 1, 1, 'X', 2), ('A', 1, 2, 'Y', 3), ('B', 1, 1, 'X', 4);
    INSERT INTO tender_lines VALUES (1, 'bar-1', '7'), (2, 'bar-2', '8');
    INSERT INTO receipts VALUES (1, 'A', 'posted', 'bar-1'), (1, 'B', 'posted', 'bar-2');
    COMMIT`)
  t.same(await replica.seal(), { documents: 2, entries: 6 + 4 }, 'parts may be written before their root')
  await replica.synchronize()
  t.same(await rows(), {
    receipts: ['A 1 bar-1', 'B 1 bar-2'],
    lines: ['A 1 1 2', 'A 1 2 3', 'B 1 1 4'],
    discounts: ['A 1 1 1 10.5', 'A 1 1 2 5.0', 'B 1 1 1 3.0'],
    tenders: ['1 bar-1 7', '2 bar-2 8'],
  })
  t.equal(await shop.stock('X'), -6)
  db.exec('UPDATE line_discounts SET percent = 50 WHERE discount_no = 2')
  t.same(await replica.seal(), { documents: 1, entries: 6 }, 'a part of a part brings its document')
  db.exec("DELETE FROM line_discounts WHERE series = 'A' AND discount_no = 1")
  db.exec("UPDATE tender_lines SET barcode = 'bar-1' WHERE id = 2")
  t.same(await replica.seal(), { documents: 2, entries: 6 + 3 }, 'a part moved by a unique column')
  await replica.synchronize()
  t.same((await rows()).discounts, ['A 1 1 2 50.0', 'B 1 1 1 3.0'])
  t.same((await rows()).tenders, ['1 bar-1 7', '2 bar-1 8'])
  db.exec("UPDATE receipt_lines SET series = 'B', line_no = 9 WHERE series = 'A' AND line_no = 1")
  await replica.synchronize()
  t.same((await rows()).lines, ['A 1 2 3', 'B 1 1 4', 'B 1 9 2'])
  t.same((await rows()).discounts, ['B 1 1 1 3.0'], 'the discount of a line that went has nothing to hang on')
  db.exec('UPDATE receipt_lines SET line_no = line_no + 100')
  await replica.synchronize()
  t.same((await rows()).lines, ['A 1 102 3', 'B 1 101 4', 'B 1 109 2'], 'keys shifted in one statement')
})

t.test('a part of a part that went with its line does not come back with the next line of that number', async (t) => {
  const shop = await openShop(t, server, {
    schema: `
      CREATE TABLE receipts (id bigint PRIMARY KEY);
      CREATE TABLE receipt_lines (id bigint PRIMARY KEY, receipt_id bigint);
      CREATE TABLE line_discounts (id bigint PRIMARY KEY, line_id bigint)`,
    subscribe: { receipts: mirror() },
  })
  const { db, replica } = await shop.addTill('POS1', {
    schema: `
      CREATE TABLE receipts (id INTEGER PRIMARY KEY);
      CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER REFERENCES receipts ON DELETE CASCADE);
      CREATE TABLE line_discounts (id INTEGER PRIMARY KEY, line_id INTEGER REFERENCES receipt_lines ON DELETE CASCADE);
      CREATE INDEX receipt_lines_receipt_id ON receipt_lines (receipt_id); CREATE INDEX line_discounts_line_id ON line_discounts (line_id)`,
    publish: {
      receipts: {},
      receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
      line_discounts: { partOf: { receipt_lines: { line_id: 'id' } } },
    },
  })
  db.exec('INSERT INTO receipts VALUES (1); INSERT INTO receipt_lines VALUES (1, 1); INSERT INTO line_discounts VALUES (1, 1), (2, 1)')
  await replica.synchronize()
  db.exec('DELETE FROM receipts') // a purge
  await replica.synchronize()
  db.exec('INSERT INTO receipts VALUES (2); INSERT INTO receipt_lines VALUES (1, 2); INSERT INTO line_discounts VALUES (1, 1)')
  await replica.synchronize()
  t.same(
    (await shop.pool.query('SELECT id::int, line_id::int FROM line_discounts WHERE line_id IN (SELECT id FROM receipt_lines WHERE receipt_id = 2)'))
      .rows,
    [{ id: 1, line_id: 1 }],
  )
})

t.test('text keys: any text, compared to the bit although the column is NOCASE', async (t) => {
  const shop = await openShop(t, server, {
    schema: 'CREATE TABLE items (item_no text PRIMARY KEY, name text); CREATE TABLE item_barcodes (barcode text PRIMARY KEY, item_no text)',
    subscribe: { items: mirror() },
  })
  const { db, replica } = await shop.addTill('POS1', {
    schema: `
      CREATE TABLE items (item_no TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, name TEXT);
      CREATE TABLE item_barcodes (barcode TEXT NOT NULL PRIMARY KEY, item_no TEXT COLLATE NOCASE);
      CREATE INDEX item_barcodes_item_no ON item_barcodes (item_no)`,
    publish: { items: {}, item_barcodes: { partOf: { items: { item_no: 'item_no' } } } },
  })
  const names = [
    '',
    ' ',
    'Größe"\'\\',
    "Robert'); DROP TABLE items;--",
    '日本\u{1f600}',
    'tab\tnew\nline\r\u2028',
    '{"$blob":"AA=="}',
    '[1]',
    '\\N',
    '-0',
    '1e5',
    'null',
  ]
  const insert = db.prepare('INSERT INTO items VALUES (?, ?)')
  for (const name of names) insert.run(name, name)
  await replica.synchronize()
  t.same((await shop.pool.query('SELECT item_no FROM items WHERE item_no = name ORDER BY item_no COLLATE "C"')).rowCount, names.length)
  t.same(new Set((await shop.pool.query('SELECT item_no FROM items')).rows.map((row) => row.item_no)), new Set(names))

  insert.run('abc', 'first')
  db.exec("INSERT INTO item_barcodes VALUES ('1', 'ABC')")
  await replica.seal()
  t.match((await replica.entries({ limit: 100 })).slice(-2), [
    { table: 'items', recordId: ['abc'] },
    { table: 'item_barcodes', record: { item_no: 'ABC' } },
  ])
  db.exec("INSERT INTO item_barcodes VALUES ('2', 'aBc')")
  t.same(await replica.seal(), { documents: 1, entries: 3 }, 'a part whose reference is written otherwise brings its document')
  db.exec("UPDATE items SET item_no = 'ABC' WHERE item_no = 'abc'")
  t.same(await replica.seal(), { documents: 2, entries: 1 + 3 }, 'another case is another key')
  db.exec("REPLACE INTO items VALUES ('AbC', 'third')")
  t.same(await replica.seal(), { documents: 2, entries: 1 + 3 }, 'a REPLACE by another case takes the record whose key the column finds equal')
  db.exec("UPDATE OR REPLACE items SET item_no = 'aBC' WHERE item_no = 'null'")
  t.same(await replica.seal(), { documents: 3, entries: 2 + 3 }, 'and so does an UPDATE that replaces')
})

t.test('a key that is equal in another storage class is another key', async (t) => {
  const shop = await openShop(t, server)
  for (const type of ['', 'BLOB', 'ANY']) {
    const { db, replica } = await shop.addTill(`POS ${type}`, {
      schema: `CREATE TABLE items (id ${type} NOT NULL PRIMARY KEY, name TEXT)${type === 'ANY' ? ' STRICT' : ''}`,
      publish: { items: {} },
    })
    db.exec(`INSERT INTO items VALUES (1, 'first')`)
    await replica.seal()
    db.exec(`REPLACE INTO items VALUES (1.0, 'second')`)
    await replica.seal()
    t.match((await replica.entries()).slice(1), [{ operation: 'remove' }, { operation: 'upsert', record: { name: 'second' } }], `id ${type}`)
    t.same(db.prepare('SELECT record_id FROM sync_members').pluck().all(), ['[1.0]'], `id ${type}`)
    db.exec('UPDATE items SET id = 1')
    t.same(await replica.seal(), { documents: 2, entries: 2 }, `id ${type}: and an UPDATE of it is seen`)
    t.same(db.prepare('SELECT record_id FROM sync_members').pluck().all(), ['[1]'], `id ${type}`)
  }
})

t.test('a REPLACE by an equal key that is written otherwise removes the document that it takes the place of', async (t) => {
  const shop = await openShop(t, server)
  const keys = { 'item_no TEXT COLLATE NOCASE PRIMARY KEY NOT NULL': ["'abc'", "'ABC'"], 'item_no PRIMARY KEY NOT NULL': ['1', '1.0'] }
  const further = { 'item_no TEXT NOT NULL, PRIMARY KEY (item_no COLLATE NOCASE)': ["'abc'", "'ABC'"] }
  for (const [column, [before, after]] of Object.entries({ ...keys, ...further })) {
    for (const how of [`INSERT OR REPLACE INTO items VALUES (${after})`, `UPDATE OR REPLACE items SET item_no = ${after} WHERE item_no = 'other'`]) {
      const { db, replica } = await shop.addTill(`${column}: ${how}`, { schema: `CREATE TABLE items (${column})`, publish: { items: {} } })
      db.exec(`INSERT INTO items VALUES (${before}), ('other')`)
      await replica.seal()
      db.exec(how)
      await replica.seal()
      const entries = db.prepare('SELECT operation, record_id FROM sync_entries ORDER BY entry_no').raw().all() as string[][]
      const last = new Map(entries.map(([operation, recordId]) => [recordId, operation]))
      t.equal([...last.values()].filter((operation) => operation === 'upsert').length, db.prepare('SELECT count(*) FROM items').pluck().get(), how)
      t.same(await replica.reseal('items'), { documents: 0, entries: 0 })
    }
  }
})

t.test('a reference of another storage class than the key it refers to still finds its document', async (t) => {
  const shop = await openShop(t, server)
  const schema = (type: string) => `
    CREATE TABLE receipts (id INTEGER PRIMARY KEY, status TEXT);
    CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id ${type}, item_no TEXT);
    CREATE INDEX receipt_lines_receipt_id ON receipt_lines (receipt_id)`
  for (const [type, value] of [
    ['TEXT', "'1'"],
    ['REAL', '1'],
    ['', '1.0'],
    ['NUMERIC', "'1.0'"],
  ]) {
    const { db, replica } = await shop.addTill(`POS ${type}`, {
      schema: schema(type as string),
      publish: { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
    })
    db.exec(`INSERT INTO receipts VALUES (1, 'posted'); INSERT INTO receipt_lines VALUES (1, ${value}, 'A')`)
    t.same(await replica.seal(), { documents: 1, entries: 2 }, `receipt_id ${type}`)
    db.exec(`INSERT INTO receipt_lines VALUES (2, ${value}, 'B')`)
    t.same(await replica.seal(), { documents: 1, entries: 3 }, `receipt_id ${type}: a later line is noticed`)
    db.exec('DELETE FROM receipt_lines WHERE id = 1')
    t.same(await replica.seal(), { documents: 1, entries: 2 }, `receipt_id ${type}: a deleted line is noticed`)
  }
})

t.test('values arrive to the bit', async (t) => {
  const shop = await openShop(t, server, {
    schema: `
      CREATE TABLE readings (id bytea PRIMARY KEY, big bigint, exact numeric, approx double precision, words text, raw bytea, flag boolean, day date, at timestamptz, doc json);
      CREATE TABLE reading_parts (id bigint PRIMARY KEY, reading_id bytea, word text)`,
    subscribe: { readings: mirror() },
  })
  const { db, replica } = await shop.addTill('POS1', {
    schema: `
      CREATE TABLE readings (id BLOB PRIMARY KEY NOT NULL, big INTEGER, exact TEXT, approx REAL, words TEXT, raw BLOB, flag INTEGER, day TEXT, at TEXT, doc TEXT);
      CREATE TABLE reading_parts (id INTEGER PRIMARY KEY, reading_id BLOB, word TEXT);
      CREATE INDEX reading_parts_reading_id ON reading_parts (reading_id)`,
    publish: { readings: {}, reading_parts: { partOf: { readings: { reading_id: 'id' } } } },
  })
  const reals = [0, 1, -1.5, 0.1, 1e21, 1e-7, 5e-324, Number.MAX_VALUE, Number.MIN_VALUE, 2 ** 53, 1 / 3, Infinity, -Infinity]
  const bigs = [0n, -1n, 9_007_199_254_740_993n, -9_007_199_254_740_993n, 2n ** 63n - 1n, -(2n ** 63n), 1_000_000_000_000_000n]
  const texts = ['', 'plain', '😀 \\ " \' \t \n', '9007199254740993', ':9007199254740993', '{"a":1}', 'x'.repeat(100_000), '\\u0000', '\\x41']
  const blobs = [Buffer.of(), Buffer.of(0), Buffer.from('text'), Buffer.from(Array.from({ length: 256 }, (_, n) => n)), Buffer.from('\\x41')]
  const insert = db.prepare('INSERT INTO readings VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)')
  const longest = Math.max(reals.length, bigs.length, texts.length, blobs.length)
  const wanted = Array.from({ length: longest }, (_, n) => ({
    id: Buffer.of(n, 0, 255),
    big: bigs[n % bigs.length] as bigint,
    exact: '12345678901234567890.123456789012345678',
    approx: reals[n % reals.length] as number,
    words: texts[n % texts.length] as string,
    raw: blobs[n % blobs.length] as Buffer,
  }))
  for (const { id, big, exact, approx, words, raw } of wanted)
    insert.run(id, big, exact, approx, words, raw, 1n, '2026-02-28', '2026-11-21 10:30:00.123456', '{"a": [1, null]}')
  insert.run(Buffer.of(), null, null, null, null, null, null, null, null, null)
  db.prepare('INSERT INTO reading_parts VALUES (1, ?, ?), (2, ?, NULL)').run(Buffer.of(0, 0, 255), 'part', Buffer.of(0, 0, 255))
  await replica.synchronize()
  const { rows } = await shop.pool.query(
    'SELECT id, big::text, exact::text, approx, words, raw, flag, day::text, at, doc::text FROM readings WHERE length(id) > 0 ORDER BY id',
  )
  t.same(
    rows.map(({ id, big, exact, approx, words, raw }) => ({ id, big: BigInt(big), exact, approx, words, raw })),
    wanted,
  )
  t.match(rows[0], { flag: true, day: '2026-02-28', at: new Date('2026-11-21T10:30:00.123Z'), doc: '{"a": [1, null]}' })
  const nothing = await shop.pool.query('SELECT * FROM readings WHERE length(id) = 0')
  t.same(Object.values(nothing.rows[0]).slice(1), Array(9).fill(null))
  t.same((await shop.pool.query('SELECT id::int, reading_id, word FROM reading_parts ORDER BY id')).rows, [
    { id: 1, reading_id: Buffer.of(0, 0, 255), word: 'part' },
    { id: 2, reading_id: Buffer.of(0, 0, 255), word: null },
  ])
  db.prepare('DELETE FROM reading_parts WHERE id = 1').run()
  db.prepare('UPDATE readings SET raw = ? WHERE id = ?').run(Buffer.from('changed'), Buffer.of(0, 0, 255))
  await replica.synchronize()
  t.same((await shop.pool.query('SELECT id::int FROM reading_parts')).rows, [{ id: 2 }])
})

t.test('keys of bytes that are no text are different records, in one batch too', async (t) => {
  const shop = await openShop(t, server, { schema: 'CREATE TABLE tags (uid bytea PRIMARY KEY, name text)', subscribe: { tags: mirror() } })
  const { db, replica } = await shop.addTill('POS1', {
    schema: 'CREATE TABLE tags (uid BLOB PRIMARY KEY NOT NULL, name TEXT)',
    publish: { tags: {} },
  })
  db.exec("INSERT INTO tags VALUES (x'ff', 'a'), (x'fe', 'b'), (x'80', 'c'), (x'41', 'd')")
  await replica.synchronize()
  t.same((await shop.pool.query('SELECT uid, name FROM tags ORDER BY uid')).rows, [
    { uid: Buffer.of(0x41), name: 'd' },
    { uid: Buffer.of(0x80), name: 'c' },
    { uid: Buffer.of(0xfe), name: 'b' },
    { uid: Buffer.of(0xff), name: 'a' },
  ])
})

t.test('negative zero and infinity go through the entry and into any column that can hold them', async (t) => {
  const shop = await openShop(t, server, {
    schema: 'CREATE TABLE readings (id bigint PRIMARY KEY, approx double precision, exact numeric, whole bigint, words text)',
    subscribe: { readings: mirror() },
  })
  const { db, replica } = await shop.addTill('POS1', {
    schema: 'CREATE TABLE readings (id INTEGER PRIMARY KEY, approx, exact, whole, words)',
    publish: { readings: {} },
  })
  const insert = db.prepare('INSERT INTO readings VALUES (?, ?, ?, ?, ?)')
  insert.run(1n, -0, null, null, null)
  await replica.synchronize()
  t.ok(Object.is((await replica.entries()).at(-1)?.record?.approx, -0), 'in the entry')
  t.ok(Object.is((await shop.pool.query('SELECT approx FROM readings')).rows[0].approx, -0), 'in a double')
  // What a till computes as 0 × −1 stands there so; at head office the column is numeric.
  insert.run(2n, 0, -0, -0, -0)
  await t.resolves(replica.synchronize(), 'in a numeric, a bigint and a text')
  t.same((await shop.pool.query('SELECT exact::float, whole::int, words FROM readings WHERE id = 2')).rows, [{ exact: 0, whole: 0, words: '-0.0' }])
})

t.test('names with spaces, quotes, umlauts, dots, reserved words, and words that a query builder knows', async (t) => {
  const roots = [
    'order',
    'Kassen Bons',
    'Größe"s\'',
    'Belege.2026',
    'a as b',
    'x desc',
    '1st',
    'sync_',
    'SELECT',
    '%s $1 ?',
    '\\',
    '{}',
    'constructor',
    '__proto__',
  ]
  for (const [n, root] of roots.entries()) {
    const q = (name: string) => `"${name.replaceAll('"', '""')}"`
    const part = `${root} lines`
    const column = roots[(n + 3) % roots.length] as string
    const shop = await openShop(t, server, {
      schema: `CREATE TABLE ${q(root)} (${q(column)} bigint PRIMARY KEY, "group" text);
               CREATE TABLE ${q(part)} ("user" bigint PRIMARY KEY, ${q(root)} bigint, "when then" text)`,
      subscribe: { [root]: mirror() },
    })
    const publish: PublishRules<AnyTables> = {
      [root]: { where: (eb) => eb('group', '<>', 'open') },
      [part]: { partOf: { [root]: { [root]: column } } },
    }
    const sale = async (): Promise<unknown> => {
      const { db, replica } = await shop.addTill('POS1', {
        schema: `CREATE TABLE ${q(root)} (${q(column)} INTEGER PRIMARY KEY, "group" TEXT UNIQUE);
                 CREATE TABLE ${q(part)} ("user" INTEGER PRIMARY KEY, ${q(root)} INTEGER, "when then" TEXT)`,
        publish,
      })
      db.exec(`INSERT INTO ${q(root)} VALUES (1, 'a'), (2, 'open'); INSERT INTO ${q(part)} VALUES (1, 1, 'x'), (2, 1, 'y')`)
      await replica.synchronize()
      db.exec(`DELETE FROM ${q(part)} WHERE "user" = 1; UPDATE ${q(part)} SET "when then" = 'z'`)
      await replica.synchronize()
      await replica.export(root, { [column]: 1 } as never)
      await replica.synchronize()
      return (
        await shop.pool.query(`SELECT r."group", l."user"::int, l."when then" FROM ${q(root)} r JOIN ${q(part)} l ON l.${q(root)} = r.${q(column)}`)
      ).rows
    }
    const found = await sale().catch((error) => String(error))
    t.same(found, [{ group: 'a', user: 2, 'when then': 'z' }], `table ${root}, column ${column}: ${typeof found === 'string' ? found : ''}`)
  }
})

t.test('a root column that is called `parts` is refused, for handlers get the parts of a document by that name', async (t) => {
  const { file } = openDatabase(t, 'CREATE TABLE repairs (id INTEGER PRIMARY KEY, parts INTEGER)')
  const open = (repairs: object) => createRegister({ location: 'A', register: '1', database: sqlite(() => new Database(file)), publish: { repairs } })
  const [all, without] = [open({}), open({ except: ['parts'] })]
  t.teardown(() => Promise.all([all.stop(), without.stop()]))
  await t.rejects(all.install(), { code: 'ERR_RULE', hint: /except/ })
  await t.resolves(without.install())
})

t.test('REPLACE on unique columns: rows that no delete trigger saw are noticed', async (t) => {
  const shop = await openShop(t, server, {
    schema:
      'CREATE TABLE receipts (id bigint PRIMARY KEY, receipt_no text, slot text, status text); CREATE TABLE receipt_lines (id bigint PRIMARY KEY, receipt_id bigint, line_no bigint)',
    subscribe: { receipts: mirror() },
  })
  const { db, replica } = await shop.addTill('POS1', {
    schema: `
      CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT COLLATE NOCASE UNIQUE ON CONFLICT REPLACE, slot TEXT, status TEXT);
      CREATE UNIQUE INDEX open_slot ON receipts (slot) WHERE status = 'open (it''s)';
      CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER, line_no INTEGER, UNIQUE (receipt_id, line_no) ON CONFLICT REPLACE)`,
    publish: { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
  })
  db.exec("INSERT INTO receipts VALUES (1, 'r-1', 's', 'posted'), (2, 'R-2', 's', 'posted'); INSERT INTO receipt_lines VALUES (1, 1, 1), (2, 2, 1)")
  await replica.seal()
  const last = async () => {
    const { head } = await replica.status()
    await replica.seal()
    return (await replica.entries({ after: head.entryNo })).map((entry) => `${entry.operation} ${entry.table} ${entry.recordId}`)
  }
  db.exec("INSERT INTO receipts VALUES (3, 'R-1', 's', 'posted')")
  t.same(await last(), ['remove receipts 1', 'upsert receipts 3'], 'a unique column, by its collation')
  db.exec("UPDATE receipts SET receipt_no = 'R-1' WHERE id = 2")
  t.same((await last()).sort(), ['remove receipts 3', 'upsert receipt_lines 2', 'upsert receipts 2'], 'an UPDATE that replaces')
  db.exec("INSERT INTO receipts VALUES (4, 'R-4', 't', 'open (it''s)'); INSERT OR REPLACE INTO receipts VALUES (5, 'R-5', 't', 'open (it''s)')")
  t.same(await last(), ['upsert receipts 5'], 'a partial index')
  db.exec('INSERT INTO receipt_lines VALUES (9, 2, 1)')
  t.same(await last(), ['upsert receipts 2', 'upsert receipt_lines 9'], 'a line replaced by another of its place')
  db.exec('INSERT OR REPLACE INTO receipt_lines VALUES (9, 5, 7)')
  t.same((await last()).sort(), ['upsert receipt_lines 9', 'upsert receipts 2', 'upsert receipts 5'], 'a line taken by its key')
  db.exec("INSERT OR IGNORE INTO receipts VALUES (2, 'X', 'x', 'x'), (77, 'R-1', 'x', 'x')")
  t.same(await last(), [], 'the statement’s OR IGNORE overrides the column’s REPLACE')
  db.exec("INSERT INTO receipts VALUES (2, 'R-1', 's', 'posted') ON CONFLICT (id) DO UPDATE SET slot = 'upserted'")
  t.same(
    (await last()).filter((entry) => entry.includes(' receipts 2')),
    ['upsert receipts 2'],
    'UPSERT',
  )
  const head = (await replica.status()).head.entryNo
  db.exec("UPDATE receipts SET receipt_no = 'r-1' WHERE id = 2")
  t.ok((await last()).length > 0, 'a change of case only')
  t.ok((await replica.status()).head.entryNo > head)
})

t.test('the host’s conflict clauses, changes() and last_insert_rowid() are as they would be without us', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const { db } = till
  const insert = db.prepare(
    "INSERT OR IGNORE INTO receipts (receipt_no, location, business_date, posted_at, status, net_amount) VALUES ('R-1', 'BA01', 'd', 't', 'open', '0')",
  )
  t.same(insert.run(), { changes: 1, lastInsertRowid: 1 })
  t.same(insert.run(), { changes: 0, lastInsertRowid: 1 })
  t.same(db.prepare("UPDATE OR REPLACE receipts SET net_amount = '1'").run().changes, 1)
  t.same(db.prepare('INSERT INTO receipt_lines (receipt_id, item_no, quantity, net_amount) SELECT 1, 1, 1, 1 UNION ALL SELECT 1, 2, 2, 2').run(), {
    changes: 2,
    lastInsertRowid: 2,
  })
  t.same(db.prepare('INSERT INTO receipt_lines (receipt_id, item_no, quantity, net_amount) VALUES (1, 3, 3, 3) RETURNING id, item_no').all(), [
    { id: 3, item_no: '3' },
  ])
  t.same(db.prepare('DELETE FROM receipt_lines').run().changes, 3)
})

t.test('a record without a key waits alone', async (t) => {
  const shop = await openShop(t, server, {
    schema:
      'CREATE TABLE receipts (receipt_no text PRIMARY KEY, status text); CREATE TABLE receipt_lines (line_no text PRIMARY KEY, receipt_no text)',
    subscribe: { receipts: mirror() },
  })
  const { db, replica } = await shop.addTill('POS1', {
    schema: `CREATE TABLE receipts (receipt_no TEXT PRIMARY KEY, status TEXT); CREATE TABLE receipt_lines (line_no TEXT PRIMARY KEY, receipt_no TEXT);
             CREATE INDEX receipt_lines_receipt_no ON receipt_lines (receipt_no)`,
    publish: { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_no: 'receipt_no' } } } },
  })
  db.exec("INSERT INTO receipts VALUES ('R-1', 'posted'), (NULL, 'posted'), ('R-2', 'posted')")
  await replica.synchronize()
  t.same((await shop.pool.query('SELECT receipt_no FROM receipts ORDER BY 1')).rows, [{ receipt_no: 'R-1' }, { receipt_no: 'R-2' }])
  t.match((await replica.status()).parked, [{ table: 'receipts', recordId: [null], code: 'ERR_NO_KEY' }])
  db.exec("UPDATE receipts SET receipt_no = 'R-3' WHERE receipt_no IS NULL")
  await replica.synchronize()
  t.same((await replica.status()).parked, [])
  t.equal((await shop.pool.query('SELECT FROM receipts')).rowCount, 3)
  db.exec("INSERT INTO receipt_lines VALUES (NULL, 'R-1'), (NULL, 'R-1'); INSERT INTO receipts VALUES ('R-4', 'posted')")
  await t.resolves(replica.synchronize(), 'a line without a key holds up its receipt, nothing else')
  t.equal((await shop.pool.query("SELECT FROM receipts WHERE receipt_no = 'R-4'")).rowCount, 1)
  t.match((await replica.status()).parked, [{ table: 'receipts', recordId: ['R-1'], code: 'ERR_NO_KEY' }])
})

t.test('a generated column is published and never written', async (t) => {
  const shop = await openShop(t, server, {
    schema:
      'CREATE TABLE lines (id bigint PRIMARY KEY, quantity bigint, price bigint, total bigint GENERATED ALWAYS AS (quantity * price) STORED, code text)',
    subscribe: { lines: mirror() },
  })
  const { db, replica } = await shop.addTill('POS1', {
    schema: `CREATE TABLE lines (id INTEGER PRIMARY KEY, quantity INTEGER, price INTEGER, total INTEGER AS (quantity * price) VIRTUAL,
             code TEXT AS ('L' || quantity || '-' || price) STORED UNIQUE)`,
    publish: { lines: {} },
  })
  db.exec('INSERT INTO lines (quantity, price) VALUES (2, 3); INSERT OR REPLACE INTO lines (quantity, price) VALUES (2, 3)')
  await replica.synchronize()
  t.same((await shop.pool.query('SELECT id::int, total::int, code FROM lines')).rows, [{ id: 2, total: 6, code: 'L2-3' }])
})
