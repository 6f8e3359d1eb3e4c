import type { MirrorTarget } from '../mirroring.ts'
import type { AnyDocument, AnyTables, Document, TableName } from '../model.ts'
import type { OwnTable } from '../own-table.ts'
import type { ApplyingDatabase } from '../ports.ts'
import type { Work } from '../work.ts'
import type { AppliedDocument, Origin } from './document-set.ts'
import type { FinishContext } from './finish.ts'
import type { HostHandler } from './host-handler.ts'
import type { StockLevels } from './stock-levels.ts'
import type { Wants } from './wants.ts'

/** What a handler of the library gets beside the documents. */
export interface ApplyContext {
  readonly database: ApplyingDatabase
  readonly origin: Origin
  /** Changes of stock, written once at the end of the batch. */
  readonly levels: StockLevels
  /** Whether the documents are of an epoch that was superseded: they take no record's place that the register has given to another document. */
  readonly late: boolean
  /**
   * Where the documents were received before and are applied only now: what becomes of those of which a newer document has a part. A mirror takes nothing back
   * from that one: 'refuse' them; 'leave' them out of mirrors, where they have been applied before.
   */
  readonly overtaken?: 'refuse' | 'leave' | undefined
  /** Which of these record ids are of documents of their sender that stand here, of a root table. Where nobody can say, none is known. */
  stands?(table: string, recordIds: readonly string[]): Work<ReadonlySet<string>>
  /** The tables that mirrors write for this set of documents, in the order in which they do; see `arrange`. */
  readonly targets?: ReadonlyMap<string, MirrorTarget>
  /** The order in which those are emptied of what goes, where it is another one than the opposite; see `arrange`. */
  readonly emptied?: readonly string[] | undefined
  /** Told for how many documents something was posted. */
  readonly onPosted?: (documents: number) => void
  /** Where it is there, columns that a mirror's table lacks are left out, and told here; otherwise they are an error. */
  leftOut?(table: string, column: string): void
}

/** What a subscriber does with the documents of a root table. Made by `mirror()`, `stockMovements()`, or of the host's own function. */
export interface Handler<D = AnyDocument> {
  readonly name: string
  /** The ledger that it posts to: a document is posted to a ledger by one handler. */
  readonly ledger?: string
  /** The ledger of stock into which its documents post movements of goods. */
  readonly movesStock?: string
  /** The root table whose documents its own sum up, where that is said. */
  readonly sumsUp?: string
  /** 'apply' where the removal of a whole document takes back what it did; otherwise it ignores it. */
  readonly removals?: 'apply' | 'ignore'
  /** What it does with documents of other root tables, by table. */
  readonly alongside?: Readonly<Record<string, Handler>>
  /** What it wants to have posted of a document. */
  readonly wants?: Wants
  /** Whether it is the host's own function. */
  readonly isHosts?: boolean
  /** Tables of the library's own that it needs. */
  readonly tables: readonly OwnTable[]
  /** Only in types: the documents that it takes. */
  readonly takes?: (document: D) => void
  /** The same handler, told what else is subscribed. */
  within?(subscribed: Subscribed): Handler<D>
  /** Looks at what it needs of the host's tables. @throws ERR_UNKNOWN_TABLE, ERR_UNKNOWN_COLUMN, ERR_NO_KEY */
  check(database: ApplyingDatabase, table: string): Work<void>
  /** The host's tables that it writes for these documents, all of one table, in order. */
  targets?(documents: readonly AppliedDocument[]): readonly string[]
  /** Applies a set of documents of one table, each in it once, inside the batch's transaction. */
  apply(documents: readonly AppliedDocument[], context: ApplyContext): Work<void>
  /** Of which of these documents it would post something; of none where it has no ledger. Writes nothing. */
  differing?(documents: readonly AppliedDocument[], context: ApplyContext): Work<ReadonlySet<AppliedDocument>>
  /** Writes what had to wait for other tables; called when all handlers have applied the set, in the same order, and once more, `isLast`, when all have done so. */
  complete?(documents: readonly AppliedDocument[], context: ApplyContext, isLast: boolean): Work<void>
  /**
   * Removes what is to be removed: called last, in the opposite order, so that what refers to others goes before them; first for all handlers to
   * `loosen` what rows that go hold each other by, then to `remove` them, with `only` those of this target.
   */
  clear?(documents: readonly AppliedDocument[], context: ApplyContext, step: 'loosen' | 'remove', only?: string): Work<void>
  /** Takes back what it did for documents that never came about: posts the reversal, removes what it wrote. */
  withdraw(documents: readonly AppliedDocument[], context: ApplyContext): Work<void>
  /** What it does last, once in a transaction that applies documents of a register. No document's fault may end it. */
  finish?(table: string, context: FinishContext): Work<void>
}

/** Made by `mirror()`. */
export interface Mirror<D = AnyDocument> extends Handler<D> {
  readonly name: 'mirror'
}

export type Subscribed = ReadonlyMap<string, readonly Handler[]>

/** One that the library makes, or the host's own function. */
type OneHandler<DB, Sent, T extends TableName<Sent>> = Handler<Document<Sent, T>> | HostHandler<DB, Sent, T>

/** Handlers by root table: one, or several that run in order. A part's own entry says what `mirror` does with the part. */
export type SubscribeRules<Sent, DB = AnyTables> = {
  readonly [T in TableName<Sent>]?: OneHandler<DB, Sent, T> | readonly OneHandler<DB, Sent, T>[]
}

/** What a register does with what central publishes, by central's tables: it mirrors them. A part's own entry says what else holds for the part. */
export type MirrorRules<Sent> = { readonly [T in TableName<Sent>]?: Mirror<Document<Sent, T>> }

/** All handlers, in the order in which tables are applied. */
export type HandlersByTable = ReadonlyMap<string, readonly Handler[]>

/** Whether all handlers of a table take back what they did for a document that is removed. */
export function appliesRemovals(handlers: HandlersByTable, table: string): boolean {
  return (handlers.get(table) ?? []).every(({ removals }) => removals === 'apply')
}
