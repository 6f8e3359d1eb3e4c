import { TillsyncError } from '../errors.ts'
import { type AnyTables, type Filter, MOST_LEVELS, type PublishRules } from '../model.ts'
import { isRecord } from '../options.ts'
import { isOwn } from '../own-table.ts'

/** A root table with its parts, as the rules declare them; checked for everything that needs no database. */
export interface RootSpec {
  readonly table: string
  readonly where: Filter<AnyTables, string> | undefined
  /** Whether a filter says which documents are published, be it `where` or, at central, one that differs by register. */
  readonly isFiltered: boolean
  readonly columns: ColumnsSpec
  readonly identity: readonly string[]
  readonly relatedTo: readonly ReferenceSpec[]
  readonly dependsOn: readonly ReferenceSpec[]
  readonly existing: 'none' | 'all' | Filter<AnyTables, string>
  readonly parts: readonly PartSpec[]
}

export interface PartSpec {
  readonly table: string
  readonly columns: ColumnsSpec
  readonly parent: ReferenceSpec
  readonly dependsOn: readonly ReferenceSpec[]
  readonly parts: readonly PartSpec[]
}

export type ColumnsSpec = { readonly only: readonly string[] } | { readonly except: readonly string[] }

/** `own` columns of one table hold the values of the `others` columns of `table`, pair by pair. */
export interface ReferenceSpec {
  readonly table: string
  readonly own: readonly string[]
  readonly others: readonly string[]
}

interface AnyRule {
  readonly where?: unknown
  readonly only?: unknown
  readonly except?: unknown
  readonly identity?: unknown
  readonly relatedTo?: unknown
  readonly dependsOn?: unknown
  readonly existing?: unknown
  readonly partOf?: unknown
}

const ROOT_OPTIONS = ['where', 'only', 'except', 'identity', 'relatedTo', 'dependsOn', 'existing']
const PART_OPTIONS = ['partOf', 'only', 'except', 'dependsOn']

/**
 * The rules as trees of tables.
 *
 * @throws ERR_OPTION, ERR_RULE
 */
export function readRules(publish: PublishRules<AnyTables>): readonly RootSpec[] {
  const rules = new Map<string, AnyRule>()
  for (const [table, rule] of Object.entries(publish as Record<string, unknown>)) {
    if (rule === undefined) continue
    if (!isRecord(rule)) throw badOption(`publish.${table}`, 'an object', rule)
    rules.set(table, rule as AnyRule)
  }
  const parents = new Map<string, ReferenceSpec>()
  for (const [table, rule] of rules) {
    checkOptions(table, rule)
    if (rule.partOf === undefined) continue
    const parent = readReference(table, 'partOf', rule.partOf, 'one')[0] as ReferenceSpec
    if (!rules.has(parent.table)) {
      throw new TillsyncError('ERR_RULE', `\`publish.${table}\` is part of \`${parent.table}\`, which is not published`, {
        hint: `Add \`${parent.table}: {}\` to \`publish\`.`,
        context: { table, partOf: parent.table },
      })
    }
    parents.set(table, parent)
  }
  checkCircles(parents)
  const partsOf = (table: string): PartSpec[] =>
    [...parents]
      .filter(([, parent]) => parent.table === table)
      .map(([part, parent]) => ({
        table: part,
        parent,
        columns: readColumns(part, rules),
        dependsOn: readDependsOn(part, rules),
        parts: partsOf(part),
      }))
  return [...rules]
    .filter(([table]) => !parents.has(table))
    .map(([table, rule]) => ({
      table,
      where: rule.where as Filter<AnyTables, string> | undefined,
      isFiltered: rule.where !== undefined,
      columns: readColumns(table, rules),
      identity: readNames(table, 'identity', rule.identity),
      relatedTo: rule.relatedTo === undefined ? [] : readRelated(table, rule.relatedTo, rules),
      dependsOn: readDependsOn(table, rules),
      existing: (rule.existing ?? 'none') as RootSpec['existing'],
      parts: partsOf(table),
    }))
}

function readDependsOn(table: string, rules: ReadonlyMap<string, AnyRule>): readonly ReferenceSpec[] {
  const dependsOn = rules.get(table)?.dependsOn
  return dependsOn === undefined ? [] : readReference(table, 'dependsOn', dependsOn, 'any')
}

/** The tables that a root's filters may read beside its own: those that it or its parts depend on. */
export function dependenciesOf(spec: RootSpec | PartSpec): string[] {
  return [...spec.dependsOn.map(({ table }) => table), ...spec.parts.flatMap(dependenciesOf)]
}

/** All tables of a root, itself first, parents before their parts. */
export function tablesOf(spec: RootSpec | PartSpec): string[] {
  return [spec.table, ...spec.parts.flatMap(tablesOf)]
}

function checkOptions(table: string, rule: AnyRule): void {
  if (isOwn(table)) {
    throw new TillsyncError('ERR_RULE', `\`publish.${table}\` is one of the library's own tables`, {
      hint: 'What is written there follows from what is published: it would never come to an end.',
      context: { table },
    })
  }
  const known = rule.partOf === undefined ? ROOT_OPTIONS : PART_OPTIONS
  for (const option of Object.keys(rule)) {
    if (known.includes(option)) continue
    throw new TillsyncError('ERR_OPTION', `\`publish.${table}.${option}\` is not an option of a ${rule.partOf === undefined ? 'root' : 'part'}`, {
      hint: `Known here: ${known.join(', ')}.`,
      context: { table, option },
    })
  }
  if (rule.where !== undefined && typeof rule.where !== 'function') throw badOption(`publish.${table}.where`, 'a function', rule.where)
  if (rule.existing !== undefined && rule.existing !== 'none' && rule.existing !== 'all' && typeof rule.existing !== 'function') {
    throw badOption(`publish.${table}.existing`, "'none', 'all' or a function", rule.existing)
  }
  if (rule.only !== undefined && rule.except !== undefined) {
    throw new TillsyncError('ERR_RULE', `\`publish.${table}\` has both \`only\` and \`except\``, { hint: 'Keep one of them.', context: { table } })
  }
}

function readColumns(table: string, rules: ReadonlyMap<string, AnyRule>): ColumnsSpec {
  const rule = rules.get(table) as AnyRule
  return rule.only === undefined ? { except: readNames(table, 'except', rule.except) } : { only: readNames(table, 'only', rule.only) }
}

function readNames(table: string, option: string, names: unknown): readonly string[] {
  if (names === undefined) return []
  if (!Array.isArray(names) || names.some((name) => typeof name !== 'string')) {
    throw badOption(`publish.${table}.${option}`, 'a list of column names', names)
  }
  return [...new Set(names as string[])]
}

function readRelated(table: string, related: unknown, rules: ReadonlyMap<string, AnyRule>): readonly ReferenceSpec[] {
  const references = readReference(table, 'relatedTo', related, 'any')
  for (const reference of references) {
    if (rules.has(reference.table) && rules.get(reference.table)?.partOf === undefined) continue
    throw new TillsyncError('ERR_RULE', `\`publish.${table}\` is related to \`${reference.table}\`, which is not published as a root`, {
      hint: `Add \`${reference.table}: {}\` to \`publish\`, or name its root.`,
      context: { table, relatedTo: reference.table },
    })
  }
  return references
}

function readReference(table: string, option: string, reference: unknown, count: 'one' | 'any'): ReferenceSpec[] {
  const expected = `${count === 'one' ? 'one table' : 'tables'} with columns, such as { receipts: { receipt_id: 'id' } }`
  if (!isRecord(reference)) throw badOption(`publish.${table}.${option}`, expected, reference)
  const specs = Object.entries(reference).map(([other, columns]) => {
    const pairs = isRecord(columns) ? Object.entries(columns) : []
    if (pairs.length === 0 || pairs.some(([, name]) => typeof name !== 'string'))
      throw badOption(`publish.${table}.${option}.${other}`, expected, columns)
    return { table: other, own: pairs.map(([own]) => own), others: pairs.map(([, name]) => name as string) }
  })
  if (specs.length === 0 || (count === 'one' && specs.length !== 1)) throw badOption(`publish.${table}.${option}`, expected, reference)
  return specs
}

function checkCircles(parents: ReadonlyMap<string, ReferenceSpec>): void {
  for (const start of parents.keys()) {
    const path = [start]
    for (let at = parents.get(start); at !== undefined; at = parents.get(at.table)) {
      path.push(at.table)
      if (at.table !== start && path.length <= parents.size + 1) continue
      throw new TillsyncError('ERR_RULE', `\`partOf\` goes round in a circle: ${path.join(' → ')}`, {
        hint: 'One of these tables must be a root, without `partOf`.',
        context: { path },
      })
    }
    if (path.length - 1 <= MOST_LEVELS) continue
    throw new TillsyncError(
      'ERR_RULE',
      `\`partOf\` goes ${path.length - 1} levels down, no message holds more than ${MOST_LEVELS}: ${path.toReversed().join(' → ')}`,
      {
        hint: 'Publish what lies so deep as documents of its own, without `partOf`.',
        context: { path },
      },
    )
  }
}

function badOption(option: string, expected: string, got: unknown): TillsyncError {
  const shown = got === null ? 'null' : Array.isArray(got) ? 'an array' : typeof got
  return new TillsyncError('ERR_OPTION', `Expected \`${option}\` to be ${expected}, got ${shown}`, {
    hint: 'See docs/configuration.md for the rules.',
    context: { option },
  })
}
