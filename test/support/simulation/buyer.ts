import type { Random } from '../random.ts'
import { GROUPS } from './schedules.ts'

const ITEMS = 6
const BARCODES = 5
const OFFERS = 4
const ORDERS = 3
const LINES = 5

/** What head office changes of what tills are to have, in one transaction, which now and then comes to nothing. */
export function purchase(random: Random, registers: readonly string[]): string {
  const statements = Array.from({ length: random.int(1, 5) }, () => changeOf(random, registers))
  return ['BEGIN', ...statements, random.chance(0.1) ? 'ROLLBACK' : 'COMMIT'].join(';')
}

function changeOf(random: Random, registers: readonly string[]): string {
  const item = `'I${random.int(1, ITEMS)}'`
  const barcode = `'B${random.int(1, BARCODES)}'`
  const [register, price, offer] = [`'${random.pick(registers)}'`, random.int(1, 99), random.int(1, OFFERS)]
  const put = `INSERT INTO items VALUES (${item}, 'n${price}', ${price}) ON CONFLICT (item_no) DO UPDATE SET price = excluded.price`
  switch (random.int(0, 13)) {
    case 0:
    case 1:
    case 2:
      return `${put}; INSERT INTO assortments VALUES (${register}, ${item}) ON CONFLICT DO NOTHING`
    case 3:
      return `DELETE FROM items WHERE item_no = ${item}`
    case 4:
      return `INSERT INTO item_barcodes SELECT ${barcode}, item_no FROM items WHERE item_no = ${item} ON CONFLICT (barcode) DO UPDATE SET item_no = excluded.item_no`
    case 5:
      return `DELETE FROM item_barcodes WHERE barcode = ${barcode}`
    case 6:
      return `INSERT INTO assortments VALUES (${register}, ${item}) ON CONFLICT DO NOTHING`
    case 7:
      return `DELETE FROM assortments WHERE register = ${register} AND item_no = ${item}`
    case 8:
      return `INSERT INTO offers VALUES (${offer}, '${random.pick(GROUPS)}', ${price}) ON CONFLICT (id) DO UPDATE SET (price_group, price) = (excluded.price_group, excluded.price)`
    case 9:
    case 10:
      return `UPDATE internal_orders SET status = 's${price}' WHERE id <= ${random.int(1, ORDERS)}`
    case 11:
    case 12:
      return `UPDATE internal_order_lines SET confirmed = ${price} WHERE id <= ${random.int(1, LINES)}`
    default:
      return `DELETE FROM offers WHERE id = ${offer}`
  }
}

/** What a till changes of its orders, in one transaction: all but what head office writes. */
export function ordering(random: Random): string[] {
  return Array.from({ length: random.int(1, 3) }, () => orderOf(random)).flat()
}

function orderOf(random: Random): string[] {
  const [id, line, quantity] = [random.int(1, ORDERS), random.int(1, LINES), random.int(1, 99)]
  const enter = `INSERT INTO internal_orders (id, note) VALUES (${id}, 'n${quantity}') ON CONFLICT (id) DO UPDATE SET note = excluded.note`
  const add = `INSERT INTO internal_order_lines (id, order_id, quantity) SELECT ${line}, id, ${quantity} FROM internal_orders WHERE id = ${id}
    ON CONFLICT (id) DO UPDATE SET quantity = excluded.quantity, order_id = excluded.order_id`
  switch (random.int(0, 4)) {
    case 0:
      return [`DELETE FROM internal_order_lines WHERE order_id = ${id}`, `DELETE FROM internal_orders WHERE id = ${id}`]
    case 1:
      return [`DELETE FROM internal_order_lines WHERE id = ${line}`]
    case 2:
      return [enter]
    default:
      return [enter, add]
  }
}
