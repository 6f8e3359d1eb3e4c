import t, { type Test } from 'tap'
import type { AnyTables, PublishRules } from '../../src/index.ts'
import { type Host, onEachDatabase } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'
import { openShop } from '../support/shop.ts'

const server = await startServer(t)

const TABLES = `
  CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT NOT NULL, status TEXT, total NUMERIC);
  CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL, item_no TEXT); CREATE INDEX lines_receipt ON receipt_lines (receipt_id)`
const PUBLISH: PublishRules<AnyTables> = {
  receipts: { where: (eb) => eb('status', '=', 'posted') },
  receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
}
const each = (name: string, test: (t: Test, host: Host) => Promise<void>) => onEachDatabase(t, server, name, TABLES, test)

each('trace() follows a document through its whole life, by any of its columns', async (t, host) => {
  await host.exec(`INSERT INTO receipts VALUES (1, 'R-1', 'posted', 10)`)
  const till = host.create(PUBLISH)
  await till.install()
  const trace = async (receipt_no: string) => (await till.trace('receipts', { receipt_no }))[0]
  t.match(
    await trace('R-1'),
    { recordId: [1], stage: 'unsealed', now: 'published', sealed: 'nothing', unsealed: true, versions: [] },
    'stood there, nothing is sealed yet',
  )
  await till.seal()
  t.match(await trace('R-1'), { stage: 'untouched', now: 'published', sealed: 'withheld', unsealed: false, parked: undefined, versions: [] })
  await host.exec(`INSERT INTO receipts VALUES (2, 'R-2', 'open', 10); INSERT INTO receipt_lines VALUES (1, 2, 'A')`)
  t.match(
    await trace('R-2'),
    { recordId: [2], stage: 'outside filter', now: 'absent', sealed: 'nothing', unsealed: false, versions: [] },
    'outside the filter',
  )
  await host.exec(`UPDATE receipts SET status = 'posted' WHERE id = 2`)
  t.match(await trace('R-2'), { now: 'published', sealed: 'nothing', unsealed: true })
  await till.seal()
  t.match(await trace('R-2'), {
    stage: 'waiting',
    entryNo: 1,
    at: /Z$/,
    why: undefined,
    now: 'published',
    sealed: 'given',
    unsealed: false,
    versions: [{ entryNo: 1, operation: 'upsert', sealedAt: /Z$/, acknowledged: false }],
  })
  await host.exec(`INSERT INTO receipt_lines VALUES (2, 2, 'B')`)
  t.match(await trace('R-2'), { stage: 'unsealed', sealed: 'given', unsealed: true }, 'a line more is a change')
  await till.seal()
  await host.exec('DELETE FROM receipt_lines; DELETE FROM receipts WHERE id = 2')
  t.match(await trace('R-2'), { recordId: [2], now: 'absent', sealed: 'given', unsealed: true }, 'deleted, and still found by its number')
  await till.seal()
  const versions = [
    { entryNo: 1, operation: 'upsert' },
    { entryNo: 3, operation: 'upsert' },
    { entryNo: 6, operation: 'remove' },
  ]
  t.match(await trace('R-2'), { recordId: [2], now: 'absent', sealed: 'nothing', unsealed: false, versions })
  t.match(await till.trace('receipts', { id: 2 }), [{ recordId: [2], versions }], 'by its key')
  t.same(await till.trace('receipts', { id: 3 }), [], 'what was never there')
  t.match(await till.trace('receipts', [{ id: 1 }, { receipt_no: 'R-2' }]), [{ recordId: [1] }, { recordId: [2] }])
  t.match(await till.trace('receipts', (eb) => eb('status', '=', 'posted')), [{ recordId: [1] }])
})

each('trace() says why a document is parked', async (t, host) => {
  const till = host.create({ receipts: { where: (eb) => eb(eb('total', '/', eb.ref('id')), '<', '5' as never) } })
  await till.install()
  await host.exec(`INSERT INTO receipts VALUES (0, 'R-0', 'posted', 10)`)
  await till.seal()
  const [traced] = await till.trace('receipts', { id: 0 })
  if (host.dialect === 'sqlite') t.match(traced, { now: 'absent' }, 'SQLite divides by zero in silence')
  else
    t.match(traced, {
      stage: 'unsealed',
      why: /^ERR_FILTER: .*division by zero/,
      now: 'unreadable',
      unsealed: true,
      parked: { code: 'ERR_FILTER', message: /division by zero/, parkedAt: /Z$/ },
    })
})

each('trace() refuses what it can not look for', async (t, host) => {
  const till = host.create(PUBLISH)
  await till.install()
  await t.rejects(till.trace('receipt_lines', { id: 1 }), { code: 'ERR_UNKNOWN_TABLE' }, 'a part')
  await t.rejects(till.trace('receipts', { nope: 1 }), { code: 'ERR_UNKNOWN_COLUMN' })
  await t.rejects(till.trace('receipts', {}), { code: 'ERR_OPTION' })
  await t.rejects(
    till.trace('receipts', (eb) => eb('nope', '=', 1)),
    { code: 'ERR_FILTER' },
  )
  await t.rejects(till.trace('receipts', { id: 1 }, { sginal: 1 } as never), { code: 'ERR_OPTION' })
  for (const id of [Number.NaN, Infinity, -Infinity, -0, 1.5, Buffer.from('1'), Buffer.alloc(0)]) {
    // PostgreSQL takes no such value for a whole number; on SQLite there just is none.
    await till.trace('receipts', { id }).then(
      (found) => t.same(found, []),
      (error) => t.match(error, { code: 'ERR_FILTER', hint: String }),
    )
  }
})

t.test('trace() says what central has acknowledged', async (t) => {
  const { addTill } = await openShop(t, server)
  const { replica, db } = await addTill()
  db.exec(`INSERT INTO pos_processes (id, opened_at) VALUES (7, '2026-11-21T10:00:00Z')`)
  await replica.synchronize()
  t.match(await replica.trace('pos_processes', { id: 7 }), [{ stage: 'sent', entryNo: 1, at: /Z$/ }])
  db.exec(`UPDATE pos_processes SET opened_at = '2026-11-21T11:00:00Z'`)
  await replica.seal()
  t.match((await replica.trace('pos_processes', { id: 7 }))[0]?.versions, [{ acknowledged: true }, { acknowledged: false }])
})
