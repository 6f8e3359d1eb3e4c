import Database from 'better-sqlite3'
import Big from 'big.js'
import type { Books } from './books.ts'
import type { Audited } from './messages.ts'
import type { Told } from './operators.ts'
import type { Ordered } from './orders.ts'
import { type ClosingsProof, proveClosings, readFirstClosings } from './proof-closings.ts'
import { keyOf, linesOf, readStages, type Stage } from './proof-lines.ts'
import { type OrdersProof, proveOrders } from './proof-orders.ts'
import { type ComparedTill, type Copy, compareCopies } from './proof-published.ts'
import type { Sale } from './sales.ts'
import { registerName } from './shops.ts'
import type { Story } from './story.ts'

export interface ProvedTill extends ComparedTill {
  /** By the input. */
  readonly sold: readonly Sale[]
}

/** What was seen on the way. */
export interface Seen {
  /** Rows that head office had of the receipt with the wrong total while that waited. */
  readonly booked: number
  /** Closings that its till had by then. */
  readonly heldBack: number
  /** What audit and reconciliation named then. */
  readonly audited: Audited
  /** The closings of the day as they were posted, by number. */
  readonly firstClosings: ReadonlyMap<string, string>
  readonly ordered: Ordered
  /** On each occasion, by each till. */
  readonly told: readonly Told[]
  /** Entries that head office sent while the promotion began and ended. */
  readonly sentByNight: number
}

export interface Proof {
  readonly tills: readonly ProvedTill[]
  readonly story: Story
  readonly stages: readonly Stage[]
  readonly entries: { readonly sealed: number; readonly archived: number }
  /** Versions of receipts that came behind the first, and the movements that came of it. */
  readonly again: { readonly versions: number; readonly movements: number }
  readonly levels: { readonly items: number; readonly wrong: readonly string[] }
  /** What moved by the sale and the return at another till. */
  readonly takenBack: { readonly movements: number; readonly units: Big; readonly amount: Big } | undefined
  readonly closings: ClosingsProof
  /** By till and table. */
  readonly copies: readonly Copy[]
  readonly orders: OrdersProof
  /** Documents in quarantine. */
  readonly waiting: number
  /** Numbers at the tills that head office lacks or has twice, and how many series there are. */
  readonly numbers: { readonly series: number; readonly wrong: readonly string[] }
  /** What audit and reconciliation should have named at the closing, by the tills. */
  readonly openAtClosing: readonly string[]
  readonly seen: Seen
  readonly audited: Audited
}

export interface ToProve extends Pick<Proof, 'tills' | 'story' | 'seen' | 'audited'> {
  readonly sealed: number
}

/** Asks the databases what has become of the sales, and compares it with the list of what was sold. */
export async function prove(books: Books, { tills, story, seen, sealed, audited }: ToProve): Promise<Proof> {
  await books.rows('ANALYZE') // the planner knows nothing yet of tables that are seconds old
  const expected = linesOf(new Map(tills.map(({ register, sold }) => [register, sold])))
  const { till, receiptNo, lineNo } = story.correction
  return {
    ...{ tills, story, seen, audited },
    stages: await readStages(books, expected, new Set([keyOf(registerName(till), receiptNo, lineNo)])),
    entries: { sealed, archived: await books.count('SELECT count(*) FROM sync_archive') },
    again: {
      versions: await books.count(`SELECT coalesce(sum(versions - 1), 0) FROM sync_documents WHERE table_name = 'receipts'`),
      movements: await books.count('SELECT count(*) FROM stock_movements WHERE revision > 1'),
    },
    levels: await checkLevels(books, tills),
    takenBack: await readTakenBack(books, story),
    copies: await compareCopies(books, tills),
    orders: await proveOrders(books, tills, seen.ordered),
    closings: await proveClosings(books, tills, seen.firstClosings, await readFirstClosings(books)),
    waiting: await books.count('SELECT count(*) FROM sync_quarantine'),
    numbers: await checkNumbers(books),
    openAtClosing: openAtClosing(tills, story),
  }
}

/** Every article started at 0 in each shop, so what lies there now is what was sold, negative. */
async function checkLevels(books: Books, tills: readonly ProvedTill[]): Promise<Proof['levels']> {
  const wanted = new Map<string, Big>()
  for (const { shop, sold } of tills) {
    for (const { itemNo, quantity } of sold.flatMap(({ lines }) => lines)) {
      const what = `${itemNo} in ${shop.location}`
      wanted.set(what, (wanted.get(what) ?? new Big(0)).minus(quantity))
    }
  }
  const rows = await books.rows(`SELECT item_no || ' in ' || location AS what, quantity::text FROM stock_levels`)
  const levels = new Map(rows.map(({ what, quantity }) => [what ?? '', new Big(quantity ?? 0)]))
  const items = [...new Set([...wanted.keys(), ...levels.keys()])]
  const zero = new Big(0)
  return { items: items.length, wrong: items.filter((item) => !(levels.get(item) ?? zero).eq(wanted.get(item) ?? zero)) }
}

async function readTakenBack(books: Books, { takenBack }: Story): Promise<Proof['takenBack']> {
  if (takenBack === undefined) return undefined
  const { till, receiptNo, lineNo, by, sale } = takenBack
  const [row] = await books.rows(
    `SELECT count(*) AS movements, coalesce(sum(quantity), 0)::text AS units, coalesce(sum(amount), 0)::text AS amount
     FROM stock_movements JOIN sync_registers USING (register_id)
     WHERE dimensions::jsonb ->> 'line' = $3 AND ((register = $1 AND document_no = $2) OR (register = $4 AND document_no = $5))`,
    ...[registerName(till), receiptNo, String(lineNo), registerName(by), sale.receiptNo],
  )
  return { movements: Number(row?.movements), units: new Big(row?.units ?? 0), amount: new Big(row?.amount ?? 0) }
}

/** Each series of a till runs 1, 2, 3 … at head office. */
async function checkNumbers(books: Books): Promise<Proof['numbers']> {
  const rows = await books.rows(`
    SELECT register || ' ' || series AS series, (count(*) = max(number) AND count(DISTINCT number) = count(*) AND min(number) = 1)::text AS whole
    FROM receipts GROUP BY register, series ORDER BY 1`)
  return { series: rows.length, wrong: rows.filter(({ whole }) => whole !== 'true').map(({ series }) => series ?? '') }
}

/** The receipt in quarantine, the closing that waits for it, and the number of the one that was not paid, in the library's words. */
function openAtClosing(tills: readonly ProvedTill[], { wrongTotal, leftOpen }: Story): readonly string[] {
  const register = registerName(wrongTotal.till)
  const found = [`${register} QUARANTINED`, `${register} receipts quarantined`, `${register} plu_closings waiting`]
  const till = leftOpen && tills[leftOpen.till]
  if (till === undefined) return found
  const database = new Database(till.file, { readonly: true })
  const { series, number } = database.prepare('SELECT series, number FROM receipts WHERE receipt_no = ?').get(leftOpen?.receiptNo) as {
    series: string
    number: number
  }
  database.close()
  return [...found, `${till.register} NUMBERS_MISSING ${series} ${number}`]
}
