import type { Kysely } from 'kysely'
import { TillsyncError } from '../errors.ts'
import type { AnyDocument, AnyTables, Document, RegisterName, TableName, Value } from '../model.ts'
import { decodeRecordId } from '../record.ts'
import { call, type Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import type { Effects } from './effects.ts'
import type { ApplyContext, Handler } from './handler.ts'
import { ONCE } from './tables.ts'

interface AnyChange {
  readonly table: string
  /** The values of the document's key at the till, in key order. */
  readonly recordId: readonly Value[]
  /** Which life of its key it is: a key that is removed and used again is another document. */
  readonly incarnation: number
  /** The first entry of this version in the register's stream. */
  readonly entryNo: number
}

/** A document in its latest version, or that it is gone. */
export type Change<D = AnyDocument> = AnyChange &
  (
    | {
        /** 'withdraw': it never came about, `orphans.withdraw()` says so; what it has done is to be taken back. */
        readonly operation: 'upsert' | 'withdraw'
        readonly document: D
        /** What it was before its register began to publish it, where this is its first version since. */
        readonly baseline: D | undefined
      }
    /** Removed at the till, or outside its filter now. */
    | { readonly operation: 'remove'; readonly document: undefined; readonly baseline: undefined }
  )

export interface HandlerContext<DB = AnyTables> {
  /** The transaction of the batch: what is done with it is committed with the batch or not at all. Of no use when the function has ended. */
  readonly trx: Kysely<DB>
  /** Which register the documents come from, and the epoch of its stream. */
  readonly origin: RegisterName & { readonly epoch: string }
  /**
   * Something outside the database, once for this key: `effect` runs after the commit, never for a batch that was rolled back, and until it succeeds. Only where
   * the process ends while it runs, or between its end and the note of it, does it run once more; it gets the key to tell the other side, which can then know it again.
   *
   * @throws ERR_HANDLER where the key is no text of 1 to 500 characters, or the handler has ended
   */
  once(key: string, effect: Effect): void
}

/** An effect outside the database. `signal` aborts when it takes longer than a handler may. */
export type Effect = (key: string, signal: AbortSignal) => unknown

/**
 * The host's own handler: gets all documents of its table in a batch at once, each in its latest version, inside the batch's transaction. It may be called again for the same
 * ones (a replay, an effect that is owed), so it writes by key. It returns nothing; what it throws refuses the documents.
 */
export type HostHandler<DB = AnyTables, Sent = AnyTables, T extends TableName<Sent> = TableName<Sent>> = (
  changes: readonly Change<Document<Sent, T>>[],
  context: HandlerContext<DB>,
) => void | Promise<void>

const LONGEST_KEY = 500

/** A handler of the host's own function. */
export function hostHandler(run: HostHandler, options: { readonly timeoutMs: number; readonly effects: Effects }): Handler {
  return {
    name: 'the handler',
    isHosts: true,
    tables: [ONCE],
    *check() {},
    apply: (documents, context) => applyAll(run, options, documents, context, 'upsert'),
    withdraw: (documents, context) => applyAll(run, options, documents, context, 'withdraw'),
  }
}

function* applyAll(
  run: HostHandler,
  { timeoutMs, effects }: { readonly timeoutMs: number; readonly effects: Effects },
  documents: readonly AppliedDocument[],
  context: ApplyContext,
  operation: 'upsert' | 'withdraw',
): Work<void> {
  const { location, register, epoch } = context.origin
  const changes = documents.map((document) => toChange(document, operation))
  const asked = new Asked()
  const returned = yield* call(async (trx) => {
    try {
      return await run(changes, { trx, origin: { location, register, epoch }, once: (key, effect) => asked.add(key, effect) })
    } finally {
      asked.end()
    }
  }, timeoutMs)
  if (returned !== undefined) {
    throw new TillsyncError(
      'ERR_HANDLER',
      `The handler returned ${Array.isArray(returned) ? 'a list' : typeof returned}, and nothing is expected of it`,
      {
        hint: 'Await what is to be done, and return nothing: async (changes, { trx }) => { await … }. A statement that is not executed does nothing.',
        context: { table: documents[0]?.table },
      },
    )
  }
  yield* effects.ask(asked.effects, documents, context.origin)
}

/** What a handler asks to be done once, by key; the first of a key counts. */
class Asked {
  readonly effects = new Map<string, Effect>()
  private hasEnded = false

  end(): void {
    this.hasEnded = true
  }

  add(key: string, effect: Effect): void {
    if (this.hasEnded) {
      throw new TillsyncError('ERR_HANDLER', '`once` was called when the handler had ended', { hint: 'Await everything before the function ends.' })
    }
    if (typeof key !== 'string' || key === '' || key.length > LONGEST_KEY || key.includes('\0') || !key.isWellFormed())
      throw new TillsyncError('ERR_HANDLER', `Expected the key of \`once\` to be a text of 1 to ${LONGEST_KEY} characters, got ${typeof key}`, {
        hint: "once('mail R-4711', async (key) => { … })",
      })
    if (typeof effect !== 'function')
      throw new TillsyncError('ERR_HANDLER', `Expected \`once\` to get a function, got ${typeof effect}`, { hint: 'once(key, async (key) => { … })' })
    if (!this.effects.has(key)) this.effects.set(key, effect)
  }
}

function toChange(document: AppliedDocument, operation: 'upsert' | 'withdraw'): Change {
  const { table, recordId, incarnation, removed, entries, baseline } = document
  const change = { table, recordId: decodeRecordId(recordId), incarnation, entryNo: entries[0]?.entryNo ?? 0 }
  if (removed) return { ...change, operation: 'remove', document: undefined, baseline: undefined }
  return { ...change, operation, document: document.copy() as AnyDocument, baseline: baseline?.copy() as AnyDocument | undefined }
}
