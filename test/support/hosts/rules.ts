import { type SqlBool, sql } from 'kysely'
import type { AnyTables, Filter, PublishRules } from '../../../src/index.ts'
import type { Random } from '../random.ts'
import { type DialectName, isNoted, q, rootsOf, type Schema, type Table, text } from './model.ts'

/** Rules as plain data, so that they can be printed, changed and read by whoever checks what came of them. */
export interface RootRules extends PartRules {
  readonly where?: Condition | undefined
  readonly identity: readonly string[]
  readonly existing: 'none' | 'all' | Condition
}

export interface PartRules {
  readonly table: string
  /** How a part hangs on the table above. */
  readonly own: readonly string[]
  readonly others: readonly string[]
  readonly only?: readonly string[] | undefined
  readonly except?: readonly string[] | undefined
  readonly parts: readonly PartRules[]
}

/** A filter: a column compared with a value; or a part that there is. */
export type Condition =
  | { readonly column: string; readonly op: '=' | '<>' | '>' | '<='; readonly value: string | number }
  | { readonly part: string; readonly own: readonly string[]; readonly others: readonly string[] }

export function randomRules(random: Random, schema: Schema): RootRules[] {
  const roots = rootsOf(schema)
  const chosen = roots.filter(() => random.chance(0.85))
  return (chosen.length > 0 ? chosen : [random.pick(roots)]).map((root) => randomRoot(random, schema, root))
}

function randomRoot(random: Random, schema: Schema, root: Table): RootRules {
  const part = randomPart(random, schema, root)
  const published = root.columns.filter(({ name }) => isPublished(schema, root, part, name))
  const identity = random.chance(0.35) ? [random.pick(published).name] : []
  return {
    ...part,
    where: random.chance(0.6) ? randomCondition(random, schema, root, part) : undefined,
    identity,
    existing: random.pick(['none', 'none', 'all', randomCondition(random, schema, root, part) ?? 'all']),
  }
}

function randomPart(random: Random, schema: Schema, table: Table): PartRules {
  const below = schema.tables.filter(({ parent }) => parent?.table === table && random.chance(0.9))
  const free = table.columns.filter(({ name }) => !isNoted(schema, table, name)).map(({ name }) => name)
  const some = free.filter(() => random.chance(0.4))
  const choice = random.int(1, 10)
  return {
    table: table.name,
    own: table.parent?.own ?? [],
    others: table.parent?.others ?? [],
    ...(choice <= 2 && { only: some }),
    ...(choice >= 8 && { except: some }),
    parts: below.map((part) => randomPart(random, schema, part)),
  }
}

function isPublished(schema: Schema, table: Table, { only, except = [] }: PartRules, name: string): boolean {
  return isNoted(schema, table, name) || (only === undefined ? !except.includes(name) : only.includes(name))
}

function randomCondition(random: Random, schema: Schema, root: Table, rules: PartRules): Condition | undefined {
  const part = random.pick(rules.parts)
  // Kysely reads more into a string than a name.
  if (part !== undefined && random.chance(0.25) && /^[\w ]+$/.test(part.table) && !/ as /i.test(part.table))
    return { part: part.table, own: part.own, others: part.others }
  // A table without a column of this name has one all the same.
  const columns = root.columns.filter(({ name }) => name !== 'rowid')
  const status = columns.find(({ kind }) => kind === 'status')
  const number = columns.find(({ kind, name }) => kind === 'integer' && !isNoted(schema, root, name))
  if (number !== undefined && random.chance(0.3)) return { column: number.name, op: random.pick(['>', '<=', '<>']), value: random.int(0, 6) }
  if (status !== undefined) return { column: status.name, op: random.pick(['=', '=', '<>']), value: random.pick(['posted', 'posted', 'open']) }
  return undefined
}

/** The same rules after a column has another name. */
export function renameInRules(rules: readonly RootRules[], table: string, before: string, after: string): RootRules[] {
  const one = (name: string) => (name === before ? after : name)
  const many = (names: readonly string[] | undefined) => names?.map(one)
  const inCondition = (condition: Condition, root: string): Condition => {
    if ('part' in condition)
      return {
        ...condition,
        own: condition.part === table ? condition.own.map(one) : condition.own,
        others: root === table ? condition.others.map(one) : condition.others,
      }
    return root === table ? { ...condition, column: one(condition.column) } : condition
  }
  const part = (rule: PartRules, above: string | undefined): PartRules => ({
    ...rule,
    own: rule.table === table ? rule.own.map(one) : rule.own,
    others: above === table ? rule.others.map(one) : rule.others,
    only: rule.table === table ? many(rule.only) : rule.only,
    except: rule.table === table ? many(rule.except) : rule.except,
    parts: rule.parts.map((below) => part(below, rule.table)),
  })
  return rules.map((root) => ({
    ...root,
    ...part(root, undefined),
    where: root.where && inCondition(root.where, root.table),
    identity: root.table === table ? root.identity.map(one) : root.identity,
    existing: typeof root.existing === 'string' ? root.existing : inCondition(root.existing, root.table),
  }))
}

/** As the library takes them. */
export function publishOf(rules: readonly RootRules[]): PublishRules<AnyTables> {
  const publish: Record<string, object> = {}
  const columns = ({ only, except }: PartRules) => ({ ...(only && { only }), ...(except && { except }) })
  const addParts = (above: PartRules): void => {
    for (const part of above.parts) {
      publish[part.table] = { ...columns(part), partOf: { [above.table]: Object.fromEntries(part.own.map((own, n) => [own, part.others[n]])) } }
      addParts(part)
    }
  }
  for (const root of rules) {
    const { table, where, identity, existing } = root
    publish[table] = {
      ...columns(root),
      ...(where && { where: filterOf(table, where) }),
      ...(identity.length > 0 && { identity }),
      existing: typeof existing === 'string' ? existing : filterOf(table, existing),
    }
    addParts(root)
  }
  return publish as PublishRules<AnyTables>
}

export function filterOf(table: string, condition: Condition): Filter<AnyTables, string> {
  if ('column' in condition) return () => sql<SqlBool>`${sql.id(table, condition.column)} ${sql.raw(condition.op)} ${condition.value}`
  const { part, own, others } = condition
  return (eb) => {
    let rows = eb.selectFrom(part).select(sql.lit(1).as('one'))
    for (const [n, name] of own.entries()) rows = rows.where(sql<SqlBool>`${sql.id(part, name)} = ${sql.id(table, others[n] as string)}`)
    return eb.exists(rows)
  }
}

/** As plain SQL. On PostgreSQL a parameter takes the type of what it is compared with, and a text does so too. */
export function conditionSql(dialect: DialectName, table: string, condition: Condition): string {
  if ('column' in condition) {
    const value = typeof condition.value === 'string' || dialect === 'postgres' ? text(String(condition.value)) : String(condition.value)
    return `${q(table)}.${q(condition.column)} ${condition.op} ${value}`
  }
  const { part, own, others } = condition
  return `EXISTS (SELECT 1 FROM ${q(part)} WHERE ${own.map((name, n) => `${q(part)}.${q(name)} = ${q(table)}.${q(others[n] as string)}`).join(' AND ')})`
}
