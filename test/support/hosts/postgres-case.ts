import type { Case } from '../differential/steps.ts'
import type { Random } from '../random.ts'
import { type Change, type Habits, History } from './history.ts'
import type { Schema } from './model.ts'
import { postgresChange } from './postgres-ddl.ts'
import { firstRows, postgresStatement } from './postgres-statements.ts'
import { postgresTrigger } from './postgres-triggers.ts'
import { randomRules } from './rules.ts'
import { randomSchema } from './schema.ts'
import { createTable, createUniques } from './tables.ts'
import { POSTGRES_TYPES } from './types.ts'

/** A host with its tables and first rows, rules for them, and what happens then. */
export function postgresCase(random: Random): Case {
  const schema = randomSchema(random, 'postgres')
  const made = schema.tables.flatMap((table) => [...createTable(schema, table), ...createUniques(schema, table)])
  const triggers: string[] = []
  for (let more = random.pick([0, 0, 1, 2, 3]); more > 0; more--) {
    const trigger = postgresTrigger(random, schema)
    if (trigger === undefined) continue
    schema.triggers.push(trigger)
    triggers.push(...trigger.sql)
  }
  const rows = schema.tables.flatMap((table) => Array.from({ length: random.pick([0, 2, 4]) }, () => firstRows(random, schema, table)))
  const rules = randomRules(random, schema)
  const connections = random.pick([1, 2, 3])
  return {
    pragmas: [],
    schema: [...POSTGRES_TYPES, ...made, ...triggers, ...rows],
    rules,
    library: 'own',
    twoCollectors: random.chance(0.15),
    connections,
    steps: new History(random, schema, rules, connections, new PostgresHabits(random, schema), OFTEN).steps(random.int(5, 60)),
  }
}

const OFTEN = { changes: [0, 4, 8, 14], started: 0.4 }
const SETTINGS = [
  "session_replication_role = 'replica'",
  "session_replication_role = 'origin'",
  "DateStyle = 'German'",
  "TimeZone = 'Asia/Kolkata'",
  "bytea_output = 'escape'",
  'extra_float_digits = -5',
  "IntervalStyle = 'sql_standard'",
  'enable_seqscan = off',
  "default_transaction_isolation = 'repeatable read'",
]

class PostgresHabits implements Habits {
  private readonly random: Random
  private readonly schema: Schema
  /** Transactions that were prepared, by name. */
  private readonly prepared: string[] = []

  constructor(random: Random, schema: Schema) {
    this.random = random
    this.schema = schema
  }

  statement(): string {
    const { random } = this
    const [prepared] = this.prepared
    if (prepared !== undefined && random.chance(0.2)) {
      this.prepared.shift()
      return `${random.pick(['COMMIT', 'COMMIT', 'ROLLBACK'])} PREPARED '${prepared}'`
    }
    if (random.chance(0.03)) return 'SELECT lastval()'
    return postgresStatement(random, this.schema)
  }

  change(): Change | undefined {
    return postgresChange(this.random, this.schema)
  }

  begin(): string {
    return this.random.pick(['BEGIN', 'BEGIN', 'BEGIN ISOLATION LEVEL REPEATABLE READ'])
  }

  inside(): { sql: string; goesOn: boolean } {
    const { random } = this
    const kind = random.int(1, 20)
    if (kind <= 3) return { sql: 'SAVEPOINT "s"', goesOn: true }
    if (kind <= 6) return { sql: random.pick(['ROLLBACK TO "s"', 'RELEASE "s"']), goesOn: true }
    if (kind <= 8) return { sql: `SET CONSTRAINTS ALL ${random.pick(['DEFERRED', 'DEFERRED', 'IMMEDIATE'])}`, goesOn: true }
    if (kind <= 9) return { sql: random.pick(['COMMIT AND CHAIN', 'ROLLBACK AND CHAIN']), goesOn: true }
    if (kind <= 11) {
      this.prepared.push(`p${this.prepared.length}`)
      return { sql: `PREPARE TRANSACTION '${this.prepared.at(-1)}'`, goesOn: false }
    }
    return { sql: random.chance(0.8) ? 'COMMIT' : 'ROLLBACK', goesOn: false }
  }

  setting(): string {
    return `SET ${this.random.pick(SETTINGS)}`
  }
}
