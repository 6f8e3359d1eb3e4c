import type { Sale } from './sales.ts'
import type { Correction } from './story.ts'

/** What the director, the tills and head office say to each other about the show; what is sold travels only through tillsync. */
export const LOCATION = 'BA01'

export interface TillStart {
  readonly type: 'start'
  readonly register: string
  readonly file: string
  readonly url: string
  readonly token: string
  readonly sales: readonly Sale[]
  /** Receipts per second. */
  readonly rate: number
  /** By receipt number. */
  readonly mishaps: Mishaps
}

export interface Mishaps {
  readonly wrongTotal: string | undefined
  readonly leftOpen: string | undefined
}

/** What is to be done at a till when all is sold. */
export type Task =
  | { readonly type: 'take back'; readonly sale: Sale }
  | { readonly type: 'close' }
  | { readonly type: 'mend'; readonly receiptNo: string }
  | { readonly type: 'take payment'; readonly receiptNo: string }
  | ({ readonly type: 'correct' } & Correction)
  | { readonly type: 'export day'; readonly businessDate: string }
  | { readonly type: 'synchronize' }

export type ToTill = TillStart | { readonly type: 'export all' } | { readonly type: 'do'; readonly task: Task } | { readonly type: 'stop' }

export interface TillProgress {
  readonly type: 'progress'
  readonly sold: number
  /** Sealed and not acknowledged by head office, or not even sealed. */
  readonly pending: number
}

/** How much was sealed again. */
export interface Exported {
  readonly documents: number
  readonly entries: number
}

/** Head office has all of the till; what was done is acknowledged. */
export interface Done {
  readonly type: 'done'
  /** The last entry of the till's stream. */
  readonly entries: number
  readonly exported: Exported | undefined
}

export type FromTill =
  | { readonly type: 'ready'; readonly found: number }
  | TillProgress
  | { readonly type: 'line'; readonly up: boolean }
  | ({ readonly type: 'exported' } & Exported)
  | Done

/** A till that head office is to know. */
export interface NewTill {
  readonly register: string
  /** Which items it gets. */
  readonly assortment: string
}

export type ToCentral =
  | { readonly type: 'start'; readonly folder: string; readonly registers: readonly NewTill[] }
  | { readonly type: 'audit'; readonly days: readonly string[] }
  | { readonly type: 'stop' }

/** What the library itself says of its books. */
export interface Audited {
  readonly type: 'audited'
  /** By register, as text. */
  readonly findings: readonly string[]
  readonly archived: number
  /** What `reconcile()` names, as text. */
  readonly differences: readonly string[]
  /** Net amounts that are closed by its account: decimal texts. */
  readonly closed: readonly string[]
}

export type FromCentral =
  | {
      readonly type: 'ready'
      readonly port: number
      readonly connectionString: string
      readonly tokens: Readonly<Record<string, string>>
    }
  | { readonly type: 'applied'; readonly register: string; readonly entries: number }
  | { readonly type: 'refused'; readonly why: string }
  | { readonly type: 'quarantined'; readonly register: string; readonly code: string }
  | Audited
