import { createHash } from 'node:crypto'
import type { Database } from 'better-sqlite3'
import t from 'tap'
import { type AnyTables, mirror, type PublishRules, stockMovements } from '../../src/index.ts'
import { eventually } from '../support/eventually.ts'
import { recording } from '../support/links.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import type { Line } from '../support/sales.ts'
import { movementsAt, openShop, PUBLISH } from '../support/shop.ts'

const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)

const line = (item: string, quantity: string, amount = '10.00'): Line => ({ item, quantity, amount })

t.test('a sale becomes a stock movement soon after its commit, without being asked', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  await till.replica.start()
  till.cashier.sell('R-1', [line('A', '3'), line('B', '0.250', '1.99')], { customer: 'C7' })
  await eventually('the movement is posted', async () => (await shop.stock('A')) === -3)
  await shop.balances(t, till)
  const { rows } = await shop.pool.query(
    'SELECT item_no, location, business_date::text, document_no, customer_no, quantity, amount FROM stock_movements ORDER BY 1',
  )
  t.same(rows, [
    {
      item_no: 'A',
      location: 'BA01',
      business_date: '2026-11-21',
      document_no: 'R-1',
      customer_no: 'C7',
      quantity: '-3.000000',
      amount: '10.000000',
    },
    { item_no: 'B', location: 'BA01', business_date: '2026-11-21', document_no: 'R-1', customer_no: 'C7', quantity: '-0.250000', amount: '1.990000' },
  ])
  const status = await till.replica.status()
  t.match(status, { unsealed: 0, lastError: undefined, parked: [] })
})

t.test('the same article twice in a receipt is one movement with the sum, and both lines stand', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  till.cashier.sell('R-1', [line('A', '1'), line('A', '2')])
  await till.replica.synchronize()
  t.equal(await shop.stock('A'), -3)
  t.equal((await shop.pool.query('SELECT FROM receipt_lines')).rowCount, 2)
  t.equal((await shop.pool.query('SELECT FROM stock_movements')).rowCount, 1)
  await shop.balances(t, till)
})

t.test('a correction posts the difference only', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const id = till.cashier.sell('R-1', [line('A', '3')])
  await till.replica.synchronize()
  till.db.prepare("UPDATE receipt_lines SET quantity = '5' WHERE receipt_id = ?").run(id)
  await till.replica.synchronize()
  till.db.prepare("UPDATE receipt_lines SET item_no = 'B' WHERE receipt_id = ?").run(id)
  await till.replica.synchronize()
  const { rows } = await shop.pool.query('SELECT item_no, quantity::float, revision::int FROM stock_movements ORDER BY revision, item_no')
  t.same(rows, [
    { item_no: 'A', quantity: -3, revision: 1 },
    { item_no: 'A', quantity: -2, revision: 2 },
    { item_no: 'A', quantity: 5, revision: 3 },
    { item_no: 'B', quantity: -5, revision: 3 },
  ])
  await shop.balances(t, till)
})

t.test('an open receipt never leaves the till; posted later, it goes out with all its lines', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const id = till.cashier.sell('R-1', [line('A', '1')], { status: 'open' })
  t.same(await till.replica.synchronize(), { sent: 0, quarantined: 0, received: 0, applied: 0 })
  till.cashier.addLine(id, line('B', '2'))
  t.same(await till.replica.seal(), { documents: 0, entries: 0 })
  till.db.prepare("UPDATE receipts SET status = 'posted' WHERE id = ?").run(id)
  t.same(await till.replica.seal(), { documents: 1, entries: 4 })
  await till.replica.synchronize()
  await shop.balances(t, till)
})

t.test('a void as a status takes the movements back and keeps the receipt', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const id = till.cashier.sell('R-1', [line('A', '3'), line('B', '1')])
  await till.replica.synchronize()
  till.db.prepare("UPDATE receipts SET status = 'voided' WHERE id = ?").run(id)
  await till.replica.synchronize()
  t.equal(await shop.stock('A'), 0)
  t.equal(await shop.stock('B'), 0)
  await shop.balances(t, till)
})

t.test('a receipt that leaves `where` is removed from the stream; head office keeps its copy and its postings', async (t) => {
  const shop = await openShop(t, server)
  const publish: PublishRules<AnyTables> = { ...PUBLISH, receipts: { where: (eb) => eb('status', '=', 'posted'), except: ['cashier_pin'] } }
  const till = await shop.addTill('POS1', { publish })
  const id = till.cashier.sell('R-1', [line('A', '3')])
  await till.replica.synchronize()
  till.db.prepare("UPDATE receipts SET status = 'voided' WHERE id = ?").run(id)
  t.same(await till.replica.seal(), { documents: 1, entries: 1 })
  t.match((await till.replica.entries({ limit: 100 })).at(-1), { table: 'receipts', operation: 'remove', recordId: [id], record: null })
  await till.replica.synchronize()
  t.same((await shop.pool.query('SELECT status FROM receipts')).rows, [{ status: 'posted' }])
  t.equal(await shop.stock('A'), -3)
  t.same((await shop.pool.query("SELECT removed FROM sync_documents WHERE table_name = 'receipts'")).rows, [{ removed: true }])
})

t.test('a return brings goods back', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  till.cashier.sell('R-1', [line('A', '3', '30.00')])
  till.cashier.sell('C-1', [line('A', '-2', '-20.00')])
  await till.replica.synchronize()
  t.equal(await shop.stock('A'), -1)
  t.same((await shop.pool.query('SELECT quantity::float FROM stock_levels')).rows, [{ quantity: -1 }])
  await shop.balances(t, till)
})

t.test('a line moved to another receipt is gone there and stands here', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const [from, to] = [till.cashier.sell('R-1', [line('A', '3'), line('B', '1')]), till.cashier.sell('R-2', [line('C', '1')])]
  await till.replica.synchronize()
  till.db.prepare("UPDATE receipt_lines SET receipt_id = ? WHERE item_no = 'A'").run(to)
  t.same(await till.replica.seal(), { documents: 2, entries: 3 + 4 })
  await till.replica.synchronize()
  await shop.balances(t, till)
  t.equal(await shop.stock('A'), -3)
  till.db.prepare("INSERT OR REPLACE INTO receipt_lines SELECT id, ?, item_no, quantity, net_amount FROM receipt_lines WHERE item_no = 'A'").run(from)
  await till.replica.synchronize()
  await shop.balances(t, till, 'moved back by REPLACE')
})

t.test('a line moved back and forth while the line to head office is down arrives where it is', async (t) => {
  for (const recordsPerRun of [1, 4, 6, 7, 9, 500]) {
    const shop = await openShop(t, server)
    const till = await shop.addTill('POS1', { transfer: { recordsPerRun } })
    const [from, to] = [till.cashier.sell('R-1', [line('A', '3'), line('B', '1')]), till.cashier.sell('R-2', [line('C', '1')])]
    await till.replica.seal()
    for (const receipt of [to, from, to]) {
      till.db.transaction(() => {
        till.db.prepare('UPDATE receipts SET net_amount = net_amount + 10 WHERE id = ?').run(receipt) // who gets it is touched first
        till.db.prepare("UPDATE receipt_lines SET receipt_id = ? WHERE item_no = 'A'").run(receipt)
      })()
      await till.replica.seal()
    }
    await t.resolves(till.replica.synchronize(), `batches of ${recordsPerRun}`)
    await shop.balances(t, till, `batches of ${recordsPerRun}`)
  }
})

t.test('a line number that is free again and given to another receipt moves there', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const kept = till.cashier.sell('R-1', [line('B', '1')])
  const purged = till.cashier.sell('R-2', [line('A', '3')])
  await till.replica.seal()
  till.db.transaction(() => {
    till.db.prepare('UPDATE receipts SET customer_no = ? WHERE id = ?').run('C1', kept)
    till.db.prepare('DELETE FROM receipts WHERE id = ?').run(purged)
    till.cashier.addLine(kept, line('D', '4'))
  })()
  await till.replica.seal()
  await t.resolves(till.replica.synchronize(), 'both versions of the line are in one batch')
  t.same((await shop.pool.query('SELECT receipt_id::int, item_no FROM receipt_lines ORDER BY id')).rows, [
    { receipt_id: kept, item_no: 'B' },
    { receipt_id: kept, item_no: 'D' },
  ])
  t.equal(await shop.stock('A'), -3, 'what was sold before the purge stays sold')
})

t.test('a deleted line leaves the copy and the stock; a deleted receipt leaves neither', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const id = till.cashier.sell('R-1', [line('A', '3'), line('B', '1')])
  await till.replica.synchronize()
  till.db.exec("DELETE FROM receipt_lines WHERE item_no = 'A'")
  await till.replica.synchronize()
  t.equal(await shop.stock('A'), 0)
  await shop.balances(t, till)
  till.db.prepare('DELETE FROM receipts WHERE id = ?').run(id)
  t.same(await till.replica.seal(), { documents: 1, entries: 1 }, 'the cascade is one removal')
  await till.replica.synchronize()
  t.equal(await shop.stock('B'), -1)
  t.same((await shop.pool.query('SELECT receipt_no FROM receipts')).rows, [{ receipt_no: 'R-1' }])
  t.same((await shop.pool.query('SELECT item_no FROM receipt_lines')).rows, [{ item_no: 'B' }])
})

t.test('a sale deleted before it was ever sealed was never there', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  till.db.prepare('DELETE FROM receipts WHERE id = ?').run(till.cashier.sell('R-1', [line('A', '3')]))
  t.same(await till.replica.synchronize(), { sent: 0, quarantined: 0, received: 0, applied: 0 })
})

t.test('a key used again is another document: the postings of both stand', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const id = till.cashier.sell('R-1', [line('A', '3'), line('B', '1')])
  await till.replica.seal()
  till.db.prepare('DELETE FROM receipts WHERE id = ?').run(id)
  await till.replica.seal()
  t.equal(till.cashier.sell('R-2', [line('A', '5')]), id)
  await till.replica.synchronize()
  t.equal(await shop.stock('A'), -8)
  t.equal(await shop.stock('B'), -1)
  t.same((await shop.pool.query('SELECT receipt_no FROM receipts')).rows, [{ receipt_no: 'R-2' }])
  t.same((await shop.pool.query('SELECT item_no FROM receipt_lines')).rows, [{ item_no: 'A' }], 'no line of the former receipt')
  t.same((await shop.pool.query('SELECT DISTINCT incarnation::int FROM stock_movements ORDER BY 1')).rows, [{ incarnation: 1 }, { incarnation: 2 }])
  till.db.prepare("UPDATE receipt_lines SET quantity = '6' WHERE receipt_id = ?").run(id)
  await till.replica.synchronize()
  t.equal(await shop.stock('A'), -9, 'a correction belongs to the later one')
})

t.test('identity tells a key used again from a change, though no sealing came between', async (t) => {
  const shop = await openShop(t, server)
  const publish = { ...PUBLISH, receipts: { except: ['cashier_pin'], identity: ['receipt_no', 'posted_at'] } }
  const till = await shop.addTill('POS1', { publish })
  const id = till.cashier.sell('R-1', [line('A', '3')])
  await till.replica.synchronize()
  till.db.prepare('DELETE FROM receipts WHERE id = ?').run(id)
  t.equal(till.cashier.sell('R-2', [line('A', '5')]), id)
  t.same(await till.replica.seal(), { documents: 2, entries: 1 + 3 })
  await till.replica.synchronize()
  t.equal(await shop.stock('A'), -8)
  till.db.prepare("UPDATE receipts SET customer_no = 'C1' WHERE id = ?").run(id)
  t.same(await till.replica.seal(), { documents: 1, entries: 3 }, 'another column is a change')
})

t.test('changes between two sealings cost one version, and there and back none', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const id = till.cashier.sell('R-1', [line('A', '3')])
  await till.replica.synchronize()
  const set = till.db.prepare('UPDATE receipts SET customer_no = ? WHERE id = ?')
  for (const customer of ['C1', 'C2', null]) set.run(customer, id)
  t.same(await till.replica.seal(), { documents: 0, entries: 0 }, 'there and back')
  t.equal((await till.replica.status()).unsealed, 0)
  for (const customer of ['C1', 'C2', 'C3']) set.run(customer, id)
  t.same(await till.replica.seal(), { documents: 1, entries: 3 })
  till.db.exec("UPDATE receipts SET cashier_pin = '9999'")
  t.same(await till.replica.seal(), { documents: 0, entries: 0 }, 'a column left out is no change')
  const line2 = till.cashier.addLine(id, line('B', '1'))
  till.db.prepare('DELETE FROM receipt_lines WHERE id = ?').run(line2)
  t.same(await till.replica.seal(), { documents: 0, entries: 0 }, 'a line there and gone')
})

t.test('a sale rolled back leaves no trace', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  t.throws(() =>
    till.db.transaction(() => {
      till.cashier.sell('R-1', [line('A', '3')])
      throw new Error('the customer went away')
    })(),
  )
  t.equal((await till.replica.status()).unsealed, 0)
})

t.test('columns left out are nowhere: not in an entry, not on the wire, not at central', async (t) => {
  const shop = await openShop(t, server)
  const sent: Uint8Array[] = []
  const till = await shop.addTill('POS1', {
    publish: { receipts: { only: ['receipt_no', 'business_date', 'posted_at', 'status', 'net_amount'] }, receipt_lines: PUBLISH.receipt_lines },
    link: (inner) => {
      const link = recording(inner)
      return { exchange: (message, options) => link.exchange(message, options).finally(() => sent.push(...link.sent.splice(0))) }
    },
  })
  till.cashier.sell('R-1', [line('A', '3')], { customer: 'SECRET-CUSTOMER' })
  await till.replica.synchronize()
  const [entry] = await till.replica.entries({ table: 'receipts' })
  t.same(Object.keys(entry?.record ?? {}).sort(), ['business_date', 'id', 'net_amount', 'posted_at', 'receipt_no', 'status'])
  t.same((await shop.pool.query('SELECT customer_no FROM receipts')).rows, [{ customer_no: null }])
  t.notOk(sent.some((message) => Buffer.from(message).includes('SECRET')))
  t.notOk((await shop.pool.query('SELECT record FROM sync_archive')).rows.some(({ record }) => record.includes('SECRET') || record.includes('1234')))
})

t.test('a column that the till does not send is left alone at head office', async (t) => {
  const shop = await openShop(t, server)
  await shop.pool.query("ALTER TABLE receipts ADD COLUMN checked_by text DEFAULT 'nobody'")
  const till = await shop.addTill()
  const id = till.cashier.sell('R-1', [line('A', '3')])
  await till.replica.synchronize()
  await shop.pool.query("UPDATE receipts SET checked_by = 'Erika'")
  till.db.prepare("UPDATE receipts SET customer_no = 'C1' WHERE id = ?").run(id)
  await till.replica.synchronize()
  t.same((await shop.pool.query('SELECT customer_no, checked_by FROM receipts')).rows, [{ customer_no: 'C1', checked_by: 'Erika' }])
})

t.test('an export seals again what is unchanged, with what is related, and posts nothing', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  till.db.exec("INSERT INTO pos_processes VALUES (1, '2026-11-21T08:00:00Z'), (2, '2026-11-21T08:00:00Z')")
  for (let n = 1; n <= 3; n++) till.cashier.sell(`R-${n}`, [line('A', '1')], { process: n === 3 ? 2 : 1 })
  till.cashier.sell('R-4', [line('A', '1')], { process: 1, status: 'open' })
  await till.replica.synchronize()
  const before = (await shop.pool.query('SELECT count(*) FROM stock_movements')).rows
  t.same(await till.replica.export('receipts', { receipt_no: 'R-1' }), { documents: 1, entries: 3 })
  t.same(await till.replica.export('receipts', [{ receipt_no: 'R-1' }, { receipt_no: 'R-3' }, { receipt_no: 'R-9' }]), { documents: 2, entries: 6 })
  t.same(await till.replica.export('pos_processes', { id: 1 }), { documents: 1, entries: 1 })
  t.same(await till.replica.export('pos_processes', { id: 1 }, { related: true }), { documents: 3, entries: 1 + 2 * 3 }, 'the open one stays')
  t.same(await till.replica.export('receipts', (eb) => eb('receipt_no', '>=', 'R-2')), { documents: 2, entries: 6 })
  t.same(await till.replica.export('receipts', []), { documents: 0, entries: 0 })
  await till.replica.synchronize()
  t.same((await shop.pool.query('SELECT count(*) FROM stock_movements')).rows, before)
  await shop.balances(t, till)
})

t.test('an export of more than fits one transaction takes every document once', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  till.db.transaction(() => {
    for (let n = 1; n <= 1_234; n++) till.cashier.sell(`R-${n}`, [line('A', '1')])
  })()
  await till.replica.seal()
  t.same(await till.replica.export('receipts', (eb) => eb('id', '>', 0)), { documents: 1_234, entries: 3 * 1_234 })
})

t.test('two registers that number alike stay apart', async (t) => {
  const shop = await openShop(t, server, {
    subscribe: { receipts: [mirror({ origin: ['location', 'register'] }), stockMovements((receipt) => movementsAt(receipt.location)(receipt))] },
  })
  const tills = [await shop.addTill('POS1'), await shop.addTill('POS2'), await shop.addTill('POS1', { location: 'BA02' })]
  for (const [n, till] of tills.entries()) t.equal(till.cashier.sell('R-1', [line('A', `${n + 1}`)]), 1)
  await Promise.all(tills.map((till) => till.replica.synchronize()))
  for (const till of tills) await shop.balances(t, till)
  tills[1]?.db.exec("UPDATE receipt_lines SET quantity = '20'; DELETE FROM tender_lines")
  await tills[1]?.replica.synchronize()
  for (const till of tills) await shop.balances(t, till)
  t.same((await shop.pool.query('SELECT location, quantity::float FROM stock_levels ORDER BY 1')).rows, [
    { location: 'BA01', quantity: -21 },
    { location: 'BA02', quantity: -3 },
  ])
})

interface EntryRow {
  entry_no: number
  operation: string
  table_name: string
  record_id: string
  document: string
  sealed_at: string
  record: string | null
  digest: Buffer
}

/** SHA-256 over the lines that src/digest.ts names, chained from 64 zeros; written anew here. */
function chain(rows: readonly EntryRow[]): string[] {
  let before = '0'.repeat(64)
  return rows.map((row) => {
    const lines = [before, row.entry_no, row.operation, JSON.stringify(row.table_name), row.record_id, row.document, row.sealed_at, row.record ?? '']
    before = createHash('sha256').update(lines.join('\n'), 'utf8').digest('hex')
    return before
  })
}

function entriesOf(db: Database): EntryRow[] {
  return db.prepare('SELECT * FROM sync_entries ORDER BY entry_no').all() as EntryRow[]
}

t.test('entries are numbered without a gap, chained by digest, and each document stands together', async (t) => {
  const random = new Random(seed)
  const shop = await openShop(t, server)
  const till = await shop.addTill('POS1', { transfer: { recordsPerRun: 7 } })
  for (let n = 1; n <= 60; n++) {
    till.cashier.sellAnything(random, `R-${n}`)
    till.cashier.changeSomething(random)
    if (random.chance(0.3)) await till.replica.seal()
    if (random.chance(0.1)) await till.replica.synchronize()
  }
  await till.replica.synchronize()
  const rows = entriesOf(till.db)
  t.same(
    rows.map((row) => row.entry_no),
    rows.map((_, n) => n + 1),
  )
  const digests = chain(rows)
  t.same(
    rows.map((row) => row.digest.toString('hex')),
    digests,
  )
  const strangers = rows.filter((row, n) => row.document !== `["${row.table_name}",${row.record_id}]` && row.document !== rows[n - 1]?.document)
  t.same(strangers, [], 'a part stands behind its root or another part of the same')
  const { rows: registers } = await shop.pool.query('SELECT entry_no::int, digest FROM sync_registers')
  t.same(registers, [{ entry_no: rows.length, digest: digests.at(-1) }], 'central holds the same digest')
  t.match(await till.replica.status(), { head: { entryNo: rows.length, digest: digests.at(-1) }, standing: { entryNo: rows.length }, pending: 0 })
  const { rows: archive } = await shop.pool.query('SELECT entry_no::int, operation, table_name, record_id, record FROM sync_archive ORDER BY 1')
  t.same(
    archive,
    rows.map(({ entry_no, operation, table_name, record_id, record }) => ({ entry_no, operation, table_name, record_id, record })),
    'every entry is archived as it was sealed',
  )
  await shop.balances(t, till)
})

t.test('sealed entries read as people see them, in pages', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  for (let n = 1; n <= 30; n++) till.cashier.sell(`R-${n}`, [line('A', `${n}`)])
  await till.replica.seal()
  const all = []
  for (let after = 0; ; ) {
    const page = await till.replica.entries({ after, limit: 7 })
    all.push(...page)
    if (page.length < 7) break
    after = page.at(-1)?.entryNo ?? 0
  }
  t.same(
    all.map((entry) => entry.entryNo),
    Array.from({ length: 90 }, (_, n) => n + 1),
  )
  const lines = await till.replica.entries({ table: 'receipt_lines', limit: 1_000 })
  t.same(
    lines.map((entry) => entry.record?.quantity),
    Array.from({ length: 30 }, (_, n) => `${n + 1}`),
  )
})
