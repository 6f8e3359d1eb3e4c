import type { Random } from '../random.ts'
import { GROUPS } from './schedules.ts'

const ITEMS = 6
const BARCODES = 5
const OFFERS = 4

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
  switch (random.int(0, 9)) {
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
    default:
      return `DELETE FROM offers WHERE id = ${offer}`
  }
}
