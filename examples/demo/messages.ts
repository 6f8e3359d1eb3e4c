import type { Sale } from './sales.ts'

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
}

export type ToTill = TillStart | { readonly type: 're-export' } | { readonly type: 'finish' } | { readonly type: 'stop' }

export interface TillProgress {
  readonly type: 'progress'
  readonly sold: number
  /** Sealed and not acknowledged by head office, or not even sealed. */
  readonly pending: number
}

export type FromTill =
  | { readonly type: 'ready'; readonly found: number }
  | TillProgress
  | { readonly type: 'line'; readonly up: boolean }
  | { readonly type: 're-exported'; readonly documents: number; readonly entries: number }
  | { readonly type: 'finished'; readonly entries: number }

export type ToCentral = { readonly type: 'start'; readonly folder: string; readonly registers: readonly string[] } | { readonly type: 'stop' }

export type FromCentral =
  | {
      readonly type: 'ready'
      readonly port: number
      readonly connectionString: string
      readonly tokens: Readonly<Record<string, string>>
    }
  | { readonly type: 'applied'; readonly register: string; readonly entries: number }
  | { readonly type: 'refused'; readonly why: string }
