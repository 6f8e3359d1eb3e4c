import { type SqlBool, sql } from 'kysely'
import { TillsyncError } from '../errors.ts'
import type { HostColumn, HostTable } from '../host-table.ts'
import { MAX_NAME } from '../model.ts'
import type { CapturingDatabase } from '../ports.ts'
import type { Statement } from '../work.ts'
import { compileFilter, readableBy } from './filters.ts'
import type { PartSpec, ReferenceSpec, RootSpec } from './rules.ts'
import { findBy, readParts, readRoots, selectColumns } from './selects.ts'

/** How the records of one table are found, read and encoded. */
export interface TablePlan {
  readonly table: string
  readonly key: readonly string[]
  /** Published columns, in the table's order: the first columns of every tuple that `read` answers. */
  readonly columns: readonly HostColumn[]
  /** The table's other columns. */
  readonly leftOut: readonly string[]
  /** How the values of `columns` are written. */
  readonly encode: readonly ((value: unknown) => string)[]
  /** `{"id":`, `,"receipt_no":` … what stands before each value in the record's JSON. */
  readonly prefixes: readonly string[]
  /** The columns by name, for the hash: a value that is the column's initial one is left out of it, so that a column which is added changes no document. */
  readonly hashed: readonly { readonly at: number; readonly prefix: string; readonly initial: string }[]
  /** Where the key stands in a tuple. */
  readonly keyAt: readonly number[]
  /** Roots: by key and inside the filter. Parts: by the columns that refer to the parent, in key order. */
  readonly read: Statement
  readonly parts: readonly PartPlan[]
  readonly dependsOn: readonly ReferenceSpec[]
}

export interface PartPlan extends TablePlan {
  readonly parent: ReferenceSpec
  /** Where the parent's tuple holds the values that this part refers to. */
  readonly parentAt: readonly number[]
}

export interface RootPlan extends TablePlan {
  readonly spec: RootSpec
  /** As it stands in the database. */
  readonly host: HostTable
  /** Selects the keys of what stands there already: to be sealed, and to be withheld. */
  readonly existing: { readonly changed?: Statement; readonly existing?: Statement }
  /** Whether any record has NULL in its key, as SQLite allows: it can't be told from another such. */
  readonly anyWithoutKey: Statement
  /** The keys that the database finds equal to a key, whether inside the filter or not. */
  readonly identify: Statement
  readonly keyColumns: readonly HostColumn[]
  readonly identityAt: readonly number[]
}

/** @throws ERR_UNKNOWN_TABLE, ERR_UNKNOWN_COLUMN, ERR_NO_KEY, ERR_RULE, ERR_FILTER */
export function planRoot(database: CapturingDatabase, spec: RootSpec, tables: ReadonlyMap<string, HostTable>): RootPlan {
  const plan = planTable(database, spec, tables, undefined)
  const identityAt = spec.identity.map((name) => columnAt(plan, name, `publish.${spec.table}.identity`))
  for (const related of spec.relatedTo) {
    requireColumns(tables.get(spec.table) as HostTable, related.own, `publish.${spec.table}.relatedTo`)
    requireColumns(requireTable(tables, related.table), related.others, `publish.${spec.table}.relatedTo`)
  }
  const keyColumns = plan.keyAt.map((at) => plan.columns[at] as HostColumn)
  return {
    ...plan,
    spec,
    host: tables.get(spec.table) as HostTable,
    identityAt,
    keyColumns,
    anyWithoutKey: anyWithoutKey(database, plan),
    identify: findBy(database, requireTable(tables, spec.table), plan.key, plan.key),
    existing: existingOf(database, plan, spec),
  }
}

/** What an `existing` filter says of no row, by NULL, is withheld: both statements together select every row once. */
function existingOf(database: CapturingDatabase, { table, key }: TablePlan, spec: RootSpec): RootPlan['existing'] {
  const all = selectColumns(database, table, key)
  const { existing } = spec
  if (existing === 'none') return { existing: all.compile() }
  if (existing === 'all') return { changed: all.compile() }
  const inside = compileFilter(readableBy(spec), () => all.where(existing))
  const outside = compileFilter(readableBy(spec), () => all.where((eb) => eb(existing(eb), 'is not', sql<SqlBool>`true`)))
  return { changed: inside, existing: outside }
}

function anyWithoutKey(database: CapturingDatabase, { table, key }: TablePlan): Statement {
  return selectColumns(database, table, key)
    .where((eb) => eb.or(key.map((name) => eb(sql.id(name), 'is', null))))
    .limit(1)
    .compile()
}

/** No message with any other would be taken, nor anything behind it. */
function requireName({ name: table }: HostTable, name: string): void {
  if (name.length > 0 && name.length <= MAX_NAME) return
  throw new TillsyncError(
    'ERR_RULE',
    `\`${table}\` can't be published: a message holds names of 1 to ${MAX_NAME} characters, '${name}' has ${name.length}`,
    {
      hint: 'Rename the table, or its key column; or leave it out of the rules.',
      context: { table },
    },
  )
}

function columnAt(plan: TablePlan, name: string, option: string): number {
  const at = plan.columns.findIndex((column) => column.name === name)
  if (at !== -1) return at
  throw new TillsyncError('ERR_UNKNOWN_COLUMN', `\`${option}\` names \`${name}\`, which is not a published column of \`${plan.table}\``, {
    hint: `Published: ${plan.columns.map((column) => column.name).join(', ')}.`,
    context: { table: plan.table, column: name },
  })
}

export function isPart(plan: TablePlan): plan is PartPlan {
  return 'parent' in plan
}

function planTable(
  database: CapturingDatabase,
  spec: RootSpec | PartSpec,
  tables: ReadonlyMap<string, HostTable>,
  parent: { readonly reference: ReferenceSpec } | undefined,
): TablePlan {
  const table = requireTable(tables, spec.table)
  if (table.key.length === 0) {
    throw new TillsyncError('ERR_NO_KEY', `\`${table.name}\` has no primary key, so its records can't be told apart`, {
      hint: 'Give it a primary key, or leave it out of the rules.',
      context: { table: table.name },
    })
  }
  const references = parent === undefined ? [] : [...parent.reference.own, ...parent.reference.others]
  for (const name of [table.name, ...table.key, ...references, ...('identity' in spec ? spec.identity : [])]) requireName(table, name)
  const columns = publishedColumns(table, spec)
  if (parent === undefined && columns.some(({ name }) => name === 'parts')) {
    throw new TillsyncError('ERR_RULE', `\`${table.name}\` has a column \`parts\`, by which handlers get the parts of its documents`, {
      hint: `Leave it out: ${table.name}: { except: ['parts'] }, or publish it under another name by a generated column.`,
      context: { table: table.name, column: 'parts' },
    })
  }
  for (const part of spec.parts) checkReference(table, part, tables)
  for (const { table: other, own, others } of spec.dependsOn) {
    requireColumns(table, own, `publish.${table.name}.dependsOn`)
    requireColumns(requireTable(tables, other), others, `publish.${table.name}.dependsOn`)
  }
  const selected = columns.map((column) => column.name)
  return {
    table: table.name,
    key: table.key,
    columns,
    leftOut: table.columns.filter((column) => !columns.includes(column)).map(({ name }) => name),
    encode: columns.map((column) => database.encoderOf(column)),
    prefixes: columns.map((column, at) => `${at === 0 ? '{' : ','}${JSON.stringify(column.name)}:`),
    hashed: columns
      .map(({ name, initial = 'null' }, at) => ({ at, prefix: `${JSON.stringify(name)}:`, initial }))
      .sort((a, b) => (a.prefix < b.prefix ? -1 : 1)),
    keyAt: table.key.map((name) => selected.indexOf(name)),
    read: parent
      ? readParts(database, table, selected, requireTable(tables, parent.reference.table), parent.reference)
      : readRoots(database, table, selected, spec as RootSpec),
    dependsOn: spec.dependsOn,
    parts: spec.parts.map((part) => ({
      ...planTable(database, part, tables, { reference: part.parent }),
      parent: part.parent,
      parentAt: part.parent.others.map((name) => selected.indexOf(name)),
    })),
  }
}

export function requireTable(tables: ReadonlyMap<string, HostTable>, name: string): HostTable {
  const table = tables.get(name)
  if (table !== undefined) return table
  throw new TillsyncError('ERR_UNKNOWN_TABLE', `The rules name \`${name}\`, which is not a table of the database`, {
    hint: 'Names are compared to the letter; views, virtual tables and tables of attached databases can not be published. Create the table before install().',
    context: { table: name },
  })
}

function requireColumns(table: HostTable, names: readonly string[], option: string): void {
  for (const name of names) {
    if (table.columns.some((column) => column.name === name)) continue
    throw new TillsyncError('ERR_UNKNOWN_COLUMN', `\`${option}\` names \`${name}\`, which \`${table.name}\` does not have`, {
      hint: `Its columns: ${table.columns.map((column) => column.name).join(', ')}.`,
      context: { table: table.name, column: name },
    })
  }
}

function publishedColumns(table: HostTable, spec: RootSpec | PartSpec): HostColumn[] {
  const only = 'only' in spec.columns ? spec.columns.only : undefined
  const except = 'except' in spec.columns ? spec.columns.except : []
  requireColumns(table, only ?? except, `publish.${table.name}.${only ? 'only' : 'except'}`)
  const needed = [...table.key, ...spec.parts.flatMap((part) => part.parent.others), ...('parent' in spec ? spec.parent.own : [])]
  const leftOut = needed.find((name) => except.includes(name))
  if (leftOut !== undefined) {
    throw new TillsyncError('ERR_RULE', `\`publish.${table.name}.except\` leaves out \`${leftOut}\`, by which records are known or hang together`, {
      hint: 'Columns of the key and of `partOf` are always published.',
      context: { table: table.name, column: leftOut },
    })
  }
  return table.columns.filter(({ name }) => needed.includes(name) || (only ? only.includes(name) : !except.includes(name)))
}

function checkReference(parent: HostTable, part: PartSpec, tables: ReadonlyMap<string, HostTable>): void {
  requireColumns(requireTable(tables, part.table), part.parent.own, `publish.${part.table}.partOf`)
  requireColumns(parent, part.parent.others, `publish.${part.table}.partOf`)
  const uniques = [
    parent.key,
    ...parent.uniques.filter((unique) => unique.where === undefined).map((unique) => unique.columns.map((column) => column.name)),
  ]
  if (uniques.some((unique) => sameNames(unique, part.parent.others))) return
  throw new TillsyncError(
    'ERR_RULE',
    `\`publish.${part.table}.partOf\` refers to columns of \`${parent.name}\` that are not unique: ${part.parent.others.join(', ')}`,
    {
      hint: 'A part belongs to exactly one record: refer to the primary key, or to columns with a unique index.',
      context: { table: part.table, partOf: parent.name },
    },
  )
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name))
}
