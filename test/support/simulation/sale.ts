import type { AnyDocument } from '../../../src/index.ts'

export interface Line {
  readonly id: number
  readonly receipt_id: number
  readonly item_no: string
  readonly quantity: number
}

/** A receipt with its lines, as it stands in a till or in a mirror. */
export interface Sale {
  readonly id: number
  readonly receipt_no: string
  /** Names the sale, for ever. */
  readonly customer_no: string
  readonly status: string
  readonly lines: readonly Line[]
}

export function salesOf(receipts: readonly Omit<Sale, 'lines'>[], lines: readonly Line[]): Sale[] {
  const byReceipt = Map.groupBy(
    lines.map(({ id, receipt_id, item_no, quantity }) => ({ id: Number(id), receipt_id: Number(receipt_id), item_no, quantity: Number(quantity) })),
    ({ receipt_id }) => receipt_id,
  )
  return receipts
    .map(({ id, receipt_no, customer_no, status }) => ({
      id: Number(id),
      receipt_no,
      customer_no,
      status,
      lines: (byReceipt.get(Number(id)) ?? []).toSorted((a, b) => a.id - b.id),
    }))
    .sort((a, b) => a.id - b.id)
}

export function documentSale({ parts, ...receipt }: AnyDocument): Sale {
  return salesOf([receipt as unknown as Omit<Sale, 'lines'>], (parts.receipt_lines ?? []) as unknown as Line[])[0] as Sale
}

/** Quantities by item. */
export type Moved = ReadonlyMap<string, number>

/** What a sale moves. */
export function movedBy({ status, lines }: Sale): Moved {
  return status === 'open' || status === 'voided' ? new Map() : sumUp(lines.map(({ item_no, quantity }) => [item_no, -quantity]))
}

export function sumUp(moves: Iterable<readonly [string, number]>): Moved {
  const sums = new Map<string, number>()
  for (const [item, quantity] of moves) sums.set(item, (sums.get(item) ?? 0) + quantity)
  return new Map([...sums].filter(([, quantity]) => quantity !== 0))
}

export function less(a: Moved, b: Moved): Moved {
  return sumUp([...a, ...[...b].map(([item, quantity]) => [item, -quantity] as const)])
}

export function textOf(moved: Moved): string {
  return JSON.stringify([...moved].sort())
}
