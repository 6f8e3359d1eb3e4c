import { TillsyncError } from '../errors.ts'
import type { ColumnName, Reference, TableName, Value } from '../model.ts'
import { isRecord, known, whole } from '../options.ts'
import { encodeReal } from '../record.ts'
import { kindOf } from './mapping.ts'

/** How documents of a root table are numbered at the till. Each register numbers for itself. */
export interface NumberingRule<Sent, T extends keyof Sent> {
  /** The column of the root record that holds the number: whole numbers, or text that ends in digits (`R-0004711`); what stands before them belongs to the series. */
  readonly column: ColumnName<Sent, T>
  /** Columns of the root record that tell the series apart in which the till counts. Default: there is one series. */
  readonly by?: readonly ColumnName<Sent, T>[]
  /** With what number each series begins. Default: with the smallest that there is, so that nobody knows what is missing before it. From 0 up. */
  readonly first?: number
  /** Which documents are void, by values of columns of the root record, or a list of such: `{ status: 'voided' }`. */
  readonly void?: Partial<Sent[T]> | readonly Partial<Sent[T]>[]
  /**
   * Other root tables whose documents declare numbers void: which columns of this table are which of theirs, the number's column and all of `by`:
   * `{ void_receipts: { receipt_no: 'number', series: 'series' } }`.
   */
  readonly voidedIn?: Reference<Sent, T>
}

/** Numberings by root table: one, or several where a document has more than one number. */
export type NumberingRules<Sent> = {
  readonly [T in TableName<Sent>]?: NumberingRule<Sent, T> | readonly NumberingRule<Sent, T>[]
}

/** A numbering as it is read. */
export interface Numbering {
  readonly table: string
  readonly column: string
  readonly by: readonly string[]
  readonly first: number | undefined
  /** Alternatives, each of columns with the texts that their values may have in a record; null: none. */
  readonly void: readonly (readonly (readonly [column: string, texts: readonly string[] | null])[])[]
  readonly voidedIn: readonly { readonly table: string; readonly column: string; readonly by: readonly string[] }[]
}

/** @throws ERR_OPTION */
export function readNumbering(numbering: unknown): readonly Numbering[] {
  if (numbering === undefined) return []
  if (!isRecord(numbering)) throw bad('numbering', "an object by tables, such as { receipts: { column: 'receipt_no' } }", numbering)
  return Object.entries(numbering).flatMap(([table, given]) => {
    if (given === undefined) return []
    const rules: readonly unknown[] = Array.isArray(given) ? given : [given]
    const read = rules.map((rule) => readRule(table, rule))
    const twice = read.find(({ column }, n) => read.findIndex((other) => other.column === column) < n)
    if (twice !== undefined) throw bad(`numbering.${table}`, 'numberings of different columns', rules)
    return read
  })
}

function readRule(table: string, rule: unknown): Numbering {
  const option = `numbering.${table}`
  if (!isRecord(rule)) throw bad(option, "an object such as { column: 'receipt_no', by: ['series'] }", rule)
  known(option, rule, ['column', 'by', 'first', 'void', 'voidedIn'])
  const column = columnName(`${option}.column`, rule.column)
  const { by: columns = [], voidedIn = {} } = rule
  if (!Array.isArray(columns)) throw bad(`${option}.by`, 'a list of columns', columns)
  const by = columns.map((name) => columnName(`${option}.by`, name))
  if (new Set([column, ...by]).size <= by.length) throw bad(`${option}.by`, 'a list of other columns, each once', columns)
  if (!isRecord(voidedIn)) throw bad(`${option}.voidedIn`, 'an object of columns by tables', voidedIn)
  const others = Object.entries(voidedIn).flatMap(([other, mapping]) =>
    mapping === undefined ? [] : [readVoidedIn(`${option}.voidedIn.${other}`, other, mapping, [column, ...by])],
  )
  if (others.some((other) => other.table === table)) throw bad(`${option}.voidedIn`, 'of other tables; for this one there is `void`', voidedIn)
  return {
    table,
    column,
    by,
    first: rule.first === undefined ? undefined : whole(`${option}.first`, rule.first, 0),
    void: rule.void === undefined ? [] : readVoid(`${option}.void`, rule.void),
    voidedIn: others,
  }
}

function readVoidedIn(option: string, table: string, mapping: unknown, columns: readonly string[]): Numbering['voidedIn'][number] {
  if (!isRecord(mapping)) throw bad(option, "an object such as { receipt_no: 'number' }", mapping)
  known(option, mapping, columns)
  const [column, ...by] = columns.map((name) => columnName(`${option}.${name}`, mapping[name])) as [string, ...string[]]
  return { table, column, by }
}

function readVoid(option: string, given: unknown): Numbering['void'] {
  const alternatives: readonly unknown[] = Array.isArray(given) ? given : [given]
  return alternatives.map((one) => {
    const columns = isRecord(one) ? Object.entries(one).filter(([, value]) => value !== undefined) : []
    if (columns.length === 0) throw bad(option, "values by columns, such as { status: 'voided' }, or a list of such", one)
    return columns.map(([column, value]) => [columnName(option, column), textsOf(`${option}.${column}`, value as Value)] as const)
  })
}

/** How a value may stand in a record, as PostgreSQL's ->> reads it there. */
function textsOf(option: string, value: Value): readonly string[] | null {
  if (value === null) return null
  if (typeof value === 'string' && !value.includes('\0') && value.isWellFormed()) return [value]
  if (typeof value === 'boolean' || typeof value === 'bigint') return [String(value)]
  if (typeof value === 'number' && Number.isFinite(value)) return [...new Set([String(value), encodeReal(value)])]
  throw bad(option, 'text, a number, true, false or null', value)
}

function columnName(option: string, name: unknown): string {
  if (typeof name === 'string' && name !== '' && !name.includes('\0') && name.isWellFormed()) return name
  throw bad(option, 'the name of a column', name)
}

function bad(option: string, expected: string, got: unknown): TillsyncError {
  return new TillsyncError('ERR_OPTION', `Expected \`${option}\` to be ${expected}, got ${kindOf(got)}`, {
    hint: "numbering: { receipts: { column: 'receipt_no', by: ['series'], void: { status: 'voided' } } }; see docs/audit.md.",
    context: { option },
  })
}
