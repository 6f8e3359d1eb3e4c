// Posts a till's receipts into an ERP's own ledger instead of the library's: node examples/host-ledger/host-ledger.ts
import Database from 'better-sqlite3'
import CliTable from 'cli-table3'
import pg from 'pg'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createCentral, createRegister, negate, type StockPosting, stockMovements } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { startPostgres } from '../support/postgres.ts'
import { ERP_SCHEMA, TILL_SCHEMA, type TillTables } from './schema.ts'

const LOCATION = 'BA01'
const server = await startPostgres({ durable: false })
const pool = new pg.Pool((await server.createDatabase('erp')).config)
pool.on('error', () => undefined) // its last connection may outlive the server
await pool.query(ERP_SCHEMA)

/** A posting as the ERP writes it down. A later revision of a document corrects what an earlier one posted; kind and lot are dimensions of the mapping below. */
function toEntry(posting: StockPosting) {
  return {
    posting_date: posting.businessDate,
    entry_type: posting.dimensions.kind,
    document_no: posting.document,
    item_no: posting.item,
    location_code: posting.location,
    source_no: posting.customer,
    quantity: posting.quantity,
    sales_amount: posting.amount,
    correction: posting.revision > 1,
    lot_no: posting.dimensions.lot ?? null,
    till: posting.origin.register,
    till_entry_no: posting.entryNo,
    till_key: posting.key,
  }
}

const central = createCentral<unknown, TillTables>({
  database: postgres(pool),
  subscribe: {
    receipts: stockMovements(
      (receipt, { location }) =>
        receipt.status === 'voided'
          ? []
          : receipt.parts.receipt_lines.map((line) => ({
              item: line.item_no,
              location,
              businessDate: receipt.business_date,
              document: receipt.receipt_no,
              customer: receipt.customer_no,
              kind: line.quantity < 0 ? 'Sales Return' : 'Sale',
              lot: line.lot_no,
              quantity: negate(line.quantity),
              amount: line.net_amount,
            })),
      { scale: { quantity: 3 }, post: { table: 'item_ledger_entries', row: toEntry } },
    ),
  },
})
await central.install()
const { token } = await central.registers.add({ location: LOCATION, register: 'POS1' })

const db = new Database(':memory:')
db.exec(TILL_SCHEMA)
const till = createRegister<TillTables>({
  location: LOCATION,
  register: 'POS1',
  database: sqlite(db),
  publish: { receipts: {}, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
  transfer: {
    type: 'push',
    link: httpLink({ url: 'http://head-office/', token, fetch: (url, init) => central.fetch(new Request(url, init)) }),
  },
})
await till.install()

db.exec(`
  INSERT INTO receipts VALUES (1, 'R-1', '2026-11-21', NULL, 'posted'), (2, 'R-2', '2026-11-21', '10000', 'posted'), (3, 'R-3', '2026-11-21', NULL, 'posted');
  INSERT INTO receipt_lines VALUES (1, 1, '4006381333931', NULL, 2, '2.98'), (2, 1, '2100020000000', 'L-77', 0.1 + 0.2, '5.70'), (3, 2, '4006381333931', NULL, 1, '1.49'), (4, 3, '4006381333931', NULL, -1, '-1.49')`)
await show('Two sales and a return')
await till.export('receipts', { receipt_no: 'R-1' })
await show('Sent again without a change: nothing is posted')
db.exec("UPDATE receipt_lines SET quantity = 3, net_amount = '4.47' WHERE id = 1; UPDATE receipts SET status = 'voided' WHERE id = 2")
await show('R-1 corrected, R-2 voided: the differences are posted, what stands there stays')

await till.stop()
await central.stop()
await pool.end()
await server.stop()

async function show(title: string): Promise<void> {
  await till.synchronize()
  const columns = [
    'entry_no',
    'entry_type',
    'document_no',
    'item_no',
    'lot_no',
    'source_no',
    'quantity',
    'sales_amount',
    'correction',
    'till_entry_no',
  ]
  const { rows } = await pool.query({ text: `SELECT ${columns.join(', ')} FROM item_ledger_entries ORDER BY entry_no`, rowMode: 'array' })
  const table = new CliTable({ head: columns, style: { head: [], border: [] } })
  table.push(...rows.map((row) => row.map((value) => String(value ?? ''))))
  console.log(`\n${title}\n${table}`)
}
