import type { RegisterName } from '../model.ts'
import type { WantedClosing } from './closing-state.ts'
import type { AppliedDocument } from './document-set.ts'
import type { Ledger } from './postings.ts'
import type { SumsByDimension } from './sums.ts'

/** What a handler wants to have posted of a document, in the version that stands; what is posted is compared with it. Each throws what the host's function throws. */
export type Wants = WantsMovements | WantsClosings

export interface WantsMovements {
  readonly kind: 'movements'
  readonly ledger: Pick<Ledger, 'name' | 'measures'>
  wanted(document: AppliedDocument, origin: RegisterName): SumsByDimension
}

export interface WantsClosings {
  readonly kind: 'closings'
  readonly moveStock: boolean
  /** The table whose documents the closings sum up, where that is said. */
  readonly sumsUp: string | undefined
  /** How those are read, where that is said. */
  readonly receipts: ReadsReceipts | undefined
  wanted(document: AppliedDocument, origin: RegisterName): WantedClosing
}

/** How closings read the receipts that they sum up. */
export interface ReadsReceipts {
  readonly table: string
  /** Whether lines are computed from them; otherwise the till has made its own, which are only compared. */
  readonly isComputed: boolean
  readonly removals: 'ignore' | 'apply'
  /** ISO 8601; undefined where no column says it. */
  dateOf(document: AppliedDocument): string | undefined
  /** What a receipt brings into its closing. */
  lines(document: AppliedDocument, origin: RegisterName): SumsByDimension
}
