import { lookup, query, type Work } from '../../work.ts'
import { isForeignKey, unsatisfied } from './errors.ts'
import { isSame, type Stored } from './json-values.ts'
import type { Reference } from './references.ts'
import { equal, type SqliteTarget } from './targets.ts'
import { quote } from './triggers.ts'

type Row = readonly Stored[]

/** A row that is about to be written or removed. */
export interface Change {
  readonly kind: 'insert' | 'update' | 'delete'
  readonly target: SqliteTarget
  /** The columns by which it is found, and what they hold. */
  readonly by: readonly string[]
  readonly key: readonly Stored[]
  /** What is written to it. */
  readonly values: ReadonlyMap<string, Stored>
}

/**
 * What foreign keys refuse during one transaction. SQLite checks them at each statement, and says not which one it was. From the first time on that one refuses where it may
 * wait, they wait for the end: to say so before costs all prepared statements of the connection. What is written from then on is looked at again by `settle`,
 * by its keys, for a commit that fails says nothing either.
 */
export class Deferral {
  private mayWait = false
  private isDeferred = false
  private readonly tables = new Set<string>()
  /** Keys of rows that were written, and values that were referred to. */
  private readonly written = new Map<SqliteTarget, Row[]>()
  private readonly gone = new Map<Reference, Row[]>()

  /** Another transaction begins. */
  begin(): void {
    this.mayWait = false
    this.isDeferred = false
    this.tables.clear()
    this.forget()
  }

  allow(): void {
    this.mayWait = true
  }

  /** The tables that the transaction has written. */
  get names(): readonly string[] {
    return [...this.tables]
  }

  /** @throws ERR_REFERENCE */
  *change<T>(change: Change, run: () => Work<T>): Work<T> {
    const { target } = change
    this.tables.add(target.name)
    if (target.references.length + target.referrers.length === 0) return yield* run()
    yield* this.note(change)
    try {
      return yield* run()
    } catch (error) {
      if (!isForeignKey(error)) throw error
      if (!this.mayWait || this.isDeferred) throw unsatisfied(target.name, yield* this.broken(change), error)
    }
    yield* query({ sql: 'PRAGMA defer_foreign_keys = ON', parameters: [] })
    this.isDeferred = true
    yield* this.note(change)
    return yield* run()
  }

  /** Rows that are inserted by one statement. What refuses one of them refuses all, and does not say which it was. */
  *insertAll<T>(target: SqliteTarget, names: readonly string[], keys: () => readonly Row[], run: () => Work<T>): Work<T> {
    this.tables.add(target.name)
    const done = yield* run()
    if (this.mayLack(target, (name) => names.includes(name))) add(this.written, target, keys())
    return done
  }

  private waits({ isDeferred }: Reference): boolean {
    return isDeferred || this.isDeferred
  }

  /** Whether rows of which these columns are written may refer to what is not there. */
  private mayLack({ references }: SqliteTarget, isWritten: (name: string) => boolean): boolean {
    return references.some((one) => this.waits(one) && one.columns.some(isWritten))
  }

  private *note(change: Change): Work<void> {
    const { kind, target, by, key, values } = change
    if (kind !== 'delete' && this.mayLack(target, (name) => values.has(name))) add(this.written, target, [key])
    if (kind === 'insert') return
    for (const one of target.referrers) {
      if (!this.waits(one) || (kind === 'update' && !one.refers.some((name) => values.has(name)))) continue
      add(this.gone, one, yield* this.valuesOf(target, one.refers, by, [key]))
    }
  }

  /** Which foreign key the change breaks, as far as that can be seen of its row. */
  private *broken({ kind, target, by, key, values }: Change): Work<Reference | undefined> {
    const names = [...new Set([...target.references.flatMap(({ columns }) => columns), ...target.referrers.flatMap(({ refers }) => refers)])]
    const [row] = yield* this.valuesOf(target, names, by, [key])
    const before = new Map(row === undefined ? [] : names.map((name, at) => [name, row[at] as Stored]))
    const after = new Map([...before, ...values])
    for (const one of kind === 'delete' ? [] : target.references) {
      const own = one.columns.map((name) => after.get(name) ?? null)
      const isItself = one.refersTo === target.name && one.refers.every((name, at) => isSame(after.get(name) ?? null, own[at] as Stored))
      if (!isItself && (yield* this.isUnsatisfied(one, own))) return one
    }
    for (const one of target.referrers) {
      const theirs = one.refers.map((name) => before.get(name) ?? null)
      const isKept = kind !== 'delete' && one.refers.every((name, at) => isSame(after.get(name) ?? null, theirs[at] as Stored))
      if (!isKept && (yield* this.isReferredTo(one, theirs))) return one
    }
    return undefined
  }

  /** Looks whether all that could wait is satisfied. @throws ERR_REFERENCE */
  *settle(): Work<void> {
    this.mayWait = false
    const [written, gone] = [[...this.written], [...this.gone]]
    this.forget()
    for (const [target, keys] of written) {
      for (const one of target.references)
        for (const values of yield* this.valuesOf(target, one.columns, target.key, keys))
          if (yield* this.isUnsatisfied(one, values)) throw unsatisfied(target.name, one)
    }
    for (const [one, all] of gone)
      for (const values of all)
        if ((yield* this.isReferredTo(one, values)) && (yield* this.isUnsatisfied(one, values))) throw unsatisfied(one.refersTo, one)
  }

  private forget(): void {
    this.written.clear()
    this.gone.clear()
  }

  private *valuesOf(target: SqliteTarget, columns: readonly string[], by: readonly string[], keys: readonly Row[]): Work<readonly Row[]> {
    const sql = `SELECT ${columns.map(quote).join(', ')} FROM ${quote(target.name)} WHERE ${equal(target, by)}`
    return (yield* lookup({ sql, parameters: [] }, keys)).flat() as readonly Row[]
  }

  private *isUnsatisfied({ refersTo, refers }: Reference, values: readonly Stored[]): Work<boolean> {
    return !values.includes(null) && !(yield* isThere(refersTo, refers, values))
  }

  private *isReferredTo({ table, columns }: Reference, values: readonly Stored[]): Work<boolean> {
    return !values.includes(null) && (yield* isThere(table, columns, values))
  }
}

function* isThere(table: string, columns: readonly string[], values: readonly Stored[]): Work<boolean> {
  const sql = `SELECT 1 FROM ${quote(table)} WHERE ${columns.map((name) => `${quote(name)} = ?`).join(' AND ')} LIMIT 1`
  const [rows = []] = yield* lookup({ sql, parameters: [] }, [values])
  return rows.length > 0
}

function add<K, V>(map: Map<K, V[]>, key: K, values: readonly V[]): void {
  const all = map.get(key)
  if (all === undefined) map.set(key, [...values])
  else all.push(...values)
}
