import type { RegisterName } from '../model.ts'
import type { ApplyContext } from './handler.ts'
import type { Posting } from './postings.ts'

/** A difference that was posted, as the host's own ledger gets it: once, never changed, with what caused it. */
export interface StockPosting {
  readonly item: string
  readonly location: string
  /** Null where the movement has none. */
  readonly businessDate: string | null
  readonly document: string | null
  readonly customer: string | null
  /** Further dimensions that the mapping names. */
  readonly dimensions: Readonly<Record<string, string | number | boolean>>
  /** Decimal text, exact to six places, without trailing zeros; signed. */
  readonly quantity: string
  readonly amount: string
  /** The register that sent the document, and the number that central has for it. */
  readonly origin: RegisterName
  readonly registerId: number
  /** The document: its root table, and its record id as JSON text, `[4711]`. */
  readonly table: string
  readonly recordId: string
  /** Which life of its key it is. */
  readonly incarnation: number
  /** How often something was posted for it, this time included: 1, 2, 3 … */
  readonly revision: number
  /** The version that caused it: its first entry in the register's stream, in this epoch. */
  readonly epoch: string
  readonly entryNo: number
  /** One text for (register, table, record id, incarnation, revision, dimension): unique for ever. */
  readonly key: string
}

export function toStockPosting(posting: Posting, { origin }: ApplyContext): StockPosting {
  const { dimension, values, name, table, recordId, incarnation, revision, entryNo } = posting
  const { item, location, businessDate, document, customer, ...dimensions } = dimension as Record<string, string>
  const [quantity, amount] = values as [string, string]
  return {
    item: item as string,
    location: location as string,
    businessDate: businessDate ?? null,
    document: document ?? null,
    customer: customer ?? null,
    dimensions,
    quantity,
    amount,
    origin: { location: origin.location, register: origin.register },
    registerId: origin.registerId,
    table,
    recordId,
    incarnation,
    revision,
    epoch: origin.epoch,
    entryNo,
    key: JSON.stringify([origin.registerId, table, recordId, incarnation, revision, name]),
  }
}

/** A posting of no document, to see what a function makes of one. */
export const SPECIMEN: StockPosting = {
  item: '0',
  location: '0',
  businessDate: '2000-01-01',
  document: '0',
  customer: '0',
  dimensions: {},
  quantity: '1',
  amount: '1',
  origin: { location: '0', register: '0' },
  registerId: 1,
  table: 'specimen',
  recordId: '[1]',
  incarnation: 1,
  revision: 1,
  epoch: '0',
  entryNo: 1,
  key: '["specimen"]',
}
