import t from 'tap'
import { mirror, type Register } from '../../src/index.ts'
import { AudienceStream, deliver, subscriberOf } from '../support/audience-stream.ts'
import { type Host, onEachDatabase } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'

// Head office gives a table that it publishes another primary key: a till that mirrors it ends with what is published then, whatever key its own table has.

const server = await startServer(t)

type Item = Readonly<Record<string, unknown>>
const item = (n: number, name = `Item ${n}`): Item => ({ id: n, item_no: `I${n}`, variant: 10 - n, name })
const COLUMNS = 'id integer NOT NULL UNIQUE, item_no text NOT NULL UNIQUE, variant integer NOT NULL, name text'
const tables = (key: string) => `
  CREATE TABLE items (${COLUMNS}, PRIMARY KEY (${key}));
  CREATE TABLE item_barcodes (barcode text PRIMARY KEY, item_no text NOT NULL); CREATE INDEX by_item ON item_barcodes (item_no)`
const anew = (key: string) => `
  CREATE TABLE other (${COLUMNS}, PRIMARY KEY (${key})); INSERT INTO other SELECT * FROM items; DROP TABLE items; ALTER TABLE other RENAME TO items`
const BARCODES = [{ table: 'item_barcodes', columns: { item_no: 'item_no' }, parts: [] }]

const KEYS: Readonly<Record<string, readonly [before: readonly string[], after: readonly string[]]>> = {
  wider: [['item_no'], ['item_no', 'variant']],
  narrower: [['item_no', 'variant'], ['item_no']],
  'of another text': [['id'], ['item_no']],
  'of other numbers': [['id'], ['variant']],
}

const stream = (key: readonly string[], items: readonly Item[]) =>
  new AudienceStream('items', key, BARCODES, { item_barcodes: ['barcode'] }).put(
    ...items.map((row) => ({ row, parts: { item_barcodes: [{ barcode: `B${row.id}`, item_no: row.item_no }] } })),
  )

const there = async (host: Host) => {
  const items = (await host.query('SELECT id, name FROM items ORDER BY id')) as { id: number; name: string }[]
  const barcodes = (await host.query('SELECT barcode FROM item_barcodes ORDER BY barcode')) as { barcode: string }[]
  return [items.map(({ id, name }) => `${id} ${name}`), barcodes.map(({ barcode }) => barcode)]
}

for (const [how, [before, after]] of Object.entries(KEYS)) {
  for (const [whose, [from, to]] of Object.entries({
    'keeps its own': [before, before],
    'gets it before': [before, after],
    'has it already': [after, after],
  } as const)) {
    onEachDatabase(t, server, `a key that becomes ${how}, at a till that ${whose}`, tables(from.join()), async (t, host) => {
      const till = host.create({}, { subscribe: { items: mirror() } })
      await till.install()
      const former = stream(
        before,
        [1, 2, 3, 4, 5, 6].map((n) => item(n)),
      )
      await deliver(till, [former], 4)
      await host.exec("INSERT INTO items VALUES (99, 'I99', 99, 'Of the till')")
      if (to !== from) await host.exec(anew(to.join()))
      const present = stream(after, [item(1), item(2, 'new'), item(4), item(6), item(7)])
      await deliver(till, [present], 2)
      const all = [
        ['1 Item 1', '2 new', '4 Item 4', '6 Item 6', '7 Item 7', '99 Of the till'],
        ['B1', 'B2', 'B4', 'B6', 'B7'],
      ]
      t.same(await there(host), all)
      t.same(await subscriberOf(till).unapplied(), [])
      t.match((await till.status()).subscriptions, [{ isComplete: true, waiting: 0 }])
      const received = (await host.query('SELECT count(*) AS count FROM sync_received')) as { count: unknown }[]
      t.equal(Number(received[0]?.count), 5)
    })
  }
}

for (const type of ['integer', 'text']) {
  const ITEMS = `CREATE TABLE items (id ${type} NOT NULL PRIMARY KEY, item_no text NOT NULL UNIQUE, variant integer NOT NULL, name text);
    CREATE TABLE item_barcodes (barcode text PRIMARY KEY, item_no text NOT NULL)`
  onEachDatabase(t, server, `a key whose type is changed, at a till where it is ${type}`, ITEMS, async (t, host) => {
    const till = host.create({}, { subscribe: { items: mirror() } })
    await till.install()
    const numbers = [1, 2, 3].map((n) => item(n))
    const texts = [item(1), item(3, 'new')].map((row) => ({ ...row, id: String(row.id) }))
    await deliver(till, [stream(['id'], numbers)])
    await deliver(till, [stream(['id'], texts)], 1)
    t.same(await there(host), [
      ['1 Item 1', '3 new'],
      ['B1', 'B3'],
    ])
    await deliver(till, [stream(['id'], numbers)])
    t.same(await there(host), [
      ['1 Item 1', '2 Item 2', '3 Item 3'],
      ['B1', 'B2', 'B3'],
    ])
    t.same(await subscriberOf(till).unapplied(), [])
  })

  onEachDatabase(t, server, `a key whose type is changed while it is followed, at a till where it is ${type}`, ITEMS, async (t, host) => {
    const till = host.create({}, { subscribe: { items: mirror() } })
    await till.install()
    const barcode = (n: number) => ({ item_barcodes: [{ barcode: `B${n}`, item_no: `I${n}` }] })
    const numbers = [1, 2, 3, 4]
    const followed = stream(
      ['id'],
      numbers.map((n) => ({ ...item(n), id: String(n) })),
    )
    await deliver(till, [followed])
    followed.put(...numbers.slice(0, 3).map((n) => ({ row: item(n, 'new'), parts: barcode(n) }))).remove(...numbers.map((n) => [String(n)]))
    // With the third document the former name of the first one goes.
    await deliver(till, [followed], 2)
    t.same(await there(host), [
      ['1 new', '2 new', '3 new'],
      ['B1', 'B2', 'B3'],
    ])
  })
}

const REFERRED = `CREATE TABLE items (item_no text NOT NULL PRIMARY KEY, variant integer NOT NULL, id integer, name text);
  CREATE TABLE item_barcodes (barcode text PRIMARY KEY, item_no text NOT NULL);
  CREATE TABLE basket (item_no text NOT NULL REFERENCES items (item_no))`

/** What waits is due. */
async function triedAgain(host: Host, till: Register): Promise<void> {
  await host.exec("UPDATE sync_waiting SET due_at = '2026-01-01T00:00:00.000Z'")
  await subscriberOf(till).take([])
}

onEachDatabase(
  t,
  server,
  'what goes with the change of the key and is still referred to waits, and comes back by its new key',
  REFERRED,
  async (t, host) => {
    const till = host.create({}, { subscribe: { items: mirror() } })
    await till.install()
    await deliver(till, [stream(['item_no'], [item(1), item(2), item(3)])])
    await host.exec("INSERT INTO basket VALUES ('I2'), ('I3')")
    const present = stream(['item_no', 'variant'], [item(1)])
    await deliver(till, [present])
    const waiting = async () => (await subscriberOf(till).unapplied()).map(({ recordId, code }) => `${recordId} ${code}`)
    t.same(await waiting(), ['["I2",8] ERR_REFERENCE', '["I3",7] ERR_REFERENCE'])
    await host.exec("DELETE FROM basket WHERE item_no = 'I3'")
    await deliver(till, [present.put({ row: item(2, 'again') })])
    await triedAgain(host, till)
    t.same((await there(host))[0], ['1 Item 1', '2 again'])
    t.same(await waiting(), [])
    await host.exec('DELETE FROM basket')
    await triedAgain(host, till)
    await deliver(till, [present.put({ row: item(4) })])
    t.same((await there(host))[0], ['1 Item 1', '2 again', '4 Item 4'])
  },
)

onEachDatabase(t, server, 'keys that change within snapshots, and the host that starts anew in between', tables('id'), async (t, host) => {
  const open = async () => {
    const till = host.create({}, { subscribe: { items: mirror() } })
    await till.install()
    return till
  }
  let till = await open()
  const all = [1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => item(n))
  const keys = [['id'], ['item_no'], ['variant'], ['id', 'item_no'], ['id']]
  for (const [n, key] of keys.entries()) {
    const now = stream(key, all.slice(n))
    if (n % 2 === 0) await deliver(till, [now], 2)
    else await subscriberOf(till).take([now.next({ stream: undefined, entryNo: 0 }, 3)])
    await till.stop()
    till = await open()
  }
  t.same(await there(host), [all.slice(4).map(({ id, name }) => `${id} ${name}`), all.slice(4).map(({ id }) => `B${id}`)])
  t.same(await subscriberOf(till).unapplied(), [])
  t.equal((await host.query('SELECT table_name FROM sync_received')).length, 5)
})

const RENAMED = `CREATE TABLE items (item_no text NOT NULL PRIMARY KEY, variant integer NOT NULL, id integer, name text);
  CREATE TABLE item_barcodes (barcode text PRIMARY KEY, item_no text NOT NULL)`

onEachDatabase(t, server, 'a key that gets a column and another name, at a till that has neither', RENAMED, async (t, host) => {
  let till = host.create({}, { subscribe: { items: mirror() } })
  await till.install()
  const rows = [1, 2, 3].map((n) => ({ id: n, item_no: `I${n}`, variant: n, name: 'a' }))
  await deliver(till, [new AudienceStream('items', ['item_no']).put(...rows)])
  t.equal((await there(host))[0]?.length, 3)
  await till.stop()
  till = host.create({}, { subscribe: { items: mirror({ rename: { columns: { article: 'item_no' } } }) } })
  await till.install()
  const articles = rows.slice(1).map(({ item_no, ...row }) => ({ ...row, article: item_no }))
  await deliver(till, [new AudienceStream('items', ['article', 'variant']).put(...articles)], 1)
  t.same((await there(host))[0], ['2 a', '3 a'])
  t.same(await subscriberOf(till).unapplied(), [])
})
