import Big from 'big.js'
import pg from 'pg'
import { netAmount, type Sale } from './sales.ts'

/** A line of a receipt as one of the stages has it. */
interface Line {
  readonly register: string
  readonly receiptNo: string
  readonly lineNo: number
  readonly itemNo: string
  readonly quantity: Big
  readonly amount: Big
  /** How often it is there; once is right. */
  readonly times: number
}

type Lines = ReadonlyMap<string, Line>

export interface Tally {
  readonly receipts: number
  readonly lines: number
  readonly units: Big
  readonly amount: Big
}

/** What a stage has, and how it differs from what was sold. */
export interface Stage {
  readonly name: string
  readonly total: Tally
  readonly registers: ReadonlyMap<string, Tally>
  readonly missing: readonly string[]
  readonly doubled: readonly string[]
  readonly different: readonly string[]
}

export interface Proof {
  readonly stages: readonly Stage[]
  readonly entries: { readonly sealed: number; readonly archived: number }
  /** Receipts that arrived again although unchanged, and the movements that came of it. */
  readonly again: { readonly documents: number; readonly movements: number }
  readonly levels: { readonly items: number; readonly wrong: readonly string[] }
}

/** The latest version of each receipt as it was received, read from the archive's JSON; the mirror has no part in it. */
const ARCHIVED = `
  SELECT r.register, head.record::jsonb ->> 'receipt_no' AS receipt_no, line.record::jsonb ->> 'line_no' AS line_no,
         line.record::jsonb ->> 'item_no' AS item_no, (line.record::jsonb ->> 'quantity')::numeric AS quantity,
         (line.record::jsonb ->> 'net_amount')::numeric AS amount
  FROM sync_documents d
  JOIN sync_registers r USING (register_id)
  JOIN sync_archive head ON (head.register_id, head.epoch_no, head.entry_no) = (d.register_id, d.epoch_no, d.entry_no)
  JOIN sync_archive line
    ON (line.register_id, line.epoch_no, line.record::jsonb ->> 'receipt_id') = (d.register_id, d.epoch_no, head.record::jsonb ->> 'id')
   AND line.entry_no BETWEEN d.entry_no + 1 AND d.entry_no + d.entries - 1 AND line.table_name = 'receipt_lines'
  WHERE d.table_name = 'receipts' AND NOT d.removed`

const MIRRORED = `
  SELECT register, receipt_no, line_no, item_no, quantity, l.net_amount AS amount
  FROM receipts h JOIN receipt_lines l USING (location, register) WHERE l.receipt_id = h.id`

/** What leaves the shop is negative in the ledger, so the sign of the quantity is turned back. */
const MOVED = `
  SELECT r.register, document_no AS receipt_no, dimensions::jsonb ->> 'line' AS line_no, item_no, -quantity AS quantity, amount
  FROM stock_movements JOIN sync_registers r USING (register_id)`

/** Asks head office's database what has become of the sales, and compares it line by line with the list of what was sold. */
export async function prove(connectionString: string, sold: ReadonlyMap<string, readonly Sale[]>, sealed: number): Promise<Proof> {
  const database = new pg.Client({ connectionString })
  await database.connect()
  try {
    await database.query('ANALYZE') // the planner knows nothing yet of tables that are seconds old
    const expected = linesOf(sold)
    const stages = [stageOf('sold', expected, expected)]
    for (const [name, query] of Object.entries({ archived: ARCHIVED, mirrored: MIRRORED, moved: MOVED })) {
      stages.push(stageOf(name, await readLines(database, query), expected))
    }
    const count = async (query: string) => Number((await database.query<{ count: string }>(query)).rows[0]?.count)
    return {
      stages,
      entries: { sealed, archived: await count('SELECT count(*) FROM sync_archive') },
      again: {
        documents: await count('SELECT coalesce(sum(versions - 1), 0) AS count FROM sync_documents'),
        movements: await count('SELECT count(*) FROM stock_movements WHERE revision > 1'),
      },
      levels: await checkLevels(database, expected),
    }
  } finally {
    await database.end()
  }
}

function linesOf(sold: ReadonlyMap<string, readonly Sale[]>): Lines {
  const lines = new Map<string, Line>()
  for (const [register, sales] of sold) {
    for (const sale of sales) {
      for (const [n, line] of sale.lines.entries()) {
        const { receiptNo } = sale
        const { itemNo, quantity } = line
        add(lines, { register, receiptNo, lineNo: n + 1, itemNo, quantity: new Big(quantity), amount: netAmount(line), times: 1 })
      }
    }
  }
  return lines
}

async function readLines(database: pg.Client, query: string): Promise<Lines> {
  const { rows } = await database.query<Record<string, string>>(`
    SELECT register, receipt_no, line_no, min(item_no) AS item_no, sum(quantity)::text AS quantity, sum(amount)::text AS amount, count(*) AS times
    FROM (${query}) AS found GROUP BY register, receipt_no, line_no`)
  const lines = new Map<string, Line>()
  for (const { register = '', receipt_no: receiptNo = '', line_no, item_no: itemNo = '', quantity = '0', amount = '0', times } of rows) {
    add(lines, { register, receiptNo, lineNo: Number(line_no), itemNo, quantity: new Big(quantity), amount: new Big(amount), times: Number(times) })
  }
  return lines
}

function add(lines: Map<string, Line>, line: Line): void {
  lines.set(`${line.register} ${line.receiptNo} line ${line.lineNo}`, line)
}

function stageOf(name: string, lines: Lines, expected: Lines): Stage {
  const all = [...lines.values()]
  return {
    name,
    total: tally(all),
    registers: new Map([...Map.groupBy(all, (line) => line.register)].map(([register, own]) => [register, tally(own)])),
    missing: [...expected.keys()].filter((key) => !lines.has(key)),
    doubled: [...lines].filter(([key, line]) => line.times > 1 || !expected.has(key)).map(([key]) => key),
    different: [...lines].filter(([key, line]) => differs(line, expected.get(key))).map(([key]) => key),
  }
}

function differs(line: Line, expected: Line | undefined): boolean {
  if (expected === undefined || line.times > 1) return false
  return line.itemNo !== expected.itemNo || !line.quantity.eq(expected.quantity) || !line.amount.eq(expected.amount)
}

function tally(lines: readonly Line[]): Tally {
  return {
    receipts: new Set(lines.map((line) => `${line.register} ${line.receiptNo}`)).size,
    lines: lines.reduce((total, line) => total + line.times, 0),
    units: lines.reduce((total, line) => total.plus(line.quantity), new Big(0)),
    amount: lines.reduce((total, line) => total.plus(line.amount), new Big(0)),
  }
}

/** Every article started at 0, so what lies there now is what was sold, negative. */
async function checkLevels(database: pg.Client, expected: Lines): Promise<Proof['levels']> {
  const wanted = new Map<string, Big>()
  for (const { itemNo, quantity } of expected.values()) wanted.set(itemNo, (wanted.get(itemNo) ?? new Big(0)).minus(quantity))
  const { rows } = await database.query<{ item_no: string; quantity: string }>('SELECT item_no, quantity::text FROM stock_levels')
  const levels = new Map(rows.map((row) => [row.item_no, new Big(row.quantity)]))
  const items = [...new Set([...wanted.keys(), ...levels.keys()])]
  const zero = new Big(0)
  return { items: items.length, wrong: items.filter((item) => !(levels.get(item) ?? zero).eq(wanted.get(item) ?? zero)) }
}
