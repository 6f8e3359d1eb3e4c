import type { Database as Connection, Statement as Prepared } from 'better-sqlite3'
import { messageOf, TillsyncError } from '../../errors.ts'
import { InvalidText } from '../../record.ts'
import type { Insert, Key, Step, Work } from '../../work.ts'
import { classify, isBusy, isRaised } from './errors.ts'
import { insertSql, portions } from './tables.ts'
import { quote } from './triggers.ts'
import { bindExactly, exactly, isSuspect, readExactly, toBindable } from './values.ts'

const MAX_PREPARED = 500

/** Answers the steps of transactions on one connection, synchronously; BEGIN and COMMIT are the caller's. */
export class Steps {
  /** What is to be done when the transaction is committed. */
  private after: (() => void)[] = []
  /** How many characters of text were inserted. */
  inserted = 0
  private readonly connection: Connection
  /** In a database in UTF-16 the bytes of a text are another thing, and none of them are other than they show. */
  private readonly isUtf8: boolean
  private readonly prepared = new Map<string, Prepared>()

  constructor(connection: Connection) {
    this.connection = connection
    this.isUtf8 = connection.pragma('encoding', { simple: true }) === 'UTF-8'
  }

  /** Another try of a transaction begins. */
  begin(): void {
    this.after = []
  }

  /** To be called when it is committed. */
  committed(): void {
    const { after } = this
    this.after = []
    for (const run of after) run()
  }

  drive<T>(work: () => Work<T>): T {
    const steps = work()
    let next = steps.next()
    while (!next.done) next = this.advance(steps, next.value)
    return next.value
  }

  /** Answers one step; the next one follows. */
  advance<T>(steps: Work<T>, step: Step): IteratorResult<Step, T> {
    let answer: unknown
    try {
      answer = this.answer(step)
    } catch (error) {
      // A trigger's RAISE(ROLLBACK), or a full disk, has ended it: what went on would be committed piece by piece.
      if (!this.connection.inTransaction) throw error
      return steps.throw(error)
    }
    return steps.next(answer)
  }

  /** A savepoint is one for the sake of what comes behind it. */
  isWrite(step: Step): boolean {
    if (step.kind === 'query' && step.sql.startsWith('EXPLAIN')) return false // and it may not compile, which is for the work to hear
    if (step.kind === 'query') return !this.prepare(step.sql, 'objects').readonly || step.sql.startsWith('SAVEPOINT')
    return step.kind === 'insert' || step.kind === 'pair' || step.kind === 'erase'
  }

  get isOpen(): boolean {
    return this.connection.open
  }

  /** Another one whenever another connection has written. */
  dataVersion(): number {
    return (this.prepare('PRAGMA data_version', 'objects').get() as { data_version: number }).data_version
  }

  /** Another one whenever anybody has written: another connection, or this one, which the host may share. */
  version(): string {
    const { changes } = this.prepare('SELECT total_changes() AS changes', 'objects').get() as { changes: number }
    return `${this.dataVersion()} ${changes}`
  }

  private answer(step: Step): unknown {
    switch (step.kind) {
      case 'query': {
        // SQLite makes a statement anew where the schema has changed, but not what explains one; a PRAGMA may do its work while it is compiled.
        const isOnce = /^(EXPLAIN|PRAGMA)/.test(step.sql)
        const statement = isOnce ? this.prepareOrThrow(step.sql) : this.prepare(step.sql, 'objects')
        const parameters = step.parameters.map(toBindable)
        if (isOnce && statement.reader) statement.safeIntegers(false) // whatever the host has set for its connection
        if (statement.reader) return statement.all(parameters)
        statement.run(parameters)
        return []
      }
      case 'queries':
        return step.statements.map((statement) => this.answer({ kind: 'query', ...statement }))
      case 'lookup':
        return this.lookup(step)
      case 'insert':
        for (const one of step.inserts) this.insert(one)
        return step.beside && this.answer({ kind: 'query', ...step.beside })
      case 'pair':
        return [this.answer(step.first), this.answer({ kind: 'query', ...step.second })]
      case 'erase': {
        const { table, by, keys } = step
        const statement = this.prepare(`DELETE FROM ${quote(table.name)} WHERE ${by.map((name) => `${quote(name)} = ?`).join(' AND ')}`, 'objects')
        for (const key of keys) statement.run(key)
        return undefined
      }
      case 'pause':
      case 'writing':
        return undefined
      case 'committed':
        this.after.push(step.run)
        return undefined
      case 'call':
        throw new TillsyncError('ERR_OPTION', "The host's own handlers cannot run inside a transaction of an SQLite database", {
          hint: "At an SQLite register subscribe with mirror(), and listen to the event 'applied'.",
        })
    }
  }

  private insert({ table, rows, replaceBy }: Insert): void {
    for (const row of rows) for (const value of row) if (typeof value === 'string') this.inserted += value.length
    for (const some of portions(rows, rows[0]?.length ?? 0)) this.prepare(insertSql(table, replaceBy, some.length), 'objects').run(some.flat())
  }

  private lookup(step: Step & { kind: 'lookup' }): unknown[][][] {
    const statement = this.prepare(step.sql, 'tuples')
    const { keys } = step
    const parameters = step.parameters.map(toBindable)
    try {
      return keys.map((key) => {
        if (key.some((value) => value instanceof InvalidText)) return this.lookupExactly(step.sql, key, parameters)
        const found = statement.all(parameters.length === 0 ? key : [...key, ...parameters]) as unknown[][]
        return this.isUtf8 && found.some(isSuspect) ? this.lookupExactly(step.sql, key, parameters) : found
      })
    } catch (error) {
      if (!isRaised(error)) throw error
      throw new TillsyncError('ERR_FILTER', `Reading raised an error: ${messageOf(error)}`, { cause: error })
    }
  }

  /** The way for text that is not UTF-8: by its bytes. */
  private lookupExactly(sql: string, key: Key, parameters: readonly unknown[]): unknown[][] {
    const columns = this.prepare(sql, 'tuples').columns().length
    const bound = bindExactly(sql, key)
    const rows = this.prepare(exactly(bound.sql, columns), 'tuples').all([...bound.key, ...parameters])
    return (rows as unknown[][]).map(readExactly)
  }

  private prepare(sql: string, rows: 'objects' | 'tuples'): Prepared {
    const name = `${rows}:${sql}`
    let statement = this.prepared.get(name)
    if (statement === undefined) {
      if (this.prepared.size >= MAX_PREPARED) this.prepared.clear()
      statement = this.prepareOrThrow(sql)
      if (rows === 'tuples') statement.raw(true).safeIntegers(true)
      else if (statement.reader) statement.raw(false).safeIntegers(false)
      this.prepared.set(name, statement)
    }
    return statement
  }

  /** A statement that does not compile: the rules name what is not there, or the host's schema has changed. */
  private prepareOrThrow(sql: string): Prepared {
    try {
      return this.connection.prepare(sql)
    } catch (error) {
      throw isBusy(error) ? error : classify(error, 'A statement does not compile')
    }
  }
}
