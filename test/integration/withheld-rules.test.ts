import t from 'tap'
import type { AnyTables, PublishRules } from '../../src/index.ts'
import { type Host, onEachDatabase } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'

const server = await startServer(t)

const TABLES = `
  CREATE TABLE receipts (id integer PRIMARY KEY, status text, pin text);
  CREATE TABLE receipt_lines (id integer PRIMARY KEY, receipt_id integer, item_no text); CREATE INDEX by_receipt ON receipt_lines (receipt_id);
  INSERT INTO receipts VALUES (1, 'posted', '11'), (2, 'posted', '22'), (3, 'posted', NULL), (4, 'posted', '44');
  INSERT INTO receipt_lines VALUES (1, 1, 'A'), (2, 2, 'B'), (3, 3, 'C')`

const LINES = { partOf: { receipts: { receipt_id: 'id' } } }

/** A till with rules that withhold what stands there, and then with others, after what happened while it slept. */
async function changed(host: Host, before: PublishRules<AnyTables>, asleep: string, after: PublishRules<AnyTables>) {
  const first = host.create(before)
  await first.install()
  await first.seal()
  await first.stop()
  if (asleep !== '') await host.exec(asleep)
  const till = host.create(after)
  await till.install()
  let at = 0
  return async () => {
    await till.seal()
    const entries = await till.entries({ after: at, limit: 1_000 })
    at = entries.at(-1)?.entryNo ?? at
    return entries.map(({ operation, table, record }) => [operation, table, record])
  }
}

onEachDatabase(
  t,
  server,
  'what is withheld stays withheld when rules name fewer columns, and its baseline has none of them',
  TABLES,
  async (t, host) => {
    const sealed = await changed(host, { receipts: {}, receipt_lines: LINES }, '', { receipts: { except: ['pin'] }, receipt_lines: LINES })
    t.same(await sealed(), [])
    await host.exec(`UPDATE receipts SET pin = '0'; UPDATE receipts SET status = 'void' WHERE id = 2`)
    t.same(await sealed(), [
      ['baseline', 'receipts', { id: 2, status: 'posted' }],
      ['baseline', 'receipt_lines', { id: 2, receipt_id: 2, item_no: 'B' }],
      ['upsert', 'receipts', { id: 2, status: 'void' }],
      ['upsert', 'receipt_lines', { id: 2, receipt_id: 2, item_no: 'B' }],
    ])
  },
)

onEachDatabase(
  t,
  server,
  'what is withheld stays withheld when rules name more columns and tables, and changes from there',
  TABLES,
  async (t, host) => {
    const sealed = await changed(host, { receipts: { except: ['pin'] } }, '', { receipts: {}, receipt_lines: LINES })
    t.same(await sealed(), [])
    await host.exec(`UPDATE receipts SET pin = NULL WHERE id = 1; INSERT INTO receipt_lines VALUES (4, 4, 'D')`)
    t.same(await sealed(), [
      ['baseline', 'receipts', { id: 1, status: 'posted', pin: '11' }],
      ['baseline', 'receipt_lines', { id: 1, receipt_id: 1, item_no: 'A' }],
      ['upsert', 'receipts', { id: 1, status: 'posted', pin: null }],
      ['upsert', 'receipt_lines', { id: 1, receipt_id: 1, item_no: 'A' }],
      ['baseline', 'receipts', { id: 4, status: 'posted', pin: '44' }],
      ['upsert', 'receipts', { id: 4, status: 'posted', pin: '44' }],
      ['upsert', 'receipt_lines', { id: 4, receipt_id: 4, item_no: 'D' }],
    ])
  },
)

onEachDatabase(t, server, 'what really changed while the rules did is sealed, with what it was by the new rules', TABLES, async (t, host) => {
  const asleep = `UPDATE receipts SET status = 'void', pin = '0' WHERE id = 1; UPDATE receipts SET pin = '0' WHERE id = 2`
  const sealed = await changed(host, { receipts: {} }, asleep, { receipts: { except: ['pin'] }, receipt_lines: LINES })
  const line = (id: number, item_no: string) => ({ id, receipt_id: id, item_no })
  t.same((await sealed()).slice(0, 4), [
    ['baseline', 'receipts', { id: 1, status: 'posted' }],
    ['baseline', 'receipt_lines', line(1, 'A')],
    ['upsert', 'receipts', { id: 1, status: 'void' }],
    ['upsert', 'receipt_lines', line(1, 'A')],
  ])
  await host.exec(`UPDATE receipt_lines SET item_no = 'X' WHERE id = 3`)
  t.same(await sealed(), [
    ['baseline', 'receipts', { id: 3, status: 'posted' }],
    ['baseline', 'receipt_lines', line(3, 'C')],
    ['upsert', 'receipts', { id: 3, status: 'posted' }],
    ['upsert', 'receipt_lines', line(3, 'X')],
  ])
})

const RECEIPTS = { receipts: {}, receipt_lines: LINES }

onEachDatabase(t, server, 'what is withheld stays withheld when the host renames, drops and adds columns', TABLES, async (t, host) => {
  const sealed = await changed(host, RECEIPTS, '', RECEIPTS)
  const alter = async (sql: string) => {
    await host.exec(sql)
    t.same(await sealed(), [], sql)
  }
  await alter('ALTER TABLE receipts RENAME COLUMN status TO state')
  await alter('ALTER TABLE receipt_lines RENAME COLUMN item_no TO item')
  await alter(`ALTER TABLE receipts ADD COLUMN kind text DEFAULT 'sale'`)
  await alter('ALTER TABLE receipts DROP COLUMN pin')
  await alter('ALTER TABLE receipts RENAME COLUMN state TO pin')
  await alter('ALTER TABLE receipts RENAME COLUMN kind TO state')
  await host.exec(`UPDATE receipts SET pin = 'void' WHERE id = 2`)
  t.same(
    await sealed(),
    [
      ['baseline', 'receipts', { id: 2, pin: 'posted', state: 'sale' }],
      ['baseline', 'receipt_lines', { id: 2, receipt_id: 2, item: 'B' }],
      ['upsert', 'receipts', { id: 2, pin: 'void', state: 'sale' }],
      ['upsert', 'receipt_lines', { id: 2, receipt_id: 2, item: 'B' }],
    ],
    'the baseline is by the columns that there are now',
  )
})

onEachDatabase(
  t,
  server,
  'what changes beside a change of the schema has its baseline by the columns that there are then',
  TABLES,
  async (t, host) => {
    const asleep = `ALTER TABLE receipts RENAME COLUMN status TO state; ALTER TABLE receipts DROP COLUMN pin; ALTER TABLE receipts ADD COLUMN deposit integer DEFAULT 0;
    ALTER TABLE receipt_lines RENAME COLUMN item_no TO item; UPDATE receipts SET deposit = 5 WHERE id = 1; UPDATE receipt_lines SET item = 'X' WHERE id = 2`
    const sealed = await changed(host, RECEIPTS, asleep, RECEIPTS)
    const line = (id: number, item: string) => ({ id, receipt_id: id, item })
    t.same(await sealed(), [
      ['baseline', 'receipts', { id: 1, state: 'posted', deposit: 0 }],
      ['baseline', 'receipt_lines', line(1, 'A')],
      ['upsert', 'receipts', { id: 1, state: 'posted', deposit: 5 }],
      ['upsert', 'receipt_lines', line(1, 'A')],
      ['baseline', 'receipts', { id: 2, state: 'posted', deposit: 0 }],
      ['baseline', 'receipt_lines', line(2, 'B')],
      ['upsert', 'receipts', { id: 2, state: 'posted', deposit: 0 }],
      ['upsert', 'receipt_lines', line(2, 'X')],
    ])
  },
)

onEachDatabase(t, server, 'what is written to a column that was renamed is a change, be it what the column begins with', TABLES, async (t, host) => {
  const asleep = `ALTER TABLE receipts RENAME COLUMN status TO state; UPDATE receipts SET state = NULL WHERE id = 1; UPDATE receipts SET state = 'void' WHERE id = 2;
    UPDATE receipts SET state = state WHERE id = 4`
  const sealed = await changed(host, { receipts: {} }, asleep, { receipts: {} })
  const baselines = (await sealed()).filter(([operation]) => operation === 'baseline')
  t.same(
    baselines.map(([, , record]) => (record as { id: number }).id),
    [1, 2],
  )
  t.same(baselines[1]?.[2], { id: 2, state: 'posted', pin: '22' })
})
