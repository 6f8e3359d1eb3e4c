import Big from 'big.js'
import type { Books } from './books.ts'
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

export type Lines = ReadonlyMap<string, Line>

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

const STAGES = { archived: ARCHIVED, mirrored: MIRRORED, moved: MOVED }

/** What was sold, and what head office has of it. @param corrected lines for which a second movement, the difference, is right */
export async function readStages(books: Books, expected: Lines, corrected: ReadonlySet<string>): Promise<readonly Stage[]> {
  const stages = [stageOf('sold', expected, expected)]
  for (const [name, query] of Object.entries(STAGES))
    stages.push(stageOf(name, await readLines(books, query, name === 'moved' ? corrected : new Set()), expected))
  return stages
}

export function keyOf(register: string, receiptNo: string, lineNo: number): string {
  return `${register} ${receiptNo} line ${lineNo}`
}

export function linesOf(sold: ReadonlyMap<string, readonly Sale[]>): Lines {
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

async function readLines(books: Books, query: string, corrected: ReadonlySet<string>): Promise<Lines> {
  const rows = await books.rows(`
    SELECT register, receipt_no, line_no, min(item_no) AS item_no, sum(quantity)::text AS quantity, sum(amount)::text AS amount, count(*) AS times
    FROM (${query}) AS found GROUP BY register, receipt_no, line_no`)
  const lines = new Map<string, Line>()
  for (const row of rows) {
    const [register, receiptNo, itemNo] = [row.register ?? '', row.receipt_no ?? '', row.item_no ?? '']
    const lineNo = Number(row.line_no)
    const times = Number(row.times) - (corrected.has(keyOf(register, receiptNo, lineNo)) ? 1 : 0)
    add(lines, { register, receiptNo, lineNo, itemNo, quantity: new Big(row.quantity ?? 0), amount: new Big(row.amount ?? 0), times })
  }
  return lines
}

function add(lines: Map<string, Line>, line: Line): void {
  lines.set(keyOf(line.register, line.receiptNo, line.lineNo), line)
}

function stageOf(name: string, lines: Lines, expected: Lines): Stage {
  const all = [...lines.values()]
  return {
    name,
    total: tally(all),
    registers: new Map([...Map.groupBy(all, (line) => line.register)].map(([register, own]) => [register, tally(own)])),
    missing: [...expected.keys()].filter((key) => !lines.has(key)),
    doubled: [...lines].filter(([key, line]) => line.times !== 1 || !expected.has(key)).map(([key]) => key),
    different: [...lines].filter(([key, line]) => differs(line, expected.get(key))).map(([key]) => key),
  }
}

function differs(line: Line, expected: Line | undefined): boolean {
  if (expected === undefined || line.times !== 1) return false
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
