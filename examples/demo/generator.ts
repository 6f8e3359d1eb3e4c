import type { Sale, SaleLine } from './sales.ts'

const ARTICLES = [
  ['4006381333931', 'Ballpoint pen, blue', '1.49'],
  ['4001686322420', 'Liquorice wheels 200 g', '1.19'],
  ['5000159461122', 'Chocolate bar', '0.89'],
  ['7622210449283', 'Biscuits with cocoa cream', '1.79'],
  ['5449000000996', 'Cola 0.33 l', '0.95'],
  ['4008400401621', 'Hazelnut spread 450 g', '3.49'],
  ['8076809513753', 'Tomato sauce with basil', '2.29'],
  ['4260107222231', 'Ground coffee 500 g', '6.99'],
  ['3017620422003', 'Breakfast cereal', '3.79'],
  ['4311501628331', 'Whole milk 1 l', '1.15'],
  ['4000417025005', 'Dark chocolate 100 g', '1.29'],
  ['8712100849060', 'Dish soap', '1.65'],
  ['4005900036728', 'Hand cream', '2.95'],
  ['7610400010467', 'Toothbrush, soft', '2.49'],
  ['4902778915622', 'Gel pen, black', '1.99'],
  ['9780140449136', 'Paperback novel', '9.99'],
  ['2100010000000', 'Apples, loose (kg)', '3.00'],
  ['2100020000000', 'Cheese from the counter (kg)', '19.00'],
] as const
const WEIGHED = '21'
const MINUTES_BETWEEN_SALES = 3

/** The same sales for the same seed: returns, anonymous and known customers, weighed goods, one article twice on a receipt. */
export function generateSales(seed: number, count: number): readonly Sale[] {
  const random = randomOf(seed)
  return Array.from({ length: count }, (_, n) => generateSale(random, n))
}

function generateSale(random: () => number, n: number): Sale {
  const series = random() < 0.08 ? 'return' : 'sale'
  const lines = Array.from({ length: 1 + whole(random, 6) }, () => generateLine(random, series))
  const [first] = lines
  if (first && random() < 0.15) lines.push({ ...first, quantity: quantityOf(random, first.itemNo, series) })
  const minutes = 8 * 60 + ((n * MINUTES_BETWEEN_SALES) % (12 * 60))
  return {
    receiptNo: `${series === 'return' ? 'C' : 'R'}-${String(n + 1).padStart(6, '0')}`,
    series,
    soldAt: `2026-11-21T${String(Math.floor(minutes / 60)).padStart(2, '0')}:${String(minutes % 60).padStart(2, '0')}:00`,
    customerNo: random() < 0.35 ? String(10_000 + whole(random, 500)) : null,
    lines,
  }
}

function generateLine(random: () => number, series: Sale['series']): SaleLine {
  const [itemNo, description, unitPrice] = ARTICLES[whole(random, ARTICLES.length)] ?? ARTICLES[0]
  return { itemNo, description, unitPrice, quantity: quantityOf(random, itemNo, series) }
}

function quantityOf(random: () => number, itemNo: string, series: Sale['series']): string {
  const quantity = itemNo.startsWith(WEIGHED) ? `${whole(random, 2)}.${String(1 + whole(random, 99)).padStart(2, '0')}` : String(1 + whole(random, 4))
  return series === 'return' ? `-${quantity}` : quantity
}

function whole(random: () => number, below: number): number {
  return Math.floor(random() * below)
}

/** Mulberry32 (https://gist.github.com/tommyettinger/46a874533244883189143505d203312c): small, and the same everywhere. */
export function randomOf(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
