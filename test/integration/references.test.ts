import t from 'tap'
import { onEachDatabase, sealedBy } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'

const server = await startServer(t)

onEachDatabase(
  t,
  server,
  'a table that is related to itself: what refers to a document is exported with it',
  'CREATE TABLE receipts (id INTEGER PRIMARY KEY, returns INTEGER, receipt_no TEXT)',
  async (t, { exec, create }) => {
    const till = create({ receipts: { relatedTo: { receipts: { returns: 'id' } } } })
    await till.install()
    const sealed = sealedBy(till)
    await exec(`INSERT INTO receipts VALUES (1, NULL, 'R1'), (2, 1, 'R2'), (3, 1, 'R3'), (4, 2, 'R4'), (5, 5, 'R5')`)
    await sealed()
    t.same(await till.export('receipts', { receipt_no: 'R1' }, { related: true }), { documents: 3, entries: 3 })
    t.same((await sealed()).sort(), ['upsert receipts[1]', 'upsert receipts[2]', 'upsert receipts[3]'])
    t.same(await till.export('receipts', (eb) => eb('receipts.receipt_no', '=', 'R5'), { related: true }), { documents: 1, entries: 1 })
  },
)
