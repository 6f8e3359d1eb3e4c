import type { Case, Step } from '../differential/steps.ts'
import type { Random } from '../random.ts'
import { rootsOf, type Schema } from './model.ts'
import { type RootRules, randomRules, renameInRules } from './rules.ts'
import { randomSchema } from './schema.ts'
import { sqliteChange } from './sqlite-ddl.ts'
import { sqliteStatement } from './sqlite-statements.ts'
import { sqliteTrigger } from './sqlite-triggers.ts'
import { createTable, createUniques } from './tables.ts'

/** A host with its tables and first rows, rules for them, and what happens then. */
export function sqliteCase(random: Random): Case {
  const schema = randomSchema(random, 'sqlite')
  const made = schema.tables.flatMap((table) => [...createTable(schema, table), ...createUniques(schema, table)])
  for (const table of schema.tables) for (const column of table.columns) if (isInUnique(table.uniques, column.name)) column.named = true
  const triggers: string[] = []
  for (let more = random.pick([0, 0, 1, 2, 3]); more > 0; more--) {
    const trigger = sqliteTrigger(random, schema)
    if (trigger === undefined) continue
    schema.triggers.push(trigger)
    triggers.push(trigger.sql)
  }
  const pragmas = [`PRAGMA foreign_keys = ${random.pick(['ON', 'OFF'])}`, `PRAGMA recursive_triggers = ${random.pick(['OFF', 'OFF', 'ON'])}`]
  const rows = Array.from({ length: random.pick([0, 3, 12]) }, () => sqliteStatement(random, schema))
  const rules = randomRules(random, schema)
  const library = random.pick(['own', 'named', 'shared'] as const)
  const connections = random.pick([1, 2])
  return {
    pragmas,
    schema: [...made, ...triggers, ...rows],
    rules,
    library,
    twoCollectors: library !== 'shared' && random.chance(0.15),
    connections,
    steps: new History(random, schema, rules, { library, connections }).steps(random.int(5, 60)),
  }
}

function isInUnique(uniques: Schema['tables'][number]['uniques'], name: string): boolean {
  return uniques.some(({ columns, where }) => where?.column === name || columns.some((column) => column.name === name))
}

/** Makes up what happens, step by step, with what the tables are by then. */
class History {
  private readonly random: Random
  private readonly schema: Schema
  private rules: RootRules[]
  private readonly settings: { readonly library: Case['library']; readonly connections: number }
  /** Which connections have a transaction open, as far as is known here. */
  private readonly open: boolean[]
  private readonly list: Step[] = []
  /** How often the schema changes. */
  private readonly changes: number

  constructor(random: Random, schema: Schema, rules: RootRules[], settings: History['settings']) {
    this.random = random
    this.schema = schema
    this.rules = rules
    this.settings = settings
    this.open = Array.from({ length: settings.connections }, () => false)
    this.changes = random.pick([0, 0, 4, 12])
  }

  steps(count: number): Step[] {
    while (this.list.length < count) this.next()
    return this.list
  }

  private next(): void {
    const { random } = this
    const on = random.int(0, this.settings.connections - 1)
    const kind = random.int(1, 100)
    if (kind <= 52) this.sql(on, sqliteStatement(random, this.schema))
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
    const { random, open } = this
    if (!open[on]) {
      // Only where the library knows the connection does it keep from committing between a host's reading and its writing; and an UPDATE
      // of another one that changes nothing writes a touch, where SQLite alone would write nothing.
      const knows = this.settings.library !== 'own' && this.settings.connections === 1
      this.sql(on, knows ? random.pick(['BEGIN', 'BEGIN IMMEDIATE']) : 'BEGIN IMMEDIATE')
      open[on] = true
      return
    }
    const kind = random.int(1, 10)
    if (kind <= 2) this.sql(on, 'SAVEPOINT "s"')
    else if (kind <= 4) this.sql(on, random.pick(['ROLLBACK TO "s"', 'RELEASE "s"']))
    else {
      this.sql(on, random.chance(0.8) ? 'COMMIT' : 'ROLLBACK')
      open[on] = false
    }
  }

  private change(on: number): void {
    const { random, schema } = this
    const before = schema.tables.map((table) => ({ table, columns: table.columns.map((column) => ({ column, name: column.name })) }))
    const change = sqliteChange(random, schema)
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
    if (kind <= 2) this.sql(on, random.pick(['PRAGMA recursive_triggers = ON', 'PRAGMA recursive_triggers = OFF']))
    else if (kind <= 4) this.list.push({ do: 'export', table, which: random.pick([undefined, where]) })
    else if (kind === 5) this.list.push({ do: 'reseal', table })
    else if (kind === 6) this.list.push({ do: 'stop' })
    else {
      if (random.chance(0.5) && rootsOf(schema).length > 0) this.rules = this.changedRules()
      this.list.push({ do: 'restart', rules: this.rules, start: random.chance(0.2) })
    }
  }

  /** Some of the roots have other rules, come, or go. */
  private changedRules(): RootRules[] {
    const others = randomRules(this.random, this.schema)
    const kept = this.rules.filter(() => this.random.chance(0.6))
    return [...kept, ...others.filter(({ table }) => !kept.some((root) => root.table === table))]
  }
}
