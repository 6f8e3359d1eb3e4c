import type { Kysely } from 'kysely'
import type { AnyTables } from './model.ts'
import type { OwnTable } from './own-table.ts'
import type { Database } from './ports.ts'

/** A key of a record: its values in key order, exactly as the database gave them. */
export type Key = readonly unknown[]

/**
 * One thing that a piece of work asks of its database.
 *
 * - `query`: a statement; answered with its rows as objects. One that is not awaited may go with the next step, where the dialect has a way to go, and fails there.
 * - `queries`: several of them that do not depend on each other's answers, and go the same way, where the dialect has one; answered with the rows of each.
 * - `lookup`: a statement made by `keyed()` for each of the keys; answered, key by key, with the rows as tuples of exact values.
 * - `insert`: rows for the library's own tables, in one go; with `replaceBy`, a row with equal key columns is overwritten. With `beside`, a statement that goes the same way, where the
 *   dialect has that, and does not see them: it is answered with its rows. A few rows that are not awaited may go with the next step, as a `query` may.
 * - `pair`: a step, and behind it a statement that does not depend on its answer and goes the same way, where the dialect has one; answered with the answers of both.
 * - `erase`: deletes the rows of one of the library's own tables whose `by` columns equal one of the keys.
 * - `call`: the host's own asynchronous code inside the transaction (not on SQLite, whose transactions are synchronous). One that
 *   has not ended after `timeoutMs` loses the transaction: the connection is broken off, ERR_TIMEOUT.
 * - `committed`: what is to be done once the transaction is committed, outside it; where it fails, it is not.
 * - `pause`: a place in a long computation where the host's event loop may go on, as far as the transaction lets it.
 * - `writing`: from here on it writes; what it has read stands.
 */
export type Step =
  | ({ readonly kind: 'query'; readonly isAwaited?: boolean } & Statement)
  | { readonly kind: 'queries'; readonly statements: readonly Statement[] }
  | { readonly kind: 'lookup'; readonly sql: string; readonly keys: readonly Key[]; readonly parameters: readonly unknown[] }
  | { readonly kind: 'insert'; readonly inserts: readonly Insert[]; readonly beside?: Statement; readonly isAwaited?: boolean }
  | { readonly kind: 'pair'; readonly first: Step & { readonly kind: 'insert' }; readonly second: Statement }
  | { readonly kind: 'erase'; readonly table: OwnTable; readonly by: readonly string[]; readonly keys: readonly Key[] }
  | { readonly kind: 'call'; readonly call: (trx: Kysely<AnyTables>) => unknown; readonly timeoutMs?: number }
  | { readonly kind: 'committed'; readonly run: () => void }
  | { readonly kind: 'pause' }
  | { readonly kind: 'writing' }

/** Rows for one of the library's own tables. */
export interface Insert {
  readonly table: OwnTable
  readonly rows: readonly (readonly unknown[])[]
  readonly replaceBy?: readonly string[]
  /** Whether a row that would be overwritten by its like may stay as it is. */
  readonly unlessAlike?: boolean
}

/** A compiled statement, as Kysely's `compile()` gives it. */
export interface Statement {
  readonly sql: string
  readonly parameters: readonly unknown[]
  /** Whether a plan of it may be kept, where the dialect makes plans: only for what reads tables that stay about as large. */
  readonly keepsPlan?: boolean
}

/**
 * A piece of work inside one transaction, written once for both kinds of database: a generator that yields steps and is
 * resumed with their answers. SQLite drives what writes synchronously, so that nothing of the host can come in between;
 * PostgreSQL awaits each step.
 */
export type Work<T> = Generator<Step, T, unknown>

export function* query<R>(statement: Statement): Work<readonly R[]> {
  const { sql, parameters, keepsPlan = false } = statement
  return (yield { kind: 'query', sql, parameters, keepsPlan }) as readonly R[]
}

/** Works that only read and do not depend on each other: what they ask at the same time goes the same way, where the dialect has one. An error ends them all. */
export function* together<T extends readonly unknown[]>(...works: { readonly [N in keyof T]: Work<T[N]> }): Work<T> {
  const all = works.map((work) => ({ work, next: work.next() }))
  for (;;) {
    const asking = all.filter(({ next }) => next.done !== true)
    if (asking.length === 0) return all.map(({ next }) => next.value) as unknown as T
    const asked = asking.map(({ next }) => statementsIn(next.value as Step))
    const statements = asked.flat()
    const rows = statements.length > 0 ? [...((yield { kind: 'queries', statements }) as readonly unknown[])] : []
    for (const [n, one] of asking.entries()) {
      const step = one.next.value as Step
      const own = rows.splice(0, asked[n]?.length)
      one.next = one.work.next(step.kind === 'query' ? own[0] : step.kind === 'queries' ? own : yield step)
    }
  }
}

function statementsIn(step: Step): readonly Statement[] {
  return step.kind === 'query' ? [step] : step.kind === 'queries' ? step.statements : []
}

/** One statement whose rows nobody asks for. Who must know here that it has not failed asks by `query`. */
export function* send({ sql, parameters, keepsPlan = false }: Statement): Work<void> {
  yield { kind: 'query', sql, parameters, keepsPlan, isAwaited: false }
}

/** Makes the same statements once for each database: to compile one takes longer than SQLite takes to run it. */
export function compiledOnce<D extends Database, S>(compile: (database: D) => S): (database: D) => S {
  const known = new WeakMap<D, S>()
  return (database) => {
    const compiled = known.get(database) ?? compile(database)
    known.set(database, compiled)
    return compiled
  }
}

/** For each key the rows that it finds, as tuples. */
export function* lookup(statement: Statement, keys: readonly Key[]): Work<readonly (readonly Key[])[]> {
  if (keys.length === 0) return []
  return (yield { kind: 'lookup', sql: statement.sql, keys, parameters: statement.parameters }) as readonly (readonly Key[])[]
}

export function* insert(table: OwnTable, rows: readonly (readonly unknown[])[], replaceBy?: readonly string[]): Work<void> {
  yield* insertAll([{ table, rows, ...(replaceBy && { replaceBy }) }])
}

/** Into several tables, none of which sees what goes into the others. */
export function* insertAll(all: readonly Insert[]): Work<void> {
  const inserts = all.filter(({ rows }) => rows.length > 0)
  if (inserts.length > 0) yield { kind: 'insert', inserts }
}

/** The same where nobody waits for it: who must know here that it has not failed does without. */
export function* sendRows(all: readonly Insert[]): Work<void> {
  const inserts = all.filter(({ rows }) => rows.length > 0)
  if (inserts.length > 0) yield { kind: 'insert', inserts, isAwaited: false }
}

/** Rows for several tables, none of which sees what goes into the others, and beside it a statement, whose text begins with what it does, not with WITH. */
export function* insertBeside<R>(inserts: readonly Insert[], beside: Statement): Work<readonly R[]> {
  return (yield { kind: 'insert', inserts: inserts.filter(({ rows }) => rows.length > 0), beside }) as readonly R[]
}

/** Work of a single insert, and behind it a statement that may go the same way. */
export function* followed<T, R>(work: Work<T>, second: Statement): Work<readonly [T, readonly R[]]> {
  const first = work.next().value as Step & { kind: 'insert' }
  const [answer, rows] = (yield { kind: 'pair', first, second }) as readonly [unknown, readonly R[]]
  return [work.next(answer).value as T, rows]
}

export function* erase(table: OwnTable, by: readonly string[], keys: readonly Key[]): Work<void> {
  if (keys.length > 0) yield { kind: 'erase', table, by, keys }
}

export function* call(run: (trx: Kysely<AnyTables>) => unknown, timeoutMs?: number): Work<unknown> {
  return yield { kind: 'call', call: run, ...(timeoutMs !== undefined && { timeoutMs }) }
}

export function* committed(run: () => void): Work<void> {
  yield { kind: 'committed', run }
}

export function* pause(): Work<void> {
  yield { kind: 'pause' }
}

export function* writing(): Work<void> {
  yield { kind: 'writing' }
}
