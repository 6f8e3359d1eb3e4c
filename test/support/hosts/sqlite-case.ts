import type { Case } from '../differential/steps.ts'
import type { Random } from '../random.ts'
import { type Change, type Habits, History } from './history.ts'
import type { Schema } from './model.ts'
import { randomRules } from './rules.ts'
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
  // Only where the library knows the connection does it keep from committing between a host's reading and its writing; and an UPDATE
  // of another one that changes nothing writes a touch, where SQLite alone would write nothing.
  const deferred = library !== 'own' && connections === 1
  return {
    pragmas,
    schema: [...made, ...triggers, ...rows],
    rules,
    library,
    twoCollectors: library !== 'shared' && random.chance(0.15),
    connections,
    steps: new History(random, schema, rules, connections, new SqliteHabits(random, schema, deferred)).steps(random.int(5, 60)),
  }
}

function isInUnique(uniques: Schema['tables'][number]['uniques'], name: string): boolean {
  return uniques.some(({ columns, where }) => where?.column === name || columns.some((column) => column.name === name))
}

class SqliteHabits implements Habits {
  private readonly random: Random
  private readonly schema: Schema
  private readonly deferred: boolean

  constructor(random: Random, schema: Schema, deferred: boolean) {
    this.random = random
    this.schema = schema
    this.deferred = deferred
  }

  statement(): string {
    return sqliteStatement(this.random, this.schema)
  }

  change(): Change | undefined {
    return sqliteChange(this.random, this.schema)
  }

  begin(): string {
    return this.deferred ? this.random.pick(['BEGIN', 'BEGIN IMMEDIATE']) : 'BEGIN IMMEDIATE'
  }

  inside(): { sql: string; goesOn: boolean } {
    const kind = this.random.int(1, 10)
    if (kind <= 2) return { sql: 'SAVEPOINT "s"', goesOn: true }
    if (kind <= 4) return { sql: this.random.pick(['ROLLBACK TO "s"', 'RELEASE "s"']), goesOn: true }
    return { sql: this.random.chance(0.8) ? 'COMMIT' : 'ROLLBACK', goesOn: false }
  }

  setting(): string {
    return this.random.pick(['PRAGMA recursive_triggers = ON', 'PRAGMA recursive_triggers = OFF'])
  }
}
