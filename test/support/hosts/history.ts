import type { Step } from '../differential/steps.ts'
import type { Random } from '../random.ts'
import { rootsOf, type Schema } from './model.ts'
import { type RootRules, randomRules, renameInRules } from './rules.ts'

/** What a change of the schema consists of. */
export interface Change {
  readonly sql: readonly string[]
  /** SQLite refuses it while the library's triggers name what it drops. */
  readonly migrate?: boolean
}

/** What a host of one kind of database does. */
export interface Habits {
  /** A statement that changes rows. */
  statement(): string
  /** After it the model says what there is; undefined where chance finds nothing to change. */
  change(): Change | undefined
  /** A statement that begins a transaction. */
  begin(): string
  /** A statement inside a transaction, and whether the transaction goes on after it. */
  inside(): { readonly sql: string; readonly goesOn: boolean }
  /** A statement about the connection itself. */
  setting(): string
}

export interface Often {
  /** How many of a hundred steps change the schema: one of these. */
  readonly changes?: readonly number[]
  /** How probable it is that the library seals by itself after a restart. */
  readonly started?: number
}

/** Makes up what happens, step by step, with what the tables are by then. */
export class History {
  private readonly random: Random
  private readonly schema: Schema
  private readonly habits: Habits
  private rules: RootRules[]
  /** Which connections have a transaction open, as far as is known here. */
  private readonly open: boolean[]
  private readonly list: Step[] = []
  /** How often the schema changes, of a hundred steps. */
  private readonly changes: number
  private readonly started: number

  constructor(random: Random, schema: Schema, rules: RootRules[], connections: number, habits: Habits, often: Often = {}) {
    this.random = random
    this.schema = schema
    this.habits = habits
    this.rules = rules
    this.open = Array.from({ length: connections }, () => false)
    this.changes = random.pick(often.changes ?? [0, 0, 4, 12])
    this.started = often.started ?? 0.2
  }

  steps(count: number): Step[] {
    while (this.list.length < count) this.next()
    return this.list
  }

  private next(): void {
    const { random } = this
    const on = random.int(0, this.open.length - 1)
    const kind = random.int(1, 100)
    if (kind <= 52) this.sql(on, this.habits.statement())
    else if (kind <= 66) this.transaction(on)
    else if (kind <= 82) this.list.push({ do: 'seal' })
    else if (kind <= 86) this.list.push({ do: 'turn' })
    else if (kind <= 86 + this.changes) this.change(on)
    else this.ofTheLibrary(on)
  }

  private sql(on: number, ...statements: readonly string[]): void {
    for (const sql of statements) this.list.push({ do: 'sql', on, sql })
  }

  private transaction(on: number): void {
    if (!this.open[on]) {
      this.sql(on, this.habits.begin())
      this.open[on] = true
      return
    }
    const { sql, goesOn } = this.habits.inside()
    this.sql(on, sql)
    this.open[on] = goesOn
  }

  private change(on: number): void {
    const { random, schema } = this
    const before = schema.tables.map((table) => ({ table, columns: table.columns.map((column) => ({ column, name: column.name })) }))
    const change = this.habits.change()
    if (change === undefined) return
    for (const { table, columns } of before)
      for (const { column, name } of columns)
        if (column.name !== name && random.chance(0.8)) this.rules = renameInRules(this.rules, table.name, name, column.name)
    if (change.migrate) this.list.push({ do: 'migrate', sql: change.sql })
    else this.sql(on, ...change.sql)
    if (random.chance(0.4)) this.list.push({ do: 'restart', rules: this.rules, start: false })
  }

  private ofTheLibrary(on: number): void {
    const { random, schema } = this
    const { table, where } = random.pick(this.rules)
    const kind = random.int(1, 10)
    if (kind <= 2) this.sql(on, this.habits.setting())
    else if (kind <= 4) this.list.push({ do: 'export', table, which: random.pick([undefined, where]) })
    else if (kind === 5) this.list.push({ do: 'reseal', table })
    else if (kind === 6) this.list.push({ do: 'stop' })
    else {
      if (random.chance(0.5) && rootsOf(schema).length > 0) this.rules = this.changedRules()
      this.list.push({ do: 'restart', rules: this.rules, start: random.chance(this.started) })
    }
  }

  /** Some of the roots have other rules, come, or go. */
  private changedRules(): RootRules[] {
    const others = randomRules(this.random, this.schema)
    const kept = this.rules.filter(() => this.random.chance(0.6))
    return [...kept, ...others.filter(({ table }) => !kept.some((root) => root.table === table))]
  }
}
