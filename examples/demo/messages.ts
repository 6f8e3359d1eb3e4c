import type { Notice } from '../../src/index.ts'
import type { Sale } from './sales.ts'
import type { Correction } from './story.ts'

// What the director, the tills and head office say to each other about the show; what is sold travels only through tillsync.

/** How a till and head office reach each other. */
export type LinkName = 'http' | 'nats' | 'file'

/** By a NATS server. */
export interface NatsWay {
  readonly type: 'nats'
  readonly servers: string
  readonly credentials: { readonly user: string; readonly password: string }
}

/** By letters in a folder, with the keys of registers. */
export interface FileWay {
  readonly type: 'file'
  readonly folder: string
  readonly keys: Readonly<Record<string, string>>
}

export type Way = { readonly type: 'http'; readonly url: string; readonly token: string } | NatsWay | FileWay

export interface TillStart {
  readonly type: 'start'
  readonly location: string
  readonly register: string
  readonly file: string
  readonly way: Way
  readonly sales: readonly Sale[]
  /** Receipts per second. */
  readonly rate: number
  /** By receipt number. */
  readonly mishaps: Mishaps
  /** How far its clock is ahead of the machine's. */
  readonly aheadMs: number
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

/** What a till wants from the warehouse. */
export interface OrderLine {
  readonly lineNo: number
  readonly itemNo: string
  readonly quantity: string
}

export type ToTill =
  | TillStart
  | { readonly type: 'export all' }
  | { readonly type: 'order'; readonly lines: readonly OrderLine[]; readonly day: string }
  | { readonly type: 'change order'; readonly line: OrderLine }
  | { readonly type: 'list notices'; readonly day: string }
  | { readonly type: 'acknowledge'; readonly ids: readonly number[] }
  | { readonly type: 'do'; readonly task: Task }
  | { readonly type: 'stop' }

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

/** What is printed for the shelf. */
export interface Label {
  readonly itemNo: string
  readonly description: string
  readonly unitPrice: string
}

/** What the operator is to be told. */
export interface Listed {
  readonly type: 'notices'
  readonly notices: readonly Notice[]
  readonly labels: readonly Label[]
}

export type FromTill =
  | { readonly type: 'ready'; readonly found: number }
  | TillProgress
  | { readonly type: 'line'; readonly up: boolean }
  | ({ readonly type: 'exported' } & Exported)
  | Listed
  | { readonly type: 'acknowledged' }
  | Done

/** A till that head office is to know. */
export interface NewTill {
  readonly location: string
  readonly register: string
  /** Which price lists it gets. */
  readonly priceGroup: string
}

export type ToCentral =
  | { readonly type: 'start'; readonly folder: string; readonly registers: readonly NewTill[]; readonly hub: NatsWay | FileWay | undefined }
  | { readonly type: 'audit'; readonly locations: readonly string[]; readonly days: readonly string[] }
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
