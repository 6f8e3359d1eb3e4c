import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { sqlite } from '../src/adapters/sqlite/adapter.ts'
import { type AnyTables, createRegister, type PublishRules, type PushTransfer, type Register } from '../src/index.ts'

const SCHEMA = `
  CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT NOT NULL UNIQUE, series TEXT NOT NULL, business_date TEXT NOT NULL, posted_at TEXT NOT NULL,
    customer_no TEXT, cashier TEXT NOT NULL, status TEXT NOT NULL, net_amount TEXT NOT NULL, vat_amount TEXT NOT NULL, gross_amount TEXT NOT NULL);
  CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL REFERENCES receipts (id), line_no INTEGER NOT NULL, item_no TEXT NOT NULL,
    description TEXT NOT NULL, quantity INTEGER NOT NULL, unit_price TEXT NOT NULL, vat_code TEXT NOT NULL, net_amount TEXT NOT NULL, vat_amount TEXT NOT NULL);
  CREATE INDEX receipt_lines_receipt_id ON receipt_lines (receipt_id);
  CREATE TABLE tender_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL REFERENCES receipts (id), tender TEXT NOT NULL, amount TEXT NOT NULL);
  CREATE INDEX tender_lines_receipt_id ON tender_lines (receipt_id)`

export const TABLES = ['receipts', 'receipt_lines', 'tender_lines'] as const

/** Rows of a sale: 1 receipt, 5 lines, 1 tender. */
export const ROWS = 7
export const LINES = 5
export const ITEMS = 5_000

export type Connection = InstanceType<typeof Database>

/** A temporary folder that goes with the process. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'tillsync-bench-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  return folder
}

export function openTill(file: string, synchronous: 'OFF' | 'FULL'): Connection {
  const db = new Database(file)
  db.pragma('journal_mode = WAL')
  db.pragma(`synchronous = ${synchronous}`)
  db.exec(SCHEMA)
  return db
}

/** What a POS does for a sale, in one transaction. */
export function seller(db: Connection): (no: number, lines?: number) => void {
  const receipt = db.prepare('INSERT INTO receipts VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)')
  const line = db.prepare('INSERT INTO receipt_lines VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)')
  const tender = db.prepare('INSERT INTO tender_lines VALUES (NULL, ?, ?, ?)')
  return db.transaction((no: number, lines = LINES) => {
    const customer = no % 3 === 0 ? `C${no % 997}` : null
    const posted = `2026-11-21T10:${String(no % 60).padStart(2, '0')}:00.000Z`
    const id = receipt.run(`R-${no}`, 'A', '2026-11-21', posted, customer, `cashier ${no % 4}`, 'posted', '62.50', '11.88', '74.38').lastInsertRowid
    for (let n = 0; n < lines; n++) {
      const item = (no * 31 + n * 7) % ITEMS
      line.run(id, n + 1, `40063813${String(item).padStart(5, '0')}`, `Article number ${item}`, 1 + (n % 3), '12.50', 'S', '12.50', '2.38')
    }
    tender.run(id, no % 2 === 0 ? 'cash' : 'card', '74.38')
  })
}

const part = { partOf: { receipts: { receipt_id: 'id' } } }

export const RULES: PublishRules<AnyTables> = {
  receipts: { where: (eb) => eb('status', '=', 'posted') },
  receipt_lines: part,
  tender_lines: part,
}

/** What a bench wants of a register beside the rules. */
export interface RegisterMore {
  readonly transfer?: PushTransfer
  readonly retainMs?: number
}

/** The same till with tillsync: rules for all three tables. */
export function register(file: string, name: string, more: RegisterMore = {}): Register {
  return createRegister({ location: 'BA01', register: name, database: sqlite(() => new Database(file)), publish: RULES, ...more })
}
