import { createHash } from 'node:crypto'
import { setImmediate } from 'node:timers/promises'
import type { PoolClient } from 'pg'
import { TillsyncError } from '../../errors.ts'
import type { Statement, Step, Work } from '../../work.ts'
import { copyRows } from './copy.ts'
import { type DeadlockWatch, GivenWay } from './deadlocks.ts'
import { asFinal, classify, isAborted, isFinal, isRaised } from './errors.ts'
import { callHost, LostTransaction } from './host-call.ts'
import { byKey, lookupSql } from './lookup.ts'
import { EXACT, OWN_TYPES } from './parsers.ts'
import { copyTarget, eraseSql, insertAllSql } from './tables.ts'
import { isPipelined, type Sent, sendTogether } from './together.ts'

/** Below this, the extra round trip of COPY costs more than it saves: rows, or characters in them, for as elements of arrays all quotes are escaped at both ends. */
const COPY_FROM_ROWS = 50
const COPY_FROM_CHARACTERS = 20_000

const SAVEPOINT: Sent = { text: 'SAVEPOINT sync_lookup', types: OWN_TYPES }

/** The steps of one transaction on its connection. */
export class Transaction {
  private readonly client: PoolClient
  private readonly qualify: (name: string) => string
  /** What the library's statements are read under; the host's code may have set it otherwise. */
  private readonly settings: string
  /** Whether the connection is ours alone as long as it lives, so that what is prepared on it stays so. */
  private readonly keepsPlans: boolean
  private readonly watch: DeadlockWatch | undefined
  /** What goes to the server with the next statement, in order. */
  private waiting: Sent[] = []
  private hasBegun = true
  /** Whether nothing was written since the last savepoint. */
  private saved = false
  private readonly after: (() => void)[] = []
  /** The host's code has lost it: nothing goes on, and nothing can be undone but by breaking the connection off. */
  lost: LostTransaction | undefined
  /** What the last statement that failed by itself failed with. */
  private failure: unknown

  constructor(client: PoolClient, qualify: (name: string) => string, settings: string, keepsPlans: boolean, watch: DeadlockWatch | undefined) {
    this.client = client
    this.qualify = qualify
    this.settings = settings
    this.keepsPlans = keepsPlans
    this.watch = watch
  }

  /** It begins with the first thing that the work asks for, by these, in the same way to the server. */
  begin(statements: readonly string[]): void {
    this.waiting = statements.map((text) => ({ ...this.prepared(text, true), types: OWN_TYPES }))
    this.hasBegun = false
  }

  async commit(): Promise<void> {
    await this.send({ ...this.prepared('COMMIT', true), types: OWN_TYPES })
    for (const run of this.after) run()
  }

  async rollback(): Promise<void> {
    if (this.hasBegun) await this.client.query('ROLLBACK')
  }

  /** What waits, and these; answered with the rows of each of these. */
  private async sendAll(...statements: readonly Sent[]): Promise<readonly (readonly object[])[]> {
    const all = [...this.waiting, ...statements]
    this.waiting = []
    this.hasBegun = true
    return (await sendTogether(this.client, all)).slice(all.length - statements.length)
  }

  private async send(statement: Sent): Promise<readonly object[]> {
    return (await this.sendAll(statement))[0] ?? []
  }

  async drive<T>(work: () => Work<T>): Promise<T> {
    const steps = work()
    let next = steps.next()
    while (!next.done) {
      let answer: unknown
      try {
        answer = await this.step(next.value)
      } catch (error) {
        if (this.lost) throw this.lost.reason
        if (await this.watch?.gaveWay()) throw new GivenWay()
        next = steps.throw(asFinal(this.firstOf(error)))
        continue
      }
      next = steps.next(answer)
    }
    return next.value
  }

  private prepared(text: string, keepsPlan = false): { readonly text: string; readonly name?: string } {
    return keepsPlan && this.keepsPlans ? { text, name: planName(text) } : { text }
  }

  /** After a statement has failed, all others do, which says nothing: what the first one failed with. */
  private firstOf(error: unknown): unknown {
    if (!isAborted(error)) this.failure = error
    return this.failure ?? error
  }

  private async step(step: Step): Promise<unknown> {
    if (this.lost) throw this.lost.reason
    if (step.kind === 'lookup') return this.lookup(step)
    if (step.kind === 'pause' || step.kind === 'writing') return step.kind === 'pause' ? setImmediate() : undefined
    this.saved = false
    switch (step.kind) {
      case 'query':
        return this.query(step)
      case 'queries':
        return this.sendAll(...step.statements.map((statement) => this.sent(statement)))
      case 'insert': {
        const statement = await this.insertion(step)
        // How long many rows take that can't be copied is to be seen here.
        if (step.isAwaited === false && !step.inserts.some(({ rows, replaceBy }) => replaceBy !== undefined && isBulk(rows)))
          return this.later(statement)
        return statement && this.send(statement)
      }
      case 'pair': {
        const first = await this.insertion(step.first)
        const answers = await this.sendAll(...(first ? [first] : []), this.sent(step.second))
        return [first && answers[0], answers.at(-1)]
      }
      case 'erase':
        await this.send({ text: eraseSql(step.table, this.qualify(step.table.name), step.by), values: columnsOf(step.keys), types: OWN_TYPES })
        return undefined
      case 'committed':
        this.after.push(step.run)
        return undefined
      case 'call':
        return await this.call(step)
    }
  }

  private sent({ sql, parameters, keepsPlan }: Statement): Sent & { readonly values: readonly unknown[] } {
    return { ...this.prepared(sql, keepsPlan), values: parameters, types: OWN_TYPES }
  }

  private async query(step: Step & { kind: 'query' }): Promise<unknown> {
    const statement = this.sent(step)
    if (step.isAwaited === false) return this.later(statement)
    // Several statements in one text go alone.
    if (statement.values.length === 0 && statement.text.includes(';')) await this.sendAll()
    return this.send(statement)
  }

  private later(statement: Sent | undefined): void {
    if (statement !== undefined) this.waiting.push(statement)
  }

  /** Much of it by COPY; the statement for all else. */
  private async insertion({ inserts, beside }: Step & { kind: 'insert' }): Promise<Sent | undefined> {
    const { client, qualify } = this
    const [copied, others] = partition(inserts, ({ rows, replaceBy }) => replaceBy === undefined && isBulk(rows) && !isPipelined(client))
    if (copied.length > 0) await this.sendAll()
    for (const { table, rows } of copied) await copyRows(client, copyTarget(table, qualify(table.name)), rows)
    if (others.length === 0 && beside === undefined) return undefined
    const values = [...(beside?.parameters ?? []), ...others.flatMap(({ rows }) => columnsOf(rows))]
    const keepsPlan = beside === undefined || beside.keepsPlan === true
    return { ...this.prepared(insertAllSql(others, qualify, beside), keepsPlan), values, types: OWN_TYPES }
  }

  private async call(step: Step & { kind: 'call' }): Promise<unknown> {
    await this.sendAll()
    try {
      return await callHost(this.client, step, this.settings)
    } catch (error) {
      if (!(error instanceof LostTransaction)) throw error
      this.lost = error
      throw error.reason
    }
  }

  /** A lookup may fail by the host's filter; the savepoint before it lets the rest of the transaction go on. */
  private async lookup(step: Step & { kind: 'lookup' }): Promise<unknown> {
    const { client, saved } = this
    // What fails of it is no matter of the lookup's.
    if (this.waiting.length > 0) await this.sendAll()
    this.saved = true
    const statement: Sent = { ...lookupSql(step), rowMode: 'array', types: EXACT }
    try {
      const answers = await this.sendAll(...(saved ? [] : [SAVEPOINT]), statement)
      return byKey(answers.at(-1) as unknown[][], step.keys)
    } catch (error) {
      if (isFinal(error)) throw error
      await client.query('ROLLBACK TO SAVEPOINT sync_lookup')
      if (!isRaised(error)) throw classify(error, 'A statement does not run')
      throw new TillsyncError('ERR_FILTER', `Reading raised an error: ${(error as Error).message}`, { cause: error })
    }
  }
}

function partition<T>(all: readonly T[], isFirst: (one: T) => boolean): readonly [readonly T[], readonly T[]] {
  return [all.filter(isFirst), all.filter((one) => !isFirst(one))]
}

const planNames = new Map<string, string>()

/** Another one for another text: a connection may serve several schemas, and other users of the library. */
function planName(sql: string): string {
  const known = planNames.get(sql) ?? `sync_${createHash('sha256').update(sql).digest('hex').slice(0, 32)}`
  planNames.set(sql, known)
  return known
}

function isBulk(rows: readonly (readonly unknown[])[]): boolean {
  if (rows.length >= COPY_FROM_ROWS) return true
  const characters = rows.reduce((sum, row) => row.reduce<number>((own, value) => own + (typeof value === 'string' ? value.length : 0), sum), 0)
  return characters >= COPY_FROM_CHARACTERS
}

/** Rows turned into one array a column, as `unnest` takes them. */
function columnsOf(rows: readonly (readonly unknown[])[]): unknown[][] {
  return (rows[0] ?? []).map((_, at) => rows.map((row) => row[at]))
}
