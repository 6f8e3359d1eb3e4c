import { TillsyncError } from '../errors.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { type Insert, insertBeside, query, type Step, type Work } from '../work.ts'
import type { AppliedDocument, Origin } from './document-set.ts'
import { type FinishContext, finish } from './finish.ts'
import type { ApplyContext, Handler, HandlersByTable } from './handler.ts'
import { applyInOrder, type RunHandler } from './in-order.ts'
import { type Division, divide, type Failed } from './quarantine-division.ts'
import { asRetryable } from './quarantine-verdict.ts'
import { standingOf } from './standing-documents.ts'
import { StockLevels } from './stock-levels.ts'
import { QUARANTINE } from './tables.ts'
import { type ChecksByTable, refusedBy } from './validate.ts'

/** What central does with documents, as the host has it. */
export interface Subscribed {
  readonly handlers: HandlersByTable
  readonly checks: ChecksByTable
  /** How long a handler may take for a set of documents, in milliseconds. */
  readonly handlerTimeoutMs: number
  readonly retry: RetryLimits
}

export interface RetryLimits {
  /** Bounds of the pause before a document is tried again, in milliseconds. */
  readonly minMs: number
  readonly maxMs: number
  /** How many documents are tried again in one transaction. */
  readonly perTurn: number
}

/** Under which circumstances documents are applied. */
export interface Circumstances {
  readonly origin: Origin
  readonly late: boolean
  /** See `ApplyContext`. */
  readonly overtaken?: ApplyContext['overtaken']
  /** What stands in a mirror under their keys are other documents: they are posted only. */
  readonly ledgersOnly: boolean
  /** Which handlers take them. Default: all of their tables. */
  readonly takes?: ((handler: Handler, table: string) => boolean) | undefined
}

/** What is there of the register in quarantine. */
export interface Held {
  readonly any: boolean
  readonly missing: boolean
}

/** Who is told what became of documents. */
export interface Told {
  applied(documents: readonly AppliedDocument[]): Work<void>
  failed(failed: Failed): Work<void>
}

/** What a part of the documents has changed beside the database. */
interface Attempted {
  readonly levels: StockLevels
  readonly postings: number
}

/** The handlers' and checks' part of one transaction. */
export class Handling {
  readonly division: Division
  private readonly database: ApplyingDatabase
  private readonly subscribed: Subscribed
  /** Changes of stock, written once at the end. */
  private readonly levels = new StockLevels()
  /** For how many documents something was posted, ledger by ledger. */
  postings = 0
  /** From when on a statement is cancelled by its time limit. */
  private statementMs = Number.POSITIVE_INFINITY
  private registerId = 0

  constructor(database: ApplyingDatabase, subscribed: Subscribed, division: Division) {
    this.database = database
    this.subscribed = subscribed
    this.division = division
  }

  /**
   * Sets the time limits, as far as the host's own are not narrower: a statement that hangs is cancelled by the server; one that waits for a lock gives up before, for
   * that is no document's fault. Says whether any of the register's documents are in quarantine. Beside that it inserts what is to be there before anything is applied.
   */
  *begin(registerId: number, inserts: readonly Insert[] = []): Work<Held> {
    this.registerId = registerId
    const { database, subscribed } = this
    const there = (condition: string) => `EXISTS (SELECT FROM ${database.qualify(QUARANTINE.name)} WHERE register_id = $1 ${condition})`
    const limited = (name: string, ms: string) =>
      `(SELECT (extract(epoch FROM set_config('${name}', (CASE WHEN was BETWEEN 1 AND ${ms} THEN was ELSE ${ms} END)::text, true)::interval) * 1000)::bigint
        FROM (SELECT (extract(epoch FROM current_setting('${name}')::interval) * 1000)::bigint AS was) AS setting)`
    const [row] = yield* insertBeside<{ any: boolean; missing: boolean; statement: number }>(inserts, {
      sql: `SELECT ${there('')} AS any, ${there("AND state = 'waiting' AND cause = 'missing'")} AS missing,
                   ${limited('statement_timeout', '$2::bigint')} AS statement, ${limited('lock_timeout', '$3::bigint')} AS lock`,
      parameters: [registerId, subscribed.handlerTimeoutMs, Math.ceil(subscribed.handlerTimeoutMs / 2)],
      keepsPlan: true,
    })
    this.division.applying()
    this.statementMs = row?.statement ?? this.statementMs
    return { any: row?.any ?? false, missing: row?.missing ?? false }
  }

  /** Documents that the checks of their tables refuse. */
  *validate(documents: readonly AppliedDocument[], origin: Origin, isApart = this.isApart): Work<readonly Failed[]> {
    const { checks } = this.subscribed
    const refused: Failed[] = []
    for (const [table, all] of Map.groupBy(documents, (document) => document.table)) {
      const own = checks.get(table)
      const present = all.filter((document) => !document.removed || document.before !== undefined)
      if (own === undefined || present.length === 0) continue
      const attempt = (part: readonly AppliedDocument[]) => this.within(refusedBy(this.database, own, part, origin))
      if (!isApart) refused.push(...(yield* attempt(present)))
      else {
        yield* divide(this.database, this.division, present, attempt, {
          kept: (found) => void refused.push(...originals(found, present)),
          failed: (failed) => void refused.push(failed),
        })
      }
    }
    return refused
  }

  /** Applies documents and says what became of them, as soon as it is known; where all are applied together, the first failure is thrown. */
  *apply(documents: readonly AppliedDocument[], circumstances: Circumstances, told: Told, isApart = this.isApart): Work<void> {
    const handled = inOrder(documents, this.subscribed.handlers).flatMap(([, group]) => group)
    if (handled.length === 0) return
    const attempt = (part: readonly AppliedDocument[]) => this.attempt(part, circumstances)
    const keep = ({ levels, postings }: Attempted) => {
      this.levels.addAll(levels)
      this.postings += postings
    }
    const kept = function* (changes: Attempted, part: readonly AppliedDocument[]): Work<void> {
      keep(changes)
      yield* told.applied(part)
    }
    if (isApart) return yield* divide(this.database, this.division, handled, attempt, { kept, failed: (failed) => told.failed(failed) })
    yield* kept(yield* attempt(handled), handled)
  }

  /** Of which documents something would be posted; those of which that can't be said among them. */
  *differing(documents: readonly AppliedDocument[], circumstances: Circumstances): Work<ReadonlySet<AppliedDocument>> {
    const found = new Set<AppliedDocument>()
    for (const [table, group] of Map.groupBy(documents, (document) => document.table)) {
      for (const handler of this.handlersFor(circumstances).get(table) ?? []) {
        for (const document of yield* this.differingBy(handler, group, circumstances)) found.add(document)
      }
    }
    return found
  }

  private *differingBy(handler: Handler, documents: readonly AppliedDocument[], { origin, late }: Circumstances): Work<Iterable<AppliedDocument>> {
    if (handler.differing === undefined) return []
    const copies = new Map(documents.map((document) => [document.again(), document]))
    try {
      const differing = yield* this.within(
        handler.differing([...copies.keys()], { database: this.database, origin, levels: new StockLevels(), late }),
      )
      return [...differing].map((copy) => copies.get(copy) as AppliedDocument)
    } catch (thrown) {
      if (this.database.faultOf(thrown) === undefined) throw asRetryable(thrown, `${handler.name} of \`${documents[0]?.table}\``)
      if (documents.length === 1) return documents
    }
    const found: AppliedDocument[] = []
    for (const document of documents) found.push(...(yield* this.differingBy(handler, [document], { origin, late, ledgersOnly: true })))
    return found
  }

  /** Last, once: what was deferred, what handlers do at the end, up to a place where that is given, and the levels, in key order, so that lanes can't deadlock. */
  *finish(through?: FinishContext['through']): Work<void> {
    const { database, registerId, levels, subscribed } = this
    if (subscribed.handlers.size > 0) yield* database.mirroring.settleLater()
    const onPosted = (documents: number): void => {
      this.postings += documents
    }
    yield* finish(subscribed.handlers, { database, registerId, levels, through, isStrict: this.division.mode === 'strict', onPosted })
  }

  private handlersFor({ ledgersOnly, takes }: Circumstances): HandlersByTable {
    const { handlers } = this.subscribed
    if (!ledgersOnly && takes === undefined) return handlers
    const isWanted = (handler: Handler, table: string) => !(ledgersOnly && handler.ledger === undefined) && (takes?.(handler, table) ?? true)
    return new Map([...handlers].map(([table, all]) => [table, all.filter((handler) => isWanted(handler, table))]))
  }

  private get isApart(): boolean {
    return this.division.mode !== 'together'
  }

  private *attempt(part: readonly AppliedDocument[], circumstances: Circumstances): Work<Attempted> {
    const { origin, late, overtaken } = circumstances
    const levels = new StockLevels()
    let postings = 0
    const onPosted = (documents: number): void => {
      postings += documents
    }
    const stands = standingOf(this.database, origin.registerId)
    const context: ApplyContext = { database: this.database, origin, levels, late, overtaken, stands, onPosted }
    const handlers = this.handlersFor(circumstances)
    const run: RunHandler = (handler, group, work) => this.run(handler, group, work)
    const before = part.flatMap((document) => document.before ?? [])
    // Who takes back what is removed gets the removal only. The register has it no more: another document may have the keys of its parts.
    if (before.length > 0) yield* applyInOrder(this.database, keeping(handlers), before, { ...context, late: true }, run)
    yield* applyInOrder(this.database, handlers, part, context, run)
    // What was deferred is to be known while it is known whose it is.
    if (this.isApart) yield* this.within(this.database.mirroring.settle())
    if (this.division.mode !== 'strict') return { levels, postings }
    yield* levels.write(this.database)
    yield* query({ sql: 'SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED', parameters: [] })
    return { levels: new StockLevels(), postings }
  }

  private *run(handler: Handler, documents: readonly AppliedDocument[], work: Work<void>): Work<void> {
    const table = documents[0]?.table
    try {
      yield* this.within(work)
    } catch (thrown) {
      const what = `${handler.name} of \`${table}\``
      if (this.database.faultOf(thrown) === undefined) throw asRetryable(thrown, what)
      throw named(thrown, what, table)
    }
  }

  /** A handler's steps, ended where together they take too long. */
  private *within<T>(work: Work<T>): Work<T> {
    const { handlerTimeoutMs } = this.subscribed
    const endsAt = performance.now() + handlerTimeoutMs
    let next = work.next()
    while (!next.done) {
      const beganAt = performance.now()
      if (beganAt > endsAt) throw tooLong(handlerTimeoutMs)
      try {
        next = work.next(yield limited(this.isApart ? awaited(next.value) : next.value, Math.ceil(endsAt - beganAt)))
      } catch (thrown) {
        if (this.database.faultOf(thrown) !== 'cancelled') next = work.throw(thrown)
        // Somebody has cancelled the statement, or its time was over.
        else if (performance.now() - beganAt < this.statementMs * 0.9) throw asRetryable(thrown, 'A statement')
        else throw tooLong(handlerTimeoutMs, thrown)
      }
    }
    return next.value
  }
}

/** Tables in the order in which the host subscribes to them, so that what others refer to can come first. */
function inOrder(set: readonly AppliedDocument[], handlers: HandlersByTable): readonly (readonly [string, readonly AppliedDocument[]])[] {
  const groups = Map.groupBy(set, (document) => document.table)
  return [...handlers.keys()].flatMap((table) => {
    const group = groups.get(table)
    return group ? [[table, group] as const] : []
  })
}

function keeping(handlers: HandlersByTable): HandlersByTable {
  return new Map([...handlers].map(([table, all]) => [table, all.filter(({ removals }) => removals !== 'apply')]))
}

/** What fails of it is to be known while it is known whose it is. */
function awaited(step: Step): Step {
  return step.kind === 'query' || step.kind === 'insert' ? { ...step, isAwaited: true } : step
}

function limited(step: Step, limitMs: number): Step {
  return step.kind === 'call' ? { ...step, timeoutMs: Math.min(step.timeoutMs ?? limitMs, limitMs) } : step
}

function tooLong(limitMs: number, cause?: unknown): TillsyncError {
  return new TillsyncError('ERR_TIMEOUT', `It took longer than ${limitMs} ms`, {
    hint: '`handlerTimeoutMs` is the limit for a set of documents.',
    ...(cause !== undefined && { context: { cancelled: true } }),
  })
}

/** Says which handler of which table it was. */
function named(thrown: unknown, what: string, table: string | undefined): TillsyncError {
  if (!(thrown instanceof TillsyncError)) {
    return new TillsyncError('ERR_HANDLER', `${what} failed`, {
      hint: 'Mend the handler, or the document at the till, and try it again.',
      context: { table },
      cause: thrown,
    })
  }
  const { code, message, hint, context, cause } = thrown
  return new TillsyncError(code, `${what}: ${message}`, { hint, context: { ...context, table }, cause })
}

/** What was found of copies, said of the documents themselves. */
function originals(found: readonly Failed[], documents: readonly AppliedDocument[]): Failed[] {
  const byEntry = new Map(documents.map((document) => [document.entries[0], document]))
  return found.map(({ document, verdict }) => ({ document: byEntry.get(document.entries[0]) as AppliedDocument, verdict }))
}
