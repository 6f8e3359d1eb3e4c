import assert from 'node:assert/strict'
import type { ApplyingDatabase } from '../ports.ts'
import { query } from '../work.ts'
import type { ContractTill } from './contract-till.ts'

/** Nothing is lost and nothing is doubled: what was sold is posted once, what stands at the till stands in the mirror, and every entry is archived once. */
export async function checkBooks({ database }: { readonly database: ApplyingDatabase }, till: ContractTill, when: string): Promise<void> {
  const sold = Object.fromEntries(till.sold.map(({ receiptNo, quantity }) => [receiptNo, quantity]))
  assert.deepEqual(await posted(database, till), sold, `${when}: each receipt is posted once`)
  const mirrored = await receipts(database, till)
  for (const receiptNo of await till.receipts()) {
    const note = till.sold.find((one) => one.receiptNo === receiptNo)?.note ?? null
    assert.ok(mirrored.has(receiptNo), `${when}: ${receiptNo} stands at the till and not at central`)
    assert.ok(mirrored.get(receiptNo) === note, `${when}: ${receiptNo} is another one at central`)
  }
  assert.deepEqual(await gaps(database, till), [], `${when}: every entry is archived once`)
  assert.deepEqual(await wrongLevels(database, till), [], `${when}: stock levels are the sums of the movements`)
}

interface Rows {
  readonly sql: string
  readonly parameters: readonly unknown[]
}

function rows<R>(database: ApplyingDatabase, statement: Rows): Promise<readonly R[]> {
  return database.read(() => query<R>(statement))
}

/** By receipt, what was taken from stock. */
async function posted(database: ApplyingDatabase, { name }: ContractTill): Promise<Readonly<Record<string, number>>> {
  const found = await rows<{ document: string; quantity: string }>(database, {
    sql: `SELECT document_no AS document, sum(-quantity)::text AS quantity FROM ${database.qualify('stock_movements')} m
          JOIN ${database.qualify('sync_registers')} r USING (register_id) WHERE r.location = $1 AND r.register = $2 GROUP BY 1`,
    parameters: [name.location, name.register],
  })
  return Object.fromEntries(found.map(({ document, quantity }) => [document, Number(quantity)]))
}

async function receipts(database: ApplyingDatabase, { name }: ContractTill): Promise<ReadonlyMap<string, string | null>> {
  const found = await rows<{ receipt_no: string; note: string | null }>(database, {
    sql: `SELECT receipt_no, note FROM ${database.qualify('receipts')} WHERE location = $1 AND register = $2`,
    parameters: [name.location, name.register],
  })
  return new Map(found.map(({ receipt_no, note }) => [receipt_no, note]))
}

function gaps(database: ApplyingDatabase, { name }: ContractTill): Promise<readonly unknown[]> {
  return rows(database, {
    sql: `SELECT a.epoch_no, count(*)::text AS entries FROM ${database.qualify('sync_archive')} a JOIN ${database.qualify('sync_registers')} r USING (register_id)
          WHERE r.location = $1 AND r.register = $2 GROUP BY 1 HAVING count(*) <> max(a.entry_no) - min(a.entry_no) + 1`,
    parameters: [name.location, name.register],
  })
}

function wrongLevels(database: ApplyingDatabase, { name }: ContractTill): Promise<readonly unknown[]> {
  return rows(database, {
    sql: `SELECT item_no, l.quantity::text AS level, m.quantity::text AS movements FROM ${database.qualify('stock_levels')} l
          FULL JOIN (SELECT item_no, location, sum(quantity) AS quantity FROM ${database.qualify('stock_movements')} WHERE location = $1 GROUP BY 1, 2) m
          USING (item_no, location) WHERE location = $1 AND l.quantity IS DISTINCT FROM m.quantity`,
    parameters: [name.location],
  })
}
