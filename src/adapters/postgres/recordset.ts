import type { HostColumn } from '../../host-table.ts'
import type { MirrorRows, MirrorTarget } from '../../mirroring.ts'
import { ownOf, withValidText } from '../../record.ts'
import { asValue, type Contents, contentsOf, isReadAsJson, memberAs } from './json-values.ts'
import { quote } from './tables.ts'
import { literal } from './triggers.ts'

// Sealed records as rows of a statement: PostgreSQL reads the JSON texts itself.

export function columnOf(table: MirrorTarget, name: string): HostColumn {
  return table.columns.find((column) => column.name === name) as HostColumn
}

/** The value of a column as the rows have it: a constant, or a member of the record. */
export function value(rows: MirrorRows, name: string, alias = 'x'): string {
  const column = columnOf(rows.table, name)
  return Object.hasOwn(rows.constants, name)
    ? asValue(column, literal(String(rows.constants[name])))
    : memberAs(column, alias, memberOf(rows, name), knownContents(rows))
}

function memberOf(rows: MirrorRows, name: string): string {
  return ownOf(rows.members, name) ?? name
}

/** By the list of records: several statements, and many expressions in each, ask for the same one. */
const contents = new WeakMap<readonly string[], Contents>()

function knownContents({ records }: MirrorRows): Contents {
  const known = contents.get(records) ?? contentsOf(records)
  contents.set(records, known)
  return known
}

/** The records as one text, the parameter of `recordset`. */
export function asArray(records: readonly string[]): string {
  return withValidText(`[${records.join(',')}]`)
}

/** A name that hardly a column of the host's has. */
export const NUMBER = '"sync: number of the record"'

/** PostgreSQL takes the rows of a function for so many. */
const GUESSED = 100

/**
 * The records as a row source, with the members that the rows have. Where they are few that is said, by LIMIT: for a hundred PostgreSQL may rather read all of a table than look up each.
 */
export function recordset(rows: MirrorRows, alias: string, parameter: number, numbered = false): string {
  const types = new Map(
    rows.columns.map((name) => {
      const column = rows.table.columns.find((one) => one.name === name)
      return [quote(memberOf(rows, name)), isReadAsJson(column, knownContents(rows)) ? 'json' : 'text']
    }),
  )
  if (types.size === 0) types.set('"no column at all"', 'text')
  const names = [...types.keys()]
  const typed = [...types].map(([name, type]) => `${name} ${type}`).join(', ')
  const call = `json_to_recordset($${parameter}::json) AS`
  const source = numbered
    ? `ROWS FROM (${call} (${typed})) WITH ORDINALITY AS ${alias}(${names.join(', ')}, ${NUMBER})`
    : `${call} ${alias}(${typed})`
  const { length } = rows.records
  return length < GUESSED ? `(SELECT * FROM ${source} LIMIT ${length}) AS ${alias}` : source
}
