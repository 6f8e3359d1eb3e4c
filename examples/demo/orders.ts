import { count } from './display.ts'
import { arrival } from './head-office.ts'
import type { OrderLine } from './messages.ts'
import type { Scene } from './scene.ts'

// Internal orders: a till orders from the warehouse, head office confirms. Each writes its own columns of the same rows.

/** What the tills have ordered, and what head office has confirmed. */
export interface Ordered {
  /** As the cashiers entered it, by register. */
  readonly entered: ReadonlyMap<string, readonly OrderLine[]>
  /** As head office wrote it, by register and line. */
  readonly confirmed: ReadonlyMap<string, string>
}

const LINES = 3
/** What the warehouse gives of each item. */
const AT_MOST = 10

/** Each till orders something that its shop has. */
export async function placeOrders(scene: Scene): Promise<Ordered['entered']> {
  const entered = new Map<string, readonly OrderLine[]>()
  for (const [n, till] of scene.tills.entries()) {
    const items = await scene.books.rows(
      'SELECT item_no FROM assortments WHERE location = $1 ORDER BY item_no LIMIT $2',
      till.shop.location,
      `${LINES}`,
    )
    const lines = items.map(({ item_no }, line) => ({ lineNo: line + 1, itemNo: item_no ?? '', quantity: `${n + 2 + line * 6}` }))
    till.order(lines, scene.calendar.day())
    entered.set(till.register, lines)
  }
  return entered
}

/** While head office confirms, the first till changes a quantity: both hold. */
export async function confirmOrders(scene: Scene, entered: Ordered['entered']): Promise<Ordered> {
  await scene.until(async () => (await scene.books.count('SELECT count(*) FROM internal_orders')) === entered.size)
  const [till] = scene.tills
  const [first, ...others] = entered.get(till?.register ?? '') ?? []
  if (till === undefined || first === undefined) throw new Error('There is no order')
  const changed = { ...first, quantity: `${Number(first.quantity) + 3}` }
  till.changeOrder(changed)
  const rows = await scene.books.rows(
    `WITH confirmed AS (UPDATE internal_orders SET status = 'confirmed', confirmed_at = now() WHERE status = 'new' RETURNING location, register, id)
     UPDATE internal_order_lines l SET confirmed_quantity = least(quantity, $1::numeric) FROM confirmed c
     WHERE (l.location, l.register, order_id) = (c.location, c.register, c.id) RETURNING l.register || ' ' || line_no AS line, confirmed_quantity::text`,
    `${AT_MOST}`,
  )
  const seconds = await arrival(scene)
  const hasChanged = 'SELECT count(*) FROM internal_order_lines WHERE register = $1 AND line_no = $2 AND quantity = $3::numeric'
  await scene.until(async () => (await scene.books.count(hasChanged, till.register, `${changed.lineNo}`, changed.quantity)) === 1)
  scene.tell(
    `Head office confirms ${count(entered.size, 'order')}, at most ${AT_MOST} of an item; ${seconds} s later each till has the status of its own.`,
    `At the same moment ${till.name} orders ${changed.quantity} of an item instead of ${first.quantity}: both write one row, each its own columns, and both hold.`,
  )
  return {
    entered: new Map([...entered, [till.register, [changed, ...others]]]),
    confirmed: new Map(rows.map(({ line, confirmed_quantity }) => [line ?? '', confirmed_quantity ?? ''])),
  }
}
