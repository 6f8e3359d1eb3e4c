import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import type { ArchivedEntry, Central, WhichEntries } from '../../src/index.ts'
import { startServer } from '../support/postgres.ts'
import { refused } from '../support/refused.ts'
import { openShop } from '../support/shop.ts'
import { Machine } from '../support/world.ts'

const server = await startServer(t)
const line = (item: string, quantity = '1') => ({ item, quantity, amount: '1' })
const POS1 = { location: 'BA01', register: 'POS1' }

async function allOf(central: Central, which: WhichEntries): Promise<ArchivedEntry[]> {
  const all: ArchivedEntry[] = []
  for (;;) {
    const last = all.at(-1)
    const page = await central.entries({ ...which, ...(last && { after: last }) })
    if (page.length === 0) return all
    all.push(...page)
  }
}

const names = (entries: readonly ArchivedEntry[]) => entries.map(({ register, entryNo }) => `${register} ${entryNo}`)

t.test('what was received is read in its order, page by page, whatever comes meanwhile', async (t) => {
  const shop = await openShop(t, server)
  const { central } = shop
  t.same(await central.entries(), [])
  const [one, two] = [await shop.addTill('POS1'), await shop.addTill('POS2')]
  for (let n = 1; n <= 12; n++) for (const till of [two, one]) till.cashier.sell(`R-${n}`, [line('A'), line('B', '2.5')])
  for (const till of [two, one]) await till.replica.synchronize()
  const all = await central.entries({ limit: 1_000 })
  t.same(names(all), [...Array.from({ length: 48 }, (_, n) => `POS1 ${n + 1}`), ...Array.from({ length: 48 }, (_, n) => `POS2 ${n + 1}`)])
  const { epoch } = await one.replica.status().then(({ head }) => head)
  t.match(all[1], {
    ...POS1,
    epoch,
    entryNo: 2,
    table: 'receipt_lines',
    operation: 'upsert',
    recordId: [1],
    record: { id: 1, receipt_id: 1, item_no: 'A', quantity: '1' },
    document: { table: 'receipts', recordId: [1] },
    sealedAt: /^2\d{3}-.*Z$/,
    receivedAt: /^2\d{3}-.*Z$/,
    state: 'latest',
  })
  for (const limit of [1, 5, 48, 95, 96]) t.same(names(await allOf(central, { limit })), names(all), `pages of ${limit}`)
  t.same(names(await central.entries({ ...POS1, after: 46 })), ['POS1 47', 'POS1 48'], 'after an entry number')
  await refused(t, () => central.entries({ limit: 1_000_000 }), 'ERR_OPTION', 'more than a page would look like all that there is')
  await refused(t, () => central.prune({ before: '2026-01-01' } as never), 'ERR_OPTION')
  const first = await central.entries({ ...POS1, limit: 10 })
  one.cashier.sell('R-more', [line('A')])
  one.db.exec("UPDATE receipts SET status = 'voided' WHERE id = 1; DELETE FROM receipts WHERE id = 2")
  await one.replica.synchronize()
  const rest = await central.entries({ ...POS1, after: first.at(-1) as ArchivedEntry, limit: 1_000 })
  t.same(
    names([...first, ...rest]),
    Array.from({ length: 48 + 3 + 4 + 1 }, (_, n) => `POS1 ${n + 1}`),
    'pages do not shift',
  )
})

t.test('entries are found by table, record, time and state', async (t) => {
  const shop = await openShop(t, server)
  const { central } = shop
  const till = await shop.addTill()
  till.cashier.sell('R-1', [line('A'), line('B')])
  till.cashier.sell('R-2', [line('C')])
  await till.replica.synchronize()
  const before = new Date(((await shop.pool.query('SELECT clock_timestamp() AS now')).rows[0] as { now: Date }).now)
  await pause(20)
  till.db.exec("UPDATE receipts SET customer_no = 'C' WHERE id = 1; DELETE FROM receipts WHERE id = 2")
  await till.replica.synchronize()
  const of = async (which: WhichEntries) => (await central.entries({ ...POS1, ...which })).map(({ entryNo }) => entryNo)
  t.same(await of({ table: 'receipt_lines', limit: 2 }), [2, 3])
  t.same(await of({ table: 'receipts', recordId: [1] }), [1, 8])
  t.same(await of({ table: 'receipt_lines', recordId: [3] }), [6])
  t.same(await of({ table: 'receipts', recordId: [2] }), [5, 12])
  t.same(await of({ table: 'receipts', recordId: ['1'] }), [], 'a text is no number')
  t.same(await of({ table: 'nothing' }), [])
  t.same(await of({ until: before }), [1, 2, 3, 4, 5, 6, 7])
  t.same(await of({ since: before.toISOString() }), [8, 9, 10, 11, 12])
  t.same(await of({ since: '2000-01-01', until: '2001-01-01T00:00:00+01:00' }), [])
  t.same(await of({ state: 'latest' }), [8, 9, 10, 11, 12])
  t.same(await of({ state: 'replaced' }), [1, 2, 3, 4, 5, 6, 7])
  t.same(await of({ state: 'latest', table: 'receipts', after: 8 }), [12])
  const [removal] = await central.entries({ ...POS1, table: 'receipts', recordId: [2], state: 'latest' })
  t.match(removal, { operation: 'remove', record: null, document: { table: 'receipts', recordId: [2] } })
})

t.test('histories that parted stand one after another; what a restore has orphaned is named so', async (t) => {
  const shop = await openShop(t, server)
  const { central } = shop
  const machine = new Machine(t, await shop.addTill())
  machine.cashier.sell('R-1', [line('A')])
  await machine.replica.synchronize()
  const backup = machine.backup()
  machine.cashier.sell('R-lost', [line('LOST')])
  machine.db.exec("UPDATE receipts SET customer_no = 'C' WHERE id = 1")
  await machine.replica.synchronize()
  await machine.restore(backup)
  machine.cashier.sell('R-new', [line('NEW')])
  await machine.replica.synchronize()
  await machine.replica.synchronize()
  const all = await allOf(central, { ...POS1, limit: 2 })
  const epochs = [...new Set(all.map(({ epoch }) => epoch))]
  t.equal(epochs.length, 2)
  const told = (entries: readonly ArchivedEntry[]) => entries.map(({ epoch, entryNo, state }) => `${epochs.indexOf(epoch) + 1}: ${entryNo} ${state}`)
  t.same(told(all), told(await central.entries({ ...POS1, limit: 1_000 })))
  const receipts = all.filter(({ table }) => table === 'receipts')
  t.match(
    receipts.map(({ record, state }) => `${record?.receipt_no} ${state}`),
    ['R-1 replaced', 'R-lost orphaned', 'R-1 replaced', 'R-new latest', 'R-1 latest'],
  )
  t.equal((await central.entries({ ...POS1, state: 'orphaned' })).length, 3)
  const present = await central.entries({ ...POS1, after: 4, limit: 1 })
  t.match(present, [{ epoch: epochs[1], entryNo: 5 }], 'a number is one of the present history')
  const [orphan] = await central.orphans.list()
  await central.orphans.withdraw(orphan?.id ?? 0, { reason: 'entered again' })
  t.equal((await central.entries({ ...POS1, state: 'withdrawn' })).length, 3)
})

t.test('values come as handlers get them, and pages of large records are short', async (t) => {
  const schema = `CREATE TABLE documents (id TEXT, part REAL, photo BLOB, big INTEGER, note TEXT, PRIMARY KEY (id, part))`
  const shop = await openShop(t, server, { schema: 'SELECT 1', subscribe: {} })
  const till = await shop.addTill('POS1', { schema, publish: { documents: {} }, transfer: { recordsPerRun: 4 } })
  const insert = till.db.prepare('INSERT INTO documents VALUES (?, ?, ?, ?, ?)')
  insert.run('Ä"\u0000', 2, Buffer.from([0, 255]), 9_223_372_036_854_775_807n, null)
  insert.run('x', 1.5, null, 1, 'y')
  for (let n = 0; n < 6; n++) insert.run(`large-${n}`, n, null, n, 'z'.repeat(6_000_000))
  await till.replica.synchronize()
  const [entry] = await shop.central.entries({ ...POS1, table: 'documents', recordId: ['Ä"\u0000', 2] })
  t.same(entry?.record, { id: 'Ä"\u0000', part: 2, photo: Buffer.from([0, 255]), big: 9_223_372_036_854_775_807n, note: null })
  t.equal((await shop.central.entries({ ...POS1, table: 'documents', recordId: ['x', 1.5] })).length, 1)
  const page = await shop.central.entries(POS1)
  t.ok(page.length < 8 && page.length >= 3, `${page.length} of 8`)
  t.equal((await allOf(shop.central, POS1)).length, 8)
})

t.test('nonsense is refused', async (t) => {
  const shop = await openShop(t, server)
  const { central } = shop
  const till = await shop.addTill()
  till.cashier.sell('R-1', [line('A')])
  await till.replica.synchronize()
  const [entry] = (await central.entries({ limit: 1 })) as [ArchivedEntry]
  const bad = [
    null,
    7,
    { location: '' },
    { location: 7 },
    { table: 'a\0b' },
    { limit: 0 },
    { limit: 1.5 },
    { limit: '10' },
    { after: -1 },
    { after: 3 },
    { after: 'x' },
    { after: {} },
    { ...POS1, after: { ...entry, epoch: 'another' } },
    { ...POS1, after: { ...entry, entryNo: -1 } },
    { since: 'yesterday' },
    { since: '2026-11-21T10:00:00' },
    { since: new Date('x') },
    { since: '2026-13-41' },
    { since: '2026-11-22', until: '2026-11-21' },
    { state: 'gone' },
    { state: 'toString' },
    { recordId: [1] },
    { table: 'receipts', recordId: 1 },
    { table: 'receipts', recordId: [] },
    { table: 'receipts', recordId: [{}] },
    { table: 'receipts', recordId: [undefined] },
    { tables: 'receipts' },
  ]
  // biome-ignore lint/suspicious/noExplicitAny: it is wrong on purpose
  for (const which of bad) await refused(t, () => central.entries(which as any), 'ERR_OPTION', JSON.stringify(which))
  await refused(t, () => central.entries({ location: 'BA01', register: 'POS9' }), 'ERR_REGISTER')
  t.same(await central.entries({ location: 'BA09' }), [])
  await central.stop()
  await t.rejects(central.entries(), { code: 'ERR_STOPPED' })
})

t.test('an entry that somebody has changed into none is named, and what stands behind it can be read', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  for (const n of [1, 2]) till.cashier.sell(`R-${n}`, [line('A')])
  await till.replica.synchronize()
  const [, second] = await shop.central.entries(POS1)
  await shop.pool.query("UPDATE sync_archive SET record = 'nonsense' WHERE entry_no = 2")
  const error = await refused(t, () => shop.central.entries(POS1), 'ERR_VALUE')
  t.same(error?.context, { ...POS1, epoch: second?.epoch, entryNo: 2 })
  t.equal((await shop.central.entries({ ...POS1, after: 2 })).length, 4)
})
