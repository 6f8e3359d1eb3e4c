import Big from 'big.js'
import type { Sale } from './sales.ts'

/** A receipt of a till, by the number that is printed on it. */
export interface TillReceipt {
  /** Which till: 0, 1, 2 … */
  readonly till: number
  readonly receiptNo: string
}

/** A quantity that the cashier had typed wrong. */
export interface Correction extends TillReceipt {
  readonly lineNo: number
  readonly quantity: string
}

/** Goods that one till has sold and another takes back. */
export interface TakenBack extends TillReceipt {
  readonly lineNo: number
  readonly by: number
  readonly sale: Sale
}

/** What goes wrong with which receipt. The same for the same sales; what they are too few for is left out. */
export interface Story {
  /** The POS writes a wrong total. */
  readonly wrongTotal: TillReceipt
  /** It is paid when its till has closed. */
  readonly leftOpen: TillReceipt | undefined
  readonly correction: Correction
  readonly takenBack: TakenBack | undefined
}

export function writeStory(shares: readonly (readonly Sale[])[]): Story {
  const last = shares.length - 1
  const till = (n: number) => Math.min(n, last)
  const wrongTotal = { till: 0, receiptNo: pick(shares[0], 0.7).receiptNo }
  const taken = new Set([wrongTotal.receiptNo])
  const leftOpen = leaveOpen(shares[till(1)] ?? [], till(1), taken)
  if (leftOpen) taken.add(leftOpen.receiptNo)
  return {
    wrongTotal,
    leftOpen,
    correction: correct(shares[till(2)] ?? [], till(2), taken),
    takenBack: last > 0 ? takeBack(shares[0] ?? [], 1) : undefined,
  }
}

/** What is sold when everything is told, by till. */
export function soldAtLast(shares: readonly (readonly Sale[])[], { correction, takenBack }: Story): readonly (readonly Sale[])[] {
  return shares.map((share, till) => [
    ...share.map((sale) => (correction.till === till && correction.receiptNo === sale.receiptNo ? corrected(sale, correction) : sale)),
    ...(takenBack?.by === till ? [takenBack.sale] : []),
  ])
}

function corrected(sale: Sale, { lineNo, quantity }: Correction): Sale {
  return { ...sale, lines: sale.lines.map((line, n) => (n + 1 === lineNo ? { ...line, quantity } : line)) }
}

function pick(share: readonly Sale[] | undefined, part: number): Sale {
  return share?.[Math.floor(share.length * part)] as Sale
}

/** One with a later number behind it in its series: while it is not paid, there is a gap. */
function leaveOpen(share: readonly Sale[], till: number, taken: ReadonlySet<string>): TillReceipt | undefined {
  const found = share.find(
    (sale, n) => n >= share.length * 0.3 && !taken.has(sale.receiptNo) && share.some((later, m) => m > n && later.series === sale.series),
  )
  return found && { till, receiptNo: found.receiptNo }
}

function correct(share: readonly Sale[], till: number, taken: ReadonlySet<string>): Correction {
  const { receiptNo, lines } = share.find((sale, n) => n >= share.length * 0.2 && !taken.has(sale.receiptNo)) ?? pick(share, 0)
  const typed = new Big(lines[0]?.quantity ?? 0)
  return { till, receiptNo, lineNo: 1, quantity: typed.plus(typed.lt(0) ? -1 : 1).toFixed() }
}

function takeBack(share: readonly Sale[], by: number): TakenBack | undefined {
  const sold = share.find(({ series, lines }) => series === 'sale' && new Big(lines[0]?.quantity ?? 0).gt(0))
  const line = sold?.lines[0]
  if (!sold || !line) return undefined
  const sale: Sale = { ...sold, receiptNo: `C-${sold.receiptNo}`, series: 'return', lines: [{ ...line, quantity: `-${line.quantity}` }] }
  return { till: 0, receiptNo: sold.receiptNo, lineNo: 1, by, sale }
}
