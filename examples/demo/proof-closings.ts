import Database from 'better-sqlite3'
import Big from 'big.js'
import type { Books } from './books.ts'
import type { ProvedTill } from './proof.ts'

/** A posted closing, for the table. Amounts are decimal texts. */
export interface ShownClosing {
  readonly location: string
  readonly register: string
  readonly closingNo: number
  /** The closing to which this one adds. */
  readonly supplements: number | undefined
  readonly lines: number
  readonly units: string
  readonly anonymous: string
  readonly customers: string
  readonly net: string
}

export interface ClosingsProof {
  readonly shown: readonly ShownClosing[]
  /** How many sums by till, article, VAT and customer were compared with the tills' own receipts. */
  readonly compared: number
  readonly different: readonly string[]
  /** Articles of a till whose closing lines are not what moved. */
  readonly unmoved: readonly string[]
  /** How many closings the tills have made. */
  readonly made: number
  /** Closings of the day that are not any more what was posted. */
  readonly changed: readonly string[]
}

/** The closings that supplement none, with their lines, as one text each: by shop and number. */
export async function readFirstClosings(books: Books): Promise<ReadonlyMap<string, string>> {
  const rows = await books.rows(`
    SELECT c.location || ' ' || closing_no AS closing_no, c::text || string_agg(coalesce(l::text, ''), ' ' ORDER BY l.line_no) AS closing
    FROM posted_plu_closings c LEFT JOIN posted_plu_closing_lines l USING (location, closing_no) WHERE supplements IS NULL GROUP BY c.location, c.closing_no`)
  return new Map(rows.map(({ closing_no, closing }) => [closing_no ?? '', closing ?? '']))
}

export async function proveClosings(
  books: Books,
  tills: readonly ProvedTill[],
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): Promise<ClosingsProof> {
  const [wanted, posted] = [new Sums(), new Sums()]
  let made = 0
  for (const { register, file } of tills) made += readTill(file, register, wanted)
  for (const row of await books.rows(POSTED)) posted.add(row)
  const keys = new Set([...wanted.sums.keys(), ...posted.sums.keys()])
  return {
    shown: (await books.rows(SHOWN)).map(shownOf),
    compared: keys.size,
    different: [...keys].filter((key) => !posted.has(key, wanted)),
    unmoved: (await books.rows(UNMOVED)).map(({ what }) => what ?? ''),
    made,
    changed: [...before].filter(([number, closing]) => after.get(number) !== closing).map(([number]) => number),
  }
}

const POSTED = `
  SELECT register, item_no, vat_rate::text, customer_no, l.quantity::text, l.net_amount::text, l.vat_amount::text
  FROM posted_plu_closings JOIN posted_plu_closing_lines l USING (location, closing_no) JOIN sync_registers USING (register_id)`

const SHOWN = `
  SELECT c.location, register, closing_no, supplements, count(l.line_no) AS lines, trim_scale(coalesce(sum(l.quantity), 0))::text AS units,
         coalesce(sum(l.net_amount) FILTER (WHERE customer_no IS NULL), 0)::text AS anonymous,
         coalesce(sum(l.net_amount) FILTER (WHERE customer_no IS NOT NULL), 0)::text AS customers, c.net_amount::text AS net
  FROM posted_plu_closings c LEFT JOIN posted_plu_closing_lines l USING (location, closing_no) JOIN sync_registers r USING (register_id)
  GROUP BY register, r.register_id, c.location, closing_no ORDER BY c.location, closing_no`

const UNMOVED = `
  SELECT register || ' ' || item_no AS what FROM (
    SELECT register_id, item_no, l.quantity, l.net_amount AS amount FROM posted_plu_closings JOIN posted_plu_closing_lines l USING (location, closing_no)
    UNION ALL SELECT register_id, item_no, quantity, -amount FROM stock_movements) AS both_books
  JOIN sync_registers USING (register_id)
  GROUP BY register, item_no HAVING sum(quantity) <> 0 OR sum(amount) <> 0`

function shownOf(row: Readonly<Record<string, string | null>>): ShownClosing {
  const amount = (column: string) => row[column] ?? '0'
  return {
    location: row.location ?? '',
    register: row.register ?? '',
    closingNo: Number(row.closing_no),
    supplements: row.supplements === null ? undefined : Number(row.supplements),
    lines: Number(row.lines),
    units: amount('units'),
    anonymous: amount('anonymous'),
    customers: amount('customers'),
    net: amount('net'),
  }
}

/** Adds up what the till has sold by its own tables. Returns how many closings it has made. */
function readTill(file: string, register: string, sums: Sums): number {
  const database = new Database(file, { readonly: true })
  const lines = database.prepare(`
    SELECT item_no, vat_rate, customer_no, quantity, l.net_amount, l.vat_amount FROM receipt_lines l JOIN receipts r ON r.id = l.receipt_id`)
  for (const row of lines.iterate()) sums.add({ ...(row as Record<string, string | null>), register })
  const made = database.prepare('SELECT count(*) FROM plu_closings').pluck().get() as number
  database.close()
  return made
}

const MEASURES = ['quantity', 'net_amount', 'vat_amount'] as const
type Measures = Readonly<Record<(typeof MEASURES)[number], Big>>
const NOTHING: Measures = { quantity: new Big(0), net_amount: new Big(0), vat_amount: new Big(0) }

/** By till, article, VAT and customer. */
class Sums {
  readonly sums = new Map<string, Measures>()

  add(row: Readonly<Record<string, string | null>>): void {
    const key = `${row.register} ${row.item_no}, VAT ${new Big(row.vat_rate ?? 0).toFixed()}, ${row.customer_no ?? 'anonymous'}`
    const sum = this.sums.get(key) ?? NOTHING
    const plus = (measure: (typeof MEASURES)[number]) => sum[measure].plus(row[measure] ?? 0)
    this.sums.set(key, { quantity: plus('quantity'), net_amount: plus('net_amount'), vat_amount: plus('vat_amount') })
  }

  has(key: string, { sums }: Sums): boolean {
    const [one, other] = [this.sums.get(key) ?? NOTHING, sums.get(key) ?? NOTHING]
    return MEASURES.every((measure) => one[measure].eq(other[measure]))
  }
}
