import type { Books } from './books.ts'
import type { Sale } from './sales.ts'
import type { Shop } from './shops.ts'

/** In every shop, until it leaves the assortment of one. */
export const BAG = { itemNo: 'BAG', description: 'Paper bag', unitPrice: '0.30' } as const
const GIFT_CARD = { itemNo: 'GIFT', description: 'Gift card', unitPrice: '25.00' } as const

/** Head office's items: what is sold, each at its last price, and which shop has which. */
export async function writeItems(books: Books, sales: readonly Sale[], shops: readonly Shop[]): Promise<void> {
  const lines = [...sales.flatMap((sale) => sale.lines), BAG, GIFT_CARD]
  const items = new Map(lines.map(({ itemNo, description, unitPrice }) => [itemNo, { itemNo, description, unitPrice }]))
  await books.rows(
    `INSERT INTO items SELECT i ->> 'itemNo', i ->> 'description', (i ->> 'unitPrice')::numeric FROM jsonb_array_elements($1::jsonb) AS i`,
    JSON.stringify([...items.values()]),
  )
  for (const { location, assortment } of shops) await books.rows(ASSORTMENTS[assortment], location)
}

const ASSORTMENTS = {
  everything: 'INSERT INTO assortments SELECT $1, item_no FROM items',
  half: `INSERT INTO assortments SELECT $1, item_no FROM (SELECT item_no, row_number() OVER (ORDER BY item_no) FROM items) AS i
         WHERE row_number % 2 = 0 OR item_no IN ('${BAG.itemNo}', '${GIFT_CARD.itemNo}')`,
}
