/** A shop: where tills stand, and what head office has for them. */
export interface Shop {
  readonly location: string
  /** Which price lists are meant for its tills. */
  readonly priceGroup: string
  /** What it has room for. */
  readonly assortment: 'everything' | 'half'
}

const SHOPS = [
  { location: 'BA01', priceGroup: 'A', assortment: 'everything' },
  { location: 'KE01', priceGroup: 'B', assortment: 'half' },
] as const satisfies readonly Shop[]

/** Tills stand in the shops by turns. */
export function shopOf(till: number): Shop {
  return SHOPS[till % SHOPS.length] ?? SHOPS[0]
}

/** Those that have a till. */
export function shopsOf(tills: number): readonly Shop[] {
  return SHOPS.slice(0, tills)
}

/** The one that head office chooses where something is not for all. */
export function chosenShop(tills: number): Shop {
  return shopsOf(tills).at(-1) ?? SHOPS[0]
}

export function registerName(till: number): string {
  return `POS${till + 1}`
}
