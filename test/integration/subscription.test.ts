import Database from 'better-sqlite3'
import t from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { type AnyTables, createRegister, type MirrorRules, mirror, type Register, stockMovements } from '../../src/index.ts'
import { AudienceStream, deliver, subscriberOf } from '../support/audience-stream.ts'
import { type Host, onEachDatabase } from '../support/each-database.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { refused } from '../support/refused.ts'

const server = await startServer(t)

const TABLES = `
  CREATE TABLE items (item_no VARCHAR(20) PRIMARY KEY, name VARCHAR(40) NOT NULL, unit_price NUMERIC(12, 2), shelf VARCHAR(10));
  CREATE TABLE item_barcodes (barcode VARCHAR(20) PRIMARY KEY, item_no VARCHAR(20) NOT NULL REFERENCES items (item_no));
  CREATE INDEX item_barcodes_item ON item_barcodes (item_no);
  CREATE TABLE price_lists (id INTEGER PRIMARY KEY, name VARCHAR(40));
  CREATE TABLE price_list_lines (list_id INTEGER NOT NULL REFERENCES price_lists (id), item_no VARCHAR(20) NOT NULL REFERENCES items (item_no), unit_price NUMERIC(12, 2),
    PRIMARY KEY (list_id, item_no))`
const SUBSCRIBE: MirrorRules<AnyTables> = { items: mirror(), item_barcodes: mirror(), price_lists: mirror(), price_list_lines: mirror() }
const LINES = { table: 'price_list_lines', columns: { list_id: 'id' }, parts: [] }

const items = () =>
  new AudienceStream('items', ['item_no'], [{ table: 'item_barcodes', columns: { item_no: 'item_no' }, parts: [] }], { item_barcodes: ['barcode'] })
const lists = () => new AudienceStream('price_lists', ['id'], [LINES])

async function open(host: Host, subscribe = SUBSCRIBE): Promise<Register> {
  const till = host.create({}, { subscribe })
  await till.install()
  return till
}

const findings = async (till: Register) => (await till.check()).flatMap(({ code, table }) => (code === 'NOT_DURABLE' ? [] : [`${code} ${table}`]))

const rows = async (host: Host, table: string, key = '1') =>
  (await host.query(`SELECT * FROM ${table} ORDER BY ${key}`)).map((row) =>
    Object.values(row as object)
      .map(String)
      .join('|'),
  )

onEachDatabase(t, server, 'what is published comes, changes and goes', TABLES, async (t, host) => {
  const till = await open(host)
  const stream = items()
  for (let n = 1; n <= 30; n++)
    stream.put({
      row: { item_no: `I${n}`, name: `Item ${n}`, unit_price: `${n}.00` },
      parts: { item_barcodes: [{ barcode: `B${n}`, item_no: `I${n}` }] },
    })
  t.equal(await deliver(till, [stream], 7), 5)
  t.equal((await rows(host, 'items')).length, 30)
  t.equal((await rows(host, 'item_barcodes')).length, 30)
  const [status] = (await till.status()).subscriptions
  t.match(status, { table: 'items', entryNo: 30, isComplete: true, waiting: 0, leftOut: [] })
  stream.put({ row: { item_no: 'I1', name: 'One', unit_price: '1.50' } }).remove(['I2'])
  await deliver(till, [stream])
  t.match((await rows(host, 'items'))[0], /^I1\|One\|1.5/)
  t.equal((await rows(host, 'items')).length, 29)
  t.equal((await rows(host, 'item_barcodes')).length, 28)
})

onEachDatabase(t, server, 'what refers to what is not there yet waits for it alone, whatever comes first', TABLES, async (t, host) => {
  const till = await open(host)
  const told: unknown[] = []
  till.on('unapplied', ({ documents }) => told.push(documents.map(({ table, recordId, code }) => `${table}${recordId} ${code}`)))
  const [articles, prices] = [items(), lists()]
  for (let n = 1; n <= 40; n++)
    prices.put({ row: { id: n, name: `L${n}` }, parts: { price_list_lines: [{ list_id: n, item_no: n % 2 ? 'I1' : 'I2', unit_price: '1.00' }] } })
  prices.put({ row: { id: 99, name: 'free' } })
  const subscriber = subscriberOf(till)
  const batch = () => prices.next({ stream: undefined, entryNo: 0 })
  t.same(await subscriber.take([batch()]), { isAny: true, received: 41, applied: 1 })
  t.same(await rows(host, 'price_lists'), ['99|free'])
  t.equal((await subscriber.unapplied()).length, 40)
  t.equal((told as string[][])[0]?.length, 40)
  t.match((told as string[][])[0]?.[0], /^price_lists\[\d+\] ERR_REFERENCE$/)
  t.equal((await till.status()).unapplied[0]?.code, 'ERR_REFERENCE')
  const item = articles.put({ item_no: 'I1', name: 'One' }).next({ stream: undefined, entryNo: 0 })
  t.same(await subscriber.take([item]), { isAny: true, received: 1, applied: 21 }, 'what has waited for it too')
  t.equal((await rows(host, 'price_lists')).length, 21)
  t.equal((await subscriber.unapplied()).length, 20)
  await deliver(till, [articles.put({ item_no: 'I2', name: 'Two' }), prices])
  t.equal((await rows(host, 'price_list_lines')).length, 40)
  t.same(await subscriber.unapplied(), [])
  t.equal(told.length, 1, 'said once')
})

onEachDatabase(t, server, 'what could not go while its parts were not published goes with them when they are again', TABLES, async (t, host) => {
  const till = await open(host)
  const [goods, prices] = [items().put({ item_no: 'I1', name: 'One' }), lists()]
  const list = (id: number) => ({ row: { id, name: `L${id}` }, parts: { price_list_lines: [{ list_id: id, item_no: 'I1', unit_price: '1' }] } })
  await deliver(till, [goods, prices.put(list(1), list(2), { row: { id: 3, name: 'L3' } })])
  prices.shape = []
  await deliver(till, [prices.remove([1])])
  t.match((await till.status()).unapplied, [{ recordId: [1], code: 'ERR_REFERENCE' }])
  prices.shape = [LINES]
  await deliver(till, [prices.put(list(3))])
  await till.start()
  await eventually('nothing waits', async () => (await till.status()).unapplied.length === 0)
  t.same(await rows(host, 'price_lists'), ['2|L2', '3|L3'])
  t.same(
    (await rows(host, 'price_list_lines')).map((row) => row.slice(0, 4)),
    ['2|I1', '3|I1'],
  )
})

onEachDatabase(t, server, 'a version that waits takes no part back from a document that was given it since', TABLES, async (t, host) => {
  await host.exec(`ALTER TABLE items ADD COLUMN plu INTEGER; CREATE UNIQUE INDEX items_plu ON items (plu);
    INSERT INTO items (item_no, name, plu) VALUES ('OWN', 'own', 7)`)
  const till = await open(host)
  const stream = items()
  const [one, two] = ['I1', 'I2'].map((item_no, n) => ({ item_no, name: item_no, plu: 7 + n }))
  stream.put({ row: one, parts: { item_barcodes: [{ barcode: 'B', item_no: 'I1' }] } })
  await deliver(till, [stream])
  t.same(await rows(host, 'item_barcodes'), [], 'its number is taken')
  stream.put({ row: two, parts: { item_barcodes: [{ barcode: 'B', item_no: 'I2' }] } }, { row: one })
  await host.exec(`DELETE FROM items WHERE item_no = 'OWN'`)
  const take = async (by: Register) => {
    const [standing] = (await subscriberOf(by).standings()).filter(({ table }) => table === 'items')
    if (standing) await subscriberOf(by).take([stream.next(standing, 1)])
  }
  await take(till)
  t.same(await rows(host, 'item_barcodes'), ['B|I2'])
  t.equal((await till.status()).subscriptions[0]?.waiting, 1, 'what central has made of it comes')
  await till.stop()
  const again = await open(host)
  await again.start()
  await take(again)
  t.same(await rows(host, 'item_barcodes'), ['B|I2'])
  t.same((await rows(host, 'items')).length, 2)
  t.same((await again.status()).unapplied, [])
})

onEachDatabase(t, server, 'documents that exchange unique values go with the last of them, whichever comes when', TABLES, async (t, host) => {
  await host.exec('ALTER TABLE items ADD COLUMN plu INTEGER; CREATE UNIQUE INDEX items_plu ON items (plu)')
  const till = await open(host)
  const stream = items()
  const put = (no: string, plu: number) => deliver(till, [stream.put({ item_no: no, name: 'n', plu })])
  for (const [n, no] of ['I1', 'I2', 'I3'].entries()) await put(no, n)
  await put('I1', 1)
  await put('I2', 2)
  t.equal((await subscriberOf(till).unapplied()).length, 2)
  await put('I3', 0)
  t.same(await subscriberOf(till).unapplied(), [])
  t.same(
    (await host.query('SELECT item_no, plu FROM items ORDER BY item_no')).map((row) => Object.values(row as object).join(' ')),
    ['I1 1', 'I2 2', 'I3 0'],
  )
})

onEachDatabase(t, server, 'documents of several tables that wait for each other go together', TABLES, async (t, host) => {
  await host.exec('ALTER TABLE items ADD COLUMN plu INTEGER; CREATE UNIQUE INDEX items_plu ON items (plu)')
  const till = await open(host)
  const [articles, prices] = [items(), lists()]
  const list = (item_no: string) => ({ row: { id: 1, name: 'L1' }, parts: { price_list_lines: [{ list_id: 1, item_no, unit_price: '1.00' }] } })
  articles.put({ item_no: 'I1', name: 'One', plu: 7 })
  await deliver(till, [articles, prices.put(list('I1'))])
  // The list holds the old item, that holds the number of the new one, and the list wants the new one.
  articles.remove(['I1']).put({ item_no: 'I2', name: 'Two', plu: 7 })
  await deliver(till, [articles])
  t.equal((await subscriberOf(till).unapplied()).length, 2)
  await deliver(till, [articles, prices.put(list('I2'))])
  t.same(await subscriberOf(till).unapplied(), [])
  t.same(
    (await rows(host, 'items')).map((row) => row.slice(0, 2)),
    ['I2'],
  )
  t.same(
    (await rows(host, 'price_list_lines')).map((row) => row.slice(0, 4)),
    ['1|I2'],
  )
})

onEachDatabase(
  t,
  server,
  'what the schema refuses waits, until it is cured by another version, its removal, or the schema',
  TABLES,
  async (t, host) => {
    await host.exec(`ALTER TABLE items ADD COLUMN department VARCHAR(5) CHECK (department <> 'X')`)
    const till = await open(host)
    const stream = items()
    for (let n = 1; n <= 20; n++) stream.put({ item_no: `I${n}`, name: n % 7 ? `Item ${n}` : null, department: n === 3 ? 'X' : 'A' })
    await deliver(till, [stream])
    t.equal((await rows(host, 'items')).length, 17)
    const waits = await subscriberOf(till).unapplied()
    t.same(waits.map(({ recordId, code }) => `${recordId} ${code}`).toSorted(), ['["I14"] ERR_MIRROR', '["I3"] ERR_MIRROR', '["I7"] ERR_MIRROR'])
    stream.put({ item_no: 'I3', name: 'Three', department: 'B' }).remove(['I7'])
    await deliver(till, [stream])
    t.same(
      (await subscriberOf(till).unapplied()).map(({ recordId }) => recordId),
      ['["I14"]'],
    )
    t.equal((await rows(host, 'items')).length, 18)
    if (host.dialect === 'postgres') await host.exec('ALTER TABLE items ALTER name DROP NOT NULL')
    else
      await host.exec(`CREATE TABLE former AS SELECT * FROM items; DROP TABLE item_barcodes; DROP TABLE price_list_lines; DROP TABLE items;
      CREATE TABLE items (item_no VARCHAR(20) PRIMARY KEY, name VARCHAR(40), unit_price NUMERIC(12, 2), shelf VARCHAR(10), department VARCHAR(5)); INSERT INTO items SELECT * FROM former;
      CREATE TABLE item_barcodes (barcode VARCHAR(20) PRIMARY KEY, item_no VARCHAR(20) NOT NULL REFERENCES items (item_no));
      CREATE TABLE price_list_lines (list_id INTEGER, item_no VARCHAR(20), unit_price NUMERIC, PRIMARY KEY (list_id, item_no))`)
    await till.start()
    await eventually('tried when started', async () => (await subscriberOf(till).unapplied()).length === 0)
    t.equal((await rows(host, 'items')).length, 19)
  },
)

onEachDatabase(t, server, 'a batch is taken where it goes on, and nowhere else', TABLES, async (t, host) => {
  const till = await open(host)
  const subscriber = subscriberOf(till)
  const stream = items().put({ item_no: 'I1', name: 'One' }, { item_no: 'I2', name: 'Two' }, { item_no: 'I3', name: 'Three' })
  const first = stream.next({ stream: undefined, entryNo: 0 }, 2)
  const second = stream.next({ stream: first.stream, entryNo: first.through })
  t.equal((await subscriber.take([second])).isAny, false)
  t.same(
    (await subscriber.standings()).find(({ table }) => table === 'items'),
    { table: 'items', stream: undefined, entryNo: 0, mark: '' },
  )
  t.equal((await subscriber.take([first])).isAny, true)
  t.same(
    (await subscriber.standings()).find(({ table }) => table === 'items'),
    { table: 'items', stream: first.stream, entryNo: 2, mark: first.mark },
  )
  t.equal((await subscriber.take([second, second])).isAny, true)
  t.equal((await subscriber.take([second])).isAny, false)
  t.equal((await subscriber.take([{ ...second, after: 3, through: 5, stream: 'another' }])).isAny, false)
  t.equal((await rows(host, 'items')).length, 3)
  t.equal((await subscriber.take([{ ...first, table: 'unheard of' }])).isAny, false)
  t.equal((await subscriber.take([])).isAny, false)
  for (const bad of [
    { ...first, documents: [{ recordId: '["I1"]', records: [{ table: 'items', recordId: '["I2"]', record: '{}' }] }] },
    { ...first, documents: [{ recordId: 'no id', records: [] }] },
    {
      ...first,
      documents: [
        {
          recordId: '["I1"]',
          records: [
            { table: 'items', recordId: '["I1"]', record: '{}' },
            { table: 'receipts', recordId: '[1]', record: '{}' },
          ],
        },
      ],
    },
    { ...first, through: -1 },
    { ...first, stream: '' },
    { ...first, keyColumns: [] },
    { ...first, shape: [{ table: 'items', columns: {}, parts: [] }] },
  ])
    await refused(t, () => subscriber.take([bad, first]), 'ERR_MESSAGE')
  await deliver(till, [stream])
  t.equal((await rows(host, 'items')).length, 3)
})

onEachDatabase(t, server, 'a snapshot takes away what it does not confirm, and nothing that the till has by itself', TABLES, async (t, host) => {
  const till = await open(host)
  await host.exec(`INSERT INTO items (item_no, name) VALUES ('OWN', 'made here'), ('I5', 'made here too')`)
  const [articles, prices] = [items(), lists()]
  for (let n = 1; n <= 40; n++) articles.put({ item_no: `I${n}`, name: `Item ${n}` })
  prices.put({
    row: { id: 1, name: 'all' },
    parts: {
      price_list_lines: [
        { list_id: 1, item_no: 'I40', unit_price: '1' },
        { list_id: 1, item_no: 'I1', unit_price: '1' },
      ],
    },
  })
  await deliver(till, [articles, prices], 9)
  t.equal((await rows(host, 'items')).length, 41)
  for (let n = 11; n <= 40; n++) articles.remove([`I${n}`])
  await host.exec(`INSERT INTO items (item_no, name) VALUES ('I50', 'mine')`)
  articles.renew().put({ item_no: 'I1', name: 'still' })
  const removed: number[] = []
  till.on('applied', (event) => event.table === 'items' && removed.push(event.removed))
  await deliver(till, [articles, prices], 3)
  t.same(
    await rows(host, 'items'),
    ['I1', 'I10', 'I2', 'I3', 'I4', 'I40', 'I5', 'I50', 'I6', 'I7', 'I8', 'I9', 'OWN'].map((no) =>
      no === 'I1'
        ? 'I1|still|null|null'
        : no === 'OWN'
          ? 'OWN|made here|null|null'
          : no === 'I50'
            ? 'I50|mine|null|null'
            : `${no}|Item ${no.slice(1)}|null|null`,
    ),
    'I40 is still referred to',
  )
  t.match(await subscriberOf(till).unapplied(), [{ table: 'items', recordId: '["I40"]', code: 'ERR_REFERENCE' }])
  prices.put({ row: { id: 1, name: 'all' }, parts: { price_list_lines: [{ list_id: 1, item_no: 'I1', unit_price: '1' }] } })
  await deliver(till, [articles, prices])
  t.equal((await rows(host, 'items')).length, 12, 'and goes once it is not')
  t.same(await subscriberOf(till).unapplied(), [])
  t.equal(
    removed.reduce((sum, n) => sum + n, 0),
    30,
  )
})

onEachDatabase(
  t,
  server,
  'a column, or a table, that a till does not have yet is left out, said, and sent again when it is there',
  TABLES,
  async (t, host) => {
    const till = await open(host)
    const stream = new AudienceStream(
      'items',
      ['item_no'],
      [
        { table: 'item_barcodes', columns: { item_no: 'item_no' }, parts: [] },
        { table: 'item_labels', columns: { item_no: 'item_no' }, parts: [] },
      ],
    )
    stream.put({ row: { item_no: 'I1', name: 'One', unit_size: 6 }, parts: { item_labels: [{ id: 1, item_no: 'I1', text: 'new' }] } })
    await deliver(till, [stream])
    t.same(await rows(host, 'items'), ['I1|One|null|null'])
    t.same((await till.status()).subscriptions[0]?.leftOut.toSorted(), ['item_labels', 'items.unit_size'])
    t.same((await findings(till)).toSorted(), ['LEFT_OUT item_labels', 'LEFT_OUT items'])
    await host.exec(
      `ALTER TABLE items ADD COLUMN unit_size INTEGER; CREATE TABLE item_labels (id INTEGER PRIMARY KEY, item_no VARCHAR(20), text VARCHAR(20))`,
    )
    await deliver(till, [stream])
    t.match(await rows(host, 'items'), [/^I1\|One\|null\|null\|6$/])
    t.same(await rows(host, 'item_labels'), ['1|I1|new'])
    t.same(await findings(till), [])
  },
)

onEachDatabase(t, server, 'a column that a mirror follows and the table does not have is said', TABLES, async (t, host) => {
  const till = await open(host, {
    items: mirror({ notify: ['unit_price', 'unit_prize'], validity: ['starts_on', 'ends_on'] }),
    price_lists: mirror({ notify: ['name'], validity: false }),
  })
  t.same(await findings(till), ['LEFT_OUT items', 'LEFT_OUT items', 'LEFT_OUT items'])
  await host.exec(
    'ALTER TABLE items ADD COLUMN unit_prize INTEGER; ALTER TABLE items ADD COLUMN starts_on INTEGER; ALTER TABLE items ADD COLUMN ends_on INTEGER',
  )
  t.same(await findings(till), [])
})

onEachDatabase(t, server, 'a table that is gone holds up itself alone, is said, and goes on when it is back', TABLES, async (t, host) => {
  const till = await open(host)
  const [articles, prices] = [items().put({ item_no: 'I1', name: 'One' }), lists().put({ id: 1, name: 'L1' })]
  await deliver(till, [articles, prices])
  await host.exec('ALTER TABLE price_list_lines RENAME TO other_lines; ALTER TABLE price_lists RENAME TO others')
  const problems: unknown[] = []
  till.on('schema', (event) => problems.push(event.problems.map(({ table, error }) => `${table} ${error.code}`)))
  await deliver(till, [articles.put({ item_no: 'I2', name: 'Two' }), prices.put({ id: 2, name: 'L2' })])
  t.equal((await rows(host, 'items')).length, 2)
  t.same(problems, [['price_lists ERR_UNKNOWN_TABLE']])
  t.match((await till.status()).problems, [{ table: 'price_lists', error: { code: 'ERR_UNKNOWN_TABLE' } }])
  t.same(await findings(till), ['DRIFT price_lists'])
  await host.exec('ALTER TABLE others RENAME TO price_lists; ALTER TABLE other_lines RENAME TO price_list_lines')
  await deliver(till, [articles, prices])
  t.equal((await rows(host, 'price_lists')).length, 2)
  t.same((await till.status()).problems, [])
})

onEachDatabase(t, server, 'a table that was gone and is made anew is filled again, be it that of a part', TABLES, async (t, host) => {
  const till = await open(host)
  const line = { list_id: 1, item_no: 'I1', unit_price: '1.00' }
  const [articles, prices] = [
    items().put({ item_no: 'I1', name: 'One' }),
    lists().put({ row: { id: 1, name: 'L1' }, parts: { price_list_lines: [line] } }),
  ]
  await deliver(till, [articles, prices])
  const before = [await rows(host, 'price_lists'), await rows(host, 'price_list_lines')]
  const makes = {
    price_list_lines:
      'CREATE TABLE price_list_lines (list_id INTEGER, item_no VARCHAR(20), unit_price NUMERIC(12, 2), PRIMARY KEY (list_id, item_no))',
    price_lists: 'CREATE TABLE price_lists (id INTEGER PRIMARY KEY, name VARCHAR(20))',
  }
  for (const gone of [['price_list_lines'], ['price_list_lines', 'price_lists']] as const) {
    for (const table of gone) await host.exec(`DROP TABLE ${table}`)
    await deliver(till, [articles, prices])
    for (const table of gone) await host.exec(makes[table])
    await deliver(till, [articles, prices])
    t.same([await rows(host, 'price_lists'), await rows(host, 'price_list_lines')], before)
  }
  t.same((await till.status()).problems, [])
})

onEachDatabase(t, server, 'a table that is made anew empty is filled again, be it while nobody looks, and only then', TABLES, async (t, host) => {
  const line = { list_id: 1, item_no: 'I1', unit_price: '1.00' }
  const [articles, prices] = [
    items().put({ item_no: 'I1', name: 'One' }),
    lists().put({ row: { id: 1, name: 'L1' }, parts: { price_list_lines: [line] } }),
  ]
  let till = await open(host)
  const again = async () => {
    await till.stop()
    till = await open(host)
    return deliver(till, [articles, prices])
  }
  await deliver(till, [articles, prices])
  const before = [await rows(host, 'price_lists'), await rows(host, 'price_list_lines')]
  const lines = 'CREATE TABLE price_list_lines (list_id INTEGER, item_no VARCHAR(20), unit_price NUMERIC(12, 2), PRIMARY KEY (list_id, item_no))'
  const emptied = [
    `DROP TABLE price_list_lines; ${lines}`,
    `DROP TABLE price_lists; CREATE TABLE price_lists (id INTEGER PRIMARY KEY, name VARCHAR(40))`,
  ]
  for (const ddl of [...emptied, emptied.join(';')]) {
    for (const isRunning of [true, false]) {
      if (!isRunning) await till.stop()
      await host.exec(ddl)
      t.equal(isRunning ? await deliver(till, [articles, prices]) : await again(), 1)
      t.same([await rows(host, 'price_lists'), await rows(host, 'price_list_lines')], before)
    }
  }
  prices.put({ row: { id: 2, name: 'L2' }, parts: { price_list_lines: [{ ...line, list_id: 2 }] } })
  await deliver(till, [articles, prices])
  await host.exec(emptied[1] as string)
  prices.remove([2])
  await deliver(till, [articles, prices])
  t.same([await rows(host, 'price_lists'), await rows(host, 'price_list_lines')], before, 'and parts of what was removed meanwhile go')
  await host.exec(`ALTER TABLE price_list_lines RENAME TO former; ${lines}; INSERT INTO price_list_lines SELECT * FROM former; DROP TABLE former`)
  t.equal(await again(), 0, 'what was copied over is there')
  await host.exec('DELETE FROM price_list_lines')
  t.equal(await again(), 0, 'what the host deletes is its affair')
})

onEachDatabase(t, server, 'what a trigger refused is tried again as soon as the trigger is gone', TABLES, async (t, host) => {
  const till = await open(host)
  const stream = items().put({ item_no: 'I1', name: 'One' }, { item_no: 'I2', name: 'Two' })
  await deliver(till, [stream])
  const makes =
    host.dialect === 'sqlite'
      ? (name: string, when: string) => `CREATE TRIGGER ${name} BEFORE ${when} ON items BEGIN SELECT raise(ABORT, 'no'); END`
      : (name: string, when: string) => `CREATE TRIGGER ${name} BEFORE ${when} ON items FOR EACH ROW EXECUTE FUNCTION refuse()`
  if (host.dialect === 'postgres') await host.exec(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$`)
  await host.exec(`${makes('keep', 'DELETE')}; ${makes('close', 'INSERT')}`)
  await deliver(till, [stream.remove(['I1']).put({ item_no: 'I3', name: 'Three' })])
  t.same((await rows(host, 'items')).length, 2)
  t.same(
    (await till.status()).unapplied.map(({ recordId }) => recordId),
    [['I1'], ['I3']],
  )
  await host.exec(host.dialect === 'sqlite' ? 'DROP TRIGGER keep; DROP TRIGGER close' : 'DROP TRIGGER keep ON items; DROP TRIGGER close ON items')
  await subscriberOf(till).take([])
  t.match(await rows(host, 'items'), [/^I2/, /^I3/])
  t.same((await till.status()).unapplied, [])
})

onEachDatabase(t, server, 'other rules for a table ask for all of it again', TABLES, async (t, host) => {
  const stream = items().put({ item_no: 'I1', name: 'One', unit_price: '2.00', shelf: 'A' })
  const till = await open(host, { items: mirror({ except: ['unit_price'] }) })
  await deliver(till, [stream])
  t.same(await rows(host, 'items'), ['I1|One|null|A'])
  await till.stop()
  const changed = await open(host, { items: mirror({ only: ['name', 'unit_price'], map: (row) => ({ ...row, name: `${row.name}!` }) }) })
  t.match(await subscriberOf(changed).standings(), [{ table: 'items', stream: undefined }])
  await host.exec(`UPDATE items SET shelf = 'B'`)
  await deliver(changed, [stream])
  t.match(await rows(host, 'items'), [/^I1\|One!\|2(\.00)?\|B$/])
})

onEachDatabase(
  t,
  server,
  'what would become one column of two that are sent waits, and is right once `rename` says where both go',
  TABLES,
  async (t, host) => {
    const stream = items().put({ item_no: 'I1', name: 'One', unit_price: '2.00', shelf: 'A' })
    for (const columns of [{ shelf: 'name' }, { name: 'item_no' }, { label: 'name' }]) {
      const till = await open(host, { items: mirror({ rename: { columns } }) })
      await deliver(till, [stream])
      t.match((await till.status()).unapplied, [{ recordId: ['I1'], code: 'ERR_MIRROR', message: /has one column/ }])
      t.same(await rows(host, 'items'), [])
      await till.stop()
    }
    const till = await open(host, { items: mirror({ rename: { columns: { shelf: 'name', name: 'shelf' } } }) })
    await deliver(till, [stream])
    t.same(
      (await rows(host, 'items')).map((row) => row.replace('2.00', '2')),
      ['I1|A|2|One'],
    )
    t.same((await till.status()).unapplied, [])
  },
)

onEachDatabase(t, server, 'rows whose existence the till owns are neither made nor removed', TABLES, async (t, host) => {
  await host.exec(`INSERT INTO items (item_no, name, shelf) VALUES ('I1', 'mine', 'A')`)
  const till = await open(host, { items: mirror({ only: ['shelf'], rows: 'update' }) })
  const stream = new AudienceStream('items', ['item_no']).put({ item_no: 'I1', shelf: 'B' }, { item_no: 'I2', shelf: 'C' })
  await deliver(till, [stream])
  t.same(await rows(host, 'items'), ['I1|mine|null|B'])
  await deliver(till, [stream.remove(['I1'])])
  await deliver(till, [stream.renew()])
  t.same(await rows(host, 'items'), ['I1|mine|null|B'])
})

t.test('what is no mirror, or fills columns as only central does, is refused', async (t) => {
  const database = sqlite(() => new Database(':memory:'))
  const make = (subscribe: unknown) => createRegister({ location: 'A', register: '1', database, publish: {}, subscribe } as never)
  for (const subscribe of [
    { items: stockMovements(() => []) },
    { items: [mirror()] },
    { items: mirror },
    { items: () => undefined },
    { items: null },
    { items: mirror({ origin: ['location', 'register'] }) },
    [],
    'items',
  ])
    t.throws(() => make(subscribe), { code: 'ERR_OPTION' })
  t.throws(() => make({}), { code: 'ERR_OPTION' })
  const articles = mirror({ rename: { table: 'articles' } })
  t.throws(() => make({ items: articles, goods: articles }), { code: 'ERR_RULE' }, 'two tables in one')
  t.doesNotThrow(() => make({ items: articles, articles: mirror({ rename: { table: 'items' } }) }), 'each in that of the other')
})

onEachDatabase(t, server, 'install looks whether what is to be written is there', TABLES, async (t, host) => {
  await refused(t, () => open(host, { contacts: mirror() }), 'ERR_UNKNOWN_TABLE')
  await refused(t, () => open(host, { items: mirror({ only: ['nothing'] }) }), 'ERR_UNKNOWN_COLUMN')
  await refused(t, () => open(host, { items: mirror({ rename: { table: 'articles' } }) }), 'ERR_UNKNOWN_TABLE')
  await host.exec('CREATE TABLE loose (a INTEGER)')
  await refused(t, () => open(host, { loose: mirror() }), 'ERR_NO_KEY')
  const till = await open(host)
  await till.uninstall()
  const names =
    host.dialect === 'sqlite'
      ? `SELECT name FROM sqlite_schema WHERE name LIKE 'sync%'`
      : `SELECT tablename FROM pg_tables WHERE tablename LIKE 'sync%'`
  t.same(await host.query(names), [])
})
