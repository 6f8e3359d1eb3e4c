import Database from 'better-sqlite3'
import type { Books } from './books.ts'
import type { Ordered } from './orders.ts'
import type { ComparedTill } from './proof-published.ts'

export interface OrdersProof {
  readonly orders: number
  readonly lines: number
  /** Lines that are not, at the till or at head office, as the till entered and head office confirmed them. */
  readonly wrong: readonly string[]
}

/** Looks at both ends for what was entered and confirmed, and for nothing else. */
export async function proveOrders(books: Books, tills: readonly ComparedTill[], { entered, confirmed }: Ordered): Promise<OrdersProof> {
  const wrong: string[] = []
  let lines = 0
  for (const { register, shop, file } of tills) {
    const wanted = (entered.get(register) ?? []).map(
      ({ lineNo, itemNo, quantity }) =>
        `order confirmed, line ${lineNo}: ${quantity} of ${itemNo}, ${confirmed.get(`${register} ${lineNo}`)} confirmed`,
    )
    lines += wanted.length
    const database = new Database(file, { readonly: true })
    const ends = {
      'head office': await books.rows(
        `${LINES} WHERE (o.location, o.register) = ($1, $2) AND (l.location, l.register) = ($1, $2)`,
        shop.location,
        register,
      ),
      'the till': database.prepare(LINES).all() as readonly { readonly line: string }[],
    }
    database.close()
    for (const [end, rows] of Object.entries(ends)) {
      const found = rows.map(({ line }) => line ?? '')
      wrong.push(...wanted.filter((line) => !found.includes(line)).map((line) => `${register}, missing at ${end}: ${line}`))
      wrong.push(
        ...found.filter((line, n) => !wanted.includes(line) || found.indexOf(line) !== n).map((line) => `${register}, too much at ${end}: ${line}`),
      )
    }
  }
  return { orders: entered.size, lines, wrong }
}

/** In words that both databases understand. */
const LINES = `
  SELECT 'order ' || status || ', line ' || line_no || ': ' || quantity || ' of ' || item_no || ', ' || coalesce(cast(confirmed_quantity AS text), 'none') || ' confirmed' AS line
  FROM internal_orders o JOIN internal_order_lines l ON l.order_id = o.id`
