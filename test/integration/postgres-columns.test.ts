import t from 'tap'
import { sealedBy } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'
import { openTill } from '../support/postgres-till.ts'

const server = await startServer(t)

t.test('keys of a domain: a part may refer to what the domain refuses, and NULL is none of its values', async (t) => {
  const { pool, replica, sealed } = await openTill(t, server, {
    tables: `CREATE DOMAIN article_no AS text NOT NULL CHECK (VALUE ~ '^[0-9]+$'); CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
      CREATE DOMAIN mask AS bit(3);
      CREATE TABLE items (item_no article_no, pack positive, mask mask, name text, PRIMARY KEY (item_no, pack, mask));
      CREATE TABLE item_barcodes (id bigint PRIMARY KEY, item_no text, pack integer, mask bit(3));
      CREATE INDEX ON item_barcodes (item_no, pack, mask)`,
    publish: {
      items: { where: (eb) => eb('name', '<>', 'hidden') },
      item_barcodes: { partOf: { items: { item_no: 'item_no', pack: 'pack', mask: 'mask' } } },
    },
  })
  await pool.query(`INSERT INTO items VALUES ('1', 1, '101', 'a');
    INSERT INTO item_barcodes VALUES (1, '1', 1, '101'), (2, 'none', 1, '101'), (3, '1', 0, '101'), (4, NULL, 1, '101')`)
  t.same(await sealed(), ['upsert items["1",1,"101"]', 'upsert item_barcodes[1]'])
  await pool.query('DELETE FROM items')
  t.same(await sealed(), ['remove items["1",1,"101"]'])
  t.match(await replica.status(), { parked: [], unsealed: 0 })
  t.notOk((await replica.check()).some(({ code }) => code === 'NO_INDEX'))
})

const REFERRED = {
  'a domain over an enum': {
    types: `CREATE TYPE size AS ENUM ('big one'); CREATE DOMAIN own_size AS size`,
    key: 'own_size',
    reference: 'size',
    value: 'big one',
  },
  'an enum': { types: `CREATE TYPE "Size" AS ENUM ('big')`, key: '"Size"', reference: 'text', value: 'big' },
  'an array of enums': { types: `CREATE TYPE size AS ENUM ('big')`, key: 'size[]', reference: 'text', value: '{big}' },
  'a domain of ranges': { types: 'CREATE DOMAIN own_range AS int4range', key: 'own_range', reference: 'int4range', value: '[1,3)' },
  'a composite': { types: 'CREATE TYPE pair AS (a integer, b text)', key: 'pair', reference: 'text', value: '(1,x)' },
}

for (const [what, { types, key, reference, value }] of Object.entries(REFERRED)) {
  t.test(`a part that refers to ${what} by another type touches its document, not the whole table`, async (t) => {
    const { pool, sealed } = await openTill(t, server, {
      tables: `${types}; CREATE TABLE items (id ${key} PRIMARY KEY); CREATE TABLE item_barcodes (no integer PRIMARY KEY, item_id ${reference})`,
      publish: { items: {}, item_barcodes: { partOf: { items: { item_id: 'id' } } } },
    })
    await pool.query(`INSERT INTO items VALUES ('${value}')`)
    await sealed()
    await pool.query(`INSERT INTO item_barcodes VALUES (7, '${value}')`)
    t.same((await pool.query('SELECT key FROM sync_touches')).rows, [{ key: [value] }])
    t.same(await sealed(), [`upsert items["${value}"]`, 'upsert item_barcodes[7]'])
  })
}

t.test('a document whose filter raises by a code of the host’s own, or of a CASE without its case, waits alone', async (t) => {
  const { pool, replica, sealed } = await openTill(t, server, {
    tables: `CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
      CREATE FUNCTION is_open(status text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN
        IF status = 'bad' THEN RAISE EXCEPTION 'no' USING ERRCODE = 'KA001'; END IF;
        IF status = 'none' THEN RETURN (-1)::positive > 0; END IF;
        CASE status WHEN 'open' THEN RETURN true; END CASE; END $$;
      CREATE TABLE orders (id bigserial PRIMARY KEY, status text)`,
    publish: { orders: { where: (eb) => eb.fn('is_open', ['status']) } },
  })
  await pool.query(`INSERT INTO orders (status) VALUES ('open'), ('bad'), ('other'), ('none'), ('open')`)
  t.same(await sealed(), ['upsert orders[1]', 'upsert orders[5]'])
  t.same(
    (await replica.status()).parked.map(({ recordId, code }) => [...recordId, code]),
    [2, 3, 4].map((id) => [id, 'ERR_FILTER']),
  )
})

t.test('a part whose reference is a virtual column, which triggers do not see, is captured', async (t) => {
  const version = Number((await (await openTill(t, server)).pool.query('SHOW server_version_num')).rows[0].server_version_num)
  if (version < 180_000) return t.pass('virtual columns came with PostgreSQL 18')
  const { pool, replica } = await openTill(t, server, {
    tables: `CREATE TABLE receipts (id integer PRIMARY KEY);
      CREATE TABLE receipt_lines (no integer PRIMARY KEY, item_no text, receipt_id integer GENERATED ALWAYS AS (no / 100) VIRTUAL)`,
    publish: { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
  })
  const sealed = sealedBy(replica)
  await pool.query('INSERT INTO receipts VALUES (1), (2)')
  await sealed()
  await pool.query(`CREATE FUNCTION public.wrong(integer, integer) RETURNS integer LANGUAGE sql AS 'SELECT 9';
    CREATE OPERATOR public./ (LEFTARG = integer, RIGHTARG = integer, FUNCTION = public.wrong);
    SET search_path = public, pg_catalog; INSERT INTO receipt_lines VALUES (101, 'A'); RESET search_path`)
  t.same(await sealed(), ['upsert receipts[1]', 'upsert receipt_lines[101]'], 'whatever the search path of the sale')
  await pool.query('UPDATE receipt_lines SET no = 201')
  t.same((await sealed()).sort(), ['upsert receipt_lines[201]', 'upsert receipts[1]', 'upsert receipts[2]'])
  await pool.query('DELETE FROM receipt_lines')
  t.same(await sealed(), ['upsert receipts[2]'])
  t.same(await replica.reseal('receipts'), { documents: 0, entries: 0 })
})

t.test('values that a change of their column makes anew are published, though its type stays', async (t) => {
  const till = await openTill(t, server, {
    tables: `CREATE TABLE receipts (id bigint PRIMARY KEY, total integer, status text, shown text GENERATED ALWAYS AS (upper(status)) STORED)`,
    publish: { receipts: {} },
  })
  const { pool, replica, sealed } = till
  const last = async () => (await replica.entries()).at(-1)?.record
  await pool.query(`INSERT INTO receipts VALUES (1, 5, 'Open')`)
  await sealed()
  await pool.query('ALTER TABLE receipts ALTER total TYPE integer USING total * 100')
  await till.replica.seal()
  t.same(await sealed(), ['upsert receipts[1]'])
  t.match(await last(), { total: 500, shown: 'OPEN' })
  const version = Number((await pool.query('SHOW server_version_num')).rows[0].server_version_num)
  if (version < 170_000) return
  await pool.query('ALTER TABLE receipts ALTER shown SET EXPRESSION AS (lower(status))')
  await till.replica.seal()
  t.same(await sealed(), ['upsert receipts[1]'])
  t.match(await last(), { shown: 'open' })
})

t.test('a label of an enum that is renamed is published, also under a domain, in an array, in a key', async (t) => {
  const till = await openTill(t, server, {
    tables: `CREATE TYPE status AS ENUM ('open', 'posted'); CREATE DOMAIN state AS status; CREATE TYPE kind AS ENUM ('sale', 'return');
      CREATE TABLE receipts (id bigint PRIMARY KEY, status state, past status[]); CREATE TABLE kinds (kind kind PRIMARY KEY)`,
    publish: { receipts: {}, kinds: {} },
  })
  const { pool, replica, sealed } = till
  await pool.query(`INSERT INTO receipts VALUES (1, 'posted', '{open,posted}'), (2, 'open', '{}'); INSERT INTO kinds VALUES ('sale'), ('return')`)
  await sealed()
  await pool.query(`ALTER TYPE status RENAME VALUE 'posted' TO 'done'`)
  t.same(await sealed(), ['upsert receipts[1]'])
  t.match((await replica.entries()).at(-1)?.record, { status: 'done', past: '{open,done}' })
  await pool.query(`UPDATE kinds SET kind = kind; ALTER TYPE kind RENAME VALUE 'sale' TO 'sold'`)
  t.same((await sealed()).toSorted(), ['remove kinds["sale"]', 'upsert kinds["sold"]'])
  await pool.query(`ALTER TYPE kind ADD VALUE 'void'`)
  t.same(await sealed(), [])
})

t.test('a type that is changed in the middle of a document, while touches wait, holds up nothing', async (t) => {
  const till = await openTill(t, server, {
    tables: `CREATE TABLE receipts (id bigint PRIMARY KEY); CREATE TABLE receipt_lines (id integer PRIMARY KEY, receipt_id bigint);
      CREATE TABLE discounts (id bigint PRIMARY KEY, line_id integer, percent integer)`,
    publish: {
      receipts: {},
      receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
      discounts: { partOf: { receipt_lines: { line_id: 'id' } } },
    },
  })
  const { pool, replica, sealed } = till
  await pool.query('INSERT INTO receipts VALUES (1); INSERT INTO receipt_lines VALUES (7, 1); INSERT INTO discounts VALUES (1, 7, 3)')
  await sealed()
  await pool.query(`UPDATE discounts SET percent = 4;
    ALTER TABLE receipt_lines ALTER id TYPE uuid USING lpad(id::text, 32, '0')::uuid; ALTER TABLE discounts ALTER line_id TYPE uuid USING lpad(line_id::text, 32, '0')::uuid`)
  await till.replica.seal()
  t.same(await sealed(), ['upsert receipts[1]', 'upsert receipt_lines["00000000-0000-0000-0000-000000000007"]', 'upsert discounts[1]'])
  t.match((await replica.entries()).at(-1)?.record, { percent: 4 })
})

const LOOSE = "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)"
const EQUAL = {
  'a number that is written otherwise': { key: 'numeric(10, 2)', reference: 'integer', keys: ['1', '2.5'], references: ['1'], id: '1.00' },
  'a number that its own type does not hold': { key: 'bigint', reference: 'smallint', keys: ['1', '70000'], references: ['1'], id: 1 },
  'a text with blanks behind it': { key: 'char(5)', reference: 'varchar(9)', keys: ['a', 'b'], references: ['a'], id: 'a    ' },
  'a moment by its day': {
    key: 'timestamp',
    reference: 'date',
    keys: ['2026-01-01', '2026-01-01 12:00'],
    references: ['2026-01-01'],
    id: '2026-01-01T00:00:00.000000',
  },
  'a text that the key’s collation takes for equal': {
    key: 'text COLLATE loose',
    reference: 'text',
    keys: ['Ab', 'c'],
    references: ['Ab', 'AB', 'ab'],
    id: 'Ab',
  },
  'a text that only its own collation takes for equal': {
    key: 'text',
    reference: 'text COLLATE loose',
    keys: ['Ab', 'AB'],
    references: ['Ab'],
    id: 'Ab',
  },
} as const

for (const [what, { key, reference, keys, references, id }] of Object.entries(EQUAL)) {
  t.test(`a part belongs to the document whose key is equal to its reference as the key has it: ${what}`, async (t) => {
    const { pool, replica, sealed } = await openTill(t, server, {
      tables: `${LOOSE}; CREATE TABLE items (id ${key} PRIMARY KEY, name text); CREATE TABLE item_barcodes (no integer PRIMARY KEY, item_id ${reference});
        CREATE INDEX ON item_barcodes (item_id)`,
      publish: { items: {}, item_barcodes: { partOf: { items: { item_id: 'id' } } } },
    })
    const document = [`upsert items${JSON.stringify([id])}`, ...references.map((_, n) => `upsert item_barcodes[${n}]`)]
    await pool.query(`INSERT INTO items VALUES ${keys.map((one) => `('${one}')`).join()}`)
    await sealed()
    await pool.query(`INSERT INTO item_barcodes VALUES ${references.map((one, n) => `(${n}, '${one}')`).join()}`)
    t.same(await sealed(), document)
    await pool.query("UPDATE items SET name = 'x'")
    const all = await sealed()
    t.same(all.slice(0, document.length), document)
    t.equal(all.length, document.length + keys.length - 1, 'no other document has them')
    t.match(await replica.status(), { parked: [], unsealed: 0 })
    t.same(await replica.reseal('items'), { documents: 0, entries: 0 })
  })
}
