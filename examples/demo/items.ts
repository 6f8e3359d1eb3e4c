import Database from 'better-sqlite3'
import Big from 'big.js'
import type { Books } from './books.ts'
import type { Sale } from './sales.ts'

/** Belongs to every assortment, until it is dropped from one. */
export const BAG = { itemNo: 'BAG', description: 'Paper bag', unitPrice: '0.30' } as const
const GIFT_CARD = { itemNo: 'GIFT', description: 'Gift card', unitPrice: '25.00' } as const

/** The first till and every second one after it have room for everything. */
export function assortmentOf(till: number): 'large' | 'small' {
  return till % 2 === 0 ? 'large' : 'small'
}

/** Head office's items: what is sold, each at its last price; the small assortment has half of it. */
export async function writeItems(books: Books, sales: readonly Sale[]): Promise<void> {
  const lines = [...sales.flatMap((sale) => sale.lines), BAG, GIFT_CARD]
  const items = new Map(lines.map(({ itemNo, description, unitPrice }) => [itemNo, { itemNo, description, unitPrice }]))
  await books.rows(
    `INSERT INTO items SELECT i ->> 'itemNo', i ->> 'description', (i ->> 'unitPrice')::numeric FROM jsonb_array_elements($1::jsonb) AS i`,
    JSON.stringify([...items.values()]),
  )
  await books.rows(`INSERT INTO assortments SELECT 'large', item_no FROM items`)
  await books.rows(
    `INSERT INTO assortments SELECT 'small', item_no FROM (SELECT item_no, row_number() OVER (ORDER BY item_no) FROM items) AS i
     WHERE row_number % 2 = 0 OR item_no IN ($1, $2)`,
    ...[BAG.itemNo, GIFT_CARD.itemNo],
  )
}

export interface ItemsProof {
  readonly compared: number
  /** What a till lacks, has too much, or has otherwise. */
  readonly different: readonly string[]
}

/** Compares each till's items with those that head office has for it. */
export async function proveItems(books: Books, tills: readonly { readonly name: string; readonly file: string }[]): Promise<ItemsProof> {
  let compared = 0
  const different: string[] = []
  for (const [n, { name, file }] of tills.entries()) {
    const wanted = textsOf(
      await books.rows(
        `SELECT i.item_no, description, unit_price::text FROM items i JOIN assortments USING (item_no) WHERE assortment = $1`,
        assortmentOf(n),
      ),
    )
    const found = readTill(file)
    for (const item of new Set([...wanted.keys(), ...found.keys()])) {
      compared++
      if (wanted.get(item) !== found.get(item))
        different.push(`${name}: ${item} is ${found.get(item) ?? 'missing'}, not ${wanted.get(item) ?? 'absent'}`)
    }
  }
  return { compared, different }
}

function readTill(file: string): ReadonlyMap<string, string> {
  const database = new Database(file, { readonly: true })
  try {
    return textsOf(database.prepare('SELECT item_no, description, unit_price FROM items').all() as Readonly<Record<string, string>>[])
  } finally {
    database.close()
  }
}

function textsOf(rows: readonly Readonly<Record<string, string | null>>[]): ReadonlyMap<string, string> {
  return new Map(rows.map(({ item_no, description, unit_price }) => [item_no ?? '', `${description} at ${new Big(unit_price ?? 0).toFixed()}`]))
}
