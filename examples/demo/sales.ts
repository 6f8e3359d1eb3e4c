import Big from 'big.js'

/** A sale as the cashier rings it up. Quantities and prices are decimal text, exact. */
export interface Sale {
  readonly receiptNo: string
  readonly series: 'sale' | 'return'
  /** ISO 8601, local time of the shop. */
  readonly soldAt: string
  /** Null where it is an anonymous customer. */
  readonly customerNo: string | null
  readonly lines: readonly SaleLine[]
}

export interface SaleLine {
  readonly itemNo: string
  readonly description: string
  /** Negative where goods come back. */
  readonly quantity: string
  readonly unitPrice: string
}

export function netAmount(line: Pick<SaleLine, 'quantity' | 'unitPrice'>): Big {
  return new Big(line.quantity).times(line.unitPrice)
}

/** Deals the sales out among the tills like cards. */
export function dealOut(sales: readonly Sale[], tills: number): readonly (readonly Sale[])[] {
  return Array.from({ length: tills }, (_, till) => sales.filter((_, n) => n % tills === till))
}
